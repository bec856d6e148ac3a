"""torchvision's transforms that change values in place: colour, tone, blur, erased rectangles.

A translator takes a transform and the `State` of its input images, and returns a `Step`; `TRANSLATORS` maps the class
name of a transform to its translator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ... import augment as A
from ..noise import EraseNoise
from ..steps import State, Step, Transform, device, worker
from .geometry import NORMALISED, pair


def _tone(t: Transform, state: State, stage: Callable[[], A.Augmentation]) -> Step:
    return device(t, state, stage()) if state.tonal else worker(t, state, NORMALISED)


def _color_jitter(t: Transform, state: State) -> Step:
    spans: dict[str, Any] = {
        name: getattr(t, name) or (0 if name == "hue" else (1.0, 1.0))
        for name in ("brightness", "contrast", "saturation", "hue")
    }
    return _tone(t, state, lambda: A.ColorJitter(**spans))


def _grayscale(t: Transform, state: State) -> Step:
    if t.num_output_channels != 3 or state.channels != 3:
        why = "it changes the number of channels, or may"
        return worker(t, state, why, channels=t.num_output_channels)
    return _tone(t, state, lambda: A.Grayscale(1.0))


def _solarize(t: Transform, state: State) -> Step:
    grey: float | None = float(t.threshold)
    if state.scale is not None:
        mean, std = state.scale
        grey = 255.0 * (grey * std[0] + mean[0]) if len(mean) == 1 and grey is not None else None
    elif not state.uint8 and float(t.threshold) <= 1.0:
        grey = None
    if grey is None or not 0.0 <= grey <= 255.0:
        return worker(t, state, "the unit of its threshold is not known")
    return _tone(t, state, lambda: A.Solarize(grey, float(t.p)))


def _blur(t: Transform, state: State) -> Step:
    across, down = t.kernel_size  # torchvision's order
    return device(t, state, A.GaussianBlur((int(down), int(across)), (float(t.sigma[0]), float(t.sigma[1]))))


def _erasing(t: Transform, state: State) -> Step:
    scale, ratio = pair(t.scale), pair(t.ratio)
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
    return device(t, state, A.Erase(float(t.p), scale=scale, ratio=ratio, fill=values), why, floats=floats)


TRANSLATORS: dict[str, Callable[[Transform, State], Step]] = {
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
}
