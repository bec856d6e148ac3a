"""Operations that interpolate or filter: affine maps, resized crops, resizing, Gaussian blur.

What: torchvision's RandomAffine, RandomResizedCrop and GaussianBlur, drawn per sample. When: label-preserving movement;
RandomResizedCrop is how ImageNet models are usually trained. Cost: one gather per tap (one tap nearest, four bilinear);
with ``antialias=True`` that of torch's `interpolate`. Difference: RandomResizedCrop and Resize antialias when asked to
(torchvision's default), without it crops shrunk by more than 2 show aliasing; "nearest" there takes the pixel under the
centre of the output pixel (torch's "nearest-exact").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ... import draws
from ..augmentation import Augmentation, Cuts, check_probability
from ..backends.tables.filters import FILTERS
from ..checks import Fill, Interpolation, Size, check_fill, check_number, height_and_width, interpolation_name
from ..plan import Filter, Plan, Trace, Warp, per_channel
from ..resample import Resample
from ..unequal import plan_for
from .rectangles import rectangles


class Affine(Augmentation):
    """Rotation, translation, scaling and shearing about the centre, drawn per sample, as one warp.

    degrees: rotation in [−degrees, degrees], clockwise, or (low, high). translate: largest shift as fractions of
    (width, height). scale: range of the factor. shear: degrees along x in [−shear, shear], or (low, high), or those and
    (low, high) along y. interpolation, fill: as in `Policy`. center: (x, y) in pixels from the upper left corner of the
    image, None: its middle. mask_fill: what a mask has outside. Reference: torchvision RandomAffine (which rounds
    shifts to pixels, as here).
    """

    def __init__(
        self,
        degrees: float | tuple[float, float] = 0,
        translate: tuple[float, float] = (0.0, 0.0),
        scale: tuple[float, float] = (1.0, 1.0),
        shear: float | tuple[float, ...] = 0,
        interpolation: Interpolation = "nearest",
        fill: Fill = 0,
        center: tuple[float, float] | None = None,
        mask_fill: float = 0,
        *,
        backend: str | None = None,
    ) -> None:
        super().__init__(backend=backend)
        self.mask_fill = float(mask_fill)
        self.degrees = _range(degrees, "degrees")
        both = isinstance(shear, (tuple, list)) and len(shear) == 4
        self.shear = _range(shear[:2] if both else shear, "shear")  # type: ignore[index]
        self.shear_y = _range(shear[2:] if both else 0, "shear")  # type: ignore[index]
        self.center = None if center is None else (float(center[0]), float(center[1]))
        self.translate = tuple(check_number(part, "translate", 0.0, 1.0) for part in translate)
        if len(scale) != 2 or not 0.001 <= scale[0] <= scale[1]:
            raise ValueError(f"scale must be two factors 0.001 ≤ low ≤ high, got {scale!r}; write scale=(0.8, 1.2)")
        if not all(-89.0 <= low <= high <= 89.0 for low, high in (self.shear, self.shear_y)):
            raise ValueError(f"shear must lie within −89..89 degrees, got {shear!r}; write shear=10")
        self.scale = (float(scale[0]), float(scale[1]))
        self.interpolation, self.fill = interpolation_name(interpolation), per_channel(fill, "fill")

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw the maps of the B samples."""
        batch, channels, height, width = shape
        check_fill(self.fill, channels)
        drawn = draws.uniform(key, (6,), dtype=torch.float64)
        low = torch.tensor([self.degrees[0], self.scale[0], self.shear[0]], dtype=torch.float64)
        high = torch.tensor([self.degrees[1], self.scale[1], self.shear[1]], dtype=torch.float64)
        degrees, scale, shear = (low + drawn[:, :3] * (high - low)).unbind(1)
        reach = torch.tensor([self.translate[0] * width, self.translate[1] * height], dtype=torch.float64)
        shift = ((2.0 * drawn[:, 3:5] - 1.0) * reach).round()
        shear_y = self.shear_y[0] + drawn[:, 5] * (self.shear_y[1] - self.shear_y[0])
        matrix = affine_matrix(degrees, shift, scale, shear, height, width, shear_y, self.center)
        trace = Trace(torch.zeros(batch, 1, dtype=torch.int64), degrees[:, None].float(), ("Affine",))
        warp = Warp(matrix, (height, width), self.interpolation, self.fill, mask_fill=self.mask_fill)
        return Plan(tuple(shape), (warp,), trace)

    def cuts(self, shape: Sequence[int]) -> Cuts:
        """Shifts are whole pixels; what has no range is one outcome."""
        ranges = (self.degrees, self.scale, self.shear)
        found: Cuts = {((), slot): [] for slot, (low, high) in enumerate(ranges) if low == high}
        for slot, (share, length) in enumerate(zip(self.translate, (shape[3], shape[2]), strict=True), 3):
            reach = share * length
            halves = [n + 0.5 for n in range(-math.ceil(reach) - 1, math.ceil(reach) + 1) if abs(n + 0.5) < reach]
            found[(), slot] = [(half / reach + 1.0) / 2.0 for half in halves]
        return found


