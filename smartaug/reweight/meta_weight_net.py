"""Meta-Weight-Net: a small network maps a sample's loss to its weight.

What: w_i ∝ V(ℓ_i; θ), where θ learns by the exact gradient of the validation loss after a pseudo step (see `meta`).

When: labels are noisy or imbalanced, and there are enough steps to learn θ (thousands). On small noisy datasets it
ended below plain training, where SAFLEX and Learning to Reweight ended above (benchmarks/results/learning.json).

Cost: benchmarks/results/reweight.json.

Reference: Shu et al., "Meta-Weight-Net", NeurIPS 2019, eq. 3–6. How this differs: the same gradient without a
second-order graph; validation batches run in evaluation mode; labels may be soft.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .._base import ranks
from ..batch import Batch
from ..grads import ForwardPass
from .meta import MetaLearner
from .protocols import Gradients, OperationTrace


class LossNet(nn.Module):
    """1 → 100 → ReLU → 1 → sigmoid, as in the paper."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(1, 100), nn.Linear(100, 1)

    def forward(self, loss: Tensor) -> Tensor:
        """Losses (B, 1) to weights (B,) in (0, 1)."""
        return torch.sigmoid(self.out(torch.relu(self.hidden(loss))))[:, 0]


class MetaWeightNet(MetaLearner):
    """``reweight=smartaug.MetaWeightNet(model, val_set, lr=0.1)``; the other arguments are those of `MetaLearner`."""

    def make_net(self, widths: tuple[int, ...]) -> nn.Module:
        """The paper's network."""
        return LossNet()

    def network_inputs(
        self, grads: Gradients, graph: bool, batch: Batch, trace: OperationTrace | None
    ) -> tuple[ForwardPass, tuple[Tensor, ...]]:
        """The batch's forward pass, and its losses (B, 1)."""
        done = grads.rows(graph=graph)
        return done, (-(grads.labels * done.log_p).sum(1, keepdim=True),)

    @staticmethod
    def shares(P: Tensor) -> Tensor:
        """P / n: the pseudo step is a mean."""
        return P / ranks.total(P.new_tensor(float(len(P))))
