"""Compiled resizing of one uint8 image with antialiasing; the same integers, hence bytes, as torch's on the CPU.

Pillow's algorithm, which torch's `interpolate` repeats for uint8: weights of 15 bits, first along rows, rounded to grey
levels, then along columns. Along rows neighbouring results read at steps that differ, which no processor does quickly;
so `LINES` lines are turned, and the same tap of all of them is one load.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .memory import OPTIONS, U

LINES = 32  # worked on at a time
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
def _level(total, bits):
    return np.uint8(min(max(total >> bits, np.int32(0)), np.int32(255)))


@njit(**OPTIONS)
def _four(given, first, second, third, fourth, n, a, b, c, d):
    """The sum of four taps, of which each product fits 23 bits, and all together 24."""
    left = np.int32(np.int32(a * np.int32(given[U(first + n)])) + np.int32(b * np.int32(given[U(second + n)])))
    right = np.int32(np.int32(c * np.int32(given[U(third + n)])) + np.int32(d * np.int32(given[U(fourth + n)])))
    return np.int32(left + right)


@njit(**OPTIONS)
def _mixed(given, at, step, count, weights, i, bits, made, to, length, sums):
    """made[to + n] of given[at + j · step + n], taps j, for n below ``length``: neighbours are neighbours in memory."""
    half, bits = np.int32(1 << (bits - 1)), np.int32(bits)
    if count > TAPS:
        for n in range(length):
            sums[U(n)] = half
        for j in range(0, count, 4):  # four at a time; what a pixel does not need has weight 0
            a, b = np.int32(weights[i, j]), np.int32(weights[i, j + 1])
            c, d = np.int32(weights[i, j + 2]), np.int32(weights[i, j + 3])
            first = at + j * step
            second, third, fourth = first + step, first + 2 * step, first + 3 * step
            for n in range(length):
                sums[U(n)] = np.int32(sums[U(n)] + _four(given, first, second, third, fourth, n, a, b, c, d))
        for n in range(length):
            made[U(to + n)] = _level(sums[U(n)], bits)
        return
    a, b, c, d = np.int32(weights[i, 0]), np.int32(weights[i, 1]), np.int32(weights[i, 2]), np.int32(weights[i, 3])
    second, third, fourth = at + step, at + 2 * step, at + 3 * step
    if count <= 4:
        for n in range(length):
            total = np.int32(half + _four(given, at, second, third, fourth, n, a, b, c, d))
            made[U(to + n)] = _level(total, bits)
        return
    e, f, g, h = np.int32(weights[i, 4]), np.int32(weights[i, 5]), np.int32(weights[i, 6]), np.int32(weights[i, 7])
    fifth, sixth, seventh, eighth = at + 4 * step, at + 5 * step, at + 6 * step, at + 7 * step
    for n in range(length):
        total = np.int32(half + _four(given, at, second, third, fourth, n, a, b, c, d))
        total = np.int32(total + _four(given, fifth, sixth, seventh, eighth, n, e, f, g, h))
        made[U(to + n)] = _level(total, bits)


@njit(**OPTIONS)
def _along_rows(src, start, by_row, by_column, tall, wide, made, first, count, weights, bits, middle, sums):
    """``tall`` lines of ``wide`` pixels, from src[start] on, to lines of ``made`` pixels in ``middle``."""
    turned, block = np.zeros((wide + TAPS) * LINES, np.uint8), np.empty(made * LINES, np.uint8)
    for top in range(0, tall, LINES):
        lines = min(LINES, tall - top)
        for n in range(lines):
            line = start + (top + n) * by_row
            for x in range(wide):
                turned[U(x * LINES + n)] = src[U(line + x * by_column)]
        for x in range(made):
            _mixed(turned, first[x] * LINES, LINES, count[x], weights, x, bits, block, x * LINES, LINES, sums)
        for n in range(lines):
            line = (top + n) * made
            for x in range(made):
                middle[U(line + x)] = block[U(x * LINES + n)]


@njit(**OPTIONS)
def resample(src, start, by_channel, by_row, by_column, channels, height, width, tall, wide, cubic, dst):
    """``height`` × ``width`` pixels from src[start] on to dst (C·tall·wide); by_*: steps between values of src."""
    across, down = np.empty((2, wide), np.int64), np.empty((2, tall), np.int64)
    weights_across = np.empty((wide, room(width, wide, cubic)), np.int16)
    weights_down = np.empty((tall, room(height, tall, cubic)), np.int16)
    bits_across = weigh(width, wide, cubic, across[0], across[1], weights_across)
    bits_down = weigh(height, tall, cubic, down[0], down[1], weights_down)
    middle, sums = np.zeros((height + TAPS) * wide, np.uint8), np.empty(max(wide, LINES), np.int32)
    for c in range(channels):
        _along_rows(
            src, start + c * by_channel, by_row, by_column, height, width, wide, across[0], across[1], weights_across,
            bits_across, middle, sums,
        )  # fmt: skip
        for y in range(tall):
            into = (c * tall + y) * wide
            _mixed(middle, down[0, y] * wide, wide, down[1, y], weights_down, y, bits_down, dst, into, wide, sums)
