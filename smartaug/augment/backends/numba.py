"""Runs plans on uint8 batches on the CPU with compiled code, sample by sample.

What: every sample goes through its own operations in a scratch that stays in the cache; memory is read and written
once. When: numba is installed, images are uint8 on the CPU. Cost: the first call in a new environment compiles for
about half a minute, later ones load the result from numba's cache on disk in about a second.

Rows are split over as many threads as `torch.get_num_threads` says (one inside DataLoader workers); the compiled code
holds no lock. The threads are Python's own, because numba's layers either break in forked workers or may not be entered
from two threads at once.
"""

from __future__ import annotations

import logging
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

from ..plan import FILTERS, Erase, Filter, Mix, Segment, Store, Tone, Warp
from . import buffers
from . import torch as torch_backend

_log = logging.getLogger("smartaug")
_PADDINGS = ("constant", "edge", "reflect", "symmetric")
_SHARPNESS, _NEAREST, _NEAREST_SEPARABLE, _BILINEAR, _BILINEAR_SEPARABLE, _ERASE, _BICUBIC = range(32, 39)
_first, _ready = threading.Lock(), set[int]()  # has this process loaded the compiled code
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
    if isinstance(segment, Filter) and bool((segment.op == FILTERS.index("GaussianBlur")).any()):
        return "Gaussian blur is not compiled"
    if isinstance(segment, Warp) and segment.interpolation == "bicubic" and not segment.grid:
        if segment.padding != "constant" or segment.bounds is not None:
            return "bicubic bounds or padding are not compiled"
        return None
    if isinstance(segment, Warp) and (segment.padding, segment.bounds is None) != ("constant", True):
        if not _separable(segment):
            return f"padding {segment.padding!r} with rotation or shear is not compiled"
        if segment.padding == "constant" and segment.interpolation == "bilinear":
            return "bilinear bounds with constant padding are not compiled"
    if not isinstance(segment, (Warp, Tone, Filter, Erase, Mix, Store)):
        return f"{type(segment).__name__} is not compiled"
    return None


def _separable(warp: Warp) -> bool:
    return warp.grid or not bool((warp.matrix[:, 0, 1] != 0).any() or (warp.matrix[:, 1, 0] != 0).any())


def run(segments: Sequence[Segment], images: Tensor) -> Tensor:
    """The segments, all held by this backend, on uint8 CPU images (B, C, H, W); keeps the memory format."""
    for stage in _stages(segments):
        images = _run_stage(stage, images)
    return images


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
    store = stage[-1] if isinstance(stage[-1], Store) else None
    middle = stage[mix is not None : len(stage) - (store is not None)]
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
    shape = (batch, channels, *sizes[-1])
    values = math.prod(shape)
    out = buffers.flat(values if store is None else 0, torch.uint8)
    floats = buffers.flat(values if store is not None else 0, torch.float32)
    arguments = (
        _flat(given),
        int(interleaved),
        channels,
        *_encoded(middle, batch, channels, sizes),
        *_encoded_mix(mix, batch),
        out.numpy(),
        floats.numpy(),
        store is not None,
        *_encoded_store(store, channels),
    )
    _over_rows(_compiled(), batch, given.numel(), arguments)
    result = out if store is None else floats.to(store.dtype)
    if interleaved:
        return result.view(batch, *sizes[-1], channels).permute(0, 3, 1, 2)
    return result.view(shape)


def _flat(images: Tensor) -> np.ndarray:
    """The memory of a contiguous or channels_last tensor as one dimension."""
    return images.detach().as_strided((images.numel(),), (1,)).numpy()


