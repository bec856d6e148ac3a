"""Per-sample losses: `Rows` of a criterion before reduction, their weighted reduction, and the width of soft labels."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Rows(NamedTuple):
    """A criterion before reduction: losses (B, ...), counts (B,) whose sum normalises the mean, and its reduction."""

    losses: Tensor
    counts: Tensor
    reduction: str  # "mean", "sum" or "none"

    def by_sample(self) -> Rows:
        """The same with losses (B,) in float32 or wider: the losses of a sample's positions are summed.

        reduction="none" becomes the plain mean of all values.
        """
        losses = per_sample(self.losses.to(wide(self.losses)))
        if self.reduction == "none":
            return Rows(losses, sizes(self.losses), "mean")
        return Rows(losses, self.counts, self.reduction)


def joined(rows: Rows, weight: Tensor) -> Tensor:
    """Σ w_i ℓ_i / Σ c_i (mean), Σ w_i ℓ_i (sum) or w_i ℓ_i (none), in the losses' own precision; weight: w (B,)."""
    losses, counts, reduction = rows
    losses_wide = losses.to(wide(losses))  # float16 overflows at 65 520, so sums over positions need float32
    if reduction != "none":
        losses_wide = per_sample(losses_wide)
    # not losses * weight: 0 · ∞ is NaN, and a sample of weight 0 must not count even if its loss is infinite
    own = spread(weight, losses_wide).to(losses_wide.dtype)
    weighted = torch.where(own != 0, losses_wide * own, 0.0)
    if reduction == "none":
        return weighted.to(losses.dtype)
    total = weighted.sum()
    return (total if reduction == "sum" else total / counts.sum()).to(losses.dtype)


def spread(weight: Tensor, values: Tensor) -> Tensor:
    """Weights (B,) reshaped to (B, 1, ...), to broadcast over values (B, ...)."""
    return weight.reshape(-1, *[1] * (values.ndim - 1))


def per_sample(values: Tensor) -> Tensor:
    """(B,) sums of each sample's values (B, ...)."""
    return values if values.ndim == 1 else values.flatten(1).sum(1)


def sizes(losses: Tensor) -> Tensor:
    """(B,) number of elements of each sample's losses (B, ...)."""
    return torch.full((len(losses),), losses[:1].numel(), dtype=wide(losses), device=losses.device)


def wide(values: Tensor) -> torch.dtype:
    """The dtype float32, or that of the values where it is wider."""
    return torch.promote_types(values.dtype, torch.float32)


def without_ignored(soft: Tensor, classes: int, ignored: int) -> tuple[Tensor, Tensor | None]:
    """Soft labels (B, K) without the ignored class, rescaled to sum 1, and the mass (B,) of each row without it.

    The mass is None where no column is ignored. A mix of a labelled and an ignored sample thus counts by the share of
    the labelled one, as in λ·criterion(output, a) + (1 − λ)·criterion(output, b). classes: number of the output's
    columns; an ignored column beyond them is removed. ignored: the criterion's ``ignore_index``.
    """
    if not 0 <= ignored < soft.shape[1]:
        return soft, None
    mass = 1 - soft[:, ignored]
    left = torch.cat([soft[:, :ignored], torch.zeros_like(soft[:, :1]), soft[:, ignored + 1 :]], 1)
    left = left / torch.where(mass > 0, mass, 1.0)[:, None]
    if ignored >= classes and not bool(left[:, classes:].any()):  # synchronises the device, for such labels only
        left = left[:, :classes]
    return left, mass


def as_wide(soft: Tensor, output: Tensor) -> Tensor:
    """Soft labels padded with probability 0 to the columns of ``output`` (B, K, ...); ValueError for wider ones."""
    missing = output.shape[1] - soft.shape[1]
    if soft.shape[1] == 1 and missing:
        raise ValueError(
            f"the labels are numbers (B,) that were mixed as they are, and the criterion compares {output.shape[1]} "
            "classes; for class numbers let the dataset give integers: label.to(torch.int64)"
        )
    if missing < 0:
        raise ValueError(
            f"the soft labels have {soft.shape[1]} classes and the model's output {output.shape[1]}; "
            f"give the model as many outputs, or set num_classes={output.shape[1]} on MixUp or CutMix"
        )
    return F.pad(soft, (0, 0) * (soft.ndim - 2) + (0, missing)) if missing else soft
