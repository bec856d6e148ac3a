"""albumentations' transforms (2.0.8, and its successor as far as names and attributes agree), read, never imported.

What: containers (Compose, Sequential, OneOf, OneOrOther, SomeOf, RandomOrder), each ``p``, and the transforms in
`_TRANSLATORS`, with the library's own parameters and distribution, as it computes them on uint8 images. When: a
pipeline that ends in ToTensorV2. What stays in the worker, with all before it: cubic, area and wrapping resampling,
crops of images whose size is not known to be equal, inpainting and random fills, Lambda, whatever is not in the table;
and whole pipelines with boxes, keypoints or additional targets. Cost: values by tables, geometry by warps, on the
device; noise and blur cost most.

Masks move with the image by the geometric segments, to the nearest pixel, filled with ``fill_mask``; a transform with
another ``mask_interpolation`` stays. Where a mask is resized the pixel under the centre is taken, OpenCV takes ⌊x⌋.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from .. import augment as A
from . import opencv_geometry as geometry
from . import opencv_tone as tone
from .head import AsTensor
from .registry import several
from .steps import State, Step, device, folded, worker

_SIZES = "the images are not known to be of one size"
_INTERPOLATIONS = {0: "nearest", 1: "bilinear"}  # OpenCV's numbers
_BORDERS = {0: "constant", 1: "edge", 2: "symmetric", 4: "reflect"}
_FORCED = ("Compose", "Sequential", "OneOf")  # containers whose p a OneOf around them sets aside


def parts(transform: Any) -> Sequence[Any] | None:
    """The transforms of a pipeline that always runs and ends in a tensor, or of one inside it."""
    if type(transform).__name__ not in ("Compose", "Sequential") or transform.p < 1 or _whole(transform) is not None:
        return None
    return list(transform.transforms)


def _whole(transform: Any) -> str | None:
    """Why a pipeline stays as it is, or None."""
    if getattr(transform, "processors", None):
        return "it moves boxes or keypoints with the image"
    if getattr(transform, "additional_targets", None):
        return "it transforms more than one image of a sample"
    if getattr(transform, "save_applied_params", False):
        return "it reports its parameters (save_applied_params)"
    inside = list(transform.transforms)
    outermost = type(transform).__name__ == "Compose" and getattr(transform, "main_compose", True)
    if outermost and (not inside or type(inside[-1]).__name__ not in ("ToTensorV2", "ToTensor")):
        return "its images are arrays (H, W, C), and only tensors are batched: put ToTensorV2 at its end"
    return None


def translate(transform: Any, state: State) -> Step | None:
    """What becomes of an albumentations transform, its ``p`` included; every one of them is known or stays by name."""
    name = type(transform).__name__
    if name in _CONTAINERS:
        return _CONTAINERS[name](transform, state)
    known = _TRANSLATORS.get(name)
    if known is None:
        return worker(transform, state, "not covered, so it keeps its place", keeps_size=False, channels=None)
    if transform.p <= 0:
        return folded(transform, state, state, "p=0: it never runs")
    step = known(transform, state)
    if transform.p >= 1 or step.where == "worker" or (step.where == "folded" and step.after == state):
        return step
    same = step.after.size == state.size and step.after.scale == state.scale
    if not same or step.where == "folded":
        return worker(
            transform,
            state,
            f"p={transform.p:g}: it changes the size or the units of some samples",
            keeps_size=step.after.size == state.size,
            normalised=step.after.normalised,
        )
    assert isinstance(step.stage, A.Augmentation)
    return dataclasses.replace(step, stage=A.RandomApply([step.stage], float(transform.p)))


class Head:
    """The pipeline with only the transforms that stay, called as it is; the image becomes a tensor (C, H, W).

    Masks become tensors as ToTensorV2 makes them. Raises TypeError for images that are not uint8, whose units
    albumentations reads differently.
    """

    def __init__(self, given: Any, kept: Sequence[Any], last: AsTensor) -> None:
        self.available_keys = set(getattr(given, "available_keys", ()))
        self.kept, self.last = tuple(kept), last
        self.pipeline: Any = kept[0] if kept else None
        if kept and _is_container(given):
            self.pipeline = copy.copy(given)
            self.pipeline.transforms = list(kept)
        last_of_all = given.transforms[-1] if _is_container(given) else given
        self.transpose = bool(getattr(last_of_all, "transpose_mask", False))

    def __call__(self, **sample: Any) -> dict[str, Any]:
        """The sample after the transforms that stay."""
        image = sample["image"]
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            what = f"{image.dtype} array" if isinstance(image, np.ndarray) else type(image).__name__
            raise TypeError(
                f"lift takes albumentations pipelines on uint8 arrays (H, W, C), got image={what}; write lift=False"
            )
        if self.pipeline is not None:
            sample = self.pipeline(**sample)
        made = {**sample, "image": self.last(sample["image"])}
        if isinstance(made.get("mask"), np.ndarray):
            made["mask"] = self._mask(made["mask"])
        if isinstance(made.get("masks"), (list, tuple)):
            made["masks"] = [self._mask(mask) for mask in made["masks"]]
        elif isinstance(made.get("masks"), np.ndarray):
            made["masks"] = torch.stack([self._mask(mask) for mask in made["masks"]])
        return made

    def set_random_state(self, random_generator: Any, py_random: Any) -> None:
        """The generators of the transforms that stay, as albumentations sets them; see `AugmentedDataset`."""
        if self.pipeline is not None:
            self.pipeline.set_random_state(random_generator, py_random)

    def _mask(self, mask: np.ndarray) -> torch.Tensor:
        turned = mask.transpose(2, 0, 1) if self.transpose and mask.ndim == 3 else mask
        return torch.from_numpy(np.ascontiguousarray(turned))

    def __repr__(self) -> str:
        return f"Head({', '.join(type(part).__name__ for part in (*self.kept, self.last))})"


def _is_container(transform: Any) -> bool:
    """ColorJitter has ``transforms``, too: its four functions."""
    return hasattr(transform, "transforms") and not hasattr(transform, "apply")


def head(given: Any, kept: Sequence[Any], last: AsTensor) -> Head:
    """What stays in the workers of the pipeline ``given``."""
    return Head(given, kept, last)


# --- what parameters mean --------------------------------------------------------------------------------------------


def _grey(t: Any, state: State, stage: A.Augmentation) -> Step:
    """A stage that counts in grey levels."""
    if state.normalised or state.scale is not None or state.kind == "float":
        return worker(t, state, "it is given floats, in which it counts otherwise")
    return device(t, state, stage)


def _drawn(t: Any, state: State, spans: Sequence[Any], make: Callable[..., Any]) -> Step:
    ranges = [(float(low), float(high)) for low, high in spans]
    return _grey(t, state, tone.Drawn(type(t).__name__, ranges, make))


def _called(t: Any, state: State, function: Callable[..., Any]) -> Step:
    return _drawn(t, state, (), partial(tone.calling, function=function, name=type(t).__name__))


def _blurs_masks(t: Any) -> str | None:
    """Why masks would not follow as the library moves them, or None."""
    return "masks follow by the nearest pixel" if getattr(t, "mask_interpolation", 0) not in (0, 6) else None


def _mask_fill(t: Any) -> float:
    """What masks have outside: one number, since a mask has one channel."""
    given = np.atleast_1d(getattr(t, "fill_mask", None) or 0)
    return float(given[0])


def _size(t: Any) -> tuple[int, int]:
    given = (t.height, t.width) if hasattr(t, "height") else t.size
    return int(given[0]), int(given[1])


def _warp(t: Any, state: State) -> tuple[dict[str, Any], bool] | str:
    """Interpolation, fill and padding for a warp, and whether the conversion comes first; or why it cannot be one."""
    if t.interpolation not in _INTERPOLATIONS:
        return f"interpolation={t.interpolation} is not batched"
    if t.border_mode not in _BORDERS:
        return f"border_mode={t.border_mode} is not batched"
    if (why := _blurs_masks(t)) is not None:
        return why
    fill, floats = state.values(t.fill)
    settings = {"interpolation": _INTERPOLATIONS[t.interpolation], "padding": _BORDERS[t.border_mode]}
    return {**settings, "fill": fill, "mask_fill": _mask_fill(t)}, floats


# --- geometry --------------------------------------------------------------------------------------------------------


def _flip(vertical: bool, t: Any, state: State) -> Step:
    return device(t, state, A.Flip(1.0, vertical=vertical))


def _symmetry(elements: Sequence[str], t: Any, state: State) -> Step:
    if state.size is None or state.size[0] != state.size[1]:
        return worker(t, state, "the images are not known to be square", keeps_size=False)
    return device(t, state, geometry.Symmetry(elements))


def _crop(center: bool, t: Any, state: State) -> Step:
    size = _size(t)
    if state.size is None:
        return worker(t, state, _SIZES, size=size)
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


def _frame(t: Any, state: State, down: int, across: int, position: str) -> tuple[A.Augmentation, bool] | str:
    """A frame of so many rows and columns, and whether the conversion comes first; or why it cannot be had."""
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


def _pad_if_needed(t: Any, state: State) -> Step:
    if state.size is None:
        return worker(t, state, _SIZES, keeps_size=False)
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


def _pad(t: Any, state: State) -> Step:
    given = [t.padding] if isinstance(t.padding, int) else list(t.padding)
    left, top, right, bottom = (int(side) for side in (given if len(given) == 4 else [given[0], given[-1]] * 2))
    size = None if state.size is None else (state.size[0] + top + bottom, state.size[1] + left + right)
    why = f"border_mode={t.border_mode} is not batched" if t.border_mode not in _BORDERS else _blurs_masks(t)
    if size is None or why is not None:
        return worker(t, state, why or _SIZES, size=size, keeps_size=False)
    fill, floats = state.values(t.fill)
    mode, masks = _BORDERS[t.border_mode], _mask_fill(t)
    stage = A.Pad((left, top, right, bottom), fill=fill, mode=mode, mask_fill=masks)
    return device(t, state, stage, "batched", floats=floats, size=size)


def _resampled(t: Any, state: State, nearest: A.Augmentation | None, linear: A.Augmentation) -> Step:
    """A resize of images of one size; OpenCV takes no account of how much it shrinks."""
    size = _size(t)
    if state.size is None:
        return worker(t, state, _SIZES, size=size)
    stage = {0: nearest, 1: linear}.get(t.interpolation)
    if stage is None or t.area_for_downscale is not None:
        return worker(t, state, f"interpolation={t.interpolation} or by areas is not batched", size=size)
    if (why := _blurs_masks(t)) is not None:
        return worker(t, state, why, size=size)
    return device(t, state, stage, size=size)


def _resize(t: Any, state: State) -> Step:
    return _resampled(t, state, geometry.ResizeNearest(_size(t)), A.Resize(_size(t)))


def _resized_crop(t: Any, state: State) -> Step:
    low, high = (float(share) for share in t.scale)
    if low <= 0 or t.ratio[0] <= 0:
        return worker(t, state, "scale and ratio must be positive", size=_size(t))
    ratio = float(t.ratio[0]), float(t.ratio[1])
    return _resampled(t, state, None, A.RandomResizedCrop(_size(t), (low, high), ratio))


def _affine(t: Any, state: State) -> Step:
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


def _rotate(t: Any, state: State) -> Step:
    if t.crop_border:
        return worker(t, state, "crop_border=True makes images of unequal size", keeps_size=False)
    settings = _warp(t, state)
    if isinstance(settings, str):
        return worker(t, state, settings)
    one, zero = {"x": (1.0, 1.0), "y": (1.0, 1.0)}, {"x": (0.0, 0.0), "y": (0.0, 0.0)}
    stage = geometry.Affine(scale=one, shear=zero, rotate=tuple(t.limit), **settings[0])
    return device(t, state, stage, floats=settings[1])


# --- values ----------------------------------------------------------------------------------------------------------


def _brightness_contrast(t: Any, state: State) -> Step:
    if not t.brightness_by_max:
        return worker(t, state, "brightness_by_max=False needs the mean of the image")
    make = partial(tone.brightness_contrast, safe=bool(getattr(t, "ensure_safe_range", False)))
    return _drawn(t, state, (t.contrast_limit, t.brightness_limit), make)


def _to_gray(t: Any, state: State) -> Step:
    if t.num_output_channels != 3 or t.method not in ("weighted_average", "average", "max"):
        what = f"method={t.method!r} with {t.num_output_channels} channels is not batched"
        return worker(t, state, what, channels=t.num_output_channels)
    return _called(t, state, partial(tone.greyed, method=t.method))


def _posterize(t: Any, state: State) -> Step:
    bits = t.num_bits if isinstance(t.num_bits, list) else [t.num_bits]
    return _drawn(t, state, (), partial(tone.posterized, bits=[(int(low), int(high)) for low, high in bits]))


def _equalize(t: Any, state: State) -> Step:
    if t.mask is not None or not t.by_channels:
        return worker(t, state, "with a mask, or on luminance alone, it is not batched")
    return _called(t, state, partial(tone.equalized, pil=t.mode == "pil"))


def _clahe(t: Any, state: State) -> Step:
    grid = int(t.tile_grid_size[0]), int(t.tile_grid_size[1])
    return _drawn(t, state, (t.clip_limit,), partial(tone.adaptively_equalized, grid=grid))


def _noise(t: Any, state: State) -> Step:
    if t.noise_scale_factor != 1:
        return worker(t, state, "noise_scale_factor is not batched")
    return _drawn(t, state, (t.std_range, t.mean_range), partial(tone.gaussian_noise, shared=not t.per_channel))


def _blur(t: Any, state: State) -> Step:
    sizes = int(t.blur_limit[0]), int(t.blur_limit[1])
    if t.sigma_limit[0] <= 0:
        return worker(t, state, "sigma_limit must be positive")
    return _drawn(t, state, (t.sigma_limit,), partial(tone.gaussian_blur, sizes=sizes))


def _rgb_shift(t: Any, state: State) -> Step:
    limits = (t.r_shift_limit, t.g_shift_limit, t.b_shift_limit)
    shares = [[side / 255.0 for side in limit] if max(map(abs, limit)) > 1 else limit for limit in limits]
    return _drawn(t, state, shares, tone.shifted_channels)


def _dropout(t: Any, state: State) -> Step:
    if isinstance(t.fill, str):
        return worker(t, state, f"fill={t.fill!r} is not batched")
    if t.fill_mask is not None:
        return worker(t, state, "fill_mask: masks are left whole")
    fill, floats = state.values(t.fill)
    holes = (int(t.num_holes_range[0]), int(t.num_holes_range[1]))
    stage = geometry.Holes(holes, tuple(t.hole_height_range), tuple(t.hole_width_range), fill)
    return device(t, state, stage, floats=floats)


# --- containers ------------------------------------------------------------------------------------------------------


def _sequence(t: Any, state: State) -> Step:
    """A Compose or Sequential that `parts` does not take apart."""
    why = _whole(t)
    if why is not None:
        return worker(t, state, why, keeps_size=False, channels=None, uint8=False)
    return several(t, list(t.transforms), state, lambda stages: A.RandomApply(stages, float(t.p)))


def _one_of(t: Any, state: State) -> Step:
    weights = [float(part.p) for part in t.transforms]
    return several(t, _forced(t), state, lambda stages: A.OneOf(stages, weights=weights, p=float(t.p)))


def _one_or_other(t: Any, state: State) -> Step:
    inside = _forced(t)
    weights = [float(t.p), 1.0 - float(t.p)]
    return several(t, [inside[0], inside[-1]], state, lambda stages: A.OneOf(stages, weights=weights))


def _forced(t: Any) -> list[Any]:
    """The transforms inside as they are once chosen: their p does not count again."""
    made = []
    for part in t.transforms:
        always = copy.copy(part)
        if not _is_container(part) or type(part).__name__ in _FORCED:
            always.p = 1.0
        made.append(always)
    return made


def _some_of(ordered: bool, t: Any, state: State) -> Step:
    inside = list(t.transforms)
    settings: dict[str, Any] = {"replace": bool(t.replace), "ordered": ordered, "p": float(t.p)}
    return several(t, inside, state, lambda stages: A.SomeOf(stages, int(t.n), **settings))


# --- conversions -----------------------------------------------------------------------------------------------------


def _normalize(t: Any, state: State) -> Step:
    if t.normalization != "standard":
        return worker(t, state, f"normalization={t.normalization!r} needs the image's own statistics", normalised=True)
    if state.scale is not None or state.kind == "float":
        return worker(t, state, "it is given floats", normalised=True)
    mean, std = ([float(v) for v in np.atleast_1d(part)] for part in (t.mean, t.std))
    if min(std) <= 0:
        return worker(t, state, "std must be positive", normalised=True)
    unit = float(t.max_pixel_value) / 255.0
    after = state.converted([m * unit for m in mean], [s * unit for s in std], torch.float32)
    return folded(t, state, dataclasses.replace(after, kind="float", normalised=True))


def _to_float(t: Any, state: State) -> Step:
    if state.scale is not None or state.kind == "float":
        return worker(t, state, "it is given floats")
    unit = 1.0 if t.max_value is None else float(t.max_value) / 255.0
    after = state.converted((0.0,), (unit,), torch.float32)
    return folded(t, state, dataclasses.replace(after, kind="float"))


def _to_tensor(t: Any, state: State) -> Step:
    return folded(t, state, dataclasses.replace(state, kind="tensor"), "the head ends in a tensor")


def _nothing(t: Any, state: State) -> Step:
    return folded(t, state, state, "changes nothing")


_TRANSLATORS: dict[str, Callable[[Any, State], Step]] = {
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
    "RandomBrightnessContrast": _brightness_contrast,
    "RandomGamma": lambda t, state: _drawn(t, state, (t.gamma_limit,), tone.gamma),
    "HueSaturationValue": lambda t, state: _drawn(
        t, state, (t.hue_shift_limit, t.sat_shift_limit, t.val_shift_limit), tone.hue_saturation_value
    ),
    "ColorJitter": lambda t, state: _drawn(
        t, state, (t.brightness, t.contrast, t.saturation, t.hue), tone.color_jitter
    ),
    "RGBShift": _rgb_shift,
    "ToGray": _to_gray,
    "InvertImg": lambda t, state: _grey(t, state, A.Invert(1.0)),
    "Posterize": _posterize,
    "Solarize": lambda t, state: _drawn(t, state, (t.threshold_range,), tone.solarized),
    "Equalize": _equalize,
    "CLAHE": _clahe,
    "CoarseDropout": _dropout,
    "GaussNoise": _noise,
    "GaussianBlur": _blur,
    "Normalize": _normalize,
    "ToFloat": _to_float,
    "ToTensorV2": _to_tensor,
    "NoOp": _nothing,
}

_CONTAINERS: dict[str, Callable[[Any, State], Step]] = {
    "Compose": _sequence,
    "Sequential": _sequence,
    "OneOf": _one_of,
    "OneOrOther": _one_or_other,
    "SomeOf": partial(_some_of, True),
    "RandomOrder": partial(_some_of, False),
}
