"""Which samples come when: recording a sampler's order so that it can be resumed, and listening for its epoch.

torch draws the order; we only note the state of its generators when a pass begins. Resuming puts them back, drops the
index lists already handed out (no sample is loaded), and leaves the global generator as it was. A checksum of the order
notices samplers that do not repeat themselves.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from .._ranks import here
from ..pipeline.passes import Passes
from ..pipeline.selection import Selections


class Pass:
    """One pass over the sampler: generator states at its start, a running checksum of the order, batches handed out.

    told: the epoch that the sampler itself had, or None where it has none. samples: as many as the batches had.
    skipped: the index lists of the batches handed out before the pass was resumed, until somebody takes them.
    """

    def __init__(self, states: list[Tensor], told: int | None, handed: int = 0, samples: int = 0) -> None:
        self.states, self.told, self.handed, self.samples = states, told, handed, samples
        self.skipped: list[Any] = []
        self.checksums = [0]  # checksums[k]: of the first k index lists
        self.epoch: int | None = None
        self.ended = False

    def note(self, keys: Any) -> None:
        """Take the next index list into the checksum."""
        self.checksums.append(zlib.crc32(repr(keys).encode(), self.checksums[-1]))


class Record:
    """What the loader and torch's iterators share about the order. It must not know the loader: a cycle from torch's
    iterator to the loader would let forked workers collect persistent workers."""

    def __init__(self, generators: Iterable[torch.Generator | None]) -> None:
        self.own = list({id(g): g for g in generators if g is not None}.values())  # the loader's and its samplers'
        self.latest: Pass | None = None
        self.resume: Mapping[str, Any] | None = None
        self.waiting: list[Tensor] | None = None  # own states before a pass that has handed nothing out yet

    @property
    def generators(self) -> list[torch.Generator]:
        """The global generator of this process, and the loader's own."""
        return [torch.default_generator, *self.own]

    def own_states(self) -> list[Tensor]:
        """Between passes: the states of the loader's own generators; the global one is the user's to keep."""
        return [generator.get_state() for generator in self.own]

    def put_own(self, states: list[Tensor]) -> None:
        """Put back what `own_states` gave."""
        self._put(self.own, states)

    def put_all(self, states: list[Tensor]) -> None:
        """Put back the states that a pass began with."""
        self._put(self.generators, states)

    def _put(self, generators: list[torch.Generator], states: list[Tensor]) -> None:
        if len(states) != len(generators):
            raise RuntimeError(
                "the loader's state was saved with other generators; build it with the same generator= and sampler="
            )
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


class Recorded:
    """A sampler whose passes are noted in ``record``; the first pass after a resume continues where it was."""

    def __init__(self, sampler: Any, record: Record) -> None:
        self.sampler, self.record = sampler, record
        self.latest: Pass | None = None

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Any]:
        record = self.record
        resume, record.resume = record.resume, None
        if resume is None:
            states = [generator.get_state() for generator in record.generators]
            self.latest = record.latest = Pass(states, told_epoch(self.sampler))
            lists = iter(self.sampler)
        else:
            handed, samples = resume["batches"], resume.get("samples", 0)
            self.latest = record.latest = Pass(list(resume["generators"]), told_epoch(self.sampler), handed, samples)
            lists = self._replay(resume, self.latest)
        for keys in lists:
            self.latest.note(keys)
            yield keys

    def _replay(self, state: Mapping[str, Any], latest: Pass) -> Iterator[Any]:
        untouched = torch.get_rng_state()
        try:
            self.record.put_all(state["generators"])
            lists = iter(self.sampler)
            for keys in itertools.islice(lists, state["batches"]):
                latest.note(keys)
                latest.skipped.append(keys)
        finally:
            torch.set_rng_state(untouched)
        # Lightning gives every rank the state of rank 0, whose order only rank 0 can check
        same_order = state["rank"] != here()[0] or latest.checksums[-1] == state["checksum"]
        if len(latest.checksums) <= state["batches"] or not same_order:
            source = getattr(self.sampler, "sampler", self.sampler)
            raise RuntimeError(
                f"the sampler {source.__class__.__name__} did not repeat its order, so the epoch cannot be resumed: "
                "it draws from something else than torch's global generator or its own `generator`, the dataset has "
                "changed, or set_epoch differs. Give it a torch.Generator, or resume at an epoch's start"
            )
        return lists


class Listening:
    """Stands in for a sampler inside torch's BatchSampler, to hear the epoch that frameworks tell only there, and to
    select what is augmented before a pass begins.

    It is the sampler in all else: attributes, length, order, and what isinstance says. What is set on it is set on the
    sampler: Accelerate gives its ranks one order by setting ``generator``.
    """

    def __init__(self, sampler: Any, passes: Passes, selections: Selections | None = None) -> None:
        self._sampler, self._passes, self._selections = sampler, passes, selections

    @property
    def __class__(self) -> type:
        return type(self._sampler)

    @__class__.setter
    def __class__(self, value: type) -> None:
        raise TypeError("the class of a sampler's stand-in cannot be set")

    def __iter__(self) -> Iterator[Any]:
        if self._selections is not None:  # before workers load a sample that a selection concerns
            self._selections.of(self._passes.upcoming)
        return iter(self._sampler)

    def __len__(self) -> int:
        return len(self._sampler)

    def set_epoch(self, epoch: int) -> None:
        """Pass the epoch on, to the sampler and to the stages."""
        self._passes.tell(epoch)
        forward_epoch(self._sampler, epoch)

    def __getattr__(self, name: str) -> Any:
        if name in ("_sampler", "_passes", "_selections"):  # not there yet while unpickling
            raise AttributeError(name)
        return getattr(self._sampler, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("_sampler", "_passes", "_selections", "__class__"):
            object.__setattr__(self, name, value)
        else:
            setattr(self._sampler, name, value)

    def __reduce__(self) -> tuple:
        return Listening, (self._sampler, self._passes, self._selections)


def told_epoch(sampler: Any) -> int | None:
    """The epoch that a sampler, or the one inside a batch sampler, was told last; None where it keeps none."""
    for source in (sampler, getattr(sampler, "sampler", None)):
        epoch = getattr(source, "epoch", None)
        if isinstance(epoch, int):
            return epoch
    return None


def forward_epoch(sampler: Any, epoch: int) -> None:
    """Tell the epoch to a sampler that wants to know it (DistributedSampler)."""
    tell = getattr(sampler, "set_epoch", None)
    if callable(tell):
        tell(epoch)
