"""Criteria that are not torch's: their losses sample by sample, where that is what the criterion computes.

What: the cheapest way to the criterion's values for each sample alone: the criterion without its reduction, under
`torch.vmap`, or called row by row. Its rows must be what the criterion gives for these samples alone, and their mean
(or sum) its value for the batch; with ``per_sample`` the user says that the mean of the rows is meant all the same.
When: `smartaug.Loss` has weights or soft labels for such a criterion. Cost: a second call of the criterion; row by row
B calls. Reference: none.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..._base import leaves
from ...grads.positions import only_defined
from .arguments import Call
from .rows import Rows, sizes

Criterion = Callable[..., Any]  # returns what it likes; only tensors can be weighed
Output = Any  # a tensor (B, ...), or a dict, tuple or list of such: the model's own

_REFUSALS = (TypeError, RuntimeError, ValueError, AttributeError, IndexError, AssertionError)


class Way(NamedTuple):
    """How the per-sample losses of a criterion are computed, once checked."""

    method: str
    by_row: bool  # whether further arguments with B rows are split by row, too
    reduction: str


class UnknownCriterion:
    """The ways to take one criterion apart. per_sample: whether its rows alone are meant, whatever it makes of a batch.

    Without ``per_sample`` raises TypeError where the rows do not give the criterion's value for the batch.
    """

    def __init__(self, per_sample: bool) -> None:
        self.per_sample = per_sample
        self.ways: dict[bool, Way] = {}  # by whether the criterion was given soft labels
        self.batches = 0

    def rows(self, criterion: Criterion, output: Output, target: Tensor, soft: bool, call: Call) -> Rows:
        """The criterion before reduction; target (B, ...): labels, or soft labels where ``soft``."""
        tried = functools.partial(_tried, criterion, output, target, soft, call)
        if self.per_sample:
            return self._alone(criterion, output, target, soft, call, tried)
        way = self.ways.get(soft)
        if way is None:
            way, sure = _checked(criterion, tried(), output, target, call)
            if sure:
                self.ways[soft] = way
        else:
            self._check_again(way, criterion, output, target, call, tried)
        losses = _METHODS[way.method](criterion, output, target, call, way.by_row)
        return Rows(losses, sizes(losses), way.reduction)

    def _check_again(
        self, way: Way, criterion: Criterion, output: Output, target: Tensor, call: Call, tried: Callable[[], Any]
    ) -> None:
        """Check later batches, too: ignored labels or class weights inside a callable may first matter there.

        A check synchronises an accelerator, so there only batches 2, 4, 8, ... are checked. Raises TypeError.
        """
        self.batches += 1
        if way.reduction == "none" or (target.device.type != "cpu" and self.batches & (self.batches - 1)):
            return
        with torch.no_grad():
            rows = _METHODS[way.method](criterion, output, target, call, way.by_row)
            if not _agree(rows, tried(), way.reduction):
                raise TypeError(_not_a_mean(criterion))

    def _alone(
        self,
        criterion: Criterion,
        output: Output,
        target: Tensor,
        soft: bool,
        call: Call,
        tried: Callable[[], Any],
    ) -> Rows:
        """The value of the criterion for each sample alone; waits for an accelerator, to look for undefined ones."""
        reduction = "sum" if getattr(criterion, "reduction", None) == "sum" else "mean"
        way = self.ways.get(soft)
        if way is not None and way.method == "vectorised":
            losses = _vectorised(criterion, output, target, call, way.by_row)
            if not bool(losses.detach().isnan().any()):
                return Rows(losses, sizes(losses), reduction)
        values = _values_alone(criterion, output, target, soft, call, True)
        if values[0].ndim > 0:
            losses = torch.cat(values)
            return Rows(losses, sizes(losses), "none")
        losses, counted = only_defined(values, _main(output).split(1), tried)
        if way is None:
            self.ways[soft] = Way(_faster(criterion, output, target, call, losses), True, reduction)
        return Rows(losses, counted.to(sizes(losses)), reduction)


def _faster(criterion: Criterion, output: Output, target: Tensor, call: Call, losses: Tensor) -> str:
    """ "vectorised" where that gives the same losses (B,), else "one_by_one"."""
    try:
        with torch.no_grad():
            same = _same(_vectorised(criterion, output, target, call, True), losses)
    except _REFUSALS:
        return "one_by_one"
    return "vectorised" if same else "one_by_one"


def _tried(
    criterion: Criterion, output: Output, target: Tensor, soft: bool, call: Call, shape: torch.Size | None = None
) -> Any:
    """The criterion's value; TypeError when it cannot take soft labels. shape: that of all of them, for the error."""
    shape = target.shape if shape is None else shape
    if not soft:
        return call.of(criterion, output, target)
    try:
        return call.of(criterion, output, target)
    except (TypeError, RuntimeError, ValueError, IndexError, AssertionError) as error:
        raise TypeError(
            f"{title(criterion)} cannot take the soft labels {tuple(shape)} that a stage made: {error}. "
            "Use a criterion that takes distributions, such as nn.CrossEntropyLoss() or timm's "
            "SoftTargetCrossEntropy()"
        ) from error


