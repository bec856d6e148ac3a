"""The reweighting half of the pipeline: asking the user's reweighter, and what becomes of its verdict."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from .. import _leaves as leaves
from ..augment.plan import Trace
from ..batch import Batch, Target
from .stages import checked_results, in_stage, name_of


class Reweighter(Protocol):
    """What ``reweight=`` takes: per-sample weights and soft labels for a batch.

    Optional: ``state_dict()``/``load_state_dict(state)`` are kept in the loader's state, ``stats()`` is shown in its
    stats; ``meet(dataset)`` is called once with the training set, ``read_as(inputs=..., target=...)`` with the loader's
    keywords, so that validation samples are read like its batches, ``begin(epoch)`` before an epoch's first batch;
    ``settle(output, target)`` is called by `smartaug.Loss` and may give weights and labels then, or None.
    """

    def __call__(self, batch: Batch, trace: Trace) -> tuple[Tensor | None, Tensor | None]:
        """``(weight, soft)``: (B,) with mean 1 and (B, K) rows summing to 1; None leaves them as they are."""
        ...


class Weighing:
    """A reweighter, or None, and the batches whose weights or labels it made were not finite."""

    def __init__(self, reweight: Any) -> None:
        self.reweight = reweight
        self._begun: int | None = None  # the epoch that the reweighter was told last
        self._fallbacks = 0
        self._uncounted: Tensor | None = None  # fallbacks on an accelerator, read when asked for

    def begin(self, epoch: int) -> None:
        """Tell the reweighter the epoch, once: a learned policy sets its probabilities before anything is drawn."""
        begin = getattr(self.reweight, "begin", None)
        if begin is not None and epoch != self._begun:
            begin(epoch)
            self._begun = epoch

    def weighed(self, batch: Batch, trace: Trace) -> Batch:
        """The batch with the reweighter's weights and labels; as it is without a reweighter."""
        if self.reweight is None:
            return batch
        given = batch._replace(target=batch.target.plain) if isinstance(batch.target, Target) else batch
        length = leaves.rows_of(batch.inputs)
        verdict = self._told(lambda: checked_results(self.reweight(given, trace), length), batch.index, batch.inputs)
        return self._with(verdict, batch)

    def settled(self, output: Any, target: Target) -> Batch | None:
        """The weights and labels of a reweighter that waited for the loop's own ``output``; None: it did not."""
        ask = getattr(self.reweight, "settle", None)
        made = None if ask is None else self._told(lambda: ask(output, target), target.index, output)
        if made is None:
            return None
        verdict = self._told(lambda: checked_results(made, len(target)), target.index, output)
        return self._with(verdict, Batch(None, target.plain, target._weight, target._soft, target.index))

    def _told(self, ask: Callable[[], Any], index: Tensor | None, shown: Any) -> Any:
        """What the reweighter says; its errors name it and what it was shown."""
        try:
            return ask()
        except Exception as error:
            raise in_stage(error, f"reweight stage {name_of(self.reweight)}", index, shown) from error

    def _with(self, verdict: tuple[Tensor | None, Tensor | None], batch: Batch) -> Batch:
        """The batch with the reweighter's weights and labels."""
        weight, soft = self._finite(*verdict, batch)
        if weight is not None and batch.weight is not None:
            weight = weight * batch.weight.to(weight.device)  # coreset weights stay in force
        weight = batch.weight if weight is None else weight.detach()
        return batch._replace(weight=weight, soft=batch.soft if soft is None else soft.detach())

    def _finite(self, weight: Tensor | None, soft: Tensor | None, batch: Batch) -> tuple[Tensor | None, Tensor | None]:
        """Weight 1 and the upstream labels for a batch whose weights or labels are not finite; counted."""
        made = [part for part in (weight, soft) if part is not None]
        if not made:
            return weight, soft
        bad = torch.stack([~torch.isfinite(part).all() for part in made]).any()
        if bad.device.type == "cpu":
            if bad:
                self._fallbacks += 1
                self._warn_fallback()
                return None, None
            return weight, soft
        # no look at the device: choose there, count there
        self._uncounted = bad.long() if self._uncounted is None else self._uncounted + bad
        if weight is not None:
            weight = torch.where(bad, torch.ones_like(weight), weight)
        if soft is not None:
            upstream = batch.soft
            if upstream is None:
                label = batch.target.long()
                upstream = torch.zeros_like(soft).scatter_(1, label.reshape(-1, 1), 1.0)
            soft = torch.where(bad, upstream.to(soft.dtype), soft)
        return weight, soft

    def fallbacks(self) -> int:
        """How many batches fell back to weight 1 and their own labels."""
        if self._uncounted is not None:
            self._fallbacks += int(self._uncounted)
            self._uncounted = None
            if self._fallbacks:
                self._warn_fallback()
        return self._fallbacks

    def _warn_fallback(self) -> None:
        if self._fallbacks == 1:
            warnings.warn(
                f"{name_of(self.reweight)} made weights or labels that are not finite; such batches keep weight 1 and "
                'their own labels. loader.stats()["fallbacks"] counts them; look for NaN in the model\'s outputs',
                stacklevel=2,
            )

    def explain(self, device: str) -> list[tuple[str, str, str]]:
        """The reweighter's row in the table of stages, if there is one."""
        if self.reweight is None:
            return []
        late = getattr(self.reweight, "when", "batch") == "loss"
        why = "in smartaug.Loss, with the loop's logits" if late else "at hand-over, with the model as it is then"
        return [(f"reweight: {name_of(self.reweight)}", device, why)]
