"""The main job on real images: the same small CNN trained through torch's loader, then with two lines changed."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader as TorchDataLoader
from tqdm import tqdm

from ..._base.text_tables import figures_table
from ...loading.dataloader import DataLoader
from ...loss import Loss
from .picture import picture
from .task import Task, batched_stages, digits_task, folder_task, per_sample_transform, plain, small_cnn, unscaled

_CHANGES = """in your own script, three lines (lift=True batches the random transforms that your dataset has already):
    + import smartaug
    - loader = DataLoader(train_set, batch_size=64, shuffle=True, num_workers=2)
    + loader = smartaug.DataLoader(train_set, batch_size=64, shuffle=True, num_workers=2, lift=True)
    - criterion = nn.CrossEntropyLoss()
    + criterion = smartaug.Loss(nn.CrossEntropyLoss())"""


@dataclass(frozen=True)
class Result:
    """The result of a training run. epoch_seconds, loader_seconds: one entry per epoch. accuracy: in [0, 1]."""

    name: str
    model: nn.Module
    epoch_seconds: list[float]
    loader_seconds: list[float]
    accuracy: float
    augmented: int


@contextmanager
def _interrupted_between_batches() -> Iterator[Callable[[], None]]:
    """Yields a function that raises KeyboardInterrupt once Ctrl-C was pressed; call it at every batch.

    Left alone, Python raises KeyboardInterrupt wherever the program is, and drops it inside a destructor, of which
    torch's loaders have several: the program would go on. Workers forked meanwhile inherit the handler, so they finish
    their batch rather than die. A second Ctrl-C raises at once, for a batch that never comes.
    """
    usual = signal.getsignal(signal.SIGINT)
    if usual is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield lambda: None  # the program around us handles Ctrl-C
        return
    pressed = False

    def handle(number: int, frame: object) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    def check() -> None:
        if pressed:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, handle)
    try:
        yield check
    except Exception:
        check()  # a worker that the same Ctrl-C ended is reported as an error of the loader
        raise
    finally:
        signal.signal(signal.SIGINT, usual)
    check()


def train(
    name: str,
    loader: TorchDataLoader,
    criterion: nn.Module,
    test: Iterable,
    task: Task,
    epochs: int,
    device: torch.device,
    seed: int,
) -> Result:
    """One training run with an ordinary loop. The initial weights depend on ``seed`` alone."""
    torch.manual_seed(seed)
    model = small_cnn(task.channels, len(task.classes)).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=epochs * len(loader))
    epoch_seconds, loader_seconds, samples = [], [], 0
    with _interrupted_between_batches() as check:
        for epoch in range(epochs):
            started, waited = time.perf_counter(), 0.0
            model.train()
            with tqdm(total=len(loader), desc=f"{name}, epoch {epoch + 1}/{epochs}", leave=False, disable=None) as bar:
                batches = iter(loader)
                while True:
                    check()
                    requested = time.perf_counter()
                    batch = next(batches, None)
                    waited += time.perf_counter() - requested
                    if batch is None:
                        break
                    images, target = batch
                    images, target = images.to(device), target.to(device)
                    loss = criterion(model(images), target)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    schedule.step()
                    samples += len(images)
                    bar.update()
            epoch_seconds.append(time.perf_counter() - started)
            loader_seconds.append(waited)
        accuracy = _accuracy(model, test, device, check)
    return Result(name, model, epoch_seconds, loader_seconds, accuracy, samples)


@torch.no_grad()
def _accuracy(model: nn.Module, test: Iterable, device: torch.device, check: Callable[[], None]) -> float:
    model.eval()
    right = total = 0
    for images, target in test:
        check()
        right += int((model(images.to(device)).argmax(1).cpu() == target).sum())
        total += len(target)
    return right / max(1, total)


def table(results: list[Result]) -> str:
    """Median time per epoch, median time in the loader per epoch, test accuracy and samples augmented, a row a run."""
    rows = [("", "s / epoch", "of it in the loader", "test accuracy", "samples augmented")]
    for result in results:
        rows.append(
            (
                result.name,
                f"{_median(result.epoch_seconds):.2f}",
                f"{_median(result.loader_seconds):.2f}",
                f"{100 * result.accuracy:.1f} %",
                f"{result.augmented:,}",
            )
        )
    return figures_table(rows)


def _median(values: list[float]) -> float:
    return float(torch.tensor(values).median()) if values else float("nan")


def _loaders(task: Task, workers: int, device: torch.device, seed: int) -> tuple[TorchDataLoader, DataLoader]:
    """torch's loader, which augments sample by sample, and smartaug's; both draw the same order."""
    shared: dict[str, Any] = {
        "batch_size": 64,
        "shuffle": True,
        "drop_last": True,
        "num_workers": workers,
        "persistent_workers": workers > 0,
    }
    by_sample = TorchDataLoader(
        task.train(per_sample_transform(task)), generator=torch.Generator().manual_seed(seed), **shared
    )
    batched = DataLoader(
        task.train(unscaled()),
        generator=torch.Generator().manual_seed(seed),
        augment=batched_stages(task),
        device=device,
        seed=seed,
        **shared,
    )
    if len(by_sample) == 0:
        raise ValueError(f"{task.name}: fewer than one batch of 64 to train on; raise --limit")
    return by_sample, batched


def run(
    data: str | None = None,
    *,
    epochs: int | None = None,
    limit: int | None = None,
    device: str | None = None,
    seed: int = 0,
    workers: int | None = None,
    out: str = "smartaug-demo.png",
) -> list[Result]:
    """Train both ways, print the table, write the picture; the command ``smartaug demo``."""
    task = digits_task(limit) if data is None else folder_task(data, limit, seed)
    epochs = epochs if epochs is not None else (15 if data is None else 3)
    workers = workers if workers is not None else (0 if data is None else 2)
    if device is None:
        device = str(torch.accelerator.current_accelerator()) if torch.accelerator.is_available() else "cpu"
    where = torch.device(device)
    if not Path(out).resolve().parent.is_dir():
        raise FileNotFoundError(f"--out {out}: there is no folder {Path(out).resolve().parent} to write the picture to")
    print(f"{task.name}; {epochs} epochs, {workers} workers, {where}")

    test = TorchDataLoader(task.test(plain(task)), batch_size=256, num_workers=workers)
    by_sample, batched = _loaders(task, workers, where, seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if data is None else threads)  # steps of a millisecond, where a second thread only waits
    try:
        results = [
            train("torch + torchvision", by_sample, nn.CrossEntropyLoss(), test, task, epochs, where, seed),
            train("smartaug", batched, Loss(nn.CrossEntropyLoss()), test, task, epochs, where, seed),
        ]
        drawn = picture(task, where, seed, out, photographs=data is None)
    finally:
        torch.set_num_threads(threads)
    print(table(results))
    print(f"picture: {drawn}")
    print(_CHANGES)
    return results
