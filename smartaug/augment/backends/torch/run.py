"""The reference backend: executes a plan with torch operations, on every device, without waiting for the device.

What: each segment becomes a few batched tensor operations. Samples are grouped by operation, so that only those are
computed that drew it. When: always available; other backends must agree with it. Cost: about two reads and one write of
the samples concerned per segment. Which samples these are is worked out on the CPU, where plans live, so that no value
has to come back from the device.

Kornia's functional kernels are not used here: they take floats only, so uint8 would be cast there and back, and the
rounding on the way is not such that another backend could give the same bytes.

uint8 is computed with integers, or in float32 with the fraction cut off, as torchvision does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .... import draws
from ...mixing import Paste, PasteObjects, Tiles
from ...plan import Branches, Call, Clahe, Erase, EraseNoise, Filter, Lookup, Mix, Noise, Segment, Store, Tone, Warp
from ...projection import Projection
from ...resample import Resample
from ..tables import filters, gauss, tones
from ..tables.codes import checked
from . import clahe as torch_clahe
from . import filter as torch_filter
from . import resample as torch_resample
from . import tiles as torch_tiles
from . import tone as torch_tone
from . import warp as torch_warp

Operation = Callable[[Tensor, Tensor], Tensor]
_CACHED = 1 << 18  # values worked on at a time on the CPU


def run(segments: tuple[Segment, ...], given: Tensor) -> Tensor:
    """The segments in order; ``given`` is left as it is, and returned itself when nothing changes it."""
    images = given
    for segment in segments:
        images = RUNS[type(segment)](images, segment, images is not given)
    return images


def _on(tensor: Tensor, images: Tensor) -> Tensor:
    return tensor.to(images.device, non_blocking=True)


def _values(numbers: tuple[float, ...], images: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Numbers (C,) as (1, C, 1, 1) beside the images; rounded for uint8."""
    values = torch.tensor(numbers, dtype=torch.float64)
    values = values.round() if images.dtype == torch.uint8 and dtype is None else values
    return _on(values.to(dtype or images.dtype), images)[None, :, None, None]


def _warp(images: Tensor, warp: Warp, owned: bool) -> Tensor:
    if (maps := torch_warp.shifts(images, warp)) is not None:
        out = images.new_empty(*images.shape[:2], *warp.size)
        torch_warp.shifted(images, warp, maps, out)
        return out
    if warp.active is None:
        rows, out = torch.arange(len(images)), images.new_empty(*images.shape[:2], *warp.size)
    else:
        rows = warp.active.nonzero()[:, 0]
        out = images if owned or not len(rows) else images.clone()
    for piece in _pieces(rows, images):
        there = _on(piece, images)
        bounds = None if warp.bounds is None else _on(warp.bounds[piece], images)
        moved = torch_warp.warp(images.index_select(0, there), warp, _on(warp.matrix[piece], images), bounds)
        _put(out, piece, there, moved)
    return out


def _projection(images: Tensor, segment: Projection, owned: bool) -> Tensor:
    rows = torch.arange(len(images)) if segment.active is None else segment.active.nonzero()[:, 0]
    if segment.active is None:
        out = images.new_empty(*images.shape[:2], *segment.size)
    else:
        out = images if owned or not len(rows) else images.clone()
    for piece in _pieces(rows, images):
        there = _on(piece, images)
        moved = torch_warp.projected(images.index_select(0, there), segment, _on(segment.matrix[piece], images))
        _put(out, piece, there, moved)
    return out


def _put(images: Tensor, rows: Tensor, there: Tensor, values: Tensor) -> None:
    """Write ``values`` to ``rows`` of images, in place; ``there`` is ``rows`` on the images' device.

    On the CPU `index_copy_` copies value by value. So large rows are copied one after the other, each by one call, and
    small ones of uint8 are seen as int64, which copies eight values at a time.
    """
    if images.device.type == "cpu" and images[:1].numel() >= torch_warp.LARGE:
        for row, value in zip(rows.tolist(), values, strict=True):
            images[row].copy_(value)
        return
    if images.dtype == torch.uint8 and images.is_contiguous() and len(rows) and images[0].numel() % 8 == 0:
        images, values = (part.reshape(len(part), -1).view(torch.int64) for part in (images, values.contiguous()))
    images.index_copy_(0, there, values)


