"""`Compose`: several plan-based augmentations as one, in order; `Several`, what it shares with the combinators."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ... import draws
from ..augmentation import Augmentation, Cuts
from ..one_size import Keyed
from ..plan import Plan, Trace
from ..unequal import plan_for


class Several(Augmentation):
    """Augmentations inside one augmentation, which is executed as one plan.

    backend: for all of them; None takes the one that those inside name, if any does.
    """

    def __init__(self, augmentations: Sequence[Augmentation], *, backend: str | None = None) -> None:
        self.augmentations = list(augmentations)
        owner = type(self).__name__
        for step in self.augmentations:
            if not isinstance(step, Augmentation):
                raise TypeError(
                    f"{owner} takes smartaug augmentations, got {step!r}; "
                    f"pass Kornia modules and callables to the loader beside them: augment=[{owner}([...]), module]"
                )
            if step.reads_labels:
                raise TypeError(
                    f"{owner} plans its augmentations from shapes alone, and {type(step).__name__} reads the labels; "
                    f"pass it to the loader beside the others, augment=[{type(step).__name__}(...), {owner}([...])], "
                    "with p= for a part of the samples"
                )
        asked = sorted({step.backend for step in self.augmentations if step.backend is not None})
        if backend is None and len(asked) > 1:
            raise ValueError(
                f"one plan is executed by one backend, but augmentations inside {owner} ask for "
                f"{' and '.join(asked)}; write {owner}([...], backend={asked[0]!r})"
            )
        super().__init__(backend=backend if backend is not None or not asked else asked[0])
        given = [step.num_classes for step in self.augmentations if step.num_classes is not None]
        self.num_classes = given[0] if given else None

    def __iter__(self) -> Iterator[Augmentation]:
        return iter(self.augmentations)

    def __len__(self) -> int:
        return len(self.augmentations)


class Compose(Several):
    """Augmentations in order, sampled into one plan: ``Compose([PadCrop(4), Flip()])``.

    Each step draws from its own stream, so adding one leaves the draws of those before it as they were. Kornia modules
    and callables have no plan: hand those to the loader in a list, ``augment=[Flip(), kornia_module]``. backend: for
    all steps; None takes the one that steps name, if any does. Raises ValueError when they name different ones.
    """

    @property
    def takes_rows(self) -> bool:  # type: ignore[override]
        """Whether all of its steps do."""
        return all(step.takes_rows for step in self.augmentations)

    @property
    def takes_unequal(self) -> bool:  # type: ignore[override]
        """Whether its first step does."""
        return bool(self.augmentations) and self.augmentations[0].takes_unequal

    @property
    def makes_equal(self) -> bool:
        """Whether one of its steps does."""
        return any(step.makes_equal for step in self.augmentations)

    def unequal_parts(self, key: Tensor) -> Keyed:
        """Its steps before the first that makes images equal, and those from there on, each with its own stream."""
        parts = list(zip(self.augmentations, draws.folds(key, len(self.augmentations)), strict=True))
        first = next(number for number, step in enumerate(self.augmentations) if step.makes_equal)
        before, rest = self.augmentations[first].unequal_parts(parts[first][1])
        return Keyed([*parts[:first], *before], [*rest, *parts[first + 1 :]])

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """One plan of all steps, neighbours joined where that changes nothing."""
        plans = [plan_for(shape, (), Trace.empty(shape[0]))]
        for step, own in zip(self.augmentations, draws.folds(key, len(self.augmentations)), strict=True):
            plans.append(step.sample(plans[-1].output_shape, own))
        return plans[0].then(*plans[1:])

    def cuts(self, shape: Sequence[int]) -> Cuts:
        """Those of all steps, each for images as the steps before leave them."""
        found: Cuts = {}
        plan = Plan(tuple(shape), (), Trace.empty(shape[0]))
        keys = torch.zeros(shape[0], dtype=torch.int64)
        for position, step in enumerate(self.augmentations):
            made = step.cuts(plan.output_shape)
            found |= {((position, *path), slot): points for (path, slot), points in made.items()}
            plan = plan.then(step.sample(plan.output_shape, keys))
        return found
