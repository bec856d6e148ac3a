"""Affine resampling with torch: one gather per tap, coordinates as `plan.Warp` fixes them.

Coordinates are integers in units of 2**-32 pixels, and uint8 is interpolated with integer weights of 1/2048, so that
every backend gives the same bytes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...plan import Warp
from ...projection import Projection, mapped
from ..tables import cubic
from ..tables.coordinates import ONE as ONE

WEIGHT_BITS = 11
_FAR = 1 << 29  # pixels: further away than any image reaches, and an int64 in these units
LARGE = 1 << 15  # values of a sample from which one slice copied after the other beats one indexed copy for all


def warp(images: Tensor, how: Warp, matrix: Tensor, bounds: Tensor | None) -> Tensor:
    """Images (n, C, H, W) resampled by matrix (n, 2, 3) to (n, C, *how.size)."""
    if images.numel() == 0:
        return images.new_empty(*images.shape[:2], *how.size)
    # from here on integers, whose sums are exact: floats would differ between devices at ties of two pixels
    fixed = (matrix * ONE).round_().long()
    if how.grid:
        return _rearranged(images, how, fixed)
    x, y = _coordinates(fixed, how.size)
    if bounds is not None:
        low_x, high_x, low_y, high_y = (bounds * ONE).long()[:, :, None, None].unbind(1)
        x, y = torch.clamp(x, low_x, high_x), torch.clamp(y, low_y, high_y)
    return _sampled(images, how, x, y)


def projected(images: Tensor, how: Projection, matrix: Tensor) -> Tensor:
    """Images (n, C, H, W) resampled by the projective maps matrix (n, 3, 3) to (n, C, *how.size)."""
    if images.numel() == 0:
        return images.new_empty(*images.shape[:2], *how.size)
    across = torch.arange(how.size[1], dtype=torch.float64, device=images.device).expand(how.size)
    down = torch.arange(how.size[0], dtype=torch.float64, device=images.device)[:, None].expand(how.size)
    places, before = mapped(matrix, torch.stack([across, down], -1).expand(len(images), -1, -1, -1))
    places = torch.where(before[..., None], places, -float(_FAR)).clamp_(-_FAR, _FAR)
    x, y = (places * ONE).round_().long().unbind(-1)
    return _sampled(images, Warp(matrix, how.size, how.interpolation, how.fill), x, y)


def _sampled(images: Tensor, how: Warp, x: Tensor, y: Tensor) -> Tensor:
    """Images (n, C, H, W) at x and y (n, h, w) int64 in units of 2**-32 pixels, which are written over."""
    if how.interpolation == "nearest":
        half = ONE // 2
        return _looked_up(images, how, y.add_(half).bitwise_right_shift_(32), x.add_(half).bitwise_right_shift_(32))[0]
    if how.interpolation == "bicubic":
        return _cubic(images, how, x, y)
    left, top = x >> 32, y >> 32
    across, down = (x & (ONE - 1))[:, None], (y & (ONE - 1))[:, None]
    taps = _looked_up(images, how, top, left, 2)
    if images.dtype == torch.uint8:
        one, drop = 1 << WEIGHT_BITS, 32 - WEIGHT_BITS
        # weights rounded to 11 bits: 255 · 2**22 is the largest product with two of them, and fits into int32
        across, down = (((weight + (1 << (drop - 1))) >> drop).int() for weight in (across, down))
        upper, lower = (a.int() * (one - across) + b.int() * across for a, b in (taps[:2], taps[2:]))
        mixed = upper * (one - down) + lower * down + (1 << (2 * WEIGHT_BITS - 1))
        return (mixed >> (2 * WEIGHT_BITS)).to(torch.uint8)
    work = torch.promote_types(images.dtype, torch.float32)
    across, down = across.to(work) / ONE, down.to(work) / ONE
    upper, lower = (torch.lerp(a.to(work), b.to(work), across) for a, b in (taps[:2], taps[2:]))
    return torch.lerp(upper, lower, down).to(images.dtype)


def _cubic(images: Tensor, how: Warp, x: Tensor, y: Tensor) -> Tensor:
    """PIL's bicubic from 4 × 4 pixels, at x and y (n, h, w) int64 in units of 2**-32 pixels."""
    taps = _looked_up(images, how, (y >> 32) - 1, (x >> 32) - 1, 4)
    exact = images.dtype == torch.uint8
    work = torch.int32 if exact else torch.promote_types(images.dtype, torch.float32)
    across, down = (_cubic_weights(position & (ONE - 1), exact, work) for position in (x, y))
    mixed: Any = 0
    for n, weight in enumerate(down):
        mixed = mixed + weight * sum(a * tap.to(work) for a, tap in zip(across, taps[4 * n : 4 * n + 4], strict=True))
    if exact:
        rounded = (mixed + (1 << (2 * cubic.BITS - 1))) >> (2 * cubic.BITS)
        return rounded.clamp_(0, 255).to(torch.uint8)
    return mixed.to(images.dtype)


def _cubic_weights(fraction: Tensor, exact: bool, work: torch.dtype) -> tuple[Tensor, ...]:
    """Four weights (n, 1, h, w), for fractions (n, h, w) of 2**32: integers of 1/1024 for uint8, floats otherwise."""
    if exact:
        drop = 32 - cubic.BITS
        table = torch.from_numpy(cubic.table()).to(fraction.device, non_blocking=True)
        return table[(fraction + (1 << (drop - 1))) >> drop][:, None].unbind(-1)
    d = (fraction.to(work) / ONE)[:, None]
    return -d + 2 * d**2 - d**3, 1 - 2 * d**2 + d**3, d + d**2 - d**3, d**3 - d**2


