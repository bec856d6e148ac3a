"""Which leaves of a batch follow its images, by what the user says, by their types, and by a few names.

Named by ``follow=``; tv_tensors by their type; boxes whose format the lifted pipeline or their own name says; maps of
whole numbers of the images' size under a key such as "mask".
What lies in the picture and is none of these is refused by `places`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ..._base import leaves
from ...augment.targets.kinds import (
    FORMATS,
    Boxes,
    Disparity,
    Flow,
    Heatmap,
    Image,
    Keypoints,
    Kind,
    MapKind,
    Mask,
    Object,
    kind_of,
)
from .addresses import Address, every, find, with_tensors
from .moving import Found, word_of
from .objects.leaves import labelled_one_by_one, object_sets
from .pictures import Pictures

Follow = Mapping[Any, Any]  # leaf, as in ``follow=`` -> kind
MASKS = ("mask", "masks", "segmentation")  # names of maps of classes


def check_follow(follow: object) -> None:
    """Raise a TypeError or ValueError unless it is a dict of leaves and kinds."""
    if not isinstance(follow, Mapping):
        raise TypeError(
            f"follow must be a dict, the key or position of a leaf and what it is, got {follow!r}; write "
            "follow={'boxes': 'xyxy'} or follow={1: 'mask'}"
        )
    for leaf, given in follow.items():
        try:
            kind_of(given)
        except ValueError as error:
            raise ValueError(f"follow={{{leaf!r}: {given!r}}}: {error}") from None


def staying(data: leaves.Structure, still: leaves.Specs, rows: int) -> tuple[leaves.Path, ...]:
    """The paths of what ``still=`` names; a key that only the samples of a list have stays in all of them.

    Raises ValueError where it names nothing.
    """
    listed: Any = still if isinstance(still, (list, tuple)) else [] if still is None else [still]
    paths: list[leaves.Path] = []
    for spec in listed:
        inside = [] if not isinstance(spec, str) else [a for a in every(data, rows) if a.each and a.each[-1] == spec]
        try:
            paths.append(leaves.find_part(data, spec, "still"))
        except ValueError:
            if not inside:
                raise
            paths += [path for address in inside for path in address.paths(rows)]
    return tuple(paths)


def find_followers(
    data: leaves.Structure,
    pictures: Pictures,
    follow: Follow | None,
    still: Sequence[leaves.Path],
    lifted: Mapping[Address, Kind],
    seen: dict[object, bool],
) -> Found:
    """All leaves of a batch that follow its images.

    follow: as given to the loader. still: paths of what stays. lifted: leaves of which a lifted transform says that
    they follow. seen: cache of one loader, of leaves that were seen not to have a row for each object. Raises
    ValueError for leaves that are not there, that stay as well, or whose shapes do not fit their kind.
    """
    kinds = find_kinds(data, pictures, follow, still, lifted)
    data = with_tensors(data, [one for one, kind in kinds.items() if isinstance(kind, (Boxes, Keypoints))])
    for address, kind in kinds.items():
        _check(data, address, kind, pictures)
    sets = object_sets(data, kinds, pictures.rows, (*pictures.paths, *still), seen)
    taken = {one for part in sets for one in part.all}
    maps = [(address, kind) for address, kind in kinds.items() if isinstance(kind, MapKind) and address not in taken]
    labels = [(one, labelled_one_by_one(data, one)) for one, kind in maps if isinstance(kind, Mask)]
    alone = tuple((one.shown, other.shown) for one, other in labels if other is not None)
    return Found(tuple(maps), tuple(sets), alone)


def find_kinds(
    data: leaves.Structure,
    pictures: Pictures,
    follow: Follow | None,
    still: Sequence[leaves.Path],
    lifted: Mapping[Address, Kind],
) -> dict[Address, Kind]:
    """The leaves that follow by ``follow=``, type or name, and what they are, unchecked; see `find_followers`."""
    kinds = dict(lifted)
    for spec, given in (follow or {}).items():
        address = find(data, spec, pictures.rows, "follow")
        if leaves.starts_with(next(iter(address.paths(pictures.rows))), still):
            raise ValueError(f"still= and follow= both name {address.shown}; leave it out of one of them")
        if leaves.starts_with(address.path, pictures.paths):
            raise ValueError(f"follow= names {address.shown}, which is the image that is augmented; leave it out")
        kinds[address] = kind_of(given)
    for address in every(data, pictures.rows):
        if address in kinds or leaves.starts_with(next(iter(address.paths(pictures.rows))), (*pictures.paths, *still)):
            continue
        kind = _by_type(data, address, pictures) or _by_name(data, address, pictures)
        if kind is not None:
            kinds[address] = kind
    return kinds


def _by_type(data: leaves.Structure, address: Address, pictures: Pictures) -> Kind | None:
    """The kind of a tv_tensor; None for anything else, and for further images, of which it is not known."""
    value = address.read(data)
    first: Any = value[0] if address.each is not None else value
    if "tv_tensors" not in type(first).__module__:
        return None
    if not hasattr(first, "canvas_size"):
        return Mask() if type(first).__name__ == "Mask" else None
    parts = value if address.each is not None else [value]
    for row, (one, size) in enumerate(zip(parts, pictures.sizes, strict=False)):
        if getattr(one, "canvas_size", size) != size:
            raise ValueError(
                f"{address.shown} says in row {row} that it is for an image of {one.canvas_size}, and the image has "
                f"{size}; give it canvas_size=image.shape[-2:] in the dataset"
            )
    box_format: Any = getattr(first, "format", None)
    return Keypoints() if box_format is None else Boxes(box_format.value.lower())


def _by_name(data: leaves.Structure, address: Address, pictures: Pictures) -> Kind | None:
    """A mask, where a map of whole numbers of the images' size is called so; boxes that are called by their format."""
    name = address.step
    if not address.each and len(address.path) > 0:
        name = leaves.name_of_step(leaves.get(data, address.path[:-1]), address.path[-1])
    said = _formats_in(name) if isinstance(name, str) else []
    if name not in MASKS and len(said) != 1:
        return None
    value = address.read(data)
    parts = value if address.each is not None else [value]
    if said:
        kind = Boxes(said[0])
        fits = all(leaves.is_plain(part) and _fits(part, kind, address, pictures) for part in parts)
        return kind if fits and (address.each is not None or value.ndim == 2) else None
    if not all(leaves.is_plain(part) and not part.is_floating_point() for part in parts):
        return None
    if address.each is None:
        fits = value.ndim in (3, 4) and len(value) == pictures.rows and tuple(value.shape[-2:]) == pictures.sizes[0]
        return Mask() if fits else None
    sizes = zip(parts, pictures.sizes, strict=True)
    fits = all(part.ndim in (2, 3) and tuple(part.shape[-2:]) == size for part, size in sizes)
    # [(B, H, W), (B, H, W)] of a batch of two may be two masks of each sample as well
    twofold = not address.each and all(part.ndim == 3 and len(part) == pictures.rows for part in parts)
    return Mask() if fits and not twofold else None


