"""`CoresetSampler`: draws only selected samples, and knows their weights.

What: a sampler over given indices, or over what a coreset selects for each epoch. When: training on a subset, with this
loader (``coreset=``) or alone with torch's. Cost: one permutation of the subset per epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DistributedSampler, Sampler

from .. import draws
from .._base import ranks
from .._base.selections import Selection, checked_selection
from ..pipeline.epochs import EpochCounter
from ..pipeline.selection import CoresetLike, Selections


class CoresetSampler(DistributedSampler):
    """Draws the selected samples once per epoch, shuffled by (seed, epoch) and never by the global generator.

    selected: dataset indices (k,) of integers, each once, or a coreset that selects for every epoch (one that only
    chooses what is augmented lets all samples be drawn). weights: (k,) finite floats ≥ 0 for given indices, scaled to
    mean 1, or None; `smartaug.DataLoader` puts them into ``Target.weight`` (torch's loader has no place for them).
    size: the dataset's length, needed with a coreset, or dataset: the dataset itself, whose labels the coreset then
    reads. seed: an integer, or a function that gives one at the first pass. The epoch is counted, or what ``set_epoch``
    said last; counter: what counts it when that is somebody else's. base: a `DistributedSampler` of the user's whose
    rank, ranks, epoch, shuffle, seed and drop_last are followed. reading: how a coreset reads the dataset, see its
    ``attach``.

    It is a `DistributedSampler` only by type, so that Lightning and Fabric leave it alone: iterating it gives the whole
    epoch, and Accelerate shards that. `part` is one rank's share; `smartaug.DataLoader` draws that under
    `torch.distributed`, and torch's own loader takes it as ``sampler=``.

    Raises ValueError for indices that are negative, repeated or beyond ``size``, weights of another length or not
    finite, and a coreset without a size.
    """

    def __init__(
        self,
        selected: Sequence[int] | Tensor | CoresetLike,
        weights: Sequence[float] | Tensor | None = None,
        *,
        size: int | None = None,
        dataset: Any = None,
        shuffle: bool = True,
        seed: int | Callable[[], int] = 0,
        counter: EpochCounter | None = None,
        base: DistributedSampler | None = None,
        reading: dict[str, Any] | None = None,
    ) -> None:
        size = len(dataset) if dataset is not None and size is None else size
        self.shuffle, self.seed, self.size = shuffle, seed, size  # type: ignore[assignment]
        self.num_replicas, self.rank, self.drop_last = 1, 0, False
        self.base = base
        if base is not None:
            self.shuffle, self.drop_last = base.shuffle, base.drop_last
        self._followed = None if base is None else base.epoch
        self._counts, self._counter = counter is None, counter or EpochCounter()
        self.coreset: CoresetLike | None = None
        self._source: Selection | Selections
        if not isinstance(selected, CoresetLike):
            self._source = checked_selection(selected, weights, size)
            return
        if size is None or weights is not None:
            raise ValueError(
                "a coreset chooses its own weights and needs the dataset's length: "
                "CoresetSampler(coreset, size=len(dataset))"
            )
        self.coreset, self._source = selected, Selections(selected, size, seed)
        if dataset is not None and hasattr(selected, "attach"):
            selected.attach(dataset, **(reading or {}))

    @property
    def epoch(self) -> int:  # type: ignore[override]
        """The epoch of the next pass."""
        self._follow()
        return self._counter.upcoming

    def set_epoch(self, epoch: int) -> None:
        """The next pass is epoch ``epoch``."""
        self._counter.set_next(epoch)
        if self.base is not None:
            self.base.set_epoch(epoch)
            self._followed = self.base.epoch

    def _follow(self) -> None:
        if self.base is not None and self.base.epoch != self._followed:
            self._followed = self.base.epoch
            self._counter.set_next(self._followed)

    @property
    def weighted(self) -> bool:
        """Whether there may be weights to deliver."""
        return self._restricts and (isinstance(self._source, Selections) or self._source.weights is not None)

    @property
    def varies(self) -> bool:
        """Whether epochs differ in length."""
        return self._restricts and isinstance(self._source, Selections) and self._source.varies

    @property
    def _restricts(self) -> bool:
        return self.coreset is None or getattr(self.coreset, "apply", "train") == "train"

    def length(self, epoch: int) -> int:
        """How many samples ``epoch`` draws; an upper bound where that is known only once it is selected."""
        if not self._restricts:
            return self.size or 0
        return self._source.budget(epoch) if isinstance(self._source, Selections) else len(self._source.indices)

    def __len__(self) -> int:
        return self.length(self.epoch)

    def __iter__(self) -> Iterator[int]:
        self._follow()
        epoch = self._counter.begin().epoch if self._counts else self._counter.upcoming
        order = self.selection(epoch).indices
        if not self._restricts:
            order = torch.arange(self.size or 0, device="cpu")
        if self.shuffle:
            places = torch.arange(len(order), device="cpu")
            order = order[draws.permutation(draws.key(self._seed(), epoch, places))]
        yield from order.tolist()

    def part(self, rank: int | None = None, world: int | None = None) -> Share:
        """The share of one rank of ``world``; by default that of ``base``, else that of this process.

        Every rank gets as many samples: the first ones are repeated where they do not divide, or with a base that
        drops the last, the last ones are left out.
        """
        own = (self.base.rank, self.base.num_replicas) if self.base is not None else ranks.here()
        return Share(self, own[0] if rank is None else rank, own[1] if world is None else world, self.drop_last)

    def selection(self, epoch: int) -> Selection:
        """What ``epoch`` selects; made when first asked for."""
        return self._source.of(epoch) if isinstance(self._source, Selections) else self._source

    def forget(self) -> None:
        """Ask the coreset again: its state was loaded."""
        if isinstance(self._source, Selections):
            self._source.forget()

    def weight_of(self, index: Tensor, epoch: int) -> Tensor | None:
        """Weights (B,) float32 of the samples ``index`` (B,) drawn in ``epoch``, or None when there are none."""
        return self.selection(epoch).weight_of(index)

    def _seed(self) -> int:
        if isinstance(self._source, Selections):
            own = self._source.seed()
        else:
            own = self.seed() if callable(self.seed) else self.seed
        return own if self.base is None else own + self.base.seed

    def __repr__(self) -> str:
        what: Any = self.coreset if self.coreset is not None else f"{len(self)} indices"
        return f"CoresetSampler({what}, shuffle={self.shuffle})"


class Share(Sampler[int]):
    """What one rank of ``world`` draws of a sampler: every world-th sample from the rank on, as many on every rank."""

    def __init__(self, whole: Any, rank: int, world: int, drop_last: bool = False) -> None:
        if not 0 <= rank < world:
            raise ValueError(f"rank must lie in 0..{world - 1}, got {rank}")
        self.whole, self.rank, self.world, self.drop_last = whole, rank, world, drop_last

    def of(self, length: int) -> int:
        """How many of ``length`` samples each rank draws."""
        return length // self.world if self.drop_last else math.ceil(length / self.world)

    def __len__(self) -> int:
        return self.of(len(self.whole))

    def __iter__(self) -> Iterator[int]:
        order = list(self.whole)
        wanted = self.of(len(order)) * self.world
        while order and len(order) < wanted:
            order += order[: wanted - len(order)]
        yield from order[self.rank : wanted : self.world]

    @property
    def epoch(self) -> int:
        """The epoch of the next pass."""
        return int(self.whole.epoch)

    def set_epoch(self, epoch: int) -> None:
        """The next pass is epoch ``epoch``."""
        self.whole.set_epoch(epoch)
