"""What the compiled files share: compiler options, unsigned indices, arrays without reference counts, copying."""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

# nogil: other threads run meanwhile. numpy: division by zero is not checked for, which would stop vectorising.
# No cache: everything is compiled into `program.run`, which is cached as a whole.
OPTIONS = {"nogil": True, "error_model": "numpy"}

U = np.uint64  # negative indices count from the end, so signed ones are checked, which keeps loops from vectorising


@intrinsic
def borrowed(typing, array):
    """The same array without a reference count; whoever called the compiled code keeps it alive.

    Every slice of an array is counted, up and down, by operations that lock the memory bus: 0.1 µs for the slices that
    one operation on one sample takes, as long as inverting 3000 pixels.
    """

    def generate(context, builder, signature, arguments):
        made = context.make_array(signature.args[0])(context, builder, arguments[0])
        made.meminfo = cgutils.get_null_value(made.meminfo.type)
        made.parent = cgutils.get_null_value(made.parent.type)
        return made._getvalue()

    return array(array), generate


@intrinsic
def move(typing, dst, to, src, first, count):
    """dst[to : to + count] = src[first : first + count] of uint8 arrays that do not overlap, by memcpy."""

    def generate(context, builder, signature, arguments):
        into, place, given, start, length = arguments
        target = context.make_array(signature.args[0])(context, builder, into).data
        source = context.make_array(signature.args[2])(context, builder, given).data
        cgutils.raw_memcpy(builder, builder.gep(target, [place]), builder.gep(source, [start]), length, 1)
        return context.get_dummy_value()

    return types.void(dst, types.int64, src, types.int64, types.int64), generate


@njit(**OPTIONS)
def copy(src, dst):
    """All of dst, element by element: numba's own slice assignment does not vectorise."""
    for i in range(dst.size):
        dst[i] = src[i]
