"""AugMix: each sample added up from itself and a few chains of policy operations.

What: ``mixture_width`` chains of 1 to 3 operations, weighted by Dirichlet draws and blended with the original by a Beta
draw, all per sample. When: robustness to corruptions; usually trained with a consistency loss over two views. Cost: up
to mixture_width · 3 operations and mixture_width + 1 passes in float32. Reference: Hendrycks et al., "AugMix", ICLR
2020; operations, ranges and defaults are torchvision's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ... import draws
from ..augmentation import Augmentation
from ..checks import Fill, Interpolation, check_colours, check_count, check_fill, interpolation_name
from ..plan import Branches, Plan, Trace, per_channel
from .policies import magnitude_at, pixels_at
from .space import SIGNED, Entry, Space, space

_BASE = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Posterize", "Solarize", "AutoContrast", "Equalize")
_MORE = ("Brightness", "Color", "Contrast", "Sharpness")
_BINS = 10
_DEEPEST = 3


class AugMix(Augmentation):
    """Mixtures of ``mixture_width`` chains of operations.

    severity: 1–10, magnitudes are drawn from the lowest ``severity`` of ten steps. chain_depth: operations a chain, −1
    for 1 to 3 drawn per chain. alpha: of the Dirichlet and Beta draws. all_ops: with brightness, colour, contrast and
    sharpness, which overlap with common corruption benchmarks. interpolation, fill, backend: see `Policy`.
    """

    def __init__(
        self,
        severity: int = 3,
        mixture_width: int = 3,
        chain_depth: int = -1,
        alpha: float = 1.0,
        all_ops: bool = True,
        interpolation: Interpolation = "bilinear",
        fill: Fill | None = 0,
        backend: str | None = None,
    ) -> None:
        super().__init__(backend=backend)
        if not isinstance(severity, int) or not 1 <= severity <= _BINS:
            raise ValueError(f"severity must be an integer in 1..{_BINS}, got {severity!r}; write severity=3")
        if not isinstance(alpha, (int, float)) or not alpha > 0:
            raise ValueError(f"alpha must be positive, got {alpha!r}; write alpha=1.0")
        if not isinstance(chain_depth, int) or (chain_depth < 1 and chain_depth != -1):
            raise ValueError(f"chain_depth must be -1 or at least 1, got {chain_depth!r}; write chain_depth=-1")
        self.severity, self.mixture_width = severity, check_count(mixture_width, "mixture_width", 1)
        self.chain_depth, self.alpha, self.all_ops = chain_depth, float(alpha), bool(all_ops)
        self.interpolation = interpolation_name(interpolation)
        self.fill = per_channel(0 if fill is None else fill, "fill")
        self._tables: dict[tuple[Any, ...], Space] = {}

    def entries(self, height: int, width: int) -> tuple[Entry, ...]:
        """Identity, then each operation at each magnitude, positive then negative."""
        listed: list[Entry] = [("Identity", 0.0)]
        for name in _BASE + (_MORE if self.all_ops else ()):
            for step in range(self.severity):
                magnitude = _magnitude(name, step, height, width)
                listed += [(name, magnitude), (name, -magnitude if name in SIGNED else magnitude)]
        return tuple(listed)

    def _table(self, height: int, width: int) -> Space:
        settings = (self.severity, self.all_ops, height, width)
        if settings not in self._tables:
            self._tables[settings] = space(self.entries(height, width), height, width)
        return self._tables[settings]

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw chains and weights of the B samples."""
        batch, channels, height, width = shape
        check_colours(channels, "AugMix")
        check_fill(self.fill, channels)
        table = self._table(height, width)
        deepest = self.chain_depth if self.chain_depth > 0 else _DEEPEST
        entries = 1 + draws.integers(draws.fold(key, 0), len(table.name) - 1, (self.mixture_width, deepest))
        if self.chain_depth < 0:
            depth = 1 + draws.integers(draws.fold(key, 1), _DEEPEST, (self.mixture_width, 1))
            entries = torch.where(torch.arange(_DEEPEST) < depth, entries, 0)
        own = draws.symmetric_beta(draws.fold(key, 2), self.alpha)[:, None]
        shares = draws.uniform(draws.fold(key, 3), (self.mixture_width,), dtype=torch.float64)
        shares = dirichlet(shares, draws.fold(key, 4), self.alpha)
        weights = torch.cat([own, (1.0 - own) * shares], 1).float()
        branches = tuple(
            table.segments(entries[:, k], (height, width), self.interpolation, self.fill)
            for k in range(self.mixture_width)
        )
        trace = table.trace(entries.flatten(1)) if batch else Trace.empty(0)
        return Plan(tuple(shape), (Branches(branches, weights),), trace)


def dirichlet(drawn: Tensor, key: Tensor, alpha: float) -> Tensor:
    """Symmetric Dirichlet(alpha) draws (B, K) float64: normalised gamma draws; ``drawn`` (B, K) uniforms for alpha 1.

    alpha 1 is exponential. Otherwise Marsaglia & Tsang's method ("A simple method for generating gamma variables", ACM
    TOMS 2000) with the first of eight fixed tries that is accepted (each is with probability > 0.95), for alpha + 1,
    and the power of a uniform brings it down to alpha.
    """
    if alpha == 1.0:
        gamma = -torch.log1p(-drawn)
    else:
        count, tries = drawn.shape[1], 8
        d = alpha + 1.0 - 1.0 / 3.0
        z = draws.normal(draws.fold(key, 0), (count, tries)).double()
        u = draws.uniform(draws.fold(key, 1), (count, tries), dtype=torch.float64)
        v = (1.0 + z / (9.0 * d) ** 0.5).clamp(min=1e-12) ** 3
        accepted = torch.log(u.clamp(min=1e-300)) < 0.5 * z * z + d - d * v + d * torch.log(v)
        first = accepted.long().argmax(-1, keepdim=True)
        gamma = (d * v).gather(-1, first)[..., 0] * (1.0 - drawn) ** (1.0 / alpha)
    gamma = gamma.clamp(min=1e-300)
    return gamma / gamma.sum(1, keepdim=True)


def _magnitude(name: str, step: int, height: int, width: int) -> float:
    """AugMix's magnitude, unsigned, at ``step`` of 10: RandAugment's but for translation (a third) and posterize."""
    if name in ("TranslateX", "TranslateY"):
        return pixels_at((width if name == "TranslateX" else height) / 3.0, step, _BINS)
    magnitude = magnitude_at(name, step, _BINS, height, width)
    return magnitude - 4 if name == "Posterize" else magnitude
