"""`DataLoader`: a thin shell around torch's loader and the `Pipeline`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

import torch
from torch.utils.data import BatchSampler, Dataset, Sampler
from torch.utils.data import DataLoader as TorchDataLoader

from .._base.dataset_labels import classes_of
from .._base.leaves import Specs, Targets
from ..lift.datasets import SourceDatasets
from ..lift.lifted import Lifted
from ..pipeline.pipeline import Pipeline
from ..pipeline.plain import preparing
from ..pipeline.settings import KEYWORDS, Settings, Views
from .augmented_dataset import set_epoch_of
from .collate import Collate
from .coreset_keyword import coreset_sampler, coreset_selections
from .iterator import BatchIterator
from .lift_keyword import lifted_dataset
from .order import ResumableSampler, SamplerProxy, SamplerState, give_epoch
from .plain import plain_batches, plain_length
from .resume import restore, saved
from .sampler import CoresetSampler, Share

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")


class _with_stages(Generic[P, R]):
    """A method that a loader without stages does not have: Lightning saves whatever has ``state_dict``, and such a
    loader has as little of it as torch's."""

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
    """torch's DataLoader, and stages that run on each batch when it is handed over.

    All of torch's arguments keep their meaning. Without a keyword below it is torch's loader: same iterator, values,
    draws and errors. With one, the order and the global generators are still torch's.

    * `lift`: take the dataset's own random transforms, as far as they can be batched, out of a shallow copy of it and
      run them here, drawn per sample; see `lift`. ``loader.dataset`` is that copy, the dataset given is unchanged; what
      is assigned to its attributes reaches the copy at the next pass, and where its transform is another or was
      changed, the next pass raises RuntimeError. Where a sample then needs no more work and lies in an array, batches
      are fetched whole; see `whole_batches`.
    * `augment`: an augmentation, a Kornia module, a callable on a batch of images (B, C, H, W), or a list of these.
    * `reweight`: an object that makes weights and soft labels for a batch; they travel in the target (`Target`), and
      `smartaug.Loss` applies them.
    * `coreset`: an object that selects the samples that each epoch draws, or augments (`Coreset`); under several ranks
      each draws its part.
    * `device`: where stages run; None is the current accelerator, else the CPU.
    * `seed`: of all augmentations; None is `torch.initial_seed()`, read at the first batch.
    * `inputs`, `target`: key, position or callable naming the images and the labels in a batch; None finds them by name
      and shape. A list of inputs names all that the model takes: keys become its keyword arguments, positions its
      arguments in that order. The pictures among them are augmented; where there are none, rows of features (B, F) and
      sequences (B, T, F) are.
    * `views`: several pictures of a sample (a list, a tuple or a dict of them, or what inputs=[...] names) share one
      draw with "same" (frames of a clip, stereo) and have draws of their own with "independent" (contrastive views).
      None is "independent" with a warning, and an error for those in a dict. With views= pictures of one shape that lie
      beside each other in a batch are views.
    * `still`: key, position or callable, or a list of them, naming what lies beside the images and stays as it is:
      whatever may be boxes, points or a map is refused under stages that move pixels.
    * `returns`: "same" keeps the structure of the user's batches, "batch" yields a `Batch`.

    This loader augments every batch it gives, whatever mode the model is in. A line that makes both loaders passes the
    keywords for training only: ``stages = {"augment": ...} if training else {}``, then ``DataLoader(..., **stages)``.
    `explain` says whether a loader augments.

    Augmentation is a pure function of (seed, epoch, dataset index): it does not depend on batch size, shuffling,
    workers or ranks, but for the partners in MixUp and CutMix and for foreign stages, which see the batch. The epoch is
    the number of passes begun, or what `set_epoch` said last.
    """

    lift: bool
    augment: Any
    reweight: Any
    coreset: Any
    device: torch.device | str | None
    seed: int | None
    inputs: Specs
    target: Targets
    views: Views | None
    still: Specs
    returns: str
    _pipeline: Pipeline | None = None
    _order: SamplerState | None = None
    _sources: SourceDatasets | None = None
    _preparing: Pipeline | None = None  # the stages of plain passes, while `plain` is on

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
        lift: bool = False,
        augment: Any = None,
        reweight: Any = None,
        coreset: Any = None,
        device: torch.device | str | None = None,
        seed: int | None = None,
        inputs: Specs = None,
        target: Targets = None,
        views: Views | None = None,
        still: Specs = None,
        returns: str = "same",
    ) -> None:
        settings = Settings.of(locals())
        lifted, dataset, fetching = lifted_dataset(
            lift, dataset, augment, batch_size, batch_sampler, collate_fn, num_workers
        )
        weighted = isinstance(sampler, CoresetSampler) and sampler.weighted
        active = lifted is not None or settings.active or weighted
        earlier = collate_fn if isinstance(collate_fn, Collate) else None
        if earlier is not None:  # a framework builds us again from our own attributes
            collate_fn = earlier.inner
        pipeline = _shared(earlier, settings, lifted) if active else None
        if active and pipeline is None:
            pipeline = Pipeline(settings, classes=classes_of(dataset, target), lifted=lifted, fetching=fetching)
        if pipeline is not None and coreset is not None:
            reading = {"collate_fn": collate_fn, **settings.reading()}
            if getattr(coreset, "apply", "train") == "train":
                sampler = coreset_sampler(coreset, pipeline, dataset, sampler, batch_sampler, shuffle, reading)
                shuffle = None
            elif pipeline.selections is None:
                pipeline.selections = coreset_selections(coreset, pipeline, dataset, reading)

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
        for name, value in settings.given().items():
            setattr(self, name, value)
        self._sources = None if lifted is None else SourceDatasets(dataset)
        if pipeline is not None:
            self._activate(pipeline, batch_sampler)

    def _activate(self, pipeline: Pipeline, batch_sampler: Any) -> None:
        self._pipeline = pipeline
        attach = getattr(pipeline.reweight, "attach", None)
        if attach is not None:
            attach(self.dataset)
        self.collate_fn: Any = Collate(self.collate_fn, pipeline=pipeline)
        if isinstance(self.sampler, CoresetSampler) and self.sampler.weighted:
            pipeline.weight_of = self.sampler.weight_of
        own_batches: Any = self.batch_sampler
        if batch_sampler is None and own_batches is not None:  # torch's own BatchSampler: ours to furnish
            own_batches.sampler = SamplerProxy(own_batches.sampler, pipeline.epochs, pipeline.selections)
            own_batches.set_epoch = pipeline.epochs.set_next  # Accelerate's seedable sampler replaces the one just set
        sources = (self, self.sampler, self.batch_sampler, getattr(self.batch_sampler, "sampler", None))
        generators = (getattr(source, "generator", None) for source in sources)
        seed = pipeline.seed if pipeline.lifted is not None else _no_seed  # what stays in the workers draws from it
        self._order = SamplerState(generators, pipeline.epochs, seed)

    @property
    def _index_sampler(self) -> Any:
        if self._order is None:
            return super()._index_sampler
        return ResumableSampler(self._plain_index_sampler(), self._order)

    def _plain_index_sampler(self) -> Any:
        """Torch's own index sampler, of this rank's part of a coreset."""
        sampler = super()._index_sampler
        share = self._share()
        if share is not None:
            own: Any = self.batch_sampler
            sampler = share if own is None else BatchSampler(share, own.batch_size, own.drop_last)
        return sampler

    def _share(self) -> Share | None:
        """This rank's part of a subset; None in a single process, and for samplers of the user's."""
        if not isinstance(self.sampler, CoresetSampler):
            return None
        share = self.sampler.part()
        if share.world == 1:
            return None
        share.whole = getattr(self.batch_sampler, "sampler", self.sampler)  # the stand-in, which gets the epoch
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
        if self._pipeline.selections is not None:  # before workers load a sample that a selection concerns
            self._pipeline.selections.of(upcoming)
        set_epoch_of(self.dataset, upcoming)
        batches = super().__iter__()
        self._order.iterator_made()
        return BatchIterator(batches, self._pipeline, ahead=self.num_workers > 0 and self.pin_memory)

    def __len__(self) -> int:
        return super().__len__() if self._preparing is None else plain_length(self)

    @contextmanager
    def plain(self) -> Iterator[DataLoader[T]]:
        """Passes for evaluation: ``with loader.plain(): evaluate(loader)``.

        Inside, a pass gives all samples of the dataset in their order, whatever the sampler and the coreset: not
        augmented, without weights; the stages only convert, normalise and, where they change the size, resize the whole
        image. Transforms that the dataset runs per sample are its own, and run as ever. Such a pass counts as no epoch,
        draws from no generator of yours, and `state_dict` does not know of it. Without stages it is a pass as any.

        Raises ValueError for a ``batch_sampler`` without an attribute ``batch_size``; RuntimeError where an
        `AugmentedDataset` cannot leave its transform out.
        """
        before = self._preparing
        self._preparing = None if self._pipeline is None else preparing(self._pipeline)
        try:
            yield self
        finally:
            self._preparing = before

    def __setattr__(self, name: str, value: Any) -> None:
        if name in KEYWORDS and self._pipeline is not None:
            raise ValueError(f"{name} cannot be changed once the loader is made; build a new one with {name}=...")
        super().__setattr__(name, value)

    # --- epochs, figures, state --------------------------------------------------------------------------------------

    def set_epoch(self, epoch: int) -> None:
        """The next pass is epoch ``epoch``, for the stages, and for a sampler or dataset that wants to know."""
        set_epoch_of(self.dataset, epoch)
        for sampler in (self.sampler, self.batch_sampler):
            give_epoch(sampler, epoch)
        if self._pipeline is not None:
            self._pipeline.epochs.set_next(epoch)

    def steps(self, epochs: int) -> int:
        """The number of batches in the first ``epochs`` epochs, for learning-rate schedules.

        An upper bound where it depends on the losses to come (`coreset.InfoBatch`).
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
        """Counts since the loader was made: epoch, batches, samples, augmented, weighted, fallbacks (batches whose
        weights were not finite), seconds spent in the stages; and what the stages report. Empty without stages."""
        return {} if self._pipeline is None else self._pipeline.stats()

    def explain(self) -> str:
        """A table of the stages: where each runs, and why."""
        return "no stages: torch's own loader" if self._pipeline is None else self._pipeline.explain()

    @_with_stages
    def state_dict(self, record: bool = True) -> dict[str, Any]:
        """Where the current pass is, and the stages' states: tensors and plain values.

        record=False leaves out records of the size of the dataset (what a coreset observed). A pass that was broken off
        is still the current one.

        A pass that is resumed repeats the order and all draws of the stages, of what lift=True leaves in the workers
        and of `AugmentedDataset`. It does not repeat what a dataset draws by itself (a random crop in ``__getitem__``):
        without workers that is drawn from the global generators, which you keep; with workers they are the workers'
        own, and a NoEffectWarning says so where they changed. Generators of its own that a dataset draws from are not
        seen. Raises RuntimeError in mid-epoch of an IterableDataset, and with in_order=False.
        """
        return saved(self, self._plain_index_sampler(), *self._own(), record=record)

    @_with_stages
    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Continue where `state_dict` was called: the next pass goes on after the batches already handed out.

        Raises ValueError where the state was made by a loader of other stages, another seed or another dataset, naming
        what differs; strict=False takes over what fits all the same. Raises RuntimeError where the order of an epoch
        that has begun cannot be drawn again.
        """
        restore(self, state, *self._own(), strict=strict)

    def _own(self) -> tuple[Pipeline, SamplerState]:
        assert self._pipeline is not None
        assert self._order is not None
        return self._pipeline, self._order

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._pipeline is not None:  # pickling a Collate drops its stages, and a coreset its data; the loader brings
            self.collate_fn.attach(self._pipeline)
            if hasattr(self.coreset, "attach"):
                reading = {"collate_fn": self.collate_fn.inner, **self._pipeline.settings.reading()}
                self.coreset.attach(self.dataset, **reading)


def _no_seed() -> int:
    """Nothing in the workers draws."""
    return 0


def _shared(earlier: Collate | None, settings: Settings, lifted: Lifted | None) -> Pipeline | None:
    """The pipeline of a loader that is being rebuilt with the same settings, so that its figures stay in one place."""
    pipeline = None if earlier is None else earlier.pipeline
    if pipeline is None or not settings.is_like(pipeline.settings):
        return None
    if (None if pipeline.lifted is None else pipeline.lifted.augment) is not (lifted and lifted.augment):
        return None
    return pipeline
