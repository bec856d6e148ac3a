"""`Recorder`: a record of the stages' work during training, batch by batch, for a report afterwards.

When: started before training by `smartaug.plots.record`.
Cost: references to a few tensors of each batch until the end of the epoch, 28 bytes per sample of the dataset, and a
`Clock` that reads the stack 50 times a second.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..augment.plan import Plan
from ..batch import Batch, Target
from .clock import Clock

Loader = Any  # a `smartaug.DataLoader`, or what `smartaug.wrap` returns
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass
class Epoch:
    """One epoch, summed up. weights: at `QUANTILES`; zero: share of weights that are 0; both None without weights.

    moved: share of the labels' mass that went to other classes; changed: share of samples whose likeliest class is
    another; None without soft labels. drawn: samples in it; covered: samples of the dataset drawn in it or before.
    """

    number: int
    drawn: int
    covered: int
    weights: list[float] | None = None
    zero: float | None = None
    moved: float | None = None
    changed: float | None = None


@dataclass
class Operation:
    """How often an operation was applied, and the mean of its magnitude without sign."""

    count: int = 0
    total: float = 0.0


@dataclass
class _Running:
    """An epoch under way: tensors as the stages made them."""

    number: int
    index: list[Tensor] = field(default_factory=list)
    weighed: list[tuple[Tensor | None, Tensor]] = field(default_factory=list)
    labels: list[tuple[Tensor | None, Tensor, Tensor, Tensor]] = field(default_factory=list)
    drawn: int = 0


class Recorder:
    """Notes what the stages of ``loader`` do; `epochs`, `operations` and the tables by sample are read afterwards.

    Tables by sample, of the dataset's length: weight_sum, weight_count, seen (the last epoch that drew it, −1: none),
    label_now (its likeliest class after the stages, −1: not known), moved (the mass that left its label then).
    """

    def __init__(self, loader: Loader) -> None:
        pipeline = getattr(loader, "_pipeline", None)
        if pipeline is None:
            raise ValueError(
                "record needs a smartaug loader with stages; give it lift=, augment=, reweight= or coreset="
            )
        if any(isinstance(watch, Recorder) for watch in pipeline.watchers):
            raise ValueError("this loader is being recorded already; go on with the first recorder, or stop() it")
        self.loader, self._pipeline = loader, pipeline
        self.epochs: list[Epoch] = []
        self.operations: dict[str, Operation] = {}
        self.samples = 0  # handed out, in all
        self._running: _Running | None = None
        size = len(loader.dataset) if hasattr(getattr(loader, "dataset", None), "__len__") else 0
        self.weight_sum, self.weight_count = torch.zeros(size), torch.zeros(size, dtype=torch.int32)
        self.seen, self.label_now = torch.full((size,), -1), torch.full((size,), -1)
        self.moved = torch.zeros(size)
        self.seconds: dict[str, float] = {}  # part of the work, see `clock` -> seconds from the first to the last batch
        self._clock: Clock | None = None
        pipeline.watchers.append(self)

    def __call__(self, batch: Batch, plans: list[Plan], epoch: int) -> None:
        """Note one batch after its stages, or weights that were settled later (then there are no plans)."""
        if self._clock is None:  # what comes before the first batch does not count, nor what comes after the last
            self._clock = Clock(0.02).start()
        self.seconds = dict(self._clock.seconds)
        running = self._running
        settled = batch.inputs is None
        if running is None or (epoch != running.number and not settled):
            self._fold()
            running = self._running = _Running(epoch)
        if not settled:
            first = batch.inputs[0] if isinstance(batch.inputs, list) else batch.inputs
            rows = plans[0].shape[0] if plans else len(first)  # inputs may be a list of views, or one image a sample
            running.drawn += rows
            self.samples += rows
            if batch.index is not None:
                running.index.append(batch.index)
            for plan in plans:
                self._count(plan)
        if batch.weight is not None:
            running.weighed.append((batch.index, batch.weight.detach()))
        target = batch.target.plain if isinstance(batch.target, Target) else batch.target
        if batch.soft is not None and target.ndim == 1 and not target.is_floating_point():
            own = batch.soft.gather(1, target.long()[:, None].to(batch.soft.device))[:, 0]
            likeliest = batch.soft.argmax(1)
            running.labels.append((batch.index, likeliest, 1.0 - own, likeliest != target.to(likeliest.device)))

    def _count(self, plan: Plan) -> None:
        trace = plan.trace
        if not trace.ops.numel():
            return
        counts = torch.bincount(trace.ops.flatten(), minlength=len(trace.names))
        totals = torch.bincount(trace.ops.flatten(), trace.magnitudes.flatten().abs(), minlength=len(trace.names))
        for name, count, total in zip(trace.names, counts.tolist(), totals.tolist(), strict=True):
            if count:
                operation = self.operations.setdefault(name, Operation())
                operation.count += count
                operation.total += total

    def _fold(self) -> None:
        """The epoch under way is over: sum it up."""
        running, self._running = self._running, None
        if running is None:
            return
        if running.index:
            self.seen[torch.cat([index.cpu() for index in running.index])] = running.number
        covered = int((self.seen >= 0).sum())
        epoch = Epoch(running.number, running.drawn, covered)
        if running.weighed:
            weights = torch.cat([weight.cpu().float() for _, weight in running.weighed])
            epoch.weights = torch.quantile(weights[: 2**24], torch.tensor(QUANTILES)).tolist()  # quantile's own limit
            epoch.zero = float((weights == 0).float().mean())
            for index, weight in running.weighed:
                if index is not None and len(self.weight_sum):
                    rows = index.cpu()
                    self.weight_sum.index_add_(0, rows, weight.cpu().float())
                    self.weight_count.index_add_(0, rows, torch.ones_like(rows, dtype=torch.int32))
        if running.labels:
            self._fold_labels(running, epoch)
        self.epochs.append(epoch)

    def _fold_labels(self, running: _Running, epoch: Epoch) -> None:
        epoch.moved = float(torch.cat([mass.cpu().float() for _, _, mass, _ in running.labels]).mean())
        epoch.changed = float(torch.cat([changed.cpu().float() for *_, changed in running.labels]).mean())
        for index, likeliest, mass, _ in running.labels:
            if index is not None and len(self.moved):
                rows = index.cpu()
                self.label_now[rows], self.moved[rows] = likeliest.cpu(), mass.cpu().float()

    def stop(self) -> None:
        """Take no more notes; what was noted stays."""
        self._fold()
        if self._clock is not None:
            self._clock.stop()
        if self in self._pipeline.watchers:
            self._pipeline.watchers.remove(self)
