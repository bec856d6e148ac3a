"""torchvision's RandomPerspective, drawn per sample.

What: a projective map, which a plan of affine warps cannot express, hence a stage of its own. When: lifted pipelines
with RandomPerspective. Cost: one `grid_sample` of the samples that move. Reference: torchvision RandomPerspective.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ... import draws
from ...augment.augmentation import on_cpu
from ...augment.foreign import Keyed


class Perspective(Keyed):
    """With probability ``p`` moves the four corners of a sample inwards, each by its own whole number of pixels.

    distortion: largest shift as a fraction of half the side, in [0, 1]. interpolation: "nearest" or "bilinear". fill:
    value outside, one or one per channel, in the image's own units.
    """

    def __init__(self, distortion: float, p: float, interpolation: str, fill: tuple[float, ...]) -> None:
        super().__init__(self._mapped, "Perspective")
        self.distortion, self.p, self.interpolation, self.fill = distortion, p, interpolation, fill

    def ends(self, key: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Which of the B samples move (B,) bool, and where their corners go: (B, 4, 2) int64, x and y.

        Corners in the order upper left, upper right, lower right, lower left.
        """
        reach = torch.tensor([int(self.distortion * (width // 2)) + 1, int(self.distortion * (height // 2)) + 1])
        drawn = draws.uniform(draws.fold(key, 1), (4, 2), dtype=torch.float64)
        inward = (drawn * reach).long()
        right, bottom = torch.tensor([[0, 1, 1, 0], [0, 0, 1, 1]], dtype=torch.bool)
        far = torch.stack([right, bottom], 1)
        last = torch.tensor([width, height]) - reach
        return draws.uniform(draws.fold(key, 0)) < self.p, torch.where(far, last + inward, inward)

    def _mapped(self, images: Tensor, key: Tensor) -> Tensor:
        height, width = images.shape[2:]
        with on_cpu():
            moves, ends = self.ends(key.cpu(), height, width)
            rows = moves.nonzero()[:, 0]
            grid = _grid(coefficients(ends[rows], height, width), height, width)
        if not len(rows):
            return images
        there = rows.to(images.device, non_blocking=True)
        work = images.dtype if images.dtype == torch.float64 else torch.float32
        part = images.index_select(0, there).to(work)
        part = torch.cat(
            [part, torch.ones_like(part[:, :1])], 1
        )  # a channel of ones: after sampling, the share of each pixel that lies inside
        grid = grid.to(images.device, work, non_blocking=True)
        part = functional.grid_sample(part, grid, self.interpolation, "zeros", align_corners=False)
        part, inside = part[:, :-1], part[:, -1:]
        fill = torch.tensor(self.fill, dtype=work).to(images.device, non_blocking=True).view(1, -1, 1, 1)
        part = (
            part + (1.0 - inside) * fill if self.interpolation == "bilinear" else torch.where(inside < 0.5, fill, part)
        )
        part = part.round_().clamp_(0, 255) if images.dtype == torch.uint8 else part
        return images.index_copy(0, there, part.to(images.dtype))


def coefficients(ends: Tensor, height: int, width: int) -> Tensor:
    """Coefficients (B, 8) float64 of the projective maps from the corners ``ends`` (B, 4, 2) to those of the image.

    The map is (x, y) -> ((a x + b y + c) / w, (d x + e y + f) / w), w = g x + h y + 1.
    """
    starts = torch.tensor([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], dtype=torch.float64)
    x, y = ends.double().unbind(-1)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    u, v = starts.unbind(-1)
    across = torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], -1)
    down = torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], -1)
    system = torch.stack([across, down], 2).flatten(1, 2)
    return torch.linalg.lstsq(system, starts.flatten().expand(len(ends), 8)[..., None]).solution[..., 0]


def _grid(maps: Tensor, height: int, width: int) -> Tensor:
    """Where each output pixel reads: (B, H, W, 2) float64, in the coordinates of `grid_sample` (−1 to 1)."""
    x = torch.arange(width, dtype=torch.float64) + 0.5
    y = torch.arange(height, dtype=torch.float64)[:, None] + 0.5
    a, b, c, d, e, f, g, h = (part[:, None, None] for part in maps.unbind(1))
    below = g * x + h * y + 1.0
    return torch.stack([(a * x + b * y + c) / below * 2 / width - 1, (d * x + e * y + f) / below * 2 / height - 1], -1)
