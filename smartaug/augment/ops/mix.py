"""MixUp and CutMix with a partner and a share drawn per sample.

What: each sample is blended with another sample of the batch (MixUp), or gets a rectangle of it (CutMix); labels become
soft in the same shares, each by its kind (the table in `smartaug._base.labels`). When: classification with enough
epochs; a strong regulariser, usual on CIFAR and ImageNet. Cost: one extra read of the batch. Reference: Zhang et al.,
"mixup: Beyond Empirical Risk Minimization", ICLR 2018; Yun et al., "CutMix", ICCV 2019. Difference: both papers draw
one share λ for the whole batch; here each sample has its own, and partners form one random cycle, so that no sample is
its own partner (in a batch of one it is). Rows (B, F) and sequences (B, T, F) are mixed as well: see `augment.rows`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ... import draws
from .. import rows
from ..augmentation import Augmentation, check_probability
from ..mixing import cycle
from ..plan import Mix, Plan, Trace


class Labelled(Augmentation):
    """An augmentation that mixes samples, so that labels follow."""

    mixes = True

    def __init__(
        self, *, p: float, num_classes: int | None = None, regression: bool = False, backend: str | None = None
    ) -> None:
        super().__init__(backend=backend)
        if num_classes is not None and (not isinstance(num_classes, int) or num_classes < 1):
            raise ValueError(f"num_classes must be a positive integer or None, got {num_classes!r}")
        if regression and num_classes is not None:
            raise ValueError(f"a regression has no classes, got num_classes={num_classes} as well; leave it out")
        self.p, self.regression = check_probability(p), bool(regression)
        self.num_classes = 0 if regression else num_classes


class _Pairs(Labelled):
    takes_rows = True

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        p: float = 1.0,
        num_classes: int | None = None,
        regression: bool = False,
        backend: str | None = None,
    ) -> None:
        if not isinstance(alpha, (int, float)) or not alpha > 0:
            raise ValueError(f"alpha must be positive, got {alpha!r}; for no mixing leave {type(self).__name__} out")
        self.alpha = float(alpha)
        super().__init__(p=p, num_classes=num_classes, regression=regression, backend=backend)

    def _shares(self, key: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Partner (B,) int64, own share λ (B,) float64 (1 where p leaves the sample alone), mixed (B,) bool."""
        partner = cycle(draws.fold(key, 0))
        mixed = draws.uniform(draws.fold(key, 1)) < self.p
        share = draws.symmetric_beta(draws.fold(key, 2), self.alpha)
        return partner, torch.where(mixed, share, 1.0), mixed

    def _trace(self, mixed: Tensor, share: Tensor) -> Trace:
        names = ("Identity", type(self).__name__)
        return Trace(mixed.long()[:, None], (share.float() * mixed)[:, None], names)


class MixUp(_Pairs):
    """λ x_i + (1 − λ) x_j with λ ~ Beta(alpha, alpha) per sample, with probability ``p``; labels likewise.

    num_classes: width of the soft labels; None: the dataset's classes, else the largest label seen plus one.
    regression: the labels are values, whole numbers too, and are mixed as they are.
    """

    averages = True

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw partners and shares of the B samples."""
        partner, share, mixed = self._shares(key)
        return Plan(tuple(shape), (Mix(partner, share.float()),), self._trace(mixed, share))


class CutMix(_Pairs):
    """A rectangle of another sample pasted in, its area 1 − λ with λ ~ Beta(alpha, alpha) per sample.

    The rectangle's centre is uniform and it is cut off at the border; λ is then the area that stayed, exactly.
    num_classes: width of the soft labels; None: the dataset's classes, else the largest label seen plus one.
    regression: the labels are values, whole numbers too, and are mixed as they are.
    """

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw partners and rectangles of the B samples; of rows (B, F) features, of sequences (B, T, F) spans."""
        partner, share, mixed = self._shares(key)
        if len(shape) != 4:
            return self._of_rows(shape, key, partner, share, mixed)
        _, _, height, width = shape
        side = (1.0 - share).sqrt()
        centre = draws.uniform(draws.fold(key, 3), (2,), dtype=torch.float64)
        spans = []
        for place, length in ((centre[:, 0], height), (centre[:, 1], width)):
            middle, half = (place * length).floor(), (side * length / 2).floor()
            low = (middle - half).clamp(0, length)
            spans.append((low.long(), ((middle + half).clamp(0, length) - low).long()))
        (top, tall), (left, wide) = spans
        kept = 1.0 - (tall * wide).double() / max(1, height * width)
        boxes = torch.stack([top, left, tall, wide], -1)
        return Plan(tuple(shape), (Mix(partner, kept.float(), boxes),), self._trace(mixed, kept))

    def _of_rows(self, shape: Sequence[int], key: Tensor, partner: Tensor, share: Tensor, mixed: Tensor) -> Plan:
        draw = rows.pasted_features if len(shape) == 2 else rows.pasted_span
        pasted = draw(shape, share, draws.fold(key, 3))
        kept = 1.0 - pasted.double().sum(1) / max(1, shape[1])
        mix = rows.MixFeatures(partner, kept.float(), pasted=pasted)
        return Plan(tuple(shape), (mix,), self._trace(mixed, kept))
