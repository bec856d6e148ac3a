"""Claim: images with masks or boxes are augmented faster on the batch, drawn per sample, than one by one in workers.

Method: an epoch through a loader with 2 persistent workers; all contestants of a table run in turn in one process, one
epoch each per repeat, after an epoch of warm-up. Ratios are taken repeat by repeat, to the fastest rival that draws per
sample. One pipeline for all: mirror (p = 0.5), affine map (±10°, shifts of ±6 %, scale 0.9 to 1.1, bilinear, masks by
the nearest pixel), colour jitter (brightness, contrast, saturation 0.2), normalise to float32. Batches of 16. Each
sample has a uint8 mask of 6 classes, or 5 to 20 boxes with labels; boxes of which less than a pixel a side is left are
dropped with their labels. Batches are stacked images with stacked masks, or with a list of boxes and labels.

"arrays": images in memory in the form that a library takes. "JPEG files": files of the images' size, masks as PNG
files, decoded in the workers by OpenCV, and by Pillow for torchvision's pipeline on PIL images. albumentations and
torchvision v2 run in the workers, sample by sample. Kornia runs on the batch in the main process, each operation drawn
per sample (``data_keys``), boxes padded to 20 a sample; it drops none. "follow=" are smartaug's stages of the same
names on what a dataset without transforms gives; "lifted" is the rival's own dataset and pipeline with ``lift=True``.
The main process has 2 threads for all, torch's default on two cores; "no workers" is that process alone. "masks by
type": milliseconds for the masks alone of a batch of 32.

Run: ``python -m benchmarks.dense``; ``--only TABLE`` prints one table and writes nothing. Images: crops of
scikit-learn's two photos, enlarged where they are smaller than 512 pixels.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import albumentations
import cv2
import kornia.augmentation as kornia
import numpy as np
import torch
from albumentations.pytorch import ToTensorV2
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision import tv_tensors
from torchvision.transforms import v2

import smartaug
from benchmarks import harness, rivals
from benchmarks.loader import compared, whole
from benchmarks.recipes import MEAN, STD
from smartaug.augment.targets import Heatmap, maps

DEGREES, SHIFT, SCALE, TONE = 10, 0.06, (0.9, 1.1), 0.2
BATCH, CLASSES, BOXES = 16, 6, (5, 20)
TASKS, SIZES = ("mask", "boxes"), {256: 256, 512: 96}  # pixels: images of an epoch
PER_SAMPLE = ("albumentations", "torchvision, PIL", "torchvision, tensor")
Target = dict[str, Any]


@dataclass(frozen=True)
class Scene:
    """image (H, W, 3) and mask (H, W) uint8, or the paths of their files; boxes (n, 4) xyxy float32, labels (n,).

    In memory they may be tensors or, for the image, a PIL image instead.
    """

    image: Any
    mask: Any
    boxes: Any
    labels: Any


def scenes(size: int, count: int) -> list[Scene]:
    """Random crops of scikit-learn's photos with ellipses of 5 classes as masks, and boxes at random."""
    from sklearn.datasets import load_sample_images

    scale = max(1.0, 1.1 * size / 427)
    photos = [cv2.resize(photo, None, fx=scale, fy=scale) for photo in load_sample_images().images]
    random, made = np.random.default_rng(0), []
    for number in range(count):
        photo = photos[number % 2]
        y, x = (int(random.integers(0, length - size + 1)) for length in photo.shape[:2])
        mask = np.zeros((size, size), np.uint8)
        for kind in range(1, CLASSES):
            centre, axes = random.integers(0, size, 2).tolist(), random.integers(size // 16, size // 4, 2).tolist()
            cv2.ellipse(mask, centre, axes, float(random.integers(180)), 0, 360, kind, -1)
        objects = int(random.integers(BOXES[0], BOXES[1] + 1))
        start = random.uniform(0, 0.8 * size, (objects, 2))
        end = np.minimum(start + random.uniform(size / 16, size / 2, (objects, 2)), size)
        boxes = np.concatenate([start, end], 1).astype(np.float32)
        image = np.ascontiguousarray(photo[y : y + size, x : x + size])
        made.append(Scene(image, mask, boxes, random.integers(1, CLASSES, objects)))
    return made


def in_files(made: Sequence[Scene], folder: Path) -> list[Scene]:
    """The scenes with their images in JPEG files and their masks in PNG files below ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for number, scene in enumerate(made):
        image, mask = folder / f"{number:04}.jpg", folder / f"{number:04}.png"
        Image.fromarray(scene.image).save(image, quality=90)
        Image.fromarray(scene.mask).save(mask)
        written.append(Scene(str(image), str(mask), scene.boxes, scene.labels))
    return written


def array(source: Any) -> np.ndarray:
    """An image (H, W, 3) or a mask (H, W)."""
    if isinstance(source, np.ndarray):
        return source
    if source.endswith(".png"):
        return cv2.imread(source, cv2.IMREAD_GRAYSCALE)
    return cv2.cvtColor(cv2.imread(source), cv2.COLOR_BGR2RGB)


# --- data sets, as each library's documentation has them -------------------------------------------------------------


class Scenes(Dataset):
    """Scenes for one ``task``, each transformed when it is fetched."""

    def __init__(self, scenes: Sequence[Scene], task: str, transform: Any = None) -> None:
        self.scenes, self.task, self.transform = scenes, task, transform

    def __len__(self) -> int:
        return len(self.scenes)


class ForAlbumentations(Scenes):
    """Arrays by keyword."""

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        scene = self.scenes[index]
        if self.task == "mask":
            moved = self.transform(image=array(scene.image), mask=array(scene.mask))
            return moved["image"], moved["mask"]
        moved = self.transform(image=array(scene.image), bboxes=scene.boxes, labels=scene.labels)
        return moved["image"], {"boxes": moved["bboxes"], "labels": moved["labels"]}


class ForTorchvision(Scenes):
    """tv_tensors beside a tensor, or a PIL image where ``pil``."""

    pil = False

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        scene = self.scenes[index]
        image = self._image(scene.image)
        if self.task == "mask":
            return self.transform(image, tv_tensors.Mask(as_tensor(scene.mask)))
        size = (image.height, image.width) if self.pil else image.shape[-2:]
        boxes = tv_tensors.BoundingBoxes(as_tensor(scene.boxes), format="XYXY", canvas_size=size)
        return self.transform(image, {"boxes": boxes, "labels": as_tensor(scene.labels)})

    def _image(self, source: Any) -> Any:
        if not self.pil:
            return tv_tensors.Image(planar(source))
        return source if isinstance(source, Image.Image) else Image.open(source).convert("RGB")


class ForTorchvisionPil(ForTorchvision):
    """PIL images, masks and boxes as tv_tensors."""

    pil = True


class Plain(Scenes):
    """Tensors as they are."""

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        scene = self.scenes[index]
        if self.task == "mask":
            return planar(scene.image), as_tensor(scene.mask)
        return planar(scene.image), {"boxes": as_tensor(scene.boxes), "labels": as_tensor(scene.labels)}


def as_tensor(source: Any) -> Tensor:
    """A mask, boxes or labels."""
    return source if isinstance(source, Tensor) else torch.from_numpy(array(source))


def planar(source: Any) -> Tensor:
    """An image (3, H, W)."""
    return source if isinstance(source, Tensor) else torch.from_numpy(array(source)).permute(2, 0, 1)


def in_memory_as(form: Callable[[np.ndarray], Any], made: Sequence[Scene]) -> list[Scene]:
    """Scenes in memory with images of another form and tensors beside them; those in files unchanged."""
    if isinstance(made[0].image, str):
        return list(made)
    beside = [[torch.from_numpy(part) for part in (one.mask, one.boxes, one.labels)] for one in made]
    return [Scene(form(one.image), *parts) for one, parts in zip(made, beside, strict=True)]


# --- the pipeline by each library ------------------------------------------------------------------------------------


def in_albumentations(task: str) -> Any:
    """albumentations, on arrays."""
    boxes = albumentations.BboxParams("pascal_voc", label_fields=["labels"], min_width=1, min_height=1)
    tone = (1 - TONE, 1 + TONE)
    return albumentations.Compose(
        [
            albumentations.HorizontalFlip(p=0.5),
            albumentations.Affine(rotate=(-DEGREES, DEGREES), translate_percent=(-SHIFT, SHIFT), scale=SCALE, p=1),
            albumentations.ColorJitter(brightness=tone, contrast=tone, saturation=tone, hue=(0, 0), p=1),
            albumentations.Normalize(MEAN, STD),
            ToTensorV2(),
        ],
        bbox_params=boxes if task == "boxes" else None,
    )


def in_torchvision(task: str) -> Any:
    """torchvision v2, on PIL images or tensors."""
    bilinear = v2.InterpolationMode.BILINEAR
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(0.5),
            v2.RandomAffine(DEGREES, translate=(SHIFT, SHIFT), scale=SCALE, interpolation=bilinear),
            v2.ColorJitter(TONE, TONE, TONE),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
            *([v2.SanitizeBoundingBoxes()] if task == "boxes" else []),
            v2.ToPureTensor(),
        ]
    )


def in_kornia(task: str) -> Any:
    """Kornia, on a batch of floats."""
    return kornia.AugmentationSequential(
        kornia.RandomHorizontalFlip(p=0.5),
        kornia.RandomAffine(DEGREES, (SHIFT, SHIFT), SCALE, p=1.0),
        kornia.ColorJitter(TONE, TONE, TONE, p=1.0),
        kornia.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
        data_keys=["input", "mask" if task == "mask" else "bbox_xyxy"],
    )


def stages() -> list[Any]:
    """smartaug."""
    return [
        smartaug.Flip(),
        smartaug.augment.Affine(DEGREES, (SHIFT, SHIFT), SCALE, interpolation="bilinear"),
        smartaug.ColorJitter(TONE, TONE, TONE),
        smartaug.Normalize(MEAN, STD),
    ]


# --- loaders ---------------------------------------------------------------------------------------------------------


def listed(samples: Sequence[tuple[Any, Target]]) -> tuple[Any, list[Target]]:
    """Stacked images, and boxes and labels as they are."""
    return default_collate([image for image, _ in samples]), [target for _, target in samples]


def padded(samples: Sequence[tuple[Tensor, Target]]) -> tuple[Tensor, Tensor]:
    """Stacked images, and boxes (B, 20, 4) with zeros behind."""
    boxes = torch.zeros(len(samples), BOXES[1], 4)
    for row, (_, target) in enumerate(samples):
        boxes[row, : len(target["boxes"])] = target["boxes"]
    return default_collate([image for image, _ in samples]), boxes


def kornia_epoch(loader: Any, task: str) -> Callable[[], Any]:
    """An epoch, with Kornia on each batch."""
    augment = in_kornia(task)

    def epoch() -> Any:
        for images, targets in loader:
            given = targets[:, None].float() if task == "mask" else targets
            augment(images.float() / 255, given)

    return epoch


def contestants(made: Sequence[Scene], task: str, workers: int) -> dict[str, Callable[[], Any]]:
    """An epoch by each library."""
    collate = listed if task == "boxes" else None
    shared: dict[str, Any] = {"batch_size": BATCH, "shuffle": True, "collate_fn": collate}
    several = {**shared, "num_workers": workers, "persistent_workers": True}
    tensors = in_memory_as(lambda image: planar(image).contiguous(), made)
    pictures = in_memory_as(Image.fromarray, made)
    own: dict[str, Dataset] = {
        "albumentations": ForAlbumentations(made, task, in_albumentations(task)),
        "torchvision, PIL": ForTorchvisionPil(pictures, task, in_torchvision(task)),
        "torchvision, tensor": ForTorchvision(tensors, task, in_torchvision(task)),
    }
    plain = Plain(tensors, task)
    follow = {1: "mask"} if task == "mask" else {"boxes": "xyxy", "labels": "object"}
    for_kornia = DataLoader(plain, **{**several, "collate_fn": padded if task == "boxes" else None})

    def follows(**keywords: Any) -> Any:
        return smartaug.DataLoader(plain, augment=stages(), follow=follow, seed=0, **keywords)

    runs = {name: whole(DataLoader(dataset, **several)) for name, dataset in own.items()}
    runs["kornia, on the batch"] = kornia_epoch(for_kornia, task)
    runs["smartaug, follow="] = whole(follows(**several))
    runs[f"smartaug, follow=, no workers, {workers} threads"] = whole(follows(**shared), workers)
    for name, dataset in own.items():
        runs[f"smartaug, lifted {name}"] = whole(smartaug.DataLoader(dataset, lift=True, seed=0, **several))
    return runs


def table(size: int, task: str, files: bool, options: Any, folder: Path) -> dict[str, Any]:
    """Images per second of each, and ratios to the best per-sample rival."""
    made = scenes(size, SIZES[size])
    made = in_files(made, folder / f"{task}{size}") if files else made
    return compared(contestants(made, task, options.workers), len(made), options.repeats, PER_SAMPLE)


def by_type(options: Any) -> dict[str, Any]:
    """Milliseconds for masks (32, 256, 256) of each type, moved by the plan of `stages`."""
    masks = torch.from_numpy(np.stack([scene.mask for scene in scenes(256, 32)]))
    plan = smartaug.Compose(stages()[:2]).plan((32, 3, 256, 256), index=torch.arange(32), epoch=0, seed=0)
    types = (torch.uint8, torch.bool, torch.int32, torch.int64, torch.float32)
    moved = {
        str(dtype)[6:]: partial(maps.move_map, plan, masks.to(dtype), smartaug.Mask(fill=255 if dtype.is_signed else 0))
        for dtype in types
    }
    # Floats are interpolated by torch: its lerp multiplies and adds in one rounding where the processor can, and in two
    # where it cannot, so that no compiled kernel gives its bytes on both. Bytes have integer weights, and are compiled.
    moved["float32, heatmap"] = partial(maps.move_map, plan, masks[:, None].float(), Heatmap())
    moved["uint8, heatmap"] = partial(maps.move_map, plan, masks[:, None], Heatmap())
    figures = harness.side_by_side(moved, repeats=options.repeats)
    shown = {name: harness.summary([1000 * t for t in times], 3) for name, times in figures.items()}
    print("   ", {name: figure["median"] for name, figure in shown.items()}, flush=True)
    return shown


def main() -> None:
    """Run the tables and write benchmarks/results/dense.json."""
    options = harness.arguments(__doc__, threads=2, workers=2, only="")
    rivals.quiet()
    with tempfile.TemporaryDirectory() as name:
        runs: dict[str, Callable[[], Any]] = {
            f"{task}, {size} px, {'JPEG files' if files else 'arrays'}": partial(
                table, size, task, files, options, Path(name)
            )
            for files in (False, True)
            for size in SIZES
            for task in TASKS
        }
        runs["masks by type"] = partial(by_type, options)
        results = {}
        for title, run in runs.items():
            if options.only in title:
                print(title)
                results[title] = run()
    if options.only:
        return
    packages = ("kornia", "torchvision", "albumentations", "numba", "opencv-python-headless", "Pillow")
    print(harness.write("dense", __doc__ or "", results, packages=packages, threads=options.threads, seed=0).name)


if __name__ == "__main__":
    main()
