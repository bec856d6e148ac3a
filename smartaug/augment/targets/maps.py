"""Maps that move with their images: masks, heatmaps, flow, disparity, further images, at any resolution.

What: a plan's warps, with the matrices of the map's own resolution, run on the map by the fastest backend that takes
its type; colours stay as they are. When: dense labels beside augmented images. Cost: one warp of the map for each warp
of the images. A map of h × w pixels beside images of H × W becomes round(h · H'/H) × round(w · W'/W) where these become
H' × W', and covers the same area as they do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import singledispatch
from typing import Any, TypeVar

import torch
from torch import Tensor

from .. import backends
from ..plan import Branches, Mix, Plan, Segment, Warp
from ..projection import Projection, in_continuous, in_indices
from ..resample import Resample
from .flow import stretched, turned
from .kinds import Disparity, Flow, Heatmap, Image, MapKind, Mask
from .mask_values import carried

Size = tuple[int, int]


@singledispatch
def map_segments(segment: Segment, kind: MapKind, size: Size, map_size: Size) -> tuple[Segment, ...]:
    """What a map of ``kind`` goes through where its images go through ``segment``.

    size, map_size: height and width of the images and of the map before it. Raises ValueError for segments that move
    pixels in a way that a map cannot follow.
    """
    if not segment.moves_pixels:
        return ()
    raise ValueError(
        f"{type(segment).__name__} makes pictures that no single mask belongs to; leave the augmentation that makes it "
        "out of augment= where masks follow"
    )


@map_segments.register
def _(segment: Branches, kind: MapKind, size: Size, map_size: Size) -> tuple[Segment, ...]:
    """Copies of an image may be added up as long as none of them has moved."""
    if any(part.moves_pixels for branch in segment.branches for part in branch):
        raise ValueError(
            "AugMix makes pictures that no single mask belongs to, added up from copies that moved in different ways; "
            "leave it out where masks follow, or use RandAugment or TrivialAugment"
        )
    return ()


@map_segments.register
def _(segment: Warp, kind: MapKind, size: Size, map_size: Size) -> tuple[Segment, ...]:
    """The same warp at the map's resolution, interpolated and filled as its kind wants."""
    own = _as_kind(segment, kind)
    return (own if size == map_size else scaled(own, size, map_size),)


@map_segments.register
def _(segment: Resample, kind: MapKind, size: Size, map_size: Size) -> tuple[Segment, ...]:
    """As for `Warp`; an image of the same size is antialiased as its images are."""
    if isinstance(kind, Image) and size == map_size:
        return (segment,)
    return map_segments(segment.without_filter(), kind, size, map_size)


@map_segments.register
def _(segment: Projection, kind: MapKind, size: Size, map_size: Size) -> tuple[Segment, ...]:
    """The same map S A S'⁻¹ at the map's resolution, as for `Warp`."""
    own, after = _as_kind(segment, kind), _after(segment.size, size, map_size)
    if size != map_size:
        ratios = (
            (map_size[1] / size[1], map_size[0] / size[0], 1.0),
            (
                segment.size[1] / after[1],
                segment.size[0] / after[0],
                1.0,
            ),
        )
        scale, back = (segment.matrix.new_tensor(ratio).diag() for ratio in ratios)
        matrix = in_indices(scale @ in_continuous(segment.matrix) @ back)
        own = dataclasses.replace(own, matrix=matrix, size=after)
    return (own,)


W = TypeVar("W", Warp, Projection)
_MIRRORING = ("reflect", "symmetric")


def _as_kind(segment: W, kind: MapKind) -> W:
    """The segment, interpolated and filled as ``kind`` wants."""
    if isinstance(kind, Mask):
        interpolation, fill = "nearest", segment.mask_fill if kind.fill is None else kind.fill
    elif isinstance(kind, Image):
        interpolation, fill = segment.interpolation, kind.fill
    elif isinstance(kind, (Heatmap, Flow)):
        interpolation, fill = "bilinear", kind.fill if isinstance(kind, Heatmap) else 0.0
    elif isinstance(kind, Disparity):
        interpolation, fill = kind.interpolation, kind.missing
    else:
        raise NotImplementedError(
            f"how {type(kind).__name__} is interpolated is not said; write it in _as_kind of augment/targets/maps.py"
        )
    more: dict[str, Any] = {}
    if getattr(segment, "padding", None) in _MIRRORING and isinstance(kind, (Flow, Disparity)):
        more["padding"] = "constant"  # what is mirrored beyond the border moves the other way
    return dataclasses.replace(segment, interpolation=interpolation, fill=(float(fill),), **more)


def scaled(warp: Warp, size: Size, map_size: Size) -> Warp:
    """The warp at another resolution: the matrix S A S'⁻¹ in continuous pixels, S and S' the scales before and after.

    size, map_size: height and width before it of the images that ``warp`` was made for, and of the map.
    """
    after = _after(warp.size, size, map_size)
    scale = warp.matrix.new_tensor([map_size[1] / size[1], map_size[0] / size[0]])  # x, y
    scale_after = warp.matrix.new_tensor([after[1] / warp.size[1], after[0] / warp.size[0]])
    linear = warp.matrix[:, :, :2]
    # in continuous pixels, c = i + ½: i' = A i + b becomes c' = A c + b + ½ − A ½
    start = warp.matrix[:, :, 2] + 0.5 - linear.sum(2) * 0.5
    linear = scale[:, None] * linear / scale_after
    start = scale * start - 0.5 + linear.sum(2) * 0.5
    matrix = torch.cat([linear, start[:, :, None]], 2)
    grid = warp.grid and bool((matrix == matrix.round()).all())
    bounds = warp.bounds
    if bounds is None and warp.inside:  # pixels lie inside, but what is interpolated may read half a pixel outside
        bounds = matrix.new_tensor([0.0, size[1] - 1.0, 0.0, size[0] - 1.0]).expand(len(matrix), 4)
    if bounds is not None:
        bounds = _scaled_bounds(bounds, scale)
    return dataclasses.replace(warp, matrix=matrix, size=after, grid=grid, inside=False, bounds=bounds)


