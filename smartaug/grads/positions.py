"""Dense predictions: the loss, and the residual, of a sample whose labels are a map of classes.

What: for logits (B, K, ...) and a class for every position p, the loss of sample i is the criterion's value for that
sample alone, for cross entropy ℓ_i = Σ_p c_ip ℓ_ip / Σ_p c_ip with the criterion's own counts c (0 where the label is
ignored, else the class weight); its residual is r_i = mean over the labelled positions of softmax(z_p) − y_p, which is
the gradient of ℓ_i (without class weights) in the bias of a 1×1 convolution that makes the logits. When: `Loss`,
reweighters and coresets meet a map. Cost: a softmax of the logits. Reference: none, definitions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._base.labels import Family, family_of

Criterion = Callable[[Tensor, Tensor], Tensor]


class Settings(NamedTuple):
    """Of a cross entropy: class weights (K,), the ignored class, label smoothing; None for NLL of log-probabilities."""

    weight: Tensor | None = None
    ignored: int = -100
    smoothing: float | None = 0.0


def settings_of(criterion: Criterion) -> Settings:
    """The settings of a cross entropy or NLL of torch: a module, a functional, or a partial of one."""
    function: Any = criterion.func if isinstance(criterion, functools.partial) else criterion
    given = criterion.keywords if isinstance(criterion, functools.partial) else {}
    if isinstance(criterion, nn.Module):
        given = {name: getattr(criterion, name) for name in ("weight", "ignore_index") if hasattr(criterion, name)}
        given["label_smoothing"] = getattr(criterion, "label_smoothing", 0.0)
    nll = function is F.nll_loss or isinstance(criterion, nn.NLLLoss)
    smoothing = None if nll else given.get("label_smoothing", 0.0)
    return Settings(given.get("weight"), given.get("ignore_index", -100), smoothing)


def position_losses(output: Tensor, label: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    """``(losses, counts)``, both (B, ...), of logits (B, K, ...) against classes (B, ...) or soft labels (B, K, ...).

    Soft labels of a position sum to 1, or to the share of it that is not ignored: the count of that position.
    """
    if label.is_floating_point():
        return _soft_losses(output, label, settings)
    weight, ignored, smoothing = settings
    label = label.long()
    if smoothing is None:
        losses = F.nll_loss(output, label, weight, ignore_index=ignored, reduction="none")
    else:
        losses = F.cross_entropy(
            output, label, weight, ignore_index=ignored, reduction="none", label_smoothing=smoothing
        )
    kept = label != ignored
    counts = kept.to(_wide(losses))
    if weight is not None:
        counts = counts * weight.to(counts.dtype)[torch.where(kept, label, 0)]
    return losses, counts


def _soft_losses(output: Tensor, soft: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    weight, ignored, smoothing = settings
    soft = _without(soft.to(_wide(output)), output.shape[1], ignored)
    mass = soft.sum(1)
    rows = soft / torch.where(mass > 0, mass, 1.0).unsqueeze(1)  # smoothing is for whole distributions
    if smoothing is None:
        rows = rows if weight is None else rows * _over_classes(weight.to(rows.dtype), rows)
        losses = -torch.where(rows == 0, 0.0, rows * output).sum(1)  # log 0 of a class without probability
    else:
        rows = rows.to(output.dtype)
        losses = F.cross_entropy(output, rows, weight, reduction="none", label_smoothing=smoothing)
    return torch.where(mass > 0, losses * mass.to(losses.dtype), 0.0), mass


def _without(soft: Tensor, classes: int, ignored: int) -> Tensor:
    """Soft labels (B, k, ...) with ``classes`` columns, that of the ignored class being 0."""
    if 0 <= ignored < soft.shape[1]:
        left = torch.ones(soft.shape[1], dtype=soft.dtype, device=soft.device)
        left[ignored] = 0
        soft = soft * _over_classes(left, soft)
        if ignored >= classes and not bool(soft[:, classes:].any()):  # synchronises, for such labels only
            soft = soft[:, :classes]
    if soft.shape[1] > classes:
        raise ValueError(
            f"the soft labels have {soft.shape[1]} classes and the model's output {classes}; give the model as many "
            "outputs"
        )
    missing = classes - soft.shape[1]
    return torch.cat([soft, soft.new_zeros(len(soft), missing, *soft.shape[2:])], 1) if missing else soft


def check_map(output: Tensor, label: Tensor) -> None:
    """Raise a ValueError unless label (B, ...) or soft label (B, K, ...) is a map of the positions of (B, K, ...)."""
    wanted = output.shape if label.is_floating_point() else output.shape[:1] + output.shape[2:]
    if output.ndim > 2 and output.shape[1] > 1 and label.shape == wanted:
        return
    what = f"{str(label.dtype)[6:]} {tuple(label.shape)}"
    if output.ndim > 2 and output.shape[1] == 1:
        remedy = "for a single map of logits write criterion=nn.BCEWithLogitsLoss(), with a float mask (B, 1, ...)"
    elif output.ndim < 3:
        remedy = "for several labels a sample write criterion=nn.BCEWithLogitsLoss()"
    else:
        remedy = "let the model return logits of the labels' size: F.interpolate(logits, size=mask.shape[-2:])"
    raise ValueError(
        f"a label for every position needs logits (B, K, ...) of the same positions, and the labels are {what} for "
        f"outputs {tuple(output.shape)}; {remedy}"
    )


def map_losses(criterion: Criterion | None, raw: Tensor, target: Tensor) -> Tensor:
    """(B,) losses of logits (B, K, ...) against a map: the criterion's value for each sample alone.

    criterion: None is cross entropy. A sample without a labelled position has loss 0. Raises ValueError for maps of
    other positions and classes that the model has no output for.
    """
    if criterion is not None and family_of(criterion) is not Family.CLASSIFY:
        return _alone(criterion, raw, target)
    settings = Settings() if criterion is None else settings_of(criterion)
    check_map(raw, target)
    refuse_unknown_classes(target, raw.shape[1], settings.ignored)
    losses, counts = (part.flatten(1).sum(1) for part in position_losses(raw.to(_wide(raw)), target, settings))
    return losses / torch.where(counts > 0, counts, 1.0)


def _alone(criterion: Criterion, raw: Tensor, target: Tensor) -> Tensor:
    target = target if target.is_floating_point() or target.dtype == torch.bool else target.long()
    values = [criterion(row, label) for row, label in zip(raw.split(1), target.split(1), strict=True)]
    made = [value.mean() for value in values]  # a criterion without reduction: the mean of its values
    return only_defined(made, raw.split(1), lambda: criterion(raw, target).mean())[0]


def map_residuals(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``(residual (B, K), loss (B,), usable (B,) bool)`` of logits (B, K, ...) or (B, 1, ...), without a gradient.

    The residual is the mean of softmax(z) − y over the labelled positions, the loss their mean cross entropy; a single
    logit has two classes. target: classes (B, ...) or (B, 1, ...), of which those outside 0..K-1 are ignored; for K > 1
    also distributions (B, K, ...). Not usable are samples without a labelled position, and those whose map holds
    anything else. Raises TypeError for maps of other positions.
    """
    z = output.detach().to(_wide(output)).flatten(2)
    z = z if z.shape[1] > 1 else torch.cat([torch.zeros_like(z), z], 1)
    target, classes = target.to(z.device, non_blocking=True), z.shape[1]
    log_p = z.log_softmax(1)
    if target.is_floating_point() and target.shape == output.shape and output.shape[1] > 1:
        y = target.flatten(2).to(z.dtype)
        usable = ((y.sum(1) - 1).abs() < 1e-3).all(1) & (y >= 0).flatten(1).all(1)
        loss = -torch.where(y > 0, y * log_p, 0.0).sum(1).mean(1)
        return (log_p.exp() - y).mean(2), loss, usable
    if target.shape not in (output.shape[:1] + output.shape[2:], (*output.shape[:1], 1, *output.shape[2:])):
        raise TypeError(
            f"recording needs logits (B, K, ...) and a class for each position, got "
            f"{tuple(output.shape)} for the target {str(target.dtype)[6:]} {tuple(target.shape)}; give Loss logits of "
            "the labels' size, or use select=smartaug.coreset.RandomSubset()"
        )
    target = target.reshape(len(z), -1)
    label = target.long()
    kept = (label >= 0) & (label < classes)
    usable = kept.any(1) & ((label == target) | ~kept).all(1)  # no probabilities, which are no classes
    label, count = torch.where(kept, label, 0), kept.sum(1).clamp_min(1)
    loss = -torch.where(kept, log_p.gather(1, label[:, None])[:, 0], 0.0).sum(1) / count
    labelled = torch.zeros_like(z[:, :, 0]).scatter_add_(1, label, kept.to(z.dtype))
    return (torch.where(kept[:, None], log_p.exp(), 0.0).sum(2) - labelled) / count[:, None], loss, usable


