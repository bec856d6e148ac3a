"""timm's AugmentOps, batched: operation, chance, magnitude and interpolation drawn per sample.

What: the operations and level tables of timm's RandAugment, AutoAugment and AugMix, which differ from torchvision's: a
probability for each operation, magnitudes with normal or uniform noise, "increasing" variants, SolarizeAdd, bicubic
interpolation. Geometry is not rounded to pixels. Reference: timm.data.auto_augment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import draws
from ..augment import Augmentation
from ..augment.augmentation import Cuts, equal_cuts
from ..augment.augmix import dirichlet
from ..augment.checks import check_colours, check_fill
from ..augment.choose import cuts_by_weight, drawn_by_weight
from ..augment.plan import FILTERS, TONES, Branches, Filter, Lookup, Plan, Segment, Tone, Trace, Warp

_DENOMINATOR = 10.0
_TONE_OF = {
    "AutoContrast": "AutoContrast",
    "Equalize": "Equalize",
    "Invert": "Invert",
    "Posterize": "Posterize",
    "PosterizeIncreasing": "Posterize",
    "PosterizeOriginal": "Posterize",
    "Solarize": "Solarize",
    "SolarizeIncreasing": "Solarize",
    "Color": "Color",
    "ColorIncreasing": "Color",
    "Contrast": "Contrast",
    "ContrastIncreasing": "Contrast",
    "Brightness": "Brightness",
    "BrightnessIncreasing": "Brightness",
    "Desaturate": "Color",
}
_SHARPNESS = ("Sharpness", "SharpnessIncreasing")
_GEOMETRIC = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY", "TranslateXRel", "TranslateYRel")
COVERED = (*_TONE_OF, *_SHARPNESS, *_GEOMETRIC, "SolarizeAdd")
_PIL = {0: "nearest", 2: "bilinear", 3: "bicubic"}
_MODES = tuple(_PIL.values())


def uncovered(op: Any) -> str | None:
    """What of a timm AugmentOp cannot be batched; None: nothing."""
    if type(op).__name__ != "AugmentOp":
        return f"{type(op).__name__} is not timm's AugmentOp"
    if op.name not in COVERED:
        return f"{op.name} is PIL's approximation, which is not batched"
    if any(int(mode) not in _PIL for mode in _modes(op)):
        return f"{op.name} has an interpolation that is not batched"
    return None


def _modes(op: Any) -> list[int]:
    given = op.kwargs["resample"]
    return [int(mode) for mode in given] if isinstance(given, (tuple, list)) else [int(given)]


def argument(name: str, level: np.ndarray, sign: np.ndarray, hparams: dict[str, Any]) -> np.ndarray:
    """timm's LEVEL_TO_ARG: levels (n,) float64 and signs (n,) ±1 to the operation's own argument (n,) float64."""
    share = level / _DENOMINATOR
    if name == "Rotate":
        return sign * share * 30.0
    if name in ("ShearX", "ShearY"):
        return sign * share * 0.3
    if name in ("TranslateX", "TranslateY"):
        return sign * share * float(hparams["translate_const"])
    if name in ("TranslateXRel", "TranslateYRel"):
        return sign * share * hparams.get("translate_pct", 0.45)
    if name in ("Color", "Contrast", "Brightness", "Sharpness"):
        return share * 1.8 + 0.1
    if name in ("ColorIncreasing", "ContrastIncreasing", "BrightnessIncreasing", "SharpnessIncreasing"):
        return np.maximum(1.0 + sign * share * 0.9, 0.1)
    if name.startswith("Posterize"):
        bits = np.trunc(share * 4)
        return {"Posterize": bits, "PosterizeIncreasing": 4 - bits, "PosterizeOriginal": bits + 4}[name]
    if name in ("Solarize", "SolarizeIncreasing"):
        threshold = np.minimum(np.trunc(share * 256), 256)
        return threshold if name == "Solarize" else 256 - threshold
    if name == "SolarizeAdd":
        return np.minimum(np.trunc(share * 110), 128)
    if name == "Desaturate":  # the level goes from 0.5 to 1; the factor of colour that is left is one minus it
        return 1.0 - np.clip(0.5 + 0.5 * share, 0.5, 1.0)
    return np.zeros_like(level)


def write_matrix(into: np.ndarray, rows: np.ndarray, name: str, value: np.ndarray, height: int, width: int) -> None:
    """Output pixel to input pixel: the matrices ``into[rows]`` of a geometric operation with arguments (n,)."""
    if name in ("ShearX", "ShearY"):
        axis = int(name == "ShearY")
        into[rows, axis, 1 - axis], into[rows, axis, 2] = value, value / 2
    elif name.startswith("Translate"):
        axis = int(name.startswith("TranslateY"))
        into[rows, axis, 2] = value * ((width, height)[axis] if name.endswith("Rel") else 1)
    else:
        cos, sin = np.cos(np.radians(value)), np.sin(np.radians(value))
        x, y = (width - 1) / 2, (height - 1) / 2
        into[rows, 0, 0], into[rows, 0, 1], into[rows, 0, 2] = cos, -sin, x - cos * x + sin * y
        into[rows, 1, 0], into[rows, 1, 1], into[rows, 1, 2] = sin, cos, y - sin * x - cos * y


class Ops:
    """A list of timm's AugmentOps, of which each sample receives the one that is chosen for it."""

    def __init__(self, ops: Sequence[Any]) -> None:
        self.names = [str(op.name) for op in ops]
        self.chance = torch.tensor([float(op.prob) for op in ops], dtype=torch.float64)
        self.magnitude = torch.tensor([float(op.magnitude) for op in ops], dtype=torch.float64)
        self.noise = torch.tensor([float(op.magnitude_std) for op in ops], dtype=torch.float64)
        self.most = torch.tensor([float(op.magnitude_max or _DENOMINATOR) for op in ops], dtype=torch.float64)
        self.hparams = [dict(op.hparams) for op in ops]
        self.modes = [[_PIL[mode] for mode in _modes(op)] for op in ops]
        fill = ops[0].kwargs["fillcolor"] if ops else 0
        self.fill = tuple(float(v) for v in fill) if isinstance(fill, (tuple, list)) else (float(fill),)
        self.named = tuple(dict.fromkeys(("Identity", *self.names)))

    def levels(self, choice: Tensor, key: Tensor) -> Tensor:
        """The magnitudes (B,) float64 of the operations ``choice`` (B,), with their noise and within their bounds."""
        mean, noise = self.magnitude[choice], self.noise[choice]
        uniform = draws.uniform(key, dtype=torch.float64, start=1) * mean
        spread = torch.where(noise.isinf(), torch.zeros_like(noise), noise)
        level = torch.where(noise.isinf(), uniform, mean + spread * draws.normal(draws.fold(key, 1)).double())
        return torch.minimum(level.clamp(min=0.0), self.most[choice])

    def cuts(self, path: tuple[int, ...]) -> Cuts:
        """Where the draws of `segments` from the stream ``path`` are cut: whether, which sign, which interpolation."""
        counts = {len(modes) for modes in self.modes if modes}
        modes = {point for count in counts for point in equal_cuts(count)}
        return {(path, 0): sorted(set(self.chance.tolist())), (path, 2): [0.5], (path, 3): sorted(modes)}

    def segments(
        self, choice: Tensor, key: Tensor, size: tuple[int, int], keeps: Tensor | None = None
    ) -> tuple[tuple[Segment, ...], Tensor, Tensor]:
        """What the operations ``choice`` (B,) int64 do on images of that size; the rows ``keeps`` (B,) stay.

        Also (B,) int64 which of ``named`` happened, and (B,) float32 its argument.
        """
        drawn = draws.uniform(key, (4,), dtype=torch.float64).numpy()
        happens = drawn[:, 0] < self.chance[choice].numpy()
        if keeps is not None:
            happens &= ~keeps.numpy()
        sign = np.where(drawn[:, 2] > 0.5, -1.0, 1.0)
        level = self.levels(choice, key).numpy()
        picked_op, count = np.where(happens, choice.numpy(), -1), len(choice)
        where = np.zeros((count, 2, 3))
        where[:, 0, 0] = where[:, 1, 1] = 1.0
        moved = np.zeros(count, np.int64)  # 1 + the interpolation's place in _PIL, 0: stays where it is
        tone, filtered, done = (np.zeros(count, np.int64) for _ in range(3))
        added, value = np.zeros(count, bool), np.zeros(count)
        order = np.argsort(picked_op, kind="stable")
        first = np.searchsorted(picked_op[order], np.arange(len(self.names) + 1))
        for number, name in enumerate(self.names):
            rows = order[first[number] : first[number + 1]]
            if not len(rows):
                continue
            own = argument(name, level[rows], sign[rows], self.hparams[number])
            value[rows], done[rows] = own, self.named.index(name)
            if name in _TONE_OF:
                tone[rows] = TONES.index(_TONE_OF[name])
            elif name in _SHARPNESS:
                filtered[rows] = FILTERS.index("Sharpness")
            elif name == "SolarizeAdd":
                added[rows] = True
            else:
                write_matrix(where, rows, name, own, *size)
                modes = np.array([_MODES.index(mode) for mode in self.modes[number]])
                moved[rows] = 1 + modes[(drawn[rows, 3] * len(modes)).astype(np.int64)]
        amount = torch.from_numpy(value.astype(np.float32))
        matrices, identity = torch.from_numpy(where), torch.eye(2, 3, dtype=torch.float64)
        used = [mode for mode in _MODES if any(mode in modes for modes in self.modes)]
        segments: list[Segment] = []
        for mode in used:
            active = torch.from_numpy(moved == 1 + _MODES.index(mode))
            own_matrices = matrices if len(used) == 1 else torch.where(active[:, None, None], matrices, identity)
            segments.append(Warp(own_matrices, size, mode, self.fill, active=active))
        segments += [Tone(torch.from_numpy(tone), amount), Filter(torch.from_numpy(filtered), amount)]
        if added.any():
            grey = torch.arange(256.0)
            lighter = torch.where(grey < 128, (grey + amount[:, None]).clamp(max=255.0), grey)
            segments.append(Lookup(lighter, torch.from_numpy(added)))
        return tuple(segments), torch.from_numpy(done), torch.where(torch.from_numpy(happens), amount, 0.0)


