"""Weights of a batch, scaled to mean 1: over the batches of all ranks, or over one alone."""

from __future__ import annotations

import torch
from torch import Tensor

from .._base import ranks


def normalised(weight: Tensor) -> Tensor:
    """Weights (B,) scaled to mean 1 over the batches of all ranks; all zero: ones. NaN stays NaN."""
    sums = ranks.total(torch.stack([weight.sum(), torch.full_like(weight.sum(), float(len(weight)))]))
    return _divided(weight, sums[0] / sums[1])


def with_mean_one(weight: Tensor) -> Tensor:
    """The same over this batch alone."""
    return _divided(weight, weight.mean())


def _divided(weight: Tensor, mean: Tensor) -> Tensor:
    return torch.where(mean == 0, torch.ones_like(weight), weight / mean)
