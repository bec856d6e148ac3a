"""What an augmentation does to the loss of a model: its mean and variance, how many random draws estimate the mean, and
how much of the loss's gradient lies in the directions that the augmentation changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .. import grads
from .._base.text_tables import words_table
from ..batch import Target
from ..grads.logits import columns, distributions
from ..loss import Loss
from .image import Moments, summed
from .source import MEMORY, NODES, AugmentLike, Source, source

Criterion = Callable[..., Tensor]
Losses = Callable[[Tensor], Tensor]

_MOST = 2**63 - 1024  # the largest float64 below 2⁶³


def loss_moments(
    model: nn.Module,
    criterion: Criterion | None,
    images: Tensor,
    target: Tensor,
    augment: AugmentLike,
    *,
    method: str = "exact",
    nodes: int = NODES,
    draws: int | None = None,
    seed: int = 0,
    memory: int = MEMORY,
) -> tuple[Tensor, Tensor]:
    """Mean (B,) and variance (B,) of each sample's loss over the augmentation.

    model: as it is, in evaluation mode (dropout and batch statistics would add randomness of their own); it stays
    untouched. criterion: as for `smartaug.Loss`; each sample's loss is the criterion's for that sample alone; None is
    cross entropy. images, augment, nodes, draws, seed, memory: as for `of`; what the augmentation gives goes to the
    model, so it usually ends with `Normalize`. target: class indices (B,), distributions (B, K), or what the criterion
    takes.

    method: "exact" sums the losses over all nodes. "linear" takes one gradient g at the mean image: mean ℓ(μ), variance
    gᵀΣg. It is cheap and holds for transforms that hardly change the image; for others it is off by large factors, also
    upwards, where the mean image is one that the model never saw (benchmarks/results/moments.json). Raises ValueError
    for labels that the model has no output for and for losses that are not finite, naming samples and transform.
    """
    if method not in ("exact", "linear"):
        raise ValueError(f'method must be "exact" or "linear", got {method!r}; write method="exact"')
    found = source(augment, images, nodes, memory, draws, seed)
    target = checked_target(target, images)
    rows = _rows(criterion)
    if method == "linear":
        moments = summed(found, augment, torch.float64 if images.dtype == torch.float64 else torch.float32)
        refuse_bytes(moments.uint8)
        mean, gradient = _gradient(model, moments, rows, target)
        variance = (gradient * moments.covariance_matvec(gradient)).flatten(1).sum(1).clamp_min(0)
        return mean, variance
    return _summary(_losses(model, rows, found, target), found)


def samples_needed(mean: Tensor, var: Tensor, rtol: float = 0.01, confidence: float = 0.95) -> Tensor:
    """How many independent draws estimate a mean to a relative error: (B,) int64, at least 1.

    n = z² var / (rtol² mean²), with z the two-sided normal quantile (1.96 for 0.95), by the central limit theorem; at
    most 2⁶³ − 1024, the largest float64 that int64 holds, which also stands for every larger number.
    mean, var: (B,) as `loss_moments` gives. Raises ValueError where the mean is 0 and the variance is not, for values
    that are not finite, and for rtol or confidence out of range.
    """
    if not rtol > 0 or not 0 < confidence < 1:
        raise ValueError(f"rtol must be positive and confidence in (0, 1), got {rtol!r} and {confidence!r}")
    mean, var = torch.as_tensor(mean, dtype=torch.float64), torch.as_tensor(var, dtype=torch.float64)
    if not bool(torch.isfinite(mean).all() & torch.isfinite(var).all() & (var >= 0).all()):
        raise ValueError("mean and var must be finite and var ≥ 0; losses that are not finite have no moments")
    if bool(((mean == 0) & (var > 0)).any()):
        raise ValueError("a mean of 0 has no relative error; leave those samples out: mean != 0")
    z = float(torch.special.ndtri(torch.tensor((1 + confidence) / 2, dtype=torch.float64)))
    relative = torch.where(var > 0, var.sqrt() / mean.abs(), 0.0)  # squares of tiny means are 0
    return (z / rtol * relative).square().ceil().clamp(1, _MOST).to(torch.int64)


def saliency_alignment(
    model: nn.Module,
    images: Tensor,
    target: Tensor,
    augment: AugmentLike,
    *,
    criterion: Criterion | None = None,
    nodes: int = NODES,
    draws: int | None = None,
    seed: int = 0,
    memory: int = MEMORY,
) -> Tensor:
    """How much of the loss's gradient lies in the direction that the augmentation changes most: (B,) in [0, 1].

    gᵀΣg / (λ_max |g|²) with g the gradient at the mean image: 1 when all of it lies along Σ's largest eigenvector, 0
    when it lies where the augmentation changes nothing (or where the gradient is 0). A gradient in a random direction
    has tr Σ / (C·H·W · λ_max) on average. Arguments: as for `loss_moments`.
    """
    found = source(augment, images, nodes, memory, draws, seed)
    return _alignment(model, _rows(criterion), found, augment, checked_target(target, images))[0]


@dataclass(frozen=True)
class Report:
    """What an augmentation does to a model over a dataset, per sample (n,).

    mean, variance: of the loss. alignment: see `saliency_alignment`; chance: what a random direction would have.
    """

    mean: Tensor
    variance: Tensor
    alignment: Tensor
    chance: Tensor

    def deviation(self) -> Tensor:
        """The standard deviation of each sample's loss: (n,), what `smartaug.coreset.AugmentationVariance` takes."""
        return self.variance.sqrt()

    def samples(self, rtol: float = 0.01, confidence: float = 0.95) -> Tensor:
        """Number of draws that estimate each sample's mean loss: (n,) int64; see `samples_needed`."""
        return samples_needed(self.mean, self.variance, rtol, confidence)

    def samples_for_the_mean(self, rtol: float = 0.01, confidence: float = 0.95) -> int:
        """Number of draws in all that estimate the dataset's mean loss, every sample being drawn equally often."""
        return int(samples_needed(self.mean.mean()[None], self.variance.mean()[None], rtol, confidence))

    def __str__(self) -> str:
        def spread(values: Tensor, form: str) -> str:
            quartiles = values.double().quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)).tolist()
            return " / ".join(format(value, form) for value in quartiles)

        if not len(self.mean):
            return "no samples"
        chance = f"{self.chance.double().median():.3f}"
        rows = [
            (f"{len(self.mean)} samples", "quartiles"),
            ("loss under augmentation", spread(self.mean, ".3g")),
            ("its standard deviation", spread(self.deviation(), ".3g")),
            ("draws for 1 % of it", spread(self.samples(), ",.0f")),
            ("draws for 1 % of the dataset's mean loss", f"{self.samples_for_the_mean():,}"),
            ("saliency alignment", f"{spread(self.alignment, '.3f')} (a random direction: {chance})"),
        ]
        return words_table(rows)


