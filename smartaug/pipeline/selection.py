"""The interface of ``coreset=``, and its selection for each epoch, computed once and cached for prefetched batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from .._base import ranks
from .._base.selections import LastFew, Selection, checked_selection


@runtime_checkable
class CoresetLike(Protocol):
    """What ``coreset=`` takes: which samples an epoch trains on.

    Optional: ``apply`` ("train", "augment" or "append", see `Coreset`; without it "train"); ``varies``, whether the
    number of samples differs between epochs, then ``budget(size, epoch)`` is called; ``rescales``, whether weights are
    used as they are and not scaled to mean 1; ``attach(dataset, collate_fn=, inputs=,
    target=)`` is called once; ``check_labels(index, target)`` sees the labels of each batch before they are mixed;
    ``observe(index, output, target, unmixed)`` receives detached outputs from `smartaug.Loss`, unmixed (B,) bool being
    the rows with their own labels, or None for all; a target whose rows were mixed is a `Target` that says of what;
    ``state_dict(record=)``/``load_state_dict(state)`` are kept in the loader's state, ``stats()`` is shown in its
    stats, ``explain()`` gives rows of its table.
    """

    def budget(self, size: int) -> int:
        """How many of ``size`` samples every epoch selects."""
        ...

    def selection(self, epoch: int, size: int, seed: int) -> tuple[Tensor, Tensor | None]:
        """``(indices, weights)`` of this epoch: (k,) int64 in 0..size-1 and (k,) float with mean 1, or None."""
        ...


class AugmentingCoreset(CoresetLike, Protocol):
    """A coreset with ``apply``, the use of its selection: "train", "augment" or "append"."""

    apply: str


class Selections:
    """The selections of a coreset over ``size`` samples, each computed at first use. seed: an int, or a callable.

    Under `torch.distributed` the seed of rank 0 is used, and every rank must call `of` with the same epochs.
    """

    def __init__(self, coreset: CoresetLike, size: int, seed: int | Callable[[], int]) -> None:
        self.coreset, self.size, self._seed = coreset, size, seed
        self._known: LastFew[int, Selection] = LastFew()
        self._agreed: int | None = None

    @property
    def varies(self) -> bool:
        """Whether the number of samples differs between epochs."""
        return bool(getattr(self.coreset, "varies", False))

    def seed(self) -> int:
        """The seed that all ranks use."""
        own = self._seed() if callable(self._seed) else self._seed
        if ranks.here()[1] == 1:
            return own
        if self._agreed is None:
            signed = (own + (1 << 63)) % (1 << 64) - (1 << 63)
            self._agreed = int(ranks.from_first(lambda: [torch.tensor(signed, device="cpu")])[0])
        return self._agreed

    def budget(self, epoch: int) -> int:
        """Number of samples that ``epoch`` selects; once the selection is computed, its length."""
        if not self.varies:
            return int(self.coreset.budget(self.size))
        known = self._known.get(epoch)
        of_epoch: Callable[..., int] = self.coreset.budget  # takes the epoch, too, where the number varies
        return int(of_epoch(self.size, epoch)) if known is None else len(known.indices)

    def of(self, epoch: int) -> Selection:
        """The selection of ``epoch``; TypeError or ValueError where the coreset returns no valid one."""
        if epoch not in self._known:
            made: Any = self.coreset.selection(epoch, self.size, self.seed())
            if not isinstance(made, tuple) or len(made) != 2:
                raise TypeError(f"{self.coreset!r} must select (indices, weights), it returned {type(made).__name__}")
            selection = checked_selection(*made, self.size, scale=not getattr(self.coreset, "rescales", False))
            if not self.varies and len(selection.indices) != self.budget(epoch):
                raise ValueError(
                    f"{self.coreset!r} selected {len(selection.indices)} samples of a budget of {self.budget(epoch)}; "
                    "every epoch must have the same number"
                )
            self._known[epoch] = selection
        return self._known[epoch]

    def forget(self) -> None:
        """Drop the cached selections, after the coreset's state was loaded."""
        self._known.clear()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._known = LastFew(self._known)  # pickles of earlier versions hold a dict
