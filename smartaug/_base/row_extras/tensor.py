"""A tensor of labels with extras of its rows, which are weights, soft labels and indices: what a `Target` holds."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from .mixed import Mixed


class WithExtras(Tensor):
    """The values of a `Target` and the extras of its rows, checked; `carried` and `joined` carry them through torch."""

    # the defaults serve a Target that torch makes without calling __new__
    _weight: Tensor | None = None
    _soft: Tensor | None = None
    _index: Tensor | None = None
    _mixed: Mixed | None = None
    _key: str | None = None  # of the pipeline that made it
    _made_at: int | None = None  # torch's count of in-place changes when it got its soft labels

    def __new__(
        cls,
        value: Tensor,
        weight: Tensor | None = None,
        soft: Tensor | None = None,
        index: Tensor | None = None,
        key: str | None = None,
        mixed: Mixed | None = None,
    ) -> Self:
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
        self = plain(value).as_subclass(cls)
        self._weight, self._soft, self._index, self._key, self._mixed = weight, soft, index, key, mixed
        if soft is not None:
            self._made_at = changes(self)
        return self

    @property
    def plain(self) -> Tensor:
        """The same values as a plain `torch.Tensor`, without weight, soft labels and index."""
        return plain(self)


def changes(value: Tensor) -> int | None:
    """torch's count of the in-place changes of a tensor and its views; None in inference mode, where it has none."""
    with torch._C.DisableTorchFunctionSubclass():
        return None if value.is_inference() else value._version


def plain(value: Tensor) -> Tensor:
    """``value`` without extras, sharing its memory."""
    with torch._C.DisableTorchFunctionSubclass():
        return value.as_subclass(Tensor) if isinstance(value, WithExtras) else value
