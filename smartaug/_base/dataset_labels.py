"""The labels that a dataset stores, and its number of classes, read without loading a sample.

Labels come from the attributes `targets`, `labels` or `tensors`, also of the datasets inside `Subset` and
`ConcatDataset`. The answer is None wherever they may differ from the labels that reach the loss.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence, Sized

import numpy as np
import torch
from torch import Tensor

from .leaves import Targets


def label_column(dataset: object, target: Targets = None) -> Tensor | None:
    """Integer labels (n,) of the dataset itself, from ``targets``, ``labels``, or one of its ``tensors``; else None.

    target: as for `DataLoader`; a position picks one of ``tensors``, None the second of two. Returns None, too, where
    the labels may differ from those that reach the loss: a ``target_transform``, other tensors, a callable.
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
    """Labels (n,) int64 on the CPU of all samples in order, also of `Subset`, `ConcatDataset`, wrappers; or None.

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
    indices = getattr(dataset, "indices", None) if _chooses(dataset) else None
    if indices is not None and len(indices) == size:
        return labels[torch.as_tensor(indices, dtype=torch.int64, device="cpu")]
    return labels if len(labels) == size else None


def _chooses(dataset: object) -> bool:
    """Whether ``dataset.indices``, if there are any, are of ``dataset.dataset``.

    They are not where a wrapper has ``dataset`` itself and passes other attributes on: then they are those of the
    `Subset` that it wraps.
    """
    return _has_itself(dataset, "indices") or not _has_itself(dataset, "dataset")


def _has_itself(dataset: object, name: str) -> bool:
    return name in getattr(dataset, "__dict__", {}) or hasattr(type(dataset), name)


def classes_of(dataset: object, target: Targets = None) -> int | None:
    """Number of classes of a dataset, from ``classes``, ``num_classes`` or its labels, also through subsets; or None.

    target: as for `label_column`.
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
