"""RePB: leave out a part of the samples that are easy for the model of their own batch, and weigh by how often.

What: a sample of an epoch whose loss was below the mean loss of its window, ``window`` batches in a row, is left out of
the next epoch with probability ``prune``; a sample that was left out comes back with probability 1 − ``prune``. Losses
are compared only within a window, since the model changes from one to the next. A sample's weight is T / n_i, with T
the number of epochs so far and n_i in how many of them it was drawn, which corrects the gradient summed over the run.

When: in place of `InfoBatch`, whose comparison of losses from different states of the model it avoids, and whose number
of epochs need not be known. How much is saved follows from the losses: on digits it trained 57 % of the rows, and was
0.4 ± 0.4 to 0.6 ± 0.3 points above a schedule of that length (benchmarks/results/pruning.json). Weights lie above 1 on
average, which acts as a larger learning rate, and have no upper bound: a sample that was drawn once in T epochs
weighs T. Not with wrong labels: of 40 %, 53 % of its rows were wrong, and a shorter schedule was 2.7 points better.

Cost: one random number a sample and epoch; eight bytes a sample beside the record of losses.

Reference: Zhou et al., "Inconsistency Biases in Dynamic Data Pruning", ICLR 2026. Neither its full text nor its code
could be read (of the authors' repository, only how it is called): the formulas are those of a published summary of the
paper, which agrees with its abstract, and with its public reviews on the threshold (the mean of the window), on samples
that come back, and on weights without a bound. Not found were the authors' ``prune``, for which InfoBatch's 0.5 stands
here (a review says that the paper does not discuss it), and whether they end on whole epochs. Their earlier code, whose
methods that repository lists, too, ends InfoBatch on whole epochs and its own method on random parts of them; here
neither is done. Ours: with several ranks a batch is what all of them draw in one step; a sample whose output was
not recorded is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._base import ranks
from .pruning import Pruning, unit_draws
from .schedule import checked_count

_KEEP, _RETURN = 0x5EEA, 0x5EE9  # streams of random draws, other than those of augmentations


class RePB(Pruning):
    """``coreset=smartaug.coreset.RePB()``: a coreset of its own, without a budget.

    * `prune`: ρ in [0, 1), the probability that a sample whose loss is below the mean of its window is left out of the
      next epoch; 1 − ρ is the probability that a sample which was left out comes back.
    * `window`: number of batches in a row whose losses are compared with each other.
    * `memory`: size in bytes above which the recorded losses are kept in a memory-mapped file.
    * `folder`: where that file lies; None is the system's temporary folder.

    The first epoch uses the whole dataset. Epochs have different lengths: `DataLoader.steps` gives an upper bound.
    Weights are not scaled to mean 1. Raises ValueError for arguments out of range.
    """

    numbered = True

    def __init__(
        self, *, prune: float = 0.5, window: int = 1, memory: int = 1 << 28, folder: str | None = None
    ) -> None:
        super().__init__(prune, memory=memory, folder=folder)
        self.window = checked_count("window", window, 1, "batches")
        self._times: Tensor | None = None  # (n,) int32: in how many epochs each sample was drawn
        self._passes = 0  # epochs so far
        self._before: Tensor | None = None  # (n,) bool: the samples of the last epoch

    @staticmethod
    def rule(loss: Tensor, window: Tensor, before: Tensor, drawn: Tensor, back: Tensor, prune: float) -> Tensor:
        """(n,) bool: the samples of the next epoch.

        loss: (n,) of the last epoch, NaN where it is unknown. window: (n,) int64, which one each loss is of. before:
        (n,) bool, the samples of the last epoch. drawn, back: (n,) uniform draws in [0, 1), for those and the others.
        """
        known = ~loss.isnan()
        _, code = window[known].unique(return_inverse=True)
        count = torch.bincount(code)
        mean = torch.bincount(code, loss[known].double()) / count
        easy = torch.zeros_like(before)
        easy[known] = loss[known].double() < mean[code]
        return torch.where(before, ~(easy & (drawn < prune)), back < 1.0 - prune)

    def _select(self, epoch: int, size: int, seed: int) -> tuple[Tensor, Tensor | None]:
        indices, weights = super()._select(epoch, size, seed)
        if self._times is None or len(self._times) != size:
            self._times = torch.zeros(size, dtype=torch.int32, device="cpu")
        self._times[indices] += 1
        self._passes += 1
        self._before = torch.zeros(size, dtype=torch.bool, device="cpu")
        self._before[indices] = True
        return indices, weights

    def _pruned(self, epoch: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
        record, seen = self._samples.merged(True)
        before, times = self._before, self._times
        assert before is not None
        assert times is not None

        def chosen() -> list[Tensor]:
            last = torch.from_numpy(seen == self._epoch) & before
            loss = torch.where(last, record.losses, torch.nan)
            window = torch.from_numpy(record.batches.astype(np.int64) // self.window)
            drawn, back = (unit_draws(seed, epoch, size, stream) for stream in (_KEEP, _RETURN))
            kept = self.rule(loss, window, before, drawn, back, self.prune).nonzero()[:, 0]
            return [kept, self._passes / times[kept].double()]

        indices, weights = ranks.from_first(chosen)
        return indices, weights

    def _finds(self) -> str:
        return "below the mean loss of their batch" if self.window == 1 else f"below the mean of {self.window} batches"

    def state_dict(self, record: bool = True) -> dict[str, Any]:
        """As `Coreset.state_dict`; record=False also leaves out how often each sample was drawn."""
        state = super().state_dict(record)
        if record and self._times is not None and self._before is not None:
            drawn = {"times": self._times.clone(), "passes": self._passes, "before": self._before.clone()}
            state["drawn"] = drawn
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave; without a record the run begins anew with a whole epoch."""
        super().load_state_dict(state)
        drawn = state.get("drawn")
        self._times, self._passes, self._before = None, 0, None
        if drawn is not None:
            self._times, self._passes, self._before = drawn["times"].clone(), drawn["passes"], drawn["before"].clone()

    def __repr__(self) -> str:
        return f"RePB(prune={self.prune}, window={self.window})"
