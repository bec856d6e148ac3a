"""The reweighting half of the pipeline: calls the user's reweighter, and validates its weights and soft labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from .._base import leaves, ranks
from .._base.contrastive import own_labels
from .._base.labels import Kind, kind_of, one_hot_map
from .._base.real_samples import real_samples
from ..augment.plan import Trace
from ..batch import Batch, Target
from ..grads.logits import distributions
from ..grads.pairs import pairs_of
from ..reweight.weights import checked_results
from ..warnings import warn
from .stages import in_stage, name_of

T = TypeVar("T")


class Reweighter(Protocol):
    """What ``reweight=`` takes: per-sample weights and soft labels for a batch.

    Optional: ``state_dict()``/``load_state_dict(state)`` are kept in the loader's state, ``stats()`` is shown in its
    stats; ``attach(dataset)`` is called once with the training set, ``read_as(inputs=..., target=...)`` with the
    loader's keywords, so that validation samples are read like its batches; ``begin(epoch)`` before an epoch's first
    batch; ``settle(output, target)`` is called by `smartaug.Loss` and may give weights and labels then, or None.
    """

    def __call__(self, batch: Batch, trace: Trace) -> tuple[Tensor | None, Tensor | None]:
        """``(weight, soft)``: (B,) with mean 1 and (B, K) rows summing to 1; None leaves them as they are.

        Soft labels of a map are (B, K, ...), of all its positions; rows of ignored positions are 0.
        """
        ...


class Weighing:
    """A reweighter, or None, and the number of batches for which its weights or labels were not finite."""

    _of_pairs = False  # of pickles of earlier versions

    def __init__(self, reweight: Reweighter | None) -> None:
        self.reweight = reweight
        self._real: Tensor | None = None  # (n,) bool: samples that are not weighed
        self._begun: int | None = None  # the epoch that the reweighter began last
        self._results = 0
        self._fallbacks = 0
        self._uncounted: Tensor | None = None  # fallbacks on an accelerator, read when asked for
        self._of_pairs = pairs_of(getattr(reweight, "criterion", None)) is not None  # its labels are pairs of the batch

    @property
    def late(self) -> bool:
        """Whether the reweighter makes weights and labels in `smartaug.Loss`, from the loop's own output."""
        return getattr(self.reweight, "when", "batch") == "loss"

    def attach(self, dataset: object) -> None:
        """Call the reweighter's ``attach(dataset)``, and look up which samples are real (`Generated`)."""
        self._real = real_samples(dataset)
        attach = getattr(self.reweight, "attach", None)
        if attach is not None:
            attach(dataset)

    def begin(self, epoch: int) -> None:
        """Call the reweighter's ``begin(epoch)`` once per epoch, before anything is drawn."""
        begin = getattr(self.reweight, "begin", None)
        if begin is not None and epoch != self._begun:
            begin(epoch)
            self._begun = epoch

    def weighed(self, batch: Batch, trace: Trace, plain: Tensor | None = None) -> Batch:
        """The batch with the reweighter's weights and labels; unchanged without a reweighter.

        plain: (B,) bool rows beside which a coreset put augmented copies, which alone are weighed; None: all are.
        """
        reweight = self.reweight
        if reweight is None:
            return batch
        given = batch._replace(target=batch.target.plain) if isinstance(batch.target, Target) else batch
        length = leaves.rows_of(batch.inputs)
        result = self._called(lambda: checked_results(reweight(given, trace), length), batch.index, batch.inputs)
        return self._with(result, batch, self._unweighed(batch, length, plain))

    def settled(self, output: object, target: Target) -> Batch | None:
        """A `Batch` with the weights and labels that the reweighter's ``settle`` makes; None where it makes none."""
        ask = getattr(self.reweight, "settle", None)
        made = None if ask is None else self._called(lambda: ask(output, target), target.index, output)
        if made is None:
            return None
        result = self._called(lambda: checked_results(made, len(target)), target.index, output)
        batch = Batch(None, target.plain, target._weight, target._soft, target.index)
        return self._with(result, batch, self._unweighed(batch, len(target), None))

    def _unweighed(self, batch: Batch, length: int, plain: Tensor | None) -> Tensor | None:
        """(B,) bool: the rows that keep weight 1 and their own label; None where the method weighs all.

        They are real samples (`Generated`), and rows that a coreset's augmented copies stand beside.
        """
        if self._real is None:
            return plain
        if batch.index is None:
            raise ValueError(
                f"reweight= tells real from generated samples by index, and the collate function made {length} rows "
                "that are not its samples; let it keep one row a sample"
            )
        real = self._real[batch.index.cpu()]
        return real if plain is None else real & plain

    def _called(self, ask: Callable[[], T], index: Tensor | None, shown: object) -> T:
        """``ask()``; its errors are raised again with the reweighter's name, samples and ``shown``."""
        try:
            return ask()
        except Exception as error:
            raise in_stage(error, f"reweight stage {name_of(self.reweight)}", index, shown) from error

    def _with(self, result: tuple[Tensor | None, Tensor | None], batch: Batch, unweighed: Tensor | None) -> Batch:
        """The batch with valid weights and labels; the reweighter's weights are multiplied by the coreset's.

        unweighed: (B,) bool rows that keep weight 1 and their own label, or None.
        """
        weight, soft = self._finite(*result, batch)
        self._results += 1
        try:
            self._check(weight, soft, batch)
        except ValueError as error:
            raise in_stage(error, f"reweight stage {name_of(self.reweight)}", batch.index, batch.target) from error
        if unweighed is not None:
            weight, soft = self._but(unweighed, weight, soft, batch)
        if weight is not None and batch.weight is not None:
            weight = weight * batch.weight.to(weight.device)  # coreset weights stay in force
        weight = batch.weight if weight is None else weight.detach()
        return batch._replace(weight=weight, soft=batch.soft if soft is None else soft.detach())

    def _finite(self, weight: Tensor | None, soft: Tensor | None, batch: Batch) -> tuple[Tensor | None, Tensor | None]:
        """Weight 1 and the upstream labels for a batch whose weights or labels are not finite; counted."""
        made = [part for part in (weight, soft) if part is not None]
        if not made:
            return weight, soft
        # squared: a weight such as 1e38 is finite, but the loss it multiplies overflows float32
        bad = torch.stack([~torch.isfinite(part.float().square()).all() for part in made]).any()
        if bad.device.type == "cpu":
            if bad:
                self._fallbacks += 1
                self._warn_fallback()
                return None, None
            return weight, soft
        # without reading the device, which would synchronise it: both the choice and the count stay on it
        self._uncounted = bad.long() if self._uncounted is None else self._uncounted + bad
        if weight is not None:
            weight = torch.where(bad, torch.ones_like(weight), weight)
        if soft is not None:
            soft = torch.where(bad, self._own_labels(batch, soft), soft)
        return weight, soft

    def _check(self, weight: Tensor | None, soft: Tensor | None, batch: Batch) -> None:
        """Raise a ValueError for negative or all-zero weights, and for soft labels that are not distributions.

        Reading values synchronises an accelerator, so there only batches 1, 2, 4, 8, ... are checked.
        """

        def looks(part: Tensor | None) -> bool:
            return part is not None and (part.device.type == "cpu" or self._results & (self._results - 1) == 0)

        if weight is not None and len(weight) and looks(weight):
            low = float(weight.min())
            if low < 0:
                raise ValueError(f"weight must not be negative, it holds {low:g}; write weight.clamp_min(0)")
            if not float(weight.max()) > 0:
                raise ValueError(
                    f"weight is 0 for all {len(weight)} samples, so nothing would be learned; return None for weights "
                    "that change nothing"
                )
        if soft is not None and len(soft) and looks(soft):
            _check_labels(soft, batch._replace(target=None) if self._of_pairs else batch)

    def _but(
        self, unweighed: Tensor, weight: Tensor | None, soft: Tensor | None, batch: Batch
    ) -> tuple[Tensor | None, Tensor | None]:
        """Weight 1 and their own labels for the rows ``unweighed`` (B,); the weights of the others get mean 1.

        The mean is over the batches of all ranks. Weights that are 0 for all the others stay 0.
        """
        if weight is not None:
            kept = unweighed.to(weight.device)
            others = torch.where(kept, 0.0, weight)
            total, count = ranks.total(torch.stack([others.sum(), (~kept).sum().to(weight.dtype)]))
            mean = total / count.clamp_min(1)
            scaled = others / torch.where(mean > 0, mean, torch.ones_like(mean))
            weight = torch.where(kept, torch.ones_like(weight), scaled)
        if soft is not None:
            kept = unweighed.to(soft.device).reshape(-1, *[1] * (soft.ndim - 1))
            soft = torch.where(kept, self._own_labels(batch, soft), soft)
        return weight, soft

    def _own_labels(self, batch: Batch, soft: Tensor) -> Tensor:
        """The labels that the batch came with, in the form of its soft labels (B, K, ...)."""
        upstream = batch.soft
        if upstream is None and self._of_pairs:
            upstream = own_labels(soft)
        elif upstream is None and soft.ndim > 2:
            upstream = one_hot_map(batch.target.reshape(len(soft), *soft.shape[2:]), soft.shape[1], soft.dtype)
        elif upstream is None:
            upstream = distributions(batch.target, soft.shape[1])
        return upstream.to(soft.device, soft.dtype)

    def fallbacks(self) -> int:
        """How many batches fell back to weight 1 and their own labels."""
        if self._uncounted is not None:
            self._fallbacks += int(self._uncounted)
            self._uncounted = None
            if self._fallbacks:
                self._warn_fallback()
        return self._fallbacks

    def _warn_fallback(self) -> None:
        if self._fallbacks == 1:
            warn(
                f"{name_of(self.reweight)} made weights or labels that are not finite; such batches keep weight 1 and "
                'their own labels. loader.stats()["fallbacks"] counts them; look for NaN in the model\'s outputs'
            )

    def explain(self, device: str) -> list[tuple[str, str, str]]:
        """The reweighter's row in the table of stages, if there is one."""
        if self.reweight is None:
            return []
        why = "in smartaug.Loss, with the loop's logits" if self.late else "at hand-over, with the model as it is then"
        return [(f"reweight: {name_of(self.reweight)}", device, why)]


