"""Codes: a plan names an operation by its position in a table, and position 0 always leaves a sample as it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor


def checked(op: Tensor, names: Sequence[str], segment: str) -> np.ndarray:
    """The codes ``op`` (B,) int64, on the CPU, as an array; each is a position in ``names``.

    Raises ValueError for any other number: compiled code has no exceptions, and would leave memory unwritten.
    """
    codes: np.ndarray = op.numpy()
    if codes.size and not (codes.min() >= 0 and codes.max() < len(names)):
        known = ", ".join(f"{code} {name}" for code, name in enumerate(names))
        wrong = sorted({int(code) for code in codes if not 0 <= code < len(names)})
        raise ValueError(f"{segment}.op has the codes {wrong}, which no operation has; write one of: {known}")
    return codes
