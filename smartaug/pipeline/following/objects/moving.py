"""Boxes and keypoints of some samples, and all that has a row for each of them, moved by the plans of their images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...._base import leaves
from ....augment.plan import Plan
from ....augment.targets import boxes, instances, keypoints
from ....augment.targets.kinds import Boxes, Keypoints, Mask
from ....augment.targets.mixed import left_alone
from ....augment.targets.objects import Objects
from ....augment.targets.through import move_objects
from ..addresses import Address
from ..maps import moved
from .rows import Layout, Padded, Placed, picked

Size = tuple[int, int]


@dataclass(frozen=True)
class ObjectLeaves:
    """The leaves of a batch that have a row for each object, and lose it together.

    main: boxes, which may be dropped, or keypoints, which never are. points: further keypoints of the same objects.
    masks: one mask (h, w) an object. columns: what does not move, such as classes. valid: which rows are objects.
    """

    main: Address
    kind: Boxes | Keypoints
    layout: Layout
    points: tuple[tuple[Address, Keypoints], ...] = ()
    masks: tuple[tuple[Address, Mask], ...] = ()
    columns: tuple[Address, ...] = ()
    valid: Address | None = None

    @property
    def all(self) -> tuple[Address, ...]:
        """Every leaf."""
        more = () if self.valid is None else (self.valid,)
        return (self.main, *(one for one, _ in self.points), *(one for one, _ in self.masks), *self.columns, *more)


class Settled(NamedTuple):
    """Where the objects of some samples are in the end.

    row: (M,) int64 among these samples; origin: (M,) int64, which object of the batch it was; main, points: their new
    rows; masks: for each leaf a list of (n, h, w), one a sample. sizes: height and width of each sample's image.
    """

    row: Tensor
    origin: Tensor
    main: Tensor
    points: list[Tensor]
    masks: list[list[Tensor]]
    sizes: list[Size]


class MovingObjects:
    """The objects of the samples ``rows`` (R,) int64 of a batch, whose images have the height and width ``size``.

    Points move on the CPU, where plans are, and masks on ``device``.
    """

    def __init__(
        self, where: ObjectLeaves, data: leaves.Structure, rows: Tensor, size: Size, device: torch.device | None
    ) -> None:
        self.kind, self.size, self.rows, self._before = where.kind, size, len(rows), size
        counts = where.layout.counts
        index, taken = _of_rows(counts, rows), counts[rows]
        self._main = filled(where.layout.flat(where.main.read(data)), where.kind)
        self._points = [(filled(where.layout.flat(address.read(data)), kind), kind) for address, kind in where.points]
        self.objects = self._objects(self._main, where.kind, index, taken)
        self.points = [self._objects(flat, kind, index, taken) for flat, kind in self._points]
        self.masks = [
            (
                [planes.to(device, non_blocking=True) for planes in where.layout.of_samples(address.read(data), rows)],
                kind,
            )
            for address, kind in where.masks
        ]
        self._corners = self._begun = _corners(self.rows, size)
        self._mixed = torch.zeros(self.rows, dtype=torch.bool, device="cpu")

    def _objects(self, flat: Tensor, kind: Boxes | Keypoints, index: Tensor, counts: Tensor) -> Objects:
        """The rows ``index`` of ``flat``, whose origin is their place in it."""
        chosen = flat[index.to(flat.device)]
        if isinstance(kind, Boxes):
            made = boxes.to_objects(chosen, counts, kind.format, self.size)
        else:
            made = keypoints.to_objects(chosen, counts, kind)
        return Objects(made.points, made.row, index, made.shape, made.visible)

    def follow(self, plan: Plan) -> None:
        """Move all by ``plan``. Raises ValueError for plans that they cannot follow."""
        row, self.size = self.objects.row, (plan.output_shape[2], plan.output_shape[3])
        self.objects = move_objects(plan, self.objects)
        self.points = [move_objects(plan, points) for points in self.points]
        self._look(plan)
        if plan.from_others:
            self._drop(plan, row)
        else:
            self.masks = [(moved(plan, planes, kind), kind) for planes, kind in self.masks]

    def _look(self, plan: Plan) -> None:
        """Note which samples ``plan`` moves, seen at the corners of their images, and which it mixes."""
        if not plan.from_others:
            self._corners = move_objects(plan, self._corners)
            return
        size = plan.shape[2], plan.shape[3]
        for segment in plan.segments:
            if segment.from_others:
                self._mixed = self._mixed | ~left_alone(segment, size)
            else:
                self._corners = move_objects(Plan((self.rows, plan.shape[1], *size), (segment,)), self._corners)
            size = segment.output_size(*size)

    def _drop(self, plan: Plan, row: Tensor) -> None:
        """Leave out the objects of which mixing left nothing, and move the masks of the others.

        row: (M,) int64 the sample of each object before ``plan``.
        """
        stays = ~self._moved()[self.objects.row]
        kept = (self._left() | stays).nonzero()[:, 0]
        kept = kept[self.objects.row[kept].argsort(stable=True)]
        masks = [instances.move_instances(plan, _flat(planes), row, kept) for planes, _ in self.masks]
        seen = (self.objects.visible[kept] >= 1).all(1) | stays[kept]  # an object that is whole may have an empty mask
        for planes in masks:
            seen |= (planes != 0).flatten(1).any(1).cpu()
        if masks and not bool(seen.all()):
            kept, masks = kept[seen], [picked(planes, seen.nonzero()[:, 0]) for planes in masks]
        counts = torch.bincount(self.objects.row[kept], minlength=self.rows).tolist()
        self.masks = [(list(own.split(counts)), kind) for own, (_, kind) in zip(masks, self.masks, strict=True)]
        self.objects, self.points = self.objects.take(kept), [points.take(kept) for points in self.points]

    def whole(self, plan: Plan) -> Plan:
        """``plan`` with the objects chosen that CopyPaste pastes, by their masks; as it is where they have none."""
        return plan if not self.masks else instances.settled(plan, _flat(self.masks[0][0]), self.objects.row)

    def _left(self) -> Tensor:
        """(M,) bool: the objects of which mixing left something."""
        if isinstance(self.kind, Keypoints):
            return keypoints.visible_points(self.objects, self.kind).any(1)
        return self.objects.visible[:, 0] > 0

    def settled(self, drops: bool) -> Settled:
        """Where they are now. drops: whether boxes of which too little is left are left out.

        The objects of samples whose images have not moved stay as they came, bit for bit.
        """
        objects, stays = self.objects, ~self._moved()[self.objects.row]
        if isinstance(self.kind, Boxes):
            made = boxes.from_objects(objects, self.kind.format, self.size, self._main.dtype).to(self._main.device)
            kept = boxes.kept(objects, self.kind) if drops else torch.ones_like(stays)
        else:
            made, kept = keypoints.from_objects(objects, self._main, self.kind), torch.ones_like(stays)
        keep = (kept | stays).nonzero()[:, 0]
        keep = keep[objects.row[keep].argsort(stable=True)]
        row, origin, stays = objects.row[keep], objects.origin[keep], stays[keep]
        points = []
        for (flat, kind), now in zip(self._points, self.points, strict=True):
            own = keypoints.from_objects(now, flat, kind)[keep.to(flat.device)]
            points.append(_where(stays, picked(flat, origin), own))
        counts = torch.bincount(row, minlength=self.rows).tolist()
        all_counts = objects.counts(self.rows)
        number = (keep - (all_counts.cumsum(0) - all_counts)[row]).split(counts)  # of each object in its sample
        masks = [[picked(planes, own) for planes, own in zip(leaf, number, strict=True)] for leaf, _ in self.masks]
        main = _where(stays, picked(self._main, origin), made[keep.to(made.device)])
        return Settled(row, origin, main, points, masks, [self.size] * self.rows)

    def _moved(self) -> Tensor:
        """(R,) bool: the samples whose images have moved, seen at the images' corners."""
        now, before = self._corners, self._begun
        if self.size != self._before:
            return torch.ones(self.rows, dtype=torch.bool, device="cpu")
        return self._mixed | ((now.points != before.points).any(2) | (now.visible <= 0)).any(1)


