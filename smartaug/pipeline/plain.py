"""The pipeline of ``loader.plain()``: conversion, normalisation and sizes, without anything random.

What: `preparing` makes a pipeline of the same settings whose stages have no random part: steps that change the size
resize the whole image, normalisation and casts stay, foreign stages run only if they prepare images (``Resize``). It
has no weights and no selection, and does not count. When: evaluating on the training data, ``with loader.plain()``.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import Tensor

from ..augment.augmentation import Augmentation
from ..augment.foreign import Foreign, Keyed
from ..augment.partly import Plain, plain_foreign
from .augmenting.augmenting import Augmenting
from .choosing import Choosing
from .decoded_files import NO_FILES
from .epochs import EpochCounter
from .pipeline import Pipeline
from .selection import Selecting
from .weighing import Weighing


def preparing(pipeline: Pipeline) -> Pipeline:
    """A new pipeline: ``pipeline`` without its random parts. It shares no counts and no state."""
    twin = copy.copy(pipeline)
    twin.augmenting = Augmenting(_plain(pipeline.steps), [], pipeline.seed, pipeline.augmenting.names)
    twin.steps = twin.augmenting.steps
    twin.augmenting_finished = Augmenting(_plain(pipeline.augmenting_finished.steps), [], pipeline.seed)
    twin.reweight = twin.coreset = twin.share = None
    twin.files = NO_FILES
    twin.selecting, twin.choosing = Selecting(None), Choosing(None)
    if pipeline.joint is not None:
        twin.joint = copy.copy(pipeline.joint)
        twin.joint.steps = _plain(pipeline.joint.steps)
    twin.weighing, twin.epochs, twin.counts = Weighing(None), EpochCounter(), dict.fromkeys(pipeline.counts, 0)
    return twin


def _plain(steps: Sequence[Augmentation | Foreign]) -> list[Augmentation | Foreign]:
    return [_plain_foreign(step) if isinstance(step, Foreign) else Plain(step) for step in steps]


def _plain_foreign(step: Foreign) -> Foreign:
    def prepare(images: Tensor, key: Tensor) -> Tensor:
        return plain_foreign(step, images, key)

    return Keyed(prepare, step.name, moves_pixels=False)