def _checked(criterion: Criterion, whole: object, output: Output, target: Tensor, call: Call) -> tuple[Way, bool]:
    """The cheapest way that gives the criterion's value for the batch, and whether this batch could tell."""
    _refuse_several(criterion, whole)
    size, reduction = len(target), getattr(criterion, "reduction", None)
    by_rows = (False, True) if call.row_arguments(size)[0] else (False,)
    if isinstance(whole, Tensor) and whole.ndim > 0 and len(whole) == size:
        # not rows by their number alone: it may be one value for each of as many classes
        if any(_are_rows("as_it_is", whole, criterion, output, target, call, by_row) for by_row in (True, *by_rows)):
            return Way("as_it_is", False, "none"), size > 1
        raise TypeError(_not_a_mean(criterion))
    joins = {"sum": ("sum",), None: ("mean", "sum")}.get(reduction, ("mean",))
    for by_row in by_rows:
        for method in ("without_reduction", "vectorised", "one_by_one"):
            try:
                rows = _METHODS[method](criterion, output, target, call, by_row)
            except _REFUSALS:
                continue  # this criterion cannot be called this way; the next one is slower and asks for less
            if not isinstance(whole, Tensor) or not whole.is_floating_point() or whole.ndim > 0:
                break
            if rows.shape != (size,):
                continue
            for join in joins:
                if _agree(rows, whole, join) and _are_rows(method, rows, criterion, output, target, call, by_row):
                    # a single row says nothing about joining rows, nor does a value that is not finite
                    return Way(method, by_row, join), size > 1 and bool(torch.isfinite(whole))
    raise TypeError(_not_a_mean(criterion))


def _are_rows(
    method: str, rows: Tensor, criterion: Criterion, output: Output, target: Tensor, call: Call, by_row: bool
) -> bool:
    """Whether the first and the last of ``rows`` are what the method gives for these samples alone."""
    if method in ("vectorised", "one_by_one"):
        return True  # by construction
    names, further = call.row_arguments(len(target)) if by_row else ([], [])
    try:
        with torch.no_grad():
            for row in {0, len(target) - 1}:
                piece = slice(row, row + 1)
                row_call = call.with_arguments(names, [value[piece] for value in further])
                alone = _METHODS[method](criterion, _rows_of(output, piece), target[piece], row_call, by_row)
                if alone.numel() != rows[piece].numel() or not _same(alone.reshape(-1), rows[piece].reshape(-1)):
                    return False
    except _REFUSALS:
        return False
    return True


# --- the ways --------------------------------------------------------------------------------------------------------


def _as_it_is(criterion: Criterion, output: Output, target: Tensor, call: Call, by_row: bool) -> Tensor:
    return call.of(criterion, output, target)


def _without_reduction(criterion: Criterion, output: Output, target: Tensor, call: Call, by_row: bool) -> Tensor:
    if not hasattr(criterion, "reduction"):
        raise AttributeError("reduction")
    single: Any = copy.copy(criterion)  # shares its buffers; only the reduction differs
    single.reduction = "none"
    losses = call.of(single, output, target)
    if losses.ndim < 2:
        return losses
    return losses.flatten(1).sum(1) if criterion.reduction == "sum" else losses.flatten(1).mean(1)