def _flat(planes: list[Tensor]) -> Tensor:
    """The masks (M, h, w) of all samples; ValueError where they have several sizes."""
    full = [part for part in planes if len(part)] or planes[:1]
    sizes = {tuple(part.shape[1:]) for part in full}
    if len(sizes) > 1:
        raise ValueError(
            f"mixing needs masks of one size, and these have {' and '.join(map(str, sorted(sizes)))}; give all masks "
            "the size of their images in the dataset"
        )
    return torch.cat(full)


def filled(flat: Tensor, kind: Boxes | Keypoints) -> Tensor:
    """``flat``; where no sample has an object, torch.zeros(0) may say so: with the columns of its kind."""
    columns = boxes.COLUMNS[kind.format] if isinstance(kind, Boxes) else 2
    return flat if flat.ndim > 1 else flat.new_zeros(0, columns)


def _corners(rows: int, size: Size) -> Objects:
    """The centres of the four outermost pixels of each image, as points of one object a sample."""
    right, bottom = size[1] - 0.5, size[0] - 0.5
    points = torch.tensor([[0.5, 0.5], [right, 0.5], [0.5, bottom], [right, bottom]], dtype=torch.float64, device="cpu")
    return Objects.of(points.expand(rows, 4, 2), [1] * rows)


def _of_rows(counts: Tensor, rows: Tensor) -> Tensor:
    """(M,) int64: which objects lie in the samples ``rows``, sample by sample."""
    start = counts.cumsum(0) - counts
    taken = counts[rows]
    first = (start[rows] - (taken.cumsum(0) - taken)).repeat_interleave(taken)
    return first + torch.arange(int(taken.sum()), device="cpu")


