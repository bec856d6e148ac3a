"""Small generated data for `--tiny`, so that every example runs in seconds and downloads nothing."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image


def photographs(folder: str | Path, classes: int = 2, each: int = 8, side: int = 72) -> str:
    """JPEG files ``folder/class/number.jpg``, as ImageFolder reads them; returns the folder."""
    generator = np.random.default_rng(0)
    for label in range(classes):
        place = Path(folder) / f"class{label}"
        place.mkdir(parents=True, exist_ok=True)
        for number in range(each):
            noise = generator.integers(0, 120, (side, side + 8, 3), dtype=np.uint8)
            Image.fromarray(noise + np.uint8(60 * label)).save(place / f"{number}.jpg")
    return str(folder)


def tagged(folder: str | Path, tags: int = 3) -> str:
    """Photographs and ``labels.csv`` with columns ``file`` and, 0 or 1, one for each tag; returns the folder."""
    photographs(folder)
    generator = np.random.default_rng(1)
    with open(Path(folder) / "labels.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", *(f"tag{tag}" for tag in range(tags))])
        for path in sorted(Path(folder).glob("*/*.jpg")):
            rows.writerow([path.relative_to(folder), *generator.integers(0, 2, tags)])
    return str(folder)


def segmented(folder: str | Path, count: int = 12, side: int = 40) -> str:
    """Pairs ``images/number.png`` and ``masks/number.png``: a bright disc and where it is; returns the folder."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, :side]
    for name in ("images", "masks"):
        (Path(folder) / name).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        row, column = generator.integers(10, side - 10, 2)
        mask = ((rows - row) ** 2 + (columns - column) ** 2 < 64).astype(np.uint8)
        image = generator.integers(0, 100, (side, side, 3), dtype=np.uint8) + 120 * mask[..., None]
        Image.fromarray(image).save(Path(folder) / "images" / f"{number}.png")
        Image.fromarray(mask).save(Path(folder) / "masks" / f"{number}.png")
    return str(folder)


def table(path: str | Path, count: int = 160, wrong: float = 0.3) -> str:
    """A CSV file of 8 columns of numbers and a label 0 or 1, ``wrong`` of the labels flipped; returns its path."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(count, 8))
    label = features[:, 0] + features[:, 1] > 0
    label ^= generator.random(count) < wrong
    np.savetxt(path, np.column_stack([features, label]), delimiter=",", fmt="%.4f")
    return str(path)


def captioned(folder: str | Path) -> str:
    """Photographs and ``captions.csv`` with the columns ``file`` and ``caption``; returns the folder."""
    photographs(folder)
    with open(Path(folder) / "captions.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "caption"])
        for path in sorted(Path(folder).glob("*/*.jpg")):
            rows.writerow([path.relative_to(folder), f"a photograph of {path.parent.name}"])
    return str(folder)
