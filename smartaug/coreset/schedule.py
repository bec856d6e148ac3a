"""`Coreset`: how much of the data an epoch trains on, how often that is chosen anew, and by which criterion."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from .. import draws
from ..batch import Embedding
from .uniform import Uniform

Criterion = Callable[[Embedding, int, torch.Generator | None], tuple[Tensor, Tensor | None]]


class Coreset:
    """Train on a part of the data: ``coreset=smartaug.Coreset(0.3)``.

    fraction: a float in (0, 1] of the dataset, or an int number of samples. every: epochs between two selections.
    select: the criterion ``(embedding, budget, generator) -> (indices, weights)``; None is `coreset.Uniform`, a fresh
    random subset. The embedding it gets has one row a sample and no columns: nothing of the model is recorded here.
    Selections are a function of (seed, epoch // every) alone, and every epoch has the same number of batches.
    """

    def __init__(self, fraction: float | int, *, every: int = 1, select: Criterion | None = None) -> None:
        exact = isinstance(fraction, Integral) and not isinstance(fraction, bool) and fraction >= 1
        share = isinstance(fraction, Real) and not isinstance(fraction, Integral) and 0.0 < fraction <= 1.0
        if not exact and not share:
            raise ValueError(
                f"fraction must be a float in (0, 1] or a number of samples ≥ 1, got {fraction!r}; write Coreset(0.3)"
            )
        if not isinstance(every, int) or every < 1:
            raise ValueError(f"every must be a number of epochs ≥ 1, got {every!r}")
        if isinstance(select, type) or (select is not None and not callable(select)):
            raise TypeError(f"select must be a criterion such as smartaug.coreset.Uniform(), got {select!r}")
        self.fraction: int | float = int(fraction) if exact else float(fraction)
        self.every = every
        self.select: Criterion = Uniform() if select is None else select

    def budget(self, size: int) -> int:
        """How many of ``size`` samples each epoch draws; raises ValueError when more are asked for than there are."""
        if isinstance(self.fraction, int):
            if self.fraction > size:
                raise ValueError(f"Coreset({self.fraction}) asks for more samples than the dataset's {size}")
            return self.fraction
        return max(1, round(self.fraction * size)) if size else 0

    def selection(self, epoch: int, size: int, seed: int) -> tuple[Tensor, Tensor | None]:
        """``(indices, weights)`` for ``epoch``: (k,) int64 in 0..size-1, and (k,) float or None."""
        drawn = draws.key(seed, epoch // self.every, torch.zeros(1, dtype=torch.int64, device="cpu"))
        generator = torch.Generator().manual_seed(int(drawn) & ((1 << 63) - 1))
        return self.select(Embedding(torch.empty(size, 0, device="cpu")), self.budget(size), generator)

    def __repr__(self) -> str:
        settings: dict[str, Any] = {"every": self.every, "select": self.select}
        return f"Coreset({self.fraction}, {', '.join(f'{name}={value!r}' for name, value in settings.items())})"
