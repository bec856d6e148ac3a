"""The class labels of a data set, where it keeps them in a column: no sample is loaded."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def label_column(dataset: Any) -> Tensor | None:
    """Integer labels (n,) that the data set itself keeps: ``targets``, ``labels``, or the last of its ``tensors``."""
    tensors = getattr(dataset, "tensors", None)
    labels = getattr(dataset, "targets", getattr(dataset, "labels", tensors[-1] if tensors else None))
    if isinstance(labels, (list, tuple)) and all(isinstance(label, int) for label in labels):
        labels = torch.tensor(labels, dtype=torch.int64, device="cpu")
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "iu":
        labels = torch.as_tensor(labels)
    usable = isinstance(labels, Tensor) and labels.ndim == 1 and labels.numel() and not labels.is_floating_point()
    return labels if usable else None


def labels_of(dataset: Any) -> Tensor | None:
    """Integer labels (n,) int64 of all samples in their order, through subsets, joined sets and wrappers; else None."""
    size = len(dataset) if hasattr(dataset, "__len__") else None
    own = label_column(dataset)
    if own is not None and len(own) == size:
        return own.to("cpu", torch.int64)
    parts, inner = getattr(dataset, "datasets", None), getattr(dataset, "dataset", None)
    if isinstance(dataset, torch.utils.data.ConcatDataset):
        found = [labels_of(part) for part in parts or ()]
        known = [part for part in found if part is not None]
        return torch.cat(known) if len(known) == len(found) and known else None
    if inner is None:
        return None
    labels = labels_of(inner)
    if labels is None:
        return None
    indices = getattr(dataset, "indices", None)
    if indices is not None and len(indices) == size:
        return labels[torch.as_tensor(indices, dtype=torch.int64, device="cpu")]
    return labels if len(labels) == size else None
