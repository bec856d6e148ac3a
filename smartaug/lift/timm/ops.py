"""timm's RandAugment, AutoAugment and AugMix, batched, with all draws per sample.

What: timm's AugmentOps and their level tables, which differ from torchvision's: a probability for each operation,
magnitudes with normal or uniform noise, "increasing" variants, SolarizeAdd, bicubic interpolation. Geometry is not
rounded to whole pixels. When: lifted pipelines with one of timm's policies. Cost: that of a plan with a few segments
per layer. Reference: timm.data.auto_augment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ... import draws
from ...augment import Augmentation
from ...augment.augmentation import Cuts, equal_cuts
from ...augment.backends.tables.filters import FILTERS
from ...augment.backends.tables.tones import TONES
from ...augment.checks import check_colours, check_fill
from ...augment.ops.augmix import dirichlet
from ...augment.ops.combinators import cuts_by_weight, drawn_by_weight
from ...augment.plan import Branches, Filter, Lookup, Plan, Segment, Tone, Trace, Warp
from ..steps import Transform

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


def uncovered(op: Transform) -> str | None:
    """Why a timm AugmentOp cannot be batched; None: it can."""
    if type(op).__name__ != "AugmentOp":
        return f"{type(op).__name__} is not timm's AugmentOp"
    if op.name not in COVERED:
        return f"{op.name} is PIL's approximation, which is not batched"
    if any(int(mode) not in _PIL for mode in _modes(op)):
        return f"{op.name} has an interpolation that is not batched"
    return None


def _modes(op: Transform) -> list[int]:
    given = op.kwargs["resample"]
    return [int(mode) for mode in given] if isinstance(given, (tuple, list)) else [int(given)]


def argument(name: str, level: np.ndarray, sign: np.ndarray, hparams: dict[str, Any]) -> np.ndarray:
    """timm's LEVEL_TO_ARG: arguments (n,) float64 of an operation for levels (n,), 10 being full, and signs (n,) ±1."""
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
    if name == "Desaturate":  # timm removes a share 0.5..1 of the colour; the factor that is left is 1 minus it
        return 1.0 - np.clip(0.5 + 0.5 * share, 0.5, 1.0)
    return np.zeros_like(level)


def inverse(name: str, value: np.ndarray, height: int, width: int) -> np.ndarray:
    """Matrices (n, 2, 3) from output to input pixels of the geometric operation ``name`` with arguments (n,)."""
    made = np.zeros((len(value), 2, 3))
    made[:, 0, 0] = made[:, 1, 1] = 1.0
    if name in ("ShearX", "ShearY"):
        axis = int(name == "ShearY")
        made[:, axis, 1 - axis], made[:, axis, 2] = value, value / 2
    elif name.startswith("Translate"):
        axis = int(name.startswith("TranslateY"))
        made[:, axis, 2] = value * ((width, height)[axis] if name.endswith("Rel") else 1)
    else:
        cos, sin = np.cos(np.radians(value)), np.sin(np.radians(value))
        x, y = (width - 1) / 2, (height - 1) / 2
        made[:, 0, 0], made[:, 0, 1], made[:, 0, 2] = cos, -sin, x - cos * x + sin * y
        made[:, 1, 0], made[:, 1, 1], made[:, 1, 2] = sin, cos, y - sin * x - cos * y
    return made


