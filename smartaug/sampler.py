"""`CoresetSampler`: draws only selected samples, and knows their weights.

What: a sampler over given indices, or over what a coreset selects for each epoch. When: training on a subset, with this
loader (``coreset=``) or alone with torch's. Cost: one permutation of the subset per epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Sampler

from . import draws
from .fetch import Passes
from .pipeline import CoresetLike


class Selection(NamedTuple):
    """What an epoch draws. indices: (k,) int64, each once; weights: (k,) float32 with mean 1, or None."""

    indices: Tensor
    weights: Tensor | None

    def weight_of(self, index: Tensor) -> Tensor | None:
        """Weights (B,) float32 of the samples ``index`` (B,), 1 for others; None when there are none."""
        if self.weights is None or not len(self.indices):
            return None
        order = torch.argsort(self.indices)
        place = order[torch.searchsorted(self.indices[order], index).clamp_max(len(order) - 1)]
        return torch.where(self.indices[place] == index, self.weights[place], 1.0)


class CoresetSampler(Sampler[int]):
    """Draws the selected samples once per epoch, shuffled by (seed, epoch) and never by the global generator.

    selected: dataset indices (k,) of integers, each once, or a coreset that selects for every epoch. weights: (k,)
    finite floats ≥ 0 for given indices, scaled to mean 1, or None; `smartaug.DataLoader` puts them into
    ``Target.weight`` (torch's loader has no place for them). size: the dataset's length, needed with a coreset. seed:
    an integer, or a function that gives one at the first pass. The epoch is counted, or what ``set_epoch`` said last;
    passes: what counts it when that is somebody else's.

    Raises ValueError for indices that are negative, repeated or beyond ``size``, weights of another length or not
    finite, and a coreset without a size.
    """

    _KEPT = 4  # selections remembered, for batches that are still on their way

    def __init__(
        self,
        selected: Sequence[int] | Tensor | CoresetLike,
        weights: Sequence[float] | Tensor | None = None,
        *,
        size: int | None = None,
        shuffle: bool = True,
        seed: int | Callable[[], int] = 0,
        passes: Passes | None = None,
    ) -> None:
        self.shuffle, self.seed, self.size = shuffle, seed, size
        self._counts, self._passes = passes is None, passes or Passes()
        self._selections: dict[int, Selection] = {}
        self.coreset: CoresetLike | None = None
        self._given: Selection | None = None
        if not isinstance(selected, CoresetLike):
            self._given = checked_selection(selected, weights, size)
        elif size is None or weights is not None:
            raise ValueError(
                "a coreset chooses its own weights and needs the dataset's length: "
                "CoresetSampler(coreset, size=len(dataset))"
            )
        else:
            self.coreset = selected

    @property
    def epoch(self) -> int:
        """The epoch of the next pass."""
        return self._passes.upcoming

    def set_epoch(self, epoch: int) -> None:
        """The next pass is epoch ``epoch``."""
        self._passes.tell(epoch)

    @property
    def weighted(self) -> bool:
        """Whether there may be weights to deliver."""
        return self.coreset is not None or (self._given is not None and self._given.weights is not None)

    def __len__(self) -> int:
        return (
            self.coreset.budget(self.size or 0) if self._given is None and self.coreset else len(self.selection(0)[0])
        )

    def __iter__(self) -> Iterator[int]:
        epoch = self._passes.begin().epoch if self._counts else self._passes.upcoming
        order = self.selection(epoch).indices
        if self.shuffle:
            order = order[draws.permutation(draws.key(self._seed(), epoch, torch.arange(len(order), device="cpu")))]
        yield from order.tolist()

    def selection(self, epoch: int) -> Selection:
        """What ``epoch`` draws; selected when first asked for."""
        if self._given is not None or self.coreset is None:
            return self._given or Selection(torch.empty(0, dtype=torch.int64, device="cpu"), None)
        if epoch not in self._selections:
            size = self.size or 0
            made: Any = self.coreset.selection(epoch, size, self._seed())
            if not isinstance(made, tuple) or len(made) != 2:
                raise TypeError(f"{self.coreset!r} must select (indices, weights), it returned {type(made).__name__}")
            selection = checked_selection(*made, size)
            if len(selection.indices) != self.coreset.budget(size):
                raise ValueError(
                    f"{self.coreset!r} selected {len(selection.indices)} samples of a budget of "
                    f"{self.coreset.budget(size)}; every epoch must have the same number"
                )
            self._selections[epoch] = selection
            while len(self._selections) > self._KEPT:
                del self._selections[next(iter(self._selections))]
        return self._selections[epoch]

    def weight_of(self, index: Tensor, epoch: int) -> Tensor | None:
        """Weights (B,) float32 of the samples ``index`` (B,) drawn in ``epoch``, or None when there are none."""
        return self.selection(epoch).weight_of(index)

    def _seed(self) -> int:
        return self.seed() if callable(self.seed) else self.seed

    def __repr__(self) -> str:
        what: Any = self.coreset if self.coreset is not None else f"{len(self)} indices"
        return f"CoresetSampler({what}, shuffle={self.shuffle})"


def checked_selection(indices: Any, weights: Any, size: int | None) -> Selection:
    """Indices and weights as tensors, weights with mean 1; raises ValueError saying what is wrong with them."""
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
    return Selection(indices, (weights / weights.mean()).to(torch.float32))
