"""Flips, padding and crops, which move whole pixels: nothing is interpolated, and several in a row run as one warp.

What: `Flip` mirrors a sample, `Pad` puts a frame around it, `Crop` cuts a window out of it, `PadCrop` does both at a
random place. When: the usual augmentation of small images; batches of images of one size. Cost: one copy of the batch.
Reference: torchvision's RandomHorizontalFlip, RandomVerticalFlip, Pad, RandomCrop and CenterCrop.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ... import draws
from ..augmentation import Augmentation, Cuts, check_probability, equal_cuts
from ..backends.tables.paddings import PADDINGS
from ..checks import Fill, Size, check_fill, height_and_width
from ..plan import Plan, Trace, Warp, per_channel
from ..unequal import plan_for, refuse_small


class Flip(Augmentation):
    """Mirror each sample with probability ``p``: left–right, or upside down with ``vertical=True``."""

    def __init__(self, p: float = 0.5, *, vertical: bool = False, backend: str | None = None) -> None:
        super().__init__(backend=backend)
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
    """The matrices (2, 2, 3) of the image as it is and mirrored, ``length`` pixels along the axis concerned."""
    as_it_is, mirrored = np.eye(2, 3), np.eye(2, 3)
    mirrored[int(vertical), int(vertical)], mirrored[int(vertical), 2] = -1.0, length - 1.0
    return np.stack([as_it_is, mirrored])


class PadCrop(Augmentation):
    """Pad each side by ``padding`` pixels, then cut a window at a uniformly random place.

    padding: pixels. size: height and width of the window in pixels, or one number for both; None: the image's own.
    fill: value of the padding in the image's own units (0–255 for uint8), one or one per channel; mask_fill: that of a
    mask. mode: "constant", "edge", "reflect" (edge not repeated) or "symmetric" (edge repeated). Raises ValueError when
    the window does not fit the padded image. With a size, a list of images (C, H, W) of unequal size becomes one batch.
    """

    mask_fill: float = 0.0  # also where a pickle of a former version has none

    def __init__(
        self,
        padding: int = 4,
        *,
        size: Size | None = None,
        fill: Fill = 0,
        mode: str = "constant",
        mask_fill: float = 0,
        backend: str | None = None,
    ) -> None:
        super().__init__(backend=backend)
        if not isinstance(padding, int) or padding < 0:
            raise ValueError(f"padding must be a number of pixels ≥ 0, got {padding!r}")
        self.padding, self.mode = padding, _padding_mode(mode)
        self.size = None if size is None else height_and_width(size)
        self.fill, self.mask_fill = per_channel(fill, "fill"), float(mask_fill)

    @property
    def takes_unequal(self) -> bool:  # type: ignore[override]
        """Whether all windows have one size."""
        return self.size is not None

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw where each of the B windows lies."""
        batch, channels, height, width = shape
        check_fill(self.fill, channels)
        size = self.size or (height, width)
        room = height + 2 * self.padding - size[0], width + 2 * self.padding - size[1]
        least = self.padding - int(np.min(np.minimum(*room))) // 2
        refuse_small("PadCrop", room, shape, size, f" padded by {self.padding}; use a padding of at least {least}")
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
            mask_fill=self.mask_fill,
        )
        trace = Trace(torch.zeros(batch, 1, dtype=torch.int64), torch.from_numpy(off_centre[:, None]), ("PadCrop",))
        return plan_for(shape, (warp,), trace)

    def cuts(self, shape: Sequence[int]) -> Cuts:
        """Every place of the window, down and across."""
        size = self.size or (shape[2], shape[3])
        places = [length + 2 * self.padding - side + 1 for length, side in zip(shape[2:], size, strict=True)]
        return {((), axis): equal_cuts(count) for axis, count in enumerate(places)}


def _padding_mode(mode: str) -> str:
    if mode not in PADDINGS:
        raise ValueError(f'mode must be one of {", ".join(PADDINGS)}, got {mode!r}; write mode="reflect"')
    return mode


