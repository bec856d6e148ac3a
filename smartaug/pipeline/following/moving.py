"""What follows the images of a batch: read when a stage first moves pixels, moved by every plan, and put back.

`Following` is of one batch; `Moving` is of some of its samples, whose images have one size and share their plans, and
`MovingTogether` of images of several sizes, which a plan makes equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..._base import leaves
from ...augment.mixing import PasteObjects
from ...augment.plan import Plan
from ...augment.targets.kinds import Boxes, Kind, MapKind
from ...augment.unequal import UnequalPlan
from . import maps
from .addresses import Address, with_tensors
from .objects import moving as objects
from .objects.moving import MovingObjects, ObjectLeaves, Size, retyped


@dataclass(frozen=True)
class Found:
    """The leaves of a batch that follow its images: maps of pixels, and sets of leaves with a row for each object.

    labelled: what masks with a label each, and no boxes, are called, and their labels.
    """

    maps: tuple[tuple[Address, MapKind], ...] = ()
    sets: tuple[ObjectLeaves, ...] = ()
    labelled: tuple[tuple[str, str], ...] = ()

    @property
    def all(self) -> tuple[Address, ...]:
        """Every leaf."""
        return (*(address for address, _ in self.maps), *(one for part in self.sets for one in part.all))

    def described(self) -> list[tuple[str, str]]:
        """Each leaf and what it is, in words."""
        rows = [(address.shown, word_of(kind)) for address, kind in self.maps]
        for where in self.sets:
            rows.append((where.main.shown, word_of(where.kind)))
            rows += [(address.shown, "keypoints") for address, _ in where.points]
            rows += [(address.shown, f"a mask for each of {where.main.spec}") for address, _ in where.masks]
            rows += [(address.shown, f"a row for each of {where.main.spec}") for address in where.columns]
        return rows


def word_of(kind: Kind) -> str:
    """What a kind is called: the format of boxes, "mask", ..."""
    return kind.format if isinstance(kind, Boxes) else type(kind).__name__.lower()


class Following:
    """What follows the images of the batch ``data``, found by ``find`` at first use; maps move on ``device``.

    views: how many images of a sample have draws of their own; with several it is not known which of them to follow.
    """

    def __init__(
        self,
        data: leaves.Structure,
        find: Callable[[], Found] = Found,
        device: torch.device | None = None,
        views: int = 1,
    ) -> None:
        self.data, self.device, self.views, self._find = data, device, views, find

    @cached_property
    def found(self) -> Found:
        """The leaves that follow."""
        found = self._find()
        rows = [one for where in found.sets for one in (where.main, *(points for points, _ in where.points))]
        self.data = with_tensors(self.data, rows)
        return found

    def paths(self) -> tuple[leaves.Path, ...]:
        """Where the leaves are that have moved; () if nothing was searched for."""
        found = self.__dict__.get("found", Found())
        return tuple(address.path for address in found.all)

    def of(self, rows: Tensor, size: Size) -> Moving:
        """What follows the images of the samples ``rows`` (R,) int64, which have the height and width ``size``."""
        return Moving(self, rows, size)

    def put(self, data: leaves.Structure, parts: Sequence[tuple[Moving, Tensor]], order: Tensor) -> leaves.Structure:
        """The batch ``data`` with all parts in it, each at its places (R,) int64; unchanged where nothing moved.

        order: (L,) int64, the sample of the batch as it came that each row of ``data`` was made from.
        """
        if not any(part.has_moved for part, _ in parts):
            return data
        for number, (address, _) in enumerate(self.found.maps):
            made = maps.joined([(part.maps[number], places) for part, places in parts], len(order))
            like = address.read(self.data)
            if isinstance(made, list):
                made = [retyped(own, like[row], (0, 0)) for own, row in zip(made, order.tolist(), strict=True)]
            data = address.write(data, made)
        for number, where in enumerate(self.found.sets):
            own = [(part.objects[number].settled(where.layout.drops), places) for part, places in parts]
            data = objects.written(data, where, self.data, objects.joined(own, len(order)), order)
        return data


class Moving:
    """What follows the images of the samples ``rows``; it is read at the first plan that moves pixels."""

    def __init__(self, following: Following, rows: Tensor, size: Size) -> None:
        self._following, self._rows, self._size = following, rows, size
        self.has_moved = False

    @cached_property
    def maps(self) -> list[Any]:
        """Where the maps are by now, each a tensor or a list of tensors."""
        read, on = self._following.data, self._following.device
        return [maps.taken(address.read(read), self._rows, on) for address, _ in self._following.found.maps]

    @cached_property
    def objects(self) -> list[MovingObjects]:
        """Where the objects are by now."""
        read, sets = self._following.data, self._following.found.sets
        return [MovingObjects(where, read, self._rows, self._size, self._following.device) for where in sets]

    def follow(self, plan: Plan) -> None:
        """Move all as ``plan`` moves pixels. Raises ValueError where something cannot follow."""
        if not self._following.found.all or not len(self._rows):
            return
        self._refuse_views()
        self.has_moved = True
        for where in self._following.found.sets if plan.from_others else ():
            if not where.layout.drops:
                raise ValueError(
                    f"mixing changes how many objects a sample has, and {where.main.shown} has a fixed number; let the "
                    "collate function give a list of one tensor (n, ...) a sample, or say which rows are objects: "
                    "smartaug.Boxes(valid='key')"
                )
        for masks, labels in self._following.found.labelled if plan.from_others else ():
            raise ValueError(
                f"mixing changes which objects a sample has, and {masks} has one mask for each row of {labels}, "
                "without boxes that say which; let the dataset give boxes beside them, "
                "torchvision.ops.masks_to_boxes(masks), with the key 'masks' for the masks, and write "
                "follow={'boxes': 'xyxy', 'masks': 'mask'}"
            )
        kinds = [kind for _, kind in self._following.found.maps]
        self.maps[:] = [maps.moved(plan, value, kind) for value, kind in zip(self.maps, kinds, strict=True)]
        for one in self.objects:
            one.follow(plan)

    def whole(self, plan: Plan) -> Plan:
        """``plan`` with the objects chosen that CopyPaste pastes, by their masks (see `instances.settled`)."""
        if not any(isinstance(segment, PasteObjects) for segment in plan.segments) or not len(self._rows):
            return plan
        with_masks = [one for one in self.objects if one.masks]
        if len(with_masks) > 1:
            shown = " and ".join(where.main.shown for where in self._following.found.sets if where.masks)
            raise ValueError(
                f"CopyPaste pastes the objects of one leaf, and {shown} have masks beside them; put all objects of a "
                "sample into one leaf in the dataset"
            )
        return with_masks[0].whole(plan) if with_masks else plan

    def _refuse_views(self) -> None:
        if self._following.views > 1:
            raise ValueError(
                f"{self._following.found.all[0].shown} follows the images, and a sample has {self._following.views} "
                "with draws of their own; write views='same' if all move together, or name what stays: still='key'"
            )

    def refuse(self, stage: str) -> None:
        """Raise a ValueError if anything should follow, since ``stage`` moves pixels in a way that is not known."""
        for address in self._following.found.all:
            raise ValueError(
                f"{stage} may move pixels, and {address.shown} would not follow: where a callable or a module of "
                "another library moves them is not known; use smartaug's own augmentations, or augment both in the "
                "dataset"
            )


class MovingTogether:
    """What follows the images of a batch that have several sizes: a `Moving` for each, with its rows (R,) int64."""

    def __init__(self, following: Following, parts: Sequence[tuple[Moving, Tensor]]) -> None:
        self._following, self._parts = following, parts

    def follow(self, plan: Plan, rows: Tensor | None = None) -> None:
        """Move all as ``plan`` moves pixels; rows: those it is for, all of one size, None: all. See `Moving.follow`."""
        if not self._following.found.all:
            return
        self.whole(plan)
        for moving, own in self._parts:
            if rows is None:
                moving.follow(plan.of_size(own) if isinstance(plan, UnequalPlan) else plan.rows(own))
            elif torch.equal(own, rows):
                moving.follow(plan)

    def whole(self, plan: Plan) -> Plan:
        """``plan``; ValueError where it mixes samples whose targets began at several sizes."""
        if plan.from_others and self._following.found.all:
            raise ValueError(
                f"mixing samples needs images of one size in a batch where {self._following.found.all[0].shown} moves "
                "with them, and these are of several; make them equal in the dataset (a resize, a crop), or leave "
                "mixing out"
            )
        return plan

    def refuse(self, stage: str) -> None:
        """As `Moving.refuse`."""
        self._parts[0][0].refuse(stage)
