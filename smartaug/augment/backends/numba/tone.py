"""Compiled tone operations and sharpening of one uint8 sample.

Every operation takes (src, dst, channels, amount): src and dst (C·H·W) uint8, planar, which do not overlap, and amount
float32; it has the name of its row in `tables.tones`, in lower case. They repeat the integers and float32 steps of the
torch backend, hence give the same bytes.

Plain arithmetic vectorises and is quicker than a table of 256 entries, but where the table is the operation (Equalize).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from ..tables import tones
from ..tables.tones import LEVELS, LUMA_SHIFT, LUMA_WHOLE
from .memory import OPTIONS, U, copy

_TOP = np.float32(255.0)
_ZERO = np.float32(0.0)
_LEVELS = np.float32(LEVELS)
_RED, _GREEN, _BLUE = (np.uint32(weight) for weight in LUMA_WHOLE)
_SHIFT = np.uint32(LUMA_SHIFT)
_RUN = 1 << 16  # pixels whose luma is summed in 32 bits, which vectorise better than 64; 65536 · 255 fits


@njit(**OPTIONS)
def invert(src, dst, channels, amount):
    """255 − x."""
    for i in range(src.size):
        dst[i] = src[i] ^ np.uint8(255)  # a subtraction would be widened to 64 bits


@njit(**OPTIONS)
def posterize(src, dst, channels, amount):
    """The highest ``amount`` bits of each value."""
    mask = np.uint8((0xFF00 >> np.int64(amount)) & 255)
    for i in range(src.size):
        dst[i] = src[i] & mask


@njit(**OPTIONS)
def solarize(src, dst, channels, amount):
    """Values from ``amount`` on inverted."""
    if amount > 255:
        copy(src, dst)
        return
    threshold = np.uint8(np.ceil(amount))  # whole values ≥ amount are those ≥ its ceiling, and bytes compare in vectors
    for i in range(src.size):
        value = src[i]
        dst[i] = value ^ np.uint8(255) if value >= threshold else value


@njit(**OPTIONS)
def brightness(src, dst, channels, amount):
    """Values times ``amount``, the fraction cut off."""
    for i in range(src.size):
        dst[i] = np.int32(min(np.float32(src[i]) * amount, _TOP))  # by way of int32: float to uint8 is not a vector


@njit(**OPTIONS)
def _luma(red, green, blue):
    # numba makes every sum and product 64 bits wide; what is cut to 32 at once is computed in 32
    total = np.uint32(np.uint32(red) * _RED) + np.uint32(np.uint32(green) * _GREEN)
    return np.int32(np.uint32(total + np.uint32(np.uint32(blue) * _BLUE)) >> _SHIFT)


@njit(**OPTIONS)
def contrast(src, dst, channels, amount):
    """Blended with the mean grey of the sample."""
    plane = src.size // channels
    total = np.int64(0)
    if channels == 3:
        red, green, blue = src[:plane], src[plane : 2 * plane], src[2 * plane :]
        for first in range(0, plane, _RUN):
            part = np.int32(0)
            for i in range(first, min(plane, first + _RUN)):
                part = np.int32(part + _luma(red[U(i)], green[U(i)], blue[U(i)]))
            total += part
    else:
        for i in range(plane):
            total += np.int64(src[i])
    mean = np.float32(np.float64(total) / max(1, plane))  # rounded once, as torch does
    shift = (np.float32(1.0) - amount) * mean
    for i in range(src.size):
        dst[i] = np.int32(min(max(np.float32(src[i]) * amount + shift, _ZERO), _TOP))


@njit(**OPTIONS)
def color(src, dst, channels, amount):
    """Each pixel blended with its own grey; one channel stays."""
    if channels == 1:
        copy(src, dst)
        return
    plane = src.size // 3
    red, green, blue = src[:plane], src[plane : 2 * plane], src[2 * plane :]
    out_red, out_green, out_blue = dst[:plane], dst[plane : 2 * plane], dst[2 * plane :]
    rest = np.float32(1.0) - amount
    for i in range(plane):
        r, g, b = red[i], green[i], blue[i]
        grey = rest * np.float32(_luma(r, g, b))
        out_red[i] = np.int32(min(max(np.float32(r) * amount + grey, _ZERO), _TOP))
        out_green[i] = np.int32(min(max(np.float32(g) * amount + grey, _ZERO), _TOP))
        out_blue[i] = np.int32(min(max(np.float32(b) * amount + grey, _ZERO), _TOP))


@njit(**OPTIONS)
def grayscale(src, dst, channels, amount):
    """Grey in all channels; one channel stays."""
    if channels == 1:
        copy(src, dst)
        return
    plane = src.size // 3
    for i in range(plane):
        dst[i] = _luma(src[i], src[U(plane + i)], src[U(2 * plane + i)])
    copy(dst[:plane], dst[plane : 2 * plane])
    copy(dst[:plane], dst[2 * plane :])


@njit(**OPTIONS)
def autocontrast(src, dst, channels, amount):
    """Each channel stretched to 0–255."""
    plane = src.size // channels
    for c in range(channels):
        _stretch(src[c * plane : (c + 1) * plane], dst[c * plane : (c + 1) * plane])


@njit(**OPTIONS)
def _stretch(src, dst):
    low, high = np.uint8(255), np.uint8(0)
    for i in range(src.size):
        low, high = min(low, src[i]), max(high, src[i])
    if low >= high:
        copy(src, dst)
        return
    # ⌊255 (x − low) / spread⌋: a product with the reciprocal is quicker than a division but may fall short of a whole
    # number; the ½ lifts it over, and is too little to reach the next one
    scale = np.float32(1.0) / np.float32(np.int32(high) - np.int32(low))
    shift, half = np.float32(low), np.float32(0.5)
    for i in range(src.size):
        dst[i] = np.int32(((np.float32(src[i]) - shift) * _TOP + half) * scale)


@njit(**OPTIONS)
def equalize(src, dst, channels, amount):
    """Each channel's histogram flattened."""
    plane = src.size // channels
    for c in range(channels):
        _equalize(src[c * plane : (c + 1) * plane], dst[c * plane : (c + 1) * plane])


