"""Boxes, keypoints and masks of torchvision's joint pipelines, moved by plans as torchvision moves them.

What: after each operation a box becomes the hull of its corners and is cut at the image's border, integers are cut off,
as in torchvision, so that a chain gives what torchvision gives; transforms that change targets only
(SanitizeBoundingBoxes, ConvertBoundingBoxFormat, ToPureTensor, ...) run at the end, on each sample, by torchvision's
own code. When: lifted pipelines on (image, target). Cost: a few operations on all boxes of a batch for each operation.
Reference: torchvision.transforms.v2.

Coordinates are torchvision's: boxes are continuous, and so are keypoints, but those are mirrored as pixel indices.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..._base import leaves
from ...augment.plan import Plan, Segment, Warp
from ...augment.targets.objects import Objects, corners, hull
from ...augment.targets.through import through
from ..joint import JointSample
from ..lifted import Lifted
from ..moving_masks import Masks, Place, repeated
from ..steps import State, Step, Transform, folded, worker

_NEAR = 1e-6  # pixels: two coordinates that near are the same one, rounded
Size = tuple[int, int]


def _at_the_end(t: Transform, state: State) -> Step:
    if not state.targets:
        return worker(t, state, "it changes boxes or keypoints, and the samples are not known to have any")
    return dataclasses.replace(
        folded(t, state, state, "on each sample at the end, when its boxes have moved"), tail=True
    )


TRANSLATORS: dict[str, Callable[[Transform, State], Step]] = dict.fromkeys(
    (
        "ClampBoundingBoxes",
        "ClampKeyPoints",
        "ConvertBoundingBoxFormat",
        "SanitizeBoundingBoxes",
        "SanitizeKeyPoints",
        "SetClampingMode",
    ),
    _at_the_end,
)


class TorchvisionTargets:
    """A `Following` for samples of torchvision v2. tail: the transforms of the end. device: of the masks."""

    def __init__(
        self,
        samples: Sequence[JointSample],
        size: Size,
        tail: Sequence[Transform] = (),
        device: torch.device | None = None,
    ) -> None:
        from torchvision import tv_tensors

        self.samples, self.size, self.tail = samples, size, tuple(tail)
        found: dict[type, list[Place]] = {kind: [] for kind in (*object_types(), tv_tensors.Mask)}
        for number, sample in enumerate(samples):
            for path, leaf in leaves.walk(sample.made):
                if type(leaf) in found:
                    found[type(leaf)].append(Place(number, path, leaf))
        self.boxes = _Boxes(found[tv_tensors.BoundingBoxes])
        self.points = _Points([place for kind in object_types()[1:] for place in found[kind]])
        self.masks = Masks(found[tv_tensors.Mask], device)

    def follow(self, plan: Plan) -> None:
        """Move the targets as ``plan``, which has a row a sample, moves the images."""
        if not plan.moves_pixels:
            return
        size = self.size
        for segment in plan.operations:
            if segment.moves_pixels:
                self.boxes.move(segment, size, plan.shape[0])
                self.points.move(segment, size)
            size = segment.output_size(*size)
        self.masks.move(plan)
        self.size = size

    def finished(self, images: Sequence[Tensor]) -> list[leaves.Structure]:
        """Each sample as the user's pipeline would have returned it. images: those of the samples, finished."""
        from torchvision import tv_tensors

        made = []
        for sample, image in zip(self.samples, images, strict=True):
            made.append(leaves.put(sample.made, sample.image, image))
        masks = [(place, tv_tensors.wrap(mask, like=place.given)) for place, mask in self.masks.results()]
        for place, value in (*self.boxes.results(self.size), *self.points.results(self.size), *masks):
            made[place.sample] = leaves.put(made[place.sample], place.path, value)
        for transform in self.tail:
            pairs = zip(self.samples, made, strict=True)
            made = [transform(*whole) if sample.several else transform(whole) for sample, whole in pairs]
        return made


def following(
    lifted: Lifted, samples: Sequence[JointSample], size: Size, device: torch.device | None = None
) -> TorchvisionTargets:
    """The `Following` of a lifted torchvision pipeline."""
    return TorchvisionTargets(samples, size, lifted.tail, device)


def object_types() -> tuple[type, ...]:
    """torchvision's types of boxes and, since torchvision 0.23, of keypoints."""
    from torchvision import tv_tensors

    points = getattr(tv_tensors, "KeyPoints", None)
    return (tv_tensors.BoundingBoxes,) if points is None else (tv_tensors.BoundingBoxes, points)


