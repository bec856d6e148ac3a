"""``with loader.plain()``: passes over the whole dataset of a loader, not augmented and not counted as epochs.

Each pass uses a separate torch loader over the same dataset: all samples in the dataset's order. It draws from none of
the user's generators and changes neither the running pass nor the state. Under a DistributedSampler, each rank gets
its share.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, IterableDataset, Sampler

from .._base.torch_fetch import DrawnAt, carrying
from ..pipeline.epochs import EpochProgress
from ..pipeline.pipeline import Pipeline
from .samplers.coreset import CoresetSampler, Share

Structure = Any  # the user's own batch


class _PlainKeys(Sampler):
    """A sampler whose index lists, or single indices, carry the instruction to the workers not to augment."""

    def __init__(self, sampler: range | Share | BatchSampler, epoch: int, seed: int) -> None:
        self.sampler, self._drawn = sampler, DrawnAt(0, epoch, seed, plain=True)

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[object]:
        for keys in self.sampler:
            yield carrying(keys, self._drawn)


def plain_batches(loader: DataLoader, preparing: Pipeline, epoch: int) -> Iterator[Structure]:
    """One plain pass: the batches of ``loader``'s dataset after the stages of ``preparing``."""
    progress = EpochProgress(epoch, 0)
    for pending in DataLoader(
        loader.dataset,
        **_batching(loader, epoch),
        num_workers=loader.num_workers,
        prefetch_factor=loader.prefetch_factor,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=torch.Generator(),
    ):
        yield preparing.run(pending.data, pending.source.index, progress, unfinished=pending.unfinished)


def plain_length(loader: DataLoader) -> int:
    """The number of batches of a plain pass."""
    if isinstance(loader.dataset, IterableDataset):
        return math.ceil(len(loader.dataset) / (batch_size_of(loader) or 1))  # type: ignore[arg-type]
    samples = len(_indices(loader))
    size = batch_size_of(loader)
    return samples if size is None else math.ceil(samples / size)


def batch_size_of(loader: DataLoader) -> int | None:
    """Samples per batch; None for single samples. Raises ValueError where the batch sampler has no ``batch_size``."""
    if loader.batch_size is not None or loader.batch_sampler is None:
        return loader.batch_size
    size = getattr(loader.batch_sampler, "batch_size", None)
    if not isinstance(size, int):
        raise ValueError(
            "a plain pass reads the whole dataset in batches, and the batch_sampler does not say their size; give it "
            "an attribute batch_size"
        )
    return size


def _batching(loader: DataLoader, epoch: int) -> dict[str, Any]:
    """The arguments of torch's loader that set the order of the samples and the size of the batches."""
    size = batch_size_of(loader)
    if isinstance(loader.dataset, IterableDataset):
        return {"batch_size": size}
    indices = _indices(loader)
    if size is None:
        return {"batch_size": None, "sampler": _PlainKeys(indices, epoch, 0)}
    return {"batch_sampler": _PlainKeys(BatchSampler(indices, size, False), epoch, 0)}


def _indices(loader: DataLoader) -> range | Share:
    """All indices in ascending order, or this rank's share where the loader's sampler divides them among ranks."""
    every = range(len(loader.dataset))  # type: ignore[arg-type]
    sampler = loader.sampler
    if isinstance(sampler, CoresetSampler):
        part = sampler.part()
        return every if part.world == 1 else Share(every, part.rank, part.world)
    if isinstance(sampler, DistributedSampler):
        return Share(every, sampler.rank, sampler.num_replicas)
    return every
