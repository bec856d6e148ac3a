"""Translates timm's transforms, those that `timm.data.create_transform` adds to torchvision's, and policy strings.

| runs batched | stays in the worker if |
|---|---|
| RandAugment, AutoAugment, AugMixAugment | it has GaussianBlur, PIL's approximation ("3a"); AugMix is blended |
| RandomErasing: const, rand, pixel | |
| RandomResizedCropAndInterpolation | the input size is unknown, it shrinks, or is not bilinear |

MaybeToTensor, MaybePILToTensor and ToTensor are folded into the conversion at the end. Everything else stays
(ResizeKeepRatio, CenterCropOrPad, RandomCropOrPad, TrimBorder, ...). NaFlex patches are not images: their
transforms stay.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ... import draws
from ...augment import Augmentation, RandomResizedCrop
from ...augment.augmentation import Cuts, equal_cuts
from ...augment.plan import Erase, Plan, Trace
from ..noise import EraseNoise
from ..steps import UNKNOWN_SIZE, State, Step, Transform, device, folded, worker
from .ops import TimmAugMix, TimmAutoAugment, TimmRandAugment, uncovered


def from_string(config: str) -> Transform:
    """timm's transform for a policy string: "rand-m9-mstd0.5-inc1", "augmix-m5-w4", "original-mstd0.5", "v0", ..."""
    from timm.data import auto_augment

    kind = config.partition("-")[0]
    if kind == "rand":
        return auto_augment.rand_augment_transform(config)
    if kind == "augmix":
        return auto_augment.augment_and_mix_transform(config)
    if kind in ("original", "originalr", "v0", "v0r", "3a"):
        return auto_augment.auto_augment_transform(config)
    raise ValueError(f'lift takes timm\'s policy strings, got {config!r}; write lift("rand-m9-mstd0.5-inc1")')


def translate(transform: Transform, state: State) -> Step | None:
    """The `Step` of one of timm's transforms; None: not covered."""
    known = _TRANSLATORS.get(type(transform).__name__)
    return None if known is None else known(transform, state)


def _policy(t: Transform, state: State, ops: Sequence[Transform], make: Callable[[], Augmentation]) -> Step:
    why_not = next((why for op in ops if (why := uncovered(op)) is not None), None)
    if why_not is not None:
        return worker(t, state, why_not)
    if state.scale is not None or state.normalised:
        return worker(t, state, "it is given a tensor, and takes PIL images only")
    return device(t, state, make())


def _rand_augment(t: Transform, state: State) -> Step:
    return _policy(t, state, t.ops, lambda: TimmRandAugment(t.ops, int(t.num_layers), t.choice_weights))


def _auto_augment(t: Transform, state: State) -> Step:
    ops = [op for policy in t.policy for op in policy]
    return _policy(t, state, ops, lambda: TimmAutoAugment(t.policy))


def _augmix(t: Transform, state: State) -> Step:
    if t.blended:
        return worker(t, state, "its blended mode is not the same as adding up")
    return _policy(t, state, t.ops, lambda: TimmAugMix(t.ops, t.alpha, int(t.width), int(t.depth)))


