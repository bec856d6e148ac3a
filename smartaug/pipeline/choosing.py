"""The rows of each batch that a coreset chooses within it, such as `smartaug.coreset.JEST`: what is read is more than
what is handed out.

It chooses after the augmentations, from what the model will get, and before the weights, which are of the rows chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import draws
from .._base import leaves
from ..batch import Batch
from ..warnings import NoEffectWarning, warn
from .augmenting.augmenting import Augmented, Samples
from .inputs import Inputs, repeated
from .selection import RowChooser
from .stages import in_stage, name_of

_STREAM = 0x1E57  # of random draws, other than those of augmentations


class Choosing:
    """A coreset's part in the pipeline where it chooses rows. coreset: that of the loader; others choose nothing."""

    def __init__(self, coreset: object) -> None:
        self.chooser: RowChooser | None = coreset if isinstance(coreset, RowChooser) else None
        self._looked = False

    def chosen(
        self,
        data: leaves.Structure,
        inputs: Inputs,
        labels: list[leaves.Path],
        batch: Batch,
        made: Augmented,
        samples: Samples,
        seed: Callable[[], int],
    ) -> tuple[leaves.Structure, Batch, Augmented]:
        """The rows chosen, of the user's structure, of the same as a `Batch`, and of what was drawn for them.

        labels: paths of the labels. samples: of the rows, before the choice. seed: of the draws.
        """
        chooser, length = self.chooser, inputs.rows(data)
        if chooser is None or length == 0:
            return data, batch, made
        key = draws.key(seed(), samples.epoch, samples.streams, view=_STREAM)
        try:
            rows = _checked(chooser.choose_rows(batch.inputs, key), length)
        except Exception as error:
            raise in_stage(error, f"coreset stage {name_of(chooser)}", batch.index, batch.inputs) from error
        if not self._looked and length > 1 and len(rows) == length:
            warn(
                f"{chooser!r} handed out all {length} rows of the first batch, so it chose nothing; read larger "
                "batches, batch_size=..., or hand out a smaller fraction",
                NoEffectWarning,
            )
        self._looked = True
        data = repeated(data, (), None, rows, length)
        parts = {name: _taken(getattr(batch, name), rows) for name in ("target", "weight", "soft", "index")}
        if labels and not isinstance(batch.target, Tensor):
            parts["target"] = leaves.get(data, labels[0])
        plans = [plan.rows(rows) for plan in made.plans]
        trace = made.trace.rows(rows) if len(made.trace.ops) == length else made.trace
        return data, Batch(inputs.given(data), **parts), Augmented(made.views, plans, trace)


def _taken(part: Any, rows: Tensor) -> Any:
    """The rows of a tensor; anything else as it is."""
    return part[rows.to(part.device)] if isinstance(part, Tensor) else part


def _checked(rows: object, length: int) -> Tensor:
    """The rows on the CPU; TypeError or ValueError unless they are distinct rows of a batch of ``length``."""
    if not isinstance(rows, Tensor) or rows.dtype != torch.int64 or rows.ndim != 1:
        what = f"{rows.dtype} {tuple(rows.shape)}" if isinstance(rows, Tensor) else type(rows).__name__
        raise TypeError(f"choose_rows must return rows (b,) of int64, it returned {what}; write mask.nonzero()[:, 0]")
    rows = rows.detach().cpu()
    if not len(rows) or int(rows.min()) < 0 or int(rows.max()) >= length or len(rows.unique()) < len(rows):
        raise ValueError(
            f"choose_rows must return at least one of the rows 0 to {length - 1} of the batch, each once, it returned "
            f"{rows[:16].tolist()}"
        )
    return rows