@njit(**OPTIONS)
def _equalize(src, dst):
    # four histograms, so that runs of one value do not wait for each other's store
    counts = np.zeros((4, 256), np.int32)
    whole = src.size - src.size % 4
    for i in range(0, whole, 4):
        counts[0, src[i]] += 1
        counts[1, src[i + 1]] += 1
        counts[2, src[i + 2]] += 1
        counts[3, src[i + 3]] += 1
    for i in range(whole, src.size):
        counts[0, src[i]] += 1
    highest = 0
    for level in range(256):
        counts[0, level] += counts[1, level] + counts[2, level] + counts[3, level]
        if counts[0, level]:
            highest = level
    step = (src.size - counts[0, highest]) // 255
    if step == 0:
        copy(src, dst)
        return
    table = np.empty(256, np.uint8)
    below = np.empty(256, np.float64)
    total = step // 2
    for level in range(256):
        below[level] = total
        total += counts[0, level]
    reciprocal = 1.0 / step
    for level in range(256):  # ⌊below / step⌋ by the reciprocal, which vectorises; the ½ as in `_stretch`
        table[level] = np.int32(min((below[level] + 0.5) * reciprocal, 255.0))
    for i in range(src.size):
        dst[i] = table[src[i]]


@njit(**OPTIONS)
def hue(src, dst, channels, amount):
    """The hue turned by ``amount`` of a full circle; one channel stays."""
    if channels == 1:
        copy(src, dst)
        return
    plane = src.size // 3
    unit = np.float32(255.0)
    for i in range(plane):
        red = np.float32(src[i]) / unit
        green = np.float32(src[U(plane + i)]) / unit
        blue = np.float32(src[U(2 * plane + i)]) / unit
        high, low = max(red, green, blue), min(red, green, blue)
        spread = high - low
        safe = spread if spread > 0 else np.float32(1.0)  # grey has no hue, and keeps its value whatever it is given
        if high == red:
            angle = (green - blue) / safe
        elif high == green:
            angle = np.float32(2.0) + (blue - red) / safe
        else:
            angle = np.float32(4.0) + (red - green) / safe
        turned = angle / np.float32(6.0) + amount
        turned = (turned - np.floor(turned)) * np.float32(6.0)
        # a channel of HSV's hexagon at corner n: high − spread · clamp(min(k, 4 − k), 0, 1), k = (n + 6h) mod 6
        for c, corner in ((0, np.float32(5.0)), (1, np.float32(3.0)), (2, np.float32(1.0))):
            k = turned + corner
            k = k - np.float32(6.0) if k >= np.float32(6.0) else k
            share = min(max(min(k, np.float32(4.0) - k), _ZERO), np.float32(1.0))
            dst[U(c * plane + i)] = np.int32((high - spread * share) * _LEVELS)


