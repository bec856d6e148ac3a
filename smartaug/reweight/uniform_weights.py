"""Uniform weights: the baseline.

What: no weights and no labels of its own; training is plain training, bit for bit. When: in every comparison, so that
the rest of the run is the same. Cost: none. Reference: none needed.
"""

from __future__ import annotations

from ..batch import Batch
from .protocols import OperationTrace


class UniformWeights:
    """Leaves weights and labels as they are: ``reweight=smartaug.Uniform()`` is plain training, bit for bit."""

    def __call__(self, batch: Batch, trace: OperationTrace | None) -> tuple[None, None]:
        """``(None, None)``: no weight, no soft label."""
        return None, None

    def __repr__(self) -> str:
        return "UniformWeights()"


Uniform = UniformWeights  # its first name, which `coreset.RandomSubset` had, too
