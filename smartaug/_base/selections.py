"""What an epoch selects: indices and weights, checked, looked up by index, and the last few of them kept."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

K = TypeVar("K")
V = TypeVar("V")

_KEPT = 4  # epochs that may be on their way at once: workers fetch ahead, and two iterators may live


class LastFew(dict[K, V]):
    """A dict that drops its oldest entries beyond four."""

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        while len(self) > _KEPT:
            del self[next(iter(self))]


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


def checked_indices(indices: Tensor | Iterable[int], size: int | None) -> Tensor:
    """(k,) int64 on the CPU; raises ValueError unless they are different integers in 0..size-1 (None: any size)."""
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
    return indices


def checked_weights(weights: Tensor | Iterable[float], count: int) -> Tensor:
    """(count,) float64 on the CPU; raises ValueError unless they are finite, ≥ 0 and of positive sum."""
    weights = weights if isinstance(weights, Tensor) else torch.tensor(list(weights), device="cpu")
    weights = weights.to("cpu", torch.float64)
    usable = weights.shape == (count,) and bool((torch.isfinite(weights) & (weights >= 0)).all())
    if not usable or (len(weights) and not bool(weights.sum() > 0)):
        raise ValueError(
            f"weights must be {count} finite numbers ≥ 0 with a positive sum, one for each selected index, "
            f"got shape {tuple(weights.shape)}"
        )
    return weights


def checked_selection(
    indices: Tensor | Iterable[int], weights: Tensor | Iterable[float] | None, size: int | None, scale: bool = True
) -> Selection:
    """Indices and weights as tensors, weights with mean 1; raises ValueError saying what is wrong with them.

    scale=False keeps the weights as they are.
    """
    indices = checked_indices(indices, size)
    if weights is None:
        return Selection(indices, None)
    weights = checked_weights(weights, len(indices))
    return Selection(indices, (weights / weights.mean() if scale else weights).to(torch.float32))
