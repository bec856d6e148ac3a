"""The records that travel between stages, besides the target: `Batch`, `Mixed` and `Embedding`."""

from __future__ import annotations

from typing import NamedTuple, Protocol
from weakref import WeakValueDictionary

from torch import Tensor

from .._base.leaves import Structure


class Maker(Protocol):
    """An object that makes targets (a pipeline); each `Target` carries its key."""

    def was_read(self) -> None:
        """Called whenever a weight or soft label of one of its targets is read."""
        ...


# all makers that exist in this process, by key; a target may outlive its maker, whose key is then missing here
makers: WeakValueDictionary[str, Maker] = WeakValueDictionary()


class Batch(NamedTuple):
    """One batch as the stages see it, and what a loader with ``returns="batch"`` yields.

    inputs: (B, C, H, W) or the user's own inputs; target: the user's own target leaf or None; weight: (B,) float with
    mean 1, or None; soft: (B, K) label distributions, of maps (B, K, ...), or None; index: (B,) int64 positions in the
    dataset, or None.
    """

    inputs: Structure
    target: Structure = None
    weight: Tensor | None = None
    soft: Tensor | None = None
    index: Tensor | None = None  # type: ignore[assignment]  # tuple.index gives way to the field


class Embedding(NamedTuple):
    """Per-sample gradient embedding, factored: residual (n, K) = p − y, and optionally feature (n, d) and loss (n,).

    The gradient of a linear head is residual ⊗ (feature, 1); its Gram matrix is (r rᵀ) ∘ (φ φᵀ + 1), so the n × K·d
    product is never formed (Liu & Mirzasoleiman, NeurIPS 2022, §4).
    """

    residual: Tensor
    feature: Tensor | None = None
    loss: Tensor | None = None


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
