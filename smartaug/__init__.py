"""Batched per-sample augmentation, learned weights and coresets behind a drop-in DataLoader for PyTorch."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

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
from .augment.as_dict import from_dict, to_dict
from .augment.names import did_you_mean
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

if TYPE_CHECKING:
    from .cli import logs, plots
    from .cli.bench import bench

renamed.install()

__version__: str  # read when asked for

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
