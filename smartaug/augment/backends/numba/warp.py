"""Compiled affine resampling of one uint8 sample to the nearest pixel, planar, coordinates in units of 2**-32 pixels.

It computes the same integers, hence the same bytes, as the torch backend. Along a row of output pixels the coordinates
change by constant steps, so the pixels that read inside the image are one interval [low, high) of the row. It is
computed first; then the rest is filled without looking at coordinates, and the interval is read without checking them.

Functions take src (C·height·width) and dst (C·tall·wide) uint8, and m, the six int64 of the matrix: output pixel (x, y)
reads column m[0] · x + m[1] · y + m[2] and row m[3] · x + m[4] · y + m[5].
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ..tables.coordinates import ONE
from ..tables.paddings import PADDINGS
from .memory import OPTIONS, U, copy, move

HALF = ONE // 2  # added before a shift by 32, which cuts the fraction off: the nearest pixel is ⌊x + ½⌋
CONSTANT, REFLECT, SYMMETRIC = (PADDINGS.index(name) for name in ("constant", "reflect", "symmetric"))


@njit(**OPTIONS)
def _fill(dst, first, last, value):
    for i in range(first, last):
        dst[U(i)] = value


@njit(**OPTIONS)
def _quotient(a, b, reciprocal):
    """⌊a / b⌋ for b > 0, in a third of the time of an integer division.

    The product with the float64 ``reciprocal`` of b is off by one at most, since quotients are far below 2**50; the
    remainder shows in which direction.
    """
    q = np.int64(np.floor(np.float64(a) * reciprocal))
    rest = a - q * b
    if rest < 0:
        return q - 1
    return q + 1 if rest >= b else q


@njit(**OPTIONS)
def _interval(start, step, reciprocal, limit, count):
    """The x in [low, high) of 0..count-1 with 0 ≤ start + step · x < limit; reciprocal: 1 / |step|."""
    end = start + step * (count - 1)
    low, high = 0, count
    if step >= 0:
        if start >= limit or end < 0:
            return 0, 0
        if start < 0:
            low = -_quotient(start, step, reciprocal)
        if end >= limit:
            high = _quotient(limit - 1 - start, step, reciprocal) + 1
    else:
        if start < 0 or end >= limit:
            return 0, 0
        if start >= limit:
            low = _quotient(start - limit, -step, reciprocal) + 1
        if end < 0:
            high = _quotient(start, -step, reciprocal) + 1
    return low, high


@njit(**OPTIONS)
def _both(xs, ys, a, d, inverse_a, inverse_d, width, height, count):
    """The x in [low, high) whose x and y coordinates, starts xs and ys and steps a and d, both lie inside."""
    low, high = _interval(xs, a, inverse_a, width, count)
    from_rows, to_rows = _interval(ys, d, inverse_d, height, count)
    low, high = max(low, from_rows), min(high, to_rows)
    return (low, high) if low < high else (0, 0)


@njit(**OPTIONS)
def _reciprocal(step):
    """1 / |step|, once for all rows; 0 where there is no step, and then it is not used."""
    return 1.0 / np.float64(abs(step)) if step != 0 else 0.0


@njit(**OPTIONS)
def pack(src, plane, packed):
    """Three planes to one word a pixel, so that a tap is one read."""
    red, green, blue = src[:plane], src[plane : 2 * plane], src[2 * plane : 3 * plane]
    for i in range(plane):
        packed[i] = np.uint32(red[i]) | (np.uint32(green[i]) << np.uint32(8)) | (np.uint32(blue[i]) << np.uint32(16))


@njit(**OPTIONS)
def resolve(position, length, padding):
    """``position`` brought into 0..length-1, or -1 where it is filled."""
    if 0 <= position < length:
        return position
    if padding == CONSTANT:
        return -1
    if padding == REFLECT:
        period = max(1, 2 * (length - 1))
        position = (length - 1) - abs(position % period - (length - 1))
    elif padding == SYMMETRIC:
        position = position % (2 * length)
        position = min(position, 2 * length - 1 - position)
    return min(max(position, 0), length - 1)


@njit(**OPTIONS)
def _unpack(packed, count, dst, first, plane):
    """``count`` packed pixels to the three planes of dst, from pixel ``first`` on."""
    red = dst[first : first + count]
    green = dst[plane + first : plane + first + count]
    blue = dst[2 * plane + first : 2 * plane + first + count]
    for i in range(count):
        red[i] = np.uint8(packed[i])
        green[i] = np.uint8(packed[i] >> np.uint32(8))
        blue[i] = np.uint8(packed[i] >> np.uint32(16))


@njit(**OPTIONS)
def nearest(src, dst, channels, height, width, tall, wide, m, fill, packed):
    """Any affine map, constant fill: src (C·height·width) to dst (C·tall·wide); m six int64.

    Pixels are widened to one word, three channels at a time, with the fill as one more word behind them: then outside
    is a place like any other, and looking places up, gathering and narrowing are long loops without branches.
    """
    plane, out_plane = height * width, tall * wide
    if m[3] == 0 and (m[0] == ONE or m[0] == -ONE):
        nearest_by_rows(src, dst, channels, height, width, tall, wide, m, fill)
        return
    rows = max(1, min(tall, 2048 // max(1, wide)))  # at a time, about 2048 pixels: long loops, and still in the cache
    places = np.empty(rows * wide, np.int32)
    taken = np.empty(rows * wide, np.uint32)
    together = 3 if channels == 3 else 1
    for c in range(0, channels, together):
        if together == 3:
            pack(src, plane, packed)
            packed[plane] = np.uint32(fill[0]) | (np.uint32(fill[1]) << 8) | (np.uint32(fill[2]) << 16)
        else:
            copy(src[c * plane : (c + 1) * plane], packed[:plane])
            packed[plane] = fill[c]
        for top in range(0, tall, rows):
            count = (min(top + rows, tall) - top) * wide
            for y in range(top, min(top + rows, tall)):
                _places(m, y, height, width, places, (y - top) * wide, wide)
            for i in range(count):
                taken[i] = packed[U(places[i])]
            if together == 3:
                _unpack(taken, count, dst, top * wide, out_plane)
            else:
                copy(taken[:count], dst[c * out_plane + top * wide : c * out_plane + top * wide + count])


@njit(**OPTIONS)
def _places(m, y, height, width, places, first, wide):
    """Where the pixels of row y are taken from, height · width for those from outside; to places[first:]."""
    a, d = m[0], m[3]
    xs, ys = m[1] * y + m[2] + HALF, m[4] * y + m[5] + HALF
    # as unsigned numbers negative coordinates are the largest, so one comparison checks both ends
    right, bottom = U(width * ONE), U(height * ONE)
    outside, length = np.int32(height * width), np.int32(width)
    for x in range(wide):
        column, row = xs + a * x, ys + d * x
        place = np.int32(np.int32(row >> 32) * length + np.int32(column >> 32))
        places[U(first + x)] = place if (U(column) < right) & (U(row) < bottom) else outside


@njit(**OPTIONS)
def nearest_by_rows(src, dst, channels, height, width, tall, wide, m, fill):
    """Pixels of a row stay neighbours (shifts, flips, shears along rows): rows are copied, forwards or backwards."""
    plane, out_plane = height * width, tall * wide
    a, inverse_a = m[0], _reciprocal(m[0])
    for y in range(tall):
        xs, ys = m[1] * y + m[2] + HALF, m[4] * y + m[5] + HALF
        low, high = _both(xs, ys, a, m[3], inverse_a, 0.0, width * ONE, height * ONE, wide)
        start = (ys >> 32) * width + ((xs + a * low) >> 32)
        for c in range(channels):
            line = c * out_plane + y * wide
            _fill(dst, line, line + low, fill[c])
            _fill(dst, line + high, line + wide, fill[c])
            into, first = line + low, c * plane + start
            if a == ONE:
                move(dst, into, src, first, high - low)
            else:
                for x in range(high - low):
                    dst[U(into + x)] = src[U(first - x)]


@njit(**OPTIONS)
def nearest_separable(src, dst, channels, height, width, tall, wide, m, fill, padding, bounds):
    """Columns depend on x alone and rows on y alone: flips, crops, shifts and zooms with any padding."""
    plane, out_plane = height * width, tall * wide
    columns = np.empty(wide, np.int64)
    for x in range(wide):
        position = min(max(m[0] * x + m[2], bounds[0]), bounds[1])
        columns[x] = resolve((position + HALF) >> 32, width, padding)
    for y in range(tall):
        position = min(max(m[4] * y + m[5], bounds[2]), bounds[3])
        row = resolve((position + HALF) >> 32, height, padding)
        for c in range(channels):
            line = c * out_plane + y * wide
            if row < 0:
                dst[line : line + wide] = fill[c]
                continue
            first = c * plane + row * width
            for x in range(wide):
                dst[U(line + x)] = src[U(first + columns[x])] if columns[x] >= 0 else fill[c]


@njit(**OPTIONS)
def nearest_padded(src, dst, channels, height, width, tall, wide, m, fill, padding, bounds):
    """Any affine map with any padding, within bounds."""
    plane, out_plane = height * width, tall * wide
    places = np.empty(wide, np.int64)
    for y in range(tall):
        xs, ys = m[1] * y + m[2], m[4] * y + m[5]
        for x in range(wide):
            column = (min(max(xs + m[0] * x, bounds[0]), bounds[1]) + HALF) >> 32
            row = (min(max(ys + m[3] * x, bounds[2]), bounds[3]) + HALF) >> 32
            column, row = resolve(column, width, padding), resolve(row, height, padding)
            places[U(x)] = row * width + column if row >= 0 and column >= 0 else -1
        for c in range(channels):
            first, line = c * plane, c * out_plane + y * wide
            for x in range(wide):
                place = places[U(x)]
                dst[U(line + x)] = src[U(first + place)] if place >= 0 else fill[c]
