"""The operations that policies draw from, as a table: one row an (operation, magnitude), one gather a batch.

A policy's draws are finite: so many operations, so many magnitudes, two signs. All of them are worked out once per
image size; a batch then only picks rows. Reference: Cubuk et al., "AutoAugment", CVPR 2019; units and geometry are
torchvision's.

| name | magnitude |
|---|---|
| ShearX, ShearY | pixels moved per pixel, about the top-left corner |
| TranslateX, TranslateY | pixels, the fraction cut off; positive moves the picture right or down |
| Rotate | degrees, counter-clockwise, about the centre |
| Brightness, Color, Contrast, Sharpness | factor − 1 |
| Posterize | bits kept |
| Solarize | threshold in grey levels, 0–255 |
| Identity, AutoContrast, Equalize, Invert | none |
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .plan import FILTERS, TONES, Filter, Plan, Segment, Tone, Trace, Warp, chain

SIGNED = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness")
GEOMETRIC = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
_FACTORS = ("Brightness", "Color", "Contrast", "Sharpness")

Entry = tuple[str, float]


@dataclass(frozen=True)
class Space:
    """E entries: names, and per entry (E,) what each segment kind does for it."""

    names: tuple[str, ...]
    name: Tensor  # (E,) int64 into names
    magnitude: Tensor  # (E,) float32
    matrix: Tensor  # (E, 2, 3) float64
    moves: Tensor  # (E,) bool
    tone: Tensor  # (E,) int64 into TONES
    filter: Tensor  # (E,) int64 into FILTERS
    amount: Tensor  # (E,) float32, the tone's or the filter's

    def segments(
        self, entries: Tensor, size: tuple[int, int], interpolation: str, fill: tuple[float, ...]
    ) -> tuple[Segment, ...]:
        """The operations ``entries`` (B, N), column by column; each row is active in one segment of its column."""
        matrix, moves = self._rows(self.matrix, entries), self._rows(self.moves, entries)
        tone, filtered = self._rows(self.tone, entries), self._rows(self.filter, entries)
        amount = self._rows(self.amount, entries)
        segments: list[Segment] = []
        for n in range(entries.shape[1]):
            segments += [
                Warp(matrix[:, n], size, interpolation, fill, active=moves[:, n]),
                Tone(tone[:, n], amount[:, n]),
                Filter(filtered[:, n], amount[:, n]),
            ]
        return tuple(segments)

    def trace(self, entries: Tensor) -> Trace:
        """Names and magnitudes of ``entries`` (B, N)."""
        return Trace(self._rows(self.name, entries), self._rows(self.magnitude, entries), self.names)

    @staticmethod
    def _rows(column: Tensor, entries: Tensor) -> Tensor:
        """``column[entries]`` without the threads that indexing by a tensor starts even for small ones."""
        return column.index_select(0, entries.reshape(-1)).view(*entries.shape, *column.shape[1:])

    def plan(
        self,
        shape: Sequence[int],
        entries: Tensor,
        *,
        interpolation: str = "nearest",
        fill: tuple[float, ...] = (0.0,),
        exact: bool = True,
    ) -> Plan:
        """The plan of ``entries`` (B, N) for images (B, C, H, W); exact=False: warps composed and moved to the end."""
        segments = self.segments(entries, (shape[2], shape[3]), interpolation, fill)
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
    return (*others, Warp(matrix, last.size, last.interpolation, last.fill, active=active))


def space(entries: tuple[Entry, ...], height: int, width: int) -> Space:
    """The table of ``entries`` (operation, signed magnitude) for images of that size in pixels."""
    names = tuple(dict.fromkeys(name for name, _ in entries))
    magnitudes = [math.trunc(m) if name.startswith("Translate") else m for name, m in entries]
    pairs = [(name, float(m)) for (name, _), m in zip(entries, magnitudes, strict=True)]
    return Space(
        names=names,
        name=torch.tensor([names.index(name) for name, _ in pairs]),
        magnitude=torch.tensor([m for _, m in pairs], dtype=torch.float32),
        matrix=torch.tensor([matrix_of(name, m, height, width) for name, m in pairs], dtype=torch.float64),
        moves=torch.tensor([name in GEOMETRIC and m != 0 for name, m in pairs]),
        tone=torch.tensor([TONES.index(name) if name in TONES else 0 for name, _ in pairs]),
        filter=torch.tensor([FILTERS.index(name) if name in FILTERS else 0 for name, _ in pairs]),
        amount=torch.tensor([1.0 + m if name in _FACTORS else m for name, m in pairs], dtype=torch.float32),
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
