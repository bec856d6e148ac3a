"""Which sample each row of a collated batch was made from, where the user's own collate function made it.

What: collate functions drop broken samples, replace or reorder them, so that row k need not be sample k. Rows are
recognised by their values: those of the tensors, arrays and numbers in the samples, which survive casts and stacking.
When: a collate function that is not torch's own; images under ``lift=True`` are recognised as objects instead. Cost: up
to 256 values of each leaf of each sample are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from .._base import leaves

_VALUES = 256  # of each leaf, evenly spread
Key = tuple[tuple[int, ...], bytes]


class Rows(NamedTuple):
    """samples: the number of the sample behind each row; None: it cannot be known."""

    samples: list[int] | None


def rows_of(samples: Sequence[Any], batch: Any) -> Rows | None:
    """The sample behind each row of ``batch``; None: no value of the samples is in it, so nothing speaks against row k
    being sample k."""
    keys = [_keys(sample) for sample in samples]
    table: dict[Key, set[int]] = {}
    for number, own in enumerate(keys):
        for key in own:
            table.setdefault(key, set()).add(number)
    columns = _columns(batch)
    found = [(leaf, rows) for leaf in columns if (rows := _candidates(leaf, table)) is not None]
    if not found:
        return None
    largest = max(leaf.numel() for leaf in columns)
    found.sort(key=lambda pair: -pair[0].numel())  # images say more than labels
    length = len(found[0][1])
    rows = found[0][1]
    for _, others in found[1:]:
        if len(others) == length and all(a & b for a, b in zip(rows, others, strict=True)):
            rows = [a & b for a, b in zip(rows, others, strict=True)]
    if length == len(samples) and all(number in row for number, row in enumerate(rows)):
        return Rows(list(range(length)))
    if found[0][0].numel() < largest:  # labels alone: rows whose images are new may be of several samples
        return Rows(None)
    return Rows(_chosen(rows, keys))


def _chosen(rows: Sequence[set[int]], keys: Sequence[list[Key]]) -> list[int] | None:
    """One sample for each row, in order among samples that are equal in everything; None where they are not equal."""
    taken: set[int] = set()
    chosen = []
    for row in rows:
        if any(keys[number] != keys[min(row)] for number in row):
            return None
        number = min(row - taken, default=min(row))
        taken.add(number)
        chosen.append(number)
    return chosen


def _columns(batch: Any) -> list[Tensor]:
    return [leaf for _, leaf in leaves.walk(batch) if isinstance(leaf, Tensor) and not leaf.is_nested and leaf.ndim]


def _candidates(column: Tensor, table: dict[Key, set[int]]) -> list[set[int]] | None:
    """The samples that have each row's values; None unless every row is found."""
    if not len(column) or column.layout.__str__() != "torch.strided" or column.is_complex():
        return None
    shape = tuple(column.shape[1:])
    values = _some(column.detach().reshape(len(column), -1).T).T.double().cpu().numpy()
    rows = [table.get((shape, row.tobytes())) for row in np.ascontiguousarray(values)]
    return [row for row in rows if row is not None] if None not in rows else None


def _keys(sample: Any) -> list[Key]:
    """Shape and some values of everything in a sample that may become a row."""
    keys = []
    for _, leaf in leaves.walk(sample):
        if isinstance(leaf, Tensor):
            if leaf.is_nested or leaf.is_sparse or leaf.is_complex():
                continue
            values = _some(leaf.detach().reshape(-1)).double().cpu().numpy()
        elif isinstance(leaf, (np.ndarray, np.generic, int, float)):
            array = np.asarray(leaf)
            if array.dtype.kind not in "biuf":
                continue
            values = _some(array.reshape(-1)).astype(np.float64)
        else:
            continue
        keys.append((tuple(getattr(leaf, "shape", ())), np.ascontiguousarray(values).tobytes()))
    return keys


def _some(flat: Any) -> Any:
    """Evenly spread entries along the first dimension."""
    return flat[:: max(1, -(-len(flat) // _VALUES))]
