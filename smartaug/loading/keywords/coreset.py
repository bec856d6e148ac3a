"""The keyword `coreset=` of a loader: a sampler that draws a coreset, and the selections of the samples to augment."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch.utils.data import DistributedSampler, IterableDataset

from ...pipeline.pipeline import Pipeline
from ...pipeline.selection import CoresetLike, Selections
from ...pipeline.stages import listed
from ...warnings import NoEffectWarning, warn
from ..samplers.coreset import CoresetSampler

Indexed = Any  # the user's dataset; `_refuse_streams` checks that it has indices and a length


def coreset_sampler(
    coreset: CoresetLike,
    pipeline: Pipeline,
    dataset: Indexed,
    sampler: Iterable | None,
    batch_sampler: Iterable | None,
    shuffle: bool | None,
    reading: dict[str, Any],
) -> CoresetSampler:
    """The sampler that draws ``coreset``, with the seed and the epoch of the stages.

    reading: keyword arguments of ``coreset.attach``. Raises ValueError for a second sampler and for an
    IterableDataset, TypeError for a dataset without a length.
    """
    if isinstance(sampler, CoresetSampler) and sampler.coreset is coreset:
        return sampler  # a framework builds the loader again with the sampler of the first one
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
    elif not _augments(coreset) and len(dataset) and coreset.budget(len(dataset)) >= len(dataset):
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


def select_augmented(coreset: CoresetLike, pipeline: Pipeline, dataset: Indexed, reading: dict[str, Any]) -> None:
    """Let ``pipeline`` augment what ``coreset`` selects, where that is what its ``apply`` says; at the first call.

    Raises ValueError where there is no ``augment=`` that it applies to and for an IterableDataset, TypeError for a
    dataset without a length.
    """
    if not _augments(coreset) or pipeline.selecting.selections is not None:
        return
    _refuse_streams(dataset)
    apply = getattr(coreset, "apply", "train")
    if apply == "append" and not pipeline.steps:
        raise ValueError(
            'apply="append" appends augmented copies, and there is no augment=; write augment=RandAugment()'
        )
    if pipeline.lifted is not None and not listed(pipeline.settings.augment):
        raise ValueError(
            f"apply={apply!r} concerns augment= alone, and augment= is missing: what lift=True takes out of "
            "the dataset runs on all samples; write augment=RandAugment() and leave such transforms out of the dataset"
        )
    if hasattr(coreset, "attach"):
        coreset.attach(dataset, **reading)
    pipeline.selecting.selections = Selections(coreset, len(dataset), pipeline.seed)
    plain = getattr(coreset, "plain", None)
    pipeline.selecting.plain = None if plain is None else Selections(plain, len(dataset), pipeline.seed)


def refuse_selecting(coreset: object, owner: str) -> None:
    """Raise a ValueError where ``coreset=`` of ``owner`` selects by index, and does not choose within each batch."""
    if isinstance(coreset, CoresetLike):
        raise ValueError(
            f"coreset= of {owner} can only choose within the batches that it gets, as smartaug.coreset.JEST does, and "
            f"{coreset!r} selects what a sampler draws; write smartaug.DataLoader(dataset, coreset=...)"
        )


def _augments(coreset: CoresetLike) -> bool:
    """Whether what it selects is augmented, and not, or not only, drawn."""
    return getattr(coreset, "apply", "train") != "train"


def _refuse_streams(dataset: object) -> None:
    if isinstance(dataset, IterableDataset):
        raise ValueError("coreset= selects by index, which an IterableDataset does not have; use a map-style dataset")
    if not hasattr(dataset, "__len__"):
        raise TypeError(f"coreset= needs a dataset with a length, got {type(dataset).__name__}")
