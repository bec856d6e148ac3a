"""What a saved state depends on, and whether it fits another loader.

A state has a version and a description of its loader: the stages, their seed, the dataset. Loading it into a loader
with another description raises an error that names the differences, so that no run silently continues as another one.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import Subset

from ..augment.augmentation import Augmentation
from ..augment.foreign import Foreign
from ..augment.targets.kinds import kind_of
from ..pipeline.pipeline import Pipeline
from ..pipeline.stages import flattened
from .nested import datasets_in

# Version of the states; 0: states without a version. It is increased when an earlier release could no longer read a
# state or would compare it wrongly.
VERSION = 1
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_NAMES = {
    "augment": "the stages of lift= and augment=",
    "follow": "follow=",
    "head": "the transforms that lift=True leaves in the workers",
    "reweight": "reweight=",
    "coreset": "coreset=",
    "dataset_length": "len(dataset)",
    "dataset_seeds": "the seeds of the AugmentedDatasets",
    "sampler": "what the sampler holds as a pass begins (a counter or generator of its own is not in the state: set it "
    "back before, or draw from torch's global generator or from one in an attribute named generator)",
    "subsets": "the samples of each Subset, as a checksum of its indices (random_split takes generator=)",
}


def made_of(pipeline: Pipeline, dataset: object = None, dataset_seeds: Sequence[int] = ()) -> dict[str, Any]:
    """The description of a loader in plain values. Those that can load each other's states have equal descriptions."""
    follow = pipeline.settings.follow or {}
    made: dict[str, Any] = {
        "augment": [described(step) for step in flattened(pipeline.steps)],
        "follow": sorted(f"{_named(leaf)}: {kind_of(kind)!r}" for leaf, kind in follow.items()),
        "head": None if pipeline.lifted is None else _named(pipeline.lifted.head),
        "reweight": None if pipeline.reweight is None else type(pipeline.reweight).__name__,
        "coreset": None if pipeline.coreset is None else _named(pipeline.coreset),
        "dataset_length": len(dataset) if hasattr(dataset, "__len__") else None,
        "dataset_seeds": list(dataset_seeds),
        "subsets": [_checksum(part.indices) for part in datasets_in(dataset) if isinstance(part, Subset)],
    }
    return made


def _checksum(indices: Iterable[int]) -> int:
    """CRC-32 of the indices of a Subset, independent of the type of the sequence."""
    return zlib.crc32(",".join(map(str, map(int, indices))).encode())


def described(step: object) -> str:
    """A stage and its settings as text, without those that change during a run or do not influence the draws."""
    if isinstance(step, Foreign):
        return _named(step.function)
    if not isinstance(step, Augmentation):
        return _named(step)
    settings = {name: value for name, value in vars(step).items() if not name.startswith("_") and name != "backend"}
    shown = (f"{name}={_setting(value)}" for name, value in settings.items() if _is_setting(value))
    return f"{type(step).__name__}({', '.join(shown)})"


def check_version(state: Mapping[str, Any], wanted: Sequence[str]) -> None:
    """Raise a ValueError where ``state`` lacks one of the keys ``wanted``, or is of a later version."""
    missing = set(wanted) - set(state)
    if missing:
        raise ValueError(f"this is no state of a smartaug.DataLoader: it has no {', '.join(sorted(missing))}")
    version = state.get("version", 0)
    if version > VERSION:
        raise ValueError(
            f"this state has version {version}, and this smartaug reads states up to {VERSION}; use the release that "
            "saved it, or a later one"
        )


def check_made_of(state: Mapping[str, Any], pipeline: Pipeline, own: Mapping[str, Any]) -> None:
    """Raise a ValueError where the description in ``state`` differs from ``own``, that of this loader by `made_of`, or
    where the seed in ``state`` differs from the one that the user gave.
    """
    differing = []
    if state.get("version", 0) == VERSION:
        differing = _differing(state["made_of"], own)
    else:  # the first states had no description
        for name in ("reweight", "coreset"):
            if name in state["stages"] and getattr(pipeline, name) is None:
                differing.append(f"{name}=: something in the state, None in this loader")
    given = pipeline.settings.seed
    if given is not None and state["stages"]["seed"] != int(given):
        differing.append(f"seed: {state['stages']['seed']} in the state, {given} in this loader")
    if differing:
        raise ValueError(
            "this state was made by another loader, which would go on differently; "
            f"{'; '.join(differing)}. Build the loader as it was, or take over what fits: "
            "loader.load_state_dict(state, strict=False)"
        )


def _differing(saved: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """For each entry that differs: its name, its saved value and its present value."""
    found = []
    for name, now in own.items():
        if name not in saved:  # the state is of a release without this entry
            continue
        then = saved[name]
        if isinstance(now, list) and isinstance(then, list) and name in ("augment", "sampler"):
            now, then = _first_difference(now, then)
        if then != now:
            found.append(f"{_NAMES.get(name, name)}: {_shown(then)} in the state, {_shown(now)} in this loader")
    return found


def _first_difference(now: list[str], then: list[str]) -> tuple[str | list[str], str | list[str]]:
    """The first pair of stages that differ; the whole lists where their lengths differ."""
    if len(now) != len(then):
        return now, then
    return next(((mine, theirs) for mine, theirs in zip(now, then, strict=True) if mine != theirs), (now, then))


def _shown(value: object) -> str:
    text = ", ".join(value) if isinstance(value, list) and all(isinstance(v, str) for v in value) else str(value)
    return text or "nothing"


def _is_setting(value: object) -> bool:
    """Whether it is neither a tensor nor None: a learned policy's probabilities are None at first, then a tensor that
    changes with the epochs.
    """
    return value is not None and not isinstance(value, Tensor)


def _setting(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_setting(part) for part in value)}]"
    return described(value) if isinstance(value, (Augmentation, Foreign)) else _named(value)


def _named(value: object) -> str:
    """``repr(value)`` without memory addresses."""
    return _ADDRESS.sub("", repr(value))
