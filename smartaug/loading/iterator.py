"""The iterator of `DataLoader`: torch's iterator, with the stages run on each batch as it is handed out."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

from ..pipeline.pipeline import Pipeline
from .collate import Pending
from .copy_ahead import CopyAhead
from .order import SamplerPosition

Structure = Any  # the user's own batch
TorchIterator = Any  # torch's iterator, whose private attributes are read


class BatchIterator:
    """The batches of one pass, each opened (that is, put through the stages) as it is handed out.

    ahead: copy the next batch to the device during the training step (`CopyAhead`), where the device is CUDA.
    before: called before each batch is requested, or None.
    """

    def __init__(
        self, batches: TorchIterator, pipeline: Pipeline, ahead: bool, before: Callable[[], None] | None = None
    ) -> None:
        self._batches, self._pipeline, self._before = batches, pipeline, before
        self._position: SamplerPosition | None = None
        self._taken = 0  # batches requested in this pass, also those whose stages failed
        self._source: Iterator[Pending] = batches
        if ahead and (pipeline.steps or pipeline.calls_model):
            device = pipeline.resolve_device()
            self._source = CopyAhead(batches, device, pipeline) if device.type == "cuda" else batches
        position = getattr(batches._index_sampler, "position", None)  # exists already where workers fetch ahead
        if position is not None:
            position.iterator = weakref.ref(self)

    def __iter__(self) -> BatchIterator:
        return self

    def __next__(self) -> Structure:
        if self._before is not None:
            self._before()
        try:
            pending: Pending = next(self._source)
        except StopIteration:
            if (position := self._at()) is not None:
                position.ended = True
            self._pipeline.pass_ended()
            raise
        except Exception:  # raised in a worker: torch drops this batch and continues with the next one
            self._count()
            raise
        self._count()
        position = self._at()
        batch = pending.open(progress=None if position is None else position.progress)
        if position is not None:
            position.drew = position.drew or pending.source.drew
            position.handed, position.samples = self._taken, position.progress.samples
        return batch

    def _at(self) -> SamplerPosition | None:
        """The position of this pass; None while the sampler has not begun it."""
        if self._position is None:
            self._position = self._batches._index_sampler.position
            self._taken = 0 if self._position is None else self._position.handed
        return self._position

    def _count(self) -> None:
        """Count a batch as requested."""
        if (position := self._at()) is not None:
            position.asked = True
            self._taken += 1

    def __len__(self) -> int:
        position = self._at()
        return len(self._batches) if position is None or position.length is None else position.length

    def __getattr__(self, name: str) -> Any:
        if name == "_batches":
            raise AttributeError(name)
        return getattr(self._batches, name)  # frameworks reach for torch's own (_shutdown_workers)