def _encoded(middle: Sequence[Segment], batch: int, channels: int, sizes: list[tuple[int, int]]) -> tuple[Any, ...]:
    """Codes, amounts, slots, sizes, matrices, bounds, paddings, fills and boxes as `numba_run.run` takes them."""
    count = len(middle)
    codes = np.zeros((count, batch), np.uint8)
    amounts = np.zeros((count, batch), np.float32)
    slot, paddings = np.zeros(count, np.int64), np.zeros(count, np.int64)
    fills = np.zeros((count, channels), np.uint8)
    warps = sum(isinstance(segment, Warp) for segment in middle)
    matrices = np.empty((max(warps, 1), batch, 6), np.int64)
    bounds = np.empty((max(warps, 1), batch, 4), np.int64)
    erased = [segment.boxes.numpy() for segment in middle if isinstance(segment, Erase)]
    boxes = np.zeros((max(warps, len(erased), 1), batch, max((b.shape[1] for b in erased), default=0), 4), np.int64)
    warp_at = erase_at = 0
    for s, segment in enumerate(middle):
        if isinstance(segment, Tone):
            codes[s], amounts[s] = segment.op.numpy(), segment.amount.numpy()
        elif isinstance(segment, Filter):
            codes[s], amounts[s] = segment.op.numpy(), segment.amount.numpy()
            codes[s] *= _SHARPNESS  # op 1 is Sharpness
        elif isinstance(segment, Warp):
            codes[s] = _warp_code(segment)
            if segment.active is not None:
                codes[s] *= segment.active.numpy()
            np.rint(segment.matrix.numpy().reshape(batch, 6) * float(1 << 32), out=matrices[warp_at], casting="unsafe")
            if segment.bounds is None:
                bounds[warp_at] = (-(1 << 62), 1 << 62, -(1 << 62), 1 << 62)
            else:
                bounds[warp_at] = segment.bounds.numpy() * float(1 << 32)
            fills[s] = np.rint(segment.fill)
            slot[s], paddings[s] = warp_at, _PADDINGS.index(segment.padding)
            warp_at += 1
        elif isinstance(segment, Erase):
            codes[s] = _ERASE * (segment.boxes[:, :, 2:].prod(2) > 0).any(1).numpy()
            boxes[erase_at, :, : segment.boxes.shape[1]] = erased[erase_at]
            fills[s] = np.rint(segment.value)
            slot[s] = erase_at
            erase_at += 1
    return codes, amounts, slot, np.array(sizes, np.int64), matrices, bounds, paddings, fills, boxes


def _warp_code(warp: Warp) -> int:
    separable = _separable(warp)
    if warp.interpolation == "bicubic" and not warp.grid:
        return _BICUBIC
    if warp.interpolation == "nearest" or warp.grid:
        return _NEAREST if warp.padding == "constant" and warp.bounds is None else _NEAREST_SEPARABLE
    return _BILINEAR_SEPARABLE if separable and warp.padding != "constant" else _BILINEAR


def _encoded_mix(mix: Mix | None, batch: int) -> tuple[Any, ...]:
    """How, partner, share and pasted boxes."""
    if mix is None:
        return 0, np.zeros(1, np.int64), np.zeros(1, np.float32), np.zeros((1, 4), np.int64)
    partner, share = mix.partner.contiguous().numpy(), mix.share.contiguous().numpy()
    if mix.boxes is None:
        return 2, partner, share, np.zeros((batch, 4), np.int64)
    return 1, partner, share, mix.boxes.contiguous().numpy()


def _encoded_store(store: Store | None, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift (C,) float32."""
    if store is None:
        return np.ones(channels, np.float32), np.zeros(channels, np.float32)
    mean, std = np.asarray(store.mean), np.asarray(store.std)
    one = np.ones(channels)
    return (one / (255.0 * std)).astype(np.float32), (one * -mean / std).astype(np.float32)


@lru_cache(maxsize=1)
def _compiled() -> Callable[..., None]:
    """The compiled interpreter; the first call imports numba."""
    from . import numba_run

    return numba_run.run


def _over_rows(kernel: Callable[..., None], batch: int, values: int, arguments: tuple[Any, ...]) -> None:
    """The rows of the batch over torch's number of threads."""
    if not _ready:
        with _first:
            if not _ready:
                _log.info(
                    "smartaug: loading compiled augmentations; the first time on a machine this compiles (≈ 20 s)"
                )
                kernel(0, 0, *arguments)
                _ready.add(1)
    threads = min(torch.get_num_threads(), batch)
    if threads == 1 or values < _SMALL:
        kernel(0, batch, *arguments)
        return
    pieces = min(batch, 4 * threads)
    left = iter([(batch * n // pieces, batch * (n + 1) // pieces) for n in range(pieces)])

    def work() -> None:  # every thread takes the next piece, since samples differ in how much is done to them
        for first, last in left:
            kernel(first, last, *arguments)

    pool = _pool(os.getpid(), threads - 1)
    others = [pool.submit(work) for _ in range(threads - 1)]
    work()
    for other in others:
        other.result()


@lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Threads of this process; a forked child makes its own, since threads do not survive a fork."""
    return ThreadPoolExecutor(threads, thread_name_prefix="smartaug")
