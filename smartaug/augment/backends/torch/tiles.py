"""Parts of several samples put beside each other, and pixels of one put over another's."""

from __future__ import annotations

import torch
from torch import Tensor

from ...mixing import GREY, Paste, PasteObjects, Tiles, needs_masks
from ...plan import Warp
from . import warp as torch_warp


def tiled(images: Tensor, tiles: Tiles, owned: bool) -> Tensor:
    """Large samples on the CPU part by part; other batches whole, each part for all samples at once."""
    out = images.new_empty(len(images), images.shape[1], *tiles.size)
    out[:] = _fill(tiles, images)
    if images.numel() == 0 or out.numel() == 0:
        return out
    if images.device.type == "cpu" and images[:1].numel() >= torch_warp.LARGE:
        _one_by_one(images, tiles, out)
        return out
    boxes, row = (part.to(images.device, non_blocking=True) for part in (tiles.boxes, tiles.row))
    matrix = tiles.matrix.to(images.device, non_blocking=True)
    for part in range(tiles.row.shape[1]):
        how = Warp(tiles.matrix[:, part], tiles.size, tiles.interpolation, padding="edge", grid=tiles.whole)
        moved = torch_warp.warp(images[row[:, part]], how, matrix[:, part], None)
        out = torch.where(inside(boxes[:, part], tiles.size), moved, out)
    return out


def inside(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes (B, 4) top, left, height, width to (B, 1, H, W) bool: which pixels they cover."""
    y, x = (torch.arange(length, device=boxes.device) for length in size)
    top, left, tall, wide = (part[:, None] for part in boxes.unbind(-1))
    rows, columns = (y >= top) & (y < top + tall), (x >= left) & (x < left + wide)
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def _one_by_one(images: Tensor, tiles: Tiles, out: Tensor) -> None:
    # matrices in units of 2**-32 pixels, so that moving their origin to the rectangle's corner rounds nothing
    fixed = (tiles.matrix * torch_warp.ONE).round().long()
    rows, parts = (tiles.boxes[..., 2:] > 0).all(-1).nonzero(as_tuple=True)
    for number, part in zip(rows.tolist(), parts.tolist(), strict=True):
        top, left, tall, wide = tiles.boxes[number, part].tolist()
        source, into = int(tiles.row[number, part]), out[number, :, top : top + tall, left : left + wide]
        (across, _, x), (_, down, y) = fixed[number, part].tolist()
        x, y = x + across * left, y + down * top
        if tiles.whole:
            x, y = (x + torch_warp.ONE // 2) >> 32, (y + torch_warp.ONE // 2) >> 32
            into.copy_(images[source, :, y : y + tall, x : x + wide])
            continue
        columns, rows_of = across * torch.arange(wide) + x, down * torch.arange(tall) + y
        into.copy_(_resampled(images[source], rows_of, columns, tiles.interpolation))


def _resampled(image: Tensor, y: Tensor, x: Tensor, interpolation: str) -> Tensor:
    """An image (C, H, W) at rows y (h,) and columns x (w,), in units of 2**-32 pixels: (C, h, w), as `warp` has it.

    Columns are mixed first, and then rows: the same products as for every pixel by itself, but looked up by lines.
    """
    (height, width), half = image.shape[1:], torch_warp.ONE // 2
    if interpolation == "nearest":
        rows, columns = ((y + half) >> 32).clamp(0, height - 1), ((x + half) >> 32).clamp(0, width - 1)
        return image.index_select(1, rows).index_select(2, columns)
    (above, below), (before, after) = (_neighbours(place, side) for place, side in ((y, height), (x, width)))
    first = int(above.min())
    lines = image[:, first : int(below.max()) + 1]
    left, right = lines.index_select(2, before), lines.index_select(2, after)
    across, down = x & (torch_warp.ONE - 1), (y & (torch_warp.ONE - 1))[:, None]
    if image.dtype == torch.uint8:
        one, drop = 1 << torch_warp.WEIGHT_BITS, 32 - torch_warp.WEIGHT_BITS
        across, down = (((weight + (1 << (drop - 1))) >> drop).int() for weight in (across, down))
        mixed = left.int() * (one - across) + right.int() * across
        upper, lower = mixed.index_select(1, above - first), mixed.index_select(1, below - first)
        mixed = upper.mul_(one - down).add_(lower.mul_(down)).add_(1 << (2 * torch_warp.WEIGHT_BITS - 1))
        return (mixed >> (2 * torch_warp.WEIGHT_BITS)).to(torch.uint8)
    work = torch.promote_types(image.dtype, torch.float32)
    mixed = torch.lerp(left.to(work), right.to(work), across.to(work) / torch_warp.ONE)
    upper, lower = mixed.index_select(1, above - first), mixed.index_select(1, below - first)
    return torch.lerp(upper, lower, down.to(work) / torch_warp.ONE).to(image.dtype)


def _neighbours(place: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """The two lines of ``side`` that a place lies between."""
    line = place >> 32
    return line.clamp(0, side - 1), (line + 1).clamp(0, side - 1)


def _fill(tiles: Tiles, images: Tensor) -> Tensor:
    """What no part covers, (C or 1, 1, 1)."""
    if tiles.fill is None:
        values = torch.tensor([GREY if images.dtype == torch.uint8 else GREY / 255.0], dtype=torch.float64)
    else:
        values = torch.tensor(tiles.fill, dtype=torch.float64)
    values = values.round() if images.dtype == torch.uint8 else values
    return values.to(images.dtype).to(images.device, non_blocking=True)[:, None, None]


def pasted(images: Tensor, paste: Paste, owned: bool) -> Tensor:
    """Each sample with the pasted pixels of its partner."""
    partner = paste.partner.to(images.device, non_blocking=True)
    taken = paste.pasted.to(images.device, non_blocking=True)[:, None]
    return torch.where(taken, images[partner], images)


def open_paste(images: Tensor, paste: PasteObjects, owned: bool) -> Tensor:
    """Nothing can be pasted before the masks are known."""
    raise needs_masks()
