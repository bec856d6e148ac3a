"""What an epoch selects: checked, remembered for batches that are still on their way, and looked up by index."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from .._base import ranks


@runtime_checkable
class CoresetLike(Protocol):
    """What ``coreset=`` takes: which samples an epoch trains on.

    Optional: ``apply`` ("train", "augment" or "append", see `Coreset`; without it "train"); ``varies``, whether the
    number of samples differs between epochs, then ``budget(size, epoch)`` is asked; ``rescales``, whether weights are
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


class Selection:
    """What an epoch selects. indices: (k,) int64, each once; weights: (k,) float32 with mean 1, or None."""

    def __init__(self, indices: Tensor, weights: Tensor | None) -> None:
        self.indices, self.weights = indices, weights

    @cached_property
    def _sorted(self) -> tuple[Tensor, Tensor]:
        return torch.sort(self.indices)

    def _places(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Where the samples ``index`` (B,) are among the selected, and whether they are; for k ≥ 1."""
        values, order = self._sorted
        place = torch.searchsorted(values, index).clamp_max(len(order) - 1)
        return order[place], values[place] == index

    def holds(self, index: Tensor) -> Tensor:
        """(B,) bool: which of the samples ``index`` (B,) are selected."""
        return self._places(index)[1] if len(self.indices) else torch.zeros(len(index), dtype=torch.bool, device="cpu")

    def weight_of(self, index: Tensor) -> Tensor | None:
        """Weights (B,) float32 of the samples ``index`` (B,), 1 for others; None when there are none."""
        if self.weights is None or not len(self.indices):
            return None
        place, there = self._places(index)
        return torch.where(there, self.weights[place], 1.0)


class Selections:
    """The selections of a coreset over ``size`` samples, made when first asked for. seed: a number or what gives it.

    Under `torch.distributed` rank 0's seed counts, and every rank must ask for the same epochs.
    """

    _KEPT = 4

    def __init__(self, coreset: Any, size: int, seed: int | Callable[[], int]) -> None:
        self.coreset, self.size, self._seed = coreset, size, seed
        self._known: dict[int, Selection] = {}
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
        """How many samples ``epoch`` selects: what it did select where that is known."""
        if not self.varies:
            return int(self.coreset.budget(self.size))
        known = self._known.get(epoch)
        return int(self.coreset.budget(self.size, epoch)) if known is None else len(known.indices)

    def of(self, epoch: int) -> Selection:
        """What ``epoch`` selects; raises TypeError or ValueError when the coreset made something else."""
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
            while len(self._known) > self._KEPT:
                del self._known[next(iter(self._known))]
        return self._known[epoch]

    def forget(self) -> None:
        """Ask the coreset again: its state was loaded."""
        self._known.clear()


def checked_selection(indices: Any, weights: Any, size: int | None, scale: bool = True) -> Selection:
    """Indices and weights as tensors, weights with mean 1; raises ValueError saying what is wrong with them.

    scale=False keeps the weights as they are.
    """
    indices = indices if isinstance(indices, Tensor) else torch.tensor(list(indices), device="cpu")
    if not indices.numel():
        indices = indices.to(torch.int64)
    if indices.ndim != 1 or indices.is_floating_point() or indices.dtype == torch.bool or bool((indices < 0).any()):
        raise ValueError(
            f"the selected indices must be integers ≥ 0 of shape (k,), got {indices.dtype} {tuple(indices.shape)}"
            + ("; of a mask take mask.nonzero().flatten()" if indices.dtype == torch.bool else "")
        )
    indices = indices.to("cpu", torch.int64)
    if size is not None and len(indices) and int(indices.max()) >= size:
        raise ValueError(f"index {int(indices.max())} is selected from a dataset of {size} samples")
    if len(indices.unique()) != len(indices):
        raise ValueError("the selected indices repeat some samples; select each once and give it a weight")
    if weights is None:
        return Selection(indices, None)
    weights = weights if isinstance(weights, Tensor) else torch.tensor(list(weights), device="cpu")
    weights = weights.to("cpu", torch.float64)
    usable = weights.shape == indices.shape and bool((torch.isfinite(weights) & (weights >= 0)).all())
    if not usable or (len(weights) and not bool(weights.sum() > 0)):
        raise ValueError(
            f"weights must be {len(indices)} finite numbers ≥ 0 with a positive sum, one for each selected index, "
            f"got shape {tuple(weights.shape)}"
        )
    return Selection(indices, (weights / weights.mean() if scale else weights).to(torch.float32))
