"""How many samples each class gets of a budget: exact, by largest remainder, and never more than the class has."""

from __future__ import annotations

import numpy as np


def proportional(budget: int, counts: np.ndarray) -> np.ndarray:
    """(C,) int64 shares of ``budget`` in proportion to counts (C,), summing to it (Hamilton's method).

    What is left after rounding down goes to the largest remainders, of equal ones to the first. 0 ≤ budget ≤ Σ counts.
    """
    total = int(counts.sum())
    if not total:
        return np.zeros_like(counts)
    wanted = counts.astype(object) * budget  # Python integers: exact at any size
    shares = (wanted // total).astype(np.int64)
    remainders = (wanted % total).astype(object)
    first = sorted(range(len(counts)), key=lambda c: -remainders[c])
    shares[first[: budget - int(shares.sum())]] += 1
    return shares


def equal(budget: int, counts: np.ndarray) -> np.ndarray:
    """(C,) int64 shares of ``budget`` as equal as counts (C,) allow: a class that is too small gives all it has.

    What is left after rounding down goes to the largest classes. 0 ≤ budget ≤ Σ counts.
    """
    shares = np.zeros_like(counts)
    left = budget
    order = np.argsort(counts, kind="stable")
    for position, c in enumerate(order):
        shares[c] = min(int(counts[c]), left // (len(order) - position))
        left -= int(shares[c])
    return shares


def lowest(code: np.ndarray, quota: np.ndarray, *ranks: np.ndarray) -> np.ndarray:
    """Rows: of each class c the quota[c] rows that come first by ``ranks`` (the first decides), all if there are fewer.

    code: (n,) int64 classes in 0..C-1; quota: (C,) int64; ranks: (n,) each.
    """
    order = np.lexsort((*reversed(ranks), code))
    sorted_code = code[order]
    place = np.arange(len(code)) - np.searchsorted(sorted_code, sorted_code)
    return np.sort(order[place < quota[sorted_code]])
