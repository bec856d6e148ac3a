"""The Triton kernels that are neither warps nor tones: lookup, noise, sharpness, blur, erase, mix, the final store.

Every kernel finds its pixels, its sample and where to write it by the same three calls of `memory`; one program works
on a block of pixels of one sample, in all channels.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ..tables import gauss
from .memory import (
    buffer,
    channel_step,
    clip,
    finish,
    half_even,
    own_pixels,
    pixel_step,
    read,
    read_from,
    record,
    write,
    write_to,
)
from .warp import REFLECT, within

FIRST, SECOND = tl.constexpr(float(gauss.FIRST)), tl.constexpr(float(gauss.SECOND))
BITS, LOW = tl.constexpr(gauss.BITS), tl.constexpr((1 << gauss.BITS) - 1)
BOTH, LOW_BOTH = tl.constexpr(2 * gauss.BITS), tl.constexpr((1 << 2 * gauss.BITS) - 1)
# SplitMix64, see `draws`
GOLDEN, FIRST_FACTOR = tl.constexpr(0x9E3779B97F4A7C15), tl.constexpr(0xBF58476D1CE4E5B9)
SECOND_FACTOR = tl.constexpr(0x94D049BB133111EB)


@triton.jit
def lookup(
    given,
    first,
    second,
    to_first,
    to_second,
    info,
    tables,
    blocks,
    plane,
    C: tl.constexpr,
    LAST: tl.constexpr,
    FLOAT: tl.constexpr,
    TABLES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """What tables (n, TABLES, 256) float32 have for each grey level; TABLES: C, or 1 for all channels alike."""
    k, pixel, mask = own_pixels(blocks, plane, BLOCK)
    part, step, jump = read_from(given, first, second, info, k, plane, C, LAST)
    out = write_to(to_first, to_second, info, k, plane, C)
    for c in tl.static_range(C):
        values = read(part + pixel * step + c * jump, mask, FLOAT)
        level = values
        if FLOAT:
            level = half_even(clip(values * 255.0, 255.0)).to(tl.int32)
        found = tl.load(tables + (k * TABLES + c % TABLES) * 256 + level, mask=mask, other=0)
        if FLOAT:
            made = tl.div_rn(found, 255.0)
        else:
            made = half_even(found).to(tl.int32)
        write(out + pixel + c * plane, made, mask)


@triton.jit
def noise(
    given,
    first,
    second,
    to_first,
    to_second,
    info,
    keys,
    numbers,
    quantiles,
    blocks,
    plane,
    C: tl.constexpr,
    LAST: tl.constexpr,
    FLOAT: tl.constexpr,
    SHARED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Normal noise from keys (n,) int64, see `gauss`. numbers (n, 2): standard deviation and mean in grey levels."""
    k, pixel, mask = own_pixels(blocks, plane, BLOCK)
    part, step, jump = read_from(given, first, second, info, k, plane, C, LAST)
    out = write_to(to_first, to_second, info, k, plane, C)
    spread, centre = tl.load(numbers + k * 2), tl.load(numbers + k * 2 + 1)
    key = tl.load(keys + k).to(tl.uint64, bitcast=True)
    half = (plane + 1) // 2 if SHARED else (C * plane + 1) // 2
    for c in tl.static_range(C):
        number = pixel if SHARED else pixel + c * plane
        slot = tl.where(number < half, number, number - half)
        # 64 bits a slot, of which values n and n + half take 24 each, see `tables.gauss`
        word = key + (slot + 1).to(tl.uint64) * GOLDEN
        word = (word ^ (word >> 30)) * FIRST_FACTOR
        word = (word ^ (word >> 27)) * SECOND_FACTOR
        word = word ^ (word >> 31)
        word = tl.where(number < half, word, word >> BOTH).to(tl.int32) & LOW_BOTH
        drawn = tl.load(quantiles + (word & LOW)) * FIRST + tl.load(quantiles + (word >> BITS)) * SECOND
        added = drawn * spread + centre
        values = read(part + pixel * step + c * jump, mask, FLOAT)
        if FLOAT:
            made = clip(values + tl.div_rn(added, 255.0), 1.0)
        else:
            made = tl.minimum(tl.maximum(values + added.to(tl.int32), 0), 255)
        write(out + pixel + c * plane, made, mask)


