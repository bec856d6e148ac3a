"""The roles of a pipeline's arguments: the image, the masks that move with it, and what cannot be lifted.

torchvision v2 accepts any structure and decides by type: it transforms PIL images, its own tensor types, and, if there
is no such image, the first plain tensor; it returns everything else unchanged. albumentations decides by keyword.
torchvision v1, timm and Kornia take one image. If the arguments contain something that the whole pipeline moves and the
lifted part cannot (boxes, keypoints, videos, a second image, masks of another size), nothing is lifted for that sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from .._base import leaves
from . import registry

Role = tuple[leaves.Path, object, bool]  # path in the result, the image or mask, whether it is a mask

_MOVED_BY_NAME = ("bboxes", "keypoints", "images", "volume", "volumes", "mask3d", "masks3d")
_BOXES = "boxes or keypoints, which only the whole pipeline moves with the image"
_OTHER_SIZE = "its samples have masks of another size than the image, which only the whole pipeline moves with it"


class Rules(NamedTuple):
    """How a pipeline is called. by_name: by keyword (albumentations). structured: any structure (torchvision v2)."""

    by_name: bool
    structured: bool


def rules_of(transform: object) -> Rules:
    """The `Rules` of a user's pipeline."""
    library = registry.library_of(transform)
    by_name = library is not None and library.__name__.rpartition(".")[2] == "albumentations"
    singles = registry.flat(transform)
    return Rules(by_name, all(type(one).__module__.startswith("torchvision.transforms.v2") for one in singles))


def roles(rules: Rules, given: tuple[Any, ...], named: Mapping[str, Any]) -> list[Role] | str:
    """The image and the masks among one call's arguments, the image first; or why the call cannot be lifted."""
    if rules.by_name:
        return "its transform is called without names" if given else _named_roles(named)
    if named or not given:
        return "its transform is called with keywords"
    if len(given) == 1 and not isinstance(given[0], (dict, tuple, list)):
        if kind_of(given[0]) is None:
            return f"its transform is given {type(given[0]).__name__}, which is no image that lift knows"
        return [((), given[0], False)]
    if not rules.structured:
        return "its transform is given more than an image"
    return _structured_roles(given if len(given) > 1 else given[0])


def _named_roles(named: Mapping[str, Any]) -> list[Role] | str:
    image = named.get("image")
    if not isinstance(image, np.ndarray):
        return [(("image",), image, False)]  # albumentations or the worker raises the error
    found: list[Role] = [(("image",), image, False)]
    for name, value in named.items():
        if name in _MOVED_BY_NAME:
            return f"its samples have {_BOXES}"
        if name == "mask" and value is not None:
            found.append(((name,), value, True))
        elif name == "masks" and value is not None:
            found += [((name, number), mask, True) for number, mask in enumerate(value)]
        elif name not in ("image", "mask", "masks") and getattr(value, "ndim", 0) >= 2:
            return f"its transform is given {name}=, which may move with the image"
    sizes = [getattr(part, "shape", ())[:2] for _, part, _ in found]
    return found if all(size == image.shape[:2] for size in sizes) else _OTHER_SIZE


def _structured_roles(given: Any) -> list[Role] | str:
    images: list[Role] = []
    masks: list[Role] = []
    plain: list[Role] = []
    for path, leaf in leaves.walk(given):
        name = type(leaf).__name__
        if kind_of(leaf) in ("pil", "image"):
            images.append((path, leaf, False))
        elif _is_of_torchvision(leaf):
            if name == "Mask":
                masks.append((path, leaf, True))
            else:
                return f"its samples have {_BOXES if name in ('BoundingBoxes', 'KeyPoints') else _other(name)}"
        elif isinstance(leaf, Tensor):
            plain.append((path, leaf, False))
    image = images or plain[:1]  # torchvision transforms the first plain tensor, unless there is an image
    if len(image) != 1:
        return f"its transform is given {len(image)} images at once, which get the same draws"
    if any(leaf.shape[-2:] != _size(image[0][1]) for _, leaf, _ in masks):  # type: ignore[attr-defined]
        return _OTHER_SIZE
    return [*image, *masks]


def _other(name: str) -> str:
    return f"{name}, which only the whole pipeline moves with the image"


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
