"""Random rectangles of a drawn area and aspect ratio, which `Erase` fills and `RandomResizedCrop` keeps.

As in torchvision a rectangle that does not fit is drawn again, up to `TRIES` times. Every try has its own slots in the
random stream of the sample, so that further tries can be drawn for those samples alone whose first one did not fit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ... import draws

TRIES = 10


def slots(count: int) -> int:
    """How many slots of a stream ``count`` rectangles may draw, from 0 on."""
    return 4 * count * TRIES


def rectangles(
    key: Tensor,
    size: tuple[Any, Any],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    count: int = 1,
    *,
    least: int = 0,
    largest: tuple[int, int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """``count`` rectangles a sample inside images of ``size``: boxes (B, count, 4) int64 and found (B, count) bool.

    size: height and width of all images, or of each (B,).
    boxes: top, left, height, width in pixels, zeros where none was found. scale: range of the area as a fraction of the
    image; ratio: range of height / width, drawn log-uniformly. least: shortest side in pixels; largest: greatest
    height and width in pixels, None: the image's.
    """
    boxes, found = _tries(key, size, scale, ratio, (0, 1, count), (least, largest))
    # where draws are prescribed, which of them are asked for must not depend on them
    lacking = np.arange(len(found)) if isinstance(key, draws.Prescribed) else np.flatnonzero(~found.all(1))
    if len(lacking):
        own = (size[0][lacking], size[1][lacking]) if isinstance(size[0], np.ndarray) else size
        more, also = _tries(key[torch.from_numpy(lacking)], own, scale, ratio, (1, TRIES, count), (least, largest))
        has = found[lacking]
        boxes[lacking] = np.where(has[..., None], boxes[lacking], more)
        found[lacking] = has | also
    return boxes, found


def _tries(
    key: Tensor,
    size: tuple[Any, Any],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    tries: tuple[int, int, int],
    limits: tuple[int, tuple[int, int] | None],
) -> tuple[np.ndarray, np.ndarray]:
    """The first rectangles that fit of tries ``first`` to ``last - 1``, and which there are."""
    first, last, count = tries
    drawn = draws.uniform(key, (last - first, count, 4), 4 * count * first, torch.float64).numpy()
    low, high = math.log(ratio[0]), math.log(ratio[1])
    height, width = (side[:, None, None] if isinstance(side, np.ndarray) else side for side in size)
    area = height * width * (scale[0] + drawn[..., 0] * (scale[1] - scale[0]))
    aspect = np.exp(low + drawn[..., 1] * (high - low))
    tall, wide = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
    least, (highest, widest) = limits[0], limits[1] or (height, width)
    fits = (tall <= highest) & (wide <= widest)
    if least:
        fits &= (tall >= least) & (wide >= least)
    boxes = np.empty((*fits.shape, 4))
    boxes[..., 0] = np.floor(drawn[..., 2] * (height + 1 - tall))
    boxes[..., 1] = np.floor(drawn[..., 3] * (width + 1 - wide))
    boxes[..., 2], boxes[..., 3] = tall, wide
    boxes *= fits[..., None]
    if last - first == 1:
        return boxes[:, 0].astype(np.int64), fits[:, 0]
    at = fits.argmax(1)[:, None]  # the first that fits; any, all zeros, where none does
    chosen = np.take_along_axis(boxes, at[..., None], 1)[:, 0].astype(np.int64)
    return chosen, np.asarray(fits.any(1))
