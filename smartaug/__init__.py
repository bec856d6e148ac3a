"""Batched per-sample augmentation, learned weights and coresets behind a drop-in DataLoader for PyTorch.

Every augmentation and combinator of `smartaug.augment` is here too, as ``smartaug.Flip``. Of the other folders only the
names that a program usually needs are: criteria of `smartaug.coreset`, rules of `smartaug.reweight`, settings of what
moves with the images (`smartaug.augment.targets`); ``smartaug.Uniform`` is the reweighter.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

from . import augment, coreset, grads, moments, reweight
from ._base.contrastive import ContrastiveLoss
from ._base.names import did_you_mean
from ._base.table_dataset import TableDataset
from .augment import (
    SMOTE,
    Affine,
    Augmentation,
    AugMix,
    AutoAugment,
    AutoContrast,
    ColorJitter,
    Compose,
    CopyPaste,
    Crop,
    CutMix,
    Equalize,
    Erase,
    Flip,
    GaussianBlur,
    GaussianNoise,
    Grayscale,
    Invert,
    MixUp,
    Mosaic,
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
    SwapFeatures,
    TrivialAugment,
)
from .augment.as_dict import from_dict, to_dict
from .augment.targets import Boxes, Keypoints, Mask
from .batch import Batch, Embedding, Target
from .coreset import Coreset, FacilityLocation, InfoBatch, MaxLoss
from .lift import Lift, Lifted, lift
from .loading import renamed
from .loading.augmented.dataset import AugmentedDataset
from .loading.collate import Collate
from .loading.dataloader import DataLoader
from .loading.generated import Generated
from .loading.samplers.coreset import CoresetSampler
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

if TYPE_CHECKING:
    from .cli import logs, plots
    from .cli.bench.command import bench

renamed.install()

__version__: str  # read when asked for

__all__ = [  # noqa: RUF022 - one order for all names, held by a test
    "Affine",
    "AugMix",
    "Augmentation",
    "AugmentedDataset",
    "AutoAugment",
    "AutoContrast",
    "Batch",
    "Boxes",
    "Collate",
    "ColorJitter",
    "Compose",
    "ContrastiveLoss",
    "CopyPaste",
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
    "GaussianNoise",
    "Generated",
    "Grayscale",
    "InfoBatch",
    "Invert",
    "Keypoints",
    "LearningToReweight",
    "Lift",
    "Lifted",
    "Loss",
    "Mask",
    "MaxLoss",
    "MetaAugment",
    "MetaWeightNet",
    "MixUp",
    "Mosaic",
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
    "SMOTE",
    "Sharpness",
    "SoftAugmentation",
    "Solarize",
    "SomeOf",
    "SwapFeatures",
    "TableDataset",
    "Target",
    "TrivialAugment",
    "Uniform",
    "augment",
    "bench",
    "coreset",
    "from_dict",
    "grads",
    "lift",
    "logs",
    "moments",
    "plots",
    "reweight",
    "split_validation",
    "to_dict",
    "wrap",
]

if not TYPE_CHECKING:  # type checkers would take every name for there

    def __getattr__(name: str) -> Any:
        """What takes time to import, when it is asked for; a mistyped name is told with the nearest one."""
        if name in ("logs", "plots"):
            return importlib.import_module(f".cli.{name}", __name__)
        if name == "bench":
            return importlib.import_module(".cli.bench", __name__).bench
        if name == "__version__":
            try:
                return importlib.metadata.version(__name__)
            except importlib.metadata.PackageNotFoundError:
                raise AttributeError("smartaug is not installed, so it has no version: pip install -e .") from None
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{did_you_mean(name, __all__)}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__, "__version__"})
