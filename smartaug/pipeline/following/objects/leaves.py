"""Leaves with a row for each object of a sample: which of them belong together, and are dropped together.

With boxes go the leaves beside them, in the same dict of a sample or the same part of a padded batch, that
``follow={"key": "object"}`` names, those with a row for each box and a well-known name (labels, scores, area, masks,
...), and keypoints (n, K, 2). Any other leaf beside them that has a row for each box in every sample is refused.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...._base import leaves
from ....augment.targets.kinds import Boxes, Keypoints, Kind, Mask, Object
from ..addresses import Address, find
from .moving import ObjectLeaves, filled
from .rows import Layout, Listed, Padded, length
from .values import check_boxes, check_points

_WORDS = re.compile(r"[^a-z0-9]+")
_OF_OBJECTS = frozenset(
    _WORDS.split(
        "label labels class classes cls category categories score scores confidence conf area areas crowd iscrowd id "
        "ids track tracks difficult difficulties truncated occluded occlusion mask masks attribute attributes"
    )
)
_OF_SAMPLE = frozenset(
    _WORDS.split("image images img video frame frames file path orig original size sizes shape height width")
)
_MASKS = frozenset(("mask", "masks"))
Kinds = Mapping[Address, Kind]


def object_sets(
    data: leaves.Structure, kinds: Kinds, rows: int, others: Sequence[leaves.Path], seen: dict[object, bool]
) -> list[ObjectLeaves]:
    """The sets of leaves with a row for each object. kinds: of all leaves that follow; others: of what has no objects.

    Raises ValueError for leaves of which it is not known whether they belong to a set.
    """
    known = (*others, *(path for address in kinds for path in address.paths(rows)))
    sets = []
    joined: set[Address] = set()
    for address, kind in kinds.items():
        if isinstance(kind, Boxes):
            made = _of_boxes(data, address, kind, kinds, rows, known, seen)
            joined.update(one for one in made.all if one != address)
            sets.append(made)
    for address, kind in kinds.items():
        if isinstance(kind, Keypoints) and address not in joined:
            made = ObjectLeaves(address, kind, _layout_of_points(address.read(data), rows))
            check_points(filled(made.layout.flat(address.read(data)), kind), address.shown, seen)
            sets.append(made)
    return _with_columns(data, kinds, sets, rows)


def _of_boxes(
    data: leaves.Structure,
    address: Address,
    kind: Boxes,
    kinds: Kinds,
    rows: int,
    known: Sequence[leaves.Path],
    seen: dict[object, bool],
) -> ObjectLeaves:
    """The set of one leaf of boxes."""
    valid = None if kind.valid is None else find(data, kind.valid, rows, "valid")
    layout = _layout_of_boxes(data, address, valid)
    check_boxes(filled(layout.flat(address.read(data)), kind), kind, layout.counts, address.shown, seen)
    made = ObjectLeaves(address, kind, layout, valid=valid)
    for other, own in kinds.items():
        if other == address or other.container != address.container or (other.each is None) != (address.each is None):
            continue
        value = other.read(data)
        if isinstance(own, Keypoints) and _are_of_objects(value, layout):
            check_points(filled(layout.flat(value), own), other.shown, seen)
            made = dataclasses.replace(made, points=(*made.points, (other, own)))
        elif isinstance(own, Keypoints):
            _check_points_alone(other, address, value, layout, seen)
        if isinstance(own, Mask) and _has_planes(value) and _has_rows(value, layout):
            _check_masks(data, other, address)
            made = dataclasses.replace(made, masks=(*made.masks, (other, own)))
    columns = []
    for other, name, value in _beside(data, address, layout):
        path = next(iter(other.paths(rows)))
        if other != valid and not leaves.starts_with(path, known) and _is_column(other, name, value, layout, seen):
            columns.append(other)
    return dataclasses.replace(made, columns=tuple(columns))


def _layout_of_boxes(data: leaves.Structure, address: Address, valid: Address | None) -> Layout:
    value = address.read(data)
    if address.each is not None:
        if valid is not None:
            raise ValueError(
                f"valid= is for boxes (B, N, 4) that are padded, and {address.shown} is one tensor (n, 4) a sample; "
                "leave it out"
            )
        return Listed(torch.tensor([len(part) for part in value], device="cpu"))
    if value.ndim == 2:
        return Padded(torch.ones(len(value), 1, dtype=torch.bool, device="cpu"), drops=False, axis=False)
    if valid is None:
        if value.shape[1] != 1:
            raise ValueError(
                f"{address.shown} is {str(value.dtype)[6:]} {tuple(value.shape)}, and it is not known which rows are "
                f"boxes and which only fill up; write follow={{{address.spec}: smartaug.Boxes(..., valid='key')}} with "
                f"the leaf {tuple(value.shape[:2])} of bool that says so, or give a list of one tensor (n, 4) a sample"
            )
        return Padded(torch.ones(len(value), 1, dtype=torch.bool, device="cpu"), drops=False)
    rows = valid.read(data)
    if not isinstance(rows, Tensor) or rows.shape != value.shape[:2]:
        shown = tuple(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__
        raise ValueError(
            f"valid= names {valid.shown}, which must be {tuple(value.shape[:2])}, one bool for each of the boxes "
            f"{tuple(value.shape)}, and it is {shown}"
        )
    return Padded(rows.detach().to("cpu") != 0, drops=True)


def _layout_of_points(value: Any, rows: int) -> Layout:
    """Of keypoints by themselves: each (K, 2) is one object, and none is dropped."""
    if isinstance(value, list):
        return Listed(torch.tensor([len(part) for part in value], device="cpu"))
    several = value.shape[1] if value.ndim == 4 else 1
    valid = torch.ones(rows, several, dtype=torch.bool, device="cpu")
    return Padded(valid, drops=False, axis=value.ndim == 4)


def _has_rows(value: Any, layout: Layout) -> bool:
    """Whether a leaf has a row for each object in every sample."""
    if isinstance(layout, Listed):
        return isinstance(value, list) and [length(part) for part in value] == layout.counts.tolist()
    return layout.axis and isinstance(value, Tensor) and value.shape[:2] == layout.valid.shape


def _are_of_objects(value: Any, layout: Layout) -> bool:
    """Whether keypoints are those of the objects, (n, K, 2), and not n points by themselves."""
    if isinstance(value, Tensor):
        return value.ndim == 4 and _has_rows(value, layout)
    full = [part for part in value if part.numel()]
    return bool(full) and all(part.ndim == 3 for part in full) and _has_rows(value, layout)


def _check_points_alone(points: Address, boxes: Address, value: Any, layout: Layout, seen: dict[object, bool]) -> None:
    """Raise a ValueError for points (n, 2) of which there are as many as boxes in every sample: they may be theirs."""
    if not isinstance(layout, Listed) or not int(layout.counts.sum()):
        return
    if not _has_rows(value, layout):
        seen["not of objects", points] = True
    elif all(part.ndim == 2 or not part.numel() for part in value) and ("not of objects", points) not in seen:
        raise ValueError(
            f"{points.shown} has as many points as {boxes.shown} has boxes in each sample, and it is not known whether "
            "each box has one; let the dataset give them as (n, 1, 2) if so, points[:, None], or else in a dict of "
            f"their own: {{'points': {{{points.step!r}: ...}}}}"
        )


def _has_planes(value: Any) -> bool:
    return value.ndim == 4 if isinstance(value, Tensor) else all(part.ndim == 3 for part in value)


def _check_masks(data: leaves.Structure, masks: Address, boxes: Address) -> None:
    """Raise a ValueError unless the name says that there is one mask for each box, and not one for each class."""
    step = masks.step
    name = step if masks.each else leaves.name_of_step(leaves.get(data, masks.path[:-1]), step)
    if not isinstance(name, str) or _MASKS.isdisjoint(_WORDS.split(name.lower())):
        raise ValueError(
            f"{masks.shown} has as many masks as {boxes.shown} has boxes in each sample, and it is not known whether "
            "they are of the same objects; give boxes and masks in one dict a sample, with the key 'masks' for one "
            "mask a box, or the masks of the classes as one map (H, W)"
        )


def labelled_one_by_one(data: leaves.Structure, masks: Address) -> Address | None:
    """The leaf beside masks (n, H, W) in a list with a label for each of them, in every sample; None: there is none.

    Such masks are of objects, and not one of each class. Boxes are not looked for.
    """
    if masks.each is None or not _has_planes(value := masks.read(data)):
        return None
    layout = Listed(torch.tensor([len(part) for part in value], device="cpu"))
    for other, name, rows in _beside(data, masks, layout):
        if other != masks and _words_of(name) & (_OF_OBJECTS - _MASKS) and _has_rows(rows, layout):
            return other
    return None


def _words_of(name: object) -> frozenset[str]:
    return frozenset(_WORDS.split(name.lower() if isinstance(name, str) else ""))


def _beside(data: leaves.Structure, address: Address, layout: Layout) -> Iterator[tuple[Address, str | None, Any]]:
    """Address, name and value of the leaves beside boxes that may have a row for each of them."""
    if isinstance(layout, Padded) and not layout.drops:
        return
    if address.each:
        around = [leaves.get(entry, address.each[:-1]) for entry in leaves.get(data, address.path)]
        parts = [dict(leaves.parts_of(one) or ()) for one in around]
        _check_in_all(address, layout, parts)
        for step in parts[0]:
            if all(step in one for one in parts):
                yield address.beside(step), leaves.name_of_step(around[0], step), [one[step] for one in parts]
        return
    parent = leaves.get(data, address.path[:-1])
    for step, part in leaves.parts_of(parent) or ():
        listed = isinstance(part, (list, tuple)) and len(part) == len(layout.counts) and not leaves.is_strings(part)
        if listed if address.each is not None else isinstance(part, Tensor):
            yield address.beside(step), leaves.name_of_step(parent, step), list(part) if listed else part


def _check_in_all(address: Address, layout: Layout, parts: Sequence[Mapping[Any, Any]]) -> None:
    """Raise a ValueError for what has a row for each object, and is missing in some samples."""
    counts = layout.counts.tolist()
    for step in dict.fromkeys(step for one in parts for step in one):
        if all(step in one for one in parts) or _words_of(step) & _OF_SAMPLE:
            continue
        having = [(length(one[step]), count) for one, count in zip(parts, counts, strict=True) if step in one]
        if any(count for _, count in having) and all(own == count for own, count in having):
            row = next(row for row, one in enumerate(parts) if step not in one)
            raise ValueError(
                f"{address.beside(step).shown} has a row for each of the boxes of a sample, and is missing in row "
                f"{row} of the batch; let every sample have it, with no rows where there are no boxes"
            )


def _is_column(other: Address, name: str | None, value: Any, layout: Layout, seen: dict[object, bool]) -> bool:
    """Whether a leaf beside boxes has a row for each, by its name and its rows.

    Raises ValueError where it may have one or not.
    """
    words = _words_of(name)
    if not int(layout.counts.sum()):
        return False
    alike = _has_rows(value, layout)
    if words & _OF_SAMPLE and not (alike and isinstance(layout, Listed) and len(set(layout.counts.tolist())) > 1):
        return False
    if not words & _OF_OBJECTS:
        if not alike:
            seen["not of objects", other] = True
        elif ("not of objects", other) not in seen:
            raise ValueError(
                f"{other.shown} has as many rows as there are boxes in each sample, and it is not known whether they "
                f"go with the boxes; write follow={{..., {other.spec}: 'object'}} if they do, or still={other.step!r}"
            )
        return False
    if not alike and isinstance(layout, Listed):
        lengths = [length(part) for part in value]
        pairs = list(zip(lengths, layout.counts.tolist(), strict=True))
        if any(own == boxes and boxes for own, boxes in pairs):
            row = next(row for row, (own, boxes) in enumerate(pairs) if own != boxes)
            raise ValueError(
                f"{other.shown} has {pairs[row][0]} rows in row {row} of the batch, which has {pairs[row][1]} boxes, "
                f"and as many as boxes in others; give one for each box, or write still={other.step!r}"
            )
    return alike


def _with_columns(data: leaves.Structure, kinds: Kinds, sets: list[ObjectLeaves], rows: int) -> list[ObjectLeaves]:
    """``sets`` with the leaves of kind "object"."""
    for address, kind in kinds.items():
        if not isinstance(kind, Object):
            continue
        number = _set_of(data, address, kind, sets, rows)
        where = sets[number]
        if not _has_rows(address.read(data), where.layout):
            value = address.read(data)
            lengths = [length(one) for one in value] if isinstance(value, list) else tuple(getattr(value, "shape", ()))
            raise ValueError(
                f"follow= says that {address.shown} has a row for each of {where.main.shown}, which has "
                f"{where.layout.counts.tolist()[:8]} in the samples of a batch, and it has {lengths}; leave it out, or "
                "give one row an object"
            )
        if address not in where.all:
            sets[number] = dataclasses.replace(where, columns=(*where.columns, address))
    return sets


def _set_of(data: leaves.Structure, address: Address, kind: Object, sets: Sequence[ObjectLeaves], rows: int) -> int:
    """The number of the set that an "object" goes with. Raises ValueError where there is none, or it is not known."""
    if kind.of is not None:
        of = find(data, kind.of, rows, "of")
        found = [number for number, one in enumerate(sets) if of in one.all]
    else:
        found = [number for number, one in enumerate(sets) if one.main.container == address.container]
        found = found if len(found) == 1 else list(range(len(sets)))
    if len(found) == 1:
        return found[0]
    if not sets:
        raise ValueError(
            f'follow= says that {address.shown} has a row for each "object", and no boxes or keypoints follow; name '
            'them as well: follow={"boxes": "xyxy", ...}'
        )
    names = " or ".join(f"smartaug.Object(of={one.main.spec})" for one in sets)
    raise ValueError(f"{address.shown} may have a row for each object of several leaves; say which: {names}")
