"""PIL's bicubic weights (a = −1) as integers, so that every backend gives the same bytes."""

from __future__ import annotations

import numpy as np

BITS = 10  # weights are integers in units of 1/1024: the sum of 16 products of uint8 stays within int32


def table() -> np.ndarray:
    """Weights (1025, 4) int32 of the pixels at −1, 0, 1, 2 for a place of n/1024 between 0 and 1; rows sum to 1024."""
    d = np.arange((1 << BITS) + 1) / (1 << BITS)
    exact = np.stack([-d + 2 * d**2 - d**3, 1 - 2 * d**2 + d**3, d + d**2 - d**3, d**3 - d**2], 1)
    weights = np.rint(exact * (1 << BITS)).astype(np.int32)
    rows = np.arange(len(weights))
    weights[rows, exact.argmax(1)] += (1 << BITS) - weights.sum(1)
    return weights
