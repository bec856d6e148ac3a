"""The roles of a pipeline's arguments: the image, the targets that move with it, and what cannot be lifted.

torchvision v2 accepts any structure and decides by type: it transforms PIL images, its own tensor types, and, if there
is no such image, the first plain tensor; it returns everything else unchanged. albumentations decides by keyword.
torchvision v1, timm and Kornia take one image. If the arguments contain something that the whole pipeline moves and the
lifted part cannot (videos, a second image, rotated boxes, masks of another size), nothing is lifted for that sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from .._base import leaves
from . import registry

_MOVED_BY_NAME = ("images", "volume", "volumes", "mask3d", "masks3d")
OBJECTS = {"bboxes": "boxes", "keypoints": "keypoints"}  # albumentations' argument -> kind
OTHER_SIZE = "its samples have masks of another size than the image, which only the whole pipeline moves with it"
_TARGETS = {"Mask": "mask", "BoundingBoxes": "boxes", "KeyPoints": "keypoints"}  # torchvision's type -> kind


KORNIA_KINDS = {  # Kornia's data key -> kind
    "IMAGE": "image",
    "INPUT": "image",
    "MASK": "mask",
    "BBOX": "boxes",
    "BBOX_XYXY": "boxes",
    "BBOX_XYWH": "boxes",
    "KEYPOINTS": "keypoints",
}


class Role(NamedTuple):
    """What one leaf is. path: in the arguments and in the result. kind: "image", "mask", "boxes", "keypoints"."""

    path: leaves.Path
    leaf: Any
    kind: str = "image"


class Rules(NamedTuple):
    """How a pipeline is called. by_name: by keyword (albumentations). structured: any structure (torchvision v2).

    any_size: masks may have another size than the image, since the lifted part only mirrors. fields: arguments of
    albumentations that have one row an object, and whether the pipeline has settings for them. keys: Kornia's data
    keys, one an argument, if there are several.
    """

    by_name: bool
    structured: bool
    any_size: bool
    fields: Mapping[str, bool]
    keys: tuple[str, ...] = ()


def rules_of(transform: object, any_size: bool = False) -> Rules:
    """The `Rules` of a user's pipeline."""
    library = registry.library_of(transform)
    by_name = library is not None and library.__name__.rpartition(".")[2] == "albumentations"
    singles = registry.flat(transform)
    structured = all(type(one).__module__.startswith("torchvision.transforms.v2") for one in singles)
    processors = getattr(transform, "processors", None) or {} if by_name else {}
    fields = {name: name in processors for name in OBJECTS} if by_name else {}
    for processor in processors.values():
        fields |= dict.fromkeys(processor.params.label_fields or (), True)
    keys = data_keys(transform)
    return Rules(by_name, structured, any_size, fields, keys if len(keys) > 1 else ())


def data_keys(transform: object) -> tuple[str, ...]:
    """The names of the data keys of Kornia's AugmentationSequential; () for any other transform."""
    if type(transform).__name__ != "AugmentationSequential":
        return ()
    return tuple(str(getattr(key, "name", key)).upper() for key in getattr(transform, "data_keys", None) or ())


def roles(rules: Rules, given: tuple[Any, ...], named: Mapping[str, Any]) -> list[Role] | str:
    """The image and the targets among one call's arguments, the image first; or why the call cannot be lifted."""
    if rules.by_name:
        return "its transform is called without names" if given else _named_roles(rules, named)
    if named or not given:
        return "its transform is called with keywords"
    if rules.keys:
        return _keyed_roles(rules.keys, given)
    if len(given) == 1 and not isinstance(given[0], (dict, tuple, list)):
        if kind_of(given[0]) is None:
            return f"its transform is given {type(given[0]).__name__}, which is no image that lift knows"
        return [Role((), given[0])]
    if not rules.structured:
        return "its transform is given more than an image"
    return _structured_roles(rules, given if len(given) > 1 else given[0])


