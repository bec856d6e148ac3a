"""A plan's segments as the arrays that the compiled interpreter reads: one function a kind of segment.

`STEPS` and `LATE` say which kinds these are. A further kind takes a row here, a code in `codes` and a branch in
`program`. `program.run` says what each array holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from torch import Tensor

from .... import draws
from ...plan import Clahe, Erase, EraseNoise, Filter, Lookup, Mix, Noise, Segment, Store, Tone, Warp
from ..tables import filters, tones
from ..tables.codes import checked
from ..tables.coordinates import ONE
from ..tables.paddings import PADDINGS
from . import codes

_ONE = float(ONE)
_UNBOUNDED = (-(1 << 62), 1 << 62, -(1 << 62), 1 << 62)  # beyond every coordinate, and far enough from overflowing
_BOUNDED = codes.NEAREST_SEPARABLE, codes.BILINEAR_SEPARABLE, codes.NEAREST_PADDED, codes.BILINEAR_PADDED
_NO_FLOATS = np.empty(0, np.float32)
_NO_MIX = (codes.COPY, np.zeros(1, np.int64), np.zeros(1, np.float32), np.zeros((1, 4), np.int64))
_NO_NUMBERS = (
    np.empty((0, 0, 1, 256), np.uint8),
    np.empty((0, 0), np.int64),
    np.empty((0, 0, 2)),
    np.empty((0, 2), np.int64),
)
_NO_LATE = (
    np.empty((0, 0, 0, 4), np.int64),
    np.empty((0, 0), np.float32),
    np.empty((0, 0, 0), np.int64),
    np.empty(0, np.int64),
)


class Steps:
    """The arrays of S segments on B samples, before any store; sizes: height and width before each and behind all."""

    def __init__(
        self, segments: Sequence[Segment], batch: int, channels: int, sizes: Sequence[tuple[int, int]]
    ) -> None:
        kinds = [type(segment) for segment in segments]
        count, warps, erased = len(kinds), kinds.count(Warp), kinds.count(Erase)
        self.batch = batch
        self.codes, self.amounts = np.empty((count, batch), np.uint8), np.empty((count, batch), np.float32)
        self.slot, self.padding, self.sizes = [0] * count, [0] * count, sizes
        self.fills = np.zeros((count, channels), np.uint8)
        # the compiled code needs arrays of the right type also where there is nothing in them
        self.matrices = np.empty((max(warps, 1), batch, 6), np.int64)
        self.bounds = np.empty((max(warps, 1), batch, 4), np.int64)
        most = max((segment.boxes.shape[1] for segment in segments if isinstance(segment, Erase)), default=0)
        self.boxes = np.zeros((max(erased, 1), batch, most, 4), np.int64)
        self.tables, self.keys, self.numbers, self.grids = _numbers(segments, kinds, batch)
        self._used: dict[str, int] = {}
        for s, segment in enumerate(segments):
            STEPS[type(segment)](self, s, segment)

    def next_slot(self, s: int, array: str) -> int:
        """The next free row of ``array``, which segment ``s`` takes."""
        self.slot[s] = self._used.get(array, 0)
        self._used[array] = self.slot[s] + 1
        return self.slot[s]

    def reach(self, s: int, active: Tensor | None, code: int) -> None:
        """``code`` for the rows that segment ``s`` reaches (None: all), 0 for the others."""
        if active is None:
            self.codes[s] = code
        else:
            np.multiply(active.numpy(), code, out=self.codes[s], casting="unsafe")

    @property
    def arguments(self) -> tuple[np.ndarray, ...]:
        """In the order in which `program.run` takes them."""
        slot, sizes, padding = (np.array(values, np.int64) for values in (self.slot, self.sizes, self.padding))
        first = self.codes, self.amounts, slot, sizes, self.matrices, self.bounds, padding, self.fills, self.boxes
        return *first, self.tables, self.keys, self.numbers, self.grids


def _numbers(segments: Sequence[Segment], kinds: list[type], batch: int) -> tuple[np.ndarray, ...]:
    """Memory for tables (L, B, C or 1, 256), keys (N, B), numbers (N, B, 2) and grids (S, 2)."""
    lookups, numbered = kinds.count(Lookup), kinds.count(Clahe) + kinds.count(Noise)
    if not lookups and not numbered:
        return _NO_NUMBERS
    width = max((s.table[..., 0].numel() // batch for s in segments if isinstance(s, Lookup)), default=1)
    return (
        np.empty((lookups, batch, width, 256), np.uint8),
        np.zeros((numbered, batch), np.int64),
        np.zeros((numbered, batch, 2)),
        np.zeros((len(kinds), 2), np.int64),
    )


def _tone(to: Steps, s: int, tone: Tone) -> None:
    to.codes[s], to.amounts[s] = checked(tone.op, tones.TONES, "Tone"), tone.amount.numpy()


def _filter(to: Steps, s: int, segment: Filter) -> None:
    op = checked(segment.op, filters.FILTERS, "Filter")
    to.codes[s], to.amounts[s] = (op == filters.FILTERS.index("Sharpness")) * codes.SHARPNESS, segment.amount.numpy()


def _warp(to: Steps, s: int, warp: Warp) -> None:
    code, slot = warp_code(warp), to.next_slot(s, "matrices")
    to.reach(s, warp.active, code)
    np.rint(warp.matrix.numpy().reshape(to.batch, 6) * _ONE, out=to.matrices[slot], casting="unsafe")
    if warp.bounds is not None:
        to.bounds[slot] = warp.bounds.numpy() * _ONE
    elif code in _BOUNDED:
        to.bounds[slot] = _UNBOUNDED
    to.fills[s], to.padding[s] = rounded(warp.fill), PADDINGS.index(warp.padding)


def _erase(to: Steps, s: int, erase: Erase) -> None:
    boxes, slot = erase.boxes.numpy(), to.next_slot(s, "boxes")
    to.codes[s] = codes.ERASE * ((boxes[:, :, 2] > 0) & (boxes[:, :, 3] > 0)).any(1)
    to.boxes[slot, :, : boxes.shape[1]] = boxes
    to.fills[s] = rounded(erase.fill)


def _lookup(to: Steps, s: int, lookup: Lookup) -> None:
    to.reach(s, lookup.active, codes.LOOKUP)
    rows = np.arange(to.batch) if lookup.active is None else np.flatnonzero(lookup.active.numpy())
    table = lookup.table.numpy()
    table = table[:, None] if table.ndim == 2 else table
    to.tables[to.next_slot(s, "tables"), rows] = np.rint(np.clip(table[rows], 0.0, 255.0)).astype(np.uint8)


def _clahe(to: Steps, s: int, clahe: Clahe) -> None:
    to.reach(s, clahe.active, codes.CLAHE)
    to.numbers[to.next_slot(s, "numbers"), :, 0], to.grids[s] = clahe.limit.numpy(), clahe.grid


def _noise(to: Steps, s: int, noise: Noise) -> None:
    to.reach(s, noise.active, codes.NOISE)
    slot = to.next_slot(s, "numbers")
    to.keys[slot], to.grids[s, 0] = noise.key.numpy(), noise.shared
    to.numbers[slot, :, 0], to.numbers[slot, :, 1] = noise.spread.numpy(), noise.centre.numpy()


STEPS: dict[type[Segment], Callable[[Steps, int, Any], None]] = {
    Tone: _tone,
    Filter: _filter,
    Warp: _warp,
    Erase: _erase,
    Lookup: _lookup,
    Clahe: _clahe,
    Noise: _noise,
}
"""What can come before the store, and how it is encoded."""


@lru_cache(maxsize=64)
def rounded(values: tuple[float, ...]) -> np.ndarray:
    """Values as uint8."""
    return np.rint(values).astype(np.uint8)


def warp_code(warp: Warp) -> int:
    """The loop for that warp; the quickest that holds all of it."""
    if warp.interpolation == "bicubic" and not warp.grid:
        return codes.BICUBIC
    plain = warp.padding == "constant" and warp.bounds is None
    if warp.interpolation == "nearest" or warp.grid:
        return codes.NEAREST if plain else codes.NEAREST_SEPARABLE if is_separable(warp) else codes.NEAREST_PADDED
    if plain:
        return codes.BILINEAR
    separable = warp.padding != "constant" and is_separable(warp)
    return codes.BILINEAR_SEPARABLE if separable else codes.BILINEAR_PADDED


def is_separable(warp: Warp) -> bool:
    """Whether columns depend on x alone and rows on y alone."""
    matrix = warp.matrix.numpy()
    return warp.grid or not (matrix[:, 0, 1].any() or matrix[:, 1, 0].any())


def mixed(mix: Mix | None, batch: int) -> tuple[Any, ...]:
    """How samples are read, their partners, shares and pasted boxes."""
    if mix is None:
        return _NO_MIX
    partner, share = mix.partner.contiguous().numpy(), mix.share.contiguous().numpy()
    if mix.boxes is None:
        return codes.BLEND, partner, share, np.zeros((batch, 4), np.int64)
    return codes.PASTE, partner, share, mix.boxes.contiguous().numpy()


def stored(store: Store | None, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift (C,) float32."""
    return (_NO_FLOATS, _NO_FLOATS) if store is None else _scales(store.mean, store.std, channels)


