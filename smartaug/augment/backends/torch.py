"""Executes a plan with torch operations: the reference, on every device, without waiting for it.

What: each segment becomes a few batched tensor operations; rows are grouped by operation, so that a row only pays for
the operation it drew. When: always available; other backends agree with it. Cost: about two reads and one write of the
rows concerned per segment. Row numbers are worked out on the CPU, where plans live, so nothing waits for a device.

uint8 is computed with integers, or in float32 with the fraction cut off, as torchvision does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ..plan import FILTERS, TONES, Erase, Filter, Mix, Plan, Segment, Store, Tone, Warp
from . import torch_filter, torch_tone, torch_warp


def execute(plan: Plan, images: Tensor) -> Tensor:
    """Run ``plan`` on images (B, C, H, W), uint8 or float; the input is never written to."""
    channels_last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    images = run(plan.segments, images)
    return images.contiguous(memory_format=torch.channels_last) if channels_last else images


def run(segments: tuple[Segment, ...], given: Tensor) -> Tensor:
    """The segments in order; ``given`` is left as it is, and returned itself when nothing changes it."""
    images = given
    for segment in segments:
        images = _RUN[type(segment)](images, segment, images is not given)
    return images


def _on(tensor: Tensor, images: Tensor) -> Tensor:
    return tensor.to(images.device, non_blocking=True)


def _values(numbers: tuple[float, ...], images: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    return _on(torch.tensor(numbers, dtype=dtype or images.dtype), images)[None, :, None, None]


def _warp(images: Tensor, warp: Warp, owned: bool) -> Tensor:
    if warp.active is None:
        return torch_warp.warp(images, warp, _on(warp.matrix, images), _bounds(warp, images, None))
    rows = warp.active.nonzero()[:, 0]
    if not len(rows):
        return images
    there = _on(rows, images)
    moved = torch_warp.warp(
        images.index_select(0, there), warp, _on(warp.matrix[rows], images), _bounds(warp, images, rows)
    )
    return (images if owned else images.clone()).index_copy_(0, there, moved)


def _bounds(warp: Warp, images: Tensor, rows: Tensor | None) -> Tensor | None:
    if warp.bounds is None:
        return None
    return _on(warp.bounds if rows is None else warp.bounds[rows], images)


def _groups(op: Tensor) -> Iterator[tuple[int, Tensor]]:
    """(operation, its rows) for each operation other than 0 in op (B,) on the CPU."""
    kinds, order = op.sort(stable=True)
    present, counts = kinds.unique_consecutive(return_counts=True)
    for kind, rows in zip(present.tolist(), order.split(counts.tolist()), strict=True):
        if kind:
            yield kind, rows


def _by_operation(
    images: Tensor, segment: Tone | Filter, owned: bool, run_one: Callable[[int, Tensor, Tensor], Tensor]
) -> Tensor:
    for kind, rows in _groups(segment.op):
        if not owned:
            images, owned = images.clone(), True
        there = _on(rows, images)
        amount = _on(segment.amount[rows], images)[:, None, None, None]
        part = images.index_select(0, there)
        part = part if part.dtype not in (torch.float16, torch.bfloat16) else part.float()
        images.index_copy_(0, there, run_one(kind, part, amount).to(images.dtype))
    return images


def _tone(images: Tensor, tone: Tone, owned: bool) -> Tensor:
    return _by_operation(
        images, tone, owned, lambda kind, part, amount: torch_tone.OPERATIONS[TONES[kind]](part, amount)
    )


def _filter(images: Tensor, segment: Filter, owned: bool) -> Tensor:
    def one(kind: int, part: Tensor, amount: Tensor) -> Tensor:
        if FILTERS[kind] == "Sharpness":
            return torch_filter.sharpness(part, amount)
        return torch_filter.gaussian_blur(part, amount, segment.kernel_size)

    return _by_operation(images, segment, owned, one)


def _covered(boxes: Tensor, height: int, width: int) -> Tensor:
    """Boxes (B, n, 4) to (B, 1, H, W) bool: is the pixel in any of them."""
    y = torch.arange(height, device=boxes.device)
    x = torch.arange(width, device=boxes.device)
    top, left, tall, wide = (part[..., None] for part in boxes.unbind(-1))
    rows = (y >= top) & (y < top + tall)
    columns = (x >= left) & (x < left + wide)
    return (rows[..., :, None] & columns[..., None, :]).any(1)[:, None]


def _erase(images: Tensor, erase: Erase, owned: bool) -> Tensor:
    covered = _covered(_on(erase.boxes, images), *images.shape[2:])
    return torch.where(covered, _values(erase.value, images), images)


def _mix(images: Tensor, mix: Mix, owned: bool) -> Tensor:
    mix = mix.to(images.device)
    other = images[mix.partner]
    if mix.boxes is not None:
        return torch.where(_covered(mix.boxes[:, None], *images.shape[2:]), other, images)
    share = mix.share[:, None, None, None]
    if images.dtype == torch.uint8:
        return (other + (images.float() - other) * share).round_().to(torch.uint8)
    return torch.lerp(other, images, share.to(images.dtype))


def _store(images: Tensor, store: Store, owned: bool) -> Tensor:
    unit = 255.0 if images.dtype == torch.uint8 else 1.0
    work = torch.float64 if store.dtype == torch.float64 else torch.float32
    scale = _values(tuple(1.0 / (unit * s) for s in store.std), images, work)
    shift = _values(tuple(-m / s for m, s in zip(store.mean, store.std, strict=True)), images, work)
    return torch.addcmul(shift, images.to(work), scale).to(store.dtype)


_RUN: dict[type, Callable[[Tensor, Any, bool], Tensor]] = {
    Warp: _warp,
    Tone: _tone,
    Filter: _filter,
    Erase: _erase,
    Mix: _mix,
    Store: _store,
}
