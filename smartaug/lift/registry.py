"""The translator for each transform, by the library of its class; imports no library that the user has not imported."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import nn

from ..augment import Augmentation, Compose
from ..augment.foreign import Foreign
from .advice import advice
from .steps import UNIT, State, Step, Transform, device, in_order, unknown, worker

# package of a transform's class -> name of the translator module here
LIBRARIES = {
    "torchvision": "torchvision",
    "timm": "timm",
    "albumentations": "albumentations",
    "kornia": "kornia",
}

_MODULES = ("torchvision.transforms", "albumentations", "timm.data", "kornia.augmentation")  # of transforms' classes
TARGETS = "target_transform"  # attribute of a dataset: for labels

_FEW = 32
_ANY_SIZE = (32, 32)  # what is lifted while the size is unknown accepts any size, so one example is enough


def library_of(transform: object) -> ModuleType | None:
    """The translator module for the class of ``transform`` (not for a user's subclass); None: there is none."""
    name = LIBRARIES.get(type(transform).__module__.partition(".")[0])
    return None if name is None else module(name)


def module(name: str) -> ModuleType:
    """Import and return the translator module ``name``."""
    return importlib.import_module(f"{__package__}.{name}")


def parts(transform: Transform) -> Sequence[Transform] | None:
    """The transforms of a container that runs all of them in order; None for a single transform."""
    if type(transform) in (list, tuple):
        return transform
    if type(transform) in (nn.Sequential, nn.ModuleList):
        return list(transform)
    library = library_of(transform)
    own = None if library is None else getattr(library, "parts", None)
    return None if own is None else own(transform)


def flat(transform: Transform) -> list[Transform]:
    """``transform`` without its containers: single transforms in the order in which they run."""
    inside = parts(transform)
    return [transform] if inside is None else [single for part in inside for single in flat(part)]


def pipelines_of(holder: object) -> list[tuple[str, Transform]]:
    """The attributes of an object that hold transforms of a library, by name, except those for labels.

    Also what lies in their lists and dicts, as ``name[key]``.
    """
    own = [(name, value) for name, value in getattr(holder, "__dict__", {}).items() if name != TARGETS]
    for name, value in tuple(own):
        if isinstance(value, (list, tuple, dict)) and len(value) <= _FEW:
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            own += [(f"{name}[{key!r}]", part) for key, part in pairs]
    return [(name, value) for name, value in own if is_pipeline(value)]


def is_pipeline(value: object) -> bool:
    """Whether an object is a transform of a library, or a sequence of these."""
    if type(value) in (nn.Sequential, nn.ModuleList):
        inside = parts(value)
        return bool(inside) and all(map(is_pipeline, inside or ()))
    return callable(value) and not isinstance(value, type) and is_of_transforms(type(value))


def is_of_transforms(kind: type) -> bool:
    """Whether a class is one of a library's transforms."""
    return any(kind.__module__ == name or kind.__module__.startswith(f"{name}.") for name in _MODULES)


def translate(transform: Transform, state: State) -> Step:
    """The `Step` of one transform that is not a container."""
    library = library_of(transform)
    step = None if library is None else library.translate(transform, state)
    if step is None:
        return unknown(transform, state, _hint(transform))
    if state.targets and loses_targets(step):
        same = step.after.size == state.size
        return worker(transform, state, "samples have masks, which could not follow it", keeps_size=same)
    refused = None if state.channels is None else _refuses(step, state, state.channels)
    if refused is not None:
        size, normalised = step.after.size, step.after.normalised
        return worker(transform, state, refused, size=size, keeps_size=False, channels=None, normalised=normalised)
    return step


def _hint(transform: Transform) -> str:
    """What to write for a transform that no translator knows."""
    held = [] if library_of(transform) is not None else [name for name, _ in pipelines_of(transform)]
    return advice(transform, held)


def _refuses(step: Step, state: State, channels: int) -> str | None:
    """Why a step cannot take images with ``channels`` channels; None: it can."""
    mean, _ = step.after.scale or UNIT
    if step.where == "folded" and len(mean) not in (1, channels):
        return f"it has numbers for {len(mean)} channels, and the images have {channels}"
    if step.where == "device" and isinstance(step.stage, Augmentation):
        shape = (1, channels, *(state.size or _ANY_SIZE))
        try:
            step.stage.sample(shape, torch.zeros(1, dtype=torch.int64, device="cpu"))
        except ValueError as error:
            return str(error).partition(";")[0]
    return None


def loses_targets(step: Step) -> bool:
    """Whether a step moves pixels without a plan; targets are moved by the plan, so they would be left behind."""
    return isinstance(step.stage, Foreign) and step.stage.moves_pixels


def several(
    transform: Transform,
    inside: Sequence[Transform],
    state: State,
    combine: Callable[[list[Augmentation]], Augmentation],
    why: str = "batched, drawn per sample",
) -> Step:
    """The `Step` of a random container, of whose transforms ``inside`` a sample gets only some.

    combine: makes one augmentation of a list with one stage for each of ``inside``. The container runs on the device if
    all of ``inside`` can and none of them changes the size or the units; otherwise it stays in the worker.
    """
    start = state
    for _ in range(2):
        groups = [[translate(single, start) for single in flat(part)] for part in inside]
        if start.scale is None or not any(step.floats for group in groups for step in group):
            break
        start = state.stored()  # one needs the user's units, so all are translated in them
    steps = [step for group in groups for step in group]
    reason = next((why_not for step in steps if (why_not := _not_inside(step, start)) is not None), None)
    if reason is not None:
        same = all(step.after.size == state.size for step in steps)
        normalised = state.normalised or any(step.after.normalised for step in steps)
        changes: dict[str, Any] = {"uint8": False, "kind": None, "channels": None, "normalised": normalised}
        return worker(transform, state, reason, keeps_size=same, **changes)
    plans = [[step.stage for step in group if isinstance(step.stage, Augmentation)] for group in groups]
    stages = [in_order(group) if group else Compose([]) for group in plans]
    return device(transform, state, combine(stages), why, floats=start is not state)


def _not_inside(step: Step, start: State) -> str | None:
    """Why a step cannot be part of a random container, which applies it to some samples only; None: it can."""
    if step.where == "worker":
        return f"{step.name} inside it: {step.why}"
    if step.after.size != start.size or step.after.scale != start.scale:
        return f"{step.name} inside it changes the size or the units of some samples"
    if step.where == "device" and not isinstance(step.stage, Augmentation):
        return f"{step.name} inside it has no plan"
    return None
