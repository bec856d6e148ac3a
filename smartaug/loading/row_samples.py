"""Finds the sample that each row of a collated batch was made from, if the user's own collate function made it.

What: collate functions may drop, replace or reorder samples, so that row k need not be sample k. A row is recognised by
the values of the tensors, arrays and numbers in the samples, which casts and stacking do not change. An image that the
function scales or normalises is recognised by the order of the values in its first channel, which that does not change;
a sequence that it pads, by its beginning.
In a list of one entry a sample, an entry is recognised by its tensors, which are the sample's own or have its values.
When: a collate function that is not torch's own; images under ``lift=True`` are recognised as objects instead. Cost: up
to 256 values of each leaf of each sample are compared; all values, where these do not tell samples apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from torch import Tensor

from .._base import leaves

_VALUES = 256  # compared values per leaf, evenly spaced
_Values = TypeVar("_Values", Tensor, np.ndarray)
_Key = TypeVar("_Key", bound=Hashable)
Key = tuple[tuple[int, ...], bytes]


class Rows(NamedTuple):
    """samples: for each row the position of its sample in the list of samples; None: it cannot be known."""

    samples: list[int] | None


def rows_of(samples: Sequence[Any], batch: Any) -> Rows | None:
    """The sample of each row of ``batch``; None: no value of them is in it; take row k to be sample k."""
    keys = [_keys(sample) for sample in samples]
    table = _table(keys)
    owners = _table([[id(leaf) for _, leaf in leaves.walk(sample) if isinstance(leaf, Tensor)] for sample in samples])
    found, inside, largest = list[tuple[int, list[set[int]]]](), set[int](), 0
    for part in _lists(batch):
        own = _columns(part)
        entries = _entries(part, owners, table)
        if entries is not None:
            found.append((sum(leaf.numel() for leaf in own), entries))
            inside |= {id(leaf) for leaf in own}
    columns = [leaf for leaf in _columns(batch) if id(leaf) not in inside]
    unmatched = []
    for leaf in columns:
        own_rows = _candidates(leaf, table)
        if own_rows is None:
            unmatched.append(leaf)
        else:
            found.append((leaf.numel(), _in_full(leaf, own_rows, samples)))
    if unmatched:
        orders = _table([_orders(sample) for sample in samples])
        for leaf in unmatched:
            rows = _ordered_candidates(leaf, orders) or _padded_candidates(leaf, table)
            found += [] if rows is None else [(leaf.numel(), rows)]
    if not found:
        return None
    largest = max([leaf.numel() for leaf in columns] + [size for size, _ in found])
    found.sort(key=lambda pair: -pair[0])  # the largest leaves first: images identify a sample, labels may not
    length = len(found[0][1])
    rows = found[0][1]
    for _, others in found[1:]:
        if len(others) == length and all(a & b for a, b in zip(rows, others, strict=True)):
            rows = [a & b for a, b in zip(rows, others, strict=True)]
    if length == len(samples) and all(number in row for number, row in enumerate(rows)):
        return Rows(list(range(length)))
    if found[0][0] < largest:  # only labels matched: an image that the function made may come from several samples
        return Rows(None)
    return Rows(_chosen(rows, keys))


def _table(keys: Sequence[list[_Key]]) -> dict[_Key, set[int]]:
    """Key -> the positions of the samples that have it."""
    table: dict[_Key, set[int]] = {}
    for number, own in enumerate(keys):
        for key in own:
            table.setdefault(key, set()).add(number)
    return table


def _chosen(rows: Sequence[set[int]], keys: Sequence[list[Key]]) -> list[int] | None:
    """One sample per row; equal samples are used in order; None if a row matches samples that are not equal."""
    taken: set[int] = set()
    chosen = []
    for row in rows:
        if any(keys[number] != keys[min(row)] for number in row):
            return None
        number = min(row - taken, default=min(row))
        taken.add(number)
        chosen.append(number)
    return chosen


def _lists(batch: Any) -> Iterator[Sequence[Any]]:
    """The outermost lists and tuples in a batch whose entries are all tensors or all dicts, such as one a sample."""
    listed = isinstance(batch, (list, tuple)) and not hasattr(batch, "_fields") and len(batch) > 0
    if listed and (leaves.is_samples(batch) or all(isinstance(entry, Tensor) for entry in batch)):
        yield batch
        return
    if not isinstance(batch, Tensor):
        for _, part in leaves.parts_of(batch) or ():
            yield from _lists(part)


def _entries(listed: Sequence[Any], owners: dict[int, set[int]], table: dict[Key, set[int]]) -> list[set[int]] | None:
    """For each entry of a list the samples that it may come from: its tensors are theirs, or their values are.

    None unless every entry comes from one.
    """
    rows = []
    for entry in listed:
        own = [leaf for _, leaf in leaves.walk(entry) if isinstance(leaf, Tensor)]
        known = [owners[id(leaf)] for leaf in own if id(leaf) in owners]
        known = known or [table[key] for key in _keys(entry) if key in table]
        whose = set.intersection(*known) if known else set()
        if not whose:
            return None
        rows.append(whose)
    return rows


def _columns(batch: Any) -> list[Tensor]:
    return [leaf for _, leaf in leaves.walk(batch) if isinstance(leaf, Tensor) and not leaf.is_nested and leaf.ndim]


def _is_usable(column: Tensor) -> bool:
    return len(column) > 0 and str(column.layout) == "torch.strided" and not column.is_complex()


def _candidates(column: Tensor, table: dict[Key, set[int]]) -> list[set[int]] | None:
    """For each row the samples with its values; None unless every row has one."""
    if not _is_usable(column):
        return None
    shape = tuple(column.shape[1:])
    values = _some(_plain(column).reshape(len(column), -1).T).T.double().cpu().numpy()
    rows = [table.get((shape, row.tobytes())) for row in np.ascontiguousarray(values)]
    return [row for row in rows if row is not None] if None not in rows else None


def _ordered_candidates(column: Tensor, table: dict[Key, set[int]]) -> list[set[int]] | None:
    """For each row the samples whose values are in the same order; None unless every row has one."""
    if not _is_usable(column) or column.ndim < 3 or not column.numel():
        return None
    rows = [table.get((tuple(row.shape), _order(row.cpu().numpy()))) for row in _plain(column)]
    return [row for row in rows if row is not None] if None not in rows else None


def _padded_candidates(column: Tensor, table: dict[Key, set[int]]) -> list[set[int]] | None:
    """For each row the samples with whose values it begins, of the largest of them (padding follows them)."""
    if not _is_usable(column) or column.ndim < 2:
        return None
    full = tuple(column.shape[1:])
    shapes = {
        shape for shape, _ in table if len(shape) == len(full) and all(a <= b for a, b in zip(shape, full, strict=True))
    }
    found = []
    for row in column.detach():
        held: set[int] = set()
        for shape in sorted(shapes, key=lambda shape: -int(np.prod(shape))):
            begins = row[tuple(map(slice, shape))].reshape(-1)
            held = held or table.get((shape, _some(begins).double().cpu().numpy().tobytes()), set())
            if held:
                break
        found.append(held)
    return found if all(found) else None


def _in_full(column: Tensor, rows: list[set[int]], samples: Sequence[Any]) -> list[set[int]]:
    """``rows`` without the samples that agree with a row of ``column`` in the compared values only, not in all."""
    doubtful = set().union(*(row for row in rows if len(row) > 1)) if any(len(row) > 1 for row in rows) else set()
    if not doubtful or column[0].numel() <= _VALUES:
        return rows
    full = {number: set(map(_digest, _arrays(samples[number]))) for number in doubtful}
    made = []
    for row, value in zip(rows, column.detach(), strict=True):
        own = _digest(value.cpu().numpy()) if len(row) > 1 else b""
        made.append({number for number in row if own in full[number]} or row if own else row)
    return made


def _arrays(sample: Any) -> list[np.ndarray]:
    found = [leaf for _, leaf in leaves.walk(sample) if isinstance(leaf, np.ndarray) or leaves.is_plain(leaf)]
    arrays = [leaf.detach().cpu().numpy() if isinstance(leaf, Tensor) else leaf for leaf in found]
    return [array for array in arrays if array.dtype.kind in "biuf"]


def _digest(array: np.ndarray) -> bytes:
    values = np.ascontiguousarray(array, dtype=np.float64)
    return hashlib.blake2b(values.data, digest_size=16).digest() + repr(array.shape).encode()


def _orders(sample: Any) -> list[Key]:
    """Shape and value order (`_order`) of each image in a sample."""
    images = [np.asarray(leaf) for _, leaf in leaves.walk(sample) if _is_image(leaf)]
    return [(image.shape, _order(image)) for image in images if image.dtype.kind in "iuf" and image.size]


def _is_image(leaf: object) -> bool:
    if isinstance(leaf, Tensor):
        return not leaf.is_nested and not leaf.is_sparse and leaf.device.type == "cpu" and leaf.ndim >= 2
    return isinstance(leaf, np.ndarray) and leaf.ndim >= 2


def _order(image: np.ndarray) -> bytes:
    """Ranks of some values of the first channel, ties equal: no strictly increasing function changes them."""
    values = _some((image[0] if image.ndim > 2 else image).reshape(-1))
    return np.unique(values, return_inverse=True)[1].astype(np.int16).tobytes()


def _keys(sample: Any) -> list[Key]:
    """Shape and some values of each tensor, array and number in a sample."""
    keys = []
    for _, leaf in leaves.walk(sample):
        if isinstance(leaf, Tensor):
            if leaf.is_nested or leaf.is_sparse or leaf.is_complex():
                continue
            values = _some(_plain(leaf).reshape(-1)).double().cpu().numpy()
        elif isinstance(leaf, (np.ndarray, np.generic, int, float)):
            array = np.asarray(leaf)
            if array.dtype.kind not in "biuf":
                continue
            values = _some(array.reshape(-1)).astype(np.float64)
        else:
            continue
        keys.append((tuple(getattr(leaf, "shape", ())), np.ascontiguousarray(values).tobytes()))
    return keys


def _plain(leaf: Tensor) -> Tensor:
    """The values alone: types of other libraries may refuse to be sliced (MONAI's MetaTensor, by its metadata)."""
    return leaf.as_subclass(Tensor).detach()


def _some(flat: _Values) -> _Values:
    """At most 256 evenly spaced entries along the first dimension."""
    return flat[:: max(1, -(-len(flat) // _VALUES))]
