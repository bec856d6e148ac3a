"""torchvision's transforms, v1 and v2: their parameters, ranges, probabilities and units.

| runs batched | where it stays in the worker |
|---|---|
| RandomHorizontalFlip, RandomVerticalFlip, Pad | |
| RandomCrop, CenterCrop | the images' size is not known |
| Resize, RandomResizedCrop | likewise; where it shrinks (antialiased); other than bilinear |
| RandomRotation, RandomAffine, RandomPerspective | expand=True; bicubic |
| ColorJitter, RandomGrayscale, RandomPosterize, RandomSolarize, RandomAutocontrast, RandomEqualize, RandomInvert, \
RandomAdjustSharpness | behind Normalize |
| Grayscale(3) | the number of channels is not known to be 3 |
| GaussianBlur, RandomErasing | |
| RandAugment, TrivialAugmentWide, AutoAugment, AugMix | bicubic; behind Normalize |
| MixUp, CutMix (on batches; λ is drawn per sample) | |
| RandomApply, RandomChoice, RandomOrder, Compose | something inside stays |

ToTensor, PILToTensor, ToImage, ToDtype, ConvertImageDtype, ToPureTensor, Normalize and Identity are folded into the
conversion at the end. Everything else stays (ElasticTransform, JPEG, Lambda, ...).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from .. import augment as A
from .noise import EraseNoise
from .perspective import Perspective
from .registry import several
from .steps import State, Step, device, folded, worker

_PIL_MODES = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
Sides = tuple[int, int, int, int]  # left, top, right, bottom
_SIZES = "the images before it may differ in size"
_NORMALISED = "works on normalised values, which have no grey levels"


def parts(transform: Any) -> Sequence[Any] | None:
    """The transforms of a v1 or v2 Compose."""
    return list(transform.transforms) if type(transform).__name__ == "Compose" else None


def translate(transform: Any, state: State) -> Step | None:
    """What becomes of a torchvision transform; None: not covered."""
    known = _TRANSLATORS.get(type(transform).__name__)
    return None if known is None else known(transform, state)


# --- what parameters mean --------------------------------------------------------------------------------------------


def interpolation_of(t: Any) -> str:
    """The interpolation's name, from an InterpolationMode, a string or PIL's number."""
    value = getattr(t.interpolation, "value", t.interpolation)
    return _PIL_MODES[value] if isinstance(value, int) else str(value)


def _warped(t: Any, state: State, make: Callable[..., Any], *, tonal: bool = False) -> Step:
    """A stage with interpolation and fill: ``make(interpolation=..., fill=...)``."""
    mode, fill = interpolation_of(t), t.fill
    if mode not in ("nearest", "bilinear"):
        return worker(t, state, f"{mode} interpolation is not batched")
    if isinstance(fill, dict):
        return worker(t, state, "fill is one for each type of input")
    if tonal and not state.tonal:
        return worker(t, state, _NORMALISED)
    values, floats = state.values(0 if fill is None else fill)
    return device(t, state, make(interpolation=mode, fill=values), floats=floats)


def _second(t: Any) -> bool:
    """Whether a transform is of torchvision's second generation."""
    return type(t).__module__.startswith("torchvision.transforms.v2")


def _mask_fill(t: Any) -> float:
    """What torchvision fills masks with: the same number as the image."""
    return float(t.fill) if isinstance(t.fill, (int, float)) else 0.0


def _tone(t: Any, state: State, stage: Callable[[], Any]) -> Step:
    return device(t, state, stage()) if state.tonal else worker(t, state, _NORMALISED)


def _pair(values: Any) -> tuple[float, float]:
    return float(values[0]), float(values[1])


def _sides(padding: Any) -> Sides:
    """Left, top, right, bottom from torchvision's ways to write a padding."""
    given = [padding] if isinstance(padding, int) else [int(side) for side in padding]
    if len(given) < 4:
        given = [given[0], given[-1]] * 2
    return given[0], given[1], given[2], given[3]


# --- geometry --------------------------------------------------------------------------------------------------------


def _flip(vertical: bool, t: Any, state: State) -> Step:
    return device(t, state, A.Flip(float(t.p), vertical=vertical))


def _padded(size: tuple[int, int] | None, sides: Sides) -> tuple[int, int] | None:
    return None if size is None else (size[0] + sides[1] + sides[3], size[1] + sides[0] + sides[2])


