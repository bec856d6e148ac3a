"""Compiled contrast-limited adaptive histogram equalisation of one uint8 sample, planar.

It gives the bytes of the torch backend. Histograms and tables are arrays (256, tiles): with the tiles of one grey level
side by side, clipping, accumulating and scaling are loops over tiles that vectorise, though each tile's levels depend
on each other.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ..tables import lab
from .memory import OPTIONS, U

LINEAR, ROOT, GAMMA = lab.linear(), lab.root(), lab.gamma()
LIGHT, ROOT_OF_LIGHT = lab.lightness()
_XR, _XG, _XB, _YR, _YG, _YB, _ZR, _ZG, _ZB = (np.int32(value) for value in lab.TO_XYZ.flat)
_RX, _RY, _RZ, _GX, _GY, _GZ, _BX, _BY, _BZ = (np.int32(value) for value in lab.TO_RGB.flat)
_KNEE, _LINE = np.int32(lab.KNEE), np.int32(lab.LINE)
_LEVELS = 256
(_A_STEP, _A_HALF, _A_MIDDLE), (_B_STEP, _B_HALF, _B_MIDDLE) = (tuple(map(np.int32, part)) for part in (lab.A, lab.B))
_MIDDLE, _HALF, _DARK = np.int32(128 << 15), np.int32(1 << 14), np.int32((16 * 255 * 32768 + 50) // 100)


@njit(**OPTIONS)
def clahe(src, dst, channels, height, width, limit, across, down, packed):
    """src to dst (C·H·W) uint8 of 1 or 3 channels; limit: float64; packed: scratch for H·W words."""
    plane = height * width
    if channels == 3:
        _to_lab(src, plane, packed)
    else:
        for i in range(plane):
            packed[i] = src[i]
    _equalize(packed, height, width, limit, across, down)
    if channels == 3:
        _from_lab(packed, plane, dst)
    else:
        for i in range(plane):
            dst[i] = np.uint8(packed[i])


@njit(**OPTIONS)
def _cut(value):
    """0–255 from units of 1/32768."""
    return np.uint32(min(max(np.int32(value) >> np.int32(15), np.int32(0)), np.int32(255)))


@njit(**OPTIONS)
def _to_lab(src, plane, packed):
    """Three planes to one word a pixel: L in the lowest byte, a, b."""
    red, green, blue = src[:plane], src[plane : 2 * plane], src[2 * plane : 3 * plane]
    for i in range(plane):
        r, g, b = LINEAR[red[i]], LINEAR[green[i]], LINEAR[blue[i]]
        x = ROOT[U((r * _XR + g * _XG + b * _XB + 2048) >> 12)]
        y = ROOT[U((r * _YR + g * _YG + b * _YB + 2048) >> 12)]
        z = ROOT[U((r * _ZR + g * _ZG + b * _ZB + 2048) >> 12)]
        lightness = _cut(296 * y - _DARK + _HALF)
        green_red = _cut(500 * (x - y) + _MIDDLE + _HALF)
        blue_yellow = _cut(200 * (y - z) + _MIDDLE + _HALF)
        packed[i] = lightness | (green_red << np.uint32(8)) | (blue_yellow << np.uint32(16))


@njit(**OPTIONS)
def _cubed(root):
    """A cube root in units of 1/16384 back to what it is the root of; the quotient's fraction is cut off."""
    line = np.int32(np.float32(root * np.int32(108)) / np.float32(841.0)) - _LINE
    cube = np.int32(np.int32(np.int32(root * root) >> np.int32(14)) * root) >> np.int32(14)
    return line if root <= _KNEE else np.int32(cube)


@njit(**OPTIONS)
def _light(x, y, z, by_x, by_y, by_z):
    """The place in GAMMA of a weighted sum."""
    # numba makes every sum and product 64 bits wide; what is cut to 32 at once is computed in 32
    total = np.int32(np.int32(x * by_x) + np.int32(y * by_y)) + np.int32(np.int32(z * by_z) + np.int32(8192))
    return np.uint16(min(max(np.int32(total) >> np.int32(14), np.int32(0)), np.int32(4095)))


@njit(**OPTIONS)
def _from_lab(packed, plane, dst):
    """Back to three planes; a block at a time, so that all but reading tables is vectorised."""
    block = 512
    y, root = np.empty(block, np.int32), np.empty(block, np.int32)
    first, second, third = np.empty(block, np.uint16), np.empty(block, np.uint16), np.empty(block, np.uint16)
    for start in range(0, plane, block):
        count = min(block, plane - start)
        words = packed[start : start + count]
        for i in range(count):
            level = words[i] & np.uint32(255)
            y[i], root[i] = LIGHT[level], ROOT_OF_LIGHT[level]
        for i in range(count):
            a, b = np.int32((words[i] >> np.uint32(8)) & np.uint32(255)), np.int32(words[i] >> np.uint32(16))
            x = _cubed(np.int32(root[i] + (np.int32(a * _A_STEP + _A_HALF) >> np.int32(13)) - _A_MIDDLE))
            z = _cubed(np.int32(root[i] - (np.int32(b * _B_STEP + _B_HALF) >> np.int32(9)) + _B_MIDDLE))
            first[i] = _light(x, y[i], z, _RX, _RY, _RZ)
            second[i] = _light(x, y[i], z, _GX, _GY, _GZ)
            third[i] = _light(x, y[i], z, _BX, _BY, _BZ)
        red, green, blue = dst[start:], dst[plane + start :], dst[2 * plane + start :]
        for i in range(count):
            red[i], green[i], blue[i] = GAMMA[first[i]], GAMMA[second[i]], GAMMA[third[i]]


