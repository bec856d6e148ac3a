"""Pipelines in the objects and functions that people have around them: processor time of loading, before and after.

Five programs, each as it is written without smartaug and with one call changed, `DataLoader(...)` into
`smartaug.DataLoader(..., lift=True)` (Hugging Face's Trainer: in the method that makes its training loader):

* a preset: `ImageFolder` with an object that holds a `Compose` and calls it, as torchvision's reference script for
  classification has it: random resized crop, mirror, TrivialAugment, normalising, random erasing;
* two views: SimCLR's colours, grey and blur, by an object that calls its pipeline twice; `views="independent"`;
* Hugging Face: `Trainer` on a dataset of encoded images, `with_transform(function)`, RandAugment; the loader is the one
  that `Trainer.get_train_dataloader` gives, moved by Accelerate;
* a table: `Dataset` over a CSV file of file names and 14 labels, opened with Pillow: resize, crop, mirror, colours;
* Lightning: a `LightningDataModule` with `random_split` of an `ImageFolder`, RandAugment.

Files: JPEGs of 500×375 pixels, crops of scikit-learn's two photos, quality 90, in 4 folders; batches of 64; 2
persistent workers. Processor seconds (user and system) of the main process and the workers while one epoch is read,
over the images that came, times 1,000; before and after in turn, after one epoch of warm-up each. An image counts once,
also where it gives two views.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, random_split
from torchvision import transforms as T
from torchvision.datasets import ImageFolder

import smartaug
from benchmarks import harness
from benchmarks.jpeg import MEAN, STD, processor_seconds

BATCH, HEIGHT, WIDTH, LABELS = 64, 375, 500, 14
END = (T.ToTensor(), T.Normalize(MEAN, STD))
Loading = Callable[..., Any]  # makes a loader: torch's, or smartaug's with lift=True


class Preset:
    """A training pipeline, as reference scripts hold one."""

    def __init__(self, size: int, erase: float) -> None:
        self.transforms = T.Compose(
            [
                T.RandomResizedCrop(size),
                T.RandomHorizontalFlip(),
                T.TrivialAugmentWide(),
                *END,
                T.RandomErasing(erase),
            ]
        )

    def __call__(self, image: Any) -> Any:
        """The image through the pipeline."""
        return self.transforms(image)


class TwoViews:
    """Each image twice through ``base``."""

    def __init__(self, base: Any) -> None:
        self.base = base

    def __call__(self, image: Any) -> list[Any]:
        """Two views."""
        return [self.base(image) for _ in range(2)]


def simclr() -> Any:
    """The pipeline of SimCLR at 224 pixels."""
    jitter = T.ColorJitter(0.8, 0.8, 0.8, 0.2)
    return T.Compose(
        [
            T.RandomResizedCrop(224, (0.2, 1.0)),
            T.RandomApply([jitter], 0.8),
            T.RandomGrayscale(0.2),
            T.RandomApply([T.GaussianBlur(23)], 0.5),
            T.RandomHorizontalFlip(),
            *END,
        ]
    )


def rand_augment() -> Any:
    """Random resized crops, mirror, RandAugment."""
    return T.Compose([T.RandomResizedCrop(224), T.RandomHorizontalFlip(), T.RandAugment(), *END])


class Table(Dataset):
    """Images and several labels each, from a CSV file with the columns file, 0, 1, ..."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.frame, self.folder = pd.read_csv(path), folder
        self.labels = torch.tensor(self.frame.drop(columns="file").to_numpy(np.float32))
        self.augmentation = T.Compose(
            [T.Resize(256), T.RandomCrop(224), T.RandomHorizontalFlip(), T.ColorJitter(0.4, 0.4, 0.4, 0.1), *END]
        )

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image = Image.open(self.folder / self.frame["file"][index]).convert("RGB")
        return self.augmentation(image), self.labels[index]


def shared(workers: int) -> dict[str, Any]:
    """The settings of every loader."""
    return {"batch_size": BATCH, "shuffle": True, "num_workers": workers, "persistent_workers": workers > 0}


def preset(folder: Path, workers: int, loading: Loading) -> Any:
    """An `ImageFolder` with a preset."""
    return loading(ImageFolder(str(folder), Preset(224, 0.1)), **shared(workers))


def two_views(folder: Path, workers: int, loading: Loading) -> Any:
    """An `ImageFolder` with two views of each image."""
    settings: dict[str, Any] = {} if loading is DataLoader else {"views": "independent"}
    return loading(ImageFolder(str(folder), TwoViews(simclr())), **shared(workers), **settings)


def table(folder: Path, workers: int, loading: Loading) -> Any:
    """JPEG files listed in a CSV file."""
    return loading(Table(folder.parent / "labels.csv", folder), **shared(workers))


def lightning(folder: Path, workers: int, loading: Loading) -> Any:
    """The loader of a data module that was set up."""
    from lightning import LightningDataModule

    class Pictures(LightningDataModule):
        def setup(self, stage: str) -> None:
            whole = ImageFolder(str(folder), rand_augment())
            self.train, _ = random_split(whole, [0.9, 0.1], torch.Generator().manual_seed(0))

        def train_dataloader(self) -> Any:
            return loading(self.train, **shared(workers))

    module = Pictures()
    module.setup("fit")
    return module.train_dataloader()


