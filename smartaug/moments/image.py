"""`Moments`: mean and covariance of an augmented image, the covariance as a factor that is never multiplied out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from .analytic import marginals
from .source import MEMORY, NODES, AugmentLike, Source, source

Blocks = Callable[[int, int], Iterator[Tensor]]


class Error(NamedTuple):
    """Relative errors (B,) of the mean image (in Euclidean norm) and of the trace of the covariance.

    Zero where everything was enumerated, and for chains of flips, padded crops and the like, whose mean and variance
    have a closed form (their factor is a quadrature all the same where there are more transforms than nodes: see
    `Moments.exact`); the difference to a coarser rule for quadrature; the standard error for draws.
    """

    mean: Tensor
    trace: Tensor


class Moments:
    """Mean μ and covariance Σ = Σ_s f_s f_sᵀ of B augmented images.

    mean: (B, C, H, W). size: S, the number of columns of the factor. error: see `Error`. exact: all that the
    augmentation can do was enumerated. uint8: the augmented images are uint8, so that values count 0–255. Σ is positive
    semidefinite by construction. Columns are made anew by blocks each time they are needed; `factor` holds all of them
    at once.
    """

    def __init__(
        self,
        mean: Tensor,
        variance: Tensor,
        size: int,
        blocks: Blocks,
        *,
        error: Error,
        exact: bool,
        memory: int,
        uint8: bool = False,
    ) -> None:
        self.mean, self.size, self.error, self.exact, self.memory, self.uint8 = mean, size, error, exact, memory, uint8
        self._variance, self._blocks = variance, blocks

    def variance(self) -> Tensor:
        """The variance of every value: (B, C, H, W), the diagonal of Σ."""
        return self._variance

    def trace(self) -> Tensor:
        """The sum of the variances: (B,)."""
        return self._variance.flatten(1).sum(1)

    @cached_property
    def factor(self) -> Tensor:
        """(B, S, C, H, W) with Σ = Σ_s factor_s factor_sᵀ; raises MemoryError when it is larger than ``memory``."""
        needed = self.mean.numel() * self.mean.element_size() * self.size
        if needed > self.memory:
            raise MemoryError(
                f"the factor of {len(self.mean)} images and {self.size} transforms takes {needed:,} bytes and "
                f"memory is {self.memory:,}; variance(), covariance_matvec() and top() work without it, or pass "
                f"memory={needed}"
            )
        parts = list(self.blocks())
        return torch.cat(parts, 1) if parts else self.mean.new_zeros(len(self.mean), 0, *self.mean.shape[1:])

    def blocks(self, first: int = 0, last: int | None = None) -> Iterator[Tensor]:
        """The factor's columns (b, s, C, H, W) of the images ``first`` to ``last``, a few at a time."""
        return self._blocks(first, len(self.mean) if last is None else last)

    def covariance_matvec(self, vector: Tensor) -> Tensor:
        """Σ · vector, both (B, C, H, W)."""
        if vector.shape != self.mean.shape:
            raise ValueError(f"vector must have shape {tuple(self.mean.shape)}, got {tuple(vector.shape)}")
        total = torch.zeros_like(self.mean).flatten(1)
        flat = vector.to(self.mean).flatten(1)
        for block in self.blocks():
            columns = block.flatten(2)
            inner = torch.bmm(columns, flat[:, :, None])
            total += torch.bmm(inner.mT, columns)[:, 0]
        return total.view_as(self.mean)

    def top(self, k: int) -> tuple[Tensor, Tensor]:
        """The k largest eigenvalues (B, k), falling, and their eigenvectors (B, k, C, H, W) of length 1.

        Where fewer than k eigenvalues are above rounding the rest are 0, with vectors of zeros. Raises ValueError
        unless 1 ≤ k ≤ min(S, C·H·W).
        """
        return self._eigen(k, largest=True)

    def bottom(self, k: int) -> tuple[Tensor, Tensor]:
        """As `top`, the k smallest eigenvalues above rounding, rising: the directions that are changed least.

        Directions that it does not change at all have eigenvalue 0; there are usually very many, and none is returned.
        """
        return self._eigen(k, largest=False)

    def _eigen(self, k: int, *, largest: bool) -> tuple[Tensor, Tensor]:
        dimension = self.mean[0].numel() if len(self.mean) else self.size
        if not isinstance(k, int) or not 1 <= k <= min(self.size, dimension):
            raise ValueError(
                f"k must be an integer in 1..{min(self.size, dimension)} (transforms and values of an image), got {k!r}"
            )
        values = self.mean.new_zeros(len(self.mean), k)
        vectors = self.mean.new_zeros(len(self.mean), k, dimension)
        for row in range(len(self.mean)):
            small, basis = torch.linalg.eigh(self._small(row, dimension))
            kept = small > small.amax().clamp_min(0) * len(small) * torch.finfo(self.mean.dtype).eps
            order = torch.where(kept, -small if largest else small, torch.inf).argsort()[:k]
            values[row] = torch.where(kept, small, 0.0)[order]
            chosen = basis[:, order] * kept[order]
            vectors[row] = self._lifted(row, chosen, values[row], dimension)
        return values, vectors.view(len(self.mean), k, *self.mean.shape[1:])

    def _small(self, row: int, dimension: int) -> Tensor:
        """FFᵀ (S, S) or FᵀF (D, D) of one image, whichever is smaller, in float64."""
        if dimension <= self.size:
            total = torch.zeros(dimension, dimension, dtype=torch.float64, device=self.mean.device)
            for block in self.blocks(row, row + 1):
                columns = block[0].flatten(1).double()
                total += columns.T @ columns
            return total
        total = torch.zeros(self.size, self.size, dtype=torch.float64, device=self.mean.device)
        if dimension * self.size * 8 <= self.memory:
            held = [torch.cat([block[0].flatten(1) for block in self.blocks(row, row + 1)]).double()]
            return torch.matmul(held[0], held[0].T, out=total)
        start = 0
        for one in self._columns(row):  # too large to hold: every pair of blocks
            across = 0
            for other in self._columns(row):
                if across >= start:
                    part = one @ other.T
                    total[start : start + len(one), across : across + len(other)] = part
                    total[across : across + len(other), start : start + len(one)] = part.T
                across += len(other)
            start += len(one)
        return total

    def _columns(self, row: int) -> Iterator[Tensor]:
        for block in self.blocks(row, row + 1):
            yield block[0].flatten(1).double()

    def _lifted(self, row: int, basis: Tensor, values: Tensor, dimension: int) -> Tensor:
        """Eigenvectors (k, D) of Σ from those (n, k) of the smaller matrix."""
        if dimension <= self.size:
            return basis.T.to(self.mean.dtype)
        total = torch.zeros(basis.shape[1], dimension, dtype=torch.float64, device=self.mean.device)
        start = 0
        for columns in self._columns(row):
            total += basis[start : start + len(columns)].T @ columns
            start += len(columns)
        scale = torch.where(values > 0, values, 1.0).double().rsqrt()
        return (total * scale[:, None]).to(self.mean.dtype)

    def __add__(self, other: Moments) -> Moments:
        """The moments of the sum of two independent random images: means and covariances add."""
        if not isinstance(other, Moments):
            return NotImplemented
        _check_alike([self, other])
        error = self._error_of([(1.0, self), (1.0, other)], self.mean + other.mean, self._variance + other._variance)

        def blocks(first: int, last: int) -> Iterator[Tensor]:
            yield from self.blocks(first, last)
            yield from other.blocks(first, last)

        return Moments(
            self.mean + other.mean,
            self._variance + other._variance,
            self.size + other.size,
            blocks,
            error=error,
            exact=self.exact and other.exact,
            memory=min(self.memory, other.memory),
            uint8=self.uint8 or other.uint8,
        )

    @staticmethod
    def _error_of(parts: Sequence[tuple[float, Moments]], mean: Tensor, variance: Tensor) -> Error:
        """A bound for weighted sums: the parts' errors added."""
        means = sum(p * part.error.mean * _norm(part.mean) for p, part in parts)
        traces = sum(p * part.error.trace * part.trace() for p, part in parts)
        return Error(_ratio(means, _norm(mean)), _ratio(traces, variance.flatten(1).sum(1)))

    def __repr__(self) -> str:
        images = "×".join(map(str, self.mean.shape))
        return f"Moments({images}, {self.size} transforms{', exact' if self.exact else ''})"


