"""``smartaug bench``: comparing the speed of a user's own loader with that of smartaug's.

Method: A contestant is a loader of one kind (torch's or smartaug's) with one number of workers. All contestants load
the same batches of dataset indices, which the loader's own sampler draws first. A turn is one pass over them, timed
from the first request until the last batch is on the device. Short passes first start the workers and fill the caches;
memory is measured after them. Then all contestants take turns in rounds, so that a drift of the machine affects all of
them, and ratios are computed within each round. Where the time is too short for that, only the loader as it is and the
two fastest of each kind take part; the others keep the speed of their short pass. Shares of time come from passes
without workers, in which all work is in one process (see `clock`).
"""

from __future__ import annotations

import json as json_format
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader as TorchDataLoader
from torch.utils.data import Dataset
from tqdm import tqdm

from ..named import made, named
from .machine import cores
from .measurement import Run
from .rebuilt import as_loader
from .report import Report


def bench(
    loader: TorchDataLoader[Any] | Dataset[Any],
    model: Callable[..., object] | None = None,
    *,
    seconds: float = 60.0,
    workers: list[int] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Report:
    """Compare ``loader`` with smartaug's with ``lift=True``. Returns a `Report`, which ``print`` shows.

    * `loader`: a torch DataLoader, or a dataset, for which one is made (batch_size=64, shuffle=True).
    * `model`: a module, of which a copy is trained, or a function of a batch that runs a training step; None: no model.
    * `seconds`: approximate duration.
    * `workers`: numbers of workers to try; None: the loader's own, and 0, 1, 2, 4, 8 as far as there are cores.
    * `seed`: of smartaug's draws.
    * `progress`: whether to show a progress bar.

    Ctrl-C ends it early and keeps the results so far. Random generators are left as they were. Raises TypeError or
    ValueError for loaders that it cannot measure.
    """
    given = as_loader(loader)
    counts = _worker_counts(given.num_workers, workers)
    if not seconds > 0:
        raise ValueError(f"seconds must be a positive number, got {seconds!r}")
    with (
        _generators_kept(),
        tqdm(total=round(seconds), disable=None if progress else True, leave=False, unit="s") as bar,
    ):
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
    """Restore the global random generators of torch (CPU), NumPy and Python, and torch's number of threads, at exit."""
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
        from ..folder import images_in

        given = None if transform is None else named(transform, "--transform")
        return as_loader(images_in(str(data), given), batch_size)
    found = made(named(target, "bench"), "bench", target)
    try:
        return as_loader(found, batch_size)
    except TypeError as error:
        raise ValueError(f"{target}: {error}") from error
