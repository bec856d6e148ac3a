"""`CoresetSampler`: a sampler that draws only selected samples, and has their weights.

What: a sampler over given indices, or over the indices that a coreset selects for each epoch.
When: training on a subset, with `smartaug.DataLoader` (``coreset=``) or with torch's loader (``sampler=``).
Cost: one permutation of the subset per epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence, Sized
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DistributedSampler, Sampler

from ... import draws
from ..._base import ranks
from ..._base.names import suggest_keywords
from ..._base.selections import Selection, checked_selection
from ...pipeline.epochs import EpochCounter
from ...pipeline.selection import CoresetLike, Selections, drawn_of

Whole = Any  # a sampler with a length, or a range; `epoch` and `set_epoch` are used only where it has them


class CoresetSampler(DistributedSampler):
    """Draws the selected samples once per epoch, shuffled by (seed, epoch) and never by the global generator.

    * `selected`: distinct dataset indices (k,), integers, or a coreset that selects for each epoch. With a coreset that
      only chooses the samples to augment, all samples are drawn.
    * `weights`: (k,) finite floats ≥ 0 for given indices, scaled to mean 1, or None. `smartaug.DataLoader` puts them
      into ``Target.weight``; torch's loader ignores them.
    * `size`: the length of the dataset, which a coreset needs.
    * `dataset`: the dataset itself, in place of ``size``; the coreset then also reads its labels.
    * `shuffle`: whether the selected samples come in random order; else they come in the order of the selection.
    * `seed`: an integer, or a function that returns one, called at the first pass.
    * `counter`: a counter of epochs shared with other objects; None counts the passes of this sampler.
    * `base`: a `DistributedSampler` whose rank, number of ranks, epoch, shuffle, seed and drop_last are used.
    * `reading`: keyword arguments of the coreset's ``attach``, which say how to read the dataset.

    The epoch is the number of passes begun, or the one given to ``set_epoch`` last.

    It is a `DistributedSampler` only by type, so that Lightning and Fabric do not replace it. Iterating it gives the
    samples of all ranks, which Accelerate divides. `part` is the share of one rank: `smartaug.DataLoader` draws it
    under `torch.distributed`, and torch's loader takes it as ``sampler=``.

    Raises ValueError for indices that are negative, repeated or ≥ ``size``, for weights of another length or not
    finite, and for a coreset without ``size`` or with ``weights``.
    """

    @suggest_keywords
    def __init__(
        self,
        selected: Sequence[int] | Tensor | CoresetLike,
        weights: Sequence[float] | Tensor | None = None,
        *,
        size: int | None = None,
        dataset: Sized | None = None,
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
        self.coreset, self._source = selected, Selections(drawn_of(selected) or selected, size, seed)
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
        """Whether the drawn samples may have weights."""
        return self._restricts and (isinstance(self._source, Selections) or self._source.weights is not None)

    @property
    def varies(self) -> bool:
        """Whether epochs differ in length."""
        return self._restricts and isinstance(self._source, Selections) and self._source.varies

    @property
    def _restricts(self) -> bool:
        return self.coreset is None or drawn_of(self.coreset) is not None

    def length(self, epoch: int) -> int:
        """Number of samples that ``epoch`` draws; an upper bound where it depends on the selection."""
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

        All ranks draw the same number of samples. Where the epoch's samples do not divide evenly, the first ones are
        repeated; with a ``base`` that has drop_last=True the last ones are left out instead.
        """
        own = (self.base.rank, self.base.num_replicas) if self.base is not None else ranks.here()
        return Share(self, own[0] if rank is None else rank, own[1] if world is None else world, self.drop_last)

    def selection(self, epoch: int) -> Selection:
        """The selection for ``epoch``, computed at the first call."""
        return self._source.of(epoch) if isinstance(self._source, Selections) else self._source

    def forget(self) -> None:
        """Drop the selections made so far, since the coreset's state was loaded."""
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
        what: object = self.coreset if self.coreset is not None else f"{len(self)} indices"
        return f"CoresetSampler({what}, shuffle={self.shuffle})"


class Share(Sampler[int]):
    """The share of one rank of ``world`` in the sampler ``whole``: every world-th sample from position ``rank`` on.

    All ranks draw the same number of samples. Raises ValueError unless 0 ≤ rank < world.
    """

    def __init__(self, whole: Whole, rank: int, world: int, drop_last: bool = False) -> None:
        if not 0 <= rank < world:
            raise ValueError(f"rank must lie in 0..{world - 1}, got {rank}")
        self.whole, self.rank, self.world, self.drop_last = whole, rank, world, drop_last

    def of(self, length: int) -> int:
        """Number of samples that each rank draws of ``length``."""
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
