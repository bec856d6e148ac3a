"""Images of unequal size through an augmentation that makes them equal.

What: the parts of a `Compose` in front of the first with `takes_unequal` run on the images of each size; from that part
on there is one plan for the batch. Draws and results are those of each image by itself. When: lists of images. Cost:
see `unequal`. Reference: none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from . import backends
from .plan import Plan, Trace
from .samples import drawing_for, on_cpu
from .unequal import UnequalPlan, plan_for, shape_of

Follow = Callable[[Plan, Tensor], None]  # a plan, and the rows (R,) int64 of the images that it is for


class Part(Protocol):
    """An augmentation that samples a plan."""

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """The plan for images of ``shape`` from the keys (B,) of their rows."""


class Step(Protocol):
    """An augmentation that makes images equal, by one of its parts."""

    @property
    def backend(self) -> str | None:
        """What executes its plans."""

    def unequal_parts(self, key: Tensor) -> Keyed:
        """Its parts, with the keys (B,) of their draws."""


class Keyed(NamedTuple):
    """Augmentations with the keys (B,) of their draws: ``before`` the sizes are equal, and from there on."""

    before: Sequence[tuple[Part, Tensor]]
    rest: Sequence[tuple[Part, Tensor]]


def run(
    step: Step,
    images: Sequence[Tensor],
    key: Tensor,
    index: Tensor | None,
    follow: Follow = lambda plan, rows: None,
    timed: str | None = None,
) -> tuple[Tensor, UnequalPlan, Sequence[Tensor]]:
    """Images (C, H, W) after a step that `makes_equal`: a batch, the plan that made them equal, and what it was given.

    key: (B,) of its draws. index: (B,) the samples, None where they are not known. follow: is told every plan before it
    is executed. timed: see `backends.execute_unequal`.
    """
    keyed = step.unequal_parts(key)
    images, earlier = _before(keyed.before, images, index, step.backend, follow)
    plan = _sampled(keyed.rest, shape_of(images), index)
    assert isinstance(plan, UnequalPlan)
    follow(plan, torch.arange(len(images), device="cpu"))
    made = backends.execute_unequal(plan, images, step.backend, timed)
    trace = plan.trace if earlier is None else earlier.then(plan.trace)
    return made, UnequalPlan(plan.shape, plan.segments, trace, plan.separate, plan.sizes), images


def by_size(images: Sequence[Tensor]) -> list[Tensor]:
    """The rows (R,) int64 of the images of each size."""
    sizes: dict[tuple[int, ...], list[int]] = {}
    for row, image in enumerate(images):
        sizes.setdefault(tuple(image.shape), []).append(row)
    return [torch.tensor(rows, dtype=torch.int64, device="cpu") for rows in sizes.values()]


def _before(
    parts: Sequence[tuple[Part, Tensor]],
    images: Sequence[Tensor],
    index: Tensor | None,
    backend: str | None,
    follow: Follow,
) -> tuple[Sequence[Tensor], Trace | None]:
    """The images after ``parts``, size by size, and the trace of these."""
    if not parts:
        return images, None
    made, traces = list(images), []
    for rows in by_size(images):
        whole = torch.stack([images[row] for row in rows.tolist()])
        own = [(part, key[rows]) for part, key in parts]
        plan = _sampled(own, whole.shape, None if index is None else index[rows])
        follow(plan, rows)
        for row, image in zip(rows.tolist(), backends.execute(plan, whole, backend), strict=True):
            made[row] = image
        traces.append((plan.trace, rows))
    return made, traced(traces, len(images))


def _sampled(parts: Sequence[tuple[Part, Tensor]], shape: Sequence[int], index: Tensor | None) -> Plan:
    """One plan of all parts, as `Compose.sample` makes it."""
    with on_cpu(), drawing_for(index):
        plans = [plan_for(tuple(shape), (), Trace.empty(shape[0]))]
        for part, key in parts:
            plans.append(part.sample(plans[-1].output_shape, key))
        return plans[0].then(*plans[1:])


def traced(parts: Sequence[tuple[Trace, Tensor]], length: int) -> Trace:
    """One trace of ``length`` rows; each part has its own at its places (R,) int64."""
    names = tuple(dict.fromkeys(["Identity", *(name for trace, _ in parts for name in trace.names)]))
    width = max(trace.ops.shape[1] for trace, _ in parts)
    ops = torch.zeros(length, width, dtype=torch.int64, device="cpu")
    magnitudes = torch.zeros(length, width, device="cpu")
    levels = torch.full((length, width), torch.nan, device="cpu")
    for trace, places in parts:
        if trace.ops.numel():
            new = torch.tensor([names.index(name) for name in trace.names], device="cpu")
            columns = trace.ops.shape[1]
            ops[places, :columns], magnitudes[places, :columns] = new[trace.ops], trace.magnitudes
            if trace.levels is not None:
                levels[places, :columns] = trace.levels
    return Trace(ops, magnitudes, names, levels if bool(levels.isfinite().any()) else None)
