"""The keyword `lift=` of a loader: lifts the dataset's transform and chooses how the samples are fetched."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from torch.utils.data import IterableDataset, default_collate

from ...lift.datasets import deferring, lift_dataset, taken_out
from ...lift.deferred.collecting import collecting
from ...lift.lifted import Lifted
from ...lift.probe import first, forked
from ...lift.steps import UserDataset
from ...pipeline.stages import listed
from ...warnings import NoEffectWarning, warn
from ..collate import Collate
from ..whole_batches import batched, hinders, storages


def lifted_dataset(
    lift: object,
    dataset: UserDataset,
    augment: object,
    batch_size: int | None,
    batch_sampler: object,
    collate_fn: Callable[[Any], Any] | None,
    workers: int,
) -> tuple[Lifted | None, UserDataset, tuple[str, str, str] | None]:
    """The `Lifted` of ``dataset``, the dataset to load from, and a row for `explain` on how its samples are fetched.

    With lift=False: None, ``dataset``, None. If nothing can be lifted, a `NoEffectWarning` gives the reason. Raises
    TypeError if lift is not a bool, ValueError if the lifted part would run twice or not at all.
    """
    lifted = _lifted(lift, dataset, augment)
    if lifted is not None and lifted.augment is not None:
        lifted = dataclasses.replace(lifted, dataset=deferring(lifted.dataset))
        lifted = through_collate(lifted, dataset, collate_fn)
    if lifted is None:
        return None, dataset, None
    dataset, hindrance = _fetched_whole(lifted.dataset, batch_size, batch_sampler, collate_fn)
    fetching = _fetching(dataset, hindrance, workers)
    if lifted.augment is None and hindrance is not None:
        why = f"{lifted.reason}; and fetches sample by sample: {hindrance}"
        warn(f"lift=True lifted nothing: {why}", NoEffectWarning)
        lifted = None
    return lifted, dataset, fetching


def _lifted(lift: object, dataset: UserDataset, augment: object) -> Lifted | None:
    """The `Lifted` of ``dataset``, which may lift nothing; None for lift=False."""
    if not isinstance(lift, bool):
        got = "what smartaug.lift made" if isinstance(lift, Lifted) else repr(lift)
        raise TypeError(
            f"lift must be True or False, got {got}; for what is lifted by itself, lifted = smartaug.lift(dataset, "
            "size=(height, width)), write DataLoader(lifted.dataset, augment=lifted.augment, ...) without lift="
        )
    before = taken_out(dataset)
    given = before is not None and any(stage is before.augment for stage in listed(augment))
    if not lift:
        if before is not None and not given:
            raise ValueError(
                "this dataset is a lifted copy, without the transforms that were taken out of it; pass lift=True, or "
                "the original dataset, or what was taken out: augment=lifted.augment"
            )
        return None
    if given:
        raise ValueError("lift=True runs lifted.augment by itself; leave it out of augment=, or leave lift=True out")
    return lift_dataset(dataset)


def through_collate(lifted: Lifted, dataset: UserDataset, collate_fn: Callable[[Any], Any] | None) -> Lifted:
    """``lifted``; or a `Lifted` with nothing lifted, if the user's own collate function computes with the images."""
    inner = collate_fn.inner if isinstance(collate_fn, Collate) else collate_fn
    if inner is None or inner is default_collate or isinstance(dataset, IterableDataset):
        return lifted
    hindered = _collate_hinders(lifted.dataset, inner)
    return lifted if hindered is None else Lifted(None, None, (), dataset, hindered)


def _collate_hinders(dataset: UserDataset, collate_fn: Callable[[Any], Any]) -> str | None:
    """Why the user's ``collate_fn`` rules out lifting ``dataset``; None: it collated two lifted samples.

    The function may treat other samples differently, so each batch is checked again when it is collated.
    """
    try:
        samples = [first(dataset, number) for number in range(min(2, len(dataset)))]
        with collecting(samples, may_hold=False) as collected, forked():
            _, unfinished, _ = collected.settle(collate_fn(samples))
    except Exception as error:  # of the user's code
        return f"the collate function cannot take what the dataset then gives ({type(error).__name__}: {error})"
    if unfinished is not None or not samples:
        return None
    return (
        "the collate function works on the images, and lifted transforms would run only after it; if it mixes them "
        "(v2.CutMix, v2.MixUp), leave collate_fn= out and write augment=smartaug.CutMix() or smartaug.MixUp()"
    )


def _fetched_whole(
    dataset: UserDataset, batch_size: int | None, batch_sampler: object, collate_fn: Callable[[Any], Any] | None
) -> tuple[UserDataset, str | None]:
    """A copy of the dataset that fetches whole batches, and None; or the dataset unchanged, and the reason."""
    if batch_size is None and batch_sampler is None:
        return dataset, "batch_size=None asks for single samples"
    inner = collate_fn.inner if isinstance(collate_fn, Collate) else collate_fn
    if inner is not None and inner is not default_collate:
        return dataset, "the collate function is your own and sees samples"
    hindrance = hinders(dataset)
    return (batched(dataset), None) if hindrance is None else (dataset, hindrance)


def _fetching(dataset: UserDataset, hindrance: str | None, workers: int) -> tuple[str, str, str]:
    """A row of the table of `explain`: (what is fetched, where, how and why)."""
    where = f"{workers} worker{'s' * (workers > 1)}" if workers else "main process"
    faster = "" if workers else "; num_workers=4 reads several files at once"
    why = f"sample by sample: {hindrance}{faster}"
    if hindrance is None:
        slower = "; num_workers=0 is faster, since nothing is left for workers to do" if workers else ""
        arrays = len(storages(dataset))
        each = "one indexing operation each" if arrays == 1 else f"an indexing operation in each of {arrays} arrays"
        why = f"whole batches, {each}{slower}"
    return f"fetch: {type(dataset).__name__}", where, why
