"""`CoresetSampler`: draws only selected samples, and knows their weights.

What: a sampler over given indices, or over what a coreset selects for each epoch. When: training on a subset, with this
loader (``coreset=``) or alone with torch's. Cost: one permutation of the subset per epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler

from . import draws
from .fetch import Passes
from .pipeline import CoresetLike


class CoresetSampler(Sampler[int]):
    """Draws the selected samples once per epoch, shuffled by (seed, epoch) and never by the global generator.

    selected: dataset indices (k,) of integers, or a coreset that selects for every epoch. weights: (k,) non-negative
    floats for given indices, scaled to mean 1, or None; `smartaug.DataLoader` puts them into ``Target.weight``. size:
    the dataset's length, needed with a coreset. The epoch is counted, or what ``set_epoch`` said last.

    Raises ValueError for negative indices, weights of another length, and a coreset without a size.
    """

    def __init__(
        self,
        selected: Sequence[int] | Tensor | CoresetLike,
        weights: Sequence[float] | Tensor | None = None,
        *,
        size: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        self.shuffle, self.seed, self.size = shuffle, seed, size
        self.coreset = selected if isinstance(selected, CoresetLike) else None
        self._passes = Passes()
        self.indices: Tensor = torch.empty(0, dtype=torch.int64)
        self.weights: Tensor | None = None
        if isinstance(selected, CoresetLike):
            if size is None or weights is not None:
                raise ValueError(
                    "a coreset chooses its own weights and needs the dataset's length: "
                    "CoresetSampler(coreset, size=len(dataset))"
                )
        else:
            self._take(torch.as_tensor(selected), None if weights is None else torch.as_tensor(weights))

    def _take(self, indices: Tensor, weights: Tensor | None) -> None:
        if indices.ndim != 1 or indices.is_floating_point() or bool((indices < 0).any()):
            raise ValueError(
                f"the selected indices must be integers ≥ 0 of shape (k,), got {indices.dtype} {tuple(indices.shape)}"
            )
        if self.size is not None and len(indices) and int(indices.max()) >= self.size:
            raise ValueError(f"index {int(indices.max())} is selected from a dataset of {self.size} samples")
        if weights is not None:
            if weights.shape != indices.shape or bool((weights < 0).any()) or not bool(weights.sum() > 0):
                raise ValueError(
                    f"weights must be {len(indices)} numbers ≥ 0 with a positive sum, one for each selected index, "
                    f"got shape {tuple(weights.shape)}"
                )
            weights = weights.to(torch.float32) * (len(weights) / weights.sum(dtype=torch.float64)).float()
        self.indices, self.weights = indices.to(torch.int64), weights

    @property
    def epoch(self) -> int:
        """The epoch of the next pass."""
        return self._passes.upcoming

    def set_epoch(self, epoch: int) -> None:
        """The next pass is epoch ``epoch``."""
        self._passes.tell(epoch)

    def __len__(self) -> int:
        return len(self.indices) if self.coreset is None else self.coreset.budget(self.size or 0)

    def __iter__(self) -> Iterator[int]:
        epoch = self._passes.begin()
        if self.coreset is not None:
            self._take(*self.coreset.selection(epoch, self.size or 0, self.seed))
        order = self.indices
        if self.shuffle:
            order = order[draws.permutation(draws.key(self.seed, epoch, torch.arange(len(order))))]
        yield from order.tolist()

    def weight_of(self, index: Tensor) -> Tensor:
        """Weights (B,) float32 of the samples ``index`` (B,); 1 for samples that are not selected."""
        result = torch.ones(len(index))
        if self.weights is None or not len(self.indices):
            return result
        order = torch.argsort(self.indices)
        place = torch.searchsorted(self.indices[order], index).clamp_max(len(order) - 1)
        found = order[place]
        return torch.where(self.indices[found] == index, self.weights[found], result)

    def __repr__(self) -> str:
        what: Any = self.coreset if self.coreset is not None else f"{len(self.indices)} indices"
        return f"CoresetSampler({what}, shuffle={self.shuffle}, seed={self.seed})"
