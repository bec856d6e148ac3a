"""Translates albumentations' transforms (2.0.8, and its successor where names and attributes agree), without import.

What: containers (Compose, Sequential, OneOf, OneOrOther, SomeOf, RandomOrder), each ``p``, and the transforms in
`_TRANSLATORS`, with the library's own parameters and distributions, as it computes them on uint8 images. When: a
pipeline that ends in ToTensorV2. These stay in the worker, with all before them: cubic, area and wrapping resampling,
crops of images whose size is not known to be equal, inpainting and random fills, Lambda, and transforms that are not in
the table; also whole pipelines with additional targets. Boxes and keypoints: see `targets`. Cost: lookup tables and
warps on the device; noise and blur cost most. Reference: albumentations 2.0.8.

Masks are moved by the geometric operations with nearest-pixel interpolation and filled with ``fill_mask``; a transform
with another ``mask_interpolation`` stays. A resized mask takes the pixel under the centre; OpenCV takes pixel ⌊x⌋.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from ... import augment as A
from ..registry import several
from ..steps import State, Step, Transform, folded, worker
from ..worker_transform import AsTensor
from . import geometry as albumentations_geometry
from . import targets as albumentations_targets
from . import values as albumentations_values
from .worker_half import AlbumentationsWorkerTransform, is_container

_FORCED = ("Compose", "Sequential", "OneOf")  # containers whose p is ignored inside a OneOf


def parts(transform: Transform) -> Sequence[Transform] | None:
    """The transforms of a Compose or Sequential with p=1 that can be lifted; None for everything else."""
    if type(transform).__name__ not in ("Compose", "Sequential") or transform.p < 1 or _whole(transform) is not None:
        return None
    return list(transform.transforms)


def _whole(transform: Transform) -> str | None:
    """Why a pipeline must stay as a whole; None: it need not."""
    if (why := albumentations_targets.why_not(transform)) is not None:
        return why
    if getattr(transform, "additional_targets", None):
        return "it transforms more than one image of a sample"
    if getattr(transform, "save_applied_params", False):
        return "it reports its parameters (save_applied_params)"
    inside = list(transform.transforms)
    outermost = type(transform).__name__ == "Compose" and getattr(transform, "main_compose", True)
    if outermost and (not inside or type(inside[-1]).__name__ not in ("ToTensorV2", "ToTensor")):
        return "its images are arrays (H, W, C), and only tensors are batched: put ToTensorV2 at its end"
    return None


def translate(transform: Transform, state: State) -> Step | None:
    """The `Step` of an albumentations transform, including its ``p``; one that is not in the table stays."""
    name = type(transform).__name__
    if getattr(transform, "processors", None) and not state.targets:
        return worker(transform, state, "its pipeline moves boxes or keypoints, and augment() takes images alone")
    if name in _CONTAINERS:
        return _CONTAINERS[name](transform, state)
    known = _TRANSLATORS.get(name)
    if known is None:
        return worker(transform, state, "not covered, so it keeps its place", keeps_size=False, channels=None)
    if (why := albumentations_targets.hinders(transform)) is not None:
        return worker(transform, state, why, size=_size_of(known(transform, state)), keeps_size=False)
    if transform.p <= 0:
        return folded(transform, state, state, "p=0: it never runs")
    step = known(transform, state)
    if transform.p >= 1 or step.where == "worker" or (step.where == "folded" and step.after == state):
        return step
    same = step.after.size == state.size and step.after.scale == state.scale
    if not same or step.where == "folded":
        return worker(
            transform,
            state,
            f"p={transform.p:g}: it changes the size or the units of some samples",
            keeps_size=step.after.size == state.size,
            normalised=step.after.normalised,
        )
    assert isinstance(step.stage, A.Augmentation)
    return dataclasses.replace(step, stage=A.RandomApply([step.stage], float(transform.p)))


def _size_of(step: Step) -> tuple[int, int] | None:
    """The size of the images after a step that stays, if all of them pass it."""
    return step.after.size if step.original.p >= 1 or step.after.size == step.before.size else None


def head(given: Transform, kept: Sequence[Transform], last: AsTensor) -> AlbumentationsWorkerTransform:
    """The part of the pipeline ``given`` that stays in the workers: the transforms ``kept``, then ``last``."""
    return AlbumentationsWorkerTransform(given, kept, last)


# --- containers ------------------------------------------------------------------------------------------------------


def _sequence(t: Transform, state: State) -> Step:
    """A Compose or Sequential for which `parts` is None."""
    why = _whole(t)
    if why is not None:
        return worker(t, state, why, keeps_size=False, channels=None, uint8=False)
    return several(t, list(t.transforms), state, lambda stages: A.RandomApply(stages, float(t.p)))


def _one_of(t: Transform, state: State) -> Step:
    weights = [float(part.p) for part in t.transforms]
    return several(t, _forced(t), state, lambda stages: A.OneOf(stages, weights=weights, p=float(t.p)))


def _one_or_other(t: Transform, state: State) -> Step:
    inside = _forced(t)
    weights = [float(t.p), 1.0 - float(t.p)]
    return several(t, [inside[0], inside[-1]], state, lambda stages: A.OneOf(stages, weights=weights))


def _forced(t: Transform) -> list[Transform]:
    """Copies of the transforms inside with p=1, since p was their weight in the choice; p=0 stays 0."""
    made = []
    for part in t.transforms:
        always = copy.copy(part)
        if type(part).__name__ in _FORCED if is_container(part) else part.p > 0:
            always.p = 1.0
        made.append(always)
    return made


def _some_of(ordered: bool, t: Transform, state: State) -> Step:
    inside = list(t.transforms)
    settings: dict[str, Any] = {"replace": bool(t.replace), "ordered": ordered, "p": float(t.p)}
    return several(t, inside, state, lambda stages: A.SomeOf(stages, int(t.n), **settings))


# --- conversions -----------------------------------------------------------------------------------------------------


def _normalize(t: Transform, state: State) -> Step:
    if t.normalization != "standard":
        return worker(t, state, f"normalization={t.normalization!r} needs the image's own statistics", normalised=True)
    if state.scale is not None or state.kind == "float":
        return worker(t, state, "it is given floats", normalised=True)
    mean, std = ([float(v) for v in np.atleast_1d(part)] for part in (t.mean, t.std))
    if min(std) <= 0:
        return worker(t, state, "std must be positive", normalised=True)
    unit = float(t.max_pixel_value) / 255.0
    after = state.converted([m * unit for m in mean], [s * unit for s in std], torch.float32)
    return folded(t, state, dataclasses.replace(after, kind="float", normalised=True))


def _to_float(t: Transform, state: State) -> Step:
    if state.scale is not None or state.kind == "float":
        return worker(t, state, "it is given floats")
    unit = 1.0 if t.max_value is None else float(t.max_value) / 255.0
    after = state.converted((0.0,), (unit,), torch.float32)
    return folded(t, state, dataclasses.replace(after, kind="float"))


def _to_tensor(t: Transform, state: State) -> Step:
    return folded(t, state, dataclasses.replace(state, kind="tensor"), "the head ends in a tensor")


def _nothing(t: Transform, state: State) -> Step:
    return folded(t, state, state, "changes nothing")


_TRANSLATORS: dict[str, Callable[[Transform, State], Step]] = {
    **albumentations_geometry.TRANSLATORS,
    **albumentations_values.TRANSLATORS,
    "Normalize": _normalize,
    "ToFloat": _to_float,
    "ToTensorV2": _to_tensor,
    "NoOp": _nothing,
}

_CONTAINERS: dict[str, Callable[[Transform, State], Step]] = {
    "Compose": _sequence,
    "Sequential": _sequence,
    "OneOf": _one_of,
    "OneOrOther": _one_or_other,
    "SomeOf": partial(_some_of, True),
    "RandomOrder": partial(_some_of, False),
}
