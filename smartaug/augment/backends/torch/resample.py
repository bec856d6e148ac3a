"""Resizing with antialiasing, by torch's `interpolate`, image by image or for all that have the same part."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ...._base.threads import over_rows
from ...resample import Resample


def resampled(images: Tensor, segment: Resample, owned: bool) -> Tensor:
    """Images (B, C, H, W) after ``segment``; uint8 is rounded to the nearest level and cut off."""
    if segment.bounds is None:
        raise ValueError("Resample needs bounds (B, 4), the lowest x, highest x, lowest y and highest y of each part")
    if segment.active is None:
        rows, out = torch.arange(len(images)), images.new_empty(*images.shape[:2], *segment.size)
    else:
        rows = segment.active.nonzero()[:, 0]
        out = images if owned or not len(rows) else images.clone()
    parts, group = segment.bounds[rows].long().unique(dim=0, return_inverse=True)
    boxes = parts.tolist()
    listed = [rows[group == number] for number in range(len(boxes))]

    def run(first: int, last: int) -> None:
        for (left, right, top, bottom), there in zip(boxes[first:last], listed[first:last], strict=True):
            if len(there) == 1:  # a view, where taking rows would copy the whole image
                row = int(there)
                part = images[row : row + 1, :, top : bottom + 1, left : right + 1]
                out[row] = _resized(part, segment)[0]
            else:
                on = there.to(images.device, non_blocking=True)
                part = images[:, :, top : bottom + 1, left : right + 1].index_select(0, on)
                out.index_copy_(0, on, _resized(part, segment))

    if images.device.type == "cpu":
        over_rows(run, len(boxes))
    else:
        run(0, len(boxes))
    return out


def unequal(images: Sequence[Tensor], segment: Resample) -> Tensor:
    """Images (C, H, W) of unequal size after ``segment``, of all rows, as one batch (B, C, *size)."""
    assert segment.bounds is not None
    boxes, out = segment.bounds.long().tolist(), images[0].new_empty((len(images), len(images[0]), *segment.size))

    def run(first: int, last: int) -> None:
        for row in range(first, last):
            left, right, top, bottom = boxes[row]
            out[row] = _resized(images[row][None, :, top : bottom + 1, left : right + 1], segment)[0]

    if out.device.type == "cpu":
        over_rows(run, len(boxes))
    else:
        run(0, len(boxes))
    return out


def _resized(part: Tensor, segment: Resample) -> Tensor:
    """One part of some images, (N, C, h, w) to (N, C, *size), of the same type."""
    tall, wide = segment.size
    # torch 2.14 fails on uint8 of one pixel, and resizes floats to a width of one wrongly: then as a height of one
    by_bytes = part.dtype == torch.uint8 and part.device.type == "cpu" and 1 not in (tall, wide)
    native = by_bytes or part.dtype in (torch.float32, torch.float64)
    work = part if native else part.float()
    if 1 in part.shape[2:]:  # torch 2.14 reads uint8 by the stride of a side of one pixel, which says nothing
        work = work.clone(memory_format=torch.contiguous_format)
    if wide == 1:
        made = interpolate(work.mT, (wide, tall), mode=segment.interpolation, antialias=True).mT
    else:
        made = interpolate(work, (tall, wide), mode=segment.interpolation, antialias=True)
    if part.dtype == torch.uint8 and not native:
        made = made.round_().clamp_(0, 255)
    return made.to(part.dtype)
