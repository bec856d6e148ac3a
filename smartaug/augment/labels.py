"""Labels after samples were mixed: hard or soft labels in, soft labels out (MixUp, CutMix)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..batch import Target
from .plan import Plan


def mix_labels(
    target: Tensor, plan: Plan, *, num_classes: int | None = None, index: Tensor | None = None, key: str | None = None
) -> Tensor:
    """``target`` as a `Target` whose ``soft`` (B, K) follows the plan's mixes; unchanged when the plan mixes nothing.

    target: (B,) integer class labels, (B, K) label distributions or multi-hot rows, or (B,) float regression values
    (K = 1). num_classes: K for integer labels; None takes the largest label of the batch plus one, at least 2, and
    `Loss` pads the rest with zeros. Raises ValueError for labels outside 0..K-1, TypeError for dense (mask-shaped)
    targets.
    """
    if not plan.mixes:
        return target
    soft = target.soft if isinstance(target, Target) else None
    if soft is None:
        soft = distributions(target.plain if isinstance(target, Target) else target, num_classes)
    for mix in plan.mixes:
        mix = mix.to(soft.device)
        soft = torch.lerp(soft[mix.partner], soft, mix.share[:, None].to(soft.dtype))
    if isinstance(target, Target):
        return Target(target.plain, target._weight, soft, target.index, target._key)
    return Target(target, None, soft, index, key)


def distributions(target: Tensor, num_classes: int | None = None) -> Tensor:
    """Labels as rows of probabilities: (B,) integers to one-hot (B, K) float32; floats stay as they are, (B, K)."""
    if target.ndim > 2 or (target.ndim == 2 and not target.is_floating_point() and target.shape[1] != 1):
        raise TypeError(
            f"mixing needs class labels (B,) or distributions (B, K), got a target of shape {tuple(target.shape)} "
            f"and {target.dtype}; leave MixUp and CutMix out for dense targets"
        )
    if target.is_floating_point():
        return target[:, None] if target.ndim == 1 else target
    label = target.reshape(-1).long()
    if label.numel() and label.device.type == "cpu":  # elsewhere looking would stall the device; one_hot checks there
        low, high = int(label.min()), int(label.max())
        if low < 0 or (num_classes is not None and high >= num_classes):
            raise ValueError(
                f"labels must lie in 0..{'K' if num_classes is None else num_classes}-1 to be mixed, got "
                f"{low if low < 0 else high}; fix the dataset's labels or pass num_classes={max(high, 0) + 1} "
                f"to MixUp or CutMix"
            )
    # two at least: one column would read as "probability of class 1" for a single-logit head
    classes = num_classes if num_classes is not None else max(2, int(label.max()) + 1 if label.numel() else 0)
    return torch.zeros(len(label), classes, device=label.device).scatter_(1, label[:, None], 1.0)
