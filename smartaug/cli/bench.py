"""``smartaug bench``: a user's own loader, by torch and by smartaug, measured side by side.

Method: every contestant loads the same batches of dataset indices, those that the loader's own sampler draws first; a
turn is one pass over them from the first request to the last batch (on the device, where there is one). After a turn to
warm up, in which workers start, caches fill and memory is read, all take turns in rounds, so that a drift of the machine
meets all of them; ratios are taken round by round. Where time runs short, only those that still matter go on. Shares of
time come from a pass without workers, in which all work is in one process (see `clock`).
"""

from __future__ import annotations

import json as json_format
import os
import random
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader as TorchDataLoader
from torch.utils.data import Dataset
from tqdm import tqdm

from ..augment import Augmentation, Compose
from ..augment.backends import NAMES, numba_installed
from ..lift import lift
from .bench_report import Contestant, Report
from .clock import Clock
from .machine import cores, machine, memory_of, versions
from .named import made, named
from .parity import compared, described, figures, images_of
from .rebuilt import Batches, as_loader, index_lists, line, rebuilt
from .step import Step

_ROUNDS = 5  # wanted; more where time allows
_MOST_ROUNDS = 15
_PARITY_IMAGES = 1024
_LONGEST = 4096  # images in a turn, at most


def bench(
    loader: TorchDataLoader[Any] | Dataset[Any],
    model: Any = None,
    *,
    seconds: float = 60.0,
    workers: list[int] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Report:
    """Measure ``loader`` as it is against smartaug's with ``lift=True``; returns a `Report` (``print`` it).

    loader: a torch DataLoader, or a dataset, which gets one. model: a module, of which a copy is trained, or a function
    of a batch that makes a training step. seconds: about how long it may take. workers: numbers of workers to try; None:
    the loader's own, and 0, 1, 2, 4, 8 as far as there are cores. seed: of smartaug's draws.

    Ctrl-C ends it early and keeps what was measured. Random generators are left as they were. Raises TypeError or
    ValueError for loaders that it cannot measure.
    """
    given = as_loader(loader)
    counts = _worker_counts(given.num_workers, workers)
    if not seconds > 0:
        raise ValueError(f"seconds must be a positive number, got {seconds!r}")
    with _generators_kept(), tqdm(total=round(seconds), disable=not progress, leave=False, unit="s") as bar:
        run = _Run(given, counts, model, seconds, seed, bar)
        try:
            run.all()
        except KeyboardInterrupt:
            run.report.interrupted = True
            if not any(one.turns for one in run.report.contestants):
                raise
        finally:
            run.close()
    return run.report


def _worker_counts(own: int, wanted: list[int] | None) -> list[int]:
    if wanted is None:
        return sorted({own, *(count for count in (0, 1, 2, 4, 8) if count <= cores())})
    if not wanted or not all(isinstance(count, int) and count >= 0 for count in wanted):
        raise ValueError(f"workers must be numbers of workers ≥ 0, got {wanted!r}; write workers=[0, 2]")
    return sorted({own, *wanted})


@contextmanager
def _generators_kept() -> Iterator[None]:
    """The global random generators of torch (CPU), NumPy and Python, and the number of threads, left as they were."""
    states, threads = (random.getstate(), np.random.get_state()), torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
            torch.set_num_threads(threads)


@dataclass
class _Run:
    """One measurement, phase by phase; what is known so far is in ``report``."""

    given: TorchDataLoader
    counts: list[int]
    model: Any
    seconds: float
    seed: int
    bar: Any
    loaders: dict[str, Any] = field(default_factory=dict)

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
            own=f"torch, {self.given.num_workers} workers",
        )

    def all(self) -> None:
        """Every phase in turn."""
        self._build()
        self._rounds(self.seconds * (0.5 if self.step is not None else 0.7))
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
        """Whether smartaug's loader can be made and does anything; what it says of itself, for the report."""
        try:
            found = lift(self.given.dataset)
            loader: Any = rebuilt(self.given, self.batches, 0, lift=True, seed=self.seed, device=self.device)
        except (TypeError, ValueError, RuntimeError) as error:
            self.report.refused = str(error)
            return False
        if loader._pipeline is None or loader._pipeline.lifted is None:
            self.report.refused = f"Nothing can be lifted: {found.reason}"
            return False
        self.report.explain = loader.explain()
        self.report.stays = found.reason
        return True

    def _add(self, kind: str, keywords: dict[str, Any]) -> None:
        # workers first: processes should be forked before this one starts threads of its own
        for count in sorted(self.counts, reverse=True):
            name = f"{kind}, {count} workers"
            self.loaders[name] = rebuilt(self.given, self.batches, count, **keywords)
            self.report.contestants.append(Contestant(name, kind, count))

    # --- speed -------------------------------------------------------------------------------------------------------

    def _rounds(self, seconds: float) -> None:
        until = self.started + seconds
        running = sorted(self.report.contestants, key=lambda one: -one.workers)
        batch_seconds = 0.0
        for one in running:
            self._tick(f"warming up {one.name}")
            batch_seconds += self._warm_up(one)
        fitting = (until - time.perf_counter()) / (_ROUNDS * batch_seconds)
        self.batches.count = max(2, max(self.counts), min(len(self.batches.lists), int(fitting)))
        self.report.turn_batches, self.report.turn_images = len(self.batches), self.batches.images
        number = 0
        while running and number < _MOST_ROUNDS:
            began = time.perf_counter()
            for one in running:
                self._tick(f"round {number + 1}, {one.name}")
                one.turns[number] = self.batches.images / self._pass(self.loaders[one.name])
            number += 1
            took, left = time.perf_counter() - began, until - time.perf_counter()
            if number == 1 and took * (_ROUNDS - 1) > left:
                running = self._that_matter()
                took *= len(running) / len(self.report.contestants)
            if took > left:
                break
        self.report.contestants.sort(key=lambda one: (one.kind != "torch", one.workers))

    def _warm_up(self, one: Contestant) -> float:
        """Short passes that start the workers; then the memory of all its processes. About the seconds of a batch."""
        loader = self.loaders[one.name]
        self.batches.count = max(2, one.workers)
        took = self._pass(loader)
        if took < self.seconds / 30:  # else it is known well enough
            took = self._pass(loader)
        workers = getattr(getattr(loader, "_iterator", None), "_workers", [])
        one.memory = memory_of([os.getpid(), *(worker.pid for worker in workers)])
        return took / len(self.batches)

    def _that_matter(self) -> list[Contestant]:
        """The loader as it is, and the two fastest of each kind."""
        chosen = {one.name: one for one in self.report.contestants if one.name == self.report.own}
        for kind in ("torch", "smartaug"):
            own = [one for one in self.report.contestants if one.kind == kind]
            chosen |= {one.name: one for one in sorted(own, key=lambda one: -one.median)[:2]}
        return [one for one in self.report.contestants if one.name in chosen]

    def _pass(self, loader: Any, step: Step | None = None) -> float:
        """Seconds of one pass."""
        started = time.perf_counter()
        for batch in loader:
            moved = to_device(batch, self.device)
            if step is not None:
                step(moved)
        _wait_for(self.device)
        return time.perf_counter() - started

    def _lines(self) -> None:
        """The settings to use."""
        best = self.report.best("smartaug")
        faster = best is not None and self.report.gain_over_best_torch > 1.05
        chosen = best if faster else self.report.best("torch")
        if chosen is not None:
            self.report.line = line(self.given, chosen.workers, lift=faster)

    # --- where the time goes -----------------------------------------------------------------------------------------

    def _shares(self) -> None:
        for kind in ("torch", "smartaug"):
            loader = self.loaders.get(f"{kind}, 0 workers")
            if loader is not None:
                self._tick(f"where the time goes, {kind}")
                self.report.shares[kind] = self._clocked(loader)
            best = self.report.best(kind)
            if best is not None and best.workers:
                clocked = self._clocked(self.loaders[best.name])
                self.report.waits[best.name] = clocked.get("wait", 0.0)

    def _clocked(self, loader: Any) -> dict[str, float]:
        """Shares of passes over a loader, about two seconds of them or what time is left."""
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
        """Milliseconds of a batch's augmentation by each backend of the CPU, where all of it is one plan."""
        if self.report.refused or self.device.type != "cpu":
            return
        lifted = lift(self.given.dataset)
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
            if name == "numba" and not (numba_installed() and images.dtype == torch.uint8):
                continue
            step = Compose([lifted.augment], backend=name)
            plan = step.plan(images.shape, index=torch.arange(len(images)), seed=self.seed)
            step.apply(images, plan)  # numba compiles
            times: list[float] = []
            while not times or (len(times) < 5 and sum(times) < 500):
                asked = time.perf_counter()
                step.apply(images, plan)
                times.append(1000 * (time.perf_counter() - asked))
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
            while sum(map(len, rows)) < count and (not rows or time.perf_counter() < ends):
                for batch in self.loaders[chosen.name]:
                    images = images_of(batch)
                    if images is None:
                        return
                    rows.append(figures(images))
            found.append(torch.cat(rows)[:count])
            kinds.append(described(images))
            count = len(found[0])
        self.report.parity = compared(found[0], found[1], (kinds[0], kinds[1]))

    def _train(self) -> None:
        """The model's own speed on a batch at hand, then training through the loader as it is and through the best."""
        assert self.step is not None
        self._tick("the model alone")
        batch = to_device(next(iter(rebuilt(self.given, self.batches, 0))), self.device)
        self.step(batch)
        times, until = [], time.perf_counter() + max(0.5, self._left() / 4)
        while len(times) < 3 or (len(times) < 20 and time.perf_counter() < until):
            asked = time.perf_counter()
            self.step(batch)
            _wait_for(self.device)
            times.append(len(self.batches.lists[0]) / (time.perf_counter() - asked))
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


