"""`Leveled`: policies whose magnitudes are positions in each operation's range, fixed, drawn or the sample's own."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ... import draws
from ..augmentation import Cuts, equal_cuts
from ..magnitudes import SampleMagnitudes
from ..plan import Plan
from ..samples import drawn_for
from .policy import Policy
from .space import SIGNED, Entry

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
Magnitude = int | tuple[int, int] | SampleMagnitudes


class Leveled(Policy):
    """What RandAugment and TrivialAugment share; subclasses give magnitudes, and the draws that are a policy's own.

    ``probabilities``: None (uniform), or a tensor that sums to one, the chance of every sequence of operations in the
    order of `OPERATIONS`: (14,) * num_ops, or, with each operation's magnitudes divided into R equal ranges,
    (14, R) * num_ops. Learned policies set it.
    """

    num_ops: int
    num_magnitude_bins: int
    magnitude: Magnitude | None = None
    probabilities: Tensor | None = None

    @abstractmethod
    def magnitude_of(self, name: str, step: int, height: int, width: int) -> float:
        """The unsigned magnitude of an operation at ``step`` of its bins, on images of that size."""

    @abstractmethod
    def draw_uniformly(self, key: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Operations in 0..13, positions among the steps that are drawn from, and signs 0 or 1, each (B, N) int64."""

    @property
    def span(self) -> tuple[int, int]:
        """The first of the steps that magnitudes are drawn from, and their number."""
        if isinstance(self.magnitude, int):
            return self.magnitude, 1
        low, high = self.magnitude if isinstance(self.magnitude, tuple) else (0, self.num_magnitude_bins - 1)
        return low, high - low + 1

    def entries(self, height: int, width: int) -> tuple[Entry, ...]:
        """Each operation at each magnitude that it is drawn with, positive then negative."""
        first, count = self.span
        return tuple(
            (name, sign * magnitude)
            for name in OPERATIONS
            for step in range(first, first + count)
            for magnitude in [self.magnitude_of(name, step, height, width)]
            for sign in (1, -1 if name in SIGNED else 1)
        )

    def ranges(self, height: int, width: int) -> dict[str, tuple[float, float]]:
        """Each operation's unsigned magnitude at the first and at the last bin; equal where it has none."""
        last = self.num_magnitude_bins - 1
        return {
            name: (self.magnitude_of(name, 0, height, width), self.magnitude_of(name, last, height, width))
            for name in OPERATIONS
        }

    def draw(self, key: Tensor) -> Tensor:
        """Operations uniformly or by ``probabilities``, magnitudes as ``magnitude`` says, and signs by a coin."""
        operations, steps, signs = self.draw_uniformly(key)
        count = self.span[1]
        if self.probabilities is not None:
            operations, steps = self._drawn_jointly(key, steps)
        if isinstance(self.magnitude, SampleMagnitudes):
            steps = self.magnitude.chosen(key, drawn_for(len(key)), steps, count)
        return (operations * count + steps) * 2 + signs

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw the operations of images (B, C, H, W); raises ValueError unless C is 1 or 3."""
        plan, entries = self.sampled(shape, key)
        count = self.span[1]
        levels = ((entries.numpy() // 2 % count + 0.5) / count).astype(np.float32)
        return dataclasses.replace(plan, trace=dataclasses.replace(plan.trace, levels=torch.from_numpy(levels)))

    def cuts(self, shape: Sequence[int]) -> Cuts:
        """Every sequence of operations, where their probabilities are given, and every position in their ranges."""
        if self.probabilities is None:
            return {}
        table = self._checked_probabilities()
        steps = table.flatten().cumsum(0)
        found: Cuts = {((), self.num_ops): (steps[:-1] / steps[-1]).tolist()}
        if table.ndim > self.num_ops:
            low, high = _steps_of(torch.arange(table.shape[1]), table.shape[1], self.span[1])
            points = sorted({point for width in set((high - low).tolist()) for point in equal_cuts(width)})
            found |= {((), 2 * self.num_ops + 1 + place): points for place in range(self.num_ops)}
        return found

    def _drawn_jointly(self, key: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Operations (B, N) by ``probabilities``, and positions: ``steps`` (B, N), or drawn in the ranges drawn."""
        count, table = self.span[1], self._checked_probabilities()
        sums = table.flatten().cumsum(0)
        place = draws.uniform(key, start=self.num_ops, dtype=torch.float64)
        sequence = torch.searchsorted(sums, place * sums[-1], right=True).clamp_(max=sums.numel() - 1)
        drawn = torch.stack(torch.unravel_index(sequence, table.shape), 1)
        if table.ndim == self.num_ops:
            return drawn, steps
        low, high = _steps_of(drawn[:, 1::2], table.shape[1], count)
        inside = draws.uniform(key, (self.num_ops,), start=2 * self.num_ops + 1, dtype=torch.float64)
        return drawn[:, ::2], low + (inside * (high - low)).long()

    def _checked_probabilities(self) -> Tensor:
        """The table of probabilities; ValueError unless it has one of the two shapes and sums to one."""
        table = torch.as_tensor(self.probabilities).detach().to("cpu", torch.float64)
        one_axis = table.shape == (len(OPERATIONS),) * self.num_ops
        parts = table.shape[1] if table.ndim > 1 else 0
        if not one_axis and not (parts and table.shape == (len(OPERATIONS), parts) * self.num_ops):
            raise ValueError(
                f"probabilities must have shape {(len(OPERATIONS),) * self.num_ops}, got {tuple(table.shape)}; "
                f"one axis of {len(OPERATIONS)} operations for each of num_ops={self.num_ops}, or each followed by an "
                "axis of equal ranges of magnitudes"
            )
        if not one_axis and parts > self.span[1]:
            raise ValueError(
                f"probabilities divides magnitudes into {parts} ranges, and {type(self).__name__} draws from "
                f"{self.span[1]}; write magnitude=(0, {self.num_magnitude_bins - 1})"
            )
        if not (bool((table >= 0).all()) and abs(float(table.sum()) - 1.0) < 1e-3):
            raise ValueError(
                "probabilities must be non-negative and sum to 1; write policy.probabilities = p / p.sum()"
            )
        return table


def _steps_of(ranges: Tensor, parts: int, count: int) -> tuple[Tensor, Tensor]:
    """The first of ``count`` steps whose level is in each of the ranges, of ``parts`` equal ones, and the first beyond.

    The level of step s is (s + ½) / count, so its range is ⌊parts (s + ½) / count⌋.
    """
    low, high = (-((parts - 2 * place * count) // (2 * parts)) for place in (ranges, ranges + 1))
    return low, high
