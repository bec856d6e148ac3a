"""``smartaug inspect SCRIPT.py:NAME``: pictures of a user's own dataset, loader, transform or augmentations."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader as TorchDataLoader
from torch.utils.data import Dataset, default_collate

from ..._base.input_leaves import images_of
from ...augment import Augmentation, Compose
from ...lift.datasets import lift_dataset
from ...loading.augmented.dataset import AugmentedDataset
from ...loading.pictures.grid import image_grid, shown_as_picture
from ...loading.pictures.show import denormalised
from ...loading.pictures.words import makers, received
from ..folder import Flat, image_files
from ..named import named
from ..plots import batch

Indexed = Any  # the user's dataset, with indices and a length
Sample = Any  # a part of the user's sample, such as a PIL image
Batched = Any  # augmentations, or the lifted stages of a dataset


class Photographs(Dataset):
    """scikit-learn's two photographs at full size. transform: of a PIL image. The label is the photograph's index."""

    classes = ("china", "flower")

    def __init__(self, transform: Callable[..., Sample] | None = None) -> None:
        from PIL import Image
        from sklearn.datasets import load_sample_images

        self.images = [Image.fromarray(image) for image in load_sample_images().images]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Sample, int]:
        image = self.images[index]
        return image if self.transform is None else self.transform(image), index


class _Arrays(Dataset):
    """Samples (image, label) of another dataset as dicts, the image an array (H, W, C)."""

    def __init__(self, dataset: Indexed) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Sample]:
        image, label = self.dataset[index]
        return {"image": np.asarray(image), "label": label}


def inspect_own(target: str, data: str | None, count: int, seed: int, out: str) -> Path:
    """Write a picture of ``count`` images with several draws each, and print the stages. Returns the picture's path.

    target: the name of a dataset, a loader, a transform of an image, or augmentations of smartaug's, or of a function
    without arguments that returns one of them. data: a folder of images, for a transform or augmentations; None:
    scikit-learn's photographs. Raises ValueError for other objects, and where nothing can be drawn in batches.
    """
    thing = named(target, "inspect")
    if inspect.isfunction(thing) and not any(
        part.default is part.empty and part.kind < part.VAR_POSITIONAL
        for part in inspect.signature(thing).parameters.values()
    ):
        thing = thing()
    if getattr(thing, "_pipeline", None) is not None:
        print(thing.explain())
        path = batch(thing, out, images=max(count, 8))
        print(f"picture: {path}")
        return path
    if isinstance(thing, TorchDataLoader):
        thing = thing.dataset
    planned = isinstance(thing, Augmentation) or (
        isinstance(thing, (list, tuple)) and len(thing) > 0 and all(isinstance(part, Augmentation) for part in thing)
    )
    if planned:
        stages: Batched = thing if isinstance(thing, Augmentation) else Compose(thing)
        dataset: Indexed = _images(data, None)
        images = _batch([_pixels(dataset[row][0]) for row in _rows(dataset, count)])
    else:
        dataset = _with(thing, data, target) if callable(thing) else thing
        if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
            raise ValueError(f"inspect {target}: name a dataset, a loader, a transform or augmentations")
        lifted = lift_dataset(dataset)
        print(lifted.explain() if lifted.steps else lifted.reason)
        if lifted.augment is None:
            raise ValueError(f"inspect {target}: nothing can be drawn in batches: {lifted.reason}")
        stages, source = lifted.augment, lifted.dataset
        found = images_of(default_collate([source[row] for row in _rows(source, count)]))
        if found is None:
            raise ValueError(f"inspect {target}: its samples have no images (C, H, W)")
        images = found
    drawn = _drawn(stages, images, seed, out)
    print(f"picture: {drawn}")
    return drawn


def _images(data: str | None, transform: Callable[..., Sample] | None) -> Photographs | Flat:
    """The images in a folder, or the photographs, with ``transform``. Raises FileNotFoundError without images."""
    if data is None:
        return Photographs(transform)
    root = Path(data)
    if not root.is_dir():
        raise FileNotFoundError(f"--data {root}: there is no such folder")
    files = image_files(root) or sorted(
        path for folder in root.rglob("*") if folder.is_dir() for path in image_files(folder)
    )
    if not files:
        raise FileNotFoundError(f"--data {root}: there are no images in it")
    return Flat(files, transform)


def _with(transform: Callable[..., Sample], data: str | None, target: str) -> Dataset:
    """A dataset whose images go through the user's ``transform``."""
    if type(transform).__module__.partition(".")[0] == "albumentations":
        return AugmentedDataset(_Arrays(_images(data, None)), transform)
    if inspect.isclass(transform):
        raise ValueError(f"inspect {target} is a class; name an object of it, or a function that returns one")
    return _images(data, transform)


def _rows(dataset: Indexed, count: int) -> list[int]:
    rows: list[int] = torch.linspace(0, len(dataset) - 1, min(count, len(dataset))).long().tolist()
    return rows


def _pixels(image: Sample) -> Tensor:
    """A PIL image as (3, H, W) uint8."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def _batch(images: list[Tensor]) -> Tensor:
    """Images (C, H, W) as a batch: the largest centred square of each, resized to at most 224 pixels a side."""
    side = min(224, *(length for image in images for length in image.shape[1:]))
    made = []
    for image in images:
        square = min(image.shape[1:])
        top, left = (image.shape[1] - square) // 2, (image.shape[2] - square) // 2
        part = image[None, :, top : top + square, left : left + square]
        resized = torch.nn.functional.interpolate(part.float(), (side, side), mode="bilinear", antialias=True)
        made.append(resized.round().to(torch.uint8))
    return torch.cat(made)


def _drawn(stages: Batched, images: Tensor, seed: int, out: str, columns: int = 8) -> Path:
    """Write a row for each image: as stored, then draws, captioned with their operations where there is a plan."""
    draws = columns - 1
    rows = images.repeat_interleave(draws, 0)
    index = torch.arange(len(rows))
    if isinstance(stages, Augmentation):
        plan = stages.plan(rows.shape, index=index, seed=seed)
        made = denormalised(stages.apply(rows, plan), [plan])
        by = makers(stages, tuple(rows.shape))
        said = ["\n".join(received(plan, row, by, index.tolist()) or ["as it is"]) for row in range(len(rows))]
    else:  # some have no plan
        made = shown_as_picture(stages(rows, index=index, seed=seed))
        said = [""] * len(rows)
    stored, tiles, captions = shown_as_picture(images), [], []
    size = made.shape[2:]
    for row in range(len(images)):
        first = torch.nn.functional.interpolate(stored[row : row + 1], size, mode="bilinear", antialias=True)
        tiles += [first.expand(-1, made.shape[1], -1, -1), made[row * draws : (row + 1) * draws]]
        captions += [f"image {row}", *said[row * draws : (row + 1) * draws]]
    title = "first column: as it is handed over to the stages; then draws"
    return image_grid(torch.cat(tiles), captions, out, columns=columns, title=title)
