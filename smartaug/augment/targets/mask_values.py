"""Masks of any type, carried by a type that backends move, and move fast.

What: the compiled backend moves bytes, and torch has no indexing for uint16, uint32 and uint64. A mask is only copied
from pixel to pixel, so any type of as many different values can stand for its own. When: masks, above all int64 and
float masks of fewer than 257 classes on the CPU, for which a warp takes a third of the time or less. Cost: a look at
the values, and a copy there and back. NumPy does it, on one thread: torch splits such work over threads, which takes
ten times as long where DataLoader workers keep the other cores busy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# unsigned types are read as the signed ones of the same bytes
SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}
_LOOKED_AT = (torch.int16, torch.int32, torch.int64, torch.float16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Carried:
    """A mask's values in another type. dtype: the mask's own; seen_as: the type that the bytes are read as again."""

    values: Tensor
    dtype: torch.dtype
    seen_as: torch.dtype

    def fill(self, value: float) -> float:
        """What stands for ``value``. Raises ValueError where the mask's type does not hold it."""
        if self.values.dtype.is_floating_point or self.values.dtype.is_complex:
            return value
        if self.dtype == torch.bool:
            return float(value != 0)
        limits = None if self.dtype.is_floating_point else torch.iinfo(self.dtype)
        if limits is not None and not (float(value).is_integer() and limits.min <= value <= limits.max):
            raise ValueError(
                f"fill={value:g} is no value of a mask of {str(self.dtype)[6:]}; write smartaug.Mask(fill=0), or "
                "convert the mask in the dataset"
            )
        held = torch.iinfo(self.values.dtype)
        span = held.max - held.min + 1
        return float((int(value) - held.min) % span + held.min)  # the same bytes

    def back(self, moved: Tensor) -> Tensor:
        """The moved values in the mask's own type."""
        moved = moved.view(self.seen_as)
        if moved.dtype == self.dtype or moved.device.type != "cpu":
            return moved.to(self.dtype)
        return torch.from_numpy(moved.numpy().astype(torch.empty(0, dtype=self.dtype).numpy().dtype))


def signed(mask: Tensor) -> Tensor:
    """The bytes of a mask, those of unsigned types of more than one byte read as signed numbers."""
    return mask.view(SIGNED.get(mask.dtype, mask.dtype))


def carried(mask: Tensor, fills: Sequence[float]) -> Carried:
    """How a mask is moved whose parts outside get one of ``fills``. Values are only looked at on the CPU."""
    dtype = mask.dtype
    if dtype in (torch.bool, torch.int8):
        return Carried(mask.view(torch.uint8), dtype, dtype)
    if dtype in SIGNED:
        mask = signed(mask)
    elif dtype not in _LOOKED_AT:
        return Carried(mask, dtype, dtype)
    if mask.device.type == "cpu" and mask.numel():
        values = mask.detach().numpy()
        low, high = min((float(values.min()), *fills)), max((float(values.max()), *fills))  # NaN fits nowhere
        whole = all(float(fill).is_integer() for fill in fills)
        if whole and low >= 0 and high <= 255 and (small := _in_type(values, np.uint8)) is not None:
            return Carried(small, dtype, torch.uint8)
        if whole and low >= -128 and high <= 127 and (small := _in_type(values, np.int8)) is not None:
            return Carried(small.view(torch.uint8), dtype, torch.int8)
    return Carried(mask, dtype, dtype)


def _in_type(values: np.ndarray, kind: type[np.number]) -> Tensor | None:
    """``values``, all in the range of ``kind``, in that type; None unless they can come back bit for bit."""
    small = values.astype(kind)
    if values.dtype.kind == "f":
        bits = f"u{values.itemsize}"
        if not np.array_equal(small.astype(values.dtype).view(bits), values.view(bits)):  # fractions, and −0
            return None
    return torch.from_numpy(small)
