"""The measurement of `smartaug.bench`, phase by phase. Its method is described in `bench`."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader as TorchDataLoader

from ..._base import background, compiled
from ..._base.input_leaves import images_of
from ...augment import Augmentation, Compose
from ...augment.backends import NAMES
from ...lift.datasets import lift_dataset
from ...loading.keywords.lift import through_collate
from ..clock import Clock
from .machine import machine, memory_of, versions
from .parity import compared, described, figures
from .rebuilt import Batches, index_lists, line, rebuilt
from .report import Contestant, Report, name_of
from .step import Step

_ROUNDS = 5  # wanted; more where time allows
_MOST_ROUNDS = 15
_PARITY_IMAGES = 1024
_LONGEST = 4096  # images in a turn, at most

if TYPE_CHECKING:
    from tqdm import tqdm

Structure = Any  # the user's own batch


@dataclass
class Run:
    """One measurement. ``report`` holds the results so far. bar: a tqdm progress bar in seconds."""

    given: TorchDataLoader
    counts: list[int]
    model: Callable[..., object] | None
    seconds: float
    seed: int
    bar: tqdm
    loaders: dict[str, TorchDataLoader] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.started = time.perf_counter()
        step = None if self.model is None else Step(self.model)
        self.step = step
        self.device = _device() if step is None or step.device is None else step.device
        self.report = Report(
            machine=machine(),
            versions=versions(),
            seed=self.seed,
            device=str(self.device),
            dataset=f"{type(self.given.dataset).__name__}, {len(self.given.dataset):,} samples",  # type: ignore[arg-type]
            batch_size=self.given.batch_size,
            own=name_of("torch", self.given.num_workers),
        )

    def all(self) -> None:
        """Run all phases. What they measure is the compiled code, so they wait for it."""
        with background.waiting():
            self._build()
            self._rounds(self.seconds * (0.45 if self.step is not None else 0.6))
            self._lines()
            self._shares()
            self._backends()
            self._parity()
            if self.step is not None:
                self._train()
        self.report.seconds = time.perf_counter() - self.started

    def close(self) -> None:
        """End the workers."""
        self.loaders.clear()

    def _left(self) -> float:
        return self.seconds - (time.perf_counter() - self.started)

    def _tick(self, what: str) -> None:
        self.bar.set_description(what)
        self.bar.n = min(self.bar.total, round(time.perf_counter() - self.started))
        self.bar.refresh()

    # --- contestants -------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self._tick("looking at the loader")
        longest = max(8, 2 * max(self.counts), -(-_LONGEST // max(1, self.given.batch_size or 1)))
        self.batches = Batches(index_lists(self.given, longest))
        self._add("torch", {})
        if self._lifts():
            self._add("smartaug", {"lift": True, "seed": self.seed, "device": self.device})

    def _lifts(self) -> bool:
        """Whether smartaug's loader can be made and lifts a transform. Fills in the report."""
        try:
            found = lift_dataset(self.given.dataset)
            loader: Any = rebuilt(self.given, self.batches, 0, lift=True, seed=self.seed, device=self.device)
        except (TypeError, ValueError, RuntimeError) as error:
            self.report.refused = str(error)
            return False
        if loader._pipeline is None or loader._pipeline.lifted is None:
            found = through_collate(found, self.given.dataset, self.given.collate_fn)
            self.report.refused = f"Nothing can be lifted: {found.reason}"
            return False
        self.report.explain = loader.explain()
        self.report.stays = found.reason
        return True

    def _add(self, kind: str, keywords: dict[str, Any]) -> None:
        # workers first: processes should be forked before this one starts threads of its own
        for count in sorted(self.counts, reverse=True):
            name = name_of(kind, count)
            self.loaders[name] = rebuilt(self.given, self.batches, count, **keywords)
            self.report.contestants.append(Contestant(name, kind, count))

    # --- speed -------------------------------------------------------------------------------------------------------

    def _rounds(self, seconds: float) -> None:
        until = self.started + seconds
        for one in sorted(self.report.contestants, key=lambda one: -one.workers):
            self._tick(f"warming up {one.name}")
            self._warm_up(one)
        running = self._fitting(until - time.perf_counter())
        self.report.turn_batches, self.report.turn_images = len(self.batches), self.batches.images
        for number in range(1, _MOST_ROUNDS + 1):
            began = time.perf_counter()
            for one in running:
                self._tick(f"round {number}, {one.name}")
                one.turns[number] = self.batches.images / self._pass(self.loaders[one.name])
                one.turns.pop(0, None)
            now = time.perf_counter()
            if now + (now - began) > until:
                break
        self.report.contestants.sort(key=lambda one: (one.kind != "torch", one.workers))

    def _warm_up(self, one: Contestant) -> None:
        """Run short passes that start the workers; the last one is turn 0. Then measure the memory of all processes.

        The first pass of all with smartaug loads its backend, which is no part of what follows.
        """
        loader = self.loaders[one.name]
        self.batches.count = max(2, 2 * one.workers)
        took = self._pass(loader)
        loads = one.kind == "smartaug" and not any(
            other.turns for other in self.report.contestants if other.kind == one.kind
        )
        if took < self.seconds / (6 if loads else 30):  # else it is known well enough
            took = self._pass(loader)
        one.turns[0] = self.batches.images / took
        workers = getattr(getattr(loader, "_iterator", None), "_workers", [])
        one.memory = memory_of([os.getpid(), *(worker.pid for worker in workers)])

    def _fitting(self, left: float) -> list[Contestant]:
        """The contestants of the rounds. Sets the number of batches in a turn to fit ``left`` seconds."""
        size = self.batches.images / len(self.batches)
        running = self.report.contestants
        for chosen in (running, self._that_matter()):
            running = chosen
            batch_seconds = sum(size / one.median for one in running)
            most = max(one.workers for one in running)
            fit = min(len(self.batches.lists), int(left / (_ROUNDS * batch_seconds)))
            if fit >= max(8, 4 * most):
                break
        self.batches.count = max(2, 2 * most, fit)
        return sorted(running, key=lambda one: -one.workers)

    def _that_matter(self) -> list[Contestant]:
        """The loader as it is, and the two fastest of each kind."""
        chosen = {self.report.own}
        for kind in ("torch", "smartaug"):
            own = [one for one in self.report.contestants if one.kind == kind]
            chosen |= {one.name for one in sorted(own, key=lambda one: -one.median)[:2]}
        return [one for one in self.report.contestants if one.name in chosen]

    def _pass(self, loader: TorchDataLoader, step: Step | None = None) -> float:
        """Duration of one pass in seconds, with a training step on each batch if ``step`` is given."""
        started = time.perf_counter()
        for batch in loader:
            moved = to_device(batch, self.device)
            if step is not None:
                step(moved)
        _wait_for(self.device)
        return time.perf_counter() - started

    def _lines(self) -> None:
        """Set the report's line of code with the best settings."""
        best = self.report.best("smartaug")
        faster = best is not None and self.report.gain_over_best_torch > 1.05
        chosen = best if faster else self.report.best("torch")
        if chosen is not None:
            self.report.line = line(self.given, chosen.workers, lift=faster)

    # --- where the time goes -----------------------------------------------------------------------------------------

    def _shares(self) -> None:
        for kind in ("torch", "smartaug"):
            loader = self.loaders.get(name_of(kind, 0))
            if loader is not None:
                self._tick(f"where the time goes, {kind}")
                self.report.shares[kind] = self._clocked(loader)
            best = self.report.best(kind)
            if best is not None and best.workers:
                clocked = self._clocked(self.loaders[best.name])
                self.report.waits[best.name] = clocked.get("wait", 0.0)

    def _clocked(self, loader: TorchDataLoader) -> dict[str, float]:
        """Shares of time by part of the work, over at most about two seconds of passes."""
        until = time.perf_counter() + min(2.0, max(0.3, self._left() / 8))
        with Clock() as clock:
            while True:
                for batch in loader:
                    to_device(batch, self.device)
                    if time.perf_counter() > until and not loader.num_workers:
                        break
                if time.perf_counter() > until:
                    return clock.shares()

    def _backends(self) -> None:
        """Measure the augmentation of a batch by each CPU backend in ms, where the lifted stages form a single plan."""
        if self.report.refused or self.device.type != "cpu":
            return
        lifted = lift_dataset(self.given.dataset)
        if not isinstance(lifted.augment, Augmentation):
            return
        self._tick("backends")
        loader: TorchDataLoader = TorchDataLoader(
            lifted.dataset, batch_sampler=self.batches.lists[:1], collate_fn=self.given.collate_fn
        )
        images = images_of(next(iter(loader)))
        if images is None:
            return
        for name in NAMES:
            if name == "numba" and not (compiled.installed() and images.dtype == torch.uint8):
                continue
            step = Compose([lifted.augment], backend=name)
            plan = step.plan(images.shape, index=torch.arange(len(images)), seed=self.seed)
            step.apply(images, plan)  # numba compiles
            times: list[float] = []
            while not times or (len(times) < 5 and sum(times) < 500):
                began = time.perf_counter()
                step.apply(images, plan)
                times.append(1000 * (time.perf_counter() - began))
            self.report.backends[name] = statistics.median(times)

    # --- the same images, and the model ------------------------------------------------------------------------------

    def _parity(self) -> None:
        if self.report.refused:
            return
        self._tick("parity")
        found, kinds = [], []
        until = time.perf_counter() + min(8.0, max(1.0, 0.5 * self._left()))
        best = {kind: self.report.best(kind) for kind in ("torch", "smartaug")}
        count = _PARITY_IMAGES
        for number, kind in enumerate(best):
            chosen = best[kind]
            if chosen is None:
                return
            ends = until if number else time.perf_counter() + 0.6 * (until - time.perf_counter())
            rows: list[Tensor] = []
            kind_of = ""
            while sum(map(len, rows)) < count and (not rows or time.perf_counter() < ends):
                for batch in self.loaders[chosen.name]:
                    images = images_of(batch)
                    if images is None:
                        return
                    rows.append(figures(images))
                    kind_of = described(images)
            found.append(torch.cat(rows)[:count])
            kinds.append(kind_of)
            count = len(found[0])
        self.report.parity = compared(found[0], found[1], (kinds[0], kinds[1]))

    def _train(self) -> None:
        """Measure the model alone on a loaded batch, then training with the loader as it is and with the fastest."""
        assert self.step is not None
        self._tick("the model alone")
        batch = to_device(next(iter(rebuilt(self.given, self.batches, 0))), self.device)
        self.step(batch)
        times: list[float] = []
        until = time.perf_counter() + max(0.5, self._left() / 4)
        while len(times) < 3 or (len(times) < 20 and time.perf_counter() < until):
            began = time.perf_counter()
            self.step(batch)
            _wait_for(self.device)
            times.append(len(self.batches.lists[0]) / (time.perf_counter() - began))
        self.report.model_turns = times
        best = self.report.best("smartaug") or self.report.best("torch")
        names = dict.fromkeys([self.report.own, *([best.name] if best else [])])
        while not self.report.training or (
            self._left() > 0 and min(len(turns) for turns in self.report.training.values()) < _ROUNDS
        ):
            for name in names:
                self._tick(f"training, {name}")
                rate = self.batches.images / self._pass(self.loaders[name], self.step)
                self.report.training.setdefault(name, []).append(rate)


def to_device(batch: Structure, device: torch.device) -> Structure:
    """The batch with all its tensors on ``device``."""
    if device.type == "cpu":
        return batch
    return pytree.tree_map(lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, batch)


def _wait_for(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize()


def _device() -> torch.device:
    if torch.accelerator.is_available():
        return torch.accelerator.current_accelerator() or torch.device("cpu")
    return torch.device("cpu")
