"""Batches between the loader and the loss (``when="loss"``), and what the loop's forward pass gave for them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..batch import Batch
from .protocols import OperationTrace, WeightsAndLabels


class Shown(NamedTuple):
    """What the loop's own forward pass gave: logits (B, K), and features (B, d) if a hook recorded them."""

    logits: Tensor
    feature: Tensor | None


class Waiting:
    """A batch between the loader and the loss, then the weights and labels made for it."""

    def __init__(self, batch: Batch, trace: OperationTrace | None) -> None:
        self.batch: Batch | None = batch
        self.trace = trace
        self.index: Tensor = batch.index  # type: ignore[assignment]  # `Reweighting` has checked it
        self.result: WeightsAndLabels | None = None

    def lies_at(self, index: Tensor | None) -> bool:
        """Whether ``index`` has the same memory as the batch's index."""
        return index is not None and len(index) == len(self.index) and index.data_ptr() == self.index.data_ptr()

    def equals(self, index: Tensor | None) -> bool:
        """Whether ``index`` holds the same rows in the same order."""
        return index is not None and torch.equal(index.to(self.index.device), self.index)
