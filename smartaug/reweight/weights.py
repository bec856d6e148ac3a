"""Weights of a batch: their shape, and their scaling to mean 1 over the batches of all ranks or over one alone."""

from __future__ import annotations

import torch
from torch import Tensor

from .._base import ranks


def normalised(weight: Tensor) -> Tensor:
    """Weights (B,) scaled to mean 1 over the batches of all ranks; ones where all are 0. NaN stays NaN."""
    sums = ranks.total(torch.stack([weight.sum(), torch.full_like(weight.sum(), float(len(weight)))]))
    return _divided(weight, sums[0] / sums[1])


def with_mean_one(weight: Tensor) -> Tensor:
    """Weights (B,) scaled to mean 1 over this batch alone; ones where all are 0."""
    return _divided(weight, weight.mean())


def _divided(weight: Tensor, mean: Tensor) -> Tensor:
    # by the size of the mean: a negative one would turn every sign, and what must weigh least would weigh most
    return torch.where(mean == 0, torch.ones_like(weight), weight / mean.abs())


def checked_results(made: object, length: int) -> tuple[Tensor | None, Tensor | None]:
    """What a reweighter returned, if it is ``(weight, soft)`` for ``length`` rows; else an error naming the part."""
    if not isinstance(made, tuple) or len(made) != 2:
        raise TypeError(f"it must return (weight, soft), each a tensor or None, and returned {type(made).__name__}")
    for name, part, ndim in (("weight", made[0], 1), ("soft", made[1], 2)):
        if part is None:
            continue
        if not isinstance(part, Tensor) or not part.is_floating_point():
            what = str(part.dtype) if isinstance(part, Tensor) else type(part).__name__
            raise TypeError(f"{name} must be a floating-point tensor or None, it returned {what}")
        fits = part.ndim == ndim or (name == "soft" and part.ndim > 2)  # of every position of a map
        if not fits or len(part) != length:
            wanted = "(B,)" if ndim == 1 else "(B, K)"
            raise ValueError(f"{name} has shape {tuple(part.shape)} for a batch of {length}; it must be {wanted}")
    return made
