"""The samples with the largest loss, or with the smallest.

What: sorts the samples by their loss.

When: as a baseline in comparisons. On a small CIFAR-10, training on the largest losses was always worse than training
on a fresh random subset: 32 % against 41 % accuracy with 19 % wrong labels, of which the selection takes more than
their share (24 %). The smallest losses take fewer wrong labels (14 %) and were at best as good as a random subset
(benchmarks/results/coreset_training.json).

Cost: one sort.

Reference: Loshchilov & Hutter, "Online Batch Selection for Faster Training of Neural Networks", 2016; small losses: Han
et al., "Co-teaching", NeurIPS 2018.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .._base.names import SuggestsKeywords
from ..batch import Embedding
from .checks import check_budget, check_embedding
from .shares import lowest


class MaxLoss(SuggestsKeywords):
    """``(embedding, budget, generator) -> (indices, weights)``: the ``budget`` rows of largest loss, no weights.

    smallest: the rows of smallest loss instead. Without ``embedding.loss`` the loss is −log(1 + min_k r_k), the cross
    entropy of r = softmax − one_hot. Equal losses go to the lower index.
    """

    def __init__(self, *, smallest: bool = False) -> None:
        self.smallest = smallest

    def __call__(
        self, embedding: Embedding, budget: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, None]:
        """Indices (budget,) int64 by falling loss (rising, when smallest), on the CPU, and None; nothing is drawn.

        Raises ValueError unless 0 ≤ budget ≤ n, and for rows that are not finite.
        """
        size = check_embedding(embedding)
        check_budget(budget, size)
        if size == 0:
            return torch.empty(0, dtype=torch.int64), None
        order = self._ranked(embedding).argsort(descending=not self.smallest, stable=True)
        return order[:budget].cpu(), None

    def by_class(
        self, embedding: Embedding, sizes: np.ndarray, budgets: np.ndarray, seeds: Sequence[int]
    ) -> tuple[Tensor, None]:
        """What calls of their own select of C classes; see `FacilityLocation.by_class`."""
        check_embedding(embedding)
        loss = self._ranked(embedding).cpu().double().numpy()
        code = np.repeat(np.arange(len(sizes)), sizes)
        return torch.from_numpy(lowest(code, budgets, loss if self.smallest else -loss)), None

    @staticmethod
    def _ranked(embedding: Embedding) -> Tensor:
        """(n,) numbers ordered as the loss is, without a logarithm that could be infinite."""
        return (-embedding.residual.amin(1) if embedding.loss is None else embedding.loss).detach()

    def __repr__(self) -> str:
        return f"MaxLoss(smallest={self.smallest})"
