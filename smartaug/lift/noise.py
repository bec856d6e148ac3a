"""Rectangles filled with normal noise: torchvision's RandomErasing(value="random"), timm's modes "pixel" and "rand"."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import draws
from ..augment import Augmentation
from ..augment.augmentation import on_cpu
from ..augment.foreign import Keyed
from ..augment.plan import Erase as EraseSegment


class EraseNoise(Keyed):
    """The rectangles that ``boxes`` (an `Erase`) draws, filled with standard normal noise; on floats.

    per: "pixel" (each value of its own) or "channel" (one colour a rectangle).
    """

    def __init__(self, boxes: Augmentation, per: str = "pixel") -> None:
        super().__init__(self._erased, f"EraseNoise(per={per!r})", moves_pixels=False)
        self.boxes, self.per = boxes, per

    def _erased(self, images: Tensor, key: Tensor) -> Tensor:
        with on_cpu():
            plan = self.boxes.sample(images.shape, draws.fold(key.cpu(), 0))
        (segment,) = plan.segments
        assert isinstance(segment, EraseSegment)
        noisy = draws.fold(key.cpu(), 1)
        images = images.clone()
        for row, number in segment.boxes[..., 2].nonzero().tolist():
            top, left, tall, wide = segment.boxes[row, number].tolist()
            area = (tall, wide) if self.per == "pixel" else (1, 1)
            own = draws.fold(noisy[row : row + 1], number).to(images.device)
            noise = draws.normal(own, (images.shape[1], *area))[0]
            images[row, :, top : top + tall, left : left + wide] = noise.to(images.dtype)
        return images

    def __call__(self, images: Tensor, key: Tensor) -> Tensor:
        """Images (B, C, H, W) with the rectangles filled; raises TypeError for uint8, which noise does not fit."""
        if images.dtype == torch.uint8:
            raise TypeError("normal noise does not fit uint8 images; convert them before: ToTensor or Normalize")
        return super().__call__(images, key)
