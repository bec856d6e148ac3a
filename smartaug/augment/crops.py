"""Moving whole pixels: pad and cut. Nothing is interpolated, and neighbours join into one warp.

What: a frame around each sample, a window of it. When: batches of images of one size. Cost: one copy of the batch.
Reference: torchvision's Pad, RandomCrop and CenterCrop.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import draws
from .augmentation import Augmentation
from .checks import check_fill
from .plan import Plan, Trace, Warp, per_channel

PADDINGS = ("constant", "edge", "reflect", "symmetric")


def shifts(top: Tensor, left: Tensor) -> Tensor:
    """Matrices (B, 2, 3) float64 that read ``top`` rows further down and ``left`` columns further right."""
    matrix = torch.eye(2, 3, dtype=torch.float64).repeat(len(top), 1, 1)
    matrix[:, 0, 2], matrix[:, 1, 2] = left, top
    return matrix


class Pad(Augmentation):
    """Pixels added around each sample: left, top, right, bottom; a negative number cuts off.

    fill: value of the padding in the image's own units (0–255 for uint8), one or one per channel; mask_fill: that of a
    mask. mode: "constant", "edge", "reflect" (edge not repeated) or "symmetric" (edge repeated).
    """

    def __init__(
        self,
        padding: tuple[int, int, int, int],
        *,
        fill: float | Sequence[float] = 0,
        mode: str = "constant",
        mask_fill: float = 0,
    ) -> None:
        if len(padding) != 4 or not all(isinstance(side, int) for side in padding):
            raise ValueError(f"padding must be pixels (left, top, right, bottom), got {padding!r}")
        if mode not in PADDINGS:
            raise ValueError(f"mode must be one of {', '.join(PADDINGS)}, got {mode!r}")
        self.padding, self.mode, self.fill = tuple(padding), mode, per_channel(fill, "fill")
        self.mask_fill = float(mask_fill)

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Nothing is drawn: the same frame for all B samples."""
        batch, channels, height, width = shape
        check_fill(self.fill, channels)
        left, top, right, bottom = self.padding
        size = height + top + bottom, width + left + right
        if min(size) < 1:
            raise ValueError(f"Pad leaves nothing of {height}×{width} images with padding={self.padding}")
        rows = torch.ones(batch, dtype=torch.float64)
        warp = Warp(
            shifts(-top * rows, -left * rows),
            size,
            fill=self.fill,
            padding=self.mode,
            grid=True,
            inside=max(self.padding) <= 0,
            mask_fill=self.mask_fill,
        )
        return Plan(tuple(shape), (warp,), Trace.empty(batch))


class Crop(Augmentation):
    """A window of ``size`` (height, width) pixels cut out of each sample.

    place: "random" (uniform) or "center" (torchvision's: rounded half to even). Raises ValueError when the window does
    not fit; put `Pad` before it.
    """

    def __init__(self, size: tuple[int, int], *, place: str = "random") -> None:
        if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
            raise ValueError(f"size must be pixels (height, width), got {size!r}; write size=(224, 224)")
        if place not in ("random", "center"):
            raise ValueError(f'place must be "random" or "center", got {place!r}')
        self.size, self.place = (size[0], size[1]), place

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw where each of the B windows lies."""
        batch, _, height, width = shape
        room = height - self.size[0], width - self.size[1]
        if min(room) < 0:
            raise ValueError(f"Crop cannot cut {self.size[0]}×{self.size[1]} out of {height}×{width}; pad before it")
        if self.place == "center":
            drawn = torch.tensor([round(side / 2) for side in room], dtype=torch.float64).expand(batch, 2)
            trace = Trace.empty(batch)
        else:
            choices = torch.tensor([room[0] + 1.0, room[1] + 1.0], dtype=torch.float64)
            drawn = (draws.uniform(key, (2,), dtype=torch.float64) * choices).floor_()
            off_centre = torch.hypot(drawn[:, 0] - room[0] / 2, drawn[:, 1] - room[1] / 2).float()
            trace = Trace(torch.zeros(batch, 1, dtype=torch.int64), off_centre[:, None], ("Crop",))
        warp = Warp(shifts(drawn[:, 0], drawn[:, 1]), self.size, grid=True, inside=True)
        return Plan(tuple(shape), (warp,), trace)
