"""What coresets without a budget share: from epoch to epoch they leave out other samples, as many as the losses say."""

from __future__ import annotations

from numbers import Real

import torch
from torch import Tensor

from .. import draws
from .coreset import Coreset


class Pruning(Coreset):
    """A coreset whose first epoch is whole, and whose others leave out a part of the samples, drawn anew for each.

    * `prune`: in [0, 1), the probability that a sample which the rule finds easy is left out of an epoch.
    * `memory`, `folder`: as for `Coreset`.

    Weights are used as they are, not scaled to mean 1. Raises ValueError for a probability out of range.
    """

    rescales = True  # weights are used as they are

    def __init__(self, prune: float, *, memory: int = 1 << 28, folder: str | None = None) -> None:
        super().__init__(1.0, memory=memory, folder=folder)
        if not isinstance(prune, Real) or isinstance(prune, bool) or not 0.0 <= prune < 1.0:
            raise ValueError(f"prune must be a probability in [0, 1), got {prune!r}; write prune=0.5")
        self.prune: float = float(prune)
        self.varies = True
        self._figures["pruned"] = 0

    def budget(self, size: int, epoch: int = 0) -> int:
        """The number of samples that ``epoch`` draws once it is selected; before, the most it can be: ``size``."""
        known = self._made.count(epoch, size)
        return size if known is None else known

    def whole(self, epoch: int) -> bool:
        """Whether ``epoch`` uses the whole dataset."""
        return epoch == self._since

    def _select(self, epoch: int, size: int, seed: int) -> tuple[Tensor, Tensor | None]:
        if self.whole(epoch):
            return torch.arange(size, device="cpu"), None
        indices, weights = self._pruned(epoch, size, seed)
        self._figures["pruned"] += size - len(indices)
        return indices, weights

    def _pruned(self, epoch: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
        """``(indices, weights)`` of an epoch that is not whole; every rank calls it."""
        raise NotImplementedError(f"{type(self).__name__} must say which samples an epoch keeps; write _pruned()")

    def explain(self) -> list[tuple[str, str, str]]:
        """Rows for the loader's table."""
        return [(f"coreset: {type(self).__name__}", "sampler", f"{self._finds()} {self.prune:.0%} are left out")]

    def _finds(self) -> str:
        """Of which samples a part is left out."""
        raise NotImplementedError(f"{type(self).__name__} must say of which samples; write _finds()")


def unit_draws(seed: int, epoch: int, size: int, stream: int) -> Tensor:
    """(size,) uniform draws in [0, 1), a function of the arguments alone."""
    return draws.uniform(draws.key(seed, epoch, torch.arange(size, device="cpu"), stream))
