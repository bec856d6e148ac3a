"""The rows of a batch after the augment stage where a coreset selects what is augmented, and what each is made of."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class ResultRows(NamedTuple):
    """The M rows that become of a batch of B.

    source: (M,) int64, the batch's row that each is made of; the first B are its own rows in their order. augmented:
    (M,) bool, the others pass plain. view: (M,) int64, which view of its sample an augmented row is.
    """

    source: Tensor
    augmented: Tensor
    view: Tensor

    def of(self, rows: Tensor) -> tuple[ResultRows, Tensor]:
        """What becomes of a part of the batch, its rows (R,) int64 increasing; and which of the M rows these are."""
        become = torch.isin(self.source, rows).nonzero()[:, 0]
        source = torch.searchsorted(rows, self.source[become])
        return ResultRows(source, self.augmented[become], self.view[become]), become


def in_place(selected: Tensor) -> ResultRows:
    """The rows ``selected`` (B,) bool are augmented, the others stay plain."""
    rows = torch.arange(len(selected), device="cpu")
    return ResultRows(rows, selected, torch.zeros_like(rows))


def with_copies(selected: Tensor, plain: Tensor, copies: int) -> ResultRows:
    """Rows of the batch, and augmented copies after them, of which the views are numbered from 1.

    selected: (B,) bool, the rows with ``copies`` augmented copies. plain: (B,) bool, those that stay as they are; the
    first copy of the others is in their place. Each row is one or both.
    """
    rows = torch.arange(len(selected), device="cpu")
    source, view = [rows], [(~plain).long()]
    for number in range(1, copies + 1):
        copied = (selected & plain if number == 1 else selected).nonzero()[:, 0]
        source.append(copied)
        view.append(torch.full_like(copied, number))
    views = torch.cat(view)
    return ResultRows(torch.cat(source), views > 0, views)
