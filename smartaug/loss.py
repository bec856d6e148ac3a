"""`Loss`: the user's own criterion, with the weights and soft labels that travel in the target.

What: Σ w_i ℓ_i / Σ c_i with the criterion's own normaliser c (class weights; the count of positions not ignored; else
the count). When: around every criterion of a loop that uses reweighting, mixing or weighted coresets. Cost: none where
no stage made weights or labels; else the criterion without reduction. Reference: the weighted empirical risk of Zhou et
al., "MetaAugment", AAAI 2021, and of Ren et al., "Learning to Reweight Examples", ICML 2018.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._base.labels import Family, family_of
from .batch import Target
from .pipeline.criterion_arguments import Call, by_place, call_without, places_of
from .pipeline.pipeline import pipeline_of
from .pipeline.row_losses import Rows, as_wide, joined, per_sample, sizes, spread, wide, without_ignored


class _Way(NamedTuple):
    """How the per-sample losses of a criterion that is not torch's are computed, once checked."""

    method: str
    by_row: bool  # whether further arguments with B rows are split by row, too
    reduction: str


class Loss(nn.Module):
    """``criterion = smartaug.Loss(nn.CrossEntropyLoss())``; call it as the criterion: ``criterion(output, target)``.

    criterion: a loss module or functional of torch or timm, or any callable ``(output, target, ...) -> loss``, called
    by position or by keyword, as the criterion itself. Without a `Target` among the arguments, all of them go to the
    criterion untouched, and what it returns comes back; so they do where the target has no weights or soft labels.
    Dense predictions are summed per sample first, so w_i weighs the sample. A criterion with reduction="sum" gives
    Σ w_i ℓ_i, "none" w_i ℓ_i. A sample of weight 0 adds nothing to the loss or its gradient, even where its own loss is
    infinite.

    A criterion of unknown make is checked: the mean (or sum) of its row-by-row values must be its value for the batch.
    Raises TypeError when it is not (contrastive losses, Dice), and when soft labels come to a criterion that cannot
    take them.
    """

    def __init__(self, criterion: Callable[..., Tensor]) -> None:
        super().__init__()
        if inspect.isclass(criterion):
            raise TypeError(
                f"Loss got the class {criterion.__name__}; write Loss({criterion.__name__}()), around the object that "
                "computes the loss, made with its own arguments"
            )
        if not callable(criterion):
            raise TypeError(f"Loss needs a criterion to call, got {type(criterion).__name__}")
        self.criterion = criterion
        self._ways: dict[bool, _Way] = {}  # by whether it was given soft labels
        self._batches = 0

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The criterion's value for these arguments: ``(output, target, ...)``, both (B, ...), or by keyword."""
        places = places_of(self.criterion, args, kwargs)
        if places is None:
            return self.criterion(*args, **kwargs)
        given = by_place(args, kwargs)
        target: Target = given[places.target]
        if places.output is None:
            return self._without_output(target, args, kwargs)
        output, call = given[places.output], call_without(args, kwargs, places.output, places.target)
        pipeline = pipeline_of(target)
        if pipeline is not None:
            pipeline.observe(target.index, output, target, self._classifies(output))
            target = pipeline.settle(output, target)
        label, weight, soft = target.plain, target._weight, target._soft
        if soft is None and (weight is None or _all_ones(weight)):
            return call.of(self.criterion, output, label)
        if not isinstance(output, Tensor) or output.ndim == 0 or len(output) != len(label):
            what = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise TypeError(
                f"weights and soft labels need an output tensor with the target's {len(label)} rows, got {what}; "
                "pass the logits: criterion(model(images).logits, target)"
            )
        soft = None if soft is None else soft.to(output.device)
        if weight is None:
            weight = torch.ones(len(label), device=output.device)
        else:
            weight = weight.to(output.device)
            # same values, but no gradient to samples of weight 0: 0 · ∞ would be NaN
            output = torch.where(spread(weight, output) != 0, output, output.detach())
        if not len(output) and self._family() is None:
            return call.of(self.criterion, output, label if soft is None else soft)
        return joined(self._apart(output, label, soft, call), weight)

    def _without_output(self, target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call whose output argument is unknown: passed to the criterion; TypeError with weights or soft labels."""
        pipeline = pipeline_of(target)
        weighted = target._soft is not None or not (target._weight is None or _all_ones(target._weight))
        if weighted or (pipeline is not None and pipeline.watches):
            raise TypeError(
                f"{_title(self.criterion)} was called with {len(args) + len(kwargs)} arguments, and which of them is "
                "the model's output cannot be told; call it as criterion(output, target, ...), or name the output's "
                "parameter of your criterion `output` or `logits`"
            )
        if pipeline is not None:
            pipeline.readers.met = True
        return self.criterion(*args, **kwargs)

    def apart(self, output: Tensor, target: Tensor, *args: Any, **kwargs: Any) -> Rows:
        """The criterion taken apart on this batch: output (B, ...) against target (B, ...), as in a call.

        The soft labels of a `Target` stand for its labels; its weights are left for `joined`. Raises TypeError for
        criteria that are not a mean or sum over samples, or cannot take soft labels.
        """
        label, soft = (target.plain, target._soft) if isinstance(target, Target) else (target, None)
        return self._apart(
            output, label, None if soft is None else soft.to(output.device), Call((None, None, *args), kwargs)
        )

    def rows(self, output: Tensor, target: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The losses (B,) of the samples: the criterion's value for each sample alone; arguments as in `apart`.

        A sample whose label is ignored has loss 0; with reduction="none" a sample's loss is the mean of its values.
        """
        losses, counts, reduction = self.apart(output, target, *args, **kwargs).by_sample()
        return losses if reduction == "sum" else losses / torch.where(counts > 0, counts, 1.0)

    def _apart(self, output: Tensor, label: Tensor, soft: Tensor | None, call: Call) -> Rows:
        made = {"classify": self._classified, "compare": self._compared}.get(self._family() or "", self._unknown)
        return made(output, label, soft, call)

    # --- criteria of torch -------------------------------------------------------------------------------------------

    def _family(self) -> str | None:
        """ "classify", "compare", or None for a criterion that is not torch's."""
        family = family_of(self.criterion)
        return None if family is None else "classify" if family is Family.CLASSIFY else "compare"

    def _classifies(self, output: object) -> bool:
        """Whether the outputs are logits of one class a sample: not so for regression and several labels at once."""
        if self._family() != "compare":
            return True
        binary = (nn.BCEWithLogitsLoss, F.binary_cross_entropy_with_logits)  # BCELoss sees no logits
        single = isinstance(output, Tensor) and (output.ndim == 1 or output.shape[1:].numel() == 1)
        function = _function(self.criterion)
        return single and (function is binary[1] or isinstance(function, binary[0]))

    def _settings(self, output: Tensor, target: Tensor, call: Call) -> dict[str, Any]:
        """The settings of a criterion of torch: a module's attributes, or a functional's arguments with defaults."""
        if isinstance(self.criterion, nn.Module):
            names = ("weight", "ignore_index", "label_smoothing", "reduction")
            return {name: getattr(self.criterion, name, None) for name in names}
        args, kwargs = call.filled(output, target)
        bound = inspect.signature(self.criterion).bind(*args, **kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)

    def _unreduced(self, output: Tensor, target: Tensor, call: Call) -> Tensor:
        """The criterion's values before reduction."""
        if hasattr(self.criterion, "reduction"):
            single: Any = copy.copy(self.criterion)  # shares its buffers; only the reduction differs
            single.reduction = "none"
            return call.of(single, output, target)
        return _function(self.criterion)(**{**self._settings(output, target, call), "reduction": "none"})

    def _compared(self, output: Tensor, label: Tensor, soft: Tensor | None, call: Call) -> Rows:
        """Criteria that compare element by element: c_i counts the sample's elements."""
        target = label if soft is None else _as_output(soft, output, self.criterion)
        losses = self._unreduced(output, target, call)
        return Rows(losses, sizes(losses), self._settings(output, target, call)["reduction"])

    def _classified(self, output: Tensor, label: Tensor, soft: Tensor | None, call: Call) -> Rows:
        """Cross entropy and NLL: c_i counts the positions that are not ignored, each with its class weight."""
        settings = self._settings(output, label, call)
        weight, ignored, reduction = settings["weight"], settings["ignore_index"], settings["reduction"]
        if soft is not None:
            losses, kept = self._soft_losses(output, label, soft, settings)
            return Rows(losses, kept.to(wide(losses)), reduction)
        losses = self._unreduced(output, label, call)
        if label.is_floating_point():  # distributions given by the user: torch divides by the count
            return Rows(losses, sizes(losses), reduction)
        kept = label != ignored
        counts = kept.to(wide(losses))
        if weight is not None:
            counts = counts * weight.to(counts.dtype)[torch.where(kept, label, 0)]
        return Rows(losses, per_sample(counts), reduction)

    def _soft_losses(
        self, output: Tensor, label: Tensor, soft: Tensor, settings: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        """Losses (B,) against soft labels (B, K), and which samples are not ignored, as torch takes distributions."""
        if output.ndim != 2:
            raise TypeError(
                f"soft labels (B, K) need logits (B, K), got {tuple(output.shape)}; leave MixUp, CutMix and label "
                "learning out for dense predictions"
            )
        soft, mass = without_ignored(soft.to(output.dtype), output.shape[1], settings["ignore_index"])
        soft, weight = as_wide(soft, output), settings["weight"]
        if settings.get("label_smoothing") is not None:
            smoothing = settings["label_smoothing"]
            losses = F.cross_entropy(output, soft, weight=weight, reduction="none", label_smoothing=smoothing)
        else:  # NLL, which takes classes only in torch
            soft = soft if weight is None else soft * weight.to(soft.dtype)
            losses = -torch.where(soft == 0, 0.0, soft * output).sum(1)  # log 0 of a class without probability
        kept = torch.ones(len(label), dtype=torch.bool, device=output.device)
        if not label.is_floating_point():
            kept = label.reshape(-1).to(output.device) != settings["ignore_index"]
        if mass is None:
            return torch.where(kept, losses, 0.0), kept
        return torch.where(kept, losses * mass, 0.0), kept * mass

    # --- other criteria ----------------------------------------------------------------------------------------------

    def _unknown(self, output: Tensor, label: Tensor, soft: Tensor | None, call: Call) -> Rows:
        target = label
        if soft is not None:
            target = (as_wide(soft, output) if output.ndim == 2 else soft).to(output.dtype)
        way = self._ways.get(soft is not None)
        if way is None:
            way, sure = self._checked(self._tried(output, target, soft, call), output, target, call)
            if sure:
                self._ways[soft is not None] = way
        else:
            self._check_again(way, output, target, soft, call)
        losses = getattr(self, way.method)(output, target, call, way.by_row)
        return Rows(losses, sizes(losses), way.reduction)

    def _check_again(self, way: _Way, output: Tensor, target: Tensor, soft: Tensor | None, call: Call) -> None:
        """Check later batches, too: ignored labels or class weights inside a callable may first matter there.

        A check synchronises an accelerator, so there only batches 2, 4, 8, ... are checked. Raises TypeError.
        """
        self._batches += 1
        if way.reduction == "none" or (output.device.type != "cpu" and self._batches & (self._batches - 1)):
            return
        with torch.no_grad():
            whole = self._tried(output, target, soft, call)
            rows = getattr(self, way.method)(output, target, call, way.by_row)
            if not _agree(rows, whole, way.reduction):
                raise TypeError(self._not_a_mean())

    def _tried(self, output: Tensor, target: Tensor, soft: Tensor | None, call: Call) -> Any:
        """The criterion's value for the batch; TypeError when it cannot take soft labels."""
        if soft is None:
            return call.of(self.criterion, output, target)
        try:
            return call.of(self.criterion, output, target)
        except (TypeError, RuntimeError, ValueError, IndexError, AssertionError) as error:
            raise TypeError(
                f"{_title(self.criterion)} cannot take the soft labels {tuple(soft.shape)} that a stage made: {error}. "
                "Use a criterion that takes distributions, such as nn.CrossEntropyLoss() or timm's "
                "SoftTargetCrossEntropy()"
            ) from error

    def _checked(self, whole: object, output: Tensor, target: Tensor, call: Call) -> tuple[_Way, bool]:
        """The cheapest way that gives the criterion's value for the batch, and whether this batch could tell."""
        if isinstance(whole, (Mapping, tuple, list)):
            raise TypeError(self._several(whole))
        size, reduction = len(output), getattr(self.criterion, "reduction", None)
        if isinstance(whole, Tensor) and whole.ndim > 0 and len(whole) == size:
            return _Way("_as_it_is", False, "none"), size > 1
        joins = {"sum": ("sum",), None: ("mean", "sum")}.get(reduction, ("mean",))
        for by_row in (False, True) if call.row_arguments(size)[0] else (False,):
            for method in ("_without_reduction", "_vectorised", "_one_by_one"):
                try:
                    rows = getattr(self, method)(output, target, call, by_row)
                except (TypeError, RuntimeError, ValueError, AttributeError, IndexError, AssertionError):
                    continue  # this criterion cannot be called this way; the next one is slower and asks for less
                if not isinstance(whole, Tensor) or not whole.is_floating_point() or whole.ndim > 0:
                    break
                if rows.shape != (size,):
                    continue
                for join in joins:
                    if _agree(rows, whole, join):
                        # a single row says nothing about joining rows, nor does a value that is not finite
                        return _Way(method, by_row, join), size > 1 and bool(torch.isfinite(whole))
        raise TypeError(self._not_a_mean())

    def _several(self, losses: Mapping[str, object] | tuple[object, ...] | list[object]) -> str:
        keys = losses if isinstance(losses, Mapping) else range(len(losses))
        shown, first = ", ".join(map(repr, keys)), repr(next(iter(keys), 0))
        return (
            f"{_title(self.criterion)} returns a {type(losses).__name__} ({shown}), and weights and soft labels need "
            f"one loss; with losses = the criterion that you have now, write criterion = smartaug.Loss(lambda output, "
            f"target: losses(output, target)[{first}]), or sum what the loop minimises"
        )

    def _not_a_mean(self) -> str:
        return (
            f"{_title(self.criterion)} is not the mean of per-sample losses (its rows alone do not give its value for "
            "the batch), so samples cannot be weighed in it. Use a criterion that is, such as nn.CrossEntropyLoss(), a "
            "functional whose settings are seen, such as functools.partial(F.cross_entropy, ignore_index=255), or "
            "leave out the stage that makes weights or soft labels"
        )

    def _as_it_is(self, output: Tensor, target: Tensor, call: Call, by_row: bool) -> Tensor:
        return call.of(self.criterion, output, target)

    def _without_reduction(self, output: Tensor, target: Tensor, call: Call, by_row: bool) -> Tensor:
        if not hasattr(self.criterion, "reduction"):
            raise AttributeError("reduction")
        losses = self._unreduced(output, target, call)
        if losses.ndim < 2:
            return losses
        return losses.flatten(1).sum(1) if self.criterion.reduction == "sum" else losses.flatten(1).mean(1)

    def _vectorised(self, output: Tensor, target: Tensor, call: Call, by_row: bool) -> Tensor:
        names, further = call.row_arguments(len(output)) if by_row else ([], [])

        def one(row: Tensor, label: Tensor, *values: Tensor) -> Tensor:
            row_call = call.with_arguments(names, [value[None] for value in values])
            return row_call.of(self.criterion, row[None], label[None]).reshape(())

        return torch.vmap(one)(output, target, *further)

    def _one_by_one(self, output: Tensor, target: Tensor, call: Call, by_row: bool) -> Tensor:
        names, further = call.row_arguments(len(output)) if by_row else ([], [])
        losses = []
        for row, label, *values in zip(*(part.split(1) for part in (output, target, *further)), strict=True):
            losses.append(call.with_arguments(names, values).of(self.criterion, row, label).reshape(()))
        return torch.stack(losses)


def _agree(rows: Tensor, whole: Tensor, join: str) -> bool:
    """Whether the rows' mean or sum is the criterion's value for the batch."""
    joined = rows.double().sum() if join == "sum" else rows.double().mean()
    # bfloat16 has three decimal digits, and the values were rounded before they were joined
    near = max(1e-4, 8 * torch.finfo(whole.dtype).eps)
    return torch.allclose(joined, whole.double(), rtol=near, atol=1e-6, equal_nan=True)


def _all_ones(weight: Tensor) -> bool:
    """Whether all weights are 1. False on an accelerator, where reading them synchronises; the result is the same."""
    return weight.device.type == "cpu" and bool((weight == 1).all())


def _function(criterion: Callable[..., Any]) -> Callable[..., Any]:
    return criterion.func if isinstance(criterion, functools.partial) else criterion


def _title(criterion: Callable[..., Any]) -> str:
    criterion = _function(criterion)
    return getattr(criterion, "__name__", type(criterion).__name__)


def _as_output(soft: Tensor, output: Tensor, criterion: Callable[..., Any]) -> Tensor:
    """Soft labels in the output's shape: element by element, or the second column for a single-logit head."""
    if output.ndim == 2 and soft.shape[1] < output.shape[1]:
        soft = as_wide(soft, output)
    if soft.numel() == output.numel():
        return soft.reshape(output.shape).to(output.dtype)
    if soft.shape[1] == 2 and output.numel() == len(output):
        return soft[:, 1].reshape(output.shape).to(output.dtype)
    made, given = f"soft labels {tuple(soft.shape)}", f"the output {tuple(output.shape)}"
    if family_of(criterion) is Family.VALUES:
        raise TypeError(
            f"{_title(criterion)} compares element by element, and {made} do not fit {given}: whole numbers were taken "
            "for class numbers; for a regression write MixUp(regression=True), or CutMix, for "
            "classes use nn.CrossEntropyLoss()"
        )
    raise TypeError(
        f"{_title(criterion)} compares element by element: {made} do not fit {given}; give the model {soft.shape[1]} "
        "outputs or use nn.CrossEntropyLoss()"
    )