def shifts(batch: int, top: np.ndarray | float, left: np.ndarray | float) -> Tensor:
    """Matrices (B, 2, 3) float64 that read ``top`` rows further down and ``left`` columns further right.

    top, left: (B,), or one number for all.
    """
    matrix = np.zeros((batch, 2, 3))
    matrix[:, 0, 0] = matrix[:, 1, 1] = 1.0
    matrix[:, 0, 2], matrix[:, 1, 2] = left, top
    return torch.from_numpy(matrix)


class Pad(Augmentation):
    """Pixels added around each sample; a negative number cuts off.

    padding: pixels (left, top, right, bottom), in torchvision's order, or one number for all sides. fill: value of the
    padding in the image's own units (0–255 for uint8), one or one per channel; mask_fill: that of a mask. mode:
    "constant", "edge", "reflect" (edge not repeated) or "symmetric" (edge repeated).
    """

    def __init__(
        self,
        padding: int | tuple[int, int, int, int],
        *,
        fill: Fill = 0,
        mode: str = "constant",
        mask_fill: float = 0,
        backend: str | None = None,
    ) -> None:
        super().__init__(backend=backend)
        sides = (padding,) * 4 if isinstance(padding, int) else tuple(padding)
        if len(sides) != 4 or not all(isinstance(side, int) for side in sides):
            raise ValueError(f"padding must be pixels (left, top, right, bottom), got {padding!r}; write padding=4")
        self.padding, self.mode, self.fill = sides, _padding_mode(mode), per_channel(fill, "fill")
        self.mask_fill = float(mask_fill)

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Nothing is drawn: the same frame for all B samples."""
        batch, channels, height, width = shape
        check_fill(self.fill, channels)
        left, top, right, bottom = self.padding
        size = height + top + bottom, width + left + right
        if min(size) < 1:
            raise ValueError(f"Pad leaves nothing of {height}×{width} images with padding={self.padding}")
        warp = Warp(
            shifts(batch, -top, -left),
            size,
            fill=self.fill,
            padding=self.mode,
            grid=True,
            inside=max(self.padding) <= 0,
            mask_fill=self.mask_fill,
        )
        return Plan(tuple(shape), (warp,), Trace.empty(batch))


class Crop(Augmentation):
    """A window cut out of each sample.

    size: height and width of the window in pixels, or one number for both. place: "random" (uniform) or "center"
    (torchvision's: rounded half to even). Raises ValueError when the window does not fit; put `Pad` before it. A list
    of images (C, H, W) of unequal size becomes one batch.
    """

    takes_unequal = True

    def __init__(self, size: Size, *, place: str = "random", backend: str | None = None) -> None:
        super().__init__(backend=backend)
        if place not in ("random", "center"):
            raise ValueError(f'place must be "random" or "center", got {place!r}')
        self.size, self.place = height_and_width(size), place

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw where each of the B windows lies."""
        batch, _, height, width = shape
        room = height - self.size[0], width - self.size[1]
        refuse_small("Crop", room, shape, self.size, "; pad before it")
        if self.place == "center":
            matrix, trace = shifts(batch, np.rint(room[0] / 2), np.rint(room[1] / 2)), Trace.empty(batch)
        else:
            drawn = draws.uniform(key, (2,), dtype=torch.float64).numpy()
            top, left = np.floor(drawn[:, 0] * (room[0] + 1.0)), np.floor(drawn[:, 1] * (room[1] + 1.0))
            off_centre = np.hypot(top - room[0] / 2, left - room[1] / 2).astype(np.float32)[:, None]
            trace = Trace(torch.zeros(batch, 1, dtype=torch.int64), torch.from_numpy(off_centre), ("Crop",))
            matrix = shifts(batch, top, left)
        return plan_for(shape, (Warp(matrix, self.size, grid=True, inside=True),), trace)
