"""What plans do to rows of features (B, F) and to sequences (B, T, F).

What: MixUp blends whole samples; CutMix takes some features of each row from its partner, drawn without order since
columns of a table have none, and of sequences one span of time with all its features. Labels follow by the share that
stayed. When: tables and sensor data. Cost: one extra read of the batch. Reference: Somepalli et al., "SAINT", 2021
(CutMix of tables by a random mask over features); Yun et al., "CutMix", ICCV 2019, whose rectangle is the span here.
Difference: SAINT draws each feature by itself with one probability for all samples; here every sample has its own share
λ ~ Beta(alpha, alpha), and as many features as it says.

`ops.features` and `ops.noise` hold the other operations on rows; all others change pixels and raise a TypeError for
rows, see `steps.refuse_other_than_rows`. Columns of whole numbers are numbers of categories: they are taken from
another row, and never averaged or made noisy. The several tables of a sample, such as numbers and categories, are
planned as one, whose columns are those of all; `columns` is the part of a plan that belongs to one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import ClassVar

import torch
from torch import Tensor

from .. import draws
from .backends.tables import gauss
from .plan import Mix, Plan, Segment


@dataclass(frozen=True)
class MixFeatures(Mix):
    """Some features, or steps of time, taken from another sample. pasted: (B, F) or (B, T) bool, those taken.

    share: (B,) float32, the part that stays the sample's own.
    """

    pasted: Tensor | None = None


def pasted_features(shape: Sequence[int], share: Tensor, key: Tensor) -> Tensor:
    """(B, F) bool, for rows (B, F): in row i, round((1 − share_i)·F) random features. share: (B,) float64."""
    count = ((1.0 - share) * shape[1]).round().long()
    order = draws.uniform(key, (shape[1],)).argsort(1).argsort(1)  # the rank of each feature among its row's draws
    return order < count[:, None]


def pasted_span(shape: Sequence[int], share: Tensor, key: Tensor) -> Tensor:
    """(B, T) bool, for sequences (B, T, F): one random span of round((1 − share_i)·T) steps. share: (B,) float64."""
    count = ((1.0 - share) * shape[1]).round().long()
    first = (draws.uniform(key, dtype=torch.float64) * (shape[1] - count + 1)).floor().long()
    place = torch.arange(shape[1])
    return (place >= first[:, None]) & (place < (first + count)[:, None])


@dataclass(frozen=True)
class Swap(Segment):
    """Each value replaced by that of the same column in another row. partner: (B, F) int64 rows, the row's own: none.

    Of sequences (B, T, F) a column is a feature with all its steps of time.
    """

    from_others: ClassVar[bool] = True

    partner: Tensor


@dataclass(frozen=True)
class Between(Segment):
    """A point on the line from each row to another one; labels stay, as both have the same.

    partner: (B,) int64 row of the other sample. share: (B,) float32 in [0, 1], the part that stays the sample's own.
    taken: (B, F) bool, the columns that come from the partner where they hold categories.
    """

    from_others: ClassVar[bool] = True

    partner: Tensor
    share: Tensor
    taken: Tensor


@dataclass(frozen=True)
class AddNoise(Segment):
    """Normal noise added to every float: the values from ``first`` on of ``gauss.field(key, (whole, ...))``.

    key: (B,) int64 stream keys. spread, centre: (B,) float32 standard deviation and mean, in the features' own units;
    both 0: the row stays as it is. whole: number of columns (of sequences: steps of time) of all tables of a sample.
    """

    draws_noise: ClassVar[bool] = True

    key: Tensor
    spread: Tensor
    centre: Tensor
    whole: int
    first: int = 0


@singledispatch
def columns(segment: Segment, first: int, count: int) -> Segment:
    """``segment`` for the columns from ``first`` on, of those that it was planned for: one table of several."""
    return segment


@columns.register
def _(segment: MixFeatures, first: int, count: int) -> MixFeatures:
    assert segment.pasted is not None
    return replace(segment, pasted=segment.pasted[:, first : first + count])


@columns.register
def _(segment: Swap, first: int, count: int) -> Swap:
    return replace(segment, partner=segment.partner[:, first : first + count])


@columns.register
def _(segment: Between, first: int, count: int) -> Between:
    return replace(segment, taken=segment.taken[:, first : first + count])


@columns.register
def _(segment: AddNoise, first: int, count: int) -> AddNoise:
    return replace(segment, first=segment.first + first)


def part_of(plan: Plan, first: int, count: int) -> Plan:
    """The part of a plan for rows (B, F) that belongs to ``count`` columns from ``first`` on."""
    segments = tuple(columns(segment, first, count) for segment in plan.segments)
    return replace(plan, shape=(plan.shape[0], count), segments=segments, separate=None)


def execute(plan: Plan, rows: Tensor) -> Tensor:
    """Rows (B, F) or sequences (B, T, F) after ``plan``, on any device; TypeError where it would average categories."""
    for segment in plan.segments:
        rows = run(segment.to(rows.device), rows)
    return rows


@singledispatch
def run(segment: Segment, rows: Tensor) -> Tensor:
    """``rows`` after one segment."""
    raise TypeError(f"{type(segment).__name__} has no meaning for rows of features; leave its augmentation out")


@run.register
def _(mix: Mix, rows: Tensor) -> Tensor:
    if not rows.is_floating_point():
        raise TypeError(
            f"MixUp needs rows of floats, got {str(rows.dtype)[6:]} {tuple(rows.shape)}, since numbers of categories "
            "cannot be averaged; write features.float() in the dataset if they are numbers, name other inputs=, or "
            "write smartaug.CutMix(), which takes whole features from the partner"
        )
    return torch.lerp(rows[mix.partner], rows, _per_row(mix.share, rows))


@run.register
def _(mix: MixFeatures, rows: Tensor) -> Tensor:
    assert mix.pasted is not None
    return torch.where(mix.pasted if rows.ndim == 2 else mix.pasted[:, :, None], rows[mix.partner], rows)


@run.register
def _(swap: Swap, rows: Tensor) -> Tensor:
    partner = swap.partner if rows.ndim == 2 else swap.partner[:, None, :].expand_as(rows)
    return rows.gather(0, partner)


@run.register
def _(between: Between, rows: Tensor) -> Tensor:
    other = rows[between.partner]
    if rows.is_floating_point():
        return torch.lerp(other, rows, _per_row(between.share, rows))
    return torch.where(between.taken if rows.ndim == 2 else between.taken[:, None, :], other, rows)


@run.register
def _(noise: AddNoise, rows: Tensor) -> Tensor:
    if not rows.is_floating_point():
        return rows
    drawn = gauss.field(noise.key, (noise.whole, *rows.shape[2:]))[:, noise.first : noise.first + rows.shape[1]]
    wide = [_per_row(part, rows, torch.float32) for part in (noise.spread, noise.centre)]
    return torch.where((wide[0] != 0) | (wide[1] != 0), rows + (drawn * wide[0] + wide[1]).to(rows.dtype), rows)


def _per_row(value: Tensor, rows: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """(B,) as (B, 1, ...), which broadcasts over rows."""
    return value.to(dtype or rows.dtype).reshape(-1, *[1] * (rows.ndim - 1))
