"""Seeds random transforms in the workers by (seed, epoch, sample), so that a resumed epoch repeats their draws.

What: for each call of the part that stays per sample, or of a whole pipeline that could not be lifted for a sample, the
global random generators and those held by the transforms are seeded, and restored afterwards. When: under
`smartaug.DataLoader`, whose sampler carries seed and epoch; elsewhere nothing is seeded. Cost: about 0.07 ms per call
where a transform may draw, else nothing. If the dataset calls its transform once per sample, each call draws by its
sample. In all other cases (also a whole pipeline that runs while a batch is collated) calls are numbered within the
batch, so that their draws repeat if the batch does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from .. import draws
from .._base.torch_fetch import Carrier, batch_keys, numbers
from ..augment.foreign import forked, forked_rng
from ..augment.generators import Generators

_CPU = torch.device("cpu")
_WORKER = 0x5EED  # any constant: separates these streams from those of the stages on the batch
_TIMES = 40  # bits for the dataset index; the higher bits count earlier occurrences of the sample
_FIXED = {
    *("CenterCrop", "ConvertImageDtype", "FiveCrop", "Grayscale", "Normalize", "PILToTensor", "Pad", "Resize"),
    *("TenCrop", "ToDtype", "ToImage", "ToPILImage", "ToPureTensor", "ToTensor"),
}


class KeyedDraws:
    """Seeds the generators that ``transforms`` draw from, for one call: ``with keyed(): ...``."""

    def __init__(self, transforms: Sequence[object]) -> None:
        self.transforms = [transform for transform in transforms if not _is_fixed(transform)]
        self._generators: Generators | None = None

    def __call__(self) -> AbstractContextManager[None]:
        """The context of one call; an empty one if no transform draws, or the generators are already forked."""
        if not self.transforms or forked():
            return nullcontext()
        keys, _ = batch_keys()
        stream = None if keys is None else _stream(keys)
        return nullcontext() if stream is None else self._set(stream)

    @contextmanager
    def _set(self, stream: Tensor) -> Iterator[None]:
        if self._generators is None:
            self._generators = Generators(self.transforms)
        with forked_rng(stream, _CPU), self._generators.seeded(int(stream)):
            yield

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_generators": None}


def _stream(keys: Carrier) -> Tensor | None:
    """Stream key of the next call in the batch ``keys``, (1,) int64; None for keys that are not integers."""
    index = numbers(keys)
    if not index:
        return None
    drawn, call = keys.drawn, keys.asked[None]
    keys.asked[None] += 1
    again, place = divmod(call, len(index))
    before = 0 if drawn.before is None else drawn.before[place]
    sample = torch.tensor([index[place] + (before << _TIMES)], dtype=torch.int64, device="cpu")
    return draws.fold(draws.fold(draws.key(drawn.seed, drawn.epoch, sample), _WORKER), again)


def may_draw(transforms: Iterable[object]) -> bool:
    """Whether any of these single transforms may draw random numbers."""
    return not all(map(_is_fixed, transforms))


def _is_fixed(transform: object) -> bool:
    """Whether it is one of torchvision's transforms that never draw."""
    kind = type(transform)
    return kind.__module__.partition(".")[0] == "torchvision" and kind.__name__ in _FIXED
