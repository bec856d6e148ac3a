"""Tone operations with torch: (part, amount) -> part, one function for each row of `tables.tones`.

part: (n, C, H, W) uint8 or float in [0, 1]; amount: (n, 1, 1, 1) float32. Reference: torchvision's functional
operations. Statistics of uint8 images are exact integers, so that every backend gives the same bytes; a result may
differ from torchvision's by one grey level where torchvision's float32 rounds past an integer.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..tables import tones
from ..tables.tones import LEVELS, LUMA, LUMA_SHIFT, LUMA_WHOLE


def grey(part: Tensor) -> Tensor:
    """Luma (n, 1, H, W): int32, cut off, for uint8; the float type itself for floats. One channel is itself."""
    if part.shape[1] == 1:
        return part.int() if part.dtype == torch.uint8 else part
    red, green, blue = part.unbind(1)
    if part.dtype == torch.uint8:
        # whole weights in int32, since sums of floats would depend on their order; 255 · 65530 fits
        luma = red.int() * LUMA_WHOLE[0]
        luma += green.int() * LUMA_WHOLE[1]
        luma += blue.int() * LUMA_WHOLE[2]
        return (luma >> LUMA_SHIFT)[:, None]
    return (red * LUMA[0] + green * LUMA[1] + blue * LUMA[2])[:, None]


def _blend(part: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """factor · part + (1 − factor) · other, kept in range."""
    bound = 255.0 if part.dtype == torch.uint8 else 1.0
    return (part * factor + (1.0 - factor) * other).clamp_(0.0, bound).to(part.dtype)


def invert(part: Tensor, amount: Tensor) -> Tensor:
    """255 − x, or 1 − x."""
    return part.bitwise_not() if part.dtype == torch.uint8 else 1.0 - part


def posterize(part: Tensor, amount: Tensor) -> Tensor:
    """The highest ``amount`` bits of each value."""
    if part.dtype == torch.uint8:
        return part & (0xFF00 >> amount.int()).to(torch.uint8)
    levels = torch.exp2(amount).to(part.dtype)
    return torch.minimum((part * levels).floor_(), levels - 1.0) / levels


def solarize(part: Tensor, amount: Tensor) -> Tensor:
    """Values from the threshold on are inverted."""
    threshold = amount if part.dtype == torch.uint8 else (amount / 255.0).to(part.dtype)
    return torch.where(part >= threshold, invert(part, amount), part)


def brightness(part: Tensor, amount: Tensor) -> Tensor:
    """Values times the factor."""
    bound = 255.0 if part.dtype == torch.uint8 else 1.0
    return (part * amount.to(_work(part))).clamp_(0.0, bound).to(part.dtype)


def contrast(part: Tensor, amount: Tensor) -> Tensor:
    """Blended with the mean luma of the sample."""
    luma = grey(part)
    if part.dtype == torch.uint8:
        pixels = max(1, luma[0].numel())
        mean = (luma.sum((1, 2, 3), keepdim=True, dtype=torch.int64).double() / pixels).float()
    else:
        mean = luma.mean((1, 2, 3), keepdim=True)
    return _blend(part, mean, amount.to(_work(part)))


def color(part: Tensor, amount: Tensor) -> Tensor:
    """Saturation: blended with its own luma; one channel stays as it is."""
    return part if part.shape[1] == 1 else _blend(part, grey(part), amount.to(_work(part)))


def grayscale(part: Tensor, amount: Tensor) -> Tensor:
    """Luma in all three channels."""
    return grey(part).to(part.dtype).expand_as(part)


def autocontrast(part: Tensor, amount: Tensor) -> Tensor:
    """Each channel stretched to the full range; a flat one stays."""
    low, high = torch.aminmax(part.flatten(2), dim=2)
    low, high = low[..., None, None], high[..., None, None]
    if part.dtype == torch.uint8:
        # ⌊255 (x − low) / spread⌋ by the reciprocal, which may fall short of a whole number: the ½ lifts the product
        # over it, and is too little to reach the next one
        scale = 1.0 / (high.float() - low).clamp_(min=1.0)
        stretched = ((part - low).float().mul_(255.0).add_(0.5)).mul_(scale).to(torch.uint8)
    else:
        spread = high - low
        stretched = ((part - low) / torch.where(spread > 0, spread, 1.0)).clamp_(0.0, 1.0)
    return torch.where(high > low, stretched, part)


def equalize(part: Tensor, amount: Tensor) -> Tensor:
    """Each channel's histogram flattened, with PIL's integer table; floats by way of 256 levels."""
    levels = part if part.dtype == torch.uint8 else (part * LEVELS).to(torch.uint8)
    flat = levels.flatten(2).long()
    counts = torch.zeros(*flat.shape[:2], 256, dtype=torch.int64, device=part.device)
    counts.scatter_add_(2, flat, torch.ones((), dtype=torch.int64, device=part.device).expand_as(flat))
    highest = flat.amax(2, keepdim=True)
    step = (flat.shape[2] - counts.gather(2, highest)) // 255
    below = counts.cumsum(2) - counts
    table = ((below + step // 2) // step.clamp(min=1)).clamp_(max=255)
    table = torch.where(step > 0, table, torch.arange(256, device=part.device)).to(torch.uint8)
    flattened = table.gather(2, flat).view_as(part)
    return flattened if part.dtype == torch.uint8 else flattened.to(part.dtype) / 255.0


def hue(part: Tensor, amount: Tensor) -> Tensor:
    """Hue turned by ``amount`` of a full circle, by way of HSV; one channel stays as it is."""
    if part.shape[1] == 1:
        return part
    unit = part / 255.0 if part.dtype == torch.uint8 else part
    low, high = torch.aminmax(unit, dim=1)
    spread = high - low
    red, green, blue = unit.unbind(1)
    safe = torch.where(spread > 0, spread, 1.0)  # grey has no hue, and keeps its value whatever it is given
    angle = torch.where(
        high == red,
        (green - blue) / safe,
        torch.where(high == green, 2.0 + (blue - red) / safe, 4.0 + (red - green) / safe),
    )
    turned = torch.remainder(angle / 6.0 + amount.to(unit.dtype)[:, 0], 1.0) * 6.0
    # a channel of HSV's hexagon at corner n: high − spread · clamp(min(k, 4 − k), 0, 1), k = (n + 6h) mod 6
    channels = []
    for corner in (5.0, 3.0, 1.0):
        k = torch.remainder(turned + corner, 6.0)
        channels.append(high - spread * torch.minimum(k, 4.0 - k).clamp_(0.0, 1.0))
    turned = torch.stack(channels, 1)
    return (turned * LEVELS).to(torch.uint8) if part.dtype == torch.uint8 else turned


def _work(part: Tensor) -> torch.dtype:
    return part.dtype if part.is_floating_point() else torch.float32


OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = tones.functions(globals(), "torch/tone.py")
