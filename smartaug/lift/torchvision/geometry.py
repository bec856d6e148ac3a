"""torchvision's transforms that move pixels: flips, frames, crops, resizing, affine and perspective maps.

A translator takes a transform and the `State` of its input images, and returns a `Step`; `TRANSLATORS` maps the class
name of a transform to its translator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ... import augment as A
from ..steps import UNKNOWN_SIZE, State, Step, Transform, device, worker
from .perspective import Perspective

_PIL_MODES = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
Sides = tuple[int, int, int, int]  # left, top, right, bottom
NORMALISED = "works on normalised values, which have no grey levels"


def _interpolation(t: Transform) -> str:
    """The name of the interpolation, given as an InterpolationMode, a string or PIL's number."""
    value = getattr(t.interpolation, "value", t.interpolation)
    return _PIL_MODES[value] if isinstance(value, int) else str(value)


def warped(t: Transform, state: State, make: Callable[..., A.Augmentation], *, tonal: bool = False) -> Step:
    """The `Step` of ``make(interpolation=..., fill=...)``. tonal: it needs grey levels or values in [0, 1]."""
    mode, fill = _interpolation(t), t.fill
    if mode not in ("nearest", "bilinear"):
        return worker(t, state, f"{mode} interpolation is not batched")
    if isinstance(fill, dict):
        return worker(t, state, "fill is one for each type of input")
    if tonal and not state.tonal:
        return worker(t, state, NORMALISED)
    values, floats = state.values(0 if fill is None else fill)
    return device(t, state, make(interpolation=mode, fill=values), floats=floats)


def _mask_fill(t: Transform) -> float:
    """The fill value of masks: as in torchvision the same number as for the image."""
    return float(t.fill) if isinstance(t.fill, (int, float)) else 0.0


def pair(values: Sequence[float]) -> tuple[float, float]:
    """The first two of ``values``, as floats."""
    return float(values[0]), float(values[1])


def _sides(padding: int | Sequence[int]) -> Sides:
    """(left, top, right, bottom) of a padding of torchvision: one number, two or four."""
    given = [padding] if isinstance(padding, int) else [int(side) for side in padding]
    if len(given) < 4:
        given = [given[0], given[-1]] * 2
    return given[0], given[1], given[2], given[3]


def _flip(vertical: bool, t: Transform, state: State) -> Step:
    return device(t, state, A.Flip(float(t.p), vertical=vertical))


def _padded(size: tuple[int, int] | None, sides: Sides) -> tuple[int, int] | None:
    return None if size is None else (size[0] + sides[1] + sides[3], size[1] + sides[0] + sides[2])


def _pad(t: Transform, state: State) -> Step:
    sides = _sides(t.padding)
    if isinstance(t.fill, dict):
        return worker(t, state, "fill is one for each type of input", size=_padded(state.size, sides))
    fill, floats = state.values(0 if t.fill is None else t.fill)
    stage = A.Pad(sides, fill=fill, mode=t.padding_mode, mask_fill=_mask_fill(t))
    return device(t, state, stage, "batched", floats=floats, size=_padded(state.size, sides))


def of_second_generation(t: Transform) -> bool:
    """Whether a transform is one of torchvision.transforms.v2."""
    return type(t).__module__.startswith("torchvision.transforms.v2")


def _frames(t: Transform, size: tuple[int, int], wanted: tuple[int, int]) -> list[Sides]:
    """The paddings that RandomCrop applies to images of ``size`` before it crops to ``wanted``."""
    second = of_second_generation(t)
    frames: list[Sides] = []
    if t.padding:
        sides = _sides(t.padding)
        frames = [(sides[0], sides[2], sides[1], sides[3]) if second else sides]  # v2 keeps left, right, top, bottom
        size = (size[0] + frames[0][1] + frames[0][3], size[1] + frames[0][0] + frames[0][2])
    down, across = max(0, wanted[0] - size[0]), max(0, wanted[1] - size[1])
    if not (t.pad_if_needed and (down or across)):
        return frames
    if frames and (second or t.padding_mode in ("constant", "edge")):
        left, top, right, bottom = frames[0]
        return [(left + across, top + down, right + across, bottom + down)]
    return [*frames, (across, down, across, down)]  # v1 pads twice, so that it reflects what is already reflected


def _random_crop(t: Transform, state: State) -> Step:
    size = (int(t.size[0]), int(t.size[1]))
    if state.size is None:
        return worker(t, state, UNKNOWN_SIZE, size=size)
    if isinstance(t.fill, dict):
        return worker(t, state, "fill is one for each type of input", size=size)
    frames = _frames(t, state.size, size)
    padded: Any = state.size
    for sides in frames:
        padded = _padded(padded, sides)
    if padded[0] < size[0] or padded[1] < size[1]:
        return worker(t, state, f"{size[0]}×{size[1]} does not fit the images of {padded[0]}×{padded[1]}", size=size)
    fill, floats = state.values(0 if t.fill is None else t.fill)
    stages: list[A.Augmentation] = [
        A.Pad(sides, fill=fill, mode=t.padding_mode, mask_fill=_mask_fill(t)) for sides in frames
    ]
    return device(t, state, A.Compose([*stages, A.Crop(size)]), floats=floats, size=size)