def _vectorised(criterion: Criterion, output: Output, target: Tensor, call: Call, by_row: bool) -> Tensor:
    names, further = call.row_arguments(len(target)) if by_row else ([], [])
    paths = [path for path, leaf in leaves.walk(output) if isinstance(leaf, Tensor)]

    def one(rows: list[Tensor], label: Tensor, *values: Tensor) -> Tensor:
        row_call = call.with_arguments(names, [value[None] for value in values])
        row = output
        for path, part in zip(paths, rows, strict=True):
            row = leaves.put(row, path, part[None])
        return row_call.of(criterion, row, label[None]).reshape(())

    return torch.vmap(one)([leaves.get(output, path) for path in paths], target, *further)


def _one_by_one(criterion: Criterion, output: Output, target: Tensor, call: Call, by_row: bool) -> Tensor:
    values = _values_alone(criterion, output, target, False, call, by_row)
    return torch.stack([value.reshape(()) for value in values])


def _values_alone(
    criterion: Criterion, output: Output, target: Tensor, soft: bool, call: Call, by_row: bool
) -> list[Tensor]:
    """The criterion's value for each sample alone: all scalars, or all with one row.

    Raises TypeError for several losses, and for values that are neither.
    """
    names, further = call.row_arguments(len(target)) if by_row else ([], [])
    made = []
    for row in range(len(target)):
        piece = slice(row, row + 1)
        row_call = call.with_arguments(names, [value[piece] for value in further])
        value = _tried(criterion, _rows_of(output, piece), target[piece], soft, row_call, target.shape)
        _refuse_several(criterion, value)
        if not isinstance(value, Tensor) or (value.ndim > 0 and len(value) != 1):
            what = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise TypeError(
                f"{title(criterion)} gives {what} for one sample, and a sample needs one loss; write reduction='mean', "
                "or a function that averages it: smartaug.Loss(lambda output, target: criterion(output, target).mean())"
            )
        made.append(value)
    return made


_METHODS: dict[str, Callable[[Criterion, Output, Tensor, Call, bool], Tensor]] = {
    "as_it_is": _as_it_is,
    "without_reduction": _without_reduction,
    "vectorised": _vectorised,
    "one_by_one": _one_by_one,
}


def _rows_of(output: Output, piece: slice) -> Output:
    return output[piece] if isinstance(output, Tensor) else leaves.each(output, lambda part: part[piece])


def _main(output: Output) -> Tensor:
    """The first tensor of an output."""
    return next(leaf for _, leaf in leaves.walk(output) if isinstance(leaf, Tensor))


# --- what is compared, and what is said -------------------------------------------------------------------------------


def _agree(rows: Tensor, whole: Tensor, join: str) -> bool:
    """Whether the rows' mean or sum is the criterion's value for the batch."""
    return _same(rows.double().sum() if join == "sum" else rows.double().mean(), whole)


def _same(values: Tensor, others: Tensor) -> bool:
    # bfloat16 has three decimal digits, and the values were rounded before they were joined
    near = max(1e-4, 8 * torch.finfo(others.dtype).eps) if others.is_floating_point() else 0.0
    return torch.allclose(values.double(), others.double(), rtol=near, atol=1e-6, equal_nan=True)


def _refuse_several(criterion: Criterion, losses: object) -> None:
    if not isinstance(losses, (Mapping, tuple, list)):
        return
    keys = losses if isinstance(losses, Mapping) else range(len(losses))
    shown, first = ", ".join(map(repr, keys)), repr(next(iter(keys), 0))
    raise TypeError(
        f"{title(criterion)} returns a {type(losses).__name__} ({shown}), and weights and soft labels need "
        f"one loss; with losses = the criterion that you have now, write criterion = smartaug.Loss(lambda output, "
        f"target: losses(output, target)[{first}]), or sum what the loop minimises"
    )


def _not_a_mean(criterion: Criterion) -> str:
    return (
        f"{title(criterion)} is not the mean of per-sample losses (its rows alone do not give its value for "
        "the batch), so samples cannot be weighed in it. Use a criterion that is, such as nn.CrossEntropyLoss(), a "
        "functional whose settings are seen, such as functools.partial(F.cross_entropy, ignore_index=255); where its "
        "value for each sample alone is what you mean (Dice, ignored positions), write smartaug.Loss(criterion, "
        "per_sample=True); or leave out the stage that makes weights or soft labels"
    )


def title(criterion: Criterion) -> str:
    """The name of a criterion in errors."""
    criterion = criterion.func if isinstance(criterion, functools.partial) else criterion
    return getattr(criterion, "__name__", type(criterion).__name__)
