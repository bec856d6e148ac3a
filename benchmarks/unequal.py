"""Claim: photographs of unequal size become a batch faster all at once than size by size, with the same bytes.

Pictures: 64 crops of scikit-learn's two photographs, uint8, sides within an eighth of 500×375, in memory. A loader
without workers reads them all as one batch and makes them 224×224: "all sizes at once", by compiled code or "resized by
torch"; or "size by size", as before there were such batches: one plan for each picture where sizes all differ.
torchvision's v2 transforms run on each picture by itself, and its results are stacked. Pipelines: a crop or resize
alone; with mirror, RandAugment and normalising. Contestants in turn in one process, each figure the mean over about
half a second; ratios are to "size by size", repeat by repeat. Threads are those of ``torch.set_num_threads``. Before
anything is timed, all ways are checked to give the same bytes.

Run: ``python -m benchmarks.unequal``, two minutes.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

import smartaug
from benchmarks import harness
from smartaug.pipeline.augmenting.unequal import AT_ONCE, BY_SIZE, BY_TORCH

COUNT, SIZE = 64, 224
TAIL = (smartaug.Flip, smartaug.RandAugment, lambda: smartaug.Normalize([0.5] * 3, [0.25] * 3))
BICUBIC = v2.InterpolationMode.BICUBIC
CASES: dict[str, tuple[Callable[[], list[Any]], Callable[[], Any]]] = {
    "RandomResizedCrop, antialiased": (
        lambda: [smartaug.RandomResizedCrop(SIZE, antialias=True)],
        lambda: v2.RandomResizedCrop(SIZE, antialias=True),
    ),
    "RandomResizedCrop": (
        lambda: [smartaug.RandomResizedCrop(SIZE)],
        lambda: v2.RandomResizedCrop(SIZE, antialias=False),
    ),
    "RandomCrop": (lambda: [smartaug.Crop(SIZE)], lambda: v2.RandomCrop(SIZE)),
    "Resize, antialiased, bicubic": (
        lambda: [smartaug.Resize(SIZE, "bicubic", antialias=True)],
        lambda: v2.Resize((SIZE, SIZE), BICUBIC, antialias=True),
    ),
    "RandomResizedCrop, antialiased, mirror, RandAugment, normalising": (
        lambda: [smartaug.RandomResizedCrop(SIZE, antialias=True), *(make() for make in TAIL)],
        lambda: v2.Compose(
            [
                *(v2.RandomResizedCrop(SIZE, antialias=True), v2.RandomHorizontalFlip(), v2.RandAugment()),
                *(v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.25] * 3)),
            ]
        ),
    ),
}


class Photographs(Dataset):
    """Crops of two photographs as tensors (3, H, W), with a label."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        photos = [torch.from_numpy(photo.copy()).permute(2, 0, 1) for photo in load_sample_images().images]
        self.images = []
        for number in range(COUNT):
            width, height = (int(side * random.uniform(0.875, 1.125)) for side in (500, 375))
            x, y = int(random.integers(0, 640 - width + 1)), int(random.integers(0, 427 - height + 1))
            self.images.append(photos[number % 2][:, y : y + height, x : x + width].contiguous())

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], index % 4


def loader(data: Photographs, steps: list[Any], way: str) -> Callable[[], Tensor]:
    """An epoch of one batch, in the way named."""
    made = smartaug.DataLoader(data, COUNT, augment=steps, seed=0, device="cpu")
    made._pipeline.augmenting.unequal.trial.way = lambda: way

    def epoch() -> Tensor:
        ((images, _),) = made
        return images

    return epoch


def one_by_one(data: Photographs, transform: Any) -> Callable[[], Tensor]:
    return lambda: torch.stack([transform(image) for image in data.images])


def case(data: Photographs, name: str, threads: int, repeats: int) -> dict[str, Any]:
    """Images per second of each contestant, and ratios to size by size."""
    ours, theirs = CASES[name]
    torch.set_num_threads(threads)
    first, *others = (loader(data, ours(), way)() for way in (AT_ONCE, BY_TORCH, BY_SIZE))
    if not all(torch.equal(first, other) for other in others) or first.shape != (COUNT, 3, SIZE, SIZE):
        raise RuntimeError(f"{name}: all ways should give the same bytes, of {tuple(first.shape)}")
    contestants = {
        f"smartaug, {AT_ONCE}": loader(data, ours(), AT_ONCE),
        f"smartaug, {BY_TORCH}": loader(data, ours(), BY_TORCH),
        f"smartaug, {BY_SIZE}": loader(data, ours(), BY_SIZE),
        "torchvision v2, each picture": one_by_one(data, theirs()),
    }
    seconds = harness.side_by_side(contestants, repeats=repeats, seconds=0.5)
    slow = seconds[f"smartaug, {BY_SIZE}"]
    return {
        "images_per_second": {way: harness.summary([COUNT / one for one in own], 3) for way, own in seconds.items()},
        "milliseconds_per_image": {
            way: round(statistics.median(own) * 1000 / COUNT, 3) for way, own in seconds.items()
        },
        "ratio_to_size_by_size": {
            way: harness.summary([a / b for a, b in zip(slow, own, strict=True)], 3) for way, own in seconds.items()
        },
    }


def main() -> None:
    options = harness.arguments(__doc__)
    data, results = Photographs(), {}
    for name in CASES:
        for threads in (1, 2):
            title = f"{name}, {threads} thread{'s' * (threads > 1)}"
            results[title] = case(data, name, threads, options.repeats)
            print(title, results[title]["ratio_to_size_by_size"], flush=True)
    harness.write(
        "unequal",
        __doc__ or "",
        results,
        packages=("torchvision", "numba"),
        seed=0,
        repeats=options.repeats,
        load_average=os.getloadavg()[1],
    )


if __name__ == "__main__":
    main()
