"""A plan as a list of kernel launches with their parameters on the device.

The plan is cut into stages. Within a stage each sample is read from and written to one of three buffers (0: the batch
as given; 1 and 2: scratch), and different samples may be in different buffers. A step that works in place leaves a
sample in its buffer; any other step moves it from 1 to 2 or back. Every sample must end in buffer 1, so the buffers are
assigned from the last step to the first. A stage ends where all samples are written to a new batch: by a warp of every
sample, a mix, a store, or a copy into another memory format. Where none of these ends it, buffer 1 is the result, and
the samples that no step changed are copied to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ...plan import Segment, Store
from .device import on
from .launch import CLOSES, STEPS, Buffers, Layout, Records, Writer


@dataclass
class _Stage:
    """Steps on some of the samples each, then what closes the stage, normalised by ``store`` on the way out."""

    steps: list[tuple[Segment, np.ndarray]] = field(default_factory=list)  # op per sample, 0: not concerned
    close: Segment | None = None  # of `CLOSES`
    store: Store | None = None

    @property
    def closed(self) -> bool:
        """Whether nothing can follow in this stage."""
        return self.close is not None or self.store is not None


class Program:
    """The launches for segments on batches like ``images`` (B, C, H, W), not empty; parameters are on the device.

    Calling it on such a batch allocates and launches kernels, and does nothing else. Call it on the stream it was made
    on, or on one that waits for that.
    """

    def __init__(self, segments: Sequence[Segment], images: Tensor) -> None:
        self._shape, self._dtype, self._device = images.shape, images.dtype, images.device
        self._memory = torch.contiguous_format
        if images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous():
            self._memory = torch.channels_last
        last = self._memory == torch.channels_last
        stages = _stages(segments, images, last)
        size, dtype = (images.shape[2], images.shape[3]), images.dtype
        self._passes: list[_Pass] = []
        writer = Writer(images.shape[1])
        for n, stage in enumerate(stages):
            layout = Layout(size, dtype, given_last=last and n == 0, out_last=last and n == len(stages) - 1)
            one = _Pass(writer, stage, layout, images.shape[0])
            self._passes.append(one)
            size, dtype = one.new_size, one.new_dtype
        self._parameters = writer.moved(images.device)

    def __call__(self, images: Tensor) -> Tensor:
        """The result for ``images``, which are left as they are. Raises ValueError when they are of another form."""
        if (images.shape, images.dtype, images.device) != (self._shape, self._dtype, self._device):
            raise ValueError(
                f"the program was prepared for {self._dtype} images {tuple(self._shape)} on {self._device}, "
                f"got {images.dtype} {tuple(images.shape)} on {images.device}; call prepare again"
            )
        batch = images.detach().contiguous(memory_format=self._memory)
        with on(self._device):
            for one in self._passes:
                batch = one.run(batch, self._parameters)
        return batch


class _Pass:
    """A stage with its launches."""

    def __init__(self, writer: Writer, stage: _Stage, layout: Layout, batch: int) -> None:
        height, width = layout.size
        self.new_size = (height, width) if stage.close is None else stage.close.output_size(height, width)
        self.new_dtype = layout.dtype if stage.store is None else stage.store.typed(layout.dtype)
        self._layout = layout
        sources, targets, final = _routes(stage.steps, batch)
        self._alternates = any(bool((target == 2).any()) for target in targets)
        self._new_batch = stage.closed or layout.out_last
        self._scratch = bool((final == 1).any()) or not self._new_batch
        start = len(writer.launches)
        for (segment, op), source, target in zip(stage.steps, sources, targets, strict=True):
            rows = np.flatnonzero(op)
            if len(rows):
                records = Records(rows, source[rows], target[rows])
                STEPS[type(segment)].write(writer, segment, op[rows], records, layout)
        everything = Records(np.arange(batch), final, np.ones(batch))
        if stage.close is not None:
            CLOSES[type(stage.close)](writer, stage.close, everything, layout, stage.store)
        elif self._new_batch:
            writer.store(everything, layout, stage.store, closes=True)
        elif (final == 0).any():
            writer.store(everything.only(final == 0), layout, None, closes=False)
        self._launches = writer.launches[start:]

    def run(self, given: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        """The batch after this stage."""
        shape = given.shape[:2]
        first = second = out = given
        if self._scratch:
            first = torch.empty((*shape, *self._layout.size), dtype=given.dtype, device=given.device)
        if self._alternates:
            second = torch.empty_like(first)
        if self._new_batch:
            memory = torch.channels_last if self._layout.out_last else torch.contiguous_format
            out = torch.empty((*shape, *self.new_size), dtype=self.new_dtype, device=given.device, memory_format=memory)
        buffers = Buffers(given, first, second, out, parameters)
        for launch in self._launches:
            launch(buffers)
        return out if self._new_batch else first


def _stages(segments: Sequence[Segment], images: Tensor, last: bool) -> list[_Stage]:
    """The segments cut into stages. Only the store writes well in channels_last order (``last``), so it ends alone."""
    batch, channels, height, width = images.shape
    stages = [_Stage()]
    for segment in segments:
        stage = stages[-1]
        follows = isinstance(segment, Store) and stage.store is None and not (last and stage.close is not None)
        if stage.closed and not follows:
            stages.append(stage := _Stage())
        if isinstance(segment, Store):
            stage.store = segment
        elif type(segment) in CLOSES and getattr(segment, "active", None) is None:
            stage.close = segment
        else:
            stage.steps.append((segment, STEPS[type(segment)].concerned(segment, (batch, channels, height, width))))
        height, width = segment.output_size(height, width)
    if last and stages[-1].close is not None:
        stages.append(_Stage())
    return stages


def _routes(
    steps: Sequence[tuple[Segment, np.ndarray]], batch: int
) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """For each step the buffers its samples are read from and written to, and where every sample (B,) ends up."""
    touched = np.zeros(batch, bool)
    first_times = []
    for _, op in steps:
        first_times.append((op > 0) & ~touched)
        touched |= op > 0
    place = np.ones(batch, np.int64)
    sources, targets = [], []
    for (segment, op), first_time in zip(reversed(steps), reversed(first_times), strict=True):
        before = place if STEPS[type(segment)].in_place else 3 - place
        source = np.where(first_time, 0, before)
        sources.append(source)
        targets.append(place)
        place = np.where(op > 0, source, place)
    return sources[::-1], targets[::-1], touched.astype(np.int64)
