"""Counting how often a sample came before in a pass, for a dataset inside `Subset` or `ConcatDataset`.

The sampler counts its own indices. The wrappers translate them to indices of the inner dataset; this module translates
them in the same way.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

from torch.utils.data import ConcatDataset, Subset

from ..._base.torch_fetch import Carrier, numbers

Indexed = Any  # the user's dataset: one with indices, whose other attributes depend on its class


def repeats_of(dataset: Sized, samples: list[int], keys: Carrier, outermost: Indexed) -> list[int] | None:
    """How often each of the ``samples``, indices of ``dataset``, came before; None where all are new in the pass.

    keys: the sampler's indices for the batch, into the dataset ``outermost``. The translation of a wrapper that is not
    torch's own is unknown, so its samples count as new.
    """
    before = keys.drawn.before
    if before is None:
        return None
    wanted = numbers(keys) or []
    times: dict[int, list[int]] = {}
    for key, count in zip(wanted, before, strict=True):
        number = _translated(outermost, key, dataset)
        if number is not None:
            times.setdefault(number, []).append(count)
    found = []
    for number in samples:
        name = (id(dataset), number)
        known, asked = times.get(number, [0]), keys.asked[name]
        found.append(known[min(asked, len(known) - 1)])
        keys.asked[name] += 1
    return found


def _translated(outer: Indexed, key: int, inner: Sized) -> int | None:
    """The index of ``inner`` to which ``outer``, a dataset around it, translates its index ``key``.

    None where ``key`` belongs to another dataset, or the translation is unknown.
    """
    if outer is inner:
        return key % len(inner)
    if hasattr(type(outer), "feeds_transform"):  # an AugmentedDataset around another
        return _translated(outer.feeds_transform, key, inner)
    if isinstance(outer, Subset):
        return _translated(outer.dataset, int(outer.indices[key]), inner)
    if isinstance(outer, ConcatDataset):
        start = 0
        for part, end in zip(outer.datasets, outer.cumulative_sizes, strict=True):
            if key % len(outer) < end:
                return _translated(part, key % len(outer) - start, inner)
            start = end
    return None
