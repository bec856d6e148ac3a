"""`wrap`: the stages around any iterable of batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from .._leaves import Specs, Targets
from ..pipeline.passes import Running
from ..pipeline.pipeline import Pipeline
from ..pipeline.settings import Settings, Views
from ..pipeline.stages import classes_of
from .collate import Collate, Pending
from .dataloader import DataLoader
from .order import forward_epoch


class Wrapped:
    """What `wrap` returns: the batches of ``loader`` after the stages. Other attributes are the loader's own."""

    def __init__(self, loader: Iterable, pipeline: Pipeline) -> None:
        self.loader, self._pipeline = loader, pipeline
        self._running: Running | None = None  # the pass under way
        self._resumed = 0  # samples that a resumed pass has handed out already

    def __iter__(self) -> Iterator[Any]:
        self._running = running = None
        for data in self.loader:
            if isinstance(data, Pending):
                raise TypeError("wrap got a loader that already is smartaug's; pass its stages to one of the two")
            if running is None:  # the pass begins with its first batch, as in DataLoader
                running = self._pipeline.passes.begin()
                running.samples, self._resumed = self._resumed, 0
            self._running = running  # the latest of several live ones
            yield self._pipeline.run(data, None, running)
        self._running = None
        self._pipeline.readers.look(ended=True)

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]

    def set_epoch(self, epoch: int) -> None:
        """The next pass is epoch ``epoch``, for the stages, the loader and its sampler."""
        self._pipeline.passes.tell(epoch)
        forward_epoch(self.loader, epoch)
        if not hasattr(self.loader, "set_epoch"):
            forward_epoch(getattr(self.loader, "sampler", None), epoch)

    def steps(self, epochs: int) -> int:
        """See `DataLoader.steps`."""
        return epochs * len(self)

    def stats(self) -> dict[str, Any]:
        """See `DataLoader.stats`."""
        return self._pipeline.stats()

    def explain(self) -> str:
        """See `DataLoader.explain`."""
        return self._pipeline.explain()

    def state_dict(self) -> dict[str, Any]:
        """Epoch and stages, and the wrapped loader's state if it keeps one: the position in the data is its own.

        In mid-epoch it is the running epoch; a wrapped loader that keeps no state begins that epoch anew.
        """
        own, running = getattr(self.loader, "state_dict", None), self._running
        return {
            "epoch": self._pipeline.passes.upcoming if running is None else running.epoch,
            "samples": 0 if running is None or own is None else running.samples,
            "stages": self._pipeline.state_dict(),
            "loader": None if own is None else own(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self._pipeline.load_state_dict(state["stages"])
        self._pipeline.passes.tell(state["epoch"])
        self._running, self._resumed = None, state["samples"]
        if state["loader"] is not None:
            self.loader.load_state_dict(state["loader"])  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        if name == "loader":
            raise AttributeError(name)
        return getattr(self.loader, name)


def wrap(
    loader: Iterable,
    *,
    augment: Any = None,
    reweight: Any = None,
    device: torch.device | str | None = None,
    seed: int | None = None,
    inputs: Specs = None,
    target: Targets = None,
    views: Views | None = None,
    still: Specs = None,
    returns: str = "same",
) -> Wrapped:
    """The stages around any iterable of batches: webdataset, DALI, FFCV, a loader that Accelerate has prepared.

    The keywords are `DataLoader`'s, but for coreset=, which needs the sampler. The batches carry no dataset indices, so
    draws are keyed by a running count: they repeat for a seed and an epoch as far as the iterable's order does.
    """
    settings = Settings.of(locals())
    if not hasattr(loader, "__iter__"):
        raise TypeError(f"wrap needs an iterable of batches, got {type(loader).__name__}")
    if isinstance(loader, DataLoader) and isinstance(loader.collate_fn, Collate):
        raise TypeError("wrap got a smartaug.DataLoader that has stages; give it all of them and leave wrap out")
    return Wrapped(loader, Pipeline(settings, classes=classes_of(getattr(loader, "dataset", None), target)))
