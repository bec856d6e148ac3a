"""Statistics of learned weights and labels: sums over weighed batches, for `Reweighting.stats`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class Figures:
    """Sums over weighed batches, which stay on the device until `summary`."""

    names = ("samples", "weight", "zero", "entropy", "moved", "failed")

    def __init__(self) -> None:
        self.sums: Tensor | None = None
        self.seconds = 0.0

    def note(self, weight: Tensor | None, soft: Tensor | None, labels: Tensor) -> None:
        """Add a batch: weight (B,) and soft (B, K), None where nothing was learned, and upstream labels (B, K)."""
        shown = labels.new_ones(len(labels)) if weight is None else weight.detach()
        rows = labels if soft is None else soft.detach()
        fine = torch.isfinite(shown) & torch.isfinite(rows).all(1)
        entropy = -(rows.clamp_min(1e-30).log() * rows).sum(1)
        moved = rows.argmax(1) != labels.argmax(1)
        each = torch.stack([fine, shown, shown == 0, entropy, moved, ~fine]).double()
        each = torch.cat([torch.where(fine, each[:5], 0.0), each[5:]]).sum(1)
        self.sums = each if self.sums is None else self.sums.to(each.device) + each

    def summary(self, batches: int) -> dict[str, float]:
        """The means by name, as in `Reweighting.stats`; batches: the number that the seconds are divided by."""
        values = [0.0] * 6 if self.sums is None else self.sums.tolist()
        count = max(1.0, values[0])
        return {
            "mean_weight": values[1] / count,
            "share_zero": values[2] / count,
            "label_entropy": values[3] / count,
            "labels_moved": values[4] / count,
            "not_finite": int(values[5]),
            "seconds_per_batch": self.seconds / batches,
        }

    def state_dict(self) -> dict[str, Any]:
        """The sums and the seconds."""
        return {"sums": self.sums, "seconds": self.seconds}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self.sums, self.seconds = state["sums"], state["seconds"]


def by_label(weight: Tensor | None, soft: Tensor | None, labels: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor]:
    """What `Figures.note` takes; of several labels a sample, labels (B, 2K), each label as a row of its two values."""
    if soft is None or labels.shape[1] == soft.shape[1]:
        return weight, soft, labels
    count = soft.shape[1]
    each = None if weight is None else weight.repeat_interleave(count)
    return each, torch.stack([1.0 - soft, soft], 2).reshape(-1, 2), labels.reshape(-1, 2)
