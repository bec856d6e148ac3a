"""Slow, obvious twins of the moments: every transform in a loop, every covariance multiplied out."""

import math

import torch
import torch.nn.functional as F


def photographs(size=8):
    """Two crops (2, 3, size, size) uint8 of scikit-learn's photographs."""
    from sklearn.datasets import load_sample_images

    photos = [torch.tensor(photo).permute(2, 0, 1) for photo in load_sample_images().images]
    crops = [photo[:, top : top + size, 300 : 300 + size] for photo, top in zip(photos, (150, 220), strict=True)]
    return torch.stack(crops)


def weighted(versions, weights):
    """Mean (C, H, W) and full covariance (D, D) of versions (S, C, H, W), float64."""
    mean = sum(w * version.double() for w, version in zip(weights, versions, strict=True))
    covariance = sum(
        w * torch.outer(apart, apart)
        for w, apart in ((w, (v.double() - mean).flatten()) for w, v in zip(weights, versions, strict=True))
    )
    return mean, covariance


def pad_crops(image, padding, p_flip=0.0, fill=0.0):
    """All windows of a padded image, as they are and mirrored: (versions, probabilities)."""
    height, width = image.shape[1:]
    padded = F.pad(image - fill, (padding,) * 4) + fill if image.is_floating_point() else F.pad(image, (padding,) * 4)
    versions, weights = [], []
    places = (2 * padding + 1) ** 2
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            window = padded[:, top : top + height, left : left + width]
            versions += [window, window.flip(2)]
            weights += [(1 - p_flip) / places, p_flip / places]
    return versions, weights


def shifted_mean(image, padding):
    """The mean over shifts as a convolution with the distribution of shifts, written out."""
    side = 2 * padding + 1
    kernel = torch.full((1, 1, side, side), 1.0 / side**2, dtype=torch.float64)
    return F.conv2d(image.double()[:, None], kernel, padding=padding)[:, 0]


def radial_mean(image, steps=720):
    """A grey image (H, W) averaged over full turns about its centre, by bilinear samples on each pixel's circle."""
    height, width = image.shape
    y, x = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    cy, cx = (height - 1) / 2, (width - 1) / 2
    total = torch.zeros(height, width, dtype=torch.float64)
    radius, start = torch.hypot(y - cy, x - cx), torch.atan2(y - cy, x - cx)
    for step in range(steps):
        angle = start + 2 * math.pi * (step + 0.5) / steps
        grid = torch.stack(
            [2 * (cx + radius * angle.cos()) / (width - 1) - 1, 2 * (cy + radius * angle.sin()) / (height - 1) - 1], -1
        )
        total += F.grid_sample(image.double()[None, None], grid[None], align_corners=True)[0, 0]
    return total / steps


def expected_loss(loss, versions, weights):
    """Σ_s p_s loss(versions_s): the batch's loss for every transform in turn, all its images under that one."""
    return sum(weight * loss(version) for version, weight in zip(versions, weights, strict=True))


def second_order(loss, logits, weights):
    """loss(z̄) + ½ Σ_s p_s (z_s − z̄)ᵀ H (z_s − z̄) of logits (S, B, K), H the Hessian of the batch's loss, whole."""
    mean = sum(weight * z for weight, z in zip(weights, logits, strict=True))
    hessian = torch.autograd.functional.hessian(loss, mean).reshape(mean.numel(), mean.numel())
    apart = [(z - mean).flatten() for z in logits]
    return loss(mean) + 0.5 * sum(weight * away @ hessian @ away for weight, away in zip(weights, apart, strict=True))
