"""`Lifted`: a pipeline in two parts, one that runs per sample in the workers, one that runs batched on the device."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import draws
from .._base import leaves
from .._base.text_tables import words_table
from ..augment import Augmentation, Compose, Normalize
from ..augment.augmentation import Batched
from ..augment.foreign import Foreign
from ..augment.labels import mix_labels
from ..augment.steps import keyed, run_step
from . import registry
from .joint import Following, JointSample, NoTargets
from .steps import UNIT, State, Step, Transform, UserDataset, shown, worker
from .worker_transform import AsTensor, WorkerTransform

_MIRRORS = ("RandomHorizontalFlip", "RandomVerticalFlip", "HorizontalFlip", "VerticalFlip")
_ANY_SIZE = (32, 32)  # of images whose size is not known
_RANDOM_PLACES = {  # names of transforms that move pixels by a draw, lifted or not
    *("RandomHorizontalFlip", "RandomVerticalFlip", "RandomCrop", "RandomResizedCrop", "RandomRotation"),
    *("RandomAffine", "RandomPerspective", "ElasticTransform", "RandomIoUCrop", "RandomZoomOut", "ScaleJitter"),
    *("RandomShortestSize", "RandomResize", "HorizontalFlip", "VerticalFlip", "Transpose", "RandomRotate90"),
    *("D4", "SquareSymmetry", "RandomSizedCrop", "RandomSizedBBoxSafeCrop", "RandomScale"),
    *("BBoxSafeRandomCrop", "RandomCropNearBBox", "RandomCropFromBorders", "RandomGridShuffle", "Affine"),
    *("ShiftScaleRotate", "Rotate", "SafeRotate", "Perspective", "GridDistortion", "GridElasticDeform"),
    *("OpticalDistortion", "ThinPlateSpline", "RandomResizedCropAndInterpolation", "RandomCropOrPad"),
}
_MOVED_ON = "a later transform moves boxes and masks on"
_MANY = 256  # samples drawn to find out whether a random policy contains geometric operations


class Stages(Batched):
    """Augmentations and foreign stages in order, callable like one augmentation.

    Used where a foreign stage rules out a single plan. Consecutive augmentations are composed into one plan, as a
    loader does it, so that both draw the same random numbers.
    """

    def __init__(self, stages: Sequence[Augmentation | Foreign]) -> None:
        parts: list[Any] = []
        for planned, group in groupby(stages, lambda stage: isinstance(stage, Augmentation)):
            members: list[Any] = list(group)
            parts += [Compose(members)] if planned and len(members) > 1 else members
        self.stages = tuple(parts)

    def _keyed(
        self, images: Tensor, target: Tensor | None, key: Tensor, index: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        for stage, own in keyed(self.stages, key):
            images, plan = run_step(stage, images, own)
            if target is not None and plan is not None:
                target = mix_labels(target, plan, num_classes=stage.num_classes, index=index)
        return images, target

    def __iter__(self) -> Iterator[Augmentation | Foreign]:
        return iter(self.stages)

    def __len__(self) -> int:
        return len(self.stages)

    def __repr__(self) -> str:
        return f"Stages({', '.join(map(repr, self.stages))})"


class Recipe(NamedTuple):
    """The arguments of `compiled`."""

    transform: Transform
    state: State
    seen: tuple[int, int] | None


@dataclass(frozen=True)
class Lifted:
    """A pipeline in two halves: ``augment(collated head(sample))`` has the distribution of the pipeline.

    head: the part that stays per sample, in the user's order, called as the pipeline is; its image output is a tensor
    (C, H, W). augment: the part that runs batched, for ``DataLoader(augment=...)`` or called on images (B, C, H, W);
    None: nothing was lifted. steps: one record per transform. dataset: if a dataset was lifted, a shallow copy of it
    whose transform is head; the original is unchanged. note: why nothing of a dataset was lifted. uint8: whether head's
    images are uint8 (True) or floats (False), from the dataset's first sample; None: unknown. recipe: the arguments it
    was compiled from. kind: of the pipeline's input image in that sample, see `roles.kind_of`; None: any. tail: lifted
    transforms that change only boxes, keypoints and their labels, which run on each sample when its targets have moved.
    """

    head: Transform
    augment: Augmentation | Stages | None
    steps: tuple[Step, ...] = ()
    dataset: UserDataset = None
    note: str = ""
    uint8: bool | None = None
    recipe: Recipe | None = None
    kind: str | None = None
    tail: tuple[Transform, ...] = ()

    @property
    def stays(self) -> tuple[Transform, ...]:
        """The user's transforms that stay in the worker; empty: the worker only converts the image to a tensor."""
        return tuple(step.original for step in self.steps if step.where == "worker")

    @property
    def reason(self) -> str:
        """Why not all was lifted: the last transform that stays and its reason; else `note`, which may be empty."""
        for step in reversed(self.steps):
            if step.where == "worker":
                return f"{step.name} stays in the worker: {step.why}"
        return self.note

    def check(self, views: Sequence[Tensor]) -> None:
        """Raise TypeError for views of floats where head makes uint8: values in [0, 255] would be taken for [0, 1]."""
        came = next((view.dtype for view in views if view.is_floating_point()), None)
        if self.uint8 and came is not None:
            raise TypeError(
                f"the transform that lift=True took out of the dataset left uint8 images there, and a batch of "
                f"{str(came)[6:]} came: a sample did not go through it (an image made in an except clause?), and "
                "collating made all of the batch floats; let the dataset return uint8 images of 0..255 there, as in "
                "torch.zeros(shape, dtype=torch.uint8), or put them through the transform, or write lift=False"
            )

    def moves_pixels(self, shape: Sequence[int]) -> bool:
        """Whether ``augment`` may move pixels of images (C, H, W) of ``shape``; masks must then move, too."""
        stages: Sequence[Any] = self.augment.stages if isinstance(self.augment, Stages) else [self.augment]
        key = draws.key(0, 0, torch.arange(_MANY, device="cpu"))
        return any(
            stage.moves_pixels if isinstance(stage, Foreign) else stage.sample((_MANY, *shape), key).moves_pixels
            for stage in stages
            if stage is not None
        )

    @property
    def moves_before(self) -> str | None:
        """The name of a transform that stays in the worker and moves pixels by a draw; None: none is known to."""
        return next((step.name for step in self.steps if step.where == "worker" and _draws_places(step.original)), None)

    @property
    def final_kind(self) -> str | None:
        """What the whole pipeline makes of images, see `State`; None: it is not known."""
        return self.steps[-1].after.kind if self.steps else None

    @property
    def only_mirrors(self) -> bool:
        """Whether all lifted transforms that move pixels mirror images, with which masks of any size can move."""
        kept = max((number + 1 for number, step in enumerate(self.steps) if step.where == "worker"), default=0)
        moving = [step for step in self.steps[kept:] if step.where == "device" and _moves(step)]
        return all(step.name in _MIRRORS for step in moving)

    def box_formats(self) -> dict[leaves.Path, str]:
        """Where in what the pipeline returns there are plain boxes of a known format, and the word of ``follow=``."""
        transform = None if self.recipe is None else self.recipe.transform
        state = getattr(registry.library_of(transform), "box_formats", None)
        return {} if state is None else dict(state(transform))

    def following(
        self, samples: Sequence[JointSample], size: tuple[int, int], device: torch.device | None = None
    ) -> Following:
        """What moves the targets of ``samples`` as the plans of their images of ``size`` (height, width) move those.

        device: of the masks; boxes and keypoints stay where they are, since plans lie on the CPU.
        """
        assert self.recipe is not None
        make = getattr(registry.library_of(self.recipe.transform), "following", None)
        if make is None or all(len(sample.places) == 0 for sample in samples):
            return NoTargets(samples)
        made: Following = make(self, samples, size, device)
        return made

    def explain(self) -> str:
        """A table of the transforms, where each runs, and why; without transforms one line with the reason."""
        if not self.steps:
            return f"nothing is lifted: {self.note or 'the pipeline has no transforms'}"
        rows = [("transform", "runs", "why"), *((shown(step.original), step.where, step.why) for step in self.steps)]
        return words_table(rows)


