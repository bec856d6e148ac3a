"""The records that travel between stages: `Batch`, `Target` and `Embedding`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """One batch as the stages see it, and what a loader with ``returns="batch"`` yields.

    inputs: (B, C, H, W) or the user's own inputs; target: the user's own target leaf or None; weight: (B,) float with
    mean 1, or None; soft: (B, K) label distributions, or None; index: (B,) int64 positions in the dataset, or None.
    """

    inputs: Any
    target: Any = None
    weight: Tensor | None = None
    soft: Tensor | None = None
    index: Tensor | None = None


class Embedding(NamedTuple):
    """Per-sample gradient embedding, factored: residual (n, K) = p − y, and optionally feature (n, d).

    The gradient of a linear head is residual ⊗ (feature, 1); its Gram matrix is (r rᵀ) ∘ (φ φᵀ + 1), so the n × K·d
    product is never formed (Liu & Mirzasoleiman, NeurIPS 2022, §4).
    """

    residual: Tensor
    feature: Tensor | None = None


class Target(Tensor):
    """The user's own target tensor, carrying per-sample weights, soft labels and dataset indices.

    It is the target: comparisons, metrics, indexing and moves work as before. `smartaug.Loss` reads the rest. The
    extras follow moves, casts, copies, views that keep dimension 0, indexing and joining along dimension 0, deepcopy
    and pickling; every other operation returns a plain tensor.
    """

    _weight: Tensor | None
    _soft: Tensor | None
    _index: Tensor | None
    _key: str | None  # names the pipeline that made it

    @staticmethod
    def __new__(
        cls,
        value: Tensor,
        weight: Tensor | None = None,
        soft: Tensor | None = None,
        index: Tensor | None = None,
        key: str | None = None,
    ) -> Target:
        """Wrap ``value`` (B, ...) with weight (B,), soft (B, K), index (B,) int64; raises ValueError on other lengths."""
        if value.ndim == 0:
            raise ValueError("Target needs a batch dimension, got a 0-dimensional tensor; use value.unsqueeze(0)")
        for name, extra in (("weight", weight), ("soft", soft), ("index", index)):
            if extra is not None and (extra.ndim == 0 or len(extra) != len(value)):
                raise ValueError(
                    f"Target: {name} has shape {tuple(extra.shape)}, but the target has {len(value)} rows; "
                    f"{name} needs one entry a row"
                )
        self: Target = _plain(value).as_subclass(cls)
        self._weight, self._soft, self._index, self._key = weight, soft, index, key
        return self

    @property
    def weight(self) -> Tensor:
        """(B,) float weights with mean 1 over the batch; ones when no stage made any."""
        if self._weight is not None:
            return self._weight
        return torch.ones(len(self), device=self.device)

    @property
    def soft(self) -> Tensor | None:
        """(B, K) label distributions, or None when no stage made any."""
        return self._soft

    @property
    def index(self) -> Tensor | None:
        """(B,) int64 positions in the dataset, or None where the loader has none (IterableDataset)."""
        return self._index

    @property
    def plain(self) -> Tensor:
        """The same values as a `torch.Tensor` that carries nothing."""
        return _plain(self)

    @classmethod
    def __torch_function__(
        cls, func: Callable, types: Sequence[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **kwargs)
        carry = _CARRY.get(func)
        if carry is None:
            return _strip(result, args)
        return carry(result, args, kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Target:
        made = _rebuild(*(copy.deepcopy(part, memo) for part in self._parts()))
        memo[id(self)] = made
        return made

    def __reduce_ex__(self, protocol: Any) -> tuple:
        return _rebuild, self._parts()

    def _parts(self) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None, str | None]:
        return _plain(self), self._weight, self._soft, self._index, self._key


def _rebuild(
    value: Tensor, weight: Tensor | None, soft: Tensor | None, index: Tensor | None, key: str | None
) -> Target:
    return Target(value, weight, soft, index, key)


def _plain(value: Tensor) -> Tensor:
    with torch._C.DisableTorchFunctionSubclass():
        return value.as_subclass(Tensor) if isinstance(value, Target) else value


def _strip(result: Any, args: tuple) -> Any:
    """In-place operations return their Target as it is; nothing else may come back as one."""
    if isinstance(result, Target) and not any(result is arg for arg in args):
        return _plain(result)
    return result


# --- what carries the extras ---------------------------------------------------------------------------------------
# Each carrier receives the plain result and the call's arguments, and returns what the user gets.


def _like(source: Target, result: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    parts = (source._weight, source._soft, source._index)
    changed = [None if part is None else change(part) for part in parts]
    return Target(_plain(result), *changed, key=source._key)


def _source(args: tuple, kwargs: dict[str, Any]) -> Any:
    return args[0] if args else kwargs.get("input", kwargs.get("self"))


def _carry_rows(result: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Same rows in the same order: moves, casts, copies, and views that keep dimension 0."""
    source = _source(args, kwargs)
    if result is source:
        return result
    if not isinstance(source, Target) or not isinstance(result, Tensor):
        return result
    if result.ndim == 0 or source.ndim == 0 or len(result) != len(source):
        return _plain(result)
    non_blocking = bool(kwargs.get("non_blocking", False)) or any(arg is True for arg in args[1:3])
    return _like(source, result, lambda part: part.to(result.device, non_blocking=non_blocking))


