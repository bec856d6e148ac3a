"""The operations that policies draw from, as a table with one row per (operation, signed magnitude).

A policy draws from finitely many operations, magnitudes and signs. The segments for all of them are worked out once per
image size; drawing for a batch then only gathers rows of the table. Reference: Cubuk et al., "AutoAugment", CVPR 2019;
units and geometry are torchvision's.

| name | magnitude |
|---|---|
| ShearX, ShearY | pixels moved per pixel, about the top-left corner |
| TranslateX, TranslateY | pixels, the fraction cut off; positive moves the image right or down |
| Rotate | degrees, counter-clockwise, about the centre |
| Brightness, Color, Contrast, Sharpness | factor − 1 |
| Posterize | bits kept |
| Solarize | threshold in grey levels, 0–255 |
| Identity, AutoContrast, Equalize, Invert | none |
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..backends.tables.filters import FILTERS
from ..backends.tables.tones import CODES, FACTOR, TABLE
from ..plan import Filter, Plan, Segment, Tone, Trace, Warp, chain

SIGNED = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness")
GEOMETRIC = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
FACTORS = (*(row.name for row in TABLE if row.unit == FACTOR), "Sharpness")

Entry = tuple[str, float]


@dataclass(frozen=True)
class Space:
    """E entries: names, and per entry (E,) what each segment kind does for it."""

    names: tuple[str, ...]
    name: np.ndarray  # (E,) int64 into names
    magnitude: np.ndarray  # (E,) float32
    matrix: np.ndarray  # (E, 2, 3) float64
    moves: np.ndarray  # (E,) bool
    tone: np.ndarray  # (E,) int64 into TONES
    filter: np.ndarray  # (E,) int64 into FILTERS
    amount: np.ndarray  # (E,) float32, the tone's or the filter's

    def segments(
        self,
        entries: Tensor,
        size: tuple[int, int],
        interpolation: str,
        fill: tuple[float, ...],
        mask_fill: float = 0.0,
    ) -> tuple[Segment, ...]:
        """The operations ``entries`` (B, N), column by column; each row is active in one segment of its column."""
        segments: list[Segment] = []
        for drawn in np.ascontiguousarray(entries.numpy().T):
            matrix, moves, tone, filtered, amount = (
                torch.from_numpy(column.take(drawn, 0))
                for column in (self.matrix, self.moves, self.tone, self.filter, self.amount)
            )
            segments += [
                Warp(matrix, size, interpolation, fill, active=moves, mask_fill=mask_fill),
                Tone(tone, amount),
                Filter(filtered, amount),
            ]
        return tuple(segments)

    def trace(self, entries: Tensor) -> Trace:
        """Names and magnitudes of ``entries`` (B, N)."""
        names, magnitudes = self.name.take(entries.numpy()), self.magnitude.take(entries.numpy())
        return Trace(torch.from_numpy(names), torch.from_numpy(magnitudes), self.names)

    def plan(
        self,
        shape: Sequence[int],
        entries: Tensor,
        *,
        interpolation: str = "nearest",
        fill: tuple[float, ...] = (0.0,),
        mask_fill: float = 0.0,
        exact: bool = True,
    ) -> Plan:
        """The plan of ``entries`` (B, N) for images (B, C, H, W); exact=False: warps composed and moved to the end."""
        segments = self.segments(entries, (shape[2], shape[3]), interpolation, fill, mask_fill)
        return Plan(tuple(shape), segments if exact else commuted(segments), self.trace(entries))


def commuted(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """The same segments with all warps composed into one, behind the others: one resampling instead of several."""
    warps = [segment for segment in segments if isinstance(segment, Warp)]
    others = tuple(segment for segment in segments if not isinstance(segment, Warp))
    if not warps:
        return others
    matrix, active = warps[0].matrix, warps[0].active
    for warp in warps[1:]:
        matrix = chain(matrix, warp.matrix)
        active = None if active is None or warp.active is None else active | warp.active
    last = warps[-1]
    return (*others, dataclasses.replace(last, matrix=matrix, active=active))


def space(entries: tuple[Entry, ...], height: int, width: int) -> Space:
    """The table of ``entries`` (operation, signed magnitude) for images of that size in pixels."""
    names = tuple(dict.fromkeys(name for name, _ in entries))
    magnitudes = [math.trunc(m) if name.startswith("Translate") else m for name, m in entries]
    pairs = [(name, float(m)) for (name, _), m in zip(entries, magnitudes, strict=True)]
    return Space(
        names=names,
        name=np.array([names.index(name) for name, _ in pairs], np.int64),
        magnitude=np.array([m for _, m in pairs], np.float32),
        matrix=np.array([matrix_of(name, m, height, width) for name, m in pairs], np.float64),
        moves=np.array([name in GEOMETRIC and m != 0 for name, m in pairs]),
        tone=np.array([CODES.get(name, 0) for name, _ in pairs], np.int64),
        filter=np.array([FILTERS.index(name) if name in FILTERS else 0 for name, _ in pairs], np.int64),
        amount=np.array([1.0 + m if name in FACTORS else m for name, m in pairs], np.float32),
    )


def matrix_of(name: str, magnitude: float, height: int, width: int) -> list[list[float]]:
    """The (2, 3) matrix, output pixel to input pixel, of a geometric operation; the identity for any other."""
    if name == "ShearX":
        return [[1.0, magnitude, magnitude / 2], [0.0, 1.0, 0.0]]
    if name == "ShearY":
        return [[1.0, 0.0, 0.0], [magnitude, 1.0, magnitude / 2]]
    if name == "TranslateX":
        return [[1.0, 0.0, -magnitude], [0.0, 1.0, 0.0]]
    if name == "TranslateY":
        return [[1.0, 0.0, 0.0], [0.0, 1.0, -magnitude]]
    if name == "Rotate":
        cos, sin = math.cos(math.radians(magnitude)), math.sin(math.radians(magnitude))
        x, y = (width - 1) / 2, (height - 1) / 2
        return [[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y]]
    return [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