class TimmErase(Augmentation):
    """timm's RandomErasing: with probability ``p`` erases one or several rectangles per sample.

    area: range of a rectangle's area as a fraction of the image, then divided by their number. log_aspect: range of the
    logarithm of height / width. count: range of the number of rectangles. value: fill, one or one per channel.
    Reference: timm.data.random_erasing.
    """

    def __init__(
        self,
        p: float,
        area: tuple[float, float],
        log_aspect: tuple[float, float],
        count: tuple[int, int],
        value: tuple[float, ...] = (0.0,),
    ) -> None:
        self.p, self.area, self.log_aspect, self.count, self.value = p, area, log_aspect, count, value

    _TRIES = 10

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw the rectangles of the B samples."""
        _, _, height, width = shape
        (low, high), (least, most) = self.log_aspect, self.count
        first = draws.uniform(draws.fold(key, 0), (2,), dtype=torch.float64).numpy()
        count = least + (first[:, 1] * (most - least + 1)).astype(np.int64)
        boxes = np.zeros((len(count), most, 4), np.int64)
        # where draws are prescribed, the streams used must not depend on the values drawn
        reached = np.arange(len(count)) if isinstance(key, draws.Prescribed) else np.flatnonzero(first[:, 0] <= self.p)
        own = draws.fold(key[torch.from_numpy(reached)], 1)
        tries = draws.uniform(own, (most, self._TRIES, 4), dtype=torch.float64).numpy()
        area = self.area[0] + tries[..., 0] * (self.area[1] - self.area[0])
        area = area * (height * width) / count[reached, None, None]
        aspect = np.exp(low + tries[..., 1] * (high - low))
        tall, wide = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
        fits = (tall < height) & (wide < width)
        taken = fits.argmax(-1)[..., None]  # position of the first try that fits
        top = np.floor(tries[..., 2] * np.maximum(height - tall + 1, 1))
        left = np.floor(tries[..., 3] * np.maximum(width - wide + 1, 1))
        parts = [np.take_along_axis(part, taken, -1)[..., 0] for part in (top, left, tall, wide)]
        kept = fits.any(-1) & (np.arange(most) < count[reached, None]) & (first[reached, :1] <= self.p)
        boxes[reached] = np.stack(parts, -1) * kept[..., None]
        there = boxes[..., 2] > 0
        share = (boxes[..., 2] * boxes[..., 3] / max(1, height * width)).astype(np.float32)
        trace = Trace(torch.from_numpy(there.astype(np.int64)), torch.from_numpy(share), ("Identity", "Erase"))
        return Plan(tuple(shape), (Erase(torch.from_numpy(boxes), self.value),), trace)

    def cuts(self, shape: Sequence[int]) -> Cuts:
        """The draws that decide whether to erase, and how many rectangles."""
        return {((0,), 0): [self.p], ((0,), 1): equal_cuts(self.count[1] - self.count[0] + 1)}


def _erasing(t: Transform, state: State) -> Step:
    low, high = t.log_aspect_ratio
    if not (0 <= t.min_area <= t.max_area and math.isfinite(low) and low <= high):
        return worker(t, state, "its areas and aspects must be low ≤ high")
    settings = (float(t.probability), (t.min_area, t.max_area), (low, high), (t.min_count, t.max_count))
    if t.per_pixel or t.rand_color:
        if state.uint8 and state.scale is None:
            return worker(t, state, "normal noise in grey levels of 8 bits")
        stage = EraseNoise(TimmErase(*settings), "pixel" if t.per_pixel else "channel")
        return device(t, state, stage, "batched, noise drawn per sample", floats=True)
    value, floats = state.values(0)
    why = "batched, drawn per sample" + (", after the conversion: its value is no grey level" if floats else "")
    return device(t, state, TimmErase(*settings, value), why, floats=floats)


def _resized_crop(t: Transform, state: State) -> Step:
    size = (int(t.size[0]), int(t.size[1]))
    mode = getattr(t.interpolation, "value", t.interpolation)
    if state.size is None:
        return worker(t, state, UNKNOWN_SIZE, size=size)
    if mode != "bilinear":
        return worker(t, state, "other than bilinear resizing is not batched", size=size)
    if size[0] < state.size[0] or size[1] < state.size[1]:
        return worker(t, state, "it shrinks, which is antialiased per sample", size=size)
    return device(t, state, RandomResizedCrop(size, tuple(t.scale), tuple(t.ratio)), size=size)


def _to_tensor(t: Transform, state: State) -> Step:
    if state.scale is not None or state.normalised:
        return folded(t, state, state, "it is a tensor already")
    after = state.converted((0.0,), (1.0,))
    return folded(t, state, dataclasses.replace(after, kind="tensor"))


def _pil_to_tensor(t: Transform, state: State) -> Step:
    return folded(t, state, dataclasses.replace(state, kind="tensor"), "changes no value")


def _unscaled(t: Transform, state: State) -> Step:
    if not (state.uint8 and state.scale is None):
        return worker(t, state, "the images may be floats already or not", uint8=False, normalised=True)
    return folded(t, state, dataclasses.replace(state.converted((0.0,), (1.0 / 255.0,), t.dtype), kind="tensor"))


_TRANSLATORS: dict[str, Callable[[Transform, State], Step]] = {
    "RandAugment": _rand_augment,
    "AutoAugment": _auto_augment,
    "AugMixAugment": _augmix,
    "RandomErasing": _erasing,
    "RandomResizedCropAndInterpolation": _resized_crop,
    "MaybeToTensor": _to_tensor,
    "MaybePILToTensor": _pil_to_tensor,
    "ToTensor": _unscaled,
}