def of(
    augment: AugmentLike,
    images: Tensor,
    *,
    nodes: int = NODES,
    draws: int | None = None,
    seed: int = 0,
    memory: int = MEMORY,
    dtype: torch.dtype | None = None,
) -> Moments:
    """Mean and covariance of each of ``images`` (B, C, H, W) under ``augment``, without sampling.

    * `augment`: an augmentation or a list of them, as for the loader.
    * `nodes`: the largest number of transforms. A finite set of transforms that fits is enumerated: then the moments
      are exact; else they are a quadrature with ``.error``, which takes at least 2 nodes.
    * `draws`: take so many random draws of the pipeline instead, which works for Kornia modules and callables, too.
    * `seed`: of these draws.
    * `memory`: bytes that a block of intermediate results may take.
    * `dtype`: of the results and sums; None is float64 for float64 images, else float32.

    Values are in the units that the augmentation gives (0–255 for uint8).

    Raises TypeError for stages without a plan and for MixUp and CutMix, ValueError for images that are not finite and
    for nodes=1 where one transform is not all there is.
    """
    found = source(augment, images, nodes, memory, draws, seed)
    dtype = dtype or (torch.float64 if images.dtype == torch.float64 else torch.float32)
    if not dtype.is_floating_point:
        raise TypeError(f"dtype must be a floating-point type, got {dtype}; write dtype=torch.float64")
    return summed(found, augment, dtype)


