"""Masks of any type, carried by a type that backends move, and move fast.

What: the compiled backend moves bytes, and torch has no indexing for uint16, uint32 and uint64. A mask is only copied
from pixel to pixel, so any type of as many different values can stand for its own. When: masks, above all int64 masks
of fewer than 257 classes on the CPU, for which a warp takes a third of the time. Cost: a look at the values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}  # of the same bytes


@dataclass(frozen=True)
class Carried:
    """A mask's values in another type. dtype: the mask's own; seen_as: the type that the bytes are read as again."""

    values: Tensor
    dtype: torch.dtype
    seen_as: torch.dtype

    def fill(self, value: float) -> float:
        """What stands for ``value``. Raises ValueError where the mask's type does not hold it."""
        if self.dtype.is_floating_point or self.dtype.is_complex:
            return value
        if self.dtype == torch.bool:
            return float(value != 0)
        limits = torch.iinfo(self.dtype)
        if not (float(value).is_integer() and limits.min <= value <= limits.max):
            raise ValueError(
                f"fill={value:g} is no value of a mask of {str(self.dtype)[6:]}; write smartaug.Mask(fill=0), or "
                "convert the mask in the dataset"
            )
        held = torch.iinfo(self.values.dtype)
        span = held.max - held.min + 1
        return float((int(value) - held.min) % span + held.min)  # the same bytes

    def back(self, moved: Tensor) -> Tensor:
        """The moved values in the mask's own type."""
        return moved.view(self.seen_as).to(self.dtype)


def carried(mask: Tensor, fills: Sequence[float]) -> Carried:
    """How a mask is moved whose parts outside get one of ``fills``. Values are only looked at on the CPU."""
    dtype = mask.dtype
    if dtype in (torch.bool, torch.int8):
        return Carried(mask.view(torch.uint8), dtype, dtype)
    if dtype in SIGNED:
        mask = mask.view(SIGNED[dtype])
    elif dtype == torch.uint8 or dtype.is_floating_point or dtype.is_complex:
        return Carried(mask, dtype, dtype)
    if mask.device.type == "cpu" and mask.numel():
        lowest, highest = torch.aminmax(mask)
        low, high = min((int(lowest), *fills)), max((int(highest), *fills))
        if low >= 0 and high <= 255:
            return Carried(mask.to(torch.uint8), dtype, torch.uint8)
        if low >= -128 and high <= 127:
            return Carried(mask.to(torch.int8).view(torch.uint8), dtype, torch.int8)
    return Carried(mask, dtype, dtype)