@njit(**OPTIONS)
def lookup(src, dst, channels, tables):
    """What tables (C or 1, 256) uint8 have for each value."""
    plane = src.size // channels
    for c in range(channels):
        table, part, into = (
            tables[min(c, len(tables) - 1)],
            src[c * plane : (c + 1) * plane],
            dst[c * plane : (c + 1) * plane],
        )
        for i in range(plane):
            into[i] = table[part[i]]


@njit(**OPTIONS)
def sharpness(src, dst, channels, height, width, factor):
    """factor · x + (1 − factor) · (3×3 mean with weight 5 in the middle); the outermost pixels stay."""
    if height <= 2 or width <= 2:
        copy(src, dst)
        return
    rest = np.float32(1.0) - factor
    rows = max(1, 4096 // width)  # as one long line, since short rows leave loops that do not vectorise
    column = np.empty(rows * width + 2, np.uint16)
    for c in range(channels):
        part, out = (
            src[c * height * width : (c + 1) * height * width],
            dst[c * height * width : (c + 1) * height * width],
        )
        copy(part[:width], out[:width])
        copy(part[(height - 1) * width :], out[(height - 1) * width :])
        for y in range(1, height - 1, rows):
            first, count = y * width, (min(y + rows, height - 1) - y) * width
            above, here, under = part[first - width :], part[first:], part[first + width :]
            into = out[first : first + count]
            column[0] = column[U(count + 1)] = 0  # only read for the outermost pixels, which are put back below
            for i in range(count):
                column[U(i + 1)] = np.uint16(above[i]) + np.uint16(here[i]) + np.uint16(under[i])
            for i in range(count):
                middle = np.uint16(here[i])
                total = np.uint16(column[i] + column[U(i + 1)] + column[U(i + 2)] + np.uint16(4) * middle)
                # ⌊total / 13 + ½⌋ = ⌊(total + 6) / 13⌋; 5042 / 2**16 is 1/13 from above, near enough up to 255 · 13
                smooth = np.uint16((np.uint32(np.uint16(total + 6)) * np.uint32(5042)) >> 16)
                change = np.float32(np.int16(smooth - middle))
                into[i] = np.int32(min(max(np.float32(middle) + rest * change, _ZERO), _TOP))
            for i in range(0, count, width):
                into[i], into[U(i + width - 1)] = here[i], here[U(i + width - 1)]


def dispatch():
    """``tone(code, src, dst, channels, amount)``: a chain of comparisons with the codes of `tables.tones`.

    It is written out and compiled as one function. A chain of one small function for each operation would need nothing
    written out, but takes numba three seconds longer to compile.
    """
    lines = ["def tone(code, src, dst, channels, amount):"]
    for name in tones.functions(globals(), "numba/tone.py"):
        lines += [f"    if code == {tones.CODES[name]}:", f"        return {name.lower()}(src, dst, channels, amount)"]
    lines += ["    copy(src, dst)"]  # Identity, or no such code: what follows reads dst, so it must be written
    made: dict[str, Any] = {}
    exec("\n".join(lines), globals(), made)
    return njit(**OPTIONS)(made["tone"])


tone = dispatch()
