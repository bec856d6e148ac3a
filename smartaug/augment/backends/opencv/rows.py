"""Colour operations and blur by OpenCV, image by image on all threads of the CPU, with the bytes of albumentations.

When: images are on the CPU and OpenCV is installed; elsewhere `lift.albumentations.ops.tone` computes the same with
torch. Results differ from torch's by one grey level at most, and almost only in hues: OpenCV's HSV2RGB cuts fractions
off where it works on whole vectors, as torch does everywhere, and rounds in the rest of a line. Cost: less than a sixth
of torch's time.

Functions take rows (n, C, H, W) uint8 of 1 or 3 channels on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...._base.threads import over_rows
from ..torch.clahe import opencv_installed

_LEVELS = np.arange(256, dtype=np.float32)
_SMALL = 1 << 17  # values below which handing images to threads costs more than it saves


def serves(images: Tensor) -> bool:
    """Whether OpenCV can be called for ``images``."""
    return images.device.type == "cpu" and opencv_installed()


def each(images: Tensor, make: Callable[..., Any], *arguments: Any) -> Tensor:
    """``make(image, *arguments of its row)`` of every row, an image being (H, W, C), or (H, W) for one channel."""
    import cv2

    made = torch.empty_like(images, memory_format=torch.contiguous_format)
    rows = list(zip(images.contiguous().numpy(), made.numpy(), *arguments, strict=True))

    def run(first: int, last: int) -> None:
        for planes, into, *own in rows[first:last]:
            if len(planes) == 1:
                into[0] = make(planes[0], *own)
            else:
                cv2.split(make(cv2.merge(list(planes)), *own), list(into))

    if images.numel() < _SMALL:
        run(0, len(rows))
    else:
        over_rows(run, len(rows))
    return made


def greyed(images: Tensor) -> Tensor:
    """Grey in all of three channels, by OpenCV's weights."""
    import cv2

    made = [cv2.cvtColor(cv2.merge(list(planes)), cv2.COLOR_RGB2GRAY) for planes in images.contiguous().numpy()]
    return torch.from_numpy(np.stack(made))[:, None].expand_as(images)


def recoloured(images: Tensor, tables: Tensor) -> Tensor:
    """Hue, saturation and value of three channels replaced by way of tables (n, up to 3, 256) uint8."""
    return each(images, _recoloured, tables.numpy())


def _recoloured(image: np.ndarray, tables: np.ndarray) -> np.ndarray:
    import cv2

    parts = list(cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV)))
    for place, table in enumerate(tables):
        parts[place] = cv2.LUT(parts[place], table)
    return cv2.cvtColor(cv2.merge(parts), cv2.COLOR_HSV2RGB)


def contrasted(images: Tensor, factor: Tensor) -> Tensor:
    """v · factor + (1 − factor) · mean of the grey image, cut off; factor (n,)."""
    return each(images, _contrasted, factor.tolist())


def _contrasted(image: np.ndarray, factor: float) -> np.ndarray:
    import cv2

    mean = float((image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)).mean())
    if factor == 0:
        return np.full_like(image, int(mean + 0.5))
    table = _LEVELS * np.float32(factor) + np.float32(mean * (1.0 - factor))
    return cv2.LUT(image, np.clip(table, 0.0, 255.0).astype(np.uint8))


def saturated(images: Tensor, factor: Tensor) -> Tensor:
    """factor · v + (1 − factor) · grey of three channels, rounded; factor (n,)."""
    return each(images, _saturated, factor.tolist())


def _saturated(image: np.ndarray, factor: float) -> np.ndarray:
    import cv2

    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, factor, grey, 1.0 - factor, 0.0)


def jittered(
    images: Tensor,
    brightness: Tensor,
    contrast: Tensor,
    saturation: Tensor,
    hue: Tensor,
    order: Tensor,
    turns: Tensor,
) -> Tensor:
    """`lift.albumentations.ops.tone.jitter`, an image going through its four operations at once."""
    import cv2

    def one(
        image: np.ndarray, light: Any, contrast: float, saturation: float, hue: Any, order: Any, turns: bool
    ) -> Any:
        for number in order:
            if number == 0:
                image = cv2.LUT(image, light)
            elif number == 1:
                image = _contrasted(image, contrast)
            elif image.ndim == 3 and number == 2:
                image = _saturated(image, saturation)
            elif image.ndim == 3 and turns:
                image = _recoloured(image, hue[None])
        return image

    factors = contrast.tolist(), saturation.tolist()
    return each(images, one, brightness.numpy(), *factors, hue.numpy(), order.tolist(), turns.tolist())


def blurred(images: Tensor, weights: Tensor) -> Tensor:
    """Rows and columns weighted by weights (n, K) around each pixel, the border reflected, rounded."""
    import cv2

    def one(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        return cv2.sepFilter2D(image, -1, kernel, kernel)

    return each(images, one, weights.numpy())
