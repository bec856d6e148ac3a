"""`lift` of transforms and datasets; a lifted dataset is a shallow copy whose transform is the part that stays."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from functools import partial

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, Subset

from .._base.original import SOURCE
from ..warnings import NoEffectWarning, warn
from . import registry
from .deferred.places import why_no_image
from .deferred.rest import Rest
from .deferred.transform import DeferredTransform
from .holders.copies import COPIES, NotCopied
from .holders.followed import Followed
from .holders.held import Held
from .lifted import Lifted, compiled
from .probe import FirstSample, can_be_read, first, looked_into, second_image
from .roles import OTHER_SIZE
from .slots import NAMED, is_usual, no_slot, slot, slot_called
from .source import Source, check_transforms, transforms_of
from .steps import State, Transform, UserDataset
from .watch import Watch

_MARK = "_smartaug_lifted"  # attribute of a lifted copy: its `Lifted`
_OWN = (_MARK, SOURCE, NAMED, COPIES, "__getitems__")  # attributes that a copy has and the user's dataset does not


def lift(transform_or_dataset: Transform | UserDataset, *, size: tuple[int, int] | None = None) -> Lifted:
    """Split an existing pipeline into a part that stays per sample and a part that runs on the batch, drawn per sample.

    * `transform_or_dataset`: a torchvision v1 or v2 transform or ``Compose``, a list of transforms, ``nn.Sequential``,
      an albumentations ``Compose``, the result of timm's ``create_transform``, a timm string
      ("rand-m9-mstd0.5-inc1"), a Kornia ``AugmentationSequential``; or a dataset (also inside ``Subset`` and
      ``ConcatDataset``) that keeps one of these in its attribute ``transform`` or ``transforms``, in an attribute of
      another name, or in an object or a function of yours that it calls (`holders`); a dataset of Hugging Face whose
      function of ``with_transform`` calls one. Of several it is the one that is called for the first sample.
    * `size`: (height, width) in pixels of the pipeline's input images, if all have the same; crops and resizes can be
      lifted only then. It is found automatically for torchvision's datasets that keep their images in one array.

    A transform that is not known, or whose output size differs between samples, stays, with everything before it.
    Lifting a lifted dataset again returns what was lifted before. Where a dataset has no pipeline that
    can be split, a `NoEffectWarning` says why. Raises TypeError for anything that is neither a
    transform nor a dataset. How to write a translator for another library:
    ``help(sys.modules["smartaug.lift.steps"])``.

    >>> lifted = smartaug.lift(T.Compose([T.RandomHorizontalFlip(), T.ToTensor(), T.Normalize(0.5, 0.5)]))
    >>> images = torch.stack([lifted.head(picture) for picture in pictures])     # uint8
    >>> images = lifted.augment(images, index=index, epoch=0, seed=0)            # flipped, normalised floats
    >>> print(lifted.explain())
    """
    given = transform_or_dataset
    if _is_dataset(given):
        lifted = lift_dataset(given, size)
        if not lifted.steps:  # else the table of `Lifted.explain` says why
            warn(f"smartaug.lift lifted nothing: {lifted.note or 'the pipeline has no transforms'}", NoEffectWarning)
        return lifted
    if isinstance(given, str):
        given = registry.module("timm").from_string(given)
    if not (callable(given) or registry.parts(given) is not None):
        one = (
            f"one of them: lift(datasets[{next(iter(given))!r}])"
            if isinstance(given, dict) and given
            else "lift(dataset)"
        )
        raise TypeError(
            f"lift takes a transform or a dataset, got {type(given).__name__}; write {one} or lift(dataset.transform)"
        )
    return compiled(given, State(size=size))


def taken_out(dataset: UserDataset) -> Lifted | None:
    """The `Lifted` of ``dataset`` or of a dataset inside it; None: neither is a lifted copy."""
    own = getattr(dataset, "__dict__", {}).get(_MARK)
    inner = (taken_out(part) for part in _inside(dataset)) if own is None else iter((own,))
    return next((found for found in inner if found is not None), None)


class SourceDatasets:
    """The user's datasets behind the copies that a loader reads from; see `source`."""

    def __init__(self, dataset: UserDataset) -> None:
        self.dataset = dataset
        copies = [copied for copied in self._copies() if isinstance(copied.__dict__[SOURCE], Source)]
        self.transforms = [(copied, transforms_of(copied)) for copied in copies]

    def refresh(self) -> None:
        """Copy newly assigned attributes from the user's datasets; RuntimeError if a lifted transform has changed."""
        for copied in self._copies():
            copied.__dict__[SOURCE].refresh(copied)
        for copied, taken in self.transforms:
            check_transforms(copied, taken)

    def renew(self) -> None:
        """As `refresh`, for each batch of a pass: finds only a transform that was replaced, not one that changed."""
        for copied in self._copies():
            copied.__dict__[SOURCE].renew(copied)

    def _copies(self) -> list[UserDataset]:
        waiting, found = [self.dataset], []
        while waiting:
            copied = waiting.pop()
            waiting += _inside(copied)
            own = getattr(copied, "__dict__", {})
            waiting += own.get(COPIES, ())
            if isinstance(own.get(SOURCE), Followed):
                found.append(copied)
        return found


