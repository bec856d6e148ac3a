"""Geometry with the distributions of albumentations and the pixels of OpenCV.

What: affine maps, symmetries of the square, random frames, dropped rectangles, nearest-pixel resizing. When: lifted
albumentations pipelines. Cost: one warp each. Reference: albumentations 2.0.8; OpenCV's warpAffine and resize.
Difference: OpenCV's bilinear `warpAffine` rounds coordinates to 1/32 pixel, the warp here to 2**-32, so results differ
by up to g / 32 where neighbouring pixels differ by g grey levels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .... import draws
from ....augment import Augmentation, Pad
from ....augment.augmentation import Cuts, equal_cuts
from ....augment.backends.tables.coordinates import ONE
from ....augment.checks import check_fill
from ....augment.plan import Erase, Plan, Trace, Warp

Span = tuple[float, float]
_MARGIN = 4  # least tolerance of a map, in these units, so that rounding cannot change a pixel

# pixel (x, y) of the output reads (x, y) = (a x + b y + c (W − 1), d x + e y + f (H − 1)), as a b c d e f
SYMMETRIES = {
    "e": (1, 0, 0, 0, 1, 0),
    "r90": (0, -1, 1, 1, 0, 0),  # counter-clockwise
    "r180": (-1, 0, 1, 0, -1, 1),
    "r270": (0, 1, 0, -1, 0, 1),
    "v": (1, 0, 0, 0, -1, 1),
    "hvt": (0, -1, 1, -1, 0, 1),
    "h": (-1, 0, 1, 0, 1, 0),
    "t": (0, 1, 0, 1, 0, 0),
}


class Symmetry(Augmentation):
    """One of ``elements`` (names in `SYMMETRIES`) of the square's symmetry group, uniformly; images must be square."""

    def __init__(self, elements: Sequence[str]) -> None:
        self.elements = tuple(elements)

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw the element of each of the B samples; raises ValueError when images are not square."""
        batch, _, height, width = shape
        if height != width:
            raise ValueError(f"images must be square to be turned by 90°, got {height}×{width}; write lift=False")
        drawn = draws.integers(key, len(self.elements))
        rows = torch.tensor([SYMMETRIES[name] for name in self.elements], dtype=torch.float64).view(-1, 2, 3)
        rows[:, :, 2] *= width - 1
        # pixels map to pixels, but rows and columns may be exchanged, which `grid` excludes: hence `inside`
        warp = Warp(rows[drawn], (height, width), inside=True)
        trace = Trace(drawn[:, None], torch.zeros(batch, 1), tuple(f"Symmetry {name}" for name in self.elements))
        return Plan(tuple(shape), (warp,), trace)


class AffineDraw(NamedTuple):
    """The parameters of affine maps, each (B,) float64, with albumentations' names: pixels, degrees, factors."""

    translate_x: np.ndarray
    translate_y: np.ndarray
    shear_x: np.ndarray
    shear_y: np.ndarray
    scale_x: np.ndarray
    scale_y: np.ndarray
    rotate: np.ndarray


