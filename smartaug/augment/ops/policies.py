"""Policies that draw operations and magnitudes per sample: RandAugment, TrivialAugment (Wide), AutoAugment.

What: each sample receives its own operations from torchvision's tables, run batched. When: image classification; put
them after crops and flips and before `Normalize`, on uint8 or floats in [0, 1]. RandAugment has two numbers to tune,
TrivialAugment none, AutoAugment was tuned on the dataset it is named after. Cost: about one pass over the batch per
operation; see benchmarks/results. Reference: Cubuk et al., "RandAugment", NeurIPS 2020; Müller & Hutter,
"TrivialAugment", ICCV 2021; Cubuk et al., "AutoAugment", CVPR 2019. Operations, ranges and defaults are torchvision's
(there are other tables: Kornia's and timm's differ); what differs is that the draw is per sample on a batch.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ... import draws
from ..augmentation import Augmentation, Cuts, equal_cuts
from ..checks import (
    Fill,
    Interpolation,
    Named,
    check_colours,
    check_count,
    check_fill,
    check_magnitude,
    interpolation_name,
)
from ..plan import Plan, per_channel
from .autoaugment import POLICIES
from .space import SIGNED, Entry, Space, space

OPERATIONS = (
    "Identity",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "Rotate",
    "Brightness",
    "Color",
    "Contrast",
    "Sharpness",
    "Posterize",
    "Solarize",
    "AutoContrast",
    "Equalize",
)


class Policy(Augmentation):
    """What policies share: a table of entries, which of them each sample draws, and how warps are done.

    interpolation: "nearest" or "bilinear", or torchvision's InterpolationMode. fill: value outside the image in its own
    units (0–255 for uint8), one or one per channel; None is 0. mask_fill: that of a mask. exact: keep operations in the
    order drawn; False composes a sample's geometric operations into one warp behind its other operations, which changes
    about every fifth sample at N = 2, M = 9, by 3 to 4 grey levels in the mean (0.6 to 0.8 over all samples, on
    photographs), and saves up to a tenth of the time. backend: "torch", "numba", "triton" or None for the fastest.
    """

    mask_fill: float = 0.0  # also where a pickle of a former version has none

    def __init__(
        self, interpolation: Interpolation, fill: Fill | None, exact: bool, backend: str | None, mask_fill: float
    ) -> None:
        super().__init__(backend=backend)
        self.interpolation = interpolation_name(interpolation)
        self.fill = per_channel(0 if fill is None else fill, "fill")
        self.exact = bool(exact)
        self.mask_fill = float(mask_fill)
        self._tables: dict[tuple[Any, ...], Space] = {}

    _SETTINGS = ("magnitude", "num_magnitude_bins", "policy")  # what entries depend on

    @abstractmethod
    def entries(self, height: int, width: int) -> tuple[Entry, ...]:
        """The (operation, signed magnitude) pairs to draw from, for images of that size."""

    @abstractmethod
    def draw(self, key: Tensor) -> Tensor:
        """Which entries the samples with stream keys (B,) receive, in order: (B, N) int64."""

    def table(self, height: int, width: int) -> Space:
        """The entries worked out for images of that size; kept, since it takes longer than a draw."""
        settings = (*(value for name, value in vars(self).items() if name in self._SETTINGS), height, width)
        if settings not in self._tables:
            self._tables[settings] = space(self.entries(height, width), height, width)
        return self._tables[settings]

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw the operations of images (B, C, H, W); raises ValueError unless C is 1 or 3."""
        check_colours(shape[1], type(self).__name__)
        check_fill(self.fill, shape[1])
        table = self.table(shape[2], shape[3])
        return table.plan(
            shape,
            self.draw(key),
            interpolation=self.interpolation,
            fill=self.fill,
            mask_fill=self.mask_fill,
            exact=self.exact,
        )


