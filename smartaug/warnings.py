"""smartaug's warnings, attributed to the line of the user's code."""

from __future__ import annotations

import sys
import warnings

_NOT_THE_USERS = ("smartaug", "torch")


class NoEffectWarning(UserWarning):
    """A setting had no effect: weights that no loss read, a coreset of all samples."""


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the innermost line outside smartaug and torch: the user's own, or their framework's."""
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _NOT_THE_USERS:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
