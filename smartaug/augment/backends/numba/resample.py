"""Compiled resizing of one uint8 image with antialiasing; the same integers, hence bytes, as torch's on the CPU.

Pillow's algorithm, which torch's `interpolate` repeats for uint8: weights of 15 bits, first along rows, rounded to grey
levels, then along columns. Along rows neighbouring results read at steps that differ, which no processor does quickly;
so `LINES` lines are turned, and the same tap of all of them, and of all channels, is one load. Turning takes a sixth of
the time, and the sums of products most of the rest.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .memory import OPTIONS, U, move
from .vectors import LINES, SIDE, mix, turn, turn_back

TAPS = 8  # weights a pixel has room for, at least; those that it does not need are 0
_MOST = 22  # bits of a weight's fraction


@njit(**OPTIONS)
def _filter(x, cubic):
    """The weight of a pixel ``x`` away from the middle: bicubic with a = −0.5, or bilinear."""
    x = abs(x)
    if not cubic:
        return 1.0 - x if x < 1.0 else 0.0
    if x < 1.0:
        return (1.5 * x - 2.5) * x * x + 1.0
    return (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5 if x < 2.0 else 0.0


@njit(**OPTIONS)
def room(length, made, cubic):
    """Taps of a pixel when ``length`` pixels become ``made``, in whole fours."""
    half = 2 if cubic else 1
    taps = int(np.ceil(half * max(1.0, length / made))) * 2 + 1
    return max(TAPS, (taps + 3) // 4 * 4)


@njit(**OPTIONS)
def weigh(length, made, cubic, first, count, weights):
    """What each of ``made`` pixels reads of ``length``: from where, how many, and their int16 weights (made, taps).

    Returns the bits of the weights' fraction.
    """
    scale = length / made
    support = (2.0 if cubic else 1.0) * max(scale, 1.0)
    shares, narrow, largest = np.zeros(weights.shape), 1.0 / max(scale, 1.0), 0.0
    for i in range(made):
        centre = scale * (i + 0.5)
        low = max(int(centre - support + 0.5), 0)
        taps = min(min(int(centre + support + 0.5), length) - low, weights.shape[1])
        first[i], count[i], total = low, taps, 0.0
        for j in range(taps):
            shares[i, j] = _filter((j + low - centre + 0.5) * narrow, cubic)
            total += shares[i, j]
        for j in range(taps):
            shares[i, j] /= total
            largest = max(largest, shares[i, j])
    bits = 0
    while bits < _MOST and int(0.5 + largest * (1 << (bits + 1))) < 1 << 15:
        bits += 1
    for i in range(made):
        for j in range(weights.shape[1]):
            share = shares[i, j] * (1 << bits)
            weights[i, j] = int(share - 0.5) if share < 0.0 else int(share + 0.5)
    return bits


@njit(**OPTIONS)
def _mixed(given, at, step, count, weights, i, bits, made, to, length):
    """made[to + n] of given[at + j · step + n], taps j, for n below ``length``: neighbours are neighbours in memory.

    length: `LINES` or more. An odd number of taps is one more, of weight 0.
    """
    pairs, weight = (count + 1) // 2, i * weights.shape[1]
    for n in range(0, length, LINES):
        n = min(n, length - LINES)  # the last ones may overlap those before
        mix(given, at + n, step, weights, weight, pairs, bits, made, to + n)


@njit(**OPTIONS)
def _along_rows(src, start, by_plane, by_row, planes, length, height, channels, wide, across, middle, stride):
    """``height`` lines of ``wide`` pixels to ``middle``: each line channel by channel, a channel every ``stride``.

    Line y of plane p is the ``length`` values from src[start + p · by_plane + y · by_row] on. Planes are channels; or
    there is one plane, in which the channels of a pixel are neighbours.
    """
    first, count, weights, bits = across
    apart, pixel = planes * LINES, channels * LINES
    turned, block = np.empty(length * apart + pixel, np.uint8), np.empty(stride * pixel, np.uint8)
    for top in range(0, height, LINES):
        for p in range(planes):
            line = start + p * by_plane + top * by_row
            for n in range(0, length, SIDE):
                n = min(n, length - SIDE)  # the last block may overlap the one before
                turn(src, line + n, by_row, height - top, turned, n * apart + p * LINES, apart)
        for x in range(wide):
            _mixed(turned, first[x] * pixel, pixel, count[x], weights, x, bits, block, x * pixel, pixel)
        for c in range(channels):
            into = (top * channels + c) * stride
            for x in range(0, stride, SIDE):
                x = min(x, stride - SIDE)
                turn_back(block, x * pixel + c * LINES, pixel, middle, into + x, channels * stride)


@njit(**OPTIONS)
def _packed(src, start, by_channel, by_row, by_column, channels, height, width, stride):
    """The pixels channel by channel, in lines of ``stride`` values."""
    made = np.empty(channels * height * stride, np.uint8)
    for c in range(channels):
        for y in range(height):
            line, into = start + c * by_channel + y * by_row, (c * height + y) * stride
            for x in range(width):
                made[U(into + x)] = src[U(line + x * by_column)]
    return made


@njit(**OPTIONS)
def _weights(length, made, cubic):
    """As `weigh` has them: from where, how many, the weights, and the bits of their fraction."""
    first, count = np.empty(made, np.int64), np.empty(made, np.int64)
    weights = np.empty((made, room(length, made, cubic)), np.int16)
    return first, count, weights, weigh(length, made, cubic, first, count, weights)


@njit(**OPTIONS)
def resample(src, start, by_channel, by_row, by_column, channels, height, width, tall, wide, cubic, dst):
    """``height`` × ``width`` pixels from src[start] on to dst (C·tall·wide); by_*: steps between values of src."""
    across, (first, count, weights, bits) = _weights(width, wide, cubic), _weights(height, tall, cubic)
    together = by_channel == 1 and by_column == channels
    planes, length = (1, channels * width) if together else (channels, width)
    if length < SIDE or not (together or by_column == 1):
        planes, length = channels, max(width, SIDE)
        src = _packed(src, start, by_channel, by_row, by_column, channels, height, width, length)
        start, by_channel, by_row = 0, height * length, length
    stride = max(wide, LINES)
    line = channels * stride
    middle, narrow = np.empty((height + LINES) * line, np.uint8), np.empty(LINES, np.uint8)
    _along_rows(src, start, by_channel, by_row, planes, length, height, channels, wide, across, middle, stride)
    for y in range(tall):
        for c in range(channels):
            at, into = first[y] * line + c * stride, (c * tall + y) * wide
            if wide < LINES:
                _mixed(middle, at, line, count[y], weights, y, bits, narrow, 0, LINES)
                move(dst, into, narrow, 0, wide)
            else:
                _mixed(middle, at, line, count[y], weights, y, bits, dst, into, wide)
