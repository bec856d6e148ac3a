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
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._base import leaves
from ._base.labels import Family, family_of
from ._base.names import suggest_keywords
from .batch import Target
from .grads.pairs import pairs_of
from .grads.positions import Settings, position_losses
from .pipeline.losses.arguments import Call, by_place, call_without, places_of
from .pipeline.losses.rows import Rows, as_wide, joined, per_sample, sizes, spread, wide, without_ignored
from .pipeline.losses.unknown import UnknownCriterion, title
from .pipeline.pipeline import pipeline_of


class Loss(nn.Module):
    """``criterion = smartaug.Loss(nn.CrossEntropyLoss())``; call it as the criterion: ``criterion(output, target)``.

    criterion: a loss module or functional of torch or timm, or any callable ``(output, target, ...) -> loss``, called
    by position or by keyword, as the criterion itself. Without a `Target` among the arguments, all of them go to the
    criterion untouched, and what it returns comes back; so they do where the target has no weights or soft labels.
    Dense predictions are summed per sample first, so w_i weighs the sample. A criterion with reduction="sum" gives
    Σ w_i ℓ_i, "none" w_i ℓ_i. A sample of weight 0 adds nothing to the loss or its gradient, even where its own loss is
    infinite.

    A criterion of unknown make is checked: the mean (or sum) of its row-by-row values must be its value for the batch.
    Its output may be a dict, tuple or list of tensors (B, ...). Raises TypeError when the rows are not its value for
    the batch (other contrastive losses than `smartaug.ContrastiveLoss`, Dice over the batch), and when soft labels come
    to a criterion that cannot take them.

    per_sample: where there are weights or soft labels, ℓ_i is the criterion's value for sample i alone, a batch of one,
    and the loss their weighted mean, whatever the criterion makes of a whole batch: Dice of each picture, cross entropy
    of each picture's own positions. A sample for which the criterion has no value alone (all positions ignored) does
    not count.
    """

    @suggest_keywords
    def __init__(self, criterion: Callable[..., Tensor], *, per_sample: bool = False) -> None:
        super().__init__()
        if inspect.isclass(criterion):
            raise TypeError(
                f"Loss got the class {criterion.__name__}; write Loss({criterion.__name__}()), around the object that "
                "computes the loss, made with its own arguments"
            )
        if not callable(criterion):
            raise TypeError(f"Loss needs a criterion to call, got {type(criterion).__name__}")
        if not isinstance(per_sample, bool):
            raise TypeError(f"per_sample must be True or False, got {per_sample!r}; write Loss(criterion)")
        if per_sample and pairs_of(criterion) is not None:
            raise ValueError(
                "ContrastiveLoss compares pairs with each other: alone they have no loss; leave per_sample out"
            )
        self.criterion, self.per_sample = criterion, per_sample
        self._unknown = UnknownCriterion(per_sample)

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
            shown = self._with_ignored(target) if pipeline.watches else target
            pipeline.observe(target.index, output, shown, self._classifies(output))
            target = pipeline.settle(output, target)
        label, weight, soft = target.plain, target._weight, target.current_soft()
        plain = weight is None or (_all_ones(weight) and not self.per_sample)
        if soft is None and plain:
            return call.of(self.criterion, output, label)
        main = self._main(output, len(label))
        soft = None if soft is None else soft.to(main.device)
        if weight is None:
            weight = torch.ones(len(label), device=main.device)
        else:
            weight = weight.to(main.device)
            # a pair of weight 0 stays what other pairs are told apart from
            output = output if self._family() == "pairs" else _without_gradient(output, weight == 0)
        if not len(main) and self._family() is None:
            return call.of(self.criterion, output, label if soft is None else soft)
        return joined(self._apart(output, label, soft, call), weight)

    def _main(self, output: Any, rows: int) -> Tensor:
        """The first tensor of the model's output; TypeError unless its tensors have ``rows`` rows each."""
        pairs = pairs_of(self.criterion)
        output = output if pairs is None else list(pairs.features(output))
        parts = [output] if isinstance(output, Tensor) else [leaf for _, leaf in leaves.walk(output)]
        tensors = [part for part in parts if isinstance(part, Tensor)]
        several = not isinstance(output, Tensor)
        takes_several = self._family() in (None, "pairs")
        if tensors and all(part.ndim and len(part) == rows for part in tensors) and (not several or takes_several):
            return tensors[0]
        what = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        remedy = "pass the logits: criterion(model(images).logits, target)"
        if several and len(tensors) > 1:
            remedy += (
                ", or weigh each prediction: criterion(output['out'], target) + 0.5 * criterion(output['aux'], target)"
            )
        raise TypeError(
            f"weights and soft labels need an output tensor with the target's {rows} rows, got {what}; {remedy}"
        )

    def _without_output(self, target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call whose output argument is unknown: passed to the criterion; TypeError with weights or soft labels."""
        pipeline = pipeline_of(target)
        weighted = target._soft is not None or not (target._weight is None or _all_ones(target._weight))
        if weighted or (pipeline is not None and pipeline.watches):
            raise TypeError(
                f"{title(self.criterion)} was called with {len(args) + len(kwargs)} arguments, and which of them is "
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
        label, soft = (target.plain, target.current_soft()) if isinstance(target, Target) else (target, None)
        soft = None if soft is None else soft.to(self._main(output, len(label)).device)
        return self._apart(output, label, soft, Call((None, None, *args), kwargs))

    def rows(self, output: Tensor, target: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The losses (B,) of the samples: the criterion's value for each sample alone; arguments as in `apart`.

        A sample whose label is ignored has loss 0; with reduction="none" a sample's loss is the mean of its values.
        """
        losses, counts, reduction = self.apart(output, target, *args, **kwargs).by_sample()
        return losses if reduction == "sum" else losses / torch.where(counts > 0, counts, 1.0)

    def _apart(self, output: Tensor, label: Tensor, soft: Tensor | None, call: Call) -> Rows:
        family = self._family()
        if family is None:
            return self._other(output, label, soft, call)
        if family == "pairs":
            return self._of_pairs(output, soft, call)
        rows = (self._classified if family == "classify" else self._compared)(output, label, soft, call)
        if not self.per_sample or rows.reduction != "mean":
            return rows
        losses, counts, _ = rows.by_sample()
        counted = counts > 0
        return Rows(losses / torch.where(counted, counts, 1.0), counted.to(counts.dtype), "mean")

    def _of_pairs(self, output: Any, soft: Tensor | None, call: Call) -> Rows:
        """The losses of pairs; soft: labels over pairs that a stage made, in place of those of the call."""
        pairs = pairs_of(self.criterion)
        assert pairs is not None
        given = call.kwargs.get("soft")
        if soft is not None and given is not None:
            raise ValueError("a stage made soft labels for this batch, and soft= gives others; leave one of them out")
        losses = pairs.losses(output, soft=given if soft is None else soft)
        return Rows(losses, torch.ones_like(losses), "mean")

    def _other(self, output: Any, label: Tensor, soft: Tensor | None, call: Call) -> Rows:
        """A criterion that is not torch's."""
        if soft is None:
            return self._unknown.rows(self.criterion, output, label, False, call)
        main = self._main(output, len(label))
        target = (as_wide(soft, main) if main.ndim == soft.ndim else soft).to(main.dtype)
        return self._unknown.rows(self.criterion, output, target, True, call)

    def _with_ignored(self, target: Target) -> Target:
        """The target, in whose map the positions of an ignored class are −1, as no class is."""
        ignored = getattr(self.criterion, "ignore_index", getattr(self.criterion, "keywords", {}).get("ignore_index"))
        plain = target.plain
        if plain.ndim < 2 or plain.is_floating_point() or not isinstance(ignored, int) or ignored < 0:
            return target
        made = torch.where(plain == ignored, -1, plain.long())
        return Target(made, target._weight, target._soft, target.index, target._key, target._mixed)

    # --- criteria of torch -------------------------------------------------------------------------------------------

    def _family(self) -> str | None:
        """ "classify", "compare" or "pairs"; None for a criterion that is neither torch's nor ours."""
        if pairs_of(self.criterion) is not None:
            return "pairs"
        family = family_of(self.criterion)
        return None if family is None else "classify" if family is Family.CLASSIFY else "compare"

    def _classifies(self, output: object) -> bool:
        """Whether the outputs are logits of one class a sample: not so for regression and several labels at once."""
        if self._family() != "compare":
            return self._family() != "pairs"
        binary = (nn.BCEWithLogitsLoss, F.binary_cross_entropy_with_logits)  # BCELoss sees no logits
        single = isinstance(output, Tensor) and (
            output.ndim == 1 or output.shape[1:].numel() == 1 or (output.ndim > 2 and output.shape[1] == 1)
        )
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
        """Losses (B, ...) against soft labels (B, K, ...), and the counts (B,), as torch takes distributions."""
        if output.ndim != soft.ndim or output.shape[2:] != soft.shape[2:] or output.ndim < 2:
            shape = "K" + ", ..." * (soft.ndim > 2)
            raise TypeError(
                f"soft labels (B, {shape}) need logits (B, {shape}), got {tuple(output.shape)} for "
                f"{tuple(soft.shape)}; dense predictions take soft labels of the same positions, others leave out "
                "MixUp, CutMix and label learning"
            )
        if soft.ndim > 2:
            smoothing = settings.get("label_smoothing")
            own = Settings(settings["weight"], settings["ignore_index"], smoothing)
            losses, counts = position_losses(output, soft, own)
            return losses, per_sample(counts)
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


def _all_ones(weight: Tensor) -> bool:
    """Whether all weights are 1. False on an accelerator, where reading them synchronises; the result is the same."""
    return weight.device.type == "cpu" and bool((weight == 1).all())


def _function(criterion: Callable[..., Any]) -> Callable[..., Any]:
    return criterion.func if isinstance(criterion, functools.partial) else criterion


def _without_gradient(output: Any, where: Tensor) -> Any:
    """The same values, but no gradient to the samples ``where`` (B,), whose weight is 0: 0 · ∞ would be NaN."""
    return leaves.each(output, lambda part: torch.where(spread(where, part), part.detach(), part))


def _as_output(soft: Tensor, output: Tensor, criterion: Callable[..., Any]) -> Tensor:
    """Soft labels in the output's shape: element by element, or the second column for a single-logit head."""
    if output.ndim == soft.ndim and output.shape[2:] == soft.shape[2:] and soft.shape[1] < output.shape[1]:
        soft = as_wide(soft, output)
    if soft.numel() == output.numel():
        return soft.reshape(output.shape).to(output.dtype)
    if soft.shape[1] == 2 and output.numel() == soft[:, 1].numel():
        return soft[:, 1].reshape(output.shape).to(output.dtype)
    made, given = f"soft labels {tuple(soft.shape)}", f"the output {tuple(output.shape)}"
    if family_of(criterion) is Family.VALUES:
        raise TypeError(
            f"{title(criterion)} compares element by element, and {made} do not fit {given}: whole numbers were taken "
            "for class numbers; for a regression write MixUp(regression=True), or CutMix, for "
            "classes use nn.CrossEntropyLoss()"
        )
    raise TypeError(
        f"{title(criterion)} compares element by element: {made} do not fit {given}; give the model {soft.shape[1]} "
        "outputs or use nn.CrossEntropyLoss()"
    )
