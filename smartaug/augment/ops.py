"""Single augmentations, each a small plan: flips, padded crops, erasing, normalising. One class an operation.

| class | what it does to a sample | reference |
|---|---|---|
| `Flip` | mirrors it with probability p | torchvision RandomHorizontalFlip, RandomVerticalFlip |
| `PadCrop` | pads, then cuts a window at a random place | torchvision RandomCrop(padding=...) |
| `Erase` | sets random rectangles to a value | torchvision RandomErasing; Zhong et al. 2020; DeVries & Taylor 2017 |
| `Normalize` | scales to [0, 1], subtracts mean, divides by std | torchvision Normalize |
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .. import draws
from .augmentation import Augmentation, Cuts, check_probability, equal_cuts
from .checks import check_fill
from .plan import Erase as EraseSegment
from .plan import Plan, Store, Trace, Warp, per_channel
from .rectangles import rectangles, slots

_PADDINGS = ("constant", "edge", "reflect", "symmetric")


class Flip(Augmentation):
    """Mirror each sample with probability ``p``: left–right, or upside down with ``vertical=True``."""

    def __init__(self, p: float = 0.5, *, vertical: bool = False) -> None:
        self.p = check_probability(p)
        self.vertical = vertical

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw which of the B samples are mirrored."""
        batch, _, height, width = shape
        flipped = (draws.uniform(key).numpy() < self.p).astype(np.int64)
        matrix = _mirrors(self.vertical, height if self.vertical else width).take(flipped, 0)
        names = ("Identity", "VerticalFlip" if self.vertical else "HorizontalFlip")
        trace = Trace(torch.from_numpy(flipped[:, None]), torch.zeros(batch, 1), names)
        return Plan(tuple(shape), (Warp(torch.from_numpy(matrix), (height, width), grid=True, inside=True),), trace)

    def cuts(self, shape: Sequence[int]) -> Cuts:
        """As it is, or mirrored."""
        return {((), 0): [self.p]}


@lru_cache(maxsize=64)
def _mirrors(vertical: bool, length: int) -> np.ndarray:
    """The matrices (2, 2, 3) of the picture as it is and mirrored, ``length`` pixels along the axis concerned."""
    as_it_is, mirrored = np.eye(2, 3), np.eye(2, 3)
    mirrored[int(vertical), int(vertical)], mirrored[int(vertical), 2] = -1.0, length - 1.0
    return np.stack([as_it_is, mirrored])


