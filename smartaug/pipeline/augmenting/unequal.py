"""Images of several sizes through the first stage, which makes them equal; and whether that is the faster way.

`Ways` is kept with the stages: how such images run, why, and for how many batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ...augment import one_size
from ...augment.augmentation import Augmentation
from ...augment.plan import Plan
from ...augment.unequal import UnequalPlan
from ..following.moving import MovingTogether
from ..following.places import Places
from ..stages import name_of
from .trial import Trial

AT_ONCE, BY_TORCH, BY_SIZE = "all sizes at once", "all at once but resized by torch", "size by size"
TIMED: dict[str, str | None] = {AT_ONCE: None, BY_TORCH: "torch"}  # the backend of what makes sizes equal


def makes_equal(steps: Sequence[Any]) -> bool:
    """Whether the first of ``steps`` makes images of unequal size equal, so that all others run on a batch."""
    return bool(steps) and getattr(steps[0], "makes_equal", False)


class Ways:
    """How images of several sizes run: `AT_ONCE`, `BY_TORCH` or `BY_SIZE`, timed where all give the same bytes."""

    def __init__(self) -> None:
        self.trial = Trial(AT_ONCE, BY_TORCH, BY_SIZE)
        self._last: tuple[str, str] | None = None  # way and reason, of the last batch; no reason: it was timed

    def choose(self, steps: Sequence[Any], mixes: bool, device: torch.device) -> str:
        """The way for the next batch of images on ``device``. mixes: whether a step mixes samples."""
        if not makes_equal(steps):
            self._last = BY_SIZE, "the first stage leaves the sizes unequal"
        elif mixes:
            self._last = AT_ONCE, "mixing needs images of one size"
        elif device.type != "cpu":
            self._last = AT_ONCE, f"not timed on {device.type}, where the other way rounds differently"
        else:
            self._last = self.trial.way(), ""
        return self._last[0]

    @contextmanager
    def timing(self, images: int) -> Iterator[None]:
        """A context in which the batch of so many images runs in the way chosen, which is timed where that decides."""
        assert self._last is not None
        way, reason = self._last
        if reason:
            yield
            return
        with self.trial.timing(way, images):
            yield

    def explain(self) -> list[tuple[str, str, str]]:
        """A row (what, how, why) for the table of stages, once there were such images."""
        if self._last is None:
            return []
        way, reason = self._last
        return [("    images of unequal size", way, reason or self.trial.explain())]


def made_equal(
    step: Augmentation,
    images: Sequence[Tensor],
    key: Tensor,
    index: Tensor,
    places: Places,
    moving: MovingTogether,
    timed: str | None,
) -> tuple[Tensor, UnequalPlan, Sequence[Tensor]]:
    """The batch after ``step``, its plan, and the images that this is for; what is in ``moving`` moves with them."""

    def follow(plan: Plan, rows: Tensor) -> None:
        if plan.moves_pixels:
            places.refuse(name_of(step))
            moving.follow(plan, None if isinstance(plan, UnequalPlan) else rows)

    return one_size.run(step, images, key, index, follow, timed)
