"""Parts of scikit-learn's two sample photographs."""

from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_sample_images


@cache
def originals():
    return tuple(np.ascontiguousarray(photo) for photo in load_sample_images().images)


def photos(count=4, height=48, width=64, seed=0):
    """Random parts, arrays (count, H, W, 3) uint8."""
    generator = np.random.default_rng(seed)
    parts = []
    for n in range(count):
        photo = originals()[n % 2]
        top = generator.integers(photo.shape[0] - height + 1)
        left = generator.integers(photo.shape[1] - width + 1)
        parts.append(photo[top : top + height, left : left + width])
    return np.stack(parts)


def batch(arrays):
    """Arrays (n, H, W, C) as a tensor (n, C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(arrays)).permute(0, 3, 1, 2).contiguous()
