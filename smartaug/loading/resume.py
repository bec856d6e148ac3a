"""The state of a loader: where its pass is, and how to go on from there.

The order of the data stays torch's own draw. A state holds the generators' states from which the pass began and the
number of batches handed out; resuming draws the same order and leaves out as many index lists, so no sample is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from .._ranks import here
from ..pipeline.pipeline import Pipeline
from .order import Record, forward_epoch, told_epoch
from .sampler import CoresetSampler


def saved(loader: DataLoader, index_sampler: Any, pipeline: Pipeline, order: Record, *, record: bool) -> dict[str, Any]:
    """The state of ``loader``: tensors and plain values. index_sampler: torch's own, without our notes around it.

    record=False leaves out records of the size of the dataset.
    """
    rank, ranks = here()
    state: dict[str, Any] = {
        "rank": rank,
        "ranks": ranks,
        "epoch": pipeline.passes.upcoming,
        "batches": 0,
        "samples": 0,
        "checksum": 0,
        "generators": order.own_states(),
        "sampler_epoch": told_epoch(index_sampler),
        **_order_of(loader),
        "stages": pipeline.state_dict(record),
    }
    current = order.latest
    if order.resume is not None:  # loaded, and no pass begun since
        return {**order.resume, "stages": state["stages"]}
    if order.waiting is not None:  # a pass whose first batch is still to come: it begins anew
        state["generators"] = order.waiting
        return state
    if current is None or current.ended or not 0 < current.handed < _length(loader):
        return state
    if isinstance(loader.dataset, IterableDataset):
        raise RuntimeError(
            "an IterableDataset cannot be resumed in mid-epoch: its position is its own; call state_dict() at the "
            "end of an epoch, or use a map-style dataset"
        )
    if not loader.in_order:
        raise RuntimeError(
            "with in_order=False it is unknown which batches were handed out; use in_order=True to resume in "
            "mid-epoch, or call state_dict() at the end of an epoch"
        )
    state["epoch"] = pipeline.passes.upcoming if current.epoch is None else current.epoch
    state["batches"], state["samples"] = current.handed, current.samples
    state["checksum"], state["generators"] = current.checksums[current.handed], list(current.states)
    state["sampler_epoch"] = current.told
    return state


def restore(loader: DataLoader, state: Mapping[str, Any], pipeline: Pipeline, order: Record) -> None:
    """Continue where `saved` was called; raises ValueError or RuntimeError for states that do not fit ``loader``."""
    missing = {"epoch", "batches", "generators", "stages", *_order_of(loader)} - set(state)
    if missing:
        raise ValueError(f"this is no state of a smartaug.DataLoader: it has no {', '.join(sorted(missing))}")
    if state["batches"] and (isinstance(loader.dataset, IterableDataset) or not loader.in_order):
        raise RuntimeError(
            "this state is from mid-epoch, which an IterableDataset or in_order=False cannot resume; "
            "use a map-style dataset with in_order=True"
        )
    ranks = here()[1]
    if state["batches"] and state["ranks"] != ranks:
        raise RuntimeError(
            f"this state is from mid-epoch on {state['ranks']} ranks, and the shares of {ranks} are others; "
            f"resume on {state['ranks']}, or from a state taken at the end of an epoch"
        )
    for name, own in _order_of(loader).items() if state["batches"] else ():
        if state[name] != own:
            raise RuntimeError(
                f"this state is from mid-epoch with {name}={state[name]}, and this loader has {name}={own}, so the "
                "epoch cannot be resumed; use the same, or a state taken at the end of an epoch"
            )
    pipeline.load_state_dict(state["stages"])
    if isinstance(loader.sampler, CoresetSampler):
        loader.sampler.forget()
    told = state["epoch"] if state["sampler_epoch"] is None else state["sampler_epoch"]
    for listener in (loader.sampler, loader.batch_sampler):
        forward_epoch(listener, told)
    pipeline.passes.tell(state["epoch"])  # last: a sampler's stand-in tells the stages, too
    order.latest, order.waiting = None, None
    order.resume = dict(state) if state["batches"] else None
    if not state["batches"]:
        order.put_own(state["generators"])


def _order_of(loader: DataLoader) -> dict[str, Any]:
    """What the order of the data depends on, besides the sampler."""
    size = len(loader.dataset) if hasattr(loader.dataset, "__len__") else None
    return {"batch_size": loader.batch_size, "drop_last": loader.drop_last, "dataset_size": size}


def _length(loader: DataLoader) -> float:
    try:
        return len(loader)
    except TypeError:  # an IterableDataset without a length
        return float("inf")