def _pad(t: Any, state: State) -> Step:
    sides = _sides(t.padding)
    if isinstance(t.fill, dict):
        return worker(t, state, "fill is one for each type of input", size=_padded(state.size, sides))
    fill, floats = state.values(0 if t.fill is None else t.fill)
    stage = A.Pad(sides, fill=fill, mode=t.padding_mode, mask_fill=_mask_fill(t))
    return device(t, state, stage, "batched", floats=floats, size=_padded(state.size, sides))


def _frames(t: Any, size: tuple[int, int], wanted: tuple[int, int]) -> list[Sides]:
    """What RandomCrop pads images of ``size`` with before it cuts ``wanted``."""
    second = _second(t)
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
    return [*frames, (across, down, across, down)]  # v1 reflects what was reflected before


def _random_crop(t: Any, state: State) -> Step:
    size = (int(t.size[0]), int(t.size[1]))
    if state.size is None:
        return worker(t, state, _SIZES, size=size)
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


def _center_crop(t: Any, state: State) -> Step:
    size = (int(t.size[0]), int(t.size[1]))
    if state.size is None:
        return worker(t, state, _SIZES, size=size)
    stages: list[A.Augmentation] = []
    down, across = max(0, size[0] - state.size[0]), max(0, size[1] - state.size[1])
    fill, floats = state.values(0)
    if down or across:
        stages = [A.Pad((across // 2, down // 2, (across + 1) // 2, (down + 1) // 2), fill=fill)]
    stages.append(A.Crop(size, place="center"))
    return device(t, state, A.Compose(stages), "batched", floats=floats and len(stages) > 1, size=size)


def _resize(t: Any, state: State) -> Step:
    given = [t.size] if isinstance(t.size, int) else t.size
    size: tuple[int, int] | None = None
    if given is not None and len(given) == 2:
        size = (int(given[0]), int(given[1]))
    elif given is not None and t.max_size is None and state.size is not None:
        short, long = min(state.size), max(state.size)
        other = int(given[0] * long / short)
        size = (int(given[0]), other) if state.size[0] <= state.size[1] else (other, int(given[0]))
    if state.size is None or size is None:
        return worker(t, state, _SIZES, size=size, keeps_size=False)
    return _scaled(t, state, size, lambda: A.Resize(size))


def _resized_crop(t: Any, state: State) -> Step:
    size = (int(t.size[0]), int(t.size[1]))
    if state.size is None:
        return worker(t, state, _SIZES, size=size)
    ratio, scale = _pair(t.ratio), _pair(t.scale)
    if not (0 < scale[0] <= scale[1] and 0 < ratio[0] <= ratio[1]):
        return worker(t, state, "scale and ratio must be 0 < low ≤ high", size=size)
    return _scaled(t, state, size, lambda: A.RandomResizedCrop(size, scale, ratio))


def _scaled(t: Any, state: State, size: tuple[int, int], stage: Callable[[], Any]) -> Step:
    """A resampling to ``size`` of parts no larger than the images: exact where none of them shrinks."""
    assert state.size is not None
    if interpolation_of(t) != "bilinear":
        return worker(t, state, f"{interpolation_of(t)} resizing is not batched", size=size)
    shrinks = size[0] < state.size[0] or size[1] < state.size[1]
    if shrinks and (t.antialias or state.kind not in ("tensor", "image")):
        return worker(t, state, "it shrinks, which is antialiased per sample", size=size)
    return device(t, state, stage(), size=size)


def _rotation(t: Any, state: State) -> Step:
    if t.expand:
        return worker(t, state, "expand=True makes images of unequal size", keeps_size=False)
    degrees = (-float(t.degrees[1]), -float(t.degrees[0]))  # counter-clockwise there, clockwise here
    return _warped(t, state, partial(A.Affine, degrees, center=_center(t), mask_fill=_mask_fill(t)))


def _affine(t: Any, state: State) -> Step:
    degrees = (float(t.degrees[0]), float(t.degrees[1]))
    shear = tuple(map(float, t.shear)) if t.shear is not None else (0.0, 0.0)
    scale = _pair(t.scale) if t.scale is not None else (1.0, 1.0)
    moved = _pair(t.translate) if t.translate is not None else (0.0, 0.0)
    if scale[0] > scale[1] or max(map(abs, shear)) > 89.0:
        return worker(t, state, "scale must be low ≤ high and shear within 89 degrees")
    return _warped(
        t, state, partial(A.Affine, degrees, moved, scale, shear, center=_center(t), mask_fill=_mask_fill(t))
    )


def _perspective(t: Any, state: State) -> Step:
    if not 0 <= t.distortion_scale <= 1:
        return worker(t, state, "distortion_scale must lie in 0..1")
    return _warped(t, state, partial(Perspective, float(t.distortion_scale), float(t.p)))


def _center(t: Any) -> tuple[float, float] | None:
    return None if t.center is None else (float(t.center[0]), float(t.center[1]))


# --- values ----------------------------------------------------------------------------------------------------------


def _color_jitter(t: Any, state: State) -> Step:
    spans = {
        name: getattr(t, name) or (0 if name == "hue" else (1.0, 1.0))
        for name in ("brightness", "contrast", "saturation", "hue")
    }
    return _tone(t, state, lambda: A.ColorJitter(**spans))


def _grayscale(t: Any, state: State) -> Step:
    if t.num_output_channels != 3 or state.channels != 3:
        why = "it changes the number of channels, or may"
        return worker(t, state, why, channels=t.num_output_channels)
    return _tone(t, state, lambda: A.Grayscale(1.0))


def _solarize(t: Any, state: State) -> Step:
    grey: float | None = float(t.threshold)
    if state.scale is not None:
        mean, std = state.scale
        grey = 255.0 * (grey * std[0] + mean[0]) if len(mean) == 1 and grey is not None else None
    elif not state.uint8 and float(t.threshold) <= 1.0:
        grey = None
    if grey is None or not 0.0 <= grey <= 255.0:
        return worker(t, state, "the unit of its threshold is not known")
    return _tone(t, state, lambda: A.Solarize(grey, float(t.p)))


def _blur(t: Any, state: State) -> Step:
    across, down = t.kernel_size  # torchvision's order
    return device(t, state, A.GaussianBlur((int(down), int(across)), (float(t.sigma[0]), float(t.sigma[1]))))


def _erasing(t: Any, state: State) -> Step:
    scale, ratio = _pair(t.scale), _pair(t.ratio)
    if not (0 < scale[0] <= scale[1] <= 1 and scale[0] < 1 and 0 < ratio[0] <= ratio[1]):
        return worker(t, state, "scale must be 0 < low ≤ high ≤ 1 and ratio 0 < low ≤ high")
    if t.value is None or isinstance(t.value, str):
        if state.uint8 and state.scale is None:
            return worker(t, state, "normal noise in grey levels of 8 bits")
        boxes = A.Erase(float(t.p), scale=scale, ratio=ratio)
        return device(t, state, EraseNoise(boxes), "batched, noise drawn per pixel", floats=True)
    numbers = list(t.value) if isinstance(t.value, (tuple, list)) else [t.value]
    values, floats = state.values(numbers)
    why = "batched, drawn per sample" + (", after the conversion: its value is no grey level" if floats else "")
    return device(t, state, A.Erase(float(t.p), scale=scale, ratio=ratio, value=values), why, floats=floats)


# --- policies and mixing ---------------------------------------------------------------------------------------------


def _rand_augment(t: Any, state: State) -> Step:
    make = partial(A.RandAugment, int(t.num_ops), int(t.magnitude), int(t.num_magnitude_bins))
    return _warped(t, state, make, tonal=True)


def _trivial(t: Any, state: State) -> Step:
    return _warped(t, state, partial(A.TrivialAugment, int(t.num_magnitude_bins)), tonal=True)


def _auto_augment(t: Any, state: State) -> Step:
    return _warped(t, state, partial(A.AutoAugment, t.policy), tonal=True)


def _augmix(t: Any, state: State) -> Step:
    make = partial(A.AugMix, t.severity, t.mixture_width, t.chain_depth, float(t.alpha), t.all_ops)
    return _warped(t, state, make, tonal=True)


def _mixing(make: type[A.MixUp] | type[A.CutMix], t: Any, state: State) -> Step:
    stage = make(float(t.alpha), num_classes=t.num_classes)
    return device(t, state, stage, "batched, λ and partner drawn per sample instead of per batch")


# --- combinators -----------------------------------------------------------------------------------------------------


def _random_apply(t: Any, state: State) -> Step:
    return several(t, list(t.transforms), state, lambda stages: A.RandomApply(stages, float(t.p)))


def _random_choice(t: Any, state: State) -> Step:
    return several(t, list(t.transforms), state, lambda stages: A.OneOf(stages, weights=t.p))


def _random_order(t: Any, state: State) -> Step:
    return several(t, list(t.transforms), state, lambda stages: A.RandomOrder(stages))


# --- conversions -----------------------------------------------------------------------------------------------------


def _same(t: Any, state: State) -> Step:
    return folded(t, state, state, "changes no value")


def _to_image(kind: str, t: Any, state: State) -> Step:
    return folded(t, state, dataclasses.replace(state, kind=kind), "changes no value")


def _to_tensor(t: Any, state: State) -> Step:
    if state.scale is not None:
        return worker(t, state, "it is given a tensor")
    after = state.converted((0.0,), (1.0,))
    return folded(t, state, dataclasses.replace(after, kind="tensor"))


def _to_dtype(scale: bool | None, t: Any, state: State) -> Step:
    scaled = t.scale if scale is None else scale
    if isinstance(t.dtype, dict):
        return _to_dtypes(t, state)
    if state.kind == "pil":
        if not _second(t):
            return worker(t, state, "it takes tensors, and is given PIL images")
        return folded(t, state, state, "torchvision leaves PIL images as they are")
    if t.dtype == torch.uint8 and state.uint8 and state.scale is None:
        return folded(t, state, state, "it is uint8 already")
    if not t.dtype.is_floating_point:
        why = "what travels should be uint8" if t.dtype == torch.uint8 else "to an integer type"
        return worker(t, state, why, uint8=t.dtype == torch.uint8)
    if state.scale is not None:
        return folded(t, state, dataclasses.replace(state, dtype=t.dtype))
    if scaled:
        step = folded(t, state, state.converted((0.0,), (1.0,), t.dtype))
        return dataclasses.replace(step, tensors=state.kind is None)
    if state.uint8:
        return folded(t, state, state.converted((0.0,), (1.0 / 255.0,), t.dtype))
    return worker(t, state, "the images may be floats already or not", uint8=False)


def _to_dtypes(t: Any, state: State) -> Step:
    """A type for each kind of input: that of images is folded, the rest is done in the worker."""
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    if state.kind != "image" or tv_tensors.Image not in t.dtype:
        return worker(t, state, "dtype is one for each type of input, and what the image is, is not known", uint8=False)
    own = t.dtype[tv_tensors.Image]
    rest = v2.ToDtype({**t.dtype, tv_tensors.Image: None})
    if own is None:
        return folded(t, state, state, "images keep their type, the rest is converted in the worker", rest=rest)
    step = _to_dtype(None, v2.ToDtype(own, scale=t.scale), state)
    if step.where == "worker":
        return dataclasses.replace(step, original=t)
    return dataclasses.replace(step, original=t, rest=rest, why="in the conversion at the end; masks in the worker")


def _normalize(t: Any, state: State) -> Step:
    mean, std = (torch.as_tensor(part, dtype=torch.float64).reshape(-1).tolist() for part in (t.mean, t.std))
    if state.scale is None and state.uint8:
        return worker(t, state, "it is given uint8", normalised=True)
    if min(std) <= 0:
        return worker(t, state, "std must be positive", normalised=True)
    return folded(t, state, state.converted(mean, std))


_TRANSLATORS: dict[str, Callable[[Any, State], Step]] = {
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
    "ColorJitter": _color_jitter,
    "Grayscale": _grayscale,
    "RandomGrayscale": lambda t, state: _tone(t, state, lambda: A.Grayscale(float(t.p))),
    "RandomPosterize": lambda t, state: _tone(t, state, lambda: A.Posterize(int(t.bits), float(t.p))),
    "RandomSolarize": _solarize,
    "RandomAutocontrast": lambda t, state: _tone(t, state, lambda: A.AutoContrast(float(t.p))),
    "RandomEqualize": lambda t, state: _tone(t, state, lambda: A.Equalize(float(t.p))),
    "RandomInvert": lambda t, state: _tone(t, state, lambda: A.Invert(float(t.p))),
    "RandomAdjustSharpness": lambda t, state: _tone(
        t, state, lambda: A.Sharpness(float(t.sharpness_factor), float(t.p))
    ),
    "GaussianBlur": _blur,
    "RandomErasing": _erasing,
    "RandAugment": _rand_augment,
    "TrivialAugmentWide": _trivial,
    "AutoAugment": _auto_augment,
    "AugMix": _augmix,
    "MixUp": partial(_mixing, A.MixUp),
    "CutMix": partial(_mixing, A.CutMix),
    "RandomApply": _random_apply,
    "RandomChoice": _random_choice,
    "RandomOrder": _random_order,
    "ToTensor": _to_tensor,
    "PILToTensor": partial(_to_image, "tensor"),
    "ToImage": partial(_to_image, "image"),
    "ToPureTensor": _same,
    "Identity": _same,
    "ToDtype": partial(_to_dtype, None),
    "ConvertImageDtype": partial(_to_dtype, True),
    "Normalize": _normalize,
}
