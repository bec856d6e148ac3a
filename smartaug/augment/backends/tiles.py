"""Mosaics: every part is a warp, which is executed as a plan of its own by whatever backend is the fastest for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from ..mixing import Tiles
from ..plan import Plan
from .torch import warp as torch_warp
from .torch.tiles import filled, inside

Execute = Callable[[Plan, Tensor], Tensor]


def run(tiles: Tiles, images: Tensor, execute: Execute) -> Tensor:
    """Images (B, C, *tiles.size). execute: runs a plan on images.

    Large samples on the CPU go rectangle by rectangle; others by part, each for all samples at once.
    """
    out = filled(tiles, images)
    if images.numel() == 0 or out.numel() == 0:
        return out
    if images.device.type == "cpu" and images[:1].numel() >= torch_warp.LARGE:
        _by_rectangle(tiles, images, execute, out)
        return out
    boxes, row = (value.to(images.device, non_blocking=True) for value in (tiles.boxes, tiles.row))
    for part in range(tiles.row.shape[1]):
        moved = execute(Plan(tuple(images.shape), (tiles.warp(part),)), images[row[:, part]])
        out = torch.where(inside(boxes[:, part], tiles.size), moved, out)
    return out


def _by_rectangle(tiles: Tiles, images: Tensor, execute: Execute, out: Tensor) -> None:
    # matrices in units of 2**-32 pixels, so that moving their origin to the rectangle's corner rounds nothing
    fixed = (tiles.matrix * torch_warp.ONE).round().long()
    top, left = tiles.boxes[..., 0, None], tiles.boxes[..., 1, None]
    fixed[..., 2] += fixed[..., 0] * left + fixed[..., 1] * top
    rows, parts = (tiles.boxes[..., 2:] > 0).all(-1).nonzero(as_tuple=True)
    for number, part in zip(rows.tolist(), parts.tolist(), strict=True):
        y, x, tall, wide = tiles.boxes[number, part].tolist()
        source, matrix = images[int(tiles.row[number, part])], fixed[number, part].double() / torch_warp.ONE
        if tiles.whole:
            first, above = matrix[:, 2].round().long().tolist()
            made = source[:, above : above + tall, first : first + wide]
        else:
            how = dataclasses.replace(tiles.warp(part), size=(tall, wide), matrix=matrix[None])
            made = execute(Plan((1, *source.shape), (how,)), source[None])[0]
        out[number, :, y : y + tall, x : x + wide] = made
