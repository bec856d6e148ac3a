"""Tone operations in Triton: what needs statistics gets them from one kernel, a second one recolours in place.

The same integers and the same float32 steps, hence for uint8 the same bytes, as the torch backend: multiplications and
additions are kept apart (the kernels run without fused multiply-add, which rounds once instead of twice) and divisions
are rounded to nearest (`div_rn`; Triton's ``/`` of float32 may be off by two units in the last place).

Every operation of `tables.tones` has a function here, with its row's name in lower case; FLOAT and memory as in
`memory`:

* ``(values, amount, low_high, table, mask, FLOAT) -> values`` for (BLOCK,) values of one channel, of which those where
  ``mask`` holds lie in the image; ``(red, green, blue, amount, ...) -> red, green, blue`` where the row mixes channels;
* and where it measures, ``<name>_statistics(part, c, step, jump, plane, low_high, table, C, FLOAT, BLOCK)``, which
  writes what the first one reads: for channel c of the sample that starts at ``part``, two float32 to ``low_high`` and
  256 uint8 to ``table`` (the next channel's lie behind them). Values of a channel are ``step`` apart, channels
  ``jump``; a channel has ``plane`` of them.
"""

from __future__ import annotations

import linecache
from collections.abc import Iterable
from typing import Any

import triton
import triton.language as tl

from ..tables import tones
from ..tables.tones import LEVELS, LUMA, LUMA_SHIFT, LUMA_WHOLE
from .memory import clip, own_pixels, read, read_from, record, write, write_to

OP, MIXES_CHANNELS = tl.constexpr(3), tl.constexpr(4)  # fields of a record

RED, GREEN, BLUE = (tl.constexpr(weight) for weight in LUMA)
RED_WHOLE, GREEN_WHOLE, BLUE_WHOLE = (tl.constexpr(weight) for weight in LUMA_WHOLE)
SHIFT = tl.constexpr(LUMA_SHIFT)
OF_LEVELS = tl.constexpr(LEVELS)


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
        level = tl.minimum(tl.maximum((values * OF_LEVELS).to(tl.int32), 0), 255)
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
def _blend(values, other, factor, FLOAT: tl.constexpr):
    """factor · values + (1 − factor) · other, kept in range."""
    mixed = values.to(tl.float32) * factor + (1.0 - factor) * other
    return _truncated(clip(mixed, _top(FLOAT)), FLOAT)


@triton.jit
def invert(values, amount, low_high, table, mask, FLOAT: tl.constexpr):
    """255 − x, or 1 − x."""
    if FLOAT:
        result = 1.0 - values
    else:
        result = 255 - values
    return result


@triton.jit
def posterize(values, amount, low_high, table, mask, FLOAT: tl.constexpr):
    """The highest ``amount`` bits of eight."""
    if FLOAT:
        levels = tl.exp2(amount)
        result = tl.div_rn(tl.minimum(tl.floor(values * levels), levels - 1.0), levels)
    else:
        result = values & ((0xFF00 >> amount.to(tl.int32)) & 255)
    return result


@triton.jit
def solarize(values, amount, low_high, table, mask, FLOAT: tl.constexpr):
    """Values from the threshold on are inverted."""
    threshold = amount
    if FLOAT:
        threshold = tl.div_rn(amount, 255.0)
    inverted = invert(values, amount, low_high, table, mask, FLOAT)
    return tl.where(values.to(tl.float32) >= threshold, inverted, values)


@triton.jit
def brightness(values, amount, low_high, table, mask, FLOAT: tl.constexpr):
    """Values times the factor."""
    return _truncated(clip(values.to(tl.float32) * amount, _top(FLOAT)), FLOAT)


@triton.jit
def contrast_statistics(
    part, c, step, jump, plane, low_high, table, C: tl.constexpr, FLOAT: tl.constexpr, BLOCK: tl.constexpr
):
    """The mean grey of the sample; the program of the first channel writes it for all, since it is the same."""
    if c == 0:
        mean = _mean_luma(part, step, jump, plane, C, FLOAT, BLOCK)
        for other in tl.static_range(C):
            tl.store(low_high + other * 2, mean)