def _pieces(rows: Tensor, images: Tensor) -> tuple[Tensor, ...]:
    """``rows`` in parts so small that on a CPU intermediate results stay in its cache; in one part on other devices."""
    if images.device.type != "cpu":
        return (rows,)
    return rows.split(max(1, _CACHED // max(1, images[:1].numel()))) if len(rows) else ()


def _groups(op: Tensor) -> Iterator[tuple[int, Tensor]]:
    """(operation, its rows) for each operation other than 0 in op (B,) on the CPU."""
    kinds, order = op.sort(stable=True)
    present, counts = kinds.unique_consecutive(return_counts=True)
    for kind, rows in zip(present.tolist(), order.split(counts.tolist()), strict=True):
        if kind:
            yield kind, rows


def _by_operation(
    images: Tensor,
    segment: Tone | Filter,
    owned: bool,
    names: tuple[str, ...],
    operations: dict[str, Operation],
) -> Tensor:
    checked(segment.op, names, type(segment).__name__)
    for kind, rows in _groups(segment.op):
        if not owned:
            images, owned = images.clone(), True
        for piece in _pieces(rows, images):
            there = _on(piece, images)
            amount = _on(segment.amount[piece], images)[:, None, None, None]
            part = images.index_select(0, there)
            if part.is_floating_point() and names[kind] != "GaussianBlur":
                check_unit(part, names[kind])
            part = part if part.dtype not in (torch.float16, torch.bfloat16) else part.float()
            _put(images, piece, there, operations[names[kind]](part, amount).to(images.dtype))
    return images


class OutsideUnit(ValueError):
    """An operation on grey levels got floats outside [0, 1]; found: which one, and what came."""

    def __init__(self, name: str, low: float, high: float) -> None:
        self.found = f"{name} needs uint8 images or floats in [0, 1], got floats from {low:.3g} to {high:.3g}"
        super().__init__(
            f"{self.found}; put Normalize last, or where the dataset normalises write "
            "smartaug.DataLoader(..., lift=True)"
        )


def check_unit(part: Tensor, name: str) -> None:
    """Raise `OutsideUnit` naming the operation unless floats lie in [0, 1]; only looked at on the CPU."""
    if part.device.type != "cpu" or not part.numel():
        return
    low, high = (float(value) for value in torch.aminmax(part))
    if not (low >= -1e-4 and high <= 1.0 + 1e-4):
        raise OutsideUnit(name, low, high)


def _tone(images: Tensor, tone: Tone, owned: bool) -> Tensor:
    return _by_operation(images, tone, owned, tones.TONES, torch_tone.OPERATIONS)


def _reached(images: Tensor, active: Tensor | None, owned: bool) -> tuple[Tensor, Tensor]:
    """The rows that a segment works on, and where it may write them."""
    rows = torch.arange(len(images)) if active is None else active.nonzero()[:, 0]
    return rows, images if owned or not len(rows) else images.clone()


def _grey_levels(part: Tensor) -> Tensor:
    """The nearest grey levels, int64, of floats in [0, 1]; half precision would be off by one."""
    return (part.to(torch.promote_types(part.dtype, torch.float32)) * 255.0).round_().clamp_(0, 255).long()


def _lookup(images: Tensor, lookup: Lookup, owned: bool) -> Tensor:
    rows, out = _reached(images, lookup.active, owned)
    for piece in _pieces(rows, images):
        there = _on(piece, images)
        table = _on(lookup.table[piece].clamp(0.0, 255.0), images)
        part = images.index_select(0, there)
        if part.dtype == torch.uint8:
            levels, found = part.long(), table.round().to(torch.uint8)
        else:
            check_unit(part, "Lookup")
            levels, found = _grey_levels(part), (table / 255.0).to(part.dtype)
        found = found.view(len(part), -1, 256).expand(-1, part.shape[1], -1)
        out.index_copy_(0, there, found.gather(2, levels.flatten(2)).view_as(part))
    return out


def _clahe(images: Tensor, segment: Clahe, owned: bool) -> Tensor:
    rows, out = _reached(images, segment.active, owned)
    for piece in _pieces(rows, images):
        there = _on(piece, images)
        part, limit = images.index_select(0, there), _on(segment.limit[piece], images)
        if part.is_floating_point():
            check_unit(part, "Clahe")
            levels = _grey_levels(part).to(torch.uint8)
            made = (torch_clahe.clahe(levels, limit, grid=segment.grid) / 255.0).to(part.dtype)
        else:
            made = torch_clahe.clahe(part, limit, grid=segment.grid)
        out.index_copy_(0, there, made)
    return out


def _noise(images: Tensor, noise: Noise, owned: bool) -> Tensor:
    rows, out = _reached(images, noise.active, owned)
    for piece in _pieces(rows, images):
        there = _on(piece, images)
        part = images.index_select(0, there)
        spread, centre = (_on(value[piece], images)[:, None, None, None] for value in (noise.spread, noise.centre))
        added = gauss.field(_on(noise.key[piece], images), (1 if noise.shared else part.shape[1], *part.shape[2:]))
        added = added * spread + centre
        if part.is_floating_point():
            check_unit(part, "Noise")
            out.index_copy_(0, there, (part + added / 255.0).clamp_(0.0, 1.0).to(part.dtype))
        else:
            out.index_copy_(0, there, (part + added.trunc_()).clamp_(0.0, 255.0).to(torch.uint8))
    return out


def _filter(images: Tensor, segment: Filter, owned: bool) -> Tensor:
    blur = partial(torch_filter.gaussian_blur, kernel_size=segment.kernel_size)
    operations: dict[str, Operation] = {"Sharpness": torch_filter.sharpness, "GaussianBlur": blur}
    return _by_operation(images, segment, owned, filters.FILTERS, operations)


def _call(images: Tensor, call: Call, owned: bool) -> Tensor:
    if call.at_once and call.active is None and images.is_contiguous():
        return call.function(images, *(_on(argument, images) for argument in call.arguments), *call.host)
    rows, out = _reached(images, call.active, owned)
    for piece in (rows,) if call.at_once and len(rows) else _pieces(rows, images):
        there = _on(piece, images)
        arguments = (_on(argument[piece], images) for argument in call.arguments)
        host = (argument[piece] for argument in call.host)
        _put(out, piece, there, call.function(images.index_select(0, there), *arguments, *host))
    return out


def _covered(boxes: Tensor, height: int, width: int) -> Tensor:
    """Boxes (B, n, 4) to (B, 1, H, W) bool: is the pixel in any of them."""
    y = torch.arange(height, device=boxes.device)
    x = torch.arange(width, device=boxes.device)
    top, left, tall, wide = (part[..., None] for part in boxes.unbind(-1))
    rows = (y >= top) & (y < top + tall)
    columns = (x >= left) & (x < left + wide)
    return (rows[..., :, None] & columns[..., None, :]).any(1)[:, None]


def _erase(images: Tensor, erase: Erase, owned: bool) -> Tensor:
    if images.device.type == "cpu":  # values can be looked at without waiting, so only covered pixels are touched
        rows, places = (erase.boxes[:, :, 2:] > 0).all(2).nonzero(as_tuple=True)
        if len(rows) and not owned:
            images = images.clone()
        value = _values(erase.fill, images)[0]
        for row, (top, left, tall, wide) in zip(rows.tolist(), erase.boxes[rows, places].tolist(), strict=True):
            images[row, :, max(top, 0) : max(top + tall, 0), max(left, 0) : max(left + wide, 0)] = value
        return images
    covered = _covered(_on(erase.boxes, images), *images.shape[2:])
    return torch.where(covered, _values(erase.fill, images), images)


def _erase_noise(images: Tensor, erase: EraseNoise, owned: bool) -> Tensor:
    channels = images.shape[1]
    if images.device.type == "cpu":
        rows, places = (erase.boxes[:, :, 2:] > 0).all(2).nonzero(as_tuple=True)
        if len(rows) and not owned:
            images = images.clone()
        keys = draws.folds(erase.key, erase.boxes.shape[1])
        corners = erase.boxes[rows, places].tolist()
        for row, place, (top, left, tall, wide) in zip(rows.tolist(), places.tolist(), corners, strict=True):
            noise = gauss.field(keys[place][row : row + 1], (channels, 1, 1) if erase.flat else (channels, tall, wide))
            part = images[row, :, max(top, 0) : max(top + tall, 0), max(left, 0) : max(left + wide, 0)]
            low, high = max(-top, 0), max(-left, 0)
            made = noise[0] if erase.flat else noise[0, :, low : low + part.shape[1], high : high + part.shape[2]]
            part.copy_(made.expand_as(part))
        return images
    return noisy_where_covered(images, erase)


def noisy_where_covered(images: Tensor, erase: EraseNoise) -> Tensor:
    """`EraseNoise` without looking at the values of the boxes: noise for every pixel, kept where a box covers it."""
    channels, height, width = images.shape[1:]
    boxes, keys = _on(erase.boxes, images), draws.folds(_on(erase.key, images), erase.boxes.shape[1])
    channel = torch.arange(channels, device=images.device)[:, None, None]
    y, x = (torch.arange(length, device=images.device) for length in (height, width))
    for place, key in enumerate(keys):
        box = boxes[:, place : place + 1]
        top, left, tall, wide = (part[..., None, None] for part in box.unbind(-1))
        number, count = channel.expand(len(images), -1, 1, 1), torch.full_like(tall, channels)
        if not erase.flat:
            number = (channel * tall + y[:, None] - top) * wide + x - left
            count = channels * tall * wide
        noise = gauss.values(key, number, count).to(images.dtype)
        images = torch.where(_covered(box, height, width), noise, images)
    return images


def _mix(images: Tensor, mix: Mix, owned: bool) -> Tensor:
    alone = mix.boxes is None and (mix.share.device.type != "cpu" or bool((mix.share == 1).any()))
    mix = mix.to(images.device)
    other = images[mix.partner]
    if mix.boxes is not None:
        return torch.where(_covered(mix.boxes[:, None], *images.shape[2:]), other, images)
    share = mix.share[:, None, None, None]
    if images.dtype == torch.uint8:
        return (other + (images.float() - other) * share).round_().to(torch.uint8)
    blended = torch.lerp(other, images, share.to(images.dtype))
    return torch.where(share < 1, blended, images) if alone else blended  # 0 · NaN of a partner would be NaN


def _store(images: Tensor, store: Store, owned: bool) -> Tensor:
    unit = 255.0 if images.dtype == torch.uint8 else 1.0
    work = torch.float64 if store.dtype == torch.float64 else torch.float32
    scale = _values(tuple(1.0 / (unit * s) for s in store.std), images, work)
    shift = _values(tuple(-m / s for m, s in zip(store.mean, store.std, strict=True)), images, work)
    return torch.addcmul(shift, images.to(work), scale).to(store.dtype)


def _branches(images: Tensor, segment: Branches, owned: bool) -> Tensor:
    return add_up(images, (run(branch, images) for branch in segment.branches), segment.weights)


def add_up(images: Tensor, parts: Iterable[Tensor], weights: Tensor) -> Tensor:
    """w_0 · images + Σ_k w_k · part_k with weights (B, K + 1); uint8 is cut off."""
    work = torch.float32 if images.dtype == torch.uint8 else images.dtype
    share = _on(weights, images).to(work)[:, :, None, None, None]
    total = images * share[:, 0]
    for k, part in enumerate(parts, 1):
        total += part * share[:, k]
    return total.clamp_(0, 255).to(torch.uint8) if images.dtype == torch.uint8 else total


RUNS: dict[type[Segment], Callable[[Tensor, Any, bool], Tensor]] = {
    Warp: _warp,
    Projection: _projection,
    Resample: torch_resample.resampled,
    Tone: _tone,
    Lookup: _lookup,
    Clahe: _clahe,
    Noise: _noise,
    Filter: _filter,
    Erase: _erase,
    EraseNoise: _erase_noise,
    Call: _call,
    Mix: _mix,
    Tiles: torch_tiles.tiled,
    PasteObjects: torch_tiles.open_paste,
    Paste: torch_tiles.pasted,
    Branches: _branches,
    Store: _store,
}
"""Every kind of segment, and what executes it: (images, segment, whether images may be written to) -> images."""
