"""The keywords of a loader, once: their names, their defaults, and which values are none.

`DataLoader`, `wrap` and `Collate` write them in their signatures, for editors; everything else goes through `Settings`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from .._base.leaves import Specs, Targets

Views = Literal["same", "independent"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the user gave, as it was given; see `smartaug.DataLoader` for what each keyword means.

    Raises ValueError for values of ``views`` and ``returns`` that do not exist.
    """

    lift: bool = False
    augment: Any = None
    reweight: Any = None
    coreset: Any = None
    device: torch.device | str | None = None
    seed: int | None = None
    inputs: Specs = None
    target: Targets = None
    views: Views | None = None
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

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Settings:
        """The settings among the arguments of a function, which may have others: ``Settings.of(locals())``."""
        return cls(**{name: arguments[name] for name in KEYWORDS if name in arguments})

    @property
    def active(self) -> bool:
        """Whether they ask for anything that torch's own loader does not do; lift= may turn out to find nothing."""
        stages = (self.augment, self.reweight, self.coreset)
        return any(stage is not None for stage in stages) or self.returns != "same"

    def given(self) -> dict[str, Any]:
        """Keyword -> the very object that the user passed."""
        return {name: getattr(self, name) for name in KEYWORDS}

    def is_like(self, other: Settings) -> bool:
        """Whether every keyword holds the same object, as in a loader that is built again from its attributes."""
        return all(getattr(self, name) is getattr(other, name) for name in KEYWORDS)

    def reading(self) -> dict[str, Any]:
        """How to find inputs and target in a batch, for those who read batches of the same kind themselves."""
        return {"inputs": self.inputs, "target": self.target}


KEYWORDS = tuple(field.name for field in dataclasses.fields(Settings))