def _is_dataset(given: object) -> bool:
    indexed = hasattr(given, "__getitem__") and not callable(given) and not isinstance(given, (list, tuple, str, dict))
    return isinstance(given, Dataset) or indexed


def _inside(dataset: UserDataset) -> list[UserDataset]:
    kind = type(dataset)
    if isinstance(dataset, Subset) and kind.__getitem__ is Subset.__getitem__:
        return [dataset.dataset] if kind.__getitems__ is Subset.__getitems__ else []
    if isinstance(dataset, ConcatDataset) and kind.__getitem__ is ConcatDataset.__getitem__:
        return list(dataset.datasets)
    return []  # a subclass with its own __getitem__ is treated as a single dataset


def _nothing(dataset: UserDataset, note: str) -> Lifted:
    return Lifted(None, None, (), dataset, note)


def lift_dataset(dataset: UserDataset, size: tuple[int, int] | None = None) -> Lifted:
    """`lift` of a dataset, without its warning."""
    marked = getattr(dataset, "__dict__", {}).get(_MARK)
    if marked is not None:
        return dataclasses.replace(marked, dataset=dataset)
    inner = _inside(dataset)
    if inner:
        return _lifted_chain(dataset, inner, size)
    refused = getattr(dataset, "why_not_lifted", None)
    if isinstance(refused, str):
        return _nothing(dataset, refused)
    found = slot_called(dataset, first if can_be_read(dataset) else None)
    if found is None:
        return _nothing(dataset, no_slot(dataset))
    held, transform = found
    lifted = _compiled_for(dataset, held, transform, state_of(held.owner(dataset), size))
    if lifted.augment is None:
        return dataclasses.replace(lifted, dataset=dataset)
    try:
        copied = with_transform(dataset, held, lifted.head)
    except NotCopied as error:
        return _must_stay(dataset, held, str(error))
    copied.__dict__[SOURCE] = Source(dataset, {*_OWN, *held.own(dataset)}, lifted, held)
    return _marked(copied, lifted)


def _compiled_for(dataset: UserDataset, held: Held, transform: Transform, state: State) -> Lifted:
    """``transform`` split for the samples of ``dataset``, by the images and targets of the first sample."""
    lifted = compiled(transform, state)
    # torchvision's datasets call it once per sample and return the result
    known = _calls_once(dataset) and held.only == "transform"
    if not can_be_read(dataset) or (known and not any(step.tensors for step in lifted.steps)):
        lifted = lifted if known else compiled(transform, dataclasses.replace(state, targets=True))
        return dataclasses.replace(lifted, uint8=True if state.uint8 else None)
    sample = looked_into(dataset, held, partial(with_transform, dataset, held), transform, Watch(lifted))
    if sample.hinders is not None:
        lifted = compiled(transform, dataclasses.replace(state, targets=True))
        return lifted if lifted.augment is None else _must_stay(dataset, held, sample.hinders)
    kind = state.kind or (sample.kind if sample.kind in ("pil", "image", "tensor") else None)
    state = dataclasses.replace(state, kind=kind, targets=sample.has_targets)
    lifted = compiled(transform, state)
    try:
        images = sample.images_through(lifted.head)
        if any(map(registry.loses_targets, lifted.steps)) and _has_masks(sample, images):
            lifted = compiled(transform, dataclasses.replace(state, targets=True))
            images = sample.images_through(lifted.head)
    except Exception as error:  # the user's transforms may raise anything on an input they do not expect
        why = f"its first sample cannot be read through the part that stays ({type(error).__name__}: {error})"
        return _must_stay(dataset, held, why)
    return _for_images(dataset, held, sample, lifted, images)


def _for_images(dataset: UserDataset, held: Held, sample: FirstSample, lifted: Lifted, images: list[Tensor]) -> Lifted:
    """``lifted``, or a split that lifts less, given the ``images`` (C, H, W) that head makes of the first sample."""
    if lifted.augment is None:
        return lifted
    if sample.has_other_sizes and not lifted.only_mirrors:
        return _must_stay(dataset, held, OTHER_SIZE)
    wrong = next((why for image in images if (why := why_no_image(image)) is not None), None)
    if wrong is not None or not images:
        return _must_stay(dataset, held, wrong or "what stays in the worker makes no tensors of its images")
    channels = {image.shape[-3] for image in images}
    if 3 not in channels and lifted.recipe is not None:  # transforms for RGB images only must stay
        fewer = compiled(lifted.recipe.transform, lifted.recipe.state, (len(lifted.stays), images[0].shape[-3]))
        if fewer.augment is None:
            return fewer
        if len(fewer.stays) > len(lifted.stays):
            lifted, images = fewer, sample.images_through(fewer.head)
    hinders = second_image(held.caller(dataset), sample, images, lifted.moves_pixels)
    if hinders is not None:
        return _must_stay(dataset, held, hinders)
    uint8 = all(image.dtype == torch.uint8 for image in images)
    return dataclasses.replace(lifted, uint8=uint8, kind=sample.kind)


