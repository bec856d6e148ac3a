"""Resizing with antialiasing in Triton, of parts of unequal size that lie one after the other in one buffer.

It computes the integers of `numba.resample`: for each pixel of the result the lines that it reads are summed along
rows, rounded to grey levels, and summed along columns. Lines are summed anew for each pixel, which takes some dozens of
reads, where lines kept in between would take memory of the device and a second launch.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .memory import own_pixels


@triton.jit
def _level(total, bits):
    return tl.minimum(tl.maximum(total >> bits, 0), 255)


@triton.jit
def resample(
    flat,
    out,
    starts,
    sizes,
    first_x,
    weights_x,
    bits_x,
    first_y,
    weights_y,
    bits_y,
    blocks,
    tall,
    wide,
    C: tl.constexpr,
    TAPS_X: tl.constexpr,
    TAPS_Y: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Parts (C, h, w) uint8 at starts (B,) int64 of ``flat``, of sizes (B, 2) int32, to out (B, C, tall, wide).

    first_x (B, wide), weights_x (B, wide, TAPS_X), bits_x (B,) and those of y: see `torch.weights`.
    """
    plane = tall * wide
    k, pixel, mask = own_pixels(blocks, plane, BLOCK)
    y, x = pixel // wide, pixel % wide
    height, width = tl.load(sizes + 2 * k), tl.load(sizes + 2 * k + 1)
    shift_x, shift_y = tl.load(bits_x + k), tl.load(bits_y + k)
    half_x, half_y = 1 << (shift_x - 1), 1 << (shift_y - 1)
    left = tl.load(first_x + k * wide + x, mask=mask, other=0)
    top = tl.load(first_y + k * tall + y, mask=mask, other=0)
    part = flat + tl.load(starts + k)
    into = out + k.to(tl.int64) * C * plane
    for c in tl.static_range(C):
        total = tl.zeros([BLOCK], tl.int32) + half_y
        for j in range(TAPS_Y):
            share = tl.load(weights_y + (k * tall + y) * TAPS_Y + j, mask=mask, other=0)
            line = part + (c * height + tl.minimum(top + j, height - 1)) * width
            along = tl.zeros([BLOCK], tl.int32) + half_x
            for i in range(TAPS_X):
                weight = tl.load(weights_x + (k * wide + x) * TAPS_X + i, mask=mask, other=0)
                value = tl.load(line + tl.minimum(left + i, width - 1), mask=mask, other=0)
                along += weight * value.to(tl.int32)
            total += share * _level(along, shift_x)
        tl.store(into + c * plane + pixel, _level(total, shift_y).to(tl.uint8), mask=mask)
