"""What processors do to 32 bytes at once, and LLVM does not find in loops: transposing, and sums of pairs of products.

It is written in LLVM's own vectors, which it compiles for any processor. A register has two halves of 16 bytes, and
bytes are interleaved within each. Interleaving line n with line n + 8, for each n below 8, and all that four times,
transposes 16 × 16 bytes; `turn` and `turn_back` have lines 0 to 15 in lower halves, and 16 to 31 in upper ones.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

SIDE = 16  # bytes of half a register
LINES = 2 * SIDE
_WHOLE, _HALF = ir.VectorType(ir.IntType(8), LINES), ir.VectorType(ir.IntType(8), SIDE)
_WEIGHTS, _SUMS = ir.VectorType(ir.IntType(16), 2), ir.VectorType(ir.IntType(32), SIDE)
_PRODUCTS = ir.VectorType(ir.IntType(32), LINES)
_NUMBER = types.int64


def _picked(builder, one, other, places):
    """The values at ``places`` of two registers joined."""
    return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(ir.IntType(32), len(places)), list(places)))


def _interleaved(builder, one, other, upper):
    """The lower or upper eight bytes of each half of two registers, in turn."""
    places = [half * SIDE + upper * 8 + n // 2 + n % 2 * LINES for half in (0, 1) for n in range(SIDE)]
    return _picked(builder, one, other, places)


def _transposed(builder, lines):
    """16 registers, transposed half by half."""
    for _ in range(4):
        lines = [_interleaved(builder, lines[n // 2], lines[n // 2 + 8], n % 2) for n in range(SIDE)]
    return lines


def _same(builder, value, count):
    vector = builder.insert_element(
        ir.Constant(ir.VectorType(value.type, count), ir.Undefined), value, ir.IntType(32)(0)
    )
    return _picked(builder, vector, vector, [0] * count)


def _data(context, builder, kind, array):
    return context.make_array(kind)(context, builder, array).data


def _at(builder, data, first, number, step, kind):
    """Where ``kind`` lies, from data[first + number · step] on."""
    if isinstance(number, int):
        number = ir.Constant(step.type, number)
    place = builder.add(first, builder.mul(number, step))
    return builder.bitcast(builder.gep(data, [place]), kind.as_pointer())


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

    return types.void(src, _NUMBER, _NUMBER, _NUMBER, dst, _NUMBER, _NUMBER), generate


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

    return types.void(src, _NUMBER, _NUMBER, dst, _NUMBER, _NUMBER), generate


def _summed(builder, pairs, weights):
    """The sum of each of 16 pairs of bytes times a pair of int16; LLVM knows this form, e.g. as x86's pmaddwd."""
    products = builder.mul(builder.zext(pairs, _PRODUCTS), builder.sext(weights, _PRODUCTS))
    evens, odds = (_picked(builder, products, products, range(n, LINES, 2)) for n in (0, 1))
    return builder.add(evens, odds)


def _levels(builder, sums, bits):
    """⌊sums / 2**bits⌋ as grey levels."""
    values = builder.ashr(sums, _same(builder, bits, SIDE))
    for beyond, limit in (("<", 0), (">", 255)):
        limit = ir.Constant(_SUMS, [limit] * SIDE)
        values = builder.select(builder.icmp_signed(beyond, values, limit), limit, values)
    return builder.trunc(values, _HALF)


@intrinsic
def mix(typing, src, at, step, weights, first, pairs, bits, dst, to):
    """dst[to + n], n below 32, the grey level (Σ src[at + j · step + n] · w[j] + 2**(bits − 1)) >> bits.

    w: int16 from weights.flat[first] on; j below 2 · ``pairs``. The sum must fit an int32.
    """

    def generate(context, builder, signature, arguments):
        src, at, step, weights, first, pairs, bits, dst, to = arguments
        src, dst = _data(context, builder, signature.args[0], src), _data(context, builder, signature.args[7], dst)
        weights, bits = _data(context, builder, signature.args[3], weights), builder.trunc(bits, ir.IntType(32))
        rounding = builder.shl(bits.type(1), builder.sub(bits, bits.type(1)))
        sums = [cgutils.alloca_once_value(builder, _same(builder, rounding, SIDE)) for _ in (0, 1)]
        with cgutils.for_range(builder, pairs) as loop:
            tap = builder.mul(loop.index, step.type(2))
            pair = builder.load(_at(builder, weights, first, tap, step.type(1), _WEIGHTS), align=2)
            pair = _picked(builder, pair, pair, [0, 1] * SIDE)
            one = builder.load(_at(builder, src, at, tap, step, _WHOLE), align=1)
            other = builder.load(_at(builder, src, builder.add(at, step), tap, step, _WHOLE), align=1)
            for upper, total in enumerate(sums):
                pairs_of_bytes = _interleaved(builder, one, other, upper)
                builder.store(builder.add(builder.load(total), _summed(builder, pairs_of_bytes, pair)), total)
        lower, upper = (_levels(builder, builder.load(total), bits) for total in sums)
        in_order = [first + n for first in (0, 16, 8, 24) for n in range(8)]
        builder.store(_picked(builder, lower, upper, in_order), _at(builder, dst, to, 0, step, _WHOLE), align=1)
        return context.get_dummy_value()

    return (
        types.void(src, _NUMBER, _NUMBER, weights, _NUMBER, _NUMBER, _NUMBER, dst, _NUMBER),
        generate,
    )
