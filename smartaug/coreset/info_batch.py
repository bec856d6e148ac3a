"""InfoBatch: leave out a random part of the samples that are learned already, and give the rest of them more weight.

What: each sample whose last loss was below the mean is left out with probability ``prune``; of these samples, the ones
that are kept weigh 1 / (1 − prune), so that the gradient summed over an epoch keeps its expectation. The first epoch,
and the share ``final`` of all epochs at the end, are whole.

When: to save up to the share ``prune`` of the steps without a selection pass; how much is saved follows from the
losses. Near interpolation it is lossless, and so is anything as cheap: on digits it trained 65 % of the rows and was as
good as all rows, as a schedule of 65 % of the epochs and as a fresh random 65 % (benchmarks/results/pruning.json).

Cost: one random number a sample and epoch.

Reference: Qin et al., "InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning", ICLR 2024.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .._base import ranks
from ..batch import Embedding
from .pruning import Pruning, unit_draws
from .record import OutputRecord

_STREAM = 0x5EEB  # of random draws, other than those of augmentations


class InfoBatch(Pruning):
    """``coreset=smartaug.coreset.InfoBatch(epochs)``: a coreset of its own, without a budget.

    * `epochs`: number of epochs of the whole run.
    * `prune`: r in [0, 1), the probability that a sample whose loss is below the mean is left out of an epoch.
    * `final`: in [0, 1], the share of the epochs, at the end of the run, that use the whole dataset.
    * `memory`: size in bytes above which the recorded losses are kept in a memory-mapped file.
    * `folder`: where that file lies; None is the system's temporary folder.

    A new subset is drawn in every epoch, and the warm-up is the first epoch, which uses the whole dataset. Losses are
    those that `smartaug.Loss` sees; a sample that was never seen is kept. Epochs have different lengths:
    `DataLoader.steps` gives an upper bound. Weights are not scaled to mean 1 over the samples that are drawn; with the
    pruned samples counted as 0, their mean over the dataset is 1 in expectation. Raises ValueError for arguments out of
    range.
    """

    def __init__(
        self,
        epochs: int,
        *,
        prune: float = 0.5,
        final: float = 0.125,
        memory: int = 1 << 28,
        folder: str | None = None,
    ) -> None:
        name = type(self).__name__
        if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 1:
            raise ValueError(f"epochs must be the number of epochs of the run, got {epochs!r}; write {name}(100)")
        if not isinstance(final, (int, float)) or not 0.0 <= final <= 1.0:
            raise ValueError(f"final must be a share of the epochs in [0, 1], got {final!r}; write final=0.125")
        super().__init__(prune, memory=memory, folder=folder)
        self.epochs, self.final = epochs, float(final)

    @staticmethod
    def rule(score: Tensor, drawn: Tensor, prune: float) -> tuple[Tensor, Tensor]:
        """``(indices, weights)`` kept of scores (n,), losses here, NaN for unknown, by uniform draws (n,) in [0, 1).

        Left out are the samples with a score below the mean of the known ones and a draw below ``prune``.
        """
        easy = score < score.nanmean()  # False for unknown ones
        kept = ~(easy & (drawn < prune))
        weights = torch.where(easy, 1.0 / (1.0 - prune), 1.0).double()
        return kept.nonzero()[:, 0], weights[kept]

    def __call__(
        self, embedding: Embedding, budget: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """The rule as a criterion: reads the embedding's loss alone and ignores ``budget``."""
        if embedding.loss is None:
            raise ValueError("InfoBatch reads embedding.loss, which is None; write Embedding(residual, None, loss)")
        return self.rule(embedding.loss, torch.rand(len(embedding.loss), generator=generator), self.prune)

    def whole(self, epoch: int) -> bool:
        """Whether ``epoch`` uses the whole dataset: the first, and the share ``final`` of all."""
        return super().whole(epoch) or epoch >= round((1.0 - self.final) * self.epochs)

    def _pruned(self, epoch: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
        record, seen = self._samples.merged(True)
        score = self._score(record, seen)
        drawn = unit_draws(seed, epoch, size, _STREAM)
        indices, weights = ranks.from_first(lambda: list(self.rule(score, drawn, self.prune)))
        return indices, weights

    def _score(self, record: OutputRecord, seen: np.ndarray) -> Tensor:
        """(n,) what the rule compares with its mean, NaN where unknown; every rank calls it."""
        return torch.where(torch.from_numpy(seen >= 0), record.losses, torch.nan)

    def _finds(self) -> str:
        return "below the mean loss"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.epochs}, prune={self.prune}, final={self.final})"