def affine_matrix(
    degrees: Tensor,
    shift: Tensor,
    scale: Tensor,
    shear: Tensor,
    height: int,
    width: int,
    shear_y: Tensor | None = None,
    center: tuple[float, float] | None = None,
) -> Tensor:
    """Output pixel to input pixel, (B, 2, 3) float64: the inverse of shift · centre · rotate · shear · scale · −centre.

    degrees, scale, shear, shear_y (B,) float64; shift (B, 2) float64 pixels right and down. Degrees turn clockwise.
    """
    turn, lean = degrees.deg2rad(), shear.deg2rad().tan()
    steep = torch.zeros_like(turn) if shear_y is None else shear_y.deg2rad()
    # forward: R(turn − steep) / cos(steep) with the shear along x, in torchvision's order; this is its inverse
    a, c = torch.cos(turn - steep) / steep.cos(), torch.sin(turn - steep) / steep.cos()
    b, d = -a * lean - turn.sin(), -c * lean + turn.cos()
    linear = torch.stack([d, -b, -c, a], -1).view(-1, 2, 2) / scale[:, None, None]
    middle = (width / 2, height / 2) if center is None else center
    centre = torch.tensor(middle, dtype=torch.float64) - 0.5
    offset = centre - (linear @ (centre + shift)[..., None])[..., 0]
    return torch.cat([linear, offset[..., None]], -1)


class RandomResizedCrop(Augmentation):
    """A random part of each sample, resized to ``size``.

    size: height and width of the result in pixels, or one number for both. scale: range of the part's area as a
    fraction of the image; ratio: range of its width / height, drawn log-uniformly. As in torchvision a part that does
    not fit is drawn again, up to 10 times, then the central part of the nearest allowed ratio is taken. interpolation:
    see `Policy`, and "bicubic" with antialias. antialias: average what a pixel of the result covers, as torchvision
    does by default. A list of images (C, H, W) of unequal size becomes one batch.
    """

    takes_unequal = True

    def __init__(
        self,
        size: Size,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        interpolation: Interpolation = "bilinear",
        *,
        antialias: bool = False,
        backend: str | None = None,
    ) -> None:
        super().__init__(backend=backend)
        if not 0 < scale[0] <= scale[1]:
            raise ValueError(f"scale must be two area fractions 0 < low ≤ high, got {scale!r}")
        if not 0 < ratio[0] <= ratio[1]:
            raise ValueError(f"ratio must be two aspect ratios 0 < low ≤ high, got {ratio!r}")
        self.size = height_and_width(size)
        self.scale, self.ratio = (float(scale[0]), float(scale[1])), (float(ratio[0]), float(ratio[1]))
        self.interpolation, self.antialias = _resizing(interpolation, antialias)

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw the parts of the B samples."""
        batch, _, height, width = shape
        top, left, tall, wide = self._parts(key, height, width).astype(np.float64).T
        down, across = tall / self.size[0], wide / self.size[1]
        matrix = np.zeros((batch, 2, 3))
        matrix[:, 0, 0], matrix[:, 0, 2] = across, left + across / 2 - 0.5
        matrix[:, 1, 1], matrix[:, 1, 2] = down, top + down / 2 - 0.5
        bounds = torch.from_numpy(np.stack([left, left + wide - 1, top, top + tall - 1], -1))
        kind = Resample if self.antialias else Warp
        warp = kind(torch.from_numpy(matrix), self.size, self.interpolation, padding="edge", bounds=bounds)
        share = (tall * wide / np.maximum(1, height * width)).astype(np.float32)
        trace = Trace(
            torch.zeros(batch, 1, dtype=torch.int64), torch.from_numpy(share[:, None]), ("RandomResizedCrop",)
        )
        return plan_for(shape, (warp,), trace)

    def _parts(self, key: Tensor, height: Any, width: Any) -> np.ndarray:
        """Top, left, height and width (B, 4) int64. height, width: of all images, or of each (B,)."""
        ratio = 1.0 / self.ratio[1], 1.0 / self.ratio[0]
        boxes, found = rectangles(key, (height, width), self.scale, ratio, least=1)
        if not isinstance(height, np.ndarray):
            return np.where(found, boxes[:, 0], self._central(height, width))
        for row in np.flatnonzero(~found[:, 0]):
            boxes[row, 0] = self._central(int(height[row]), int(width[row]))
        return boxes[:, 0]

    def _central(self, height: int, width: int) -> tuple[int, int, int, int]:
        tall, wide = height, width
        if width / max(1, height) < self.ratio[0]:
            tall = max(1, min(height, round(width / self.ratio[0])))
        elif width / max(1, height) > self.ratio[1]:
            wide = max(1, min(width, round(height * self.ratio[1])))
        return (height - tall) // 2, (width - wide) // 2, tall, wide


class Resize(Augmentation):
    """Each sample resized to ``size``.

    size: height and width in pixels, or one number for both: the result is then square, whereas torchvision's Resize
    reads one number as the shorter side and keeps the aspect ratio. interpolation: see `Policy`, and "bicubic" with
    antialias. antialias: average what a pixel of the result covers, as torchvision does by default. A list of images
    (C, H, W) of unequal size becomes one batch.
    """

    takes_unequal = True

    def __init__(
        self,
        size: Size,
        interpolation: Interpolation = "bilinear",
        *,
        antialias: bool = False,
        backend: str | None = None,
    ) -> None:
        super().__init__(backend=backend)
        self.size = height_and_width(size)
        self.interpolation, self.antialias = _resizing(interpolation, antialias)

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Nothing is drawn: the same map for all B samples."""
        batch, _, height, width = shape
        down, across = height / self.size[0], width / self.size[1]
        matrix, bounds = np.zeros((batch, 2, 3)), np.zeros((batch, 4))
        matrix[:, 0, 0], matrix[:, 0, 2] = across, across / 2 - 0.5
        matrix[:, 1, 1], matrix[:, 1, 2] = down, down / 2 - 0.5
        bounds[:, 1], bounds[:, 3] = width - 1, height - 1
        kind = Resample if self.antialias else Warp
        rows = torch.from_numpy(matrix), torch.from_numpy(bounds)
        warp = kind(rows[0], self.size, self.interpolation, padding="edge", bounds=rows[1])
        return plan_for(shape, (warp,), Trace.empty(batch))