def _coordinates(fixed: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Where each output pixel reads: x and y, (n, h, w) int64 in units of 2**-32 pixels."""
    across = torch.arange(size[1], device=fixed.device)
    down = torch.arange(size[0], device=fixed.device)[:, None]
    m = fixed[..., None, None]
    x = m[:, 0, 0] * across + (m[:, 0, 1] * down + m[:, 0, 2])
    y = m[:, 1, 0] * across + (m[:, 1, 1] * down + m[:, 1, 2])
    return x, y


def _tap(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The pixels of images (n, C, H, W) at rows and columns (n, h, w) int64."""
    flat = (rows * images.shape[3] + columns).flatten(1)
    taken = images.flatten(2).gather(2, flat[:, None].expand(-1, images.shape[1], -1))
    return taken.view(*images.shape[:2], *rows.shape[1:])


def _looked_up(images: Tensor, how: Warp, rows: Tensor, columns: Tensor, taps: int = 1) -> list[Tensor]:
    """The pixels at rows and columns (n, h, w) int64, and where taps is 2 the next ones right, below and beyond.

    A constant outside is a frame of one pixel around the image that everything outside is clamped to.
    """
    height, width = images.shape[2:]
    if how.padding == "constant" and not how.inside:
        framed = images.new_empty(*images.shape[:2], height + 2, width + 2)
        fill = _fill(how, images)
        framed[:, :, :: height + 1], framed[:, :, :, :: width + 1] = fill, fill
        framed[:, :, 1:-1, 1:-1] = images
        # one pixel of fill around the image: whatever lies outside is clamped to it, and needs no mask
        below = [(rows + (1 + step)).clamp_(0, height + 1) for step in range(taps)]
        right = [(columns + (1 + step)).clamp_(0, width + 1) for step in range(taps)]
        return [_tap(framed, row, column) for row in below for column in right]
    below = [within(rows + step, height, how.padding) for step in range(taps)]
    right = [within(columns + step, width, how.padding) for step in range(taps)]
    return [_tap(images, row, column) for row in below for column in right]


def _rearranged(images: Tensor, how: Warp, fixed: Tensor) -> Tensor:
    """Flips and integer shifts: rows and columns are looked up separately, then every pixel in one gather."""
    half = ONE // 2
    x, y = (torch.arange(length, device=images.device) for length in (how.size[1], how.size[0]))
    columns = ((fixed[:, 0, 0, None] * x + (fixed[:, 0, 2, None] + half)) >> 32)[:, None, :]
    rows = ((fixed[:, 1, 1, None] * y + (fixed[:, 1, 2, None] + half)) >> 32)[:, :, None]
    return _looked_up(images, how, rows.expand(-1, -1, how.size[1]), columns.expand(-1, how.size[0], -1))[0]


def shifts(images: Tensor, how: Warp) -> list[list[int]] | None:
    """Six integers a sample where a warp of large samples on the CPU only flips and shifts whole pixels, or None."""
    if not how.grid or how.active is not None or how.padding != "constant":
        return None
    if images.device.type != "cpu" or images[:1].numel() < LARGE:
        return None
    maps = (how.matrix * ONE).round_().long().flatten(1).tolist()
    return maps if all((abs(a), b, c, abs(d)) == (ONE, 0, 0, ONE) for a, b, _, c, d, _ in maps) else None


def shifted(images: Tensor, how: Warp, maps: list[list[int]], out: Tensor) -> None:
    """Warp by ``maps`` (see `shifts`): a slice of each sample is copied to ``out``, the rest filled."""
    fill = _fill(how, images)[0]
    for image, result, (a, _, left, _, d, top) in zip(images, out, maps, strict=True):
        rows, columns = (
            _overlap(step, (start + ONE // 2) >> 32, length, count)
            for step, start, length, count in zip((d, a), (top, left), image.shape[1:], how.size, strict=True)
        )
        mirrored = [axis for axis, step in ((1, d), (2, a)) if step < 0]
        part = image[:, rows[1], columns[1]]
        if part.shape[1:] != how.size:
            result.copy_(fill.expand_as(result))
        result[:, rows[0], columns[0]] = part.flip(mirrored) if mirrored else part


def _overlap(step: int, start: int, length: int, count: int) -> tuple[slice, slice]:
    """Which of ``count`` places read inside 0..length-1, and what: place x reads start + x, or start - x (step < 0)."""
    if step > 0:
        low, high = max(0, -start), min(count, length - start)
        read = slice(start + low, start + max(low, high))
    else:
        low, high = max(0, start - length + 1), min(count, start + 1)
        read = slice(start + 1 - max(low, high), start + 1 - low)
    return (slice(low, high), read) if low < high else (slice(0, 0), slice(0, 0))


def _fill(how: Warp, images: Tensor) -> Tensor:
    """The fill as (1, C or 1, 1, 1) beside the images; rounded for uint8."""
    fill = torch.tensor(how.fill, dtype=torch.float64)
    fill = (fill.round() if images.dtype == torch.uint8 else fill).to(images.dtype)
    return fill.to(images.device, non_blocking=True)[None, :, None, None]


def within(position: Tensor, length: int, padding: str) -> Tensor:
    """Positions brought into 0..length-1 as ``padding`` says; "constant" and "edge" clamp."""
    if padding == "reflect":
        period = max(1, 2 * (length - 1))
        position = (length - 1) - ((position % period) - (length - 1)).abs()
    elif padding == "symmetric":
        position = position % (2 * length)
        position = torch.minimum(position, 2 * length - 1 - position)
    return position.clamp(0, max(0, length - 1))
