"""Normal noise for every pixel, and rectangles filled with it.

The rectangles are torchvision's RandomErasing(value="random") and timm's modes "pixel" and "rand".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .. import draws
from ..augment import Augmentation
from ..augment.augmentation import on_cpu
from ..augment.foreign import Keyed
from ..augment.plan import Erase as EraseSegment

_BLOCK, _LANES = 1 << 14, 64  # pairs at a time: too few for torch to share among threads; whole vectors of them


def normal_field(key: Tensor, shape: Sequence[int]) -> Tensor:
    """Standard normal draws for many pixels: (B,) keys to (B, *shape) float32, the same in every batch on one device.

    Box and Muller's two normals from each 64-bit draw ("A note on the generation of random normal deviates", 1958),
    within ±6.8: a quarter of the time that `draws.normal` takes, which inverts in double precision.
    """
    count = math.prod(shape)
    pairs = -(-count // (2 * _LANES)) * _LANES
    if key.device.type == "cpu":  # one that ends within a vector would get other last bits (see draws)
        rows = max(1, _BLOCK // max(1, pairs))
        parts = [
            torch.cat([_pairs(some, min(_BLOCK, pairs - at), at) for at in range(0, pairs, _BLOCK)], 1)
            for some in (key.split(rows) if pairs else ())
        ]
        values = torch.cat(parts) if parts else torch.empty(len(key), 0)
    else:
        values = _pairs(key, pairs, 0)
    return values[:, :count].reshape(len(key), *shape)


def _pairs(key: Tensor, slots: int, start: int) -> Tensor:
    words = draws.bits(key, slots, start)
    first = ((words >> 32) & 0xFFFFFFFF).float().add_(0.5).mul_(2.0**-32)
    angle = (words & 0xFFFFFF).float().mul_(2.0 * math.pi * 2.0**-24)
    radius = first.log_().mul_(-2.0).sqrt_()
    return torch.cat([angle.cos().mul_(radius), angle.sin_().mul_(radius)], 1)


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
