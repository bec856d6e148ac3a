"""Single operations on colours and grey levels: pixels change their values and stay where they are.

What: torchvision's colour transforms, drawn per sample, on uint8 or floats in [0, 1]. When: photometric variation that
must not change the label; before `Normalize`. Cost: one pass over the rows that are changed, two for Equalize,
AutoContrast and Contrast, which need statistics first. Reference: torchvision's RandomInvert, RandomPosterize,
RandomSolarize, RandomAutocontrast, RandomEqualize, RandomGrayscale, RandomAdjustSharpness, ColorJitter.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ... import draws
from ..augmentation import Augmentation, Cuts, check_probability
from ..backends.tables.filters import FILTERS
from ..backends.tables.tones import TONES
from ..checks import check_colours, check_number
from ..plan import Filter, Plan, Segment, Tone, Trace


class _OneTone(Augmentation):
    """One operation of fixed amount, with probability p per sample."""

    _kinds: tuple[str, ...] = TONES
    _segment: type[Tone] | type[Filter] = Tone
    _needs_colours = False

    def __init__(self, p: float = 0.5, *, backend: str | None = None, _amount: float = 0.0) -> None:
        super().__init__(backend=backend)
        self.p = check_probability(p)
        self._amount = _amount

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw which of the B samples are changed."""
        name = type(self).__name__
        if self._needs_colours:
            check_colours(shape[1], name)
        drawn = draws.uniform(key) < self.p
        segment = self._segment(drawn.long() * self._kinds.index(name), torch.full((shape[0],), self._amount))
        trace = Trace(drawn.long()[:, None], (drawn * self._amount)[:, None], ("Identity", name))
        return Plan(tuple(shape), (segment,), trace)

    def cuts(self, shape: Sequence[int]) -> Cuts:
        """Changed or not."""
        return {((), 0): [self.p]}


class Invert(_OneTone):
    """255 − x (1 − x for floats) with probability ``p``."""

    def __init__(self, p: float = 0.5, *, backend: str | None = None) -> None:
        super().__init__(p, backend=backend)


class AutoContrast(_OneTone):
    """Each channel stretched linearly to the full range with probability ``p``; a flat channel stays."""

    def __init__(self, p: float = 0.5, *, backend: str | None = None) -> None:
        super().__init__(p, backend=backend)


class Equalize(_OneTone):
    """Each channel's histogram flattened with probability ``p``; floats by way of 256 levels."""

    def __init__(self, p: float = 0.5, *, backend: str | None = None) -> None:
        super().__init__(p, backend=backend)


class Grayscale(_OneTone):
    """Luma in all channels with probability ``p``; needs 1 or 3 channels."""

    _needs_colours = True

    def __init__(self, p: float = 0.1, *, backend: str | None = None) -> None:
        super().__init__(p, backend=backend)


class Posterize(_OneTone):
    """Only the highest ``bits`` (0–8) of each value kept, with probability ``p``."""

    def __init__(self, bits: int, p: float = 0.5, *, backend: str | None = None) -> None:
        if not isinstance(bits, int) or isinstance(bits, bool) or not 0 <= bits <= 8:
            raise ValueError(f"bits must be an integer in 0..8, got {bits!r}; write bits=4")
        super().__init__(p, backend=backend, _amount=float(bits))
        self.bits = bits


class Solarize(_OneTone):
    """Values from ``threshold`` (grey levels, 0–255, also for floats) on inverted, with probability ``p``."""

    def __init__(self, threshold: float, p: float = 0.5, *, backend: str | None = None) -> None:
        super().__init__(p, backend=backend, _amount=check_number(threshold, "threshold", 0.0, 255.0))
        self.threshold = threshold


class Sharpness(_OneTone):
    """Sharpened (``factor`` > 1) or softened (0 ≤ factor < 1) with probability ``p``; the outermost pixels stay."""

    _kinds = FILTERS
    _segment = Filter

    def __init__(self, factor: float, p: float = 0.5, *, backend: str | None = None) -> None:
        super().__init__(p, backend=backend, _amount=check_number(factor, "factor", 0.0, float("inf")))
        self.factor = factor


class ColorJitter(Augmentation):
    """Brightness, contrast, saturation and hue shifted by amounts drawn per sample, in an order drawn per sample.

    brightness, contrast, saturation: v for factors in [max(0, 1 − v), 1 + v], or the range (low, high) itself, 0 for
    none. hue: v ≤ 0.5 for shifts in [−v, v] turns, or (low, high) in [−0.5, 0.5]. Needs 1 or 3 channels.
    """

    _NAMES = ("Brightness", "Contrast", "Color", "Hue")

    def __init__(
        self,
        brightness: float | tuple[float, float] = 0,
        contrast: float | tuple[float, float] = 0,
        saturation: float | tuple[float, float] = 0,
        hue: float | tuple[float, float] = 0,
        *,
        backend: str | None = None,
    ) -> None:
        super().__init__(backend=backend)
        self.brightness = _span(brightness, "brightness", 1.0, 0.0, float("inf"))
        self.contrast = _span(contrast, "contrast", 1.0, 0.0, float("inf"))
        self.saturation = _span(saturation, "saturation", 1.0, 0.0, float("inf"))
        self.hue = _span(hue, "hue", 0.0, -0.5, 0.5)

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw amounts and orders of the B samples."""
        check_colours(shape[1], "ColorJitter")
        spans = (self.brightness, self.contrast, self.saturation, self.hue)
        used = [n for n, span in enumerate(spans) if span != ((0.0, 0.0) if n == 3 else (1.0, 1.0))]
        low, high = torch.tensor([spans[n] for n in used]).reshape(-1, 2).unbind(1)
        drawn = draws.uniform(key, (2, len(used)))
        amounts = low + drawn[:, 0] * (high - low)
        order = drawn[:, 1].argsort(1)
        operations = torch.tensor([TONES.index(self._NAMES[n]) for n in used], dtype=torch.int64)[order]
        amounts = amounts.gather(1, order)
        segments: list[Segment] = [Tone(operations[:, n], amounts[:, n]) for n in range(len(used))]
        return Plan(tuple(shape), tuple(segments), Trace(operations, amounts, TONES))


def _span(value: object, name: str, centre: float, low: float, high: float) -> tuple[float, float]:
    if isinstance(value, (tuple, list)):
        if len(value) != 2 or not low <= value[0] <= value[1] <= high:
            raise ValueError(f"{name} must be a number or (low, high) within [{low:g}, {high:g}], got {value!r}")
        return float(value[0]), float(value[1])
    reach = check_number(value, name, 0.0, high)
    return max(low, centre - reach), centre + reach