@lru_cache(maxsize=64)
def _scales(mean: tuple[float, ...], std: tuple[float, ...], channels: int) -> tuple[np.ndarray, np.ndarray]:
    one = np.ones(channels)
    scale, shift = one / (255.0 * np.asarray(std)), one * -np.asarray(mean) / np.asarray(std)
    return scale.astype(np.float32), shift.astype(np.float32)


class Late:
    """What is erased behind the store: boxes (E, B, n, 4), values (E, C), keys (E, n, B) and how (E,)."""

    def __init__(self, segments: Sequence[Erase | EraseNoise], batch: int, channels: int) -> None:
        count, most = len(segments), max(segment.boxes.shape[1] for segment in segments)
        self.boxes = np.zeros((count, batch, most, 4), np.int64)
        self.values, self.keys = np.zeros((count, channels), np.float32), np.zeros((count, most, batch), np.int64)
        self.how = np.full(count, codes.CONSTANT)
        for n, segment in enumerate(segments):
            self.boxes[n, :, : segment.boxes.shape[1]] = segment.boxes.numpy()
            LATE[type(segment)](self, n, segment)


def _late_erase(to: Late, n: int, erase: Erase) -> None:
    to.values[n] = erase.fill


def _late_noise(to: Late, n: int, erase: EraseNoise) -> None:
    for place, key in enumerate(draws.folds(erase.key, erase.boxes.shape[1])):
        to.keys[n, place] = key.numpy()
    to.how[n] = codes.FLAT if erase.flat else codes.NOISY


LATE: dict[type[Segment], Callable[[Late, int, Any], None]] = {Erase: _late_erase, EraseNoise: _late_noise}
"""What can follow the store in one pass, and how it is encoded: nothing else is compiled for floats."""


def late(segments: Sequence[Any], batch: int, channels: int) -> tuple[np.ndarray, ...]:
    """Boxes, values, keys and how, of what is erased last."""
    if not segments:
        return _NO_LATE
    made = Late(segments, batch, channels)
    return made.boxes, made.values, made.keys, made.how
