"""Argument checks that several augmentations share; every error names the argument, what came and what to write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from ..warnings import warn

T = TypeVar("T")
INTERPOLATIONS = ("nearest", "bilinear")


class Named(Protocol):
    """A member of an enumeration of strings, such as torchvision's InterpolationMode and AutoAugmentPolicy."""

    @property
    def value(self) -> str:
        """The string."""
        ...


Fill = float | Sequence[float]
"""A value in the image's own units (0–255 for uint8), or one per channel."""
Interpolation = str | Named
Size = int | Sequence[int]
"""Height and width in pixels, or one number for both."""


def renamed(old: str, given: T | None, new: str, value: T, owner: str) -> T:
    """The argument ``new``, or what was ``given`` by its former name ``old``, with a DeprecationWarning."""
    if given is None:
        return value
    warn(f"{owner}: {old}= is now called {new}=; write {new}={given!r}", DeprecationWarning)
    return given


def height_and_width(size: object, name: str = "size") -> tuple[int, int]:
    """``size`` as (height, width): one positive integer for both, or two; a ValueError on anything else."""
    sides = tuple(size) if isinstance(size, Sequence) and not isinstance(size, str) else (size, size)
    if len(sides) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides):
        raise ValueError(
            f"{name} must be a number of pixels, or (height, width) in pixels, got {size!r}; write {name}=224"
        )
    return sides


def interpolation_name(value: object, name: str = "interpolation") -> str:
    """ "nearest" or "bilinear" from that string or torchvision's InterpolationMode; a ValueError on anything else."""
    plain = getattr(value, "value", value)
    if plain not in INTERPOLATIONS:
        raise ValueError(f'{name} must be "nearest" or "bilinear", got {value!r}; write {name}="bilinear"')
    return str(plain)


def check_count(value: object, name: str, least: int) -> int:
    """``value``, or a ValueError naming the argument unless it is an integer of at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}; write {name}={max(least, 1)}")
    return value


def check_magnitude(magnitude: object, bins: int) -> int:
    """``magnitude``, or a ValueError unless it is an integer in 0..bins − 1."""
    if not isinstance(magnitude, int) or isinstance(magnitude, bool) or not 0 <= magnitude < bins:
        raise ValueError(
            f"magnitude must be an integer in 0..{bins - 1} (num_magnitude_bins={bins}), got {magnitude!r}; "
            "write magnitude=9, or pass more num_magnitude_bins"
        )
    return magnitude


def check_colours(channels: int, name: str) -> None:
    """Raise a ValueError naming the augmentation unless images have 1 or 3 channels."""
    if channels not in (1, 3):
        raise ValueError(
            f"{name} needs images of 1 (grey) or 3 (RGB) channels, got {channels}; pick channels: images[:, :3]"
        )


def check_fill(fill: tuple[float, ...], channels: int, name: str = "fill") -> None:
    """Raise a ValueError unless there is one value, or one per channel."""
    if len(fill) not in (1, channels):
        raise ValueError(f"{name} has {len(fill)} values for {channels} channels; give one, or one per channel")


def check_number(value: object, name: str, low: float, high: float) -> float:
    """``value`` as a float, or a ValueError naming the argument unless low ≤ value ≤ high."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name} must be a number in [{low:g}, {high:g}], got {value!r}")
    return float(value)