def hugging_face(folder: Path, workers: int, loading: Loading) -> Any:
    """The training loader of a `Trainer` whose dataset has a function of ``with_transform``."""
    import datasets
    import transformers

    files = sorted(folder.rglob("*.jpg"))
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    rows = {
        "image": [{"bytes": file.read_bytes(), "path": None} for file in files],
        "label": [int(file.parent.name) for file in files],
    }
    pipeline = rand_augment()

    def prepare(batch: dict[str, Any]) -> dict[str, Any]:
        batch["pixel_values"] = [pipeline(image.convert("RGB")) for image in batch["image"]]
        return batch

    def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
        images = torch.stack([sample["pixel_values"] for sample in samples])
        return {"pixel_values": images, "labels": torch.tensor([sample["label"] for sample in samples])}

    class Augmenting(transformers.Trainer):
        def get_train_dataloader(self) -> Any:
            settings = {**shared(self.args.dataloader_num_workers), "collate_fn": self.data_collator}
            return self.accelerator.prepare(loading(self.train_dataset, **settings))

    arguments = transformers.TrainingArguments(
        output_dir=str(folder.parent / "trainer"),
        per_device_train_batch_size=BATCH,
        dataloader_num_workers=workers,
        dataloader_persistent_workers=workers > 0,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        use_cpu=True,
        report_to=[],
    )
    kind = transformers.Trainer if loading is DataLoader else Augmenting
    data = datasets.Dataset.from_dict(rows, features=features).with_transform(prepare)
    trainer = kind(torch.nn.Linear(1, 1), arguments, train_dataset=data, data_collator=collate)
    return trainer.get_train_dataloader()


PROGRAMS = {
    "preset": preset,
    "two views": two_views,
    "Hugging Face": hugging_face,
    "table": table,
    "Lightning": lightning,
}


def jpegs(folder: Path, count: int) -> Path:
    """``count`` files in 4 folders, and beside them ``labels.csv``."""
    from sklearn.datasets import load_sample_images

    photos, random = load_sample_images().images, np.random.default_rng(0)
    names = []
    for number in range(count):
        y, x = int(random.integers(427 - HEIGHT + 1)), int(random.integers(640 - WIDTH + 1))
        crop = photos[number % 2][y : y + HEIGHT, x : x + WIDTH]
        names.append(f"{number % 4}/{number:04}.jpg")
        (folder / names[-1]).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(crop).save(folder / names[-1], quality=90)
    frame = pd.DataFrame(random.integers(0, 2, (count, LABELS)), columns=[str(n) for n in range(LABELS)])
    frame.insert(0, "file", names)
    frame.to_csv(folder.parent / "labels.csv", index=False)
    return folder


class Lifting:
    """Makes smartaug's loaders; made: the last one, which frameworks may put another around."""

    def __init__(self) -> None:
        self.made: Any = None

    def __call__(self, dataset: Any, **settings: Any) -> Any:
        """A loader of ``dataset``."""
        self.made = smartaug.DataLoader(dataset, lift=True, seed=0, device="cpu", **settings)
        return self.made


def epoch(loader: Any) -> tuple[float, int]:
    """Processor seconds of one pass per 1,000 images, and the number of its images."""
    before, images = processor_seconds(), 0
    for batch in loader:
        first = batch["pixel_values"] if hasattr(batch, "keys") else batch[0]
        first = first[0] if isinstance(first, (list, tuple)) else first
        if first.dtype != torch.float32:
            raise TypeError(f"the batches have images of {first.dtype}, and normalised floats are wanted")
        images += len(first)
    return (processor_seconds() - before) * 1000 / images, images


def measured(program: Callable[..., Any], folder: Path, workers: int, repeats: int) -> dict[str, Any]:
    """Processor seconds per 1,000 images before and after, their ratio, and what was lifted."""
    lifting = Lifting()
    loaders = {"before": program(folder, workers, DataLoader), "after": program(folder, workers, lifting)}
    seconds: dict[str, list[float]] = {name: [] for name in loaders}
    images = 0
    for turn in range(repeats + 1):
        for name, loader in loaders.items():
            spent, images = epoch(loader)
            if turn > 0:
                seconds[name].append(spent)
    stats = lifting.made.stats()
    if stats["lifted"] != stats["samples"]:
        raise RuntimeError(f"{stats['lifted']} of {stats['samples']} images were lifted")
    return {
        **{name: harness.summary(values, 3) for name, values in seconds.items()},
        "ratio": harness.summary([b / a for a, b in zip(seconds["after"], seconds["before"], strict=True)], 3),
        "images": images,
        "lifted": lifted_names(lifting.made.explain()),
        "decoded": stats["decoded"],
    }


def lifted_names(table: str) -> dict[str, list[str]]:
    """The transforms of the table of `explain` by where they run."""
    rows = [line.split("  ") for line in table.splitlines()[1:]]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    return {where: [row[0] for row in cells if len(row) > 1 and row[1] == where] for where in ("device", "folded")}


def main() -> None:
    """Measure all programs, or those named by ``--only``."""
    options = harness.arguments(__doc__, files=256, workers=2, only="")
    results = {}
    with tempfile.TemporaryDirectory() as place:
        folder = jpegs(Path(place) / "files", options.files)
        for name, program in PROGRAMS.items():
            if options.only in name:
                results[name] = made = measured(program, folder, options.workers, options.repeats)
                before, after = (f"{made[key]['median']:.2f}" for key in ("before", "after"))
                print(f"{name:14} {before} → {after} s per 1,000 images, ×{made['ratio']['median']:.2f}", flush=True)
    if not options.only:
        packages = ("torchvision", "datasets", "transformers", "lightning", "simplejpeg", "numba")
        harness.write("wrappers", __doc__ or "", results, packages=packages, workers=options.workers)


if __name__ == "__main__":
    main()
