"""Claim: the CIFAR recipe through the loader is faster batched per sample than image by image in the workers.

Method: an epoch of 32×32 images through a loader with 2 persistent workers, batches of 256: pad-crop 4, mirror,
RandAugment (N = 2, M = 9), normalise to float32. Rivals do it image by image in the workers (torchvision and timm on
PIL images, albumentations on arrays) or on the batch in the main process with one operation for all (Kornia, flagged:
not equivalent). "torch, nothing" only fetches and collates uint8 images: what the fetch alone costs. Images lie in
memory, decoded; all loaders run in turn in one process, one epoch each per repeat, after one epoch of warm-up. Second
table: what the machinery adds to a batch of 128 tiny images in one process, by stage, in milliseconds.

Run: ``python -m benchmarks.loader``. Images: CIFAR-10 with ``--data FOLDER`` (folders train/CLASS/*.jpg), else 32×32
crops of scikit-learn's two photos.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import albumentations
import kornia.augmentation as kornia
import numpy as np
import torch
from albumentations.pytorch import ToTensorV2
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision.transforms import v2

import smartaug
from benchmarks import harness, rivals

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)


class Images(Dataset):
    """Images in memory in the form that a pipeline takes, each transformed when it is fetched."""

    def __init__(self, images: list[Any], transform: Callable[[Any], Any]) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(self.images[index]), index % 10


def arrays(folder: str | None, count: int) -> list[np.ndarray]:
    """``count`` images (32, 32, 3) uint8."""
    if folder is not None:
        files = sorted(Path(folder).glob("train/*/*.jpg"))[:: max(1, 50_000 // count)][:count]
        return [np.asarray(Image.open(file).convert("RGB")) for file in files]
    from sklearn.datasets import load_sample_images

    photos, random = load_sample_images().images, np.random.default_rng(0)
    places = [(int(random.integers(0, 427 - 32)), int(random.integers(0, 640 - 32))) for _ in range(count)]
    return [np.ascontiguousarray(photos[i % 2][y : y + 32, x : x + 32]) for i, (y, x) in enumerate(places)]


def loaders(images: list[np.ndarray], workers: int) -> dict[str, Any]:
    """The recipe by each library, as loaders of (B, 3, 32, 32) batches."""
    pictures = [Image.fromarray(image) for image in images]
    tensors = [torch.from_numpy(image.copy()).permute(2, 0, 1).contiguous() for image in images]
    shared: dict[str, Any] = {
        "batch_size": 256,
        "shuffle": True,
        "num_workers": workers,
        "persistent_workers": workers > 0,
    }
    finish = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    start = [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()]
    timm_policy = rand_augment_transform("rand-m9-n2", {"translate_const": 14})
    some = albumentations.SomeOf(rivals.albumentations_operations(32), n=2, replace=True, p=1)
    in_arrays = albumentations.Compose(
        [
            albumentations.Pad(4, p=1),
            albumentations.RandomCrop(32, 32, p=1),
            albumentations.HorizontalFlip(p=0.5),
            some,
            albumentations.Normalize(MEAN, STD),
            ToTensorV2(),
        ]
    )
    on_batch = kornia.AugmentationSequential(
        kornia.RandomCrop((32, 32), padding=4),
        kornia.RandomHorizontalFlip(),
        kornia.auto.RandAugment(n=2, m=9),
        kornia.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
        data_keys=["input"],
    )

    def same_for_all(loader: Any) -> Callable[[], Any]:
        def epoch() -> Any:
            for batch, _ in loader:
                on_batch(batch.float() / 255)

        return epoch

    def whole(loader: Any) -> Callable[[], Any]:
        def epoch() -> Any:
            for _ in loader:
                pass

        return epoch

    def ours(**keywords: Any) -> Any:
        policy = smartaug.RandAugment(2, 9, **keywords)
        stages = [smartaug.PadCrop(4), smartaug.Flip(), policy, smartaug.Normalize(MEAN, STD)]
        return smartaug.DataLoader(Images(tensors, lambda tensor: tensor), augment=stages, seed=0, **shared)

    by_array = Images(images, lambda array: in_arrays(image=array)["image"])
    return {
        "torch, nothing": whole(DataLoader(Images(tensors, lambda tensor: tensor), **shared)),
        "torchvision, PIL": whole(
            DataLoader(Images(pictures, v2.Compose([*start, v2.RandAugment(2, 9), *finish])), **shared)
        ),
        "timm, PIL": whole(DataLoader(Images(pictures, v2.Compose([*start, timm_policy, *finish])), **shared)),
        "albumentations": whole(DataLoader(by_array, **shared)),
        "kornia, one op for all (not equivalent)": same_for_all(
            DataLoader(Images(tensors, lambda tensor: tensor), **shared)
        ),
        "smartaug, torch": whole(ours(backend="torch")),
        "smartaug, numba": whole(ours()),
        "smartaug, numba, exact=False": whole(ours(exact=False)),
    }


def machinery(repeats: int) -> dict[str, Any]:
    """Milliseconds per batch of 128 images of 4×4, with different stages, and what each adds to torch's own loader."""
    data = TensorDataset(torch.randint(0, 256, (12_800, 3, 4, 4), dtype=torch.uint8), torch.arange(12_800) % 10)
    cases = {
        "torch": DataLoader(data, batch_size=128),
        "reweight=Uniform()": smartaug.DataLoader(data, batch_size=128, reweight=smartaug.Uniform()),
        "augment=callable": smartaug.DataLoader(data, batch_size=128, augment=lambda images: images),
        "coreset of half": smartaug.DataLoader(
            data, batch_size=128, coreset=smartaug.Coreset(0.5, select=smartaug.coreset.Uniform())
        ),
    }
    batches = {name: len(loader) for name, loader in cases.items()}
    epochs = {name: partial(list, loader) for name, loader in cases.items()}
    figures = harness.side_by_side(epochs, repeats=repeats)
    per_batch = {name: [1000 * t / batches[name] for t in times] for name, times in figures.items()}
    added = {
        name: harness.summary([own - base for own, base in zip(times, per_batch["torch"], strict=True)])
        for name, times in per_batch.items()
        if name != "torch"
    }
    return {
        "milliseconds_per_batch": {name: harness.summary(times) for name, times in per_batch.items()},
        "milliseconds_added": added,
    }


