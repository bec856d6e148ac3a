"""The records that travel between stages: `Batch`, `Target`, `Mixed` and `Embedding`."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, SupportsIndex
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from ._base.labels import one_hot_map
from ._base.leaves import Structure
from ._base.tensor_calls import argument, integers, parts_of_split, rows_picked, source_of


class Maker(Protocol):
    """An object that makes targets (a pipeline); each `Target` carries its key."""

    def was_read(self) -> None:
        """Called whenever a weight or soft label of one of its targets is read."""
        ...


# all makers that exist in this process, by key; a target may outlive its maker, whose key is then missing here
makers: WeakValueDictionary[str, Maker] = WeakValueDictionary()


class Batch(NamedTuple):
    """One batch as the stages see it, and what a loader with ``returns="batch"`` yields.

    inputs: (B, C, H, W) or the user's own inputs; target: the user's own target leaf or None; weight: (B,) float with
    mean 1, or None; soft: (B, K) label distributions, of maps (B, K, ...), or None; index: (B,) int64 positions in the
    dataset, or None.
    """

    inputs: Structure
    target: Structure = None
    weight: Tensor | None = None
    soft: Tensor | None = None
    index: Tensor | None = None  # type: ignore[assignment]  # tuple.index gives way to the field


class Embedding(NamedTuple):
    """Per-sample gradient embedding, factored: residual (n, K) = p − y, and optionally feature (n, d) and loss (n,).

    The gradient of a linear head is residual ⊗ (feature, 1); its Gram matrix is (r rᵀ) ∘ (φ φᵀ + 1), so the n × K·d
    product is never formed (Liu & Mirzasoleiman, NeurIPS 2022, §4).
    """

    residual: Tensor
    feature: Tensor | None = None
    loss: Tensor | None = None


class Mixed(NamedTuple):
    """The samples that B mixed rows are made of (MixUp, CutMix): C samples each, the row's own first.

    parts: (B, C) int64 positions in the dataset; shares: (B, C) float32, summing to 1 in a row; soft: (B, K) the mixed
    labels before any reweighter changed them, of maps the shares.
    """

    parts: Tensor
    shares: Tensor
    soft: Tensor

    @property
    def whole(self) -> Tensor:
        """(B,) bool: the rows that are not mixed, that is, whose own share is 1."""
        return self.shares[:, 0] > 1 - 1e-6


class Target(Tensor):
    """The user's own target tensor, carrying per-sample weights, soft labels and dataset indices.

    Its values are those of the user's target; comparisons, metrics, indexing and moves work as before. `smartaug.Loss`
    reads weight and soft labels. The extras (weight, soft, index) follow moves, casts, copies, views that keep
    dimension 0, indexing and joining along dimension 0, deepcopy and pickling; every other operation returns a plain
    tensor. In-place operations return the same object.
    """

    # the defaults serve a Target that torch makes without calling __new__
    _weight: Tensor | None = None
    _soft: Tensor | None = None
    _index: Tensor | None = None
    _mixed: Mixed | None = None
    _key: str | None = None  # of the pipeline that made it
    _made_at: int | None = None  # torch's count of in-place changes when it got its soft labels

    @staticmethod
    def __new__(
        cls,
        value: Tensor,
        weight: Tensor | None = None,
        soft: Tensor | None = None,
        index: Tensor | None = None,
        key: str | None = None,
        mixed: Mixed | None = None,
    ) -> Target:
        """Wrap ``value`` (B, ...) with weight (B,), soft (B, K), index (B,) int64, and ``mixed`` (see `Mixed`).

        Soft labels of a map are (B, K, ...), of its positions; a position whose row sums to less than 1 counts by that
        share, with 0 not at all. key: of the pipeline. Raises TypeError when ``value`` is not a tensor, ValueError when
        it has no rows or an extra has another shape.
        """
        if not isinstance(value, Tensor):
            raise TypeError(f"Target needs a tensor, got {type(value).__name__}; write Target(torch.as_tensor(value))")
        if value.ndim == 0:
            raise ValueError("Target needs a batch dimension, got a 0-dimensional tensor; use value.unsqueeze(0)")
        for name, extra, wanted in (("weight", weight, "B"), ("soft", soft, "BK"), ("index", index, "B")):
            if extra is None:
                continue
            fits = extra.ndim == len(wanted) or (name == "soft" and extra.ndim > 2)
            if not fits or len(extra) != len(value):
                raise ValueError(
                    f"Target: {name} has shape {tuple(extra.shape)}, but the target has {len(value)} rows; "
                    f"{name} needs one entry a row: ({', '.join(wanted)}{',' * (len(wanted) == 1)})"
                )
        self: Target = _plain(value).as_subclass(cls)
        self._weight, self._soft, self._index, self._key, self._mixed = weight, soft, index, key, mixed
        if soft is not None:
            self._made_at = _changes(self)
        return self

    @property
    def weight(self) -> Tensor:
        """(B,) float weights with mean 1 over the batch; ones when no stage made any."""
        self._was_read()
        if self._weight is not None:
            return self._weight
        return torch.ones(len(self), dtype=torch.float32, device=self.device)

    @property
    def soft(self) -> Tensor | None:
        """(B, K) label distributions, of a map (B, K, ...), or None when no stage made any.

        Raises RuntimeError where the labels were changed in place since, which distributions do not follow.
        """
        self._was_read()
        return self.current_soft()

    def current_soft(self) -> Tensor | None:
        """`soft`, for code of smartaug: it does not count as read by the user."""
        if self._soft is not None and self._made_at != _changes(self):
            raise RuntimeError(
                "the labels of this batch were changed in place (labels[...] = 0, labels.fill_(0)) after stages had "
                "made soft labels of them, which do not follow; change them where samples are made, with the dataset's "
                "target_transform or in collate_fn"
            )
        return self._soft

    def _was_read(self) -> None:
        maker = None if self._key is None else makers.get(self._key)
        if maker is not None:
            maker.was_read()

    @property
    def index(self) -> Tensor | None:  # type: ignore[override]  # Tensor.index is undocumented
        """(B,) int64 positions in the dataset, or None where the loader has none (IterableDataset)."""
        return self._index

    @property
    def plain(self) -> Tensor:
        """The same values as a plain `torch.Tensor`, without weight, soft labels and index."""
        return _plain(self)

    @classmethod
    def __torch_function__(
        cls, func: Callable, types: Sequence[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():  # what torch makes in here is plain
            result = func(*args, **kwargs)
        carry = _CARRY.get(func)
        return result if carry is None else carry(result, args, kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Target:
        made = _rebuild(*copy.deepcopy(self._parts(), memo))
        memo[id(self)] = made
        return made

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple:
        return _rebuild, self._parts()

    def _parts(self) -> tuple[Any, ...]:
        key = None if self._key is None else str(self._key)  # the pipeline may have given an object of its own
        mixed = None if self._mixed is None else tuple(self._mixed)  # a plain tuple, which torch.load reads
        return _plain(self), self._weight, self._soft, self._index, key, mixed


def _rebuild(
    value: Tensor,
    weight: Tensor | None,
    soft: Tensor | None,
    index: Tensor | None,
    key: str | None,
    mixed: tuple[Tensor, Tensor, Tensor] | None = None,
) -> Target:
    return Target(value, weight, soft, index, key, None if mixed is None else Mixed(*mixed))


# torch.load reads a saved Target with weights_only=True, its default, as it reads the plain target
torch.serialization.add_safe_globals([_rebuild])


def _changes(value: Tensor) -> int | None:
    """torch's count of the in-place changes of a tensor and its views; None in inference mode, where it has none."""
    with torch._C.DisableTorchFunctionSubclass():
        return None if value.is_inference() else value._version


