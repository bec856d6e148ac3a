"""Keypoints: their coordinates, which are visible, and left and right.

What: points with or without a column of visibility become `Objects` and come back in the type they had. When: pose and
landmarks. Cost: a few operations on (M, K, 2). Reference: COCO's keypoint format, (x, y, v) with v = 0: not labelled.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..plan import Plan, Warp
from .kinds import Keypoints
from .objects import Objects


def columns(points: Tensor, kind: Keypoints) -> int:
    """2, or 3 with a column of visibility; raises ValueError for any other last dimension."""
    found = points.shape[-1] if points.ndim in (2, 3) else 0
    wanted = (2, 3) if kind.visible is None else ((3,) if kind.visible else (2,))
    if found not in wanted:
        raise ValueError(
            f"keypoints must be (N, {wanted[0]}) or (N, K, {wanted[0]}), or 3 instead with a column of visibility, got "
            f"{tuple(points.shape)}"
        )
    return found


def to_objects(points: Tensor, counts: Sequence[int] | Tensor, kind: Keypoints) -> Objects:
    """Points (M, 2 or 3) or (M, K, 2 or 3) of all samples, one sample after the other; (M, 2) are M objects of one."""
    columns(points, kind)
    places = points.detach().to("cpu", torch.float64)[..., :2]
    places = places[:, None] if places.ndim == 2 else places
    return Objects.of(places + 0.5 if kind.coordinates == "index" else places, counts)


def from_objects(objects: Objects, given: Tensor, kind: Keypoints, size: tuple[int, int], plan: Plan) -> Tensor:
    """The moved points in the shape, columns and type of ``given``; the visibility of those that left becomes 0.

    given: as they came, all samples. size: height and width of the images after ``plan``, whose mirrored samples have
    the points of ``kind.swap`` exchanged.
    """
    places = objects.points - 0.5 if kind.coordinates == "index" else objects.points
    places = places if given.is_floating_point() else places.round()
    made = places.to(given.device, given.dtype)
    given = given[objects.origin.to(given.device)]
    made = made[:, 0] if given.ndim == 2 else made
    if given.shape[-1] == 3:
        inside = inside_image(objects, size).to(given.device)
        inside = inside[:, 0] if given.ndim == 2 else inside
        visible = torch.where(inside, given[..., 2], torch.zeros_like(given[..., 2]))
        made = torch.cat([made, visible[..., None]], -1)
    return made if kind.swap is None else swapped(made, mirrored(plan)[objects.row].to(made.device), kind.swap)


def inside_image(objects: Objects, size: tuple[int, int]) -> Tensor:
    """(M, K) bool: which points lie in images of ``size``, height and width."""
    x, y = objects.points.unbind(-1)
    return (x >= 0) & (x < size[1]) & (y >= 0) & (y < size[0])


def mirrored(plan: Plan) -> Tensor:
    """(B,) bool: which samples ``plan`` mirrors, by the sign of the determinant of all its warps together."""
    odd = torch.zeros(plan.shape[0], dtype=torch.bool)
    for segment in plan.segments:
        if isinstance(segment, Warp):
            turned = torch.linalg.det(segment.matrix[:, :, :2]) < 0
            odd ^= turned if segment.active is None else turned & segment.active
    return odd


def swapped(points: Tensor, rows: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Points (M, K, C) with the two of each pair exchanged in the objects ``rows`` (M,) bool."""
    order = list(range(points.shape[1]))
    for left, right in pairs:
        order[left], order[right] = order[right], order[left]
    return torch.where(rows[:, None, None], points[:, order], points)
