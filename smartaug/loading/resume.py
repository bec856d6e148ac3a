"""Saving and restoring the state of a loader, with the position in the running pass.

torch draws the order of the samples. A state holds the states that the generators had when the pass began, and the
number of batches handed out. Resuming draws the same order again and skips as many index lists, without loading their
samples. A pass is over when its iterator has ended, or when all index lists of its sampler were handed out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from .._base.ranks import here
from ..pipeline.pipeline import Pipeline
from ..warnings import NoEffectWarning, warn
from .augmented.dataset import augmented_in
from .order import SamplerPosition, SamplerState, epoch_of, give_epoch
from .samplers.coreset import CoresetSampler
from .samplers.settings import sampler_settings
from .state import VERSION, check_made_of, check_version, made_of

_NOT_CARRIED = (
    "the dataset or its collate function draws from the global generator of torch, random or NumPy in the workers, and "
    "a state does not carry these draws: a pass that is resumed has the same samples in the same order, and draws them "
    "anew. To repeat them, move what draws into a transform: smartaug.AugmentedDataset(dataset, transform)"
)


def saved(
    loader: DataLoader, index_sampler: object, pipeline: Pipeline, order: SamplerState, *, record: bool
) -> dict[str, Any]:
    """The state of ``loader`` in tensors and plain values.

    index_sampler: torch's own, not the `ResumableSampler` around it. record=False leaves out records of the size of the
    dataset. Raises RuntimeError in mid-epoch of an IterableDataset and with in_order=False.
    """
    stages = pipeline.state_dict(record)
    if order.unbegun is not None:  # a state was loaded, no pass begun since; set_epoch may have been called
        said = {"set_since": pipeline.epochs.next, "sampler_set_since": epoch_of(index_sampler)}
        return {**order.unbegun, **said, "stages": stages}
    rank, ranks = here()
    state: dict[str, Any] = {
        "version": VERSION,
        "made_of": _made_of(loader, pipeline),
        "rank": rank,
        "ranks": ranks,
        "begun": False,
        "epoch": pipeline.epochs.upcoming,
        "next_epoch": None,
        "batches": 0,
        "samples": 0,
        "checksum": 0,
        "generators": order.own_states(),
        "has_worker_seed": order.has_worker_seed or order.waiting or loader._iterator is not None,
        "sampler_epoch": epoch_of(index_sampler),
        "sampler_next_epoch": None,
        "set_since": None,
        "sampler_set_since": None,
        **_order_of(loader),
        "stages": stages,
    }
    current = order.latest
    if current is None or order.waiting or _over(loader, current):
        return state
    if isinstance(loader.dataset, IterableDataset) and current.handed == 0:
        return {**state, "epoch": current.progress.epoch, "has_worker_seed": True}  # it begins anew
    _check_position(loader, current, order)
    return {
        **state,
        "made_of": {**state["made_of"], "sampler": current.sampler_settings},
        "begun": True,
        "epoch": current.progress.epoch,
        "next_epoch": pipeline.epochs.next,  # set by set_epoch during the pass
        "batches": current.handed,
        "samples": current.samples,
        "checksum": current.checksums[current.handed],
        "generators": list(current.states),
        "sampler_epoch": current.sampler_epoch,
        "sampler_next_epoch": state["sampler_epoch"],
    }


def _check_position(loader: DataLoader, current: SamplerPosition, order: SamplerState) -> None:
    """Raise a RuntimeError where the position in a pass cannot be known; warn where it is not all that is needed."""
    if isinstance(loader.dataset, IterableDataset):
        raise RuntimeError(
            "an IterableDataset cannot be resumed in mid-epoch: its position is its own; call state_dict() at the "
            "end of an epoch, or use a map-style dataset"
        )
    if not loader.in_order and current.handed:
        raise RuntimeError(
            "with in_order=False it is unknown which batches were handed out; use in_order=True to resume in "
            "mid-epoch, or call state_dict() at the end of an epoch"
        )
    if current.drew and not order.said_drew:
        order.said_drew = True
        warn(_NOT_CARRIED, NoEffectWarning)


def restore(
    loader: DataLoader, state: Mapping[str, Any], pipeline: Pipeline, order: SamplerState, *, strict: bool = True
) -> None:
    """Load a state made by `saved`. Raises ValueError or RuntimeError for states that do not fit ``loader``."""
    wanted = ("epoch", "batches", "generators", "stages", *_order_of(loader))
    check_version(state, wanted)
    state = _current(state)
    _check_order(loader, state)
    if strict:
        check_made_of(state, pipeline, _made_of(loader, pipeline))
    pipeline.load_state_dict(state["stages"])
    if isinstance(loader.sampler, CoresetSampler):
        loader.sampler.forget()
    epoch = state["epoch"] if state["sampler_epoch"] is None else state["sampler_epoch"]
    epoch = epoch if state["sampler_set_since"] is None else state["sampler_set_since"]
    for sampler in (loader.sampler, loader.batch_sampler):
        give_epoch(sampler, epoch)
    pipeline.epochs.resume(state["epoch"])  # after give_epoch, since a `SamplerProxy` also sets the epoch of the stages
    pipeline.epochs.next = state["set_since"]
    order.load(state)


def _current(state: Mapping[str, Any]) -> dict[str, Any]:
    """``state`` with all entries of the present version; the first states lack some of them."""
    begun = state["batches"] > 0
    unsaid = dict.fromkeys(("next_epoch", "sampler_next_epoch", "set_since", "sampler_set_since"))
    return {"begun": begun, "has_worker_seed": False, "samples": 0, **unsaid, **state}


def _check_order(loader: DataLoader, state: Mapping[str, Any]) -> None:
    """Raise a RuntimeError where ``loader`` cannot draw the order of a pass that has begun again."""
    if not state["begun"]:
        return
    if state["batches"] and (isinstance(loader.dataset, IterableDataset) or not loader.in_order):
        raise RuntimeError(
            "this state is from mid-epoch, which an IterableDataset or in_order=False cannot resume; "
            "use a map-style dataset with in_order=True"
        )
    ranks = here()[1]
    if state["ranks"] != ranks:
        raise RuntimeError(
            f"this state is from mid-epoch on {state['ranks']} ranks, and the shares of {ranks} are others; "
            f"resume on {state['ranks']}, or from a state taken at the end of an epoch"
        )
    for name, own in _order_of(loader).items():
        if state[name] != own:
            raise RuntimeError(
                f"this state is from mid-epoch with {name}={state[name]}, and this loader has {name}={own}, so the "
                "epoch cannot be resumed; use the same, or a state taken at the end of an epoch"
            )


def _over(loader: DataLoader, position: SamplerPosition) -> bool:
    """Whether no batch of the pass is left. For an IterableDataset its length decides, if it has one."""
    if isinstance(loader.dataset, IterableDataset) and position.length is not None:
        return position.ended or position.handed >= position.length
    return position.over


def _made_of(loader: DataLoader, pipeline: Pipeline) -> dict[str, Any]:
    made = made_of(pipeline, loader.dataset, [part.seed for part in augmented_in(loader.dataset)])
    return {
        **made,
        "sampler": sampler_settings(loader.sampler if loader.batch_sampler is None else loader.batch_sampler),
    }


def _order_of(loader: DataLoader) -> dict[str, Any]:
    """The settings besides the sampler on which the order of the data depends."""
    size = len(loader.dataset) if hasattr(loader.dataset, "__len__") else None
    return {"batch_size": loader.batch_size, "drop_last": loader.drop_last, "dataset_size": size}