def to_device(batch: Any, device: torch.device) -> Any:
    """The batch with its tensors on ``device``."""
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


def run(
    target: str | None = None,
    *,
    data: str | None = None,
    transform: str | None = None,
    model: str | None = None,
    batch_size: int = 64,
    workers: list[int] | None = None,
    seconds: float = 60.0,
    seed: int = 0,
    json: str | None = None,
    out: str | None = None,
) -> Report:
    """Measure, print, write JSON and the picture; the command ``smartaug bench``."""
    if (target is None) == (data is None):
        raise ValueError("name one of the two: path/to/script.py:make_loader, or --data FOLDER --transform module:name")
    if transform is not None and data is None:
        raise ValueError("--transform goes with --data; a script's dataset has its own")
    for option, file in (("--json", json), ("--out", out)):
        if file is not None and not Path(file).resolve().parent.is_dir():
            raise FileNotFoundError(f"{option} {file}: there is no folder {Path(file).resolve().parent}")
    loader = _loader(target, data, transform, batch_size)
    trained = None
    if model is not None:
        trained = named(model, "--model")
        trained = trained if isinstance(trained, nn.Module) else trained()
    report = bench(loader, trained, seconds=seconds, workers=workers, seed=seed)
    print(report)
    if json is not None:
        Path(json).write_text(json_format.dumps(report.as_dict(), indent=2, ensure_ascii=False) + "\n")
        print(f"figures: {json}")
    if out is not None:
        print(f"picture: {report.plot(out)}")
    if report.interrupted:
        raise KeyboardInterrupt
    return report


def _loader(target: str | None, data: str | None, transform: str | None, batch_size: int) -> TorchDataLoader:
    """The loader that a command line names."""
    if target is None:
        from .folder import images_in

        given = None if transform is None else named(transform, "--transform")
        return as_loader(images_in(str(data), given), batch_size)
    found = made(named(target, "bench"), "bench", target)
    try:
        return as_loader(found, batch_size)
    except TypeError as error:
        raise ValueError(f"{target}: {error}") from error