def _plain(value: Tensor) -> Tensor:
    with torch._C.DisableTorchFunctionSubclass():
        return value.as_subclass(Tensor) if isinstance(value, Target) else value


# --- what carries the extras ---------------------------------------------------------------------------------------
# A carrier receives the plain result and the arguments of a torch call, and returns the result with extras. The tensor
# that the call is on may be a plain one: torch calls __torch_function__, too, where a Target is only an index or `out`.

Result = Any  # what a call of torch returns: a tensor, a tuple of them, or anything else
Carrier = Callable[[Result, tuple, dict[str, Any]], Result]


def _extras(source: Target) -> tuple[Tensor | None, ...]:
    """Weight, soft, index and, where rows are mixed, the fields of `Mixed`: each with one entry per row."""
    return source._weight, source._soft, source._index, *(source._mixed or ())


def _made(result: Tensor, extras: Sequence[Tensor | None], key: str | None) -> Target:
    """``result`` with extras in the order of `_extras`."""
    weight, soft, index, *mixed = extras
    return Target(result, weight, soft, index, key, Mixed(*mixed) if mixed else None)  # type: ignore[arg-type]


def _like(source: Target, result: Tensor, change: Callable[[Tensor], Tensor]) -> Target:
    return _made(result, [None if part is None else change(part) for part in _extras(source)], source._key)


