"""Augmentations drawn per sample and run on whole batches.

| file | holds |
|---|---|
| `plan` | what will happen to a batch, as a value |
| `augmentation` | the base class: sample, plan, apply |
| `ops` | flips, padded crops, erasing, normalising |
| `geometry`, `tone` | affine maps, resized crops, blur; operations on values |
| `policies`, `autoaugment`, `augmix` | RandAugment, TrivialAugment, AutoAugment, AugMix |
| `space` | the operations that policies draw from, as a table |
| `mix`, `labels` | MixUp and CutMix; labels after mixing |
| `compose` | several as one |
| `foreign` | Kornia modules and callables as stages of their own |
| `backends` | one module per way to execute a plan |
"""

from .augmentation import Augmentation
from .augmix import AugMix
from .compose import Compose
from .geometry import Affine, GaussianBlur, RandomResizedCrop
from .mix import CutMix, MixUp
from .ops import Erase, Flip, Normalize, PadCrop
from .policies import AutoAugment, RandAugment, TrivialAugment
from .tone import AutoContrast, ColorJitter, Equalize, Grayscale, Invert, Posterize, Sharpness, Solarize

__all__ = [
    "Affine",
    "AugMix",
    "Augmentation",
    "AutoAugment",
    "AutoContrast",
    "ColorJitter",
    "Compose",
    "CutMix",
    "Equalize",
    "Erase",
    "Flip",
    "GaussianBlur",
    "Grayscale",
    "Invert",
    "MixUp",
    "Normalize",
    "PadCrop",
    "Posterize",
    "RandAugment",
    "RandomResizedCrop",
    "Sharpness",
    "Solarize",
    "TrivialAugment",
]
