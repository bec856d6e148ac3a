"""The keyword `lift=` of a loader: lifts the dataset's transform and chooses how the samples are fetched."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from torch.utils.data import IterableDataset, default_collate

from ...lift.datasets import deferring, lift_dataset, taken_out
from ...lift.decode import region
from ...lift.decode.decoders import best_decoder
from ...lift.decode.settings import Lift
from ...lift.deferred.collecting import apart, collecting
from ...lift.lifted import Lifted
from ...lift.probe import first, forked
from ...lift.steps import UserDataset
from ...pipeline.decoded_files import NO_FILES, DecodedFiles
from ...pipeline.stages import listed
from ...warnings import NoEffectWarning, warn
from ..collate import Collate
from ..fetch import batched
from ..whole_batches import hinders, storages


class Taken(NamedTuple):
    """What ``lift=`` made of a dataset.

    lifted: None for lift=False, and where nothing could be lifted. dataset: to load from. fetching: a row for `explain`
    on how its samples are fetched. files: counts of the files that are decoded for it.
    """

    lifted: Lifted | None
    dataset: UserDataset
    fetching: tuple[str, str, str] | None = None
    files: DecodedFiles = NO_FILES


def lifted_dataset(
    lift: object,
    dataset: UserDataset,
    augment: object,
    batch_size: int | None,
    batch_sampler: object,
    collate_fn: Callable[[Any], Any] | None,
    workers: int,
) -> Taken:
    """What ``lift=`` makes of ``dataset``. If nothing can be lifted, a `NoEffectWarning` gives the reason.

    Raises TypeError if lift is neither a bool nor a `Lift`, ValueError if the lifted part would run twice or not at
    all.
    """
    lifted = _lifted(lift, dataset, augment)
    if lifted is not None and lifted.augment is not None:
        lifted = dataclasses.replace(lifted, dataset=deferring(lifted.dataset))
        lifted = through_collate(lifted, dataset, collate_fn)
    if lifted is None:
        return Taken(None, dataset)
    dataset, hindrance = _fetched_whole(lifted.dataset, batch_size, batch_sampler, collate_fn)
    fetching = _fetching(dataset, hindrance, workers)
    files = NO_FILES
    if lifted.augment is not None and hindrance is not None:
        dataset, files = _decoded(lift, lifted, dataset, batch_size is not None or batch_sampler is not None, fetching)
    if lifted.augment is None and hindrance is not None:
        why = f"{lifted.reason}; and fetches sample by sample: {hindrance}"
        warn(f"lift=True lifted nothing: {why}", NoEffectWarning)
        lifted, fetching = None, ("lift=True", "lifted nothing:", why)
    return Taken(lifted, dataset, fetching, files)


def _decoded(
    lift: object, lifted: Lifted, dataset: UserDataset, batches: bool, fetching: tuple[str, str, str]
) -> tuple[UserDataset, DecodedFiles]:
    """A copy of ``dataset`` whose JPEG files are decoded by another library, and their counts; or ``dataset``."""
    _, where, _ = fetching
    if "PIL.Image" not in sys.modules or isinstance(dataset, IterableDataset) or not batches:
        known = isinstance(dataset, IterableDataset) or not batches  # else samples are told apart, see `deferred.given`
        return dataset if known else batched(dataset), NO_FILES  # it opens no files with Pillow
    if isinstance(lift, Lift) and lift.decode == "user":
        return batched(dataset), DecodedFiles(where=where, why='Lift(decode="user")')
    name, told = best_decoder()
    partly = lift.decode if isinstance(lift, Lift) and lift.decode != "exact" else ""
    if partly == "scaled" and name != "simplejpeg":
        raise ImportError('lift=Lift(decode="scaled") needs simplejpeg; pip install simplejpeg, or write lift=True')
    if partly in ("region", "batch") and (lacking := region.why_not()) is not None:
        raise ImportError(f'lift=Lift(decode="{partly}") {lacking}, or write lift=True')
    if name is None:
        return batched(dataset), DecodedFiles(where=where, why=told if lifted.kind in (None, "pil") else "")
    return batched(dataset, name, partly), DecodedFiles(told, where, partly=partly)


def no_stages(fetching: tuple[str, str, str] | None) -> str:
    """What a loader without stages says of itself; fetching: the row of `lifted_dataset`."""
    return "no stages: torch's own loader" + ("" if fetching is None else f"; {' '.join(fetching)}")


def _lifted(lift: object, dataset: UserDataset, augment: object) -> Lifted | None:
    """The `Lifted` of ``dataset``, which may lift nothing; None for lift=False."""
    if not isinstance(lift, (bool, Lift)):
        got = "what smartaug.lift made" if isinstance(lift, Lifted) else repr(lift)
        raise TypeError(
            f"lift must be True, False or a smartaug.Lift, got {got}; for what is lifted by itself, "
            "lifted = smartaug.lift(dataset, size=(height, width)), write DataLoader(lifted.dataset, "
            "augment=lifted.augment, ...) without lift="
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
    if not samples or apart(unfinished)[0] is not None:
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
