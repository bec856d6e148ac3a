"""The last few selections: for batches that workers fetched ahead, and as masks in memory that workers share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from .._base.selections import LastFew

Key = tuple[int, int, int]  # epoch, dataset size, seed
Made = tuple[Tensor, Tensor | None]  # indices (k,) int64, weights (k,)


class Remembered:
    """Selections by (epoch, dataset size, seed); only the last few are kept. Copies share no memory with each other."""

    def __init__(self) -> None:
        self._made: LastFew[Key, Made] = LastFew()
        self._members: dict[int, Tensor] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._made

    def __getitem__(self, key: Key) -> Made:
        return self._made[key]

    def add(self, key: Key, made: Made) -> None:
        """Remember a selection, and mark it in the mask of its size."""
        self._made[key] = made
        if key[1] in self._members:
            self._mark(key[1], made[0])

    def count(self, epoch: int, size: int) -> int | None:
        """How many of ``size`` samples ``epoch`` selected; None where that is not known."""
        found = (len(indices) for (at, of, _), (indices, _) in self._made.items() if (at, of) == (epoch, size))
        return next(found, None)

    def membership(self, size: int) -> Tensor:
        """A (size,) uint8 tensor in shared memory, always the same: 1 for the samples of the last selection, ones
        before the first."""
        if size not in self._members:
            self._members[size] = torch.ones(size, dtype=torch.uint8, device="cpu").share_memory_()
            for (_, made_for, _), (indices, _) in self._made.items():
                if made_for == size:
                    self._mark(size, indices)
        return self._members[size]

    def _mark(self, size: int, indices: Tensor) -> None:
        self._members[size].zero_()[indices] = 1

    def state(self) -> list[list[int | Tensor | None]]:
        """The selections as [epoch, size, seed, indices, weights]."""
        return [[*key, indices, weights] for key, (indices, weights) in self._made.items()]

    def load(self, state: Iterable[Iterable[Any]]) -> None:
        """Replace all selections by those of a `state`."""
        self._made = LastFew()
        for members in self._members.values():
            members.fill_(1)
        for epoch, size, seed, indices, weights in state:
            self.add((epoch, size, seed), (indices, weights))

    def __setstate__(self, state: dict[str, object]) -> None:  # of copy and pickle
        self.__dict__.update(state)
        self._made = LastFew(self._made)  # pickles of earlier versions hold a dict
        for members in self._members.values():
            members.share_memory_()
