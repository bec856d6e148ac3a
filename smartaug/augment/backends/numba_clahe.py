"""Compiled contrast-limited adaptive histogram equalisation of one uint8 sample, planar; the bytes of `torch_clahe`.

Histograms and tables lie level by level, the tiles of one level side by side, so that cutting, adding up and scaling
run over all tiles at once.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .. import lab
from .numba_memory import OPTIONS, U

LINEAR, ROOT, GAMMA = lab.linear(), lab.root(), lab.gamma()
LIGHT, ROOT_OF_LIGHT = lab.lightness()
FROM_A, FROM_B = lab.offsets()
_XR, _XG, _XB, _YR, _YG, _YB, _ZR, _ZG, _ZB = (np.int32(value) for value in lab.TO_XYZ.flat)
_RX, _RY, _RZ, _GX, _GY, _GZ, _BX, _BY, _BZ = (np.int32(value) for value in lab.TO_RGB.flat)
_KNEE, _LINE = np.int32(lab.KNEE), np.int32(lab.LINE)
_LEVELS = 256
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
    line = np.int32(np.float32(root * 108) / np.float32(841.0)) - _LINE
    return line if root <= _KNEE else ((root * root >> 14) * root) >> 14


@njit(**OPTIONS)
def _light(value):
    return GAMMA[U(min(max((value + 8192) >> 14, 0), 4095))]


@njit(**OPTIONS)
def _from_lab(packed, plane, dst):
    """Back to three planes."""
    red, green, blue = dst[:plane], dst[plane : 2 * plane], dst[2 * plane : 3 * plane]
    for i in range(plane):
        word = packed[i]
        level, a, b = U(word & np.uint32(255)), U((word >> np.uint32(8)) & np.uint32(255)), U(word >> np.uint32(16))
        y, root = LIGHT[level], ROOT_OF_LIGHT[level]
        x, z = _cubed(root + FROM_A[a]), _cubed(root - FROM_B[b])
        red[i] = _light(x * _RX + y * _RY + z * _RZ)
        green[i] = _light(x * _GX + y * _GY + z * _GZ)
        blue[i] = _light(x * _BX + y * _BY + z * _BZ)


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
def _equalize(packed, height, width, limit, across, down):
    """The lowest byte of every word, by the histograms of ``across`` × ``down`` tiles."""
    tiles = across * down
    more_down = more_across = 0
    if height % down or width % across:
        more_down, more_across = down - height % down, across - width % across
    tall, wide = (height + more_down) // down, (width + more_across) // across
    area = tall * wide
    counts = np.zeros(_LEVELS * tiles, np.int32)
    for y in range(tall * down):
        line = _mirrored(y, height) * width
        row = (y // tall) * across
        for column in range(across):
            tile = row + column
            for x in range(column * wide, (column + 1) * wide):
                at = line + (x if x < width else _mirrored(x, width))
                counts[U(np.int64(packed[U(at)] & np.uint32(255)) * tiles + tile)] += 1

    most = np.int32(max(min(limit * area / 256.0, float(area)), 1.0))  # no bin holds more than the tile
    cut = np.zeros(tiles, np.int32)
    for level in range(_LEVELS):
        part = counts[level * tiles : (level + 1) * tiles]
        for t in range(tiles):
            over = max(part[t] - most, 0)
            cut[t] += over
            part[t] -= over
    for t in range(tiles):  # one more for every step-th level, as many as are left
        left = cut[t] & 255
        step = max(256 // max(left, 1), 1)
        for n in range(left):
            counts[U(n * step * tiles + t)] += 1
        cut[t] >>= 8

    scale = np.float32(255.0 / area)
    tables = np.empty(_LEVELS * tiles, np.uint8)
    total = np.zeros(tiles, np.int32)
    for level in range(_LEVELS):
        part, table = counts[level * tiles : (level + 1) * tiles], tables[level * tiles : (level + 1) * tiles]
        for t in range(tiles):
            total[t] += part[t] + cut[t]
            table[t] = np.int32(min(np.rint(np.float32(total[t]) * scale), np.float32(255.0)))

    places, shares = np.empty((4, max(height, width)), np.int32), np.empty((2, max(height, width)), np.float32)
    above, below, lower = places[0], places[1], shares[0]
    left_of, right_of, further = places[2], places[3], shares[1]
    _neighbours(height, tall, down, above, below, lower)
    _neighbours(width, wide, across, left_of, right_of, further)
    one = np.float32(1.0)
    for y in range(height):
        up, under, share, rest = above[y] * across, below[y] * across, lower[y], one - lower[y]
        for x in range(width):
            i = U(y * width + x)
            first = np.int32(packed[i] & np.uint32(255)) * tiles
            left, right = first + left_of[x], first + right_of[x]
            far, near = further[x], one - further[x]
            upper = np.float32(tables[U(left + up)]) * near + np.float32(tables[U(right + up)]) * far
            lower_row = np.float32(tables[U(left + under)]) * near + np.float32(tables[U(right + under)]) * far
            made = np.rint(upper * rest + lower_row * share)
            packed[i] = (packed[i] & np.uint32(0xFFFF00)) | np.uint32(np.int32(made))
