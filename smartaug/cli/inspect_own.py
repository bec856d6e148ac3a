"""``smartaug inspect SCRIPT.py:NAME``: draws of a user's own dataset, loader, transform or augmentations."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader as TorchDataLoader
from torch.utils.data import Dataset, default_collate

from ..augment import Augmentation, Compose
from ..lift import lift
from ..loading.augmented_dataset import AugmentedDataset
from .folder import Flat, image_files
from .grid import image_grid, shown_as_picture
from .named import named
from .parity import images_of
from .plots import batch
from .show import denormalised
from .words import makers, received


class Photographs(Dataset):
    """scikit-learn's two photographs, whole, as PIL images through ``transform``; the class is the photograph."""

    classes = ("china", "flower")

    def __init__(self, transform: Any = None) -> None:
        from PIL import Image
        from sklearn.datasets import load_sample_images

        self.images = [Image.fromarray(image) for image in load_sample_images().images]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = self.images[index]
        return image if self.transform is None else self.transform(image), index


class _Arrays(Dataset):
    """The images of another dataset as arrays (H, W, C)."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image, label = self.dataset[index]
        return {"image": np.asarray(image), "label": label}


def inspect_own(target: str, data: str | None, count: int, seed: int, out: str) -> Path:
    """Draw it on ``count`` images and print what runs where; returns the picture's path.

    target: names a dataset, a loader, a transform of an image, augmentations of smartaug's, or a function without
    arguments that returns one. data: a folder of images for the last three; None: scikit-learn's photographs.
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
        stages: Any = thing if isinstance(thing, Augmentation) else Compose(thing)
        dataset: Any = _images(data, None)
        images = _batch([_pixels(dataset[row][0]) for row in _rows(dataset, count)])
    else:
        dataset = _with(thing, data, target) if callable(thing) else thing
        if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
            raise ValueError(f"inspect {target}: name a dataset, a loader, a transform or augmentations")
        lifted = lift(dataset)
        print(lifted.explain() if lifted.steps else lifted.reason)
        if lifted.augment is None:
            raise ValueError(f"inspect {target}: nothing can be drawn in batches: {lifted.reason}")
        stages, source = lifted.augment, lifted.dataset
        found = images_of(default_collate([source[row] for row in _rows(source, count)]))
        if found is None:
            raise ValueError(f"inspect {target}: its samples have no images (C, H, W)")
        images = found
    path = _drawn(stages, images, seed, out)
    print(f"picture: {path}")
    return path


def _images(data: str | None, transform: Any) -> Any:
    """A folder's images, or the photographs, through ``transform``."""
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


def _with(transform: Any, data: str | None, target: str) -> Any:
    """A dataset whose images go through the user's ``transform``."""
    if type(transform).__module__.partition(".")[0] == "albumentations":
        return AugmentedDataset(_Arrays(_images(data, None)), transform)
    if inspect.isclass(transform):
        raise ValueError(f"inspect {target} is a class; name an object of it, or a function that returns one")
    return _images(data, transform)


def _rows(dataset: Any, count: int) -> list[int]:
    rows: list[int] = torch.linspace(0, len(dataset) - 1, min(count, len(dataset))).long().tolist()
    return rows


def _pixels(image: Any) -> Tensor:
    """A PIL image as (3, H, W) uint8."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def _batch(images: list[Tensor]) -> Tensor:
    """Images of one size: the largest square in the middle, at 224 pixels or less."""
    side = min(224, *(length for image in images for length in image.shape[1:]))
    made = []
    for image in images:
        square = min(image.shape[1:])
        top, left = (image.shape[1] - square) // 2, (image.shape[2] - square) // 2
        part = image[None, :, top : top + square, left : left + square]
        resized = torch.nn.functional.interpolate(part.float(), (side, side), mode="bilinear", antialias=True)
        made.append(resized.round().to(torch.uint8))
    return torch.cat(made)


def _drawn(stages: Any, images: Tensor, seed: int, out: str, columns: int = 8) -> Path:
    """A row for each image: as the workers hand it over, then draws, in words where they have a plan."""
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
