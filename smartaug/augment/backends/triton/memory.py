"""How Triton kernels find, read and write the values of a sample, and how they round.

A sample lies in one of three buffers of the same type, each (B, C, H, W) dense: 0 is the batch as given, 1 and 2 are
scratch. The given batch may be channels_last (LAST); scratch is planar. Every kernel starts with the same arguments:
given, first, second (buffers 0, 1, 2), to_first, to_second (the buffers that targets 1 and 2 stand for), and info (n,
6) int32, with a record for each sample that the launch works on: row, source buffer, target, operation or partner, the
partner's buffer or whether the operation mixes channels, and one to spare.

FLOAT: values are floats, worked on in float32; else uint8, worked on in int32 and float32 as the torch backend does.
"""

from __future__ import annotations

import triton
import triton.language as tl

FIELDS = tl.constexpr(6)
ROW, SOURCE, TARGET = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)


@triton.jit
def record(info, k, field: tl.constexpr):
    """Field of the k-th record."""
    return tl.load(info + k * FIELDS + field)


@triton.jit
def buffer(given, first, second, number, row, size):
    """Start of the sample ``row`` of ``size`` values in buffer 0, 1 or 2."""
    start = tl.where(number == 0, given, tl.where(number == 1, first, second))
    return start + row.to(tl.int64) * size  # 64 bits: a batch may have more than 2**31 values


@triton.jit
def own_pixels(blocks, pixels, BLOCK: tl.constexpr):
    """This program's part of the work: the number k of its record, its pixels (BLOCK,), and which of them there are.

    A launch has ``blocks`` programs for each record, one after the other, which share its ``pixels``.
    """
    k = tl.program_id(0) // blocks
    pixel = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    return k, pixel, pixel < pixels


@triton.jit
def read_from(given, first, second, info, k, plane, C: tl.constexpr, LAST: tl.constexpr):
    """Where record k reads: the start of its sample, and the values from a pixel and from a channel to the next."""
    source = record(info, k, SOURCE)
    part = buffer(given, first, second, source, record(info, k, ROW), C * plane)
    return part, pixel_step(source, C, LAST), channel_step(source, plane, LAST)


@triton.jit
def write_to(to_first, to_second, info, k, plane, C: tl.constexpr):
    """Where record k writes: the start of its sample, which is planar."""
    # a target is 1 or 2, never the given batch
    return buffer(to_first, to_first, to_second, record(info, k, TARGET), record(info, k, ROW), C * plane)


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
    """float32 in 0..2**22 rounded to whole numbers, halves to even, as torch's ``round`` does.

    From 2**23 on neighbouring float32 are 1 apart, so the sum leaves no place for a fraction.
    """
    return (values + 8388608.0) - 8388608.0


@triton.jit
def clip(values, top):
    """Values kept in 0..top."""
    return tl.minimum(tl.maximum(values, 0.0), top)
