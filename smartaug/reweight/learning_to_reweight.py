"""Learning to Reweight: a sample weighs as much as its gradient agrees with the validation gradient.

What: w_i ∝ max(⟨∇ℓ_i, ∇L_val⟩, 0); labels stay as they are.

When: labels are noisy or imbalanced, a small clean validation set exists, and training is so long that wrong labels
would be memorised. On CIFAR-10N in 12 epochs, in which they are not memorised yet, it ended 14 points below plain
training, 9 with statistics="batch": the effective sample size is a third of a batch, and single weights tell right from
wrong labels hardly better than chance (benchmarks/results/learning.json, "diagnosis").

Cost: a validation gradient and one forward-mode pass; see benchmarks/results/reweight.json.

Reference: Ren et al., "Learning to Reweight Examples for Robust Deep Learning", ICML 2018, eq. 12–13. How this differs:
the paper gets the same number from a second-order graph through a pseudo step; a batch in which no sample agrees keeps
weight 1 (the paper skips it); validation batches run in evaluation mode.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..batch import Batch
from .learned import Reweighting
from .protocols import Gradients, OperationTrace
from .weights import with_mean_one


class LearningToReweight(Reweighting):
    """``reweight=smartaug.LearningToReweight(model, val_set)``; the other arguments are those of `Reweighting`."""

    @staticmethod
    def rule(B: Tensor, log_p: Tensor, soft_upstream: Tensor, *, normalise: bool = True) -> tuple[Tensor, None]:
        """``(weight, None)``: weight (B,) = max(Σ_k y_k B_k, 0), scaled to mean 1 if ``normalise``.

        B: benefits (B, K). soft_upstream: labels y (B, K). log_p is not used.
        """
        agreement = (soft_upstream.to(B.dtype) * B).sum(1)
        weight = torch.where(agreement < 0, torch.zeros_like(agreement), agreement)
        return (with_mean_one(weight) if normalise else weight), None

    def weigh(self, grads: Gradients, batch: Batch, trace: OperationTrace | None) -> tuple[Tensor, None]:
        """The rule on this batch's benefits."""
        log_p, benefits = grads.benefit()
        return self.rule(benefits, log_p, grads.labels, normalise=False)
