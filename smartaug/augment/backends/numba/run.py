"""Runs plans on uint8 batches on the CPU with compiled code, sample by sample.

What: every sample goes through its own operations in a scratch that stays in the cache; memory is read and written
once. When: numba is installed, images are uint8 on the CPU. Cost: the first call in a new environment compiles for
about half a minute, later ones load the result from numba's cache on disk in about a second.

Rows are split over as many threads as `torch.get_num_threads` says (one inside DataLoader workers); the compiled code
holds no lock. The threads are Python's own, because numba's layers either break in forked workers or may not be entered
from two threads at once.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .... import draws
from ...._base.compiled import compiling
from ...plan import FILTERS, PADDINGS, Clahe, Erase, EraseNoise, Filter, Lookup, Mix, Noise, Segment, Store, Tone, Warp
from .. import buffers
from ..torch import run as torch_backend

# the codes of `numba_run`, which is only imported when it is run
_SHARPNESS, _NEAREST, _NEAREST_SEPARABLE, _BILINEAR, _BILINEAR_SEPARABLE, _ERASE, _BICUBIC = range(32, 39)
_LOOKUP, _RARE = 39, 40
_CLAHE, _NOISE, _NEAREST_PADDED, _BILINEAR_PADDED = range(_RARE, 44)
_BOUNDED = _NEAREST_SEPARABLE, _BILINEAR_SEPARABLE, _NEAREST_PADDED, _BILINEAR_PADDED
_HELD = (Warp, Tone, Lookup, Clahe, Noise, Filter, Erase, Mix, Store)
_first, _ready = threading.Lock(), set[bool]()  # what this process has loaded of the compiled code
_NO_BYTES, _NO_FLOATS = np.empty(0, np.uint8), np.empty(0, np.float32)
_NO_MIX = (0, np.zeros(1, np.int64), np.zeros(1, np.float32), np.zeros((1, 4), np.int64))
_NO_NUMBERS = (
    np.empty((0, 0, 1, 256), np.uint8),
    np.empty((0, 0), np.int64),
    np.empty((0, 0, 2)),
    np.empty((0, 2), np.int64),
)
_NO_LATE = (
    np.empty((0, 0, 0, 4), np.int64),
    np.empty((0, 0), np.float32),
    np.empty((0, 0, 0), np.int64),
    np.empty(0, np.int64),
)
_CONSTANT, _FLAT, _NOISY = range(3)  # how a box behind the store is filled
_own = threading.local()
_SMALL = 1 << 18  # values below which handing rows to threads costs more than it saves


def refuses(images: Tensor) -> str | None:
    """Why this backend cannot take ``images``, or None."""
    if images.device.type != "cpu":
        return f"images are on {images.device}"
    if images.dtype != torch.uint8:
        return f"images are {images.dtype}"
    return None


def lacks(segment: Segment) -> str | None:
    """What of ``segment`` this backend does not hold, or None."""
    if isinstance(segment, Filter):
        blurred = (segment.op.numpy() == FILTERS.index("GaussianBlur")).any()
        return "Gaussian blur is not compiled" if blurred else None
    if isinstance(segment, Warp) and segment.interpolation == "bicubic" and not segment.grid:
        if segment.padding != "constant" or segment.bounds is not None:
            return "bicubic bounds or padding are not compiled"
        return None
    if isinstance(segment, Store) and segment.dtype == torch.float64:
        return "float64 results are not compiled"
    if not isinstance(segment, _HELD):
        return f"{type(segment).__name__} is not compiled"
    return None


def _separable(warp: Warp) -> bool:
    matrix = warp.matrix.numpy()
    return warp.grid or not (matrix[:, 0, 1].any() or matrix[:, 1, 0].any())


def run(segments: Sequence[Segment], images: Tensor) -> Tensor:
    """The segments, all held by this backend, on uint8 CPU images (B, C, H, W); keeps the memory format."""
    for stage in _stages(segments):
        images = _run_stage(stage, images)
    return images


def holds_behind_store(segment: Segment) -> bool:
    """Whether ``segment`` can follow a `Store` in one pass: nothing else is compiled for floats."""
    return isinstance(segment, (Erase, EraseNoise))


def _stages(segments: Sequence[Segment]) -> list[list[Segment]]:
    """Cut before each Mix, which needs the other samples as they are then."""
    stages: list[list[Segment]] = [[]]
    for segment in segments:
        if isinstance(segment, Mix) and stages[-1]:
            stages.append([])
        stages[-1].append(segment)
    return stages


def _run_stage(stage: list[Segment], images: Tensor) -> Tensor:
    batch, channels, height, width = images.shape
    mix = stage[0] if isinstance(stage[0], Mix) else None
    store = next((segment for segment in stage if isinstance(segment, Store)), None)
    end = len(stage) if store is None else stage.index(store)
    middle, late = stage[mix is not None : end], stage[end + 1 :]
    sizes = [(height, width)]
    for segment in middle:
        sizes.append(segment.output_size(*sizes[-1]))
    if images.numel() == 0 or 0 in sizes[-1]:
        return torch_backend.run(tuple(stage), images)  # nothing to compute; the reference knows the shapes
    interleaved = channels > 1 and images.is_contiguous(memory_format=torch.channels_last)
    interleaved = interleaved and not images.is_contiguous()
    given = images if interleaved else images.contiguous()
    if interleaved and mix is not None:  # a mix reads two samples in planar order
        given, interleaved = images.contiguous(), False
    shape, largest = (batch, channels, *sizes[-1]), max([tall * wide for tall, wide in sizes])
    values = math.prod(shape)
    result = buffers.flat(values, torch.uint8 if store is None else torch.float32)
    encoded = _encoded(middle, batch, channels, sizes)
    rare = bool((encoded[0] >= _RARE).any()) or any(isinstance(segment, EraseNoise) for segment in late)
    arguments = (
        _flat(given),
        int(interleaved),
        channels,
        *encoded,
        *_encoded_mix(mix, batch),
        result.numpy() if store is None else _NO_BYTES,
        _NO_FLOATS if store is None else result.numpy(),
        store is not None,
        *_encoded_store(store, channels),
        *_encoded_late(late, batch, channels),
    )
    _over_rows(rare, batch, given.numel(), arguments, (channels, largest))
    result = result if store is None else result.to(store.dtype)
    if interleaved:
        return result.view(batch, *sizes[-1], channels).permute(0, 3, 1, 2)
    return result.view(shape)


def _flat(images: Tensor) -> np.ndarray:
    """The memory of a contiguous or channels_last tensor as one dimension."""
    return images.detach().as_strided((images.numel(),), (1,)).numpy()


def _encoded(middle: Sequence[Segment], batch: int, channels: int, sizes: list[tuple[int, int]]) -> tuple[Any, ...]:
    """Codes, amounts, slots, sizes, matrices, bounds, paddings, fills, boxes, … as `program.run` takes them."""
    count = len(middle)
    codes = np.empty((count, batch), np.uint8)
    amounts = np.empty((count, batch), np.float32)
    slot, paddings = [0] * count, [0] * count
    fills = np.zeros((count, channels), np.uint8)
    warps = sum([isinstance(segment, Warp) for segment in middle])
    matrices = np.empty((max(warps, 1), batch, 6), np.int64)
    bounds = np.empty((max(warps, 1), batch, 4), np.int64)
    erased = [segment.boxes.numpy() for segment in middle if isinstance(segment, Erase)]
    most = max((boxes.shape[1] for boxes in erased), default=0)
    boxes = np.zeros((max(warps, len(erased), 1), batch, most, 4), np.int64)
    tables, keys, numbers, grids = _encoded_numbers(middle, batch)
    warp_at = erase_at = table_at = number_at = 0
    for s, segment in enumerate(middle):
        if isinstance(segment, (Tone, Filter)):
            codes[s], amounts[s] = segment.op.numpy(), segment.amount.numpy()
            if isinstance(segment, Filter):
                codes[s] *= _SHARPNESS  # op 1 is Sharpness
        elif isinstance(segment, Warp):
            code = _warp_code(segment)
            _where(segment.active, code, codes[s])
            fixed = segment.matrix.numpy().reshape(batch, 6) * float(1 << 32)
            np.rint(fixed, out=matrices[warp_at], casting="unsafe")
            if segment.bounds is not None:
                bounds[warp_at] = segment.bounds.numpy() * float(1 << 32)
            elif code in _BOUNDED:
                bounds[warp_at] = (-(1 << 62), 1 << 62, -(1 << 62), 1 << 62)
            fills[s] = _rounded(segment.fill)
            slot[s], paddings[s] = warp_at, PADDINGS.index(segment.padding)
            warp_at += 1
        elif isinstance(segment, Erase):
            codes[s] = _ERASE * ((erased[erase_at][:, :, 2] > 0) & (erased[erase_at][:, :, 3] > 0)).any(1)
            boxes[erase_at, :, : segment.boxes.shape[1]] = erased[erase_at]
            fills[s] = _rounded(segment.value)
            slot[s] = erase_at
            erase_at += 1
        elif isinstance(segment, Lookup):
            _where(segment.active, _LOOKUP, codes[s])
            slot[s] = table_at
            table_at += 1
        elif isinstance(segment, (Clahe, Noise)):
            _where(segment.active, _CLAHE if isinstance(segment, Clahe) else _NOISE, codes[s])
            slot[s] = number_at
            number_at += 1
    whole = [np.array(values, np.int64) for values in (slot, sizes, paddings)]
    first = codes, amounts, whole[0], whole[1], matrices, bounds, whole[2], fills, boxes
    return *first, tables, keys, numbers, grids


def _where(active: Tensor | None, code: int, into: np.ndarray) -> None:
    """``code`` to the rows that a segment reaches, 0 to the others."""
    if active is None:
        into[:] = code
    else:
        np.multiply(active.numpy(), code, out=into, casting="unsafe")


def _encoded_numbers(middle: Sequence[Segment], batch: int) -> tuple[np.ndarray, ...]:
    """Tables (L, B, C or 1, 256) uint8, keys (N, B) int64, numbers (N, B, 2) float64 and grids (S, 2) int64."""
    lookups = [segment for segment in middle if isinstance(segment, Lookup)]
    others = [segment for segment in middle if isinstance(segment, (Clahe, Noise))]
    if not lookups and not others:
        return _NO_NUMBERS
    width = max((segment.table[..., 0].numel() // batch for segment in lookups), default=1)
    tables = np.empty((len(lookups), batch, width, 256), np.uint8)
    for n, lookup in enumerate(lookups):
        rows = np.arange(batch) if lookup.active is None else np.flatnonzero(lookup.active.numpy())
        table = lookup.table.numpy()
        table = table[:, None] if table.ndim == 2 else table
        tables[n, rows] = np.rint(np.clip(table[rows], 0.0, 255.0)).astype(np.uint8)
    keys, numbers = np.zeros((len(others), batch), np.int64), np.zeros((len(others), batch, 2))
    grids = np.zeros((len(middle), 2), np.int64)
    for n, segment in enumerate(others):
        s = next(place for place, one in enumerate(middle) if one is segment)
        if isinstance(segment, Clahe):
            numbers[n, :, 0], grids[s] = segment.limit.numpy(), segment.grid
        else:
            keys[n], grids[s, 0] = segment.key.numpy(), segment.shared
            numbers[n, :, 0], numbers[n, :, 1] = segment.spread.numpy(), segment.centre.numpy()
    return tables, keys, numbers, grids


@lru_cache(maxsize=64)
def _rounded(values: tuple[float, ...]) -> np.ndarray:
    return np.rint(values).astype(np.uint8)


def _warp_code(warp: Warp) -> int:
    if warp.interpolation == "bicubic" and not warp.grid:
        return _BICUBIC
    plain = warp.padding == "constant" and warp.bounds is None
    if warp.interpolation == "nearest" or warp.grid:
        return _NEAREST if plain else _NEAREST_SEPARABLE if _separable(warp) else _NEAREST_PADDED
    if plain:
        return _BILINEAR
    return _BILINEAR_SEPARABLE if warp.padding != "constant" and _separable(warp) else _BILINEAR_PADDED


def _encoded_mix(mix: Mix | None, batch: int) -> tuple[Any, ...]:
    """How, partner, share and pasted boxes."""
    if mix is None:
        return _NO_MIX
    partner, share = mix.partner.contiguous().numpy(), mix.share.contiguous().numpy()
    if mix.boxes is None:
        return 2, partner, share, np.zeros((batch, 4), np.int64)
    return 1, partner, share, mix.boxes.contiguous().numpy()


def _encoded_store(store: Store | None, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift (C,) float32."""
    return (_NO_FLOATS, _NO_FLOATS) if store is None else _scales(store.mean, store.std, channels)


