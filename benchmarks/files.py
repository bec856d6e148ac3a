"""Claim: from files to batches, lifted pipelines are faster than other libraries with their fastest settings.

Pipeline: RandomResizedCrop, mirror, RandAugment (N = 2, M = 9), normalise to float32, in batches of 64, from 256 JPEG
files of unequal size around 500×375 to 224 pixels, with 1, 2 and 4 workers; what has threads in place of processes gets
as many, and one worker has half as many files. All contestants of a table in turn in one process, one epoch each
per repeat, after one of warm-up in which their batches are looked at: shape, type, every label as often as in the
folder; their mean and standard deviation are kept. Ratios are to the original, torchvision on PIL images in torch's
loader, repeat by repeat. Processor seconds are those of all processes, per 1,000 images. Contestants, their settings:
`benchmarks/readers.py`. "crop and mirror": the same without RandAugment, which FFCV does not have. "sizes": original,
lifted and nothing but decoding, 2 workers, for other sizes of the result; files are larger and smaller in proportion.
"32 px in memory": a `CIFAR10`, batches of 256, pad-crop, mirror, RandAugment. "missed": where the claim fails, or ×3
(×4 with scaled decoding), which was wanted.

RandAugment is each library's own; its operations differ in details (albumentations': see `benchmarks/rivals.py`).
A package that is not installed gives a row that says so.

Files: crops of scikit-learn's two photos, in JPEG of quality 90; enlarged ones with noise of 3 grey levels, as cameras
have it. Run: ``python -m benchmarks.files``, five minutes on two cores, after
``pip install nvidia-dali-cuda120 spdl ffcv`` (SPDL's decoder needs FFmpeg's libraries, FFCV the headers of OpenCV and
libturbojpeg); ``--only TABLE`` runs one table and keeps the others.
"""

from __future__ import annotations

import gc
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import harness, jpeg, loader, readers, recipes, rivals
from benchmarks.readers import Epoch, Job, Memory

SIZES = {32: 1024, 64: 1024, 128: 512, 224: 512, 384: 256, 512: 256}  # pixels of the result: number of files
ORIGINAL = "original: torchvision on PIL"
LIFTED, SCALED, LIMIT = "smartaug, lift=True", 'smartaug, decode="scaled"', "decode only"
OURS: dict[str, Callable[[Job], Epoch]] = {
    ORIGINAL: readers.original,
    LIFTED: readers.lifted("exact"),
    SCALED: readers.lifted("scaled"),
}
OTHERS: dict[str, Callable[[Job], Epoch]] = {
    "torchvision on tensors": readers.on_tensors,
    "albumentations": readers.on_arrays,
    "DALI": readers.dali,
    "SPDL, albumentations": readers.spdl_on_arrays,
}
SLOWER: dict[str, Callable[[Job], Epoch]] = {  # ways to use SPDL that lose to the one above
    "SPDL, torchvision on PIL": readers.spdl_on_pil,
    "SPDL, its decoder": readers.spdl_own,
}
MEMORY: dict[str, Callable[[Memory], Epoch]] = {
    ORIGINAL: readers.memory_original,
    LIFTED: readers.memory_lifted,
    "DALI": readers.memory_dali,
}
PACKAGES = (
    "torchvision",
    "pillow",
    "simplejpeg",
    "numba",
    "albumentations",
    "opencv-python-headless",
    "nvidia-dali-cuda120",
    "spdl",
    "ffcv",
)


def jpegs(folder: Path, count: int, size: int) -> Path:
    """``count`` JPEG files in 4 classes for results of ``size`` pixels, sides within an eighth of 500×375 at 224."""
    from sklearn.datasets import load_sample_images

    scale, random = size / 224, np.random.default_rng(0)
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    whole = (round(640 * scale), round(427 * scale))
    if scale != 1:
        photos = [photo.resize(whole, Image.Resampling.BICUBIC) for photo in photos]
    if scale > 1:
        noisy = [np.asarray(photo) + random.normal(0, 3, (whole[1], whole[0], 3)) for photo in photos]
        photos = [Image.fromarray(np.clip(photo, 0, 255).astype(np.uint8)) for photo in noisy]
    for number in range(count):
        width, height = (int(side * scale * random.uniform(0.875, 1.125)) for side in (500, 375))
        x, y = int(random.integers(0, whole[0] - width + 1)), int(random.integers(0, whole[1] - height + 1))
        place = folder / str(number % 4)
        place.mkdir(parents=True, exist_ok=True)
        crop = photos[number % 2].crop((x, y, x + width, y + height))
        crop.save(place / f"{number:04}.jpg", quality=90)
    return folder


