"""The main job on real images: the same small CNN trained through torch's loader, then with two lines changed."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader as TorchDataLoader
from torch.utils.data import Dataset, Subset
from tqdm import tqdm

from ..augment import Augmentation, Compose, CutMix, Erase, Flip, Normalize, PadCrop
from ..loading.dataloader import DataLoader
from ..loss import Loss
from ..reweight import SAFLEX
from .plots import image_grid

_MEAN, _STD = 0.5, 0.25
_LARGEST = 64  # pixels a side: the demo's network is small


@dataclass(frozen=True)
class Task:
    """Train and test images of one size, as data sets that take a transform.

    train, test: functions from a per-sample transform of a PIL image to a data set. mirrors: whether a mirrored image
    keeps its class (digits do not).
    """

    name: str
    train: Callable[[Callable[[Any], Any]], Dataset]
    test: Callable[[Callable[[Any], Any]], Dataset]
    classes: list[str]
    size: int
    channels: int
    mirrors: bool


@dataclass(frozen=True)
class Result:
    """What one training run gave. epoch_seconds, loader_seconds: per epoch, one entry each; accuracy: in [0, 1]."""

    name: str
    model: nn.Module
    epoch_seconds: list[float]
    loader_seconds: list[float]
    accuracy: float
    augmented: int


class _Digits(Dataset):
    def __init__(self, images: Any, labels: Any, transform: Callable[[Any], Any]) -> None:
        from PIL import Image

        self.images = [Image.fromarray(image) for image in images]
        self.labels, self.transform = [int(label) for label in labels], transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(self.images[index]), self.labels[index]


def digits_task(limit: int | None = None) -> Task:
    """scikit-learn's handwritten digits (UCI, 1,797 images of 8×8), every fifth one for testing."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = (data.images * (255 / 16)).astype("uint8")
    testing = [i for i in range(len(images)) if i % 5 == 4]
    training = [i for i in range(len(images)) if i % 5 != 4][:limit]
    return Task(
        f"handwritten digits, {len(training)} + {len(testing)} images of 8×8",
        lambda transform: _Digits(images[training], data.target[training], transform),
        lambda transform: _Digits(images[testing], data.target[testing], transform),
        [str(digit) for digit in range(10)],
        8,
        1,
        mirrors=False,
    )


def folder_task(folder: str | Path, limit: int | None = None, seed: int = 0) -> Task:
    """A tree of class folders, or one with ``train`` and ``test`` (or ``val``) above them; else a fifth is for testing.

    Images are scaled to the first one's size, at most 64 pixels a side. limit: training images to use, spread over the
    classes. Raises FileNotFoundError when there are no images.
    """
    from torchvision.datasets import ImageFolder

    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"--data {root}: there is no such folder; give one with a folder of images per class")
    testing_root = next((root / name for name in ("test", "val") if (root / name).is_dir()), None)
    training_root = root / "train" if testing_root is not None and (root / "train").is_dir() else root
    whole = ImageFolder(str(training_root))
    order = list(range(len(whole)))
    random.Random(seed).shuffle(order)
    if training_root == root:
        testing_root, held_out = root, len(order) // 5
        training, testing = order[held_out:], order[:held_out]
    else:
        training, testing = order, list(range(len(ImageFolder(str(testing_root)))))
    training = sorted(training[:limit])
    size = min(_LARGEST, *whole[0][0].size)

    def subset(where: Path, rows: list[int]) -> Callable[[Callable[[Any], Any]], Dataset]:
        def make(transform: Callable[[Any], Any]) -> Dataset:
            from torchvision.transforms import v2

            return Subset(ImageFolder(str(where), v2.Compose([v2.Resize((size, size)), transform])), rows)

        return make

    return Task(
        f"{root.name}, {len(training)} + {len(testing)} images of {size}×{size}",
        subset(training_root, training),
        subset(Path(str(testing_root)), testing),
        whole.classes,
        size,
        3,
        mirrors=True,
    )