@lru_cache(maxsize=64)
def _scales(mean: tuple[float, ...], std: tuple[float, ...], channels: int) -> tuple[np.ndarray, np.ndarray]:
    one = np.ones(channels)
    scale, shift = one / (255.0 * np.asarray(std)), one * -np.asarray(mean) / np.asarray(std)
    return scale.astype(np.float32), shift.astype(np.float32)


def _encoded_late(late: Sequence[Segment], batch: int, channels: int) -> tuple[np.ndarray, ...]:
    """Boxes (E, B, n, 4) int64, values (E, C) float32, keys (E, n, B) int64 and how (E,) of what is erased last."""
    erased = [segment for segment in late if isinstance(segment, (Erase, EraseNoise))]
    if not erased:
        return _NO_LATE
    most = max(segment.boxes.shape[1] for segment in erased)
    boxes = np.zeros((len(erased), batch, most, 4), np.int64)
    values, keys = np.zeros((len(erased), channels), np.float32), np.zeros((len(erased), most, batch), np.int64)
    how = np.full(len(erased), _CONSTANT)
    for n, segment in enumerate(erased):
        count = segment.boxes.shape[1]
        boxes[n, :, :count] = segment.boxes.numpy()
        if isinstance(segment, Erase):
            values[n] = segment.value
        else:
            for place, key in enumerate(draws.folds(segment.key, count)):
                keys[n, place] = key.numpy()
            how[n] = _FLAT if segment.flat else _NOISY
    return boxes, values, keys, how


