"""Where the Triton kernels find and put a sample's values, and how they round.

A sample lies in one of three buffers of the same type: 0 the batch as given, 1 and 2 scratch, each (B, C, H, W) dense.
The given batch may be channels_last (LAST), scratch never is. Every kernel starts with the same arguments: given,
first, second (buffers 0, 1, 2), to_first, to_second (what targets 1 and 2 mean), and info (n, 6) int32, a record for
each sample it works on: row, source buffer, target, operation or partner, the partner's buffer, and one to spare.

FLOAT: values are floats, worked on in float32; else uint8, worked on in int32 and float32 as the torch backend does.
"""

from __future__ import annotations

import triton
import triton.language as tl

FIELDS = tl.constexpr(6)


@triton.jit
def record(info, k, field: tl.constexpr):
    """Field of the k-th record."""
    return tl.load(info + k * FIELDS + field)


@triton.jit
def buffer(given, first, second, number, row, size):
    """Start of the sample ``row`` of ``size`` values in buffer 0, 1 or 2."""
    start = tl.where(number == 0, given, tl.where(number == 1, first, second))
    return start + row.to(tl.int64) * size


@triton.jit
def pixel_step(number, C: tl.constexpr, LAST: tl.constexpr):
    """Values from one pixel to the next in that buffer."""
    step = 1
    if LAST:
        step = tl.where(number == 0, C, 1)
    return step


@triton.jit
def channel_step(number, plane, LAST: tl.constexpr):
    """Values from one channel to the next in that buffer."""
    step = plane
    if LAST:
        step = tl.where(number == 0, 1, plane)
    return step


@triton.jit
def read(pointers, mask, FLOAT: tl.constexpr):
    """Values as float32, or uint8 as int32."""
    values = tl.load(pointers, mask=mask, other=0)
    if FLOAT:
        worked = values.to(tl.float32)
    else:
        worked = values.to(tl.int32)
    return worked


@triton.jit
def write(pointers, values, mask):
    """Values in the type of the memory, floats rounded to nearest; uint8 must be in range."""
    tl.store(pointers, values.to(pointers.dtype.element_ty), mask=mask)


@triton.jit
def finish(pointers, values, scale, shift, mask, STORE: tl.constexpr):
    """``write``, with STORE normalised by the channel's scale and shift."""
    if STORE:
        values = values.to(tl.float32) * scale + shift
    write(pointers, values, mask)


@triton.jit
def half_even(values):
    """float32 in 0..2**22 rounded to whole numbers, halves to even: adding 2**23 leaves no place for a fraction."""
    return (values + 8388608.0) - 8388608.0


@triton.jit
def clip(values, top):
    """Values kept in 0..top."""
    return tl.minimum(tl.maximum(values, 0.0), top)
