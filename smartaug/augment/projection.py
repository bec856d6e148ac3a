"""Projective maps of images, which keep straight lines straight but not parallel.

What: a segment of plans, `Projection`, beside `plan.Warp`, whose maps are affine. When: perspective. Cost: on every
backend that of torch's, four gathers and a division a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .plan import Segment


@dataclass(frozen=True)
class Projection(Segment):
    """Projective resampling: output pixel (x, y) reads the input at (u / w, v / w), (u, v, w) = ``matrix @ (x, y, 1)``.

    matrix: (B, 3, 3) float64, pixels to pixels; where w ≤ 0, behind the horizon, there is only fill. size: output
    height and width in pixels. interpolation: "nearest" or "bilinear". fill, mask_fill: as in `plan.Warp`. active: (B,)
    bool, the rows that move (the others keep their size), None: all.
    """

    moves_pixels: ClassVar[bool] = True

    matrix: Tensor
    size: tuple[int, int]
    interpolation: str = "bilinear"
    fill: tuple[float, ...] = (0.0,)
    active: Tensor | None = None
    mask_fill: float = 0.0

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """The size it samples at."""
        return self.size


def in_indices(matrix: Tensor) -> Tensor:
    """Maps (B, 3, 3) of continuous pixels, which are larger by 0.5, as maps of pixel indices."""
    shift = torch.eye(3, dtype=torch.float64, device=matrix.device)
    shift[:2, 2] = 0.5
    return torch.linalg.inv(shift) @ matrix @ shift


def in_continuous(matrix: Tensor) -> Tensor:
    """Maps (B, 3, 3) of pixel indices as maps of continuous pixels: the inverse of `in_indices`."""
    shift = torch.eye(3, dtype=torch.float64, device=matrix.device)
    shift[:2, 2] = 0.5
    return shift @ matrix @ torch.linalg.inv(shift)


def mapped(matrix: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Where the maps (B, 3, 3) send points (B, ..., 2), and which lie before the horizon (B, ...) bool."""
    flat = points.flatten(1, -2)
    sent = flat @ matrix[:, :, :2].mT + matrix[:, None, :, 2]
    before = sent[..., 2] > 0
    places = sent[..., :2] / torch.where(before, sent[..., 2], 1.0)[..., None]
    return places.view_as(points), before.view(points.shape[:-1])


def inverse(matrix: Tensor) -> Tensor:
    """The maps (B, 3, 3) from the input back to the output; raises ValueError where there is none."""
    found, failed = torch.linalg.inv_ex(matrix)
    if bool(failed.any()):
        raise ValueError("a projective map that makes a line of an image has no inverse, so points cannot follow it")
    return found
