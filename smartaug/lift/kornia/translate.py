"""Translates Kornia's modules to plans with draws per sample; modules without a plan run as Kornia stages.

What: `AugmentationSequential` and `ImageSequential` (with ``random_apply`` and its weights, drawn per sample instead of
per batch), and single modules. A module's own parameter generator draws its parameters, but from the keys of the rows
instead of torch's generator, and its own code makes the matrices and lookup tables; ranges and conventions are
therefore Kornia's. When: to make a Kornia pipeline faster, or its draws for a sample independent of the batch. A module
without a plan runs unchanged, under a forked generator seeded by the keys of the batch. Cost: that of the plan.
Reference: Riba et al., Kornia, WACV 2020.

Differences: operations on single values use tables of 256 levels (Kornia does not round floats);
``same_on_batch=True``, one draw per batch, stays a Kornia stage. Images of a lifted dataset are (C, H, W), also where
Kornia without ``keepdim=True`` would add a dimension. Masks and boxes (``data_keys``): see `targets`.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ... import augment as A
from ... import draws
from ...augment.augmentation import Cuts
from ...augment.backends.tables.filters import FILTERS
from ...augment.backends.tables.tones import TONES
from ...augment.foreign import Foreign
from ...augment.ops.combinators import gated_plan
from ...augment.plan import Erase, Filter, Lookup, Plan, Segment, Tone, Trace, Warp
from ..registry import several
from ..roles import KORNIA_KINDS, data_keys
from ..steps import State, Step, Transform, device, folded, worker
from ..worker_transform import AsTensor, WorkerTransform
from .targets import following

__all__ = ["following", "head", "parts", "translate"]

_SEQUENTIAL = ("AugmentationSequential", "ImageSequential")
_OTHER_INPUTS = (
    "VideoSequential",
    "PatchSequential",
    "ManyToManyAugmentationDispather",
    "ManyToOneAugmentationDispather",
)
_BY_FORK = "no plan for it: as it is, in a forked RNG"

Parameters = dict[str, Any]  # what a Kornia generator draws: tensors by name
Fill = tuple[float, ...]  # one value, or one per channel, in the images' units
Segments = Sequence[Segment]
Maker = Callable[[Transform, Parameters, Sequence[int], Fill], Segments]


def parts(transform: Transform) -> Sequence[Transform] | None:
    """The modules of a sequence that runs all of them in order on images only; None for everything else."""
    if type(transform).__name__ not in _SEQUENTIAL or transform.random_apply or _whole(transform) is not None:
        return None
    return list(transform.children())


def _whole(transform: Transform) -> str | None:
    """Why a sequence must stay as a whole; None: it need not."""
    keys = ("INPUT",) if not hasattr(transform, "data_keys") else data_keys(transform)
    return None if keys in (("INPUT",), ("IMAGE",)) else "its data_keys name more than the image"


def _why_not_joint(transform: Transform, state: State) -> str | None:
    """Why the targets of a sequence with several data keys cannot move at hand-over; None: they can."""
    kinds = [KORNIA_KINDS.get(key) for key in data_keys(transform)]
    if not state.targets or None in kinds or kinds.count("image") != 1:
        return "its data_keys name more than the image"
    if not transform.keepdim:
        return "its data_keys name more than the image, and every part gets a batch dimension; write keepdim=True"
    return None


def translate(transform: Transform, state: State) -> Step | None:
    """The `Step` of a Kornia module."""
    name = type(transform).__name__
    module: Transform = transform
    if not isinstance(transform, nn.Module) or name in _OTHER_INPUTS:
        return worker(transform, state, "not covered, so it keeps its place", keeps_size=False)
    if name in _SEQUENTIAL:
        return _sequence(transform, state)
    if any(kind.__name__ == "MixAugmentationBaseV2" for kind in type(transform).__mro__):
        return worker(transform, state, "it needs the labels: write augment=smartaug.MixUp() or CutMix()")
    if name == "Normalize" and module.p == 1:
        mean, std = ([float(v) for v in module.flags[part].reshape(-1)] for part in ("mean", "std"))
        return folded(transform, state, state.converted(mean, std))
    found = _PLANNED.get(name)
    if found is None or getattr(transform, "same_on_batch", False):
        return _stage(transform, state)
    accepts, make, tonal = found
    if not accepts(transform) or (tonal and not state.tonal):
        return _stage(transform, state)
    fill, floats = state.values(_fill_of(transform))
    return device(transform, state, Planned(transform, make, fill), floats=floats)


def _joint(transform: Transform, state: State) -> Step:
    """A sequence with several data keys: all of its modules on the device, or none."""
    why = _why_not_joint(transform, state)
    stages: list[A.Augmentation] = []
    for module in transform.children() if why is None else ():
        step = translate(module, state)
        fills = getattr(module, "flags", {}).get("fill_value") is not None
        if step is None or step.where != "device" or not isinstance(step.stage, A.Augmentation) or step.floats:
            why = f"{type(module).__name__} inside it: targets could not follow it"
        elif type(module).__name__ == "RandomErasing" or fills:
            why = f"{type(module).__name__} inside it: it writes into masks, too"
        else:
            stages.append(step.stage)
    if why is not None or not stages:
        return worker(transform, state, why or "it has no modules", keeps_size=False)
    return device(transform, state, A.Compose(stages))


def head(given: Transform, kept: Sequence[Transform], last: AsTensor) -> WorkerTransform:
    """The part of the pipeline ``given`` that stays in the workers; of one with several data keys, it makes a list."""
    return (ListWorkerTransform if len(data_keys(given)) > 1 else WorkerTransform)(kept, last)


class ListWorkerTransform(WorkerTransform):
    """A `WorkerTransform` that makes a list of several arguments, as Kornia does."""

    def __call__(self, *inputs: Any) -> Any:
        """The sample after the transforms that stay."""
        return list(super().__call__(*inputs))


def _stage(transform: Transform, state: State) -> Step:
    """The module unchanged, as a stage; unless it only changes intensities, its output size is unknown."""
    step = device(transform, state, Foreign(transform), _BY_FORK, floats=state.scale is not None, uint8=False)
    keeps = any(kind.__name__ == "IntensityAugmentationBase2D" for kind in type(transform).__mro__)
    return step if keeps else dataclasses.replace(step, after=dataclasses.replace(step.after, size=None))


def _sequence(t: Transform, state: State) -> Step:
    """A sequence with ``random_apply``, which runs a random part of its modules."""
    why = _whole(t)
    if why is not None and not t.random_apply:
        return _joint(t, state)
    if why is not None:
        return worker(t, state, why, keeps_size=False)
    inside = list(t.children())
    low, high = int(t.random_apply[0]), int(t.random_apply[1]) - 1
    weights = [float(w) for w in t.random_apply_weights]
    drawable = sum(w > 0 for w in weights)
    # Kornia draws with replacement if the number exceeds the sum of the weights, or the count of positive ones
    repeats = [number > sum(weights) or number > drawable for number in range(low, high + 1)]
    if t._same_on_batch or len(set(repeats)) > 1:
        return _stage(t, state)
    replace = repeats[0]
    made = several(t, inside, state, lambda stages: A.SomeOf(stages, (low, high), weights=weights, replace=replace))
    return _stage(t, state) if made.where == "worker" else made


# --- drawing ---------------------------------------------------------------------------------------------------------


class _Keyed:
    """Replaces a uniform distribution inside a Kornia generator: each row's number is drawn from its own key (B,)."""

    def __init__(self, key: Tensor, low: Tensor, high: Tensor) -> None:
        self.key, self.low, self.high, self._calls = key, low, high, 0

    def rsample(self, shape: Sequence[int]) -> Tensor:
        """Uniform numbers of ``shape`` (B, ...); each call draws new ones."""
        self._calls += 1
        dtype = torch.promote_types(self.low.dtype, torch.float32)
        drawn = draws.uniform(draws.fold(self.key, self._calls), tuple(shape)[1:], dtype=dtype)
        return (self.low + drawn * (self.high - self.low)).to(self.low.dtype)

    sample = rsample


