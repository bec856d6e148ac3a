"""The sources of magnitudes among the stages of a loader (``magnitude=smartaug.EntAugment()``), told what they need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from ..augment.magnitudes import SampleMagnitudes
from ..batch import Target
from ..grads.logits import logits_of
from .stages import Stage, all_parts, name_of


class Magnitudes:
    """The sources in the policies among the steps, each once."""

    def __init__(self, steps: Iterable[Stage]) -> None:
        found = (getattr(part, "magnitude", None) for part in all_parts(steps))
        sources = {id(source): source for source in found if isinstance(source, SampleMagnitudes)}
        self.sources = list(sources.values())

    def attach(self, dataset: object) -> None:
        """Tell the sources whose samples they are asked for."""
        for source in self.sources:
            source.attach(dataset)

    def begin(self, epoch: int, index: Sequence[int] | None) -> None:
        """Called before each batch: the first of an epoch begins it. ValueError for samples without an index."""
        if self.sources and index is None:
            raise ValueError(
                f"{name_of(self.sources[0])} keeps magnitudes by dataset index, and these batches have none (an "
                "IterableDataset, or a collate function that merges samples); write magnitude=9, or magnitude=(0, 30)"
            )
        for source in self.sources:
            source.begin(epoch)

    def observe(self, index: Tensor | None, output: object, target: Target, classifies: bool) -> None:
        """Pass the outputs to the sources, see `Pipeline.observe`."""
        if not self.sources or index is None:
            return
        if not classifies:
            raise TypeError(
                f"{name_of(self.sources[0])} reads the probabilities of classifiers, and this criterion compares "
                "element by element; use a cross entropy, or magnitude=(0, 30)"
            )
        logits = logits_of(output).detach()
        for source in self.sources:
            source.observe(index, logits, target)

    def stats(self) -> dict[str, Any]:
        """``{"magnitudes": ...}`` with the statistics of each source by its name; {} where there are none."""
        return {"magnitudes": {name_of(one): one.stats() for one in self.sources}} if self.sources else {}

    def state(self) -> list[dict[str, Any]]:
        """The state of each source, in their order."""
        return [source.state_dict() for source in self.sources]

    def load(self, states: Sequence[dict[str, Any]]) -> None:
        """Put back what `state` gave; nothing where the state has none (``record=False``), or of other sources."""
        if len(states) == len(self.sources):
            for source, state in zip(self.sources, states, strict=True):
                source.load_state_dict(state)
