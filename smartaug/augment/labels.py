"""Mixed labels for MixUp, CutMix and Mosaic: hard or soft labels in, soft labels (B, K) out.

What: soft_i = Σ_c s_ic y_c over the samples c that row i is made of, in shares s that sum to 1 (λ and 1 − λ of MixUp,
areas of CutMix and Mosaic), with class numbers as one-hot rows. When: a plan mixes samples. Cost: one (B, K) tensor a
part. Reference: Zhang et al., "mixup", ICLR 2018; Yun et al., "CutMix", ICCV 2019.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .._base.labels import Kind, kind_of
from ..batch import Target
from .plan import Mixing, Plan

_BYTES = 1 << 30  # 1 GiB of soft labels in a batch: larger "class numbers" are probably something else


def mix_labels(
    target: Tensor,
    plan: Plan,
    *,
    num_classes: int | None = None,
    index: Tensor | None = None,
    key: str | None = None,
    kind: Kind | None = None,
) -> Tensor:
    """``target`` as a `Target` whose ``soft`` (B, K) follows the plan's mixes; unchanged when the plan mixes nothing.

    target, num_classes, kind: as for `mixable_rows`, with its errors. index, key: as for `Target`.
    """
    if not plan.mixes:
        return target
    soft = target._soft if isinstance(target, Target) else None
    if soft is None:
        soft = mixable_rows(target.plain if isinstance(target, Target) else target, num_classes, kind)
    for mix in plan.mixes:
        row, share = mix.to(soft.device).parts()
        soft = (soft[row] * share[..., None].to(soft.dtype)).sum(1)
    if isinstance(target, Target):
        return Target(target.plain, target._weight, soft, target.index, target._key)
    return Target(target, None, soft, index, key)


def composition(mixes: Sequence[Mixing], rows: int) -> tuple[Tensor, Tensor]:
    """The parts of each of B = ``rows`` rows after all mixes in order: ``(row, share)``, both (B, C).

    C: the product of the numbers of parts, so 2 ** n for n times MixUp or CutMix. row: int64 numbers of rows, the row's
    own first; share: float32, summing to 1 in a row.
    """
    row, share = torch.arange(rows, device="cpu")[:, None], torch.ones(rows, 1, device="cpu")
    for mix in mixes:
        taken, of = (part.cpu() for part in mix.parts())
        row, share = row[taken].flatten(1), (of[..., None].to(share.dtype) * share[taken]).flatten(1)
    return row, share


def mixable_rows(target: Tensor, num_classes: int | None = None, kind: Kind | None = None) -> Tensor:
    """Labels (B, ...) as rows of floats that can be mixed, by their kind (see `smartaug._base.labels`).

    Class numbers (B,) or (B, 1) become one-hot rows (B, K) float32; floats stay as they are, as (B, 1) or (B, K).
    num_classes: K for class numbers; 0: there are no classes, the numbers are values of a regression; None takes the
    largest label of the batch plus one, at least 2, and `Loss` pads the rest with zeros. kind: what the labels are
    where that is known. Raises ValueError for class numbers outside 0..K-1, TypeError for labels of every position and
    for whole numbers stored as floats, which may be either.
    """
    kind = kind_of(target, classes=num_classes) if kind is None else kind
    if kind is Kind.MAP:
        remedy = "convert multi-hot rows: target.float()" if target.ndim == 2 else "leave MixUp and CutMix out"
        raise TypeError(
            f"mixing needs class labels (B,) or distributions (B, K), got a target of shape {tuple(target.shape)} "
            f"and {target.dtype}; {remedy}"
        )
    if kind is Kind.WHOLE:
        raise TypeError(
            f"the labels are whole numbers stored as {str(target.dtype)[6:]}, such as "
            f"{float(target.max()):g}, and mixing cannot tell class numbers from values; for classes let the dataset "
            "give integers, label.to(torch.int64), or write num_classes=K on MixUp or CutMix; for a regression write "
            "regression=True there"
        )
    if kind is Kind.CLASSES:
        return _one_hot(target.reshape(-1).long(), num_classes)
    rows = target if target.is_floating_point() else target.float()
    return rows[:, None] if rows.ndim == 1 else rows


def _one_hot(label: Tensor, num_classes: int | None) -> Tensor:
    # at least 2 columns: one would mean "probability of class 1" to a single-logit head
    classes = num_classes
    if label.numel() and label.device.type == "cpu":  # elsewhere reading would synchronise; scatter_ checks there
        low, high = int(label.min()), int(label.max())
        if low < 0:
            raise ValueError(
                f"labels must lie in 0..K-1 to be mixed, got {low}; leave samples without a label out of the dataset, "
                "or, if they are values of a regression, write MixUp(regression=True)"
            )
        if num_classes is not None and high >= num_classes:
            raise ValueError(
                f"labels must lie in 0..{num_classes - 1} to be mixed, got {high}; fix the dataset's labels, or pass "
                f"num_classes={high + 1} to MixUp or CutMix, also where {high} is the criterion's ignore_index"
            )
    if classes is None:
        classes = max(2, int(label.max()) + 1 if label.numel() else 0)
    if 4 * len(label) * classes > _BYTES:
        raise ValueError(
            f"label {classes - 1} as a class number makes soft labels of {4 * len(label) * classes / 1e9:.3g} GB a "
            "batch; if it is the number of a sample, name the leaf that is the label: target=1 or target='key'; for a "
            "regression write MixUp(regression=True)"
        )
    return torch.zeros(len(label), classes, dtype=torch.float32, device=label.device).scatter_(1, label[:, None], 1.0)
