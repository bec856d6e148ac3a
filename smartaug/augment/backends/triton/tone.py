"""Tone operations in Triton: what needs statistics gets them from one kernel, a second one recolours in place.

The same integers and the same float32 steps, hence for uint8 the same bytes, as `torch.tone`: multiplications and
additions are kept apart (the kernels run without fused multiply-add) and divisions are rounded to nearest.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .memory import buffer, channel_step, clip, pixel_step, read, record, write

# positions in plan.TONES
INVERT = tl.constexpr(1)
POSTERIZE = tl.constexpr(2)
SOLARIZE = tl.constexpr(3)
BRIGHTNESS = tl.constexpr(4)
CONTRAST = tl.constexpr(5)
AUTOCONTRAST = tl.constexpr(6)
EQUALIZE = tl.constexpr(7)
COLOR = tl.constexpr(8)
GRAYSCALE = tl.constexpr(9)
HUE = tl.constexpr(10)


@triton.jit
def _luma(red, green, blue, FLOAT: tl.constexpr):
    """Grey from three channels."""
    if FLOAT:
        luma = red * 0.2989 + green * 0.587 + blue * 0.114
    else:
        luma = (red * 19589 + green * 38470 + blue * 7471) >> 16
    return luma


@triton.jit
def _level(values, FLOAT: tl.constexpr):
    """One of 256 levels."""
    if FLOAT:
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
    row, source, op = record(info, k, 0), record(info, k, 1), record(info, k, 3)
    part = buffer(given, first, second, source, row, C * plane)
    step, jump = pixel_step(source, C, LAST), channel_step(source, plane, LAST)
    channel = part + c * jump
    if op == EQUALIZE:
        counts = tl.zeros((256,), tl.int32)
        for start in range(0, plane, BLOCK):
            pixel = start + tl.arange(0, BLOCK)
            counts += tl.histogram(_level(read(channel + pixel * step, pixel < plane, FLOAT), FLOAT), 256)
        levels = tl.arange(0, 256)
        # lanes beyond the picture counted as level 0
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
            low = tl.minimum(low, tl.where(pixel < plane, values, 65535.0))
            high = tl.maximum(high, tl.where(pixel < plane, values, -65535.0))
        tl.store(ranges + tl.program_id(0) * 2, tl.min(low, 0))
        tl.store(ranges + tl.program_id(0) * 2 + 1, tl.max(high, 0))
    elif c == 0:
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
        result = values & ((65280 >> bits.to(tl.int32)) & 255)
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
        stretched = ((values - low.to(tl.int32)) * 255) // spread
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
    """A channel of HSV's hexagon."""
    k = turned + corner
    k = tl.where(k >= 6.0, k - 6.0, k)
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
    safe = tl.where(spread > 0, spread, 1.0)
    of_blue, of_green = 4.0 + tl.div_rn(red - green, safe), 2.0 + tl.div_rn(blue - red, safe)
    angle = tl.where(high == red, tl.div_rn(green - blue, safe), tl.where(high == green, of_green, of_blue))
    turned = tl.div_rn(angle, 6.0) + amount
    return high, spread, (turned - tl.floor(turned)) * 6.0


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
    k = tl.program_id(0) // blocks
    pixel = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    row, source, target, op = record(info, k, 0), record(info, k, 1), record(info, k, 2), record(info, k, 3)
    part = buffer(given, first, second, source, row, C * plane)
    out = buffer(to_first, to_first, to_second, target, row, C * plane)
    step, jump = pixel_step(source, C, LAST), channel_step(source, plane, LAST)
    mask = pixel < plane
    amount = tl.load(amounts + k)
    if op >= COLOR:
        if C == 3:
            red, green = read(part + pixel * step, mask, FLOAT), read(part + pixel * step + jump, mask, FLOAT)
            blue = read(part + pixel * step + 2 * jump, mask, FLOAT)
            if op == HUE:
                high, spread, turned = _turned(_unit(red, FLOAT), _unit(green, FLOAT), _unit(blue, FLOAT), amount)
                red = _corner(high, spread, turned, 5.0, FLOAT)
                green = _corner(high, spread, turned, 3.0, FLOAT)
                blue = _corner(high, spread, turned, 1.0, FLOAT)
            else:
                luma = _luma(red, green, blue, FLOAT)
                if op == GRAYSCALE:
                    red, green, blue = luma, luma, luma
                else:
                    grey = luma.to(tl.float32)
                    red = _blend(red, grey, amount, FLOAT)
                    green = _blend(green, grey, amount, FLOAT)
                    blue = _blend(blue, grey, amount, FLOAT)
            write(out + pixel, red, mask)
            write(out + pixel + plane, green, mask)
            write(out + pixel + 2 * plane, blue, mask)
    else:
        for c in tl.static_range(C):
            values = read(part + pixel * step + c * jump, mask, FLOAT)
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
            else:
                values = _looked_up(values, tables + (k * C + c) * 256, mask, FLOAT)
            write(out + pixel + c * plane, values, mask)
