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


def streams() -> bool:
    """Whether a torch loader is loading, and its dataset is a stream (`IterableDataset`)."""
    fetcher, _ = _fetching()
    return isinstance(fetcher, _IterableDatasetFetcher)


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
