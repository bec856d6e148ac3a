"""Segments as kernel launches: which kernel, on which samples, with which parameters.

All parameters of a plan are packed into one tensor of bytes and copied to the device once; it is pinned, so that the
copy does not wait for the device. A launch refers to its parameters by their number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...plan import Erase, Filter, Lookup, Mix, Noise, Segment, Store, Tone, Warp
from ..tables import filters, gauss, tones
from ..tables.codes import checked
from ..tables.coordinates import ONE
from ..tables.paddings import PADDINGS
from ..torch.filter import gaussian_weights
from . import pixels as pixel_kernels
from . import tone as tone_kernels
from . import warp as warp_kernels

_MEASURED = np.array([row.measures for row in tones.TABLE])
_MIXES_CHANNELS = np.array([row.mixes_channels for row in tones.TABLE])
_TYPES = {np.dtype(np.int64): torch.int64, np.dtype(np.int32): torch.int32, np.dtype(np.float32): torch.float32}
_ONE = float(ONE)
_BLOCK = 1024  # pixels a program works on
_GATHERED_BLOCK = 512  # and where it reads several others for each, so that registers last
_MEASURED_BLOCK = 4096  # and reads at a time for statistics, where one program sees a whole channel
_OPTIONS = {"num_warps": 4, "enable_fp_fusion": False}  # a fused multiply-add would round otherwise than torch does
_ALIGNED = 16  # bytes; Triton compiles wide loads for pointers that are multiples of it


@dataclass
class Buffers:
    """Buffers 0, 1 and 2 of a stage, its new batch, and the parameters on the device."""

    given: Tensor
    first: Tensor
    second: Tensor
    out: Tensor
    parameters: Sequence[Tensor]


@dataclass
class Records:
    """The samples of a launch: rows (n,), the buffers they are read from, and what they are written to."""

    rows: np.ndarray
    source: np.ndarray
    target: np.ndarray

    def only(self, chosen: np.ndarray) -> Records:
        """Those at ``chosen``, positions or bool."""
        return Records(self.rows[chosen], self.source[chosen], self.target[chosen])

    def packed(self, *more: np.ndarray) -> np.ndarray:
        """As the kernels read them, see `memory`."""
        info = np.zeros((len(self.rows), 6), np.int32)
        for column, values in enumerate((self.rows, self.source, self.target, *more)):
            info[:, column] = values
        return info


@dataclass(frozen=True)
class Layout:
    """A stage's images: height and width, type, and whether the given and the new batch are channels_last."""

    size: tuple[int, int]
    dtype: torch.dtype
    given_last: bool
    out_last: bool

    @property
    def plane(self) -> int:
        """Pixels of an image."""
        return self.size[0] * self.size[1]

    @property
    def is_float(self) -> bool:
        """Whether values are floats."""
        return self.dtype != torch.uint8


