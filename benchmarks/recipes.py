"""Pipelines that people train with, and data sets that use them as their libraries' documentation has it.

torchvision's are the presets of its classification references (`references/classification/presets.py`), timm's is what
``create_transform(auto_augment="rand-m9-mstd0.5-inc1", re_prob=0.25)`` makes, the CIFAR recipe pads, crops, mirrors and
runs AutoAugment, and albumentations' is a common one for medical images, local contrast first. Data sets:
`torchvision.datasets.CIFAR10` with images in the files of its own format, `ImageFolder` of JPEG files, and, for
albumentations, subclasses of these two that hand the transform an array.
"""

from __future__ import annotations

import copy
import hashlib
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import albumentations
import cv2
import numpy as np
import torch
from albumentations.pytorch import ToTensorV2
from PIL import Image
from timm.data import auto_augment, create_transform
from torchvision.datasets import CIFAR10, ImageFolder
from torchvision.transforms import v2

import smartaug

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Recipe:
    """make: from the size in pixels to the training transform. array: whether the transform takes ``image=array``."""

    name: str
    make: Callable[[int], Any]
    array: bool = False


def _preset(size: int, policy: Any) -> Any:
    return v2.Compose(
        [
            v2.RandomResizedCrop(size, antialias=True),
            v2.RandomHorizontalFlip(0.5),
            policy,
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
            v2.RandomErasing(p=0.1),
        ]
    )


def _posterize(image: Any, bits_to_keep: int, **_: Any) -> Any:
    """timm's operation; at 0 bits, which its magnitudes reach and Pillow 13 refuses, black, as older ones had it."""
    return auto_augment.posterize(image, bits_to_keep) if bits_to_keep else Image.new(image.mode, image.size)


def _timm(size: int) -> Any:
    auto_augment.NAME_TO_OP["PosterizeIncreasing"] = _posterize
    return create_transform(
        size, is_training=True, auto_augment="rand-m9-mstd0.5-inc1", re_prob=0.25, interpolation="bilinear"
    )


def _pad_crop(size: int, policy: Any) -> Any:
    first = [v2.RandomCrop(size, padding=size // 8)] if size == 32 else [v2.RandomResizedCrop(size, antialias=True)]
    rest = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    return v2.Compose([*first, v2.RandomHorizontalFlip(), policy, *rest])


def _autoaugment(size: int) -> Any:
    kind = v2.AutoAugmentPolicy.CIFAR10 if size == 32 else v2.AutoAugmentPolicy.IMAGENET
    return _pad_crop(size, v2.AutoAugment(kind))


def _medical(size: int) -> Any:
    first = [] if size == 32 else [albumentations.Resize(size, size)]
    return albumentations.Compose(
        [
            *first,
            albumentations.CLAHE(clip_limit=(1, 4), p=0.3),
            albumentations.HorizontalFlip(p=0.5),
            albumentations.Affine(rotate=(-15, 15), scale=(0.9, 1.1), translate_percent=(-0.06, 0.06), p=0.7),
            albumentations.RandomBrightnessContrast(0.2, 0.2, p=0.5),
            albumentations.GaussNoise(std_range=(0.02, 0.08), p=0.3),
            albumentations.CoarseDropout(num_holes_range=(1, 4), p=0.3),
            albumentations.Normalize(MEAN, STD),
            ToTensorV2(),
        ]
    )


RECIPES = [
    Recipe("torchvision preset, RandAugment", lambda size: _preset(size, v2.RandAugment(2, 9))),
    Recipe("torchvision preset, TrivialAugmentWide", lambda size: _preset(size, v2.TrivialAugmentWide())),
    Recipe("timm rand-m9-mstd0.5-inc1", _timm),
    Recipe("CIFAR recipe, AutoAugment", _autoaugment),
    Recipe("albumentations, medical", _medical, array=True),
]
CIFAR_RANDAUGMENT = Recipe("CIFAR recipe, RandAugment", lambda size: _pad_crop(size, v2.RandAugment(2, 9)))


def finishing() -> Any:
    """What test images go through."""
    return v2.Compose([v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])


# --- data sets -------------------------------------------------------------------------------------------------------


class ArrayFolder(ImageFolder):
    """JPEG files read as albumentations' documentation does."""

    def __getitem__(self, index: int) -> tuple[Any, int]:
        path, label = self.samples[index]
        array = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)
        return self.transform(image=array)["image"], label


def _take_arrays(self: Any, index: int) -> tuple[Any, int]:
    return self.transform(image=self.data[index])["image"], self.targets[index]


def cifar(images: np.ndarray, labels: Sequence[int], folder: Path, recipe: Recipe | None = None) -> CIFAR10:
    """A `CIFAR10` of images (N, 32, 32, 3) uint8, written to ``folder`` as CIFAR-10's own files are."""
    place = folder / CIFAR10.base_folder
    place.mkdir(parents=True, exist_ok=True)

    def written(name: str, content: Any) -> list[str]:
        data = pickle.dumps(content)
        (place / name).write_bytes(data)
        return [name, hashlib.md5(data).hexdigest()]

    rows = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1)
    names, checksum = written("batches.meta", {"label_names": [str(k) for k in range(10)]})
    own: dict[str, Any] = {
        "train_list": [written("data_batch_1", {"data": rows, "labels": list(labels)})],
        "test_list": [],
        "meta": {"filename": names, "md5": checksum, "key": "label_names"},
    }
    if recipe is not None and recipe.array:
        own["__getitem__"] = _take_arrays
    kind: Any = type("CIFAR10", (CIFAR10,), own)
    return kind(folder, transform=finishing() if recipe is None else recipe.make(32))


def augmented(dataset: CIFAR10, recipe: Recipe) -> smartaug.AugmentedDataset:
    """The images of ``dataset`` as torchvision's own class gives them, with the recipe's transform around it."""
    plain = copy.copy(dataset)
    plain.__class__ = CIFAR10  # it has a __getitem__ of its own for arrays
    plain.transform = plain.transforms = None
    return smartaug.AugmentedDataset(plain, recipe.make(32), seed=0)


def jpegs(folder: Path, count: int) -> Path:
    """``count`` JPEG files, random crops of scikit-learn's two photos with sides of 240 to 420 pixels, in 4 classes."""
    from sklearn.datasets import load_sample_images

    photos, random = load_sample_images().images, np.random.default_rng(0)
    for number in range(count):
        height, width = (int(side) for side in random.integers(240, 421, 2))
        y, x = int(random.integers(0, 427 - height + 1)), int(random.integers(0, 640 - width + 1))
        place = folder / str(number % 4)
        place.mkdir(parents=True, exist_ok=True)
        crop = photos[number % 2][y : y + height, x : x + width]
        Image.fromarray(crop).save(place / f"{number:04}.jpg", quality=90)
    return folder


def image_folder(folder: Path, recipe: Recipe, size: int) -> ImageFolder:
    """The JPEG files below ``folder`` with the recipe's transform."""
    return (ArrayFolder if recipe.array else ImageFolder)(str(folder), transform=recipe.make(size))
