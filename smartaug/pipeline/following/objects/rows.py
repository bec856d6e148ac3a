"""Leaves with a row for each object of a sample: how they lie in a batch, read as one tensor and written back.

| layout | leaves | dropped objects |
|---|---|---|
| `Listed` | in each sample (n, ...) tensors, arrays or lists | are left out |
| `Padded`, with ``valid`` | (B, N, ...) beside the leaf (B, N) that says which rows are objects | are no longer valid |
| `Padded`, without | (B, N, ...) or (B, ...), every row an object | stay |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

Rows = Any  # a tensor (M, ...), an array or a list of M entries: one for each object


class Placed(NamedTuple):
    """Which objects lie where in the new batch: row (M,) int64, its sample; origin (M,) int64, the object it was.

    Sorted by row. order: (L,) int64, the sample of the old batch that each of the L new ones was made from.
    """

    row: Tensor
    origin: Tensor
    order: Tensor

    @property
    def counts(self) -> list[int]:
        """The number of objects of each of the L samples."""
        return torch.bincount(self.row, minlength=len(self.order)).tolist()


def length(value: object) -> int | None:
    """The number of rows of one sample's leaf; None: it has none (a number, text)."""
    if isinstance(value, Tensor):
        return None if value.is_nested or value.ndim == 0 else len(value)
    if isinstance(value, np.ndarray):
        return len(value) if value.ndim else None
    return len(value) if isinstance(value, (list, tuple)) else None


def picked(rows: Rows, index: Tensor) -> Rows:
    """The entries ``index`` (int64, on the CPU) of a tensor, an array or a list."""
    if isinstance(rows, Tensor):
        return rows.index_select(0, index.to(rows.device))  # torch 2.6 has no [] for uint16 and its kin
    return rows[index.numpy()] if isinstance(rows, np.ndarray) else [rows[number] for number in index.tolist()]


@dataclass(frozen=True)
class Listed:
    """Leaves that have an entry for each sample. counts: (B,) int64 objects of each."""

    counts: Tensor
    drops = True

    def flat(self, value: Sequence[Rows]) -> Rows:
        """The rows of all samples, one sample after the other."""
        if isinstance(value[0], Tensor):
            tensors = [one.as_subclass(Tensor) for one in value]
            full = [one for one in tensors if one.numel()] or tensors[:1]  # torch.zeros(0) says "none", too
            return torch.cat(full)
        if isinstance(value[0], np.ndarray):
            return np.concatenate([one for one in value if len(one)] or value[:1])
        return [row for one in value for row in one]

    def of_samples(self, value: Sequence[Tensor], rows: Tensor) -> list[Tensor]:
        """The rows of each of the samples ``rows`` (R,) int64."""
        return [value[row].as_subclass(Tensor) for row in rows.tolist()]

    def put(self, value: Sequence[Rows], rows: Rows, placed: Placed, moves: bool) -> list[Rows]:
        """An entry for each new sample, of the types of the entries ``value`` that they were made from."""
        if isinstance(rows, Tensor):
            return list(rows.split(placed.counts))
        made, start = [], 0
        for count, like in zip(placed.counts, value, strict=True):
            part = rows[start : start + count]
            made.append(part if isinstance(part, np.ndarray) else type(like)(part))
            start += count
        return made


@dataclass(frozen=True)
class Padded:
    """Leaves (B, N, ...) or, with ``axis=False``, (B, ...) with one object a sample.

    valid: (B, N) bool on the CPU, the rows that are objects. drops: whether a leaf of the batch says so.
    """

    valid: Tensor
    drops: bool
    axis: bool = True

    @property
    def counts(self) -> Tensor:
        """(B,) int64 objects of each sample."""
        return self.valid.sum(1)

    def flat(self, value: Tensor) -> Tensor:
        """The rows that are objects."""
        plain = value.as_subclass(Tensor)
        whole = plain.flatten(0, 1) if self.axis else plain
        return whole if bool(self.valid.all()) else whole[self.valid.flatten().to(value.device)]

    def of_samples(self, value: Tensor, rows: Tensor) -> list[Tensor]:
        """The objects of each of the samples ``rows`` (R,) int64."""
        plain = value.as_subclass(Tensor) if self.axis else value.as_subclass(Tensor)[:, None]
        return [plain[row][self.valid[row].to(plain.device)] for row in rows.tolist()]

    def put(self, value: Tensor, rows: Tensor, placed: Placed, moves: bool) -> Tensor:
        """``value`` (L, N, ...), repeated already where samples were, with ``rows`` in it.

        Where an object was dropped, leaves that ``moves`` are 0 and others stay; N grows where mixing adds objects.
        """
        slot, most = self._slots(placed)
        whole = value.as_subclass(Tensor) if self.axis else value.as_subclass(Tensor)[:, None]
        if not self.axis and most > 1:
            raise ValueError("a sample got several objects, and the batch has room for one; give it lists of (n, ...)")
        whole = whole.to(rows.device)  # masks have moved to the images' device
        made = whole.new_zeros(len(whole), most, *rows.shape[1:])
        if whole.shape[2:] == rows.shape[1:]:  # maps may have another size now
            old = self.valid[placed.order].to(whole.device)[(...,) + (None,) * (whole.ndim - 2)]
            made[:, : whole.shape[1]] = whole.masked_fill(old, 0) if moves else whole
        made[placed.row.to(made.device), slot.to(made.device)] = rows.to(made.device, made.dtype)
        return made if self.axis else made[:, 0]

    def marked(self, like: Tensor, placed: Placed) -> Tensor:
        """(L, N): which rows are objects now, in the type of the leaf ``like`` that said so."""
        slot, most = self._slots(placed)
        made = torch.zeros(len(placed.order), most, dtype=like.dtype, device=like.device)
        made[placed.row.to(like.device), slot.to(like.device)] = 1
        return made

    def _slots(self, placed: Placed) -> tuple[Tensor, int]:
        """(M,) int64 place of each object in its sample, and how many places a sample has.

        An object keeps its place in its own sample; one of another sample gets the first that is free.
        """
        sample, own = self.valid.nonzero().unbind(1)
        slot, most = own[placed.origin], self.valid.shape[1]
        stays = sample[placed.origin] == placed.order[placed.row]
        if bool(stays.all()) and len(torch.unique(placed.row * most + slot)) == len(slot):
            return slot, most
        free = [list(range(most, -1, -1)) for _ in placed.order]  # of each sample, in reverse
        strange = []
        for number, (row, stay) in enumerate(zip(placed.row.tolist(), stays.tolist(), strict=True)):
            if stay and int(slot[number]) in free[row]:
                free[row].remove(int(slot[number]))
            else:
                strange.append(number)
        for number in strange:
            places = free[int(placed.row[number])]
            slot[number] = places.pop()
            if not places:
                places.append(int(slot[number]) + 1)
        return slot, max(most, int(slot.max()) + 1 if len(slot) else 0)


Layout = Listed | Padded
