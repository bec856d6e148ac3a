"""The operations, one concept a file.

| file | holds |
|---|---|
| `flips_crops` | flips, pads and cuts by whole pixels |
| `geometry` | affine maps, resized crops, resizing, blur |
| `erase`, `rectangles` | erasing; where random rectangles lie |
| `tone` | operations on values |
| `mix`, `mosaic`, `copy_paste` | what takes pixels from other samples of the batch |
| `features` | what takes features from other rows of the batch |
| `noise` | noise on every value |
| `normalize` | the last step: (x − mean) / std |
| `compose`, `combinators` | several as one; some of several |
| `policies`, `autoaugment`, `augmix` | RandAugment, TrivialAugment, AutoAugment, AugMix |
| `space` | the operations that policies draw from, as a table |
"""

from .augmix import AugMix
from .combinators import OneOf, RandomApply, RandomOrder, SomeOf
from .compose import Compose
from .copy_paste import CopyPaste
from .erase import Erase
from .features import SMOTE, SwapFeatures
from .flips_crops import Crop, Flip, Pad, PadCrop
from .geometry import Affine, GaussianBlur, RandomResizedCrop, Resize
from .mix import CutMix, MixUp
from .mosaic import Mosaic
from .noise import GaussianNoise
from .normalize import Normalize
from .policies import AutoAugment, RandAugment, TrivialAugment
from .tone import AutoContrast, ColorJitter, Equalize, Grayscale, Invert, Posterize, Sharpness, Solarize

__all__ = [
    "SMOTE",
    "Affine",
    "AugMix",
    "AutoAugment",
    "AutoContrast",
    "ColorJitter",
    "Compose",
    "CopyPaste",
    "Crop",
    "CutMix",
    "Equalize",
    "Erase",
    "Flip",
    "GaussianBlur",
    "GaussianNoise",
    "Grayscale",
    "Invert",
    "MixUp",
    "Mosaic",
    "Normalize",
    "OneOf",
    "Pad",
    "PadCrop",
    "Posterize",
    "RandAugment",
    "RandomApply",
    "RandomOrder",
    "RandomResizedCrop",
    "Resize",
    "Sharpness",
    "Solarize",
    "SomeOf",
    "SwapFeatures",
    "TrivialAugment",
]