def _named_roles(rules: Rules, named: Mapping[str, Any]) -> list[Role] | str:
    image = named.get("image")
    if not isinstance(image, np.ndarray):
        return [Role(("image",), image)]  # albumentations or the worker raises the error
    found = [Role(("image",), image)]
    for name, value in named.items():
        if name in _MOVED_BY_NAME:
            return f"its samples have {name}, which only the whole pipeline moves with the image"
        if name in rules.fields:
            if name in OBJECTS and not rules.fields[name]:
                return f"its samples have {name}, and the pipeline no settings for them"
            found.append(Role((name,), value, OBJECTS.get(name, "object")))
        elif name == "mask" and value is not None:
            found.append(Role((name,), value, "mask"))
        elif name == "masks" and value is not None:
            found += [Role((name, number), mask, "mask") for number, mask in enumerate(value)]
        elif name != "image" and getattr(value, "ndim", 0) >= 2:
            return f"its transform is given {name}=, which may move with the image"
    sizes = [getattr(role.leaf, "shape", ())[:2] for role in found if role.kind in ("image", "mask")]
    return found if rules.any_size or all(size == image.shape[:2] for size in sizes) else OTHER_SIZE


def _keyed_roles(keys: tuple[str, ...], given: tuple[Any, ...]) -> list[Role] | str:
    """The roles of the arguments of Kornia's AugmentationSequential, by its data keys."""
    if len(given) != len(keys) or not all(isinstance(part, Tensor) for part in given):
        return "its transform is given other parts than its data_keys name"
    found = [Role((place,), part, KORNIA_KINDS[key]) for place, (key, part) in enumerate(zip(keys, given, strict=True))]
    found.sort(key=lambda role: role.kind != "image")
    for role in found[1:]:
        last = {"mask": 3, "boxes": 3 if keys[role.path[0]] == "BBOX" else 2, "keypoints": 2}[role.kind]
        if role.leaf.ndim != last or not role.leaf.is_floating_point():
            return f"its transform is given {keys[role.path[0]]} that is not floats of {last} dimensions"
    sizes = {tuple(role.leaf.shape[-2:]) for role in found if role.kind in ("image", "mask")}
    return found if len(sizes) == 1 else OTHER_SIZE


def _structured_roles(rules: Rules, given: Any) -> list[Role] | str:
    images: list[Role] = []
    targets: list[Role] = []
    plain: list[Role] = []
    for path, leaf in leaves.walk(given):
        if kind_of(leaf) in ("pil", "image"):
            images.append(Role(path, leaf))
        elif _is_of_torchvision(leaf):
            kind = _TARGETS.get(type(leaf).__name__)
            if kind is None:
                return f"its samples have {type(leaf).__name__}, which only the whole pipeline moves with the image"
            if kind == "boxes" and (why := _why_not_boxes(leaf)) is not None:
                return why
            targets.append(Role(path, leaf, kind))
        elif isinstance(leaf, Tensor):
            plain.append(Role(path, leaf))
    image = images or plain[:1]  # torchvision transforms the first plain tensor, unless there is an image
    if len(image) != 1:
        return f"its transform is given {len(image)} images at once, which get the same draws"
    if not rules.any_size and any(size_of(role) != _size(image[0].leaf) for role in targets if role.kind == "mask"):
        return OTHER_SIZE
    return [*image, *targets]


def _why_not_boxes(boxes: Any) -> str | None:
    """Why boxes of torchvision cannot be moved as it does; None: they can."""
    form = boxes.format.name
    if form not in ("XYXY", "XYWH", "CXCYWH"):
        return f"its samples have rotated boxes ({form}), which only the whole pipeline moves with the image"
    if form != "XYXY" and not boxes.is_floating_point():
        return f"its samples have integer boxes in the format {form}, whose roundings only the whole pipeline makes"
    return None


def size_of(role: Role) -> tuple[int, ...]:
    """Height and width of a mask of torchvision."""
    return tuple(role.leaf.shape[-2:])


def kind_of(leaf: object) -> str | None:
    """The kind of an image: "pil", "image" (torchvision's tv_tensors.Image), "tensor", "array"; None: none of these."""
    if isinstance(leaf, Tensor):
        if type(leaf) is Tensor or not _is_of_torchvision(leaf):
            return "tensor"
        return "image" if type(leaf).__name__ == "Image" else None
    if isinstance(leaf, np.ndarray):
        return "array"
    return "pil" if hasattr(leaf, "mode") and hasattr(leaf, "getbands") else None


def _is_of_torchvision(leaf: object) -> bool:
    return any(kind.__name__ == "TVTensor" for kind in type(leaf).__mro__)


def _size(image: Any) -> tuple[int, ...]:
    return tuple(image.shape[-2:]) if isinstance(image, Tensor) else (image.height, image.width)