def _check_labels(soft: Tensor, batch: Batch) -> None:
    """ValueError unless soft labels (B, K, ...) are labels for the batch's target: rows of its width, distributions."""
    target = batch.target
    if soft.ndim > 2:
        _check_positions(soft, target)
    wide = isinstance(target, Tensor) and target.is_floating_point() and target.ndim == 2 and target.shape[1] > 1
    if wide and soft.shape[1] < target.shape[1]:
        raise ValueError(f"soft has {soft.shape[1]} columns and the target {target.shape[1]}; it must have as many")
    if isinstance(target, Tensor) and kind_of(target.cpu()) in (Kind.SEVERAL, Kind.VALUES):
        return  # columns of their own
    low, sums = float(soft.min()), soft.float().sum(1)
    near = max(1e-3, 16 * torch.finfo(soft.dtype).eps)
    off = (sums - 1).abs() if soft.ndim == 2 else sums - 1  # a position may be ignored, in part or as a whole
    if low < -near:
        raise ValueError(f"soft must hold probabilities, it holds {low:g}; write scores.softmax(1)")
    if float(off.max()) > near:
        off, sums = (part.reshape(len(soft), -1).amax(1) for part in (off, sums))
        row = int(off.argmax())
        raise ValueError(
            f"rows of soft must sum to 1, row {row} sums to {float(sums[row]):g}; write scores.softmax(1), or "
            "soft / soft.sum(1, keepdim=True)"
        )
    if isinstance(target, Tensor) and not target.is_floating_point() and target.numel() == len(soft):
        largest = int(target.max())
        if largest >= soft.shape[1]:
            raise ValueError(
                f"soft has {soft.shape[1]} columns and the batch a label {largest}; it must have one for each class"
            )


def _check_positions(soft: Tensor, target: object) -> None:
    """ValueError unless soft labels (B, K, ...) are of the positions of the map ``target``."""
    places = tuple(soft.shape[2:])
    shape = tuple(target.shape) if isinstance(target, Tensor) else ()
    if places not in (shape[1:], shape[2:]):
        raise ValueError(
            f"soft has shape {tuple(soft.shape)}, labels of the positions {places}, and the target is {shape}; give it "
            "the positions of the target: (B, K, *target.shape[1:])"
        )
