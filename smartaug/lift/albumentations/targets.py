"""Boxes, keypoints and masks of albumentations' pipelines, moved by plans as albumentations moves them.

What: formats, labels and what is dropped are the work of the library's own processors; between them, boxes and points
go through each operation of the plans: a box becomes the hull of its corners, and after every operation the processor
drops what is too small or no longer visible. When: lifted pipelines with ``bbox_params`` or ``keypoint_params``. Cost:
a few operations on all boxes of a batch for each operation, and the processors for each sample. Reference:
albumentations 2.0.8.

Points are pixel indices, which resizing alone multiplies as if they were continuous.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..._base import leaves
from ...augment.plan import Plan, Segment, Warp
from ...augment.targets.objects import Objects, corners, hull
from ...augment.targets.through import through
from ..joint import JointSample
from ..lifted import Lifted
from ..moving_masks import Masks, Place
from ..steps import Transform

_MIRRORING = (2, 4)  # OpenCV's numbers of the borders in which albumentations repeats boxes and points, too
_FORMATS = {"keypoints": ("xy", "yx")}  # angles and scales of keypoints would have to follow as well
_WORDS = {"pascal_voc": "xyxy", "coco": "xywh", "yolo": "yolo"}  # "albumentations": corners in fractions
Size = tuple[int, int]


def why_not(pipeline: Transform) -> str | None:
    """Why the boxes or keypoints of a pipeline cannot be moved at hand-over; None: they can, or there are none."""
    processors = getattr(pipeline, "processors", None) or {}
    for name, processor in processors.items():
        params = processor.params
        if name not in ("bboxes", "keypoints") or (name in _FORMATS and params.format not in _FORMATS[name]):
            return f"its {name} have the format {params.format!r}, of which more moves than places"
        if not getattr(params, "check_each_transform", True):
            return f"its {name} are looked at only at the end (check_each_transform=False)"
    if processors and getattr(pipeline, "p", 1) < 1:
        return "it moves boxes or keypoints with the image in some samples only"
    return None


def box_formats(pipeline: Transform) -> dict[leaves.Path, str]:
    """The word of ``follow=`` for the boxes that a pipeline returns; "albumentations" where it has none for them."""
    processor = (getattr(pipeline, "processors", None) or {}).get("bboxes")
    return {} if processor is None else {("bboxes",): _WORDS.get(processor.params.format, processor.params.format)}


def hinders(transform: Transform) -> str | None:
    """Why boxes and keypoints cannot follow one transform; None: they can, or its pipeline has none."""
    if not getattr(transform, "processors", None):
        return None
    if type(transform).__name__ == "CoarseDropout":
        return "it drops boxes and keypoints that its holes cover"
    if getattr(transform, "border_mode", 0) in _MIRRORING and getattr(transform, "pad_if_needed", True):
        return "its border mirrors boxes and keypoints, too"
    if getattr(transform, "rotate_method", "largest_box") != "largest_box":
        return "rotate_method: boxes follow by their corners"
    if type(transform).__name__ == "Resize" and transform.interpolation == 0:
        return "interpolation=0: boxes would follow OpenCV's nearest pixels"
    return None


def following(
    lifted: Lifted, samples: Sequence[JointSample], size: Size, device: torch.device | None = None
) -> AlbumentationsTargets:
    """The `Following` of a lifted albumentations pipeline."""
    assert lifted.recipe is not None
    processors = getattr(lifted.recipe.transform, "processors", None) or {}
    return AlbumentationsTargets(samples, size, processors, device)


class AlbumentationsTargets:
    """A `Following` for samples of albumentations.

    processors: of the user's Compose, by what they process. device: of the masks.
    """

    def __init__(
        self,
        samples: Sequence[JointSample],
        size: Size,
        processors: dict[str, Any],
        device: torch.device | None = None,
    ) -> None:
        self.samples, self.size = samples, size
        masks = [
            Place(number, inside, leaves.get(sample.made, inside))
            for number, sample in enumerate(samples)
            for inside in _masks_of(sample)
        ]
        self.masks = Masks(masks, device)
        # processors hold the labels of one sample between their two calls, so each sample has its own
        self.own = [{name: type(p)(p.params) for name, p in processors.items()} for _ in samples]
        self.data = [self._begun(number) for number in range(len(samples))]
        self.groups = [_Group(name, p, self.data) for name, p in (processors.items())]

    def _begun(self, number: int) -> dict[str, Any]:
        """A sample's boxes, keypoints and labels as albumentations keeps them between its transforms."""
        made = self.samples[number].made
        fields = {name for p in self.own[number].values() for name in (*p.data_fields, *(p.params.label_fields or ()))}
        data = {name: made[name] for name in made if name in fields}
        if data:
            data["image"] = torch.empty(1).expand(1, *self.size)  # the size is all that processors read of it
            for processor in self.own[number].values():
                processor.ensure_data_valid(data)
            for processor in self.own[number].values():
                processor.preprocess(data)
        return data

    def follow(self, plan: Plan) -> None:
        """Move the targets as ``plan``, which has a row a sample, moves the images."""
        if not plan.moves_pixels:
            return
        size = self.size
        for segment in plan.operations:
            if segment.moves_pixels:
                for group in self.groups:
                    group.move(segment, size)
            size = segment.output_size(*size)
        self.masks.move(plan)
        self.size = size

    def finished(self, images: Sequence[Tensor]) -> list[leaves.Structure]:
        """Each sample as the user's pipeline would have returned it. images: those of the samples, finished."""
        for group in self.groups:
            group.write(self.data)
        made = []
        for sample, image, data, own in zip(self.samples, images, self.data, self.own, strict=True):
            if data:
                data["image"] = image
                for processor in own.values():
                    processor.postprocess(data)
            made.append({**sample.made, **data, "image": image})
        for place, mask in self.masks.results():
            made[place.sample] = leaves.put(made[place.sample], place.path, mask)
        return made


