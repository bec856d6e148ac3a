"""What the tests of lift share: real photographs, how far two pictures are apart, and whether two samples agree."""

import functools
import os
from collections import Counter

import numpy as np
import torch
from PIL import Image
from scipy import stats
from sklearn.datasets import load_sample_images

from smartaug.augment.plan import Erase, EraseNoise, Filter, Tone, Warp

DRAWS = int(os.environ.get("DRAWS", "4000"))  # on each side of a comparison; .ci/run compares 20,000, too
FALSE_ALARM = 1e-4


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


def reached(plan):
    """The rows (B,) bool that a plan changes."""
    rows = torch.zeros(plan.shape[0], dtype=torch.bool)
    for segment in plan.segments:
        if isinstance(segment, Warp):
            here = (segment.matrix != torch.eye(2, 3, dtype=torch.float64)).flatten(1).any(1)
            here = here if segment.active is None else segment.active
        elif isinstance(segment, (Tone, Filter)):
            here = segment.op > 0
        elif isinstance(segment, (Erase, EraseNoise)):
            here = (segment.boxes[..., 2] > 0).any(1)
        else:
            here = torch.ones_like(rows) if segment.active is None else segment.active
        rows |= here
    return rows


# --- whether two samples agree: each of these finds a difference in one of ten thousand where there is none, however
# many draws there are: fewer draws widen the bound and miss smaller differences


def alike(ours, theirs, least=DRAWS):
    """Assert that two samples of numbers, at least so many each, have one distribution.

    χ² where there are few values; else Kolmogorov and Smirnov's test, and Rosenbaum's, which sees a range's other ends.
    """
    ours, theirs = (np.round(np.asarray(sample, np.float64), 4) for sample in (ours, theirs))
    assert ours.ndim == theirs.ndim == 1
    assert min(len(ours), len(theirs)) >= least
    if len(np.unique(np.concatenate([ours, theirs]))) <= 100:
        assert chi2(ours.tolist(), theirs.tolist()) <= 1
    else:
        assert ks(ours, theirs) <= 1
        assert beyond(ours, theirs) <= 1
        assert beyond(theirs, ours) <= 1


def alike_boxes(ours, theirs, least=DRAWS):
    """Assert it of the top, left, height and width of boxes, of their areas, and of their aspects."""
    ours, theirs = (np.asarray(np.stack([np.asarray(part) for part in side]), np.float64) for side in (ours, theirs))
    for mine, given in zip(ours, theirs, strict=True):
        alike(mine, given, least)
    alike(ours[2] * ours[3], theirs[2] * theirs[3], least)
    alike(*(np.log(side[2] + (side[2] == 0)) - np.log(side[3] + (side[3] == 0)) for side in (ours, theirs)), least)


def alike_kinds(ours, theirs, least=DRAWS):
    """Assert that two samples of names or tuples, at least so many each, have one distribution."""
    assert min(len(ours), len(theirs)) >= least
    assert chi2(ours, theirs) <= 1


def as_often(ours, theirs, p, count=DRAWS):
    """Assert that what happened so many times on either side, of ``count`` each, happens with probability ``p``."""
    for hits, draws in zip((ours, theirs), np.broadcast_to(count, 2).tolist(), strict=True):
        assert stats.binomtest(int(hits), draws, p).pvalue > FALSE_ALARM


def alike_signs(ours, theirs, names):
    """Assert that the arguments of the operations ``names`` are as often positive as negative, on either side."""
    positive, count = [], []
    for side in (ours, theirs):
        values = np.concatenate([side[name] for name in names if name in side])
        positive.append((values > 0).sum())
        count.append((values != 0).sum())
    as_often(*positive, 0.5, count)


def ks(a, b):
    """The Kolmogorov–Smirnov statistic of two samples, divided by its quantile where they agree: at most 1."""
    a, b = np.sort(np.asarray(a, float)), np.sort(np.asarray(b, float))
    values = np.concatenate([a, b])
    gap = np.abs(np.searchsorted(a, values, side="right") / len(a) - np.searchsorted(b, values, side="right") / len(b))
    return gap.max() / (np.sqrt(np.log(2 / FALSE_ALARM) / 2) * np.sqrt((len(a) + len(b)) / (len(a) * len(b))))


def beyond(a, b):
    """How many of ``a`` are below all of ``b``, or above all, divided by what chance brings: at most 1."""
    outside = max((a < b.min()).sum(), (a > b.max()).sum())
    return outside * np.log((len(a) + len(b)) / len(a)) / np.log(2 / FALSE_ALARM)


def chi2(a, b):
    """χ² of two samples of categories, rare ones put together, divided by its quantile where they agree: at most 1."""
    one, other = Counter(a), Counter(b)
    counts = np.array([[sample[kind] for kind in one.keys() | other.keys()] for sample in (one, other)], float)
    rare = counts.sum(0) < 10
    counts = np.column_stack([counts[:, ~rare], counts[:, rare].sum(1)]) if rare.any() else counts
    expected = counts.sum(0) * counts.sum(1, keepdims=True) / counts.sum()
    value, freedom = ((counts - expected) ** 2 / expected).sum(), max(1, counts.shape[1] - 1)
    return value / stats.chi2.ppf(1 - FALSE_ALARM, freedom)
