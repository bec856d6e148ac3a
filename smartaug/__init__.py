"""Batched per-sample augmentation, learned weights and coresets behind a drop-in DataLoader for PyTorch."""

from . import augment, coreset, grads, moments, reweight
from .augment import (
    AugMix,
    AutoAugment,
    Compose,
    CutMix,
    Erase,
    Flip,
    MixUp,
    Normalize,
    PadCrop,
    RandAugment,
    RandomResizedCrop,
    TrivialAugment,
)
from .batch import Batch, Embedding, Target
from .collate import Collate
from .coreset import Coreset, FacilityLocation, InfoBatch, MaxLoss
from .dataset import AugmentedDataset
from .lift import Lifted, lift
from .loader import DataLoader
from .loss import Loss
from .notices import NoEffectWarning
from .reweight import (
    SAFLEX,
    LearningToReweight,
    MetaAugment,
    MetaWeightNet,
    SoftAugmentation,
    Uniform,
    split_validation,
)
from .sampler import CoresetSampler
from .wrapped import wrap

__all__ = [  # noqa: RUF022 - one order for all names, held by a test
    "AugMix",
    "AugmentedDataset",
    "AutoAugment",
    "Batch",
    "Collate",
    "Compose",
    "Coreset",
    "CoresetSampler",
    "CutMix",
    "DataLoader",
    "Embedding",
    "Erase",
    "FacilityLocation",
    "Flip",
    "InfoBatch",
    "LearningToReweight",
    "Lifted",
    "Loss",
    "MaxLoss",
    "MetaAugment",
    "MetaWeightNet",
    "MixUp",
    "NoEffectWarning",
    "Normalize",
    "PadCrop",
    "RandAugment",
    "RandomResizedCrop",
    "SAFLEX",
    "SoftAugmentation",
    "Target",
    "TrivialAugment",
    "Uniform",
    "augment",
    "coreset",
    "grads",
    "lift",
    "moments",
    "reweight",
    "split_validation",
    "wrap",
]
