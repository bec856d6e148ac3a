"""Whether two loaders give images of the same distribution: a test of per-image means and deviations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

LEVEL = 0.001  # below this, shared among all statistics, two distributions are called different


def images_of(batch: Any) -> Tensor | None:
    """The images of a batch: its first floating or uint8 tensor of four dimensions; None where there is none."""
    for leaf in pytree.tree_leaves(batch):
        if isinstance(leaf, Tensor) and leaf.ndim == 4 and (leaf.is_floating_point() or leaf.dtype == torch.uint8):
            return leaf
    return None


def described(images: Tensor) -> str:
    """Type and shape but for the number of images: what must be the same."""
    return f"{str(images.dtype)[6:]} {tuple(images.shape[1:])}"


def figures(images: Tensor) -> Tensor:
    """(B, 2·C) float64: mean and standard deviation of every channel of every image."""
    pixels = images.detach().to("cpu", torch.float64).flatten(2)
    return torch.cat([pixels.mean(2), pixels.std(2, correction=0)], 1)


@dataclass(frozen=True)
class Parity:
    """Figures of two loaders compared. same: neither type, shape nor any distribution differs.

    largest: the largest difference between the empirical distributions of a figure, in [0, 1]; p: its probability if
    both were the same, times the number of figures. mean, deviation: (theirs, ours), over all images and channels.
    """

    same: bool
    images: int
    largest: float
    p: float
    mean: tuple[float, float]
    deviation: tuple[float, float]
    kinds: tuple[str, str]

    def text(self) -> str:
        """The outcome in a sentence."""
        if self.kinds[0] != self.kinds[1]:
            return f"different: torch's loader gives {self.kinds[0]}, smartaug's {self.kinds[1]}"
        verdict = "no difference found" if self.same else "different distributions"
        return (
            f"{verdict} in per-image, per-channel means and standard deviations of {self.images} images each "
            f"(mean {self.mean[0]:.4g} and {self.mean[1]:.4g}, deviation {self.deviation[0]:.4g} and "
            f"{self.deviation[1]:.4g}; two-sample Kolmogorov-Smirnov test, Bonferroni-corrected p = {self.p:.2g}, "
            f"different below {LEVEL:g})"
        )


def compared(theirs: Tensor, ours: Tensor, kinds: tuple[str, str]) -> Parity:
    """`figures` of two loaders, (n, F) and (m, F), compared one by one.

    Both should come from the same samples: what these have in common then makes the test careful rather than hasty.
    """
    if theirs.shape[1] != ours.shape[1] or kinds[0] != kinds[1]:
        nan = math.nan
        return Parity(False, min(len(theirs), len(ours)), nan, nan, (nan, nan), (nan, nan), kinds)
    distances = [kolmogorov_smirnov(theirs[:, n], ours[:, n]) for n in range(theirs.shape[1])]
    largest = max(distance for distance, _ in distances)
    p = min(1.0, len(distances) * min(chance for _, chance in distances))
    half = theirs.shape[1] // 2
    means, deviations = (
        (float(theirs[:, part].mean()), float(ours[:, part].mean())) for part in (slice(half), slice(half, None))
    )
    return Parity(p >= LEVEL, min(len(theirs), len(ours)), largest, p, means, deviations, kinds)


def kolmogorov_smirnov(a: Tensor, b: Tensor) -> tuple[float, float]:
    """The largest distance between the empirical distributions of (n,) and (m,), and its asymptotic probability.

    Kolmogorov's series with Stephens' correction for small samples (Numerical Recipes, §14.3.3).
    """
    places = torch.cat([a, b]).sort().values
    below_a, below_b = (torch.searchsorted(part.sort().values, places, right=True) / len(part) for part in (a, b))
    distance = float((below_a - below_b).abs().max())
    size = math.sqrt(len(a) * len(b) / (len(a) + len(b)))
    x = (size + 0.12 + 0.11 / size) * distance
    if x < 0.2:  # the series converges too slowly, and is 1 to twelve digits
        return distance, 1.0
    series = sum((-1) ** (k - 1) * math.exp(-2.0 * k * k * x * x) for k in range(1, 101))
    return distance, min(1.0, max(0.0, 2.0 * series))
