"""Whether anybody reads the weights and soft labels that a pipeline puts into its targets."""

from __future__ import annotations

import weakref
from typing import Any

from ..warnings import NoEffectWarning, warn

_LOST = 2  # batches that are gone unread: then it is said,
_HANDED = 20  # or after so many that the loop keeps and has not shown to anybody


class Ticket(str):
    """The pipeline's key, as one object for each batch: it lives as long as a target of that batch does."""


class Readers:
    """Counts the batches whose weights or soft labels went by unread, until somebody reads one.

    A batch is lost once its target, and all that was made of it by moves and views, is gone: how many batches a loop
    fetches before it computes a loss plays no part.
    """

    def __init__(self) -> None:
        self.met = False  # somebody has read a weight or a soft label
        self._said = False
        self._handed = 0
        self._alive: list[weakref.ref[Ticket]] = []

    def ticket(self, key: str) -> str:
        """The key for the target of one more batch that is to be read."""
        self._handed += 1
        if self.met or self._said:
            return key
        made = Ticket(key)
        self._alive.append(weakref.ref(made))
        return made

    def _lost(self) -> int:
        return sum(ref() is None for ref in self._alive)

    def look(self, *, ended: bool = False) -> None:
        """Warn, once, where batches went by unread; ended: at the end of a pass, where one such batch is enough."""
        if self.met or self._said:
            self._alive.clear()
            return
        lost = self._lost()
        if lost >= (1 if ended else _LOST) or self._handed >= _HANDED:
            self._said = True
            many = f"{self._handed} batches" if self._handed > 1 else "1 batch"
            warn(
                f"{many} carried weights or soft labels that nobody has read, neither a smartaug.Loss nor by "
                "target.weight or target.soft, so they had no effect; write criterion = smartaug.Loss(criterion), "
                "compute the loss outside the model, and give it the loader's own target: one that was mixed or "
                "encoded in the loop has lost them",
                NoEffectWarning,
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_alive": []}  # a copy's targets are its own
