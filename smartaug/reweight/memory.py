"""The last weight and soft label of every sample, used for batches that are not weighed (``weigh_every``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_LIMIT = 256 << 20  # bytes


class Memory:
    """Per dataset index a weight and a label, on the CPU, in at most ``limit`` bytes.

    Samples that do not fit, and those never seen, are recalled with weight 1 and the label that they came with. Labels
    are kept in float16.
    """

    def __init__(self, limit: int = _LIMIT) -> None:
        self.limit = limit
        self.weight = torch.ones(0)
        self.soft = torch.zeros(0, 0, dtype=torch.float16)
        self.seen = torch.zeros(0, dtype=torch.bool)

    def note(self, index: Tensor, weight: Tensor, soft: Tensor | None) -> None:
        """Remember weight (B,) and soft (B, K) of the samples ``index`` (B,); rows that are not finite are left out."""
        index, weight = index.cpu(), weight.detach().float().cpu()
        made = torch.zeros(len(index), 0) if soft is None else soft.detach().cpu()
        self._grow(int(index.max()) + 1 if len(index) else 0, made.shape[1])
        kept = (index < len(self.weight)) & torch.isfinite(weight) & torch.isfinite(made).all(1)
        index = index[kept]
        self.weight[index], self.seen[index] = weight[kept], True
        self.soft[index] = made[kept].to(torch.float16)

    def recall(self, index: Tensor, upstream: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(weight (B,), soft (B, K)): the last ones, else 1 and ``upstream`` (B, K); soft is None without upstream."""
        where = index.cpu()
        known = where < len(self.weight)
        known[known.clone()] = self.seen[where[known]]
        weight = torch.ones(len(where))
        weight[known] = self.weight[where[known]]
        if upstream is None or self.soft.shape[1] != upstream.shape[1]:
            return weight.to(index.device), None
        soft = upstream.clone()
        rows = self.soft[where[known]].to(soft.dtype)
        soft[known.to(soft.device)] = (rows / rows.sum(1, keepdim=True)).to(soft.device)
        return weight.to(index.device), soft

    def _grow(self, size: int, classes: int) -> None:
        if classes != self.soft.shape[1]:
            self.soft = torch.zeros(len(self.weight), classes, dtype=torch.float16)
            self.seen.zero_()
        size = min(size, self.limit // (5 + 2 * classes))
        if size <= len(self.weight):
            return
        size = min(max(size, 2 * len(self.weight)), self.limit // (5 + 2 * classes))
        more = size - len(self.weight)
        self.weight = torch.cat([self.weight, torch.ones(more)])
        self.seen = torch.cat([self.seen, torch.zeros(more, dtype=torch.bool)])
        self.soft = torch.cat([self.soft, torch.zeros(more, classes, dtype=torch.float16)])

    def state_dict(self) -> dict[str, Any]:
        """The tables of weights, labels and samples seen."""
        return {"weight": self.weight, "soft": self.soft, "seen": self.seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self.weight, self.soft, self.seen = (state[name].clone() for name in ("weight", "soft", "seen"))
