"""Images of unequal size on CUDA, resized to one size by one launch.

The parts that are kept are packed into one flat buffer; what each pixel reads is computed on the device. Nothing waits
for the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...resample import Resample
from ..torch.weights import weights
from . import resample as kernels
from .device import on

_BLOCK = 256  # pixels a program works on
_OPTIONS = {"num_warps": 4, "enable_fp_fusion": False}


def resampled(segment: Resample, images: Sequence[Tensor]) -> Tensor:
    """Images (C, H, W) uint8 after ``segment``, as one batch (B, C, *size)."""
    assert segment.bounds is not None
    boxes, (tall, wide) = segment.bounds.long().numpy(), segment.size
    device, channels = images[0].device, images[0].shape[0]
    sizes = np.stack([boxes[:, 3] - boxes[:, 2] + 1, boxes[:, 1] - boxes[:, 0] + 1], 1)
    starts = np.concatenate([[0], np.cumsum(channels * sizes.prod(1))[:-1]])
    parts = [
        image.detach()[:, top : bottom + 1, left : right + 1].reshape(-1)
        for image, (left, right, top, bottom) in zip(images, boxes.tolist(), strict=True)
    ]
    numbers = torch.from_numpy(np.concatenate([starts[:, None], sizes], 1))
    numbers = (numbers.pin_memory() if device.type == "cuda" else numbers).to(device, non_blocking=True)
    out = torch.empty(len(images), channels, tall, wide, dtype=torch.uint8, device=device)
    blocks = -(-tall * wide // _BLOCK)
    taps = [_taps(sizes[:, axis], made, segment.interpolation) for axis, made in enumerate(segment.size)]
    down = weights(numbers[:, 1], tall, segment.interpolation, taps[0])
    across = weights(numbers[:, 2], wide, segment.interpolation, taps[1])
    with on(device):
        kernels.resample[(len(images) * blocks,)](
            torch.cat(parts), out, numbers[:, 0].contiguous(), numbers[:, 1:].int().contiguous(), *across, *down,
            blocks, tall, wide, C=channels, TAPS_X=taps[1], TAPS_Y=taps[0], BLOCK=_BLOCK, **_OPTIONS,
        )  # fmt: skip
    return out


def _taps(lengths: np.ndarray, made: int, interpolation: str) -> int:
    """The most that a pixel reads; rounded up to an even number, so that fewer kernels are compiled."""
    half = 2 if interpolation == "bicubic" else 1
    return (int(np.ceil(half * max(1.0, float(lengths.max()) / made))) * 2 + 2) // 2 * 2
