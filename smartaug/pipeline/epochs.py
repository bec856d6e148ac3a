"""Numbers the passes over the data: the pass and epoch of a batch, and how often its samples occurred before."""

from __future__ import annotations

import numpy as np

from .._base.torch_fetch import Origin


class Repeats:
    """Counts how often each sample occurred in one pass."""

    _DENSE = 1 << 26  # indices below are counted in an array, others in a dict

    def __init__(self) -> None:
        self._times = np.zeros(0, np.uint32)
        self._odd: dict[int, int] = {}  # counts of batches with negative or larger indices

    def before(self, index: list[int]) -> list[int] | None:
        """How often each of these samples occurred earlier in this pass; None where none did. Counts them.

        Samplers that draw with replacement, or repeat augmentations, yield a sample several times in a pass.
        """
        if not index:
            return None
        rows, once = np.array(index), len(set(index)) == len(index)
        highest = int(rows.max())
        if highest >= self._DENSE or rows.min() < 0:
            before = _counted(self._odd, index)
            return before if any(before) else None
        if highest >= len(self._times):
            self._times = np.append(self._times, np.zeros(highest + 1, np.uint32))
        if once and not self._times[rows].any():
            self._times[rows] = 1
            return None
        return _counted(self._times, index)


def _counted(times: np.ndarray | dict[int, int], index: list[int]) -> list[int]:
    """The count in ``times`` of each number, which is then incremented."""
    before = []
    for number in index:
        before.append(int(times.get(number, 0) if isinstance(times, dict) else times[number]))
        times[number] = before[-1] + 1
    return before


class EpochProgress:
    """A pass that has begun: its epoch, its number among all passes, and the number of samples that it yielded so far.

    repeats: counts the samples where the sampler is not smartaug's (which counts them itself); None before the first
    batch and once later passes began.
    """

    def __init__(self, epoch: int, number: int, samples: int = 0) -> None:
        self.epoch, self.number, self.samples = epoch, number, samples
        self.repeats: Repeats | None = None

    def before(self, origin: Origin) -> list[int] | None:
        """How often each sample of the batch occurred earlier in the pass; None where none did, or unknown."""
        if origin.drawn is not None:
            return origin.drawn.before
        if origin.index is None:
            return None
        if self.repeats is None:
            self.repeats = Repeats()
        return self.repeats.before(origin.index)


class _Fetched:
    """A pass whose batches do not carry its number; it is known by the fetchers of its workers.

    The first fetcher seen of a worker belongs to this pass, unless that worker has made more fetchers than the worker
    that began the pass: then it belongs to a later one. Within a pass torch numbers the batches in order.
    """

    def __init__(self, progress: EpochProgress, first: Origin) -> None:
        self.progress = progress
        self._fetchers = {first.token.worker: first.token.fetcher}
        self._passes = first.token.fetcher[1]  # all workers count their fetchers from the same number
        self._last = -1 if first.task is None else first.task

    def continues(self, origin: Origin) -> bool:
        """Whether a batch belongs to this pass. Raises RuntimeError where that cannot be known."""
        worker, fetcher, task = origin.token.worker, origin.token.fetcher, origin.task
        shown = self._fetchers.get(worker)
        if shown is None and origin.token.persistent and task is not None:
            if fetcher[1] > self._passes:
                return False
            if task < self._last:
                raise RuntimeError(
                    "it cannot be known which pass a batch belongs to: workers that persist handed their batches over "
                    "out of order, and torch's loader does not say when a pass begins; write in_order=True, "
                    "persistent_workers=False, or use smartaug.DataLoader instead of smartaug.Collate"
                )
        if shown is not None and shown != fetcher:
            return False
        self._fetchers[worker] = fetcher
        self._last = self._last if task is None else max(self._last, task)
        return True


class EpochCounter:
    """Numbers the passes over the data: a pass has the epoch given to `set_next` before it, else the last one plus 1.

    A batch whose indices smartaug's sampler drew carries the number of its pass. For other batches (Accelerate replaces
    the sampler, a plain torch loader with `Collate` never had it) a pass begins when a worker uses another fetcher than
    before. Worker 0 loads the first batch of a pass, so this also holds where a persistent worker loaded nothing in
    some pass; for batches that are skipped or come out of order, see `_Fetched`.
    """

    _KEPT = 64  # passes remembered, so that several iterators in use keep their own epoch
    _COUNTED = 3  # passes before the newest that keep their counts of samples

    def __init__(self) -> None:
        self.epoch = -1
        self.next: int | None = None  # epoch of the next pass, from `set_next`
        self.resumed: int | None = None  # epoch of the next pass, from a loaded state
        self._begun = 0
        self._drawn: dict[int, EpochProgress] = {}  # by number of the pass
        self._fetched: dict[int, _Fetched] = {}  # by `Token.loader`

    def set_next(self, epoch: int) -> None:
        """Give the next pass the epoch ``epoch``."""
        self.next = int(epoch)

    @property
    def upcoming(self) -> int:
        """The epoch that the next pass will have."""
        if self.next is not None:
            return self.next
        return self.epoch + 1 if self.resumed is None else self.resumed

    def resume(self, epoch: int) -> None:
        """Give the next pass the epoch of a loaded state; a later `set_next` takes precedence."""
        self.next, self.resumed = None, epoch

    def begin(self, samples: int = 0) -> EpochProgress:
        """Begin a pass, of which ``samples`` samples were yielded before it was interrupted."""
        self.epoch, self.next, self.resumed = self.upcoming, None, None
        self._begun += 1
        progress = self._drawn[self._begun] = EpochProgress(self.epoch, self._begun, samples)
        while len(self._drawn) > self._KEPT:
            del self._drawn[next(iter(self._drawn))]
        return progress

    def of(self, origin: Origin) -> EpochProgress:
        """The pass that a batch belongs to; begins one where the batch is the first of it."""
        if origin.drawn is not None and origin.drawn.number in self._drawn:
            return self._drawn[origin.drawn.number]
        token = origin.token
        known = self._fetched.get(token.loader)
        if known is not None and known.continues(origin):
            return known.progress
        begun = self.begin()
        self._fetched.pop(token.loader, None)
        for earlier in list(self._fetched.values())[: -self._COUNTED]:
            earlier.progress.repeats = None
        self._fetched[token.loader] = _Fetched(begun, origin)
        if len(self._fetched) > self._KEPT:
            del self._fetched[next(iter(self._fetched))]
        return begun
