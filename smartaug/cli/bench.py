"""``smartaug bench``: a user's own loader, by torch and by smartaug, measured side by side.

Method: every contestant loads the same batches of dataset indices, those that the loader's own sampler draws first; a
turn is one pass over them from the first request to the last batch (on the device, where there is one). After short
passes to warm up, in which workers start, caches fill and memory is read, all take turns in rounds, so that a drift of
the machine meets all of them; ratios are taken round by round. Where time is short for that, only those that matter go
on: the loader as it is, and the two fastest of each kind; the others keep the figure of their short pass. Shares of
time come from passes without workers, in which all work is in one process (see `clock`).
"""

from __future__ import annotations

import json as json_format
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader as TorchDataLoader
from torch.utils.data import Dataset
from tqdm import tqdm

from .bench_report import Report
from .bench_run import Run
from .machine import cores
from .named import made, named
from .rebuilt import as_loader


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

    * `loader`: a torch DataLoader, or a dataset, which gets one.
    * `model`: a module, of which a copy is trained, or a function of a batch that makes a training step.
    * `seconds`: about how long it may take.
    * `workers`: numbers of workers to try; None: the loader's own, and 0, 1, 2, 4, 8 as far as there are cores.
    * `seed`: of smartaug's draws.
    * `progress`: whether to show a progress bar.

    Ctrl-C ends it early and keeps what was measured. Random generators are left as they were. Raises TypeError or
    ValueError for loaders that it cannot measure.
    """
    given = as_loader(loader)
    counts = _worker_counts(given.num_workers, workers)
    if not seconds > 0:
        raise ValueError(f"seconds must be a positive number, got {seconds!r}")
    with _generators_kept(), tqdm(total=round(seconds), disable=not progress, leave=False, unit="s") as bar:
        run = Run(given, counts, model, seconds, seed, bar)
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
