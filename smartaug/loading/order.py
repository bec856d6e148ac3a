"""Which samples come when: a sampler whose order can be resumed, and one that passes on the epoch it is given.

torch draws the order; we only note the state of its generators when a pass begins. Resuming puts them back, drops the
index lists already handed out (no sample is loaded), and leaves the global generator as it was. A checksum of the order
notices samplers that do not repeat themselves.
"""

from __future__ import annotations

import copy
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from .._base.ranks import here
from .._base.torch_fetch import DrawnAt, carrying, numbers
from ..pipeline.epochs import EpochCounter, EpochProgress, Repeats
from ..pipeline.selection import Selections

_END = object()


class SamplerPosition:
    """The position in one pass over the sampler: the generators' states at its start, a running checksum of the order,
    and the number of batches handed out.

    sampler_epoch: the sampler's own epoch (DistributedSampler), None where it has none. progress: epoch and count of
    samples, for the stages. exhausted: the sampler has no more indices. ended: the iterator raised StopIteration.
    """

    def __init__(self, states: list[Tensor], sampler_epoch: int | None, handed: int = 0) -> None:
        self.states, self.sampler_epoch, self.handed = states, sampler_epoch, handed
        self.checksums = [0]  # checksums[k]: of the first k index lists
        self.repeats = Repeats()
        self.progress = EpochProgress(0, 0)
        self.samples = 0  # as many as the batches handed out had
        self.length: int | None = None
        self.exhausted = self.ended = False
        self.asked = False  # whether a batch was asked for
        self.drew = False  # the dataset drew from a worker's global generators
        self.iterator: weakref.ref[Any] | None = None  # the `BatchIterator` of this pass

    def note(self, keys: Any) -> list[int] | None:
        """Take the next index list into the checksum; how often each of its samples came before, None for never."""
        self.checksums.append(zlib.crc32(repr(keys).encode(), self.checksums[-1]))
        return self.repeats.before(numbers(keys) or [])

    @property
    def dropped(self) -> bool:
        """Whether its iterator was deleted before a batch was asked for."""
        return not self.asked and self.iterator is not None and self.iterator() is None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "iterator": None}

    @property
    def over(self) -> bool:
        """Whether nothing is left: the iterator has ended, or all that the sampler had was handed out."""
        return self.ended or (self.exhausted and self.handed == len(self.checksums) - 1)


