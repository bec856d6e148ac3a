"""Rectangles filled with normal noise, drawn per sample.

What: torchvision's RandomErasing(value="random") and timm's RandomErasing modes "pixel" and "rand". When: lifted
pipelines that contain one of these. Cost: that of erased rectangles, and of their noise. Reference: Zhong et al.,
Random Erasing Data Augmentation, AAAI 2020.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .. import draws
from ..augment import Augmentation
from ..augment.plan import Erase as EraseSegment
from ..augment.plan import EraseNoise as EraseNoiseSegment
from ..augment.plan import Plan


class EraseNoise(Augmentation):
    """Fills the rectangles that ``boxes`` (an `Erase`) draws with standard normal noise; for float images.

    per: "pixel" (a draw for each value) or "channel" (a draw for each channel of a rectangle); anything else raises
    ValueError. Running its plan on uint8 images raises TypeError.
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
