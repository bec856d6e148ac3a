"""Sums over the ranks of `torch.distributed`; with one process they are the identity."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def here() -> tuple[int, int]:
    """(this process's rank, number of ranks); (0, 1) without `torch.distributed`."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def total(values: Tensor) -> Tensor:
    """The sum of ``values`` over all ranks, as a new tensor; every rank must call it with the same shape."""
    if here()[1] == 1:
        return values
    summed = values.clone()
    dist.all_reduce(summed)
    return summed


def averaged(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The mean over all ranks of every tensor, in one exchange a type."""
    world = here()[1]
    if world == 1:
        return tensors
    result = dict(tensors)
    for dtype in {part.dtype for part in tensors.values()}:
        names = [name for name, part in tensors.items() if part.dtype == dtype]
        flat = total(torch.cat([tensors[name].flatten() for name in names])) / world
        pieces = flat.split([tensors[name].numel() for name in names])
        result.update({name: piece.view_as(tensors[name]) for name, piece in zip(names, pieces, strict=True)})
    return result