@njit(**OPTIONS)
def _mirrored(n, length):
    """Place ``n`` ≥ 0 of a line that goes on beyond its end, the last pixel not repeated."""
    if length == 1:
        return 0
    period = 2 * (length - 1)
    n = n % period
    return min(n, period - n)


@njit(**OPTIONS)
def _neighbours(length, tile, tiles, first, second, share):
    """The tiles whose centres are before and behind each pixel, and how near the pixel is to the second."""
    scale = np.float32(1.0) / np.float32(tile)
    for n in range(length):
        place = np.float32(n) * scale - np.float32(0.5)
        before = np.floor(place)
        number = np.int32(before)
        first[n], second[n] = max(number, 0), min(number + 1, tiles - 1)
        share[n] = place - before


@njit(**OPTIONS)
def _count(packed, height, width, tall, wide, across, down, counts):
    """counts[level * tiles + tile] += 1 for every pixel, the border's mirrored where tiles reach beyond it."""
    tiles = across * down
    for y in range(tall * down):
        line = _mirrored(y, height) * width
        row = (y // tall) * across
        for column in range(across):
            tile = row + column
            for x in range(column * wide, (column + 1) * wide):
                at = line + (x if x < width else _mirrored(x, width))
                counts[U(np.int64(packed[U(at)] & np.uint32(255)) * tiles + tile)] += 1


@njit(**OPTIONS)
def _tabulate(counts, total, cut, limit, area, tiles, tables):
    """Histograms ``counts`` to tables (256 · tiles) uint8; total and cut: zeros (tiles,), of one type with counts."""
    for level in range(_LEVELS):
        part = counts[level * tiles : (level + 1) * tiles]
        for t in range(tiles):
            kept = min(part[t], limit)
            cut[t] += part[t] - kept
            part[t] = kept
    for t in range(tiles):  # one more for every step-th level, as many as are left
        left = np.int64(cut[t]) & 255
        step = 256 // left if left else 256
        for n in range(left):
            counts[U(n * step * tiles + t)] += 1
        cut[t] >>= 8
    scale = np.float32(255.0 / area)
    for level in range(_LEVELS):
        part, table = counts[level * tiles : (level + 1) * tiles], tables[level * tiles : (level + 1) * tiles]
        for t in range(tiles):
            total[t] += part[t] + cut[t]
            table[t] = np.int32(min(np.rint(np.float32(total[t]) * scale), np.float32(255.0)))


@njit(**OPTIONS)
def _equalize(packed, height, width, limit, across, down):
    """The lowest byte of every word, by the histograms of ``across`` × ``down`` tiles."""
    tiles = across * down
    more_down = more_across = 0
    if height % down or width % across:
        more_down, more_across = down - height % down, across - width % across
    tall, wide = (height + more_down) // down, (width + more_across) // across
    area = tall * wide
    most = max(min(limit * area / 256.0, float(area)), 1.0)  # no bin holds more than the tile
    tables = np.empty(_LEVELS * tiles, np.uint8)
    if area < 1 << 15:  # half the memory, twice as many a vector
        short, sums = np.zeros(_LEVELS * tiles, np.int16), np.zeros((2, tiles), np.int16)
        _count(packed, height, width, tall, wide, across, down, short)
        _tabulate(short, sums[0], sums[1], np.int16(most), area, tiles, tables)
    else:
        counts, long_sums = np.zeros(_LEVELS * tiles, np.int32), np.zeros((2, tiles), np.int32)
        _count(packed, height, width, tall, wide, across, down, counts)
        _tabulate(counts, long_sums[0], long_sums[1], np.int32(most), area, tiles, tables)

    places, shares = np.empty((4, max(height, width)), np.int32), np.empty((2, max(height, width)), np.float32)
    above, below, lower = places[0], places[1], shares[0]
    left_of, right_of, further = places[2], places[3], shares[1]
    _neighbours(height, tall, down, above, below, lower)
    _neighbours(width, wide, across, left_of, right_of, further)
    one = np.float32(1.0)
    for y in range(height):
        upper, under = tables[above[y] * across :], tables[below[y] * across :]
        share, rest = lower[y], one - lower[y]
        line = packed[y * width : (y + 1) * width]
        for x in range(width):
            word = line[x]
            first = np.int32((word & np.uint32(255)) * np.uint32(tiles))
            left, right = U(first + left_of[x]), U(first + right_of[x])
            far, near = further[x], one - further[x]
            high = np.float32(upper[left]) * near + np.float32(upper[right]) * far
            low = np.float32(under[left]) * near + np.float32(under[right]) * far
            line[x] = (word & np.uint32(0xFFFF00)) | np.uint32(np.int32(np.rint(high * rest + low * share)))
