"""Labels as distributions, and the logits in whatever a model returns: the algebra around the user's model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Criterion = Callable[[Tensor, Tensor], Tensor]


def distributions(target: Tensor, classes: int) -> Tensor:
    """Labels as rows: (B,) integers to one-hot (B, classes), (B, k ≤ classes) distributions padded with zeros.

    Raises ValueError for labels outside 0..classes-1 and for distributions wider than the model's output.
    """
    if target.is_floating_point() and target.ndim == 2 and target.shape[1] > 1:
        if target.shape[1] > classes:
            raise ValueError(
                f"the labels have {target.shape[1]} classes and the model {classes} outputs; give the model as many"
            )
        return F.pad(target, (0, classes - target.shape[1]))
    if target.is_floating_point() and classes == 2:  # probabilities of class 1, for a single logit
        positive = target.reshape(-1)
        return torch.stack([1 - positive, positive], 1)
    label = target.reshape(-1).long()
    if target.is_floating_point() or len(label) != len(target):
        raise ValueError(
            f"labels must be class indices (B,) or distributions (B, K), got {target.dtype} {tuple(target.shape)}; "
            "name the label leaf with target="
        )
    wrong = (label < 0) | (label >= classes)
    if label.device.type == "cpu" and bool(wrong.any()):  # elsewhere looking would stall the device
        raise ValueError(
            f"label {int(label[wrong][0])} is not among the model's {classes} classes (0..{classes - 1}); use data "
            "with the training classes, or a model with more outputs"
        )
    return torch.zeros(len(label), classes, device=label.device).scatter_(1, label[:, None], 1.0)


def logits_of(output: Any) -> Tensor:
    """The logits (B, K), (B, 1) or (B,) in a model's output: itself, ``.logits`` or ["logits"], or a tuple's first."""
    found = output
    if isinstance(found, Mapping) and not isinstance(found, Tensor):
        found = found.get("logits", found.get("output"))
    elif not isinstance(found, Tensor):
        found = getattr(output, "logits", None)
        if found is None and isinstance(output, (tuple, list)) and output:
            found = output[0]
    if not isinstance(found, Tensor) or found.ndim not in (1, 2) or not found.is_floating_point():
        what = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, Tensor) else type(output).__name__
        raise TypeError(
            f"the model's output must hold logits (B, K) or (B,), got {what}; return a tensor, a tuple "
            'starting with it, or a dict with the key "logits"'
        )
    return found


def wide(dtype: torch.dtype) -> torch.dtype:
    """float32, or the type itself where it is wider."""
    return torch.promote_types(dtype, torch.float32)


def columns(z: Tensor) -> Tensor:
    """Logits as (B, K ≥ 2) in float32 or wider; a single logit becomes (0, z), whose softmax is (σ(−z), σ(z))."""
    z = z.to(wide(z.dtype))
    z = z[:, None] if z.ndim == 1 else z
    return z if z.shape[1] > 1 else torch.cat([torch.zeros_like(z), z], 1)


def centred(z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """(log p, Σ_j p_j h_j − h), both (B, K), from logits z and their derivative h: the benefit of every label."""
    log_p = z.log_softmax(1)
    return log_p, (log_p.exp() * h).sum(1, keepdim=True) - h


def mean_loss(raw: Tensor, target: Tensor, criterion: Criterion | None) -> Tensor:
    """The scalar ``criterion(raw, target)``; None is the mean cross entropy of class indices or distributions."""
    if criterion is None:
        z = columns(raw)
        return -(distributions(target, z.shape[1]).to(z.dtype) * z.log_softmax(1)).sum(1).mean()
    value = criterion(raw, target)
    if not isinstance(value, Tensor) or not (value.ndim == 0 or value.shape[0] == len(raw)):
        what = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"criterion must give a scalar or (B,) losses, got {what}; use nn.CrossEntropyLoss()")
    if raw.requires_grad and not value.requires_grad:
        raise TypeError(
            "criterion must give a loss that depends on the model's output, and its gradient is cut off (by detach, "
            "argmax or no_grad?); use nn.CrossEntropyLoss()"
        )
    return value.mean()
