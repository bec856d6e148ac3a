"""Masks of a batch's samples, moved by the plans of their images, whatever their number and size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._base import leaves
from ..augment.plan import Plan
from ..augment.targets.kinds import Mask
from ..augment.targets.maps import move_map


class Place(NamedTuple):
    """A target: the number of its sample, its path there, and the value as it came."""

    sample: int
    path: leaves.Path
    given: Any


class Masks:
    """The masks (..., H, W) of all samples, on ``device``; those of one size and type move together."""

    def __init__(self, places: list[Place], device: torch.device | None = None) -> None:
        self.places = places
        self.moved = [place.given.as_subclass(Tensor).to(device, non_blocking=True) for place in places]

    def move(self, plan: Plan) -> None:
        """Through a plan, whose rows are repeated for each mask of a sample."""
        alike: dict[tuple[Any, ...], list[int]] = {}
        for number, mask in enumerate(self.moved):
            alike.setdefault((mask.shape[-2:], mask.dtype, mask.device), []).append(number)
        for numbers in alike.values():
            flat = [self.moved[number].reshape(-1, *self.moved[number].shape[-2:]) for number in numbers]
            counts = [len(part) for part in flat]
            rows = repeated([self.places[number].sample for number in numbers], counts)
            parts = move_map(plan.rows(rows), torch.cat(flat), Mask()).split(counts)
            for number, part in zip(numbers, parts, strict=True):
                self.moved[number] = part.reshape(*self.moved[number].shape[:-2], *part.shape[-2:])

    def results(self) -> list[tuple[Place, Tensor]]:
        """The masks, plain tensors."""
        return list(zip(self.places, self.moved, strict=True))


def repeated(values: Sequence[int], counts: Sequence[int]) -> Tensor:
    """Each of ``values`` as often as ``counts`` says, int64."""
    return torch.tensor(values, dtype=torch.int64).repeat_interleave(torch.tensor(counts, dtype=torch.int64))
