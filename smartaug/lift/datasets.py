"""`lift` on transforms and on datasets: a shallow copy whose transform is only the part that stays."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from functools import partial
from typing import Any

from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset

from . import registry
from .lifted import Lifted, compiled
from .probe import first, has_masks, kind_given, looked
from .steps import State

_MARK = "_smartaug_lifted"  # on a copy: what was taken out of it


def lift(transform_or_dataset: Any, *, size: tuple[int, int] | None = None) -> Lifted:
    """Compile an existing pipeline into what stays per sample and what runs batched, drawn per sample.

    transform_or_dataset: a torchvision v1 or v2 transform or ``Compose``, a list of transforms, ``nn.Sequential``, an
    albumentations ``Compose``, the result of timm's ``create_transform``, a timm string ("rand-m9-mstd0.5-inc1"), a
    Kornia ``AugmentationSequential``; or a dataset that keeps one of these in its attribute ``transform`` or
    ``transforms`` (also inside ``Subset`` and ``ConcatDataset``). size: (height, width) in pixels of the images that
    the pipeline is given, where all have the same; crops and resizes can be lifted only then. Datasets that keep their
    images in one array know it themselves.

    A transform that is not known, or that makes images of unequal size, stays, with everything before it. Lifting a
    lifted dataset gives what was lifted before. Raises TypeError for anything else.

    >>> lifted = smartaug.lift(T.Compose([T.RandomHorizontalFlip(), T.ToTensor(), T.Normalize(0.5, 0.5)]))
    >>> images = torch.stack([lifted.head(picture) for picture in pictures])     # uint8
    >>> images = lifted.augment(images, index=index, epoch=0, seed=0)            # flipped, normalised floats
    >>> print(lifted.explain())
    """
    given = transform_or_dataset
    if _is_dataset(given):
        return _lifted_dataset(given, size)
    if isinstance(given, str):
        given = registry.module("timm").from_string(given)
    if not (callable(given) or registry.parts(given) is not None):
        raise TypeError(
            f"lift takes a transform or a dataset, got {type(given).__name__}; write lift(dataset) or "
            "lift(dataset.transform)"
        )
    return compiled(given, State(size=size))


def taken_out(dataset: Any) -> Lifted | None:
    """What was taken out of ``dataset``, or of one inside it, if it is a lifted copy; None: nothing was."""
    own = getattr(dataset, "__dict__", {}).get(_MARK)
    inner = (taken_out(part) for part in _inside(dataset)) if own is None else iter((own,))
    return next((found for found in inner if found is not None), None)


class Watched:
    """The transforms of data sets as a loader took them over, to notice one that is put in their place later.

    A copy of the loader has copies of the data sets, so it watches nothing.
    """

    _NAMES = ("transform", "transforms", "target_transform")

    def __init__(self, *datasets: Any) -> None:
        self.held: list[tuple[Any, str, Any]] = []
        waiting = list(datasets)
        while waiting:
            owner = waiting.pop()
            inner = _inside(owner)
            waiting += inner
            for name in () if inner else self._NAMES:
                value = inspect.getattr_static(owner, name, self)
                if value is not self and value is getattr(owner, name, self):  # there, and no property
                    self.held.append((owner, name, value))

    def check(self) -> None:
        """Raise RuntimeError where a data set has another transform now."""
        for owner, name, taken in self.held:
            now = getattr(owner, name, None)
            if now is not taken:
                raise RuntimeError(
                    f"{type(owner).__name__}.{name} was {_short(taken)} when lift=True took it over, and is "
                    f"{_short(now)} now, which this loader would not see; make the loader anew: "
                    "smartaug.DataLoader(dataset, ..., lift=True)"
                )

    def __reduce__(self) -> Any:
        return Watched, ()


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def _is_dataset(given: Any) -> bool:
    indexed = hasattr(given, "__getitem__") and not callable(given) and not isinstance(given, (list, tuple, str, dict))
    return isinstance(given, Dataset) or indexed


def _inside(dataset: Any) -> list[Any]:
    kind = type(dataset)
    if isinstance(dataset, Subset) and kind.__getitem__ is Subset.__getitem__:
        return [dataset.dataset] if kind.__getitems__ is Subset.__getitems__ else []
    if isinstance(dataset, ConcatDataset) and kind.__getitem__ is ConcatDataset.__getitem__:
        return list(dataset.datasets)
    return []  # a class that does something of its own with what is inside is a dataset like any other


def _nothing(dataset: Any, note: str) -> Lifted:
    return Lifted(None, None, (), dataset, note)


def _lifted_dataset(dataset: Any, size: tuple[int, int] | None) -> Lifted:
    marked = getattr(dataset, "__dict__", {}).get(_MARK)
    if marked is not None:
        return dataclasses.replace(marked, dataset=dataset)
    inner = _inside(dataset)
    if inner:
        return _lifted_chain(dataset, inner, size)
    refused = getattr(dataset, "why_not_lifted", None)
    if isinstance(refused, str):
        return _nothing(dataset, refused)
    found = slot(dataset)
    if found is None:
        return _nothing(dataset, f"{type(dataset).__name__} keeps no pipeline in an attribute transform or transforms")
    name, transform = found
    try:
        followers = boxes_in(dataset, name)  # where transforms are joint
    except Exception as error:  # the user's __getitem__ with a transform that it does not expect, or a read-only one
        return _nothing(dataset, f"its samples cannot be looked into ({type(error).__name__}: {error})")
    if followers is not None:
        return _nothing(dataset, f"its samples have {followers}, which only the whole pipeline moves with the image")
    state = state_of(dataset, size)
    lifted = compiled(transform, state)
    if any(step.tensors for step in lifted.steps):
        state = dataclasses.replace(state, kind=kind_given(dataset, partial(with_transform, dataset, name)))
        lifted = compiled(transform, state)
    placed = partial(with_transform, dataset, name)
    if any(map(registry.loses_masks, lifted.steps)) and has_masks(dataset, placed, lifted.head):
        state = dataclasses.replace(state, masks=True)
        lifted = compiled(transform, state)
    if lifted.augment is None:
        return dataclasses.replace(lifted, dataset=dataset)
    seen = looked(dataset, placed, lifted.head, lifted.moves_pixels)
    if seen.hinders is None and seen.channels is not None:  # what takes only RGB stays
        fewer = compiled(transform, state, (len(lifted.stays), seen.channels))
        if fewer.augment is None:
            return dataclasses.replace(fewer, dataset=dataset)
        if len(fewer.stays) > len(lifted.stays):
            lifted = fewer
            seen = looked(dataset, placed, lifted.head, lifted.moves_pixels)
    if seen.hinders is not None:
        return _nothing(dataset, f"its {name} must stay: {seen.hinders}")
    alone = name == "transform" and type(getattr(dataset, "transforms", None)).__name__ == "StandardTransform"
    lifted = dataclasses.replace(lifted, follows=not alone, uint8=True if state.uint8 else seen.uint8)
    return _marked(with_transform(dataset, name, lifted.head), lifted)


def _lifted_chain(dataset: Any, inner: list[Any], size: tuple[int, int] | None) -> Lifted:
    """A `Subset` or `ConcatDataset`: a copy around copies."""
    done: dict[int, Lifted] = {}
    for part in inner:  # the same object twice is copied once
        if id(part) not in done:
            done[id(part)] = _lifted_dataset(part, size)
    every = [done[id(part)] for part in inner]
    first = every[0]
    without = next((one for one in every if one.augment is None), None)
    if without is not None:
        return dataclasses.replace(without, augment=None, dataset=dataset)
    if any(_signature(one) != _signature(first) for one in every):
        return _nothing(dataset, "the datasets in it have different pipelines, and a batch mixes them")
    types = {one.uint8 for one in every} - {None}
    if len(types) > 1:
        return _nothing(dataset, "some of the datasets in it have uint8 images, some floats, and a batch mixes them")
    outer = copy.copy(dataset)
    if isinstance(outer, Subset):
        outer.dataset = first.dataset
    else:
        outer.datasets = [one.dataset for one in every]
    return _marked(outer, dataclasses.replace(first, uint8=next(iter(types), None)))


def _signature(lifted: Lifted) -> list[Any]:
    """Two pipelines do the same on the device where their lifted transforms are the same objects for equal images."""
    return [(id(step.original), step.before.size) for step in lifted.steps if step.where != "worker"]


def _marked(dataset: Any, lifted: Lifted) -> Lifted:
    lifted = dataclasses.replace(lifted, dataset=None)
    dataset.__dict__[_MARK] = lifted
    return dataclasses.replace(lifted, dataset=dataset)


def slot(dataset: Any) -> tuple[str, Any] | None:
    """The attribute that holds a dataset's pipeline, and the pipeline; None: there is none."""
    for name in ("transform", "transforms"):
        if inspect.getattr_static(dataset, name, None) is None:
            continue  # an attribute that is passed on from a dataset inside is not this one's to replace
        value = getattr(dataset, name, None)
        if value is not None and (callable(value) or registry.parts(value) is not None):
            return name, value
    return None


