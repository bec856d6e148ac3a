"""Colour and blur by OpenCV itself, row by row on the CPU: the calls albumentations makes, hence its bytes.

When: images are on the CPU and OpenCV is installed; elsewhere `opencv_tone` computes the same with torch. The two
differ by one grey level at most, in 3 values of 10,000 or fewer of a picture whose width fills OpenCV's vectors: its
HSV2RGB rounds what is left of a line and cuts fractions off before. Cost: a tenth of torch's time. Functions take rows
(n, C, H, W) uint8 of 1 or 3 channels on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..augment.backends.torch_clahe import opencv_installed


def serves(images: Tensor) -> bool:
    """Whether OpenCV can be called for ``images``."""
    return images.device.type == "cpu" and opencv_installed()


def each(images: Tensor, make: Callable[..., Any], *arguments: Any) -> Tensor:
    """``make(picture, *arguments of its row)`` of every row, a picture being (H, W, C), or (H, W) for one channel."""
    import cv2

    made = torch.empty_like(images, memory_format=torch.contiguous_format)
    for planes, into, *own in zip(images.contiguous().numpy(), made.numpy(), *arguments, strict=True):
        if len(planes) == 1:
            into[0] = make(planes[0], *own)
            continue
        cv2.split(make(cv2.merge(list(planes)), *own), list(into))
    return made


def greyed(images: Tensor) -> Tensor:
    """Grey in all of three channels, by OpenCV's weights."""
    import cv2

    made = [cv2.cvtColor(cv2.merge(list(planes)), cv2.COLOR_RGB2GRAY) for planes in images.contiguous().numpy()]
    return torch.from_numpy(np.stack(made))[:, None].expand_as(images)


def recoloured(images: Tensor, tables: Tensor) -> Tensor:
    """Hue, saturation and value of three channels replaced by way of tables (n, 3, 256) uint8."""
    import cv2

    def one(picture: np.ndarray, table: np.ndarray) -> np.ndarray:
        parts = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
        return cv2.cvtColor(cv2.LUT(parts, np.ascontiguousarray(table.T)[None]), cv2.COLOR_HSV2RGB)

    return each(images, one, tables.numpy())


def contrasted(images: Tensor, factor: Tensor) -> Tensor:
    """v · factor + (1 − factor) · mean of the grey picture, cut off; factor (n,)."""
    import cv2

    levels = np.arange(256, dtype=np.float32)

    def one(picture: np.ndarray, share: float) -> np.ndarray:
        mean = float((picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)).mean())
        if share == 0:
            return np.full_like(picture, int(mean + 0.5))
        table = levels * np.float32(share) + np.float32(mean * (1.0 - share))
        return cv2.LUT(picture, np.clip(table, 0.0, 255.0).astype(np.uint8))

    return each(images, one, factor.tolist())


def saturated(images: Tensor, factor: Tensor) -> Tensor:
    """factor · v + (1 − factor) · grey of three channels, rounded; factor (n,)."""
    import cv2

    def one(picture: np.ndarray, share: float) -> np.ndarray:
        grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        return cv2.addWeighted(picture, share, grey, 1.0 - share, 0.0)

    return each(images, one, factor.tolist())


def blurred(images: Tensor, weights: Tensor) -> Tensor:
    """Rows and columns weighted by weights (n, K) around each pixel, the border reflected, rounded."""
    import cv2

    def one(picture: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        return cv2.sepFilter2D(picture, -1, kernel, kernel)

    return each(images, one, weights.numpy())
