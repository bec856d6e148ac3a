"""A dataset whose samples go through another transform, such as that of evaluation."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch.utils.data import ConcatDataset, Dataset, Subset


def through(dataset: Dataset, transform: Callable[..., Any]) -> Dataset:
    """A shallow copy of ``dataset`` with ``transform`` in its attribute ``transform``, or else ``transforms``.

    Inside `Subset` and `ConcatDataset` it is that of the datasets in them; the user's objects are not changed. Raises
    TypeError for a dataset with neither attribute, saying what to write.
    """
    if not callable(transform):
        raise TypeError(
            f"transform must be the transform of evaluation, a callable, got {type(transform).__name__}; write "
            "split_validation(dataset, 0.1, transform=evaluation_transform)"
        )
    if type(dataset) is Subset:
        return Subset(through(dataset.dataset, transform), dataset.indices)
    if type(dataset) is ConcatDataset:
        return ConcatDataset([through(part, transform) for part in dataset.datasets])
    name = next((name for name in ("transform", "transforms") if name in getattr(dataset, "__dict__", {})), None)
    if name is None:
        raise TypeError(
            f"{type(dataset).__name__} has no attribute transform or transforms, in whose place transform= could come; "
            "leave it out, and give the reweighter the same samples of a dataset that does not augment: "
            "Subset(evaluation_set, validation.indices)"
        )
    copied: Any = copy.copy(dataset)
    setattr(copied, name, transform)
    pair = getattr(copied, "transforms", None)
    if name == "transform" and type(pair).__name__ == "StandardTransform":  # torchvision keeps it a second time
        copied.transforms = copy.copy(pair)
        copied.transforms.transform = transform
    return copied