class Affine(Augmentation):
    """albumentations' Affine, ShiftScaleRotate and Rotate, which differ in their ranges.

    scale, shear: ranges for "x" and "y", in factors and degrees. Translation is a range of whole pixels (pixels), or of
    fractions of width and height, truncated to pixels (share), or none. rotate: range in degrees. keep_ratio: use the
    factor of x for both axes. balanced: shrink and enlarge equally often. interpolation, fill, padding, mask_fill: see
    `plan.Warp`.
    """

    def __init__(
        self,
        *,
        scale: Mapping[str, Span],
        shear: Mapping[str, Span],
        rotate: Span,
        pixels: Mapping[str, Span] | None = None,
        share: Mapping[str, Span] | None = None,
        keep_ratio: bool = False,
        balanced: bool = False,
        interpolation: str = "bilinear",
        fill: tuple[float, ...] = (0.0,),
        padding: str = "constant",
        mask_fill: float = 0.0,
    ) -> None:
        self.scale, self.shear, self.rotate = dict(scale), dict(shear), rotate
        self.pixels = None if pixels is None else dict(pixels)
        self.share = None if share is None else dict(share)
        self.keep_ratio, self.balanced = keep_ratio, balanced
        self.interpolation, self.fill, self.padding, self.mask_fill = interpolation, fill, padding, mask_fill

    def parameters(self, key: Tensor, height: int, width: int) -> AffineDraw:
        """Draw the parameters for stream keys (B,) and images of ``height`` × ``width`` pixels."""
        drawn = draws.uniform(key, (9,), dtype=torch.float64).numpy().T
        shift = []
        for n, (axis, length) in enumerate((("x", width), ("y", height))):
            if self.pixels is not None:
                low, high = (int(side) for side in self.pixels[axis])
                shift.append(low + np.floor(drawn[n] * (high - low + 1)))
            elif self.share is not None:
                shift.append(np.trunc(_between(drawn[n], self.share[axis]) * length))
            else:
                shift.append(np.zeros_like(drawn[n]))
        shear = [-_between(drawn[2 + n], self.shear[axis]) for n, axis in enumerate("xy")]
        scale = [self._factor(drawn[4 + n], drawn[6 + n], self.scale[axis]) for n, axis in enumerate("xy")]
        if self.keep_ratio:
            scale[1] = scale[0]
        return AffineDraw(shift[0], shift[1], shear[0], shear[1], scale[0], scale[1], _between(drawn[8], self.rotate))

    def _factor(self, drawn: np.ndarray, side: np.ndarray, span: Span) -> np.ndarray:
        if not self.balanced:
            return _between(drawn, span)
        down = _between(drawn, (span[0], 1.0)) if span[0] < 1 else None
        up = _between(drawn, (1.0, span[1])) if span[1] > 1 else None
        if down is None or up is None:
            one = down if down is not None else up
            return np.ones_like(drawn) if one is None else one
        return np.where(side < 0.5, down, up)

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw the maps of the B samples."""
        batch, channels, height, width = shape
        check_fill(self.fill, channels)
        drawn = self.parameters(key, height, width)
        matrix, size = torch.from_numpy(inverse(drawn, height, width)), (height, width)
        warp = Warp(matrix, size, self.interpolation, self.fill, self.padding, mask_fill=self.mask_fill)
        shown = torch.from_numpy(drawn.rotate.astype(np.float32)[:, None])
        trace = Trace(torch.zeros(batch, 1, dtype=torch.int64), shown, ("Affine",))
        return Plan(tuple(shape), (warp,), trace)


def inverse(drawn: AffineDraw, height: int, width: int) -> np.ndarray:
    """Matrices (B, 2, 3) float64 from output to input pixels: the inverse of albumentations' affine map.

    The map is centre · translate · shear · rotate · scale · −centre.
    """
    turn = np.radians(drawn.rotate % 360)
    cos, sin = np.cos(turn), np.sin(turn)
    lean_x, lean_y = np.tan(np.radians(drawn.shear_x)), np.tan(np.radians(drawn.shear_y))
    # shear · rotate · scale, where shear is ((1, lean_x), (lean_y, 1)) and rotate ((cos, sin), (−sin, cos))
    a, b = (cos - lean_x * sin) * drawn.scale_x, (sin + lean_x * cos) * drawn.scale_y
    c, d = (lean_y * cos - sin) * drawn.scale_x, (lean_y * sin + cos) * drawn.scale_y
    made, area = np.empty((len(a), 2, 3)), a * d - b * c
    made[:, 0, 0], made[:, 0, 1], made[:, 1, 0], made[:, 1, 1] = d / area, -b / area, -c / area, a / area
    middle_x, middle_y = width / 2 - 0.5, height / 2 - 0.5
    x, y = middle_x + drawn.translate_x, middle_y + drawn.translate_y
    made[:, 0, 2] = middle_x - made[:, 0, 0] * x - made[:, 0, 1] * y
    made[:, 1, 2] = middle_y - made[:, 1, 0] * x - made[:, 1, 1] * y
    return made


def _between(drawn: np.ndarray, span: Span) -> np.ndarray:
    return span[0] + drawn * (span[1] - span[0])


class RandomFrame(Augmentation):
    """Pads by ``down`` rows and ``across`` columns, a random number of them above and to the left; else as `Pad`."""

    def __init__(self, down: int, across: int, *, fill: tuple[float, ...], mode: str, mask_fill: float) -> None:
        self.down, self.across = down, across
        self.frame = Pad((across, down, across, down), fill=fill, mode=mode, mask_fill=mask_fill)

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw the position of each of the B images inside its frame."""
        (warp,) = self.frame.sample(shape, key).segments
        assert isinstance(warp, Warp)
        room = torch.tensor([self.across + 1.0, self.down + 1.0], dtype=torch.float64)
        drawn = (draws.uniform(key, (2,), dtype=torch.float64) * room).floor()
        matrix = warp.matrix.clone()
        matrix[:, :, 2] = -drawn
        size = shape[2] + self.down, shape[3] + self.across
        moved = dataclasses.replace(warp, matrix=matrix, size=size)
        return Plan(tuple(shape), (moved,), Trace.empty(shape[0]))

    def cuts(self, shape: Sequence[int]) -> Cuts:
        """The draws that choose the row and the column of the image in its frame."""
        return {((), axis): equal_cuts(room + 1) for axis, room in enumerate((self.across, self.down))}


