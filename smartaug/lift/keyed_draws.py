"""Seeds random transforms in the workers by (seed, epoch, sample), so that a resumed epoch repeats their draws.

What: for each call of the part that stays per sample, or of a whole pipeline that could not be lifted for a sample, the
global random generators and those held by the transforms are seeded, and restored afterwards. When: under
`smartaug.DataLoader`, whose sampler carries seed and epoch; elsewhere nothing is seeded. Cost: about 0.05 ms per call
where a transform may draw, 0.01 ms for torchvision's crops and mirrors, else nothing. If the dataset calls its
transform once per sample, each call draws by its sample. In all other cases (also a whole pipeline that runs while a
batch is collated) calls are numbered within the batch, so that their draws repeat if the batch does.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from .. import draws
from .._base.torch_fetch import Carrier, batch_keys, numbers
from ..augment.foreign import forked, forked_rng, forked_torch
from ..augment.generators import Generators

_CPU = torch.device("cpu")
_WORKER = 0x5EED  # any constant: separates these streams from those of the stages on the batch
_TIMES = 40  # bits for the dataset index; the higher bits count earlier occurrences of the sample
_FIXED = {
    *("CenterCrop", "ConvertImageDtype", "FiveCrop", "Grayscale", "Normalize", "PILToTensor", "Pad", "Resize"),
    *("TenCrop", "ToDtype", "ToImage", "ToPILImage", "ToPureTensor", "ToTensor"),
}
_BY_TORCH = {"RandomCrop", "RandomHorizontalFlip", "RandomResizedCrop", "RandomVerticalFlip"}  # draw by torch alone


class KeyedDraws:
    """Seeds the generators that ``transforms`` draw from, for one call: ``with keyed(): ...``."""

    def __init__(self, transforms: Sequence[object]) -> None:
        self.transforms = [transform for transform in transforms if not _is_fixed(transform)]
        self._generators: Generators | None = None
        self._by_torch = all(_is_torchvisions(transform, _BY_TORCH) for transform in self.transforms)

    def __call__(self) -> AbstractContextManager[None]:
        """The context of one call; an empty one if no transform draws, or the generators are already forked."""
        if not self.transforms or forked():
            return nullcontext()
        keys, _ = batch_keys()
        stream = None if keys is None else _streams.next(keys)
        if stream is None:
            return nullcontext()
        return forked_torch(stream) if self._by_torch else self._set(stream)

    @contextmanager
    def _set(self, stream: int) -> Iterator[None]:
        if self._generators is None:
            self._generators = Generators(self.transforms)
        with forked_rng(stream, _CPU), self._generators.seeded(stream):
            yield

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_generators": None}


class _Streams(threading.local):
    """The stream keys of the batch that a thread is loading: of each sample, for each round of calls."""

    def __init__(self) -> None:
        self.keys: Carrier | None = None
        self.index: list[int] = []
        self.rounds: list[list[int]] = []

    def next(self, keys: Carrier) -> int | None:
        """That of the next call in the batch ``keys``; None for keys that are not integers."""
        if self.keys is not keys:
            self.keys, self.index, self.rounds = keys, numbers(keys) or [], []
        if not self.index:
            return None
        call = keys.asked[None]
        keys.asked[None] += 1
        again, place = divmod(call, len(self.index))
        while len(self.rounds) <= again:
            self.rounds.append(_streams_of(keys, self.index, len(self.rounds)))
        return self.rounds[again][place]


_streams = _Streams()


def _streams_of(keys: Carrier, index: list[int], again: int) -> list[int]:
    """The stream keys of the samples ``index`` of a batch, when they are transformed for the ``again``-th time."""
    drawn = keys.drawn
    before = [0] * len(index) if drawn.before is None else drawn.before
    named = [number + (times << _TIMES) for number, times in zip(index, before, strict=False)]
    samples = torch.tensor(named, dtype=torch.int64, device="cpu")
    made: list[int] = draws.fold(draws.fold(draws.key(drawn.seed, drawn.epoch, samples), _WORKER), again).tolist()
    return made


def may_draw(transforms: Iterable[object]) -> bool:
    """Whether any of these single transforms may draw random numbers."""
    return not all(map(_is_fixed, transforms))


def _is_fixed(transform: object) -> bool:
    """Whether it is one of torchvision's transforms that never draw."""
    return _is_torchvisions(transform, _FIXED)


def _is_torchvisions(transform: object, names: set[str]) -> bool:
    kind = type(transform)
    return kind.__module__.partition(".")[0] == "torchvision" and kind.__name__ in names
