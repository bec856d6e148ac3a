"""Instance masks: one mask an object, which goes where its object goes, and what CopyPaste pastes by.

What: `move_instances` moves masks (M, h, w) of the objects of a batch as a plan moves its images; `settled` lets
CopyPaste, whose plan is open until the masks are known, choose its objects and say which pixels they cover. When:
instance segmentation. Cost: a warp of each mask; CopyPaste counts their pixels, on the masks' device, and waits for it.
Reference: Ghiasi et al., "Simple Copy-Paste", CVPR 2021.
"""

from __future__ import annotations

import dataclasses
from functools import singledispatch

import torch
from torch import Tensor

from ... import draws
from ..backends.torch.tiles import inside
from ..mixing import Paste, PasteObjects, Tiles
from ..plan import Mix, Plan, Segment
from .kinds import Mask
from .maps import Size, copied, map_segments
from .mask_values import signed
from .mixed import Brought, brought, rectangles, scaled_mix, scaled_paste, scaled_tiles


def move_instances(plan: Plan, masks: Tensor, row: Tensor, kept: Tensor) -> Tensor:
    """Masks (M', h', w') of the objects ``kept`` (M',) int64 of those behind ``plan``; type and device of ``masks``.

    masks: (M, h, w) bool, integers or floats, 0 where the object is not; row: (M,) int64 the sample that it lies in,
    both before ``plan``. kept: places in the list that `through.move_objects` gives for objects of these rows. Raises
    ValueError where ``plan`` is open, see `settled`, or moves pixels as no mask can.
    """
    steps: list[tuple[Segment, Brought]] = []
    before = row
    for segment in plan.segments:
        steps.append((segment, brought(segment, before)))
        before = steps[-1][1].row
    places, at = [kept], kept
    for _, to in reversed(steps):
        at = to.source[at]
        places.append(at)
    moved, size = signed(masks)[at.to(masks.device)], (plan.shape[2], plan.shape[3])
    for (segment, to), place in zip(steps, reversed(places[:-1]), strict=True):
        moved = seen(segment, moved, Brought(place, to.row[place], to.part[place]), size)
        size = segment.output_size(*size)
    return moved.view(masks.dtype)


def settled(plan: Plan, masks: Tensor, row: Tensor) -> Plan:
    """``plan`` with the objects chosen that CopyPaste pastes; itself where there is no CopyPaste in it.

    masks: (M, H, W) bool or numbers, of the images' size, not 0 where the object is; row: (M,) int64, the sample that
    it lies in. Both before ``plan``, and of all objects, in the order of their boxes. Raises ValueError for masks of
    another size than the images at that point.
    """
    segments: list[Segment] = []
    last = max((n for n, part in enumerate(plan.segments) if isinstance(part, PasteObjects)), default=-1)
    masks, size = signed(masks), (plan.shape[2], plan.shape[3])
    for segment in plan.segments[: last + 1]:
        if isinstance(segment, PasteObjects):
            segment = _chosen(segment, masks != 0, row, size)
        segments.append(segment)
        to = brought(segment, row)
        masks = seen(segment, masks[to.source.to(masks.device)], to, size)
        row, size = to.row, segment.output_size(*size)
    return dataclasses.replace(plan, segments=(*segments, *plan.segments[last + 1 :]))


def _chosen(segment: PasteObjects, masks: Tensor, row: Tensor, size: Size) -> Paste:
    """The objects that are pasted, the pixels that they cover, and what is left of the others."""
    if masks.ndim != 3 or len(masks) != len(row) or tuple(masks.shape[1:]) != size:
        raise ValueError(
            f"CopyPaste needs one mask an object of the images' size, ({len(row)}, {size[0]}, {size[1]}), got "
            f"{tuple(masks.shape)}; resize the masks in the dataset"
        )
    areas = masks.flatten(1).sum(1).cpu()
    to = brought(Mix(segment.partner, _apart(segment.partner)), row)
    from_partner = (to.part == 1).nonzero()[:, 0]
    source, receiver = to.source[from_partner], to.row[from_partner]
    # the number of each object among its sample's: receivers come in order
    number = torch.arange(len(source), device="cpu") - torch.searchsorted(receiver, receiver)
    drawn = draws.uniform(segment.key, (int(number.max()) + 1 if len(number) else 1,))[receiver, number]
    takes = (drawn < segment.share) & (areas[source] > 0)
    if segment.most is not None:
        takes &= _rank(torch.where(takes, drawn, 2.0), receiver) < segment.most
    source, receiver = source[takes], receiver[takes]
    pasted = torch.zeros(len(segment.partner), *size, dtype=torch.bool, device=masks.device)
    for one, into in zip(source.tolist(), receiver.tolist(), strict=True):
        pasted[into] |= masks[one]
    rest = masks & ~pasted[row.to(masks.device)]
    left = torch.where(areas > 0, rest.flatten(1).sum(1).cpu().double() / areas.clamp(min=1), 1.0)
    left = torch.cat([left, torch.ones(len(source), dtype=torch.float64, device="cpu")])
    hulls = torch.cat([_hulls(rest), torch.zeros(len(source), 4, dtype=torch.float64, device="cpu")])
    return Paste(segment.partner, pasted, source, receiver, left, hulls)


