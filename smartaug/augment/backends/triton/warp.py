"""Affine resampling in Triton: any matrix, nearest or bilinear, every padding; coordinates as `plan.Warp` defines them.

It computes the same integers as the torch backend, hence for uint8 the same bytes. A program computes the coordinates
of a block of output pixels once and reads every channel there.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ..tables.coordinates import ONE
from ..tables.paddings import PADDINGS
from .memory import finish, own_pixels, read, read_from, write_to

CONSTANT = tl.constexpr(PADDINGS.index("constant"))
REFLECT = tl.constexpr(PADDINGS.index("reflect"))
SYMMETRIC = tl.constexpr(PADDINGS.index("symmetric"))
HALF = tl.constexpr(ONE // 2)  # added before a shift by 32, which cuts the fraction off: the nearest pixel is ⌊x + ½⌋
FRACTION = tl.constexpr(ONE - 1)  # mask of the fraction; also right for negative numbers in two's complement


@triton.jit
def _modulo(a, b):
    """a mod b in 0..b-1 for b > 0, also for negative a, of which the device's remainder is negative."""
    rest = a % b
    return tl.where(rest < 0, rest + b, rest)


@triton.jit
def within(position, length, PADDING: tl.constexpr):
    """Positions brought into 0..length-1."""
    if PADDING == REFLECT:
        last = length - 1
        position = last - tl.abs(_modulo(position, tl.maximum(2 * last, 1)) - last)
    elif PADDING == SYMMETRIC:
        position = _modulo(position, 2 * length)
        position = tl.minimum(position, 2 * length - 1 - position)
    return tl.minimum(tl.maximum(position, 0), length - 1)


@triton.jit
def _seen(position, length):
    return (position >= 0) & (position < length)


@triton.jit
def _tap(part, row_at, column_at, mask, seen, fill, FLOAT: tl.constexpr, PADDING: tl.constexpr):
    """One channel at the given places, or the fill."""
    values = read(part + (row_at + column_at), mask, FLOAT)
    if PADDING == CONSTANT:
        values = tl.where(seen, values, fill.to(values.dtype))
    return values


@triton.jit
def warp(
    given,
    first,
    second,
    to_first,
    to_second,
    info,
    matrices,
    bounds,
    fill,
    scale,
    shift,
    blocks,
    height,
    width,
    tall,
    wide,
    C: tl.constexpr,
    LAST: tl.constexpr,
    FLOAT: tl.constexpr,
    STORE: tl.constexpr,
    BILINEAR: tl.constexpr,
    PADDING: tl.constexpr,
    BOUNDED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Samples of height × width resampled to tall × wide.

    matrices (n, 6) and bounds (n, 4), low and high x, low and high y: int64 in units of 2**-32 pixels. fill (C,).
    """
    out_plane = tall * wide
    k, pixel, mask = own_pixels(blocks, out_plane, BLOCK)
    part, step, jump = read_from(given, first, second, info, k, height * width, C, LAST)
    out = write_to(to_first, to_second, info, k, out_plane, C)
    m = matrices + k * 6
    # 64 bits, as coordinates have 32 for the fraction alone
    down, across = (pixel // wide).to(tl.int64), (pixel % wide).to(tl.int64)
    xs = tl.load(m) * across + (tl.load(m + 1) * down + tl.load(m + 2))
    ys = tl.load(m + 3) * across + (tl.load(m + 4) * down + tl.load(m + 5))
    if BOUNDED:
        b = bounds + k * 4
        xs = tl.minimum(tl.maximum(xs, tl.load(b)), tl.load(b + 1))
        ys = tl.minimum(tl.maximum(ys, tl.load(b + 2)), tl.load(b + 3))
    if BILINEAR:
        left, top = (xs >> 32).to(tl.int32), (ys >> 32).to(tl.int32)
        left_in, right_in = _seen(left, width), _seen(left + 1, width)
        top_in, bottom_in = _seen(top, height), _seen(top + 1, height)
        near, far = within(left, width, PADDING) * step, within(left + 1, width, PADDING) * step
        upper, lower = within(top, height, PADDING) * width * step, within(top + 1, height, PADDING) * width * step
        for c in tl.static_range(C):
            value = tl.load(fill + c)
            channel = part + c * jump
            a = _tap(channel, upper, near, mask, top_in & left_in, value, FLOAT, PADDING)
            b = _tap(channel, upper, far, mask, top_in & right_in, value, FLOAT, PADDING)
            d = _tap(channel, lower, near, mask, bottom_in & left_in, value, FLOAT, PADDING)
            e = _tap(channel, lower, far, mask, bottom_in & right_in, value, FLOAT, PADDING)
            if FLOAT:
                # the whole fraction counts, in units of 2**-32
                u = (xs & FRACTION).to(tl.float32) * (1.0 / 4294967296.0)
                v = (ys & FRACTION).to(tl.float32) * (1.0 / 4294967296.0)
                a += (b - a) * u
                d += (e - d) * u
                mixed = a + (d - a) * v
            else:
                # weights rounded to 11 of the 32 bits: 255 · 2**22, the largest sum, fits into int32
                s = (((xs & FRACTION) + (1 << 20)) >> 21).to(tl.int32)
                t = (((ys & FRACTION) + (1 << 20)) >> 21).to(tl.int32)
                mixed = (a * (2048 - s) + b * s) * (2048 - t) + (d * (2048 - s) + e * s) * t
                mixed = (mixed + (1 << 21)) >> 22  # rounded to nearest
            finish(out + pixel + c * out_plane, mixed, tl.load(scale + c), tl.load(shift + c), mask, STORE)
    else:
        column, line = ((xs + HALF) >> 32).to(tl.int32), ((ys + HALF) >> 32).to(tl.int32)
        seen = _seen(column, width) & _seen(line, height)
        column_at, row_at = within(column, width, PADDING) * step, within(line, height, PADDING) * width * step
        for c in tl.static_range(C):
            taken = _tap(part + c * jump, row_at, column_at, mask, seen, tl.load(fill + c), FLOAT, PADDING)
            finish(out + pixel + c * out_plane, taken, tl.load(scale + c), tl.load(shift + c), mask, STORE)