def _carry_rows(result: Result, args: tuple, kwargs: dict[str, Any]) -> Result:
    """Moves, casts and reshapes keep the order, so the rows are the same if their number is."""
    source = source_of(args, kwargs)
    if result is source or not isinstance(source, Target) or not isinstance(result, Tensor):
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
    rows = rows_picked(where, source.ndim) if isinstance(source, Target) and result.ndim > 0 else None
    if rows is None:
        return result
    if isinstance(rows, Tensor) and rows.device.type != "cpu":  # those on the CPU index tensors anywhere
        return _like(source, result, lambda part: part[rows.to(part.device)])
    return _like(source, result, lambda part: part[rows])


def _carry_along(
    dims: Callable[[Target, tuple, dict[str, Any]], Sequence[int]],
    change: Callable[[Tensor, tuple, dict[str, Any]], Any] | None = None,
) -> Carrier:
    """An operation along the dimensions ``dims(source, args, kwargs)``, giving one tensor or a tuple of them.

    The extras get ``change(part, args, kwargs)`` where dimension 0 is among them, and stay where it is not. With
    change=None the result has no rows then; nor has it when there are no dimensions (the operation flattens).
    """

    def carry(result: Result, args: tuple, kwargs: dict[str, Any]) -> Result:
        source = source_of(args, kwargs)
        along = [dim % source.ndim for dim in dims(source, args, kwargs)] if isinstance(source, Target) else []
        if not along or (0 in along and change is None):
            return result
        columns: list[Any] = list(_extras(source))
        if 0 in along and change is not None:
            columns = [None if part is None else change(part, args, kwargs) for part in columns]
        if isinstance(result, Tensor):
            return _made(result, columns, source._key)
        # a column is a tuple of pieces as the result is, or what every piece carries
        pieces = [column if isinstance(column, tuple) else itertools.repeat(column) for column in columns]
        return tuple(_made(value, extras, source._key) for value, *extras in zip(result, *pieces, strict=False))

    return carry


def _dim(position: int, default: int | None = None) -> Callable[[Target, tuple, dict[str, Any]], Sequence[int]]:
    def dims(source: Target, args: tuple, kwargs: dict[str, Any]) -> Sequence[int]:
        given = argument(args, kwargs, position, "dim", default)
        return [] if given is None else [given]

    return dims


def _repeated(source: Target, args: tuple, kwargs: dict[str, Any]) -> Sequence[int]:
    if argument(args, kwargs, 1, "repeats") is None:
        return []  # repeat_interleave(repeats): the target was the counts
    return _dim(2, 0 if source.ndim == 1 else None)(source, args, kwargs)


def _repeat(part: Tensor, args: tuple, kwargs: dict[str, Any]) -> Tensor:
    repeats = argument(args, kwargs, 1, "repeats")
    return part.repeat_interleave(repeats, dim=0, output_size=kwargs.get("output_size"))