def _apart(partner: Tensor) -> Tensor:
    """Own shares (B,) of a mix that is none where a sample is its own partner."""
    return torch.where(partner == torch.arange(len(partner), device="cpu"), 1.0, 0.5)


def _rank(drawn: Tensor, group: Tensor) -> Tensor:
    """(P,) int64: how many of the same group, which come together, have a lower draw; ties in their order."""
    order = drawn.argsort(stable=True)
    order = order[group[order].argsort(stable=True)]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device="cpu") - torch.searchsorted(group, group[order])
    return rank


def _hulls(masks: Tensor) -> Tensor:
    """(M, 4) float64 left, top, right, bottom around the pixels of masks (M, H, W), in continuous pixels; 0: none."""
    ends = []
    for lines in (masks.any(1), masks.any(2)):  # columns, rows
        place = torch.arange(lines.shape[1], device=masks.device)
        first = torch.where(lines, place, lines.shape[1]).amin(1)
        ends.append((first, torch.where(lines, place + 1, 0).amax(1)))
    found = torch.stack([ends[0][0], ends[1][0], ends[0][1], ends[1][1]], 1).cpu().double()
    return found * masks.flatten(1).any(1).cpu()[:, None]


@singledispatch
def seen(segment: Segment, masks: Tensor, to: Brought, size: Size) -> Tensor:
    """Masks (M', h, w) behind a segment, of objects that lie where ``to`` says; size: of the images before it.

    masks: of the objects ``to.source``, before the segment. A segment that does not mix moves them as it moves maps.
    """
    return _run(map_segments(segment.rows(to.row), Mask(fill=0.0), size, _size(masks)), masks)


@seen.register
def _(segment: Mix, masks: Tensor, to: Brought, size: Size) -> Tensor:
    """What of a mask the pasted rectangle leaves, or shows."""
    boxes = rectangles(scaled_mix(segment, size, _size(masks)))
    if boxes is None:
        return masks
    shown = inside(boxes[to.row], _size(masks))[:, 0] == (to.part == 1)[:, None, None]
    return torch.where(shown.to(masks.device), masks, torch.zeros_like(masks))


@seen.register
def _(segment: Tiles, masks: Tensor, to: Brought, size: Size) -> Tensor:
    """Each mask through the part that it came with."""
    tiles = scaled_tiles(segment, size, _size(masks))
    alone = Tiles(
        torch.arange(len(masks), device="cpu")[:, None],
        tiles.matrix[to.row, to.part][:, None],
        tiles.boxes[to.row, to.part][:, None],
        tiles.size,
        "nearest",
        (0.0,),
        tiles.whole,
    )
    return _run((alone,), masks)


@seen.register
def _(segment: Paste, masks: Tensor, to: Brought, size: Size) -> Tensor:
    """Own masks without what is pasted over them."""
    pasted = scaled_paste(segment, size, _size(masks)).pasted.to(masks.device)
    covered = pasted[to.row.to(masks.device)] & (to.part == 0).to(masks.device)[:, None, None]
    return torch.where(covered, torch.zeros_like(masks), masks)


def _size(masks: Tensor) -> Size:
    return masks.shape[1], masks.shape[2]


def _run(segments: tuple[Segment, ...], masks: Tensor) -> Tensor:
    return copied(segments, masks[:, None], None)[:, 0] if segments else masks
