"""LiLAW: three numbers say how much easy, moderate and hard samples weigh.

What: with s the probability of the given label and m the largest one, w = σ(α s − m) + σ(m − β s) + exp(−(δ s − m)²/2):
high in turn where the model agrees with the label, where it disagrees, and where it is unsure. After each step α, β and
δ go one gradient step down the weighted loss of a validation batch, Σ w ℓ / n at fixed outputs; then α ≥ 1 and δ ≥ β.

When: validation data are too few, or too noisy, for a method with more parameters: validation labels need not be clean.
Two things follow from the formula. A label of probability 0 weighs 1 + exp(−m²/2), 1.6 where the model is sure of
another, whatever α, β and δ are, and at their start a label that the model is sure of weighs 1.3: wrong labels weigh
more than right ones. And the gradient can only lower α and raise β (its terms are w′ ℓ, and ℓ > 0), whatever the data
are. On digits with 40 % wrong labels it ended 5 points below plain training (benchmarks/results/learning.json), so
compare before you use it.

Cost: a forward pass of the batch and one of a validation batch, no backward pass; with when="loss" the second alone.

Reference: Moturu, Muzammil, Goldenberg and Taati, "LiLAW: Lightweight Learnable Adaptive Weighting to Learn Sample
Difficulty & Improve Noisy Training", arXiv 2509.20786. The weights, the start (10, 2, 6), the step 5e-3, the decay 1e-4
and the bounds are those of a script of an author's for Clothing-1M; an independent implementation has the same weights,
start, step and decay, and no bounds. Of the paper itself the abstract and public reviews of a submission were found.
The reviews agree with the weights (a sum of three, the hard one 1 less the easy one's form at β), with the start and
with a step after each batch; one asks why the text orders α < β < δ where the experiments start at (10, 2, 6), which
was not found answered. How this differs: weights have mean 1 over the batch (there
their sum acts on the learning rate, too); the validation pass takes running statistics, or by ``statistics="batch"``
those of its batch, and changes none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from .. import grads as gradients
from .._base import ranks
from ..batch import Batch
from ..grads.logits import distributions
from ..grads.reference import Model
from .learned import Reweighting
from .protocols import Gradients, OperationTrace, ValidationSet, WeightsAndLabels


class LiLAW(Reweighting):
    """``reweight=smartaug.LiLAW(model, val_set)``; classification with one label a sample.

    * `start`: (α, β, δ) at the beginning, with α ≥ 1 and δ ≥ β.
    * `lr`: the size of their gradient step. `weight_decay`: the share of each that it also takes away, over ``lr``.
    * `every`: number of batches (not epochs) for each step; all batches are weighed.
    * The other arguments are those of `Reweighting`. ``warmup`` is a number of batches, too; the authors leave two
      epochs as they are: ``warmup=2 * len(loader)``.

    Raises ValueError for arguments out of range.
    """

    needs_direction = False

    def __init__(
        self,
        model: Model,
        val_set: ValidationSet,
        *,
        start: tuple[float, float, float] = (10.0, 2.0, 6.0),
        lr: float = 5e-3,
        weight_decay: float = 1e-4,
        validation_batch: int = 64,
        balanced: bool = False,
        train_on_val: bool | int = False,
        transform: Callable[[Tensor], Tensor] | None = None,
        statistics: Literal["running", "batch"] = "running",
        every: int = 1,
        weigh_every: int = 1,
        when: Literal["batch", "loss"] = "batch",
        warmup: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            model,
            val_set,
            validation_batch=validation_batch,
            balanced=balanced,
            train_on_val=train_on_val,
            transform=transform,
            statistics=statistics,
            every=every,
            weigh_every=weigh_every,
            when=when,
            warmup=warmup,
            seed=seed,
        )
        if len(start) != 3 or not all(isinstance(one, (int, float)) for one in start) or start[0] < 1:
            raise ValueError(
                f"start must be (alpha, beta, delta) with alpha ≥ 1, got {start!r}; write (10.0, 2.0, 6.0)"
            )
        if not start[2] >= start[1]:
            raise ValueError(f"start must have delta ≥ beta, got {start!r}; write start=(10.0, 2.0, 6.0)")
        if not lr > 0:
            raise ValueError(f"lr must be positive, got {lr!r}; write lr=5e-3")
        if not weight_decay >= 0:
            raise ValueError(f"weight_decay must not be negative, got {weight_decay!r}; write weight_decay=1e-4")
        self.lr, self.weight_decay = lr, weight_decay
        self.scalars = torch.tensor(start, dtype=torch.float64, device="cpu")  # α, β, δ

    @staticmethod
    def weights(given: Tensor, largest: Tensor, scalars: Tensor) -> Tensor:
        """w (B,), unscaled, of samples whose label has probability ``given`` (B,), and whose largest is ``largest``."""
        easy, hard, moderate = (scalar * given - largest for scalar in scalars)
        return torch.sigmoid(easy) + torch.sigmoid(-hard) + torch.exp(-moderate.square() / 2)

    def weigh(self, grads: Gradients, batch: Batch, trace: OperationTrace | None) -> WeightsAndLabels:
        """A step of the three numbers, from the second weighed batch on; then the weights of this one."""
        log_p = grads.log_p()
        if log_p.ndim != 2 or log_p.shape[1] < 2:
            raise TypeError(
                "LiLAW weighs by the probability of one class a sample; for labels of another kind write "
                "smartaug.LearningToReweight(model, val_set, criterion=...)"
            )
        weighed = (self.step - self.warmup) // self.weigh_every
        if weighed and weighed % self.every == 0:
            self._learn(log_p.device)
        given, largest = _scores(log_p, grads.labels)
        return self.weights(given, largest, self.scalars.to(log_p)), None

    @torch.enable_grad()
    def _learn(self, device: torch.device) -> None:
        """One gradient step down the weighted loss of the next validation batch, with the outputs as they are."""
        inputs, target = self.validation.batch(self._drawn, device)
        self._drawn += 1
        mode: Literal["statistics", False] = "statistics" if self.statistics == "batch" and len(target) > 1 else False
        log_p = gradients.ForwardPass(self.model, inputs, training=mode, graph=False).log_p
        labels = distributions(target, log_p.shape[1]).to(log_p)
        scalars = self.scalars.to(log_p).requires_grad_()
        loss = (self.weights(*_scores(log_p, labels), scalars) * -(labels * log_p).sum(1)).mean()
        (made,) = torch.autograd.grad(loss, scalars)
        made = ranks.averaged({"scalars": made})["scalars"].to(self.scalars)
        if bool(torch.isfinite(made).all()):
            alpha, beta, delta = (self.scalars - self.lr * (made + self.weight_decay * self.scalars)).unbind()
            self.scalars = torch.stack([alpha.clamp_min(1.0), beta, torch.maximum(delta, beta)])

    # --- figures and state -------------------------------------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        """The statistics of `Reweighting`, with ``alpha``, ``beta`` and ``delta``."""
        return {**super().stats(), **dict(zip(("alpha", "beta", "delta"), self.scalars.tolist(), strict=True))}

    def state_dict(self) -> dict[str, Any]:
        """The state of `Reweighting`, with the three numbers."""
        return {**super().state_dict(), "scalars": self.scalars.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        super().load_state_dict(state)
        self.scalars = state["scalars"].clone()


def _scores(log_p: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The probability of the label and the largest one, (B,) each, from log-probabilities and labels (B, K)."""
    p = log_p.exp()
    return (labels * p).sum(1), p.amax(1)
