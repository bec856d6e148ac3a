"""Targets where samples are mixed: what of which object is seen in which picture, and maps pasted as images are.

What: `brought` says which objects lie in which sample behind a segment that mixes; `through` and `map_segments` learn
here how points and maps follow CutMix, MixUp, Mosaic and CopyPaste. Objects of which nothing is left stay in the list
with a visible share of 0: so boxes, points and masks of the same objects keep the same order, until those that are not
wanted are dropped from all at once. When: dense targets beside these augmentations. Cost: a few operations an object.
"""

from __future__ import annotations

import dataclasses
from functools import singledispatch
from typing import NamedTuple

import torch
from torch import Tensor

from ..mixing import Paste, PasteObjects, Tiles, needs_masks
from ..plan import Mix, Mixing, Segment
from .kinds import Disparity, Flow, Heatmap, MapKind, Mask
from .maps import Size, map_segments, scaled
from .objects import Objects, area, corners, hull, polygon_area, within
from .objects import clipped as clipped_polygon
from .through import HALF, inverse_map, through


class Brought(NamedTuple):
    """The M' objects behind a segment: source (M',) int64, which of the M before it; row (M',) int64, the sample that
    it is in now; part (M',) int64, as which part of that sample it came, 0: it was there before.
    """

    source: Tensor
    row: Tensor
    part: Tensor


@singledispatch
def brought(segment: Segment, row: Tensor) -> Brought:
    """Where the objects that lie in the samples ``row`` (M,) are behind a segment; by itself each stays where it is."""
    return Brought(torch.arange(len(row), device="cpu"), row, torch.zeros_like(row))


@brought.register
def _(segment: Mixing, row: Tensor) -> Brought:
    """The objects of all parts that have a share of a sample: first those that stay, then part by part."""
    taken, share = segment.parts()
    part, receiver = (share > 0).T.nonzero(as_tuple=True)
    donor = taken[receiver, part]
    order, counts = row.argsort(stable=True), torch.bincount(row, minlength=len(taken))
    first, many = (counts.cumsum(0) - counts)[donor], counts[donor]
    pair = torch.arange(len(donor), device="cpu").repeat_interleave(many)
    place = torch.arange(len(pair), device="cpu") - (many.cumsum(0) - many)[pair]
    return Brought(order[first[pair] + place], receiver[pair], part[pair])


@brought.register
def _(segment: Paste, row: Tensor) -> Brought:
    own, pasted = torch.arange(len(row), device="cpu"), torch.ones_like(segment.source)
    if len(row) + len(pasted) != len(segment.left):
        raise ValueError(
            f"the instance masks that CopyPaste went by are of {len(segment.left) - len(pasted)} objects, and there "
            f"are {len(row)} boxes or points; give one mask for each, in the same order"
        )
    source, rows = torch.cat([own, segment.source]), torch.cat([row, segment.receiver])
    return Brought(source, rows, torch.cat([torch.zeros_like(own), pasted]))


@brought.register
def _(segment: PasteObjects, row: Tensor) -> Brought:
    raise needs_masks()


@singledispatch
def left_alone(segment: Segment, size: Size) -> Tensor:
    """(B,) bool: the samples that a segment which mixes leaves as they are, of images of ``size``; by itself none."""
    return torch.zeros(1, dtype=torch.bool, device="cpu")


@left_alone.register
def _(segment: Mixing, size: Size) -> Tensor:
    taken, share = segment.parts()
    return ((taken == torch.arange(len(taken), device="cpu")[:, None]) | (share <= 0)).all(1)


@left_alone.register
def _(segment: Tiles, size: Size) -> Tensor:
    """All of a sample's own image, at its place."""
    taken, share = segment.parts()
    own = ((taken == torch.arange(len(taken), device="cpu")[:, None]) | (share <= 0)).all(1)
    still = (segment.matrix[:, 0] == torch.eye(2, 3, dtype=torch.float64, device="cpu")).all(2).all(1)
    shown = (segment.boxes[:, 0] == torch.tensor([0, 0, *size], device="cpu")).all(1)
    return own & still & shown & (segment.size == size)


@left_alone.register
def _(segment: Paste, size: Size) -> Tensor:
    return ~segment.pasted.flatten(1).any(1).cpu()


# --- objects ---------------------------------------------------------------------------------------------------------


