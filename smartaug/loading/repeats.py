"""How often a sample came before in a pass, for a dataset inside `Subset` or `ConcatDataset`.

The sampler counts its own indices; the wrappers translate them on the way to the dataset inside, and so do we.
"""

from __future__ import annotations

from typing import Any

from torch.utils.data import ConcatDataset, Subset

from .._base.torch_fetch import Carrier, numbers


def repeats_of(dataset: Any, samples: list[int], keys: Carrier, outermost: Any) -> list[int] | None:
    """How often each of the ``samples`` of ``dataset`` came before; None where all come for the first time.

    keys: of the batch they are loaded for, asked of the dataset ``outermost``. Where a wrapper is not torch's own, its
    translation is unknown, and its samples count as new.
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


def _translated(outer: Any, key: int, inner: Any) -> int | None:
    """What ``outer``'s index ``key`` is to ``inner``, a dataset somewhere inside it; None where it does not lead there
    or cannot be followed."""
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
