"""Combinators: apply augmentations with a probability, one of several, some of them, or in a random order.

What: each sample draws for itself which of the augmentations inside it gets. All are planned for the whole batch, then
every segment is restricted to the samples that drew it. When: an augmentation that only some samples should get. Cost:
executing is paid for the samples concerned, planning for all: OneOf of k augmentations plans k of them. Reference:
torchvision's RandomApply, RandomChoice and RandomOrder; albumentations' OneOf and SomeOf.

Augmentations inside must keep the size and dtype of images, since a batch has but one of each: `Normalize` and a
resizing crop cannot be inside, nor can Kornia modules, which have no plan.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from functools import singledispatch
from itertools import accumulate, combinations

import numpy as np
import torch
from torch import Tensor

from ... import draws
from ..augmentation import Augmentation, Cuts, check_probability, equal_cuts
from ..mixing import PasteObjects, Tiles
from ..plan import (
    Branches,
    Call,
    Clahe,
    Erase,
    EraseNoise,
    Filter,
    Lookup,
    Mix,
    Noise,
    Plan,
    Segment,
    Store,
    Tone,
    Trace,
    Warp,
)
from ..projection import Projection
from .compose import Several

_IDENTITY = np.eye(2, 3)


def gated(segment: Segment, rows: Tensor, height: int, width: int) -> Segment:
    """``segment`` for the rows (B,) bool only, on images of that size; the others stay as they are, exactly.

    Raises ValueError for a segment that changes the size or the dtype, which must be the same for all rows.
    """
    if segment.output_size(height, width) != (height, width):
        raise ValueError(
            f"a stage inside a combinator must keep the size, {height}×{width}, and this one makes "
            f"{'×'.join(map(str, segment.output_size(height, width)))}; put it outside"
        )
    return only(segment, rows, height, width)


@singledispatch
def only(segment: Segment, rows: Tensor, height: int, width: int) -> Segment:
    """`gated`, for each kind of segment by its own rule; a kind without one raises TypeError."""
    raise TypeError(f"no way to leave rows out of {type(segment).__name__}; register one with combinators.only")


@only.register
def _(segment: Warp, rows: Tensor, height: int, width: int) -> Warp:
    moved, matrix, bounds = rows.numpy(), segment.matrix.numpy(), segment.bounds
    if bounds is not None:
        whole = np.array([0.0, width - 1.0, 0.0, height - 1.0])
        bounds = torch.from_numpy(np.where(moved[:, None], bounds.numpy(), whole))
    return dataclasses.replace(
        segment,
        matrix=torch.from_numpy(np.where(moved[:, None, None], matrix, _IDENTITY)),
        bounds=bounds,
        active=rows if segment.active is None else segment.active & rows,
    )


@only.register
def _(segment: Projection, rows: Tensor, height: int, width: int) -> Projection:
    return dataclasses.replace(segment, active=rows if segment.active is None else segment.active & rows)


@only.register(Tone)
@only.register(Filter)
def _(segment: Tone | Filter, rows: Tensor, height: int, width: int) -> Tone | Filter:
    return dataclasses.replace(segment, op=segment.op * rows)  # code 0 leaves a sample as it is


@only.register(Lookup)
@only.register(Clahe)
@only.register(Noise)
@only.register(Call)
def _(segment: Lookup | Clahe | Noise | Call, rows: Tensor, height: int, width: int) -> Segment:
    return dataclasses.replace(segment, active=rows if segment.active is None else segment.active & rows)


@only.register(Erase)
@only.register(EraseNoise)
def _(segment: Erase | EraseNoise, rows: Tensor, height: int, width: int) -> Segment:
    return dataclasses.replace(segment, boxes=segment.boxes * rows[:, None, None])  # a box of height 0 is none


@only.register
def _(segment: Mix, rows: Tensor, height: int, width: int) -> Mix:
    return Mix(
        torch.where(rows, segment.partner, torch.arange(len(rows))),
        torch.where(rows, segment.share, 1.0),
        None if segment.boxes is None else segment.boxes * rows[:, None],
    )


@only.register
def _(segment: Tiles, rows: Tensor, height: int, width: int) -> Tiles:
    alone = torch.zeros_like(segment.boxes)
    alone[:, 0, 2], alone[:, 0, 3] = height, width  # the sample's own part as large as the image
    moved = rows[:, None, None]
    identity = torch.from_numpy(_IDENTITY)
    return dataclasses.replace(
        segment,
        row=torch.where(rows[:, None], segment.row, torch.arange(len(rows))[:, None]),
        matrix=torch.where(moved[..., None], segment.matrix, identity),
        boxes=torch.where(moved, segment.boxes, alone),
    )


@only.register
def _(segment: PasteObjects, rows: Tensor, height: int, width: int) -> PasteObjects:
    return dataclasses.replace(segment, partner=torch.where(rows, segment.partner, torch.arange(len(rows))))


@only.register
def _(segment: Branches, rows: Tensor, height: int, width: int) -> Branches:
    untouched = torch.zeros_like(segment.weights)
    untouched[:, 0] = 1.0
    return dataclasses.replace(segment, weights=torch.where(rows[:, None], segment.weights, untouched))


@only.register
def _(segment: Store, rows: Tensor, height: int, width: int) -> Store:
    raise ValueError("Normalize cannot be inside a combinator: all rows of a batch have one dtype; put it last")


def gated_plan(plan: Plan, rows: Tensor) -> Plan:
    """``plan`` for the rows (B,) bool only; the trace of the others says Identity."""
    names = plan.trace.names if "Identity" in plan.trace.names else (*plan.trace.names, "Identity")
    reached, trace = rows.numpy()[:, None], plan.trace
    ops = np.where(reached, trace.ops.numpy(), names.index("Identity"))
    magnitudes = torch.from_numpy(trace.magnitudes.numpy() * reached)
    trace = Trace(torch.from_numpy(ops), magnitudes, names, trace.levels)
    height, width = plan.shape[2:]
    segments = tuple(gated(part, rows, height, width) for part in plan.segments)
    separate = None if plan.separate is None else tuple(gated(part, rows, height, width) for part in plan.separate)
    return Plan(plan.shape, segments, trace, separate)


_COMBINED = 1 << 12  # earlier choices for which the cuts of a later one are listed


def drawn_by_weight(key: Tensor, weights: Sequence[float], count: int, *, replace: bool, start: int = 0) -> Tensor:
    """``count`` numbers of 0..n-1 by ``weights`` (n,), one after the other: keys (B,) to (B, count) int64.

    replace: whether a number may come twice, else there must be ``count`` weights > 0. Takes a uniform draw a number,
    from slot ``start`` on.
    """
    left = torch.tensor(weights, dtype=torch.float64).expand(len(key), -1).clone()
    places = draws.uniform(key, (count,), start, torch.float64)
    picked = torch.empty(len(key), count, dtype=torch.int64)
    for number in range(count):
        steps = left.cumsum(1)
        whole = steps[:, -1:]
        # a product that rounds up to the end of the range would lie behind the last number
        place = torch.minimum(places[:, number, None] * whole, whole * (1 - 2.0**-52))
        picked[:, number] = (steps <= place).sum(1)
        if not replace:
            left.scatter_(1, picked[:, number, None], 0.0)
    return picked


def cuts_by_weight(weights: Sequence[float], count: int, *, replace: bool, start: int = 0) -> dict[int, list[float]]:
    """The `Augmentation.cuts` of `drawn_by_weight`: slot -> points in (0, 1), for every outcome of earlier draws.

    A draw whose points depend on more than `_COMBINED` earlier outcomes is left out, and integrated over.
    """
    possible = [number for number, weight in enumerate(weights) if weight > 0]
    found: dict[int, list[float]] = {}
    for number in range(count):
        taken = 0 if replace else number
        if len({weights[n] for n in possible}) == 1:
            found[start + number] = equal_cuts(len(possible) - taken)
        elif math.comb(len(possible), taken) <= _COMBINED:
            points: dict[float, float] = {}  # by their rounded values: sums in another order are the same point
            for gone in combinations(possible, taken):
                steps = list(accumulate(weights[n] for n in possible if n not in gone))
                points |= {round(step / steps[-1], 12): step / steps[-1] for step in steps[:-1]}
            found[start + number] = sorted(points.values())
    return found


class _Combinator(Several):
    """What combinators share: how to sample one of the augmentations inside."""

    def _inner(self, number: int, shape: Sequence[int], key: Tensor) -> Plan:
        return self.augmentations[number].sample(shape, draws.fold(key, number + 1))

    def _inner_cuts(self, shape: Sequence[int], *path: int) -> Cuts:
        """The cuts of all stages inside, whose streams are those of `_inner` for the stream ``path``."""
        return {
            ((*path, number + 1, *inner), slot): points
            for number, stage in enumerate(self.augmentations)
            for (inner, slot), points in stage.cuts(shape).items()
        }


class RandomApply(_Combinator):
    """All of ``augmentations``, in order, with probability ``p`` per sample; none of them otherwise."""

    def __init__(self, augmentations: Sequence[Augmentation], p: float = 0.5, *, backend: str | None = None) -> None:
        super().__init__(augmentations, backend=backend)
        self.p = check_probability(p)

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw which of the B samples are changed, and how."""
        chance, *keys = draws.folds(key, len(self.augmentations) + 1)  # as `_inner` folds them
        rows = draws.uniform(chance) < self.p
        plans = [gated_plan(one.sample(shape, own), rows) for one, own in zip(self.augmentations, keys, strict=True)]
        if not plans:
            return Plan(tuple(shape), (), Trace.empty(shape[0]))
        return plans[0] if len(plans) == 1 else plans[0].then(*plans[1:])

    def cuts(self, shape: Sequence[int]) -> Cuts:
        """Changed or not, and the choices inside."""
        return {((0,), 0): [self.p]} | self._inner_cuts(shape)