def report(
    model: nn.Module,
    criterion: Criterion | None,
    batches: Iterable[tuple[Tensor, Tensor]],
    augment: AugmentLike,
    *,
    nodes: int = NODES,
    draws: int | None = None,
    seed: int = 0,
    memory: int = MEMORY,
) -> Report:
    """`loss_moments` and `saliency_alignment` over a dataset: ``batches`` of (images, target), in the dataset's order.

    Everything is kept on the CPU, four numbers a sample. Arguments: as for `loss_moments`.
    """
    parts: list[tuple[Tensor, ...]] = []
    rows = _rows(criterion)
    for images, target in batches:
        found = source(augment, images, nodes, memory, draws, seed + len(parts))
        target = checked_target(target, images)
        mean, variance = _summary(_losses(model, rows, found, target), found)
        parts.append(tuple(part.cpu() for part in (mean, variance, *_alignment(model, rows, found, augment, target))))
    if not parts:
        return Report(*(torch.empty(0) for _ in range(4)))
    return Report(*(torch.cat(part) for part in zip(*parts, strict=True)))


# --- inside ----------------------------------------------------------------------------------------------------------


def _rows(criterion: Criterion | None) -> Callable[[Tensor, Tensor], Tensor]:
    """``(logits, target) -> losses (B,)``."""
    if criterion is None:
        return cross_entropy
    return (criterion if isinstance(criterion, Loss) else Loss(criterion)).rows


def cross_entropy(raw: Tensor, target: Tensor) -> Tensor:
    """Cross entropy (B,) of logits (B, K), (B, 1) or (B,): the loss where criterion is None."""
    z = columns(raw)
    return -(distributions(plain_target(target), z.shape[1]).to(z.dtype) * z.log_softmax(1)).sum(1)


def plain_target(target: Tensor) -> Tensor:
    """The target as a plain tensor: the soft labels of a `Target` that has some."""
    if not isinstance(target, Target):
        return target
    return target.plain if target._soft is None else target._soft


def checked_target(target: Tensor, images: Tensor) -> Tensor:
    """The target where the images are; a ValueError unless there is one row an image."""
    if not isinstance(target, Tensor) or target.ndim == 0 or len(target) != len(images):
        shape = tuple(target.shape) if isinstance(target, Tensor) else type(target).__name__
        raise ValueError(f"target must be a tensor with one row for each of the {len(images)} images, got {shape}")
    return target.to(images.device)