def _carry_cat(result: Result, args: tuple, kwargs: dict[str, Any]) -> Result:
    """Joins along dimension 0; a piece without weights gets ones, and without the index of every piece there is none.

    Class indices join soft labels as one-hot rows; where a piece has neither, the result is a plain tensor.
    """
    pieces = argument(args, kwargs, 0, "tensors")
    dim = kwargs.get("axis", argument(args, kwargs, 1, "dim", 0))
    if dim % result.ndim != 0 or "out" in kwargs:
        return result
    targets = [piece for piece in pieces if isinstance(piece, Target)]
    weight = soft = index = None
    if any(piece._weight is not None for piece in targets):
        weight = torch.cat([_weights(piece) for piece in pieces])
    if any(piece._soft is not None for piece in targets):
        soft = _cat_soft(pieces)
        if soft is None:
            return result
    if len(targets) == len(pieces) and all(piece._index is not None for piece in targets):
        index = torch.cat([piece._index for piece in targets if piece._index is not None])
    mixed = None if index is None or soft is None else _cat_mixed(pieces)
    keys = {piece._key for piece in targets}
    return Target(result, weight, soft, index, keys.pop() if len(keys) == 1 else None, mixed)


def _weights(piece: Tensor) -> Tensor:
    own = piece._weight if isinstance(piece, Target) else None
    return torch.ones(len(piece), dtype=torch.float32, device=piece.device) if own is None else own


def _cat_mixed(pieces: Sequence[Target]) -> Mixed | None:
    """The `Mixed` of joined pieces; rows of a piece that is not mixed are their own sample. None: no mixes."""
    if not any(piece._mixed is not None for piece in pieces):
        return None
    width = max(1 if piece._mixed is None else piece._mixed.parts.shape[1] for piece in pieces)
    parts, shares = [], []
    for piece in pieces:
        own: Any = piece._index
        part, share = own[:, None], torch.ones(len(own), 1, device=own.device)
        if piece._mixed is not None:
            part, share = piece._mixed.parts, piece._mixed.shares
        missing = width - part.shape[1]
        parts.append(torch.cat([part, own[:, None].expand(-1, missing)], 1))
        shares.append(torch.nn.functional.pad(share, (0, missing)))
    # the mixed labels, or the piece's own where it is not mixed
    plain = [Target(piece.plain, None, None if piece._mixed is None else piece._mixed.soft) for piece in pieces]
    soft = _cat_soft(plain)
    return None if soft is None else Mixed(torch.cat(parts), torch.cat(shares), soft)


def _cat_soft(pieces: Sequence[Tensor]) -> Tensor | None:
    """Soft labels of joined pieces; class indices become one-hot rows. None when a piece has no distribution.

    In maps, indices that are no class become rows of 0: ignored positions.
    """
    given = [piece._soft for piece in pieces if isinstance(piece, Target) and piece._soft is not None]
    classes, dtype, maps = max(soft.shape[1] for soft in given), given[0].dtype, given[0].ndim - 2
    rows = []
    for piece in pieces:
        soft = piece._soft if isinstance(piece, Target) else None
        if soft is None:
            label = _plain(piece)
            if label.ndim != 1 + maps or label.is_floating_point():
                return None
            if not maps and bool(((label < 0) | (label >= classes)).any()):
                return None
            soft = one_hot_map(label, classes, dtype)
        rows.append(torch.nn.functional.pad(soft, (0, 0) * maps + (0, classes - soft.shape[1])))
    return torch.cat(rows)


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
    **dict.fromkeys(("cat", "concat", "concatenate"), _carry_cat),
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
_CARRY: dict[Any, Carrier] = {
    getattr(where, name): carry
    for name, carry in _NAMED.items()
    for where in (Tensor, torch)
    if callable(getattr(where, name, None))  # torch.cuda is a module, torch.half a dtype
}
_CARRY |= {
    Tensor.__getitem__: _carry_index,
    Tensor.data.__get__: _carry_rows,  # type: ignore[attr-defined]  # the stubs know properties by their values
    Tensor.mT.__get__: _carry_matrices,  # type: ignore[attr-defined]
}
