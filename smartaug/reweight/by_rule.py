"""Weights and labels by a rule of your own.

What: any pure function of benefits, ``(B, log_p, batch) -> (weight, soft)``, in place of a method. When: to try a rule
of a paper, or one of yours. Cost: that of the benefits, a forward-mode pass. Reference: none.
"""

from __future__ import annotations

from typing import Any

from .._base.protocols import refuse_other
from ..batch import Batch
from ..grads.reference import Model
from .learned import Reweighting
from .protocols import Gradients, OperationTrace, Rule, ValidationSet, WeightsAndLabels


class ByRule(Reweighting):
    """Weights and labels by any `Rule`: ``ByRule(rule, model, val_set, ...)``; other arguments: see `Reweighting`."""

    def __init__(self, rule: Rule, model: Model, val_set: ValidationSet, **settings: Any) -> None:
        refuse_other("rule", rule)
        super().__init__(model, val_set, **settings)
        self.rule = rule

    def weigh(self, grads: Gradients, batch: Batch, trace: OperationTrace | None) -> WeightsAndLabels:
        """The rule on this batch's benefits."""
        log_p, benefits = grads.benefit()
        return self.rule(benefits, log_p, batch._replace(soft=grads.labels))
