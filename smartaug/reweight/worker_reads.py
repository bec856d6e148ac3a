"""Reading a dataset in a worker process, so that this process never opens what the dataset reads from.

Handles of h5py or lmdb that are open when the user's loader forks its workers are shared with them, and what they read
is garbage. So a dataset that may open files is read only in a worker process of torch's DataLoader, forked
as the user's loader does. Data in main memory (tensors, lists) is read here, and so is everything where no process
forks.
"""

from __future__ import annotations

import itertools
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, Subset, TensorDataset

T = TypeVar("T")


class _Answers(Dataset):
    """A dataset whose item n is ``ask(n)``."""

    def __init__(self, ask: Callable[[int], object]) -> None:
        self.ask = ask

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, number: int) -> object:
        return self.ask(number)


class _From(Sampler):
    """The numbers from ``first`` on, without an end."""

    def __init__(self, first: int) -> None:
        self.first = first

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.first)


def in_worker(ask: Callable[[], T], dataset: object) -> T:
    """What ``ask()`` gives, called in a worker process unless ``dataset`` can be read here."""
    if read_here(dataset):
        return ask()
    try:
        return _own(next(iter(_loader(lambda _: ask(), range(1)))))
    except RuntimeError as error:
        if not _needs_cuda(error):
            raise
        return ask()


class Stream:
    """``ask(step)`` for one step after another, computed one ahead in a worker process, or here."""

    def __init__(self, ask: Callable[[int], Any], dataset: object) -> None:
        self._ask, self._here = ask, read_here(dataset)
        self._next, self._answers = 0, iter(())  # type: int, Iterator[Any]

    def __call__(self, step: int) -> Any:
        """``ask(step)``; computed in advance where ``step`` follows the last one."""
        if self._here:
            return self._ask(step)
        try:
            if step != self._next or self._next == 0:
                self._answers = iter(_loader(self._ask, _From(step)))
            self._next = step + 1
            return _own(next(self._answers))
        except RuntimeError as error:
            if not _needs_cuda(error):
                raise
            self._here = True
            return self._ask(step)


def read_here(dataset: object) -> bool:
    """Whether reading ``dataset`` opens nothing that workers could inherit, or no worker can be had."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    in_memory = isinstance(dataset, (TensorDataset, list, tuple))
    return in_memory or sys.platform != "linux" or multiprocessing.current_process().daemon


def _loader(ask: Callable[[int], object], numbers: Iterable[int]) -> DataLoader:
    return DataLoader(
        _Answers(ask),
        batch_size=None,
        sampler=numbers,
        num_workers=1,
        prefetch_factor=1,
        collate_fn=_as_it_is,
        multiprocessing_context="fork",
        generator=torch.Generator(),  # so that nothing is drawn from torch's global one
    )


def _as_it_is(answer: T) -> T:
    return answer


def _own(answer: Any) -> Any:
    """A copy in the memory of this process: each tensor that a worker shares holds a file handle open."""
    if isinstance(answer, Tensor):
        return answer.clone()
    if isinstance(answer, dict):
        return {name: _own(part) for name, part in answer.items()}
    return tuple(map(_own, answer)) if isinstance(answer, tuple) else answer


def _needs_cuda(error: RuntimeError) -> bool:
    """Whether a forked process failed on a dataset with tensors on a GPU; the user's own workers would fail too."""
    return "CUDA in forked subprocess" in str(error)
