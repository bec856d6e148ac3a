"""The augmenting half of the pipeline: the steps of ``lift=`` and ``augment=``, run on the views of a batch.

All rows are augmented, or only those that a coreset selects (``Coreset(apply="augment")`` and "append").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ... import draws
from ..._base.background import Turn, allowed
from ...augment import Normalize
from ...augment.augmentation import Augmentation
from ...augment.backends.torch.run import OutsideUnit
from ...augment.foreign import Foreign
from ...augment.ops.compose import Several
from ...augment.partly import beside as beside_of
from ...augment.partly import check_fit, plain, plain_foreign, together, widened
from ...augment.plan import Plan, Trace
from ...augment.steps import keyed, refuse_other_than_rows, run_step
from ..following.moving import Moving, MovingTogether
from ..following.places import Places
from ..stages import Seed, Stage, flattened, in_stage, name_of
from .result_rows import ResultRows
from .tables import Tables
from .unequal import Ways, made_equal

_TIMES = 40  # low bits of a stream number: the dataset index; above them, how often the sample occurred before


class Augmented(NamedTuple):
    """An augmented batch: its views (each B, ...), the plans that ran on all views, and their joint trace."""

    views: list[Tensor]
    plans: list[Plan]
    trace: Trace


@dataclass(frozen=True)
class Samples:
    """The samples of a batch's rows: dataset index (B,) int64; streams (B,) int64 and epoch determine the draws.

    labels: (B, ...), for steps that read them; None where they are unknown.
    """

    index: Tensor
    streams: Tensor
    epoch: int
    labels: Tensor | None = None

    def rows(self, chosen: Tensor) -> Samples:
        """The samples of the rows ``chosen`` (R,) int64."""
        labels = None if self.labels is None else self.labels[chosen.to(self.labels.device)]
        return Samples(self.index[chosen], self.streams[chosen], self.epoch, labels)


class _Rest(NamedTuple):
    """The samples that are not augmented: their views, the streams (R,) int64 of their draws, what moves with them."""

    views: list[Tensor]
    streams: Tensor
    moving: Moving


@dataclass
class _Beside:
    """One view of the samples that are not augmented: their images so far, and the keys (R,) of their draws.

    moving: what moves with them; None: it moves with another view.
    """

    images: Tensor
    key: Tensor
    moving: Moving | None


def streams_of(index: Tensor, before: list[int] | None) -> Tensor:
    """(B,) int64 streams of draws: the sample, and how often it occurred before in the pass (None: never)."""
    if before is None:
        return index
    return index + (torch.tensor(before, dtype=torch.int64, device="cpu") << _TIMES)


def _any(step: object, name: str) -> bool:
    """Whether a stage, or one inside it, has the attribute ``name``, and it is True."""
    return getattr(step, name, False) or any(_any(part, name) for part in getattr(step, "augmentations", ()))


def _of_any(steps: Sequence[object]) -> dict[str, bool]:
    """What any of the steps does: ``mixes``, ``reads_labels``, ``averages``."""
    return {name: any(_any(step, name) for step in steps) for name in ("mixes", "reads_labels", "averages")}


class Augmenting:
    """Runs steps, as `as_steps` returns them, on the views of a batch.

    lifted: stages taken out of the dataset, which also run on samples that a coreset does not select. seed: of all
    draws. names: of the user's transforms that were lifted, for errors.
    """

    def __init__(
        self, steps: Sequence[Augmentation | Foreign], lifted: Sequence[object], seed: Seed, names: Sequence[str] = ()
    ) -> None:
        self.steps, self.seed, self.names = list(steps), seed, tuple(names)
        # for samples that a coreset does not select, the stage in place of each step; None: see `_bring`
        self._beside = [beside_of(step, lifted) if lifted else None for step in self.steps]
        does = _of_any(self.steps)
        self.mixes, self.reads_labels, self.averages = does["mixes"], does["reads_labels"], does["averages"]
        self.draws = any(not isinstance(part, Normalize) for part in flattened(self.steps))  # anything at random
        self._choices: dict[int, list[tuple[str, str, str]]] = {}  # step -> (segment, backend, why), of the first batch
        self._turn = Turn()  # of the batch that runs now
        self._early: set[int] = set()  # steps whose `_choices` are those of such a batch
        self.by_torch = 0  # batches that torch ran while numba was compiled in the background
        self.unequal = Ways()  # of images of several sizes

    def __setstate__(self, state: dict[str, Any]) -> None:
        lacking = {**_of_any(state["steps"]), "unequal": Ways()}  # pickles of earlier versions
        self.__dict__.update({**lacking, **state})

    def all_rows(
        self, views: list[Tensor], samples: Samples, places: Places, moving: Moving, *, shared: bool
    ) -> Augmented:
        """Augment every row of the views; what is in ``moving`` moves with them.

        places: leaves that no step may move pixels under. shared: all views use the draws of the first.
        """
        made, _ = self._run(views, samples, places, moving, None, 0, shared)
        return made

    def unequal_rows(
        self, images: list[Tensor], samples: Samples, places: Places, moving: MovingTogether, timed: str | None
    ) -> Augmented:
        """As `all_rows`, of images (C, H, W) of several sizes, which the first step makes equal: one view.

        timed: by which backend that is to be, as timed; None: see `backends.unequal.choose`.
        """
        key = draws.key(self.seed(), samples.epoch, samples.streams, 0)
        first, own = keyed(self.steps, key)[0]
        assert isinstance(first, Augmentation)
        self._turn = Turn()
        with allowed(self._turn):
            try:
                whole, plan, given = made_equal(first, images, own, samples.index, places, moving, timed)
            except Exception as error:
                shown = self._where_lifted(error)
                raise in_stage(shown, f"augment stage {name_of(first)}", samples.index, images) from error
            self._note(0, plan, given)
            tables = Tables([whole], samples.labels, shared=False)
            made, plans = self._view(whole, key, samples.index, places, moving, None, {}, tables, 0, done=[plan])
        self.by_torch += self._turn.meanwhile
        if self._turn.meanwhile:
            self.unequal.trial.spoilt()
        return Augmented([made], plans, joint(plans, len(samples.index)))

    def some_rows(
        self,
        views: list[Tensor],
        samples: Samples,
        places: Places,
        rows: ResultRows,
        follows: Callable[[Tensor, Tensor], Moving],
        *,
        shared: bool,
    ) -> Augmented:
        """Make the ``rows`` of a batch's views, of which some are augmented.

        follows: what moves with the images of rows (R,) int64, which become those rows (R,) int64 of the result.
        """
        place, others = rows.augmented.nonzero()[:, 0], (~rows.augmented).nonzero()[:, 0]
        chosen, passing = rows.source[place], rows.source[others]
        picked, left = (
            [view.index_select(0, part.to(view.device, non_blocking=True)) for view in views]
            for part in (chosen, passing)
        )
        rest = _Rest(left, samples.streams[passing], follows(passing, others))
        first = rows.view[place] * (1 if shared else len(views))
        made, passed = self._run(picked, samples.rows(chosen), places, follows(chosen, place), rest, first, shared)
        views = [together(*pair, place, others) for pair in zip(made.views, passed, strict=True)]
        wide = [widened(plan, place, len(rows.source)) for plan in made.plans]
        return Augmented(views, wide, joint(wide, len(rows.source)))

    def _run(
        self,
        views: list[Tensor],
        samples: Samples,
        places: Places,
        moving: Moving,
        rest: _Rest | None,
        first: Tensor | int,
        shared: bool,
    ) -> tuple[Augmented, list[Tensor]]:
        """Run all steps on every view; on the ``rest`` only lifted stages, and the plain part of all others.

        first: number of the first view, of all rows or of each (B,), which is part of the key of its draws.
        """
        if not self.steps:
            return Augmented(views, [], Trace.empty(len(samples.index))), [] if rest is None else rest.views
        seed, plans, known = self.seed(), list[Plan](), dict[int, Plan]()
        done, passed = [], []
        tables = Tables(views, samples.labels, shared=shared)
        self._turn = Turn()
        for number, images in enumerate(views):
            view = 0 if shared else number
            key = _keys(seed, samples, first + view)
            beside, again = None, shared and number > 0
            if rest is not None:
                own_key = draws.key(seed, samples.epoch, rest.streams, view)
                beside = _Beside(rest.views[number], own_key, None if again else rest.moving)
            alike = tables.joined or images.shape == views[0].shape
            drawn_before = known if not number or (again and alike) else {}
            moved = None if again else moving
            with allowed(self._turn):
                made, own = self._view(images, key, samples.index, places, moved, beside, drawn_before, tables, number)
            if again:
                _check_same_labels(plans, own)
            else:
                plans += own
            done.append(made)
            passed += [] if beside is None else [beside.images]
        self.by_torch += self._turn.meanwhile
        if self._turn.meanwhile:
            self.unequal.trial.spoilt()
        if len(done) > 1 and not shared and any(plan.mixes for plan in plans):
            raise ValueError(
                "MixUp and CutMix give every view its own labels, and the batch has one target for "
                f"{len(done)} views; leave them out, or name one view: inputs=0, or let all share a draw: views='same'"
            )
        return Augmented(done, plans, joint(plans, len(samples.index))), passed

    def _view(
        self,
        images: Tensor,
        key: Tensor,
        index: Tensor,
        places: Places,
        moving: Moving | MovingTogether | None,
        beside: _Beside | None,
        known: dict[int, Plan],
        tables: Tables,
        number: int,
        done: Sequence[Plan] = (),
    ) -> tuple[Tensor, list[Plan]]:
        """View ``number`` after all steps, and their plans; updates ``beside`` and ``moving``.

        known: step -> its plan, where another view has drawn it already; the others are added. done: plans of the first
        steps, which have run.
        """
        plans, start = list(done), images.data_ptr()  # of the user's memory, where batches are views of it
        other_keys = [None] * len(self.steps) if beside is None else [own for _, own in keyed(self.steps, beside.key)]
        for position, (step, own) in enumerate(keyed(self.steps, key)):
            if position < len(done):
                continue
            given = images
            try:
                if images.ndim != 4 and isinstance(step, Augmentation):
                    refuse_other_than_rows(step)
                if isinstance(step, Foreign):
                    if tables.holds_categories(number):
                        continue  # a callable computes with numbers
                    if step.moves_pixels:
                        places.refuse(step.name)
                    images = images.clone() if images.data_ptr() == start else images  # it may work in place
                    if moving is not None:
                        moving.refuse(step.name)
                plan = None
                if isinstance(step, Augmentation):
                    whole = known.get(position) or tables.drawn(step, images, own, index)
                    known[position], plan = whole, tables.part(whole, number)
                    plan = plan if moving is None or images.ndim != 4 else moving.whole(plan)
                    _follow(name_of(step), plan, places, moving)
                    images = step.apply(images, plan)
                    self._note(position, plan, given)
                    plans.append(plan)
                elif len(images) or beside is None:
                    images = step(images, own)
                if beside is not None:
                    self._bring(position, plan, beside, other_keys[position], places)
                    if plan is None:
                        check_fit(name_of(step), images, beside.images)
            except Exception as error:
                shown = self._where_lifted(error)
                raise in_stage(shown, f"augment stage {name_of(step)}", index, images) from error
        return images, plans

    def _where_lifted(self, error: Exception) -> Exception:
        """``error``, or a ValueError with other advice where images outside [0, 1] met lifted transforms."""
        if not (isinstance(error, OutsideUnit) and self.names):
            return error
        return ValueError(
            f"{error.found}; lift=True runs {', '.join(self.names)} on the batch, so let the dataset give uint8 images "
            "or floats in [0, 1], with a fill= in the same units, or write lift=False"
        )

    def _note(self, position: int, plan: Plan, images: Tensor | Sequence[Tensor]) -> None:
        """Record the backends of the first plan of a step, for `explain`."""
        step = self.steps[position]
        if (position in self._choices and position not in self._early) or not isinstance(step, Augmentation):
            return
        (self._early.add if self._turn.meanwhile else self._early.discard)(position)
        if len(plan.shape) != 4:
            self._choices[position] = [(type(part).__name__, "torch", "rows of features") for part in plan.segments]
            return
        chosen = step.explain(plan, images)
        self._choices[position] = [(type(c.segment).__name__, c.backend, c.reason) for c in chosen]

    def _bring(self, position: int, plan: Plan | None, beside: _Beside, key: Any, places: Places) -> None:
        """Update the images of samples that a step does not augment. plan: of the step, None for a foreign one."""
        step, other = self.steps[position], self._beside[position]
        if isinstance(step, Foreign):
            if not isinstance(other, Foreign):
                beside.images = plain_foreign(step, beside.images, key)
            elif len(beside.images):
                beside.images = other(beside.images, key)
        elif plan is not None and not isinstance(other, Augmentation):
            own = plain(plan, len(beside.images))
            _follow(name_of(step), own, places, beside.moving)
            beside.images = step.apply(beside.images, own)
        elif isinstance(other, Augmentation) and len(beside.images):
            beside.images, made = run_step(other, beside.images, key)
            if made is not None:
                _follow(name_of(step), made, places, beside.moving)

    def explain(self, device: str) -> list[tuple[str, str, str]]:
        """Rows (stage, device, why) for the table of stages; after the stages of a plan, its segments and backends."""
        rows = []
        for position, step in enumerate(self.steps):
            if isinstance(step, Foreign):
                rows.append((f"augment: {step.name}", device, "no plan for it: as it is, in a forked RNG"))
                continue
            for part in flattened([step]):
                rows.append((f"augment: {_shown(part)}", device, "one plan for neighbouring stages"))
            for segment, backend, why in self._choices.get(position, [("segments", "", "chosen at the first batch")]):
                rows.append((f"    {segment}", backend, why))
        return rows + self.unequal.explain()


def _shown(stage: Stage) -> str:
    """The name of a stage, and of those in a combinator: ``RandomApply(ColorJitter)``."""
    inside = f"({', '.join(map(_shown, flattened(stage)))})" if isinstance(stage, Several) and len(stage) else ""
    return f"{name_of(stage)}{inside}"


def _keys(seed: int, samples: Samples, view: Tensor | int) -> Tensor:
    """(B,) keys of the draws of samples in a view, or in the views (B,) int64."""
    if isinstance(view, int):
        return draws.key(seed, samples.epoch, samples.streams, view)
    made = torch.empty_like(samples.streams)
    for number in view.unique().tolist():
        mine = view == number
        made[mine] = draws.key(seed, samples.epoch, samples.streams[mine], number)
    return made


def _follow(stage: str, plan: Plan, places: Places, moving: Moving | MovingTogether | None) -> None:
    """Move what follows as ``plan`` moves pixels; ValueError for places, of which it is not known how they follow."""
    if plan.moves_pixels and len(plan.shape) == 4:
        places.refuse(stage)
        if moving is not None:
            moving.follow(plan)


def joint(plans: Sequence[Plan], rows: int) -> Trace:
    """The operations of all plans, in order."""
    return Trace.empty(rows).then(*(plan.trace for plan in plans))


def _check_same_labels(first: Sequence[Plan], plans: Sequence[Plan]) -> None:
    """Raise a ValueError where inputs that share their draws would be mixed in other shares, so with other labels."""
    ours, theirs = ([mix.parts()[1] for plan in made for mix in plan.mixes] for made in (first, plans))
    if not all(map(torch.equal, ours, theirs)):
        raise ValueError(
            "CutMix pastes other shares of inputs of different widths, so they would need different labels; name one "
            "of them with inputs=, join them in the dataset, or use MixUp"
        )
