"""Runs plans on CUDA with Triton kernels: one per kind of segment, each sample paying only for what it drew.

What: a plan's parameters are packed into one tensor and moved once without waiting; a sample then goes through its own
operations, in place or back and forth between two scratch buffers, and the last kernel normalises, casts and lays out
the result. When: images are on CUDA, uint8 or floats of at most 32 bits, with 1 or 3 channels. Cost: one read and one
write of a sample per operation it drew (one more read for Equalize, AutoContrast and Contrast); a kernel compiles
when first met, in a second or so, and is cached on disk by Triton.

`prepare` gives a `Program`, whose parameters are on the device: calling it only launches kernels, so that it can be
captured in a CUDA graph (the call alone: what `prepare` copies from is gone at replay). Reference: the torch backend,
whose integers and float32 steps the kernels repeat.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...plan import Erase, Filter, Lookup, Mix, Noise, Segment, Store, Tone, Warp
from ..torch import run as torch_backend
from .device import on

if TYPE_CHECKING:
    from .program import Program

_log = logging.getLogger("smartaug")
_FLOATS = (torch.float32, torch.float16, torch.bfloat16)
TAKES = "uint8 and float32, float16 or bfloat16 images of 1 or 3 channels on CUDA that need no gradient"


@lru_cache(maxsize=1)
def installed() -> bool:
    """Whether triton can be imported, without importing it."""
    return importlib.util.find_spec("triton") is not None


def interpreted() -> bool:
    """Whether Triton's interpreter is asked for, which runs kernels on CPU tensors with NumPy, slowly."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "yes", "on")


@lru_cache(maxsize=64)
def _compiles_for(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= (7, 0)


def refuses(images: Tensor) -> str | None:
    """Why this backend cannot take ``images``, or None."""
    if images.device.type != "cuda":
        if not interpreted():
            return f"images are on {images.device}"
    elif not _compiles_for(images.device):
        return f"{images.device} is older than Triton compiles for (compute capability 7.0)"
    if (reason := refuses_type(images.dtype)) is not None:
        return reason
    if images.shape[1] not in (1, 3):
        return f"images have {images.shape[1]} channels"
    if images.requires_grad and torch.is_grad_enabled():
        return "images require gradients"
    return None


def remedy(images: Tensor) -> str:
    """What to write instead, for images that are refused."""
    move = "" if images.device.type == "cuda" else "write images.cuda(), or "
    return move + "leave backend=None to choose per batch"


def refuses_type(dtype: torch.dtype) -> str | None:
    """Why this backend cannot take images of that type, or None."""
    return None if dtype in (torch.uint8, *_FLOATS) else f"images are {dtype}"


RUNS = frozenset({Warp, Tone, Lookup, Noise, Filter, Erase, Mix, Store})
"""The kinds of segments that have kernels: `Store`, and those of `launch.STEPS` and `launch.CLOSES`, which cannot be
imported without triton. Of some not all of it, see `lacks`."""


def lacks(segment: Segment) -> str | None:
    """What of ``segment`` this backend does not hold, or None."""
    if type(segment) not in RUNS:
        return f"{type(segment).__name__} has no kernel"
    limit = _LIMITS.get(type(segment))
    return None if limit is None else limit(segment)


def _warp_lacks(warp: Warp) -> str | None:
    bicubic = warp.interpolation == "bicubic" and not warp.grid
    return "bicubic interpolation has no kernel" if bicubic else None


def _store_lacks(store: Store) -> str | None:
    return None if store.dtype in _FLOATS else f"Normalize to {store.dtype} has no kernel"


_LIMITS: dict[type[Segment], Callable[[Any], str | None]] = {Warp: _warp_lacks, Store: _store_lacks}


def run(segments: Sequence[Segment], images: Tensor) -> Tensor:
    """The segments, all held by this backend, on images (B, C, H, W); keeps the memory format."""
    sizes = [(images.shape[2], images.shape[3])]
    for segment in segments:
        sizes.append(segment.output_size(*sizes[-1]))
    if images.numel() == 0 or 0 in sizes[-1]:
        return torch_backend.run(tuple(segments), images)  # nothing to compute; the reference knows the shapes
    return prepare(segments, images)(images)


def prepare(segments: Sequence[Segment], images: Tensor) -> Program:
    """The segments with their parameters on the device, for non-empty batches like ``images``."""
    program = _program()
    with on(images.device):
        return program(segments, images)


@lru_cache(maxsize=1)
def _program() -> type[Program]:
    """The class; the first call imports triton."""
    _log.info("smartaug: Triton compiles augmentation kernels when they are first met (≈ 1 s each, kept on disk)")
    from .program import Program

    return Program
