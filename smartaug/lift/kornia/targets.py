"""Masks, boxes and keypoints of Kornia's AugmentationSequential with ``data_keys``, moved by plans as by Kornia.

What: coordinates are pixel indices; the corners of a box go through all modules, and the hull is taken once, at the
end; nothing is cut at the border or dropped. When: a dataset whose transform is an ``AugmentationSequential(...,
data_keys=[...], keepdim=True)``, called with one image and its targets. Cost: a few operations on all boxes of a batch
for each module. Reference: Kornia 0.8, the convention of `kornia.geometry.boxes.Boxes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..._base import leaves
from ...augment.plan import Plan
from ...augment.targets.objects import Objects, corners, hull
from ...augment.targets.through import through
from ..joint import JointSample
from ..lifted import Lifted
from ..moving_masks import Masks, Place, repeated
from ..roles import KORNIA_KINDS, data_keys
from ..steps import Transform

_HALF = 0.5  # a pixel index and a half is its centre in continuous pixels
Size = tuple[int, int]


def box_formats(pipeline: Transform) -> dict[leaves.Path, str]:
    """The word of ``follow=`` for each part that a pipeline returns as boxes, by its data key.

    None for BBOX_XYXY, whose second corner is the last pixel of a box, and not where it ends.
    """
    return {(place,): "xywh" for place, key in enumerate(data_keys(pipeline)) if key == "BBOX_XYWH"}


def following(
    lifted: Lifted, samples: Sequence[JointSample], size: Size, device: torch.device | None = None
) -> KorniaTargets:
    """The `Following` of a lifted Kornia pipeline."""
    assert lifted.recipe is not None
    return KorniaTargets(samples, size, data_keys(lifted.recipe.transform), device)


class KorniaTargets:
    """A `Following` for samples of Kornia.

    keys: the names of the data keys, one for each part of a sample. device: of the masks.
    """

    def __init__(
        self, samples: Sequence[JointSample], size: Size, keys: Sequence[str], device: torch.device | None = None
    ) -> None:
        self.samples, self.size = samples, size
        found = [
            (KORNIA_KINDS[key], key, Place(number, (place,), sample.made[place]))
            for number, sample in enumerate(samples)
            for place, key in enumerate(keys)
        ]
        self.masks = Masks([place for kind, _, place in found if kind == "mask"], device)
        self.boxes = [(key, place) for kind, key, place in found if kind == "boxes"]
        self.points = [place for kind, _, place in found if kind == "keypoints"]
        self.moved = [_objects([_corners(place.given, key) for key, place in self.boxes], [p for _, p in self.boxes])]
        flat = [place.given.as_subclass(Tensor).double()[:, None] for place in self.points]
        self.moved.append(_objects(flat, self.points))

    def follow(self, plan: Plan) -> None:
        """Move the targets as ``plan``, which has a row a sample, moves the images."""
        if not plan.moves_pixels:
            return
        size = self.size
        for segment in plan.operations:
            self.moved = [through(segment, objects, size) for objects in self.moved]
            size = segment.output_size(*size)
        self.masks.move(plan)
        self.size = size

    def finished(self, images: Sequence[Tensor]) -> list[leaves.Structure]:
        """Each sample as the user's pipeline would have returned it. images: those of the samples, finished."""
        pairs = zip(self.samples, images, strict=True)
        made = [leaves.put(sample.made, sample.image, image) for sample, image in pairs]
        boxes, points = (objects.points - _HALF for objects in self.moved)
        results: list[tuple[Place, Tensor]] = list(self.masks.results())
        parts = boxes.split([len(place.given) for _, place in self.boxes])
        results += [(p, _formatted(own, key)) for (key, p), own in zip(self.boxes, parts, strict=True)]
        parts = points.split([len(place.given) for place in self.points])
        results += [(place, own[:, 0]) for place, own in zip(self.points, parts, strict=True)]
        for place, value in results:
            made[place.sample] = leaves.put(made[place.sample], place.path, value.to(place.given.dtype))
        return made


def _objects(parts: list[Tensor], places: list[Place]) -> Objects:
    """The points (n, K, 2) of all places, in continuous pixels."""
    points = torch.cat(parts) if parts else torch.empty(0, 1, 2, dtype=torch.float64)
    row = repeated([place.sample for place in places], [len(part) for part in parts])
    return Objects(points + _HALF, row, torch.arange(len(row)))


def _corners(boxes: Any, key: str) -> Tensor:
    """The corners (n, 4, 2) of boxes, in pixel indices: the last pixel belongs to a box."""
    given = boxes.as_subclass(Tensor).double()
    if key == "BBOX":
        return given
    if key == "BBOX_XYWH":
        given = torch.cat([given[:, :2], given[:, :2] + given[:, 2:] - 1.0], 1)
    return corners(given)


def _formatted(points: Tensor, key: str) -> Tensor:
    """The hulls of corners (n, 4, 2) in the form of ``key``."""
    xyxy = hull(points)
    if key == "BBOX":
        return corners(xyxy)
    return torch.cat([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2] + 1.0], 1) if key == "BBOX_XYWH" else xyxy
