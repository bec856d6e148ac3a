"""`wrap`: the stages around any iterable of batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from .._base.dataset_labels import classes_of
from .._base.leaves import Specs, Targets
from .._base.names import suggest_keywords
from .._base.table_dataset import reading_of
from ..pipeline.epochs import EpochProgress
from ..pipeline.pipeline import Pipeline
from ..pipeline.settings import Settings, Views
from .collate import Collate, Pending
from .dataloader import DataLoader
from .keywords.coreset import refuse_selecting
from .keywords.training_set import refuse_without_dataset
from .order import give_epoch
from .pictures.show import Picture, show
from .state import VERSION, check_made_of, check_version, made_of


class Wrapped:
    """What `wrap` returns. Iterating it gives the batches of ``loader`` after the stages have run on them.

    Attributes that it does not define are those of ``loader``.
    """

    def __init__(self, loader: Iterable, pipeline: Pipeline) -> None:
        self.loader, self._pipeline = loader, pipeline
        self._progress: EpochProgress | None = None  # of the running pass
        self._resumed = 0  # samples that the pass to resume had handed out when its state was saved
        self._next_epoch: int | None = None  # the epoch that `set_epoch` had given to the pass after it

    def __iter__(self) -> Iterator[Any]:
        self._progress = progress = None
        for data in self.loader:
            if isinstance(data, Pending):
                raise TypeError("wrap got a loader that already is smartaug's; pass its stages to one of the two")
            if progress is None:  # the pass begins with its first batch, as in DataLoader
                progress = self._pipeline.epochs.begin(self._resumed)
                self._pipeline.epochs.next, self._resumed, self._next_epoch = self._next_epoch, 0, None
            self._progress = progress  # several iterators may be alive: the one used last counts
            yield self._pipeline.run(data, None, progress)
        self._progress = None
        self._pipeline.readers.look(ended=True)

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]

    def set_epoch(self, epoch: int) -> None:
        """The next pass is epoch ``epoch``, for the stages, the loader and its sampler."""
        self._pipeline.epochs.set_next(epoch)
        give_epoch(self.loader, epoch)
        if not hasattr(self.loader, "set_epoch"):
            give_epoch(getattr(self.loader, "sampler", None), epoch)

    def steps(self, epochs: int) -> int:
        """See `DataLoader.steps`."""
        return epochs * len(self)

    def stats(self) -> dict[str, Any]:
        """See `DataLoader.stats`."""
        return self._pipeline.stats()

    def explain(self) -> str:
        """See `DataLoader.explain`."""
        return self._pipeline.explain()

    def show(self, path: str | Path = "smartaug-batch.png", *, images: int = 8) -> Picture:
        """See `DataLoader.show`. Where the loader has no dataset with indices, it is the first batch of a new pass."""
        return show(self, path, images)

    def state_dict(self) -> dict[str, Any]:
        """The epoch, the states of the stages, and the wrapped loader's own state if it has ``state_dict``.

        Only the wrapped loader knows the position in its data. In mid-epoch the saved epoch is the running one, so a
        wrapped loader that keeps no state begins that epoch anew when the state is loaded.
        """
        own, progress, epochs = getattr(self.loader, "state_dict", None), self._progress, self._pipeline.epochs
        return {
            "version": VERSION,
            "made_of": made_of(self._pipeline),
            "epoch": epochs.upcoming if progress is None else progress.epoch,
            "next_epoch": None if progress is None else epochs.next,
            "samples": 0 if progress is None or own is None else progress.samples,
            "stages": self._pipeline.state_dict(),
            "loader": None if own is None else own(),
        }

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Restore a state made by `state_dict`.

        Raises ValueError where the state was saved with other stages or another seed, or by a later version of
        smartaug. strict=False skips the comparison of stages and seed, and loads what fits.
        """
        check_version(state, ("epoch", "samples", "stages", "loader"))
        if strict:
            check_made_of(state, self._pipeline, made_of(self._pipeline))
        self._pipeline.load_state_dict(state["stages"])
        self._pipeline.epochs.resume(state["epoch"])
        self._progress, self._resumed, self._next_epoch = None, state["samples"], state.get("next_epoch")
        if state["loader"] is not None:
            self.loader.load_state_dict(state["loader"])  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        if name == "loader":
            raise AttributeError(name)
        return getattr(self.loader, name)


@suggest_keywords
def wrap(
    loader: Iterable,
    *,
    augment: Any = None,
    reweight: Any = None,
    coreset: Any = None,
    device: torch.device | str | None = None,
    seed: int | None = None,
    inputs: Specs = None,
    target: Targets = None,
    views: Views | None = None,
    follow: Mapping[Any, Any] | None = None,
    still: Specs = None,
    returns: str = "same",
) -> Wrapped:
    """Run the stages on the batches of any iterable: webdataset, DALI, FFCV, a loader that Accelerate has prepared.

    * `loader`: any iterable of batches that can be iterated again for each epoch.
    * `augment`, `reweight`, `device`, `seed`, `inputs`, `target`, `views`, `follow`, `still`, `returns`: as for
      `DataLoader`.
    * `coreset`: one that chooses within each batch (`coreset.JEST`); others need the dataset and the sampler.

    `lift` is not available, since it needs the dataset. The batches carry no dataset
    indices, so draws are keyed by (seed, epoch, position in the epoch): they are the same in another run only if the
    iterable gives the samples in the same order.

    Raises TypeError where ``loader`` is not iterable, or is a `DataLoader` that has stages already.
    """
    dataset = getattr(loader, "dataset", None)
    settings = Settings.of(locals()).reading_as(reading_of(dataset))
    if not hasattr(loader, "__iter__"):
        raise TypeError(f"wrap needs an iterable of batches, got {type(loader).__name__}")
    if isinstance(loader, DataLoader) and isinstance(loader.collate_fn, Collate):
        raise TypeError("wrap got a smartaug.DataLoader that has stages; give it all of them and leave wrap out")
    refuse_without_dataset(reweight, "wrap(loader)")
    refuse_selecting(coreset, "wrap(loader)")
    return Wrapped(loader, Pipeline(settings, classes=classes_of(dataset, settings.target)))
