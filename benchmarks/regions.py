"""Claim: decoding only the part of a JPEG file that a crop keeps gives the same pixels in less time.

Files: 64 crops of scikit-learn's two photographs, sides within an eighth of 500×375, JPEG of quality 90. Parts: those
of torchvision's RandomResizedCrop, for its own range of areas (0.08–1 of the picture) and for two narrower ones.
Contestants give the same part: simplejpeg decodes the whole file, as `smartaug.Lift` does, and the part is a view;
nvImageCodec on the CPU (nvidia-nvimgcodec-cu12), as ``decode="region"`` calls it, and libvips (pyvips, pyvips-binary)
decode the part. A package that is not installed gives a row that says so. Figures are processor milliseconds a file in
one process with one thread, in turn; ratios are to simplejpeg, repeat by repeat. "largest difference": of the part's
values to simplejpeg's, in grey levels. "loader": an epoch over these files in an `ImageFolder` without workers,
RandomResizedCrop(224), mirror, to floats, lifted with each setting; processor milliseconds an image, and the ratio to
"exact"; "batch" in threads of the same process.

Of the packages on PyPI (November 2026) that hold libjpeg-turbo, PyTurboJPEG 2.6, imagecodecs 2026.3, turbojpeg 0.0.2,
jpeglib 1.0, torchvision and simplejpeg decode whole files only (PyTurboJPEG's crop is lossless, file to file);
rasterio decodes a part, with other pixels, in four times the time.

Run: ``pip install nvidia-nvimgcodec-cu12 pyvips pyvips-binary``, ``python -m benchmarks.regions``, one minute.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision import transforms as v1
from torchvision.datasets import ImageFolder

import smartaug
from benchmarks import harness
from smartaug.lift.decode import region

COUNT = 64
WHOLE = "simplejpeg, the whole file"
AREAS = {"0.08 to 1": (0.08, 1.0), "0.08 to 0.25": (0.08, 0.25), "0.25 to 1": (0.25, 1.0)}
Box = tuple[int, int, int, int]  # top, left, height, width
Part = Callable[[bytes, Box], np.ndarray]


def files() -> list[tuple[bytes, tuple[int, int]]]:
    """The files, with width and height."""
    random, made = np.random.default_rng(0), []
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    for number in range(COUNT):
        width, height = (int(side * random.uniform(0.875, 1.125)) for side in (500, 375))
        x, y = int(random.integers(0, 640 - width + 1)), int(random.integers(0, 427 - height + 1))
        file = io.BytesIO()
        photos[number % 2].crop((x, y, x + width, y + height)).save(file, "JPEG", quality=90)
        made.append((file.getvalue(), (width, height)))
    return made


def contestants() -> dict[str, Part | str]:
    """Each by its name, or what is not installed."""
    memory = np.empty(1 << 20, np.uint8)

    def whole(data: bytes, box: Box) -> np.ndarray:
        top, left, height, width = box
        return simplejpeg.decode_jpeg(data, "RGB", buffer=memory)[top : top + height, left : left + width]

    return {WHOLE: whole, "nvImageCodec, the part": _nvimagecodec(), "libvips, the part": _libvips()}


def _nvimagecodec() -> Part | str:
    if (lacking := region.why_not()) is not None:
        return lacking

    def part(data: bytes, box: Box) -> np.ndarray:
        top, left, height, width = box
        made = region.decode_region(data, (left, top, left + width, top + height))
        assert made is not None
        return made

    return part


def _libvips() -> Part | str:
    if find_spec("pyvips") is None:
        return "pyvips is not installed"
    import pyvips

    def part(data: bytes, box: Box) -> np.ndarray:
        top, left, height, width = box
        made = pyvips.Image.new_from_buffer(data, "", access="sequential").crop(left, top, width, height)
        return np.ndarray(buffer=made.write_to_memory(), dtype=np.uint8, shape=(height, width, 3))

    return part


def measured(scale: tuple[float, float], repeats: int) -> dict[str, Any]:
    """Every contestant on one range of areas."""
    torch.manual_seed(0)
    work = []
    for data, (width, height) in files():
        box = v1.RandomResizedCrop.get_params(torch.empty(3, height, width), scale, (3 / 4, 4 / 3))
        work.append((data, tuple(map(int, box))))
    ready = {name: part for name, part in contestants().items() if not isinstance(part, str)}
    wanted = [ready[WHOLE](*one).astype(int) for one in work]
    apart = {
        name: max(int(np.abs(part(*one) - right).max()) for one, right in zip(work, wanted, strict=True))
        for name, part in ready.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in ready}
    for _ in range(repeats):
        for name, part in ready.items():
            started = time.process_time()
            for one in work:
                part(*one)
            seconds[name].append((time.process_time() - started) / COUNT)
    missing = {name: part for name, part in contestants().items() if isinstance(part, str)}
    rows: dict[str, Any] = {
        name: {
            "milliseconds": harness.summary([one * 1000 for one in own], 3),
            "ratio": harness.summary([a / b for a, b in zip(seconds[WHOLE], own, strict=True)], 3),
            "largest difference": apart[name],
        }
        for name, own in seconds.items()
    }
    return {**rows, **missing}


def epochs(repeats: int) -> dict[str, Any]:
    """A loader's epoch with each setting of ``decode=``."""
    if (lacking := region.why_not()) is not None:
        return {"region": lacking}
    stages = [v1.RandomResizedCrop(224), v1.RandomHorizontalFlip(), v1.ToTensor()]
    with tempfile.TemporaryDirectory() as folder:
        for number, (data, _) in enumerate(files()):
            place = Path(folder) / str(number % 4)
            place.mkdir(exist_ok=True)
            (place / f"{number}.jpg").write_bytes(data)
        loaders = {}
        for decode in ("exact", "region", "batch"):
            dataset = ImageFolder(folder, transform=v1.Compose(stages))
            loaders[decode] = smartaug.DataLoader(dataset, 32, lift=smartaug.Lift(decode=decode), seed=0, device="cpu")
        seconds: dict[str, list[float]] = {decode: [] for decode in loaders}
        first: dict[str, torch.Tensor] = {}
        for repeat in range(repeats + 1):
            for decode, loader in loaders.items():
                torch.manual_seed(repeat)
                started = time.process_time()
                images = [images for images, _ in loader]
                if repeat:  # after a warm-up, of which the pixels are compared
                    seconds[decode].append((time.process_time() - started) / COUNT)
                else:
                    first[decode] = torch.cat(images)
        if not all(torch.equal(first["exact"], own) for own in first.values()):
            raise RuntimeError("all settings should give the same pixels")
    exact = seconds["exact"]
    return {
        decode: {
            "milliseconds": harness.summary([one * 1000 for one in own], 3),
            "ratio": harness.summary([a / b for a, b in zip(exact, own, strict=True)], 3),
        }
        for decode, own in seconds.items()
    }


def main() -> None:
    options = harness.arguments(__doc__)
    results = {name: measured(scale, max(options.repeats, 5)) for name, scale in AREAS.items()}
    results["loader"] = epochs(max(options.repeats, 5))
    for name, rows in results.items():
        for contestant, row in rows.items():
            shown = row if isinstance(row, str) else (row["milliseconds"]["median"], row["ratio"]["median"])
            print(name, contestant, shown, flush=True)
    packages = ("simplejpeg", "nvidia-nvimgcodec-cu12", "pyvips", "pyvips-binary", "torchvision")
    harness.write("regions", __doc__ or "", results, packages=packages, seed=0, repeats=options.repeats)


if __name__ == "__main__":
    main()
