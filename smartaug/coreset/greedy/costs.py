"""The cost of representing one sample by another: distances of last-layer gradients, computed from their factors."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...batch import Embedding


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


def points_by_class(residual: Tensor, sizes: np.ndarray, similarity: str) -> tuple[Tensor, np.ndarray]:
    """(n, K) float32 points and (C,) float64 exponents of C classes, each scaled as `points_of` scales it.

    residual: (n, K), one class after the other; sizes: (C,) int64 ≥ 1.
    """
    largest = np.maximum.reduceat(residual.abs().amax(1).double().numpy(), np.cumsum(sizes) - sizes)
    scale = np.where(largest > 0, np.ldexp(0.5, np.frexp(largest)[1]), 1.0)  # the power of two at or below it
    points = (residual.double() / torch.from_numpy(np.repeat(scale, sizes))[:, None]).float()
    return points, np.zeros_like(scale) if similarity == "distance" else scale / max(residual.shape[1], 1)


def lexicographic(points: Points) -> Tensor:
    """(n,) int64 on the CPU: the order of the points by their first column, then their second and so on; stable."""
    rows = points.residual if points.feature is None else torch.cat([points.residual, points.feature.float()], 1)
    bits = (rows + 0.0).cpu().numpy().view(np.int32)  # + 0 turns −0 into 0, which has other bits
    # as unsigned integers from the most significant byte on, floats are ordered as bytes are
    keys = np.ascontiguousarray(np.where(bits < 0, ~bits, bits ^ np.int32(-(2**31))).view(np.uint32).astype(">u4"))
    return torch.from_numpy(keys.view(f"V{4 * keys.shape[1]}").reshape(-1).argsort(kind="stable"))


def costs(points: Points, rows: Tensor | slice, columns: Tensor | slice) -> Tensor:
    """(m, k) float32 costs of representing the points ``rows`` by the points ``columns``.

    They are the distance d = ‖g_i − g_j‖ of the gradients g = r ⊗ (φ, 1), or where points.exponent > 0
    1 − exp(−d · exponent). d² comes from the Gram matrix (r rᵀ) ∘ (φ φᵀ + 1) in float64; below the rounding of its
    terms it is 0.
    """
    left, right = points.residual[rows], points.residual[columns]
    if points.feature is None:  # by differences, without cancellation
        distance = torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist")
        return distance if points.exponent == 0.0 else torch.expm1(distance.mul_(-points.exponent)).neg_()
    left, right = left.double(), right.double()
    gram, own, other = left @ right.T, left.square().sum(1), right.square().sum(1)
    left, right = points.feature[rows], points.feature[columns]
    gram = gram.mul_((left @ right.T).add_(1))
    own, other = own * (left.square().sum(1) + 1), other * (right.square().sum(1) + 1)
    return _costs(gram, own[:, None] + other[None], points.exponent)


def paired_costs(points: Points, partners: Tensor) -> Tensor:
    """(n,) float32 costs of representing point i by the point partners[i]."""
    left, right = points.residual.double(), points.residual[partners].double()
    gram, both = (left * right).sum(1), left.square().sum(1)
    if points.feature is not None:
        left, right = points.feature, points.feature[partners]
        gram, both = gram * ((left * right).sum(1) + 1), both * (left.square().sum(1) + 1)
    return _costs(gram, both + both[partners], points.exponent)


def _costs(gram: Tensor, both: Tensor, exponent: float) -> Tensor:
    """From ⟨g_i, g_j⟩ and ‖g_i‖² + ‖g_j‖², both of which are overwritten."""
    squares = gram.mul_(-2).add_(both)
    # differences below the rounding error of their terms are 0: equal gradients have no distance
    squares.masked_fill_(squares < both.mul_(16 * torch.finfo(torch.float64).eps), 0.0)
    distance = squares.sqrt_()
    return (distance if exponent == 0.0 else -torch.expm1(distance.mul_(-exponent))).float()
