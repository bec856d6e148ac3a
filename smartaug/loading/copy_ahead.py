"""Copying the next batch to the GPU while the model works on this one.

One side stream for the life of an iterator. The copy of batch n + 1 is queued before the consumer's step n, after what
the consumer has queued so far (whose memory it may reuse), and the consumer waits for it at hand-over, so neither
memory nor values can be met half-way. The consumer's stream is read anew each time: training loops switch it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .._base import leaves
from ..pipeline.inputs import found_inputs
from ..pipeline.pipeline import Pipeline


class CopyAhead:
    """Yields pending batches one ahead of their use, their inputs (and a target that stages read) on ``device``."""

    def __init__(self, batches: Iterator[Any], device: torch.device, pipeline: Pipeline) -> None:
        self._batches, self._device, self._pipeline = batches, device, pipeline
        self._stream = torch.cuda.Stream(device)
        self._next: Any = None
        self._end: Exception | None = None
        self._started = False

    def __iter__(self) -> CopyAhead:
        return self

    def __next__(self) -> Any:
        if not self._started:
            self._started = True
            self._fetch()
        if self._end is not None:
            error, self._end = self._end, None
            self._started = False  # torch's iterator goes on after an error, and ends again after its end
            raise error
        current = self._next
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        self._fetch()
        return current

    def _fetch(self) -> None:
        """Take the next batch and queue its copy; whatever a worker raised, or the end, waits for its own turn."""
        try:
            pending = next(self._batches)
        except Exception as error:
            self._next, self._end = None, error
            return
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            pending.data = self._moved(pending.data, pending.source.index)
        self._next = pending

    def _moved(self, data: Any, index: list[int] | None) -> Any:
        pipeline = self._pipeline
        # checked while it is still on the CPU, where looking is free
        inputs = found_inputs(data, pipeline.settings, None, augmented=bool(pipeline.steps))
        paths = list(inputs.augmented if pipeline.reweight is None else inputs.all)
        if pipeline.reweight is not None:
            length = leaves.rows_of(inputs.given(data))
            paths += pipeline.labelling.find(data, inputs.parts, length, index, pipeline.augmenting.mixes)
        for path in paths:
            leaf = leaves.get(data, path)
            if isinstance(leaf, (tuple, list, Tensor)):
                data = leaves.put(data, path, leaves.move(leaf, self._device, non_blocking=True))
        return data