def compiled(transform: Transform, state: State, seen: tuple[int, int] | None = None) -> Lifted:
    """``transform`` in two parts, for input images of ``state``; seen: (position, channels of the images before it)."""
    recipe = Recipe(transform, state, seen)
    steps = _translated(transform, state, seen)
    moved_on = _tails_before_moves(steps)
    if moved_on:
        steps = _translated(transform, state, seen, moved_on)
    cut = max((number + 1 for number, step in enumerate(steps) if step.where == "worker"), default=0)
    steps = [_before_the_cut(step, steps[cut - 1]) for step in steps[:cut]] + steps[cut:]
    stages = _stages(steps[cut:])
    if not stages:
        return Lifted(transform, None, tuple(steps), recipe=recipe)
    tail = tuple(step.original for step in steps[cut:] if step.tail)
    kept = [step.original for step in steps[:cut]] + [step.rest for step in steps[cut:] if step.rest is not None]
    only = next((step.name for step in steps[cut:] if step.tensors), None)
    head = worker_part(transform, kept, AsTensor(only))
    augment = Compose(stages) if all(isinstance(stage, Augmentation) for stage in stages) else Stages(stages)
    return Lifted(head, augment, tuple(steps), recipe=recipe, tail=tail)


def _translated(
    transform: Transform, state: State, seen: tuple[int, int] | None, stay: frozenset[int] = frozenset()
) -> list[Step]:
    """One step for each transform, in order; those at the positions ``stay`` stay in the worker."""
    steps, now = [], state
    for position, single in enumerate(registry.flat(transform)):
        if seen is not None and position == seen[0]:
            now = dataclasses.replace(now, channels=seen[1])
        step = worker(single, now, _MOVED_ON) if position in stay else registry.translate(single, now)
        steps.append(step)
        now = step.after
    return steps


