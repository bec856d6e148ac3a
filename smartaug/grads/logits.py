"""Labels as distributions, logits from what a model returns, and the losses of samples."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._base.labels import Family, Kind, family_of, kind_of
from .positions import Criterion, check_map, map_losses, refuse_other_maps, refuse_unknown_classes, settings_of


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
    if label.device.type == "cpu" and bool(wrong.any()):  # elsewhere reading a value waits for the device
        raise ValueError(
            f"label {int(label[wrong][0])} is not among the model's {classes} classes (0..{classes - 1}); use data "
            "with the training classes, or a model with more outputs"
        )
    return torch.zeros(len(label), classes, device=label.device).scatter_(1, label[:, None], 1.0)


def logits_of(output: object) -> Tensor:
    """The logits (B, K), (B,) or (B, K, ...) in a model's output: itself, ``.logits``, or a tuple's or list's first.

    Of a dict its "logits", "output", or "out" (as torchvision's segmentation models call the main one). Raises
    TypeError where there are none.
    """
    found = output
    if isinstance(found, Mapping) and not isinstance(found, Tensor):
        found = found.get("logits", found.get("output", found.get("out")))
    elif not isinstance(found, Tensor):
        found = getattr(output, "logits", None)
        if found is None and isinstance(output, (tuple, list)) and output:
            found = output[0]
    if not isinstance(found, Tensor) or found.ndim == 0 or not found.is_floating_point():
        raise TypeError(_no_logits(found if isinstance(found, Tensor) else output))
    return found


def _no_logits(output: object) -> str:
    what = f"{output.dtype} {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
    return (
        f"the model's output must hold logits (B, K) or (B,), got {what}; return a tensor, a tuple "
        'starting with it, or a dict with the key "logits"'
    )


def wide(dtype: torch.dtype) -> torch.dtype:
    """float32, or the type itself where it is wider."""
    return torch.promote_types(dtype, torch.float32)


def columns(z: Tensor) -> Tensor:
    """Logits as (B, K ≥ 2) in float32 or wider; a single logit becomes (0, z), whose softmax is (σ(−z), σ(z)).

    Raises TypeError for a map of logits, where every sample is to have one class.
    """
    if z.ndim > 2:
        raise TypeError(_no_logits(z))
    z = z.to(wide(z.dtype))
    z = z[:, None] if z.ndim == 1 else z
    return z if z.shape[1] > 1 else torch.cat([torch.zeros_like(z), z], 1)


def centred(z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """(log p, Σ_j p_j h_j − h), both (B, K), from logits z and their derivative h: the benefit of every label."""
    log_p = z.log_softmax(1)
    return log_p, (log_p.exp() * h).sum(1, keepdim=True) - h


def mean_loss(raw: Tensor, target: Tensor, criterion: Criterion | None) -> Tensor:
    """The scalar ``criterion(raw, target)``; None is the mean cross entropy of class indices or distributions.

    Of maps it is the mean over all labelled positions of the batch.
    """
    if _is_map(raw, target) and (criterion is None or family_of(criterion) is Family.CLASSIFY):
        criterion = nn.CrossEntropyLoss() if criterion is None else criterion
        check_map(raw, target)
        refuse_other_maps(target)
        refuse_unknown_classes(target, raw.shape[1], settings_of(criterion).ignored)
    if raw.ndim > 2 and not target.is_floating_point() and target.dtype != torch.bool:
        target = target.long()  # masks are stored as uint8
    if criterion is None:
        z = columns(raw)
        labels = distributions(target, z.shape[1]).to(z.dtype)
        kind = kind_of(target) if target.device.type == "cpu" else Kind.CLASSES  # elsewhere reading waits
        if kind not in (Kind.CLASSES, Kind.BINARY, Kind.DISTRIBUTIONS):
            raise ValueError(
                f"cross entropy takes class numbers (B,) or rows that sum to 1, and the labels {target.dtype} "
                f"{tuple(target.shape)} are {kind.value}; write criterion=nn.BCEWithLogitsLoss() for several labels a "
                "sample, criterion=nn.MSELoss() for values, or let the dataset give classes as torch.int64"
            )
        return -(labels * z.log_softmax(1)).sum(1).mean()
    if family_of(criterion) in (Family.BINARY, Family.VALUES):
        target = like_output(target, raw)
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


def _is_map(raw: Tensor, target: Tensor) -> bool:
    """Whether labels are of positions: more than a number, or a row of probabilities, for each sample."""
    row = target.ndim == 2 and (target.is_floating_point() or target.shape[1] == 1)
    return target.ndim > 1 and (raw.ndim > 2 or not row)


def like_output(target: Tensor, raw: Tensor) -> Tensor:
    """Labels in the shape and type of the outputs, for criteria that compare element by element.

    Raises ValueError for another number of elements: broadcasting would compare each sample with every other.
    """
    if target.numel() != raw.numel():
        raise ValueError(
            f"the criterion compares element by element, and the labels {tuple(target.shape)} do not fit the model's "
            f"outputs {tuple(raw.shape)}; give the model as many outputs, or use nn.CrossEntropyLoss()"
        )
    return target.reshape(raw.shape).to(raw.dtype)


def row_losses(criterion: Criterion, raw: Tensor, target: Tensor) -> Tensor:
    """(B,) losses of the samples by a criterion of torch that compares element by element.

    A sample's loss is the mean of its elements, or their sum where the criterion sums. Of maps (B, K, ...) it is the
    value of any criterion for the sample alone (`map_losses`). Raises TypeError for other criteria.
    """
    family = family_of(criterion)
    if family is Family.CLASSIFY or (raw.ndim > 2 and family is None):
        return map_losses(criterion, raw, target)
    if family is None:
        raise TypeError(
            f"{type(criterion).__name__} cannot be taken apart into the losses of samples; write "
            "criterion=nn.BCEWithLogitsLoss() for several labels a sample, criterion=nn.MSELoss() for values"
        )
    target = like_output(target, raw)
    if isinstance(criterion, nn.Module):
        single: Any = copy.copy(criterion)  # shares its buffers; only the reduction differs
        single.reduction = "none"
        losses, reduction = single(raw, target), criterion.reduction
    else:
        losses = criterion(raw, target, reduction="none")  # type: ignore[call-arg]  # a functional of torch
        reduction = getattr(criterion, "keywords", {}).get("reduction", "mean")
    losses = losses.to(wide(losses.dtype)).flatten(1) if losses.ndim > 1 else losses.to(wide(losses.dtype))[:, None]
    return losses.sum(1) if reduction == "sum" else losses.mean(1)


def column_gains(criterion: Criterion, raw: Tensor, tangent: Tensor) -> Tensor:
    """(B, 2K): for each of the K labels of a sample ⟨∇ℓ_ik, g⟩ were it 0, and were it 1, one beside the other.

    criterion: of binary cross entropy, a sum over labels. raw, tangent: (B, K) outputs and their derivative along g.
    """
    made = []
    for value in (0.0, 1.0):
        leaf = raw.detach().requires_grad_()
        with torch.enable_grad():
            losses = row_losses(criterion, leaf, torch.full_like(leaf, value))
            (gradient,) = torch.autograd.grad(losses.sum(), leaf)
        made.append(gradient * tangent.to(gradient.dtype))
    return torch.stack(made, 2).flatten(1)


def gains(criterion: Criterion, raw: Tensor, target: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
    """``(ℓ, s)``, both (B,): losses, and s_i = ⟨∂ℓ_i/∂z_i, h_i⟩ for the derivative ``tangent`` h of the outputs z."""
    leaf = raw.detach().requires_grad_()
    with torch.enable_grad():
        losses = row_losses(criterion, leaf, target)
        (gradient,) = torch.autograd.grad(losses.sum(), leaf)
    return losses.detach(), (gradient * tangent.to(gradient.dtype)).reshape(len(raw), -1).sum(1)
