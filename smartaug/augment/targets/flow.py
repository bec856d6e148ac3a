"""Vectors of motion, turned and scaled with the images that they belong to, and disparity, their length along x.

What: when both frames go through the same map, what moved from p to p + v moves from the image of p to that of p + v.
A disparity d is the motion (d, 0) from one picture of a stereo pair to the other, and must stay one. When: optical flow
beside augmented frames; disparity beside both pictures. Cost: a 2 × 2 product a pixel; a product. Reference: none.
"""

from __future__ import annotations

from functools import singledispatch

import torch
from torch import Tensor

from ..plan import Segment, Warp
from ..projection import Projection, inverse, mapped
from .through import inverse_map

_STRAIGHT = 1e-6  # pixels over the width of a map: rounding of a matrix whose lines stay lines


@singledispatch
def turned(segment: Segment, flow: Tensor) -> Tensor:
    """Vectors (B, 2, h, w) in pixels, moved by ``segment`` (of their resolution), as they are in the moved image."""
    return flow


@turned.register
def _(segment: Warp, flow: Tensor) -> Tensor:
    """An affine map turns all vectors of a sample alike, by the inverse of its linear part."""
    linear, axes = segment.matrix.clone(), torch.eye(2, dtype=torch.float64, device="cpu")
    linear[:, :, 2] = 0.0
    turn = inverse_map(linear, axes.expand(len(linear), 2, 2)).mT  # (B, 2, 2)
    if segment.active is not None:
        turn = torch.where(segment.active[:, None, None], turn, axes)
    return (turn.to(flow.device, flow.dtype) @ flow.flatten(2)).view_as(flow)


@turned.register
def _(segment: Projection, flow: Tensor) -> Tensor:
    """Each vector from where its start is to where its end goes."""
    matrix = segment.matrix.to(flow.device)
    x, y = (torch.arange(n, dtype=torch.float64, device=flow.device) for n in (flow.shape[3], flow.shape[2]))
    place = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], -1).expand(len(flow), -1, -1, -1)
    start, _ = mapped(matrix, place)
    end, before = mapped(inverse(segment.matrix).to(flow.device), start + flow.double().movedim(1, -1))
    moved = torch.where(before[..., None], end - place, 0.0).movedim(-1, 1).to(flow.dtype)
    return (
        moved
        if segment.active is None
        else torch.where(segment.active.to(flow.device)[:, None, None, None], moved, flow)
    )


@singledispatch
def stretched(segment: Segment, disparity: Tensor) -> Tensor:
    """Disparity (B, 1, h, w) in pixels before ``segment``, in the pixels behind it; what a segment fills in stays.

    Raises ValueError where the pair would be none any more: corresponding points not in one line, or mirrored.
    """
    return disparity


@stretched.register
def _(segment: Warp, disparity: Tensor) -> Tensor:
    """(d, 0) becomes (d / a, 0) where pixel (x, y) of the result reads pixel (a x + b y + …, e y + …) of the map."""
    across, tilt = segment.matrix[:, 0, 0], segment.matrix[:, 1, 0]
    if segment.active is not None:
        across, tilt = torch.where(segment.active, across, 1.0), torch.where(segment.active, tilt, 0.0)
    if bool((tilt.abs() * segment.size[1] > _STRAIGHT).any()):
        raise _no_pair("turns the lines of a picture or shears them upwards")
    if not bool((across > 0).all()):
        raise _no_pair("mirrors left and right, which changes the sign of disparity")
    if bool((across == 1).all()):
        return disparity
    scaled = disparity * (1.0 / across).to(disparity.device, disparity.dtype)[:, None, None, None]
    return torch.where(_is(segment.fill[0], disparity), disparity, scaled)


@stretched.register
def _(segment: Projection, disparity: Tensor) -> Tensor:
    """A projective map scales every place by another factor, and lines do not stay level."""
    if segment.active is not None and not bool(segment.active.any()):
        return disparity
    raise _no_pair("changes the perspective")


def _is(value: float, disparity: Tensor) -> Tensor:
    """Where a map is ``value``, in its own precision; NaN is NaN."""
    same = disparity == torch.tensor(value, dtype=disparity.dtype, device=disparity.device)
    return same | disparity.isnan()


def _no_pair(what: str) -> ValueError:
    return ValueError(
        f"a stage {what}, so that points of a stereo pair do not correspond along x any more; use stages that crop, "
        "resize, shift or shear along x: smartaug.Affine(0, translate=(0.1, 0.1), scale=(0.8, 1.2)), "
        "smartaug.RandomResizedCrop(size), smartaug.Flip(vertical=True)"
    )
