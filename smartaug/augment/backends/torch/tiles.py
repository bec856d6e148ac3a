"""Parts of several samples put beside each other, and pixels of one put over another's."""

from __future__ import annotations

import torch
from torch import Tensor

from ...mixing import GREY, Paste, PasteObjects, Tiles, needs_masks
from . import warp as torch_warp


def tiled(images: Tensor, tiles: Tiles, owned: bool) -> Tensor:
    """Every part for all samples at once, kept where its rectangle is; `backends.tiles` does less."""
    out = filled(tiles, images)
    boxes, row, matrix = (
        value.to(images.device, non_blocking=True) for value in (tiles.boxes, tiles.row, tiles.matrix)
    )
    for part in range(tiles.row.shape[1]):
        moved = torch_warp.warp(images[row[:, part]], tiles.warp(part), matrix[:, part], None)
        out = torch.where(inside(boxes[:, part], tiles.size), moved, out)
    return out


def inside(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes (B, 4) top, left, height, width to (B, 1, H, W) bool: which pixels they cover."""
    y, x = (torch.arange(length, device=boxes.device) for length in size)
    top, left, tall, wide = (part[:, None] for part in boxes.unbind(-1))
    rows, columns = (y >= top) & (y < top + tall), (x >= left) & (x < left + wide)
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def filled(tiles: Tiles, images: Tensor) -> Tensor:
    """Images of the result's size that no part covers."""
    grey = GREY if images.dtype == torch.uint8 else GREY / 255.0
    values = torch.tensor((grey,) if tiles.fill is None else tiles.fill, dtype=torch.float64, device="cpu")
    values = values.round() if images.dtype == torch.uint8 else values
    out = images.new_empty(len(images), images.shape[1], *tiles.size)
    out[:] = values.to(images.dtype).to(images.device, non_blocking=True)[:, None, None]
    return out


def pasted(images: Tensor, paste: Paste, owned: bool) -> Tensor:
    """Each sample with the pasted pixels of its partner."""
    partner = paste.partner.to(images.device, non_blocking=True)
    taken = paste.pasted.to(images.device, non_blocking=True)[:, None]
    return torch.where(taken, images[partner], images)


def open_paste(images: Tensor, paste: PasteObjects, owned: bool) -> Tensor:
    """Nothing can be pasted before the masks are known."""
    raise needs_masks()