class SomeOf(_Combinator):
    """``count`` of ``augmentations``, each by its weight, with probability ``p`` per sample.

    count: an integer, or (low, high) for a number drawn per sample, both included. weights: one number ≥ 0 a stage, in
    any scale; None: all alike. replace: whether a stage may come twice, each time with draws of its own. ordered: in
    the order of the list; False: in the order drawn.
    """

    def __init__(
        self,
        augmentations: Sequence[Augmentation],
        count: int | tuple[int, int] = 1,
        *,
        weights: Sequence[float] | None = None,
        replace: bool = False,
        ordered: bool = False,
        p: float = 1.0,
        backend: str | None = None,
    ) -> None:
        super().__init__(augmentations, backend=backend)
        size = len(self.augmentations)
        low, high = (count, count) if isinstance(count, int) else count
        if not 0 <= low <= high or (high > size and not replace):
            raise ValueError(
                f"count must be 0 ≤ low ≤ high ≤ {size} stages (any high with replace=True), got {count!r}"
            )
        self.weights = tuple(float(w) for w in ([1.0] * size if weights is None else weights))
        if len(self.weights) != size or min(self.weights, default=0.0) < 0 or (size and not sum(self.weights) > 0):
            raise ValueError(f"weights must be {size} numbers ≥ 0, not all 0, got {weights!r}")
        if not replace and high > sum(w > 0 for w in self.weights):
            raise ValueError(f"count={count!r} stages cannot be drawn when fewer have a weight; use replace=True")
        self.count, self.replace, self.ordered, self.p = (low, high), bool(replace), bool(ordered), check_probability(p)

    def picks(self, key: Tensor) -> Tensor:
        """Which stages the samples with stream keys (B,) get, in order: (B, high) int64, −1 for none."""
        own, size, (low, high) = draws.fold(key, 0), len(self.augmentations), self.count
        if not high:
            return torch.empty(len(key), 0, dtype=torch.int64)
        picked = drawn_by_weight(own, self.weights, high, replace=self.replace, start=2)
        first = draws.uniform(own, (2,), dtype=torch.float64)
        number = low + (first[:, 0] * (high - low + 1)).long()
        number = number * (first[:, 1] < self.p)
        picked = torch.where(torch.arange(high) < number[:, None], picked, -1)
        if self.ordered:
            picked = torch.where(picked < 0, size, picked).sort(1).values
            picked = torch.where(picked == size, -1, picked)
        return picked

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw which stages each of the B samples gets, and what they do."""
        picked = self.picks(key)
        plan = Plan(tuple(shape), (), Trace.empty(shape[0]))
        inner: list[Plan] = []
        for place in range(picked.shape[1]):
            if not inner or self.replace:
                own = draws.fold(key, place) if self.replace else key
                inner = [self._inner(number, shape, own) for number in range(len(self.augmentations))]
            for number, part in enumerate(inner):
                if self.ordered and not self.replace and number < place:
                    continue  # the n-th of an ordered list is never at an earlier place
                rows = picked[:, place] == number
                plan = plan.then(gated_plan(part, rows))
        return plan

    def cuts(self, shape: Sequence[int]) -> Cuts:
        """How many stages, which, in which order, and the choices inside."""
        low, high = self.count
        if not high:
            return {}
        own = {0: equal_cuts(high - low + 1), 1: [self.p]}
        own |= cuts_by_weight(self.weights, high, replace=self.replace, start=2)
        inner = [self._inner_cuts(shape, place) for place in range(high)] if self.replace else [self._inner_cuts(shape)]
        found: Cuts = {((0,), slot): points for slot, points in own.items()}
        for part in inner:
            found |= part
        return found


class OneOf(SomeOf):
    """One of ``augmentations`` by its weight, with probability ``p`` per sample."""

    def __init__(
        self,
        augmentations: Sequence[Augmentation],
        *,
        weights: Sequence[float] | None = None,
        p: float = 1.0,
        backend: str | None = None,
    ) -> None:
        super().__init__(augmentations, 1, weights=weights, p=p, backend=backend)


class RandomOrder(SomeOf):
    """All of ``augmentations`` in an order drawn per sample, with probability ``p``."""

    def __init__(self, augmentations: Sequence[Augmentation], *, p: float = 1.0, backend: str | None = None) -> None:
        super().__init__(augmentations, len(augmentations), p=p, backend=backend)