def summed(found: Source, augment: AugmentLike, dtype: torch.dtype) -> Moments:
    """The moments of a source of augmented images."""
    images, count = found.images, len(found)
    closed = None if found.drawn else marginals(augment, images)
    checked: _Sum | None = None
    kind = images.dtype
    if closed is not None:
        mean, variance = (part.to(dtype) for part in closed)
        kind = found.made(images[:1], 0, slice(0, 1)).dtype  # so that stages raise their errors here, too
    else:
        total = _Sum(found.weights, dtype)
        checked = None if found.check is None else _Sum(found.check, dtype)
        origin: Tensor | None = None  # sums of differences to one version: no rounding where nothing changes
        for block, made in found.blocks():
            values, kind = made.to(dtype), made.dtype
            origin = values[:, :1].clone() if origin is None else origin
            values = values - origin
            total.add(block, values)
            if checked is not None:
                checked.add(block, values)
        start = 0.0 if origin is None else origin[:, 0]
        mean, variance = total.mean + start, total.variance * (count / (count - 1) if found.drawn else 1.0)
        if checked is not None:
            checked.mean = checked.mean + start
    _refuse_not_finite(mean)
    scale = found.weights * (count / (count - 1)) if found.drawn else found.weights
    root = scale.sqrt().to(mean)

    def blocks(first: int, last: int) -> Iterator[Tensor]:
        for block, made in found.blocks(first, last):
            over_pixels = (1, -1, 1, 1, 1)
            yield (made.to(dtype) - mean[first:last, None]) * root[block].view(over_pixels)

    error = _error(found, mean, variance, checked)
    uint8 = kind == torch.uint8
    return Moments(mean, variance, count, blocks, error=error, exact=found.exact, memory=found.memory, uint8=uint8)


