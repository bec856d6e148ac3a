"""torchvision's RandomPerspective, drawn per sample.

What: a projective map that moves the corners of the image inwards. When: lifted pipelines with RandomPerspective. Cost:
one resampling of the samples that move. Reference: torchvision RandomPerspective.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ... import draws
from ...augment import Augmentation
from ...augment.augmentation import Cuts, equal_cuts
from ...augment.checks import check_fill
from ...augment.plan import Plan, Trace
from ...augment.projection import Projection, in_indices


class Perspective(Augmentation):
    """With probability ``p`` moves the four corners of a sample inwards, each by its own whole number of pixels.

    distortion: largest shift as a fraction of half the side, in [0, 1]. interpolation: "nearest" or "bilinear". fill:
    value outside, one or one per channel, in the image's own units; mask_fill: that of a mask.
    """

    def __init__(
        self, distortion: float, p: float, interpolation: str, fill: tuple[float, ...], mask_fill: float = 0.0
    ) -> None:
        self.distortion, self.p, self.interpolation = distortion, p, interpolation
        self.fill, self.mask_fill = fill, mask_fill

    def ends(self, key: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Which of the B samples move (B,) bool, and where their corners go: (B, 4, 2) int64, x and y.

        Corners in the order upper left, upper right, lower right, lower left.
        """
        reach = torch.tensor(self._reach(height, width))
        drawn = draws.uniform(draws.fold(key, 1), (4, 2), dtype=torch.float64)
        inward = (drawn * reach).long()
        right, bottom = torch.tensor([[0, 1, 1, 0], [0, 0, 1, 1]], dtype=torch.bool)
        far = torch.stack([right, bottom], 1)
        last = torch.tensor([width, height]) - reach
        return draws.uniform(draws.fold(key, 0)) < self.p, torch.where(far, last + inward, inward)

    def _reach(self, height: int, width: int) -> tuple[int, int]:
        """How many places a corner may go to, across and down."""
        return int(self.distortion * (width // 2)) + 1, int(self.distortion * (height // 2)) + 1

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw which of the B samples move, and where their corners go."""
        batch, channels, height, width = shape
        check_fill(self.fill, channels)
        moves, ends = self.ends(key, height, width)
        maps = torch.cat([coefficients(ends, height, width), torch.ones(batch, 1, dtype=torch.float64)], 1)
        matrix = in_indices(maps.view(-1, 3, 3))
        segment = Projection(matrix, (height, width), self.interpolation, self.fill, moves, self.mask_fill)
        trace = Trace(moves.long()[:, None], torch.zeros(batch, 1), ("Identity", "Perspective"))
        return Plan(tuple(shape), (segment,), trace)

    def cuts(self, shape: Sequence[int]) -> Cuts:
        """Moved or not, and every place of each corner."""
        reach = self._reach(shape[2], shape[3])
        places: Cuts = {((1,), slot): equal_cuts(reach[slot % 2]) for slot in range(8)}
        return {((0,), 0): [self.p], **places}


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
