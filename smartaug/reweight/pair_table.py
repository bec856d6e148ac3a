"""The table of MetaAugment: how often each sequence of operations is drawn, from the weights that it received."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .._base import ranks


class PairTable:
    """Mean weight of every sequence of operations over the last epochs, and the probabilities that follow from it.

    * `operations`: O, their number; `num_ops`: N, how many follow each other.
    * `history`: epochs kept; `epsilon`: share of uniform exploration.
    * `bands`: R, into how many equal ranges the magnitudes of each operation are divided. Sequences are then of pairs
      (operation, range).
    * `without`: positions of the operations that have no magnitude; their ranges count as one.

    shape: (O,) * N, or (O, R) * N where R > 1.
    """

    bands: int = 1  # also in pickles of a former version
    without: tuple[int, ...] = ()

    def __init__(
        self,
        operations: int,
        num_ops: int,
        history: int,
        epsilon: float,
        *,
        bands: int = 1,
        without: Sequence[int] = (),
    ) -> None:
        self.shape = (operations,) * num_ops if bands == 1 else (operations, bands) * num_ops
        self.history, self.epsilon, self.bands, self.without = history, epsilon, bands, tuple(without)
        self.past: list[Tensor] = []  # per epoch (2, *shape): sums of P, counts
        self.now = torch.zeros(2, *self.shape, dtype=torch.float64)

    def note(self, operations: Tensor, P: Tensor, levels: Tensor | None = None) -> None:
        """Add weights P (B,) of the sequences ``operations`` (B, N) int64, with levels (B, N) in [0, 1] for R > 1."""
        cells, each = operations.cpu(), self.shape[0] * self.bands
        if self.bands > 1 and levels is not None:
            # the level of a policy may lie on a border, where rounding to float32 must not decide; NaN: of Identity
            band = (levels.cpu().double().nan_to_num(0.0) * self.bands + 1e-5).floor().long().clamp(0, self.bands - 1)
            cells = cells * self.bands + band
        flat = cells @ torch.tensor([each**place for place in reversed(range(cells.shape[1]))])
        weights = torch.stack([P.detach().cpu().double(), torch.ones(len(P), dtype=torch.float64)])
        self.now.view(2, -1).index_add_(1, flat, torch.where(torch.isfinite(weights[0]), weights, 0.0))

    def close(self) -> None:
        """An epoch ended: sums over all ranks join the history."""
        self.past = [*self.past, ranks.total(self.now)][-self.history :]
        self.now = torch.zeros_like(self.now)

    def probabilities(self) -> Tensor:
        """p = (1 − ε) v / Σv + ε / (number of cells), v the mean weight over the history, 1 where never seen.

        float64, of shape ``shape``.
        """
        sums = self._pooled(sum(self.past, torch.zeros_like(self.now)))
        v = torch.where(sums[1] > 0, sums[0] / sums[1].clamp_min(1), 1.0)
        return (1 - self.epsilon) * v / v.sum() + self.epsilon / v.numel()

    def _pooled(self, sums: Tensor) -> Tensor:
        """Sums (2, *shape) in which all ranges of an operation without a magnitude hold the sum over them."""
        if self.bands == 1 or not self.without:
            return sums
        for axis in range(1, sums.ndim, 2):  # of operations; the ranges' follows it
            alone = torch.zeros(sums.shape[axis], dtype=torch.bool)
            alone[list(self.without)] = True
            alone = alone.view(-1, *[1] * (sums.ndim - axis - 1))
            sums = torch.where(alone, sums.sum(axis + 1, keepdim=True).expand_as(sums), sums)
        return sums