def _carry_copy(result: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    source = _source(args, kwargs)
    return _like(source, result, torch.clone) if isinstance(source, Target) else result


def _carry_pinned(result: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    source = _source(args, kwargs)
    return _like(source, result, lambda part: part.pin_memory())


def _ints(values: Any) -> list[int]:
    flat: list[int] = []
    for value in values:
        flat.extend(value if isinstance(value, (tuple, list)) else [value])
    return flat


def _carry_transposed(result: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    source = _source(args, kwargs)
    kept = 0 not in [dim % source.ndim for dim in _ints([*args[1:], *kwargs.values()])]
    return _carry_rows(result, args, kwargs) if kept else _plain(result)


def _carry_permuted(result: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    kept = _ints([*args[1:], *kwargs.values()])[0] == 0
    return _carry_rows(result, args, kwargs) if kept else _plain(result)


def _carry_index(result: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    source, where = args
    first = where[0] if isinstance(where, tuple) and where else where
    picks_rows = isinstance(first, slice) or (
        isinstance(first, (list, Tensor)) and torch.as_tensor(first).ndim == 1 and not isinstance(where, list)
    )
    if isinstance(where, list):
        picks_rows = all(isinstance(item, (int, bool)) for item in where)
        first = where
    if isinstance(where, tuple) and any(isinstance(item, (list, Tensor)) or item is None for item in where[1:]):
        picks_rows = False  # several index tensors are paired, not applied one after the other
    if not isinstance(source, Target) or not picks_rows or result.ndim == 0:
        return _plain(result) if isinstance(result, Target) else result
    if isinstance(first, Tensor):
        first = _plain(first)
    return _like(source, result, lambda part: part[_on(first, part)])


def _on(where: Any, part: Tensor) -> Any:
    return where.to(part.device) if isinstance(where, Tensor) and where.device.type != "cpu" else where


def _argument(args: tuple, kwargs: dict[str, Any], position: int, name: str, default: Any = None) -> Any:
    return kwargs.get(name, args[position] if len(args) > position else default)


def _carry_along(dim: Callable[..., Any], change: Callable[..., Any]) -> Callable[[Any, tuple, dict[str, Any]], Any]:
    """An operation along dimension ``dim(source, args, kwargs)``: extras get ``change(part, args, kwargs)`` if it is 0."""

    def carry(result: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        source = _source(args, kwargs)
        if not isinstance(source, Target) or dim(source, args, kwargs) not in (0, -source.ndim):
            return result
        parts = (source._weight, source._soft, source._index)
        columns = [None if part is None else change(part, args, kwargs) for part in parts]
        if isinstance(result, Tensor):
            return Target(_plain(result), *columns, key=source._key)
        return tuple(
            Target(_plain(piece), *(None if column is None else column[i] for column in columns), key=source._key)
            for i, piece in enumerate(result)
        )

    return carry


def _flipped(source: Tensor, args: tuple, kwargs: dict[str, Any]) -> int | None:
    dims = _ints([*args[1:], *(value for name, value in kwargs.items() if name == "dims")])
    return dims[0] if len(dims) == 1 else None


def _carry_cat(result: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    pieces = _source(args, kwargs) if args else kwargs["tensors"]
    dim = kwargs.get("dim", args[1] if len(args) > 1 else 0)
    if dim % max(1, result.ndim) != 0:
        return result
    targets = [piece for piece in pieces if isinstance(piece, Target)]
    weight = soft = index = None
    if any(piece._weight is not None for piece in targets):
        weight = torch.cat([p.weight if isinstance(p, Target) else torch.ones(len(p), device=p.device) for p in pieces])
    if any(piece._soft is not None for piece in targets):
        soft = _cat_soft(pieces)
        if soft is None:
            return result
    if len(targets) == len(pieces) and all(piece._index is not None for piece in targets):
        index = torch.cat([piece._index for piece in targets])
    keys = {piece._key for piece in targets}
    return Target(result, weight, soft, index, key=keys.pop() if len(keys) == 1 else None)


def _cat_soft(pieces: Sequence[Tensor]) -> Tensor | None:
    """Soft labels of joined pieces; class indices become one-hot rows. None when a piece has no distribution."""
    given = [piece._soft for piece in pieces if isinstance(piece, Target) and piece._soft is not None]
    classes, dtype = max(soft.shape[1] for soft in given), given[0].dtype
    rows = []
    for piece in pieces:
        soft = piece._soft if isinstance(piece, Target) else None
        if soft is None:
            label = _plain(piece)
            if label.ndim != 1 or label.is_floating_point() or bool(((label < 0) | (label >= classes)).any()):
                return None
            soft = torch.nn.functional.one_hot(label.long(), classes).to(dtype)
        rows.append(torch.nn.functional.pad(soft, (0, classes - soft.shape[1])))
    return torch.cat(rows)


_ROWS = [
    "to",
    "cpu",
    "cuda",
    "type",
    "type_as",
    "int",
    "long",
    "short",
    "char",
    "byte",
    "bool",
    "half",
    "float",
    "double",
    "bfloat16",
    "contiguous",
    "detach",
    "view",
    "view_as",
    "reshape",
    "reshape_as",
    "flatten",
    "unflatten",
    "unsqueeze",
    "squeeze",
    "expand",
    "expand_as",
    "requires_grad_",
    "alias",
]
_CARRY: dict[Any, Callable[[Any, tuple, dict[str, Any]], Any]] = {
    getattr(Tensor, name): _carry_rows for name in _ROWS if hasattr(Tensor, name)
}
_CARRY |= {
    getattr(torch, name): _carry_rows
    for name in ("detach", "reshape", "flatten", "unflatten", "unsqueeze", "squeeze")
    if hasattr(torch, name)
}
_CARRY |= {Tensor.clone: _carry_copy, torch.clone: _carry_copy, Tensor.pin_memory: _carry_pinned}
_CARRY |= dict.fromkeys((Tensor.transpose, torch.transpose, Tensor.swapaxes, torch.swapaxes), _carry_transposed)
_CARRY |= dict.fromkeys((Tensor.permute, torch.permute), _carry_permuted)
_CARRY |= {Tensor.__getitem__: _carry_index, Tensor.data.__get__: _carry_rows}
_CARRY |= dict.fromkeys((torch.cat, torch.concat, torch.concatenate), _carry_cat)
_CARRY |= {
    function: carry
    for name, carry in {
        "narrow": _carry_along(
            lambda source, args, kwargs: _argument(args, kwargs, 1, "dim"),
            lambda part, args, kwargs: part.narrow(
                0, _argument(args, kwargs, 2, "start"), _argument(args, kwargs, 3, "length")
            ),
        ),
        "index_select": _carry_along(
            lambda source, args, kwargs: _argument(args, kwargs, 1, "dim"),
            lambda part, args, kwargs: part.index_select(0, _argument(args, kwargs, 2, "index")),
        ),
        "split": _carry_along(
            lambda source, args, kwargs: _argument(args, kwargs, 2, "dim", 0),
            lambda part, args, kwargs: part.split(
                _argument(args, kwargs, 1, "split_size", kwargs.get("split_size_or_sections"))
            ),
        ),
        "chunk": _carry_along(
            lambda source, args, kwargs: _argument(args, kwargs, 2, "dim", 0),
            lambda part, args, kwargs: part.chunk(_argument(args, kwargs, 1, "chunks")),
        ),
        "flip": _carry_along(_flipped, lambda part, args, kwargs: part.flip(0)),
        "repeat_interleave": _carry_along(
            lambda source, args, kwargs: _argument(args, kwargs, 2, "dim", 0 if source.ndim == 1 else None),
            lambda part, args, kwargs: part.repeat_interleave(_argument(args, kwargs, 1, "repeats"), dim=0),
        ),
    }.items()
    for function in (getattr(torch, name), getattr(Tensor, name))
}