def _must_stay(dataset: UserDataset, held: Held, why: str) -> Lifted:
    return _nothing(dataset, f"its {held.name} must stay: {why}")


def _calls_once(dataset: UserDataset) -> bool:
    definer = next((kind for kind in type(dataset).__mro__ if "__getitem__" in vars(kind)), None)
    return definer is not None and definer.__module__.partition(".")[0] == "torchvision"


def _has_masks(sample: FirstSample, images: list[Tensor]) -> bool:
    sizes = {tuple(image.shape[-2:]) for image in images}
    return any(shape[-2:] in sizes for shape in sample.others)


def deferring(dataset: UserDataset) -> UserDataset:
    """A copy of a lifted copy whose transform is a `DeferredTransform`, for a loader with ``lift=True``."""
    inner = _inside(dataset)
    if inner:
        done = {id(part): deferring(part) for part in inner}
        made = [done[id(part)] for part in inner]
        return dataset if all(a is b for a, b in zip(made, inner, strict=True)) else _around(dataset, made)
    lifted = getattr(dataset, "__dict__", {}).get(_MARK)
    found = slot(dataset)
    if lifted is None or found is None or isinstance(found[1], DeferredTransform):
        return dataset
    deferred = DeferredTransform.of(
        lifted.head,
        lifted.recipe.transform,
        lifted.kind,
        rest=Rest.of(lifted),
        tail=lifted.tail,
        any_size=lifted.only_mirrors,
        final_kind=lifted.final_kind,
    )
    deferred.watch = Watch(lifted)
    return with_transform(dataset, found[0], deferred)


def _around(dataset: UserDataset, inner: list[UserDataset]) -> UserDataset:
    """A copy of a `Subset` or `ConcatDataset` that holds the datasets ``inner`` instead."""
    outer = copy.copy(dataset)
    name = "dataset" if isinstance(outer, Subset) else "datasets"
    setattr(outer, name, inner[0] if name == "dataset" else inner)
    outer.__dict__.setdefault(SOURCE, Source(dataset, {*_OWN, name}))
    return outer


def _lifted_chain(dataset: UserDataset, inner: list[UserDataset], size: tuple[int, int] | None) -> Lifted:
    """`lift` of a `Subset` or `ConcatDataset`: a copy that holds lifted copies of the datasets inside."""
    done: dict[int, Lifted] = {}
    for part in inner:  # an object that occurs twice is copied once
        if id(part) not in done:
            done[id(part)] = lift_dataset(part, size)
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
    outer = _around(dataset, [one.dataset for one in every])
    return _marked(outer, dataclasses.replace(first, uint8=next(iter(types), None)))


def _signature(lifted: Lifted) -> list[tuple[object, ...]]:
    """Equal for two pipelines that do the same on the device: the same transform objects, on images of equal state."""
    lifted_steps = [step for step in lifted.steps if step.where != "worker"]
    return [(id(step.original), step.before.size, step.after.scale, step.after.dtype) for step in lifted_steps]


def _marked(dataset: UserDataset, lifted: Lifted) -> Lifted:
    lifted = dataclasses.replace(lifted, dataset=None)
    dataset.__dict__[_MARK] = lifted
    return dataclasses.replace(lifted, dataset=dataset)


def with_transform(dataset: UserDataset, held: Held, transform: Transform) -> UserDataset:
    """A shallow copy of ``dataset``, and of what holds its pipeline, with ``transform`` in the place of that."""
    copied = held.put(dataset, transform)
    if not is_usual(dataset, held):
        copied.__dict__[NAMED] = held
    return copied


def state_of(dataset: UserDataset, size: tuple[int, int] | None) -> State:
    """The `State` of the images that a dataset passes to its transform, without reading one.

    torchvision's own datasets that keep all images in one array (CIFAR, MNIST, SVHN, STL10, ...) pass PIL images
    of that size, and so does an `AugmentedDataset` of one of them. For all others only ``size`` is known.
    """
    feeds = inspect.getattr_static(dataset, "feeds_transform", None)
    if isinstance(feeds, property):
        inner = dataset.feeds_transform
        while isinstance(inner, Subset) and _inside(inner):
            inner = inner.dataset
        return State(size=size) if slot(inner) is not None else state_of(inner, size)
    data = getattr(dataset, "data", None)
    getter = getattr(type(dataset), "__getitem__", None)
    own = (getattr(getter, "__module__", None) or "").startswith("torchvision.")
    shape = tuple(getattr(data, "shape", ()))
    if not own or len(shape) not in (3, 4) or str(getattr(data, "dtype", "")).removeprefix("torch.") != "uint8":
        return State(size=size)
    if len(shape) == 3:
        known = shape[1:]
    else:
        known = shape[1:3] if shape[3] in (1, 3, 4) else shape[2:]
    grey = 1 if len(shape) == 3 else None
    return State(size=(int(known[0]), int(known[1])), channels=grey, kind="pil", uint8=True)
