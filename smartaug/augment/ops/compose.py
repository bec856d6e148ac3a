"""`Compose`: several plan-based augmentations as one, in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ... import draws
from ..augmentation import Augmentation, Cuts
from ..backends import check_backend
from ..plan import Plan, Trace


class Compose(Augmentation):
    """Augmentations in order, sampled into one plan: ``Compose([PadCrop(4), Flip()])``.

    Each step draws from its own stream, so adding one leaves the draws of those before it as they were. Kornia modules
    and callables have no plan: hand those to the loader in a list, ``augment=[Flip(), kornia_module]``. backend:
    "torch", "numba", "triton" or None for the fastest there is; it counts for all steps.
    """

    def __init__(self, augmentations: Sequence[Augmentation], *, backend: str | None = None) -> None:
        self.augmentations = list(augmentations)
        self.backend = check_backend(backend)
        for step in self.augmentations:
            if not isinstance(step, Augmentation):
                raise TypeError(
                    f"Compose takes smartaug augmentations, got {step!r}; "
                    "pass Kornia modules and callables to the loader beside them: augment=[Compose([...]), module]"
                )
        given = [step.num_classes for step in self.augmentations if step.num_classes is not None]
        self.num_classes = given[0] if given else None

    @property
    def takes_rows(self) -> bool:  # type: ignore[override]
        """Whether all of its steps do."""
        return all(step.takes_rows for step in self.augmentations)

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """One plan of all steps, neighbours joined where that changes nothing."""
        plans = [Plan(tuple(shape), (), Trace.empty(shape[0]))]
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

    def __iter__(self) -> Iterator[Any]:
        return iter(self.augmentations)

    def __len__(self) -> int:
        return len(self.augmentations)
