"""`coreset=` of a loader: the sampler that draws a coreset, or the selections of what is augmented."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DistributedSampler, IterableDataset

from ..pipeline.pipeline import Pipeline
from ..pipeline.selection import AugmentingCoreset, CoresetLike, Selections
from ..pipeline.stages import listed
from ..warnings import NoEffectWarning, warn
from .sampler import CoresetSampler


def coreset_sampler(
    coreset: CoresetLike,
    pipeline: Pipeline,
    dataset: Any,
    sampler: Any,
    batch_sampler: Any,
    shuffle: bool | None,
    reading: dict[str, Any],
) -> CoresetSampler:
    """The sampler of ``coreset=``: it shares the stages' seed and count of epochs."""
    if isinstance(sampler, CoresetSampler) and sampler.coreset is coreset:
        return sampler  # a rebuilt loader hands it back
    _refuse_streams(dataset)
    base = sampler if isinstance(sampler, DistributedSampler) and not isinstance(sampler, CoresetSampler) else None
    if (sampler is not None and base is None) or batch_sampler is not None:
        name = "sampler" if sampler is not None else "batch_sampler"
        raise ValueError(f"coreset= decides which samples are drawn, so {name}= must be left out; use shuffle=True")
    if getattr(coreset, "varies", False):
        warn(
            f"{coreset!r} gives epochs of different lengths: size learning-rate schedules by loader.steps(epochs), and "
            "mind that Lightning reads len(loader) once"
        )
    elif len(dataset) and coreset.budget(len(dataset)) >= len(dataset):
        warn("the coreset holds the whole dataset, so it selects nothing", NoEffectWarning)
    return CoresetSampler(
        coreset,
        dataset=dataset,
        shuffle=bool(shuffle),
        seed=pipeline.seed,
        counter=pipeline.epochs,
        base=base,
        reading=reading,
    )


def coreset_selections(
    coreset: AugmentingCoreset, pipeline: Pipeline, dataset: Any, reading: dict[str, Any]
) -> Selections:
    """The selections of a coreset that chooses what is augmented: all samples are drawn, by the user's own sampler."""
    _refuse_streams(dataset)
    if coreset.apply == "append" and not pipeline.steps:
        raise ValueError(
            'apply="append" appends augmented copies, and there is no augment=; write augment=RandAugment()'
        )
    if pipeline.lifted is not None and not listed(pipeline.settings.augment):
        raise ValueError(
            f"apply={coreset.apply!r} concerns augment= alone, and augment= is missing: what lift=True takes out of "
            "the dataset runs on all samples; write augment=RandAugment() and leave such transforms out of the dataset"
        )
    if hasattr(coreset, "attach"):
        coreset.attach(dataset, **reading)
    return Selections(coreset, len(dataset), pipeline.seed)


def _refuse_streams(dataset: Any) -> None:
    if isinstance(dataset, IterableDataset):
        raise ValueError("coreset= selects by index, which an IterableDataset does not have; use a map-style dataset")
    if not hasattr(dataset, "__len__"):
        raise TypeError(f"coreset= needs a dataset with a length, got {type(dataset).__name__}")
