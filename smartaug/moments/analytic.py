"""Means and variances of every value in closed form, without transforming an image, where that is exact.

A step that moves or replaces whole values (a padded crop, a flip, an erased rectangle), or that maps each value by one
affine function (an inversion, a normalisation), acts linearly on the distribution of each value. So its first two
moments m = E x and q = E x² can be carried through a chain of such steps. The mean over the places of a padded crop is
a convolution of the padded image with the distribution of shifts; a flip with probability p mixes the image with its
mirror; Erase mixes it with a constant by the probability that a pixel is covered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..augment import Compose, Erase, Flip, Invert, Normalize, PadCrop
from ..augment.plan import Erase as EraseSegment
from .nodes import nodes
from .source import AugmentLike

_PLACED = 1 << 16  # largest number of rectangles that are summed

Pair = tuple[Tensor, Tensor]


def marginals(augment: AugmentLike, images: Tensor) -> Pair | None:
    """Mean and variance (B, C, H, W) float64 under a chain of such steps; None when another kind is among them."""
    steps = list(_flat(augment if isinstance(augment, (list, tuple)) else [augment]))
    unit = 255.0 if images.dtype == torch.uint8 else 1.0
    if not any(type(step) in _CARRIED for step in steps) or not images.numel():
        return None
    x = images.double()
    pair: Pair | None = (x, x.square())
    for number, step in enumerate(steps):
        if type(step) is Normalize:
            if number != len(steps) - 1:
                return None
            pair = _affine(pair, *_normalising(step, unit, x)) if pair is not None else None
        else:
            carry = _CARRIED.get(type(step))
            pair = None if carry is None or pair is None else carry(step, pair, unit)
    # E x² − (E x)² in float64 may round to −1e-12
    return None if pair is None else (pair[0], (pair[1] - pair[0].square()).clamp_min(0))


def _flat(steps: Iterable[object]) -> Iterable[object]:
    for step in steps:
        if isinstance(step, Compose):
            yield from _flat(step)
        else:
            yield step


def _affine(pair: Pair, scale: Tensor, shift: Tensor) -> Pair:
    m, q = pair
    return scale * m + shift, scale.square() * q + 2 * scale * shift * m + shift.square()


def _normalising(step: Normalize, unit: float, x: Tensor) -> Pair:
    mean, std = (torch.tensor(part, dtype=x.dtype, device=x.device)[:, None, None] for part in (step.mean, step.std))
    return 1.0 / (unit * std), -mean / std


def _mixed(p: float | Tensor, one: Tensor, other: Tensor) -> Tensor:
    return torch.lerp(one, other, torch.as_tensor(p, dtype=one.dtype, device=one.device))


def _flip(step: Flip, pair: Pair, unit: float) -> Pair:
    m, q = (_mixed(step.p, part, part.flip(2 if step.vertical else 3)) for part in pair)
    return m, q


def _invert(step: Invert, pair: Pair, unit: float) -> Pair | None:
    if unit != 255.0:
        return None  # floats must be seen to lie in [0, 1]
    m, q = pair
    turned = unit - m, unit * unit - 2 * unit * m + q
    return _mixed(step.p, m, turned[0]), _mixed(step.p, q, turned[1])


def _pad_crop(step: PadCrop, pair: Pair, unit: float) -> Pair | None:
    """Padding, then the average over all places: a convolution with the uniform distribution of shifts."""
    height, width = pair[0].shape[2:]
    size = step.size or (height, width)
    places = height + 2 * step.padding - size[0] + 1, width + 2 * step.padding - size[1] + 1
    if min(places) < 1 or (step.mode in ("reflect", "symmetric") and step.padding >= min(height, width)):
        return None
    m, q = (F.avg_pool2d(_padded(part, step, power, unit), places, stride=1) for power, part in enumerate(pair, 1))
    return m, q


def _padded(part: Tensor, step: PadCrop, power: int, unit: float) -> Tensor:
    around = (step.padding,) * 4
    if step.mode == "constant":
        fill = _constant(step.fill, unit, part.device) ** power
        return F.pad(part - fill, around) + fill  # F.pad takes one value for all channels: 0
    if step.mode == "symmetric":
        rows, columns = (_mirrored(length, step.padding, part.device) for length in part.shape[2:])
        return part[:, :, rows][..., columns]
    return F.pad(part, around, mode={"edge": "replicate"}.get(step.mode, step.mode))


def _constant(value: tuple[float, ...], unit: float, device: torch.device) -> Tensor:
    """One value per channel (C, 1, 1), rounded for uint8 images as the transforms do."""
    made = torch.tensor(value, dtype=torch.float64)
    return (made.round() if unit == 255.0 else made)[:, None, None].to(device)


def _mirrored(length: int, padding: int, device: torch.device) -> Tensor:
    """Indices of a row padded with its mirror image, the edge repeated."""
    places = torch.arange(-padding, length + padding, device=device) % (2 * length)
    return torch.where(places < length, places, 2 * length - 1 - places)


def _erase(step: Erase, pair: Pair, unit: float) -> Pair | None:
    """Each pixel is covered with its own probability."""
    shape = pair[0].shape
    if step.count > 1 or step.scale[0] != step.scale[1] or step.ratio[0] != step.ratio[1]:
        return None
    covered = _covered(step, shape[2], shape[3])
    if covered is None:
        return None
    value = _constant(step.fill, unit, pair[0].device)
    covered = covered.to(pair[0].device)
    m, q = (_mixed(covered, part, value**power) for power, part in enumerate(pair, 1))
    return m, q


def _covered(step: Erase, height: int, width: int) -> Tensor | None:
    """The probability (H, W) that a pixel is erased; None when there are too many places."""
    listed = nodes(step, (len(step.fill), height, width), _PLACED)
    segment = listed.plan.segments[0]
    if not listed.exact or not isinstance(segment, EraseSegment):
        return None
    top, left, tall, wide = segment.boxes[:, 0].unbind(1)
    # a rectangle is four signed corners of the table whose running sums in both directions are the cover (summed area)
    corners = torch.zeros(height + 1, width + 1, dtype=torch.float64)
    for sign, y, x in ((1, top, left), (-1, top + tall, left), (-1, top, left + wide), (1, top + tall, left + wide)):
        corners.index_put_((y, x), sign * listed.weights, accumulate=True)
    return corners.cumsum(0).cumsum(1)[:height, :width]


_CARRIED: dict[type, Callable[..., Pair | None]] = {
    Erase: _erase,
    Flip: _flip,
    Invert: _invert,
    PadCrop: _pad_crop,
}
