"""Boxes: their formats, clipping at the border, and which are dropped.

What: boxes of every format become `Objects` of four corners and come back in the format and type they had; an upright
box that turned becomes the hull of its corners, and a rotated one that was sheared the rectangle around it, as in
torchvision. When: detection. Cost: a few operations on (M, 4).
Reference: torchvision's BoundingBoxFormat, SanitizeBoundingBoxes; albumentations' BboxParams.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .kinds import ROTATED, Boxes
from .objects import Objects, corners, hull

COLUMNS = {"xyxy": 4, "xywh": 4, "cxcywh": 4, "yolo": 4, "xywhr": 5, "cxcywhr": 5, "xyxyxyxy": 8}


def to_objects(boxes: Tensor, counts: Sequence[int] | Tensor, format: str, size: tuple[int, int]) -> Objects:
    """Boxes (M, 4), (M, 5) or (M, 8) of all samples, one sample after the other, as four corners each.

    counts: how many each of the B samples has. size: height and width of the images, which "yolo" is relative to.
    Corners go clockwise from the upper left one of the box as it lies before it turns.
    """
    if boxes.ndim != 2 or boxes.shape[1] != COLUMNS[format]:
        raise ValueError(f'boxes of format "{format}" must be (N, {COLUMNS[format]}), got {tuple(boxes.shape)}')
    points = _corners(boxes.detach().to("cpu", torch.float64), format, size)
    return Objects.of(points, counts, "rotated" if format in ROTATED else "box")


def _corners(boxes: Tensor, format: str, size: tuple[int, int]) -> Tensor:
    """Corners (M, 4, 2) of float64 boxes, in continuous pixels."""
    if format == "xyxyxyxy":
        return boxes.view(-1, 4, 2)
    if format in ROTATED:
        first, second, wide, tall, degrees = boxes.unbind(1)
        turn = degrees.deg2rad()
        cos, sin = turn.cos(), turn.sin()
        along, down = torch.stack([cos, -sin], 1) * wide[:, None], torch.stack([sin, cos], 1) * tall[:, None]
        start = torch.stack([first, second], 1)
        start = start - (along + down) / 2 if format == "cxcywhr" else start
        return torch.stack([start, start + along, start + along + down, start + down], 1)
    return corners(_upright(boxes, format, size))


def _upright(boxes: Tensor, format: str, size: tuple[int, int]) -> Tensor:
    """xyxy (M, 4) in pixels."""
    if format == "yolo":
        boxes = boxes * boxes.new_tensor([size[1], size[0], size[1], size[0]])
    if format == "xyxy":
        return boxes
    start, sides = boxes[:, :2], boxes[:, 2:]
    start = start if format == "xywh" else start - sides / 2
    return torch.cat([start, start + sides], 1)


def from_objects(objects: Objects, format: str, size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """The boxes (M, 4), (M, 5) or (M, 8) in ``format`` and ``dtype``; integers are rounded to the nearest.

    size: height and width of the images, which "yolo" is relative to.
    """
    made = _rotated(objects, format) if format in ROTATED else _formatted(hull(objects.points), format, size)
    return made.to(dtype) if dtype.is_floating_point else made.round().to(dtype)


def _rotated(objects: Objects, format: str) -> Tensor:
    """Rotated boxes (M, 5) or (M, 8). Corners of "xyxyxyxy" stay where they are; the others must be rectangles."""
    points = clockwise(objects.points)
    if format == "xyxyxyxy":
        return points.flatten(1)
    first, second, third, _ = rectangles(points).unbind(1)
    along, down = second - first, third - second
    degrees = torch.atan2(-along[:, 1], along[:, 0]).rad2deg()
    start = (first + third) / 2 if format == "cxcywhr" else first
    return torch.cat([start, along.norm(dim=1)[:, None], down.norm(dim=1)[:, None], degrees[:, None]], 1)


def clockwise(points: Tensor) -> Tensor:
    """Corners (M, 4, 2) in clockwise order: those of mirrored boxes begin at the second and go the other way round."""
    first, second, third, _ = points.unbind(1)
    along, down = second - first, third - second
    mirrored = along[:, 0] * down[:, 1] - along[:, 1] * down[:, 0] < 0
    return torch.where(mirrored[:, None, None], points[:, [1, 0, 3, 2]], points)


def rectangles(points: Tensor) -> Tensor:
    """The smallest rectangles (M, 4, 2) along the longer sides of clockwise corners (M, 4, 2), as in torchvision."""
    along, down = points[:, 1] - points[:, 0], points[:, 3] - points[:, 0]
    width, height = along.norm(dim=1, keepdim=True), down.norm(dim=1, keepdim=True)
    across = torch.where(height > width, torch.stack([down[:, 1], -down[:, 0]], 1), along)
    across = across / across.norm(dim=1, keepdim=True).clamp(min=1e-300)
    axes = torch.stack([across, torch.stack([-across[:, 1], across[:, 0]], 1)], 2)  # (M, 2, 2), columns
    return corners(hull(points @ axes)) @ axes.mT


def _formatted(xyxy: Tensor, format: str, size: tuple[int, int]) -> Tensor:
    """Upright boxes (M, 4) xyxy in ``format``."""
    if format == "xyxy":
        return xyxy
    start, end = xyxy[:, :2], xyxy[:, 2:]
    made = torch.cat([start if format == "xywh" else (start + end) / 2, end - start], 1)
    return made / made.new_tensor([size[1], size[0], size[1], size[0]]) if format == "yolo" else made


def kept(objects: Objects, kind: Boxes) -> Tensor:
    """(M,) bool: which of the moved boxes stay by ``kind``; those of which nothing is left never do."""
    if objects.shape == "rotated":
        first, second, third, _ = objects.points.unbind(1)
        sides = torch.stack([(second - first).norm(dim=1), (third - second).norm(dim=1)], 1)
    else:
        whole = hull(objects.points)
        sides = whole[:, 2:] - whole[:, :2]
    large = (sides >= kind.min_size).all(1) & (sides.prod(1) >= kind.min_area)
    visible = objects.visible[:, 0]
    return large & (visible > 0) & (visible >= kind.min_visibility)
