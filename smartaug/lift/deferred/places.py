"""What the worker's part of a pipeline made of a sample: the image and the targets that the lifted part takes.

What: for the roles of the arguments, the same places in the output of the worker's part, and the labels there that are
dropped with boxes; or why the lifted part cannot run on that output. When: each call of a `DeferredTransform` with more
than one image as its argument. Cost: a walk through the sample.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..._base import leaves
from ..roles import OTHER_SIZE, Role, Rules
from ..steps import Transform

LIFTABLE = {torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64}


def made_places(
    made: Any, found: Sequence[Role], rules: Rules, tail: Sequence[Transform], several: bool
) -> list[Role] | str:
    """The roles of the leaves in ``made``, which the worker's part made of ``found``; or why it cannot be lifted.

    tail: see `Lifted`. several: whether the pipeline is called with several arguments.
    """
    places: list[Role] = []
    for role in found:
        try:
            leaf = leaves.get(made, role.path)
        except (KeyError, IndexError, TypeError):
            return "the transforms that stay in the worker change the structure of the sample"
        if rules.by_name and role.kind in ("boxes", "keypoints", "object"):
            places.append(Role(role.path, copy.deepcopy(leaf), role.kind))
            continue
        if not isinstance(leaf, Tensor) or role.kind == "image":
            wrong = why_not_made(leaf)
        elif role.kind == "mask":
            size = places[0].leaf.shape[-2:]
            free = rules.any_size and not (rules.by_name and leaf.ndim == 3)  # whose channels may come last
            wrong = None if leaf.ndim in (2, 3) and (free or leaf.shape[-2:] == size) else OTHER_SIZE
        else:
            moves = hasattr(leaf, "canvas_size") or not rules.structured
            wrong = None if moves else "what stays in the worker makes plain tensors of boxes"
        if wrong is not None:
            return wrong
        if isinstance(role.leaf, Tensor) and leaf.data_ptr() == role.leaf.data_ptr():
            leaf = leaf.clone()  # the dataset may reuse the memory for its next sample
        places.append(Role(role.path, leaf, role.kind))
    if not tail:
        return places
    dropped = _dropped_with_boxes(made, tail, several)
    return dropped if isinstance(dropped, str) else [*places, *dropped]


def _dropped_with_boxes(made: Any, tail: Sequence[Transform], several: bool) -> list[Role] | str:
    """The labels in ``made`` that a torchvision transform of ``tail`` drops together with boxes or keypoints."""
    wanted: set[int] = set()
    for transform in tail:
        getter: Callable[[Any], Any] | None = getattr(transform, "_labels_getter", None)
        if getter is None:
            continue
        try:
            labels = getter(made)
        except (
            Exception
        ) as error:  # the user's function, or torchvision's; the whole pipeline raises it where torch would
            return f"the labels that {type(transform).__name__} drops are not found ({type(error).__name__})"
        listed = labels if isinstance(labels, (tuple, list)) else [labels]
        wanted |= {id(one) for one in listed if isinstance(one, Tensor)}
    return [
        Role(path, leaf.clone(), "object")
        for path, leaf in leaves.walk(made)
        if id(leaf) in wanted and type(leaf) is Tensor
    ]


def why_not_made(made: object) -> str | None:
    """Why lifted transforms cannot take what the worker's part made of an image; None: they can."""
    if not isinstance(made, Tensor):
        return f"the transforms that stay in the worker make {type(made).__name__} of an image"
    return why_no_image(made)


def why_no_image(image: Tensor) -> str | None:
    """Why lifted transforms cannot take ``image``, an output of the worker; None: they can."""
    if image.dim() != 3:
        return f"its images are tensors of {image.ndim} dimensions, and lifted transforms take (C, H, W)"
    if image.dtype not in LIFTABLE:
        return (
            f"its images are {str(image.dtype)[6:]}, and lifted transforms take uint8 or floats in [0, 1]; let the "
            "dataset give these, as in image.to(torch.uint8)"
        )
    return None
