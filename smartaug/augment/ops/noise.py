"""Normal noise added to every value of a picture, a row or a sequence.

What: x + mean + sigma · n with n standard normal, for each sample with probability ``p``; pictures stay in their range.
When: sensors, sound, tables of measurements, pictures of a noisy camera. Cost: one 64-bit draw for two
values. Reference: torchvision's v2.GaussianNoise for pictures; Bishop, "Training with noise is equivalent to Tikhonov
regularization", Neural Computation 1995.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ... import draws
from ..augmentation import Augmentation, Cuts, check_probability
from ..plan import Noise, Plan, Trace
from ..rows import AddNoise


class GaussianNoise(Augmentation):
    """Normal noise of standard deviation ``sigma`` around ``mean``, with probability ``p``; labels stay.

    * `sigma`: a number, or a range (low, high) from which each sample draws its own. Of pictures it is a share of their
      range (0.1 of uint8 is 25.5 grey levels), of rows (B, F) and sequences (B, T, F) in the features' own units, so
      that standardised columns want 0.05 to 0.3. Whole numbers (categories) stay as they are.
    * `mean`: what is added besides, in the same units.

    Raises ValueError for a sigma below 0.
    """

    takes_rows = True

    def __init__(
        self,
        sigma: float | tuple[float, float] = 0.1,
        *,
        mean: float = 0.0,
        p: float = 1.0,
        backend: str | None = None,
    ) -> None:
        super().__init__(backend=backend)
        spread = (sigma, sigma) if isinstance(sigma, (int, float)) else tuple(sigma)
        if len(spread) != 2 or not 0 <= spread[0] <= spread[1]:
            raise ValueError(f"sigma must be a number ≥ 0, or a range 0 ≤ low ≤ high, got {sigma!r}; write sigma=0.1")
        self.sigma = (float(spread[0]), float(spread[1]))
        if not isinstance(mean, (int, float)):
            raise ValueError(f"mean must be a number, got {mean!r}; write mean=0.0")
        self.mean, self.p = float(mean), check_probability(p)

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw which of the B samples get noise, and how much."""
        low, high = self.sigma
        drawn = draws.uniform(key) < self.p
        spread = (low + (high - low) * draws.uniform(key, start=1)) * drawn
        centre = torch.full_like(spread, self.mean) * drawn
        trace = Trace(drawn.long()[:, None], spread[:, None], ("Identity", "GaussianNoise"))
        own = draws.fold(key, 0)
        if len(shape) == 4:
            return Plan(tuple(shape), (Noise(own, 255.0 * spread, 255.0 * centre, active=drawn),), trace)
        return Plan(tuple(shape), (AddNoise(own, spread, centre, shape[1]),), trace)

    def cuts(self, shape: Sequence[int]) -> Cuts:
        """As it is, or with noise."""
        return {((), 0): [self.p]}
