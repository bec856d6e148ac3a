"""Batched per-sample augmentation, learned weights and coresets behind a drop-in DataLoader for PyTorch.

Every augmentation and combinator of `smartaug.augment` is here too, as ``smartaug.Flip``. Of the other folders only the
names that a program usually needs are: criteria of `smartaug.coreset`, rules of `smartaug.reweight`;
``smartaug.Uniform`` is the reweighter.
"""

from . import augment, coreset, grads, moments, reweight
from .augment import (
    Affine,
    Augmentation,
    AugMix,
    AutoAugment,
    AutoContrast,
    ColorJitter,
    Compose,
    Crop,
    CutMix,
    Equalize,
    Erase,
    Flip,
    GaussianBlur,
    Grayscale,
    Invert,
    MixUp,
    Normalize,
    OneOf,
    Pad,
    PadCrop,
    Posterize,
    RandAugment,
    RandomApply,
    RandomOrder,
    RandomResizedCrop,
    Resize,
    Sharpness,
    Solarize,
    SomeOf,
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
    "Affine",
    "AugMix",
    "Augmentation",
    "AugmentedDataset",
    "AutoAugment",
    "AutoContrast",
    "Batch",
    "Collate",
    "ColorJitter",
    "Compose",
    "Coreset",
    "CoresetSampler",
    "Crop",
    "CutMix",
    "DataLoader",
    "Embedding",
    "Equalize",
    "Erase",
    "FacilityLocation",
    "Flip",
    "GaussianBlur",
    "Grayscale",
    "InfoBatch",
    "Invert",
    "LearningToReweight",
    "Lifted",
    "Loss",
    "MaxLoss",
    "MetaAugment",
    "MetaWeightNet",
    "MixUp",
    "NoEffectWarning",
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
    "SAFLEX",
    "Sharpness",
    "SoftAugmentation",
    "Solarize",
    "SomeOf",
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
