"""The tables of a batch's samples, such as numbers (B, F) and categories (B, G), which are planned as one table.

So CutMix pastes one share of all columns of a sample, and the label follows that share, whichever table they lie in.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ...augment.augmentation import Augmentation
from ...augment.plan import Plan
from ...augment.rows import part_of
from ...augment.steps import drawn


class Tables:
    """Draws the plans of the views of a batch: of several tables one plan for all their columns, else one for each.

    labels: (B, ...), for steps that read them. shared: the views are parts of one sample, and share their draws.
    """

    def __init__(self, views: Sequence[Tensor], labels: Tensor | None, *, shared: bool) -> None:
        self.labels = labels
        self.joined = shared and len(views) > 1 and all(view.ndim == 2 for view in views)
        self._views = list(views)  # as they were before all steps: neighbours are looked for among these

    def drawn(self, step: Augmentation, view: Tensor, key: Tensor) -> Plan:
        """The plan of one step, from the stream keys (B,): for all tables, or for this one view."""
        return drawn(step, self._views if self.joined else [view], key, self.labels)

    def part(self, plan: Plan, number: int) -> Plan:
        """The part of a plan that belongs to view ``number``."""
        if not self.joined:
            return plan
        first = sum(view.shape[1] for view in self._views[:number])
        return part_of(plan, first, self._views[number].shape[1])

    def holds_categories(self, number: int) -> bool:
        """Whether view ``number`` is a table of whole numbers beside others."""
        return self.joined and not self._views[number].is_floating_point()