class Holes(Augmentation):
    """albumentations' CoarseDropout: a random number of rectangles set to ``value``.

    count: range of their number, both included. tall, wide: ranges of their height and width, both included, in
    pixels if ``tall`` reaches 1, else as fractions of the image, truncated to pixels. value: one, or one per channel.
    """

    def __init__(self, count: tuple[int, int], tall: Span, wide: Span, value: tuple[float, ...]) -> None:
        self.count, self.tall, self.wide, self.value = count, tall, wide, value

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw the rectangles of the B samples."""
        batch, channels, height, width = shape
        check_fill(self.value, channels, "value")
        counted, placed = draws.folds(key, 2)
        drawn = draws.uniform(placed, (self.count[1], 4), dtype=torch.float64).numpy()
        sides = []
        for n, (span, length) in enumerate(((self.tall, height), (self.wide, width))):
            if self.tall[1] >= 1:
                low, high = int(span[0]), int(min(span[1], length))
                sides.append(low + (drawn[..., n] * (high - low + 1)).astype(np.int64))
            else:
                sides.append((length * _between(drawn[..., n], span)).astype(np.int64))
        tall, wide = sides
        number = self.count[0] + draws.integers(counted, self.count[1] - self.count[0] + 1).numpy()
        tall *= np.arange(self.count[1]) < number[:, None]
        top = (drawn[..., 2] * (height - tall + 1)).astype(np.int64)
        left = (drawn[..., 3] * (width - wide + 1)).astype(np.int64)
        boxes = torch.from_numpy(np.stack([top, left, tall, wide], -1))
        shown = torch.from_numpy(number.astype(np.float32)[:, None])
        trace = Trace(torch.zeros(batch, 1, dtype=torch.int64), shown, ("CoarseDropout",))
        return Plan(tuple(shape), (Erase(boxes, self.value),), trace)


class ResizeNearest(Augmentation):
    """OpenCV's INTER_NEAREST, see `nearest_map`. size: (height, width) in pixels."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """The same map for all B samples; nothing is drawn. Raises ValueError if `nearest_map` has none."""
        maps = [nearest_map(*lengths) for lengths in zip(shape[2:], self.size, strict=True)]
        if None in maps:
            raise ValueError(f"no affine map resizes {tuple(shape[2:])} to {self.size} as OpenCV; write lift=False")
        (down, top), (across, left) = (found for found in maps if found is not None)
        matrix = torch.tensor([[across, 0.0, left], [0.0, down, top]], dtype=torch.float64).repeat(shape[0], 1, 1)
        warp = Warp(matrix, self.size, padding="edge")
        return Plan(tuple(shape), (warp,), Trace.empty(shape[0]))


@cache
def nearest_map(length: int, wanted: int) -> tuple[float, float] | None:
    """(step, start) in pixels of the affine map x -> start + step · x that reads the same pixels as OpenCV; or None.

    length: pixels of the input; wanted: of the output. OpenCV (4 and 5) reads pixel ⌊x · (1 / (wanted / length))⌋ in
    double precision; where x · length / wanted is an integer, rounding may give the pixel before it. For some lengths
    no affine map reads these pixels: None.
    """
    place = np.arange(wanted)
    low = np.floor(place * (1.0 / (wanted / length))).astype(np.int64) * ONE - ONE // 2

    def starts(step: int) -> tuple[int, int]:
        """The smallest and the largest start that reads OpenCV's pixels, in units of a warp."""
        return int((low - step * place).max()), int((low - step * place).min()) + ONE - 1

    def room(step: int) -> int:
        least, most = starts(step)
        return most - least

    middle, reach = length * ONE // wanted, ONE // wanted + 1
    first, last = middle - reach, middle + reach
    while first < last:  # the room is concave in the step: bisection on its slope finds the maximum
        step = (first + last) // 2
        first, last = (step + 1, last) if room(step) < room(step + 1) else (first, step)
    if room(first) < _MARGIN:
        return None
    return first / ONE, sum(starts(first)) // 2 / ONE
