"""Checks of the embedding and the budget that criteria share."""

from __future__ import annotations

from numbers import Integral

import torch
from torch import Tensor

from ..batch import Embedding


def check_budget(budget: int, size: int) -> None:
    """Raise a ValueError unless 0 ≤ budget ≤ size, and a TypeError for anything but an integer."""
    if not isinstance(budget, Integral) or isinstance(budget, bool):
        raise TypeError(f"budget must be a number of samples, got {budget!r}; write {max(1, size // 10)}")
    if not 0 <= budget <= size:
        raise ValueError(f"budget must lie in 0..{size}, the number of samples, got {budget}")


def check_embedding(embedding: Embedding) -> int:
    """The number of samples n of an embedding whose residual is a float (n, K ≥ 1) and whose other parts fit it.

    Raises TypeError for residuals that are no float tensors, ValueError for other shapes and for values that are not
    finite, naming their rows.
    """
    residual, feature, loss = embedding
    if not isinstance(residual, Tensor) or not residual.is_floating_point():
        what = str(residual.dtype) if isinstance(residual, Tensor) else type(residual).__name__
        raise TypeError(f"residual must be a float tensor (n, K), got {what}; it is softmax(logits) - one_hot(labels)")
    size = len(residual) if residual.ndim else 0
    for name, part, ndim in (("residual", residual, 2), ("feature", feature, 2), ("loss", loss, 1)):
        if part is None:
            continue
        wanted = "(n, K)" if name == "residual" else f"({size}, d)" if ndim == 2 else f"({size},)"
        if part.ndim != ndim or len(part) != size:
            raise ValueError(f"{name} must have shape {wanted}, got {tuple(part.shape)}")
        finite = torch.isfinite(part) if ndim == 1 else torch.isfinite(part).all(1)
        if not bool(finite.all()):
            rows = (~finite).nonzero().flatten().tolist()
            more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
            raise ValueError(
                f"{name} is not finite in the rows {rows[:5]}{more}; leave those samples out, or look at the model "
                "that made them"
            )
    if size and residual.shape[1] == 0:
        raise ValueError(
            "residual has no columns, so all samples look alike; give the criterion an embedding of the model "
            "(smartaug.grads.embeddings), or select with smartaug.coreset.RandomSubset()"
        )
    return size
