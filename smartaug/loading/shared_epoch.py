"""Which epoch a pass over a data set is, agreed on by all the worker processes that load it.

Workers know their pass by what torch gives them: the base seed of the pass, the same in all its workers, and the
fetcher, which persistent workers get anew for every pass. A table in shared memory says which epoch that pass is; the
worker that comes first enters it. So it does not matter whether workers were forked or spawned, whether they persist,
how many they are, and whether somebody says the epoch.

The table is a log: rows of (owner, pass, fetcher, epoch), where owner is the process that iterates (ranks that share
memory count by themselves), and the place of the next row.
"""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.context import get_spawning_popen
from typing import Any

import torch
from torch.utils.data import get_worker_info

from .._torch_fetch import token

_ROWS = 256  # with two rows an epoch, enough for 128 ranks in one shared memory
_TOLD = -1  # in the place of the pass: this row is what `tell` said


class SharedEpoch:
    """Numbers the passes over one data set; the object is shared with the workers it is sent to.

    The first pass is epoch 0, each new one the next, or what ``tell`` said since. Outside of a torch loader `current`
    is what was told last, else the epoch of the latest pass. A copy or an ordinary pickle counts by itself.
    """

    def __init__(self) -> None:
        self._table = torch.zeros(_ROWS + 1, 4, dtype=torch.int64, device="cpu").share_memory_()
        # asking for the method with allow_none, since to fix one here would take the choice from the user
        method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
        self._set_up(forked=method == "fork")

    def _set_up(self, forked: bool) -> None:
        # a lock made for forking cannot be sent to a spawned process; that of the other kind starts a helper process
        self._only_for_forks = forked
        self._lock = multiprocessing.get_context("fork" if forked else "spawn").Lock()
        self._seen: tuple[Any, int] = (None, 0)  # the pass this process is in, and its epoch

    def tell(self, epoch: int) -> None:
        """The next pass that this process begins is epoch ``epoch``."""
        with self._lock:
            self._enter(os.getpid(), _TOLD, 0, int(epoch))

    def current(self) -> int:
        """The epoch of the pass that asks: of the torch loader further up the stack, in a worker or not."""
        owner, place, serial = _pass()
        if place is None:
            return max(self._latest(owner)[1], 0)
        if self._seen[0] != (owner, place, serial):
            with self._lock:
                self._seen = (owner, place, serial), self._begun(owner, place, serial)
        return self._seen[1]

    def _begun(self, owner: int, place: int, serial: int) -> int:
        """The epoch of that pass, which begins now unless another worker was here."""
        rows = self._table[:_ROWS].tolist()
        for row in rows:
            if row[:3] == [owner, place, serial]:
                return int(row[3])
        told, epoch = self._latest(owner)
        epoch = epoch if told else epoch + 1
        self._enter(owner, place, serial, epoch)
        return epoch

    def _latest(self, owner: int) -> tuple[bool, int]:
        """Was it told, and which epoch: the newest row of ``owner``; −1 when there is none."""
        rows, end = self._table.tolist(), int(self._table[_ROWS, 0])
        for age in range(1, _ROWS + 1):
            row = rows[(end - age) % _ROWS]
            if row[0] == owner:
                return row[1] == _TOLD, row[3]
        return False, -1

    def _enter(self, *row: int) -> None:
        end = int(self._table[_ROWS, 0])
        self._table[end % _ROWS] = torch.tensor(row, device="cpu")
        self._table[_ROWS, 0] = end + 1

    def __getstate__(self) -> dict[str, Any]:
        if get_spawning_popen() is None:
            return {"epoch": self._latest(os.getpid())}
        if self._only_for_forks:
            self._set_up(forked=False)
        return {"table": self._table, "lock": self._lock}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "epoch" in state:
            SharedEpoch.__init__(self)
            told, epoch = state["epoch"]
            if epoch >= 0:
                self._enter(os.getpid(), _TOLD if told else 0, 0, epoch)
            return
        self._table, self._lock = state["table"], state["lock"]
        self._only_for_forks, self._seen = False, (None, 0)


def _pass() -> tuple[int, int | None, int]:
    """The process that iterates, and which of its passes loads: (pid, base seed or −2, serial of the fetcher)."""
    worker, loading = get_worker_info(), token()
    parent = multiprocessing.parent_process()
    owner = os.getpid() if worker is None or parent is None else parent.pid or 0
    if loading is None:
        return owner, None, 0
    return owner, -2 if worker is None else loading.loader, loading.fetcher[1]
