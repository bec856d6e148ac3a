"""The keywords of a loader: their names, defaults and valid values, in one place.

`DataLoader`, `wrap` and `Collate` repeat them in their signatures, for editors; all other code uses `Settings`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from .._base.leaves import Specs, Targets
from ..lift.decode.settings import Lift
from .following.followers import check_follow
from .selection import CoresetLike, RowChooser
from .stages import Stage
from .weighing import Reweighter

Views = Literal["same", "independent"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The user's arguments, unchanged; see `smartaug.DataLoader` for the meaning of each keyword.

    Raises ValueError for an unknown value of ``views``, ``returns`` or ``follow``, TypeError for one that is no dict.
    """

    lift: bool | Lift = False
    augment: Stage | Sequence[Stage] | None = None
    reweight: Reweighter | None = None
    coreset: CoresetLike | RowChooser | None = None
    device: torch.device | str | None = None
    seed: int | None = None
    inputs: Specs = None
    target: Targets = None
    views: Views | None = None
    follow: Mapping[Any, Any] | None = None
    still: Specs = None
    returns: str = "same"

    def __post_init__(self) -> None:
        if self.returns not in ("same", "batch"):
            raise ValueError(f'returns must be "same" or "batch", got {self.returns!r}')
        if self.views not in (None, "same", "independent"):
            raise ValueError(
                f'views must be "same" (all pictures of a sample share one draw) or "independent" (each has its own), '
                f"got {self.views!r}"
            )
        if self.follow is not None:
            check_follow(self.follow)

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Settings:
        """The settings among the arguments of a function, which may have others: ``Settings.of(locals())``."""
        return cls(**{name: arguments[name] for name in KEYWORDS if name in arguments})

    @property
    def active(self) -> bool:
        """Whether a stage or ``returns="batch"`` is given; ``lift=`` does not count: it may find nothing."""
        stages = (self.augment, self.reweight, self.coreset)
        return any(stage is not None for stage in stages) or self.returns != "same"

    def given(self) -> dict[str, Any]:
        """Keyword -> the object that the user passed, not a copy."""
        return {name: getattr(self, name) for name in KEYWORDS}

    def is_like(self, other: Settings) -> bool:
        """Whether every keyword holds the same object, as in a loader that is built again from its attributes."""
        return all(getattr(self, name) is getattr(other, name) for name in KEYWORDS)

    def reading_as(self, known: Mapping[str, Any]) -> Settings:
        """The same, with ``inputs`` and ``target`` as the dataset states them where the user gave none."""
        missing = {name: value for name, value in known.items() if getattr(self, name) is None}
        return dataclasses.replace(self, **missing) if missing else self

    def reading(self) -> dict[str, Any]:
        """The keywords that say where inputs and target are, for reweighters that read samples of that kind."""
        return {"inputs": self.inputs, "target": self.target}


KEYWORDS = tuple(field.name for field in dataclasses.fields(Settings))
