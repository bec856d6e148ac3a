"""What we read from torch's private fetcher: the indices of the batch being loaded, its pass, and its worker.

torch hands a collate function the samples, not their indices. They are known one frame up, in the `fetch` method of the
loader's fetcher, in the main process as in a worker, whatever sampler, framework or wrapper made the call. Our own
loader hands its batches' indices over as `BatchKeys`, which say in what epoch they were drawn: however a dataset is
wrapped, code that loads a sample finds them here.

Where the sampler and the loader are out of our hands, two things tell passes apart: torch makes a fetcher anew for
every pass, and an iterator of torch's with workers has a pipe of its own through which all of them answer.
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
    """The pass in which a batch's indices were drawn from the sampler, as the main process sends it with them.

    number: of the pass, in the process that iterates. epoch: of that pass. seed: of the loader's stages. before: how
    often each sample came before in the pass; None where all come for the first time. plain: nothing is augmented.
    """

    number: int
    epoch: int
    seed: int
    before: list[int] | None = None
    plain: bool = False


class BatchKeys(list):
    """A batch's keys as the sampler gave them, on their way to a worker; ``drawn`` says in which pass.

    asked: how often each sample was loaded in this call, and under None how often the transforms that stay per sample
    were called.
    """

    def __init__(self, keys: Iterable[Any], drawn: DrawnAt) -> None:
        super().__init__(keys)
        self.drawn = drawn
        self.asked: Counter[Any] = Counter()

    def __reduce__(self) -> tuple:
        return _arrived, (type(self), list(self), self.drawn)


class BatchKeysTuple(tuple):
    """The same, from batch samplers that give tuples."""

    drawn: DrawnAt
    asked: Counter[Any]

    def __new__(cls, keys: Iterable[Any], drawn: DrawnAt) -> BatchKeysTuple:
        made = super().__new__(cls, keys)
        made.drawn, made.asked = drawn, Counter()
        return made

    def __reduce__(self) -> tuple:
        return _arrived, (type(self), tuple(self), self.drawn)


class BatchKeysArray(np.ndarray):
    """The same, from samplers that give arrays."""

    drawn: DrawnAt
    asked: Counter[Any]

    def __new__(cls, keys: np.ndarray, drawn: DrawnAt) -> BatchKeysArray:
        made = keys.view(cls)
        made.drawn, made.asked = drawn, Counter()
        return made

    def __reduce__(self) -> tuple:
        return _arrived, (type(self), np.asarray(self), self.drawn)


class BatchKeysTensor(Tensor):
    """The same, from samplers that give tensors. What is computed with it is a plain tensor."""

    drawn: DrawnAt
    asked: Counter[Any]
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, keys: Tensor, drawn: DrawnAt) -> BatchKeysTensor:
        made = keys.as_subclass(cls)
        made.drawn, made.asked = drawn, Counter()
        return made

    def __init__(self, keys: Tensor, drawn: DrawnAt) -> None:
        pass

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple:
        return _arrived, (type(self), self.as_subclass(Tensor), self.drawn)


class SingleKey(int):
    """The same for a loader that does not batch (``batch_size=None``)."""

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
    """``keys`` with ``drawn`` on them; as they are where they are of a kind that can carry nothing (str, dict)."""
    for kind, carrier in _CARRIERS:
        if isinstance(keys, kind) and not isinstance(keys, bool):
            return carrier(keys, drawn)
    return keys


def _arrived(carrier: Callable[[Keys, DrawnAt], Keys], keys: Keys, drawn: DrawnAt) -> Keys:
    """Keys that come out of a pipe, in a worker just before it loads their samples."""
    if get_worker_info() is not None:
        global_draws.note()
    return carrier(keys, drawn)


def numbers(keys: Keys) -> list[int] | None:
    """The dataset indices in a sampler's keys, of a single key, too; None where they are no integers."""
    return [keys.__index__()] if _is_integer(keys) else integers(keys)


def _is_integer(key: object) -> bool:
    """Also of arrays and tensors without dimensions; those of one element have ``__index__``, too."""
    return hasattr(key, "__index__") and getattr(key, "ndim", 0) == 0


class Token(NamedTuple):
    """Names the fetcher that made a batch.

    loader: equal for all workers of one iterator of torch's (in the main process the fetcher's own number).
    worker: worker id, −1 in the main process. fetcher: process id and serial number of the fetcher in that process.
    persistent: whether the worker serves several passes.
    """

    loader: int
    worker: int
    fetcher: tuple[int, int]
    persistent: bool = False


class Origin(NamedTuple):
    """Where a batch came from: the sampler's indices (None: iterable datasets, keys that are no integers), who loaded
    it, and when it was drawn (None: by a sampler that is not ours). drew: a worker's global generators changed while it
    loaded this batch or an earlier one; see `global_draws`. task: the batch's number in the pass, as torch told the
    worker; None in the main process."""

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
    """Names the fetcher that a sample is being loaded for, or None when no torch loader is loading."""
    frame = _fetching()
    return None if frame is None else _token(frame)


def streams() -> bool:
    """Whether a torch loader is loading, and its dataset is a stream (`IterableDataset`)."""
    frame = _fetching()
    return frame is not None and isinstance(frame.f_locals["self"], _IterableDatasetFetcher)


def batch_keys() -> tuple[Carrier | None, Any]:
    """The keys of the batch that a sample is being loaded for, where they say when they were drawn, and the dataset
    that the loader asks; (None, None) without."""
    frame = _fetching()
    keys = None if frame is None else frame.f_locals["possibly_batched_index"]
    if frame is None or not isinstance(keys, Carrier):
        return None, None
    return keys, frame.f_locals["self"].dataset


def _fetching() -> FrameType | None:
    """The frame of the fetcher's `fetch` that is running further up the stack; None without."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "fetch" and isinstance(frame.f_locals.get("self"), _BaseDatasetFetcher):
            return frame
        frame = frame.f_back
    return None


def asker() -> object:
    """The object whose method calls the method that calls this: the fetcher, where torch asks for ``__getitems__``."""
    return sys._getframe(2).f_locals.get("self")


class Beginning(NamedTuple):
    """A pass of torch's that is beginning: in the main process (then loader names the iterator), or in a worker."""

    worker: bool
    loader: int = 0


def beginning() -> Beginning | None:
    """The pass that torch begins just now, asked two calls below ``isinstance(dataset, ...)``, else None.

    torch looks at the class of the dataset it loads from once when an iterator with workers begins a pass, and once in
    each worker when it starts and when it is told that another pass begins.
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
    """Names an iterator of torch's by the pipe that its workers answer through: the system numbers pipes, and all of
    these processes hold the same one. Where pipes have no number (Windows): by the iterator's base seed."""
    try:
        return os.fstat(queue._writer.fileno()).st_ino
    except (AttributeError, OSError):
        return seed