def mixture(parts: Sequence[Moments], weights: Sequence[float]) -> Moments:
    """The moments when one of several augmentations happens, each with its probability.

    parts: of the same images. weights: probabilities that sum to 1. With μ = Σ p_i μ_i the covariance is
    Σ p_i (Σ_i + (μ_i − μ)(μ_i − μ)ᵀ).
    """
    if len(parts) != len(weights) or not parts:
        raise ValueError(f"mixture needs one weight for each of its parts, got {len(weights)} for {len(parts)}")
    if not all(p >= 0 for p in weights) or abs(sum(weights) - 1.0) > 1e-9:
        raise ValueError(f"weights must be probabilities that sum to 1, got {list(weights)}")
    _check_alike(parts)
    pairs = list(zip(weights, parts, strict=True))
    mean = torch.stack([p * part.mean for p, part in pairs]).sum(0)
    variance = torch.stack([p * (part.variance() + (part.mean - mean) ** 2) for p, part in pairs]).sum(0)

    def blocks(first: int, last: int) -> Iterator[Tensor]:
        for p, part in pairs:
            yield (part.mean - mean)[first:last, None] * p**0.5
            for block in part.blocks(first, last):
                yield block * p**0.5

    return Moments(
        mean,
        variance,
        sum(part.size for part in parts) + len(parts),
        blocks,
        error=Moments._error_of(pairs, mean, variance),
        exact=all(part.exact for part in parts),
        memory=min(part.memory for part in parts),
        uint8=any(part.uint8 for part in parts),
    )


class _Sum:
    """Weighted mean and variance, block by block (Chan, Golub, LeVeque 1983): no cancellation of large squares."""

    def __init__(self, weights: Tensor, dtype: torch.dtype) -> None:
        self.weights, self.dtype, self.weight = weights, dtype, 0.0
        self.mean, self.variance = torch.empty(0), torch.empty(0)

    def add(self, block: slice, values: Tensor) -> None:
        """Add the values (B, s, ...) of the versions ``block``."""
        weights, flat = self.weights[block], values.flatten(2)
        weight = float(weights.sum())
        if weight == 0.0:
            return
        share = (weights / weight).to(values)
        mean = torch.einsum("s,bsd->bd", share, flat)
        apart = flat - mean[:, None]
        variance = torch.einsum("s,bsd->bd", share, apart.square_())
        mean, variance = (part.view(len(values), *values.shape[2:]) for part in (mean, variance))
        if self.weight == 0.0:
            self.mean, self.variance, self.weight = mean, variance, weight
            return
        whole = self.weight + weight
        step = mean - self.mean
        self.mean = self.mean + step * (weight / whole)
        spread = step.square_() * (self.weight * weight / whole**2)
        self.variance = self.variance * (self.weight / whole) + variance * (weight / whole) + spread
        self.weight = whole


def _error(found: Source, mean: Tensor, variance: Tensor, checked: _Sum | None) -> Error:
    trace = variance.flatten(1).sum(1)
    if found.drawn:
        # the second is the error for one normal value: smaller for traces of many values, larger for heavy tails
        return Error(_ratio((trace / len(found)).sqrt(), _norm(mean)), torch.full_like(trace, (2 / len(found)) ** 0.5))
    if checked is None:
        return Error(torch.zeros_like(trace), torch.zeros_like(trace))
    other = checked.variance.flatten(1).sum(1)
    return Error(_ratio(_norm(checked.mean - mean), _norm(mean)), _ratio((other - trace).abs(), trace))


def _norm(images: Tensor) -> Tensor:
    return images.flatten(1).norm(dim=1)


def _ratio(part: Tensor | float, whole: Tensor) -> Tensor:
    """part / whole, and 0 where both are 0."""
    share = part / whole.clamp_min(torch.finfo(whole.dtype).tiny)
    return torch.where(whole > 0, share, torch.where(share > 0, torch.inf, 0.0))


def _refuse_not_finite(mean: Tensor) -> None:
    wrong = (~torch.isfinite(mean).flatten(1).all(1)).nonzero().flatten().tolist()
    if wrong:
        raise ValueError(f"augmented images {wrong[:16]} hold NaN or Inf; look at the images and the last stage")


def _check_alike(parts: Sequence[Moments]) -> None:
    first = parts[0].mean
    for part in parts:
        if part.mean.shape != first.shape or part.mean.device != first.device:
            raise ValueError(
                f"moments must be of the same images, got {tuple(first.shape)} on {first.device} and "
                f"{tuple(part.mean.shape)} on {part.mean.device}"
            )
