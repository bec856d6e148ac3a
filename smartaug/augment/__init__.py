"""Augmentations drawn per sample and run on whole batches.

| augmentation | what a sample receives | reference |
|---|---|---|
| `RandAugment` | N operations at one magnitude | Cubuk et al. 2020, torchvision's table |
| `TrivialAugment` | one operation at a random magnitude | Müller & Hutter 2021, torchvision's Wide table |
| `AutoAugment` | one of 25 learned pairs of operations | Cubuk et al. 2019, torchvision's three policies |
| `AugMix` | a mixture of chains of operations | Hendrycks et al. 2020 |
| `PadCrop`, `RandomResizedCrop`, `Resize`, `Flip`, `Affine` | another place, size or pose | torchvision |
| `Erase` | rectangles of one value | Zhong et al. 2020; DeVries & Taylor 2017 |
| `MixUp`, `CutMix` | a blend with, or a rectangle of, another sample | Zhang et al. 2018; Yun et al. 2019 |
| `ColorJitter`, `Grayscale` | other colours | torchvision |
| `Invert`, `Posterize`, `Solarize`, `AutoContrast`, `Equalize` | other values | torchvision |
| `Sharpness`, `GaussianBlur` | sharper or softer edges | torchvision |
| `Normalize` | (x − mean) / std | torchvision |
| `Pad`, `Crop` | a frame around it, a window of it | torchvision |
| `Compose` | several of these, in order | |
| `RandomApply`, `OneOf`, `SomeOf`, `RandomOrder` | some of these, drawn per sample | torchvision, albumentations |

| file | holds |
|---|---|
| `plan` | what will happen to a batch, as a value |
| `augmentation` | the base class: sample, plan, apply |
| `ops` | flips, padded crops, erasing, normalising |
| `crops` | pads and cuts by whole pixels |
| `geometry`, `tone` | affine maps, resized crops, blur; operations on values |
| `policies`, `autoaugment`, `augmix` | RandAugment, TrivialAugment, AutoAugment, AugMix |
| `space` | the operations that policies draw from, as a table |
| `mix`, `labels`, `masks` | MixUp and CutMix; labels after mixing; masks that move with the images |
| `compose`, `choose`, `checks` | several as one; some of several; argument checks |
| `foreign` | Kornia modules and callables as stages of their own |
| `backends` | one module per way to execute a plan |
"""

from .augmentation import Augmentation
from .augmix import AugMix
from .choose import OneOf, RandomApply, RandomOrder, SomeOf
from .compose import Compose
from .crops import Crop, Pad
from .geometry import Affine, GaussianBlur, RandomResizedCrop, Resize
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
    "Crop",
    "CutMix",
    "Equalize",
    "Erase",
    "Flip",
    "GaussianBlur",
    "Grayscale",
    "Invert",
    "MixUp",
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
    "TrivialAugment",
]