def _tails_before_moves(steps: Sequence[Step]) -> frozenset[int]:
    """The positions of steps for the end of the pipeline behind which a lifted step moves the targets on."""
    last = max((number for number, step in enumerate(steps) if step.before.targets and _moves(step)), default=-1)
    return frozenset(number for number, step in enumerate(steps[: max(last, 0)]) if step.tail)


def _draws_places(transform: object) -> bool:
    if getattr(transform, "p", 1) == 0:
        return False
    inside = getattr(transform, "transforms", ())
    return type(transform).__name__ in _RANDOM_PLACES or (
        isinstance(inside, (list, tuple)) and any(map(_draws_places, inside))
    )


def _moves(step: Step) -> bool:
    """Whether a lifted step may move pixels."""
    if not isinstance(step.stage, Augmentation):
        return isinstance(step.stage, Foreign) and step.stage.moves_pixels
    shape = (1, step.before.channels or 3, *(step.before.size or _ANY_SIZE))
    return step.stage.sample(shape, torch.zeros(1, dtype=torch.int64, device="cpu")).moves_pixels


def worker_part(transform: Transform, kept: Sequence[Transform], last: AsTensor) -> Transform:
    """The transforms ``kept`` of ``transform`` and then ``last`` on the image, called as ``transform`` is."""
    make = getattr(registry.library_of(transform), "head", None)
    return WorkerTransform(kept, last) if make is None else make(transform, kept, last)


def _before_the_cut(step: Step, last: Step) -> Step:
    """The record of a transform that stays because a later one, ``last``, does."""
    if step.where == "worker":
        return step
    return dataclasses.replace(step, where="worker", stage=None, why=f"comes before {last.name}, which stays")


def _stages(steps: Sequence[Step]) -> list[Any]:
    """What runs on the device: the stages, with the conversion before the first that needs it, or at the end."""
    stages: list[Any] = []
    for step in steps:
        if step.stage is None:
            continue
        if step.floats and step.before.scale is not None:
            stages.append(_store(step.before))
        stages += _singles(step.stage)
    if steps and steps[-1].after.scale is not None:
        stages.append(_store(steps[-1].after))
    return stages


def _singles(stage: Augmentation | Foreign) -> list[Any]:
    """A stage without the `Compose` around it."""
    return [one for part in stage for one in _singles(part)] if isinstance(stage, Compose) else [stage]


def _store(state: State) -> Normalize:
    mean, std = state.scale or UNIT
    return Normalize(mean, std, dtype=state.dtype)