@triton.jit
def sharpness(
    given,
    first,
    second,
    to_first,
    to_second,
    info,
    amounts,
    blocks,
    height,
    width,
    C: tl.constexpr,
    LAST: tl.constexpr,
    FLOAT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """x + (1 − amount) · (3×3 mean with weight 5 in the middle − x); the outermost pixels stay. amounts (n,)."""
    plane = height * width
    k, pixel, mask = own_pixels(blocks, plane, BLOCK)
    part, step, jump = read_from(given, first, second, info, k, plane, C, LAST)
    out = write_to(to_first, to_second, info, k, plane, C)
    y, x = pixel // width, pixel % width
    inner = mask & (y > 0) & (y < height - 1) & (x > 0) & (x < width - 1)
    rest = 1.0 - tl.load(amounts + k)
    for c in tl.static_range(C):
        channel = part + c * jump
        middle = read(channel + pixel * step, mask, FLOAT)
        total = middle * 4  # the loop adds the middle once more: weight 5
        for dy in tl.static_range(-1, 2):
            for dx in tl.static_range(-1, 2):
                total += read(channel + (pixel + dy * width + dx) * step, inner, FLOAT)
        if FLOAT:
            values = clip(middle + rest * (tl.div_rn(total, 13.0) - middle), 1.0)
        else:
            smooth = (total * 2 + 13) // 26  # total / 13 rounded to nearest, in whole numbers
            values = clip(middle.to(tl.float32) + rest * (smooth - middle).to(tl.float32), 255.0).to(tl.int32)
        write(out + pixel + c * plane, tl.where(inner, values, middle), mask)


@triton.jit
def blur_columns(
    given,
    first,
    second,
    blurred,
    info,
    weights,
    blocks,
    height,
    width,
    TAPS: tl.constexpr,
    C: tl.constexpr,
    LAST: tl.constexpr,
    FLOAT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Each column of a sample weighted over TAPS rows, reflected at the border: to blurred (n, C, H, W) float32.

    weights (n, TAPS) float32.
    """
    plane = height * width
    k, pixel, mask = own_pixels(blocks, plane, BLOCK)
    part, step, jump = read_from(given, first, second, info, k, plane, C, LAST)
    out = blurred + k.to(tl.int64) * (C * plane)
    y, x = pixel // width, pixel % width
    for c in tl.static_range(C):
        total = tl.zeros((BLOCK,), tl.float32)
        for tap in range(TAPS):
            near = within(y + (tap - TAPS // 2), height, REFLECT)
            values = read(part + (near * width + x) * step + c * jump, mask, FLOAT).to(tl.float32)
            total += values * tl.load(weights + k * TAPS + tap)
        tl.store(out + pixel + c * plane, total, mask=mask)


@triton.jit
def blur_rows(
    blurred,
    to_first,
    to_second,
    info,
    weights,
    blocks,
    height,
    width,
    TAPS: tl.constexpr,
    C: tl.constexpr,
    FLOAT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Each row of blurred (n, C, H, W) float32 weighted over TAPS columns; rounded for uint8. weights (n, TAPS)."""
    plane = height * width
    k, pixel, mask = own_pixels(blocks, plane, BLOCK)
    part = blurred + k.to(tl.int64) * (C * plane)
    out = write_to(to_first, to_second, info, k, plane, C)
    y, x = pixel // width, pixel % width
    for c in tl.static_range(C):
        total = tl.zeros((BLOCK,), tl.float32)
        for tap in range(TAPS):
            near = within(x + (tap - TAPS // 2), width, REFLECT)
            values = tl.load(part + y * width + near + c * plane, mask=mask, other=0)
            total += values * tl.load(weights + k * TAPS + tap)
        if not FLOAT:  # `write` would cut the fraction off
            total = half_even(clip(total, 255.0))
        write(out + pixel + c * plane, total, mask)


@triton.jit
def _covered(boxes, y, x):
    """Whether pixels lie in the box top, left, height, width."""
    top, left = tl.load(boxes), tl.load(boxes + 1)
    return (y >= top) & (y < top + tl.load(boxes + 2)) & (x >= left) & (x < left + tl.load(boxes + 3))


@triton.jit
def erase(
    given,
    first,
    second,
    to_first,
    to_second,
    info,
    boxes,
    fill,
    blocks,
    count,
    height,
    width,
    C: tl.constexpr,
    LAST: tl.constexpr,
    FLOAT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Rectangles set to fill (C,). boxes (n, count, 4) int32."""
    plane = height * width
    k, pixel, mask = own_pixels(blocks, plane, BLOCK)
    part, step, jump = read_from(given, first, second, info, k, plane, C, LAST)
    out = write_to(to_first, to_second, info, k, plane, C)
    y, x = pixel // width, pixel % width
    covered = pixel < 0  # nowhere, as a block of bool
    for n in range(count):
        covered = covered | _covered(boxes + (k * count + n) * 4, y, x)
    for c in tl.static_range(C):
        values = read(part + pixel * step + c * jump, mask, FLOAT)
        write(out + pixel + c * plane, tl.where(covered, tl.load(fill + c).to(values.dtype), values), mask)


@triton.jit
def mix(
    given,
    first,
    second,
    to_first,
    to_second,
    info,
    boxes,
    shares,
    scale,
    shift,
    blocks,
    height,
    width,
    C: tl.constexpr,
    LAST: tl.constexpr,
    FLOAT: tl.constexpr,
    STORE: tl.constexpr,
    PASTE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Each sample with a part of its partner in boxes (n, 4) int32 (PASTE), or blended with it by shares (n,)."""
    plane = height * width
    k, pixel, mask = own_pixels(blocks, plane, BLOCK)
    part, step, jump = read_from(given, first, second, info, k, plane, C, LAST)
    out = write_to(to_first, to_second, info, k, plane, C)
    partner, partner_source = record(info, k, 3), record(info, k, 4)
    other = buffer(given, first, second, partner_source, partner, C * plane)
    other_step, other_jump = pixel_step(partner_source, C, LAST), channel_step(partner_source, plane, LAST)
    if PASTE:
        pasted = _covered(boxes + k * 4, pixel // width, pixel % width)
    else:
        share = tl.load(shares + k)
    for c in tl.static_range(C):
        mine = read(part + pixel * step + c * jump, mask, FLOAT)
        theirs = read(other + pixel * other_step + c * other_jump, mask, FLOAT)
        if PASTE:
            values = tl.where(pasted, theirs, mine)
        else:
            second_part = theirs.to(tl.float32)
            values = second_part + (mine.to(tl.float32) - second_part) * share
            if not FLOAT:
                values = half_even(values)
        finish(out + pixel + c * plane, values, tl.load(scale + c), tl.load(shift + c), mask, STORE)


@triton.jit
def _of_channel(numbers, c, C: tl.constexpr):
    """numbers[c] for each lane, whose channels c differ: C scalars are loaded and chosen from, not gathered."""
    chosen = tl.load(numbers)
    for other in tl.static_range(1, C):
        chosen = tl.where(c == other, tl.load(numbers + other), chosen)
    return chosen


@triton.jit
def store(
    given,
    first,
    second,
    to_first,
    to_second,
    info,
    scale,
    shift,
    blocks,
    plane,
    C: tl.constexpr,
    LAST: tl.constexpr,
    OUT_LAST: tl.constexpr,
    FLOAT: tl.constexpr,
    STORE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Each sample written out: x · scale + shift with STORE, else as it is.

    A channels_last result is written in the order of its memory, so that neighbouring lanes write neighbouring values.
    """
    k, pixel, mask = own_pixels(blocks, plane, BLOCK)
    part, step, jump = read_from(given, first, second, info, k, plane, C, LAST)
    out = write_to(to_first, to_second, info, k, plane, C)
    if OUT_LAST:  # C blocks of the result's memory for each block of pixels
        place = tl.program_id(0) % blocks
        for piece in tl.static_range(C):
            at = (place * C + piece) * BLOCK + tl.arange(0, BLOCK)
            there = at < C * plane
            c = at % C
            values = read(part + (at // C) * step + c * jump, there, FLOAT)
            finish(out + at, values, _of_channel(scale, c, C), _of_channel(shift, c, C), there, STORE)
    else:
        for c in tl.static_range(C):
            values = read(part + pixel * step + c * jump, mask, FLOAT)
            finish(out + pixel + c * plane, values, tl.load(scale + c), tl.load(shift + c), mask, STORE)