def per_sample_transform(task: Task) -> Callable[[Any], Any]:
    """The torchvision pipeline that runs image by image in the data set."""
    from torchvision.transforms import v2

    flip = [v2.RandomHorizontalFlip()] if task.mirrors else []
    return v2.Compose(
        [
            v2.RandomCrop(task.size, padding=task.size // 8),
            *flip,
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.RandomErasing(p=0.25),
            v2.Normalize([_MEAN] * task.channels, [_STD] * task.channels),
        ]
    )


def batched_stages(task: Task) -> list[Augmentation]:
    """The same operations for ``augment=``."""
    flip: list[Augmentation] = [Flip()] if task.mirrors else []
    return [PadCrop(task.size // 8), *flip, Erase(0.25), Normalize(_MEAN, _STD)]


def small_cnn(channels: int, classes: int) -> nn.Module:
    """Three convolutions and a linear head, about 100,000 parameters."""

    def block(before: int, after: int, stride: int) -> list[nn.Module]:
        return [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]

    body = [*block(channels, 32, 1), *block(32, 64, 2), *block(64, 128, 2)]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, classes))


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

    def handle(number: int, frame: Any) -> None:
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
    loader: Any,
    criterion: nn.Module,
    test: Iterable,
    task: Task,
    epochs: int,
    device: torch.device,
    seed: int,
) -> Result:
    """One training run from the same initial weights for the same ``seed``; the loop is any user's."""
    torch.manual_seed(seed)
    model = small_cnn(task.channels, len(task.classes)).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=epochs * len(loader))
    epoch_seconds, loader_seconds, samples = [], [], 0
    with _interrupted_between_batches() as check:
        for epoch in range(epochs):
            started, waited = time.perf_counter(), 0.0
            model.train()
            with tqdm(total=len(loader), desc=f"{name}, epoch {epoch + 1}/{epochs}", leave=False) as bar:
                batches = iter(loader)
                while True:
                    check()
                    asked = time.perf_counter()
                    batch = next(batches, None)
                    waited += time.perf_counter() - asked
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
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _median(values: list[float]) -> float:
    return float(torch.tensor(values).median()) if values else float("nan")


def picture(task: Task, model: nn.Module, seed: int, path: str | Path, shown: int = 8) -> Path:
    """Write a grid of ``shown`` training images, three epochs of augmentation, and weights and labels from SAFLEX.

    First row: as stored. Then three epochs with the operations that each image received. Last row: CutMix, with the
    weight and the soft label that SAFLEX gives them for ``model`` (its validation data are other training images).
    """
    data = task.train(_unscaled())
    size = len(data)  # type: ignore[arg-type]
    rows = torch.linspace(0, size - 1, min(shown, size)).long()
    pairs = [data[int(row)] for row in rows]
    originals = torch.stack([image for image, _ in pairs])
    visible = Compose([stage for stage in batched_stages(task) if not isinstance(stage, Normalize)])
    images: list[Tensor] = [originals]
    captions = [task.classes[label] for _, label in pairs]
    for epoch in range(3):
        plan = visible.plan(originals.shape, index=rows, epoch=epoch, seed=seed)
        images.append(visible.apply(originals, plan))
        captions += [plan.trace.describe(row).replace(", ", "\n") for row in range(len(rows))]

    others = [row for row in range(size) if row not in set(rows.tolist())]
    validation = Subset(task.train(_plain(task)), others[:: max(1, len(others) // 256)])
    loader: DataLoader = DataLoader(
        pairs,  # type: ignore[arg-type]
        batch_size=len(pairs),
        augment=[CutMix(num_classes=len(task.classes)), Normalize(_MEAN, _STD)],
        reweight=SAFLEX(model, validation, validation_batch=min(64, len(validation))),
        seed=seed,
        device=next(model.parameters()).device,
    )
    mixed, target = next(iter(loader))
    images.append(((mixed.cpu() * _STD + _MEAN) * 255).clamp(0, 255).round().to(torch.uint8))
    for weight, soft in zip(target.weight.tolist(), target.soft.cpu(), strict=True):
        likely = [f"{task.classes[int(k)]} {float(soft[k]):.2f}" for k in soft.argsort(descending=True)[:2]]
        captions.append(f"weight {weight:.2f}\n" + ", ".join(likely))
    title = (
        "first row: as stored; then three epochs, each image with its own operations; "
        "last: CutMix with SAFLEX's weights and soft labels"
    )
    return image_grid(torch.cat(images), captions, path, columns=len(rows), title=title)


def _unscaled() -> Callable[[Any], Any]:
    """PIL image to uint8 tensor: what travels from the workers."""
    from torchvision.transforms import v2

    return v2.PILToTensor()


def _plain(task: Task) -> Callable[[Any], Any]:
    """The validation transform."""
    from torchvision.transforms import v2

    normalize = v2.Normalize([_MEAN] * task.channels, [_STD] * task.channels)
    return v2.Compose([v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), normalize])


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

    test = TorchDataLoader(task.test(_plain(task)), batch_size=256, num_workers=workers)
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
        task.train(_unscaled()),
        generator=torch.Generator().manual_seed(seed),
        augment=batched_stages(task),
        device=where,
        seed=seed,
        **shared,
    )
    if len(by_sample) == 0:
        raise ValueError(f"{task.name}: fewer than one batch of 64 to train on; raise --limit")
    results = [
        train("torch + torchvision", by_sample, nn.CrossEntropyLoss(), test, task, epochs, where, seed),
        train("smartaug", batched, Loss(nn.CrossEntropyLoss()), test, task, epochs, where, seed),
    ]
    print(table(results))
    print(f"picture: {picture(task, results[-1].model, seed, out)}")
    return results
