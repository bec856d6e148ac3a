"""Claim: a lifted pipeline trains as well as the original.

Method: every recipe of `benchmarks/recipes.py` at 32 pixels trains the demo's small CNN twice from the same weights in
the same order of images: once through torch's loader, each sample by its library, and once through
``smartaug.DataLoader(lift=True)``. CIFAR-10, 1,500 training and 2,000 test images, 4 epochs, SGD with one cycle, one
process, one thread, five seeds. Quoted: mean and standard deviation (n − 1) of the test accuracy in per cent, and of
the difference lifted − original, paired by seed; "noise" is the half-width of its 95 % interval (t, 4 degrees of
freedom). The row "no augmentation" shows how large a difference this set-up sees.

Run: ``python -m benchmarks.lift --data FOLDER`` (folders train/CLASS/*.jpg and test/CLASS/*.jpg).
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

import smartaug
from benchmarks import harness, recipes
from smartaug.cli.demo import command as demo

T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 8: 2.365, 10: 2.262}  # Student's t, two-sided, n − 1


def images_of(folder: Path, count: int) -> tuple[np.ndarray, list[int]]:
    """``count`` images (count, 32, 32, 3) uint8 and their labels, as many of each class."""
    files = [sorted(kind.glob("*.jpg"))[: count // 10] for kind in sorted(folder.iterdir()) if kind.is_dir()]
    if len(files) != 10 or any(len(kind) < count // 10 for kind in files):
        raise SystemExit(f"--data: {folder} must hold 10 class folders with {count // 10} JPEG files or more each")
    arrays = [np.asarray(Image.open(file).convert("RGB")) for kind in files for file in kind]
    return np.stack(arrays), [label for label, kind in enumerate(files) for _ in kind]


def seeded(dataset: Any, seed: int) -> Any:
    """``dataset`` with every generator that its transforms draw from seeded."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    own = getattr(dataset.transform, "set_random_seed", None)
    if own is not None:
        own(seed)
    return dataset


def spread(values: list[float]) -> dict[str, Any]:
    """Mean and standard deviation, and the values."""
    return {
        "mean": round(statistics.mean(values), 2),
        "sd": round(statistics.stdev(values), 2),
        "values": [round(value, 2) for value in values],
    }


def compared(first: list[float], second: list[float]) -> dict[str, Any]:
    """second − first, paired; within_noise: whether 0 lies in the 95 % interval of the mean."""
    figure = spread([b - a for a, b in zip(first, second, strict=True)])
    noise = T_95[len(first)] * statistics.stdev(figure["values"]) / len(first) ** 0.5
    return {**figure, "noise": round(noise, 2), "within_noise": abs(figure["mean"]) <= noise}


def main() -> None:
    """Train all of it and write benchmarks/results/lift.json after every recipe."""
    options = harness.arguments(__doc__, data=None, seeds=5, images=1500, tests=2000, epochs=4, only="")
    if options.data is None:
        raise SystemExit("--data FOLDER is needed: CIFAR-10 as train/CLASS/*.jpg and test/CLASS/*.jpg")
    started, device = time.perf_counter(), torch.device("cpu")
    training = images_of(Path(options.data) / "train", options.images)
    testing = images_of(Path(options.data) / "test", options.tests)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        held_out = recipes.cifar(*testing, Path(folder) / "test")
        test: Any = list(DataLoader(held_out, batch_size=256))
        task = demo.Task("CIFAR-10", lambda _: held_out, lambda _: held_out, held_out.classes, 32, 3, mirrors=True)

        def accuracy(name: str, loader: Any, criterion: nn.Module, seed: int) -> float:
            run = demo.train(name, loader, criterion, test, task, options.epochs, device, seed)
            return 100 * run.accuracy

        def order(seed: int) -> dict[str, Any]:
            generator = torch.Generator().manual_seed(seed)
            return {"batch_size": 64, "shuffle": True, "drop_last": True, "generator": generator}

        plain = recipes.cifar(*training, Path(folder) / "train")
        bare: list[float] = []
        for recipe in recipes.RECIPES:
            if options.only not in recipe.name:
                continue
            original: list[float] = []
            lifted: list[float] = []
            for seed in range(options.seeds):
                if len(bare) <= seed:
                    bare.append(
                        accuracy("no augmentation", DataLoader(plain, **order(seed)), nn.CrossEntropyLoss(), seed)
                    )
                dataset = seeded(recipes.cifar(*training, Path(folder) / "train", recipe), seed)
                loader = DataLoader(dataset, **order(seed))
                original.append(accuracy(recipe.name, loader, nn.CrossEntropyLoss(), seed))
                dataset = seeded(dataset, seed)
                ours = smartaug.DataLoader(dataset, lift=True, seed=seed, **order(seed))
                lifted.append(accuracy(f"{recipe.name}, lifted", ours, smartaug.Loss(nn.CrossEntropyLoss()), seed))
            results[recipe.name] = {
                "original": spread(original),
                "lifted": spread(lifted),
                "lifted − original": compared(original, lifted),
                "explain": smartaug.lift(dataset).explain().splitlines(),
            }
            results["no augmentation"] = {
                "accuracy": spread(bare),
                "no augmentation − original": {
                    name: compared(row["original"]["values"], bare)
                    for name, row in results.items()
                    if "original" in row
                },
            }
            facts = {"seeds": options.seeds, "images": options.images, "tests": options.tests, "epochs": options.epochs}
            seconds = round(time.perf_counter() - started)
            packages = ("torchvision", "timm", "albumentations", "numba")
            harness.write(
                "lift", __doc__ or "", results, packages=packages, **facts, threads=options.threads, seconds=seconds
            )
            print(
                recipe.name,
                {k: v for k, v in results[recipe.name].items() if k != "explain"},
                f"{seconds} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
