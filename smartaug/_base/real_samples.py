"""Which samples of a dataset are real, so that a reweighter leaves them at weight 1 with their own labels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset


def real_samples(dataset: object) -> Tensor | None:
    """(n,) bool: the samples that count as real, by the dataset's attribute ``is_real``; None where none has it.

    Looks into `Subset`, `ConcatDataset` and wrappers of as many samples; of a `ConcatDataset`, the parts that do not
    say are not real.
    """
    own = getattr(dataset, "is_real", None)
    if isinstance(own, Tensor):
        return own
    if isinstance(dataset, Subset):
        inner = real_samples(dataset.dataset)
        return None if inner is None else inner[torch.as_tensor(dataset.indices, dtype=torch.int64)]
    if isinstance(dataset, ConcatDataset):
        parts = [real_samples(part) for part in dataset.datasets]
        if all(part is None for part in parts):
            return None
        lengths = [len(part) for part in dataset.datasets]  # type: ignore[arg-type]
        known = [torch.zeros(n, dtype=torch.bool) if p is None else p for p, n in zip(parts, lengths, strict=True)]
        return torch.cat(known)
    inner = getattr(dataset, "__dict__", {}).get("dataset")  # of a wrapper, such as `AugmentedDataset`
    return real_samples(inner) if hasattr(inner, "__len__") and len(inner) == len(dataset) else None  # type: ignore[arg-type]