def _where(stays: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Rows as they came where ``stays``, else as they are now."""
    return torch.where(stays.to(after.device)[(...,) + (None,) * (after.ndim - 1)], before.reshape(after.shape), after)


def joined(parts: list[tuple[Settled, Tensor]], length: int) -> Settled:
    """The objects of all parts, sorted by their sample among ``length``; each part's samples lie at its places (R,)."""
    row = torch.cat([places[part.row] for part, places in parts])
    order = row.argsort(stable=True)
    masks: list[list[Tensor]] = [[torch.empty(0)] * length for _ in parts[0][0].masks]
    sizes: list[Size] = [(0, 0)] * length
    for part, places in parts:
        for number, place in enumerate(places.tolist()):
            sizes[place] = part.sizes[number]
            for leaf, own in zip(masks, part.masks, strict=True):
                leaf[place] = own[number]

    def together(values: list[Tensor]) -> Tensor:
        return torch.cat(values)[order.to(values[0].device)]

    origin = torch.cat([part.origin for part, _ in parts])[order]
    main = together([part.main for part, _ in parts])
    points = [together(list(own)) for own in zip(*(part.points for part, _ in parts), strict=True)]
    return Settled(row[order], origin, main, points, masks, sizes)


def written(
    data: leaves.Structure, where: ObjectLeaves, source: leaves.Structure, settled: Settled, order: Tensor
) -> leaves.Structure:
    """The batch ``data`` with the objects in it. source: the batch as it came; order: see `Placed`."""
    placed, layout = Placed(settled.row, settled.origin, order), where.layout
    moves = [(where.main, settled.main)]
    moves += [(address, own) for (address, _), own in zip(where.points, settled.points, strict=True)]
    for address, rows in moves:
        value = address.read(data)
        data = address.write(data, _typed(layout.put(value, rows, placed, True), value, settled.sizes))
    for (address, _), own in zip(where.masks, settled.masks, strict=True):
        value = address.read(data)
        made = own if isinstance(value, list) else layout.put(value, torch.cat(own), placed, True)
        data = address.write(data, _typed(made, value, settled.sizes))
    for address in where.columns:
        rows = picked(layout.flat(address.read(source)), settled.origin)
        data = address.write(data, layout.put(address.read(data), rows, placed, False))
    if where.valid is not None and isinstance(layout, Padded):
        data = where.valid.write(data, layout.marked(where.valid.read(data), placed))
    return data


def _typed(made: object, like: object, sizes: list[Size]) -> object:
    """tv_tensors and arrays where ``like`` has them: boxes and keypoints with the size of their image."""
    if not isinstance(made, list) or not isinstance(like, list):
        return made
    return [retyped(*one) for one in zip(made, like, sizes, strict=True)]


def retyped(made: Tensor, like: object, size: Size) -> Any:
    """``made`` as the tv_tensor or the array that ``like`` is; unchanged where it is neither."""
    if isinstance(like, np.ndarray):
        return made.cpu().numpy()
    if "tv_tensors" not in type(like).__module__:
        return made
    from torchvision import tv_tensors

    more = {"canvas_size": size} if hasattr(like, "canvas_size") else {}
    wrapped: Tensor = tv_tensors.wrap(made, like=like, **more)
    return wrapped
