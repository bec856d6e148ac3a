"""Affine resampling with torch: one gather per tap, coordinates in float32 as `plan.Warp` fixes them.

uint8 is interpolated with integer weights of 1/2048, so that every backend gives the same bytes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..plan import Warp

WEIGHT_BITS = 11


def warp(images: Tensor, how: Warp, matrix: Tensor, bounds: Tensor | None) -> Tensor:
    """Images (n, C, H, W) resampled by matrix (n, 2, 3) to (n, C, *how.size)."""
    if images.numel() == 0:
        return images.new_empty(*images.shape[:2], *how.size)
    if how.grid:
        return _rearranged(images, how, matrix)
    x, y = _coordinates(matrix.float(), how.size)
    if bounds is not None:
        low_x, high_x, low_y, high_y = bounds.float()[:, :, None, None].unbind(1)
        x, y = torch.clamp(x, low_x, high_x), torch.clamp(y, low_y, high_y)
    if how.interpolation == "nearest":
        rows, columns = (y + 0.5).floor_().long(), (x + 0.5).floor_().long()
        return _tap(images, how, rows, columns)
    left, top = x.floor(), y.floor()
    across, down = (x - left)[:, None], (y - top)[:, None]
    columns, rows = left.long(), top.long()
    taps = [_tap(images, how, rows + dy, columns + dx) for dy in (0, 1) for dx in (0, 1)]
    if images.dtype == torch.uint8:
        one = 1 << WEIGHT_BITS
        across, down = ((weight * one + 0.5).to(torch.int32) for weight in (across, down))
        upper, lower = (a.int() * (one - across) + b.int() * across for a, b in (taps[:2], taps[2:]))
        mixed = upper * (one - down) + lower * down + (1 << (2 * WEIGHT_BITS - 1))
        return (mixed >> (2 * WEIGHT_BITS)).to(torch.uint8)
    work = torch.promote_types(images.dtype, torch.float32)
    across, down = across.to(work), down.to(work)
    upper, lower = (torch.lerp(a.to(work), b.to(work), across) for a, b in (taps[:2], taps[2:]))
    return torch.lerp(upper, lower, down).to(images.dtype)


def _coordinates(matrix: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Where each output pixel reads: x and y, (n, h, w) float32 each."""
    across = torch.arange(size[1], device=matrix.device, dtype=torch.float32)
    down = torch.arange(size[0], device=matrix.device, dtype=torch.float32)[:, None]
    m = matrix[..., None, None]
    x = m[:, 0, 0] * across + (m[:, 0, 1] * down + m[:, 0, 2])
    y = m[:, 1, 0] * across + (m[:, 1, 1] * down + m[:, 1, 2])
    return x, y


def _tap(images: Tensor, how: Warp, rows: Tensor, columns: Tensor) -> Tensor:
    """The pixels at rows and columns (n, h, w) int64, or what ``how`` puts outside."""
    count, channels, height, width = images.shape
    rows, rows_in = within(rows, height, how.padding)
    columns, columns_in = within(columns, width, how.padding)
    flat = (rows * width + columns).flatten(1)
    taken = images.flatten(2).gather(2, flat[:, None].expand(-1, channels, -1)).view(count, channels, *rows.shape[1:])
    if how.inside or how.padding != "constant":
        return taken
    fill = torch.tensor(how.fill, dtype=torch.float64)
    fill = (fill.round() if images.dtype == torch.uint8 else fill).to(images.dtype)
    fill = fill.to(images.device, non_blocking=True)[None, :, None, None]
    return torch.where((rows_in & columns_in)[:, None], taken, fill)


def _rearranged(images: Tensor, how: Warp, matrix: Tensor) -> Tensor:
    """Flips and integer shifts: rows and columns are looked up separately, then every pixel in one gather."""
    x = torch.arange(how.size[1], device=images.device, dtype=torch.float64)
    y = torch.arange(how.size[0], device=images.device, dtype=torch.float64)
    columns = (matrix[:, 0, 0, None] * x + matrix[:, 0, 2, None]).round().long()[:, None, :]
    rows = (matrix[:, 1, 1, None] * y + matrix[:, 1, 2, None]).round().long()[:, :, None]
    return _tap(images, how, rows.expand(-1, -1, how.size[1]), columns.expand(-1, how.size[0], -1))


def within(position: Tensor, length: int, padding: str) -> tuple[Tensor, Tensor]:
    """Positions brought into 0..length-1 as ``padding`` says, and whether each was there already."""
    seen = (position >= 0) & (position < length)
    if padding == "reflect":
        period = max(1, 2 * (length - 1))
        position = (length - 1) - ((position % period) - (length - 1)).abs()
    elif padding == "symmetric":
        position = position % (2 * length)
        position = torch.minimum(position, 2 * length - 1 - position)
    return position.clamp(0, max(0, length - 1)), seen