class _Layers(Augmentation):
    """Operations one after the other; subclasses say which."""

    def __init__(self, ops: Sequence[Any]) -> None:
        self.ops = Ops(ops)

    def _plan(self, shape: Sequence[int], choices: Tensor, key: Tensor) -> Plan:
        """The plan of the operations ``choices`` (B, N), −1 for none."""
        check_colours(shape[1], type(self).__name__)
        check_fill(self.ops.fill, shape[1])
        segments: list[Segment] = []
        ops, values = [], []
        for layer, choice in enumerate(choices.unbind(1)):
            own = draws.fold(key, layer + 1)
            made, done, value = self.ops.segments(choice.clamp(min=0), own, (shape[2], shape[3]), choice < 0)
            segments += made
            ops.append(done)
            values.append(value)
        trace = Trace(torch.stack(ops, 1), torch.stack(values, 1), self.ops.named) if ops else Trace.empty(shape[0])
        return Plan(tuple(shape), tuple(segments), trace)

    def _layer_cuts(self, layers: int) -> Cuts:
        return {slot: points for layer in range(layers) for slot, points in self.ops.cuts((layer + 1,)).items()}


class TimmRandAugment(_Layers):
    """``layers`` operations a sample; weights: drawn without putting back, None: uniformly with."""

    def __init__(self, ops: Sequence[Any], layers: int, weights: Sequence[float] | None) -> None:
        super().__init__(ops)
        self.layers = layers
        self.weights = None if weights is None else [float(weight) for weight in weights]

    def choices(self, key: Tensor) -> Tensor:
        """Which operations the samples with stream keys (B,) receive: (B, layers) int64."""
        own = draws.fold(key, 0)
        if self.weights is None:
            return draws.integers(own, len(self.ops.names), (self.layers,))
        return drawn_by_weight(own, self.weights, self.layers, replace=False)

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw the operations of images (B, C, H, W); raises ValueError unless C is 1 or 3."""
        return self._plan(shape, self.choices(key), key)

    def cuts(self, shape: Sequence[int]) -> Cuts:
        """Which operations, and what each of them chooses."""
        found = self._layer_cuts(self.layers)
        if self.weights is not None:
            points = cuts_by_weight(self.weights, self.layers, replace=False)
            found |= {((0,), slot): cut for slot, cut in points.items()}
        return found


class TimmAutoAugment(_Layers):
    """One of the policies' sequences of operations a sample, each operation with its own probability."""

    def __init__(self, policies: Sequence[Sequence[Any]]) -> None:
        super().__init__([op for policy in policies for op in policy])
        longest = max(len(policy) for policy in policies)
        first, rows = 0, []
        for policy in policies:
            rows.append([first + n if n < len(policy) else -1 for n in range(longest)])
            first += len(policy)
        self.policies = torch.tensor(rows)

    def choices(self, key: Tensor) -> Tensor:
        """Which operations the samples with stream keys (B,) receive, −1 for none: (B, N) int64."""
        return self.policies[draws.integers(draws.fold(key, 0), len(self.policies))]

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw the policies of images (B, C, H, W); raises ValueError unless C is 1 or 3."""
        return self._plan(shape, self.choices(key), key)

    def cuts(self, shape: Sequence[int]) -> Cuts:
        """What each operation chooses."""
        return self._layer_cuts(self.policies.shape[1])


class TimmAugMix(_Layers):
    """``width`` chains of operations, added up by Dirichlet weights and blended with the sample by a Beta draw.

    depth: operations a chain, −1 for 1 to 3 drawn per chain.
    """

    def __init__(self, ops: Sequence[Any], alpha: float, width: int, depth: int) -> None:
        super().__init__(ops)
        self.alpha, self.width, self.depth = float(alpha), width, depth

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw chains and weights of the B samples."""
        deepest = self.depth if self.depth > 0 else 3
        blend = draws.symmetric_beta(draws.fold(key, 0), self.alpha)[:, None]
        shares = draws.uniform(draws.fold(key, 1), (self.width,), dtype=torch.float64)
        shares = dirichlet(shares, draws.fold(key, 2), self.alpha)
        weights = torch.cat([1.0 - blend, blend * shares], 1).float()
        branches, plans = [], []
        for chain in range(self.width):
            own = draws.fold(key, 3 + chain)
            choices = draws.integers(draws.fold(own, 0), len(self.ops.names), (deepest,))
            if self.depth <= 0:
                depth = 1 + draws.integers(draws.fold(key, 3 + self.width + chain), 3)
                choices = torch.where(torch.arange(3) < depth[:, None], choices, -1)
            plans.append(self._plan(shape, choices, own))
            branches.append(plans[-1].segments)
        trace = plans[0].trace
        for plan in plans[1:]:
            trace = trace.then(plan.trace)
        return Plan(tuple(shape), (Branches(tuple(branches), weights),), trace)
