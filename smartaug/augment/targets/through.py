"""Points moved by a plan, exactly.

What: each segment that moves pixels moves the points of `Objects` by the inverse of its matrix, in float64. When:
boxes, keypoints and polygons beside augmented images. Cost: a few multiplications a point, on the CPU, where plans
live.

What leaves the image is lost, also where a later segment would bring its place back: after each segment that moves
pixels, objects are cut off at the border of the image (see `objects.within`).
"""

from __future__ import annotations

import dataclasses
from functools import singledispatch

import torch
from torch import Tensor

from ..plan import Branches, Plan, Segment, Warp
from ..projection import Projection, inverse, mapped
from .objects import Objects, within

HALF = 0.5  # a pixel's centre, in continuous pixels, is its index and a half


@singledispatch
def through(segment: Segment, objects: Objects, size: tuple[int, int]) -> Objects:
    """``objects`` after one segment; size: height and width of the images before it.

    Raises ValueError for segments that move pixels in a way that is not known here.
    """
    if not segment.moves_pixels:
        return objects
    name = type(segment).__name__
    raise ValueError(
        f"{name} moves pixels without a map for points, so boxes and keypoints cannot follow; leave the augmentation "
        "that makes it out of augment=, or run it in the dataset, on image and boxes together"
    )


@through.register
def _(segment: Warp, objects: Objects, size: tuple[int, int]) -> Objects:
    """Output pixel o reads input pixel A·o + b, so a point p of the input is found at A⁻¹ (p − b)."""
    if not len(objects):
        return objects
    matrix = segment.matrix[objects.row]
    moved = inverse_map(matrix, objects.points - HALF) + HALF
    if segment.active is not None:
        moved = torch.where(segment.active[objects.row][:, None, None], moved, objects.points)
    return objects.at(moved)


@through.register
def _(segment: Projection, objects: Objects, size: tuple[int, int]) -> Objects:
    """By the inverse of the projective map; a point from behind the horizon is seen nowhere, nor is its box."""
    if not len(objects):
        return objects
    moved, before = mapped(inverse(segment.matrix)[objects.row], objects.points - HALF)
    moved, before = moved + HALF, before if objects.shape == "points" else before.all(1, keepdim=True)
    if segment.active is not None:
        active = segment.active[objects.row][:, None]
        moved, before = torch.where(active[..., None], moved, objects.points), before | ~active
    return dataclasses.replace(objects, points=moved, visible=objects.visible * before)


@through.register
def _(segment: Branches, objects: Objects, size: tuple[int, int]) -> Objects:
    """Copies of an image may be added up as long as none of them has moved."""
    if any(part.moves_pixels for branch in segment.branches for part in branch):
        raise ValueError(
            "AugMix adds up copies of an image that moved in different ways, so no boxes or keypoints belong to the "
            "result; leave AugMix out where targets follow, or use RandAugment or TrivialAugment"
        )
    return objects


def inverse_map(matrix: Tensor, points: Tensor) -> Tensor:
    """Where the maps ``matrix`` (M, 2, 3) send to ``points`` (M, K, 2) from; raises ValueError where none inverts."""
    a, b, c, d = matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 1, 0], matrix[:, 1, 1]
    determinant = a * d - b * c
    if not bool((determinant != 0).all()):
        raise ValueError("a warp that makes a line of an image has no inverse, so points cannot follow it")
    x, y = (points - matrix[:, None, :, 2]).unbind(-1)
    a, b, c, d, determinant = (part[:, None] for part in (a, b, c, d, determinant))
    return torch.stack([(d * x - b * y) / determinant, (a * y - c * x) / determinant], -1)


def move_objects(plan: Plan, objects: Objects) -> Objects:
    """``objects`` after all segments of ``plan``, in float64, cut off where the images end."""
    height, width = plan.shape[2:]
    for segment in plan.segments:
        objects = through(segment, objects, (height, width))
        height, width = segment.output_size(height, width)
        if segment.moves_pixels:
            objects = within(objects, objects.points.new_tensor([0.0, 0.0, width, height]))
    return objects
