"""JPEG files of unequal size at 224 px: the table "JPEG files" of `benchmarks/loader.py`.

Pipeline: RandomResizedCrop(224), mirror, RandAugment (N = 2, M = 9), normalise to float32, in batches of 64 with 2
persistent workers, all contestants in turn, one epoch each per repeat, after one of warm-up. "original" is torchvision
on PIL images (`ImageFolder`); "torchvision on tensors" decodes with torchvision and runs its transforms on uint8
tensors; "lifted, decode user" lifts what comes after the crop only; the loader's process has as many threads as there
are processors, as by default in torch; "no workers" leaves all to it; "decode only" reads and decodes each file with
simplejpeg and nothing else: the limit. Besides images per second: processor seconds of all processes per 1,000 images,
and the most memory of a worker that it shares with no other process, in MiB, looked at after each batch of one more
epoch.

Files: crops of scikit-learn's two photos with sides of 240 to 420 pixels; and larger ones of 480 to 840 pixels, from
the photos enlarged to twice their size, with noise of 3 grey levels, as cameras have it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

import smartaug
from benchmarks import harness, recipes

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pipeline(conversion: Any, size: int = 224, policy: bool = True) -> Any:
    """The transforms, on PIL images or on tensors; conversion: to a uint8 tensor, behind RandAugment, or None.

    size: sides of the result in pixels. policy: False leaves RandAugment out.
    """
    return v2.Compose(
        [
            v2.RandomResizedCrop(size, antialias=True),
            v2.RandomHorizontalFlip(),
            *([v2.RandAugment(2, 9)] if policy else []),
            *([] if conversion is None else [conversion]),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )


class Tensors(ImageFolder):
    """Files decoded to uint8 tensors by torchvision."""

    def __getitem__(self, index: int) -> tuple[Any, int]:
        import torchvision.io  # its decoder, by the operator: the function warns that it will go

        path, label = self.samples[index]
        data = torch.frombuffer(bytearray(Path(path).read_bytes()), dtype=torch.uint8)
        image = torch.ops.image.decode_jpeg(data, torchvision.io.ImageReadMode.RGB.value, False)
        return self.transform(image), label


class DecodeOnly(Dataset):
    """The number of pixels of each file, decoded."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> int:
        import simplejpeg

        return int(simplejpeg.decode_jpeg(Path(self.paths[index]).read_bytes()).size)


def larger(folder: Path, count: int) -> Path:
    """``count`` JPEG files with sides of 480 to 840 pixels, in 4 classes."""
    from sklearn.datasets import load_sample_images

    random = np.random.default_rng(0)
    photos = [
        Image.fromarray(photo).resize((1280, 854), Image.Resampling.BICUBIC) for photo in load_sample_images().images
    ]
    for number in range(count):
        height, width = (int(side) for side in random.integers(480, 841, 2))
        y, x = int(random.integers(0, 854 - height + 1)), int(random.integers(0, 1280 - width + 1))
        crop = np.asarray(photos[number % 2].crop((x, y, x + width, y + height)))
        noisy = np.clip(crop + random.normal(0, 3, crop.shape), 0, 255).astype(np.uint8)
        place = folder / str(number % 4)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy).save(place / f"{number:04}.jpg", quality=90)
    return folder


def contestants(folder: Path, workers: int) -> dict[str, Any]:
    """The loaders by name."""
    shared: dict[str, Any] = {"batch_size": 64, "shuffle": True, "num_workers": workers}
    shared["persistent_workers"] = workers > 0
    original = ImageFolder(str(folder), transform=pipeline(v2.PILToTensor()))
    ours = {
        f"lifted, decode {decode}": smartaug.DataLoader(original, lift=smartaug.Lift(decode=decode), seed=0, **shared)
        for decode in ("user", "exact", "scaled", "region", "batch")
    }
    alone = {**shared, "num_workers": 0, "persistent_workers": False}
    ours["lifted, decode batch, no workers"] = smartaug.DataLoader(
        original, lift=smartaug.Lift(decode="batch"), seed=0, **alone
    )
    return {
        "original": DataLoader(original, **shared),
        "torchvision on tensors": DataLoader(Tensors(str(folder), transform=pipeline(None)), **shared),
        **ours,
        "decode only": DataLoader(DecodeOnly([path for path, _ in original.samples]), **shared),
    }


