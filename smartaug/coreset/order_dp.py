"""OrderDP: the samples of largest loss within a random subset, drawn anew at each selection.

What: of each class a random subset is drawn, and of it the samples with the largest last loss are selected: as many as
the budget has, a share ``top`` of the subset. With top=1 this is `RandomSubset`, with a subset that is the whole class
`MaxLoss`.

When: in place of `InfoBatch`, where the number of steps that are saved has to be chosen beforehand and stay the same in
every epoch: ``Coreset(0.3, every=1, explore=0.0, select=OrderDP())``. On digits, at as many rows as InfoBatch trains,
it was as good as a random subset (benchmarks/results/pruning.json). Wrong labels have large losses, so their share of
the selection is above their share of the data.

Cost: one permutation and a partial sort.

Reference: Jin et al., "OrderDP: A Theoretically Guaranteed Lossless Dynamic Data Pruning Framework", ICLR 2026; checked
against the authors' code (subset of 0.8 n samples, of which 0.375 are kept, on CIFAR). There the subset is drawn of all
classes together, and a sample that was never seen counts as one of loss 3; here `Coreset` calls a criterion class by
class, and adds samples that were never seen by itself. The weights 1 / P(selected) that are written in the code are not
used there, nor here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..batch import Embedding
from .checks import check_budget
from .max_loss import MaxLoss


class OrderDP:
    """``(embedding, budget, generator) -> (indices, weights)``: rows of largest loss in a random subset, no weights.

    top: in (0, 1], the share of the random subset that is selected; the subset has ``budget / top`` rows, at most all.
    Raises ValueError for other numbers.
    """

    def __init__(self, *, top: float = 0.375) -> None:
        if not isinstance(top, (int, float)) or isinstance(top, bool) or not 0.0 < top <= 1.0:
            raise ValueError(f"top must be a share of the random subset in (0, 1], got {top!r}; write top=0.375")
        self.top = float(top)

    def __call__(
        self, embedding: Embedding, budget: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, None]:
        """Indices (budget,) int64 in increasing order, on the CPU, and None; equal losses go to the lower index.

        generator: draws the subset; None is torch's global one. Losses are those of `MaxLoss`. Raises ValueError unless
        0 ≤ budget ≤ n, and for rows that are not finite.
        """
        size = len(embedding.residual)
        check_budget(budget, size)
        drawn = min(size, round(budget / self.top))
        subset = torch.randperm(size, generator=generator, device="cpu")[:drawn].sort().values
        of = subset.to(embedding.residual.device)
        rows = Embedding(*(None if part is None else part[of] for part in embedding))  # type: ignore[arg-type]
        return subset[MaxLoss()(rows, budget)[0]].sort().values, None

    def __repr__(self) -> str:
        return f"OrderDP(top={self.top})"
