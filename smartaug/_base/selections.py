"""The selection of an epoch: sample indices and weights, validated, and looked up by sample index."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

K = TypeVar("K")
V = TypeVar("V")

_KEPT = 4  # epochs in use at the same time: workers prefetch, and there may be two iterators


class LastFew(dict[K, V]):
    """A dict that drops its oldest entries beyond four."""

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        while len(self) > _KEPT:
            del self[next(iter(self))]


class Selection:
    """The samples of one epoch. indices: (k,) int64 without repeats; weights: (k,) float32 with mean 1, or None."""

    def __init__(self, indices: Tensor, weights: Tensor | None) -> None:
        self.indices, self.weights = indices, weights

    @cached_property
    def _sorted(self) -> tuple[Tensor, Tensor]:
        return torch.sort(self.indices)

    def _places(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Positions (B,) of the samples ``index`` (B,) in ``indices``, and (B,) bool whether they occur; for k ≥ 1."""
        values, order = self._sorted
        place = torch.searchsorted(values, index).clamp_max(len(order) - 1)
        return order[place], values[place] == index

    def holds(self, index: Tensor) -> Tensor:
        """(B,) bool: which of the samples ``index`` (B,) are selected."""
        return self._places(index)[1] if len(self.indices) else torch.zeros(len(index), dtype=torch.bool, device="cpu")

    def weight_of(self, index: Tensor) -> Tensor | None:
        """Weights (B,) float32 of the samples ``index`` (B,), 1 for samples not selected; None without weights."""
        if self.weights is None or not len(self.indices):
            return None
        place, there = self._places(index)
        return torch.where(there, self.weights[place], 1.0)


def checked_indices(indices: Tensor | Iterable[int], size: int | None) -> Tensor:
    """``indices`` as (k,) int64 on the CPU.

    Raises ValueError unless they are distinct integers in 0..size-1 (with size=None: ≥ 0).
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
    return indices


def checked_weights(weights: Tensor | Iterable[float], count: int) -> Tensor:
    """``weights`` as (count,) float64 on the CPU; raises ValueError unless finite, ≥ 0 and of positive sum."""
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
    """A `Selection` of validated indices and weights; ValueError as in `checked_indices` and `checked_weights`.

    scale: scale the weights to mean 1; False keeps them. size: number of samples in the dataset, None when unknown.
    """
    indices = checked_indices(indices, size)
    if weights is None:
        return Selection(indices, None)
    weights = checked_weights(weights, len(indices))
    return Selection(indices, (weights / weights.mean() if scale else weights).to(torch.float32))
