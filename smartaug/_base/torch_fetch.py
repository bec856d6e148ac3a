"""Reads from torch's private fetcher the dataset indices of the batch being loaded, its pass and its worker.

torch passes the samples to a collate function, not their indices. The indices are local variables one frame up, in the
`fetch` method of the loader's fetcher, in the main process as in a worker, with any sampler, framework or wrapper.
smartaug's own loader passes the indices as `BatchKeys`, which also carry the epoch in which they were drawn.

With a sampler and loader that are not smartaug's, passes are told apart by two facts: torch makes a new fetcher for
every pass, and all workers of one iterator answer through one pipe, which no other iterator uses.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any, NamedTuple, SupportsIndex
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info
from torch.utils.data._utils.fetch import _BaseDatasetFetcher, _IterableDatasetFetcher

from . import global_draws

Keys = Any  # what a sampler yields: a list, tuple, array or tensor of keys, or one key of any type


class DrawnAt(NamedTuple):
    """The pass in which the indices of a batch were drawn; the main process sends it to the worker with the indices.

    number: of the pass, counted in the main process. epoch: of that pass. seed: of the loader's stages. before: how
    often each sample occurred earlier in the pass; None where none did. plain: the batch is not augmented.
    """

    number: int
    epoch: int
    seed: int
    before: list[int] | None = None
    plain: bool = False


class BatchKeys(list):
    """The keys of a batch as the sampler yielded them, and the pass ``drawn`` in which it did.

    asked: how often each sample was loaded for this batch; the entry None counts the calls of transforms that run per
    sample.
    """

    def __init__(self, keys: Iterable[Any], drawn: DrawnAt) -> None:
        super().__init__(keys)
        self.drawn = drawn
        self.asked: Counter[Any] = Counter()

    def __reduce__(self) -> tuple:
        return _arrived, (type(self), list(self), self.drawn)


class BatchKeysTuple(tuple):
    """As `BatchKeys`, for batch samplers that yield tuples."""

    drawn: DrawnAt
    asked: Counter[Any]

    def __new__(cls, keys: Iterable[Any], drawn: DrawnAt) -> BatchKeysTuple:
        made = super().__new__(cls, keys)
        made.drawn, made.asked = drawn, Counter()
        return made

    def __reduce__(self) -> tuple:
        return _arrived, (type(self), tuple(self), self.drawn)


class BatchKeysArray(np.ndarray):
    """As `BatchKeys`, for samplers that yield arrays."""

    drawn: DrawnAt
    asked: Counter[Any]

    def __new__(cls, keys: np.ndarray, drawn: DrawnAt) -> BatchKeysArray:
        made = keys.copy().view(cls)  # samplers may reuse their memory
        made.drawn, made.asked = drawn, Counter()
        return made

    def __reduce__(self) -> tuple:
        return _arrived, (type(self), np.asarray(self), self.drawn)


class BatchKeysTensor(Tensor):
    """As `BatchKeys`, for samplers that yield tensors. Operations on it return plain tensors."""

    drawn: DrawnAt
    asked: Counter[Any]
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, keys: Tensor, drawn: DrawnAt) -> BatchKeysTensor:
        made = keys.clone().as_subclass(cls)  # samplers may reuse their memory
        made.drawn, made.asked = drawn, Counter()
        return made

    def __init__(self, keys: Tensor, drawn: DrawnAt) -> None:
        pass

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple:
        return _arrived, (type(self), self.as_subclass(Tensor), self.drawn)


class SingleKey(int):
    """As `BatchKeys`, for the one key of a loader that does not batch (``batch_size=None``)."""

    drawn: DrawnAt
    asked: Counter[Any]

    def __new__(cls, key: Any, drawn: DrawnAt) -> SingleKey:
        made = super().__new__(cls, key)
        made.drawn, made.asked = drawn, Counter()
        return made

    def __reduce__(self) -> tuple:
        return _arrived, (type(self), int(self), self.drawn)


Carrier = BatchKeys | BatchKeysTuple | BatchKeysArray | BatchKeysTensor | SingleKey
_CARRIERS: tuple[tuple[Any, Any], ...] = (
    (tuple, BatchKeysTuple),
    ((list, range), BatchKeys),
    (np.ndarray, BatchKeysArray),
    (Tensor, BatchKeysTensor),
    ((int, np.integer), SingleKey),
)


def carrying(keys: Keys, drawn: DrawnAt) -> Keys:
    """``keys`` of the same type, carrying ``drawn``; unchanged for types that cannot carry it (str, dict)."""
    for kind, carrier in _CARRIERS:
        if isinstance(keys, kind) and not isinstance(keys, bool):
            return carrier(keys, drawn)
    return keys


def _arrived(carrier: Callable[[Keys, DrawnAt], Keys], keys: Keys, drawn: DrawnAt) -> Keys:
    """Unpickles keys: in a worker this happens just before it loads their samples, so generator states are recorded."""
    if get_worker_info() is not None:
        global_draws.note()
    return carrier(keys, drawn)


def numbers(keys: Keys) -> list[int] | None:
    """The dataset indices in a sampler's keys, or of one key, as a list of int; None where they are not integers."""
    return [keys.__index__()] if _is_integer(keys) else integers(keys)


def _is_integer(key: object) -> bool:
    """Whether a key is one integer; also an array or tensor of 0 dimensions (of one element and more, it is a list)."""
    return hasattr(key, "__index__") and getattr(key, "ndim", 0) == 0


