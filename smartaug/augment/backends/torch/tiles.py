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
        matrix = fixed[number, part].clone()
        matrix[:, 2] += matrix[:, 0] * left + matrix[:, 1] * top
        if tiles.whole:
            x, y = ((matrix[:, 2] + torch_warp.ONE // 2) >> 32).tolist()
            into.copy_(images[source, :, y : y + tall, x : x + wide])
            continue
        exact = (matrix.double() / torch_warp.ONE)[None]
        how = Warp(exact, (tall, wide), tiles.interpolation, padding="edge")
        into.copy_(torch_warp.warp(images[source : source + 1], how, exact, None)[0])


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
