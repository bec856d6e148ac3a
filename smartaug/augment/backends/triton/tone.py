"""Tone operations in Triton: what needs statistics gets them from one kernel, a second one recolours in place.

The same integers and the same float32 steps, hence for uint8 the same bytes, as the torch backend: multiplications and
additions are kept apart (the kernels run without fused multiply-add, which rounds once instead of twice) and divisions
are rounded to nearest (`div_rn`; Triton's ``/`` of float32 may be off by two units in the last place).

Kernels branch on codes, which are generated from `tables.tones`. A further operation takes a row there, a constant and
a branch in `_recoloured` if it mixes channels, else in `_changed`. What has no branch leaves its sample as it is.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ..tables.tones import CODES, LUMA, LUMA_SHIFT, LUMA_WHOLE
from .memory import clip, own_pixels, read, read_from, record, write, write_to

OP, MIXES_CHANNELS = tl.constexpr(3), tl.constexpr(4)  # fields of a record

INVERT = tl.constexpr(CODES["Invert"])
POSTERIZE = tl.constexpr(CODES["Posterize"])
SOLARIZE = tl.constexpr(CODES["Solarize"])
BRIGHTNESS = tl.constexpr(CODES["Brightness"])
CONTRAST = tl.constexpr(CODES["Contrast"])
AUTOCONTRAST = tl.constexpr(CODES["AutoContrast"])
EQUALIZE = tl.constexpr(CODES["Equalize"])
COLOR = tl.constexpr(CODES["Color"])
GRAYSCALE = tl.constexpr(CODES["Grayscale"])
HUE = tl.constexpr(CODES["Hue"])

RED, GREEN, BLUE = (tl.constexpr(weight) for weight in LUMA)
RED_WHOLE, GREEN_WHOLE, BLUE_WHOLE = (tl.constexpr(weight) for weight in LUMA_WHOLE)
SHIFT = tl.constexpr(LUMA_SHIFT)


@triton.jit
def _luma(red, green, blue, FLOAT: tl.constexpr):
    """Grey from three channels."""
    if FLOAT:
        luma = red * RED + green * GREEN + blue * BLUE
    else:
        luma = (red * RED_WHOLE + green * GREEN_WHOLE + blue * BLUE_WHOLE) >> SHIFT
    return luma


@triton.jit
def _level(values, FLOAT: tl.constexpr):
    """One of 256 levels."""
    if FLOAT:
        # 255.999: 256 levels of equal width, and 1 still in the last of them
        level = tl.minimum(tl.maximum((values * 255.999).to(tl.int32), 0), 255)
    else:
        level = values
    return level


@triton.jit
def _truncated(values, FLOAT: tl.constexpr):
    """float32 cut to the whole number below for uint8."""
    if FLOAT:
        result = values
    else:
        result = values.to(tl.int32)
    return result


@triton.jit
def _top(FLOAT: tl.constexpr):
    """The largest value an image holds."""
    if FLOAT:
        top = 1.0
    else:
        top = 255.0
    return top


@triton.jit
def _mean_luma(part, step, jump, plane, C: tl.constexpr, FLOAT: tl.constexpr, BLOCK: tl.constexpr):
    """Mean grey of a sample, float32."""
    if FLOAT:
        total = tl.zeros((BLOCK,), tl.float32)
    else:
        total = tl.zeros((BLOCK,), tl.int32)
    for start in range(0, plane, BLOCK):
        pixel = start + tl.arange(0, BLOCK)
        mask = pixel < plane
        luma = read(part + pixel * step, mask, FLOAT)
        if C == 3:
            green = read(part + pixel * step + jump, mask, FLOAT)
            luma = _luma(luma, green, read(part + pixel * step + 2 * jump, mask, FLOAT), FLOAT)
        total += luma
    if FLOAT:
        mean = tl.div_rn(tl.sum(total, 0), plane * 1.0)
    else:
        # in float64, as torch computes it: rounded to float32 but once
        mean = (tl.sum(total.to(tl.int64), 0).to(tl.float64) / plane).to(tl.float32)
    return mean


@triton.jit
def statistics(
    given,
    first,
    second,
    info,
    ranges,
    tables,
    plane,
    C: tl.constexpr,
    LAST: tl.constexpr,
    FLOAT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """What the samples' operations need to know, one program a channel.

    ranges (n, C, 2) float32: lowest and highest value (AutoContrast), or the mean grey first (Contrast). tables
    (n, C, 256) uint8: the new level of each level (Equalize).
    """
    k, c = tl.program_id(0) // C, tl.program_id(0) % C
    op = record(info, k, OP)
    part, step, jump = read_from(given, first, second, info, k, plane, C, LAST)
    channel = part + c * jump
    if op == EQUALIZE:
        counts = tl.zeros((256,), tl.int32)
        for start in range(0, plane, BLOCK):
            pixel = start + tl.arange(0, BLOCK)
            counts += tl.histogram(_level(read(channel + pixel * step, pixel < plane, FLOAT), FLOAT), 256)
        levels = tl.arange(0, 256)
        # lanes beyond the image read 0, so `histogram` counted them as level 0
        counts -= tl.where(levels == 0, (plane + BLOCK - 1) // BLOCK * BLOCK - plane, 0)
        highest = tl.max(tl.where(counts > 0, levels, 0), 0)
        stride = (plane - tl.sum(tl.where(levels == highest, counts, 0), 0)) // 255
        below = tl.cumsum(counts, 0) - counts
        table = tl.minimum((below + stride // 2) // tl.maximum(stride, 1), 255)
        write(tables + tl.program_id(0) * 256 + levels, tl.where(stride > 0, table, levels), levels < 256)
    elif op == AUTOCONTRAST:
        low, high = tl.full((BLOCK,), 65535.0, tl.float32), tl.full((BLOCK,), -65535.0, tl.float32)
        for start in range(0, plane, BLOCK):
            pixel = start + tl.arange(0, BLOCK)
            values = read(channel + pixel * step, pixel < plane, FLOAT).to(tl.float32)
            # lanes beyond the image hold what no comparison prefers
            low = tl.minimum(low, tl.where(pixel < plane, values, 65535.0))
            high = tl.maximum(high, tl.where(pixel < plane, values, -65535.0))
        tl.store(ranges + tl.program_id(0) * 2, tl.min(low, 0))
        tl.store(ranges + tl.program_id(0) * 2 + 1, tl.max(high, 0))
    elif (op == CONTRAST) & (c == 0):  # one mean for the sample, where the tone kernel looks for its first channel's
        tl.store(ranges + tl.program_id(0) * 2, _mean_luma(part, step, jump, plane, C, FLOAT, BLOCK))


@triton.jit
def _blend(values, other, factor, FLOAT: tl.constexpr):
    """factor · values + (1 − factor) · other, kept in range."""
    mixed = values.to(tl.float32) * factor + (1.0 - factor) * other
    return _truncated(clip(mixed, _top(FLOAT)), FLOAT)


@triton.jit
def _inverted(values, FLOAT: tl.constexpr):
    if FLOAT:
        result = 1.0 - values
    else:
        result = 255 - values
    return result


@triton.jit
def _posterized(values, bits, FLOAT: tl.constexpr):
    if FLOAT:
        levels = tl.exp2(bits)
        result = tl.div_rn(tl.minimum(tl.floor(values * levels), levels - 1.0), levels)
    else:
        result = values & ((0xFF00 >> bits.to(tl.int32)) & 255)  # the highest bits of eight
    return result


@triton.jit
def _solarized(values, threshold, FLOAT: tl.constexpr):
    if FLOAT:
        threshold = tl.div_rn(threshold, 255.0)
    return tl.where(values.to(tl.float32) >= threshold, _inverted(values, FLOAT), values)


@triton.jit
def _stretched(values, low, high, FLOAT: tl.constexpr):
    if FLOAT:
        stretched = clip(tl.div_rn(values - low, tl.where(high > low, high - low, 1.0)), 1.0)
    else:
        spread = tl.maximum((high - low).to(tl.int32), 1)
        stretched = ((values - low.to(tl.int32)) * 255) // spread  # whole numbers: exact
    return tl.where(high > low, stretched, values)


@triton.jit
def _looked_up(values, table, mask, FLOAT: tl.constexpr):
    level = tl.load(table + _level(values, FLOAT), mask=mask, other=0)
    if FLOAT:
        result = tl.div_rn(level.to(tl.float32), 255.0)
    else:
        result = level.to(tl.int32)
    return result


@triton.jit
def _corner(high, spread, turned, corner, FLOAT: tl.constexpr):
    """A channel of HSV's hexagon: high − spread · clip(min(k, 4 − k)), k = (corner + turned) mod 6."""
    k = turned + corner
    k = tl.where(k >= 6.0, k - 6.0, k)  # both are below 6, so their sum needs at most one turn taken off
    values = high - spread * clip(tl.minimum(k, 4.0 - k), 1.0)
    if FLOAT:
        result = values
    else:
        result = (values * 255.999).to(tl.int32)
    return result