def warmed_up(name: str, epoch: Epoch, labels: list[int], size: int) -> dict[str, float]:
    """Mean and standard deviation of an epoch's images; raises RuntimeError where they are not what was asked for."""
    seen, means, squares = [], [], []
    for images, given in epoch():
        if name == LIMIT:  # no images
            continue
        if images.shape[1:] != (3, size, size) or images.dtype != torch.float32 or len(images) != len(given):
            raise RuntimeError(f"{name}: batch of {tuple(images.shape)} {images.dtype}, {len(given)} labels")
        seen += given.tolist()
        means.append(float(images.mean()))
        squares.append(float(images.square().mean()))
    if name == LIMIT:
        return {}
    if sorted(seen) != sorted(labels):
        raise RuntimeError(f"{name}: {len(seen)} labels, which are not those of the {len(labels)} images")
    mean = float(np.mean(means))
    return {"mean": round(mean, 3), "sd": round((float(np.mean(squares)) - mean**2) ** 0.5, 3)}


def measured(epochs: dict[str, Epoch | str], labels: list[int], size: int, repeats: int) -> dict[str, Any]:
    """Speed and processor time of each epoch over the original's; what is not installed is said."""
    ready = {name: epoch for name, epoch in epochs.items() if not isinstance(epoch, str)}
    seen = {name: warmed_up(name, epoch, labels, size) for name, epoch in ready.items()}
    speeds: dict[str, list[float]] = {name: [] for name in ready}
    seconds: dict[str, list[float]] = {name: [] for name in ready}
    for _ in range(repeats):
        for name, epoch in ready.items():
            before, started = jpeg.processor_seconds(), time.perf_counter()
            count = sum(len(given) for _, given in epoch())
            passed = time.perf_counter() - started
            if count != len(labels):
                raise RuntimeError(f"{name}: {count} images in an epoch of {len(labels)}")
            speeds[name].append(count / passed)
            seconds[name].append((jpeg.processor_seconds() - before) * 1000 / count)
    rows: dict[str, Any] = {}
    for name, epoch in epochs.items():
        if isinstance(epoch, str):
            rows[name] = {"missing": epoch}
        else:
            rows[name] = {
                "images_per_second": harness.summary(speeds[name], 4),
                "ratio": jpeg.ratios(speeds[ORIGINAL], speeds[name], inverse=True),
                "processor_seconds_per_1000": harness.summary(seconds[name], 4),
                "processor_ratio": jpeg.ratios(seconds[ORIGINAL], seconds[name]),
                **seen[name],
            }
        print(f"    {name:30} {shown(rows[name])}", flush=True)
    return rows


def shown(row: dict[str, Any]) -> str:
    """A row in one line."""
    if "missing" in row:
        return str(row["missing"])
    speed, ratio, processor, gain = (figure["median"] for figure in list(row.values())[:4])
    return f"{speed:>7.0f} images/s  ×{ratio:.2f}  processor {processor:.2f} s per 1,000  ×{gain:.2f}"


def contest(makers: dict[str, Any], job: Job, repeats: int) -> dict[str, Any]:
    """The makers' epochs of one job, measured; then their processes and threads end."""
    epochs = {name: readers.built(make, job) for name, make in makers.items()}
    rows = measured(epochs, [label for _, label in job.files().samples], job.size, repeats)
    epochs.clear()
    gc.collect()
    return rows


