"""albumentations' transforms that change values in place: colour, tone, noise and blur, on uint8 images.

A translator takes a transform and the `State` of its input images, and returns a `Step`; `TRANSLATORS` maps the class
name of a transform to its translator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor

from ... import augment as A
from ...augment.plan import Segment
from ..steps import State, Step, Transform, device, worker
from .ops import tone


def _grey(t: Transform, state: State, stage: A.Augmentation) -> Step:
    """``stage``, if the images are in grey levels; else the transform stays."""
    if state.normalised or state.scale is not None or state.kind == "float":
        return worker(t, state, "it is given floats, in which it counts otherwise")
    return device(t, state, stage)


def _drawn(
    t: Transform, state: State, spans: Sequence[Sequence[float]], make: Callable[..., Sequence[Segment]]
) -> Step:
    ranges = [(float(low), float(high)) for low, high in spans]
    return _grey(t, state, tone.Drawn(type(t).__name__, ranges, make))


def _called(t: Transform, state: State, function: Callable[[Tensor], Tensor]) -> Step:
    return _drawn(t, state, (), partial(tone.calling, function=function, name=type(t).__name__))


def _brightness_contrast(t: Transform, state: State) -> Step:
    if not t.brightness_by_max:
        return worker(t, state, "brightness_by_max=False needs the mean of the image")
    make = partial(tone.brightness_contrast, safe=bool(getattr(t, "ensure_safe_range", False)))
    return _drawn(t, state, (t.contrast_limit, t.brightness_limit), make)


def _to_gray(t: Transform, state: State) -> Step:
    if t.num_output_channels != 3 or t.method not in ("weighted_average", "average", "max"):
        what = f"method={t.method!r} with {t.num_output_channels} channels is not batched"
        return worker(t, state, what, channels=t.num_output_channels)
    return _called(t, state, partial(tone.greyed, method=t.method))


def _posterize(t: Transform, state: State) -> Step:
    bits = t.num_bits if isinstance(t.num_bits, list) else [t.num_bits]
    return _drawn(t, state, (), partial(tone.posterized, bits=[(int(low), int(high)) for low, high in bits]))


def _equalize(t: Transform, state: State) -> Step:
    if t.mask is not None or not t.by_channels:
        return worker(t, state, "with a mask, or on luminance alone, it is not batched")
    return _called(t, state, partial(tone.equalized, pil=t.mode == "pil"))


def _clahe(t: Transform, state: State) -> Step:
    grid = int(t.tile_grid_size[0]), int(t.tile_grid_size[1])
    return _drawn(t, state, (t.clip_limit,), partial(tone.adaptively_equalized, grid=grid))


def _noise(t: Transform, state: State) -> Step:
    if t.noise_scale_factor != 1:
        return worker(t, state, "noise_scale_factor is not batched")
    return _drawn(t, state, (t.std_range, t.mean_range), partial(tone.gaussian_noise, shared=not t.per_channel))


def _blur(t: Transform, state: State) -> Step:
    sizes = int(t.blur_limit[0]), int(t.blur_limit[1])
    if t.sigma_limit[0] <= 0:
        return worker(t, state, "sigma_limit must be positive")
    return _drawn(t, state, (t.sigma_limit,), partial(tone.gaussian_blur, sizes=sizes))


def _rgb_shift(t: Transform, state: State) -> Step:
    limits = (t.r_shift_limit, t.g_shift_limit, t.b_shift_limit)
    shares = [[side / 255.0 for side in limit] if max(map(abs, limit)) > 1 else limit for limit in limits]
    return _drawn(t, state, shares, tone.shifted_channels)


TRANSLATORS: dict[str, Callable[[Transform, State], Step]] = {
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
    "GaussNoise": _noise,
    "GaussianBlur": _blur,
}
