"""Policies that draw operations and magnitudes per sample: RandAugment, TrivialAugment (Wide), AutoAugment.

What: each sample receives its own operations from torchvision's tables, run batched. When: image classification; put
them after crops and flips and before `Normalize`, on uint8 or floats in [0, 1]. RandAugment has two numbers to tune,
TrivialAugment none, AutoAugment was tuned on the dataset it is named after. Their magnitudes may be each sample's own
(`smartaug.augment.magnitudes`). Cost: about one pass over the batch per operation; see benchmarks/results. Reference:
Cubuk et al., "RandAugment", NeurIPS 2020; Müller & Hutter, "TrivialAugment", ICCV 2021; Cubuk et al., "AutoAugment",
CVPR 2019. Operations, ranges and defaults are torchvision's (there are other tables: Kornia's and timm's differ); what
differs is that the draw is per sample on a batch, and that RandAugment may draw its magnitudes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ... import draws
from ..augmentation import Cuts, equal_cuts
from ..checks import Fill, Interpolation, Named, check_count, check_magnitude
from ..magnitudes import SampleMagnitudes
from .autoaugment import POLICIES
from .leveled import OPERATIONS, Leveled, Magnitude
from .policy import Policy
from .space import SIGNED, Entry


class RandAugment(Leveled):
    """``num_ops`` operations a sample, drawn uniformly with replacement, at ``magnitude``; signs are drawn.

    magnitude: a position 0 to num_magnitude_bins − 1 in each operation's range, the same for all; or (low, high), both
    included, for positions drawn uniformly for every operation of every sample; or a source of magnitudes that each
    sample has of its own, `smartaug.EntAugment()` or `smartaug.SRA()`. The other arguments: see `Policy`.
    ``probabilities``, which learned policies set: see `Leveled`. Raises ValueError for a magnitude out of range.
    """

    def __init__(
        self,
        num_ops: int = 2,
        magnitude: Magnitude = 9,
        num_magnitude_bins: int = 31,
        interpolation: Interpolation = "nearest",
        fill: Fill | None = 0,
        exact: bool = True,
        backend: str | None = None,
        *,
        mask_fill: float = 0,
    ) -> None:
        super().__init__(interpolation, fill, exact, backend, mask_fill)
        self.num_ops = check_count(num_ops, "num_ops", 0)
        self.num_magnitude_bins = check_count(num_magnitude_bins, "num_magnitude_bins", 2)
        self.magnitude: Magnitude = _checked(magnitude, num_magnitude_bins)
        self.probabilities: Tensor | None = None

    def magnitude_of(self, name: str, step: int, height: int, width: int) -> float:
        """Torchvision's magnitude of RandAugment."""
        return magnitude_at(name, step, self.num_magnitude_bins, height, width)

    def draw_uniformly(self, key: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Operation and sign in one draw, and a draw of the position where there are several."""
        drawn, count = draws.integers(key, 2 * len(OPERATIONS), (self.num_ops,)), self.span[1]
        steps = torch.zeros_like(drawn)
        if count > 1:
            steps = draws.integers(key, count, (self.num_ops,), start=self.num_ops + 1)
        return drawn // 2, steps, drawn % 2


class TrivialAugment(Leveled):
    """One operation a sample at a magnitude drawn uniformly from the wide ranges.

    magnitude: None, or a source of magnitudes that each sample has of its own, `smartaug.EntAugment()` or
    `smartaug.SRA()`. The other arguments: see `Policy`. ``probabilities``, which learned policies set: see `Leveled`.
    Raises TypeError for another magnitude.
    """

    num_ops = 1

    def __init__(
        self,
        num_magnitude_bins: int = 31,
        interpolation: Interpolation = "nearest",
        fill: Fill | None = 0,
        exact: bool = True,
        backend: str | None = None,
        *,
        mask_fill: float = 0,
        magnitude: SampleMagnitudes | None = None,
    ) -> None:
        super().__init__(interpolation, fill, exact, backend, mask_fill)
        self.num_magnitude_bins = check_count(num_magnitude_bins, "num_magnitude_bins", 2)
        if magnitude is not None and not isinstance(magnitude, SampleMagnitudes):
            raise TypeError(
                f"TrivialAugment draws its magnitudes, or takes a source of them, got magnitude={magnitude!r}; write "
                f"TrivialAugment(), magnitude=smartaug.EntAugment(), or RandAugment(1, {magnitude!r})"
            )
        self.magnitude: SampleMagnitudes | None = magnitude
        self.probabilities: Tensor | None = None

    def magnitude_of(self, name: str, step: int, height: int, width: int) -> float:
        """Torchvision's magnitude of TrivialAugmentWide, in pixels of its own on images of any size."""
        return wide_magnitude_at(name, step, self.num_magnitude_bins)

    def draw_uniformly(self, key: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Operation, position and sign in one draw: every entry is as likely as any other of its operation."""
        bins = self.num_magnitude_bins
        drawn = draws.integers(key, len(OPERATIONS) * bins * 2, (1,))
        return drawn // (2 * bins), drawn // 2 % bins, drawn % 2


class AutoAugment(Policy):
    """One of a learned policy's 25 pairs of operations a sample, each of the pair with its own probability.

    policy: "imagenet", "cifar10" or "svhn", or torchvision's AutoAugmentPolicy. The other arguments: see `Policy`.
    """

    def __init__(
        self,
        policy: str | Named = "imagenet",
        interpolation: Interpolation = "nearest",
        fill: Fill | None = 0,
        exact: bool = True,
        backend: str | None = None,
        *,
        mask_fill: float = 0,
    ) -> None:
        super().__init__(interpolation, fill, exact, backend, mask_fill)
        plain = getattr(policy, "value", policy)
        if plain not in POLICIES:
            raise ValueError(f'policy must be one of {", ".join(POLICIES)}, got {policy!r}; write policy="imagenet"')
        self.policy = str(plain)
        pairs = POLICIES[self.policy]
        self._chances = torch.tensor([[chance for _, chance, _ in pair] for pair in pairs])  # float32, as the draws

    def entries(self, height: int, width: int) -> tuple[Entry, ...]:
        """Identity twice, then for each pair its two operations, positive and negative."""
        bins = 10
        listed: list[Entry] = [("Identity", 0.0), ("Identity", 0.0)]
        for pair in POLICIES[self.policy]:
            for name, _, step in pair:
                magnitude = magnitude_at(name, step, bins, height, width)
                listed += [(name, magnitude), (name, -magnitude if name in SIGNED else magnitude)]
        return tuple(listed)

    def draw(self, key: Tensor) -> Tensor:
        """A pair, then for both operations whether it happens and its sign."""
        drawn, chances = draws.uniform(key, (5,)).numpy(), self._chances.numpy()
        pair = (drawn[:, 0] * np.float32(len(chances))).astype(np.int64)
        happens = drawn[:, 1:3] < chances.take(pair, 0)
        entry = 2 + pair[:, None] * 4 + np.array([0, 2]) + (drawn[:, 3:5] < 0.5)
        return torch.from_numpy(entry * happens)

    def cuts(self, shape: Sequence[int]) -> Cuts:
        """The pairs, every chance that an operation has in any of them, and signs."""
        found: Cuts = {((), 0): equal_cuts(len(self._chances))}
        found |= {((), slot): self._chances.unique().tolist() for slot in (1, 2)}
        return found | {((), slot): [0.5] for slot in (3, 4)}


def magnitude_at(name: str, step: int, bins: int, height: int, width: int) -> float:
    """RandAugment's and AutoAugment's magnitude, unsigned, at ``step`` of ``bins``."""
    if name == "TranslateX":
        return pixels_at(150.0 / 331.0 * width, step, bins)
    if name == "TranslateY":
        return pixels_at(150.0 / 331.0 * height, step, bins)
    return _scaled(name, step, bins, shear=0.3, rotate=30.0, factor=0.9, posterize=4)


def wide_magnitude_at(name: str, step: int, bins: int) -> float:
    """TrivialAugment Wide's magnitude, unsigned, at ``step`` of ``bins``."""
    if name.startswith("Translate"):
        return pixels_at(32.0, step, bins)
    return _scaled(name, step, bins, shear=0.99, rotate=135.0, factor=0.99, posterize=6)


def pixels_at(most: float, step: int, bins: int) -> float:
    """Where a shift is at ``step`` of ``bins`` up to ``most`` pixels, in torchvision's float32.

    Its fraction will be cut off, and there 16 pixels may be 15.999999.
    """
    return float(torch.linspace(0.0, most, bins, dtype=torch.float32, device="cpu")[step])


def _scaled(
    name: str, step: int, bins: int, *, shear: float, rotate: float, factor: float, posterize: int, bits: int = 8
) -> float:
    share = step / (bins - 1)
    if name.startswith("Shear"):
        return shear * share
    if name == "Rotate":
        return rotate * share
    if name in ("Brightness", "Color", "Contrast", "Sharpness"):
        return factor * share
    if name == "Posterize":
        return bits - round(step / ((bins - 1) / posterize))
    if name == "Solarize":
        return 255.0 * (1.0 - share)
    return 0.0


def _checked(magnitude: object, bins: int) -> Magnitude:
    """RandAugment's ``magnitude``; a ValueError unless it is a position, a pair of them in order, or a source."""
    if isinstance(magnitude, SampleMagnitudes):
        return magnitude
    if not isinstance(magnitude, (tuple, list)):
        return check_magnitude(magnitude, bins)
    if len(magnitude) != 2 or not check_magnitude(magnitude[0], bins) <= check_magnitude(magnitude[1], bins):
        raise ValueError(f"magnitude must be (low, high) with low ≤ high, got {magnitude!r}; write (0, {bins - 1})")
    return magnitude[0], magnitude[1]