def missed(rows: dict[str, Any], wanted: dict[str, int] | None = None) -> dict[str, str]:
    """Who is faster than ``lift=True``, and which ratios are lower than ``wanted``; empty where the claim holds."""
    speeds = {name: row["images_per_second"]["median"] for name, row in rows.items() if "missing" not in row}
    faster = [name for name in speeds if name not in (*OURS, LIMIT) and speeds[name] > speeds[LIFTED]]
    found = [f"{name} is faster, ×{speeds[name] / speeds[LIFTED]:.2f}" for name in faster]
    for name, least in (wanted or {}).items():
        reached = rows[name]["ratio"]["median"]
        found += [f"{name} ×{reached:g}, ×{least} wanted"] if reached < least else []
    return {"missed": "; ".join(found)} if found else {}


def workers(options: Any, folder: Path) -> dict[str, Any]:
    """The whole pipeline at 224 pixels with 1, 2 and 4 workers."""
    tables = {}
    for count in (1, 2, 4):
        print(f"  {count} workers")
        tree = jpegs(folder / f"224, {count}", options.files // 2 if count == 1 else options.files, 224)
        makers = {**OURS, **OTHERS, **(SLOWER if count == 2 else {}), LIMIT: readers.decode_only}
        tables[f"{count} workers"] = contest(makers, Job(tree, workers=count), options.repeats)
    lost = missed(tables["2 workers"], {LIFTED: 3, SCALED: 4})
    return {**tables, **{key: f"2 workers: {text}" for key, text in lost.items()}}


def crops(options: Any, folder: Path) -> dict[str, Any]:
    """Crop and mirror alone, 2 workers."""
    tree = jpegs(folder / "crops", options.files, 224)
    makers = {**OURS, **OTHERS, **SLOWER, "FFCV": readers.ffcv, LIMIT: readers.decode_only}
    rows = contest(makers, Job(tree, policy=False), options.repeats)
    return {**rows, **missed(rows)}


def sizes(options: Any, folder: Path) -> dict[str, Any]:
    """Original and lifted at other sizes, 2 workers."""
    tables = {}
    for size, count in SIZES.items():
        print(f"  {size} px")
        tree = jpegs(folder / str(size), min(count, 2 * options.files), size)
        makers = {**OURS, LIMIT: readers.decode_only}
        tables[f"{size} px"] = contest(makers, Job(tree, size=size), options.repeats)
        lengths = [path.stat().st_size for path in tree.rglob("*.jpg")]
        tables[f"{size} px"]["kilobytes_each"] = round(sum(lengths) / len(lengths) / 1000, 1)
    return tables


def memory(options: Any, folder: Path) -> dict[str, Any]:
    """Images of 32 pixels in memory, 2 workers or threads."""
    images = loader.arrays(None, 4096)
    labels = loader.labels(images)
    job = Memory(recipes.cifar(np.stack(images), labels, folder / "memory", recipes.CIFAR_RANDAUGMENT))
    epochs = {name: readers.built(make, job) for name, make in MEMORY.items()}
    rows = measured(epochs, labels, 32, options.repeats)
    return {**rows, **missed(rows)}


TABLES: dict[str, Callable[[Any, Path], Any]] = {
    "workers, 224 px": workers,
    "crop and mirror, 224 px": crops,
    "sizes": sizes,
    "32 px in memory": memory,
}


def main() -> None:
    """Run the tables and write benchmarks/results/files.json."""
    options = harness.arguments(__doc__, files=256, only="")
    if options.files % 256:
        raise SystemExit(
            f"--files must be a multiple of 256, so that every worker has as many batches; got {options.files}"
        )
    rivals.quiet()
    torch.manual_seed(0)
    path = harness.RESULTS / "files.json"
    before = json.loads(path.read_text()) if options.only and path.exists() else {}
    results, runs = before.get("results", {}), before.get("runs", {})
    with tempfile.TemporaryDirectory() as name:
        for title, run in TABLES.items():
            if options.only in title:
                print(title)
                started, load = time.perf_counter(), os.getloadavg()[0]
                results[title] = run(options, Path(name))
                seconds = round(time.perf_counter() - started)
                runs[title] = {"date": time.strftime("%Y-%m-%d"), "seconds": seconds, "load_before": round(load, 2)}
                facts = {"threads": options.threads, "seed": 0, "runs": runs}
                harness.write("files", __doc__ or "", results, packages=PACKAGES, **facts)
    print(path.name, f"{sum(run['seconds'] for run in runs.values())} s")


if __name__ == "__main__":
    main()
