"""Compiled normal noise on one uint8 sample, planar: the draws, hence the bytes, of `tables.gauss.field`.

Value n and value n + half of a field come from the same 64-bit word, of slot n: bits 0–23 and bits 24–47.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ..tables.gauss import BITS, FIRST, SECOND, quantiles
from .memory import OPTIONS, U

TABLE = quantiles()
# SplitMix64, as in `draws`: the golden ratio in 64 bits, two odd factors, three shifts
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FACTORS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)
_MASK, _DROP, _HALF = np.uint64((1 << BITS) - 1), np.uint64(BITS), np.uint64(2 * BITS)
_TOP, _ZERO = np.int32(255), np.int32(0)
_BLOCK = 1024  # words at a time, which stay in the cache for their second half


@njit(**OPTIONS)
def _value(word):
    """A normal value from the lowest 24 bits of a word."""
    return TABLE[word & _MASK] * FIRST + TABLE[(word >> _DROP) & _MASK] * SECOND


@njit(**OPTIONS)
def _word(key, slot):
    """The 64 random bits of a slot; products and sums of uint64 wrap around, as they must."""
    word = np.uint64(key) + np.uint64(slot + 1) * _GOLDEN
    word = (word ^ (word >> _SHIFTS[0])) * _FACTORS[0]
    word = (word ^ (word >> _SHIFTS[1])) * _FACTORS[1]
    return word ^ (word >> _SHIFTS[2])


@njit(**OPTIONS)
def one(key, number, count):
    """Value ``number`` of a field of ``count``."""
    half = (count + 1) // 2
    return _value(_word(key, number) if number < half else _word(key, number - half) >> _HALF)


@njit(**OPTIONS)
def line(dst, first, step, key, number, length, count):
    """``length`` values of a field of ``count``, from ``number`` on, to every step-th place of dst (float32)."""
    for i in range(length):
        dst[U(first + i * step)] = one(key, number + i, count)


@njit(**OPTIONS)
def _add(src, dst, noise, first, count, spread, centre):
    """src + noise, cut to whole levels, to dst: ``count`` values from ``first`` on."""
    given, into = src[first : first + count], dst[first : first + count]
    for i in range(count):
        made = np.int32(given[i]) + np.int32(noise[i] * spread + centre)
        into[i] = min(max(np.int32(made), _ZERO), _TOP)


@njit(**OPTIONS)
def noise(src, dst, channels, key, spread, centre, shared):
    """src to dst (C·H·W) uint8; key: int64; spread, centre: float32 grey levels."""
    count = src.size // channels if shared else src.size
    half = (count + 1) // 2
    words = np.empty(_BLOCK, np.uint64)
    made = np.empty(_BLOCK, np.float32)
    for start in range(0, half, _BLOCK):
        length = min(_BLOCK, half - start)
        for i in range(length):
            words[i] = _word(key, start + i)
        for part in range(2):
            for i in range(length):
                made[i] = _value(words[i])
                words[i] >>= _HALF
            first = start + part * half
            for c in range(0, src.size, count):
                _add(src, dst, made, c + first, min(length, count - first), spread, centre)
