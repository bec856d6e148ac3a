"""Contrast-limited adaptive histogram equalisation (CLAHE) on luminance, as albumentations calls OpenCV for it.

On the CPU OpenCV itself runs, which albumentations needs anyway. Elsewhere, `computed`: luminance and CLAHE itself are
OpenCV's 8-bit integers; colours come back by floating point, within one grey level on 99.9 % of the values. Cost: one
histogram a tile and about forty operations a pixel, on a CPU ten times OpenCV's. Reference: Zuiderveld, "Contrast
limited adaptive histogram equalization", Graphics Gems IV, 1994.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ..augment.backends.torch_warp import within

_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_WHITE = (0.950456, 1.0, 1.088754)  # D65


def clahe(images: Tensor, limit: Tensor, *, grid: tuple[int, int]) -> Tensor:
    """Rows (n, 1 or 3, H, W) uint8 with the clip limits (n,); grid: tiles across and down."""
    if images.device.type == "cpu" and _opencv_installed():
        return by_opencv(images, limit, grid=grid)
    return computed(images, limit, grid=grid)


@lru_cache(maxsize=1)
def _opencv_installed() -> bool:
    return importlib.util.find_spec("cv2") is not None


def by_opencv(images: Tensor, limit: Tensor, *, grid: tuple[int, int]) -> Tensor:
    """`clahe` by OpenCV, row by row, on the CPU."""
    import cv2

    def one(image: np.ndarray, clip: float) -> np.ndarray:
        engine = cv2.createCLAHE(clipLimit=clip, tileGridSize=grid)
        if len(image) == 1:
            return engine.apply(image[0])[None]
        lab = cv2.cvtColor(np.ascontiguousarray(image.transpose(1, 2, 0)), cv2.COLOR_RGB2LAB)
        lab[:, :, 0] = engine.apply(lab[:, :, 0])
        return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB).transpose(2, 0, 1)

    rows = [one(image, clip) for image, clip in zip(images.numpy(), limit.tolist(), strict=True)]
    return torch.from_numpy(np.stack(rows)) if rows else images.clone()


def computed(images: Tensor, limit: Tensor, *, grid: tuple[int, int]) -> Tensor:
    """`clahe` in tensor operations, on any device."""
    if images.shape[1] == 1:
        return equalized(images[:, 0].long(), limit, grid)[:, None].to(torch.uint8)
    lab = to_lab(images)
    lightness = equalized(lab[0], limit, grid)
    return from_lab(lightness.float(), lab[1].float(), lab[2].float())


def equalized(levels: Tensor, limit: Tensor, grid: tuple[int, int]) -> Tensor:
    """OpenCV's CLAHE of (n, H, W) grey levels, int64."""
    count, height, width = levels.shape
    across, down = grid
    more = (down - height % down, across - width % across) if height % down or width % across else (0, 0)
    device = levels.device
    lines = [
        within(torch.arange(n + add, device=device), n, "reflect") for n, add in zip((height, width), more, strict=True)
    ]
    padded = levels.index_select(1, lines[0]).index_select(2, lines[1])
    tall, wide = padded.shape[1] // down, padded.shape[2] // across
    tiles = (
        padded.view(count, down, tall, across, wide).permute(0, 1, 3, 2, 4).reshape(count, down * across, tall * wide)
    )

    one = torch.ones((), dtype=torch.int64, device=device)
    counts = torch.zeros(count, down * across, 256, dtype=torch.int64, device=device)
    counts.scatter_add_(2, tiles, one.expand_as(tiles))
    most = (limit.double() * (tall * wide) / 256).long().clamp(min=1)[:, None, None]
    cut = (counts - most).clamp(min=0).sum(2, keepdim=True)
    counts = torch.minimum(counts, most) + cut // 256
    rest = cut % 256  # one more for every step-th level, as many as are left
    step = (256 // rest.clamp(min=1)).clamp(min=1)
    level = torch.arange(256, device=device)
    counts = counts + ((level % step == 0) & (level // step < rest)).long()
    tables = (
        (counts.cumsum(2).float() * (255.0 / (tall * wide))).round_().clamp_(0, 255).view(count, down * across * 256)
    )

    above, below, lower = _neighbours(height, tall, down, device)
    left, right, further = _neighbours(width, wide, across, device)
    lower = lower[:, None]

    def looked_up(y: Tensor, x: Tensor) -> Tensor:
        place = (y[:, None] * across + x) * 256 + levels
        return tables.gather(1, place.flatten(1)).view_as(levels)

    upper = looked_up(above, left) * (1 - further) + looked_up(above, right) * further
    under = looked_up(below, left) * (1 - further) + looked_up(below, right) * further
    return (upper * (1 - lower) + under * lower).round_().clamp_(0, 255).long()


def _neighbours(length: int, tile: int, tiles: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The tiles whose centres are before and behind each pixel, and how near the pixel is to the second."""
    place = torch.arange(length, dtype=torch.float32, device=device) * (1.0 / tile) - 0.5
    first = place.floor()
    number = first.long()
    return number.clamp(0, tiles - 1), (number + 1).clamp(0, tiles - 1), place - first


def to_lab(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """OpenCV's RGB2LAB of (n, 3, H, W) uint8, in its integers: three (n, H, W) int64 of 0–255."""
    device = images.device
    unit = torch.arange(256, dtype=torch.float64, device=device) / 255
    linear = torch.where(unit > 0.04045, ((unit + 0.055) / 1.055) ** 2.4, unit / 12.92)
    part = torch.arange(3072, dtype=torch.float64, device=device) / 2040
    root = torch.where(part < 0.008856, part * 7.787 + 0.13793, part.clamp(min=1e-9) ** (1 / 3))
    linear, root = (2040 * linear).round().long(), (32768 * root).round().long()
    red, green, blue = linear[images.long()].unbind(1)
    x, y, z = (
        root[(red * row[0] + green * row[1] + blue * row[2] + 2048) >> 12]
        for row in ([round(4096 * c / white) for c in line] for line, white in zip(_TO_XYZ, _WHITE, strict=True))
    )
    half, middle = 1 << 14, 128 << 15
    made = (
        (296 * y - ((16 * 255 * 32768 + 50) // 100) + half) >> 15,
        (500 * (x - y) + middle + half) >> 15,
        (200 * (y - z) + middle + half) >> 15,
    )
    return made[0].clamp(0, 255), made[1].clamp(0, 255), made[2].clamp(0, 255)


def from_lab(lightness: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """LAB2RGB of (n, H, W) float32 of 0–255 each: (n, 3, H, W) uint8."""
    light = lightness * (100 / 255)
    y = torch.where(light <= 8, light / 903.3, ((light + 16) / 116) ** 3)
    root = torch.where(light <= 8, 7.787 * y + 16 / 116, (light + 16) / 116)
    parts = [y if f is root else _cubed(f) for f in ((a - 128) / 500 + root, root, root - (b - 128) / 200)]
    whites = torch.tensor(_WHITE, dtype=torch.float64)[:, None]
    back = torch.linalg.inv(torch.tensor(_TO_XYZ, dtype=torch.float64) / whites).tolist()
    made = []
    for row in back:
        linear = (parts[0] * row[0] + parts[1] * row[1] + parts[2] * row[2]).clamp_(0.0, 1.0)
        curved = 1.055 * linear.clamp(min=1e-9) ** (1 / 2.4) - 0.055
        made.append(torch.where(linear > 0.0031308, curved, 12.92 * linear))
    return (torch.stack(made, 1) * 255.0).round_().clamp_(0, 255).to(torch.uint8)


def _cubed(root: Tensor) -> Tensor:
    return torch.where(root > 0.206893, root**3, (root - 16 / 116) / 7.787)