def keyed_parameters(module: Transform, key: Tensor, shape: Sequence[int]) -> Parameters:
    """The parameters of ``module`` for images of ``shape`` (B, C, H, W), drawn from the rows' stream keys (B,)."""
    if module._param_generator is None:
        return {}
    generator = copy.copy(module._param_generator)
    state = dict(generator.__dict__)
    words = iter(range(1, 1 << 20))

    def keyed(value: Any) -> Any:
        uniform = isinstance(value, torch.distributions.Uniform)
        return _Keyed(draws.fold(key, next(words)), value.low.cpu(), value.high.cpu()) if uniform else value

    for name in sorted(state):
        value = state[name]
        of_samplers = name == "sampler_dict"
        state[name] = {each: keyed(value[each]) for each in sorted(value)} if of_samplers else keyed(value)
    generator.__dict__.update(state)
    drawn: Parameters = generator(tuple(shape), False)
    return {name: value.cpu() if isinstance(value, Tensor) else value for name, value in drawn.items()}


class Planned(A.Augmentation):
    """A Kornia module as a plan. make: converts its parameters to segments; fill: value outside the image."""

    def __init__(self, module: Transform, make: Maker, fill: Fill) -> None:
        self.module, self.make, self.fill = module, make, fill

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw the parameters of the B samples, and to which of them the module is applied."""
        name = type(self.module).__name__
        trace = Trace(torch.zeros(shape[0], 1, dtype=torch.int64), torch.zeros(shape[0], 1), (name,))
        if not shape[0]:
            return Plan(tuple(shape), (), trace)
        rows = draws.uniform(draws.fold(key, 0)) < float(self.module.p) * float(self.module.p_batch)
        drawn = {**keyed_parameters(self.module, draws.fold(key, 1), shape), "key": draws.fold(key, 2)}
        plan = Plan(tuple(shape), tuple(self.make(self.module, drawn, shape, self.fill)), trace)
        return gated_plan(plan, rows)

    def cuts(self, shape: Sequence[int]) -> Cuts:
        """The draw that decides whether the module is applied."""
        return {((0,), 0): [float(self.module.p) * float(self.module.p_batch)]}

    def __repr__(self) -> str:
        return f"Planned({self.module!r})"


# --- from parameters to segments -------------------------------------------------------------------------------------


def _flip(
    vertical: bool, module: Transform, drawn: Parameters, shape: Sequence[int], fill: tuple[float, ...]
) -> Segments:
    return A.Flip(1.0, vertical=vertical).sample(shape, drawn["key"]).segments


def _map(module: Transform, drawn: Parameters, shape: Sequence[int], fill: Fill) -> Segments:
    like = torch.zeros((), dtype=torch.float64).expand(shape[0], 1, shape[2], shape[3])
    matrix = module.compute_transformation(like, drawn, module.flags).double()
    inverse = torch.linalg.inv(matrix)[:, :2].contiguous()
    padding = getattr(module.flags.get("padding_mode"), "name", "ZEROS")
    mirrored = "reflect" if module.flags["align_corners"] else "symmetric"
    mode = {"BORDER": "edge", "REFLECTION": mirrored}.get(padding, "constant")
    return (Warp(inverse, (shape[2], shape[3]), module.flags["resample"].name.lower(), fill, mode),)


def _erase(module: Transform, drawn: Parameters, shape: Sequence[int], fill: Fill) -> Segments:
    boxes = torch.stack([drawn[name].long() for name in ("ys", "xs", "heights", "widths")], -1)
    return (Erase(boxes[:, None], fill),)


def _pointwise(module: Transform, drawn: Parameters, shape: Sequence[int], fill: tuple[float, ...]) -> Segments:
    """A lookup table: Kornia's own operation applied to all 256 levels."""
    ramp = (torch.arange(256) / 255.0).expand(shape[0], 1, 1, 256)
    table = module.apply_transform(ramp, drawn, module.flags)
    return (Lookup(table.reshape(shape[0], 256).float() * 255.0),)