def _formats_in(name: str) -> list[str]:
    """The formats of boxes among the words of a key: "xywh" of "boxes_xywh", none of "boxes"."""
    return [word for word in _WORDS.split(name.lower()) if word in FORMATS and word != "yolo"]


_WORDS = re.compile(r"[^a-z0-9]+")
_WANTED: dict[type, tuple[str, str]] = {  # of a batch, of one sample
    Boxes: ("(B, {0}) or (B, N, {0})", "(n, {0})"),
    Keypoints: ("(B, K, 2) or (B, N, K, 2), with or without a third column", "(n, 2) or (n, K, 2), or with 3"),
    Mask: ("(B, H, W) or (B, N, H, W)", "(H, W) or (N, H, W)"),
    Heatmap: ("(B, H, W) or (B, N, H, W)", "(H, W) or (N, H, W)"),
    Flow: ("floats (B, 2, H, W)", "floats (2, H, W)"),
    Disparity: ("floats (B, H, W) or (B, 1, H, W)", "floats (H, W) or (1, H, W)"),
    Image: ("(B, C, H, W)", "(C, H, W)"),
}


def _check(data: leaves.Structure, address: Address, kind: Kind, pictures: Pictures) -> None:
    """Raise a TypeError or ValueError unless a leaf has the type and shape of its kind."""
    value = address.read(data)
    parts = value if address.each is not None else [value]
    if isinstance(kind, Object):
        return
    of_batch, of_sample = _wanted(kind)
    word = word_of(kind)
    for part in parts:
        if isinstance(part, Mapping):
            keys = " or ".join(repr((*address.path, key)) for key in list(part)[:3])
            raise ValueError(f"follow= names {address.shown}, which is a dict; name one of its leaves: {keys}")
        if not isinstance(part, Tensor) or part.is_nested:
            what = "a nested tensor" if isinstance(part, Tensor) else type(part).__name__
            raise TypeError(
                f'follow= takes {address.shown} for "{word}", which needs tensors, and it is {what}; let the dataset '
                f"give torch.as_tensor(...), and the collate function a tensor {of_batch} or a list of one tensor "
                f"{of_sample} a sample"
            )
        if not _fits(part, kind, address, pictures):
            shown, wanted, other = f"{str(part.dtype)[6:]} {tuple(part.shape)}", of_sample, f"a tensor {of_batch}"
            if address.each is None:
                wanted = f"{of_batch}, with B = {pictures.rows} rows as the images have"
                other = f"a list of one tensor {of_sample} a sample"
            raise ValueError(
                f'follow= takes {address.shown} for "{word}", which must be {wanted}, and it is {shown}; let the '
                f"collate function give that, or {other}"
            )


def _wanted(kind: Kind) -> tuple[str, str]:
    columns = {"xywhr": 5, "cxcywhr": 5, "xyxyxyxy": 8}.get(getattr(kind, "format", ""), 4)
    of_batch, of_sample = _WANTED[type(kind)]
    return of_batch.format(columns), of_sample.format(columns)


def _fits(part: Tensor, kind: Kind, address: Address, pictures: Pictures) -> bool:
    """Whether one tensor, of the batch or of a sample, has a shape of its kind."""
    batched = address.each is None
    if batched and (part.ndim == 0 or len(part) != pictures.rows):
        return False
    dimensions = part.ndim - batched
    if isinstance(kind, (Boxes, Keypoints)) and not batched and part.numel() == 0:
        return True  # torch.zeros(0) says "none", too
    if isinstance(kind, Boxes):
        columns = {"xywhr": 5, "cxcywhr": 5, "xyxyxyxy": 8}.get(kind.format, 4)
        return dimensions in ((1, 2) if batched else (2,)) and part.shape[-1] == columns
    if isinstance(kind, Keypoints):
        columns_fit = part.shape[-1] in ((2, 3) if kind.visible is None else (3,) if kind.visible else (2,))
        return dimensions in ((1, 2, 3) if batched else (2, 3)) and columns_fit
    if isinstance(kind, (Mask, Heatmap)):
        return dimensions in (2, 3, 4 if batched else 3)
    if isinstance(kind, Disparity):
        planes = part.shape[-3] if dimensions > 2 else 1
        return part.is_floating_point() and dimensions in (2, 3, 4 if batched else 3) and planes == 1
    right = part.ndim >= 3 and (not isinstance(kind, Flow) or (part.shape[-3] == 2 and part.is_floating_point()))
    return right and dimensions in (3, 4 if batched else 3)