class _Boxes:
    """The boxes of all samples, (M, 4) xyxy."""

    def __init__(self, places: list[Place]) -> None:
        self.places = places
        self.counts = [len(place.given) for place in places]
        parts = [_xyxy(place.given) for place in places]
        self.xyxy = torch.cat(parts) if parts else torch.empty(0, 4, dtype=torch.float64)
        self.row = repeated([place.sample for place in places], self.counts)
        self.whole = repeated([not place.given.is_floating_point() for place in places], self.counts).bool()
        # before torchvision 0.23 there was no mode, and all boxes were cut
        modes = [getattr(place.given, "clamping_mode", "soft") for place in places]
        self.clamped = repeated([mode is not None for mode in modes], self.counts).bool()

    def move(self, segment: Segment, size: Size, batch: int) -> None:
        """Through one operation on ``batch`` images of ``size``: hull, cut at the border, integers cut off."""
        if not len(self.row):
            return
        ids = torch.arange(len(self.row))
        moved = hull(through(segment, Objects(corners(self.xyxy), self.row, ids), size).points)
        after = segment.output_size(*size)
        cut = self.clamped & ~_carried(segment, size, batch)[self.row]
        far = moved.new_tensor([after[1], after[0]]).repeat(2)
        moved = torch.where(cut[:, None], torch.minimum(moved.clamp(min=0), far), moved)
        self.xyxy = torch.where(self.whole[:, None], _cut_off(moved), moved)

    def results(self, size: Size) -> list[tuple[Place, Tensor]]:
        """The boxes of each sample in the format and type in which they came, in images of ``size``."""
        from torchvision import tv_tensors
        from torchvision.transforms.v2 import functional as F

        made = []
        for place, boxes in zip(self.places, self.xyxy.split(self.counts), strict=True):
            form = place.given.format
            own = F.convert_bounding_box_format(boxes, old_format=tv_tensors.BoundingBoxFormat.XYXY, new_format=form)
            own = own.to(place.given.dtype).reshape(place.given.shape)
            made.append((place, tv_tensors.wrap(own, like=place.given, canvas_size=size)))
        return made


class _Points:
    """The keypoints of all samples, (M, 1, 2)."""

    def __init__(self, places: list[Place]) -> None:
        self.places = places
        parts = [place.given.as_subclass(Tensor).double().reshape(-1, 1, 2) for place in places]
        self.counts = [len(part) for part in parts]
        self.points = torch.cat(parts) if parts else torch.empty(0, 1, 2, dtype=torch.float64)
        self.row = repeated([place.sample for place in places], self.counts)
        self.whole = repeated([not place.given.is_floating_point() for place in places], self.counts).bool()

    def move(self, segment: Segment, size: Size) -> None:
        """Through one operation; where it moves whole pixels, as pixel indices."""
        if not len(self.row):
            return
        half = 0.5 if isinstance(segment, Warp) and segment.grid else 0.0
        given = Objects(self.points + half, self.row, torch.arange(len(self.row)))
        moved = through(segment, given, size).points - half
        self.points = torch.where(self.whole[:, None, None], _cut_off(moved), moved)

    def results(self, size: Size) -> list[tuple[Place, Tensor]]:
        """The points of each sample in the shape and type in which they came."""
        from torchvision import tv_tensors

        made = []
        for place, points in zip(self.places, self.points.split(self.counts), strict=True):
            own = points.to(place.given.dtype).reshape(place.given.shape)
            made.append((place, tv_tensors.wrap(own, like=place.given, canvas_size=size)))
        return made


def _xyxy(boxes: Any) -> Tensor:
    """torchvision's boxes (N, 4) as XYXY float64."""
    from torchvision import tv_tensors
    from torchvision.transforms.v2 import functional as F

    plain = boxes.as_subclass(Tensor).double().reshape(-1, 4)
    return F.convert_bounding_box_format(plain, old_format=boxes.format, new_format=tv_tensors.BoundingBoxFormat.XYXY)


def _carried(segment: Segment, size: Size, batch: int) -> Tensor:
    """(batch,) bool: the rows whose whole image becomes the whole new one: mirrored or resized.

    torchvision cuts nothing there: a box that came with a part outside keeps it.
    """
    after = segment.output_size(*size)
    if not isinstance(segment, Warp) or not (segment.grid or after != size):
        return torch.zeros(batch, dtype=torch.bool)
    whole = torch.tensor([[0.0, 0.0, size[1], size[0]]], dtype=torch.float64).expand(batch, 4)
    rows = torch.arange(batch)
    moved = hull(through(segment, Objects(corners(whole), rows, rows), size).points)
    return ((moved - moved.new_tensor([0.0, 0.0, after[1], after[0]])).abs() < _NEAR).all(1)


def _cut_off(values: Tensor) -> Tensor:
    """Integers as torchvision stores them: fractions cut off, where a value is not an integer but for rounding."""
    nearest = values.round()
    return torch.where((values - nearest).abs() < _NEAR * 10, nearest, values.trunc())
