"""The order of the samples: a sampler whose passes can be resumed, and one that forwards `set_epoch`.

torch draws the order. This module only records the states of the generators when a pass begins. Resuming restores these
states, skips the index lists already handed out (no sample is loaded for them), and leaves the global generator as it
was. A checksum of the order detects samplers that do not repeat it.
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
from .samplers.settings import sampler_settings

_END = object()  # returned by `next` when a sampler is exhausted
Keys = Any  # what a sampler yields: a dataset index, or the list of indices of a batch
SamplerLike = Any  # torch's sampler or the user's: an iterable of keys, some with a length and other attributes


class SamplerPosition:
    """The position in one pass over the sampler: the generators' states at its start, a running checksum of the order,
    and the number of batches handed out.

    sampler_epoch: the sampler's own epoch (DistributedSampler), None where it has none. progress: the epoch and the
    number of samples so far, for the stages. exhausted: the sampler has no more indices. ended: the iterator of batches
    raised StopIteration.
    """

    def __init__(self, states: list[Tensor], sampler_epoch: int | None, handed: int = 0) -> None:
        self.states, self.sampler_epoch, self.handed = states, sampler_epoch, handed
        self.checksums = [0]  # checksums[k]: of the first k index lists
        self.repeats = Repeats()
        self.progress = EpochProgress(0, 0)
        self.samples = 0  # in the batches handed out
        self.length: int | None = None
        self.exhausted = self.ended = False
        self.asked = False  # whether a batch was requested
        self.drew = False  # whether the dataset drew from a worker's global generators
        self.iterator: weakref.ref[object] | None = None  # the `BatchIterator` of this pass
        self.sampler_settings: list[str] = []  # of the sampler, as the pass began

    def note(self, keys: Keys) -> list[int] | None:
        """Add the next index list to the checksum. Returns how often each of its samples came before in the
        pass, or None where none did.
        """
        self.checksums.append(zlib.crc32(repr(keys).encode(), self.checksums[-1]))
        return self.repeats.before(numbers(keys) or [])

    @property
    def dropped(self) -> bool:
        """Whether its iterator was deleted before a batch was requested."""
        return not self.asked and self.iterator is not None and self.iterator() is None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "iterator": None}

    @property
    def over(self) -> bool:
        """Whether no batch is left: the iterator has ended, or every index list of the sampler was handed out."""
        return self.ended or (self.exhausted and self.handed == len(self.checksums) - 1)


class SamplerState:
    """The part of a loader's state that concerns the order, shared with torch's iterators.

    It must not refer to the loader: with a reference cycle between torch's iterator and the loader, the garbage
    collector of a forked worker could finalise the iterator of the persistent workers.
    """

    def __init__(
        self, generators: Iterable[torch.Generator | None], counter: EpochCounter, seed: Callable[[], int]
    ) -> None:
        self.own = list({id(g): g for g in generators if g is not None}.values())  # of the loader and of its samplers
        self.counter, self.seed = counter, seed
        self.latest: SamplerPosition | None = None
        self.resume: Mapping[str, Any] | None = None  # a loaded state, until its pass begins
        self.waiting = False  # whether an iterator was made whose pass has not begun
        self.has_worker_seed = (
            False  # whether the workers' seed of the next iterator was drawn before the state was saved
        )
        self.said_drew = False  # whether the warning about the dataset's own draws was given
        self._replayed: tuple[SamplerPosition, Iterator[Keys], Mapping[str, Any]] | None = None
        self._before_seed: list[Tensor] | None = None

    @property
    def generators(self) -> list[torch.Generator]:
        """The global generator of this process, then those of the loader and its samplers."""
        return [torch.default_generator, *self.own]

    def own_states(self) -> list[Tensor]:
        """The states of the generators of the loader and its samplers. Saving the global one is up to the user."""
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

    def begin_iterator(self, sampler: SamplerLike) -> None:
        """Find the position of a loaded state in the order. Call it before an iterator of torch's is made.

        Where the interrupted pass has no batch left, it is over, and the next one begins.
        """
        self.waiting = True
        latest, counter = self.latest, self.counter
        if latest is not None and latest.dropped and counter.epoch == latest.progress.epoch and counter.next is None:
            counter.next = (
                counter.epoch
            )  # workers fetched ahead for a pass of which no batch was requested: it is no epoch
        resume, self.resume = self.resume, None
        if resume is not None:
            self._find(sampler, resume)
        if (
            self._replayed is not None or self.has_worker_seed
        ):  # the interrupted run had drawn the workers' seed already
            self._before_seed = [generator.get_state() for generator in self.generators]
        self.has_worker_seed = False

    def _find(self, sampler: SamplerLike, resume: Mapping[str, Any]) -> None:
        """Draw the order of the interrupted pass again, up to the position in the state ``resume``.

        Where the interrupted pass has no batch left, an epoch set since then by `set_epoch` is that of the next pass.
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
        """Undo the draw of the workers' seed, unless `begin_pass` did so. Call it after torch's iterator was made."""
        before, self._before_seed = self._before_seed, None
        if before is not None:
            _put(self.generators, before)

    def begin_pass(self, sampler: SamplerLike) -> tuple[SamplerPosition, Iterator[Keys]]:
        """Begin a pass over ``sampler``. Returns its position and the index lists to come."""
        self.iterator_made()
        self.waiting, resume = False, None
        if self._replayed is not None:
            (position, lists, resume), self._replayed = self._replayed, None
        else:
            states = [generator.get_state() for generator in self.generators]
            position, held = SamplerPosition(states, epoch_of(sampler)), sampler_settings(sampler)
            position.sampler_settings, lists = held, iter(sampler)
        first = next(lists, _END)  # the sampler starts before the epoch is counted
        position.length = _length(sampler)
        self._begun(position, sampler, resume)
        return position, (iter(()) if first is _END else _chained(first, lists))

    def _begun(self, position: SamplerPosition, sampler: SamplerLike, resume: Mapping[str, Any] | None) -> None:
        """Count the pass. After a resume, restore the epoch that `set_epoch` had given to the pass after it."""
        position.progress = self.counter.begin(position.samples)
        position.progress.repeats = copy.deepcopy(position.repeats)  # continued by batches whose keys carry no counts
        self.latest = position
        if resume is None:
            return
        if resume["sampler_next_epoch"] is not None:
            _give_both(sampler, resume["sampler_next_epoch"])
        self.counter.next = resume["next_epoch"]

    def _replay(self, sampler: SamplerLike, state: Mapping[str, Any]) -> tuple[SamplerPosition, Iterator[Keys]]:
        """The position in ``state`` and the index lists after it. The global generator is left as it is.

        Raises RuntimeError where the sampler does not repeat its order.
        """
        position = SamplerPosition(list(state["generators"]), epoch_of(sampler), state["batches"])
        position.sampler_settings = sampler_settings(sampler)
        position.samples = state["samples"]
        untouched = torch.get_rng_state()
        try:
            _put(self.generators, state["generators"])
            lists, drawn = iter(sampler), 0
            while drawn < state["batches"] and (keys := next(lists, _END)) is not _END:
                position.note(keys)
                drawn += 1
            first = next(
                lists, _END
            )  # with no batch to skip the sampler starts only here, and must draw from these states
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
    """A sampler that records its passes in ``state``. Its index lists carry the pass and the epoch they were drawn in.

    The first pass after a resume continues from the saved position.
    """

    def __init__(self, sampler: SamplerLike, state: SamplerState) -> None:
        self.sampler, self.state = sampler, state
        self.position: SamplerPosition | None = None

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Keys]:
        position, lists = self.state.begin_pass(self.sampler)
        self.position, progress, seed = position, position.progress, self.state.seed()
        keys = next(lists, _END)
        while keys is not _END:
            before, drawn = position.note(keys), len(position.checksums) - 1
            made = carrying(keys, DrawnAt(progress.number, progress.epoch, seed, before))  # the sampler may reuse keys
            # after as many lists as its length, request one more from the sampler, as prefetching workers do: training
            # loops that stop at the length never request it, and a state saved then must record that the pass is over
            following = next(lists, _END) if drawn == position.length else None
            position.exhausted = following is _END
            yield made
            keys = next(lists, _END) if following is None else following
        position.exhausted = True


