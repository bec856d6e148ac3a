"""SAFLEX: weights and soft labels that lower the validation loss most, for whatever augmentation comes before it.

What: a sample's label becomes softmax((benefit + penalty × given label) / temperature), and its weight is 1 where that
label's benefit is not negative, else 0. The benefit of a label is how much one step on the sample with that label would
lower the validation loss (`smartaug.grads.benefit`).

When: labels or augmentations are partly wrong (noise, CutMix, generated images), a clean validation set of some hundred
samples exists, and training is so long that the plain network would memorise what is wrong. Without these expect little
or a loss, and compare with plain training. The length decides. On digits with 40 % flipped labels, against plain
training, SAFLEX ends 6 points below after 5 epochs, level after 10, 2 points above after 20 and 11 above after 60, when
plain training gives a fifth of the wrong labels back; label smoothing of 0.4 alone, or the rule on random benefits,
wins about 9 of these 11. On CIFAR-10N (17 % wrong labels; 12 epochs with crop and flip) it ends 6 points below, 4 with
statistics="batch": nothing is memorised yet (plain training gives 15 % of the wrong labels back, and 14 % of those it
never saw), so knowing every wrong label would win 1 point. A single weight tells right from wrong labels little better
than chance there (AUROC 56 %; digits 88 %; the loss alone 73 %), and the price is paid in full: a fifth of the samples
at weight 0 and softer labels (along random directions: 9 points below plain; benchmarks/results/learning.json,
"diagnosis"). Noise of the validation gradient is not why: the benefits by two independent validation batches correlate
by 0.85 there (40 % wrong labels, 2,500 images, one seed; digits 0.94) and tell wrong labels with an AUROC of 50 to 60 %
all the same. They agree on something, and it is not which labels are wrong; what it is, is not known. A larger
validation SET helps more than larger batches of it; keep a third set for reporting. The outputs are underconfident
(look at calibration; penalty 4 with temperature 0.5 lowers that error and some of the accuracy).

Cost: benchmarks/results/reweight.json. The benefit takes one forward-mode pass; method="difference" is cheaper and was
as good in training.

Reference: Ding et al., "SAFLEX: Self-Adaptive Augmentation via Feature Label Extrapolation", ICLR 2024. How this
differs: benefits are divided by their standard deviation over the batch, since the gradient's scale drifts; the penalty
toward the given label is 3 by default (Σ_k p_k B_k = 0, so without a penalty every weight is 1 and labels confirm
themselves; below 1 it collapses); the temperature is 1. ``centred`` and ``shrunk`` are ours.

The rule works on rows alone, so columns may be classes or anything else that is chosen among. With
``criterion=smartaug.ContrastiveLoss()`` they are the pairs of the batch, the paper's form for CLIP (its section was not
found: one label for both directions is ours). On halves of digits with 40 % wrong pairs it found 48 % of the partners,
plain training 33 %, random benefits no more; label smoothing of 0.7 with the clean pairs in training 47 %
(benchmarks/results/wrong_pairs.json). Labels that are no choice
among classes (several labels a sample, values of a regression, maps of classes) have one column: they stay as they are,
and the weight is 1 where ⟨∇ℓ_i, g⟩ is not negative, else 0; with ``by_column`` each of several labels is a choice
between its two values. For maps a soft label of each position would be as well
founded, but a sum over thousands of labels that were each moved to where they gain is hardly ever negative: with 40 %
wrong masks it left 73 to 100 % of them in, where the weight by the mask itself left none.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import draws
from .._base import ranks
from ..batch import Batch
from ..grads.reference import Model
from .learned import Reweighting
from .protocols import Gradients, OperationTrace, ValidationSet
from .weights import with_mean_one


class SAFLEX(Reweighting):
    """``reweight=smartaug.SAFLEX(model, val_set)``: learned weights and soft labels for every batch.

    * `model`: the network that the loop trains, a callable returning it, or None until `bind`.
    * `val_set`: clean validation samples, a map-style dataset or a pair (inputs, labels) of tensors.
    * `temperature`: ≥ 0; 0 takes the best label alone. With many classes the softmax spreads: 1,000 classes need a
      temperature near 0.3.
    * `penalty`: β ≥ 0, the pull toward the upstream label (the one that the batch came with), in standard deviations of
      the benefits. Below about 1 labels confirm themselves; from 4 on with a temperature ≤ 0.5 they stay as they were.
    * `noise`: ≥ 0, the scale of Gumbel noise that is added to the benefits.
    * `centred`: whether the batch's mean benefit of each label is subtracted, which leaves what sets samples apart. On
      digits single weights told wrong labels better (AUROC 86 to 90 %), and accuracy fell by 1 point.
    * `shrunk`: whether two validation batches are asked, and the benefits multiplied by how far both agree, in [0, 1]:
      2 ⟨B, B'⟩ / (⟨B, B⟩ + ⟨B', B'⟩), or 0 where that is negative. What does not agree moves nothing. Costs a second
      direction and a second forward-mode pass; on digits and three tables accuracy was the same.
    * `by_column`: of several labels a sample (multi-hot, with criterion=nn.BCEWithLogitsLoss()), whether each of them
      gets a soft value of its own, by the same rule on its two values; the weight then is 1 where the sum of what all
      of them gain is not negative. False leaves them as they are, and weighs the sample by its own. On digits with
      five yes-or-no labels, 30 % of them flipped, 60 epochs, four seeds, both won (81.2 % right plain, 88.9 by weights
      alone, 89.5 by column); with 15 epochs, or nothing flipped, both were 1 to 2 points below plain.
    * The other arguments are those of `Reweighting`. Among them `every`, `weigh_every` and `warmup` are numbers of
      batches (not epochs): an epoch has ``len(loader)`` of them.

    Raises ValueError for numbers below 0.
    """

    centred = shrunk = by_column = False  # of pickles of earlier versions

    def __init__(
        self,
        model: Model,
        val_set: ValidationSet,
        *,
        temperature: float = 1.0,
        penalty: float = 3.0,
        noise: float = 0.0,
        centred: bool = False,
        shrunk: bool = False,
        by_column: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(model, val_set, **settings)
        for name, value in (("temperature", temperature), ("penalty", penalty), ("noise", noise)):
            if not value >= 0.0:
                raise ValueError(f"{name} must be a number ≥ 0, got {value!r}")
        self.temperature, self.penalty, self.noise = float(temperature), float(penalty), float(noise)
        self.centred, self.shrunk, self.by_column = bool(centred), bool(shrunk), bool(by_column)
        if self.shrunk and self.every > 1:
            raise ValueError(
                f"shrunk=True compares two validation batches for each batch; leave every= at 1, got {self.every}"
            )

    @staticmethod
    def rule(
        B: Tensor,
        log_p: Tensor,
        soft_upstream: Tensor,
        temperature: float = 1.0,
        penalty: float = 3.0,
        *,
        noise: Tensor | None = None,
        scale: Tensor | None = None,
        normalise: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """``(weight, soft)``: (B,) with mean 1 and (B, K) rows summing to 1 (Ding et al., §3.3, eq. for w and ỹ).

        B, log_p, soft_upstream: (B, K); log_p is not used by this rule. noise: (B, K) added to the normalised benefits.
        scale: what benefits are divided by; None is their standard deviation over the batch. All benefits equal: the
        labels stay nearest upstream, weights are 1. normalise=False: weights
        are 0 or 1. Not finite B: not finite weights.
        """
        deviation = (B - B.mean()).square().mean().sqrt() if scale is None else scale
        benefits = B / deviation.clamp_min(torch.finfo(B.dtype).tiny)  # all benefits 0: 0, not NaN
        score = benefits + penalty * soft_upstream.to(B.dtype)
        if noise is not None:
            score = score + noise.to(B.dtype)
        if temperature > 0:
            soft = (score / temperature).softmax(1)
        else:
            soft = torch.zeros_like(score).scatter_(1, score.argmax(1, keepdim=True), 1.0)
        gain = (soft * benefits).sum(1)
        weight = torch.where(torch.isfinite(gain), (gain >= 0).to(B.dtype), gain)
        return (with_mean_one(weight) if normalise else weight), soft

    def weigh(self, grads: Gradients, batch: Batch, trace: OperationTrace | None) -> tuple[Tensor, Tensor]:
        """The rule on this batch's benefits, with the spread of the benefits taken over all ranks."""
        log_p, benefits, agreement = self._benefits(grads)
        one = torch.ones_like(benefits)
        count, first, second = ranks.total(torch.stack([one.sum(), benefits.sum(), benefits.square().sum()]))
        centre = first / count if benefits.shape[1] > 1 else 0.0  # a single column may hold one value throughout
        scale = (second / count - centre * centre).clamp_min(0).sqrt()  # rounding may leave −1e-8
        several = log_p.shape[1] < benefits.shape[1]  # each label of a sample is a row of its two values
        columns = 2 if several else benefits.shape[1]
        given = agreement * benefits  # and not the scale, so that they shrink
        noise = self.noise * self._gumbel(benefits) if self.noise else None
        weight, soft = self.rule(
            given.reshape(-1, columns),
            log_p,
            grads.labels.reshape(-1, columns),
            self.temperature,
            self.penalty,
            noise=None if noise is None else noise.reshape(-1, columns),
            scale=scale,
            normalise=False,
        )
        if not several:
            return weight, soft
        gain = (soft.view_as(given) * given).sum(1)
        return torch.where(torch.isfinite(gain), (gain >= 0).to(gain.dtype), gain), soft[:, 1].reshape(len(given), -1)

    def _benefits(self, grads: Gradients) -> tuple[Tensor, Tensor, Tensor]:
        """``(log_p, B, agreement)``: benefits as `centred` and `shrunk` want them; agreement in [0, 1], a scalar."""
        if not self.shrunk:
            log_p, benefits = grads.benefit()
            return log_p, self._about_mean(benefits), benefits.new_ones(())
        log_p, first = grads.benefit(grads.direction())
        _, second = grads.benefit(grads.direction())  # of the next validation batch
        first, second = self._about_mean(first), self._about_mean(second)
        both = torch.stack([(first * second).sum(), (first.square() + second.square()).sum() / 2])
        product, size = ranks.total(both)
        # the slope of the regression of one on the other, were they of equal size: 1 where both say the same
        return log_p, (first + second) / 2, (product / size.clamp_min(torch.finfo(size.dtype).tiny)).clamp(0.0, 1.0)

    def _about_mean(self, benefits: Tensor) -> Tensor:
        """With ``centred`` less their mean over the batches of all ranks, column by column."""
        if not self.centred:
            return benefits
        sums = ranks.total(torch.cat([benefits.sum(0), benefits.new_full((1,), float(len(benefits)))]))
        return benefits - sums[:-1] / sums[-1]

    def _gumbel(self, like: Tensor) -> Tensor:
        """Standard Gumbel draws (B, K), a function of (seed, batch number, rank, row)."""
        keys = draws.key(self.seed, self.step, torch.arange(len(like)), view=ranks.here()[0])
        # half the smallest step of the draws: 0 would give an infinite logarithm
        uniform = draws.uniform(keys, (like.shape[1],), dtype=torch.float64).clamp_min(2.0**-54)
        return -(-uniform.log()).log().to(like.device, like.dtype)
