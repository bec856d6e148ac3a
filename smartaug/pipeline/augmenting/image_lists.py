"""Images in a list, one (C, H, W) a sample, as torchvision's detectors take them: their sizes may differ.

Where the first stage makes them equal, all others run on one batch (`unequal`). Else images of one size are augmented
together, with a plan for each size. Draws are of the sample, so the result is that of each image alone; only what mixes
samples needs all images in one size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..._base import leaves
from ...augment.one_size import by_size, traced
from ...augment.plan import Plan, Store
from ..following.addresses import every, is_per_sample
from ..following.moving import Moving, MovingTogether
from ..following.places import Places
from ..stages import rows_not_finite
from .augmenting import Augmented, Augmenting, Samples, joint
from .result_rows import ResultRows
from .unequal import BY_SIZE, TIMED

Follows = Callable[[Tensor, Tensor, tuple[int, int]], Moving]  # rows, what they become, height and width -> what moves


def are_images(part: object, data: leaves.Structure, rows: int | None) -> bool:
    """Whether ``part`` of a batch is a list of one image (C, H, W) a sample, and not of views or sequences (B, T, F).

    rows: the number of samples, None when unknown. Raises ValueError where it may be both.
    """
    if not isinstance(part, (list, tuple)) or not part or hasattr(part, "_fields"):
        return False
    if not all(leaves.is_plain(one) and one.ndim == 3 and leaves.is_numeric(one) for one in part):
        return False
    if rows is not None and len(part) != rows:
        return False
    channels = {one.shape[0] for one in part}
    if part[0].dtype == torch.uint8:
        return True
    if channels != {len(part)}:
        known = rows is not None or _has_rows(data, part, len(part)) or not _has_rows(data, part, max(channels))
        return known and (rows is not None or channels <= {1, 3, 4})
    if any(leaves.is_samples(leaves.get(data, address.path)) for address in every(data, len(part)) if address.each):
        return True
    raise ValueError(
        f"the inputs are {len(part)} tensors {tuple(part[0].shape)} in a batch of as many samples, which may be images "
        "(C, H, W), one a sample, or sequences (B, T, F); let the dataset give images as uint8, or the collate "
        "function stack them: torch.stack(images)"
    )


def _has_rows(data: leaves.Structure, part: object, rows: int) -> bool:
    """Whether a leaf of the batch, or a list of one entry a sample, has ``rows`` rows, outside of ``part``."""
    for path in dict.fromkeys(address.path for address in every(data, rows)):
        value, around = leaves.get(data, path), leaves.get(data, path[:-1])
        rowed = is_per_sample(value, rows) or (leaves.is_plain(value) and value.ndim > 0 and len(value) == rows)
        if rowed and value is not part and around is not part:
            return True
    return False


def check_images(images: Sequence[Tensor], where: leaves.Path) -> None:
    """Raise a ValueError unless images (C, H, W) have one dtype and number of channels, and finite values."""
    kinds = {(str(image.dtype)[6:], image.shape[0]) for image in images}
    if len(kinds) > 1:
        shown = " and ".join(f"{dtype} with {channels} channels" for dtype, channels in sorted(kinds))
        raise ValueError(
            f"the images at {where!r} are {shown}; make them alike in the dataset: image.convert('RGB') before it "
            "becomes a tensor"
        )
    last = images[0].shape
    if last[2] in (3, 4) and last[0] > 4:
        raise ValueError(
            f"the images at {where!r} look like (H, W, C), they have shape {tuple(last)}; write image.permute(2, 0, 1) "
            "in the dataset"
        )
    bad = [
        row
        for row, image in enumerate(images)
        if image.device.type == "cpu" and image.is_floating_point() and rows_not_finite(image[None])
    ]
    if bad:
        raise ValueError(
            f"the images at {where!r} hold NaN or Inf in rows {bad[:8]} of the batch; look at those samples "
            "(loader.dataset[i]) or replace the values: torch.nan_to_num(image)"
        )


def augmented(
    augmenting: Augmenting,
    images: Sequence[Tensor],
    samples: Samples,
    places: Places,
    rows: ResultRows | None,
    follows: Follows,
    together: Callable[[Sequence[tuple[Moving, Tensor]]], MovingTogether],
    *,
    device: torch.device | None,
) -> tuple[Tensor | list[Tensor], Augmented]:
    """The images after ``augmenting``, its plans and trace.

    rows: of the result; None: those of the batch, all augmented. together: what moves with images of all sizes, from
    that of each. Raises ValueError where images of several sizes would be mixed.
    """
    sizes = by_size(images)
    if len(sizes) == 1 or rows is not None:
        return _size_by_size(augmenting, images, samples, places, rows, follows, sizes, device)
    way = augmenting.unequal.choose(augmenting.steps, augmenting.mixes, device or images[0].device)
    with augmenting.unequal.timing(len(images)):
        if way == BY_SIZE:
            return _size_by_size(augmenting, images, samples, places, rows, follows, sizes, device)
        moving = together([(follows(own, own, _size_of(images[int(own[0])])), own) for own in sizes])
        there = [image.as_subclass(Tensor).to(device, non_blocking=True) for image in images]
        result = augmenting.unequal_rows(there, samples, places, moving, TIMED[way])
        return result.views[0], result


def _size_of(image: Tensor) -> tuple[int, int]:
    return image.shape[-2], image.shape[-1]


def _size_by_size(
    augmenting: Augmenting,
    images: Sequence[Tensor],
    samples: Samples,
    places: Places,
    rows: ResultRows | None,
    follows: Follows,
    sizes: Sequence[Tensor],
    device: torch.device | None,
) -> tuple[list[Tensor], Augmented]:
    """`augmented` with a plan for each size, of which ``sizes`` has the rows."""
    length = len(images) if rows is None else len(rows.source)
    made: list[Tensor] = [images[0]] * length
    parts = []
    for own in sizes:
        whole = torch.stack([images[row] for row in own.tolist()]).to(device, non_blocking=True)
        result, become = _of_one_size(augmenting, whole, samples, places, rows, follows, own)
        for place, image in zip(become.tolist(), result.views[0].unbind(0), strict=True):
            made[place] = image
        parts.append((result, become))
    if len(parts) == 1:
        return made, parts[0][0]
    return made, _joined(parts, length)


def _of_one_size(
    augmenting: Augmenting,
    images: Tensor,
    samples: Samples,
    places: Places,
    rows: ResultRows | None,
    follows: Follows,
    own: Tensor,
) -> tuple[Augmented, Tensor]:
    """`augmented` for images of one size, the rows ``own`` of the batch; and which rows of the result they become."""
    size = images.shape[-2], images.shape[-1]
    if rows is None:
        return augmenting.all_rows([images], samples.rows(own), places, follows(own, own, size), shared=False), own
    part, become = rows.of(own)

    def moving(of: Tensor, to: Tensor) -> Moving:
        return follows(own[of], become[to], size)

    return augmenting.some_rows([images], samples.rows(own), places, part, moving, shared=False), become


def _joined(parts: Sequence[tuple[Augmented, Tensor]], length: int) -> Augmented:
    """The plans of all sizes as plans of ``length`` rows, of which only trace and normalisation are left."""
    if any(plan.from_others for result, _ in parts for plan in result.plans):
        raise ValueError(
            "mixing samples needs images of one size in a batch, and these are of several; make them equal in the "
            "dataset (a resize, a crop), or leave mixing out"
        )
    plans = []
    for several in zip(*(result.plans for result, _ in parts), strict=True):
        first: Plan = several[0]
        trace = traced([(plan.trace, places) for plan, (_, places) in zip(several, parts, strict=True)], length)
        stores = tuple(segment for segment in first.segments if isinstance(segment, Store))
        plans.append(Plan((length, *first.shape[1:]), stores, trace))
    return Augmented([], plans, joint(plans, length))
