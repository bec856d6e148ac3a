"""The number of samples that two datasets have in common, judged by indices and by the memory of their tensors."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import Tensor
from torch.utils.data import ConcatDataset, Subset

from .._base import leaves
from .._base.original import original


class Part(NamedTuple):
    """Rows of one stored dataset. known_as: identities of the object, and of the memory of its first tensor."""

    known_as: frozenset[tuple[str, int]]
    rows: Sequence[int]


def shared_samples(one: object, other: object) -> int:
    """The number of samples of ``one`` that ``other`` has as well, through subsets and concatenations of both."""
    others = list(_parts(other))
    count = 0
    for part in _parts(one):
        alike = [second for second in others if part.known_as & second.known_as]
        if alike:
            mine = set(part.rows)
            count += len(set().union(*(mine & set(second.rows) for second in alike)))
    return count


def _parts(data: object, used: Sequence[int] | None = None) -> Iterator[Part]:
    """The stored datasets that ``data`` is made of, and which rows of each; used: rows of ``data``, None for all."""
    if isinstance(data, Subset):
        own: list[int] = [int(index) for index in data.indices]
        yield from _parts(data.dataset, own if used is None else [own[place] for place in used])
    elif isinstance(data, ConcatDataset):
        ends = data.cumulative_sizes
        split: list[list[int]] = [[] for _ in ends]
        for row in used or ():
            number = bisect.bisect_right(ends, row)
            split[number].append(row - (ends[number - 1] if number else 0))
        for number, part in enumerate(data.datasets):
            yield from _parts(part, None if used is None else split[number])
    else:
        yield _stored(original(data), used)


def _stored(data: object, used: Sequence[int] | None) -> Part:
    """The rows ``used`` of one dataset; rows of tensors are counted in their memory, which views of it share."""
    tensors = data if isinstance(data, tuple) else getattr(data, "tensors", None)
    inputs = tensors[0] if isinstance(tensors, tuple) and tensors else None
    first = next((leaf for _, leaf in leaves.walk(inputs) if isinstance(leaf, Tensor) and leaf.ndim), None)
    known_as, start = {("object", id(data))}, 0
    count = len(data) if hasattr(data, "__len__") else 0
    if first is not None:
        known_as.add(("memory", first.untyped_storage().data_ptr()))
        start = int(first.storage_offset()) // max(1, int(first.stride(0)))  # of a view: where its rows begin
        count = len(first)
    rows = range(start, start + count) if used is None else [start + row for row in used]
    return Part(frozenset(known_as), rows)
