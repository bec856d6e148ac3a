"""Samples whose loss the augmentation moves most, more often: a diagnostic.

What: each sample is drawn with a probability proportional to the standard deviation of its loss under the augmentation
(mixed with a uniform share), and weighted by the inverse of that probability, so weighted sums over the subset estimate
those over the dataset. When: to see whether training is hurt by what the augmentation does to single samples; it is a
diagnostic rather than a way to train. Samples of large deviation are mostly those of large loss, outliers and wrong
labels among them: taking the k largest fails as taking the k largest losses does, so that is not offered. The draw is
unbiased for losses without augmentation; it is not the best design for them. Cost: one sort of n numbers, and
`smartaug.moments.report` before, which is one forward pass for each transform of each sample. Reference: Balestriero,
Misra & LeCun, "A Data-Augmentation Is Worth A Thousand Samples", NeurIPS 2022, for the variance; Madow, "On the Theory
of Systematic Sampling", Annals of Mathematical Statistics 1949, for the draw.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .._base.names import SuggestsKeywords
from ..batch import Embedding


class AugmentationVariance(SuggestsKeywords):
    """``(embedding, budget, generator) -> (indices, weights)``: draws with a probability that grows with ``deviation``.

    deviation: (n,) standard deviation of each sample's loss under the augmentation, in the order of the dataset:
    ``smartaug.moments.report(model, criterion, batches, augment).deviation()``. share: the part of the probability that
    is spread evenly, in [0, 1]. It keeps samples of deviation 0 in the draw and bounds weights by 1 / share before they
    are scaled to mean 1. Raises ValueError for deviations that are negative or not finite.
    """

    reads: tuple[str, ...] = ()  # no field of the embedding

    def __init__(self, deviation: Tensor, share: float = 0.1) -> None:
        if not isinstance(share, (int, float)) or not 0.0 <= share <= 1.0:
            raise ValueError(f"share must be in [0, 1], got {share!r}; write share=0.1")
        deviation = torch.as_tensor(deviation).detach().to("cpu", torch.float64)
        if deviation.ndim != 1 or not bool((torch.isfinite(deviation) & (deviation >= 0)).all()):
            raise ValueError(
                f"deviation must be (n,) finite numbers ≥ 0, got shape {tuple(deviation.shape)}; write deviation="
                "smartaug.moments.report(model, criterion, batches, augment).deviation()"
            )
        self.deviation, self.share = deviation, float(share)

    @property
    def size(self) -> int:
        """The number of samples of the dataset that the deviations belong to."""
        return len(self.deviation)

    def on(self, rows: Tensor) -> AugmentationVariance:
        """The criterion for a part of the dataset: its samples ``rows`` (m,) int64."""
        return AugmentationVariance(self.deviation[torch.as_tensor(rows)], self.share)

    def __call__(
        self, embedding: Embedding, budget: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Indices (budget,) int64 in increasing order and weights (budget,) float32 of mean 1 (None for budget 0).

        embedding: only its number of rows n is read. generator=None: torch's global one. Raises ValueError when n is
        not the number of deviations, when budget is outside 0..n, and, with share=0, when fewer than ``budget`` samples
        have a deviation above 0.
        """
        size, deviation = len(self.deviation), self.deviation
        if len(embedding.residual) != size:
            raise ValueError(
                f"AugmentationVariance has the deviations of {size} samples and was asked about "
                f"{len(embedding.residual)}; take the part's own: criterion.on(rows)"
            )
        if not 0 <= budget <= size:
            raise ValueError(f"budget must lie in 0..{size}, the number of samples, got {budget}")
        if budget == 0:
            return torch.empty(0, dtype=torch.int64), None
        chance = self.probabilities(deviation, budget)
        order = torch.randperm(size, generator=generator)
        start = float(torch.rand((), generator=generator, dtype=torch.float64))
        # systematic sampling: each sample is an interval as long as its probability; points at distance 1 pick them
        ends = chance[order].cumsum(0)
        ends = ends * (budget / ends[-1])
        ticks = torch.searchsorted(ends, torch.arange(budget, dtype=torch.float64) + start, right=True)
        indices = order[ticks.clamp_max(size - 1)].sort().values
        weights = 1.0 / chance[indices]
        return indices, (weights / weights.mean()).float()

    def probabilities(self, deviation: Tensor, budget: int) -> Tensor:
        """The probability (n,) in [0, 1] that each sample is drawn; the sum is ``budget``.

        Proportional to (1 − share) · deviation / mean + share; where that would exceed 1, the sample is always drawn.
        """
        level = deviation.mean()
        size = deviation / level if bool(level > 0) else torch.ones_like(deviation)
        size = (1.0 - self.share) * size + self.share
        if int((size > 0).sum()) < budget:
            raise ValueError(
                f"only {int((size > 0).sum())} samples have a deviation, fewer than the budget {budget}; "
                "write share=0.1"
            )
        falling = size.sort(descending=True).values
        # the first c have probability 1, with the smallest c for which no other exceeds 1; 1e-12 allows for rounding
        rest = falling.flip(0).cumsum(0).flip(0)
        left = budget - torch.arange(len(size), dtype=torch.float64)
        fits = falling * left <= rest * (1 + 1e-12)
        certain = int(fits.long().argmax()) if bool(fits.any()) else len(size)
        factor = (budget - certain) / rest[certain] if certain < len(size) else torch.tensor(0.0)
        chance = (size * factor).clamp_max(1.0)
        if certain:
            chance = torch.where(size >= falling[certain - 1], 1.0, chance)
        return chance

    def __repr__(self) -> str:
        return f"AugmentationVariance({len(self.deviation)} deviations, share={self.share})"
