"""The images that the commands train on: scikit-learn's digits, or a folder of the user's."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, Subset

from ...augment import Augmentation, Erase, Flip, Normalize, PadCrop
from ..folder import Flat, image_files

Image = Any  # a PIL image; Pillow is optional
Sample = Any  # the result of a transform
MEAN, STD = 0.5, 0.25
_LARGEST = 64  # pixels a side: the demo's network is small


@dataclass(frozen=True)
class Task:
    """Train and test images of one size, as datasets that take a transform.

    train, test: functions from a per-sample transform of a PIL image to a dataset. mirrors: whether a mirrored image
    keeps its class (digits do not).
    """

    name: str
    train: Callable[[Callable[[Image], Sample]], Dataset]
    test: Callable[[Callable[[Image], Sample]], Dataset]
    classes: list[str]
    size: int
    channels: int
    mirrors: bool


class _Digits(Dataset):
    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: Callable[[Image], Sample]) -> None:
        from PIL import Image

        self.images = [Image.fromarray(image) for image in images]
        self.labels, self.transform = [int(label) for label in labels], transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Sample, int]:
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


def folder_task(folder: str | Path, limit: int | None = None, seed: int = 0, *, flat: bool = False) -> Task:
    """A tree of class folders, or one with ``train`` and ``test`` (or ``val``) above them; else a fifth is for testing.

    Images are scaled to the first one's size, at most 64 pixels a side. limit: training images to use, spread over the
    classes. flat: images in the folder itself are taken, too, as one class. Raises FileNotFoundError when there are no
    images.
    """
    from torchvision.datasets import ImageFolder

    def images(where: Path, transform: Callable[[Image], Sample] | None = None) -> Any:
        files = image_files(where) if flat else []
        return Flat(files, transform) if files else ImageFolder(str(where), transform)

    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"--data {root}: there is no such folder; give one with a folder of images per class")
    testing_root = next((root / name for name in ("test", "val") if (root / name).is_dir()), None)
    training_root = root / "train" if testing_root is not None and (root / "train").is_dir() else root
    whole = images(training_root)
    order = list(range(len(whole)))
    random.Random(seed).shuffle(order)
    if training_root == root:
        testing_root, held_out = root, len(order) // 5
        training, testing = order[held_out:], order[:held_out]
    else:
        training, testing = order, list(range(len(images(Path(str(testing_root))))))
    training = sorted(training[:limit])
    size = min(_LARGEST, *whole[0][0].size)

    def subset(where: Path, rows: list[int]) -> Callable[[Callable[[Image], Sample]], Dataset]:
        def make(transform: Callable[[Image], Sample]) -> Dataset:
            from torchvision.transforms import v2

            return Subset(images(where, v2.Compose([v2.Resize((size, size)), transform])), rows)

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


def per_sample_transform(task: Task) -> Callable[[Image], Sample]:
    """The torchvision pipeline that runs image by image in the dataset."""
    from torchvision.transforms import v2

    flip = [v2.RandomHorizontalFlip()] if task.mirrors else []
    return v2.Compose(
        [
            v2.RandomCrop(task.size, padding=task.size // 8),
            *flip,
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.RandomErasing(p=0.25),
            v2.Normalize([MEAN] * task.channels, [STD] * task.channels),
        ]
    )


def batched_stages(task: Task) -> list[Augmentation]:
    """The same operations for ``augment=``."""
    flip: list[Augmentation] = [Flip()] if task.mirrors else []
    return [PadCrop(task.size // 8), *flip, Erase(0.25), Normalize(MEAN, STD)]


def unscaled() -> Callable[[Image], Sample]:
    """A transform from a PIL image to a uint8 tensor (C, H, W), which the workers send to the main process."""
    from torchvision.transforms import v2

    return v2.PILToTensor()


def plain(task: Task) -> Callable[[Image], Sample]:
    """The validation transform."""
    from torchvision.transforms import v2

    normalize = v2.Normalize([MEAN] * task.channels, [STD] * task.channels)
    return v2.Compose([v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), normalize])


def small_cnn(channels: int, classes: int) -> nn.Module:
    """Three convolutions and a linear head, about 100,000 parameters."""

    def block(before: int, after: int, stride: int) -> list[nn.Module]:
        return [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]

    body = [*block(channels, 32, 1), *block(32, 64, 2), *block(64, 128, 2)]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, classes))