@triton.jit
def _unit(values, FLOAT: tl.constexpr):
    """float32 in [0, 1]."""
    if FLOAT:
        unit = values
    else:
        unit = tl.div_rn(values.to(tl.float32), 255.0)
    return unit


@triton.jit
def _turned(red, green, blue, amount):
    """Highest channel, spread and turned hue in sixths of a circle, of channels in [0, 1]."""
    high, low = tl.maximum(tl.maximum(red, green), blue), tl.minimum(tl.minimum(red, green), blue)
    spread = high - low
    safe = tl.where(spread > 0, spread, 1.0)  # grey has no hue, and keeps its value whatever it is given
    of_blue, of_green = 4.0 + tl.div_rn(red - green, safe), 2.0 + tl.div_rn(blue - red, safe)
    angle = tl.where(high == red, tl.div_rn(green - blue, safe), tl.where(high == green, of_green, of_blue))
    turned = tl.div_rn(angle, 6.0) + amount
    return high, spread, (turned - tl.floor(turned)) * 6.0


@triton.jit
def _recoloured(op, red, green, blue, amount, FLOAT: tl.constexpr):
    """The channels by an operation that computes them from each other."""
    if op == HUE:
        high, spread, turned = _turned(_unit(red, FLOAT), _unit(green, FLOAT), _unit(blue, FLOAT), amount)
        red = _corner(high, spread, turned, 5.0, FLOAT)
        green = _corner(high, spread, turned, 3.0, FLOAT)
        blue = _corner(high, spread, turned, 1.0, FLOAT)
    elif op == GRAYSCALE:
        luma = _luma(red, green, blue, FLOAT)
        red, green, blue = luma, luma, luma
    elif op == COLOR:
        grey = _luma(red, green, blue, FLOAT).to(tl.float32)
        red = _blend(red, grey, amount, FLOAT)
        green = _blend(green, grey, amount, FLOAT)
        blue = _blend(blue, grey, amount, FLOAT)
    return red, green, blue


