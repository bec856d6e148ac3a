"""A statistical test whether two loaders give images of the same distribution.

What: two-sample Kolmogorov-Smirnov tests of the mean and standard deviation of each channel of each image, with
Bonferroni's correction for the number of tests.
When: checking in `smartaug.bench` that the lifted transforms equal the dataset's own.
Cost: one pass over the pixels in float64, and one sort per statistic.
Reference: Press et al., Numerical Recipes, 3rd ed., §14.3.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LEVEL = 0.001  # level of significance of all tests together: below it the distributions are called different


def described(images: Tensor) -> str:
    """The dtype and the shape (C, H, W) of images (B, C, H, W), which must be equal in both loaders."""
    return f"{str(images.dtype)[6:]} {tuple(images.shape[1:])}"


def figures(images: Tensor) -> Tensor:
    """(B, 2·C) float64: mean and standard deviation of every channel of every image."""
    pixels = images.detach().to("cpu", torch.float64).flatten(2)
    return torch.cat([pixels.mean(2), pixels.std(2, correction=0)], 1)


@dataclass(frozen=True)
class Parity:
    """The result of the test. same: no difference in dtype, shape or any distribution was found.

    largest: the largest Kolmogorov-Smirnov distance of a statistic, in [0, 1]. p: the smallest p-value of a statistic
    times the number of statistics, at most 1. mean, deviation: (theirs, ours), averaged over images and channels.
    kinds: (theirs, ours), by `described`. All floats are NaN where the kinds or the numbers of channels differ.
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
    """Compare the `figures` (n, F) and (m, F) of two loaders, one test for each of the F statistics.

    Both should come from the same samples: the two sets are then positively correlated, which makes the test
    conservative.
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
    """The largest distance between the empirical distributions of a (n,) and b (m,), and its asymptotic p-value.

    Kolmogorov's series with Stephens' correction for small samples (Numerical Recipes, §14.3.3).
    """
    places = torch.cat([a, b]).sort().values
    below_a, below_b = (torch.searchsorted(part.sort().values, places, right=True) / len(part) for part in (a, b))
    distance = float((below_a - below_b).abs().max())
    size = math.sqrt(len(a) * len(b) / (len(a) + len(b)))
    x = (size + 0.12 + 0.11 / size) * distance
    if x < 0.2:  # the series converges slowly there, and its value is 1 to twelve digits
        return distance, 1.0
    series = sum((-1) ** (k - 1) * math.exp(-2.0 * k * k * x * x) for k in range(1, 101))
    return distance, min(1.0, max(0.0, 2.0 * series))