def _tone(
    name: str, factor: str | None, module: Transform, drawn: Parameters, shape: Sequence[int], fill: tuple[float, ...]
) -> Segments:
    amount = torch.zeros(shape[0]) if factor is None else drawn[factor].float()
    return (Tone(torch.full((shape[0],), TONES.index(name)), amount),)


def _jitter(module: Transform, drawn: Parameters, shape: Sequence[int], fill: Fill) -> Segments:
    factors = ("brightness_factor", "contrast_factor", "saturation_factor", "hue_factor")
    operations = torch.tensor([TONES.index(name) for name in ("Brightness", "Contrast", "Color", "Hue")])
    amounts = torch.stack([drawn[name].float() for name in factors], 1)
    if module._fixed_order is None:
        order = draws.uniform(drawn["key"], (4,)).argsort(1)
    else:
        order = torch.tensor(module._fixed_order, dtype=torch.int64).expand(shape[0], -1)
    amounts, kinds = amounts.gather(1, order), operations[order]
    return [Tone(kinds[:, place], amounts[:, place]) for place in range(order.shape[1])]


def _blur(module: Transform, drawn: Parameters, shape: Sequence[int], fill: Fill) -> Segments:
    size = module.flags["kernel_size"]
    sizes = (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))
    kind = torch.full((shape[0],), FILTERS.index("GaussianBlur"))
    return (Filter(kind, drawn["sigma"].float(), sizes),)