class SamplerProxy:
    """A stand-in for a sampler inside torch's BatchSampler. It receives the epoch that frameworks set only there, and
    selects the samples to augment before a pass begins.

    In all else it is the sampler: its attributes, length and order, and the result of isinstance. Attributes set on it
    are set on the sampler, since Accelerate gives all ranks the same order by setting ``generator``.
    """

    def __init__(self, sampler: SamplerLike, counter: EpochCounter, selections: Selections | None = None) -> None:
        self._sampler, self._counter, self._selections = sampler, counter, selections

    @property
    def __class__(self) -> type:
        return type(self._sampler)

    @__class__.setter
    def __class__(self, value: type) -> None:
        raise TypeError("the class of a sampler's stand-in cannot be set")

    def __iter__(self) -> Iterator[Keys]:
        if self._selections is not None:  # before a worker reads the selection
            self._selections.of(self._counter.upcoming)
        return iter(self._sampler)

    def __len__(self) -> int:
        return len(self._sampler)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass, for the sampler and for the stages."""
        self._counter.set_next(epoch)
        give_epoch(self._sampler, epoch)

    def __getattr__(self, name: str) -> Any:
        if name in ("_sampler", "_counter", "_selections"):  # not there yet while unpickling
            raise AttributeError(name)
        return getattr(self._sampler, name)

    def __setattr__(self, name: str, value: object) -> None:
        if name in ("_sampler", "_counter", "_selections", "__class__"):
            object.__setattr__(self, name, value)
        else:
            setattr(self._sampler, name, value)

    def __reduce__(self) -> tuple:
        return SamplerProxy, (self._sampler, self._counter, self._selections)


def epoch_of(sampler: object) -> int | None:
    """The epoch of a sampler, or of the sampler inside a batch sampler; None where neither has one."""
    for source in (sampler, getattr(sampler, "sampler", None)):
        epoch = getattr(source, "epoch", None)
        if isinstance(epoch, int):
            return epoch
    return None


def give_epoch(sampler: object, epoch: int) -> None:
    """Set the epoch of a sampler that has ``set_epoch`` (DistributedSampler)."""
    give = getattr(sampler, "set_epoch", None)
    if callable(give):
        give(epoch)


def _give_both(sampler: object, epoch: int) -> None:
    """Set the epoch of a sampler and of the one inside it."""
    for source in (sampler, getattr(sampler, "sampler", None)):
        give_epoch(source, epoch)


def _not_repeated(sampler: object) -> RuntimeError:
    source = getattr(sampler, "sampler", sampler)
    return RuntimeError(
        f"the sampler {source.__class__.__name__} did not repeat its order, so the epoch cannot be resumed: "
        "it draws from something else than torch's global generator or its own `generator`, the dataset has "
        "changed, or set_epoch differs. Give it a torch.Generator, or resume at an epoch's start"
    )


def _chained(first: Keys, rest: Iterator[Keys]) -> Iterator[Keys]:
    yield first
    while (
        keys := next(rest, _END)
    ) is not _END:  # not `yield from`, which calls iter: some samplers start over at that
        yield keys


def _put(generators: list[torch.Generator], states: list[Tensor]) -> None:
    if len(states) != len(generators):
        raise RuntimeError(
            "the loader's state was saved with other generators; build it with the same generator= and sampler="
        )
    for generator, state in zip(generators, states, strict=True):
        generator.set_state(state)


def _length(sampler: SamplerLike) -> int | None:
    try:
        return len(sampler)
    except (TypeError, NotImplementedError):
        return None
