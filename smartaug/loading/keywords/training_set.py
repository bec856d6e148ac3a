"""The dataset that a loader reads: tables as a `TableDataset`, and validation samples that are trained on as well.

``train_on_val=k`` of a reweighter makes the training set a `Generated` of the validation samples, k times, and of the
user's own samples, which alone are weighed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from ..._base import leaves
from ..._base.table_dataset import as_dataset, reading_of
from ...lift.probe import first
from ...pipeline.settings import Settings
from ..generated import Generated

Indexed = Any  # the user's dataset
Sample = Any  # the user's own sample


class TrainedOn(Generated):
    """Validation samples beside the training set. judge: of the reweighter that asked for it."""

    judge: object = None


def training_set(dataset: Indexed, given: Settings, sampler: object, batch_sampler: object) -> tuple[Indexed, Settings]:
    """The dataset to load from, and the settings with ``inputs`` and ``target`` as it states them.

    Raises TypeError or ValueError for a table without labels, and where validation samples cannot be trained on.
    """
    dataset = as_dataset(dataset)
    settings = given.reading_as(reading_of(dataset))
    judge = getattr(given.reweight, "judge", None)
    if not getattr(judge, "repeats", 0) or getattr(dataset, "judge", None) is judge:  # or: a loader built again from it
        return dataset, settings
    assert judge is not None
    if sampler is not None or batch_sampler is not None:
        raise ValueError(
            "train_on_val= adds samples to the training set, which the indices of sampler= and batch_sampler= do not "
            "reach; write shuffle=True instead, or make the set yourself, together = smartaug.Generated(validation, "
            "training, repeat=5), with a sampler over it, such as together.sampler(0.5), and leave train_on_val= out"
        )
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise ValueError("train_on_val= needs a training set with indices and a length; leave it out for a stream")
    made = TrainedOn(_alike(judge.samples_for(dataset), dataset), dataset, repeat=judge.repeats)
    made.judge = judge
    return made, settings


def refuse_without_dataset(reweight: object, owner: str) -> None:
    """Raise a ValueError where ``train_on_val=`` cannot add to a dataset, since ``owner`` has none."""
    if getattr(reweight, "train_on_val", 0):
        raise ValueError(
            f"train_on_val= adds to the dataset of a smartaug.DataLoader, and {owner} has none; load batches from "
            "smartaug.Generated(validation, training, repeat=5), and leave train_on_val= out"
        )


class _Alike(Dataset):
    """Samples of ``inner`` whose numbers are tensors, or Python's, where those of ``pattern`` are."""

    def __init__(self, inner: Indexed, pattern: Sample) -> None:
        self.inner, self.pattern = inner, pattern

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Sample:
        return _as_in(self.inner[index], self.pattern)


def _alike(own: Indexed, dataset: Indexed) -> Indexed:
    """``own``, its samples in the form of those of ``dataset``; ValueError where they have other parts."""
    if not len(dataset):
        return own
    wanted, found = first(dataset), first(own)
    forms = [[(path, *_form(leaf)) for path, leaf in leaves.walk(sample)] for sample in (wanted, found)]
    if [(path, ndim) for path, ndim, _ in forms[0]] != [(path, ndim) for path, ndim, _ in forms[1]]:
        raise ValueError(
            f"train_on_val= puts val_set's samples beside those of the training set, which are "
            f"{leaves.describe(wanted)}, and val_set's are {leaves.describe(found)}; give both the same form and "
            "transforms, or leave it out"
        )
    return own if forms[0] == forms[1] else _Alike(own, wanted)


def _form(leaf: object) -> tuple[int, bool]:
    """Number of dimensions, and whether a leaf is a tensor."""
    return getattr(leaf, "ndim", 0), isinstance(leaf, Tensor)


def _as_in(sample: Sample, pattern: Sample) -> Sample:
    for path, wanted in leaves.walk(pattern):
        leaf = leaves.get(sample, path)
        if isinstance(wanted, Tensor) and not isinstance(leaf, Tensor):
            sample = leaves.put(sample, path, torch.as_tensor(leaf, dtype=wanted.dtype))
        elif not isinstance(wanted, Tensor) and isinstance(leaf, Tensor) and leaf.ndim == 0:
            sample = leaves.put(sample, path, type(wanted)(leaf.item()))
    return sample