def main() -> None:
    """Run both tables and write benchmarks/results/loader.json."""
    options = harness.arguments(__doc__, data=None, images=10_000, workers=2)
    rivals.quiet()
    images = arrays(options.data, options.images)
    figures = harness.side_by_side(loaders(images, options.workers), repeats=options.repeats, seconds=0.0)
    speeds = {name: [len(images) / t for t in times] for name, times in figures.items()}
    ratios = {}
    best = max(
        (name for name in speeds if name in ("torchvision, PIL", "timm, PIL", "albumentations")),
        key=lambda name: harness.summary(speeds[name])["median"],
    )
    for name, values in speeds.items():
        ratios[name] = harness.summary([own / base for own, base in zip(values, speeds[best], strict=True)], 3)
    per_worker = harness.summary(speeds["albumentations"])["median"] / max(1, options.workers)
    results = {
        "cifar recipe, 2 workers": {
            "images": "CIFAR-10 (JPEG re-compressed)" if options.data else "crops of scikit-learn's photos",
            "images_per_second": {name: harness.summary(values, 4) for name, values in speeds.items()},
            "best_per_sample_rival": best,
            "ratio_to_best_per_sample_rival": ratios,
            "albumentations_workers_to_catch_up, extrapolated": round(
                harness.summary(speeds["smartaug, numba"])["median"] / per_worker, 1
            ),
            "share of a ResNet-18 step on a GPU": "not measured",
        },
        "machinery": machinery(options.repeats),
    }
    packages = ("kornia", "torchvision", "albumentations", "timm", "numba", "opencv-python-headless")
    path = harness.write("loader", __doc__ or "", results, packages=packages, threads=options.threads, seed=0)
    for name, value in results["cifar recipe, 2 workers"]["images_per_second"].items():
        print(f"{name:45} {value['median']:>9.0f} images/s  ×{ratios[name]['median']:.2f}")
    print(results["machinery"]["milliseconds_added"])
    print(path.name)


if __name__ == "__main__":
    main()
