"""Masks, heatmaps, flow and further images of some samples, moved by the plans that move their images.

A map is a tensor (B, ...) or, where each sample has its own, a list of B tensors (H, W) or (N, H, W).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...augment.plan import Plan
from ...augment.targets.kinds import Flow, Image, MapKind
from ...augment.targets.maps import move_map
from ...augment.targets.mask_values import SIGNED

Map = Any  # a tensor (B, ...), or a list of B tensors


def taken(value: Map, rows: Tensor, device: torch.device | None) -> Map:
    """The maps of the samples ``rows`` (R,) int64, on ``device``."""
    if isinstance(value, Tensor):
        on = value.as_subclass(Tensor).to(device, non_blocking=True)
        if _in_order(rows, len(on)):
            return on
        return on.index_select(0, rows.to(on.device, non_blocking=True))
    return [value[row].as_subclass(Tensor).to(device, non_blocking=True) for row in rows.tolist()]


def _in_order(rows: Tensor, length: int) -> bool:
    """Whether ``rows`` (R,) int64 are 0, 1, ... length − 1: a copy of them is 0.3 ms for masks (16, 256, 256)."""
    return len(rows) == length and rows.tolist() == list(range(length))


def moved(plan: Plan, value: Map, kind: MapKind) -> Map:
    """``value`` after ``plan``. Raises ValueError where a plan mixes maps that samples have in different sizes."""
    if isinstance(value, Tensor):
        if value.ndim < 5:
            return move_map(plan, value, kind)
        return torch.stack([move_map(plan, frame, kind) for frame in value.unbind(1)], 1)  # of a clip
    if plan.from_others:
        shapes = {tuple(part.shape) for part in value}
        if len(shapes) > 1:
            raise ValueError(
                f"mixing puts maps of several samples together, which needs one shape, and they have "
                f"{' and '.join(map(str, sorted(shapes)))}; make them equal in the dataset, or leave mixing out"
            )
        return list(move_map(plan, torch.stack(list(value)), kind).unbind(0))
    return _each_moved(_only_moving(plan), value, kind)


def _only_moving(plan: Plan) -> Plan:
    """``plan`` without the segments that leave every pixel in its place."""
    return dataclasses.replace(plan, segments=tuple(part for part in plan.segments if part.moves_pixels))


def _each_moved(plan: Plan, value: Sequence[Tensor], kind: MapKind) -> list[Tensor]:
    """Maps of one size are moved together: planes one by one, the channels of flow and images together."""
    whole = isinstance(kind, (Flow, Image))
    sizes: dict[tuple[int, ...], list[int]] = {}
    for row, part in enumerate(value):
        sizes.setdefault(tuple(part.shape if whole else part.shape[-2:]), []).append(row)
    made: dict[int, Tensor] = {}
    for rows in sizes.values():
        if whole:
            own = move_map(plan.rows(torch.tensor(rows, device="cpu")), torch.stack([value[row] for row in rows]), kind)
            made.update(zip(rows, own.unbind(0), strict=True))
            continue
        planes = [value[row] if value[row].ndim == 3 else value[row][None] for row in rows]
        row_of = torch.tensor(rows, device="cpu").repeat_interleave(torch.tensor([len(part) for part in planes]))
        parts = move_map(plan.rows(row_of), torch.cat(planes), kind).split([len(part) for part in planes])
        made.update((row, part if value[row].ndim == 3 else part[0]) for row, part in zip(rows, parts, strict=True))
    return [made[row] for row in range(len(value))]


def joined(parts: Sequence[tuple[Map, Tensor]], length: int) -> Map:
    """One map of ``length`` samples: each part lies at its places (R,) int64.

    Raises ValueError where parts of one tensor came out in different sizes.
    """
    first = parts[0][0]
    if len(parts) == 1 and len(first) == length and _in_order(parts[0][1], length):
        return first
    if isinstance(first, list):
        made: list[Any] = [None] * length
        for part, places in parts:
            for value, place in zip(part, places.tolist(), strict=True):
                made[place] = value
        return made
    shapes = {tuple(part.shape[1:]) for part, _ in parts if len(part)}
    if len(shapes) > 1:
        raise ValueError(
            f"maps of one batch came out in the sizes {' and '.join(map(str, sorted(shapes)))}, as their images did; "
            "let the collate function give a list of maps"
        )
    full = next((part for part, _ in parts if len(part)), first)
    whole = full.new_empty(length, *full.shape[1:])
    seen_as = SIGNED.get(full.dtype, full.dtype)  # torch has no indexing for unsigned types of several bytes
    for part, places in parts:
        if len(part):
            whole.view(seen_as).index_copy_(0, places.to(whole.device, non_blocking=True), part.view(seen_as))
    return whole
