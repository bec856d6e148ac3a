"""Calling a transform on one sample, with its random generators seeded from a key. It imports no transform library.

| transform | its arguments | the generators that are seeded |
|---|---|---|
| of albumentations | ``image=``, and masks, boxes and keypoints | its own, shared by all its children |
| any other | the image, or the whole sample | torch's, `random`, NumPy's (restored after it) and those that it holds |
"""

from __future__ import annotations

import copy
import inspect
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ... import draws
from ..._base import leaves
from ...augment.foreign import forked_rng
from ...augment.generators import Generators
from ...warnings import NoEffectWarning, warn

ROOTS = ("albumentations", "albumentationsx")
_CPU = torch.device("cpu")
Transform = Any  # a transform of a library that is not imported here
Sample = Any  # the user's own sample, or a part of one
_TARGETS = {"image", "mask", "masks", "bboxes", "keypoints"}


def bound(transform: Callable[..., Sample], joint: bool = False) -> Callable[[Sample, Tensor], Sample]:
    """``transform`` as a function ``(sample, key (1,)) -> sample``. joint: it takes the whole sample, not the image."""
    if is_albumentations(transform):
        return Albumentations(transform)
    return Other(transform, joint)


def is_albumentations(transform: object) -> bool:
    """Whether ``transform`` has the call signature of albumentations: ``transform(image=..., mask=...)``."""
    return _takes_generators(transform) or _is_of_albumentations(transform)


def _takes_generators(transform: object) -> bool:
    """Whether it has albumentations' ``set_random_state(random_generator, py_random)``; MONAI's has other arguments."""
    method = getattr(transform, "set_random_state", None)
    return callable(method) and "py_random" in inspect.signature(method).parameters


def _is_of_albumentations(transform: object) -> bool:
    return any(kind.__module__.partition(".")[0] in ROOTS for kind in type(transform).__mro__)


class Other:
    """A transform of torchvision or MONAI, or any other callable."""

    def __init__(self, transform: Callable[..., Sample], joint: bool) -> None:
        self.transform, self.joint = transform, joint
        self.generators = found_generators(transform)

    def __call__(self, sample: Sample, key: Tensor) -> Sample:
        """The sample after the transform."""
        place: leaves.Path = () if self.joint else image_place(sample)
        own = self.generators.seeded(int(key)) if self.generators else nullcontext()
        with forked_rng(key, _CPU), own:
            return leaves.put(sample, place, self.transform(leaves.get(sample, place)))


class Albumentations:
    """A copy of an albumentations pipeline, or one of its transforms."""

    def __init__(self, transform: Transform) -> None:
        self.transform = copy.deepcopy(transform)
        self.seeds = _takes_generators(transform)
        foreign = [part for part in _parts(self.transform) if not _draws_from_its_own(part)]
        self.forks = not self.seeds or bool(foreign)
        self.generators = found_generators(foreign)
        self.keys = _TARGETS | set(getattr(transform, "available_keys", ()))

    def __call__(self, sample: Sample, key: Tensor) -> Sample:
        """The sample after the pipeline: its image, masks, boxes and keypoints are replaced by the results."""
        word = int(key)
        if self.seeds:
            generator = np.random.Generator(np.random.PCG64(draws.mix(word)))
            self.transform.set_random_state(generator, random.Random(draws.mix(word + 1)))
        places = self._places(sample)
        given = {name: _array(leaves.get(sample, place), name) for name, place in places.items()}
        own = self.generators.seeded(word) if self.generators else nullcontext()
        with forked_rng(key, _CPU) if self.forks else nullcontext(), own:
            made = self.transform(**given)
        for name, place in places.items():
            sample = leaves.put(sample, place, made[name])
        return sample

    def _places(self, sample: Sample) -> dict[str, leaves.Path]:
        """The pipeline's keyword arguments -> their paths in the sample.

        Raises ValueError where a tuple has several parts that may be the mask.
        """
        image = image_place(sample)
        if isinstance(sample, Mapping):
            others = {name: (name,) for name in sample if name in self.keys and sample[name] is not None}
            return {**others, "image": image}
        if not isinstance(sample, (tuple, list)):
            return {"image": image}
        size = _size(sample[0])
        masks = [place for place in range(1, len(sample)) if _size(sample[place]) == size]
        if len(masks) > 1:
            raise ValueError(
                f"the sample's parts {', '.join(map(str, masks))} all have the image's height and width; let the "
                'dataset give a dict that says what they are: {"image": ..., "mask": ..., "masks": [...]}'
            )
        return {"image": image, "mask": (masks[0],)} if masks else {"image": image}


def found_generators(transform: object) -> Generators:
    """The generators that ``transform`` holds. Warns about those whose state cannot be set, by name."""
    generators = Generators(transform)
    if generators.unreached:
        warn(
            f"AugmentedDataset cannot set the state of {', '.join(generators.unreached)}, so a seed has no effect on "
            "what is drawn from it; draw from random, NumPy, torch or a generator of theirs",
            NoEffectWarning,
        )
    return generators


def image_place(sample: object) -> leaves.Path:
    """The path of the image: the sample itself, its first part, or the value of a key such as "image".

    Raises TypeError for a dict without such a key.
    """
    if isinstance(sample, Mapping):
        for name in leaves.INPUT_NAMES:
            if name in sample:
                return (name,)
        raise TypeError(
            f"no image found in a sample with the keys {', '.join(map(repr, sample))}; call it "
            f"{', '.join(leaves.INPUT_NAMES)}, or pass a transform of the whole sample with joint=True"
        )
    return (0,) if isinstance(sample, (tuple, list)) else ()


def _array(value: Sample, name: str) -> Sample:
    """A PIL image as an array (H, W) or (H, W, C); arrays and lists (of masks or boxes) unchanged.

    Raises TypeError for tensors.
    """
    if isinstance(value, Tensor):
        raise TypeError(
            f"albumentations takes {name} as a NumPy array (H, W, C), got a tensor {tuple(value.shape)}; write "
            "image.permute(1, 2, 0).numpy() in the dataset"
        )
    return np.asarray(value) if hasattr(value, "__array_interface__") else value


def _size(value: Sample) -> tuple[int, ...] | None:
    """Height and width of an array or a PIL image; None for anything else."""
    if isinstance(value, np.ndarray) or not hasattr(value, "getbands"):
        return value.shape[:2] if isinstance(value, np.ndarray) and value.ndim >= 2 else None
    return value.height, value.width


def _parts(transform: Transform) -> Iterator[Transform]:
    """The transforms of a pipeline, nested pipelines resolved."""
    inner = getattr(transform, "transforms", None)
    if isinstance(inner, (list, tuple)) and not hasattr(transform, "apply"):  # ColorJitter's `transforms` are functions
        for part in inner:
            yield from _parts(part)
    else:
        yield transform


def _draws_from_its_own(transform: object) -> bool:
    """Whether it draws only from its own generators: albumentations' own transforms do, except Lambda."""
    return type(transform).__module__.partition(".")[0] in ROOTS and type(transform).__name__ != "Lambda"