def _fitting(rows: Callable[[Tensor, Tensor], Tensor], logits: Tensor, target: Tensor) -> Tensor:
    """The losses (B,); errors of the criterion are raised as a ValueError about the model's outputs and the target."""
    if target.ndim == 2 and logits.ndim == 2 and target.shape[1] != logits.shape[1] and target.shape[1] > 1:
        raise ValueError(
            f"the target has {target.shape[1]} classes and the model {logits.shape[1]} outputs; give them as many"
        )
    try:
        return rows(logits, target)
    except (IndexError, RuntimeError) as error:
        raise ValueError(
            f"the criterion cannot compare the model's outputs {tuple(logits.shape)} with a target of "
            f"{str(target.dtype)[6:]} {tuple(target.shape)}: {error}; use data with the training classes"
        ) from error


def _losses(model: nn.Module, rows: Callable[[Tensor, Tensor], Tensor], found: Source, target: Tensor) -> Tensor:
    """Losses (B, S) of all images at all nodes, in float64 on the CPU or float32 or wider elsewhere."""
    dtype = torch.float64 if found.images.device.type in ("cpu", "cuda") else torch.float32
    made = torch.empty(len(found.images), len(found), dtype=dtype, device=found.images.device)
    width = max(1, found.images[:1].numel()) * 4 * 32  # a model keeps many times its input
    for first, last in found.chunks(width):
        for block, images in found.blocks(first, last):
            flat = images.flatten(0, 1)
            refuse_bytes(flat.dtype == torch.uint8)
            per = max(1, found.memory // width)
            labels = target[first:last].repeat_interleave(images.shape[1], 0)
            for start in range(0, len(flat), per):
                part = slice(start, start + per)
                logits = grads.outputs(model, flat[part])
                losses = _fitting(rows, logits, labels[part])
                _put(made, first, block, start, images.shape[1], losses)
    _refuse_not_finite(made, found)
    return made


def _summary(losses: Tensor, found: Source) -> tuple[Tensor, Tensor]:
    """Mean and variance (B,) of losses (B, S); unbiased where the versions were drawn."""
    weights = found.weights.to(losses)
    mean = losses @ weights
    variance = (losses - mean[:, None]).square() @ weights
    return mean, variance * (len(found) / (len(found) - 1)) if found.drawn else variance


def _put(made: Tensor, first: int, block: slice, start: int, wide: int, losses: Tensor) -> None:
    """Write losses of rows ``start`` on of the block, images outer and versions inner, into (B, S)."""
    place = torch.arange(start, start + len(losses), device=made.device)
    made[first + place // wide, block.start + place % wide] = losses.to(made.dtype)


def refuse_bytes(uint8: bool) -> None:
    """Raise a TypeError for uint8 images, which models do not take."""
    if uint8:
        raise TypeError(
            "the model would get uint8 images; end the augmentation with smartaug.Normalize(mean, std), or pass "
            "images.float() / 255"
        )


def _refuse_not_finite(losses: Tensor, found: Source) -> None:
    wrong = ~torch.isfinite(losses)
    if bool(wrong.any()):
        sample, version = (int(place) for place in wrong.nonzero()[0])
        raise ValueError(
            f"the loss of samples {wrong.any(1).nonzero().flatten().tolist()[:16]} is not finite, as of sample "
            f"{sample} under {found.describe(version)!r}; look at the model's outputs there"
        )


def _gradient(
    model: nn.Module, moments: Moments, rows: Callable[[Tensor, Tensor], Tensor], target: Tensor
) -> tuple[Tensor, Tensor]:
    """Losses (B,) and their gradients (B, C, H, W) at the mean images."""
    mean = moments.mean
    parameter = next((part for part in model.parameters() if part.is_floating_point()), None)
    at = mean if parameter is None else mean.to(parameter.dtype)
    losses, gradient = grads.input_gradients(model, at, lambda logits: _fitting(rows, logits, target))
    if not bool(torch.isfinite(losses).all()) or not bool(torch.isfinite(gradient).all()):
        raise ValueError("the loss or its gradient at the mean image is not finite; look at the model's outputs there")
    return losses.to(mean.dtype), gradient.to(mean.dtype)


def _alignment(
    model: nn.Module, rows: Callable[[Tensor, Tensor], Tensor], found: Source, augment: AugmentLike, target: Tensor
) -> tuple[Tensor, Tensor]:
    """gᵀΣg / (λ_max |g|²) and tr Σ / (D λ_max), both (B,), 0 where Σ or g is 0."""
    moments = summed(found, augment, torch.float64 if found.images.dtype == torch.float64 else torch.float32)
    refuse_bytes(moments.uint8)
    _, gradient = _gradient(model, moments, rows, target)
    largest = moments.top(1)[0][:, 0]
    energy = (gradient * moments.covariance_matvec(gradient)).flatten(1).sum(1)
    whole = largest * gradient.flatten(1).square().sum(1)
    tiny = torch.finfo(largest.dtype).tiny
    aligned = torch.where(whole > 0, energy / whole.clamp_min(tiny), 0.0).clamp(0, 1)
    wide = largest * max(1, gradient[:1].numel())
    return aligned, torch.where(wide > 0, moments.trace() / wide.clamp_min(tiny), 0.0)
