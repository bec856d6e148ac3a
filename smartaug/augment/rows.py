"""MixUp and CutMix on rows of features (B, F) and on sequences (B, T, F).

What: MixUp blends whole samples; CutMix takes some features of each row from its partner, drawn without order since
columns of a table have none, and of sequences one span of time with all its features. Labels follow by the share that
stayed. When: tables and sensor data. Cost: one extra read of the batch. Reference: Somepalli et al., "SAINT", 2021
(CutMix of tables by a random mask over features); Yun et al., "CutMix", ICCV 2019, whose rectangle is the span here.
Difference: SAINT draws each feature by itself with one probability for all samples; here every sample has its own share
λ ~ Beta(alpha, alpha), and as many features as it says.

Other augmentations change pixels and raise a TypeError for rows, see `steps.refuse_other_than_mixing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import draws
from .plan import Mix, Plan


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


def execute(plan: Plan, rows: Tensor) -> Tensor:
    """Rows (B, F) or sequences (B, T, F) after the mixes of ``plan``, on any device; TypeError unless floats."""
    mixes = [segment for segment in plan.segments if isinstance(segment, Mix)]
    if mixes and not rows.is_floating_point():
        raise TypeError(
            f"mixing needs rows of floats, got {str(rows.dtype)[6:]} {tuple(rows.shape)}; write features.float() in "
            "the dataset, or name other inputs=, since numbers of categories cannot be mixed"
        )
    for mix in mixes:
        mix = mix.to(rows.device)
        other = rows[mix.partner]
        if isinstance(mix, MixFeatures) and mix.pasted is not None:
            taken = mix.pasted if rows.ndim == 2 else mix.pasted[:, :, None]
            rows = torch.where(taken, other, rows)
        else:
            share = mix.share.to(rows.dtype).reshape(-1, *[1] * (rows.ndim - 1))
            rows = torch.lerp(other, rows, share)
    return rows
