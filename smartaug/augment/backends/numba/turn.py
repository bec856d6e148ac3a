"""Blocks of bytes transposed by the processor's shuffles, which LLVM does not find in loops.

A block is 32 lines of 16 bytes. Interleaving line n with line n + 8, for each n of 16, and all that four times,
transposes 16 × 16 bytes; lines 16 to 31 are the upper halves of the same registers.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

SIDE = 16  # bytes of a line of a block
LINES = 2 * SIDE
_WHOLE, _HALF = ir.VectorType(ir.IntType(8), LINES), ir.VectorType(ir.IntType(8), SIDE)


def _picked(builder, one, other, places):
    """The bytes at ``places`` of two registers joined."""
    return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(ir.IntType(32), len(places)), list(places)))


def _transposed(builder, lines):
    """16 registers of two halves, transposed half by half."""
    evens = [side * SIDE + n // 2 + n % 2 * LINES for side in (0, 1) for n in range(SIDE)]
    for _ in range(4):
        lines = [
            _picked(builder, lines[n // 2], lines[n // 2 + 8], [place + n % 2 * 8 for place in evens])
            for n in range(SIDE)
        ]
    return lines


def _at(builder, data, first, number, step, kind):
    """Where ``kind`` lies in data[first + number · step :]."""
    if isinstance(number, int):
        number = ir.Constant(step.type, number)
    place = builder.add(first, builder.mul(number, step))
    return builder.bitcast(builder.gep(data, [place]), kind.as_pointer())


def _data(context, builder, kind, array):
    return context.make_array(kind)(context, builder, array).data


@intrinsic
def turn(typing, src, first, step, lines, dst, to, apart):
    """dst[to + x · apart + n] = src[first + min(n, lines − 1) · step + x] for n below 32, x below 16."""

    def generate(context, builder, signature, arguments):
        src, first, step, lines, dst, to, apart = arguments
        src, dst = _data(context, builder, signature.args[0], src), _data(context, builder, signature.args[4], dst)
        last, read = builder.sub(lines, ir.Constant(lines.type, 1)), []
        for n in range(LINES):
            line = ir.Constant(lines.type, n)
            line = builder.select(builder.icmp_signed("<", line, last), line, last)
            read.append(builder.load(_at(builder, src, first, line, step, _HALF), align=1))
        joined = [_picked(builder, read[n], read[n + SIDE], range(LINES)) for n in range(SIDE)]
        for x, values in enumerate(_transposed(builder, joined)):
            builder.store(values, _at(builder, dst, to, x, apart, _WHOLE), align=1)
        return context.get_dummy_value()

    number = types.int64
    return types.void(src, number, number, number, dst, number, number), generate


@intrinsic
def turn_back(typing, src, first, apart, dst, to, step):
    """dst[to + n · step + x] = src[first + x · apart + n] for n below 32, x below 16."""

    def generate(context, builder, signature, arguments):
        src, first, apart, dst, to, step = arguments
        src, dst = _data(context, builder, signature.args[0], src), _data(context, builder, signature.args[3], dst)
        read = [builder.load(_at(builder, src, first, x, apart, _WHOLE), align=1) for x in range(SIDE)]
        for n, values in enumerate(_transposed(builder, read)):
            for line in (n, n + SIDE):
                half = _picked(builder, values, values, range(line - n, line - n + SIDE))
                builder.store(half, _at(builder, dst, to, line, step, _HALF), align=1)
        return context.get_dummy_value()

    number = types.int64
    return types.void(src, number, number, dst, number, number), generate
