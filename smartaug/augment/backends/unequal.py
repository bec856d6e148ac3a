"""Images of unequal size, each cropped or resized to one size, as one batch.

What: the first segment of an `UnequalPlan`. numba reads every image where it lies and shares them among threads; Triton
reads the parts that are kept, packed into one flat buffer. torch, which all must agree with, takes one image after the
other. When: lists of images. Cost: of numba on a crop of a photograph a third of torch's `interpolate`, without the
Python around every image. Triton resizes with the integers of the CPU, where torch on CUDA computes in float32: the two
differ by one grey level at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..._base import background, compiled
from ..plan import Segment, Warp
from ..resample import Resample
from . import buffers
from .numba import codes, encode
from .numba import run as numba_backend
from .tables.coordinates import ONE
from .tables.paddings import PADDINGS
from .torch import resample as torch_resample
from .torch import run as torch_backend
from .triton import run as triton_backend

_SIDES = (7, 90), (19, 23), (64, 11), (120, 101)  # of the images on which the compiled resize is compared with torch's
_WHOLE = -(1 << 30), 1 << 30  # bounds beyond every image, in pixels
_COMPILES = 12  # seconds
_DIFFERS = f"torch {torch.__version__} resizes to other bytes here than compiled code"
_known: dict[str, bool] = {}  # whether the compiled resize "agrees" with this torch's, once it was compared


def choose(
    segment: Segment, images: Sequence[Tensor], backend: str | None, timed: str | None = None
) -> tuple[str, str]:
    """Which backend runs the segment on images (C, H, W) of unequal size, and why. timed: the one that was faster."""
    first = images[0][None]
    if _known.get("agrees", True) is False and isinstance(segment, Resample) and first.device.type == "cpu":
        return "torch", f"one image after the other: {_DIFFERS}"
    if backend == "torch":
        return "torch", 'asked for by backend="torch"'
    if timed == "torch" and backend is None:
        return "torch", "one image after the other, as timed"
    if any(0 in image.shape for image in images):
        return "torch", "an image is empty"
    if backend == "triton" or (backend is None and first.device.type == "cuda"):
        why = None if triton_backend.installed() else "triton is not installed: pip install triton"
        why = why or triton_backend.refuses(first) or _kernel_lacks(segment, first)
        return ("torch", f"one image after the other: {why}") if why else ("triton", f"uint8 on {first.device}")
    why = numba_backend.refuses(first) or compiled.refused() or (None if _code(segment) is not None else "not compiled")
    if why is None and backend is None and background.is_allowed() and numba_backend.BACKGROUND.running():
        background.used_torch()
        why = background.WHY
    return ("torch", f"one image after the other: {why}") if why else ("numba", "uint8 on the CPU, all sizes at once")


def run(name: str, segment: Any, images: Sequence[Tensor]) -> Tensor:
    """The images (B, C, *size) after the segment, by the backend that `choose` names."""
    return _RUN[name](segment, images)


def one_by_one(segment: Segment, images: Sequence[Tensor]) -> Tensor:
    """The plain form: by torch, image by image."""
    if isinstance(segment, Resample) and segment.bounds is not None:
        return torch_resample.unequal(images, segment)
    rows = torch.arange(len(images), device="cpu")
    parts = [torch_backend.run((segment.rows(rows[n : n + 1]),), image[None]) for n, image in enumerate(images)]
    return torch.cat(parts)


def load() -> None:
    """Load or compile what numba runs; see `numba.run.ensure`."""
    numba_backend.ensure(
        "unequal", "crops of images of unequal size", _COMPILES, _compiled, lambda: (0, 0, *_no_images())
    )


def _agrees() -> bool:
    """Whether the compiled resize gives the bytes of this torch on this processor; they are compared once."""
    if "agrees" not in _known:
        _known["agrees"] = True
        with torch.device("cpu"):
            numbers = torch.arange(3 * 120 * 101) * 37 % 251
            bounds = torch.tensor([[0, wide - 1, 0, tall - 1] for tall, wide in _SIDES]).double()
            matrix = torch.zeros(len(_SIDES), 2, 3, dtype=torch.float64)
        images = [numbers[: 3 * tall * wide].to(torch.uint8).view(3, tall, wide) for tall, wide in _SIDES]
        for mode in ("bilinear", "bicubic"):
            segment = Resample(matrix, (19, 23), mode, padding="edge", bounds=bounds)
            if not torch.equal(_by_numba(segment, images), one_by_one(segment, images)):
                _known["agrees"] = False
                compiled.say_once(f"{_DIFFERS}, so torch resizes lists of images")
                break
    return _known["agrees"]


def _compiled() -> Any:
    from .numba import unequal

    return unequal.run


def _no_images() -> tuple[Any, ...]:
    numbers = np.zeros((0, 3), np.int64), np.zeros((0, 3), np.int64), np.zeros((0, 6), np.int64)
    ends = 1, 1, np.zeros(1, np.uint8)
    return 0, False, np.zeros(0, np.int64), *numbers, np.zeros((0, 4), np.int64), 0, np.zeros(1, np.uint8), *ends


def _code(segment: Segment) -> int | None:
    """What `numba.unequal` calls the segment; None: it is not compiled."""
    if isinstance(segment, Resample):
        # torch resizes to a width or height of one in float32, which gives other bytes; there is nothing to save
        return None if 1 in segment.size or segment.bounds is None else 0
    if not isinstance(segment, Warp) or not encode.is_separable(segment):
        return None
    if segment.grid or segment.interpolation == "nearest":
        across = segment.matrix[:, 0, 0].numpy()
        plain = segment.grid and segment.padding == "constant" and segment.bounds is None
        return codes.NEAREST if plain and (np.abs(across) == 1.0).all() else codes.NEAREST_SEPARABLE
    inside = segment.padding != "constant" and segment.bounds is not None
    return codes.BILINEAR_SEPARABLE if inside and segment.interpolation == "bilinear" else None


def _by_numba(segment: Warp, images: Sequence[Tensor]) -> Tensor:
    code, channels = _code(segment), images[0].shape[0]
    images = [image.detach() if code == 0 else image.detach().contiguous() for image in images]
    shapes = np.array([image.shape for image in images], np.int64)
    addresses = np.array([image.data_ptr() for image in images], np.int64)
    steps = np.array([image.stride() for image in images], np.int64)
    matrices = np.rint(segment.matrix.numpy().reshape(-1, 6) * ONE).astype(np.int64)
    bounds = np.tile(np.array(_WHOLE * 2, np.int64), (len(images), 1))
    if segment.bounds is not None:
        bounds = segment.bounds.numpy().astype(np.int64)
    fill = np.broadcast_to(encode.rounded(segment.fill), channels).copy()
    out = buffers.flat(len(images) * channels * segment.size[0] * segment.size[1], torch.uint8)
    arguments = (
        *(code, segment.interpolation == "bicubic", addresses, shapes, steps, matrices, bounds),
        *(PADDINGS.index(segment.padding), fill, *segment.size, out.numpy()),
    )
    load()
    if code == 0 and not _agrees():
        return one_by_one(segment, images)
    numba_backend.share(lambda first, last: _compiled()(first, last, *arguments), len(images), out.numel())
    return out.view(len(images), channels, *segment.size)


def _kernel_lacks(segment: Segment, first: Tensor) -> str | None:
    if not isinstance(segment, Resample) or segment.bounds is None:
        return f"{type(segment).__name__} of unequal images has no kernel"
    return "images are no uint8" if first.dtype != torch.uint8 else None


def _by_triton(segment: Resample, images: Sequence[Tensor]) -> Tensor:
    from .triton.unequal import resampled

    return resampled(segment, images)


_RUN = {"torch": one_by_one, "numba": _by_numba, "triton": _by_triton}
