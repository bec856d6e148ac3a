"""Affine resampling with torch: one gather per tap, coordinates as `plan.Warp` fixes them.

Coordinates are integers in units of 2**-32 pixels, and uint8 is interpolated with integer weights of 1/2048, so that
every backend gives the same bytes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..plan import Warp

ONE = 1 << 32  # coordinates are integers in units of 2**-32 pixels
WEIGHT_BITS = 11


def warp(images: Tensor, how: Warp, matrix: Tensor, bounds: Tensor | None) -> Tensor:
    """Images (n, C, H, W) resampled by matrix (n, 2, 3) to (n, C, *how.size)."""
    if images.numel() == 0:
        return images.new_empty(*images.shape[:2], *how.size)
    fixed = (matrix * ONE).round_().long()
    if how.grid:
        return _rearranged(images, how, fixed)
    x, y = _coordinates(fixed, how.size)
    if bounds is not None:
        low_x, high_x, low_y, high_y = (bounds * ONE).long()[:, :, None, None].unbind(1)
        x, y = torch.clamp(x, low_x, high_x), torch.clamp(y, low_y, high_y)
    if how.interpolation == "nearest":
        half = ONE // 2
        return _tap(images, how, y.add_(half).bitwise_right_shift_(32), x.add_(half).bitwise_right_shift_(32))
    left, top = x >> 32, y >> 32
    across, down = (x & (ONE - 1))[:, None], (y & (ONE - 1))[:, None]
    taps = [_tap(images, how, top + dy, left + dx) for dy in (0, 1) for dx in (0, 1)]
    if images.dtype == torch.uint8:
        one, drop = 1 << WEIGHT_BITS, 32 - WEIGHT_BITS
        across, down = (((weight + (1 << (drop - 1))) >> drop).int() for weight in (across, down))
        upper, lower = (a.int() * (one - across) + b.int() * across for a, b in (taps[:2], taps[2:]))
        mixed = upper * (one - down) + lower * down + (1 << (2 * WEIGHT_BITS - 1))
        return (mixed >> (2 * WEIGHT_BITS)).to(torch.uint8)
    work = torch.promote_types(images.dtype, torch.float32)
    across, down = across.to(work) / ONE, down.to(work) / ONE
    upper, lower = (torch.lerp(a.to(work), b.to(work), across) for a, b in (taps[:2], taps[2:]))
    return torch.lerp(upper, lower, down).to(images.dtype)


def _coordinates(fixed: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Where each output pixel reads: x and y, (n, h, w) int64 in units of 2**-32 pixels."""
    across = torch.arange(size[1], device=fixed.device)
    down = torch.arange(size[0], device=fixed.device)[:, None]
    m = fixed[..., None, None]
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


def _rearranged(images: Tensor, how: Warp, fixed: Tensor) -> Tensor:
    """Flips and integer shifts: rows and columns are looked up separately, then every pixel in one gather."""
    half = ONE // 2
    x, y = (torch.arange(length, device=images.device) for length in (how.size[1], how.size[0]))
    columns = ((fixed[:, 0, 0, None] * x + (fixed[:, 0, 2, None] + half)) >> 32)[:, None, :]
    rows = ((fixed[:, 1, 1, None] * y + (fixed[:, 1, 2, None] + half)) >> 32)[:, :, None]
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