class Ops:
    """A list of timm's AugmentOps, applied to a batch in which each sample has its own choice of them."""

    def __init__(self, ops: Sequence[Transform]) -> None:
        self.names = [str(op.name) for op in ops]
        self.chance = np.array([float(op.prob) for op in ops])
        self.magnitude = np.array([float(op.magnitude) for op in ops])
        self.noise = np.array([float(op.magnitude_std) for op in ops])
        self.most = np.array([float(op.magnitude_max or _DENOMINATOR) for op in ops])
        self.hparams = [dict(op.hparams) for op in ops]
        self.modes = [[_PIL[mode] for mode in _modes(op)] for op in ops]
        fill = ops[0].kwargs["fillcolor"] if ops else 0
        self.fill = tuple(float(v) for v in fill) if isinstance(fill, (tuple, list)) else (float(fill),)
        self.named = tuple(dict.fromkeys(("Identity", *self.names)))

    def levels(self, choice: np.ndarray, keys: Sequence[Tensor] | Tensor) -> np.ndarray:
        """The magnitudes (N, B) float64 of the operations ``choice`` (N, B), with noise, clipped to their range.

        keys: N times (B,) stream keys.
        """
        level = self.magnitude[choice]
        uniform = np.isinf(self.noise)
        if (self.noise[~uniform] > 0).any():
            spread = np.where(uniform, 0.0, self.noise)[choice]
            level = level + spread * draws.of_each(lambda key: draws.normal(draws.fold(key, 1)), keys).numpy()
        if uniform.any():
            share = draws.of_each(partial(draws.uniform, dtype=torch.float64, start=1), keys).numpy()
            level = np.where(uniform[choice], share * self.magnitude[choice], level)
        return np.clip(level, 0.0, self.most[choice])

    def cuts(self, path: tuple[int, ...]) -> Cuts:
        """The cut points of the draws from stream ``path``: whether applied, sign, interpolation."""
        counts = {len(modes) for modes in self.modes if modes}
        modes = {point for count in counts for point in equal_cuts(count)}
        return {(path, 0): sorted(set(self.chance.tolist())), (path, 2): [0.5], (path, 3): sorted(modes)}

    def layers(
        self, choices: Tensor, key: Tensor, size: tuple[int, int]
    ) -> tuple[list[Segment], list[Tensor], list[Tensor]]:
        """The segments of operations ``choices`` (B, N) int64, −1 for none, in order, for images of ``size`` (H, W).

        Also returned, for each of the N layers: the operations applied, (B,) int64 positions in ``named``, and their
        arguments, (B,) float32.
        """
        chosen = choices.numpy().T
        picked = np.maximum(chosen, 0)
        keys = draws.folds(key, len(chosen) + 1)[1:]
        drawn = draws.of_each(partial(draws.uniform, shape=(4,), dtype=torch.float64), keys).numpy()
        level = self.levels(picked, keys)
        happens = (drawn[..., 0] < self.chance[picked]) & (chosen >= 0)
        sign = np.where(drawn[..., 2] > 0.5, -1.0, 1.0)
        made = _Made(chosen.shape)
        present = np.flatnonzero(happens)
        present = present[chosen.flat[present].argsort(kind="stable")]
        ends = np.searchsorted(chosen.flat[present], np.arange(len(self.names) + 1))
        for number, name in enumerate(self.names):
            rows = present[ends[number] : ends[number + 1]]
            if not len(rows):
                continue
            own = argument(name, level.flat[rows], sign.flat[rows], self.hparams[number])
            made.value.flat[rows], made.done.flat[rows] = own, self.named.index(name)
            if name in _TONE_OF:
                made.tone.flat[rows] = TONES.index(_TONE_OF[name])
            elif name in _SHARPNESS:
                made.filtered.flat[rows] = FILTERS.index("Sharpness")
            elif name == "SolarizeAdd":
                made.added.flat[rows] = True
            else:
                made.matrix.reshape(-1, 2, 3)[rows] = inverse(name, own, *size)
                modes = np.array([_MODES.index(mode) for mode in self.modes[number]])
                place = drawn.reshape(-1, 4)[rows, 3] * len(modes)
                made.moved.flat[rows] = 1 + modes[place.astype(np.int64)]
        used = [mode for mode in _MODES if any(mode in modes for modes in self.modes)]
        segments = [part for layer in range(len(chosen)) for part in made.segments(layer, size, used, self.fill)]
        amounts = torch.from_numpy(np.where(happens, made.value, 0.0).astype(np.float32))
        return segments, list(torch.from_numpy(made.done)), list(amounts)


