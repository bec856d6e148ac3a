"""Translates torchvision's transforms, v1 and v2, with their parameters, ranges, probabilities and units.

| runs batched | stays in the worker if |
|---|---|
| RandomHorizontalFlip, RandomVerticalFlip, Pad | |
| RandomCrop, CenterCrop | the input size is unknown |
| Resize, RandomResizedCrop | the input size is unknown; it shrinks (antialiased); it is not bilinear |
| RandomRotation, RandomAffine, RandomPerspective | expand=True; it is bicubic |
| ColorJitter, RandomGrayscale, RandomPosterize, RandomSolarize, RandomAutocontrast, RandomEqualize, RandomInvert, \
RandomAdjustSharpness | it comes after Normalize |
| Grayscale(3) | the number of channels is not known to be 3 |
| GaussianBlur, RandomErasing | |
| RandAugment, TrivialAugmentWide, AutoAugment, AugMix | it is bicubic; it comes after Normalize |
| MixUp, CutMix (on batches; λ is drawn per sample) | |
| SanitizeBoundingBoxes, ClampBoundingBoxes, ConvertBoundingBoxFormat, SetClampingMode, SanitizeKeyPoints, \
ClampKeyPoints, ToPureTensor, on each sample at the end | boxes or masks move on after it |
| RandomApply, RandomChoice, RandomOrder, Compose | something inside stays |

ToTensor, PILToTensor, ToImage, ToDtype, ConvertImageDtype, ToPureTensor, Normalize and Identity are folded into the
conversion at the end. Everything else stays (ElasticTransform, JPEG, Lambda, ...).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import torch

from ... import augment as A
from ..registry import several
from ..steps import State, Step, Transform, device, folded, worker
from . import geometry as torchvision_geometry
from . import targets as torchvision_targets
from . import values as torchvision_values
from .geometry import warped


def parts(transform: Transform) -> Sequence[Transform] | None:
    """The transforms of a v1 or v2 Compose."""
    return list(transform.transforms) if type(transform).__name__ == "Compose" else None


def translate(transform: Transform, state: State) -> Step | None:
    """The `Step` of a torchvision transform; None: not covered."""
    known = _TRANSLATORS.get(type(transform).__name__)
    return None if known is None else known(transform, state)


# --- policies and mixing ---------------------------------------------------------------------------------------------


def _rand_augment(t: Transform, state: State) -> Step:
    make = partial(A.RandAugment, int(t.num_ops), int(t.magnitude), int(t.num_magnitude_bins))
    return warped(t, state, make, tonal=True)


def _trivial(t: Transform, state: State) -> Step:
    return warped(t, state, partial(A.TrivialAugment, int(t.num_magnitude_bins)), tonal=True)


def _auto_augment(t: Transform, state: State) -> Step:
    return warped(t, state, partial(A.AutoAugment, t.policy), tonal=True)


def _augmix(t: Transform, state: State) -> Step:
    make = partial(A.AugMix, t.severity, t.mixture_width, t.chain_depth, float(t.alpha), t.all_ops)
    return warped(t, state, make, tonal=True)


def _mixing(make: type[A.MixUp] | type[A.CutMix], t: Transform, state: State) -> Step:
    stage = make(float(t.alpha), num_classes=t.num_classes)
    return device(t, state, stage, "batched, λ and partner drawn per sample instead of per batch")


# --- combinators -----------------------------------------------------------------------------------------------------


def _random_apply(t: Transform, state: State) -> Step:
    return several(t, list(t.transforms), state, lambda stages: A.RandomApply(stages, float(t.p)))


def _random_choice(t: Transform, state: State) -> Step:
    return several(t, list(t.transforms), state, lambda stages: A.OneOf(stages, weights=t.p))


def _random_order(t: Transform, state: State) -> Step:
    return several(t, list(t.transforms), state, lambda stages: A.RandomOrder(stages))


# --- conversions -----------------------------------------------------------------------------------------------------


def _same(t: Transform, state: State) -> Step:
    return folded(t, state, state, "changes no value")


def _to_pure(t: Transform, state: State) -> Step:
    """Plain tensors of all: of the image in the batch, and of its targets at the end."""
    after = dataclasses.replace(state, kind="tensor" if state.kind in (None, "image") else state.kind)
    return dataclasses.replace(folded(t, state, after, "changes no value"), tail=True)


def _to_image(kind: str, t: Transform, state: State) -> Step:
    return folded(t, state, dataclasses.replace(state, kind=kind), "changes no value")


def _to_tensor(t: Transform, state: State) -> Step:
    if state.scale is not None:
        return worker(t, state, "it is given a tensor")
    after = state.converted((0.0,), (1.0,))
    return folded(t, state, dataclasses.replace(after, kind="tensor"))


def _to_dtype(scale: bool | None, t: Transform, state: State) -> Step:
    scaled = t.scale if scale is None else scale
    if isinstance(t.dtype, dict):
        return _to_dtypes(t, state)
    if state.kind == "pil":
        if not torchvision_geometry.of_second_generation(t):
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


def _to_dtypes(t: Transform, state: State) -> Step:
    """ToDtype with one dtype for each type of input: that of images is folded, the worker converts the rest."""
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    if state.kind != "image" or tv_tensors.Image not in t.dtype:
        return worker(t, state, "dtype is one for each type of input, and what the image is, is not known", uint8=False)
    own = t.dtype[tv_tensors.Image]
    objects = torchvision_targets.object_types()
    rest = v2.ToDtype({**t.dtype, tv_tensors.Image: None, **dict.fromkeys(objects)})
    # at the end for boxes, since those of integers are rounded on the way
    tail = state.targets and any(t.dtype.get(kind, t.dtype.get("others")) is not None for kind in objects)
    if own is None:
        why = "images keep their type, the rest is converted in the worker"
        return dataclasses.replace(folded(t, state, state, why, rest=rest), tail=tail)
    step = _to_dtype(None, v2.ToDtype(own, scale=t.scale), state)
    if step.where == "worker":
        return dataclasses.replace(step, original=t)
    why = "in the conversion at the end; masks in the worker"
    return dataclasses.replace(step, original=t, rest=rest, why=why, tail=tail)


def _normalize(t: Transform, state: State) -> Step:
    mean, std = (torch.as_tensor(part, dtype=torch.float64).reshape(-1).tolist() for part in (t.mean, t.std))
    if state.scale is None and state.uint8:
        return worker(t, state, "it is given uint8", normalised=True)
    if min(std) <= 0:
        return worker(t, state, "std must be positive", normalised=True)
    return folded(t, state, state.converted(mean, std))


_TRANSLATORS: dict[str, Callable[[Transform, State], Step]] = {
    **torchvision_geometry.TRANSLATORS,
    **torchvision_values.TRANSLATORS,
    **torchvision_targets.TRANSLATORS,
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
    "ToPureTensor": _to_pure,
    "Identity": _same,
    "ToDtype": partial(_to_dtype, None),
    "ConvertImageDtype": partial(_to_dtype, True),
    "Normalize": _normalize,
}
