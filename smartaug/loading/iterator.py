"""The iterator of `DataLoader`: torch's own, whose batches are opened as they are handed out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .._torch_fetch import integers
from ..pipeline.passes import Running
from ..pipeline.pipeline import Pipeline
from .collate import Pending
from .copy_ahead import CopyAhead
from .order import Record


class BatchIterator:
    """Opens the batches of one pass as they are handed out."""

    def __init__(self, batches: Any, pipeline: Pipeline, record: Record, ahead: bool) -> None:
        self._batches, self._pipeline, self._record = batches, pipeline, record
        self._running: Running | None = None
        self._taken: int | None = None  # batches asked for in this pass, also those whose stages failed
        self._source: Iterator[Any] = batches
        if ahead and (pipeline.steps or pipeline.reweight is not None):
            device = pipeline.resolve_device()
            self._source = CopyAhead(batches, device, pipeline) if device.type == "cuda" else batches

    def __iter__(self) -> BatchIterator:
        return self

    def __next__(self) -> Any:
        try:
            pending: Pending = next(self._source)
        except StopIteration:
            if self._pass is not None:
                self._pass.ended = True
            if self._running is not None:
                self._running.forget()
            self._pipeline.readers.look(ended=True)
            raise
        except Exception:  # a worker's error: its batch is gone, the pass goes on
            self._count()
            raise
        self._count()
        running = self._running = self._pipeline.passes.of(pending.source.token)
        self._pass.epoch = running.epoch
        if running.samples == 0:  # a pass that was resumed goes on counting
            running.samples = self._pass.samples
            for keys in self._pass.skipped:
                running.before(integers(keys) or [])
            self._pass.skipped = []
        self._record.waiting = None
        batch = pending.open()
        self._pass.handed, self._pass.samples = self._taken, running.samples
        return batch

    @property
    def _pass(self) -> Any:
        return self._batches._index_sampler.latest

    def _count(self) -> None:
        """One more batch of the pass is taken, which began where it was resumed."""
        if self._pass is not None:
            self._taken = (self._pass.handed if self._taken is None else self._taken) + 1

    def __len__(self) -> int:
        return len(self._batches)

    def __getattr__(self, name: str) -> Any:
        if name == "_batches":
            raise AttributeError(name)
        return getattr(self._batches, name)  # frameworks reach for torch's own (_shutdown_workers)
