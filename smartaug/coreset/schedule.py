"""The number of samples of each epoch, and the epochs in which a new selection is made: plain numbers, no data."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real

Fraction = float | int | Callable[[int], float | int]


class Schedule:
    """How much of the data each epoch takes, and how many epochs use one selection.

    fraction: a float in (0, 1] of the dataset, an int number of samples, or ``epoch -> either``. every: epochs between
    two selections. warmup: epochs at the start without one. Raises ValueError for anything else.
    """

    def __init__(self, fraction: Fraction, every: int = 1, warmup: int = 1) -> None:
        self.fraction: Fraction = fraction if callable(fraction) else checked_fraction(fraction)
        self.every, self.warmup = checked_count("every", every, 1), checked_count("warmup", warmup, 0)

    @property
    def varies(self) -> bool:
        """Whether the number of samples may differ between epochs."""
        return callable(self.fraction)

    def budget(self, size: int, epoch: int) -> int:
        """How many of ``size`` samples ``epoch`` selects; ValueError when that is more than ``size``."""
        fraction = checked_fraction(self.fraction(epoch), epoch) if callable(self.fraction) else self.fraction
        if isinstance(fraction, int):
            if fraction > size:
                raise ValueError(f"Coreset({fraction}) asks for more samples than the dataset's {size}")
            return fraction
        return max(1, round(fraction * size)) if size else 0

    def number(self, epoch: int, since: int | None) -> int | None:
        """The number of the selection that ``epoch`` uses, counted from the end of the warm-up; None in the warm-up.

        since: the first epoch of the warm-up; None where there is no warm-up.
        """
        if since is None:
            return epoch // self.every
        if 0 <= epoch - since < self.warmup:
            return None
        return (epoch - since - self.warmup) // self.every


def checked_count(name: str, value: object, least: int, what: str = "epochs") -> int:
    """``value`` if it is an integer of at least ``least``, else a ValueError naming the argument."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a number of {what} ≥ {least}, got {value!r}; write {name}={least}")
    return value


def checked_fraction(fraction: float, epoch: int | None = None) -> int | float:
    """A share of the dataset or a number of samples; ValueError for anything else."""
    whole = isinstance(fraction, Integral) and not isinstance(fraction, bool)
    exact = whole and int(fraction) >= 1
    share = not isinstance(fraction, Integral) and isinstance(fraction, Real) and 0.0 < float(fraction) <= 1.0
    if not exact and not share:
        at = "" if epoch is None else f" for epoch {epoch}"
        raise ValueError(
            f"fraction must be a float in (0, 1] or a number of samples ≥ 1, got {fraction!r}{at}; write Coreset(0.3)"
        )
    return int(fraction) if exact else float(fraction)