class RandAugment(Policy):
    """``num_ops`` operations a sample, drawn uniformly with replacement, all at ``magnitude``.

    magnitude: position 0 to num_magnitude_bins − 1 in each operation's range; signs are drawn. The other arguments:
    see `Policy`. ``probabilities``: None (uniform), or a tensor of shape (14,) * num_ops that sums to one, the chance
    of every sequence of operations in the order of ``OPERATIONS``; learned policies set it.
    """

    def __init__(
        self,
        num_ops: int = 2,
        magnitude: int = 9,
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
        self.magnitude = check_magnitude(magnitude, num_magnitude_bins)
        self.probabilities: Tensor | None = None

    def entries(self, height: int, width: int) -> tuple[Entry, ...]:
        """Each operation at its magnitude, positive then negative."""
        return tuple(
            (name, sign * magnitude)
            for name in OPERATIONS
            for magnitude in [magnitude_at(name, self.magnitude, self.num_magnitude_bins, height, width)]
            for sign in (1, -1 if name in SIGNED else 1)
        )

    def ranges(self, height: int, width: int) -> dict[str, tuple[float, float]]:
        """Each operation's unsigned magnitude at the first and at the last bin; equal where it has none."""
        bins = self.num_magnitude_bins

        def at(name: str, step: int) -> float:
            return magnitude_at(name, step, bins, height, width)

        return {name: (at(name, 0), at(name, bins - 1)) for name in OPERATIONS}

    def draw(self, key: Tensor) -> Tensor:
        """Operation and sign in one uniform draw, or operations by ``probabilities`` and signs by a coin."""
        entries = draws.integers(key, 2 * len(OPERATIONS), (self.num_ops,))
        if self.probabilities is None:
            return entries
        operations = self._drawn_jointly(draws.uniform(key, start=self.num_ops, dtype=torch.float64))
        return operations * 2 + entries % 2

    def cuts(self, shape: Sequence[int]) -> Cuts:
        """Every sequence of operations, where their probabilities are given."""
        if self.probabilities is None:
            return {}
        steps = torch.as_tensor(self.probabilities).detach().to("cpu", torch.float64).flatten().cumsum(0)
        return {((), self.num_ops): (steps[:-1] / steps[-1]).tolist()}

    def _drawn_jointly(self, drawn: Tensor) -> Tensor:
        table = torch.as_tensor(self.probabilities).detach().to("cpu", torch.float64)
        if table.shape != (len(OPERATIONS),) * self.num_ops:
            raise ValueError(
                f"probabilities must have shape {(len(OPERATIONS),) * self.num_ops}, got {tuple(table.shape)}; "
                f"one axis of {len(OPERATIONS)} operations for each of num_ops={self.num_ops}"
            )
        if not (bool((table >= 0).all()) and abs(float(table.sum()) - 1.0) < 1e-3):
            raise ValueError(
                "probabilities must be non-negative and sum to 1; write policy.probabilities = p / p.sum()"
            )
        steps = table.flatten().cumsum(0)
        sequence = torch.searchsorted(steps, drawn * steps[-1], right=True).clamp_(max=steps.numel() - 1)
        return torch.stack(torch.unravel_index(sequence, table.shape), 1)


class TrivialAugment(Policy):
    """One operation a sample at a magnitude drawn uniformly from the wide ranges. Arguments: see `Policy`."""

    def __init__(
        self,
        num_magnitude_bins: int = 31,
        interpolation: Interpolation = "nearest",
        fill: Fill | None = 0,
        exact: bool = True,
        backend: str | None = None,
        *,
        mask_fill: float = 0,
    ) -> None:
        super().__init__(interpolation, fill, exact, backend, mask_fill)
        self.num_magnitude_bins = check_count(num_magnitude_bins, "num_magnitude_bins", 2)

    def entries(self, height: int, width: int) -> tuple[Entry, ...]:
        """Each operation at each magnitude, positive then negative."""
        return tuple(
            (name, sign * wide_magnitude_at(name, step, self.num_magnitude_bins))
            for name in OPERATIONS
            for step in range(self.num_magnitude_bins)
            for sign in (1, -1 if name in SIGNED else 1)
        )

    def draw(self, key: Tensor) -> Tensor:
        """Operation, magnitude and sign in one draw: every entry is as likely as any other of its operation."""
        count = len(OPERATIONS) * self.num_magnitude_bins * 2
        return draws.integers(key, count, (1,))


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
        self._chances = torch.tensor([[chance for _, chance, _ in pair] for pair in pairs])

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
        drawn = draws.uniform(key, (5,))
        pair = (drawn[:, 0] * len(self._chances)).long()
        happens = drawn[:, 1:3] < self._chances[pair]
        entry = 2 + pair[:, None] * 4 + torch.tensor([0, 2]) + (drawn[:, 3:5] < 0.5)
        return torch.where(happens, entry, 0)

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
