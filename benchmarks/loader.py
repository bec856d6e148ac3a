"""Claim: training pipelines through the loader are faster batched per sample than image by image in the workers.

Method: an epoch through a loader with 2 persistent workers, or, where batches are fetched whole and nothing is left for
workers, with none and 1 or 2 threads instead; all contestants of a table run in turn in one process, one epoch each per
repeat, after epochs of warm-up. Ratios are taken repeat by repeat.

"cifar": 32×32 images, batches of 256: pad-crop 4, mirror, RandAugment (N = 2, M = 9), normalise to float32. Rivals do
it image by image in the workers (torchvision and timm on PIL images, albumentations on arrays) or on the batch in the
main process with one operation for all (Kornia, flagged: not equivalent). "torch, nothing" only fetches and collates
uint8 images. "lifted" is torchvision's own `CIFAR10` with torchvision's transforms, through ``lift=True``. "recipes":
the pipelines of `benchmarks/recipes.py`, original and lifted, on a `CIFAR10` at 32 pixels and on JPEG files at 224,
decoding included, in batches of 64; albumentations' at 32 pixels also as ``AugmentedDataset(CIFAR10(root), pipeline)``,
which needs no ``__getitem__`` of the user's and is fetched whole. "JPEG files": see `benchmarks/jpeg.py`. "fetch":
uint8 images of a `CIFAR10` and nothing else, sample by sample and whole. "lift, checks": what it costs to know, for
each sample, that lifted transforms may run on its image, as a share of a lifted epoch. "machinery": what the stages add
to a batch of 128 tiny images in one process, in milliseconds.

Run: ``python -m benchmarks.loader``; ``--only TABLE`` runs one table and keeps the others, each with the day of its own
run. Images: CIFAR-10 with ``--data FOLDER`` (folders train/CLASS/*.jpg), else 32×32 crops of scikit-learn's two photos;
JPEG files are crops of these photos.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
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
from benchmarks import harness, jpeg, recipes, rivals
from smartaug.loading.fetch import batched
from smartaug.loading.whole_batches import whole_batch

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)


# from profiles by hand: torch 2.14, images of 32×32 in batches of 256, a machine shared with other work
CHECKS_LIMIT = (
    "2 % wanted. By a profile of the checks alone they take about 2 µs a sample: 0.9 in the transform's place (most of "
    "it torch's tensor object), 0.7 counting references and stacking, the rest freeing. Between the transforms of a "
    "real sample 4 to 9 µs were measured while the machine did other work, of the 160 to 200 that a PIL image of 32 "
    "pixels takes there. Supposed, not measured: objects that stay until the batch is collated leave the processor's "
    "cache"
)


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


def whole(loader: Any, threads: int = 1) -> Callable[[], Any]:
    """An epoch of ``loader`` with that many threads in this process."""

    def epoch() -> Any:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        for _ in loader:
            pass
        torch.set_num_threads(before)

    return epoch


def compared(
    loaders: dict[str, Callable[[], Any]], images: int, repeats: int, rivals_of_ours: tuple[str, ...]
) -> dict[str, Any]:
    """Images per second of each, and ratios to the fastest of ``rivals_of_ours``."""
    figures = harness.side_by_side(loaders, repeats=repeats, seconds=0.0)
    speeds = {name: [images / t for t in times] for name, times in figures.items()}
    best = max(rivals_of_ours, key=lambda name: harness.summary(speeds[name])["median"])
    ratios = {
        name: harness.summary([own / base for own, base in zip(values, speeds[best], strict=True)], 3)
        for name, values in speeds.items()
    }
    for name, values in speeds.items():
        print(
            f"    {name:42} {harness.summary(values)['median']:>9.0f} images/s  ×{ratios[name]['median']:.2f}",
            flush=True,
        )
    return {
        "images_per_second": {name: harness.summary(values, 4) for name, values in speeds.items()},
        "best_per_sample_rival": best,
        "ratio_to_best_per_sample_rival": ratios,
    }


def contestants(dataset: Any, batch_size: int, workers: int, around: Any | None = None) -> dict[str, Callable[[], Any]]:
    """The dataset's own pipeline through torch's loader, and lifted; around: the same as an `AugmentedDataset`."""
    shared: dict[str, Any] = {"batch_size": batch_size, "shuffle": True}
    several = {**shared, "num_workers": workers, "persistent_workers": workers > 0}
    made = {
        f"original, {workers} workers": whole(DataLoader(dataset, **several)),
        f"lifted, {workers} workers": whole(smartaug.DataLoader(dataset, lift=True, seed=0, **several)),
    }
    for name, source in (("lifted", dataset), ("AugmentedDataset lifted", around)):
        for threads in (1, workers):
            alone = None if source is None else smartaug.DataLoader(source, lift=True, seed=0, **shared)
            if alone is not None and "whole batches" in alone.explain():
                made[f"{name}, no workers, {threads} thread{'s' * (threads > 1)}"] = whole(alone, threads)
    return made


def loaders(images: list[np.ndarray], workers: int, folder: Path) -> dict[str, Any]:
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

    def ours(**keywords: Any) -> Any:
        policy = smartaug.RandAugment(2, 9, **keywords)
        stages = [smartaug.PadCrop(4), smartaug.Flip(), policy, smartaug.Normalize(MEAN, STD)]
        return smartaug.DataLoader(Images(tensors, lambda tensor: tensor), augment=stages, seed=0, **shared)

    by_array = Images(images, lambda array: in_arrays(image=array)["image"])
    in_file = recipes.cifar(np.stack(images), labels(images), folder, recipes.CIFAR_RANDAUGMENT)
    lifted = contestants(in_file, 256, workers)
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
        **{f"smartaug, {name}": epoch for name, epoch in list(lifted.items())[1:]},
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


def labels(images: list[np.ndarray]) -> list[int]:
    """A class for each image."""
    return [number % 10 for number in range(len(images))]


def profile(dataset: Any, repeats: int) -> dict[str, Any]:
    """Milliseconds per batch of 256 on one thread, by part: rest is the sampler, the hand-over and the labels."""
    lifted, indices = smartaug.lift(dataset), torch.randperm(len(dataset))[:256].tolist()
    loader = smartaug.DataLoader(dataset, lift=True, batch_size=256, shuffle=True, drop_last=True, seed=0)
    images, _ = whole_batch(lifted.dataset, indices)
    plan = lifted.augment.plan(images.shape, index=torch.tensor(indices), epoch=0, seed=0)
    parts: dict[str, Callable[[], Any]] = {
        "all": whole(loader),
        "fetch": lambda: whole_batch(lifted.dataset, indices),
        "plan": lambda: lifted.augment.plan(images.shape, index=torch.tensor(indices), epoch=0, seed=0),
        "execute": lambda: lifted.augment.apply(images, plan),
    }
    figures = harness.side_by_side(parts, repeats=repeats)
    figures["all"] = [t / len(loader) for t in figures["all"]]
    figures["rest"] = [a - b - c - d for a, b, c, d in zip(*figures.values(), strict=True)]
    return {name: harness.summary([1000 * t for t in times], 3) for name, times in figures.items()}


def missed(best: float, parts: dict[str, Any]) -> dict[str, str]:
    """What keeps ``best``, a ratio, below 10; empty where it is not."""
    if best >= 10:
        return {}
    ms = {name: f"{part['median']:.3g}" for name, part in parts.items()}
    return {
        "missed": f"×{best:g} lifted, ×10 wanted: of {ms['all']} ms a batch the compiled operations are {ms['execute']}"
        f" on one thread; fetching the images is {ms['fetch']}, drawing the plan {ms['plan']}, torch's sampler and "
        f"loader, labels and the hand-over {ms['rest']}, in Python, which more threads do not shorten. These are many "
        "steps of a few microseconds each; planning a batch while the one before it is computed would ask the sampler "
        "before its time, and use settings, learned policies and magnitudes from before they change"
    }


def cifar(options: Any, folder: Path) -> dict[str, Any]:
    """The CIFAR recipe with RandAugment by each library."""
    images = arrays(options.data, options.images)
    per_sample = ("torchvision, PIL", "timm, PIL", "albumentations")
    table = compared(loaders(images, options.workers, folder), len(images), options.repeats, per_sample)
    speed = {name: figure["median"] for name, figure in table["images_per_second"].items()}
    best = max(figure["median"] for name, figure in table["ratio_to_best_per_sample_rival"].items() if "lifted" in name)
    in_file = recipes.cifar(np.stack(images), labels(images), folder, recipes.CIFAR_RANDAUGMENT)
    parts = profile(in_file, options.repeats)
    return {
        "images": "CIFAR-10 (JPEG re-compressed)" if options.data else "crops of scikit-learn's photos",
        **table,
        "ms per batch, lifted, no workers, 1 thread": parts,
        **missed(best, parts),
        "albumentations_workers_to_catch_up, extrapolated": round(
            speed["smartaug, numba"] / (speed["albumentations"] / max(1, options.workers)), 1
        ),
        "share of a ResNet-18 step on a GPU": "not measured",
    }


def fetch(options: Any, folder: Path) -> dict[str, Any]:
    """Nothing but getting uint8 images out of a `CIFAR10`."""
    images = arrays(options.data, options.images)
    dataset = recipes.cifar(np.stack(images), labels(images), folder)
    dataset.transform = v2.PILToTensor()
    made: dict[str, Callable[[], Any]] = {}
    for workers in (0, options.workers):
        shared: dict[str, Any] = {"batch_size": 256, "shuffle": True, "num_workers": workers}
        shared["persistent_workers"] = workers > 0
        made[f"torch, {workers} workers"] = whole(DataLoader(dataset, **shared))
        made[f"whole batches, {workers} workers"] = whole(smartaug.DataLoader(dataset, lift=True, **shared))
    return compared(made, len(images), options.repeats, ("torch, 0 workers", f"torch, {options.workers} workers"))


def checks(options: Any, folder: Path) -> dict[str, Any]:
    """Processor time of a lifted epoch over that of the same two halves put together by hand, where nothing is checked.

    Without workers and on one thread, the two in turn batch by batch, so that what else the machine does falls on both.
    """
    images = arrays(options.data, options.images)
    recipe = recipes.CIFAR_RANDAUGMENT
    sources: dict[str, tuple[Any, int]] = {
        "CIFAR10, whole batches": (recipes.cifar(np.stack(images), labels(images), folder / "cifar", recipe), 256),
        "JPEG files, 224 px": (recipes.image_folder(recipes.jpegs(folder / "jpegs", options.files), recipe, 224), 64),
        "PIL images in memory, 32 px": (Images([Image.fromarray(image) for image in images], recipe.make(32)), 256),
    }
    results: dict[str, Any] = {}
    for name, (dataset, batch_size) in sources.items():
        lifted = smartaug.lift(dataset)
        by_hand = batched(lifted.dataset) if "whole" in name else lifted.dataset
        checked = smartaug.DataLoader(dataset, batch_size, lift=True, seed=0)
        bare = smartaug.DataLoader(by_hand, batch_size, augment=lifted.augment, seed=0)
        shares = []
        for _ in range(max(5, options.repeats)):
            ours, theirs = batch_by_batch(checked, bare, epochs=max(1, 4000 // len(dataset)))
            shares.append(ours / theirs - 1)
        results[name] = harness.summary(shares, 3)
        print(f"    {name:42} +{100 * results[name]['median']:.1f} %", flush=True)
    if any(share["median"] > 0.02 for share in results.values()):
        results["missed"] = CHECKS_LIMIT
    return results


def batch_by_batch(one: Any, other: Any, epochs: int) -> tuple[float, float]:
    """Medians over the batches of the processor time, in seconds, that a batch takes in each of two equal loaders."""
    times: tuple[list[float], list[float]] = ([], [])
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    for _ in range(epochs):
        passes = [iter(one), iter(other)]
        for number in range(len(one)):
            for which in ((0, 1), (1, 0))[number % 2]:
                started = time.process_time()
                next(passes[which])
                times[which].append(time.process_time() - started)
    torch.set_num_threads(before)
    return statistics.median(times[0]), statistics.median(times[1])


def original_and_lifted(options: Any, folder: Path) -> dict[str, Any]:
    """Every recipe at 32 pixels in memory and at 224 pixels from JPEG files."""
    images = arrays(options.data, options.images // 2)
    files = recipes.jpegs(folder / "jpegs", options.files)
    results: dict[str, Any] = {}
    for recipe in recipes.RECIPES:
        sources = {
            32: (recipes.cifar(np.stack(images), labels(images), folder / recipe.name, recipe), 256),
            224: (recipes.image_folder(files, recipe, 224), 64),
        }
        for size, (dataset, batch_size) in sources.items():
            print(f"{recipe.name}, {size} px")
            around = recipes.augmented(dataset, recipe) if recipe.array and size == 32 else None
            made = contestants(dataset, batch_size, options.workers, around)
            table = compared(made, len(dataset), options.repeats, (f"original, {options.workers} workers",))
            if size == 32:
                ratios = table["ratio_to_best_per_sample_rival"]
                best = max(ratio["median"] for name, ratio in ratios.items() if "lifted" in name)
                parts = profile(dataset if around is None else around, options.repeats)
                table |= {"ms per batch, lifted, no workers, 1 thread": parts, **missed(best, parts)}
            results[f"{recipe.name}, {size} px"] = {**table, "explain": smartaug.lift(dataset).explain().splitlines()}
    return results


def main() -> None:
    """Run the tables and write benchmarks/results/loader.json."""
    options = harness.arguments(__doc__, data=None, images=10_000, files=192, workers=2, only="")
    rivals.quiet()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tables: dict[str, Callable[[], Any]] = {
            "cifar recipe, 2 workers": lambda: cifar(options, folder / "cifar"),
            "recipes": lambda: original_and_lifted(options, folder / "recipes"),
            "JPEG files": lambda: jpeg.table(options, folder / "files"),
            "lift, checks": lambda: checks(options, folder / "checks"),
            "fetch": lambda: fetch(options, folder / "fetch"),
            "machinery": lambda: machinery(options.repeats),
        }
        path = harness.RESULTS / "loader.json"
        before = json.loads(path.read_text()) if path.exists() else {"results": {}}
        results = before["results"] if options.only else {}
        dates = before.get("dates", dict.fromkeys(results, before.get("date"))) if options.only else {}
        for title, run in tables.items():
            if options.only in title:
                print(title)
                results[title], dates[title] = run(), time.strftime("%Y-%m-%d")
    print(results.get("machinery", {}).get("milliseconds_added", ""))
    packages = (
        "kornia",
        "torchvision",
        "pillow",
        "simplejpeg",
        "nvidia-nvimgcodec-cu12",
        "albumentations",
        "timm",
        "numba",
        "opencv-python-headless",
    )
    facts = {"threads": options.threads, "seed": 0, "dates": dates}
    print(harness.write("loader", __doc__ or "", results, packages=packages, **facts).name)


if __name__ == "__main__":
    main()
