"""Running stages one after the other: which stream of draws each has, and what it makes of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from torch import Tensor

from .. import draws
from .augmentation import Augmentation, on_cpu
from .foreign import Foreign
from .plan import Plan

Step = Augmentation | Foreign
S = TypeVar("S")


def keyed(steps: Sequence[S], key: Tensor) -> list[tuple[S, Tensor]]:
    """Each step with its own stream keys (B,); a single one has the batch's own, as if it were called by itself."""
    if len(steps) == 1:
        return [(steps[0], key)]
    return [(step, draws.fold(key, position)) for position, step in enumerate(steps)]


def run_step(step: Step, images: Tensor, key: Tensor) -> tuple[Tensor, Plan | None]:
    """The images after one step drawn from the stream keys (B,), and its plan; a foreign step has none."""
    if isinstance(step, Foreign):
        return step(images, key), None
    with on_cpu():
        plan = step.sample(tuple(images.shape), key)
    return step.apply(images, plan), plan


def refuse_other_than_mixing(step: Augmentation) -> None:
    """Raise a TypeError for an augmentation that needs pictures."""
    if step.takes_rows:
        return
    parts = [part for part in step if not part.takes_rows] if hasattr(step, "__iter__") else []
    name = type(parts[0] if parts else step).__name__
    raise TypeError(
        f"{name} needs pictures (B, C, H, W), and the inputs are rows of features: of smartaug's augmentations MixUp "
        "and CutMix take rows, and any callable, such as lambda rows: rows + 0.1 * torch.randn_like(rows); if they are "
        "pictures without channels write image[None] in the dataset"
    )