def only_defined(values: list[Tensor], rows: tuple[Tensor, ...], whole: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """``(losses (B,), counted (B,) bool)`` from each sample's own value; reads one value from the device.

    Where the criterion has a value for the batch (``whole()``) but none for a sample alone, all positions of that
    sample are ignored: it has loss 0, without a gradient, and does not count. rows: the samples' outputs.
    """
    losses = torch.stack([value.reshape(()) for value in values])
    undefined = losses.detach().isnan()
    if not bool(undefined.any()) or not bool(torch.isfinite(whole())):
        return losses, torch.ones_like(undefined)
    # an empty sum: it depends on the row, and its gradient is 0 where 0 · NaN would be NaN
    defined = [row.flatten()[:0].sum() if bad else one for one, row, bad in zip(values, rows, undefined, strict=True)]
    return torch.stack([value.reshape(()).to(losses.dtype) for value in defined]), ~undefined


def refuse_unknown_classes(label: Tensor, classes: int, ignored: int) -> None:
    """Raise a ValueError for a class that is neither ignored nor among the model's; not read on an accelerator."""
    if label.is_floating_point() or label.device.type != "cpu" or not label.numel():
        return
    label = label.long()
    wrong = ((label < 0) | (label >= classes)) & (label != ignored)
    if bool(wrong.any()):
        number = int(label[wrong][0])
        raise ValueError(
            f"label {number} is not among the model's {classes} classes (0..{classes - 1}); where it marks positions "
            f"without a label write criterion=nn.CrossEntropyLoss(ignore_index={number})"
        )


def refuse_other_maps(label: Tensor) -> None:
    """Raise a ValueError for float maps (B, K, ...) that are no distributions; not read on an accelerator."""
    if not label.is_floating_point() or label.device.type != "cpu" or not label.numel():
        return
    if bool((label < 0).any()) or bool(((label.sum(1, dtype=torch.float32) - 1).abs() > 1e-3).any()):
        raise ValueError(
            f"a float map of labels {tuple(label.shape)} must hold distributions over the classes, dimension 1, and "
            "these do not sum to 1; for several labels at a position write criterion=nn.BCEWithLogitsLoss(), for "
            "values nn.MSELoss(), and for classes let the dataset give integers (B, ...)"
        )


def _over_classes(values: Tensor, like: Tensor) -> Tensor:
    """Values (K,) shaped to multiply (B, K, ...)."""
    return values.reshape(-1, *[1] * (like.ndim - 2))


def _wide(values: Tensor) -> torch.dtype:
    return torch.promote_types(values.dtype, torch.float32)
