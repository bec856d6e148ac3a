"""InfoBatch: leave out a random part of the samples that are learned already, and give the rest of them more weight.

What: each sample whose last loss was below the mean is left out with probability ``prune``; of these samples, the ones
that are kept weigh 1 / (1 − prune), so that the gradient summed over an epoch keeps its expectation. The first epoch,
and the share ``final`` of all epochs at the end, are whole.

When: to save up to the share ``prune`` of the steps without a selection pass; how much is saved follows from the
losses.

Cost: one random number a sample and epoch.

Reference: Qin et al., "InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning", ICLR 2024.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import draws
from .._base import ranks
from ..batch import Embedding
from .coreset import Coreset

_STREAM = 0x5EEB  # of random draws, other than those of augmentations


class InfoBatch(Coreset):
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

    rescales = True  # weights are used as they are

    def __init__(
        self,
        epochs: int,
        *,
        prune: float = 0.5,
        final: float = 0.125,
        memory: int = 1 << 28,
        folder: str | None = None,
    ) -> None:
        super().__init__(1.0, memory=memory, folder=folder)
        if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 1:
            raise ValueError(f"epochs must be the number of epochs of the run, got {epochs!r}; write InfoBatch(100)")
        if not isinstance(prune, (int, float)) or not 0.0 <= prune < 1.0:
            raise ValueError(f"prune must be a probability in [0, 1), got {prune!r}; write prune=0.5")
        if not isinstance(final, (int, float)) or not 0.0 <= final <= 1.0:
            raise ValueError(f"final must be a share of the epochs in [0, 1], got {final!r}; write final=0.125")
        self.epochs, self.prune, self.final, self.varies = epochs, float(prune), float(final), True
        self._figures["pruned"] = 0

    @staticmethod
    def rule(loss: Tensor, drawn: Tensor, prune: float) -> tuple[Tensor, Tensor]:
        """``(indices, weights)`` kept of losses (n,), NaN for unknown, by uniform draws (n,) in [0, 1).

        Left out are the samples with a loss below the mean of the known ones and a draw below ``prune``.
        """
        easy = loss < loss.nanmean()  # False for unknown ones
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

    def budget(self, size: int, epoch: int = 0) -> int:
        """The number of samples that ``epoch`` draws once it is selected; before, the most it can be: ``size``."""
        known = self._made.count(epoch, size)
        return size if known is None else known

    def _select(self, epoch: int, size: int, seed: int) -> tuple[Tensor, Tensor | None]:
        whole = torch.arange(size, device="cpu")
        if epoch == self._since or epoch >= round((1.0 - self.final) * self.epochs):
            return whole, None
        record, seen = self._samples.merged(True)

        def pruned() -> list[Tensor]:
            loss = torch.where(torch.from_numpy(seen >= 0), record.losses, torch.nan)
            return list(self.rule(loss, draws.uniform(draws.key(seed, epoch, whole, _STREAM)), self.prune))

        indices, weights = ranks.from_first(pruned)
        self._figures["pruned"] += size - len(indices)
        return indices, weights

    def explain(self) -> list[tuple[str, str, str]]:
        """Rows for the loader's table."""
        return [("coreset: InfoBatch", "sampler", f"below the mean loss {self.prune:.0%} are left out")]

    def __repr__(self) -> str:
        return f"InfoBatch({self.epochs}, prune={self.prune}, final={self.final})"
