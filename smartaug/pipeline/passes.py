"""Passes over the data: which one a batch belongs to, its epoch, and which samples came how often in it."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._torch_fetch import Token


class Running:
    """A pass that has begun: its epoch, how many samples it has handed out so far, and which how often."""

    def __init__(self, epoch: int, samples: int = 0) -> None:
        self.epoch, self.samples = epoch, samples
        self.forget()

    def forget(self) -> None:
        """Give back the memory of which samples came: nobody asks again."""
        self._times = np.zeros(0, np.uint32)
        self._odd: dict[int, int] = {}  # of indices that are no place in an array

    def before(self, index: list[int]) -> list[int] | None:
        """How often each of these samples came before in this pass; None where all come for the first time.

        Samplers that draw with replacement, and those that repeat augmentations, hand a sample out several times.
        """
        if not index:
            return None
        rows, once = np.array(index), len(set(index)) == len(index)
        if rows.min() < 0 or rows.max() >= _DENSE:
            before = _counted(self._odd, index)
            return before if any(before) else None
        if rows.max() >= len(self._times):
            self._times = np.append(self._times, np.zeros(int(rows.max()) + 1, np.uint32))
        if once and not self._times[rows].any():
            self._times[rows] = 1
            return None
        return _counted(self._times, index)


_DENSE = 1 << 26


def _counted(times: Any, index: list[int]) -> list[int]:
    """What ``times`` has for each number, and one more each time."""
    before = []
    for number in index:
        before.append(int(times.get(number, 0) if isinstance(times, dict) else times[number]))
        times[number] = before[-1] + 1
    return before


class Passes:
    """Numbers the passes over the data, from the batches handed out and from what `tell` says.

    A pass is new when a worker shows another fetcher than it showed in the current one; this also holds for persistent
    workers that sat out an epoch. The epoch of a new pass is what `tell` said since the last one, else one more.
    """

    _KEPT = 64  # passes remembered, so that several live iterators keep their own epoch
    _COUNTED = 3  # and beside the newest those that know which samples came

    def __init__(self) -> None:
        self.epoch = -1
        self._told: int | None = None
        self._live: dict[int, tuple[Running, dict[int, tuple[int, int]]]] = {}  # loader -> (pass, worker -> fetcher)

    def tell(self, epoch: int) -> None:
        """The next pass is epoch ``epoch``."""
        self._told = int(epoch)

    @property
    def upcoming(self) -> int:
        """The epoch that the next pass will have."""
        return self.epoch + 1 if self._told is None else self._told

    def begin(self) -> Running:
        """Begin a pass."""
        self.epoch, self._told = self.upcoming, None
        return Running(self.epoch)

    def of(self, token: Token) -> Running:
        """The pass that ``token`` belongs to, begun now if it is new."""
        known = self._live.get(token.loader)
        if known is not None and known[1].setdefault(token.worker, token.fetcher) == token.fetcher:
            return known[0]
        begun = self.begin()
        self._live.pop(token.loader, None)
        for earlier, _ in list(self._live.values())[: -self._COUNTED]:
            earlier.forget()
        self._live[token.loader] = (begun, {token.worker: token.fetcher})
        if len(self._live) > self._KEPT:
            del self._live[next(iter(self._live))]
        return begun
