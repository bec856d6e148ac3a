"""The warning where no code reads the weights and soft labels that a pipeline puts into its targets."""

from __future__ import annotations

import weakref
from typing import Any

from ..warnings import NoEffectWarning, warn

_LOST = 2  # warn after so many batches whose targets were freed unread,
_HANDED = 20  # or after so many batches in all without a read, which the loop may keep alive


class Ticket(str):
    """A copy of the pipeline's key for one batch; it is freed with the last target of that batch."""


class Readers:
    """Counts the batches whose weights or soft labels were not read, until the first is.

    A batch counts as lost once its target, and all moves and views of it, are freed; so a loop may fetch any number of
    batches before it computes a loss.
    """

    def __init__(self) -> None:
        self.met = False  # a weight or a soft label was read
        self._said = False
        self._handed = 0
        self._alive: list[weakref.ref[Ticket]] = []

    def ticket(self, key: str) -> str:
        """The key for the targets of one more batch."""
        self._handed += 1
        if self.met or self._said:
            return key
        made = Ticket(key)
        self._alive.append(weakref.ref(made))
        return made

    def _lost(self) -> int:
        return sum(ref() is None for ref in self._alive)

    def look(self, *, ended: bool = False) -> None:
        """Warn, once, where batches were not read; ended: at the end of a pass, when one lost batch is enough."""
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
        return {**self.__dict__, "_alive": []}  # a copy makes targets of its own