def with_transform(dataset: Any, name: str, transform: Any) -> Any:
    """A shallow copy of ``dataset`` with ``transform`` in the attribute ``name``."""
    copied = copy.copy(dataset)
    setattr(copied, name, transform)
    joint = getattr(copied, "transforms", None)
    if name == "transform" and type(joint).__name__ == "StandardTransform":  # torchvision keeps it twice
        copied.transforms = copy.copy(joint)
        copied.transforms.transform = transform
    return copied


def boxes_in(dataset: Any, name: str) -> str | None:
    """What in a sample moves with the image and cannot be lifted, looked for where transforms are joint."""
    if name != "transforms" or isinstance(dataset, IterableDataset):
        return None
    bare = with_transform(dataset, name, lambda *given: given if len(given) > 1 else given[0])
    return _boxes(first(bare)) if len(bare) else None


def _boxes(value: Any) -> str | None:
    if type(value).__name__ in ("BoundingBoxes", "KeyPoints"):
        return "boxes or keypoints"
    if isinstance(value, dict):
        if {"boxes", "bboxes", "bbox", "keypoints"} & {str(key) for key in value}:
            return "boxes or keypoints"
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return next((found for part in value if (found := _boxes(part)) is not None), None)
    return None


def state_of(dataset: Any, size: tuple[int, int] | None) -> State:
    """What is known of the images that a dataset gives its transform.

    torchvision's own datasets that keep all images in one array (CIFAR, MNIST, SVHN, STL10, ...) give PIL images of
    that size; so does what is given to the transform of an `AugmentedDataset` of one. Others may give anything.
    """
    feeds = inspect.getattr_static(dataset, "feeds_transform", None)
    if isinstance(feeds, property):
        inner = dataset.feeds_transform
        while isinstance(inner, Subset) and _inside(inner):
            inner = inner.dataset
        return State(size=size) if slot(inner) is not None else state_of(inner, size)
    data = getattr(dataset, "data", None)
    getter = getattr(type(dataset), "__getitem__", None)
    own = getattr(getter, "__module__", "").startswith("torchvision.")
    shape = tuple(getattr(data, "shape", ()))
    if not own or len(shape) not in (3, 4) or str(getattr(data, "dtype", "")).removeprefix("torch.") != "uint8":
        return State(size=size)
    if len(shape) == 3:
        known = shape[1:]
    else:
        known = shape[1:3] if shape[3] in (1, 3, 4) else shape[2:]
    grey = 1 if len(shape) == 3 else None
    return State(size=(int(known[0]), int(known[1])), channels=grey, kind="pil", uint8=True)
