"""What travels between stages, and what a loader hands to the training loop: `Batch`, `Target`, `Embedding`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, SupportsIndex

import torch
from torch import Tensor

from ._base.leaves import Structure
from ._base.row_extras.carried import CARRIERS
from ._base.row_extras.mixed import Mixed, makers
from ._base.row_extras.tensor import WithExtras, changes, plain


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


# torch.load reads a saved Target with weights_only=True, its default, as it reads the plain target
torch.serialization.add_safe_globals([_rebuild])
