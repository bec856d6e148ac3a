"""What each pixel of an image resized with antialiasing reads, in integers as torch's `interpolate` for uint8.

What: the tables of `numba.resample`, of many lengths at once, by tensor operations; `triton.unequal` computes with
them, and they are the plain form of the compiled ones. Cost: some thirty operations on (B, made, taps) float64.
Reference: Pillow's ``Image.resize``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_MOST = 22  # bits of a weight's fraction


class Weights(NamedTuple):
    """Of B images: first (B, made) int32, where each pixel begins to read; values (B, made, taps) int32, 0 where it
    reads no more; bits (B,) int32 of the values' fraction."""

    first: Tensor
    values: Tensor
    bits: Tensor


def weights(lengths: Tensor, made: int, interpolation: str, taps: int) -> Weights:
    """Of ``lengths`` (B,) pixels that become ``made`` pixels each; interpolation: "bilinear" or "bicubic".

    taps: at least as many as any pixel reads, which are not looked up, so that nothing waits for a device.
    """
    scale = lengths.double()[:, None] / made
    wide = scale.clamp(min=1.0)
    support = wide * (2.0 if interpolation == "bicubic" else 1.0)
    centre = scale * (torch.arange(made, device=lengths.device) + 0.5)
    first = (centre - support + 0.5).long().clamp(min=0)
    count = torch.minimum((centre + support + 0.5).long(), lengths[:, None]) - first
    tap = torch.arange(taps, device=lengths.device)
    share = _filter((tap + first[..., None] - centre[..., None] + 0.5) / wide[..., None], interpolation)
    share = torch.where(tap < count[..., None], share, 0.0)
    total = torch.zeros_like(centre)
    for one in share.unbind(-1):  # one after the other, as compiled code adds them
        total = total + one
    share = share / total[..., None]
    bits = _bits(share.amax((1, 2)))
    scaled = share * (1 << bits).double()[:, None, None]
    values = torch.where(scaled < 0, scaled - 0.5, scaled + 0.5).int()  # cut off, as C does
    return Weights(first.int(), values, bits.int())


def _bits(largest: Tensor) -> Tensor:
    """The most bits with which the largest weight (B,) fits into 15."""
    bits = torch.zeros_like(largest, dtype=torch.int64)
    for more in range(1, _MOST + 1):
        fits = (0.5 + largest * (1 << more)).long() < 1 << 15
        bits = torch.where(fits & (bits == more - 1), more, bits)
    return bits


def _filter(x: Tensor, interpolation: str) -> Tensor:
    """The weight of a pixel ``x`` away from the middle; bicubic with a = −0.5."""
    x = x.abs()
    if interpolation == "bilinear":
        return (1.0 - x).clamp(min=0.0)
    near, far = (1.5 * x - 2.5) * x * x + 1.0, (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
    return torch.where(x < 1.0, near, torch.where(x < 2.0, far, 0.0))
