"""Small datasets and stages whose values tell what happened to each sample."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset

ADDED = 10.0
Pair = namedtuple("Pair", "image label")


class Numbered(Dataset):
    """Float images whose every pixel is index / 1000; label index % 4."""

    def __init__(self, size=20, structure="tuple"):
        self.size, self.structure = size, structure

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        image, label = torch.full((1, 4, 4), index / 1000.0), index % 4
        return {
            "tuple": (image, label),
            "dict": {"image": image, "label": label, "name": f"sample {index}"},
            "namedtuple": Pair(image, label),
            "nested": ({"image": image, "meta": {"name": f"sample {index}"}}, [label]),
            "strings": (image, f"sample {index}", label),
        }[self.structure]


class WithGetItems(Numbered):
    def __getitems__(self, indices):
        return [self[i] for i in indices]


class SamePicture(Dataset):
    """The same array (H, W, C) for every index, so that only draws make samples differ; the label is the index."""

    classes = ("a", "b", "c")

    def __init__(self, size=11):
        self.picture = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return self.picture, index


def shifted(image):
    """The image plus a number drawn from NumPy's global generator."""
    return image + np.random.rand()


def blank(image):
    """Zeros, of the type that `shifted` makes."""
    return np.zeros(image.shape)


class Stream(IterableDataset):
    """The same images as a stream, split over the workers."""

    def __init__(self, size=20):
        self.size = size

    def __iter__(self):
        info = torch.utils.data.get_worker_info()
        start, step = (info.id, info.num_workers) if info else (0, 1)
        for index in range(start, self.size, step):
            yield torch.full((1, 4, 4), index / 1000.0), index % 4


class Noisy(Numbered):
    """Draws from the global generator in ``__getitem__``, as transforms in a dataset do."""

    def __getitem__(self, index):
        return torch.full((1, 4, 4), index / 1000.0) + torch.rand(1), index % 4


def add_constant(images):
    """A stage that can be counted: applied twice it would add twice."""
    return images + ADDED


def numbers(images):
    """The dataset indices written in images that `add_constant` met exactly once; fails otherwise."""
    plain = images.flatten(1)[:, 0] - ADDED
    assert bool(((plain > -0.5) & (plain < 1)).all()), f"not applied exactly once: {plain.tolist()}"
    return (plain * 1000).round().long().tolist()
