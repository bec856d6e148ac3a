"""Plans for images of unequal size, which their first segment makes equal.

What: an augmentation with `takes_unequal` also samples a plan from the sizes of all images of a batch at once. Its
draws are those of each image by itself, since they are keyed by sample; its segments have one row an image, as always.
When: lists of images, such as photographs of unequal size. Cost: that of a plan for one batch, where a plan for each
size costs as much as many pixels. Reference: none.

The shape that such a plan is sampled from is (B, C, heights, widths), with arrays (B,) in place of two numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .plan import Plan, Segment, Trace

UNKNOWN = -1  # height and width in the shape of a plan for images that have several


@dataclass(frozen=True)
class UnequalPlan(Plan):
    """A plan whose images differ in size; shape: (B, C, −1, −1). sizes: (B, 2) int64, their heights and widths."""

    sizes: Any = None

    @property
    def output_shape(self) -> tuple[Any, ...]:
        """(B, C, H, W) of the result; the unequal sizes as arrays (B,) while there is no segment."""
        if self.segments:
            return super().output_shape
        heights, widths = self.sizes.numpy().T
        return (*self.shape[:2], heights, widths)

    def rows(self, index: Tensor) -> UnequalPlan:
        """The plan of the samples ``index`` (R,) int64, which may repeat."""
        taken = super().rows(index)
        return UnequalPlan(taken.shape, taken.segments, taken.trace, taken.separate, self.sizes[index])

    def of_size(self, index: Tensor) -> Plan:
        """The plan of the samples ``index`` (R,) int64, which have one size."""
        taken = super().rows(index)
        height, width = self.sizes[int(index[0])].tolist()
        return Plan((*taken.shape[:2], height, width), taken.segments, taken.trace, taken.separate)


def shape_of(images: Sequence[Tensor]) -> tuple[Any, ...]:
    """(B, C, heights, widths) of images (C, H, W), the last two int64 (B,)."""
    sizes = np.array([image.shape[-2:] for image in images], np.int64)
    return len(images), images[0].shape[0], sizes[:, 0], sizes[:, 1]


def plan_for(shape: Sequence[Any], segments: tuple[Segment, ...], trace: Trace) -> Plan:
    """A plan for images of ``shape``, which may have arrays (B,) of heights and widths."""
    if len(shape) != 4 or not isinstance(shape[2], np.ndarray):
        return Plan(tuple(shape), segments, trace)
    sizes = torch.from_numpy(np.stack([shape[2], shape[3]], 1))
    return UnequalPlan((shape[0], shape[1], UNKNOWN, UNKNOWN), segments, trace, None, sizes)


def refuse_small(name: str, room: tuple[Any, Any], shape: Sequence[Any], size: tuple[int, int], remedy: str) -> None:
    """Raise a ValueError where a window of ``size`` does not fit. room: what is left of height and width, or arrays."""
    short = np.minimum(*room)
    if np.min(short) >= 0:
        return
    height, width = (int(np.broadcast_to(sides, np.shape(short)).flat[np.argmin(short)]) for sides in shape[2:])
    raise ValueError(f"{name} cannot cut {size[0]}×{size[1]} out of {height}×{width}{remedy}")
