"""Lifted transforms on batches whose samples have boxes, keypoints or images in lists.

What: images of one size are stacked, the lifted stages run on them, their plans move the targets, and every sample is
put back into the user's batch as the user's pipeline would have returned it. It runs before all other stages, which see
such a batch as if nothing had been lifted. When: ``lift=True`` on pipelines for (image, boxes). Cost: the plans; images
of unequal size run in groups of one size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data._utils.collate import collate_tensor_fn

from ... import draws
from ..._base import leaves
from ..._base.background import Turn, allowed
from ...augment.foreign import Foreign
from ...augment.steps import keyed, run_step
from ...lift import Lifted
from ...lift.deferred.collecting import Unfinished
from ...lift.deferred.given import Whole
from ...lift.joint import Joint, JointSample
from ..augmenting.augmenting import Samples
from ..settings import Settings
from ..stages import Seed, as_steps, in_stage, name_of
from .beside import Beside, beside, check_moved_before, check_whole, given_masks

_LIFTED = 0x11F7  # any constant: separates these streams from those of the stages that follow


class _Batch(NamedTuple):
    """One batch. number: (n,) the dataset indices of its samples, key: (n,) of their draws; finished: the samples.

    beside: what lies in the images and the transform was not given; None: it is not known.
    """

    joint: Joint
    number: Tensor
    key: Tensor
    finished: list[leaves.Structure]
    beside: Beside | None


class LiftedJoint:
    """Runs the lifted stages of ``lifted`` on batches with a `Joint`. settings: the loader's; seed: of all draws."""

    def __init__(self, lifted: Lifted, settings: Settings, seed: Seed) -> None:
        self.lifted, self.settings, self.seed = lifted, settings, seed
        self.steps = as_steps(lifted.augment)
        self._seen: dict[object, bool] = {}  # what `find_followers` saw in earlier batches

    def run(
        self,
        data: leaves.Structure,
        joint: Joint,
        samples: Samples,
        device: torch.device | None,
        whole: Sequence[Whole] = (),
    ) -> leaves.Structure:
        """The batch ``data``, its images on ``device`` and finished, and their targets moved with them.

        samples: of all rows. whole: those that are not in ``joint`` and got their whole pipeline.
        """
        samples = samples.rows(torch.tensor(joint.rows, dtype=torch.int64, device="cpu"))
        images: Sequence[Tensor]
        images = leaves.get(data, joint.images[0]) if joint.stacked else [leaves.get(data, p) for p in joint.images]
        self.lifted.check([images] if isinstance(images, Tensor) else images)
        key = draws.fold(draws.key(self.seed(), samples.epoch, samples.streams, 0), _LIFTED)
        others = beside(data, joint, self.settings, device, self._seen)
        if others is not None:
            check_moved_before(self.lifted, self.settings, others.data, joint.length, others.known)
        if others is not None and not others.listed:
            check_whole(self.lifted, self.settings, data, joint.length, whole, others.known)
        batch = _Batch(joint, samples.index, key, [None] * len(joint.samples), others)
        made: list[Tensor] = []
        for rows in _of_one_size(images):
            stack = images if len(rows) == len(images) and isinstance(images, Tensor) else _stacked(images, rows)
            with allowed(Turn()):
                made.append(self._group(stack.to(device, non_blocking=True), rows, batch))
        if joint.stacked:
            data = leaves.put(data, joint.images[0], made[0])
        data = _put_back(data, joint, batch.finished)
        return data if others is None else others.put(data)

    def check(
        self, data: leaves.Structure, index: list[int] | None, unfinished: Unfinished | None, whole: Sequence[Whole]
    ) -> None:
        """Of a batch without a `Joint`: see `check_moved_before` and `check_whole`."""
        check_whole(self.lifted, self.settings, data, None if index is None else len(index), whole)
        if unfinished is not None and len(unfinished.images) > 0:
            rows = len(leaves.get(data, unfinished.images[0]))
            known = given_masks(data, unfinished, rows)
            check_moved_before(self.lifted, self.settings, data, rows, known)

    def _group(self, images: Tensor, rows: list[int], batch: _Batch) -> Tensor:
        """The finished images (R, C, H, W) of the samples ``rows``, which are put into the ``batch``."""
        joint = batch.joint
        index = torch.tensor(rows, dtype=torch.int64, device="cpu")
        size = (images.shape[2], images.shape[3])
        following = self.lifted.following([joint.samples[row] for row in rows], size, images.device)
        places = torch.tensor(joint.rows, dtype=torch.int64, device="cpu")[index]
        others = batch.beside
        moving = None if others is None else others.of(places, size)
        for step, own in keyed(self.steps, batch.key[index]):
            try:
                given = images
                images, plan = run_step(step, images, own)
                if plan is not None:
                    following.follow(plan)
                    if others is not None and moving is not None:
                        others.follow(name_of(step), plan, moving)
                elif isinstance(step, Foreign) and step.moves_pixels:
                    _refuse_foreign(step, [joint.samples[row] for row in rows], others)
            except Exception as error:
                raise in_stage(error, f"lifted transform {name_of(step)}", batch.number[index], given) from error
        typed = [joint.samples[row].typed(image) for row, image in zip(rows, images, strict=True)]
        for row, whole in zip(rows, following.finished(typed), strict=True):
            batch.finished[row] = whole
        return images


def _refuse_foreign(step: Foreign, samples: Sequence[JointSample], others: Beside | None) -> None:
    """Raise a ValueError where something lies in the images of ``samples``, which ``step`` moves without a plan."""
    if any(sample.places for sample in samples):
        raise ValueError(
            f"{step.name} may move pixels, and without a plan it is not known where it moves boxes and masks; write "
            "lift=False"
        )
    if others is not None:
        others.refuse(step)


def _of_one_size(images: Tensor | Sequence[Tensor]) -> list[list[int]]:
    """The rows of the images, those of one shape and type together."""
    if isinstance(images, Tensor):
        return [list(range(len(images)))]
    groups: dict[tuple[object, ...], list[int]] = {}
    for row, image in enumerate(images):
        groups.setdefault((image.shape, image.dtype), []).append(row)
    return list(groups.values())


def _stacked(images: Sequence[Tensor], rows: Sequence[int]) -> Tensor:
    return torch.stack([images[row].as_subclass(Tensor) for row in rows])


def _put_back(data: leaves.Structure, joint: Joint, finished: Sequence[leaves.Structure]) -> leaves.Structure:
    """``data`` with the parts of the ``finished`` samples in the places of the user's batch."""
    stacks: dict[leaves.Path, list[Tensor]] = {path: [] for path in joint.stacks}
    for row, (sample, whole) in enumerate(zip(joint.samples, finished, strict=True)):
        if not joint.stacked:
            data = leaves.put(data, joint.images[row], leaves.get(whole, sample.image))
        for inside, path in sample.places:
            value = leaves.get(whole, inside)
            if path in stacks:
                stacks[path].append(value)
            else:
                data = leaves.put(data, path, value)
    for path, values in stacks.items():
        data = leaves.put(data, path, collate_tensor_fn(values))
    return data
