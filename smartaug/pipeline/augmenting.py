"""The augmenting half of the pipeline: the steps of ``lift=`` and ``augment=``, run on the views of a batch.

All rows are augmented, or some of them beside the others (``Coreset(apply="augment")`` and "append").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .. import _leaves as leaves
from .. import draws
from ..augment import CutMix, MixUp, masks
from ..augment.augmentation import Augmentation, on_cpu
from ..augment.backends.torch.run import OutsideUnit
from ..augment.foreign import Foreign
from ..augment.partly import beside as beside_of
from ..augment.partly import check_fit, plain, plain_foreign, together, widened
from ..augment.plan import Plan, Trace
from .stages import Seed, flattened, in_stage, name_of, refuse_followers

_TIMES = 40  # bits of a dataset index, above which is how often a sample came before
Followers = dict[leaves.Path, str]


class Augmented(NamedTuple):
    """What became of a batch: its views, the plans that ran (of all views), their joint trace."""

    views: list[Tensor]
    plans: list[Plan]
    trace: Trace


@dataclass(frozen=True)
class Samples:
    """Which samples the rows of a batch are, index (B,) int64; streams (B,) int64 and epoch: what draws depend on."""

    index: Tensor
    streams: Tensor
    epoch: int

    def rows(self, chosen: Tensor) -> Samples:
        """Those of the rows ``chosen`` (R,) int64."""
        return Samples(self.index[chosen], self.streams[chosen], self.epoch)


class _Rest(NamedTuple):
    """Samples beside those that are augmented: their views, and what their draws are a function of."""

    views: list[Tensor]
    streams: Tensor


def streams_of(index: Tensor, before: list[int] | None) -> Tensor:
    """What draws are a function of: the sample, and how often it came before in this pass (None: never); (B,) int64."""
    if before is None:
        return index
    return index + (torch.tensor(before, dtype=torch.int64, device="cpu") << _TIMES)


def _mixes(step: object) -> bool:
    """Whether a stage mixes samples, or one inside it does."""
    return isinstance(step, (MixUp, CutMix)) or any(map(_mixes, getattr(step, "augmentations", ())))


class Augmenting:
    """Steps, as `as_steps` gives them, and what is known of how they run.

    lifted: what was taken out of the dataset, which also runs on samples that a coreset leaves alone. seed: of all
    draws. names: of the user's transforms that were lifted.
    """

    def __init__(
        self, steps: Sequence[Augmentation | Foreign], lifted: Sequence[object], seed: Seed, names: Sequence[str] = ()
    ) -> None:
        self.steps, self.seed, self.names = list(steps), seed, tuple(names)
        # what samples that a coreset leaves alone get in place of a step; None: what is plain about it
        self._beside = [beside_of(step, lifted) if lifted else None for step in self.steps]
        self.mixes = any(map(_mixes, self.steps))
        self._choices: dict[int, list[tuple[str, str, str]]] = {}  # step -> (segment, backend, why), of the first batch

    def all_rows(
        self,
        views: list[Tensor],
        samples: Samples,
        followers: Followers,
        moving: dict[leaves.Path, Tensor],
    ) -> Augmented:
        """Augment every row of the views; the masks in ``moving`` are replaced by what becomes of them.

        followers: what no step may move away from.
        """
        made, _ = self._run(views, samples, followers, moving, None, 0)
        return made

    def some_rows(
        self,
        views: list[Tensor],
        samples: Samples,
        followers: Followers,
        rows: Tensor,
        *,
        appends: bool,
    ) -> tuple[Augmented, Tensor]:
        """Augment the ``rows`` (s,) alone, in place of the plain samples or, where it ``appends``, below all of them.

        Appended copies are view 1 of their samples (after all views, where there are several). Also the sample of each
        row of the result.
        """
        batch = len(samples.index)
        others = torch.arange(batch, device="cpu")
        taken = torch.cat([others, rows]) if appends else others
        if not appends:
            kept = torch.ones(batch, dtype=torch.bool, device="cpu")
            kept[rows] = False
            others = kept.nonzero()[:, 0]
        place = torch.arange(batch, len(taken), device="cpu") if appends else rows
        picked, left = (
            [view.index_select(0, part.to(view.device, non_blocking=True)) for view in views] for part in (rows, others)
        )
        rest, first = _Rest(left, samples.streams[others]), len(views) if appends else 0
        made, passed = self._run(picked, samples.rows(rows), followers, {}, rest, first)
        views = [together(*pair, place, others) for pair in zip(made.views, passed, strict=True)]
        wide = [widened(plan, place, len(taken)) for plan in made.plans]
        trace = Trace.empty(len(taken))
        for plan in wide:
            trace = trace.then(plan.trace)
        return Augmented(views, wide, trace), taken

    def _run(
        self,
        views: list[Tensor],
        samples: Samples,
        followers: Followers,
        moving: dict[leaves.Path, Tensor],
        rest: _Rest | None,
        first: int,
    ) -> tuple[Augmented, list[Tensor]]:
        """Run all steps on every view, and on the ``rest`` what was lifted out of the dataset; else it passes plain.

        first: the number of the first view, of which draws are a function.
        """
        plans: list[Plan] = []
        index, streams, epoch = samples.index, samples.streams, samples.epoch
        trace = Trace.empty(len(index))
        if not self.steps:
            return Augmented(views, plans, trace), [] if rest is None else rest.views
        seed = self.seed()
        done, passed = [], []
        for number, images in enumerate(views):
            key = draws.key(seed, epoch, streams, first + number)
            beside = None if rest is None else rest.views[number]
            beside_key = None if rest is None else draws.key(seed, epoch, rest.streams, number)
            for position, step in enumerate(self.steps):
                own = self._own(key, position)
                try:
                    if isinstance(step, Foreign):
                        if step.moves_pixels:
                            refuse_followers(step.name, {**followers, **dict.fromkeys(moving, "a mask")})
                        images = step(images, own) if len(images) or beside is None else images
                        if beside is not None and beside_key is not None:
                            beside = self._foreign_beside(position, beside, self._own(beside_key, position))
                            check_fit(step.name, images, beside)
                        continue
                    plan = self._planned(position, images, own, followers)
                    images = step.apply(images, plan)
                    if plan.moves_pixels:
                        moving.update({path: masks.follow(plan, mask) for path, mask in moving.items()})
                    if beside is not None and beside_key is not None:
                        other_key = self._own(beside_key, position)
                        beside = self._planned_beside(position, plan, beside, other_key, followers)
                except Exception as error:
                    told = self._where_lifted(error)
                    raise in_stage(told, f"augment stage {name_of(step)}", index, images) from error
                plans.append(plan)
                trace = trace.then(plan.trace)
            done.append(images)
            passed += [] if beside is None else [beside]
        if len(done) > 1 and any(plan.mixes for plan in plans):
            raise ValueError(
                "MixUp and CutMix give every view its own labels, and the batch has one target for "
                f"{len(done)} views; leave them out, or name one view: inputs=0"
            )
        return Augmented(done, plans, trace), passed

    def _where_lifted(self, error: Exception) -> Exception:
        """``error``, with advice that is of use where a transform was lifted."""
        if not (isinstance(error, OutsideUnit) and self.names):
            return error
        return ValueError(
            f"{error.found}; lift=True runs {', '.join(self.names)} on the batch, so let the dataset give uint8 images "
            "or floats in [0, 1], with a fill= in the same units, or write lift=False"
        )

    def _own(self, key: Tensor, position: int) -> Tensor:
        """The stream of a step: a single augmentation draws what aug(images, index=..., epoch=..., seed=...) would."""
        return key if len(self.steps) == 1 else draws.fold(key, position)

    def _planned(self, position: int, images: Tensor, key: Tensor, followers: Followers) -> Plan:
        """The plan of a step; which backends run the first is remembered."""
        step = self.steps[position]
        assert isinstance(step, Augmentation)
        with on_cpu():
            plan = step.sample(images.shape, key)
        if plan.moves_pixels:
            refuse_followers(type(step).__name__, followers)
        if position not in self._choices:
            chosen = step.explain(plan, images)
            self._choices[position] = [(type(c.segment).__name__, c.backend, c.reason) for c in chosen]
        return plan

    def _foreign_beside(self, position: int, images: Tensor, key: Tensor) -> Tensor:
        """Samples beside those that a foreign step augments."""
        step, other = self.steps[position], self._beside[position]
        assert isinstance(step, Foreign)
        if not isinstance(other, Foreign):
            return plain_foreign(step, images, key)
        return other(images, key) if len(images) else images

    def _planned_beside(self, position: int, plan: Plan, images: Tensor, key: Tensor, followers: Followers) -> Tensor:
        """Samples beside those that a step augments by ``plan``."""
        step, other = self.steps[position], self._beside[position]
        assert isinstance(step, Augmentation)
        if not isinstance(other, Augmentation):
            return step.apply(images, plain(plan, len(images)))
        if not len(images):
            return images
        with on_cpu():
            own = other.sample(images.shape, key)
        if own.moves_pixels:
            refuse_followers(type(step).__name__, followers)
        return other.apply(images, own)

    def explain(self, device: str) -> list[tuple[str, str, str]]:
        """Rows of the table of stages: every step, where it runs, why; below a plan's stages its segments."""
        rows = []
        for position, step in enumerate(self.steps):
            if isinstance(step, Foreign):
                rows.append((f"augment: {step.name}", device, "no plan for it: as it is, in a forked RNG"))
                continue
            for part in flattened([step]):
                rows.append((f"augment: {name_of(part)}", device, "one plan for neighbouring stages"))
            for segment, backend, why in self._choices.get(position, [("segments", "", "chosen at the first batch")]):
                rows.append((f"    {segment}", backend, why))
        return rows
