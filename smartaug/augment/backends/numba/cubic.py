"""Compiled bicubic resampling of one uint8 sample, planar; the same integers, hence the same bytes, as `torch.warp`."""

from __future__ import annotations

import numpy as np
from numba import njit

from ..tables.coordinates import ONE
from ..tables.cubic import BITS, table
from .memory import OPTIONS, U

WEIGHTS = table()
_DROP = 32 - BITS  # bits of a coordinate's fraction that the weights do not tell apart
_ROUND = 1 << (2 * BITS - 1)  # half a grey level, after two products with weights of BITS bits


@njit(**OPTIONS)
def _place(position):
    """The fraction of a coordinate in units of 1/1024."""
    return ((position & (ONE - 1)) + (1 << (_DROP - 1))) >> _DROP


@njit(**OPTIONS)
def bicubic(src, dst, channels, height, width, tall, wide, m, fill):
    """Any affine map with 4 × 4 taps, constant fill: src (C·height·width) to dst (C·tall·wide); m six int64."""
    plane, out_plane = height * width, tall * wide
    for y in range(tall):
        xs, ys = m[1] * y + m[2], m[4] * y + m[5]
        for x in range(wide):
            column, row = xs + m[0] * x, ys + m[3] * x
            left, top = (column >> 32) - 1, (row >> 32) - 1
            to = y * wide + x
            if left >= width or top >= height or left + 3 < 0 or top + 3 < 0:
                for c in range(channels):
                    dst[U(c * out_plane + to)] = fill[c]
                continue
            across, down = WEIGHTS[_place(column)], WEIGHTS[_place(row)]
            # where all 16 taps are inside they are read without checks
            inside = left >= 0 and top >= 0 and left + 3 < width and top + 3 < height
            for c in range(channels):
                total = np.int32(_ROUND)
                at = c * plane + top * width + left
                for j in range(4):
                    line = np.int32(0)
                    if inside:
                        first = U(at + j * width)
                        line = (
                            np.int32(src[first]) * across[0]
                            + np.int32(src[first + U(1)]) * across[1]
                            + np.int32(src[first + U(2)]) * across[2]
                            + np.int32(src[first + U(3)]) * across[3]
                        )
                    else:
                        for i in range(4):
                            there = 0 <= left + i < width and 0 <= top + j < height
                            value = np.int32(src[U(at + j * width + i)]) if there else np.int32(fill[c])
                            line += value * across[i]
                    total += line * down[j]
                dst[U(c * out_plane + to)] = min(max(total >> (2 * BITS), 0), 255)
