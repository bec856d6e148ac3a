"""Places: leaves of a batch that may refer to pixels, and of which it is not known how they follow the images.

Boxes, points, masks, maps of any size, a second image: if the images are warped and these are not, the batch is wrong
without any visible sign. The values of a leaf do not show its meaning, so every leaf that may be a place, and that
`followers` does not know, raises an error, which says what to write: ``follow=`` for what moves with the images,
``still=`` for what must not change, ``target=`` for a label.

Accepted as no places: one number per sample, text, labels by ``target=`` or by their key, rows of 0 and 1,
rows of probabilities that sum to 1, and rows of numbers that cannot be coordinates in the image (embeddings: some are
negative or larger than its sides).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..._base import leaves
from .addresses import of_every_row
from .pictures import Pictures

_WORDS = re.compile(r"[^a-z0-9]+")  # separates the words of a key: "gt_boxes" has the words "gt" and "boxes"
_PLACES = frozenset(
    _WORDS.split(
        "box boxes bbox bboxes obb rect rects quad quads keypoint keypoints kpt kpts landmark landmarks point points "
        "pose poses joint joints corner corners polygon polygons vertex vertices contour contours segmentation "
        "segmentations coord coords coordinate coordinates center centers centre centres xyxy xywh cxcywh homography "
        "flow"
    )
)
_COORDINATES = frozenset(_WORDS.split("x0 y0 x1 y1 x2 y2 x3 y3 x4 y4 xmin ymin xmax ymax cx cy"))
_LABELS = frozenset(
    _WORDS.split(
        "label labels class classes category categories attr attrs attribute attributes id ids index size sizes shape "
        "area crowd iscrowd score scores logits embedding embeddings"
    )
)
_TV_PLACES, _TV_MAPS = ("BoundingBoxes", "KeyPoints"), ("Mask", "Image", "Video")
_WITHOUT_BOUNDS = (torch.uint16, torch.uint32, torch.uint64)  # types of which torch has no largest value on the CPU
_PAIRS = (2, 4)  # numbers of a point and of a box
_BOXES = ("xyxy", "xywh", "cxcywh", "yolo")
_MAPS = ("mask", "heatmap", "image")
_NAMED = {  # word of a key -> what a map of that name is
    **dict.fromkeys(("flow", "motion"), "flow"),
    **dict.fromkeys(("disparity", "disparities", "disp"), "disparity"),
    **dict.fromkeys(("heatmap", "heatmaps", "heat", "depth", "depths"), "heatmap"),
    **dict.fromkeys(("mask", "masks", "segmentation", "segmentations", "seg"), "mask"),
    **dict.fromkeys(("image", "images", "img", "right", "second"), "image"),
}
_OF_WIDTH = {2: ("keypoints",), 3: ("keypoints",), 4: _BOXES, 5: ("xywhr", "cxcywhr"), 8: ("xyxyxyxy",)}


@dataclass(frozen=True)
class Place:
    """A leaf that may refer to pixels.

    what: description for errors. kinds: those of ``follow=`` that it may be, the likeliest first; spec: the code that
    names it there; shown, still: it, and the code that names it in ``still=``, for errors. listed: it is no tensor.
    """

    what: str
    kinds: tuple[str, ...] = ()
    spec: str = ""
    shown: str = ""
    still: str = ""
    listed: bool = False


class Places:
    """The places of one batch, searched for when a stage first moves pixels. find: returns them by path."""

    def __init__(self, find: Callable[[], dict[leaves.Path, Place]] = dict) -> None:
        self._find = find

    @cached_property
    def found(self) -> dict[leaves.Path, Place]:
        """Path -> place."""
        return self._find()

    def refuse(self, stage: str) -> None:
        """Raise a ValueError if there are places, since ``stage`` may move the pixels."""
        for place in self.found.values():
            raise ValueError(_refusal(stage, place))


def is_label(data: leaves.Structure, path: leaves.Path) -> bool:
    """Whether the part that ``target=`` names is a label: tensors (B,) or (B, K), not maps or boxes.

    A part whose key names a place ("boxes") is not a label: where a model learns boxes, they have to move.
    """
    part = leaves.get(data, path)
    columns = part if isinstance(part, (list, tuple)) else [part]
    flat = all(isinstance(one, Tensor) and not one.is_nested and one.ndim <= 2 for one in columns)
    return flat and _PLACES.isdisjoint(set().union(*_words(data, path)))


def find_places(
    data: leaves.Structure,
    pictures: Pictures,
    known: Sequence[leaves.Path],
    followers: Set[leaves.Path],
    seen: dict[object, bool],
) -> dict[leaves.Path, Place]:
    """Everything in a batch that may lie in its images, and is not known to follow them.

    known: parts that are no places, since the user said so (``still=``, ``target=``). followers: leaves that follow.
    seen: cache of results for leaves on an accelerator, whose values are read once, not in every batch.
    """
    found, lists = {}, dict[leaves.Path, bool]()
    for path, leaf in _grouped(data, (), pictures.rows):
        if path in followers or leaves.starts_with(path, (*pictures.paths, *known)):
            continue
        place = _place(data, path, leaf, pictures, seen, _in_samples(data, path, lists))
        if place is not None:
            found[path] = _at(data, path, place, pictures.rows)
    return found


def _at(data: leaves.Structure, path: leaves.Path, place: Place, rows: int) -> Place:
    """``place`` with what errors say of its address."""
    address = of_every_row(data, path, rows)
    listed = not isinstance(leaves.get(data, path), (Tensor, np.ndarray))
    key = len(address.each or ()) == 1 and isinstance(address.step, str) and not listed
    still = repr(address.step) if key else repr(path[0]) if path else "..."
    return replace(place, spec=address.spec, shown=address.shown, still=still, listed=listed)


def _refusal(stage: str, place: Place) -> str:
    stays = f"still={place.still} if it must stay as it is"
    what = f"write {stays}"
    if place.kinds and place.listed:
        what += (
            f', let the dataset give a tensor and write follow={{...: "{place.kinds[0]}"}} if it moves with the images '
            "(torchvision.datasets.wrap_dataset_for_transforms_v2(dataset) lets its own datasets give tensors that say "
            "what they are)"
        )
    elif place.kinds:
        first, others = place.kinds[0], ", ".join(f'"{kind}"' for kind in place.kinds[1:])
        instead = f" (or {others})" if others else ""
        what = f'write follow={{{place.spec}: "{first}"}}{instead} if it moves with the images, '
        if first == "keypoints":
            what += f"or {{{place.spec}: smartaug.Keypoints(swap=...)}} if mirroring exchanges left and right, "
        what += stays
    return (
        f"{stage} may move pixels, but {place.shown} is {place.what} that would not follow; {what}, "
        f"{_other_words(place, place.still)}use only stages that leave pixels in place (Erase, Normalize), or augment "
        "both in the dataset"
    )


def _other_words(place: Place, name: str) -> str:
    """Further advice for the error, by the kind of place."""
    if "picture" in place.what or "image" in place.what:
        return "inputs=[...] with all pictures if it is one more to augment, "
    return f"target={name} if it is the label, " if "numbers a sample" in place.what else ""


def _grouped(part: leaves.Structure, path: leaves.Path, rows: int) -> list[tuple[leaves.Path, leaves.Structure]]:
    """The leaves of ``part``, in a batch of ``rows`` samples; a list of numbers, or of columns, is one leaf.

    ``[x1, y1, x2, y2]`` in each sample is a list of four tensors (B,) after `default_collate`, or of B tensors (4,)
    from another collate function: here one tensor (B, 4).
    """
    if isinstance(part, Mapping) or leaves.is_record(part):
        return [found for name, one in leaves.parts_of(part) or () for found in _grouped(one, (*path, name), rows)]
    if not isinstance(part, (list, tuple)) or not part or isinstance(part[0], str):
        return [(path, part)]
    if path and len(part) > 1 and not hasattr(part, "_fields") and _is_flat(part[0]):
        if all(_is_flat(one) and len(one) == rows for one in part):
            return [(path, torch.stack([one.double() for one in part], 1))]
        if len(part) == rows and all(_is_flat(one) and len(one) == len(part[0]) for one in part):
            return [(path, torch.stack([one.double() for one in part]))]
    lists = [one for one in part if isinstance(one, (list, tuple)) and _are_numbers(one)]
    if _are_numbers(part) or (len(lists) == len(part) and len({len(one) for one in lists}) == 1):
        return [(path, torch.tensor(part, device="cpu"))]
    return [found for number, one in enumerate(part) for found in _grouped(one, (*path, number), rows)]


def _is_flat(part: object) -> bool:
    return isinstance(part, Tensor) and not part.is_nested and part.ndim == 1


def _are_numbers(part: leaves.Structure) -> bool:
    return len(part) > 0 and all(isinstance(one, (bool, int, float)) for one in part)


def _in_samples(data: leaves.Structure, path: leaves.Path, lists: dict[leaves.Path, bool]) -> bool:
    """`leaves.in_samples`, which looks at each list of samples once. lists: what was looked at."""
    for depth in range(len(path)):
        if path[:depth] not in lists:
            lists[path[:depth]] = leaves.is_samples(leaves.get(data, path[:depth]))
        if lists[path[:depth]]:
            return True
    return False


def _place(
    data: leaves.Structure,
    path: leaves.Path,
    leaf: leaves.Structure,
    pictures: Pictures,
    seen: dict[object, bool],
    of_sample: bool,
) -> Place | None:
    """The place that a leaf may be in the images; None: it is not one. of_sample: it has no batch dimension."""
    kind = next((base.__name__ for base in type(leaf).__mro__ if "tv_tensors" in base.__module__), "")
    if kind in _TV_PLACES:
        return Place("boxes or keypoints")
    if kind in _TV_MAPS or type(leaf).__module__.startswith("PIL."):
        return Place(f"a mask or a second image ({kind or type(leaf).__name__})", ("image",) if kind else ())
    if isinstance(leaf, (bool, int, float)):
        leaf = torch.tensor(leaf, device="cpu")
    if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biuf":
        leaf = torch.from_numpy(np.ascontiguousarray(leaf))
    if not isinstance(leaf, Tensor):
        held = [part for part in getattr(leaf, "__dict__", {}).values() if isinstance(part, Tensor) and part.ndim > 1]
        return Place(f"an object {type(leaf).__name__} of tensors, which may be boxes or keypoints,") if held else None
    leaf = leaf if leaf.is_nested or leaf.layout == torch.strided else leaf.to_dense()
    words = _words(data, path)
    if leaf.is_nested:
        named = not _PLACES.isdisjoint(set().union(*words))
        return Place("boxes or keypoints (a nested tensor)") if leaf.ndim >= 3 or named else None
    return _numbers(path, leaf, words, pictures, seen, of_sample)


def _numbers(
    path: leaves.Path,
    leaf: Tensor,
    words: list[set[str]],
    pictures: Pictures,
    seen: dict[object, bool],
    of_sample: bool,
) -> Place | None:
    """What a tensor may be in the images. words: of the names on its path. of_sample: it has no batch dimension."""
    shown = f"{str(leaf.dtype)[6:]} {tuple(leaf.shape)}"
    each = leaf.shape if of_sample or (leaf.ndim > 1 and len(leaf) != pictures.rows) else leaf.shape[1:]
    each = torch.Size(length for length in each if length != 1)
    own, above = words[-1] if words else set(), set().union(*words[:-1])
    if not each:  # one number a sample
        inside = not _PLACES.isdisjoint(above) or (not own and not _PLACES.isdisjoint(set().union(*words)))
        return Place("boxes or keypoints") if inside or not _COORDINATES.isdisjoint(own) else None
    objects = _OF_WIDTH.get(leaf.shape[-1], ())
    objects = _likely_formats(leaf, pictures) if objects == _BOXES else objects
    of_size = len(each) >= 2 and tuple(leaf.shape[-2:]) in pictures.sizes
    named = not _PLACES.isdisjoint(own | above) or not _COORDINATES.isdisjoint(own)
    if named and not of_size:
        return Place("boxes or keypoints", () if "homography" in own else objects)
    if len(each) >= 2:
        if of_size:
            return Place(f"a mask or a second image {tuple(leaf.shape)}", _likely_maps(own, leaf))
        if len(each) == 2 and each[-1] <= 8:  # x, y; with a depth or visibility; boxes, with class, score or angle
            kinds = (*objects, "mask") if each[-1] <= 4 else ("mask", *objects)
            return Place(f"{shown}, which may be boxes or keypoints,", kinds)
        return Place(f"{shown}, which may be a map or a picture of another size,", _likely_maps(own, leaf))
    if leaf.dtype == torch.bool or not _LABELS.isdisjoint(own):
        return None
    if of_sample and each[0] not in _PAIRS:
        return None  # labels, areas, scores of the objects in a sample
    if leaf.device.type == "cpu":
        may_be = _may_be_coordinates(leaf, each[0], pictures)
    else:
        may_be = seen.get((path, leaf.shape[1:]))  # type: ignore[assignment]
        if may_be is None:
            may_be = seen[path, leaf.shape[1:]] = _may_be_coordinates(leaf, each[0], pictures)
    return Place(f"{each[0]} numbers a sample, {shown}, which may be boxes or keypoints,", objects) if may_be else None


def _likely_maps(words: set[str], leaf: Tensor) -> tuple[str, ...]:
    """The kinds that a map may be, those that the words of its name say first."""
    said = [_NAMED[word] for word in _NAMED if word in words]
    return tuple(dict.fromkeys([*said, *(["flow"] if leaf.shape[-3:-2] == (2,) else []), *_MAPS]))


def _likely_formats(boxes: Tensor, pictures: Pictures) -> tuple[str, ...]:
    """The formats of boxes (..., 4); first those whose boxes would lie in the images, which is no proof."""
    if boxes.device.type != "cpu" or not boxes.numel() or boxes.is_complex():
        return _BOXES
    values = boxes.detach().double().reshape(-1, 4)
    start, second = values[:, :2], values[:, 2:]
    unit = bool(((values >= 0) & (values <= 1)).all())
    far = values.new_tensor([max(width for _, width in pictures.sizes), max(height for height, _ in pictures.sizes)])
    fits = {
        "xyxy": not unit and bool((second >= start).all()),
        "xywh": not unit and bool((start + second <= far + 1).all()),
        "cxcywh": not unit and bool(((start + second / 2 <= far + 1) & (start - second / 2 >= -1)).all()),
        "yolo": unit,
    }
    return tuple(sorted(_BOXES, key=lambda name: not fits[name]))


def _words(data: leaves.Structure, path: leaves.Path) -> list[set[str]]:
    """The words of each key or namedtuple field on a path; an empty set for a position."""
    found, part = [], data
    for step in path:
        name = leaves.name_of_step(part, step)
        found.append(set() if name is None else set(_WORDS.split(name.lower())))
        part = leaves.step_into(part, step)
    return found


def _may_be_coordinates(rows: Tensor, count: int, pictures: Pictures) -> bool:
    """Whether rows of ``count`` numbers can be coordinates in the images, in pixels or relative to the sides.

    Rows of 0 and 1 (one-hot, several labels) and rows that sum to 1 (probabilities) cannot. Other rows of 2 or 4
    numbers can, in any unit; longer rows can unless a number is negative (other than −1, a missing point) or larger
    than the sides.
    """
    if rows.is_complex():
        return True
    values = rows.detach().reshape(-1, count)
    values = values.double() if values.dtype in _WITHOUT_BOUNDS else values
    if not values.numel():
        return False
    low, high = (float(bound) for bound in torch.aminmax(values))
    outside = high > max(map(max, pictures.sizes)) or (low < 0 and low != -1)
    if outside and count not in _PAIRS:  # most embeddings end here: one read of the device
        return False
    if bool(((values == 0) | (values == 1)).all()):
        return False
    # 1e-2: the error of such a sum in half precision
    if low >= 0 and rows.is_floating_point() and bool(((values.double().sum(1) - 1).abs() < 1e-2).all()):
        return False
    return count in _PAIRS or not bool(((values < 0) & (values != -1)).any())
