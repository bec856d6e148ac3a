"""Colour, blur and noise with albumentations' distributions and OpenCV's arithmetic on uint8 images, almost exactly.

What: albumentations works in 8-bit HSV (180 hues), truncates in its tables and rounds in OpenCV's functions; the
operations of `augment.tone`, which are torchvision's, would differ by up to 4 grey levels. When: lifted albumentations
pipelines. Cost: a lookup table per sample where that is enough; noise and blur cost most. Reference: albumentations
2.0.8; OpenCV's cvtColor, equalizeHist and GaussianBlur. Functions on images take (n, C, H, W) uint8 with 1 or 3
channels and arguments (n, ...), and return the same shape and dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .... import draws
from ....augment import Augmentation
from ....augment.backends.opencv import rows as opencv_rows
from ....augment.backends.torch.warp import within
from ....augment.plan import Call, Clahe, Lookup, Noise, Plan, Segment, Trace

Span = tuple[float, float]
_LEVELS = 256


class Drawn(Augmentation):
    """One operation with numbers drawn uniformly from ``spans``.

    make: (numbers (B, k) float64, keys (B,), shape) to the segments that do it. name: what the trace calls it; its
    magnitude is the first number.
    """

    def __init__(
        self, name: str, spans: Sequence[Span], make: Callable[[Tensor, Tensor, Sequence[int]], Sequence[Segment]]
    ) -> None:
        self.name, self.spans, self.make = name, tuple(spans), make

    def numbers(self, key: Tensor) -> Tensor:
        """What the samples with stream keys (B,) draw: (B, k) float64."""
        low, high = np.array(self.spans, np.float64).reshape(-1, 2).T
        drawn = draws.uniform(draws.fold(key, 0), (len(self.spans),), dtype=torch.float64).numpy()
        return torch.from_numpy(low + drawn * (high - low))

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw the numbers of the B samples."""
        numbers = self.numbers(key)
        segments = tuple(self.make(numbers, draws.fold(key, 1), shape))
        shown = numbers[:, :1].float() if self.spans else torch.zeros(len(key), 1)
        return Plan(tuple(shape), segments, Trace(torch.zeros(len(key), 1, dtype=torch.int64), shown, (self.name,)))


# tables are made with NumPy: torch would share 65,536 values among threads, which takes longer where cores are busy


def table_of(values: np.ndarray) -> Tensor:
    """Tables (..., 256) float32 of ``values`` clipped to 0..255 and truncated to integers; overwrites ``values``."""
    np.clip(values, 0.0, 255.0, out=values)
    return torch.from_numpy(np.trunc(values, out=values).astype(np.float32, copy=False))


def levels(dtype: type[np.floating] = np.float64) -> np.ndarray:
    """The grey levels 0..255: (256,)."""
    return np.arange(_LEVELS, dtype=dtype)


# --- brightness, contrast, gamma: one table a sample -----------------------------------------------------------------


def linear(factor: Tensor, added: Tensor) -> Tensor:
    """Tables (B, 256) of v · factor + added, computed in float32 as albumentations does."""
    made = levels(np.float32) * factor.numpy().astype(np.float32)[:, None]
    made += added.numpy().astype(np.float32)[:, None]
    return table_of(made)


def brightness_contrast(numbers: Tensor, key: Tensor, shape: Sequence[int], *, safe: bool) -> Sequence[Segment]:
    """Numbers: change of contrast (a factor minus 1), brightness as a share of 255. safe: limited by `safe_range`."""
    alpha, beta = 1.0 + numbers[:, 0], 255.0 * numbers[:, 1]
    return (Lookup(linear(*(safe_range(alpha, beta) if safe else (alpha, beta)))),)


