"""The one private door into torch's loader: which samples is this collate call for, in which pass, and who asks.

torch hands a collate function the samples, not their indices. They are known one frame up, in the `fetch` method of the
loader's fetcher, in the main process as in a worker, whatever sampler, framework or wrapper made the call. A fetcher is
made anew for every pass, so it also tells passes apart where the sampler and the loader are out of our hands.
"""

from __future__ import annotations

import os
import sys
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from torch.utils.data import get_worker_info
from torch.utils.data._utils.fetch import _BaseDatasetFetcher, _IterableDatasetFetcher


class Token(NamedTuple):
    """Names the fetcher that made a batch.

    loader: equal for all workers of one pass (their base seed; in the main process the fetcher's own number).
    worker: worker id, −1 in the main process. fetcher: process id and serial number of the fetcher in that process.
    """

    loader: int
    worker: int
    fetcher: tuple[int, int]


class Origin(NamedTuple):
    """Where a batch came from: the sampler's indices (None: iterable datasets, keys that are no integers), and who."""

    index: list[int] | None  # type: ignore[assignment]  # shadows tuple.index
    token: Token


_serials: WeakKeyDictionary[_BaseDatasetFetcher, int] = WeakKeyDictionary()
_made = 0


def origin() -> Origin | None:
    """The origin of the batch being collated, or None when no torch loader is collating."""
    fetcher, keys = _fetching()
    if fetcher is None:
        return None
    indexed = fetcher.auto_collation and not isinstance(fetcher, _IterableDatasetFetcher)
    return Origin(integers(keys) if indexed else None, _token(fetcher))


def token() -> Token | None:
    """Names the fetcher that a sample is being loaded for, or None when no torch loader is loading."""
    fetcher, _ = _fetching()
    return None if fetcher is None else _token(fetcher)


def _fetching() -> tuple[Any, Any]:
    """The fetcher whose `fetch` is running further up the stack, and the keys it was given; (None, None) without."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "fetch" and isinstance(frame.f_locals.get("self"), _BaseDatasetFetcher):
            return frame.f_locals["self"], frame.f_locals["possibly_batched_index"]
        frame = frame.f_back
    return None, None


def asker() -> Any:
    """The object whose method calls the method that calls this: the fetcher, where torch asks for ``__getitems__``."""
    return sys._getframe(2).f_locals.get("self")


def integers(keys: Any) -> list[int] | None:
    """A sampler's keys as a list of int; None for keys of another kind (strings, tuples), and for a single key."""
    listed = keys.tolist() if hasattr(keys, "tolist") else keys
    if not hasattr(listed, "__iter__"):
        return None
    listed = list(listed)
    if set(map(type, listed)) <= {int}:
        return listed
    return [int(key) for key in listed] if all(hasattr(key, "__index__") for key in listed) else None


def _token(fetcher: _BaseDatasetFetcher) -> Token:
    global _made
    serial = _serials.get(fetcher)
    if serial is None:
        serial = _serials[fetcher] = _made
        _made += 1
    worker = get_worker_info()
    if worker is None:
        return Token(serial, -1, (os.getpid(), serial))
    return Token(worker.seed - worker.id, worker.id, (os.getpid(), serial))


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
