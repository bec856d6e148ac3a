"""The kinds of labels: class numbers, probabilities, distributions, values of a regression, maps.

`kind_of` decides which kind a batch of labels is; mixing, `Loss`, reweighters and coresets use its answer. B is the
number of samples, K of classes, D of values, L of positions.

| labels | kind | MixUp, CutMix | reweighters | coresets that record |
|---|---|---|---|---|
| integers (B,), (B, 1) | CLASSES | one-hot (B, K), then mixed | weights, labels (B, K) | p − y |
| floats (B,), (B, 1) in [0, 1] | BINARY, probability of class 1 | mixed as they are | as two classes | p − y |
| floats (B, K), rows that sum to 1 (one-hot) | DISTRIBUTIONS | mixed as they are | weights, labels (B, K) | p − y |
| floats (B, K) in [0, 1], other sums (multi-hot) | SEVERAL | mixed as they are | weights alone, with BCE | refused |
| floats (B,), (B, D), other values | VALUES, regression | mixed as they are | weights alone, with MSE | refused |
| floats (B,), (B, 1), whole numbers beyond 0 and 1 | WHOLE, classes or values | refused | refused | refused |
| integers (B, L), anything (B, ., ...) | MAP, a label for every position | refused | weights alone | mean of p − y |

Where the values leave the kind open, the criterion decides (cross entropy: WHOLE are CLASSES; binary cross entropy:
BINARY, or SEVERAL for K ≥ 2 columns; MSE and the like: VALUES), or a given number of classes (WHOLE are CLASSES; with 0
classes everything, integers too, is VALUES). `Loss` goes by its criterion, and raises for a `Target` whose soft labels
have other columns than that criterion compares. With `smartaug.ContrastiveLoss` the labels of a sample are the pairs
of its batch, PAIRS, whatever the leaf holds that carries them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from enum import Enum

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .contrastive import ContrastiveLoss


class Kind(Enum):
    """What a batch of labels means; the value is what errors call it."""

    CLASSES = "class numbers"
    BINARY = "probabilities of class 1"
    DISTRIBUTIONS = "distributions over classes"
    SEVERAL = "several labels a sample"
    VALUES = "values of a regression"
    WHOLE = "whole numbers stored as floats"
    MAP = "a label for every position"
    PAIRS = "pairs of the batch"


class Family(Enum):
    """What a criterion of torch, or `ContrastiveLoss`, compares with its outputs."""

    CLASSIFY = "classes"
    BINARY = "probabilities, column by column"
    VALUES = "values, element by element"
    PAIRS = "all pairs of the batch"


_FAMILIES: dict[Family, tuple[object, ...]] = {
    Family.CLASSIFY: (nn.CrossEntropyLoss, nn.NLLLoss, F.cross_entropy, F.nll_loss),
    Family.BINARY: (
        nn.BCELoss,
        nn.BCEWithLogitsLoss,
        F.binary_cross_entropy,
        F.binary_cross_entropy_with_logits,
    ),
    Family.VALUES: (
        nn.HuberLoss,
        nn.L1Loss,
        nn.MSELoss,
        nn.PoissonNLLLoss,
        nn.SmoothL1Loss,
        nn.SoftMarginLoss,
        F.huber_loss,
        F.l1_loss,
        F.mse_loss,
        F.poisson_nll_loss,
        F.smooth_l1_loss,
        F.soft_margin_loss,
    ),
    Family.PAIRS: (ContrastiveLoss,),
}


def family_of(criterion: object) -> Family | None:
    """The family of a criterion of torch, also in `functools.partial`, or of `ContrastiveLoss`; None for any other."""
    if isinstance(criterion, nn.Module):  # a subclass that keeps the forward is still torch's
        forward = type(criterion).forward
        parts: list[object] = [base for base in type(criterion).__mro__ if getattr(base, "forward", None) is forward]
    else:
        parts = [criterion.func if isinstance(criterion, functools.partial) else criterion]
    for family, members in _FAMILIES.items():
        if any(part is member for part in parts for member in members):
            return family
    return None


def kind_of(target: Tensor, *, criterion: Callable[..., object] | None = None, classes: int | None = None) -> Kind:
    """The kind of labels ``target`` (B, ...), by the table above.

    criterion: the loss that the labels go to; None, or one that is not torch's, decides nothing. classes: number of
    classes, 0 for a regression, None when unknown. The values of floats are read, which synchronises an accelerator.
    """
    family = None if criterion is None else family_of(criterion)
    if family is Family.PAIRS:
        return Kind.PAIRS
    column = target.ndim == 1 or (target.ndim == 2 and target.shape[1] == 1)
    if family is Family.VALUES:
        return Kind.VALUES
    if family is Family.BINARY and not column:
        return Kind.SEVERAL
    if not column and (target.ndim != 2 or not target.is_floating_point()):
        return Kind.MAP
    if classes == 0:
        return Kind.VALUES
    if not target.is_floating_point():
        return Kind.CLASSES
    if column:
        return _kind_of_column(target, family, classes)
    if is_distribution(target):
        return Kind.DISTRIBUTIONS
    return Kind.SEVERAL if _are_probabilities(target) else Kind.VALUES


def _kind_of_column(target: Tensor, family: Family | None, classes: int | None) -> Kind:
    """The kind of floats (B,) or (B, 1)."""
    whole = bool((target == target.floor()).all()) and bool(torch.isfinite(target).all())
    if family is Family.BINARY or (not whole and _are_probabilities(target)):
        return Kind.BINARY
    if whole and (classes is not None or family is Family.CLASSIFY):
        return Kind.CLASSES
    if _are_probabilities(target):
        return Kind.BINARY
    return Kind.WHOLE if whole else Kind.VALUES


def _are_probabilities(target: Tensor) -> bool:
    return bool(((target >= 0) & (target <= 1)).all())


def is_distribution(rows: Tensor) -> bool:
    """Whether all rows (B, K) are distributions: no negative entry, and a sum within 1e-3 of 1."""
    wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
    return bool((wide >= 0).all()) and bool(((wide.sum(1) - 1).abs() < 1e-3).all())


def one_hot_map(label: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """Classes (B, ...) as soft labels (B, classes, ...); numbers that are no class become rows of 0: ignored."""
    unknown = (label < 0) | (label >= classes)
    hot = F.one_hot(torch.where(unknown, 0, label).long(), classes).movedim(-1, 1)
    return torch.where(unknown.unsqueeze(1), 0, hot).to(dtype)