@lru_cache(maxsize=2)
def _compiled(rare: bool) -> Callable[..., None]:
    """The compiled interpreter, with the rare codes or without; the first call imports numba."""
    from . import program as numba_run

    return numba_run.run_all if rare else numba_run.run


def _over_rows(rare: bool, batch: int, values: int, arguments: tuple[Any, ...], largest: tuple[int, int]) -> None:
    """The rows of the batch over torch's number of threads; largest: channels, and the most pixels a sample has."""

    def run(first: int, last: int) -> None:
        _compiled(rare)(first, last, *arguments, *_scratch(*largest))

    if rare not in _ready:
        with _first:
            if rare not in _ready:
                what, seconds = ("augmentations, the rare ones too", 35) if rare else ("augmentations", 20)
                with compiling(what, seconds):
                    run(0, 0)
                _ready.add(rare)
    threads = min(torch.get_num_threads(), batch)
    if threads == 1 or values < _SMALL:
        run(0, batch)
        return
    pieces = min(batch, 4 * threads)
    left = iter([(batch * n // pieces, batch * (n + 1) // pieces) for n in range(pieces)])

    def work() -> None:  # every thread takes the next piece, since samples differ in how much is done to them
        for first, last in left:
            run(first, last)

    pool = _pool(os.getpid(), threads - 1)
    others = [pool.submit(work) for _ in range(threads - 1)]
    work()
    for other in others:
        other.result()


def _scratch(channels: int, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """This thread's memory for two samples of that many pixels, and for the pixels of one as words and one more.

    It is kept for the next batch, since fresh memory comes page by page.
    """
    held = getattr(_own, "held", None)
    if held is None or held[0].shape[1] < channels * pixels or held[1].size <= pixels:
        held = _own.held = np.empty((2, channels * pixels), np.uint8), np.empty(pixels + 1, np.uint32)
    return held


@lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Threads of this process; a forked child makes its own, since threads do not survive a fork."""
    return ThreadPoolExecutor(threads, thread_name_prefix="smartaug")