@triton.jit
def contrast(values, amount, low_high, table, mask, FLOAT: tl.constexpr):
    """Blended with the mean grey."""
    return _blend(values, tl.load(low_high), amount, FLOAT)


@triton.jit
def autocontrast_statistics(
    part, c, step, jump, plane, low_high, table, C: tl.constexpr, FLOAT: tl.constexpr, BLOCK: tl.constexpr
):
    """The lowest and the highest value."""
    low, high = tl.full((BLOCK,), 65535.0, tl.float32), tl.full((BLOCK,), -65535.0, tl.float32)
    for start in range(0, plane, BLOCK):
        pixel = start + tl.arange(0, BLOCK)
        values = read(part + c * jump + pixel * step, pixel < plane, FLOAT).to(tl.float32)
        # lanes beyond the image hold what no comparison prefers
        low = tl.minimum(low, tl.where(pixel < plane, values, 65535.0))
        high = tl.maximum(high, tl.where(pixel < plane, values, -65535.0))
    tl.store(low_high, tl.min(low, 0))
    tl.store(low_high + 1, tl.max(high, 0))


@triton.jit
def autocontrast(values, amount, low_high, table, mask, FLOAT: tl.constexpr):
    """Stretched to the full range; a flat channel stays."""
    low, high = tl.load(low_high), tl.load(low_high + 1)
    if FLOAT:
        stretched = clip(tl.div_rn(values - low, tl.where(high > low, high - low, 1.0)), 1.0)
    else:
        spread = tl.maximum((high - low).to(tl.int32), 1)
        stretched = ((values - low.to(tl.int32)) * 255) // spread  # whole numbers: exact
    return tl.where(high > low, stretched, values)


