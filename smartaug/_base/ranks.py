"""Sums, means, maxima, broadcasts and gathers over the ranks of `torch.distributed`; with one process, the identity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def here() -> tuple[int, int]:
    """(this process's rank, number of ranks); (0, 1) without `torch.distributed`."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def total(values: Tensor) -> Tensor:
    """The sum of ``values`` over all ranks, in a new tensor; every rank must call it with the same shape."""
    if here()[1] == 1:
        return values
    summed = values.clone()
    dist.all_reduce(summed)
    return summed


def averaged(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The mean of every tensor over all ranks, with one all-reduce for each dtype."""
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


def exchanged() -> torch.device:
    """The device that the process group communicates on: the current CUDA device for NCCL, else the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")


def summed(values: Tensor) -> Tensor:
    """The sum of a CPU tensor over all ranks, on the CPU, with any backend of the process group."""
    return values if here()[1] == 1 else total(values.to(exchanged())).cpu()


def largest(values: Tensor) -> Tensor:
    """The maximum of a CPU tensor over all ranks, element by element, on the CPU."""
    if here()[1] == 1:
        return values
    given = values.to(exchanged(), copy=True)
    dist.all_reduce(given, op=dist.ReduceOp.MAX)
    return given.cpu()


def from_first(make: Callable[[], list[Tensor]]) -> list[Tensor]:
    """The list of CPU tensors that ``make()`` returns on rank 0, on every rank; ``make`` runs on rank 0 alone.

    An error of ``make`` is raised on rank 0, and as a RuntimeError on the other ranks.
    """
    rank, world = here()
    if world == 1:
        return make()
    made: list[Tensor] = []
    sent: list[object] = [None]
    failed: Exception | None = None
    if rank == 0:
        try:
            made = make()
            sent = [[(tuple(part.shape), part.dtype) for part in made]]
        except Exception as error:
            failed, sent = error, [f"{type(error).__name__}: {error}"]
    dist.broadcast_object_list(sent, src=0, device=exchanged())
    if failed is not None:
        raise failed
    if isinstance(sent[0], str):
        raise RuntimeError(f"rank 0 failed with {sent[0]}")
    shapes: list[tuple[tuple[int, ...], torch.dtype]] = sent[0]  # type: ignore[assignment]
    result = []
    for number, (shape, dtype) in enumerate(shapes):
        part = (made[number] if rank == 0 else torch.empty(shape, dtype=dtype, device="cpu")).to(exchanged())
        dist.broadcast(part, src=0)
        result.append(part.cpu())
    return result


def gathered(rows: Tensor) -> Tensor:
    """The rows (B, ...) of all ranks, (ranks · B, ...) in their order, with gradients of any order and forward mode.

    A backward pass through it sums over ranks, so that every rank gets its rows' gradient of all ranks' losses, added
    up; `DistributedDataParallel` then makes it a mean. Every rank must call it, with as many rows: ValueError on the
    CPU (on an accelerator a look would wait for it).
    """
    world = here()[1]
    if world == 1:
        return rows
    if rows.device.type == "cpu":
        sizes = [torch.zeros((), dtype=torch.int64, device="cpu") for _ in range(world)]
        dist.all_gather(sizes, torch.tensor(len(rows), device="cpu"))
        if len({int(size) for size in sizes}) > 1:
            raise ValueError(
                f"all ranks must have as many rows, and they have {[int(size) for size in sizes]}; write drop_last=True"
            )
    made: Tensor = _Gathered.apply(rows)
    return made


class _Gathered(torch.autograd.Function):
    """Rows of all ranks. Linear, so its forward-mode derivative is itself; its adjoint is `_OwnPart`, and back."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(here()[1])]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        return _OwnPart.apply(cotangent)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Any:
        return _Gathered.apply(tangent)


class _OwnPart(torch.autograd.Function):
    """This rank's rows of the sum over all ranks."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        rank, world = here()
        return total(rows.contiguous()).tensor_split(world)[rank].clone()

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        return _Gathered.apply(cotangent)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Any:
        return _OwnPart.apply(tangent)