@triton.jit
def _changed(op, values, amount, ranges, tables, k, c, mask, C: tl.constexpr, FLOAT: tl.constexpr):
    """Channel c of record k by an operation that takes each channel for itself."""
    if op == INVERT:
        values = _inverted(values, FLOAT)
    elif op == POSTERIZE:
        values = _posterized(values, amount, FLOAT)
    elif op == SOLARIZE:
        values = _solarized(values, amount, FLOAT)
    elif op == BRIGHTNESS:
        values = _truncated(clip(values.to(tl.float32) * amount, _top(FLOAT)), FLOAT)
    elif op == CONTRAST:
        values = _blend(values, tl.load(ranges + k * C * 2), amount, FLOAT)
    elif op == AUTOCONTRAST:
        at = ranges + (k * C + c) * 2
        values = _stretched(values, tl.load(at), tl.load(at + 1), FLOAT)
    elif op == EQUALIZE:
        values = _looked_up(values, tables + (k * C + c) * 256, mask, FLOAT)
    return values


@triton.jit
def tone(
    given,
    first,
    second,
    to_first,
    to_second,
    info,
    amounts,
    ranges,
    tables,
    blocks,
    plane,
    C: tl.constexpr,
    LAST: tl.constexpr,
    FLOAT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Samples recoloured. amounts (n,) float32; ranges and tables: what `statistics` found for the first of them."""
    k, pixel, mask = own_pixels(blocks, plane, BLOCK)
    part, step, jump = read_from(given, first, second, info, k, plane, C, LAST)
    out = write_to(to_first, to_second, info, k, plane, C)
    op, amount, mixes = record(info, k, OP), tl.load(amounts + k), record(info, k, MIXES_CHANNELS)
    if C == 1:  # known on compilation, so that the other branch does not read channels that are not there
        values = _changed(op, read(part + pixel * step, mask, FLOAT), amount, ranges, tables, k, 0, mask, C, FLOAT)
        write(out + pixel, values, mask)
    elif mixes != 0:
        red, green = read(part + pixel * step, mask, FLOAT), read(part + pixel * step + jump, mask, FLOAT)
        blue = read(part + pixel * step + 2 * jump, mask, FLOAT)
        red, green, blue = _recoloured(op, red, green, blue, amount, FLOAT)
        write(out + pixel, red, mask)
        write(out + pixel + plane, green, mask)
        write(out + pixel + 2 * plane, blue, mask)
    else:
        for c in tl.static_range(C):
            values = read(part + pixel * step + c * jump, mask, FLOAT)
            values = _changed(op, values, amount, ranges, tables, k, c, mask, C, FLOAT)
            write(out + pixel + c * plane, values, mask)
