"""The operations of a `plan.Tone`, which changes the value of each pixel where it is: the one table of them.

To add an operation, append a row to `TABLE` and write, in each backend's ``tone.py``, a function of the row's name in
lower case, by which it is found; nothing else names the operations. A backend without the function fails on import.

An operation's code, by which plans and compiled backends name it, is its position in `TABLE`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Operation(NamedTuple):
    """One row of the table. low, high: range of the amount; both 0 where the operation takes none."""

    name: str
    mixes_channels: bool = False  # computes a pixel's channels from each other; a single channel stays as it is
    measures: bool = False  # needs statistics of the whole sample before it can change a pixel
    unit: str = "none"  # of the amount
    low: float = 0.0
    high: float = 0.0


_ANY = float("inf")
FACTOR = "factor, 1 changes nothing"

TABLE = (
    Operation("Identity"),
    Operation("Invert"),
    Operation("Posterize", unit="bits kept", high=8.0),
    Operation("Solarize", unit="threshold in grey levels", high=255.0),
    Operation("Brightness", unit=FACTOR, high=_ANY),
    Operation("Contrast", measures=True, unit=FACTOR, high=_ANY),
    Operation("AutoContrast", measures=True),
    Operation("Equalize", measures=True),
    Operation("Color", mixes_channels=True, unit=FACTOR, high=_ANY),
    Operation("Grayscale", mixes_channels=True),
    Operation("Hue", mixes_channels=True, unit="turns of the colour circle", low=-0.5, high=0.5),
)
TONES = tuple(row.name for row in TABLE)
CODES = {name: code for code, name in enumerate(TONES)}

LEVELS = 255.999
"""What a float in [0, 1] is multiplied by, before the fraction is cut off, for one of 256 levels of equal width; 1 is
still in the last of them."""

LUMA = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601, with torchvision's four digits)."""
LUMA_SHIFT = 16
LUMA_WHOLE = tuple(round(weight * (1 << LUMA_SHIFT)) for weight in LUMA)
"""The same as integers in units of 2**-16, so that every backend gets the same grey level of uint8; they sum to 65530,
so that the grey of 255, 255, 255 is 254 after the shift, as in torchvision."""


STATISTICS = "_statistics"
"""What Triton's functions for the statistics of an operation have behind their names."""


def functions(module: Mapping[str, Any], file: str, suffix: str = "") -> dict[str, Callable[..., Any]]:
    """A backend's function for each operation but Identity, found in its ``module`` under the name in lower case.

    suffix: what stands behind the name; with `STATISTICS`, only for operations that measure. Raises NotImplementedError
    naming ``file`` and what it lacks.
    """
    rows = [row for row in TABLE[1:] if row.measures or suffix != STATISTICS]
    called = {row.name: row.name.lower() + suffix for row in rows}
    lacking = [name for name in called if not callable(module.get(called[name]))]
    if lacking:
        wanted = ", ".join(f"{called[name]}()" for name in lacking)
        raise NotImplementedError(f"{file} lacks {', '.join(lacking)} of tables/tones.py; write {wanted} there")
    return {name: module[function] for name, function in called.items()}