class Writer:
    """Collects launches and their parameters for images of that many channels."""

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self.launches: list[Callable[[Buffers], None]] = []
        self._arrays: list[np.ndarray] = []

    def moved(self, device: torch.device) -> list[Tensor]:
        """All parameters on ``device``, by one copy that is not waited for."""
        groups: dict[np.dtype, list[int]] = {}
        for number, array in enumerate(self._arrays):
            groups.setdefault(array.dtype, []).append(number)
        lengths = [-(-array.nbytes // _ALIGNED) * _ALIGNED for array in self._arrays]
        packed = torch.empty(sum(lengths), dtype=torch.uint8, pin_memory=device.type == "cuda")
        view, start = packed.numpy(), 0
        for number in chain(*groups.values()):
            array = self._arrays[number]
            view[start : start + array.nbytes] = array.reshape(-1).view(np.uint8)
            start += lengths[number]
        there = packed.to(device, non_blocking=True)
        parameters: list[Tensor] = [there] * len(lengths)
        start = 0
        for dtype, numbers in groups.items():
            sizes = [lengths[number] // dtype.itemsize for number in numbers]
            typed = there[start : start + sum(sizes) * dtype.itemsize].view(_TYPES[dtype])
            for number, part in zip(numbers, typed.split(sizes), strict=True):
                parameters[number] = part
            start += sum(sizes) * dtype.itemsize
        return parameters

    def warp(self, warp: Warp, records: Records, layout: Layout, store: Store | None, *, closes: bool) -> None:
        """A warp of the samples, into the stage's new batch when it closes the stage."""
        matrix = np.rint(warp.matrix.numpy()[records.rows].reshape(-1, 6) * _ONE).astype(np.int64)
        if warp.grid:  # no shear: what rounding left there must not move anything
            matrix[:, [1, 3]] = 0
        bounded = warp.bounds is not None and not warp.grid
        bounds = np.zeros((1, 4)) if warp.bounds is None else warp.bounds.numpy()[records.rows] * _ONE
        self._add(
            warp_kernels.warp,
            records.packed(),
            [
                self._parameter(matrix, np.int64),
                self._parameter(bounds, np.int64),
                self._fill(warp.fill, layout),
                *self._scale(store, layout),
            ],
            warp.size[0] * warp.size[1],
            (*layout.size, *warp.size),
            layout,
            block=_GATHERED_BLOCK,
            closes=closes,
            STORE=store is not None,
            BILINEAR=warp.interpolation == "bilinear" and not warp.grid,
            # where nothing is filled, clamping to the edge is quicker than asking for every tap whether it is inside
            PADDING=PADDINGS.index("edge" if warp.inside and warp.padding == "constant" else warp.padding),
            BOUNDED=bounded,
        )

    def mix(self, mix: Mix, records: Records, layout: Layout, store: Store | None) -> None:
        """A mix of all samples into the stage's new batch."""
        partner = mix.partner.numpy()
        boxes = np.zeros((1, 4)) if mix.boxes is None else mix.boxes.numpy()
        self._add(
            pixel_kernels.mix,
            records.packed(partner, records.source[partner]),
            [
                self._parameter(boxes, np.int32),
                self._parameter(mix.share.numpy(), np.float32),
                *self._scale(store, layout),
            ],
            layout.plane,
            layout.size,
            layout,
            closes=True,
            STORE=store is not None,
            PASTE=mix.boxes is not None,
        )

    def store(self, records: Records, layout: Layout, store: Store | None, *, closes: bool) -> None:
        """The samples normalised, or copied where ``store`` is None, to the new batch or else to buffer 1."""
        self._add(
            pixel_kernels.store,
            records.packed(),
            self._scale(store, layout),
            layout.plane,
            (layout.plane,),
            layout,
            closes=closes,
            OUT_LAST=closes and layout.out_last,
            STORE=store is not None,
        )

    def tone(self, tone: Tone, op: np.ndarray, records: Records, layout: Layout) -> None:
        """Samples recoloured, with their operations (n,)."""
        order = np.argsort(~_MEASURED[op], kind="stable")  # those that need statistics first
        records, op = records.only(order), op[order]
        measured = int(_MEASURED[op].sum())
        info = self._parameter(records.packed(op, _MIXES_CHANNELS[op]), np.int32)
        amounts = self._parameter(tone.amount.numpy()[records.rows], np.float32)
        block = min(_MEASURED_BLOCK, max(_BLOCK, 1 << (layout.plane - 1).bit_length()))
        blocks, channels = -(-layout.plane // _BLOCK), self.channels
        how: dict[str, Any] = {"C": channels, "LAST": layout.given_last, "FLOAT": layout.is_float, **_OPTIONS}

        def launch(b: Buffers) -> None:
            device = b.given.device
            ranges = torch.empty(max(1, measured) * channels * 2, dtype=torch.float32, device=device)
            tables = torch.empty(max(1, measured) * channels * 256, dtype=torch.uint8, device=device)
            source, records_there = (b.given, b.first, b.second), b.parameters[info]
            if measured:
                tone_kernels.statistics[(measured * channels,)](
                    *source, records_there, ranges, tables, layout.plane, BLOCK=block, **how
                )
            tone_kernels.tone[(len(op) * blocks,)](
                *source, b.first, b.second, records_there, b.parameters[amounts], ranges, tables, blocks, layout.plane,
                BLOCK=_BLOCK, **how,
            )  # fmt: skip

        self.launches.append(launch)

    def lookup(self, lookup: Lookup, records: Records, layout: Layout) -> None:
        """Samples' values replaced by what their tables have."""
        tables = np.clip(lookup.table.numpy()[records.rows], 0.0, 255.0)
        number = self._parameter(tables, np.float32)
        each = 1 if tables.ndim == 2 else tables.shape[1]
        self._add(pixel_kernels.lookup, records.packed(), [number], layout.plane, (layout.plane,), layout, TABLES=each)

    def noise(self, noise: Noise, records: Records, layout: Layout) -> None:
        """Samples with noise added."""
        numbers = np.stack([noise.spread.numpy(), noise.centre.numpy()], 1)[records.rows]
        parameters = [
            self._parameter(noise.key.numpy()[records.rows], np.int64),
            self._parameter(numbers, np.float32),
            self._parameter(gauss.quantiles(), np.float32),
        ]
        sizes, shared = (layout.plane,), noise.shared
        self._add(pixel_kernels.noise, records.packed(), parameters, layout.plane, sizes, layout, SHARED=shared)

    def filter(self, segment: Filter, op: np.ndarray, records: Records, layout: Layout) -> None:
        """Samples filtered, with their operations (n,)."""
        for name, write in (("Sharpness", self._sharpness), ("GaussianBlur", self._blur)):
            chosen = op == filters.FILTERS.index(name)
            if chosen.any():
                write(segment, records.only(chosen), layout)

    def _sharpness(self, segment: Filter, records: Records, layout: Layout) -> None:
        amounts = self._parameter(segment.amount.numpy()[records.rows], np.float32)
        self._add(
            pixel_kernels.sharpness,
            records.packed(),
            [amounts],
            layout.plane,
            layout.size,
            layout,
            block=_GATHERED_BLOCK,
        )

    def _blur(self, segment: Filter, records: Records, layout: Layout) -> None:
        sigma = segment.amount[torch.from_numpy(records.rows)]
        info = self._parameter(records.packed(), np.int32)
        columns, rows = (self._parameter(gaussian_weights(sigma, taps), np.float32) for taps in segment.kernel_size)
        count, channels, (tall, wide) = len(records.rows), self.channels, segment.kernel_size
        blocks = -(-layout.plane // _BLOCK)
        how: dict[str, Any] = {"C": channels, "FLOAT": layout.is_float, "BLOCK": _BLOCK, **_OPTIONS}

        def launch(b: Buffers) -> None:
            blurred = torch.empty(count * channels * layout.plane, dtype=torch.float32, device=b.given.device)
            grid, records_there = (count * blocks,), b.parameters[info]
            pixel_kernels.blur_columns[grid](
                b.given, b.first, b.second, blurred, records_there, b.parameters[columns], blocks, *layout.size,
                TAPS=tall, LAST=layout.given_last, **how,
            )  # fmt: skip
            pixel_kernels.blur_rows[grid](
                blurred, b.first, b.second, records_there, b.parameters[rows], blocks, *layout.size, TAPS=wide, **how
            )

        self.launches.append(launch)

    def erase(self, erase: Erase, records: Records, layout: Layout) -> None:
        """Samples with boxes filled."""
        boxes = self._parameter(erase.boxes.numpy()[records.rows], np.int32)
        sizes = (erase.boxes.shape[1], *layout.size)
        numbers = [boxes, self._fill(erase.fill, layout)]
        self._add(pixel_kernels.erase, records.packed(), numbers, layout.plane, sizes, layout)

    def _add(
        self,
        kernel: Any,
        info: np.ndarray,
        numbers: Sequence[int],
        pixels: int,
        sizes: tuple[int, ...],
        layout: Layout,
        *,
        block: int = _BLOCK,
        closes: bool = False,
        **how: Any,
    ) -> None:
        """Launch ``kernel`` over blocks of pixels: buffers, records, parameters, blocks, sizes, constants."""
        numbers = (self._parameter(info, np.int32), *numbers)
        blocks = -(-pixels // block)
        grid = (len(info) * blocks,)
        how.update(C=self.channels, LAST=layout.given_last, FLOAT=layout.is_float, BLOCK=block, **_OPTIONS)

        def launch(b: Buffers) -> None:
            to = (b.out, b.out) if closes else (b.first, b.second)
            parameters = (b.parameters[n] for n in numbers)
            kernel[grid](b.given, b.first, b.second, *to, *parameters, blocks, *sizes, **how)

        self.launches.append(launch)

    def _parameter(self, values: Any, dtype: Any) -> int:
        """The number of a parameter to move."""
        self._arrays.append(np.ascontiguousarray(values, dtype))
        return len(self._arrays) - 1

    def _per_channel(self, values: Sequence[float]) -> int:
        return self._parameter(np.broadcast_to(np.asarray(values, np.float64), self.channels), np.float32)

    def _scale(self, store: Store | None, layout: Layout) -> tuple[int, int]:
        """Scale and shift of the store."""
        if store is None:
            none = self._per_channel((0.0,))
            return none, none
        unit = 255.0 if layout.dtype == torch.uint8 else 1.0
        scale = self._per_channel([1.0 / (unit * s) for s in store.std])
        return scale, self._per_channel([-m / s for m, s in zip(store.mean, store.std, strict=True)])

    def _fill(self, values: Sequence[float], layout: Layout) -> int:
        """A fill as the images hold it."""
        exact = torch.tensor(values, dtype=torch.float64)
        return self._per_channel((exact if layout.is_float else exact.round()).to(layout.dtype).tolist())


Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class Step:
    """How a kind of segment runs on some of the samples.

    concerned: (segment, shape) -> (B,) int64, the operation of each sample of a batch of ``shape`` (B, C, H, W), 1
    where the segment has but one, 0 where nothing changes. write: the launches for the samples that are concerned,
    with their operations (n,). in_place: whether a sample may be written where it is read.
    """

    concerned: Callable[[Any, Shape], np.ndarray]
    write: Callable[[Writer, Any, np.ndarray, Records, Layout], None]
    in_place: bool


def _active(segment: Warp | Lookup | Noise, shape: Shape) -> np.ndarray:
    return np.ones(shape[0], np.int64) if segment.active is None else segment.active.numpy().astype(np.int64)


def _toned(tone: Tone, shape: Shape) -> np.ndarray:
    op = checked(tone.op, tones.TONES, "Tone")
    return np.where(_MIXES_CHANNELS[op], 0, op) if shape[1] == 1 else op


def _filtered(segment: Filter, shape: Shape) -> np.ndarray:
    op = checked(segment.op, filters.FILTERS, "Filter")
    return np.where(op == filters.FILTERS.index("Sharpness"), 0, op) if min(shape[2:]) <= 2 else op


def _erased(erase: Erase, shape: Shape) -> np.ndarray:
    return (erase.boxes[:, :, 2:] > 0).all(2).any(1).numpy().astype(np.int64)


STEPS: dict[type[Segment], Step] = {
    Warp: Step(_active, lambda to, warp, op, *how: to.warp(warp, *how, None, closes=False), in_place=False),
    Tone: Step(_toned, Writer.tone, in_place=True),
    Filter: Step(_filtered, Writer.filter, in_place=False),
    Lookup: Step(_active, lambda to, lookup, op, *how: to.lookup(lookup, *how), in_place=True),
    Noise: Step(_active, lambda to, noise, op, *how: to.noise(noise, *how), in_place=True),
    Erase: Step(_erased, lambda to, erase, op, *how: to.erase(erase, *how), in_place=True),
}
"""The kinds of segments that can run on some of the samples."""

CLOSES: dict[type[Segment], Callable[[Writer, Any, Records, Layout, Store | None], None]] = {
    Warp: partial(Writer.warp, closes=True),
    Mix: Writer.mix,
}
"""The kinds that write a new batch when they reach all samples, through the `Store` that follows if one does."""
