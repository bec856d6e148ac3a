"""Gradients of one batch for a method of reweighting: each is computed when it is first used."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from .. import grads
from .._base import ranks
from .._base.contrastive import own_labels
from ..batch import Batch
from ..grads.logits import distributions
from ..grads.model_call import device_of
from ..grads.pairs import pairs_of
from .waiting import Shown


class BatchGradients:
    """`Gradients` of one batch, computed on demand.

    shown: logits and features of the loop's own forward pass, None where there are none. model: a function that returns
    the network. current: a function ``(device, at) -> direction``, the validation gradient at the model's parameters
    (at=None) or at others. against: (criterion, labels) for labels that are not classes (see `grads.benefit`); then
    results have a single column, or one for each pair; by_column: one for each value of each of several labels. scope,
    head, method: as for `Reweighting`.
    """

    def __init__(
        self,
        batch: Batch,
        shown: Shown | None,
        *,
        model: Callable[[], nn.Module],
        current: Callable[[torch.device, Mapping[str, Tensor] | None], grads.Direction],
        scope: grads.Scope,
        head: str | None,
        method: grads.Method,
        against: grads.Against | None = None,
        by_column: bool = False,
    ) -> None:
        self._against, self._by_column = against, by_column
        self._batch, self._shown, self._model, self._current = batch, shown, model, current
        self._scope, self._head, self._method = scope, head, method
        self._pass: grads.ForwardPass | None = None
        self._labels: Tensor | None = None

    @property
    def labels(self) -> Tensor:
        """(B, K) labels that the batch came with, over pairs each its own; ones (B, 1) where labels are not classes.

        Raises RuntimeError before `rows` or `benefit` has run the model, which tells K.
        """
        if self._labels is None:
            raise RuntimeError("the number of classes is known only after rows() or benefit()")
        return self._labels

    def rows(self, features: bool = False, graph: bool = True) -> grads.ForwardPass:
        """The batch's forward pass, made once."""
        if self._pass is None:
            head = self._head if features else None
            self._pass = grads.ForwardPass(
                self._model(), self._batch.inputs, features=features, head=head, graph=graph, against=self._against
            )
            self._note(self._pass.log_p)
        return self._pass

    def pseudo_step(self, weight: Tensor, lr: float) -> grads.Direction:
        """Σ weight_i ∇ℓ_i over all ranks from the graph of `rows`, and the parameters one step down it."""
        world = ranks.here()[1]
        summed = ranks.averaged(self.rows().pull(-world * weight[:, None] * self.labels))
        return grads.stepped(self._model(), summed, lr)

    def direction(self, at: Mapping[str, Tensor] | None = None) -> grads.Direction:
        """See `Reweighting.current_direction`."""
        return self._current(_device(self._batch), at)

    def benefit(self, direction: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """``(log_p, B)``, both (B, K), in the model's own mode: as a rule training, like the next step."""
        along = self.direction() if direction is None else direction
        shown = self._shown
        if shown is not None and shown.feature is None and self._scope == "head":
            shown = None  # no features (a compiled model, the first batch): a pass of our own
        logits, feature = (None, None) if shown is None else shown
        log_p, made = grads.benefit(
            self._model(),
            self._batch.inputs,
            along,
            self._method,
            logits=logits,
            feature=feature,
            against=self._against,
            by_column=self._by_column,
        )
        self._note(made)
        return log_p, made

    def _note(self, log_p: Tensor) -> None:
        if self._against is not None and pairs_of(self._against[0]) is None:
            self._labels = torch.ones_like(log_p)
            if log_p.shape[1] > 1:  # of each of several labels its two values
                own = self._against[1].to(log_p.device, log_p.dtype)
                self._labels = torch.stack([1.0 - own, own], 2).flatten(1)
            return
        if self._against is not None and self._batch.soft is None:
            self._labels = own_labels(log_p)
            return
        upstream = self._batch.target if self._batch.soft is None else self._batch.soft
        if upstream is None:
            raise TypeError("learned weights need labels, and the batch has no target; name it with target=")
        self._labels = distributions(upstream.to(log_p.device), log_p.shape[1]).to(log_p.dtype)


def _device(batch: Batch) -> torch.device:
    return device_of(tuple(batch.inputs) if isinstance(batch.inputs, list) else batch.inputs)
