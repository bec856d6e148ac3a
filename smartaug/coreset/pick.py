"""Select samples within a budget, class by class: at random, by a criterion, or those not seen for longest.

All are pure functions. Classes are numbers ``code`` (n,) in 0..C-1. Samples whose label is unknown (a name below 0)
form a class of their own, whose share of a budget is in proportion to its size even where the others' are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import draws
from .._base.selections import checked_indices, checked_weights
from ..batch import Embedding
from .shares import equal, lowest, proportional

Criterion = Callable[[Embedding, int, torch.Generator | None], tuple[Tensor, Tensor | None]]

_GATHERED = 1 << 12  # rows of the embedding that are read at a time, where classes are smaller
_RANDOM, _EXPLORE = 0x5EED, 0x5EEC  # streams of random draws, other than those of augmentations


class Classes(NamedTuple):
    """names (C,) int64 in increasing order, code (n,) into them, counts (C,)."""

    names: np.ndarray
    code: np.ndarray
    counts: np.ndarray


def classes(labels: np.ndarray) -> Classes:
    """The classes of labels (n,)."""
    return Classes(*np.unique(labels, return_inverse=True, return_counts=True))


def split(budget: int, groups: Classes, balanced: bool) -> np.ndarray:
    """(C,) shares of ``budget``: in proportion to the counts, or equal ones of the classes whose name is known."""
    counts = groups.counts
    if not balanced:
        return proportional(budget, counts)
    known = groups.names >= 0
    unknown = -(-budget * int(counts[~known].sum()) // max(1, int(counts.sum())))  # rounded up: the last is seen, too
    shares = np.zeros_like(counts)
    shares[~known], shares[known] = proportional(unknown, counts[~known]), equal(budget - unknown, counts[known])
    return shares


def random_subset(groups: Classes, budget: int, balanced: bool, seed: int, epoch: int) -> Tensor:
    """A fresh random subset: (budget,) int64 increasing, a function of the arguments alone."""
    quota = split(budget, groups, balanced)
    return torch.from_numpy(lowest(groups.code, quota, _bits(seed, epoch, len(groups.code), _RANDOM)))


def explorers_of(groups: Classes, quota: np.ndarray, seen: np.ndarray, explore: float, draw_unseen: bool) -> np.ndarray:
    """(C,) how many of each class's quota go to samples the criterion does not choose among or has not seen for long.

    At least what the seen samples cannot fill. With draw_unseen: also ``explore`` of the whole budget, and while part
    of a class was never seen, that part of its quota.
    """
    unseen = np.bincount(groups.code[~seen], minlength=len(quota))
    least = np.maximum(quota - (groups.counts - unseen), 0)
    if not draw_unseen:
        return least
    share = proportional(round(explore * int(quota.sum())), quota)
    return np.maximum.reduce([least, share, quota * unseen // np.maximum(groups.counts, 1)])


def chosen(
    select: Criterion,
    groups: Classes,
    quota: np.ndarray,
    pool: np.ndarray,
    embedding: Callable[[np.ndarray], Embedding],
    seed: int,
    number: int,
) -> tuple[Tensor, Tensor | None]:
    """What ``select`` picks of each class: quota (C,) samples out of the pool (n,) bool; weights where all have some.

    embedding: rows (m,) to their `Embedding`. number: of this selection, for the criterion's generator. A criterion may
    have ``by_class(embedding, sizes, budgets, seeds)``, which selects of several classes at once; see
    `FacilityLocation.by_class`. Raises TypeError or ValueError when the criterion returns something else than it
    should.
    """
    size = getattr(select, "size", len(groups.code)) if hasattr(select, "on") else len(groups.code)
    if size != len(groups.code):
        raise ValueError(
            f"{type(select).__name__} was made for a dataset of {size} samples and this one has {len(groups.code)}; "
            "make it from one value a sample, in the order of this dataset"
        )
    order = np.argsort(groups.code, kind="stable")
    parts = np.split(order, np.cumsum(groups.counts)[:-1])
    wanted = np.flatnonzero(quota)
    # one call for the keys of all classes, and one gathering of rows for many: of 100,000 classes each is a small one
    keys = draws.key(seed, number, torch.from_numpy(groups.names[wanted]), _RANDOM) & ((1 << 63) - 1)
    seeds = dict(zip(wanted.tolist(), keys.tolist(), strict=True))
    members = {c: parts[c][pool[parts[c]]] for c in seeds}
    indices, weights = [torch.empty(0, dtype=torch.int64)], []
    for block in _blocks(list(seeds), members):
        rows = [members[c] for c in block]
        together = np.concatenate(rows)
        asked = _Asked(block, np.array([len(part) for part in rows]), quota[block], [seeds[c] for c in block])
        for index, weight in _answers(select, asked, embedding(together), torch.from_numpy(together), groups.names):
            indices.append(index)
            weights.append(weight)
    given = [weight for weight in weights if weight is not None]
    return torch.cat(indices), torch.cat(given) if given and len(given) == len(weights) else None


class _Asked(NamedTuple):
    """What is asked of a criterion: classes, numbers (C,) of their samples and of those to select, seeds of draws."""

    classes: list[int]
    sizes: np.ndarray
    budgets: np.ndarray
    seeds: list[int]


def _blocks(classes: list[int], members: dict[int, np.ndarray]) -> Iterator[list[int]]:
    """The classes in blocks of `_GATHERED` samples or more."""
    block: list[int] = []
    held = 0
    for number, c in enumerate(classes, 1):
        block.append(c)
        held += len(members[c])
        if held >= _GATHERED or number == len(classes):
            yield block
            block, held = [], 0


def _answers(
    select: Criterion, asked: _Asked, embedding: Embedding, samples: Tensor, names: np.ndarray
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """``(samples, weights)`` that ``select`` picks of a block: of each class or, where it has ``by_class``, of all.

    embedding: of the block's samples, one class after the other. names: of all classes.
    """
    by_class = getattr(select, "by_class", None)
    if by_class is not None:
        made = by_class(embedding, asked.sizes, asked.budgets, asked.seeds)
        index, weight = _checked_by_class(select, made, asked)
        yield samples[index], weight
        return
    on, start = getattr(select, "on", None), 0  # of a criterion that knows the dataset by itself
    for c, size, budget, seed in zip(*asked, strict=True):
        rows = slice(start, start := start + int(size))
        own = select if on is None else on(samples[rows])
        part = Embedding(*(None if field is None else field[rows] for field in embedding))  # type: ignore[arg-type]
        index, weight = checked(
            select, own(part, int(budget), torch.Generator().manual_seed(seed)), int(budget), int(size), int(names[c])
        )
        yield samples[rows][index], weight


def _checked_by_class(select: Criterion, made: object, asked: _Asked) -> tuple[Tensor, Tensor | None]:
    """`checked` for several classes at once: as many rows of each as were asked for, weights of mean 1 in each."""
    code = np.repeat(np.arange(len(asked.sizes)), asked.sizes)
    index, weight = checked(select, made, int(asked.budgets.sum()), len(code), -1)
    of = torch.from_numpy(code)[index]
    found = torch.bincount(of, minlength=len(asked.sizes))
    if not np.array_equal(found.numpy(), asked.budgets):
        raise ValueError(f"{select!r} selected {found.tolist()} samples of the classes, not {asked.budgets.tolist()}")
    if weight is None:
        return index, None
    mean = torch.bincount(of, weight, minlength=len(asked.sizes)) / found.clamp_min(1)
    return index, weight / mean[of]


def checked(select: Criterion, made: object, budget: int, size: int, name: int) -> tuple[Tensor, Tensor | None]:
    """``(indices, weights)`` on the CPU if they are what a criterion returns for ``budget`` of ``size`` samples."""
    if not isinstance(made, tuple) or len(made) != 2:
        raise TypeError(f"{select!r} must select (indices, weights), it returned {type(made).__name__}")
    of = f" of class {name}" if name >= 0 else ""
    try:
        index = checked_indices(made[0], size)
        weight = None if made[1] is None else checked_weights(made[1], len(index))
    except ValueError as error:
        raise ValueError(f"{select!r} was asked for {budget} of the {size} rows{of}: {error}") from error
    if len(index) != budget:
        raise ValueError(
            f"{select!r} selected {len(index)} samples of a budget of {budget}{of}; "
            "it must return as many different indices as it is asked for"
        )
    return index, None if weight is None else weight / weight.mean()


def clipped(weights: Tensor, limit: float) -> Tensor:
    """Weights (k,), clipped to ``limit`` times their mean, then scaled to mean 1."""
    weights = weights.clamp(max=limit * float(weights.mean()))
    return weights / weights.mean()


def explored(
    groups: Classes, quota: np.ndarray, taken: np.ndarray, seen: np.ndarray, seed: int, epoch: int
) -> np.ndarray:
    """quota (C,) of each class's samples that are not ``taken`` (n,) bool: those not seen for longest, ties at random.

    seen: (n,) epoch of the last sight, −1 for never. Where a class has too few left, others stand in.
    """
    bits = _bits(seed, epoch, len(seen), _EXPLORE)
    free = np.flatnonzero(~taken)
    first = free[lowest(groups.code[free], quota, seen[free], bits[free])]
    missing = int(quota.sum()) - len(first)
    if missing:
        free = np.setdiff1d(free, first, assume_unique=True)
        first = np.concatenate([first, free[np.lexsort((bits[free], seen[free]))][:missing]])
    return np.sort(first)


def _bits(seed: int, epoch: int, size: int, stream: int) -> np.ndarray:
    return draws.bits(draws.key(seed, epoch, torch.arange(size, device="cpu"), stream), 1)[:, 0].numpy()
