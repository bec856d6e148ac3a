"""A new random subset at each selection: the baseline.

What: as many samples as the budget has, drawn uniformly, without weights. When: in every comparison, and often
as the method of choice. Cost: one permutation. Reference: Okanovic et al., "Repeated Random Sampling for Minimizing the
Time-to-Accuracy of Learning" (RS2), ICLR 2024.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..batch import Embedding


class RandomSubset:
    """``(embedding, budget, generator) -> (indices, weights)``: ``budget`` of the n rows at random, no weights."""

    reads: tuple[str, ...] = ()  # no field of the embedding: nothing has to be recorded or computed for it

    def __call__(
        self, embedding: Embedding, budget: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, None]:
        """Indices (budget,) int64 in increasing order and None; reads only the embedding's number of rows.

        Raises ValueError unless 0 ≤ budget ≤ n. generator=None: torch's global one.
        """
        size = len(embedding.residual)
        if not 0 <= budget <= size:
            raise ValueError(f"budget must lie in 0..{size}, the number of samples, got {budget}")
        return torch.randperm(size, generator=generator, device="cpu")[:budget].sort().values, None

    def __repr__(self) -> str:
        return "RandomSubset()"


Uniform = RandomSubset  # its first name, which `reweight.UniformWeights` had, too
