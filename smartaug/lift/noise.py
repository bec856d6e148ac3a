"""Rectangles filled with normal noise: torchvision's RandomErasing(value="random"), timm's modes "pixel" and "rand"."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .. import draws
from ..augment import Augmentation
from ..augment.plan import Erase as EraseSegment
from ..augment.plan import EraseNoise as EraseNoiseSegment
from ..augment.plan import Plan


class EraseNoise(Augmentation):
    """The rectangles that ``boxes`` (an `Erase`) draws, filled with standard normal noise; on floats.

    per: "pixel" (each value of its own) or "channel" (one colour a rectangle). Executing its plan on uint8 images,
    which noise does not fit, raises a TypeError.
    """

    def __init__(self, boxes: Augmentation, per: str = "pixel") -> None:
        if per not in ("pixel", "channel"):
            raise ValueError(f'per must be "pixel" or "channel", got {per!r}')
        self.boxes, self.per = boxes, per

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw the rectangles of the B samples, and the keys of their noise."""
        plan = self.boxes.sample(shape, draws.fold(key, 0))
        (segment,) = plan.segments
        assert isinstance(segment, EraseSegment)
        noisy = EraseNoiseSegment(segment.boxes, draws.fold(key, 1), self.per == "channel")
        return Plan(plan.shape, (noisy,), plan.trace)
