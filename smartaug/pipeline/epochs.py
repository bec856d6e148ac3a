"""Numbering the passes over the data: which one a batch belongs to, its epoch, and which samples came how often."""

from __future__ import annotations

import numpy as np

from .._base.torch_fetch import Origin


class Repeats:
    """Counts how often each sample came in one pass."""

    _DENSE = 1 << 26

    def __init__(self) -> None:
        self._times = np.zeros(0, np.uint32)
        self._odd: dict[int, int] = {}  # of indices that are no place in an array

    def before(self, index: list[int]) -> list[int] | None:
        """How often each of these samples came before in this pass; None where all come for the first time.

        Samplers that draw with replacement, and those that repeat augmentations, hand a sample out several times.
        """
        if not index:
            return None
        rows, once = np.array(index), len(set(index)) == len(index)
        if rows.min() < 0 or rows.max() >= self._DENSE:
            before = _counted(self._odd, index)
            return before if any(before) else None
        if rows.max() >= len(self._times):
            self._times = np.append(self._times, np.zeros(int(rows.max()) + 1, np.uint32))
        if once and not self._times[rows].any():
            self._times[rows] = 1
            return None
        return _counted(self._times, index)


def _counted(times: np.ndarray | dict[int, int], index: list[int]) -> list[int]:
    """What ``times`` has for each number, and one more each time."""
    before = []
    for number in index:
        before.append(int(times.get(number, 0) if isinstance(times, dict) else times[number]))
        times[number] = before[-1] + 1
    return before


class EpochProgress:
    """A pass that has begun: its epoch, its number among all passes, and how many samples it has handed out so far.

    repeats: counts what it handed out, where the sampler is not ours (else the sampler's side counts); None once the
    pass is over or long ago.
    """

    def __init__(self, epoch: int, number: int, samples: int = 0) -> None:
        self.epoch, self.number, self.samples = epoch, number, samples
        self.repeats: Repeats | None = None

    def before(self, origin: Origin) -> list[int] | None:
        """How often each sample of the batch came before; None where all come for the first time."""
        if origin.drawn is not None:
            return origin.drawn.before
        if origin.index is None:
            return None
        if self.repeats is None:
            self.repeats = Repeats()
        return self.repeats.before(origin.index)


class _Fetched:
    """A pass whose batches do not say that they are of it: the fetchers that its workers showed.

    What a worker shows first in a pass is of that pass, unless it has loaded in more passes than the worker that began
    it, which is then an earlier one. Within a pass torch numbers the batches, in the order they are handed over.
    """

    def __init__(self, progress: EpochProgress, first: Origin) -> None:
        self.progress = progress
        self._fetchers = {first.token.worker: first.token.fetcher}
        self._passes = first.token.fetcher[1]  # all workers count their fetchers from the same number on
        self._last = -1 if first.task is None else first.task

    def continues(self, origin: Origin) -> bool:
        """Whether a batch is of this pass. Raises RuntimeError where that cannot be known."""
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
    """Numbers the passes over the data: each has the epoch that `set_next` named before it, else one more.

    A batch whose indices our own sampler drew says which pass it is of. For the others (Accelerate drops our sampler, a
    stock loader with `Collate` never had it) a pass is new when a worker shows another fetcher than it showed in the
    current one. The first batch of a pass is worker 0's, so this also holds for persistent workers that sat out a pass;
    where batches are skipped or come out of order, see `_Fetched`.
    """

    _KEPT = 64  # passes remembered, so that several live iterators keep their own epoch
    _COUNTED = 3  # and beside the newest those that know which samples came

    def __init__(self) -> None:
        self.epoch = -1
        self.next: int | None = None  # what `set_next` said of the pass to come
        self.resumed: int | None = None  # the epoch of the pass to come as a loaded state has it
        self._begun = 0
        self._drawn: dict[int, EpochProgress] = {}  # by number, of our own sampler
        self._fetched: dict[int, _Fetched] = {}  # by loader

    def set_next(self, epoch: int) -> None:
        """The next pass is epoch ``epoch``."""
        self.next = int(epoch)

    @property
    def upcoming(self) -> int:
        """The epoch that the next pass will have."""
        if self.next is not None:
            return self.next
        return self.epoch + 1 if self.resumed is None else self.resumed

    def resume(self, epoch: int) -> None:
        """The next pass is ``epoch`` as a state has it, unless `set_next` says another from now on."""
        self.next, self.resumed = None, epoch

    def begin(self, samples: int = 0) -> EpochProgress:
        """Begin a pass; ``samples`` of it were handed out before it was interrupted."""
        self.epoch, self.next, self.resumed = self.upcoming, None, None
        self._begun += 1
        progress = self._drawn[self._begun] = EpochProgress(self.epoch, self._begun, samples)
        while len(self._drawn) > self._KEPT:
            del self._drawn[next(iter(self._drawn))]
        return progress

    def of(self, origin: Origin) -> EpochProgress:
        """The pass that a batch belongs to, begun now if it is new."""
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
