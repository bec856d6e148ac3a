"""A dataset whose samples go through another transform, such as that of evaluation."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch.utils.data import ConcatDataset, Dataset, Subset

_BEFORE = "_smartaug_before"  # attribute of such a copy: the dataset with its own transform


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
    if vars(copied) is vars(dataset):
        raise TypeError(
            f"{type(dataset).__name__} cannot be copied, since copy.copy of it gives the object itself (a singleton), "
            "or one that shares its attributes; leave transform= out, and give the reweighter the same samples of a "
            "dataset that does not augment: Subset(evaluation_set, validation.indices)"
        )
    copied.__dict__[_BEFORE] = dataset
    setattr(copied, name, transform)
    pair = getattr(copied, "transforms", None)
    if name == "transform" and type(pair).__name__ == "StandardTransform":  # torchvision keeps it a second time
        copied.transforms = copy.copy(pair)
        copied.transforms.transform = transform
    return copied


def as_in(training: Any, judging: Any) -> Any:
    """``judging``, with its samples through the transform of ``training`` where both are of one dataset.

    So it undoes `through`, inside `Subset` and `ConcatDataset`, for the datasets that ``training`` holds.
    """
    held = {id(part) for part in _inside(training)}

    def undone(dataset: Any) -> Any:
        if type(dataset) is Subset:
            inner = undone(dataset.dataset)
            return dataset if inner is dataset.dataset else Subset(inner, dataset.indices)
        if type(dataset) is ConcatDataset:
            parts = [undone(part) for part in dataset.datasets]
            same = all(one is other for one, other in zip(parts, dataset.datasets, strict=True))
            return dataset if same else ConcatDataset(parts)
        before = getattr(dataset, "__dict__", {}).get(_BEFORE)
        return before if id(before) in held else dataset

    return undone(judging)


def _inside(dataset: Any) -> list[Any]:
    """The datasets that hold the samples of ``dataset``, through `Subset` and `ConcatDataset`."""
    if isinstance(dataset, Subset):
        return _inside(dataset.dataset)
    if isinstance(dataset, ConcatDataset):
        return [found for part in dataset.datasets for found in _inside(part)]
    return [dataset]
