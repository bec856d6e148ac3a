"""What it costs to let one sample stand for another: distances of last-layer gradients, factored, in blocks."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..batch import Embedding


class Points(NamedTuple):
    """residual (n, K) float32, scaled to below 2; feature (n, d) float64 or None; exponent: see `costs`."""

    residual: Tensor
    feature: Tensor | None
    exponent: float

    @property
    def size(self) -> int:
        """The number of points."""
        return len(self.residual)

    def take(self, rows: Tensor) -> Points:
        """The points ``rows`` (m,) int64."""
        feature = None if self.feature is None else self.feature[rows.to(self.feature.device)]
        return Points(self.residual[rows.to(self.residual.device)], feature, self.exponent)


def points_of(embedding: Embedding, similarity: str) -> tuple[Points, float]:
    """The embedding as `Points`, and the factor that turns its "distance" costs into the embedding's own units.

    Scaling by a power of two is exact, and keeps squares of gradients of 1e-30 from vanishing in float32.
    """
    residual = embedding.residual.detach()
    largest = float(residual.abs().max()) if residual.numel() else 0.0
    scale = 2.0 ** math.floor(math.log2(largest)) if largest > 0 else 1.0
    scaled = (residual.double() / scale).float()
    feature = None if embedding.feature is None else embedding.feature.detach().double()
    dim = residual.shape[1] * (1 if feature is None else feature.shape[1] + 1)
    if similarity == "distance":
        return Points(scaled, feature, 0.0), scale
    return Points(scaled, feature, scale / max(dim, 1)), 1.0


def costs(points: Points, rows: Tensor | slice, columns: Tensor | slice) -> Tensor:
    """(m, k) float32 costs of letting the points ``columns`` stand for the points ``rows``.

    They are the distance d = ‖g_i − g_j‖ of the gradients g = r ⊗ (φ, 1), or where points.exponent > 0
    1 − exp(−d · exponent). d² comes from the Gram matrix (r rᵀ) ∘ (φ φᵀ + 1) in float64; below the rounding of its
    terms it is 0.
    """
    left, right = points.residual[rows].double(), points.residual[columns].double()
    gram, own, other = left @ right.T, left.square().sum(1), right.square().sum(1)
    if points.feature is not None:
        left, right = points.feature[rows], points.feature[columns]
        gram = gram.mul_((left @ right.T).add_(1))
        own, other = own * (left.square().sum(1) + 1), other * (right.square().sum(1) + 1)
    return _costs(gram, own[:, None] + other[None], points.exponent)


def paired_costs(points: Points, partners: Tensor) -> Tensor:
    """(n,) float32 costs of letting the point partners[i] stand for point i."""
    left, right = points.residual.double(), points.residual[partners].double()
    gram, both = (left * right).sum(1), left.square().sum(1)
    if points.feature is not None:
        left, right = points.feature, points.feature[partners]
        gram, both = gram * ((left * right).sum(1) + 1), both * (left.square().sum(1) + 1)
    return _costs(gram, both + both[partners], points.exponent)


def _costs(gram: Tensor, both: Tensor, exponent: float) -> Tensor:
    """From ⟨g_i, g_j⟩ and ‖g_i‖² + ‖g_j‖², both of which are overwritten."""
    squares = gram.mul_(-2).add_(both)
    squares.masked_fill_(squares < both.mul_(16 * torch.finfo(torch.float64).eps), 0.0)
    distance = squares.sqrt_()
    return (distance if exponent == 0.0 else -torch.expm1(distance.mul_(-exponent))).float()
