"""The compiled loop over images of unequal size: one crop or resize each, to results of one size.

Images are read where they lie, by their addresses, so that nothing is packed together before.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import carray, types
from numba.extending import intrinsic

from ...._base.compiled import kept
from . import bilinear as numba_bilinear
from . import resample as numba_resample
from . import warp as numba_warp
from .codes import BILINEAR_SEPARABLE, NEAREST, NEAREST_SEPARABLE
from .memory import OPTIONS, borrowed, move
from .program import source_digest


@intrinsic
def _memory_at(typing, address):
    """A pointer to the bytes at ``address``; whoever called the compiled code keeps them alive."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.uint8)(types.int64), generate


def compiled(digest: int) -> Callable[..., None]:
    """`run`, cached on disk under ``digest``, as `program.compiled` says."""

    @kept(**OPTIONS)
    def run(start, stop, code, cubic, addresses, shapes, steps, matrices, bounds, padding, fill, tall, wide, out):
        """Images [start, stop). code: of `codes`, 0 to resample with antialiasing, ``cubic`` or not.

        addresses (B,), shapes (B, 3) channels, height and width, steps (B, 3) from a value to the next of each, bounds
        (B, 4) int64 in pixels, as `plan.Warp` has them; matrices (B, 6) int64. fill (C,) uint8. out: (B·C·tall·wide).
        Images are contiguous, but for code 0.
        """
        if digest < 0:  # never; but only what is read here is part of the key of numba's cache
            return
        addresses, shapes, steps, matrices = borrowed(addresses), borrowed(shapes), borrowed(steps), borrowed(matrices)
        bounds, fill, out = borrowed(bounds), borrowed(fill), borrowed(out)
        for b in range(start, stop):
            channels, height, width = shapes[b]
            size = channels * tall * wide
            dst = out[b * size : (b + 1) * size]
            src = carray(_memory_at(addresses[b]), channels * height * width)
            left, top = bounds[b, 0], bounds[b, 2]
            lines, columns = bounds[b, 3] - top + 1, bounds[b, 1] - left + 1
            if code == 0:
                first = top * steps[b, 1] + left * steps[b, 2]
                numba_resample.resample(
                    src, first, steps[b, 0], steps[b, 1], steps[b, 2], channels, lines, columns, tall, wide, cubic, dst
                )
                continue
            limits = bounds[b] << 32
            if code == NEAREST:  # rows of pixels, forwards or backwards
                numba_warp.nearest_by_rows(src, dst, channels, height, width, tall, wide, matrices[b], fill)
            elif code == NEAREST_SEPARABLE:
                numba_warp.nearest_separable(
                    src, dst, channels, height, width, tall, wide, matrices[b], fill, padding, limits
                )
            elif code == BILINEAR_SEPARABLE:  # of the part alone, which is all that it reads
                part, packed = np.empty(channels * lines * columns, np.uint8), np.empty(lines * columns, np.uint32)
                for line in range(channels * lines):
                    y = (line // lines) * height + top + line % lines
                    move(part, line * columns, src, y * width + left, columns)
                m = matrices[b].copy()
                m[2], m[5] = m[2] - (left << 32), m[5] - (top << 32)
                inside = np.array([0, columns - 1, 0, lines - 1]) << 32
                numba_bilinear.bilinear_separable(
                    part, dst, channels, lines, columns, tall, wide, m, padding, inside, packed
                )

    return run


run = compiled(source_digest())
