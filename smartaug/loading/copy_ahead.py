"""Copying the next batch to the GPU while the model works on this one.

Each iterator has one side stream. The copy of batch n + 1 is queued on it before the training loop's step n. It waits
for all work that the loop's current stream holds at that time, whose memory it may reuse. When batch n + 1 is handed
out, the current stream waits for the copy. So no kernel reads an incomplete copy, and no copy overwrites memory in use.
The current stream is looked up for each batch, since training loops may change it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor

from .._base import leaves
from ..pipeline.decoded_files import with_pixels
from ..pipeline.inputs import found_inputs
from ..pipeline.pipeline import Pipeline
from .collate import Pending

Structure = Any  # the user's own batch


class CopyAhead:
    """Yields the pending batches of ``batches`` with their inputs on ``device``, copied one batch ahead of their use.

    With ``reweight=`` the target is copied too.
    """

    def __init__(self, batches: Iterator[Pending], device: torch.device, pipeline: Pipeline) -> None:
        self._batches, self._device, self._pipeline = batches, device, pipeline
        self._stream = torch.cuda.Stream(device)
        self._next: Pending | None = None
        self._end: Exception | None = None
        self._started = False

    def __iter__(self) -> CopyAhead:
        return self

    def __next__(self) -> Pending:
        if not self._started:
            self._started = True
            self._fetch()
        if self._end is not None:
            error, self._end = self._end, None
            self._started = False  # torch's iterator goes on after an error, and ends again after its end
            raise error
        current = cast("Pending", self._next)  # there, since no error or end was stored in its place
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        self._fetch()
        return current

    def _fetch(self) -> None:
        """Take the next batch and queue its copy. Exceptions, also StopIteration, are raised at the next call."""
        try:
            pending = next(self._batches)
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(self._stream):
                files = self._pipeline.files
                pending.data, pending.unfinished = with_pixels(pending.data, pending.unfinished, self._device, files)
                pending.data = self._moved(pending.data, pending.source.index)
        except Exception as error:
            self._next, self._end = None, error
            return
        self._next = pending

    def _moved(self, data: Structure, index: list[int] | None) -> Structure:
        """``data`` with the tensors that the stages read on the device."""
        pipeline = self._pipeline
        # inputs are found while the batch is on the CPU, where reading values needs no synchronisation
        inputs = found_inputs(data, pipeline.settings, None, augmented=bool(pipeline.steps))
        paths = list(inputs.all if pipeline.calls_model else inputs.augmented)
        if pipeline.reweight is not None:
            paths += pipeline.labelling.find(data, inputs.parts, inputs.rows(data), index, pipeline.augmenting.mixes)
        for path in paths:
            leaf = leaves.get(data, path)
            if isinstance(leaf, (tuple, list, Tensor)):
                data = leaves.put(data, path, leaves.move(leaf, self._device, non_blocking=True))
        return data
