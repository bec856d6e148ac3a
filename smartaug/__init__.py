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
from .coreset import Coreset, FacilityLocation, InfoBatch, MaxLoss
from .lift import Lifted, lift
from .loading import renamed
from .loading.augmented_dataset import AugmentedDataset
from .loading.collate import Collate
from .loading.dataloader import DataLoader
from .loading.sampler import CoresetSampler
from .loading.wrap import wrap
from .loss import Loss
from .reweight import (
    SAFLEX,
    LearningToReweight,
    MetaAugment,
    MetaWeightNet,
    SoftAugmentation,
    Uniform,
    split_validation,
)
from .warnings import NoEffectWarning

renamed.install()

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
