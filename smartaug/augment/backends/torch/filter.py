"""Neighbourhood filters with torch: part (n, C, H, W) uint8 or float and amount (n, 1, 1, 1) to the same shape."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .warp import within


def sharpness(part: Tensor, factor: Tensor) -> Tensor:
    """factor · x + (1 − factor) · s, s the 3×3 mean with weight 5 in the middle; the outermost pixels stay.

    Reference: torchvision's adjust_sharpness. Images of fewer than three rows or columns stay as they are.
    """
    height, width = part.shape[2:]
    if height <= 2 or width <= 2:
        return part
    whole = part.to(torch.int16) if part.dtype == torch.uint8 else part
    inner = whole[:, :, 1:-1, 1:-1]
    rows = whole[:, :, :-2] + whole[:, :, 1:-1] + whole[:, :, 2:]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * inner
    out = part.clone()
    if part.dtype == torch.uint8:
        # rounded to the nearest: n/13 is never nearer than 1/26 to a half, so the float32 product rounds as n/13 does
        smooth = total.float().mul_(1 / 13).add_(0.5).floor_()
        inner = inner.float()
        sharp = smooth.sub_(inner).mul_(1.0 - factor).add_(inner).clamp_(0.0, 255.0)
    else:
        sharp = (inner + (1.0 - factor.to(part.dtype)) * (total / 13.0 - inner)).clamp_(0.0, 1.0)
    out[:, :, 1:-1, 1:-1] = sharp
    return out


def gaussian_weights(sigma: Tensor, size: int) -> Tensor:
    """Normalised weights (n, size) float32 of a window of ``size`` pixels for sigma (n,) in pixels."""
    offset = torch.arange(size, device=sigma.device, dtype=torch.float32) - (size - 1) / 2
    weights = torch.exp(-0.5 * (offset / sigma.float()[:, None]).square())
    return weights / weights.sum(1, keepdim=True)


def gaussian_blur(part: Tensor, sigma: Tensor, kernel_size: tuple[int, int]) -> Tensor:
    """Separable Gaussian blur with a reflected border. Reference: torchvision's gaussian_blur."""
    count, channels, height, width = part.shape
    tall, wide = kernel_size
    work = part.float() if part.dtype == torch.uint8 else part
    planes = work.reshape(1, count * channels, height, width)
    for axis, length, margin in ((2, height, tall // 2), (3, width, wide // 2)):
        line = torch.arange(-margin, length + margin, device=part.device)
        planes = planes.index_select(axis, within(line, length, "reflect"))
    for size, shape in ((tall, (tall, 1)), (wide, (1, wide))):
        weights = gaussian_weights(sigma.flatten(), size).to(work.dtype).repeat_interleave(channels, 0)
        planes = functional.conv2d(planes, weights.view(-1, 1, *shape), groups=count * channels)
    blurred = planes.view(count, channels, height, width)
    return blurred.round_().clamp_(0, 255).to(torch.uint8) if part.dtype == torch.uint8 else blurred
