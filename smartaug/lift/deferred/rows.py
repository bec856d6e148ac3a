"""The sample that each row of a batch was made of, where the images of some samples are deferred, and of others not.

What: a list of the batch with an image of every row, found by the objects in it. When: images in lists, of which the
dataset touched some, so that they got their whole pipeline. Cost: a walk through the samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..._base import leaves

Rows = tuple[list[int], list[int]]


def rows_of_list(batch: Any, samples: Sequence[Any], paths: Sequence[leaves.Path]) -> Rows | None:
    """The rows of the deferred images at ``paths``, and the sample of each row of the batch; None: it is not known.

    It must be called while the batch holds the very objects of the ``samples``.
    """
    owner: dict[int, int] = {}
    for number, sample in enumerate(samples):
        for _, leaf in leaves.walk(sample):
            if isinstance(leaf, Tensor):
                owner[id(leaf)] = number if owner.get(id(leaf), number) == number else -1
    for depth in range(len(paths[0])):
        found = _in_list(batch, paths, depth, owner)
        if found is not None:
            return found
    return None


def _in_list(batch: Any, paths: Sequence[leaves.Path], depth: int, owner: dict[int, int]) -> Rows | None:
    """`rows_of_list` if the step number ``depth`` of the paths is the row."""
    before, inside = paths[0][:depth], paths[0][depth + 1 :]
    entries = leaves.get(batch, before)
    if not isinstance(entries, (list, tuple)) or any((p[:depth], p[depth + 1 :]) != (before, inside) for p in paths):
        return None
    numbers = []
    for entry in entries:
        try:
            numbers.append(owner.get(id(leaves.get(entry, inside)), -1))
        except (KeyError, IndexError, TypeError, AttributeError):
            return None
    if -1 in numbers or len(set(numbers)) < len(numbers):
        return None
    return [path[depth] for path in paths], numbers
