"""What the extras of a target say besides numbers: the samples that mixed rows are made of, and who made the target."""

from __future__ import annotations

from typing import NamedTuple, Protocol
from weakref import WeakValueDictionary

from torch import Tensor


class Maker(Protocol):
    """An object that makes targets (a pipeline); each `Target` carries its key."""

    def was_read(self) -> None:
        """Called whenever a weight or soft label of one of its targets is read."""
        ...


# all makers that exist in this process, by key; a target may outlive its maker, whose key is then missing here
makers: WeakValueDictionary[str, Maker] = WeakValueDictionary()


class Mixed(NamedTuple):
    """The samples that B mixed rows are made of (MixUp, CutMix): C samples each, the row's own first.

    parts: (B, C) int64 positions in the dataset; shares: (B, C) float32, summing to 1 in a row; soft: (B, K) the mixed
    labels before any reweighter changed them, of maps the shares.
    """

    parts: Tensor
    shares: Tensor
    soft: Tensor

    @property
    def whole(self) -> Tensor:
        """(B,) bool: the rows that are not mixed, that is, whose own share is 1."""
        return self.shares[:, 0] > 1 - 1e-6
