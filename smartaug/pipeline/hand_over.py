"""The last step of a batch: weights, soft labels and index go into its targets, in the user's structure."""

from __future__ import annotations

from collections.abc import Sequence

from .._base import leaves
from ..batch import Batch, Target


def on_target(batch: Batch, key: str) -> Batch:
    """``batch`` with weights, soft labels and index on its target's device, and in the `Target` that carries them.

    key: of the pipeline, stored in the target. A batch whose target is not a `Target` is returned unchanged.
    """
    target = batch.target
    if not isinstance(target, Target):
        return batch
    weight, soft, index = (
        None if part is None else part.to(target.device, non_blocking=True)
        for part in (batch.weight, batch.soft, batch.index)
    )
    made = Target(target.plain, weight, soft, index, key, target._mixed)
    return Batch(batch.inputs, made, weight, soft, index)


def in_structure(data: leaves.Structure, labels: Sequence[leaves.Path], batch: Batch, key: str) -> leaves.Structure:
    """The user's structure with the target of ``batch`` at the first path of ``labels``.

    The weights go to the targets at the other paths as well.

    Raises TypeError where there are weights and no target tensor.
    """
    if batch.weight is not None and not isinstance(batch.target, Target):
        raise TypeError(
            "the batch has weights, but no target tensor to carry them; name it with target='key', target=1 or "
            'target=lambda batch: ..., or take them from a Batch: returns="batch"'
        )
    for path in labels[1:]:
        other = leaves.get(data, path)
        if isinstance(batch.target, Target) and isinstance(other, Target) and batch.weight is not None:
            weight = batch.weight.to(other.device, non_blocking=True)
            data = leaves.put(data, path, Target(other.plain, weight, other._soft, other.index, key))
    return leaves.put(data, labels[0], batch.target) if labels else data
