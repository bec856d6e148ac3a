"""Keypoints: their coordinates, which are visible, and left and right.

What: points with or without a column of visibility become `Objects` and come back in the type they had. When: pose and
landmarks. Cost: a few operations on (M, K, 2). Reference: COCO's keypoint format, (x, y, v) with v = 0: not labelled.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

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
    """Points (M, 2 or 3) or (M, K, 2 or 3) of all samples, one sample after the other; (M, 2) are M objects of one.

    counts: how many objects each of the B samples has. With ``kind.swap`` three more points follow the K of an object,
    which tell at the end whether it was mirrored.
    """
    columns(points, kind)
    places = points.detach().to("cpu", torch.float64)[..., :2]
    places = places[:, None] if places.ndim == 2 else places
    if kind.coordinates == "index":
        places = places + 0.5
    if kind.swap is not None:
        _order(kind.swap, places.shape[1])
        places = torch.cat([places, places.new_tensor(_FRAME).expand(len(places), 3, 2)], 1)
    return Objects.of(places, counts)


def from_objects(objects: Objects, given: Tensor, kind: Keypoints) -> Tensor:
    """The moved points in the shape, columns and type of ``given``; integers are rounded to the nearest.

    given: as they came, all samples. The visibility of a point that left the image becomes 0; one whose visibility was
    0, so that it is no place, stays as it came.
    """
    given = given[objects.origin.to(given.device)]
    inside = visible_points(objects, kind)
    last = inside.shape[1]
    places = objects.points[:, :last]
    places = places - 0.5 if kind.coordinates == "index" else places
    places, inside = (places[:, 0], inside[:, 0]) if given.ndim == 2 else (places, inside)
    places = places if given.is_floating_point() else places.round()
    made = places.to(given.device, given.dtype)
    if given.shape[-1] == 3:
        labelled = given[..., 2:] > 0
        visible = given[..., 2:] * inside[..., None].to(given.device, given.dtype)
        made = torch.cat([torch.where(labelled, made, given[..., :2]), visible], -1)
    if kind.swap is None:
        return made
    mirrored = _mirrored(objects.points[:, last:]).to(made.device)
    return torch.where(mirrored[:, None, None], made[:, _order(kind.swap, last)], made)


def visible_points(objects: Objects, kind: Keypoints) -> Tensor:
    """(M, K) bool: which points are left in their pictures."""
    return objects.visible[:, : objects.points.shape[1] - (0 if kind.swap is None else len(_FRAME))] > 0


_FRAME = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))  # of an object, to see whether it was mirrored


def _mirrored(frame: Tensor) -> Tensor:
    """(M,) bool: which of the moved frames (M, 3, 2) turn the other way round."""
    right, down = (frame[:, n] - frame[:, 0] for n in (1, 2))
    return right[:, 0] * down[:, 1] - right[:, 1] * down[:, 0] < 0


def _order(pairs: Sequence[tuple[int, int]], count: int) -> list[int]:
    """The ``count`` places with the two of each pair exchanged; ValueError unless each is named once at most."""
    named = [place for pair in pairs for place in pair]
    if len(set(named)) != len(named) or not all(0 <= place < count for place in named):
        raise ValueError(
            f"swap must be pairs of different points of the {count} that an object has, 0 to {count - 1}, got "
            f"{tuple(pairs)}; write swap=((1, 2), (3, 4))"
        )
    order = list(range(count))
    for left, right in pairs:
        order[left], order[right] = right, left
    return order
