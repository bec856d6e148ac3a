"""`Loss`: the user's own criterion, with the weights and soft labels that travel in the target.

What: Σ w_i ℓ_i / Σ c_i with the criterion's own normaliser c (class weights; the count of positions not ignored; else the
count). When: around every criterion of a loop that uses reweighting, mixing or weighted coresets. Cost: none where no
stage made weights or labels; else the criterion without reduction. Reference: the weighted empirical risk of Zhou et al.,
"MetaAugment", AAAI 2021, and of Ren et al., "Learning to Reweight Examples", ICML 2018.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .batch import Target
from .pipeline import pipeline_of

Rows = tuple[Tensor, Tensor]  # per-sample sums of losses and of normalisers, both (B,)

_CLASSIFYING = (nn.CrossEntropyLoss, nn.NLLLoss)
_ELEMENTWISE = (
    nn.BCELoss,
    nn.BCEWithLogitsLoss,
    nn.HuberLoss,
    nn.L1Loss,
    nn.MSELoss,
    nn.PoissonNLLLoss,
    nn.SmoothL1Loss,
    nn.SoftMarginLoss,
)


class Loss(nn.Module):
    """``criterion = smartaug.Loss(nn.CrossEntropyLoss())``; call it as the criterion: ``criterion(output, target)``.

    criterion: a loss module or functional of torch or timm, or any callable ``(output, target, ...) -> loss``. A plain
    target, and one without weights or soft labels, goes to the criterion untouched. Dense predictions are summed per
    sample first, so w_i weighs the sample. A criterion with reduction="sum" gives Σ w_i ℓ_i, "none" w_i ℓ_i.

    A criterion of unknown make is checked once: the mean of its row-by-row values must be its value for the batch.
    Raises TypeError when it is not (contrastive losses, Dice), and when soft labels meet a criterion that cannot take
    them.
    """

    def __init__(self, criterion: Callable[..., Tensor]) -> None:
        super().__init__()
        if inspect.isclass(criterion):
            raise TypeError(f"Loss got the class {criterion.__name__}; write Loss({criterion.__name__}())")
        if not callable(criterion):
            raise TypeError(f"Loss needs a criterion to call, got {type(criterion).__name__}")
        self.criterion = criterion
        # how an unknown criterion is taken apart, once checked; by whether it was given soft labels
        self._ways: dict[bool, Callable[..., Tensor]] = {}

    def forward(self, output: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
        """The loss of ``output`` (B, ...) against ``target`` (B, ...); further arguments go to the criterion."""
        if not isinstance(target, Target):
            return self.criterion(output, target, *args, **kwargs)
        pipeline = pipeline_of(target)
        if pipeline is not None:
            pipeline.observe(target.index, output, target)
        label, weight, soft = target.plain, target._weight, target.soft
        if soft is None and (weight is None or _all_ones(weight)):
            return self.criterion(output, label, *args, **kwargs)
        if not isinstance(output, Tensor) or output.ndim == 0 or len(output) != len(label):
            what = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise TypeError(
                f"weights and soft labels need an output tensor with the target's {len(label)} rows, got {what}; "
                "pass the logits: criterion(model(images).logits, target)"
            )
        weight = torch.ones(len(label), device=output.device) if weight is None else weight.to(output.device)
        soft = None if soft is None else soft.to(output.device)
        kind, reduction = self._kind(kwargs)
        if kind is not None:
            losses, counts = self._known(kind, output, label, soft, args, kwargs)
            if reduction == "none":
                return losses * weight.to(losses.dtype).reshape(-1, *[1] * (losses.ndim - 1))
            losses, counts = _per_sample(losses), _per_sample(counts)
        else:
            losses, counts = self._unknown(output, label, soft, args, kwargs)
        # a weight of 0 takes a sample out even when its loss is infinite
        weighted = torch.where(weight > 0, losses * weight.to(losses.dtype), torch.zeros_like(losses)).sum()
        return weighted if reduction == "sum" else weighted / counts.sum()

    # --- criteria of torch -------------------------------------------------------------------------------------------

    def _kind(self, kwargs: dict[str, Any]) -> tuple[str | None, str]:
        """("classify" | "elementwise" | None for unknown make, the criterion's reduction)."""
        criterion, reduction = self.criterion, getattr(self.criterion, "reduction", None)
        settings = dict(kwargs)
        if isinstance(criterion, functools.partial):
            settings = {**criterion.keywords, **kwargs}
            criterion = criterion.func
        reduction = settings.get("reduction", reduction) or "mean"
        if type(criterion) in _CLASSIFYING or criterion in (F.cross_entropy, F.nll_loss):
            return "classify", reduction
        if type(criterion) in _ELEMENTWISE or criterion in _FUNCTIONALS:
            return "elementwise", reduction
        return None, reduction if reduction in ("sum", "none") else "mean"

    def _setting(self, name: str, default: Any, kwargs: dict[str, Any]) -> Any:
        if name in kwargs:
            return kwargs[name]
        if isinstance(self.criterion, functools.partial):
            return self.criterion.keywords.get(name, default)
        return getattr(self.criterion, name, default)

    def _known(
        self, kind: str, output: Tensor, label: Tensor, soft: Tensor | None, args: tuple, kwargs: dict[str, Any]
    ) -> Rows:
        if kind == "elementwise":
            target = label if soft is None else _as_output(soft, output, self.criterion)
            losses = self._unreduced(output, target, args, kwargs)
            return losses, torch.ones_like(losses)
        ignored = self._setting("ignore_index", -100, kwargs)
        weight = self._setting("weight", args[0] if args else None, kwargs)
        if soft is None:
            losses = self._unreduced(output, label, args, kwargs)
            if label.is_floating_point():  # distributions given by the user: torch divides by the count
                return losses, torch.ones_like(losses)
            kept = label != ignored
            counts = kept.to(losses.dtype)
            if weight is not None:
                counts = counts * weight.to(losses.dtype)[torch.where(kept, label, 0)]
            return losses, counts
        if output.ndim != 2:
            raise TypeError(
                f"soft labels (B, K) need logits (B, K), got {tuple(output.shape)}; leave MixUp, CutMix and label "
                "learning out for dense predictions"
            )
        soft = _as_wide(soft, output)
        kept = torch.ones(len(label), dtype=torch.bool, device=output.device)
        if not label.is_floating_point():
            kept = label.reshape(-1).to(output.device) != ignored
        if isinstance(self.criterion, nn.NLLLoss) or _function(self.criterion) is F.nll_loss:
            scaled = soft if weight is None else soft * weight.to(soft.dtype)
            losses = -(scaled.to(output.dtype) * output).sum(1)
        else:
            smoothing = self._setting("label_smoothing", 0.0, kwargs)
            losses = F.cross_entropy(
                output, soft.to(output.dtype), weight=weight, reduction="none", label_smoothing=smoothing
            )
        return torch.where(kept, losses, torch.zeros_like(losses)), kept.to(losses.dtype)

    def _unreduced(self, output: Tensor, target: Tensor, args: tuple, kwargs: dict[str, Any]) -> Tensor:
        """The criterion's values before reduction."""
        if isinstance(self.criterion, nn.Module):
            single = copy.copy(self.criterion)  # shares its buffers; only the reduction differs
            single.reduction = "none"
            return single(output, target, *args, **kwargs)
        return self.criterion(output, target, *args, **{**kwargs, "reduction": "none"})

    # --- criteria of unknown make ------------------------------------------------------------------------------------

    def _unknown(self, output: Tensor, label: Tensor, soft: Tensor | None, args: tuple, kwargs: dict[str, Any]) -> Rows:
        target = label
        if soft is not None:
            target = _as_wide(soft, output).to(output.dtype) if output.ndim == 2 else soft.to(output.dtype)
        if (soft is not None) in self._ways:
            losses = self._ways[soft is not None](output, target, args, kwargs)
            return losses, torch.ones_like(losses)
        try:
            whole = self.criterion(output, target, *args, **kwargs)
        except (TypeError, RuntimeError, ValueError, IndexError) as error:
            if soft is None:
                raise
            raise TypeError(
                f"{_title(self.criterion)} cannot take the soft labels {tuple(soft.shape)} that a stage made: {error}. "
                "Use a criterion that takes distributions, such as nn.CrossEntropyLoss() or timm's "
                "SoftTargetCrossEntropy()"
            ) from error
        way = self._checked(whole, output, target, args, kwargs)
        if len(output) > 1:  # a single row says nothing about joining rows
            self._ways[soft is not None] = way
        losses = way(output, target, args, kwargs)
        return losses, torch.ones_like(losses)

    def _checked(
        self, whole: Any, output: Tensor, target: Tensor, args: tuple, kwargs: dict[str, Any]
    ) -> Callable[..., Tensor]:
        """The cheapest way to take the criterion apart whose mean (or sum) is the criterion's value for the batch."""
        reduction = self._kind(kwargs)[1]
        for way in (self._without_reduction, self._vectorised, self._one_by_one):
            try:
                rows = way(output, target, args, kwargs)
            except (TypeError, RuntimeError, ValueError, AttributeError, IndexError):
                continue  # this criterion cannot be called this way; the next one is slower and asks for less
            if not isinstance(whole, Tensor) or rows.shape != (len(output),):
                continue
            joined = {"sum": rows.sum(), "mean": rows.mean()}.get(reduction, rows)
            near = 1e-3 if output.dtype in (torch.float16, torch.bfloat16) else 1e-4
            if joined.shape == whole.shape and torch.allclose(joined.detach(), whole.detach(), rtol=near, atol=1e-6):
                return way
        raise TypeError(
            f"{_title(self.criterion)} is not the mean of per-sample losses (its rows alone do not give its value for the "
            "batch), so samples cannot be weighed in it. Use a criterion that is, such as nn.CrossEntropyLoss(), or leave "
            "out the stage that makes weights or soft labels"
        )

    def _without_reduction(self, output: Tensor, target: Tensor, args: tuple, kwargs: dict[str, Any]) -> Tensor:
        if not hasattr(self.criterion, "reduction"):
            raise AttributeError("reduction")
        return _per_sample_mean(self._unreduced(output, target, args, kwargs))

    def _vectorised(self, output: Tensor, target: Tensor, args: tuple, kwargs: dict[str, Any]) -> Tensor:
        def one(row: Tensor, label: Tensor) -> Tensor:
            return self.criterion(row[None], label[None], *args, **kwargs).reshape(())

        return torch.vmap(one)(output, target)

    def _one_by_one(self, output: Tensor, target: Tensor, args: tuple, kwargs: dict[str, Any]) -> Tensor:
        pairs = zip(output.split(1), target.split(1), strict=True)
        return torch.stack([self.criterion(row, label, *args, **kwargs).reshape(()) for row, label in pairs])


_FUNCTIONALS = (
    F.binary_cross_entropy,
    F.binary_cross_entropy_with_logits,
    F.huber_loss,
    F.l1_loss,
    F.mse_loss,
    F.poisson_nll_loss,
    F.smooth_l1_loss,
    F.soft_margin_loss,
)


def _all_ones(weight: Tensor) -> bool:
    """Whether weights change nothing; on an accelerator looking would stall it, and the formula gives the same."""
    return weight.device.type == "cpu" and bool((weight == 1).all())


def _function(criterion: Any) -> Any:
    return criterion.func if isinstance(criterion, functools.partial) else criterion


def _title(criterion: Any) -> str:
    criterion = _function(criterion)
    return getattr(criterion, "__name__", type(criterion).__name__)


def _per_sample(values: Tensor) -> Tensor:
    return values if values.ndim == 1 else values.flatten(1).sum(1)


def _per_sample_mean(values: Tensor) -> Tensor:
    return values if values.ndim == 1 else values.flatten(1).mean(1)


def _as_wide(soft: Tensor, output: Tensor) -> Tensor:
    """Soft labels with as many columns as the logits: classes that no label named have probability 0."""
    missing = output.shape[1] - soft.shape[1]
    if missing < 0:
        raise ValueError(
            f"the soft labels have {soft.shape[1]} classes and the model's output {output.shape[1]}; "
            f"give the model as many outputs, or set num_classes={output.shape[1]} on MixUp or CutMix"
        )
    return F.pad(soft, (0, missing)) if missing else soft


def _as_output(soft: Tensor, output: Tensor, criterion: Any) -> Tensor:
    """Soft labels in the output's shape: element by element, or the second column for a single-logit head."""
    if output.ndim == 2 and soft.shape[1] < output.shape[1]:
        soft = _as_wide(soft, output)
    if soft.numel() == output.numel():
        return soft.reshape(output.shape).to(output.dtype)
    if soft.shape[1] == 2 and output.numel() == len(output):
        return soft[:, 1].reshape(output.shape).to(output.dtype)
    raise TypeError(
        f"{_title(criterion)} compares element by element: soft labels {tuple(soft.shape)} do not fit the output "
        f"{tuple(output.shape)}; give the model {soft.shape[1]} outputs or use nn.CrossEntropyLoss()"
    )
