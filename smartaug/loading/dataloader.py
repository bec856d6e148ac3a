"""`DataLoader`: a thin shell around torch's loader and the `Pipeline`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

import torch
from torch.utils.data import BatchSampler, Dataset, Sampler
from torch.utils.data import DataLoader as TorchDataLoader

from .._base.dataset_labels import classes_of
from .._base.leaves import Specs, Targets
from .._base.names import suggest_keywords
from ..lift.datasets import SourceDatasets
from ..lift.decode.settings import Lift
from ..pipeline.existing import shared
from ..pipeline.pipeline import Pipeline
from ..pipeline.plain import preparing
from ..pipeline.selection import drawn_of
from ..pipeline.settings import KEYWORDS, Settings, Views
from .augmented.dataset import set_epoch_of
from .collate import Collate
from .iterator import BatchIterator
from .keywords.coreset import coreset_sampler, select_augmented
from .keywords.lift import lifted_dataset, no_stages
from .keywords.training_set import training_set
from .order import ResumableSampler, SamplerProxy, SamplerState, give_epoch
from .pictures.show import Picture, show
from .plain import plain_batches, plain_length
from .resume import restore, saved
from .samplers.coreset import CoresetSampler, Share

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")


class _with_stages(Generic[P, R]):
    """Descriptor of a method that only loaders with stages have; without stages its access raises AttributeError.

    Lightning saves every loader that has ``state_dict``, and torch's loader, which a loader without stages equals, has
    none.
    """

    def __init__(self, method: Callable[Concatenate[Any, P], R]) -> None:
        self._method = method
        self.__doc__, self.__wrapped__ = method.__doc__, method

    @overload
    def __get__(self, loader: None, kind: type) -> Callable[Concatenate[Any, P], R]: ...
    @overload
    def __get__(self, loader: object, kind: type) -> Callable[P, R]: ...
    def __get__(self, loader: Any, kind: type) -> Any:
        if loader is None:
            return self._method
        if loader._pipeline is None:
            raise AttributeError(f"{kind.__name__!r} object has no attribute {self._method.__name__!r}")
        return self._method.__get__(loader, kind)


class DataLoader(TorchDataLoader[T]):
    """torch's DataLoader with stages that run on each batch in the main process, when the batch is handed out.

    All of torch's arguments keep their meaning. Without any of the keywords below it is torch's loader: same iterator,
    values, draws and errors. With them, torch still draws the order, and the global generators are used as by torch.

    * `dataset`: as torch's; or a pair (X, y) of a table and labels, of pandas, NumPy, scipy.sparse or torch, which
      becomes a `TableDataset`.
    * `lift`: take the dataset's random transforms, as far as they can be batched, out of a shallow copy of it, and run
      them as stages, drawn per sample; see `lift`. ``loader.dataset`` is the copy; the given dataset is unchanged.
      Values assigned to its attributes reach the copy at the next pass; where its transform was replaced or changed,
      the next pass raises RuntimeError. Where the samples need no further work and are stored in an array, each batch
      is fetched by one indexing operation; see `whole_batches`. JPEG files are decoded by faster code; see `Lift`.
    * `augment`: an augmentation, a Kornia module, a callable on a batch of images (B, C, H, W), or a list of these.
    * `reweight`: an object that makes weights and soft labels for a batch. They are stored in the target (`Target`),
      and `smartaug.Loss` applies them.
    * `coreset`: an object that selects the samples that each epoch draws, or augments (`Coreset`); under
      `torch.distributed` each rank draws its share. Or one that hands out a part of each batch (`coreset.JEST`), of
      those that your own sampler draws.
    * `device`: where the stages run; None is the current accelerator, else the CPU.
    * `seed`: of all augmentations; None is `torch.initial_seed()`, read at the first batch.
    * `inputs`, `target`: the key or position of the images and the labels in a batch, or a callable that returns them;
      None finds them by name and shape. A list of inputs names all inputs of the model: keys become its keyword
      arguments, positions its arguments in that order. The images among them are augmented; where there are none, rows
      of features (B, F) and sequences (B, T, F) are.
    * `views`: how several images of a sample (a list, a tuple or a dict of images, or those named by inputs=[...]) are
      drawn. "same": one draw for all (frames of a clip, stereo). "independent": one draw for each (contrastive views).
      None is "independent" with a warning, and an error for those in a dict. With views= given, neighbouring images of
      one shape in a batch are views.
    * `follow`: what moves with the images: a dict of leaves and what they are, ``{"boxes": "xyxy", 2: "mask"}``. A leaf
      is named by its key or position, further down by a tuple of these, ``(1, "boxes")``, also where each sample of a
      list has its own. See `smartaug.augment.targets.kinds` for the words. tv_tensors in lists, and maps of whole
      numbers called "mask", follow without a word.
    * `still`: the key or position of parts of the batch that are not to be augmented, or a callable that returns them,
      or a list of these; a key that the samples of a list have names it in all of them. Without it and `follow`, parts
      that may be boxes, points or a map raise an error under stages that move pixels.
    * `returns`: "same" keeps the structure of the user's batches, "batch" yields a `Batch`.

    This loader augments every batch that it gives, independent of the mode of the model. Code that makes both loaders
    in one place should pass the keywords for training only: ``stages = {"augment": ...} if training else {}``, then
    ``DataLoader(..., **stages)``. `explain` shows whether a loader augments.

    Augmentation is a pure function of (seed, epoch, dataset index). It does not depend on batch size, shuffling,
    workers or ranks, except for the partners in MixUp, CutMix, Mosaic and CopyPaste, and for foreign stages, which run
    on whole batches. The epoch is the number of passes begun, or the one given to `set_epoch` last.
    """

    lift: bool | Lift
    augment: Any
    reweight: Any
    coreset: Any
    device: torch.device | str | None
    seed: int | None
    inputs: Specs
    target: Targets
    views: Views | None
    follow: Mapping[Any, Any] | None
    still: Specs
    returns: str
    _pipeline: Pipeline | None = None
    _order: SamplerState | None = None
    _sources: SourceDatasets | None = None
    _preparing: Pipeline | None = None  # the stages of plain passes, while `plain` is on

    @suggest_keywords
    def __init__(
        self,
        dataset: Dataset[T],
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Sampler | Iterable | None = None,
        batch_sampler: Sampler[list] | Iterable[list] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[T]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: torch.Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
        lift: bool | Lift = False,
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
    ) -> None:
        given = Settings.of(locals())
        dataset, settings = training_set(dataset, given, sampler, batch_sampler)
        taken = lifted_dataset(lift, dataset, augment, batch_size, batch_sampler, collate_fn, num_workers)
        lifted, dataset = taken.lifted, taken.dataset
        weighted = isinstance(sampler, CoresetSampler) and sampler.weighted
        active = lifted is not None or settings.active or weighted
        earlier = collate_fn if isinstance(collate_fn, Collate) else None
        if earlier is not None:  # a framework builds the loader again from its attributes
            collate_fn = earlier.inner
        pipeline = shared(None if earlier is None else earlier.pipeline, settings, lifted) if active else None
        if active and pipeline is None:
            told: Any = {"lifted": lifted, "fetching": taken.fetching, "files": taken.files}
            pipeline = Pipeline(settings, classes=classes_of(dataset, target), **told)
        if pipeline is not None and coreset is not None:
            reading = {"collate_fn": collate_fn, **settings.reading()}
            if drawn_of(coreset) is not None:
                sampler = coreset_sampler(coreset, pipeline, dataset, sampler, batch_sampler, shuffle, reading)
                shuffle = None
            select_augmented(coreset, pipeline, dataset, reading)

        super().__init__(
            dataset,
            batch_size,
            shuffle,
            sampler,
            batch_sampler,
            num_workers,
            collate_fn,
            pin_memory,
            drop_last,
            timeout,
            worker_init_fn,
            multiprocessing_context,
            generator,
            prefetch_factor=prefetch_factor,
            persistent_workers=persistent_workers,
            pin_memory_device=pin_memory_device,
            in_order=in_order,
        )
        for name, value in given.given().items():
            setattr(self, name, value)
        self._sources, self._fetching = None if lifted is None else SourceDatasets(dataset), taken.fetching
        if pipeline is not None:
            self._activate(pipeline, batch_sampler)

    def _activate(self, pipeline: Pipeline, batch_sampler: object) -> None:
        self._pipeline = pipeline
        pipeline.weighing.attach(self.dataset)
        pipeline.magnitudes.attach(self.dataset)
        self.collate_fn: Any = Collate(self.collate_fn, pipeline=pipeline)
        if isinstance(self.sampler, CoresetSampler) and self.sampler.weighted:
            pipeline.selecting.weight_of = self.sampler.weight_of
        own_batches: Any = self.batch_sampler
        if batch_sampler is None and own_batches is not None:  # torch's own BatchSampler, made for this loader
            own_batches.sampler = SamplerProxy(own_batches.sampler, pipeline.epochs, pipeline.selecting.selections)
            own_batches.set_epoch = pipeline.epochs.set_next  # Accelerate's seedable sampler replaces the one just set
        sources = (self, self.sampler, self.batch_sampler, getattr(self.batch_sampler, "sampler", None))
        generators = (getattr(source, "generator", None) for source in sources)
        seed = pipeline.seed if pipeline.lifted is not None else _no_seed  # transforms left in the workers draw from it
        self._order = SamplerState(generators, pipeline.epochs, seed)

    @property
    def _index_sampler(self) -> Any:
        if self._order is None:
            return super()._index_sampler
        return ResumableSampler(self._plain_index_sampler(), self._order)

    def _plain_index_sampler(self) -> Any:
        """torch's own index sampler; for a coreset under several ranks, of this rank's share."""
        sampler = super()._index_sampler
        share = self._share()
        if share is not None:
            own: Any = self.batch_sampler
            sampler = share if own is None else BatchSampler(share, own.batch_size, own.drop_last)
        return sampler

    def _share(self) -> Share | None:
        """This rank's share of a coreset; None in a single process, and for other samplers."""
        if not isinstance(self.sampler, CoresetSampler):
            return None
        share = self.sampler.part()
        if share.world == 1:
            return None
        share.whole = getattr(
            self.batch_sampler, "sampler", self.sampler
        )  # the `SamplerProxy`, which receives the epoch
        return share

    def __iter__(self) -> Any:
        if self._pipeline is None or self._order is None:
            return super().__iter__()
        if self._sources is not None:
            self._sources.refresh()
        if self._preparing is not None:
            return plain_batches(self, self._preparing, max(self._pipeline.epochs.epoch, 0))
        self._order.begin_iterator(self._plain_index_sampler())
        upcoming = self._pipeline.epochs.upcoming
        if (selections := self._pipeline.selecting.selections) is not None:  # before a worker reads the selection
            selections.of(upcoming)
        set_epoch_of(self.dataset, upcoming)
        batches = super().__iter__()
        self._order.iterator_made()
        # without workers, as in torch's loader, an attribute of the dataset that is set during a pass acts at once
        renew = self._sources.renew if self._sources is not None and self.num_workers == 0 else None
        return BatchIterator(batches, self._pipeline, ahead=self.num_workers > 0 and self.pin_memory, before=renew)

    def __len__(self) -> int:
        return super().__len__() if self._preparing is None else plain_length(self)

    @contextmanager
    def plain(self) -> Iterator[DataLoader[T]]:
        """Passes for evaluation: ``with loader.plain(): evaluate(loader)``.

        Inside the block, a pass gives all samples of the dataset in ascending order of their indices, independent of
        the sampler and the coreset, not augmented and without weights. The stages only convert, normalise and, where
        they change the size, resize the whole image. Transforms that the dataset itself runs per sample still run. Such
        a pass does not count as an epoch, does not use the user's generators, and does not enter `state_dict`. On a
        loader without stages the block has no effect.

        Raises ValueError for a ``batch_sampler`` without an attribute ``batch_size``; RuntimeError where an
        `AugmentedDataset` cannot leave its transform out.
        """
        before = self._preparing
        self._preparing = None if self._pipeline is None else preparing(self._pipeline)
        try:
            yield self
        finally:
            self._preparing = before

    def __setattr__(self, name: str, value: object) -> None:
        if name in KEYWORDS and self._pipeline is not None:
            raise ValueError(f"{name} cannot be changed once the loader is made; build a new one with {name}=...")
        super().__setattr__(name, value)

    # --- epochs, counts, state ---------------------------------------------------------------------------------------

    def set_epoch(self, epoch: int) -> None:
        """Make the next pass epoch ``epoch``, for the stages, and for a sampler or a dataset that has ``set_epoch``."""
        set_epoch_of(self.dataset, epoch)
        for sampler in (self.sampler, self.batch_sampler):
            give_epoch(sampler, epoch)
        if self._pipeline is not None:
            self._pipeline.epochs.set_next(epoch)

    def steps(self, epochs: int) -> int:
        """The number of batches in the first ``epochs`` epochs, for learning-rate schedules.

        It is an upper bound where the number depends on future losses (`coreset.InfoBatch`).
        """
        if not isinstance(self.sampler, CoresetSampler) or not self.sampler.varies:
            return epochs * len(self)
        share = self._share()
        total = 0
        for epoch in range(epochs):
            samples = self.sampler.length(epoch)
            samples = samples if share is None else share.of(samples)
            size = self.batch_size or 1
            total += samples // size if self.drop_last else -(-samples // size)
        return total

    def stats(self) -> dict[str, Any]:
        """Counts since the loader was made, and what the stages report; empty without stages.

        The counts are epoch, batches, samples, augmented, weighted, fallbacks (batches whose weights were not finite)
        and seconds (spent in the stages).
        """
        return {} if self._pipeline is None else self._pipeline.stats()

    def explain(self) -> str:
        """A table of the stages: where each runs, and why."""
        return no_stages(self._fetching) if self._pipeline is None else self._pipeline.explain()

    def show(self, path: str | Path = "smartaug-batch.png", *, images: int = 8) -> Picture:
        """Write a picture of a batch: above as stored, below after the stages, with each sample's operations in words.

        * `path`: the file to write.
        * `images`: number of images to show.

        The samples are evenly spread over the dataset; of a dataset without indices they are the first ones of a new
        pass over it. The loader's pass, counts and stages, and the random generators, are left as they are. Returns the
        path; in a notebook, the picture is shown. Raises ValueError for a loader without stages or without images,
        ImportError without matplotlib.
        """
        return show(self, path, images)

    @_with_stages
    def state_dict(self, record: bool = True) -> dict[str, Any]:
        """The position in the current pass and the states of the stages: tensors and plain values.

        record=False leaves out records of the size of the dataset (what a coreset observed). A pass that was left
        early, by ``break``, is still the current one.

        A resumed pass repeats the order, and all draws of the stages, of the transforms that lift=True leaves in the
        workers, and of `AugmentedDataset`. It does not repeat other draws of the dataset (a random crop in
        ``__getitem__``). Without workers these come from the global generators, which the user saves; with workers they
        come from the workers' generators, and a NoEffectWarning is given where those were used. Draws from generators
        that the dataset itself holds are not noticed. Raises RuntimeError in mid-epoch of an IterableDataset, and in
        mid-epoch with in_order=False.
        """
        return saved(self, self._plain_index_sampler(), *self._own(), record=record)

    @_with_stages
    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Load a state made by `state_dict`. The next pass continues after the batches already handed out.

        Raises ValueError, naming the differences, where the state is of a loader with other stages, another seed or
        another dataset; strict=False skips this comparison and loads what fits. Raises RuntimeError where the order of
        an epoch that has begun cannot be drawn again.
        """
        restore(self, state, *self._own(), strict=strict)

    def _own(self) -> tuple[Pipeline, SamplerState]:
        assert self._pipeline is not None
        assert self._order is not None
        return self._pipeline, self._order

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._pipeline is not None:  # pickling a Collate drops its stages, a coreset its data; restore both
            self.collate_fn.attach(self._pipeline)
            if hasattr(self.coreset, "attach"):
                reading = {"collate_fn": self.collate_fn.inner, **self._pipeline.settings.reading()}
                self.coreset.attach(self.dataset, **reading)


def _no_seed() -> int:
    """The seed where no transform in the workers draws."""
    return 0
