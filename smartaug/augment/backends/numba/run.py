"""Executes plans on uint8 batches on the CPU with compiled code, sample by sample.

What: every sample goes through its own operations in memory that stays in the cache; the batch is read and the result
written once. When: numba is installed, images are uint8 on the CPU. Cost: the first call in a new environment compiles
for about half a minute, later programs load the result from numba's cache on disk in about a second.

Samples are split over as many threads as `torch.get_num_threads` says (one inside DataLoader workers); compiled code
does not hold Python's lock. The threads are Python's own, because numba's threading layers either break in forked
workers or may not be entered from two threads at once.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...._base.background import Background, is_allowed
from ...._base.compiled import compiling, is_kept
from ...._base.threads import over_rows
from ...plan import EraseNoise, Filter, Mix, Segment, Store, Warp
from .. import buffers
from ..tables.filters import FILTERS
from ..torch import run as torch_backend
from . import codes, encode

BACKGROUND = Background(f"{__package__}.ahead")
_first, _ready = threading.Lock(), set[str]()  # what this process has loaded of the compiled code
_NO_BYTES, _NO_FLOATS = np.empty(0, np.uint8), np.empty(0, np.float32)
_own = threading.local()
_SMALL = 1 << 18  # values below which handing rows to threads costs more than it saves


def refuses(images: Tensor) -> str | None:
    """Why this backend cannot take ``images``, or None."""
    if images.device.type != "cpu":
        return f"images are on {images.device}"
    if images.dtype != torch.uint8:
        return f"images are {images.dtype}"
    return None


RUNS = frozenset({*encode.STEPS, Mix, Store})
"""The kinds of segments that are compiled; of some not all of it, see `lacks`."""


def lacks(segment: Segment) -> str | None:
    """What of ``segment`` this backend does not hold, or None."""
    if type(segment) not in RUNS:
        return f"{type(segment).__name__} is not compiled"
    limit = _LIMITS.get(type(segment))
    return None if limit is None else limit(segment)


def _filter_lacks(segment: Filter) -> str | None:
    blurred = (segment.op.numpy() == FILTERS.index("GaussianBlur")).any()
    return "Gaussian blur is not compiled" if blurred else None


def _warp_lacks(warp: Warp) -> str | None:
    plain = warp.grid or warp.interpolation != "bicubic" or (warp.padding == "constant" and warp.bounds is None)
    return None if plain else "bicubic bounds or padding are not compiled"


def _store_lacks(store: Store) -> str | None:
    return "float64 results are not compiled" if store.dtype == torch.float64 else None


_LIMITS: dict[type[Segment], Callable[[Any], str | None]] = {
    Filter: _filter_lacks,
    Warp: _warp_lacks,
    Store: _store_lacks,
}


def run(segments: Sequence[Segment], images: Tensor) -> Tensor:
    """The segments, all held by this backend, on uint8 CPU images (B, C, H, W); keeps the memory format."""
    for stage in _stages(segments):
        images = _run_stage(stage, images)
    return images


def holds_behind_store(segment: Segment) -> bool:
    """Whether ``segment`` can follow a `Store` in one pass."""
    return type(segment) in encode.LATE


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
    shape, largest = (batch, channels, *sizes[-1]), (max(tall for tall, _ in sizes), max(wide for _, wide in sizes))
    values = math.prod(shape)
    result = buffers.flat(values, torch.uint8 if store is None else torch.float32)
    steps = encode.Steps(middle, batch, channels, sizes)
    rare = bool((steps.codes >= codes.RARE).any()) or any(isinstance(segment, EraseNoise) for segment in late)
    arguments = (
        _flat(given),
        codes.INTERLEAVED if interleaved else codes.PLANAR,
        channels,
        *steps.arguments,
        *encode.mixed(mix, batch),
        result.numpy() if store is None else _NO_BYTES,
        _NO_FLOATS if store is None else result.numpy(),
        store is not None,
        *encode.stored(store, channels),
        *encode.late(late, batch, channels),
    )
    _over_rows(rare, batch, given.numel(), arguments, (channels, *largest))
    result = result if store is None else result.to(store.dtype)
    if interleaved:
        return result.view(batch, *sizes[-1], channels).permute(0, 3, 1, 2)
    return result.view(shape)


def _flat(images: Tensor) -> np.ndarray:
    """The memory of a contiguous or channels_last tensor as one dimension."""
    return images.detach().as_strided((images.numel(),), (1,)).numpy()


@lru_cache(maxsize=2)
def _compiled(rare: bool) -> Callable[..., None]:
    """The compiled interpreter, with the rare codes or without; the first call imports numba."""
    from . import program as numba_run

    return numba_run.run_all if rare else numba_run.run


def _over_rows(rare: bool, batch: int, values: int, arguments: tuple[Any, ...], largest: tuple[int, int, int]) -> None:
    """The rows of the batch over torch's number of threads; largest: channels, and the most rows and columns."""

    def run(first: int, last: int) -> None:
        _compiled(rare)(first, last, *arguments, *_scratch(*largest))

    part, what = ("rare", "augmentations, the rare ones too") if rare else ("common", "augmentations")
    ensure(part, what, 35 if rare else 20, lambda: _compiled(rare), lambda: (0, 0, *arguments, *_scratch(*largest)))
    share(run, batch, values)


def share(run: Callable[[int, int], None], batch: int, values: int) -> None:
    """``run(first, last)`` for all rows of a batch of so many values, in several threads where that is quicker."""
    if values < _SMALL:
        run(0, batch)
    else:
        over_rows(run, batch)


def ensure(
    part: str,
    what: str,
    seconds: int,
    function: Callable[[], Callable[..., None]],
    arguments: Callable[[], tuple[Any, ...]],
) -> None:
    """Load or compile ``function``, once in this process, by a call with ``arguments`` that does nothing.

    part, what: its name for `ahead`, and in messages. seconds: what compiling takes. Raises NotYet while another
    process compiles, CannotCompile where it cannot be.
    """
    if part in _ready:
        return
    with _first:
        if part in _ready:
            return
        if is_allowed():
            _elsewhere(part, what, function, arguments)
        with compiling(what, seconds):
            BACKGROUND.join()
            function()(*arguments())
        _ready.add(part)


def _elsewhere(
    part: str, what: str, function: Callable[[], Callable[..., None]], arguments: Callable[[], tuple[Any, ...]]
) -> None:
    """Raise NotYet while another process compiles; return where the code is to be loaded, or compiled, in this one."""
    from numba import config

    folder = {"NUMBA_CACHE_DIR": config.CACHE_DIR} if config.CACHE_DIR else {}
    BACKGROUND.ensure(part, what, lambda: is_kept(function(), arguments()), folder)


def _scratch(channels: int, tall: int, wide: int) -> tuple[np.ndarray, np.ndarray]:
    """This thread's memory for two samples of that size, and for the pixels of one as words, with two around them.

    It is kept for the next batch, since fresh memory comes page by page.
    """
    held, pixels, words = getattr(_own, "held", None), channels * tall * wide, (tall + 4) * (wide + 4)
    if held is None or held[0].shape[1] < pixels or held[1].size < words:
        held = _own.held = np.empty((2, pixels), np.uint8), np.empty(words, np.uint32)
    return held