class Token(NamedTuple):
    """Identifies the fetcher that loaded a batch.

    loader: the same number for all workers of one iterator (in the main process the serial number of the fetcher).
    worker: worker id, −1 in the main process. fetcher: process id, and serial number of the fetcher in that process.
    persistent: whether the loader has ``persistent_workers=True``.
    """

    loader: int
    worker: int
    fetcher: tuple[int, int]
    persistent: bool = False


class Origin(NamedTuple):
    """Where a batch came from.

    index: the sampler's indices, None for iterable datasets and keys that are not integers. token: the fetcher. drawn:
    the pass, None where the sampler is not smartaug's. drew: a worker's global generators changed while it loaded this
    batch or an earlier one, see `global_draws`. task: torch's number of the batch in the pass, None in the main
    process.
    """

    index: list[int] | None  # type: ignore[assignment]  # shadows tuple.index
    token: Token
    drawn: DrawnAt | None = None
    drew: bool = False
    task: int | None = None


_tokens: WeakKeyDictionary[_BaseDatasetFetcher, Token] = WeakKeyDictionary()
_made = 0


def origin() -> Origin | None:
    """The origin of the batch being collated, or None when no torch loader is collating."""
    frame = _fetching()
    if frame is None:
        return None
    fetcher, keys = frame.f_locals["self"], frame.f_locals["possibly_batched_index"]
    indexed = fetcher.auto_collation and not isinstance(fetcher, _IterableDatasetFetcher)
    loop = None if get_worker_info() is None or frame.f_back is None else frame.f_back.f_locals
    task = None if loop is None else loop.get("idx")
    return Origin(integers(keys) if indexed else None, _token(frame), getattr(keys, "drawn", None), task=task)


def token() -> Token | None:
    """The token of the fetcher that is loading the current sample, or None when no torch loader is loading."""
    frame = _fetching()
    return None if frame is None else _token(frame)


def streams() -> bool:
    """Whether a torch loader is loading from an `IterableDataset`."""
    frame = _fetching()
    return frame is not None and isinstance(frame.f_locals["self"], _IterableDatasetFetcher)


def batch_keys() -> tuple[Carrier | None, Any]:
    """The keys of the batch being loaded, and the dataset of the loader.

    (None, None) where no torch loader is loading, or the keys do not carry a pass.
    """
    frame = _fetching()
    keys = None if frame is None else frame.f_locals["possibly_batched_index"]
    if frame is None or not isinstance(keys, Carrier):
        return None, None
    return keys, frame.f_locals["self"].dataset


def _fetching() -> FrameType | None:
    """The frame of the fetcher's `fetch` further up the stack, or None."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "fetch" and isinstance(frame.f_locals.get("self"), _BaseDatasetFetcher):
            return frame
        frame = frame.f_back
    return None


def asker() -> object:
    """The ``self`` two frames up: the fetcher, where torch called the ``__getitems__`` that calls this."""
    return sys._getframe(2).f_locals.get("self")


class Beginning(NamedTuple):
    """A pass that torch is beginning: in a worker, or in the main process, where loader is as in `Token`."""

    worker: bool
    loader: int = 0


def beginning() -> Beginning | None:
    """The pass that torch begins now, or None; to be called two calls below ``isinstance(dataset, ...)``.

    torch checks the class of its dataset once when an iterator with workers begins a pass, and once in each worker when
    the worker starts or resumes for another pass.
    """
    frame: FrameType | None = sys._getframe(3)
    for _ in range(3):  # isinstance goes through Python where the class asked for is abstract
        if frame is None:
            return None
        name, where = frame.f_code.co_name, frame.f_globals.get("__name__")
        if name == "_worker_loop" and where == "torch.utils.data._utils.worker":
            return Beginning(worker=True)
        if name == "_reset" and where == "torch.utils.data.dataloader":
            iterator = frame.f_locals["self"]
            queue = getattr(iterator, "_worker_result_queue", None)
            return None if queue is None else Beginning(False, _pipe(queue, iterator._base_seed))
        frame = frame.f_back
    return None


def integers(keys: Keys) -> list[int] | None:
    """A sampler's keys as a list of int; None for keys of another kind (strings, tuples), and for a single key."""
    listed = keys.tolist() if hasattr(keys, "tolist") else keys
    if not hasattr(listed, "__iter__"):
        return None
    listed = list(listed)
    if set(map(type, listed)) <= {int}:
        return listed
    return [int(key) for key in listed] if all(hasattr(key, "__index__") for key in listed) else None


def _token(frame: FrameType) -> Token:
    """The token of the fetcher whose `fetch` runs in ``frame``."""
    global _made
    fetcher = frame.f_locals["self"]
    known = _tokens.get(fetcher)
    if known is None:
        serial, _made = _made, _made + 1
        worker, loop = get_worker_info(), frame.f_back
        if worker is None:
            known = Token(serial, -1, (os.getpid(), serial))
        else:
            own = {} if loop is None else loop.f_locals
            pipe = _pipe(own.get("data_queue"), worker.seed - worker.id)
            known = Token(pipe, worker.id, (os.getpid(), serial), bool(own.get("persistent_workers", False)))
        _tokens[fetcher] = known
    return known


def _pipe(queue: Any, seed: int) -> int:
    """A number that identifies an iterator of torch's in all its processes: the inode of the pipe of its results.

    Where pipes have no inode (Windows): ``seed``, the base seed of the iterator.
    """
    try:
        return os.fstat(queue._writer.fileno()).st_ino
    except (AttributeError, OSError):
        return seed