def _fill_of(t: Transform) -> float | list[float]:
    """The fill value outside the image or in an erased rectangle, in the user's units."""
    if type(t).__name__ == "RandomErasing":
        return float(t.value)
    given: Any = t.flags.get("fill_value")
    filled = getattr(t.flags.get("padding_mode"), "name", "") == "FILL"
    return [float(v) for v in given.reshape(-1)] if filled else 0.0


def _resamples(t: Transform) -> bool:
    return t.flags["resample"].name in ("NEAREST", "BILINEAR")


def _clips(t: Transform) -> bool:
    return bool(getattr(t, "clip_output", True))


def _any(t: Transform) -> bool:
    return True


def _unit(t: Transform) -> bool:
    maximum = t.flags["max_val"]
    return not isinstance(maximum, Tensor) and math.isclose(float(maximum), 1.0)


def _reflects(t: Transform) -> bool:
    return t.flags["border_type"].name == "REFLECT"


# by class name: whether the settings have a plan, the function that makes it, whether values must be in [0, 1]
_PLANNED: dict[str, tuple[Callable[[Transform], bool], Maker, bool]] = {
    "RandomHorizontalFlip": (_any, partial(_flip, False), False),
    "RandomVerticalFlip": (_any, partial(_flip, True), False),
    "RandomAffine": (_resamples, _map, False),
    "RandomRotation": (_resamples, _map, False),
    "RandomTranslate": (_resamples, _map, False),
    "RandomShear": (_resamples, _map, False),
    "RandomErasing": (_any, _erase, False),
    "RandomBrightness": (_clips, _pointwise, True),
    "RandomContrast": (_clips, _pointwise, True),
    "RandomGamma": (_any, _pointwise, True),
    "RandomSolarize": (_any, _pointwise, True),
    "RandomPosterize": (_any, _pointwise, True),
    "RandomInvert": (_unit, partial(_tone, "Invert", None), True),
    "RandomEqualize": (_any, partial(_tone, "Equalize", None), True),
    "RandomGrayscale": (lambda t: t.rgb_weights is None, partial(_tone, "Grayscale", None), True),
    "RandomHue": (_any, partial(_tone, "Hue", "hue_factor"), True),
    "ColorJitter": (_any, _jitter, True),
    "RandomGaussianBlur": (_reflects, _blur, False),
}
