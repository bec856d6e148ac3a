"""`Target`: the user's own labels, with weights, soft labels and dataset indices of their rows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, SupportsIndex

import torch
from torch import Tensor

from .carried import CARRIERS
from .extras import WithExtras, changes, plain
from .records import Mixed, makers


class Target(WithExtras):
    """The user's own target tensor, carrying per-sample weights, soft labels and dataset indices.

    Its values are those of the user's target; comparisons, metrics, indexing and moves work as before. `smartaug.Loss`
    reads weight and soft labels. The extras (weight, soft, index) follow moves, casts, copies, views that keep
    dimension 0, indexing and joining along dimension 0, deepcopy and pickling; every other operation returns a plain
    tensor. In-place operations return the same object.
    """

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
        if self._soft is not None and self._made_at != changes(self):
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

    @classmethod
    def __torch_function__(
        cls, func: Callable, types: Sequence[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():  # what torch makes in here is plain
            result = func(*args, **kwargs)
        carry = CARRIERS.get(func)
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
        return plain(self), self._weight, self._soft, self._index, key, mixed


def _rebuild(
    value: Tensor,
    weight: Tensor | None,
    soft: Tensor | None,
    index: Tensor | None,
    key: str | None,
    mixed: tuple[Tensor, Tensor, Tensor] | None = None,
) -> Target:
    return Target(value, weight, soft, index, key, None if mixed is None else Mixed(*mixed))


_rebuild.__module__ = __name__.rpartition(".")[0]  # files name the folder, whichever module holds it
# torch.load reads a saved Target with weights_only=True, its default, as it reads the plain target
torch.serialization.add_safe_globals([_rebuild])
