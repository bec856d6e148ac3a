"""The epoch of a pass over a dataset under torch's own loader, the same in all worker processes.

`smartaug.DataLoader` sends the epoch with the indices (see `_base.torch_fetch`); under torch's loader only the dataset
is under our control. A table in shared memory holds the epoch of each pass. A pass is identified by its iterator (all
of its processes share one pipe, whose inode is the same in each) and by its number among that iterator's passes.

The passes are counted where torch runs ``isinstance(dataset, IterableDataset)``, once per pass in the main process and
in each worker (`begins`). So persistent workers also count the passes in which they load nothing. torch runs it only on
the dataset that the loader was given. Where that is a wrapper (Subset), a worker that is not persistent serves a single
pass. A persistent one recognises a new pass only by `set_next`, which must be called before each pass; otherwise the
worker raises RuntimeError.

The table is a log: rows of (owner, iterator, pass, epoch), where owner is the process that iterates (ranks that share
memory count by themselves); then the place of the next row and how often `set_next` was called.
"""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.context import get_spawning_popen
from typing import Any

import torch
from torch.utils.data import get_worker_info

from ..._base.torch_fetch import Token, beginning, token

_ROWS = 256  # with two rows an epoch, enough for 128 ranks in one shared memory
_NEXT = -1  # in the column of the iterator: a row written by `set_next`
_MAIN = -2  # in the column of the iterator: a pass in the main process, whose number is that of its fetcher
_BY_NEXT = 1 << 32  # added to the number of a pass that is counted by the calls of `set_next`


class SharedEpoch:
    """Numbers the passes over one dataset. Worker processes to which it is sent share the numbers.

    The first pass is epoch 0, and each new pass the next epoch, unless ``set_next`` gave another. Outside of a torch
    loader `current` is the epoch given by ``set_next`` last, or that of the latest pass. A copy, or an object pickled
    for anything but a new process, counts separately.
    """

    def __init__(self) -> None:
        self._table = torch.zeros(_ROWS + 1, 4, dtype=torch.int64, device="cpu").share_memory_()
        # allow_none, since without it this call would fix the start method, which is the choice of the user
        method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
        self._set_up(forked=method == "fork")

    def _set_up(self, forked: bool) -> None:
        # a lock of the fork context cannot be sent to a spawned process; one of the spawn context starts a helper
        self._only_for_forks = forked
        self._lock = multiprocessing.get_context("fork" if forked else "spawn").Lock()
        self._forget()

    def _forget(self) -> None:
        """Reset what is not shared with other processes."""
        self._seen: tuple[Token | None, int] = (None, 0)  # the pass this process is in, and its epoch
        self._begun: dict[int, int] = {}  # in the main process: iterator -> passes begun
        self._worker_passes = 0  # in a worker: passes counted by `begins`
        self._by_next = -1  # in a worker: how often `set_next` had been called when its latest pass began

    def set_next(self, epoch: int) -> None:
        """The next pass that this process begins is epoch ``epoch``."""
        with self._lock:
            self._table[_ROWS, 1] += 1
            self._enter(os.getpid(), _NEXT, 0, int(epoch))

    def begins(self) -> None:
        """Count a pass, where the caller is torch's loader as it begins one and checks the class of the dataset."""
        begun = beginning()
        if begun is None:
            return
        if begun.worker:
            self._worker_passes += 1
            return
        number = self._begun.pop(begun.loader, 0) + 1
        self._begun[begun.loader] = number
        if len(self._begun) > _ROWS:
            del self._begun[next(iter(self._begun))]
        with self._lock:
            self._epoch_of(os.getpid(), begun.loader, number)

    def current(self) -> int:
        """The epoch of the running pass: that of the torch loader among the callers, in a worker or the main process.

        Raises RuntimeError in a worker that cannot determine its pass.
        """
        loading, owner = token(), _owner()
        if loading is None:
            return max(self._latest(owner)[1], 0)
        if self._seen[0] != loading:
            with self._lock:
                self._seen = loading, self._epoch_of(owner, *self._pass(loading))
        return self._seen[1]

    def _pass(self, loading: Token) -> tuple[int, int]:
        """The iterator, and the number of its pass, for which this process is loading a sample."""
        if loading.worker < 0:
            return _MAIN, loading.fetcher[1]
        if self._worker_passes:
            return loading.loader, self._worker_passes
        if not loading.persistent:
            return loading.loader, 1
        said = int(self._table[_ROWS, 1])
        if said == self._by_next:
            raise RuntimeError(
                "this AugmentedDataset lies inside another dataset, and its worker persists, so it cannot know which "
                "pass torch's DataLoader is in; call set_epoch(epoch) on the AugmentedDataset before each pass, put "
                "it outside: AugmentedDataset(Subset(dataset, indices), transform), or use smartaug.DataLoader"
            )
        self._by_next = said
        return loading.loader, _BY_NEXT + said

    def _epoch_of(self, owner: int, iterator: int, number: int) -> int:
        """The epoch of a pass; entered in the table if it is not there yet."""
        rows = self._table[:_ROWS].tolist()
        for row in rows:
            if row[:3] == [owner, iterator, number]:
                return int(row[3])
        said, epoch = self._latest(owner)
        epoch = epoch if said else epoch + 1
        self._enter(owner, iterator, number, epoch)
        return epoch

    def _latest(self, owner: int) -> tuple[bool, int]:
        """The newest row of ``owner``: whether `set_next` wrote it, and its epoch, −1 where there is no row."""
        rows, end = self._table.tolist(), int(self._table[_ROWS, 0])
        for age in range(1, _ROWS + 1):
            row = rows[(end - age) % _ROWS]
            if row[0] == owner:
                return row[1] == _NEXT, row[3]
        return False, -1

    def _enter(self, *row: int) -> None:
        end = int(self._table[_ROWS, 0])
        self._table[end % _ROWS] = torch.tensor(row, device="cpu")
        self._table[_ROWS, 0] = end + 1

    def __getstate__(self) -> dict[str, Any]:
        if get_spawning_popen() is None:
            return {"epoch": self._latest(os.getpid())}
        if self._only_for_forks:
            begun = self._begun
            self._set_up(forked=False)
            self._begun = begun
        return {"table": self._table, "lock": self._lock}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "epoch" in state:
            SharedEpoch.__init__(self)
            said, epoch = state["epoch"]
            if epoch >= 0:
                self._enter(os.getpid(), _NEXT if said else 0, 0, epoch)
            return
        self._table, self._lock, self._only_for_forks = state["table"], state["lock"], False
        self._forget()


def _owner() -> int:
    """The id of the process that iterates: this one, or in a worker its parent."""
    parent = multiprocessing.parent_process()
    if get_worker_info() is None or parent is None:
        return os.getpid()
    return parent.pid or 0