@through.register
def _(segment: Mix, objects: Objects, size: Size) -> Objects:
    """CutMix: own objects without what the rectangle covers, the partner's inside it. MixUp: all, each by its share."""
    source, row, part = brought(segment, objects.row)
    objects = dataclasses.replace(objects.take(source), row=row)
    pasted_boxes = rectangles(segment)
    if pasted_boxes is None:
        share = segment.parts()[1][row, part].double()
        return dataclasses.replace(objects, visible=objects.visible * share[:, None])
    window = _window(pasted_boxes[row])
    inside, outside = within(objects, window), _without(objects, window)
    pasted = (part == 1)[:, None]
    points = torch.where(pasted[..., None], inside.points, outside.points)
    return dataclasses.replace(objects, points=points, visible=torch.where(pasted, inside.visible, outside.visible))


@through.register
def _(segment: Tiles, objects: Objects, size: Size) -> Objects:
    """The objects of each part, moved as it is and cut off at the border of its rectangle."""
    source, row, part = brought(segment, objects.row)
    objects = dataclasses.replace(objects.take(source), row=row)
    moved = inverse_map(segment.matrix[row, part], objects.points - HALF) + HALF
    return within(objects.at(moved), _window(segment.boxes[row, part]))


@through.register
def _(segment: Paste, objects: Objects, size: Size) -> Objects:
    """Own objects without what is pasted over them, as their masks say; the pasted ones as they were."""
    source, row, part = brought(segment, objects.row)
    objects = dataclasses.replace(objects.take(source), row=row)
    if objects.shape == "points":
        covered = _at(segment.pasted.cpu(), row, objects.points) & (part == 0)[:, None]
        return dataclasses.replace(objects, visible=objects.visible * ~covered)
    cut = (part == 0) & (segment.left < 1)
    visible = objects.visible * torch.where(cut, segment.left, 1.0)[:, None]
    if objects.shape == "box":
        still = cut & (segment.left > 0)
        objects = objects.at(torch.where(still[:, None, None], corners(segment.hulls), objects.points))
    return dataclasses.replace(objects, visible=visible)


@through.register
def _(segment: PasteObjects, objects: Objects, size: Size) -> Objects:
    raise needs_masks()


def _window(boxes: Tensor) -> Tensor:
    """Rectangles (M, 4) top, left, height, width as (M, 4) left, top, right, bottom in continuous pixels."""
    top, left, tall, wide = boxes.double().unbind(1)
    return torch.stack([left, top, left + wide, top + tall], 1)


def _without(objects: Objects, window: Tensor) -> Objects:
    """What is left of ``objects`` where the windows (M, 4) left, top, right, bottom are covered.

    A box shrinks where a window covers a whole side of it; else the box around what is left is the box itself.
    """
    if objects.shape == "points":
        inside = ((objects.points >= window[:, None, :2]) & (objects.points < window[:, None, 2:])).all(2)
        return dataclasses.replace(objects, visible=objects.visible * ~inside)
    if objects.shape == "rotated":
        whole, part = polygon_area(objects.points), polygon_area(clipped_polygon(objects.points, window))
    else:
        box = hull(objects.points)
        common = torch.cat([torch.maximum(box[:, :2], window[:, :2]), torch.minimum(box[:, 2:], window[:, 2:])], 1)
        whole, part = area(box), area(common)
        changed = _shrunk(box, window, part > 0)
        differs = (changed != box).any(1)[:, None, None]
        objects = objects.at(torch.where(differs, corners(changed), objects.points))
    share = torch.where(whole > 0, 1 - part / whole, 1.0).clamp(min=0)
    return dataclasses.replace(objects, visible=objects.visible * share[:, None])


def _shrunk(box: Tensor, window: Tensor, meets: Tensor) -> Tensor:
    """The boxes around what of ``box`` (M, 4) lies outside ``window`` (M, 4); a box without a rest stays as it is."""
    covers_low, covers_high = window[:, :2] <= box[:, :2], window[:, 2:] >= box[:, 2:]  # (M, 2): along x, along y
    across = (covers_low & covers_high).flip(1)  # whether the window is as wide as the box in the other direction
    rest = ~(covers_low & covers_high).all(1, keepdim=True) & meets[:, None]
    low = torch.where(rest & across & covers_low, window[:, 2:], box[:, :2])
    high = torch.where(rest & across & covers_high, window[:, :2], box[:, 2:])
    return torch.cat([low, high], 1)