def _masks_of(sample: JointSample) -> list[leaves.Path]:
    found = [(name,) for name in ("mask",) if isinstance(sample.made.get(name), Tensor)]
    return found + [("masks", number) for number in range(len(sample.made.get("masks", ())))]


class _Group:
    """The boxes, or the keypoints, of all samples: rows of albumentations' own columns, and the sample of each."""

    def __init__(self, name: str, processor: Any, data: Sequence[dict[str, Any]]) -> None:
        self.name, self.processor = name, processor
        self.filled = [number for number, own in enumerate(data) if name in own and own[name].size]
        parts = [np.asarray(data[number][name], np.float64) for number in self.filled]
        # boxes become float64 where they are cut; points keep their type, or are float32 once they were turned
        self.types = [own[name].dtype if name == "keypoints" and name in own else np.float64 for own in data]
        self.rows = np.concatenate(parts) if parts else np.empty((0, 5))
        counts = [len(part) for part in parts]
        self.sample = torch.tensor(self.filled, dtype=torch.int64).repeat_interleave(
            torch.tensor(counts, dtype=torch.int64)
        )

    def move(self, segment: Segment, size: Size) -> None:
        """Through one operation on images of ``size``; then the processor drops what it drops."""
        if not len(self.rows):
            return
        after = segment.output_size(*size)
        places = self._boxes if self.name == "bboxes" else self._points
        rows, kept = places(segment, size, after)
        numbered = np.column_stack([rows, self.sample.numpy()])[kept]
        left = self.processor.filter(numbered, {"height": after[0], "width": after[1]})
        left = left.reshape(-1, numbered.shape[1]) if len(left) else numbered[:0]
        self.rows, self.sample = left[:, :-1], torch.from_numpy(left[:, -1].astype(np.int64))

    def _boxes(self, segment: Segment, size: Size, after: Size) -> tuple[np.ndarray, np.ndarray]:
        """The rows with moved boxes, and which of them albumentations' affine maps leave."""
        scale = np.array([size[1], size[0]] * 2)
        boxes = torch.from_numpy(self.rows[:, :4] * scale)
        moved = hull(self._through(segment, corners(boxes), size).points).numpy()
        kept = np.ones(len(moved), bool)
        if isinstance(segment, Warp) and not segment.grid and not _resizes(segment, size):
            kept = (moved[:, 2:] > 0).all(1) & (moved[:, 0] < after[1]) & (moved[:, 1] < after[0])
        return np.column_stack([moved / np.array([after[1], after[0]] * 2), self.rows[:, 4:]]), kept

    def _points(self, segment: Segment, size: Size, after: Size) -> tuple[np.ndarray, np.ndarray]:
        half = 0.0 if _resizes(segment, size) else 0.5
        if half and isinstance(segment, Warp):
            turned = (segment.matrix[:, :, :2] != torch.eye(2, dtype=torch.float64)).flatten(1).any(1)
            for number in turned.nonzero()[:, 0].tolist():
                self.types[number] = np.dtype(np.float32)
        points = torch.from_numpy(self.rows[:, None, :2] + half)
        moved = self._through(segment, points, size).points[:, 0].numpy() - half
        return np.column_stack([moved, self.rows[:, 2:]]), np.ones(len(moved), bool)

    def _through(self, segment: Segment, points: Tensor, size: Size) -> Objects:
        return through(segment, Objects(points, self.sample, torch.arange(len(points))), size)

    def write(self, data: Sequence[dict[str, Any]]) -> None:
        """Put the rows of each sample back where its processor looks for them."""
        for number in self.filled:
            rows = self.rows[(self.sample == number).numpy()].astype(self.types[number])
            data[number][self.name] = rows if len(rows) else np.empty((0, 4), np.float32)


def _resizes(segment: Segment, size: Size) -> bool:
    """Whether an operation resizes the image or a part of it."""
    changed = isinstance(segment, Warp) and not segment.grid
    return changed and (segment.output_size(*size) != size or getattr(segment, "bounds", None) is not None)