def _resizing(interpolation: Interpolation, antialias: object) -> tuple[str, bool]:
    """Both arguments, checked: "bicubic" is there with antialiasing alone, "nearest" without it."""
    if not isinstance(antialias, bool):
        raise TypeError(f"antialias must be True or False, got {antialias!r}; write antialias=True")
    if getattr(interpolation, "value", interpolation) == "bicubic":
        if not antialias:
            raise ValueError('interpolation="bicubic" is there with antialiasing; write antialias=True beside it')
        return "bicubic", True
    name = interpolation_name(interpolation)
    if antialias and name == "nearest":
        raise ValueError(
            'antialias=True averages pixels, which interpolation="nearest" does not; write interpolation="bilinear"'
        )
    return name, antialias


class GaussianBlur(Augmentation):
    """Gaussian blur with a standard deviation drawn per sample, with probability ``p``.

    kernel_size: odd window in pixels, one number or (height, width). sigma: pixels, one number or the range (low,
    high). The border is reflected. Reference: torchvision GaussianBlur.
    """

    def __init__(
        self,
        kernel_size: Size,
        sigma: float | tuple[float, float] = (0.1, 2.0),
        p: float = 1.0,
        *,
        backend: str | None = None,
    ) -> None:
        super().__init__(backend=backend)
        sizes = height_and_width(kernel_size, "kernel_size")
        if not all(side % 2 for side in sizes):
            raise ValueError(f"kernel_size must be odd numbers of pixels, got {kernel_size!r}; write kernel_size=5")
        spread = (sigma, sigma) if isinstance(sigma, (int, float)) else tuple(sigma)
        if len(spread) != 2 or not 0 < spread[0] <= spread[1]:
            raise ValueError(f"sigma must be pixels 0 < low ≤ high, got {sigma!r}; write sigma=(0.1, 2.0)")
        self.kernel_size, self.sigma = sizes, (float(spread[0]), float(spread[1]))
        self.p = check_probability(p)

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw which of the B samples are blurred, and how much."""
        drawn = draws.uniform(key, (2,))
        blurred = drawn[:, 0] < self.p
        sigma = self.sigma[0] + drawn[:, 1] * (self.sigma[1] - self.sigma[0])
        segment = Filter(blurred.long() * FILTERS.index("GaussianBlur"), sigma, self.kernel_size)
        trace = Trace(blurred.long()[:, None], (sigma * blurred)[:, None], ("Identity", "GaussianBlur"))
        return Plan(tuple(shape), (segment,), trace)

    def cuts(self, shape: Sequence[int]) -> Cuts:
        """Blurred or not; one amount, when sigma is one number."""
        found: Cuts = {((), 0): [self.p]}
        return {**found, ((), 1): []} if self.sigma[0] == self.sigma[1] else found


def _range(value: object, name: str) -> tuple[float, float]:
    if isinstance(value, (tuple, list)):
        if len(value) != 2 or not value[0] <= value[1]:
            raise ValueError(f"{name} must be a number or (low, high), got {value!r}; write {name}=(-10, 10)")
        return float(value[0]), float(value[1])
    reach = check_number(value, name, 0.0, float("inf"))
    return -reach, reach
