"""The labels that a dataset keeps beside its samples, and how many classes it has.

They are read without loading a sample: from `targets`, `labels` or `tensors`, through subsets and joined datasets.
What is not known to be the label that reaches the loss is None.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence, Sized

import numpy as np
import torch
from torch import Tensor

from .leaves import Targets


def label_column(dataset: object, target: Targets = None) -> Tensor | None:
    """Integer labels (n,) that the dataset itself keeps: ``targets``, ``labels``, or one of its ``tensors``.

    target: as for `DataLoader`; a position names one of the tensors, None is the second of two. None as well where it
    is not known that they reach the loss: several tensors, a ``target_transform``, a callable.
    """
    if getattr(dataset, "target_transform", None) is not None:
        return None
    tensors = getattr(dataset, "tensors", None)
    labels = getattr(dataset, "targets", getattr(dataset, "labels", None))
    if labels is None and isinstance(tensors, (tuple, list)):
        labels = _tensor_named(tensors, target)
    if isinstance(labels, (list, tuple)) and all(isinstance(label, numbers.Integral) for label in labels):
        labels = torch.tensor(labels, dtype=torch.int64, device="cpu")
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "iu":
        labels = torch.as_tensor(labels)
    if isinstance(labels, Tensor) and labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    usable = isinstance(labels, Tensor) and labels.ndim == 1 and labels.numel() and not labels.is_floating_point()
    return labels if usable else None


def _tensor_named(tensors: Sequence[object], target: Targets) -> object:
    if isinstance(target, int) and -len(tensors) <= target < len(tensors):
        return tensors[target]
    return tensors[1] if target is None and len(tensors) == 2 else None


def labels_of(dataset: object, target: Targets = None) -> Tensor | None:
    """Integer labels (n,) int64 of all samples in their order, through subsets, joined sets and wrappers; else None.

    target: as for `label_column`.
    """
    size = len(dataset) if hasattr(dataset, "__len__") else None
    own = label_column(dataset, target)
    if own is not None and len(own) == size:
        return own.to("cpu", torch.int64)
    if getattr(dataset, "target_transform", None) is not None:
        return None
    parts, inner = getattr(dataset, "datasets", None), getattr(dataset, "dataset", None)
    if isinstance(dataset, torch.utils.data.ConcatDataset):
        found = [labels_of(part, target) for part in parts or ()]
        known = [part for part in found if part is not None]
        return torch.cat(known) if len(known) == len(found) and known else None
    if inner is None:
        return None
    labels = labels_of(inner, target)
    if labels is None:
        return None
    indices = getattr(dataset, "indices", None)
    if indices is not None and len(indices) == size:
        return labels[torch.as_tensor(indices, dtype=torch.int64, device="cpu")]
    return labels if len(labels) == size else None


def classes_of(dataset: object, target: Targets = None) -> int | None:
    """How many classes a dataset says it has (``classes``, ``num_classes``, label tensors), looking through subsets.

    target: which of its tensors are the labels, as for `DataLoader`.
    """
    for _ in range(8):
        classes, number = getattr(dataset, "classes", None), getattr(dataset, "num_classes", None)
        if isinstance(classes, Sized) and not isinstance(classes, (str, bytes)):
            return len(classes) or None
        if isinstance(number, int):
            return number
        labels = label_column(dataset, target)
        if labels is not None:
            return int(labels.max()) + 1 or None
        dataset = getattr(dataset, "dataset", None)
    return None
