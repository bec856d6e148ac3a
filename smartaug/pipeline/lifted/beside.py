"""What lies in the images and the dataset's transform was not given, beside lifted transforms.

What: where lifted transforms run on images with their targets, what else follows (``follow=``, types, names) moves
under them as under those of ``augment=``. Where the transform is given images alone, what may lie in them and is not
known is refused, too. Samples
whose whole pipeline ran when they were loaded moved without it, which is an error. When: ``lift=True``. Cost: that of
moving it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..._base import input_leaves, leaves
from ...augment.foreign import Foreign
from ...augment.plan import Plan
from ...augment.targets.kinds import Boxes, Keypoints, Kind, Object, kind_of
from ...lift import Lifted
from ...lift.deferred.collecting import Unfinished
from ...lift.deferred.given import Whole
from ...lift.joint import Joint
from ..following.addresses import Address, find, is_per_sample, of_every_row
from ..following.followers import find_followers, find_kinds, staying
from ..following.moving import Following, Moving
from ..following.pictures import Pictures
from ..following.places import Place, Places, find_places, is_label
from ..settings import Settings

Known = Sequence[leaves.Path]
_SHAPE = (3, 64, 64)  # of images that are not found, by which it is asked whether stages may move pixels
_FIELDS: dict[type, str] = {Boxes: "boxes", Keypoints: "keypoints"}  # of `Given`; those of other kinds: maps


@dataclass
class Beside:
    """What lies in the images of one batch ``data``, and its transform was not given.

    following: what moves; places: what may have to; known: paths of what stays, or was given; parts: what moved so far,
    and its rows; listed: whether the batch is a list of samples, of which nothing can move.
    """

    data: leaves.Structure
    pictures: Pictures
    following: Following
    places: Places
    known: Known
    parts: list[tuple[Moving, Tensor]]
    listed: bool

    def of(self, rows: Tensor, size: tuple[int, int]) -> Moving:
        """What lies in the images of the samples ``rows`` (R,) int64, which have the height and width ``size``."""
        made = self.following.of(rows, size)
        self.parts.append((made, rows))
        return made

    def follow(self, stage: str, plan: Plan, moving: Moving) -> None:
        """Move it as ``plan`` moves pixels. Raises ValueError where it cannot, or something is not known."""
        if not plan.moves_pixels:
            return
        self.places.refuse(stage)
        if self.listed:
            for address in self.following.found.all:
                raise ValueError(
                    f"{stage} may move pixels, and batch[i]{address.shown[5:].replace('[i]', '')}, which the dataset's "
                    f"transform was not given, would not follow; {_UNZIP}"
                )
        moving.follow(plan)

    def refuse(self, step: Foreign) -> None:
        """Raise a ValueError if there is anything, since ``step`` moves pixels in a way that is not known."""
        self.places.refuse(step.name)
        for moving, _ in self.parts[-1:]:
            moving.refuse(step.name)

    def put(self, data: leaves.Structure) -> leaves.Structure:
        """The batch ``data`` with what has moved in it; the samples that no stage ran on keep theirs."""
        if not any(moving.has_moved for moving, _ in self.parts):
            return data
        done = {row for _, rows in self.parts for row in rows.tolist()}
        for row in set(range(self.pictures.rows)) - done:
            self.of(torch.tensor([row], device="cpu"), self.pictures.sizes[row])
        return self.following.put(data, self.parts, torch.arange(self.pictures.rows, device="cpu"))


_UNZIP = (
    "let the collate function give the images as a list or tensor of their own, and the targets beside them: "
    "tuple(zip(*samples))"
)


def beside(
    data: leaves.Structure,
    joint: Joint,
    settings: Settings,
    device: torch.device | None,
    seen: dict[object, bool],
) -> Beside | None:
    """What lies in the images of the batch ``data`` and is not in ``joint``; None: the batch cannot be looked at.

    seen: cache of one loader, see `find_followers`. Raises ValueError where what ``follow=`` names cannot be found.
    """
    place, given = joint.images[0] if joint.stacked else joint.parent, joint.given
    listed = not place
    if listed and settings.follow:
        raise ValueError(f"follow= names leaves of a batch, and this one is a list of samples; {_UNZIP}")
    if listed:
        columns = _columns(data)
        inside = joint.images[0][1:]
        if columns is None or not inside:
            return None
        data, given = columns, {(inside[0], row, *inside[1:]) for (row, *inside) in given if inside}
        place = (joint.images[0][1],)
        if not is_per_sample(leaves.get(data, place), joint.length) or len(joint.images[0]) > 2:
            return None
    pictures = Pictures.of(data, [place])
    own = dict.fromkeys(of_every_row(data, path, pictures.rows) for path in given)
    known = (*staying(data, settings.still, pictures.rows), *(p for one in own for p in one.paths(pictures.rows)))
    named = {} if settings.follow is None else _not_given(data, settings.follow, set(given), pictures.rows)

    def find_unknown() -> dict[leaves.Path, Place]:
        labels = leaves.find_parts(data, settings.target, "target")
        stays = (*known, *(path for path in labels if is_label(data, path)))
        followers = {path for address in following.found.all for path in address.paths(pictures.rows)}
        return find_places(data, pictures, stays, followers, seen)

    following = Following(data, lambda: find_followers(data, pictures, named, known, {}, seen), device)
    # a transform that is given the image and what lies in it leaves alone what else it is given, as the user knows
    places = Places() if given else Places(find_unknown)
    return Beside(data, pictures, following, places, known, [], listed)


def _columns(samples: leaves.Structure) -> leaves.Structure | None:
    """The batch that `_UNZIP` makes of a list of tuples or of dicts; None for other samples."""
    if not isinstance(samples, (list, tuple)) or not samples:
        return None
    first = samples[0]
    if all(type(one) is dict and one.keys() == first.keys() for one in samples):
        return {key: [one[key] for one in samples] for key in first}
    alike = all(isinstance(one, (tuple, list)) and len(one) == len(first) for one in samples)
    return tuple(list(column) for column in zip(*samples, strict=True)) if alike else None


def _not_given(data: leaves.Structure, follow: Mapping, given: set[leaves.Path], rows: int) -> dict:
    """What ``follow=`` names and the transform was not given."""
    named = {}
    for spec, kind in follow.items():
        if given.isdisjoint(find(data, spec, rows, "follow").paths(rows)):
            named[spec] = kind
    if all(isinstance(kind_of(kind), Object) for kind in named.values()):  # they go with what the transform was given
        return {}
    return named


def check_moved_before(lifted: Lifted, settings: Settings, data: leaves.Structure, rows: int, known: Known) -> None:
    """Raise a ValueError where something follows images that moved in the worker, without it, before they were lifted.

    known: leaves that the transform was given.
    """
    if lifted.moves_before is None:
        return
    kinds = _kinds(data, settings, _pictures(data, settings, rows), rows, known)
    for address in (one for one, kind in kinds.items() if _field(kind) is not None):
        raise ValueError(
            f"{address.shown} follows the images, but {lifted.moves_before} stays in the worker, moves the image there "
            f"and was not given what lies in it; give the transform both, put {lifted.moves_before} into augment=, or "
            "write lift=False if the dataset moves it by itself"
        )


# --- samples whose whole pipeline ran --------------------------------------------------------------------------------


def check_whole(
    lifted: Lifted,
    settings: Settings,
    data: leaves.Structure,
    rows: int | None,
    whole: Sequence[Whole],
    known: Known = (),
) -> None:
    """Raise a ValueError where something follows the images of a batch, and moved not with those of the ``whole``.

    known: leaves that the transform was given, in samples that were lifted.
    """
    if not whole:
        return
    pictures = _pictures(data, settings, rows)
    shape = _SHAPE if pictures is None else (_channels(data, pictures), *pictures.sizes[0])
    if lifted.moves_before is None and not lifted.moves_pixels(shape):
        return
    kinds = _kinds(data, settings, pictures, rows or 0, known)
    for given, number in whole:
        if given.unknown:
            continue
        for name in ("boxes", "keypoints", "maps"):
            mine = [one for one, kind in kinds.items() if _field(kind) == name]
            arrived = [set(paths) for kind, paths in given.arrived if kind == name and paths]
            left = [one for one in mine if all(paths.isdisjoint(one.paths(_rows(data, one))) for paths in arrived)]
            if len(left) > getattr(given, name) - len(arrived):
                raise _left_behind(left, number)


def _left_behind(left: Sequence[Address], number: int | None) -> ValueError:
    what = left[0].shown if len(left) == 1 else f"one of {', '.join(one.shown for one in left)}"
    where = "in this batch" if number is None else f"in sample {number} of the batch, counted from 0,"
    return ValueError(
        f"{what} follows the images, but {where} it stayed behind: the dataset's transform moved the image "
        "where it was loaded, and was not given what lies in it; give the transform both, or let every sample of "
        "a batch have its image as the transform returned it, so that it is lifted; or write "
        "lift=False if the dataset moves it by itself"
    )


def _field(kind: Kind) -> str | None:
    return None if isinstance(kind, Object) else _FIELDS.get(type(kind), "maps")


def _rows(data: leaves.Structure, address: Address) -> int:
    return 0 if address.each is None else len(leaves.get(data, address.path))


def given_masks(data: leaves.Structure, unfinished: Unfinished, rows: int) -> Known:
    """The paths of the masks that the transform was given, in all samples."""
    return tuple(p for path in unfinished.masks for p in of_every_row(data, path, rows).paths(rows))


def _pictures(data: leaves.Structure, settings: Settings, rows: int | None) -> Pictures | None:
    """The images of a batch; None where they are not found."""
    try:
        parts = input_leaves.find_all_inputs(data, settings.inputs)
    except (TypeError, ValueError):
        return None
    first = leaves.get(data, parts[0])
    listed = not isinstance(first, Tensor) and is_per_sample(first, rows or len(first))
    images = [
        one for one in (first if listed else [first]) if isinstance(one, Tensor) and one.ndim == (3 if listed else 4)
    ]
    return Pictures.of(data, parts[:1]) if len(images) == (len(first) if listed else 1) else None


def _channels(data: leaves.Structure, pictures: Pictures) -> int:
    first = leaves.get(data, pictures.paths[0])
    return int((first if isinstance(first, Tensor) else first[0]).shape[-3])


def _kinds(
    data: leaves.Structure, settings: Settings, pictures: Pictures | None, rows: int, known: Known
) -> dict[Address, Kind]:
    """The leaves that follow the images: by ``follow=`` and, where the images are found, by type and name."""
    if pictures is None:
        return {find(data, spec, rows, "follow"): kind_of(kind) for spec, kind in (settings.follow or {}).items()}
    still = (*staying(data, settings.still, pictures.rows), *known)
    named = _not_given(data, settings.follow or {}, set(known), pictures.rows)
    return find_kinds(data, pictures, named, still, {})
