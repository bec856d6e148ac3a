"""The distribution of an augmentation as a finite rule: plans with probabilities.

An augmentation turns uniform draws into a plan. Draws that only choose (a flip, a place on the grid, an operation) are
enumerated; the others are integrated over the unit cube: by products of Gauss–Legendre rules up to three of them, by a
scrambled Sobol sequence beyond, and where the product would need more nodes than allowed. Draws that no plan depends on
are found by changing them at random points, and left out; equal plans are joined.

Every rule comes with a coarser one on the same nodes (every second Gauss–Legendre node with the weights of
interpolation; the first half of the Sobol sequence), so that comparing the two costs no further transform.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from functools import lru_cache, singledispatch
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import draws
from ..augment import Augmentation
from ..augment.augmentation import equal_cuts
from ..augment.plan import Branches, Filter, Plan, Segment, Tone
from ..augment.samples import on_cpu

_TRIED = 1024  # random points at which a draw is changed to see whether any plan depends on it
_LISTED = 1 << 18  # largest number of combinations of choices that are listed, before equal ones are joined
_LEAST = (16, 8, 6)  # Gauss–Legendre nodes per draw, for one, two and three of them, below which Sobol is used
_ORDER = 15  # nodes of a panel
_SEED = 0x5EED  # of the points above and of Sobol's scrambling


class Nodes(NamedTuple):
    """``plan`` has S rows; weights (S,) float64 sum to 1. check (S,): the weights of a coarser rule on these rows.

    exact: the rows are everything that the augmentation can do.
    """

    plan: Plan
    weights: Tensor
    check: Tensor
    exact: bool


class _Axis(NamedTuple):
    """One draw: its values (n,) in [0, 1), their weights (n,) and those of the coarser rule."""

    values: np.ndarray
    weights: np.ndarray
    check: np.ndarray


def nodes(augment: Augmentation, shape: Sequence[int], limit: int) -> Nodes:
    """At most ``limit`` nodes for ``augment`` on one image of ``shape`` (C, H, W).

    Exact when all draws only choose and the different outcomes are no more than ``limit``. Raises ValueError when a
    single node has to stand for several outcomes: there is no coarser rule to estimate its error.
    """
    with on_cpu():
        return _Sampler(augment, tuple(shape)).nodes(limit)


class _Sampler:
    """An augmentation as a function from a table of draws (S, slots) to a plan of S rows."""

    def __init__(self, augment: Augmentation, shape: tuple[int, ...]) -> None:
        self.augment, self.shape = augment, shape
        self.slots: dict[draws.Slot, int] = {}
        levels: dict[draws.Slot, int] = {}
        self._discover(levels)
        cuts = {slot: equal_cuts(high) for slot, high in levels.items()} | augment.cuts((1, *shape))
        self.choices = {
            column: _cells(cuts[slot]) for slot, column in self.slots.items() if slot in cuts
        }  # column -> cells
        free = [column for column in self.slots.values() if column not in self.choices]
        self.free = self._that_matter(free) if free else []

    def _discover(self, levels: dict[draws.Slot, int]) -> None:
        """Find the draws that `sample` makes, in their order."""

        def read(slots: list[draws.Slot]) -> Tensor:
            for slot in slots:
                self.slots.setdefault(slot, len(self.slots))
            return torch.full((1, len(slots)), 0.5, dtype=torch.float64)

        self._sample(draws.Prescribed(1, read, levels.__setitem__))

    def _sample(self, stream: draws.Prescribed) -> Plan:
        return self.augment.sample((len(stream), *self.shape), stream)  # type: ignore[arg-type]  # stands for keys

    def plan(self, table: np.ndarray) -> Plan:
        """The plan whose draws are the columns of ``table`` (S, slots)."""
        given = torch.from_numpy(np.ascontiguousarray(table))

        def read(slots: list[draws.Slot]) -> Tensor:
            return given[:, [self.slots[slot] for slot in slots]]

        return self._sample(draws.Prescribed(len(given), read))

    def _that_matter(self, columns: list[int]) -> list[int]:
        """Those of ``columns`` that some plan depends on; rare outcomes are tried as often as others."""
        random = np.random.default_rng(_SEED)
        table = _spread(random, (_TRIED, len(self.slots)))
        for column, cells in self.choices.items():
            table[:, column] = random.choice(cells.values, _TRIED)
        before, found = fingerprint(self.plan(table)), []
        for column in columns:
            moved = table.copy()
            moved[:, column] = _spread(random, (_TRIED,))
            if not np.array_equal(fingerprint(self.plan(moved)), before):
                found.append(column)
        return found

    def nodes(self, limit: int) -> Nodes:
        """See `nodes`."""
        listed = math.prod(len(cells.values) for cells in self.choices.values())
        if not self.free and listed <= _LISTED:
            made = self._product(self.choices)
            if len(made.weights) <= limit:
                return made
        if 0 < len(self.free) <= 3:
            each = int((limit / listed) ** (1 / len(self.free)) + 1e-9)
            if each >= _LEAST[len(self.free) - 1]:
                return self._product({**self.choices, **dict.fromkeys(self.free, _gauss(each))})._replace(exact=False)
        return self._sobol(limit)

    def _product(self, axes: dict[int, _Axis]) -> Nodes:
        """Every combination of the axes' values, equal plans joined."""
        size = math.prod(len(axis.values) for axis in axes.values())
        table = np.full((size, len(self.slots)), 0.5)
        weights, check, repeats = np.ones(size), np.ones(size), size
        for column, axis in axes.items():
            repeats //= len(axis.values)
            place = np.arange(size) // repeats % len(axis.values)
            table[:, column] = axis.values[place]
            weights *= axis.weights[place]
            check *= axis.check[place]
        plan = self.plan(table)
        first, joined = _distinct(fingerprint(plan))
        sums = [np.bincount(joined, part, len(first)) for part in (weights, check)]
        if len(first) < size:
            plan = plan.rows(torch.from_numpy(first))
        return Nodes(plan, torch.from_numpy(sums[0]), torch.from_numpy(sums[1]), True)

    def _sobol(self, limit: int) -> Nodes:
        """The first 2^k ≤ ``limit`` points of a scrambled Sobol sequence over all draws."""
        if limit < 2:
            raise ValueError(
                f"nodes={limit} for an augmentation of several outcomes leaves nothing to estimate the error from, nor "
                "a variance; write nodes=1024"
            )
        columns = [*(column for column, cells in self.choices.items() if len(cells.values) > 1), *self.free]
        size = 1 << (limit.bit_length() - 1)
        engine = torch.quasirandom.SobolEngine(len(columns), scramble=True, seed=_SEED)
        table = np.full((size, len(self.slots)), 0.5)
        table[:, columns] = engine.draw(size, dtype=torch.float64).numpy()
        check = torch.zeros(size, dtype=torch.float64)
        check[: size // 2] = 2.0 / size
        return Nodes(self.plan(table), torch.full((size,), 1.0 / size, dtype=torch.float64), check, False)


def _spread(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draws in [0, 1) of which a quarter each lies at the two ends, where outcomes of small probability usually are."""
    drawn, place = random.random(shape), random.random(shape)
    return np.where(place < 0.25, 1e-9, np.where(place > 0.75, 1 - 1e-9, drawn))


def _cells(cuts: Sequence[float]) -> _Axis:
    """The middles and lengths of the ranges between the cuts; ranges of no length are left out."""
    edges = np.unique(np.clip(np.asarray([0.0, *cuts, 1.0]), 0.0, 1.0))
    lengths = np.diff(edges)
    return _Axis((edges[:-1] + edges[1:]) / 2, lengths, lengths)


@lru_cache(maxsize=16)
def _gauss(count: int) -> _Axis:
    """A Gauss–Legendre rule of at most ``count`` nodes on [0, 1], and the interpolatory one on every second node of it.

    Up to 31 nodes it is one rule of an odd number, else as many panels of 15 nodes as fit: what is integrated has kinks
    or jumps (interpolation, borders, rounding), where a higher order gains nothing.
    """
    order, panels = (count - 1 + count % 2, 1) if count <= 31 else (_ORDER, count // _ORDER)
    values, weights = np.polynomial.legendre.leggauss(order)
    some = values[::2]
    system = np.polynomial.legendre.legvander(some, len(some) - 1).T
    integrals = np.zeros(len(some))
    integrals[0] = 1.0
    check = np.zeros(order)
    check[::2] = np.linalg.solve(system, integrals)
    starts = np.arange(panels)[:, None]
    places = ((starts + (values + 1) / 2) / panels).reshape(-1)
    return _Axis(places, np.tile(weights / 2, panels) / panels, np.tile(check, panels) / panels)


def fingerprint(plan: Plan) -> np.ndarray:
    """(S, n) float64, equal in two rows when their segments do the same."""
    parts = [part.reshape(len(part), -1).double() for segment in plan.segments for part in _values(segment)]
    if not parts:
        return np.zeros((plan.shape[0], 0))
    return torch.cat(parts, 1).numpy() + 0.0  # no −0


@singledispatch
def _values(value: object) -> list[Tensor]:
    """The tensors of a segment, also those in tuples; what belongs to operations that do nothing counts as 0."""
    return []


@_values.register
def _(value: Tensor) -> list[Tensor]:
    return [value]


@_values.register
def _(value: tuple) -> list[Tensor]:
    return [part for inner in value for part in _values(inner)]


@_values.register
def _(value: Segment) -> list[Tensor]:
    found = [part for field in dataclasses.fields(value) for part in _values(getattr(value, field.name))]
    active = getattr(value, "active", None)
    return found if active is None else [_where(active, part) for part in found]


@_values.register(Tone)
@_values.register(Filter)
def _(value: Tone | Filter) -> list[Tensor]:
    return [value.op, value.amount * (value.op != 0)]


@_values.register
def _(value: Branches) -> list[Tensor]:
    rows = (value.weights[:, 1:] != 0).unbind(1)
    pairs = zip(rows, value.branches, strict=True)
    return [value.weights, *(_where(taken, part) for taken, branch in pairs for part in _values(branch))]


def _where(rows: Tensor, part: Tensor) -> Tensor:
    """``part`` (B, ...) in the ``rows`` (B,) bool, 0 in the others."""
    return torch.where(rows.reshape(-1, *[1] * (part.ndim - 1)), part, torch.zeros_like(part))


def _distinct(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places where different rows come first, in order, and for every row which of those it equals."""
    if not rows.shape[1]:
        return np.zeros(min(1, len(rows)), np.int64), np.zeros(len(rows), np.int64)
    words = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.itemsize * rows.shape[1])))[:, 0]
    _, first, joined = np.unique(words, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return first[order], place[joined]
