"""albumentations' transforms that move pixels: flips, crops, frames, resizing, affine maps, dropped rectangles.

A translator takes a transform and the `State` of its input images, and returns a `Step`; `TRANSLATORS` maps the class
name of a transform to its translator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ... import augment as A
from ..steps import UNKNOWN_SIZE, State, Step, Transform, device, worker
from .ops import geometry

_INTERPOLATIONS = {0: "nearest", 1: "bilinear"}  # OpenCV's numbers
_BORDERS = {0: "constant", 1: "edge", 2: "symmetric", 4: "reflect"}


def _blurs_masks(t: Transform) -> str | None:
    """Why masks cannot be moved as albumentations moves them; None: they can."""
    return "masks follow by the nearest pixel" if getattr(t, "mask_interpolation", 0) not in (0, 6) else None


def _mask_fill(t: Transform) -> float:
    """The fill value of masks: one number, since a mask has one channel."""
    given = np.atleast_1d(getattr(t, "fill_mask", None) or 0)
    return float(given[0])


def _size(t: Transform) -> tuple[int, int]:
    given = (t.height, t.width) if hasattr(t, "height") else t.size
    return int(given[0]), int(given[1])


def _warp(t: Transform, state: State) -> tuple[dict[str, Any], bool] | str:
    """Settings of a warp, and whether the conversion to floats must come first; or why it cannot be batched."""
    if t.interpolation not in _INTERPOLATIONS:
        return f"interpolation={t.interpolation} is not batched"
    if t.border_mode not in _BORDERS:
        return f"border_mode={t.border_mode} is not batched"
    if (why := _blurs_masks(t)) is not None:
        return why
    fill, floats = state.values(t.fill)
    settings = {"interpolation": _INTERPOLATIONS[t.interpolation], "padding": _BORDERS[t.border_mode]}
    return {**settings, "fill": fill, "mask_fill": _mask_fill(t)}, floats


def _flip(vertical: bool, t: Transform, state: State) -> Step:
    return device(t, state, A.Flip(1.0, vertical=vertical))


def _symmetry(elements: Sequence[str], t: Transform, state: State) -> Step:
    if state.size is None or state.size[0] != state.size[1]:
        return worker(t, state, "the images are not known to be square", keeps_size=False)
    return device(t, state, geometry.Symmetry(elements))


def _crop(center: bool, t: Transform, state: State) -> Step:
    size = _size(t)
    if state.size is None:
        return worker(t, state, UNKNOWN_SIZE, size=size)
    stages: list[A.Augmentation] = []
    padded, floats = state.size, False
    if t.pad_if_needed and (size[0] > padded[0] or size[1] > padded[1]):
        made = _frame(t, state, max(0, size[0] - padded[0]), max(0, size[1] - padded[1]), t.pad_position)
        if isinstance(made, str):
            return worker(t, state, made, size=size)
        stages, floats = [made[0]], made[1]
        padded = max(size[0], padded[0]), max(size[1], padded[1])
    room = padded[0] - size[0], padded[1] - size[1]
    if min(room) < 0:
        return worker(t, state, f"{size[0]}×{size[1]} does not fit images of {padded[0]}×{padded[1]}", size=size)
    if center:
        top, left = room[0] // 2, room[1] // 2
        stages.append(A.Pad((-left, -top, left - room[1], top - room[0])))
    else:
        stages.append(A.Crop(size))
    why = "batched" if center else "batched, drawn per sample"
    return device(t, state, A.Compose(stages), why, floats=floats, size=size)


def _frame(t: Transform, state: State, down: int, across: int, position: str) -> tuple[A.Augmentation, bool] | str:
    """Padding by ``down`` rows and ``across`` columns, and whether the conversion must come first; or why not."""
    if t.border_mode not in _BORDERS:
        return f"border_mode={t.border_mode} is not batched"
    if (why := _blurs_masks(t)) is not None:
        return why
    fill, floats = state.values(t.fill)
    settings: dict[str, Any] = {"fill": fill, "mode": _BORDERS[t.border_mode], "mask_fill": _mask_fill(t)}
    if position == "random":
        return geometry.RandomFrame(down, across, **settings), floats
    where = {"top_left": (0, 0), "top_right": (0, 1), "bottom_left": (1, 0), "bottom_right": (1, 1)}
    if position == "center":
        top, left = down // 2, across // 2
    elif position in where:
        top, left = where[position][0] * down, where[position][1] * across
    else:
        return f"position={position!r} is not known"
    return A.Pad((left, top, across - left, down - top), **settings), floats


def _pad_if_needed(t: Transform, state: State) -> Step:
    if state.size is None:
        return worker(t, state, UNKNOWN_SIZE, keeps_size=False)
    missing = []
    for length, least, divisor in (
        (state.size[0], t.min_height, t.pad_height_divisor),
        (state.size[1], t.min_width, t.pad_width_divisor),
    ):
        missing.append(max(0, least - length) if least is not None else -length % divisor)
    size = state.size[0] + missing[0], state.size[1] + missing[1]
    made = _frame(t, state, missing[0], missing[1], t.position)
    if isinstance(made, str):
        return worker(t, state, made, size=size)
    return device(t, state, made[0], "batched", floats=made[1], size=size)


def _pad(t: Transform, state: State) -> Step:
    given = [t.padding] if isinstance(t.padding, int) else list(t.padding)
    left, top, right, bottom = (int(side) for side in (given if len(given) == 4 else [given[0], given[-1]] * 2))
    size = None if state.size is None else (state.size[0] + top + bottom, state.size[1] + left + right)
    why = f"border_mode={t.border_mode} is not batched" if t.border_mode not in _BORDERS else _blurs_masks(t)
    if size is None or why is not None:
        return worker(t, state, why or UNKNOWN_SIZE, size=size, keeps_size=False)
    fill, floats = state.values(t.fill)
    mode, masks = _BORDERS[t.border_mode], _mask_fill(t)
    stage = A.Pad((left, top, right, bottom), fill=fill, mode=mode, mask_fill=masks)
    return device(t, state, stage, "batched", floats=floats, size=size)


def _resampled(t: Transform, state: State, nearest: A.Augmentation | None, linear: A.Augmentation) -> Step:
    """A resize of images of equal size, without antialiasing, as in OpenCV."""
    size = _size(t)
    if state.size is None:
        return worker(t, state, UNKNOWN_SIZE, size=size)
    stage = {0: nearest, 1: linear}.get(t.interpolation)
    if stage is None or t.area_for_downscale is not None:
        return worker(t, state, f"interpolation={t.interpolation} or by areas is not batched", size=size)
    if (why := _blurs_masks(t)) is not None:
        return worker(t, state, why, size=size)
    return device(t, state, stage, size=size)


def _resize(t: Transform, state: State) -> Step:
    size = _size(t)
    if t.interpolation == 0 and state.size is not None:
        pairs = zip(state.size, size, strict=True)
        lost = next((pair for pair in pairs if geometry.nearest_map(*pair) is None), None)
        if lost is not None:
            return worker(t, state, f"OpenCV's nearest pixels of {lost[0]} to {lost[1]} are no affine map's", size=size)
    return _resampled(t, state, geometry.ResizeNearest(size), A.Resize(size))


def _resized_crop(t: Transform, state: State) -> Step:
    low, high = (float(share) for share in t.scale)
    if low <= 0 or t.ratio[0] <= 0:
        return worker(t, state, "scale and ratio must be positive", size=_size(t))
    ratio = float(t.ratio[0]), float(t.ratio[1])
    return _resampled(t, state, None, A.RandomResizedCrop(_size(t), (low, high), ratio))


def _affine(t: Transform, state: State) -> Step:
    if getattr(t, "fit_output", False):
        return worker(t, state, "fit_output=True makes images of unequal size", keeps_size=False)
    settings = _warp(t, state)
    if isinstance(settings, str):
        return worker(t, state, settings)
    stage = geometry.Affine(
        scale=t.scale,
        shear=t.shear,
        rotate=tuple(t.rotate),
        pixels=t.translate_px,
        share=t.translate_percent,
        keep_ratio=bool(t.keep_ratio),
        balanced=bool(t.balanced_scale),
        **settings[0],
    )
    return device(t, state, stage, floats=settings[1])


def _rotate(t: Transform, state: State) -> Step:
    if t.crop_border:
        return worker(t, state, "crop_border=True makes images of unequal size", keeps_size=False)
    settings = _warp(t, state)
    if isinstance(settings, str):
        return worker(t, state, settings)
    one, zero = {"x": (1.0, 1.0), "y": (1.0, 1.0)}, {"x": (0.0, 0.0), "y": (0.0, 0.0)}
    stage = geometry.Affine(scale=one, shear=zero, rotate=tuple(t.limit), **settings[0])
    return device(t, state, stage, floats=settings[1])


def _dropout(t: Transform, state: State) -> Step:
    if isinstance(t.fill, str):
        return worker(t, state, f"fill={t.fill!r} is not batched")
    if t.fill_mask is not None:
        return worker(t, state, "fill_mask: masks are left whole")
    fill, floats = state.values(t.fill)
    holes = (int(t.num_holes_range[0]), int(t.num_holes_range[1]))
    stage = geometry.Holes(holes, tuple(t.hole_height_range), tuple(t.hole_width_range), fill)
    return device(t, state, stage, floats=floats)


TRANSLATORS: dict[str, Callable[[Transform, State], Step]] = {
    "HorizontalFlip": partial(_flip, False),
    "VerticalFlip": partial(_flip, True),
    "Transpose": partial(_symmetry, ("t",)),
    "RandomRotate90": partial(_symmetry, ("e", "r90", "r180", "r270")),
    "D4": partial(_symmetry, tuple(geometry.SYMMETRIES)),
    "SquareSymmetry": partial(_symmetry, tuple(geometry.SYMMETRIES)),
    "RandomCrop": partial(_crop, False),
    "CenterCrop": partial(_crop, True),
    "Pad": _pad,
    "PadIfNeeded": _pad_if_needed,
    "Resize": _resize,
    "RandomResizedCrop": _resized_crop,
    "Affine": _affine,
    "ShiftScaleRotate": _affine,
    "Rotate": _rotate,
    "CoarseDropout": _dropout,
}
