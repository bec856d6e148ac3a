"""Several ways to the same result, of which the fastest is found by timing all on the first batches.

What: each way runs one batch to warm up and `TIMED` that count; then the one that took less for an image runs alone.
When: images of unequal size on the CPU, where what is faster depends on how many sizes there are and on the machine.
Cost: the slower ways on the first batches. Reference: none.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

TIMED = 2  # batches of each way


class Trial:
    """Which of the ``ways`` runs the next batch."""

    def __init__(self, *ways: str) -> None:
        self.ways = ways
        self._seconds: dict[str, list[float]] = {way: [] for way in ways}  # for an image; the first is of the warm-up
        self._counts = True

    def way(self) -> str:
        """The way for the next batch: the one timed least, or once all are timed the fastest."""
        least = min(self.ways, key=lambda way: len(self._seconds[way]))
        return least if len(self._seconds[least]) <= TIMED else self._fastest()

    @contextmanager
    def timing(self, way: str, images: int) -> Iterator[None]:
        """A context in which a batch of so many images runs; it does not count after `spoilt`."""
        if len(self._seconds[way]) > TIMED:
            yield
            return
        self._counts, started = True, time.perf_counter()
        yield
        if self._counts:
            self._seconds[way].append((time.perf_counter() - started) / max(1, images))

    def spoilt(self) -> None:
        """The batch that runs now tells nothing: a part of it ran otherwise than it will."""
        self._counts = False

    def explain(self) -> str:
        """What was chosen, and why."""
        if any(len(seconds) <= TIMED for seconds in self._seconds.values()):
            return f"being chosen: {' and '.join(self.ways)} are timed on the first batches"
        fastest = self._fastest()
        shown = [f"{self._best(way) * 1000:.2f} {way}" for way in self.ways if way != fastest]
        return f"the fastest: {self._best(fastest) * 1000:.2f} ms an image against {', '.join(shown)}, timed here"

    def _best(self, way: str) -> float:
        return min(self._seconds[way][1:])

    def _fastest(self) -> str:
        return min(self.ways, key=self._best)
