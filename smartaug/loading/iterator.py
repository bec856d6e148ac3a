"""The iterator of `DataLoader`: torch's own, whose batches are opened as they are handed out."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

from ..pipeline.pipeline import Pipeline
from .collate import Pending
from .copy_ahead import CopyAhead
from .order import SamplerPosition


class BatchIterator:
    """Opens the batches of one pass as they are handed out."""

    def __init__(self, batches: Any, pipeline: Pipeline, ahead: bool) -> None:
        self._batches, self._pipeline = batches, pipeline
        self._position: SamplerPosition | None = None
        self._taken = 0  # batches asked for in this pass, also those whose stages failed
        self._source: Iterator[Any] = batches
        if ahead and (pipeline.steps or pipeline.reweight is not None):
            device = pipeline.resolve_device()
            self._source = CopyAhead(batches, device, pipeline) if device.type == "cuda" else batches
        position = getattr(batches._index_sampler, "position", None)  # there already, where workers fetch ahead
        if position is not None:
            position.iterator = weakref.ref(self)

    def __iter__(self) -> BatchIterator:
        return self

    def __next__(self) -> Any:
        try:
            pending: Pending = next(self._source)
        except StopIteration:
            if (position := self._at()) is not None:
                position.ended = True
            self._pipeline.pass_ended()
            raise
        except Exception:  # raised in a worker: torch has given up this batch, and goes on with the next one
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
        """One more batch of the pass is taken."""
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
