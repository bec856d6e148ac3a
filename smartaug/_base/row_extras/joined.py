"""Joining targets along dimension 0, as ``torch.cat`` does: weights, soft labels, indices and mixes of all rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..labels import one_hot_map
from .calls import argument
from .mixed import Mixed
from .tensor import WithExtras, plain


def joined(result: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """A carrier, see `carried`, of joins along dimension 0.

    A piece without weights gets weights of 1; without the index of every piece the result has none.
    Class indices join soft labels as one-hot rows; where a piece has neither, the result is a plain tensor.
    """
    pieces = argument(args, kwargs, 0, "tensors")
    dim = kwargs.get("axis", argument(args, kwargs, 1, "dim", 0))
    if dim % result.ndim != 0 or "out" in kwargs:
        return result
    targets = [piece for piece in pieces if isinstance(piece, WithExtras)]
    if not targets:
        return result
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
    return type(targets[0])(result, weight, soft, index, keys.pop() if len(keys) == 1 else None, mixed)


def _weights(piece: Tensor) -> Tensor:
    own = piece._weight if isinstance(piece, WithExtras) else None
    return torch.ones(len(piece), dtype=torch.float32, device=piece.device) if own is None else own


def _cat_mixed(pieces: Sequence[WithExtras]) -> Mixed | None:
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
    labels = [type(piece)(piece.plain, None, None if piece._mixed is None else piece._mixed.soft) for piece in pieces]
    soft = _cat_soft(labels)
    return None if soft is None else Mixed(torch.cat(parts), torch.cat(shares), soft)


def _cat_soft(pieces: Sequence[Tensor]) -> Tensor | None:
    """Soft labels of joined pieces; class indices become one-hot rows. None when a piece has no distribution.

    In maps, indices that are no class become rows of 0: ignored positions.
    """
    given = [piece._soft for piece in pieces if isinstance(piece, WithExtras) and piece._soft is not None]
    classes, dtype, maps = max(soft.shape[1] for soft in given), given[0].dtype, given[0].ndim - 2
    rows = []
    for piece in pieces:
        soft = piece._soft if isinstance(piece, WithExtras) else None
        if soft is None:
            label = plain(piece)
            if label.ndim != 1 + maps or label.is_floating_point():
                return None
            if not maps and bool(((label < 0) | (label >= classes)).any()):
                return None
            soft = one_hot_map(label, classes, dtype)
        rows.append(torch.nn.functional.pad(soft, (0, 0) * maps + (0, classes - soft.shape[1])))
    return torch.cat(rows)