def _center_crop(t: Transform, state: State) -> Step:
    size = (int(t.size[0]), int(t.size[1]))
    if state.size is None:
        return worker(t, state, UNKNOWN_SIZE, size=size)
    stages: list[A.Augmentation] = []
    down, across = max(0, size[0] - state.size[0]), max(0, size[1] - state.size[1])
    fill, floats = state.values(0)
    if down or across:
        stages = [A.Pad((across // 2, down // 2, (across + 1) // 2, (down + 1) // 2), fill=fill)]
    stages.append(A.Crop(size, place="center"))
    return device(t, state, A.Compose(stages), "batched", floats=floats and len(stages) > 1, size=size)


def _resize(t: Transform, state: State) -> Step:
    given = [t.size] if isinstance(t.size, int) else t.size
    size: tuple[int, int] | None = None
    if given is not None and len(given) == 2:
        size = (int(given[0]), int(given[1]))
    elif given is not None and t.max_size is None and state.size is not None:
        short, long = min(state.size), max(state.size)
        other = int(given[0] * long / short)
        size = (int(given[0]), other) if state.size[0] <= state.size[1] else (other, int(given[0]))
    if state.size is None or size is None:
        return worker(t, state, UNKNOWN_SIZE, size=size, keeps_size=False)
    return _scaled(t, state, size, lambda: A.Resize(size))


def _resized_crop(t: Transform, state: State) -> Step:
    size = (int(t.size[0]), int(t.size[1]))
    if state.size is None:
        return worker(t, state, UNKNOWN_SIZE, size=size)
    ratio, scale = pair(t.ratio), pair(t.scale)
    if not (0 < scale[0] <= scale[1] and 0 < ratio[0] <= ratio[1]):
        return worker(t, state, "scale and ratio must be 0 < low ≤ high", size=size)
    return _scaled(t, state, size, lambda: A.RandomResizedCrop(size, scale, ratio))


def _scaled(t: Transform, state: State, size: tuple[int, int], stage: Callable[[], A.Augmentation]) -> Step:
    """The `Step` of a resampling to ``size``; it stays where it shrinks with antialiasing."""
    assert state.size is not None
    if _interpolation(t) != "bilinear":
        return worker(t, state, f"{_interpolation(t)} resizing is not batched", size=size)
    shrinks = size[0] < state.size[0] or size[1] < state.size[1]
    if shrinks and (t.antialias or state.kind not in ("tensor", "image")):
        return worker(t, state, "it shrinks, which is antialiased per sample", size=size)
    return device(t, state, stage(), size=size)


def _rotation(t: Transform, state: State) -> Step:
    if t.expand:
        return worker(t, state, "expand=True makes images of unequal size", keeps_size=False)
    degrees = (-float(t.degrees[1]), -float(t.degrees[0]))  # counter-clockwise there, clockwise here
    return warped(t, state, partial(A.Affine, degrees, center=_center(t), mask_fill=_mask_fill(t)))


def _affine(t: Transform, state: State) -> Step:
    degrees = (float(t.degrees[0]), float(t.degrees[1]))
    shear = tuple(map(float, t.shear)) if t.shear is not None else (0.0, 0.0)
    scale = pair(t.scale) if t.scale is not None else (1.0, 1.0)
    moved = pair(t.translate) if t.translate is not None else (0.0, 0.0)
    if scale[0] > scale[1] or max(map(abs, shear)) > 89.0:
        return worker(t, state, "scale must be low ≤ high and shear within 89 degrees")
    return warped(t, state, partial(A.Affine, degrees, moved, scale, shear, center=_center(t), mask_fill=_mask_fill(t)))


def _perspective(t: Transform, state: State) -> Step:
    if not 0 <= t.distortion_scale <= 1:
        return worker(t, state, "distortion_scale must lie in 0..1")
    return warped(t, state, partial(Perspective, float(t.distortion_scale), float(t.p), mask_fill=_mask_fill(t)))


def _center(t: Transform) -> tuple[float, float] | None:
    return None if t.center is None else (float(t.center[0]), float(t.center[1]))


TRANSLATORS: dict[str, Callable[[Transform, State], Step]] = {
    "RandomHorizontalFlip": partial(_flip, False),
    "RandomVerticalFlip": partial(_flip, True),
    "Pad": _pad,
    "RandomCrop": _random_crop,
    "CenterCrop": _center_crop,
    "Resize": _resize,
    "RandomResizedCrop": _resized_crop,
    "RandomRotation": _rotation,
    "RandomAffine": _affine,
    "RandomPerspective": _perspective,
}
