"""Vectors of motion, turned and scaled with the images that they belong to.

What: when both frames go through the same map, what moved from p to p + v moves from the image of p to that of p + v.
When: optical flow beside augmented frames. Cost: a 2 × 2 product a pixel. Reference: none.
"""

from __future__ import annotations

from functools import singledispatch

import torch
from torch import Tensor

from ..plan import Segment, Warp
from ..projection import Projection, inverse, mapped
from .through import inverse_map


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