def _after(after: Size, size: Size, map_size: Size) -> Size:
    """Height and width of a map after its images went from ``size`` to ``after``; at least 1."""
    tall, wide = (max(1, round(n * new / old)) for n, new, old in zip(map_size, after, size, strict=True))
    return tall, wide


def _scaled_bounds(bounds: Tensor, scale: Tensor) -> Tensor:
    """Bounds (B, 4) at the map's resolution; where less than a pixel is left, its middle."""
    low, high = bounds[:, 0::2], bounds[:, 1::2]  # (B, 2) x and y of the first and last pixel's centre
    low, high = low * scale, (high + 1.0) * scale - 1.0
    middle = (low + high) / 2
    low, high = torch.minimum(low, middle), torch.maximum(high, middle)
    return torch.stack([low[:, 0], high[:, 0], low[:, 1], high[:, 1]], 1)


def move_map(plan: Plan, maps: Tensor, kind: MapKind, backend: str | None = None) -> Tensor:
    """Maps (B, h, w) or (B, N, h, w), moved as ``plan`` moves its images; same type, on the maps' device.

    Raises ValueError for plans that no map can follow, and for a fill that a mask's type does not hold; TypeError for
    types that ``kind`` cannot interpolate.
    """
    _check(plan, maps, kind)
    moved = maps[:, None] if maps.ndim == 3 else maps
    size = plan.shape[2], plan.shape[3]
    map_size = moved.shape[2], moved.shape[3]
    steps: list[Segment] = []
    for segment in plan.segments:
        for own in map_segments(segment, kind, size, map_size):
            steps.append(own)
            map_size = own.output_size(*map_size)
        size = segment.output_size(*size)
    if steps:
        moved = _RUN.get(type(kind), _interpolated)(tuple(steps), moved, backend)
    return moved[:, 0] if maps.ndim == 3 else moved


def _interpolated(steps: tuple[Segment, ...], maps: Tensor, backend: str | None) -> Tensor:
    return backends.execute(Plan(tuple(maps.shape), steps), maps, backend)


def copied(steps: tuple[Segment, ...], masks: Tensor, backend: str | None) -> Tensor:
    """Masks after ``steps``; where these only copy values, another type may carry them."""
    if any(map(_blends, steps)):  # of float maps
        return _interpolated(steps, masks, backend)
    carrier = carried(masks, tuple(value for step in steps for value in getattr(step, "fill", ())))
    own: list[Any] = list(steps)
    for place, step in enumerate(own):
        if hasattr(step, "fill"):
            own[place] = dataclasses.replace(step, fill=tuple(map(carrier.fill, step.fill)))
    return carrier.back(_interpolated(tuple(own), carrier.values, backend))


def _flowed(steps: tuple[Segment, ...], flow: Tensor, backend: str | None) -> Tensor:
    """Motion after ``steps``, its vectors turned by each."""
    for step in steps:
        flow = turned(step, _interpolated((step,), flow, backend))
    return flow


def _stretched(steps: tuple[Segment, ...], disparity: Tensor, backend: str | None) -> Tensor:
    """Disparity after ``steps``, its values scaled by each."""
    for step in steps:
        disparity = _interpolated((step,), stretched(step, disparity), backend)
    return disparity


_RUN: dict[type[MapKind], Callable[[tuple[Segment, ...], Tensor, str | None], Tensor]] = {
    Mask: copied,
    Flow: _flowed,
    Disparity: _stretched,
}


def _check(plan: Plan, maps: Tensor, kind: MapKind) -> None:
    """Raise a ValueError or TypeError unless maps of ``kind`` can follow ``plan``."""
    if maps.ndim not in (3, 4) or len(maps) != plan.shape[0]:
        raise ValueError(
            f"a map must be (B, H, W) or (B, N, H, W) with one row for each of the {plan.shape[0]} images, got "
            f"{tuple(maps.shape)}"
        )
    if isinstance(kind, Flow) and (maps.ndim != 4 or maps.shape[1] != 2 or not maps.is_floating_point()):
        raise ValueError(
            f'a map of kind "flow" must be floats (B, 2, H, W), x and y, got {maps.dtype} {tuple(maps.shape)}'
        )
    if isinstance(kind, Disparity) and (maps.shape[1:-2].numel() != 1 or not maps.is_floating_point()):
        raise ValueError(
            f'a map of kind "disparity" must be floats (B, H, W) or (B, 1, H, W), in pixels, got {maps.dtype} '
            f"{tuple(maps.shape)}"
        )
    if isinstance(kind, Mask) and not maps.is_floating_point() and any(map(_blends, plan.segments)):
        raise ValueError(
            f"MixUp blends images, and the values of a mask of {str(maps.dtype)[6:]} have no blend; write CutMix, "
            "which pastes, or give one map a class in floats: one_hot(mask, K).movedim(-1, 1).float()"
        )
    if isinstance(kind, (Heatmap, Image)) and maps.dtype != torch.uint8 and not maps.is_floating_point():
        raise TypeError(
            f"{type(kind).__name__} interpolates, which needs uint8 or floats, got {maps.dtype}; convert it with "
            ".float(), or let it move by the nearest pixel: smartaug.Mask()"
        )


def _blends(segment: Segment) -> bool:
    """Whether a segment blends images of which none is whole."""
    return isinstance(segment, Mix) and segment.boxes is None and bool((segment.share < 1).any())
