"""What carries the extras of a target through an operation of torch: moves, casts, views, indexing, splitting.

A carrier receives the plain result and the arguments of a torch call, and returns the result with extras. The tensor
that the call is on may be a plain one: torch calls ``__torch_function__``, too, where a target is only an index or
``out``. What is not in `CARRIERS` gives a plain tensor.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .calls import argument, integers, parts_of_split, rows_picked, source_of
from .joined import joined
from .mixed import Mixed
from .tensor import WithExtras

Result = Any  # what a call of torch returns: a tensor, a tuple of them, or anything else
Carrier = Callable[[Result, tuple, dict[str, Any]], Result]


def _extras(source: WithExtras) -> tuple[Tensor | None, ...]:
    """Weight, soft, index and, where rows are mixed, the fields of `Mixed`: each with one entry per row."""
    return source._weight, source._soft, source._index, *(source._mixed or ())


def _made(source: WithExtras, result: Tensor, extras: Sequence[Tensor | None]) -> WithExtras:
    """``result`` as what ``source`` is, with extras in the order of `_extras`."""
    weight, soft, index, *mixed = extras
    return type(source)(result, weight, soft, index, source._key, Mixed(*mixed) if mixed else None)  # type: ignore[arg-type]


def _like(source: WithExtras, result: Tensor, change: Callable[[Tensor], Tensor]) -> WithExtras:
    return _made(source, result, [None if part is None else change(part) for part in _extras(source)])


def _carry_rows(result: Result, args: tuple, kwargs: dict[str, Any]) -> Result:
    """Moves, casts and reshapes keep the order, so the rows are the same if their number is."""
    source = source_of(args, kwargs)
    if result is source or not isinstance(source, WithExtras) or not isinstance(result, Tensor):
        return result
    if result.ndim == 0 or len(result) != len(source):
        return result
    # of to(device, dtype, non_blocking, copy), cuda(device, non_blocking) and their kin
    waits_not = next((arg for arg in args[1:] if isinstance(arg, bool)), kwargs.get("non_blocking", False))
    return _like(source, result, lambda part: part.to(result.device, non_blocking=waits_not))


def _carry_expanded(result: Result, args: tuple, kwargs: dict[str, Any]) -> Result:
    # (3,).expand(3, 3) has as many rows, but each is the whole target
    return _carry_rows(result, args, kwargs) if result.ndim == args[0].ndim else result


def _carry_clone(result: Result, args: tuple, kwargs: dict[str, Any]) -> Result:
    return _like(source_of(args, kwargs), result, torch.clone)


def _carry_pinned(result: Result, args: tuple, kwargs: dict[str, Any]) -> Result:
    return _like(source_of(args, kwargs), result, Tensor.pin_memory)


def _carry_transposed(result: Result, args: tuple, kwargs: dict[str, Any]) -> Result:
    dims = integers(args, kwargs, "dim0", "dim1", "axis0", "axis1", "source", "destination")
    return result if 0 in [dim % result.ndim for dim in dims] else _carry_rows(result, args, kwargs)


def _carry_permuted(result: Result, args: tuple, kwargs: dict[str, Any]) -> Result:
    return _carry_rows(result, args, kwargs) if integers(args, kwargs, "dims")[0] % result.ndim == 0 else result


def _carry_matrices(result: Result, args: tuple, kwargs: dict[str, Any]) -> Result:
    return _carry_rows(result, args, kwargs) if result.ndim > 2 else result


def _carry_index(result: Result, args: tuple, kwargs: dict[str, Any]) -> Result:
    source, where = args
    rows = rows_picked(where, source.ndim) if isinstance(source, WithExtras) and result.ndim > 0 else None
    if rows is None:
        return result
    if isinstance(rows, Tensor) and rows.device.type != "cpu":  # those on the CPU index tensors anywhere
        return _like(source, result, lambda part: part[rows.to(part.device)])
    return _like(source, result, lambda part: part[rows])


def _carry_along(
    dims: Callable[[WithExtras, tuple, dict[str, Any]], Sequence[int]],
    change: Callable[[Tensor, tuple, dict[str, Any]], Any] | None = None,
) -> Carrier:
    """An operation along the dimensions ``dims(source, args, kwargs)``, giving one tensor or a tuple of them.

    The extras get ``change(part, args, kwargs)`` where dimension 0 is among them, and stay where it is not. With
    change=None the result has no rows then; nor has it when there are no dimensions (the operation flattens).
    """

    def carry(result: Result, args: tuple, kwargs: dict[str, Any]) -> Result:
        source = source_of(args, kwargs)
        along = [dim % source.ndim for dim in dims(source, args, kwargs)] if isinstance(source, WithExtras) else []
        if not along or (0 in along and change is None):
            return result
        columns: list[Any] = list(_extras(source))
        if 0 in along and change is not None:
            columns = [None if part is None else change(part, args, kwargs) for part in columns]
        if isinstance(result, Tensor):
            return _made(source, result, columns)
        # a column is a tuple of pieces as the result is, or what every piece carries
        pieces = [column if isinstance(column, tuple) else itertools.repeat(column) for column in columns]
        return tuple(_made(source, value, extras) for value, *extras in zip(result, *pieces, strict=False))

    return carry


def _dim(position: int, default: int | None = None) -> Callable[[WithExtras, tuple, dict[str, Any]], Sequence[int]]:
    def dims(source: WithExtras, args: tuple, kwargs: dict[str, Any]) -> Sequence[int]:
        given = argument(args, kwargs, position, "dim", default)
        return [] if given is None else [given]

    return dims


def _repeated(source: WithExtras, args: tuple, kwargs: dict[str, Any]) -> Sequence[int]:
    if argument(args, kwargs, 1, "repeats") is None:
        return []  # repeat_interleave(repeats): the target was the counts
    return _dim(2, 0 if source.ndim == 1 else None)(source, args, kwargs)


def _repeat(part: Tensor, args: tuple, kwargs: dict[str, Any]) -> Tensor:
    repeats = argument(args, kwargs, 1, "repeats")
    return part.repeat_interleave(repeats, dim=0, output_size=kwargs.get("output_size"))


_MOVES = ("to", "cpu", "cuda", "xpu", "type", "type_as", "contiguous", "detach")
_CASTS = ("int", "long", "short", "char", "byte", "bool", "half", "float", "double", "bfloat16")
_RESHAPES = ("view", "view_as", "reshape", "reshape_as", "flatten", "unflatten", "ravel", "unsqueeze", "squeeze")
_NAMED: dict[str, Carrier] = {
    **dict.fromkeys((*_MOVES, *_CASTS, *_RESHAPES), _carry_rows),
    **dict.fromkeys(("expand", "expand_as"), _carry_expanded),
    **dict.fromkeys(("transpose", "swapaxes", "swapdims", "movedim", "moveaxis"), _carry_transposed),
    "permute": _carry_permuted,
    "clone": _carry_clone,
    "pin_memory": _carry_pinned,
    **dict.fromkeys(("cat", "concat", "concatenate"), joined),
    "select": _carry_along(_dim(1)),
    "unbind": _carry_along(_dim(1, 0)),
    "narrow": _carry_along(
        _dim(1),
        lambda part, args, kwargs: part.narrow(
            0, argument(args, kwargs, 2, "start"), argument(args, kwargs, 3, "length")
        ),
    ),
    "index_select": _carry_along(
        _dim(1), lambda part, args, kwargs: part.index_select(0, argument(args, kwargs, 2, "index"))
    ),
    "split": _carry_along(_dim(2, 0), lambda part, args, kwargs: part.split(argument(args, kwargs, 1, "split_size"))),
    "split_with_sizes": _carry_along(
        _dim(2, 0), lambda part, args, kwargs: part.split(list(argument(args, kwargs, 1, "split_sizes")))
    ),
    "tensor_split": _carry_along(
        _dim(2, 0), lambda part, args, kwargs: part.tensor_split(parts_of_split(args, kwargs), 0)
    ),
    "chunk": _carry_along(_dim(2, 0), lambda part, args, kwargs: part.chunk(argument(args, kwargs, 1, "chunks"))),
    "flip": _carry_along(
        lambda source, args, kwargs: integers(args, kwargs, "dims"), lambda part, args, kwargs: part.flip(0)
    ),
    "repeat_interleave": _carry_along(_repeated, _repeat),
}
CARRIERS: dict[Any, Carrier] = {
    getattr(where, name): carry
    for name, carry in _NAMED.items()
    for where in (Tensor, torch)
    if callable(getattr(where, name, None))  # torch.cuda is a module, torch.half a dtype
}
CARRIERS |= {
    Tensor.__getitem__: _carry_index,
    Tensor.data.__get__: _carry_rows,  # type: ignore[attr-defined]  # the stubs know properties by their values
    Tensor.mT.__get__: _carry_matrices,  # type: ignore[attr-defined]
}