class PadCrop(Augmentation):
    """Pad each side by ``padding`` pixels, then cut a window at a uniformly random place.

    padding: pixels; size: (height, width) of the window in pixels, None for the image's own. fill: value of the
    padding in the image's own units (0–255 for uint8), one or one per channel. mode: "constant", "edge", "reflect" or
    "symmetric". Raises ValueError when the window does not fit the padded image.
    """

    def __init__(
        self,
        padding: int = 4,
        *,
        size: int | tuple[int, int] | None = None,
        fill: float | Sequence[float] = 0,
        mode: str = "constant",
    ) -> None:
        if not isinstance(padding, int) or padding < 0:
            raise ValueError(f"padding must be a number of pixels ≥ 0, got {padding!r}")
        if mode not in _PADDINGS:
            raise ValueError(f"mode must be one of {', '.join(_PADDINGS)}, got {mode!r}")
        self.padding, self.mode = padding, mode
        self.size = (size, size) if isinstance(size, int) else size
        self.fill = per_channel(fill, "fill")

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw where each of the B windows lies."""
        batch, channels, height, width = shape
        check_fill(self.fill, channels)
        size = self.size or (height, width)
        room = height + 2 * self.padding - size[0], width + 2 * self.padding - size[1]
        if min(room) < 0:
            raise ValueError(
                f"PadCrop cannot cut {size[0]}×{size[1]} out of {height}×{width} padded by {self.padding}; "
                f"use a padding of at least {-(min(room) // 2)}"
            )
        drawn = draws.uniform(key, (2,), dtype=torch.float64).numpy()
        down, across = np.floor(drawn[:, 0] * (room[0] + 1)), np.floor(drawn[:, 1] * (room[1] + 1))
        matrix = np.zeros((batch, 2, 3))
        matrix[:, 0, 0] = matrix[:, 1, 1] = 1.0
        matrix[:, 0, 2], matrix[:, 1, 2] = across - self.padding, down - self.padding
        off_centre = np.hypot(down - room[0] / 2, across - room[1] / 2).astype(np.float32)
        warp = Warp(
            torch.from_numpy(matrix),
            size,
            fill=self.fill,
            padding=self.mode,
            grid=True,
            inside=self.padding == 0,
        )
        trace = Trace(torch.zeros(batch, 1, dtype=torch.int64), torch.from_numpy(off_centre[:, None]), ("PadCrop",))
        return Plan(tuple(shape), (warp,), trace)

    def cuts(self, shape: Sequence[int]) -> Cuts:
        """Every place of the window, down and across."""
        size = self.size or (shape[2], shape[3])
        places = [length + 2 * self.padding - side + 1 for length, side in zip(shape[2:], size, strict=True)]
        return {((), axis): equal_cuts(count) for axis, count in enumerate(places)}


class Erase(Augmentation):
    """Set a random rectangle of each sample to ``value`` with probability ``p``.

    scale: range of the rectangle's area as a fraction of the image; ratio: range of its height / width, drawn
    log-uniformly; value: in the image's own units, one or one per channel; count: rectangles a sample. As in
    torchvision's RandomErasing a rectangle that does not fit is drawn again, up to 10 times, then left out. With
    ``scale=(a, a), ratio=(1, 1)`` this is Cutout whose square stays inside the image.
    """

    def __init__(
        self,
        p: float = 0.5,
        *,
        scale: tuple[float, float] = (0.02, 0.33),
        ratio: tuple[float, float] = (0.3, 3.3),
        value: float | Sequence[float] = 0,
        count: int = 1,
    ) -> None:
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"scale must be two area fractions 0 < low ≤ high ≤ 1, got {scale!r}")
        if not 0 < ratio[0] <= ratio[1]:
            raise ValueError(f"ratio must be two aspect ratios 0 < low ≤ high, got {ratio!r}")
        if count < 1:
            raise ValueError(f"count must be at least 1 rectangle a sample, got {count!r}")
        self.p, self.count = check_probability(p), count
        self.scale, self.ratio = (float(scale[0]), float(scale[1])), (float(ratio[0]), float(ratio[1]))
        self.value = per_channel(value, "value")

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw the rectangles of the B samples."""
        _, channels, height, width = shape
        check_fill(self.value, channels, "value")
        # a rectangle as large as the image is refused, as torchvision does, unless nothing smaller can be asked for
        largest = (height - 1, width - 1) if self.scale[0] < 1 else (height, width)
        boxes, found = rectangles(key, (height, width), self.scale, self.ratio, self.count, largest=largest)
        erased = draws.uniform(key, (self.count,), slots(self.count)).numpy() < self.p
        erased &= found
        boxes *= erased[..., None]
        share = (boxes[..., 2] * boxes[..., 3] / max(1, height * width)).astype(np.float32)
        trace = Trace(torch.from_numpy(erased.astype(np.int64)), torch.from_numpy(share), ("Identity", "Erase"))
        return Plan(tuple(shape), (EraseSegment(torch.from_numpy(boxes), self.value),), trace)

    def cuts(self, shape: Sequence[int]) -> Cuts:
        """Which rectangles are there; and where, when all are of one size."""
        found: Cuts = {((), slots(self.count) + number): [self.p] for number in range(self.count)}
        if self.scale[0] == self.scale[1] and self.ratio[0] == self.ratio[1]:
            area, ratio = self.scale[0] * shape[2] * shape[3], self.ratio[0]
            sides = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            for number in range(self.count):
                for axis, (length, side) in enumerate(zip(shape[2:], sides, strict=True)):
                    slot = number * 4 + 2 + axis  # all tries are alike: the first is taken, or none
                    found[(), slot] = equal_cuts(max(1, length - side + 1))
        return found


class Normalize(Augmentation):
    """Scale uint8 to [0, 1] (floats are taken as they are), then (x − mean) / std, in ``dtype``.

    mean, std: one number, or one per channel, of images in [0, 1]. dtype: None keeps the type of floats, and makes
    uint8 torch's default type. Put it last: tone operations need [0, 1].
    """

    def __init__(
        self,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        *,
        dtype: torch.dtype | None = torch.float32,
    ) -> None:
        self.mean, self.std = per_channel(mean, "mean"), per_channel(std, "std")
        if any(s <= 0 for s in self.std):
            raise ValueError(f"std must be positive, got {std!r}")
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(f"dtype must be a floating-point type, got {dtype}; write dtype=torch.float32")
        channels = max(len(self.mean), len(self.std))
        self.mean = self.mean * channels if len(self.mean) == 1 else self.mean
        self.std = self.std * channels if len(self.std) == 1 else self.std
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} channels and std {len(self.std)}; give as many of each")
        self.dtype = dtype

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Nothing is drawn: the same final write for all B samples."""
        if len(self.mean) not in (1, shape[1]):
            raise ValueError(f"Normalize has statistics of {len(self.mean)} channels, the images have {shape[1]}")
        return Plan(tuple(shape), (Store(self.mean, self.std, self.dtype),), Trace.empty(shape[0]))
