"""Training on the expected loss instead of samples: in closed form for linear models, as a regulariser for others.

For z = W x + b and squared error, with mean μ and covariance Σ = F Fᵀ of the augmented image,

    E ‖y − W T(x) − b‖² = ‖y − W μ − b‖² + ‖W F‖²_F,

so the minimiser over a dataset is W* = S_yμ (S_μμ + Σ_n Σ(x_n) + λ I)⁻¹, b* = ȳ − W* μ̄ (centred sums over the
dataset): ridge regression with the augmentation's own covariance as the ridge. For a network z = f(x) and a loss ℓ(z,
y) with Hessian H the second-order term is ½ tr(H J Σ Jᵀ), J the Jacobian of f at μ (the curvature of f itself left out,
as Gauss and Newton do); with Σ ≈ Σ_k v_k v_kᵀ it takes k Jacobian–vector products.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .. import grads
from ..batch import Target
from ..loss import Loss
from ..pipeline.losses.rows import Rows, joined, spread
from .image import Moments, of
from .loss import Criterion, checked_target, cross_entropy, plain_target, refuse_bytes
from .source import MEMORY, NODES, AugmentLike


def ridge(
    images: Tensor,
    target: Tensor,
    augment: AugmentLike,
    *,
    penalty: float = 0.0,
    nodes: int = NODES,
    draws: int | None = None,
    seed: int = 0,
    memory: int = MEMORY,
) -> tuple[Tensor, Tensor]:
    """The linear model of least expected squared error under ``augment``: weight (K, D) and bias (K,), float64.

    images: (n, C, H, W), D = C·H·W after the augmentation; the model is ``weight @ image.flatten() + bias``. target:
    (n, K) or (n,) numbers. penalty: λ ≥ 0, added to the diagonal. It is the limit of least squares on infinitely many
    augmented copies. Raises MemoryError when D × D float64 exceeds ``memory``, ValueError where the system is singular
    (two pixels that always agree, fewer samples than D without augmentation): give a penalty.
    """
    if not penalty >= 0:
        raise ValueError(f"penalty must be ≥ 0, got {penalty!r}")
    if not len(images):
        raise ValueError("ridge needs at least one sample, got 0")
    y = plain_target(checked_target(target, images)).double().reshape(len(images), -1)
    settings: dict[str, Any] = {"nodes": nodes, "draws": draws, "memory": memory, "dtype": torch.float64}
    width = of(augment, images[:1], **settings).mean[0].numel()
    if width * width * 8 > memory:
        raise MemoryError(
            f"ridge solves a system of {width}×{width} float64, {width * width * 8:,} bytes, and memory is {memory:,}; "
            "take smaller images, or pass memory="
        )
    second = torch.zeros(width, width, dtype=torch.float64, device=images.device)
    means = []
    per = max(1, memory // (8 * 16 * width))
    for start in range(0, len(images), per):
        moments = of(augment, images[start : start + per], seed=seed + start, **settings)
        means.append(moments.mean.flatten(1))
        for block in moments.blocks():
            columns = block.flatten(2).flatten(0, 1)
            second += columns.T @ columns
    mu = torch.cat(means)
    centre, level = mu.mean(0), y.mean(0)
    second += (mu - centre).T @ (mu - centre)
    second.diagonal().add_(penalty)
    cross = (y - level).T @ (mu - centre)
    factor, failed = torch.linalg.cholesky_ex(second)
    lowest = factor.diagonal().amin() / factor.diagonal().amax().clamp_min(1e-300)
    if int(failed) or not float(lowest) > 1e-7:
        raise ValueError(
            f"the system of {width} unknowns is singular: {len(images)} samples and this augmentation leave directions "
            "free; pass penalty=1e-3 or more"
        )
    weight = torch.cholesky_solve(cross.T, factor).T
    return weight, level - weight @ centre


def squared_error(weight: Tensor, bias: Tensor, moments: Moments, target: Tensor) -> Tensor:
    """E ‖y − W T(x) − b‖² of each sample: (B,).

    weight (K, D), bias (K,), target (B, K) or (B,) numbers, moments of the B images.
    """
    mu = moments.mean.flatten(1)
    y = target.to(mu).reshape(len(mu), -1)
    total = (y - mu @ weight.T.to(mu) - bias.to(mu)).square().sum(1)
    for block in moments.blocks():
        total = total + (block.flatten(2) @ weight.T.to(mu)).square().sum((1, 2))
    return total


class ExpectedLoss(nn.Module):
    """The expected loss without sampling: ``criterion = ExpectedLoss(nn.CrossEntropyLoss(), augment)``, then
    ``loss = criterion(model, images, target)`` on images that were not augmented.

    ℓ(f(μ), y) + ½ tr(H J Σ Jᵀ), joined over the batch as `smartaug.Loss` joins: with the criterion's class weights and
    ignored labels, and the weights and soft labels of a `Target`. criterion: a mean or sum over samples, as there
    (reduction="none" is taken for the mean); None: cross entropy. augment: as for `of`. rank: how many of Σ's largest
    eigen-directions to use, one Jacobian–vector product each; None: all columns of the factor (exact to second order,
    one product a transform). strength: factor of the second term. For squared error and a linear model with rank=None
    it is the expected loss itself. J is that of evaluation mode (batch statistics would couple the samples). For
    networks it is an approximation: transforms that move an edge by pixels are not small (see `loss_moments`).

    Cost: one pass for Σ's directions (give moments in place of images to make them once), rank + 1 forward passes.
    """

    def __init__(
        self,
        criterion: Criterion | None = None,
        augment: AugmentLike = None,
        *,
        rank: int | None = 4,
        strength: float = 1.0,
        nodes: int = NODES,
        memory: int = MEMORY,
    ) -> None:
        super().__init__()
        if rank is not None and (not isinstance(rank, int) or rank < 0):
            raise ValueError(f"rank must be an integer ≥ 0 or None, got {rank!r}; write rank=4")
        self.criterion, self.augment, self.rank, self.strength = criterion, augment, rank, strength
        self.nodes, self.memory = nodes, memory

    def forward(self, model: nn.Module, images: Tensor | Moments, target: Tensor) -> Tensor:
        """The scalar loss of ``images`` (B, C, H, W), or of their `Moments`, against ``target`` (B, ...).

        Raises TypeError where the augmentation leaves uint8 images, RuntimeError in `torch.inference_mode`.
        """
        if torch.is_inference_mode_enabled():
            raise RuntimeError(
                "ExpectedLoss takes derivatives, which torch.inference_mode() forbids; write torch.no_grad() "
                "(Lightning: Trainer(inference_mode=False))"
            )
        moments = images if isinstance(images, Moments) else self.moments(images)
        refuse_bytes(moments.uint8)
        mean = moments.mean
        target = checked_target(target, mean)
        parameter = next((part for part in model.parameters() if part.is_floating_point()), None)
        dtype = mean.dtype if parameter is None else parameter.dtype
        directions = [v.to(dtype) for v in self._directions(moments)] if self.strength else []
        pushed = [grads.push_inputs(model, mean.to(dtype), direction) for direction in directions]
        z = grads.call(model, mean.to(dtype))
        weight = target._weight if isinstance(target, Target) else None
        if weight is not None:  # a sample of weight 0 adds nothing, even where its loss is infinite
            z, *pushed = (torch.where(spread(weight, part).to(z.device) != 0, part, 0.0) for part in (z, *pushed))
        with torch.enable_grad():  # the curvature is a derivative: it is needed under no_grad as well
            at = z if z.requires_grad else z.detach().requires_grad_()
            rows = self._rows(at, target)
            if pushed:
                losses = rows.losses + 0.5 * self.strength * _curvature(rows.losses, at, pushed)
                rows = rows._replace(losses=losses)
        loss = joined(rows, torch.ones_like(rows.counts) if weight is None else weight)
        return loss if z.requires_grad else loss.detach()

    def moments(self, images: Tensor) -> Moments:
        """The moments of ``images`` under the augmentation, which `forward` takes in place of the images."""
        return of(self.augment, images, nodes=self.nodes, memory=self.memory)

    def _rows(self, z: Tensor, target: Tensor) -> Rows:
        """The losses (B,) of the samples at the logits z, and how they are joined."""
        if self.criterion is None:
            losses = cross_entropy(z, target)
            return Rows(losses, torch.ones_like(losses), "mean")
        whole = self.criterion if isinstance(self.criterion, Loss) else Loss(self.criterion)
        return whole.apart(z, target).by_sample()

    def _directions(self, moments: Moments) -> list[Tensor]:
        """Images v_k (B, C, H, W) with Σ ≈ Σ_k v_k v_kᵀ."""
        if self.rank is None:
            return [column for block in moments.blocks() for column in block.unbind(1)]
        count = min(self.rank, moments.size, moments.mean[:1].numel())
        if count == 0:
            return []
        values, vectors = moments.top(count)
        return list((vectors * values.sqrt()[:, :, None, None, None]).unbind(1))


def _curvature(losses: Tensor, z: Tensor, pushed: list[Tensor]) -> Tensor:
    """Σ_k t_kᵀ H t_k of each sample: (B,), H the Hessian of its loss in its logits; with the graph of z and t."""
    total = torch.zeros(len(z), dtype=z.dtype, device=z.device)
    (gradient,) = torch.autograd.grad(losses.sum(), z, create_graph=True)
    if not gradient.requires_grad:  # a loss that is linear in the logits
        return total
    for tangent in pushed:
        (turned,) = torch.autograd.grad((gradient * tangent).sum(), z, create_graph=True, allow_unused=True)
        if turned is not None:
            total = total + (turned * tangent).reshape(len(z), -1).sum(1)
    return total
