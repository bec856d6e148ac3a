"""`Objects`: boxes, keypoints and polygons of a whole batch as points, whatever their number per sample."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SHAPES = ("points", "box", "rotated")


@dataclass(frozen=True)
class Objects:
    """M objects of K points each, in the images of a batch; a box is its four corners, in order around it.

    points: (M, K, 2) float64 x and y in continuous pixels, (0, 0) the outer corner of the first pixel and (W, H) the
    far corner of the image. row: (M,) int64, the sample of the batch that an object lies in. origin: (M,) int64, which
    of the objects it was as the batch came; labels follow as ``labels[origin]``. Mixing repeats and drops objects and
    moves them to other rows; everything else leaves row and origin as they are. shape: "points", each for itself;
    "box", upright and cut off where its image ends; "rotated", a box that stays whole. visible: (M, K) float64, how
    much of it is left in the picture: of a point 1 or 0, of a box the share of its area, the same at its corners; None:
    all.
    """

    points: Tensor
    row: Tensor
    origin: Tensor
    shape: str = "points"
    visible: Tensor = None  # type: ignore[assignment]  # filled in below

    def __post_init__(self) -> None:
        if self.visible is None:
            object.__setattr__(self, "visible", self.points.new_ones(self.points.shape[:2]))

    @classmethod
    def of(cls, points: Tensor, counts: Sequence[int] | Tensor, shape: str = "points") -> Objects:
        """The objects ``points`` (M, K, 2), of which the first counts[0] lie in sample 0, the next in sample 1, ...

        Raises ValueError unless the counts, one a sample, add up to M.
        """
        counts = torch.as_tensor(counts, dtype=torch.int64, device="cpu")
        if points.ndim != 3 or points.shape[2] != 2 or int(counts.sum()) != len(points):
            raise ValueError(
                f"points must be (M, K, 2) with M the sum of counts, got {tuple(points.shape)} and counts that add up "
                f"to {int(counts.sum())}; give one count a sample"
            )
        row = torch.arange(len(counts), device="cpu").repeat_interleave(counts)
        return cls(points.to("cpu", torch.float64), row, torch.arange(len(points), device="cpu"), shape)

    def __len__(self) -> int:
        return len(self.row)

    def take(self, index: Tensor) -> Objects:
        """The objects at ``index``: (M,) bool, or int64 places, which may repeat."""
        return Objects(self.points[index], self.row[index], self.origin[index], self.shape, self.visible[index])

    def at(self, points: Tensor) -> Objects:
        """The same objects with their points elsewhere, (M, K, 2)."""
        return dataclasses.replace(self, points=points)

    def counts(self, batch: int) -> Tensor:
        """(batch,) int64: how many objects lie in each sample."""
        return torch.bincount(self.row, minlength=batch)

    def by_row(self) -> Objects:
        """The same objects, those of sample 0 first, then those of sample 1, ...; within a sample in their order."""
        return self.take(self.row.argsort(stable=True))


def joined(first: Objects, *others: Objects) -> Objects:
    """The objects of all, one part after the other; they must have the same shape and number of points."""
    points, row, origin, visible = (
        torch.cat([getattr(part, name) for part in (first, *others)]) for name in ("points", "row", "origin", "visible")
    )
    return Objects(points, row, origin, first.shape, visible)


def hull(points: Tensor) -> Tensor:
    """The smallest upright boxes around points (M, K, 2): (M, 4) left, top, right, bottom."""
    return torch.cat([points.amin(1), points.amax(1)], 1)


def area(boxes: Tensor) -> Tensor:
    """(M,) areas of upright boxes (M, 4) left, top, right, bottom; 0 where nothing is between their sides."""
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)


def within(objects: Objects, window: Tensor) -> Objects:
    """What is left of ``objects`` where of each image only ``window`` is left, or is seen from now on.

    window: (4,) or, one an object, (M, 4) float64 left, top, right, bottom in continuous pixels. A point outside
    becomes invisible and stays where it is. A box that crosses the border becomes what is left of its hull, as in
    torchvision after each transform. A rotated box stays whole. Nothing is dropped: what has nothing left has visible
    0.
    """
    if not len(objects):
        return objects
    window = window.to(torch.float64).expand(len(objects), 4)
    if objects.shape == "points":
        low, high = window[:, None, :2], window[:, None, 2:]
        inside = ((objects.points >= low) & (objects.points < high)).all(2)
        return dataclasses.replace(objects, visible=objects.visible * inside)
    if objects.shape == "rotated":
        whole = polygon_area(objects.points)
        part = polygon_area(clipped(objects.points, window))
        share = torch.where(whole > 0, part / whole, 0.0)
        return dataclasses.replace(objects, visible=objects.visible * share[:, None])
    whole = hull(objects.points)
    low = torch.maximum(torch.minimum(whole, window[:, 2:].repeat(1, 2)), window[:, :2].repeat(1, 2))
    crosses = (low != whole).any(1)
    share = torch.where(area(whole) > 0, area(low) / area(whole), (~crosses).double())
    points = torch.where(crosses[:, None, None], corners(low), objects.points)
    return dataclasses.replace(objects, points=points, visible=objects.visible * share[:, None])


def corners(boxes: Tensor) -> Tensor:
    """The corners (M, 4, 2) of upright boxes (M, 4) left, top, right, bottom: clockwise from the upper left one."""
    return boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].view(-1, 4, 2)


def polygon_area(points: Tensor) -> Tensor:
    """(M,) areas of polygons with corners (M, K, 2) in order, which may repeat."""
    x, y = points.unbind(-1)
    return (x * y.roll(-1, 1) - y * x.roll(-1, 1)).sum(1).abs() / 2


def clipped(points: Tensor, window: Tensor) -> Tensor:
    """What of convex polygons (M, K, 2) lies in windows (M, 4) left, top, right, bottom: (M, K + 4, 2).

    Corners in order, the last one repeated where there are fewer; all alike where nothing is inside. Each side of the
    window cuts off what is behind it (Sutherland & Hodgman, "Reentrant polygon clipping", CACM 1974).
    """
    for side in range(4):
        axis, sign = side % 2, 1.0 if side < 2 else -1.0
        inward = sign * (points[..., axis] - window[:, None, side])  # how far each corner lies inside this side
        points = _cut(points, inward)
    return points


def _cut(points: Tensor, inward: Tensor) -> Tensor:
    """Convex polygons (M, K, 2) without what has a negative distance ``inward`` (M, K): (M, K + 1, 2)."""
    following, ahead = points.roll(-1, 1), inward.roll(-1, 1)
    keeps, crosses = inward >= 0, (inward >= 0) != (ahead >= 0)
    step = torch.where(crosses, inward / torch.where(crosses, inward - ahead, 1.0), 0.0)
    crossing = points + step[..., None] * (following - points)
    # each side of a polygon leaves its first corner, where that is inside, and the point where it crosses
    made = torch.stack([points, crossing], 2).flatten(1, 2)
    valid = torch.stack([keeps, crosses], 2).flatten(1, 2)
    order = (~valid).to(torch.int8).argsort(dim=1, stable=True)[:, : points.shape[1] + 1]
    last = (valid.sum(1, keepdim=True) - 1).clamp(min=0)
    place = torch.arange(order.shape[1], device=points.device).minimum(last)
    order = order.gather(1, place)
    return made.gather(1, order[..., None].expand(-1, -1, 2))
