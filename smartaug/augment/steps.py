"""Runs stages one after the other, each with its own stream of random draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from torch import Tensor

from .. import draws
from .augmentation import Augmentation
from .foreign import Foreign
from .plan import Plan
from .samples import drawing_for, on_cpu

Step = Augmentation | Foreign
S = TypeVar("S")


def keyed(steps: Sequence[S], key: Tensor) -> list[tuple[S, Tensor]]:
    """``(step, key)`` for each step: keys (B,) folded by position; a single step keeps ``key``, as in a direct call."""
    if len(steps) == 1:
        return [(steps[0], key)]
    return [(step, draws.fold(key, position)) for position, step in enumerate(steps)]


def drawn(
    step: Augmentation,
    images: Sequence[Tensor],
    key: Tensor,
    labels: Tensor | None = None,
    index: Tensor | None = None,
) -> Plan:
    """The plan of one step for ``images``, drawn from the stream keys (B,).

    images: one tensor, or the several tables (B, F) of rows. labels: (B,), for steps that read them. index: (B,) the
    samples, for steps that draw differently for each, None where they are not known.
    """
    with on_cpu(), drawing_for(index):
        return step.plan_of(images, labels, key)


def run_step(step: Step, images: Tensor, key: Tensor) -> tuple[Tensor, Plan | None]:
    """The images after one step drawn from the stream keys (B,), and its plan; None for a foreign step."""
    if isinstance(step, Foreign):
        return step(images, key), None
    plan = drawn(step, [images], key)
    return step.apply(images, plan), plan


def refuse_other_than_rows(step: Augmentation) -> None:
    """Raise a TypeError unless an augmentation takes rows of features, as MixUp and CutMix do."""
    if step.takes_rows:
        return
    parts = [part for part in step if not part.takes_rows] if hasattr(step, "__iter__") else []
    name = type(parts[0] if parts else step).__name__
    raise TypeError(
        f"{name} needs pictures (B, C, H, W), and the inputs are rows of features: of smartaug's augmentations MixUp, "
        "CutMix, GaussianNoise, SwapFeatures and SMOTE take rows, and any callable, such as lambda rows: rows * 2; if "
        "they are pictures without channels write image[None] in the dataset"
    )
