"""Augmentations drawn per sample and run on whole batches.

| file | holds |
|---|---|
| `plan` | what will happen to a batch, as a value |
| `augmentation` | the base class: sample, plan, apply |
| `ops` | single operations |
| `mix`, `labels` | MixUp and CutMix; labels after mixing |
| `compose` | several as one |
| `foreign` | Kornia modules and callables as stages of their own |
| `backends` | one module per way to execute a plan |
"""

from .augmentation import Augmentation
from .compose import Compose
from .mix import CutMix, MixUp
from .ops import Erase, Flip, Normalize, PadCrop

__all__ = ["Augmentation", "Compose", "CutMix", "Erase", "Flip", "MixUp", "Normalize", "PadCrop"]
