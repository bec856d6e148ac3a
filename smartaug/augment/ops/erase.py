"""Erasing rectangles.

What: random rectangles of a sample are filled with one value. When: a regulariser beside flips and crops. Cost: a write
of the erased pixels. Reference: torchvision's RandomErasing; Zhong et al. 2020, "Random Erasing"; DeVries & Taylor
2017, "Cutout".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ... import draws
from ..augmentation import Augmentation, Cuts, check_probability, equal_cuts
from ..checks import Fill, check_fill, renamed
from ..plan import Erase as EraseSegment
from ..plan import Plan, Trace, per_channel
from .rectangles import rectangles, slots


class Erase(Augmentation):
    """Set a random rectangle of each sample to ``fill`` with probability ``p``.

    scale: range of the rectangle's area as a fraction of the image; ratio: range of its height / width, drawn
    log-uniformly; fill: in the image's own units, one or one per channel; count: rectangles a sample. As in
    torchvision's RandomErasing a rectangle that does not fit is drawn again, up to 10 times, then left out. With
    ``scale=(a, a), ratio=(1, 1)`` this is Cutout whose square stays inside the image.
    """

    def __init__(
        self,
        p: float = 0.5,
        *,
        scale: tuple[float, float] = (0.02, 0.33),
        ratio: tuple[float, float] = (0.3, 3.3),
        fill: Fill = 0,
        count: int = 1,
        backend: str | None = None,
        value: Fill | None = None,
    ) -> None:
        super().__init__(backend=backend)
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"scale must be two area fractions 0 < low ≤ high ≤ 1, got {scale!r}")
        if not 0 < ratio[0] <= ratio[1]:
            raise ValueError(f"ratio must be two aspect ratios 0 < low ≤ high, got {ratio!r}")
        if count < 1:
            raise ValueError(f"count must be at least 1 rectangle a sample, got {count!r}")
        self.p, self.count = check_probability(p), count
        self.scale, self.ratio = (float(scale[0]), float(scale[1])), (float(ratio[0]), float(ratio[1]))
        self.fill = per_channel(renamed("value", value, "fill", fill, "Erase"), "fill")

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Pickles of former versions have the fill as ``value``."""
        if "value" in state:
            state = {**state, "fill": state["value"]}
            del state["value"]
        self.__dict__.update(state)

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw the rectangles of the B samples."""
        _, channels, height, width = shape
        check_fill(self.fill, channels)
        # a rectangle as large as the image is refused, as torchvision does, unless nothing smaller can be asked for
        largest = (height - 1, width - 1) if self.scale[0] < 1 else (height, width)
        erased = draws.uniform(key, (self.count,), slots(self.count)).numpy() < self.p
        boxes = np.zeros((len(erased), self.count, 4), np.int64)
        # where draws are prescribed, which of them are asked for must not depend on them
        rows = np.arange(len(erased)) if isinstance(key, draws.Prescribed) else np.flatnonzero(erased.any(1))
        own = key[torch.from_numpy(rows)]
        there, found = rectangles(own, (height, width), self.scale, self.ratio, self.count, largest=largest)
        erased[rows] &= found
        boxes[rows] = there * erased[rows, :, None]
        share = (boxes[..., 2] * boxes[..., 3] / max(1, height * width)).astype(np.float32)
        trace = Trace(torch.from_numpy(erased.astype(np.int64)), torch.from_numpy(share), ("Identity", "Erase"))
        return Plan(tuple(shape), (EraseSegment(torch.from_numpy(boxes), self.fill),), trace)

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