class _Made:
    """N layers of operations on B samples, as arrays (N, B): the operations by kind, and their arguments."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.matrix = np.zeros((*shape, 2, 3))
        self.matrix[..., 0, 0] = self.matrix[..., 1, 1] = 1.0
        self.moved = np.zeros(shape, np.int64)  # 1 + position of the interpolation in _MODES; 0: not moved
        self.tone, self.filtered, self.done = (np.zeros(shape, np.int64) for _ in range(3))
        self.added, self.value = np.zeros(shape, bool), np.zeros(shape)

    def segments(
        self, layer: int, size: tuple[int, int], used: Sequence[str], fill: tuple[float, ...]
    ) -> Iterator[Segment]:
        """The segments of one layer that change any sample. used: interpolations that occur in the policy."""
        matrices, moved = self.matrix[layer], self.moved[layer]
        for mode in used:
            active = moved == 1 + _MODES.index(mode)
            if active.any():
                own = matrices if len(used) == 1 else np.where(active[:, None, None], matrices, _IDENTITY)
                yield Warp(torch.from_numpy(own), size, mode, fill, active=torch.from_numpy(active))
        amount = torch.from_numpy(self.value[layer].astype(np.float32))
        if self.tone[layer].any():
            yield Tone(torch.from_numpy(self.tone[layer]), amount)
        if self.filtered[layer].any():
            yield Filter(torch.from_numpy(self.filtered[layer]), amount)
        rows = np.flatnonzero(self.added[layer])
        if len(rows):
            grey, table = np.arange(256.0), np.zeros((len(matrices), 256), np.float32)
            table[rows] = np.where(grey < 128, np.minimum(grey + self.value[layer][rows, None], 255.0), grey)
            yield Lookup(torch.from_numpy(table), torch.from_numpy(self.added[layer]))


_IDENTITY = np.eye(2, 3)


class _Layers(Augmentation):
    """Base class of the policies: applies operations one after the other, chosen by the subclass."""

    def __init__(self, ops: Sequence[Transform]) -> None:
        self.ops = Ops(ops)

    def _plan(self, shape: Sequence[int], choices: Tensor, key: Tensor) -> Plan:
        """The plan of the operations ``choices`` (B, N), −1 for none."""
        check_colours(shape[1], type(self).__name__)
        check_fill(self.ops.fill, shape[1])
        if not choices.shape[1]:
            return Plan(tuple(shape), (), Trace.empty(shape[0]))
        segments, ops, values = self.ops.layers(choices, key, (shape[2], shape[3]))
        return Plan(tuple(shape), tuple(segments), Trace(torch.stack(ops, 1), torch.stack(values, 1), self.ops.named))

    def _layer_cuts(self, layers: int) -> Cuts:
        return {slot: points for layer in range(layers) for slot, points in self.ops.cuts((layer + 1,)).items()}


class TimmRandAugment(_Layers):
    """timm's RandAugment: ``layers`` operations per sample.

    weights: of the operations, which are then drawn without replacement; None: uniformly, with replacement.
    """

    def __init__(self, ops: Sequence[Transform], layers: int, weights: Sequence[float] | None) -> None:
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
        """The draws that choose the operations, and those of each operation."""
        found = self._layer_cuts(self.layers)
        if self.weights is not None:
            points = cuts_by_weight(self.weights, self.layers, replace=False)
            found |= {((0,), slot): cut for slot, cut in points.items()}
        return found


class TimmAutoAugment(_Layers):
    """timm's AutoAugment: per sample one of ``policies``, sequences of operations with a probability each."""

    def __init__(self, policies: Sequence[Sequence[Transform]]) -> None:
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
        """The draws of each operation."""
        return self._layer_cuts(self.policies.shape[1])


class TimmAugMix(_Layers):
    """timm's AugMix: the weighted sum of ``width`` chains of operations, blended with the original image.

    alpha: parameter of the Dirichlet distribution of the weights and of the symmetric Beta distribution of the blend.
    depth: operations per chain; −1: 1 to 3, drawn per chain. Reference: Hendrycks et al., AugMix, ICLR 2020.
    """

    def __init__(self, ops: Sequence[Transform], alpha: float, width: int, depth: int) -> None:
        super().__init__(ops)
        self.alpha, self.width, self.depth = float(alpha), width, depth

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw chains and weights for images (B, C, H, W); raises ValueError unless C is 1 or 3."""
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