class SamplerState:
    """What the loader and torch's iterators share about the order. It must not know the loader: a cycle from torch's
    iterator to the loader would let forked workers collect persistent workers."""

    def __init__(
        self, generators: Iterable[torch.Generator | None], counter: EpochCounter, seed: Callable[[], int]
    ) -> None:
        self.own = list({id(g): g for g in generators if g is not None}.values())  # the loader's and its samplers'
        self.counter, self.seed = counter, seed
        self.latest: SamplerPosition | None = None
        self.resume: Mapping[str, Any] | None = None  # a loaded state, until its pass begins
        self.waiting = False  # an iterator was made, and its pass has not begun
        self.has_worker_seed = False  # the next iterator of torch's must not draw a seed for its workers
        self.said_drew = False  # that a state does not carry what the dataset draws
        self._replayed: tuple[SamplerPosition, Iterator[Any], Mapping[str, Any]] | None = None
        self._before_seed: list[Tensor] | None = None

    @property
    def generators(self) -> list[torch.Generator]:
        """The global generator of this process, and the loader's own."""
        return [torch.default_generator, *self.own]

    def own_states(self) -> list[Tensor]:
        """Between passes: the states of the loader's own generators; the global one is the user's to keep."""
        return [generator.get_state() for generator in self.own]

    @property
    def unbegun(self) -> Mapping[str, Any] | None:
        """The state that was loaded, while no pass has begun since."""
        return self.resume if self._replayed is None else self._replayed[2]

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``, in mid-epoch or between two epochs."""
        self.latest, self._replayed, self.waiting = None, None, False
        self.resume = state if state["begun"] else None
        self.has_worker_seed = state["has_worker_seed"]
        if self.resume is None:
            _put(self.own, state["generators"])

    def begin_iterator(self, sampler: Any) -> None:
        """Before an iterator of torch's is made: find the place in the order that a loaded state names.

        Where the interrupted pass has nothing left it is over, and the next one begins.
        """
        self.waiting = True
        latest, counter = self.latest, self.counter
        if latest is not None and latest.dropped and counter.epoch == latest.progress.epoch and counter.next is None:
            counter.next = counter.epoch  # workers fetched ahead for a pass that nobody ran: it is no epoch
        resume, self.resume = self.resume, None
        if resume is not None:
            self._find(sampler, resume)
        if self._replayed is not None or self.has_worker_seed:  # the interrupted run had drawn it already
            self._before_seed = [generator.get_state() for generator in self.generators]
        self.has_worker_seed = False

    def _find(self, sampler: Any, resume: Mapping[str, Any]) -> None:
        """Draw the order of the interrupted pass again, up to the place that the state ``resume`` names.

        What `set_epoch` has said since is of the next pass, where the interrupted one has nothing left.
        """
        said, given, saved = self.counter.next, epoch_of(sampler), resume["sampler_epoch"]
        self.counter.resume(resume["epoch"])
        if saved is not None and saved != given:
            _give_both(sampler, saved)
            self.counter.resume(resume["epoch"])
        position, lists = self._replay(sampler, resume)
        first = next(lists, _END)
        if first is _END:
            self._begun(position, sampler, resume)
            position.ended = True
        elif saved is not None and saved != given:
            raise _not_repeated(sampler)
        else:
            self._replayed = position, _chained(first, lists), resume
        if saved is not None and saved != given and given is not None:
            _give_both(sampler, given)
        if said is not None:
            self.counter.next = said

    def iterator_made(self) -> None:
        """After that: give back the seed of the workers, unless the pass has begun, which did so."""
        before, self._before_seed = self._before_seed, None
        if before is not None:
            _put(self.generators, before)

    def begin_pass(self, sampler: Any) -> tuple[SamplerPosition, Iterator[Any]]:
        """A pass over ``sampler`` begins: its position, and the index lists to come."""
        self.iterator_made()
        self.waiting, resume = False, None
        if self._replayed is not None:
            (position, lists, resume), self._replayed = self._replayed, None
        else:
            states = [generator.get_state() for generator in self.generators]
            position, lists = SamplerPosition(states, epoch_of(sampler)), iter(sampler)
        first = next(lists, _END)  # the sampler starts while its epoch still is the upcoming one
        position.length = _length(sampler)
        self._begun(position, sampler, resume)
        return position, (iter(()) if first is _END else _chained(first, lists))

    def _begun(self, position: SamplerPosition, sampler: Any, resume: Mapping[str, Any] | None) -> None:
        """Count the pass; after a resume, what `set_epoch` had said of the one that follows it is said again."""
        position.progress = self.counter.begin(position.samples)
        position.progress.repeats = copy.deepcopy(position.repeats)  # counted on by batches whose keys carry nothing
        self.latest = position
        if resume is None:
            return
        if resume["sampler_next_epoch"] is not None:
            _give_both(sampler, resume["sampler_next_epoch"])
        self.counter.next = resume["next_epoch"]

    def _replay(self, sampler: Any, state: Mapping[str, Any]) -> tuple[SamplerPosition, Iterator[Any]]:
        """The position that ``state`` names, and the index lists after it; the global generator stays as it is."""
        position = SamplerPosition(list(state["generators"]), epoch_of(sampler), state["batches"])
        position.samples = state["samples"]
        untouched = torch.get_rng_state()
        try:
            _put(self.generators, state["generators"])
            lists, drawn = iter(sampler), 0
            while drawn < state["batches"] and (keys := next(lists, _END)) is not _END:
                position.note(keys)
                drawn += 1
            first = next(lists, _END)  # a sampler that starts only now needs these generators, too
        finally:
            torch.set_rng_state(untouched)
        # Lightning gives every rank the state of rank 0, whose order only rank 0 can check
        same_order = state["rank"] != here()[0] or position.checksums[-1] == state["checksum"]
        if drawn < state["batches"] or not same_order:
            raise _not_repeated(sampler)
        return position, (iter(()) if first is _END else _chained(first, lists))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_replayed": None}


class ResumableSampler:
    """A sampler whose passes are noted in ``state``, and whose batches say in which pass they were drawn; the first
    pass after a resume continues where it was."""

    def __init__(self, sampler: Any, state: SamplerState) -> None:
        self.sampler, self.state = sampler, state
        self.position: SamplerPosition | None = None

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Any]:
        position, lists = self.state.begin_pass(self.sampler)
        self.position, progress, seed = position, position.progress, self.state.seed()
        keys = next(lists, _END)
        while keys is not _END:
            before, drawn = position.note(keys), len(position.checksums) - 1
            # after the last batch by length, ask the sampler for one more, as prefetching workers do: programs that
            # stop at the length never ask, and a state taken then must know that the pass is over
            following = next(lists, _END) if drawn == position.length else None
            position.exhausted = following is _END
            yield carrying(keys, DrawnAt(progress.number, progress.epoch, seed, before))
            keys = next(lists, _END) if following is None else following
        position.exhausted = True


class SamplerProxy:
    """Stands in for a sampler inside torch's BatchSampler, to get the epoch that frameworks set only there, and to
    select what is augmented before a pass begins.

    It is the sampler in all else: attributes, length, order, and what isinstance says. What is set on it is set on the
    sampler: Accelerate gives its ranks one order by setting ``generator``.
    """

    def __init__(self, sampler: Any, counter: EpochCounter, selections: Selections | None = None) -> None:
        self._sampler, self._counter, self._selections = sampler, counter, selections

    @property
    def __class__(self) -> type:
        return type(self._sampler)

    @__class__.setter
    def __class__(self, value: type) -> None:
        raise TypeError("the class of a sampler's stand-in cannot be set")

    def __iter__(self) -> Iterator[Any]:
        if self._selections is not None:  # before workers load a sample that a selection concerns
            self._selections.of(self._counter.upcoming)
        return iter(self._sampler)

    def __len__(self) -> int:
        return len(self._sampler)

    def set_epoch(self, epoch: int) -> None:
        """Pass the epoch on, to the sampler and to the stages."""
        self._counter.set_next(epoch)
        give_epoch(self._sampler, epoch)

    def __getattr__(self, name: str) -> Any:
        if name in ("_sampler", "_counter", "_selections"):  # not there yet while unpickling
            raise AttributeError(name)
        return getattr(self._sampler, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("_sampler", "_counter", "_selections", "__class__"):
            object.__setattr__(self, name, value)
        else:
            setattr(self._sampler, name, value)

    def __reduce__(self) -> tuple:
        return SamplerProxy, (self._sampler, self._counter, self._selections)


def epoch_of(sampler: Any) -> int | None:
    """The epoch that a sampler, or the one inside a batch sampler, was given last; None where it keeps none."""
    for source in (sampler, getattr(sampler, "sampler", None)):
        epoch = getattr(source, "epoch", None)
        if isinstance(epoch, int):
            return epoch
    return None


def give_epoch(sampler: Any, epoch: int) -> None:
    """Set the epoch of a sampler that wants to know it (DistributedSampler)."""
    give = getattr(sampler, "set_epoch", None)
    if callable(give):
        give(epoch)


def _give_both(sampler: Any, epoch: int) -> None:
    """Set the epoch of a sampler and of the one inside it."""
    for source in (sampler, getattr(sampler, "sampler", None)):
        give_epoch(source, epoch)


def _not_repeated(sampler: Any) -> RuntimeError:
    source = getattr(sampler, "sampler", sampler)
    return RuntimeError(
        f"the sampler {source.__class__.__name__} did not repeat its order, so the epoch cannot be resumed: "
        "it draws from something else than torch's global generator or its own `generator`, the dataset has "
        "changed, or set_epoch differs. Give it a torch.Generator, or resume at an epoch's start"
    )


def _chained(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    while (keys := next(rest, _END)) is not _END:  # `yield from` would call iter, with which some samplers begin anew
        yield keys


def _put(generators: list[torch.Generator], states: list[Tensor]) -> None:
    if len(states) != len(generators):
        raise RuntimeError(
            "the loader's state was saved with other generators; build it with the same generator= and sampler="
        )
    for generator, state in zip(generators, states, strict=True):
        generator.set_state(state)


def _length(sampler: Any) -> int | None:
    try:
        return len(sampler)
    except (TypeError, NotImplementedError):
        return None
