"""Reading the arguments of a torch call, as ``__torch_function__`` receives them, and the rows that an index picks."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
import torch
from torch import Tensor

Index = Any  # what stands between the brackets of tensor[...]


def source_of(args: tuple, kwargs: dict[str, Any]) -> Any:
    """The tensor that an operation was called on."""
    return args[0] if args else kwargs.get("input", kwargs.get("self"))


def argument(args: tuple, kwargs: dict[str, Any], position: int, name: str, default: Any = None) -> Any:
    """One argument, given by position or by name."""
    return kwargs.get(name, args[position] if len(args) > position else default)


def integers(args: tuple, kwargs: dict[str, Any], *names: str) -> list[int]:
    """All integers given by position after the tensor, or under ``names``, flattened."""
    given = [*args[1:], *(kwargs[name] for name in names if name in kwargs)]
    return [one for value in given for one in (value if isinstance(value, (tuple, list)) else [value])]


def parts_of_split(args: tuple, kwargs: dict[str, Any]) -> Any:
    """The argument of `tensor_split`: the number of parts, or the rows to split at."""
    names = [name for name in ("indices", "sections", "tensor_indices_or_sections") if name in kwargs]
    return kwargs[names[0]] if names else argument(args, kwargs, 1, "indices_or_sections")


def rows_picked(where: Index, ndim: int) -> slice | Tensor | None:
    """What ``tensor[where]`` picks along dimension 0 of a tensor of ``ndim`` dimensions.

    None where the rows of the result are not rows of the tensor.
    """
    items = [_as_index(item) for item in (where if isinstance(where, tuple) else (where,))]
    if any(isinstance(item, (bool, list)) for item in items):
        return None
    dots = [position for position, item in enumerate(items) if item is Ellipsis]
    for position in dots:
        taken = sum(item.ndim if _is_mask(item) else 1 for item in items if item is not None and item is not Ellipsis)
        items[position : position + 1] = [slice(None)] * (ndim - taken)
    first, rest = (items[0], items[1:]) if items else (slice(None), [])
    arrays = [item for item in rest if isinstance(item, Tensor) and (item.ndim > 0 or _is_mask(item))]
    if isinstance(first, slice):
        return first if len(arrays) <= 1 else None  # two may be paired, and then move to the front
    return first.as_subclass(Tensor) if isinstance(first, Tensor) and first.ndim == 1 and not arrays else None


def _as_index(item: Index) -> Index:
    """Lists, ranges and arrays of integers as tensors, as indexing reads them; any other list inside a list."""
    if isinstance(item, (list, range)):
        if all(isinstance(one, numbers.Integral) for one in item):
            return torch.tensor(list(item)) if len(item) else torch.empty(0, dtype=torch.int64)
        return [item]
    return torch.as_tensor(item) if isinstance(item, (np.ndarray, np.generic)) else item


def _is_mask(item: object) -> bool:
    return isinstance(item, Tensor) and item.dtype in (torch.bool, torch.uint8)