def safe_range(alpha: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """Contrast factor and brightness (grey levels), limited so that results stay in 0..255, as albumentations does."""
    held = torch.where(alpha > 0, beta.clamp(0.0, 255.0), beta.clamp_max(255.0))
    return torch.where(
        alpha > 0, torch.minimum(alpha, (255.0 - held) / 255.0), torch.maximum(alpha, -held / 255.0)
    ), held


def gamma(numbers: Tensor, key: Tensor, shape: Sequence[int]) -> Sequence[Segment]:
    """Numbers: the exponent gamma in percent."""
    unit = levels() * (1.0 / 255.0)
    return (Lookup(table_of(unit ** (numbers.numpy() / 100.0) * 255.0)),)


def shifted_channels(numbers: Tensor, key: Tensor, shape: Sequence[int]) -> Sequence[Segment]:
    """Numbers: shift of each channel as a share of 255, truncated to whole grey levels."""
    channels = shape[1] if shape[1] > 1 else 1
    added = np.trunc(numbers[:, :channels].numpy() * 255.0)
    return (Lookup(table_of(levels() + added[..., None])),)


# --- grey and HSV ----------------------------------------------------------------------------------------------------


def grey(images: Tensor) -> Tensor:
    """OpenCV's RGB2GRAY: (n, 1, H, W) int32; images of one channel are returned unchanged."""
    if images.shape[1] == 1:
        return images.int()
    red, green, blue = images.int().unbind(1)
    # OpenCV's weights 0.299, 0.587, 0.114 in units of 2**-15; 16384 is one half, for rounding
    return ((red * 9798 + green * 19235 + blue * 3735 + 16384) >> 15)[:, None]


def greyed(images: Tensor, *, method: str) -> Tensor:
    """Grey in all channels, by albumentations' ``method``."""
    if images.shape[1] == 1:
        return images
    if method == "weighted_average":
        if opencv_rows.serves(images):
            return opencv_rows.greyed(images)
        made = grey(images)
    elif method == "average":
        made = images.int().sum(1, keepdim=True) // images.shape[1]
    else:
        made = images.amax(1, keepdim=True)
    return made.to(torch.uint8).expand_as(images)


def _reciprocals(numerator: float, device: torch.device) -> Tensor:
    """OpenCV's table of numerator / v for v in 0..255, rounded to units of 2**-12; 0 for v = 0: (256,) int32."""
    value = torch.arange(_LEVELS, dtype=torch.float64, device=device)
    made = (numerator * 4096.0 / value.clamp(min=1.0)).round()
    return torch.where(value > 0, made, 0.0).int()


def to_hsv(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """OpenCV's RGB2HSV of (n, 3, H, W) uint8: hue 0–179, saturation and value 0–255, each (n, H, W) int32."""
    red, green, blue = images.int().unbind(1)
    low, high = torch.aminmax(images, dim=1)
    high = high.int()
    spread = high - low
    # + 2048 >> 12: rounds the table's units of 2**-12 to integers
    saturation = (spread * _reciprocals(255.0, images.device)[high] + 2048) >> 12
    hue = torch.where(
        high == red,
        green - blue,
        torch.where(high == green, blue - red + 2 * spread, red - green + 4 * spread),
    )
    hue = (hue * _reciprocals(30.0, images.device)[spread] + 2048) >> 12
    return torch.where(hue < 0, hue + 180, hue), saturation, high


def from_hsv(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """OpenCV's HSV2RGB of hue, saturation and value (n, H, W) each: (n, 3, H, W) uint8, truncated."""
    angle, share, high = hue * (6.0 / 180.0), saturation * (1.0 / 255.0), value * (1.0 / 255.0)
    sector = angle.floor()
    part = angle - sector
    whole, falling, rising = high * (1.0 - share), high * (1.0 - share * part), high * (1.0 - share * (1.0 - part))
    side = sector.long() % 6
    by_sector = (
        (high, falling, whole, whole, rising, high),
        (rising, high, high, falling, whole, whole),
        (whole, whole, rising, high, high, falling),
    )
    made = [torch.stack(choices, -1).gather(-1, side[..., None])[..., 0] for choices in by_sector]
    return (torch.stack(made, 1) * 255.0).clamp_(0.0, 255.0).to(torch.uint8)


def looked_up(images: Tensor, table: Tensor) -> Tensor:
    """Each value v of row i replaced by table[i, v]; table (n, 256) uint8."""
    return table.gather(1, images.flatten(1).long()).view_as(images)


def recoloured(images: Tensor, tables: Tensor) -> Tensor:
    """Hue, saturation and value mapped by tables (n, 3, 256) uint8; one channel is mapped as the value."""
    if images.shape[1] == 1:
        return looked_up(images, tables[:, 2])
    if opencv_rows.serves(images):
        return opencv_rows.recoloured(images, tables)
    parts = [
        table.gather(1, part.flatten(1).long()).view_as(part)
        for table, part in zip(tables.unbind(1), to_hsv(images), strict=True)
    ]
    return from_hsv(parts[0], parts[1], parts[2])


def _turned(turn: Tensor) -> Tensor:
    """Tables (B, 256) uint8 of (hue + turn) modulo 180, truncated; turn (B,) in units of 2 degrees."""
    return torch.from_numpy(np.mod(levels() + turn.numpy()[:, None], 180.0).astype(np.uint8))


def _added(shift: Tensor) -> Tensor:
    """Tables (B, 256) uint8 of v + shift, shift (B,) truncated to whole levels, as albumentations does."""
    return torch.from_numpy(np.clip(levels() + np.trunc(shift.numpy())[:, None], 0.0, 255.0).astype(np.uint8))


def hue_saturation_value(numbers: Tensor, key: Tensor, shape: Sequence[int]) -> Sequence[Segment]:
    """Numbers: shifts of hue (units of 2 degrees), saturation and value (grey levels)."""
    saturation = _added(numbers[:, 1])
    saturation[:, 0] = 0  # grey stays grey
    tables = torch.stack([_turned(numbers[:, 0]), saturation, _added(numbers[:, 2])], 1)
    active = (numbers != 0).any(1)
    return (Call(recoloured, (tables,), "HueSaturationValue", active, at_once=True),)


# --- torchvision's colour jitter, as albumentations computes it ------------------------------------------------------


def contrasted(images: Tensor, factor: Tensor) -> Tensor:
    """v · factor + (1 − factor) · mean of the grey image, truncated; factor (n,) float32."""
    if opencv_rows.serves(images):
        return opencv_rows.contrasted(images, factor)
    luma = grey(images)
    pixels = max(1, luma[0].numel())
    mean = luma.flatten(1).sum(1, dtype=torch.int64).double() / pixels
    added = (mean * (1.0 - factor.double())).float()
    flat = (mean + 0.5).floor().float()
    made = images * factor.float()[:, None, None, None] + added[:, None, None, None]
    made = torch.where((factor == 0)[:, None, None, None], flat[:, None, None, None], made)
    return made.clamp_(0.0, 255.0).to(torch.uint8)


def saturated(images: Tensor, factor: Tensor) -> Tensor:
    """factor · v + (1 − factor) · grey value of the pixel, rounded; factor (n,); one channel is unchanged."""
    if images.shape[1] == 1:
        return images
    if opencv_rows.serves(images):
        return opencv_rows.saturated(images, factor)
    share = factor.float()[:, None, None, None]
    made = images * share + grey(images) * (1.0 - factor).float()[:, None, None, None]
    return made.round_().clamp_(0.0, 255.0).to(torch.uint8)


def hue_turned(images: Tensor, table: Tensor) -> Tensor:
    """Hues mapped by table (n, 256) uint8; images of one channel are unchanged."""
    if images.shape[1] == 1:
        return images
    if opencv_rows.serves(images):
        return opencv_rows.recoloured(images, table[:, None])
    hue, saturation, value = to_hsv(images)
    return from_hsv(table.gather(1, hue.flatten(1).long()).view_as(hue), saturation, value)


def color_jitter(numbers: Tensor, key: Tensor, shape: Sequence[int]) -> Sequence[Segment]:
    """Numbers: brightness, contrast, saturation (factors), hue (full turns); the order is drawn per sample."""
    return jittered(numbers, draws.uniform(key, (4,)).argsort(1))


def jittered(numbers: Tensor, order: Tensor) -> Sequence[Segment]:
    """The four operations of `color_jitter` in the order (B, 4) int64."""
    brightness = linear(numbers[:, 0], torch.zeros(len(numbers), dtype=torch.float64)).to(torch.uint8)
    arguments = brightness, numbers[:, 1], numbers[:, 2], _turned(180.0 * numbers[:, 3])
    return (Call(jitter, arguments, "ColorJitter", host=(order, numbers[:, 3] != 0), at_once=True),)


def jitter(
    images: Tensor,
    brightness: Tensor,
    contrast: Tensor,
    saturation: Tensor,
    hue: Tensor,
    order: Tensor,
    turns: Tensor,
) -> Tensor:
    """Brightness and hue by tables (n, 256) uint8, contrast and saturation by factors (n,), in each row's order.

    order: (n, 4) the operations, 0 to 3, and turns: (n,) bool whether the hue changes; both on the CPU.
    """
    if opencv_rows.serves(images):
        return opencv_rows.jittered(images, brightness, contrast, saturation, hue, order, turns)
    operations = (looked_up, brightness), (contrasted, contrast), (saturated, saturation), (hue_turned, hue)
    images = images.clone()
    for place in range(len(operations)):
        for number, (function, argument) in enumerate(operations):
            reached = order[:, place] == number
            rows = (reached & turns if function is hue_turned else reached).nonzero()[:, 0]
            if len(rows):
                there = rows.to(images.device, non_blocking=True)
                made = function(images.index_select(0, there), argument.index_select(0, there))
                images.index_copy_(0, there, made)
    return images


# --- histograms ------------------------------------------------------------------------------------------------------


def equalized(images: Tensor, *, pil: bool) -> Tensor:
    """Histogram equalisation of each channel: OpenCV's equalizeHist; pil: albumentations' version of PIL's."""
    flat = images.flatten(2).long()
    one = torch.ones((), dtype=torch.int64, device=images.device)
    counts = torch.zeros(*flat.shape[:2], _LEVELS, dtype=torch.int64, device=images.device)
    counts.scatter_add_(2, flat, one.expand_as(flat))
    total, below = flat.shape[2], counts.cumsum(2)
    identity = torch.arange(_LEVELS, device=images.device)
    if pil:
        step = (total - counts.gather(2, flat.amax(2, keepdim=True))) // 255
        table = ((below + step // 2) // step.clamp(min=1)).clamp_(max=255)
        table = torch.where(step > 0, table, identity)
    else:
        first = counts.gather(2, flat.amin(2, keepdim=True))
        scale = 255.0 / (total - first).clamp(min=1).float()
        table = ((below - first).float() * scale).round().clamp_(0, 255).long()
        table = torch.where(first < total, table, identity)
    return table.gather(2, flat).to(torch.uint8).view_as(images)


def adaptively_equalized(
    numbers: Tensor, key: Tensor, shape: Sequence[int], *, grid: tuple[int, int]
) -> Sequence[Segment]:
    """CLAHE. Numbers: the clip limit. grid: tiles down and across."""
    return (Clahe(numbers[:, 0].contiguous(), grid),)


# --- blur and noise --------------------------------------------------------------------------------------------------


def gaussian_weights(sigma: Tensor, size: Tensor) -> Tensor:
    """Gaussian weights (B, K) float32, K the largest of the odd window sizes ``size`` (B,); zero outside a window."""
    reach = int(size.max()) // 2 if len(size) else 0
    offset = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offset / sigma[:, None]).square())
    weights = torch.where(offset.abs() <= (size // 2)[:, None], weights, 0.0)
    return (weights / weights.sum(1, keepdim=True)).float()


def blurred(images: Tensor, weights: Tensor) -> Tensor:
    """Separable convolution with weights (n, K) along rows and columns, border reflected, result rounded."""
    if opencv_rows.serves(images):
        return opencv_rows.blurred(images, weights)
    count, channels, height, width = images.shape
    reach = weights.shape[1] // 2
    planes = images.float().reshape(1, count * channels, height, width)
    each = weights.repeat_interleave(channels, 0)
    for axis, length, shape in ((3, width, (1, -1)), (2, height, (-1, 1))):
        line = within(torch.arange(-reach, length + reach, device=images.device), length, "reflect")
        kernel = each.view(count * channels, 1, *shape)
        planes = functional.conv2d(planes.index_select(axis, line), kernel, groups=count * channels)
    return planes.view_as(images).round_().clamp_(0.0, 255.0).to(torch.uint8)


def gaussian_blur(numbers: Tensor, key: Tensor, shape: Sequence[int], *, sizes: tuple[int, int]) -> Sequence[Segment]:
    """Numbers: the standard deviation in pixels. sizes: range of the window size; 0: 7 standard deviations."""
    drawn = sizes[0] + draws.integers(key, sizes[1] - sizes[0] + 1)
    weights = gaussian_weights(numbers[:, 0], window(numbers[:, 0], drawn))
    return (Call(blurred, (weights,), "GaussianBlur", at_once=True),)


def window(sigma: Tensor, drawn: Tensor) -> Tensor:
    """The odd window size (B,): the ``drawn`` one, plus 1 if even; for 0 about 7 sigma."""
    size = torch.where(drawn == 0, (sigma * 3.5).long() * 2 + 1, drawn)
    return size + (size % 2 == 0)


def gaussian_noise(numbers: Tensor, key: Tensor, shape: Sequence[int], *, shared: bool) -> Sequence[Segment]:
    """Numbers: standard deviation and mean as shares of 255. shared: one draw for all channels of a pixel."""
    spread, centre = (255.0 * numbers[:, :2]).float().unbind(1)
    return (Noise(key, spread, centre, shared),)


def calling(
    numbers: Tensor, key: Tensor, shape: Sequence[int], *, function: Callable[[Tensor], Tensor], name: str
) -> Sequence[Segment]:
    """A function of the image alone, without random numbers."""
    return (Call(function, (), name),)


def posterized(
    numbers: Tensor, key: Tensor, shape: Sequence[int], *, bits: Sequence[tuple[int, int]]
) -> Sequence[Segment]:
    """bits: the range (low, high) of bits kept, one for all channels or one per channel."""
    drawn = draws.uniform(key, (len(bits),), dtype=torch.float64)
    low, high = torch.tensor(bits, dtype=torch.float64).unbind(1)
    kept = (low + (drawn * (high - low + 1.0)).floor()).long()
    return (Lookup((torch.arange(_LEVELS) & (0xFF00 >> kept[..., None])).float()),)


def solarized(numbers: Tensor, key: Tensor, shape: Sequence[int]) -> Sequence[Segment]:
    """Numbers: the threshold as a share of 255; values from it upwards are inverted."""
    value = levels()
    return (Lookup(table_of(np.where(value >= numbers.numpy() * 255.0, 255.0 - value, value))),)
