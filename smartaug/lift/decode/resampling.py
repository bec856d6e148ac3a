"""Crops and resizes of torchvision and timm on the array of a decoded picture.

What: `applied` calls a user's transform. Where it is one of torchvision's or timm's own that resizes, a `Picture` that
it resizes bilinearly is resampled by torch on uint8, antialiased as by Pillow, in two passes of rounded values; all
other interpolations, and resizes that the user's own code asks for, are Pillow's. When: a transform that stays in the
worker. Cost: about a quarter of Pillow's. Values differ from Pillow's by at most one grey level, as the weights are
rounded to 16 bits; on photographs in 0.1 % of the values, and by two in about one of 10⁷. To a height or width of one
torch computes in another way than here for a batch. Reference: Pillow's ``Image.resize``.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from ..steps import Transform

_RESIZES = {
    "torchvision.transforms.transforms": {"Resize", "RandomResizedCrop"},
    "torchvision.transforms.v2._geometry": {
        *("Resize", "RandomResizedCrop", "RandomResize", "RandomShortestSize", "ScaleJitter"),
    },
    "timm.data.transforms": {"RandomResizedCropAndInterpolation", "ResizeKeepRatio"},
}
_local = threading.local()  # .resizing: whether a transform of `_RESIZES` runs in this thread


def resizes(transform: Transform) -> bool:
    """Whether a transform is one of torchvision's or timm's own that resizes."""
    kind = type(transform)
    return kind.__name__ in _RESIZES.get(kind.__module__, ())


def applied(transform: Transform, inputs: Sequence[Any]) -> Any:
    """The result of ``transform``, for which `resizes` holds."""
    before, _local.resizing = resizing(), True
    try:
        return transform(*inputs)
    finally:
        _local.resizing = before


def resizing() -> bool:
    """Whether `applied` runs in this thread."""
    return getattr(_local, "resizing", False)


def resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """``pixels`` (H, W, C) uint8, resampled bilinearly with antialiasing, (height, width, C)."""
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    made = interpolate(image, (height, width), mode="bilinear", antialias=True)
    return made[0].permute(1, 2, 0).numpy()


def pixels_of(image: object) -> np.ndarray | None:
    """The pixels (H, W, 3) uint8 of a picture that is still an array; None: of any other image."""
    read = getattr(image, "decoded_pixels", None)
    return None if read is None else read()