def measured(loaders: dict[str, Any], images: int, repeats: int) -> dict[str, Any]:
    """Images per second, processor seconds per 1,000 images and memory of a worker, of each."""
    speeds: dict[str, list[float]] = {name: [] for name in loaders}
    seconds: dict[str, list[float]] = {name: [] for name in loaders}
    for turn in range(repeats + 1):
        for name, loader in loaders.items():
            before, started = processor_seconds(), time.perf_counter()
            for _ in loader:
                pass
            if turn > 0:
                speeds[name].append(images / (time.perf_counter() - started))
                seconds[name].append((processor_seconds() - before) * 1000 / images)
    made: dict[str, Any] = {}
    for name, loader in loaders.items():
        made[name] = {
            "images_per_second": harness.summary(speeds[name], 4),
            "ratio": ratios(speeds["original"], speeds[name], inverse=True),
            "processor_seconds_per_1000": harness.summary(seconds[name], 4),
            "processor_ratio": ratios(seconds["original"], seconds[name]),
            "worker_mib": round(most_memory(loader)),
        }
        speed, ratio, processor, gain = (figure["median"] for figure in list(made[name].values())[:4])
        print(
            f"    {name:24} {speed:>7.0f} images/s  ×{ratio:.2f}  processor {processor:.2f} s per 1,000  ×{gain:.2f}  "
            f"worker {made[name]['worker_mib']} MiB",
            flush=True,
        )
    return made


def ratios(original: list[float], own: list[float], inverse: bool = False) -> dict[str, Any]:
    """How much less each figure is than the original's of the same repeat; inverse: how much more."""
    return harness.summary([b / a if inverse else a / b for a, b in zip(original, own, strict=True)], 3)


def processor_seconds() -> float:
    """Of this process and its children, up to now."""
    seconds = time.process_time()
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid():
                seconds += time.clock_gettime((~int(place.name) << 3) | 2)  # the clock of that process
        except OSError:  # it has ended
            continue
    return seconds


def most_memory(loader: Any) -> float:
    """MiB of the worker that has most, in an epoch; 0 where there are none."""
    workers = getattr(loader._iterator, "_workers", [])
    return max((private_memory(worker.pid) for _ in loader for worker in workers), default=0.0)


def private_memory(pid: int) -> float:
    """MiB that a process shares with no other."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


LIMIT = (
    '×3 wanted, ×4 scaled: decode="batch", which has the pixels of "exact", takes a third of the original\'s '
    "processor time, on small files with 2 workers and on both without; in images per second it stays below ×3, "
    "since the loader's process and the workers wait for each other at the start of these short epochs and at each "
    "batch. ×4 is not reached. Of a picture's processor time (ms, small files, batch): decoding the part 0.35 to "
    "0.4, opening and reading 0.1, crop and resize 0.07, RandAugment and normalising 0.1, torchvision's own code, "
    "keyed draws, deferral and collating 0.2, the way between processes 0.1. Tried for decoding: OpenCV, "
    "torchvision, imagecodecs. Reading the entropy-coded bits is most of a decode, so that scaled decoding saves "
    "little."
)


def table(options: Any, folder: Path) -> dict[str, Any]:
    """Both trees of files, the loader's process with as many threads as there are processors."""
    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    try:
        return {"missed": LIMIT, "threads": torch.get_num_threads(), **_trees(options, folder)}
    finally:
        torch.set_num_threads(before)


def _trees(options: Any, folder: Path) -> dict[str, Any]:
    results: dict[str, Any] = {}
    trees = {
        "sides of 240 to 420 px": recipes.jpegs(folder / "small", options.files),
        "sides of 480 to 840 px": larger(folder / "large", options.files),
    }
    for name, tree in trees.items():
        sizes = [path.stat().st_size for path in tree.rglob("*.jpg")]
        print(f"JPEG files, {name}, {round(sum(sizes) / len(sizes) / 1000)} kB each")
        loaders = contestants(tree, options.workers)
        results[name] = measured(loaders, len(sizes), options.repeats)
        files = loaders["lifted, decode scaled"].stats()
        results[name]["share_scaled"] = round(files["decoded_scaled"] / files["decoded"], 3)
        results[name]["kilobytes_each"] = round(sum(sizes) / len(sizes) / 1000, 1)
    return results