@triton.jit
def equalize_statistics(
    part, c, step, jump, plane, low_high, table, C: tl.constexpr, FLOAT: tl.constexpr, BLOCK: tl.constexpr
):
    """The new level of each level, by PIL's integer table."""
    counts = tl.zeros((256,), tl.int32)
    for start in range(0, plane, BLOCK):
        pixel = start + tl.arange(0, BLOCK)
        values = read(part + c * jump + pixel * step, pixel < plane, FLOAT)
        counts += tl.histogram(_level(values, FLOAT), 256)
    levels = tl.arange(0, 256)
    # lanes beyond the image read 0, so `histogram` counted them as level 0
    counts -= tl.where(levels == 0, (plane + BLOCK - 1) // BLOCK * BLOCK - plane, 0)
    highest = tl.max(tl.where(counts > 0, levels, 0), 0)
    stride = (plane - tl.sum(tl.where(levels == highest, counts, 0), 0)) // 255
    below = tl.cumsum(counts, 0) - counts
    made = tl.minimum((below + stride // 2) // tl.maximum(stride, 1), 255)
    write(table + levels, tl.where(stride > 0, made, levels), levels < 256)


@triton.jit
def equalize(values, amount, low_high, table, mask, FLOAT: tl.constexpr):
    """What the table has for each level."""
    level = tl.load(table + _level(values, FLOAT), mask=mask, other=0)
    if FLOAT:
        result = tl.div_rn(level.to(tl.float32), 255.0)
    else:
        result = level.to(tl.int32)
    return result


@triton.jit
def color(red, green, blue, amount, low_high, table, mask, FLOAT: tl.constexpr):
    """Each pixel blended with its own grey."""
    grey = _luma(red, green, blue, FLOAT).to(tl.float32)
    red, green = _blend(red, grey, amount, FLOAT), _blend(green, grey, amount, FLOAT)
    return red, green, _blend(blue, grey, amount, FLOAT)


@triton.jit
def grayscale(red, green, blue, amount, low_high, table, mask, FLOAT: tl.constexpr):
    """Grey in all channels."""
    luma = _luma(red, green, blue, FLOAT)
    return luma, luma, luma


@triton.jit
def _corner(high, spread, turned, corner, FLOAT: tl.constexpr):
    """A channel of HSV's hexagon: high − spread · clip(min(k, 4 − k)), k = (corner + turned) mod 6."""
    k = turned + corner
    k = tl.where(k >= 6.0, k - 6.0, k)  # both are below 6, so their sum needs at most one turn taken off
    values = high - spread * clip(tl.minimum(k, 4.0 - k), 1.0)
    if FLOAT:
        result = values
    else:
        result = (values * OF_LEVELS).to(tl.int32)
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
def hue(red, green, blue, amount, low_high, table, mask, FLOAT: tl.constexpr):
    """The hue turned by ``amount`` of a full circle."""
    high, spread, turned = _turned(_unit(red, FLOAT), _unit(green, FLOAT), _unit(blue, FLOAT), amount)
    red, green = _corner(high, spread, turned, 5.0, FLOAT), _corner(high, spread, turned, 3.0, FLOAT)
    return red, green, _corner(high, spread, turned, 1.0, FLOAT)


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

    ranges (n, C, 2) float32 and tables (n, C, 256) uint8: what the operations write to low_high and table.
    """
    k, c = tl.program_id(0) // C, tl.program_id(0) % C
    part, step, jump = read_from(given, first, second, info, k, plane, C, LAST)
    low_high, table = ranges + tl.program_id(0) * 2, tables + tl.program_id(0) * 256
    _measured(record(info, k, OP), part, c, step, jump, plane, low_high, table, C, FLOAT, BLOCK)


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
        values = read(part + pixel * step, mask, FLOAT)
        values = _changed(op, values, amount, ranges + k * 2, tables + k * 256, mask, FLOAT)
        write(out + pixel, values, mask)
    elif mixes != 0:
        red, green = read(part + pixel * step, mask, FLOAT), read(part + pixel * step + jump, mask, FLOAT)
        blue = read(part + pixel * step + 2 * jump, mask, FLOAT)
        low_high, table = ranges + k * C * 2, tables + k * C * 256
        red, green, blue = _recoloured(op, red, green, blue, amount, low_high, table, mask, FLOAT)
        write(out + pixel, red, mask)
        write(out + pixel + plane, green, mask)
        write(out + pixel + 2 * plane, blue, mask)
    else:
        for c in tl.static_range(C):
            values = read(part + pixel * step + c * jump, mask, FLOAT)
            low_high, table = ranges + (k * C + c) * 2, tables + (k * C + c) * 256
            values = _changed(op, values, amount, low_high, table, mask, FLOAT)
            write(out + pixel + c * plane, values, mask)


def _dispatch(name: str, arguments: str, result: str, operations: Iterable[str], suffix: str = "") -> Any:
    """The kernels' function ``name(op, arguments) -> result``: a chain of comparisons with the codes of the table.

    operations: whose functions, ``suffix`` behind their names, it calls with the same arguments; any other code leaves
    ``result`` as it is. The chain is written out, because Triton recompiles a kernel when the source of a function that
    it calls by name has changed, and would not see that of functions in a tuple.
    """
    lines = ["@triton.jit", f"def {name}(op, {arguments}):"]
    passed = arguments.replace(": tl.constexpr", "")
    for operation in operations:
        lines.append(f"    {'if' if len(lines) == 2 else 'elif'} op == {tones.CODES[operation]}:")
        lines.append(f"        {result}{' = ' if result else ''}{operation.lower()}{suffix}({passed})")
    lines.append(f"    return {result}")
    text, file, made = "\n".join(lines), f"<{__name__}.{name}>", dict[str, Any]()
    linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file  # where Triton reads the source
    exec(compile(text, file, "exec"), globals(), made)
    return made[name]


def dispatches() -> tuple[Any, Any, Any]:
    """What the kernels call: for one channel, for mixed channels, for statistics."""
    mixes = {row.name: row.mixes_channels for row in tones.TABLE}
    names = tones.functions(globals(), "triton/tone.py")
    measured = tones.functions(globals(), "triton/tone.py", tones.STATISTICS)
    reading = "amount, low_high, table, mask, FLOAT: tl.constexpr"
    measuring = "part, c, step, jump, plane, low_high, table, C: tl.constexpr, FLOAT: tl.constexpr, BLOCK: tl.constexpr"
    return (
        _dispatch("_changed", f"values, {reading}", "values", (name for name in names if not mixes[name])),
        _dispatch(
            "_recoloured", f"red, green, blue, {reading}", "red, green, blue", (name for name in names if mixes[name])
        ),
        _dispatch("_measured", measuring, "", measured, tones.STATISTICS),
    )


_changed, _recoloured, _measured = dispatches()
