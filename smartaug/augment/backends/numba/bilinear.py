"""Compiled affine resampling of one uint8 sample with four taps, planar; the same integers, hence bytes, as torch's.

Functions take what those of `warp` take. Taps are read as words of three channels. All sums are exact until the end, so
it makes no difference in which order they are formed.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .memory import OPTIONS, U, copy
from .warp import pack, resolve


@njit(**OPTIONS)
def _weight(position):
    """The fraction of a coordinate, rounded to units of 1/2048: 11 of its 32 bits are kept, 21 dropped."""
    low = np.uint32(position)
    return np.int32((low >> np.uint32(21)) + ((low >> np.uint32(20)) & np.uint32(1)))


@njit(**OPTIONS)
def _rounded(total):
    """A grey level from units of 2**-22: two weights of 11 bits make 22, and 255 · 2**22 fits int32."""
    return np.uint8(np.int32(np.int32(total) + np.int32(1 << 21)) >> np.int32(22))


@njit(**OPTIONS)
def _between(first, second, share):
    """first · (2048 − share) + second · share, by one product."""
    return np.int32(np.int32(first << np.int32(11)) + np.int32(np.int32(second - first) * share))


@njit(**OPTIONS)
def _mixed(upper_left, upper_right, lower_left, lower_right, across, down):
    """Four taps weighted by units of 1/2048, rounded."""
    return _rounded(
        _between(_between(upper_left, upper_right, across), _between(lower_left, lower_right, across), down)
    )


@njit(**OPTIONS)
def _framed(src, c, together, height, width, stride, fill, packed):
    """Channels c to c + together − 1 as one word a pixel, the image inside a frame of fill that is two pixels wide."""
    plane, outside = height * width, np.uint32(fill[U(c)])
    if together == 3:
        outside = np.uint32(fill[0]) | (np.uint32(fill[1]) << np.uint32(8)) | (np.uint32(fill[2]) << np.uint32(16))
    for i in range(2 * stride + 2):
        packed[U(i)] = outside
    for y in range(height):
        into, line = (y + 2) * stride + 2, c * plane + y * width
        if together == 3:
            for x in range(width):
                red, green, blue = src[U(line + x)], src[U(line + plane + x)], src[U(line + 2 * plane + x)]
                word = np.uint32(red) | (np.uint32(green) << np.uint32(8)) | (np.uint32(blue) << np.uint32(16))
                packed[U(into + x)] = word
        else:
            for x in range(width):
                packed[U(into + x)] = src[U(line + x)]
        for i in range(into + width, into + width + 4):
            packed[U(i)] = outside
    for i in range((height + 2) * stride + 2, (height + 4) * stride):
        packed[U(i)] = outside


@njit(**OPTIONS)
def _corners(m, y, height, width, stride, places, across, down, to, wide):
    """Of row y the framed places of the upper left taps, and the weights of those behind them; to places[to:]."""
    xs, ys = m[1] * y + m[2], m[4] * y + m[5]
    right, bottom, step = np.int32(width), np.int32(height), np.int32(stride)
    for x in range(wide):
        column, row = xs + m[0] * x, ys + m[3] * x
        left = min(max(np.int32(column >> 32), np.int32(-2)), right)  # from there on all taps are in the frame
        top = min(max(np.int32(row >> 32), np.int32(-2)), bottom)
        places[U(to + x)] = np.int32(np.int32(np.int32(top + np.int32(2)) * step) + np.int32(left + np.int32(2)))
        across[U(to + x)], down[U(to + x)] = _weight(column), _weight(row)


@njit(**OPTIONS)
def bilinear(src, dst, channels, height, width, tall, wide, m, fill, packed):
    """Any affine map with four taps, constant fill: as `nearest`, in long loops without branches."""
    out_plane, stride = tall * wide, width + 4
    rows = max(1, min(tall, 512 // max(1, wide)))  # at a time
    places, across, down = (
        np.empty(rows * wide, np.int32),
        np.empty(rows * wide, np.int32),
        np.empty(rows * wide, np.int32),
    )
    taps = np.empty((4, rows * wide), np.uint32)
    first_tap, second_tap, third_tap, fourth_tap = taps[0], taps[1], taps[2], taps[3]
    one, under = U(1), U(stride)
    together = 3 if channels == 3 else 1
    for c in range(0, channels, together):
        _framed(src, c, together, height, width, stride, fill, packed)
        for start in range(0, tall, rows):
            count = (min(start + rows, tall) - start) * wide
            for y in range(start, min(start + rows, tall)):
                _corners(m, y, height, width, stride, places, across, down, (y - start) * wide, wide)
            for i in range(count):
                at = U(places[U(i)])
                first_tap[U(i)], second_tap[U(i)] = packed[at], packed[at + one]
                third_tap[U(i)], fourth_tap[U(i)] = packed[at + under], packed[at + under + one]
            for n in range(together):
                drop, into = np.uint32(8 * n), (c + n) * out_plane + start * wide  # channel n is byte n of a word
                for i in range(count):
                    dst[U(into + i)] = _mixed(
                        np.int32((first_tap[U(i)] >> drop) & np.uint32(255)),
                        np.int32((second_tap[U(i)] >> drop) & np.uint32(255)),
                        np.int32((third_tap[U(i)] >> drop) & np.uint32(255)),
                        np.int32((fourth_tap[U(i)] >> drop) & np.uint32(255)),
                        across[U(i)],
                        down[U(i)],
                    )


@njit(**OPTIONS)
def _blended(packed, first, together, left, right, shares, wide, lines, to):
    """The row of words from packed[first] on, blended along x: ``wide`` values a channel, to lines[to:]."""
    second, third, low = to + wide, to + 2 * wide, np.uint32(255)
    for x in range(wide):
        near, far = packed[U(first + left[U(x)])], packed[U(first + right[U(x)])]
        share = shares[U(x)]
        lines[U(to + x)] = _between(np.int32(near & low), np.int32(far & low), share)
        if together == 3:
            green, blue = np.uint32(8), np.uint32(16)
            lines[U(second + x)] = _between(np.int32((near >> green) & low), np.int32((far >> green) & low), share)
            lines[U(third + x)] = _between(np.int32(near >> blue), np.int32(far >> blue), share)


@njit(**OPTIONS)
def bilinear_separable(src, dst, channels, height, width, tall, wide, m, padding, bounds, packed):
    """Zooms and resized crops with four taps; padding other than constant.

    Rows of the image are blended along x, a word a tap; neighbouring rows of the result share them.
    """
    plane, out_plane = height * width, tall * wide
    left, right, across = np.empty(wide, np.int64), np.empty(wide, np.int64), np.empty(wide, np.int32)
    for x in range(wide):
        position = min(max(m[0] * x + m[2], bounds[0]), bounds[1])
        left[U(x)] = resolve(position >> 32, width, padding)
        right[U(x)] = resolve((position >> 32) + 1, width, padding)
        across[U(x)] = _weight(position)
    together = 3 if channels == 3 else 1
    lines = np.empty(2 * together * wide, np.int32)  # two blended rows
    for c in range(0, channels, together):
        if together == 3:
            pack(src, plane, packed)
        else:
            copy(src[c * plane : (c + 1) * plane], packed[:plane])
        one, other, held, held_other = 0, together * wide, -1, -1  # where they lie, and which they are
        for y in range(tall):
            position = min(max(m[4] * y + m[5], bounds[2]), bounds[3])
            top = resolve(position >> 32, height, padding)
            bottom = resolve((position >> 32) + 1, height, padding)
            down = _weight(position)
            if top == held_other or bottom == held:
                one, other, held, held_other = other, one, held_other, held
            if top != held:
                _blended(packed, top * width, together, left, right, across, wide, lines, one)
                held = top
            if bottom != held_other:
                _blended(packed, bottom * width, together, left, right, across, wide, lines, other)
                held_other = bottom
            for n in range(together):
                into, upper, lower = (c + n) * out_plane + y * wide, one + n * wide, other + n * wide
                for x in range(wide):
                    dst[U(into + x)] = _rounded(_between(lines[U(upper + x)], lines[U(lower + x)], down))


@njit(**OPTIONS)
def bilinear_padded(src, dst, channels, height, width, tall, wide, m, fill, padding, bounds):
    """Any affine map with four taps and any padding, within bounds."""
    plane, out_plane = height * width, tall * wide
    across, down = np.empty(wide, np.int32), np.empty(wide, np.int32)
    places = np.empty((4, wide), np.int64)
    for y in range(tall):
        xs, ys = m[1] * y + m[2], m[4] * y + m[5]
        for x in range(wide):
            column = min(max(xs + m[0] * x, bounds[0]), bounds[1])
            row = min(max(ys + m[3] * x, bounds[2]), bounds[3])
            across[U(x)], down[U(x)] = _weight(column), _weight(row)
            column, row = column >> 32, row >> 32
            left, right = resolve(column, width, padding), resolve(column + 1, width, padding)
            top, bottom = resolve(row, height, padding), resolve(row + 1, height, padding)
            places[0, U(x)] = top * width + left if top >= 0 and left >= 0 else -1
            places[1, U(x)] = top * width + right if top >= 0 and right >= 0 else -1
            places[2, U(x)] = bottom * width + left if bottom >= 0 and left >= 0 else -1
            places[3, U(x)] = bottom * width + right if bottom >= 0 and right >= 0 else -1
        for c in range(channels):
            first, line, value = c * plane, c * out_plane + y * wide, np.int32(fill[c])
            for x in range(wide):
                dst[U(line + x)] = _mixed(
                    _tap(src, first, places[0, U(x)], value),
                    _tap(src, first, places[1, U(x)], value),
                    _tap(src, first, places[2, U(x)], value),
                    _tap(src, first, places[3, U(x)], value),
                    across[U(x)],
                    down[U(x)],
                )


@njit(**OPTIONS)
def _tap(src, first, place, value):
    return np.int32(src[U(first + place)]) if place >= 0 else value
