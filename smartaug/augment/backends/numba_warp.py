"""Compiled affine resampling of one uint8 sample, planar, with coordinates in units of 2**-32 pixels.

Same integers, hence same bytes, as `torch_warp`. A row of an affine map meets the image in one interval, so what lies
outside is filled without looking at pixels, and the inside is read without checks.
"""

from __future__ import annotations

import numpy as np
from numba import njit

OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy"}

ONE = 1 << 32
HALF = 1 << 31
CONSTANT, EDGE, REFLECT, SYMMETRIC = range(4)


@njit(**OPTIONS)
def _ceiling(a, b):
    return -((-a) // b)


@njit(**OPTIONS)
def _interval(start, step, limit, count):
    """The x in [low, high) of 0..count-1 with 0 ≤ start + step · x < limit."""
    if step == 0:
        return (0, count) if 0 <= start < limit else (0, 0)
    if step > 0:
        low = 0 if start >= 0 else _ceiling(-start, step)
        high = 0 if start >= limit else (limit - 1 - start) // step + 1
    else:
        low = 0 if start < limit else (start - limit) // -step + 1
        high = 0 if start < 0 else start // -step + 1
    low, high = max(low, 0), min(high, count)
    return (low, high) if low < high else (0, 0)


@njit(**OPTIONS)
def _resolve(position, length, padding):
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
def nearest(src, dst, channels, height, width, tall, wide, m, fill):
    """Any affine map, constant fill: src (C·height·width) to dst (C·tall·wide); m six int64."""
    plane, out_plane = height * width, tall * wide
    a, d = m[0], m[3]
    for y in range(tall):
        xs, ys = m[1] * y + m[2] + HALF, m[4] * y + m[5] + HALF
        low, high = _interval(xs, a, width * ONE, wide)
        from_rows, to_rows = _interval(ys, d, height * ONE, wide)
        low, high = max(low, from_rows), min(high, to_rows)
        if low >= high:
            low, high = 0, 0
        row = y * wide
        for c in range(channels):
            line = c * out_plane + row
            dst[line : line + low] = fill[c]
            dst[line + high : line + wide] = fill[c]
        if low == high:
            continue
        if d == 0 and (a == ONE or a == -ONE):
            start = (ys >> 32) * width + ((xs + a * low) >> 32)
            for c in range(channels):
                into = dst[c * out_plane + row + low : c * out_plane + row + high]
                if a == ONE:
                    into[:] = src[c * plane + start : c * plane + start + high - low]
                else:
                    first = c * plane + start
                    for x in range(high - low):
                        into[x] = src[first - x]
        elif channels == 3:
            # three pointers into one pass: the index arithmetic is the cost
            red, green, blue = src[:plane], src[plane : 2 * plane], src[2 * plane :]
            out_red = dst[row : row + wide]
            out_green = dst[out_plane + row : out_plane + row + wide]
            out_blue = dst[2 * out_plane + row : 2 * out_plane + row + wide]
            for x in range(low, high):
                at = np.uint64(((ys + d * x) >> 32) * width + ((xs + a * x) >> 32))
                out_red[x] = red[at]
                out_green[x] = green[at]
                out_blue[x] = blue[at]
        else:
            for c in range(channels):
                part = src[c * plane : (c + 1) * plane]
                line = c * out_plane + row
                for x in range(low, high):
                    dst[line + x] = part[np.uint64(((ys + d * x) >> 32) * width + ((xs + a * x) >> 32))]


@njit(**OPTIONS)
def nearest_separable(src, dst, channels, height, width, tall, wide, m, fill, padding, bounds):
    """Columns depend on x alone and rows on y alone: flips, crops, shifts and zooms with any padding."""
    plane, out_plane = height * width, tall * wide
    columns = np.empty(wide, np.int64)
    for x in range(wide):
        position = min(max(m[0] * x + m[2], bounds[0]), bounds[1])
        columns[x] = _resolve((position + HALF) >> 32, width, padding)
    for y in range(tall):
        position = min(max(m[4] * y + m[5], bounds[2]), bounds[3])
        row = _resolve((position + HALF) >> 32, height, padding)
        for c in range(channels):
            line = c * out_plane + y * wide
            if row < 0:
                dst[line : line + wide] = fill[c]
                continue
            first = c * plane + row * width
            for x in range(wide):
                dst[line + x] = src[first + columns[x]] if columns[x] >= 0 else fill[c]


@njit(**OPTIONS)
def _weight(position):
    """The fraction of a coordinate in units of 1/2048."""
    return ((position & (ONE - 1)) + (1 << 20)) >> 21


@njit(**OPTIONS)
def _checked(part, row, column, height, width, fill):
    return np.int32(part[row * width + column]) if 0 <= row < height and 0 <= column < width else np.int32(fill)


@njit(**OPTIONS)
def _mixed(upper_left, upper_right, lower_left, lower_right, across, down):
    upper = upper_left * (2048 - across) + upper_right * across
    lower = lower_left * (2048 - across) + lower_right * across
    return (upper * (2048 - down) + lower * down + (1 << 21)) >> 22


@njit(**OPTIONS)
def bilinear(src, dst, channels, height, width, tall, wide, m, fill):
    """Any affine map with four taps, constant fill."""
    plane, out_plane = height * width, tall * wide
    at = np.empty(wide, np.uint32)
    across, down = np.empty(wide, np.int32), np.empty(wide, np.int32)
    for y in range(tall):
        xs, ys = m[1] * y + m[2], m[4] * y + m[5]
        low, high = _interval(xs, m[0], (width - 1) * ONE, wide)
        from_rows, to_rows = _interval(ys, m[3], (height - 1) * ONE, wide)
        low, high = max(low, from_rows), min(high, to_rows)
        if low >= high:
            low, high = 0, 0
        for x in range(low, high):
            column, row = xs + m[0] * x, ys + m[3] * x
            at[x] = (row >> 32) * width + (column >> 32)
            across[x], down[x] = _weight(column), _weight(row)
        for c in range(channels):
            part, line = src[c * plane : (c + 1) * plane], c * out_plane + y * wide
            for x in range(low, high):
                upper_left = np.uint64(at[x])
                lower_left = upper_left + np.uint64(width)
                one = np.uint64(1)
                dst[line + x] = _mixed(
                    np.int32(part[upper_left]),
                    np.int32(part[upper_left + one]),
                    np.int32(part[lower_left]),
                    np.int32(part[lower_left + one]),
                    across[x],
                    down[x],
                )
            for first, last in ((0, low), (high, wide)):
                for x in range(first, last):
                    column, row = xs + m[0] * x, ys + m[3] * x
                    left, top = column >> 32, row >> 32
                    if left < -1 or top < -1 or left >= width or top >= height:
                        dst[line + x] = fill[c]
                        continue
                    dst[line + x] = _mixed(
                        _checked(part, top, left, height, width, fill[c]),
                        _checked(part, top, left + 1, height, width, fill[c]),
                        _checked(part, top + 1, left, height, width, fill[c]),
                        _checked(part, top + 1, left + 1, height, width, fill[c]),
                        _weight(column),
                        _weight(row),
                    )


@njit(**OPTIONS)
def bilinear_separable(src, dst, channels, height, width, tall, wide, m, padding, bounds):
    """Zooms and resized crops with four taps; padding other than constant."""
    plane, out_plane = height * width, tall * wide
    left, right = np.empty(wide, np.uint32), np.empty(wide, np.uint32)
    across = np.empty(wide, np.int32)
    for x in range(wide):
        position = min(max(m[0] * x + m[2], bounds[0]), bounds[1])
        left[x] = _resolve(position >> 32, width, padding)
        right[x] = _resolve((position >> 32) + 1, width, padding)
        across[x] = _weight(position)
    for y in range(tall):
        position = min(max(m[4] * y + m[5], bounds[2]), bounds[3])
        top = _resolve(position >> 32, height, padding)
        bottom = _resolve((position >> 32) + 1, height, padding)
        down = _weight(position)
        for c in range(channels):
            upper = src[c * plane + top * width : c * plane + (top + 1) * width]
            lower = src[c * plane + bottom * width : c * plane + (bottom + 1) * width]
            line = c * out_plane + y * wide
            for x in range(wide):
                dst[line + x] = _mixed(
                    np.int32(upper[left[x]]),
                    np.int32(upper[right[x]]),
                    np.int32(lower[left[x]]),
                    np.int32(lower[right[x]]),
                    across[x],
                    down,
                )
