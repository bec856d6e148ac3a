"""What the tests of lift share: real photographs, how far two pictures are apart, and whether two samples agree."""

import functools
from collections import Counter

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images


@functools.lru_cache(maxsize=4)
def photos(count=6, height=64, width=48):
    """Crops (H, W, 3) uint8 of scikit-learn's two photographs, at half their size."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        image = load_sample_images().images[number % 2][::2, ::2]
        top, left = rng.integers(0, image.shape[0] - height), rng.integers(0, image.shape[1] - width)
        found.append(np.ascontiguousarray(image[top : top + height, left : left + width]))
    return tuple(found)


def pictures(kind, count=6, height=64, width=48):
    """The photographs as PIL images, or as tensors (C, H, W)."""
    made = photos(count, height, width)
    return [Image.fromarray(p) if kind == "pil" else torch.from_numpy(p).permute(2, 0, 1).contiguous() for p in made]


def as_batch(outputs):
    """Results of a per-sample pipeline as a tensor (B, C, H, W)."""
    return torch.stack([_tensor(output) for output in outputs])


def _tensor(image):
    if isinstance(image, torch.Tensor):
        return image.as_subclass(torch.Tensor)
    array = np.array(image)
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy())


def lifted_batch(lifted, images, **draw):
    """The images after both halves of a lifted pipeline."""
    batch = torch.stack([lifted.head(image).as_subclass(torch.Tensor) for image in images])
    return batch if lifted.augment is None else lifted.augment(batch, **draw)


def apart(found, expected, where=None):
    """Share of values within a grey level, mean and largest difference in grey levels; only ``where`` (B, 1, H, W)."""
    scale = 1.0 if found.dtype == torch.uint8 else 255.0
    error = (found.double() - expected.double()).abs() * scale
    error = error if where is None else error[where.expand_as(error)]
    return float((error <= 1.0 + 1e-3).double().mean()), float(error.mean()), float(error.max())


def ks(a, b):
    """The Kolmogorov–Smirnov statistic of two samples, divided by its 99.99 % quantile where they agree: at most 1."""
    a, b = np.sort(np.asarray(a, float)), np.sort(np.asarray(b, float))
    values = np.concatenate([a, b])
    gap = np.abs(np.searchsorted(a, values, side="right") / len(a) - np.searchsorted(b, values, side="right") / len(b))
    return gap.max() / (2.225 * np.sqrt((len(a) + len(b)) / (len(a) * len(b))))


def chi2(a, b):
    """χ² of two samples of the same categories, in standard deviations above its mean where they agree: below 5."""
    kinds = sorted(set(a) | set(b))
    counts = np.array([[Counter(s)[kind] for kind in kinds] for s in (a, b)], float)
    total = counts.sum()
    expected = counts.sum(0) * counts.sum(1, keepdims=True) / total
    value, freedom = ((counts - expected) ** 2 / expected).sum(), max(1, len(kinds) - 1)
    return (value - freedom) / np.sqrt(2 * freedom)
