"""The compiled interpreter: executes an encoded plan for the samples [start, stop) of a batch, one after the other.

A sample goes through the operations it drew and no others, back and forth between two buffers that are small enough to
stay in the cache. The first operation reads the batch and the last one writes the result, so memory is read and written
once, however many operations there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numba import njit

from ...._base.compiled import kept
from . import bilinear as numba_bilinear
from . import clahe as numba_clahe
from . import cubic as numba_cubic
from . import noise as numba_noise
from . import tone as numba_tone
from . import warp as numba_warp
from .codes import (
    BICUBIC,
    BILINEAR,
    BILINEAR_PADDED,
    BILINEAR_SEPARABLE,
    BLEND,
    CLAHE,
    CONSTANT,
    COPY,
    ERASE,
    FLAT,
    INTERLEAVED,
    LOOKUP,
    NEAREST,
    NEAREST_PADDED,
    NEAREST_SEPARABLE,
    NOISE,
    PLANAR,
    RARE,
    SHARPNESS,
    TONES,
)
from .memory import OPTIONS, U, borrowed, copy


@njit(**OPTIONS)
def _load(src, b, channels, height, width, layout, into):
    """Sample ``b`` to planar order."""
    size = channels * height * width
    part = src[b * size : (b + 1) * size]
    if layout == PLANAR:
        copy(part, into)
        return
    plane = height * width
    for c in range(channels):
        for i in range(plane):
            into[U(c * plane + i)] = part[U(i * channels + c)]


@njit(**OPTIONS)
def _mixed(src, b, other, how, share, box, channels, height, width, into):
    """Sample ``b`` with a part of, or blended with, sample ``other``."""
    size, plane = channels * height * width, height * width
    mine, theirs = src[b * size : (b + 1) * size], src[other * size : (other + 1) * size]
    if how == BLEND:
        for i in range(size):
            second = np.float32(theirs[i])
            into[i] = np.int32(np.rint(second + (np.float32(mine[i]) - second) * share))
        return
    copy(mine, into)
    top, left, tall, wide = box
    for c in range(channels):
        for y in range(top, top + tall):
            first = c * plane + y * width + left
            for i in range(first, first + wide):
                into[U(i)] = theirs[U(i)]


@njit(**OPTIONS)
def _inside(box, height, width):
    """Top, left, bottom and right of what of a box lies in the image."""
    return max(box[0], 0), max(box[1], 0), min(box[0] + box[2], height), min(box[1] + box[3], width)


@njit(**OPTIONS)
def _erase(data, boxes, value, channels, height, width):
    for n in range(boxes.shape[0]):
        top, left, bottom, right = _inside(boxes[n], height, width)
        for c in range(channels):
            for y in range(top, bottom):
                line = (c * height + y) * width
                for i in range(line + left, line + right):
                    data[U(i)] = value[c]


@njit(**OPTIONS)
def _step(
    code, src, dst, b, s, channels, amounts, slot, sizes, matrices, bounds, paddings, fills, boxes, tables, packed
):  # fmt: skip
    """Segment ``s`` of sample ``b``, from src to dst.

    Arrays are only indexed in the branch that needs them: making a slice costs as much as working on 50 pixels.
    """
    if code < TONES:
        numba_tone.tone(code, src, dst, channels, amounts[s, b])
        return
    height, width, tall, wide, w = sizes[s, 0], sizes[s, 1], sizes[s + 1, 0], sizes[s + 1, 1], slot[s]
    if code == SHARPNESS:
        numba_tone.sharpness(src, dst, channels, height, width, amounts[s, b])
    elif code == NEAREST:
        numba_warp.nearest(src, dst, channels, height, width, tall, wide, matrices[w, b], fills[s], packed)
    elif code == NEAREST_SEPARABLE:
        numba_warp.nearest_separable(
            src, dst, channels, height, width, tall, wide, matrices[w, b], fills[s], paddings[s], bounds[w, b]
        )
    elif code == BILINEAR:
        numba_bilinear.bilinear(src, dst, channels, height, width, tall, wide, matrices[w, b], fills[s], packed)
    elif code == BILINEAR_SEPARABLE:
        numba_bilinear.bilinear_separable(
            src, dst, channels, height, width, tall, wide, matrices[w, b], paddings[s], bounds[w, b], packed
        )
    elif code == BICUBIC:
        numba_cubic.bicubic(src, dst, channels, height, width, tall, wide, matrices[w, b], fills[s])
    elif code == ERASE:
        copy(src, dst)
        _erase(dst, boxes[w, b], fills[s], channels, height, width)
    elif code == LOOKUP:
        numba_tone.lookup(src, dst, channels, tables[w, b])
    else:  # no such code; the host refuses it, and nothing may be read that was not written
        copy(src, dst)


@njit(**OPTIONS)
def _rare_step(
    code, src, dst, b, s, channels, slot, sizes, matrices, bounds, paddings, fills, keys, numbers, grids, packed
):
    """`_step` for the codes that are RARE, which are compiled only when a plan has one of them."""
    height, width, tall, wide, w = sizes[s, 0], sizes[s, 1], sizes[s + 1, 0], sizes[s + 1, 1], slot[s]
    if code == NEAREST_PADDED:
        numba_warp.nearest_padded(
            src, dst, channels, height, width, tall, wide, matrices[w, b], fills[s], paddings[s], bounds[w, b]
        )
    elif code == BILINEAR_PADDED:
        numba_bilinear.bilinear_padded(
            src, dst, channels, height, width, tall, wide, matrices[w, b], fills[s], paddings[s], bounds[w, b]
        )
    elif code == CLAHE:
        numba_clahe.clahe(src, dst, channels, height, width, numbers[w, b, 0], grids[s, 0], grids[s, 1], packed)
    elif code == NOISE:
        spread, centre = np.float32(numbers[w, b, 0]), np.float32(numbers[w, b, 1])
        numba_noise.noise(src, dst, channels, keys[w, b], spread, centre, grids[s, 0])
    else:
        copy(src, dst)


@njit(**OPTIONS)
def _store(src, out, b, channels, plane, layout, scale, shift):
    """(x · scale + shift) in float32, planar or interleaved."""
    size = channels * plane
    into = out[b * size : (b + 1) * size]
    for c in range(channels):
        if layout == PLANAR:
            for i in range(plane):
                into[U(c * plane + i)] = np.float32(src[U(c * plane + i)]) * scale[c] + shift[c]
        else:
            for i in range(plane):
                into[U(i * channels + c)] = np.float32(src[U(c * plane + i)]) * scale[c] + shift[c]


@njit(**OPTIONS)
def _erase_stored(out, b, boxes, value, channels, height, width, layout):
    """Rectangles of a stored result, whose values are floats."""
    plane = height * width
    into = out[b * channels * plane : (b + 1) * channels * plane]
    by_channel, by_pixel = (plane, 1) if layout == PLANAR else (1, channels)
    for n in range(boxes.shape[0]):
        top, left, bottom, right = _inside(boxes[n], height, width)
        for c in range(channels):
            for y in range(top, bottom):
                first = c * by_channel + (y * width + left) * by_pixel
                for x in range(right - left):
                    into[U(first + x * by_pixel)] = value[c]


@njit(**OPTIONS)
def _noise_stored(out, b, boxes, keys, flat, channels, height, width, layout):
    """Rectangles filled with noise, of one value a channel where ``flat``; keys: (n, B), those of each box."""
    plane = height * width
    into = out[b * channels * plane : (b + 1) * channels * plane]
    by_channel, by_pixel = (plane, 1) if layout == PLANAR else (1, channels)
    for n in range(boxes.shape[0]):
        top, left, bottom, right = _inside(boxes[n], height, width)
        tall, wide, key = boxes[n, 2], boxes[n, 3], keys[n, b]
        for c in range(channels):
            one = numba_noise.one(key, c, channels)
            for y in range(top, bottom):
                first = c * by_channel + (y * width + left) * by_pixel
                if flat:
                    for x in range(right - left):
                        into[U(first + x * by_pixel)] = one
                else:
                    number = (c * tall + y - boxes[n, 0]) * wide + left - boxes[n, 1]
                    numba_noise.line(into, first, by_pixel, key, number, right - left, channels * tall * wide)


@njit(**OPTIONS)
def _unload(src, out, b, channels, plane):
    """Planar to interleaved."""
    into = out[b * channels * plane : (b + 1) * channels * plane]
    for i in range(plane):
        for c in range(channels):
            into[U(i * channels + c)] = src[U(c * plane + i)]


def source_digest() -> int:
    """A number that changes with any of the compiled files."""
    backends = Path(__file__).parent.parent
    files = [file for folder in ("numba", "tables") for file in sorted((backends / folder).glob("*.py"))]
    return int.from_bytes(hashlib.blake2b(b"".join(file.read_bytes() for file in files), digest_size=7).digest(), "big")


def compiled(digest: int, rare: int) -> Callable[..., None]:
    """`run`, cached on disk under ``digest``: numba itself looks at this file alone, not at those it calls into.

    What it calls is not cached apart, or an old copy of it could end up in a new `run`. rare: 1 for all codes, which
    take twice as long to compile; 0 for those below RARE.
    """

    @kept(**OPTIONS)
    def run(
        start,
        stop,
        src,
        layout,
        channels,
        codes,
        amounts,
        slot,
        sizes,
        matrices,
        bounds,
        paddings,
        fills,
        boxes,
        tables,
        keys,
        numbers,
        grids,
        how,
        partner,
        share,
        pasted,
        out,
        out_float,
        stores,
        scale,
        shift,
        late_boxes,
        late_values,
        late_keys,
        late_how,
        scratch,
        packed,
    ):
        """Rows [start, stop): load or mix, S segments, store.

        src: uint8, flat. codes, amounts: (S, B). slot: (S,) row of matrices (W, B, 6), bounds (W, B, 4) int64, of
        boxes (E, B, n, 4), of tables (L, B, C or 1, 256) uint8 and of keys (N, B) int64 and numbers (N, B, 2) float64.
        sizes: (S + 1, 2) height and width before each segment. fills: (S, C) uint8. grids: (S, 2) int64. how, partner,
        share, pasted: the mix that loads. out: uint8, flat, or with ``stores`` out_float: float32, flat, in which
        late_boxes (E, B, n, 4) are filled as late_how (E,) says: with late_values (E, C) float32, or with the noise of
        late_keys (E, n, B) int64. scratch: (2, n) uint8 and packed: (m,) uint32, for a sample of the largest size and
        for its pixels in a frame of two pixels.
        """
        if digest < 0:  # never; but only what is read here is part of the key of numba's cache
            return
        src, out, out_float = borrowed(src), borrowed(out), borrowed(out_float)
        codes, amounts, slot, sizes = borrowed(codes), borrowed(amounts), borrowed(slot), borrowed(sizes)
        matrices, bounds, paddings = borrowed(matrices), borrowed(bounds), borrowed(paddings)
        fills, boxes, packed = borrowed(fills), borrowed(boxes), borrowed(packed)
        tables, keys, numbers, grids = borrowed(tables), borrowed(keys), borrowed(numbers), borrowed(grids)
        late_boxes, late_values = borrowed(late_boxes), borrowed(late_values)
        late_keys, late_how = borrowed(late_keys), borrowed(late_how)
        first_buffer, second_buffer = borrowed(scratch[0]), borrowed(scratch[1])
        segments = codes.shape[0]
        in_size = channels * sizes[0, 0] * sizes[0, 1]
        out_plane = sizes[segments, 0] * sizes[segments, 1]
        out_size = channels * out_plane
        direct = layout == PLANAR and not stores  # then the last operation writes the result itself
        for b in range(start, stop):
            left = 0  # operations still to do; where it is 0, what is written is the result
            for s in range(segments):
                left += codes[s, b] != 0
            result = out[b * out_size : (b + 1) * out_size] if direct else first_buffer[:out_size]
            if how == COPY and layout == PLANAR:
                current = src[b * in_size : (b + 1) * in_size]
            else:
                current = result if left == 0 and direct else first_buffer[:in_size]
                if how == COPY:
                    _load(src, b, channels, sizes[0, 0], sizes[0, 1], layout, current)
                else:
                    _mixed(src, b, partner[b], how, share[b], pasted[b], channels, sizes[0, 0], sizes[0, 1], current)
            if left == 0 and how == COPY and layout == PLANAR and direct:
                copy(current, result)
            use_second = True
            for s in range(segments):
                code = codes[s, b]
                if code == 0:
                    continue
                left -= 1
                size = channels * sizes[s + 1, 0] * sizes[s + 1, 1]
                if left == 0 and direct:
                    into = result
                elif use_second:
                    into = second_buffer[:size]
                else:
                    into = first_buffer[:size]
                use_second = not use_second
                if rare == 1 and code >= RARE:
                    _rare_step(
                        code, current, into, b, s, channels, slot, sizes, matrices, bounds, paddings, fills, keys,
                        numbers, grids, packed,
                    )  # fmt: skip
                else:
                    _step(
                        code, current, into, b, s, channels, amounts, slot, sizes, matrices, bounds, paddings, fills,
                        boxes, tables, packed,
                    )  # fmt: skip
                current = into
            if stores:
                _store(current, out_float, b, channels, out_plane, layout, scale, shift)
                tall, wide = sizes[segments, 0], sizes[segments, 1]
                for e in range(late_boxes.shape[0]):
                    here, how_filled = late_boxes[e, b], late_how[e]
                    if rare == 1 and how_filled != CONSTANT:
                        flat = how_filled == FLAT
                        _noise_stored(out_float, b, here, late_keys[e], flat, channels, tall, wide, layout)
                    else:
                        _erase_stored(out_float, b, here, late_values[e], channels, tall, wide, layout)
            elif layout == INTERLEAVED:
                _unload(current, out, b, channels, out_plane)

    return run


run, run_all = (compiled(source_digest(), rare) for rare in (0, 1))
