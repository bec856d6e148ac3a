"""Augmented copies of a selection beside the originals of a fresh random subset, each epoch with another one.

What: S is what a coreset selects, S′ as many samples at random. The originals of S′ are trained on, and augmented
copies of S. A sample in both is drawn once, and gets its copy beside it. S′ shares with S as many samples as random
subsets do on average (to the nearest integer), so that all epochs have the same number of samples to draw.

When: ``Coreset(apply="append", originals="random")``. Cost: one sort of the data set an epoch. Reference: Liu &
Mirzasoleiman, "Data-Efficient Augmentation for Training Neural Networks", NeurIPS 2022, the form of its experiments
on ImageNet; there the number of shared samples is random.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from .. import draws

_STREAM = 0x5EE8  # of random draws, other than those of augmentations


class Selected(Protocol):
    """The coreset whose selection is S."""

    varies: bool
    version: int

    def budget(self, size: int, epoch: int = 0) -> int:
        """The number of samples in S."""
        ...

    def selection(self, epoch: int, size: int, seed: int) -> tuple[Tensor, Tensor | None]:
        """S (k,) int64, and weights."""
        ...


def shared(budget: int, size: int) -> int:
    """How many samples S and S′ of ``budget`` samples out of ``size`` have in common: the mean of random subsets."""
    return round(budget * budget / size) if size else 0


def random_originals(selected: Tensor, size: int, seed: int, epoch: int) -> Tensor:
    """S′: (k,) int64 increasing, as many samples at random as S ``selected`` (k,) has; a function of the arguments."""
    order = draws.permutation(draws.key(seed, epoch, torch.arange(size, device="cpu"), _STREAM))
    inside = torch.zeros(size, dtype=torch.bool, device="cpu")
    inside[selected] = True
    common = shared(len(selected), size)
    mine, others = order[inside[order]], order[~inside[order]]
    return torch.cat([mine[:common], others[: len(selected) - common]]).sort().values


class RandomOriginals:
    """S′ as what a loader may draw or look up: its ``selection`` has no weights."""

    def __init__(self, coreset: Selected) -> None:
        self.coreset = coreset

    @property
    def varies(self) -> bool:
        """Whether the number of samples differs between epochs."""
        return self.coreset.varies

    @property
    def version(self) -> int:
        """Increases where the selections made so far no longer hold."""
        return self.coreset.version

    def budget(self, size: int, epoch: int = 0) -> int:
        """How many samples ``epoch`` has."""
        return self.coreset.budget(size, epoch)

    def selection(self, epoch: int, size: int, seed: int) -> tuple[Tensor, None]:
        """``(indices, None)``: (k,) int64, increasing."""
        return random_originals(self.coreset.selection(epoch, size, seed)[0], size, seed, epoch), None


class WithOriginals(RandomOriginals):
    """S ∪ S′, each sample once."""

    def budget(self, size: int, epoch: int = 0) -> int:
        """How many samples ``epoch`` has."""
        budget = self.coreset.budget(size, epoch)
        return 2 * budget - shared(budget, size)

    def selection(self, epoch: int, size: int, seed: int) -> tuple[Tensor, None]:
        """``(indices, None)``: (m,) int64, increasing."""
        selected = self.coreset.selection(epoch, size, seed)[0]
        return torch.cat([selected, random_originals(selected, size, seed, epoch)]).unique(), None