def _at(masks: Tensor, row: Tensor, points: Tensor) -> Tensor:
    """(M, K) bool: what masks (B, H, W) say at points (M, K, 2) of the samples ``row``; outside False."""
    height, width = masks.shape[1:]
    x, y = points.floor().long().unbind(-1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    if not masks.numel():
        return inside
    return inside & masks[row[:, None], y.clamp(0, height - 1), x.clamp(0, width - 1)]


# --- maps ------------------------------------------------------------------------------------------------------------


@map_segments.register
def _(segment: Mix, kind: MapKind, size: Size, map_size: Size) -> tuple[Segment, ...]:
    """Pasted and blended as the images are."""
    if segment.boxes is None and isinstance(kind, (Flow, Disparity)):
        raise ValueError(f"MixUp blends images, and {_what(kind)} has no blend; write CutMix, or leave MixUp out")
    return (scaled_mix(segment, size, map_size),)


def _what(kind: Flow | Disparity) -> str:
    return "motion" if isinstance(kind, Flow) else "disparity"


@map_segments.register
def _(segment: Tiles, kind: MapKind, size: Size, map_size: Size) -> tuple[Segment, ...]:
    """The same parts at the map's resolution, interpolated and filled as its kind wants."""
    if isinstance(kind, (Flow, Disparity)):
        raise ValueError(
            f"Mosaic cuts images off, and {_what(kind)} would end in another image; leave Mosaic out with "
            f"{type(kind).__name__.lower()}"
        )
    if isinstance(kind, Mask):
        interpolation, fill = "nearest", segment.mask_fill if kind.fill is None else kind.fill
    else:
        interpolation, fill = "bilinear" if isinstance(kind, Heatmap) else segment.interpolation, kind.fill
    own = scaled_tiles(segment, size, map_size)
    return (dataclasses.replace(own, interpolation=interpolation, fill=(float(fill),)),)


@map_segments.register
def _(segment: Paste, kind: MapKind, size: Size, map_size: Size) -> tuple[Segment, ...]:
    """The pixels pasted that are nearest to those of the map."""
    return (scaled_paste(segment, size, map_size),)


@map_segments.register
def _(segment: PasteObjects, kind: MapKind, size: Size, map_size: Size) -> tuple[Segment, ...]:
    raise needs_masks()


def _scaled_boxes(boxes: Tensor, size: Size, after: Size) -> Tensor:
    """Rectangles (..., 4) top, left, height, width at another resolution; neighbours stay neighbours."""
    scale = torch.tensor(
        [new / max(1, old) for new, old in zip(after, size, strict=True)], dtype=torch.float64, device="cpu"
    )
    low, high = boxes[..., :2] * scale, (boxes[..., :2] + boxes[..., 2:]) * scale
    low, high = low.round().long(), high.round().long()
    return torch.cat([low, high - low], -1)


def rectangles(mix: Mix) -> Tensor | None:
    """The pasted rectangles (B, 4), of height 0 where a sample is its own partner; None where a mix blends."""
    others = mix.partner != torch.arange(len(mix.partner), device=mix.partner.device)
    return None if mix.boxes is None else mix.boxes * others[:, None]


def scaled_mix(mix: Mix, size: Size, map_size: Size) -> Mix:
    """The mix for maps of ``map_size`` beside images of ``size``."""
    if mix.boxes is None or size == map_size:
        return mix
    return dataclasses.replace(mix, boxes=_scaled_boxes(mix.boxes, size, map_size))


def scaled_tiles(tiles: Tiles, size: Size, map_size: Size) -> Tiles:
    """The tiles for maps of ``map_size`` beside images of ``size``."""
    if size == map_size:
        return tiles
    parts = [scaled(tiles.warp(part), size, map_size) for part in range(tiles.row.shape[1])]
    after = parts[0].size
    return dataclasses.replace(
        tiles,
        matrix=torch.stack([part.matrix for part in parts], 1),
        boxes=_scaled_boxes(tiles.boxes, tiles.size, after),
        size=after,
        whole=False,
    )


def scaled_paste(paste: Paste, size: Size, map_size: Size) -> Paste:
    """The paste for maps of ``map_size`` beside images of ``size``."""
    if size == map_size:
        return paste
    pasted = paste.pasted
    for dim, (small, large) in enumerate(zip(map_size, size, strict=True), 1):
        middle = (torch.arange(small, device="cpu") + 0.5) * (large / small)
        pasted = pasted.index_select(dim, middle.long().to(pasted.device))
    return dataclasses.replace(paste, pasted=pasted)
