"""`DataLoader` and `wrap`: thin shells around torch's loader, or any iterable of batches, and the `Pipeline`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch.utils.data import BatchSampler, Dataset, DistributedSampler, IterableDataset, Sampler, default_collate
from torch.utils.data import DataLoader as TorchDataLoader

from .batch_fetch import batched, hinders, storages
from .collate import Collate, Pending
from .dataset import tell_epoch
from .fetch import Running
from .leaves import Spec
from .lift.datasets import Watched, taken_out
from .lift.datasets import lift as lift_dataset
from .lift.lifted import Lifted
from .lift.probe import collate_hinders
from .notices import NoEffectWarning
from .order import Listening, Record, Recorded, forward_epoch, told_epoch
from .pipeline import Pipeline
from .ranks import here
from .sampler import CoresetSampler, Share
from .selection import Selections
from .side_stream import CopyAhead
from .stages import classes_of, listed

T = TypeVar("T")

_KEYWORDS = ("lift", "augment", "reweight", "coreset", "device", "seed", "inputs", "target", "returns")


class DataLoader(TorchDataLoader[T]):
    """torch's DataLoader, and stages that run on each batch when it is handed over.

    All of torch's arguments keep their meaning. Without a keyword below it is torch's loader: same iterator, values,
    draws and errors. With one, the order and the global generators are still torch's.

    lift: take the dataset's own random transforms, as far as they can be batched, out of a shallow copy of it and run
    them here, drawn per sample; see `lift`. ``loader.dataset`` is that copy, the dataset given is unchanged; where
    another transform is assigned to either, the next pass raises RuntimeError. Where a sample then needs no more work
    and lies in an array, batches are fetched whole; see `batch_fetch`. augment:
    an augmentation, a Kornia module, a callable on a batch of images (B, C, H, W), or a list of these.
    reweight: an object that makes weights and soft labels for a batch; they travel in the target (`Target`), and
    `smartaug.Loss` applies them. coreset: an object that selects the samples that each epoch draws, or augments
    (`Coreset`); under several ranks each draws its part. device: where stages run; None is the current accelerator,
    else the CPU. seed: of all augmentations; None is `torch.initial_seed()`, read at the first batch. inputs, target:
    key, position or callable naming the images and the labels in a batch; None finds them by name and shape. returns:
    "same" keeps the structure of the user's batches, "batch" yields a `Batch`.

    Augmentation is a pure function of (seed, epoch, dataset index): it does not depend on batch size, shuffling,
    workers or ranks, but for the partners in MixUp and CutMix and for foreign stages, which see the batch. The epoch is
    the number of passes begun, or what `set_epoch` said last.
    """

    _pipeline: Pipeline | None = None
    _record: Record | None = None
    _watched: Watched | None = None

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
        inputs: Spec = None,
        target: Spec = None,
        returns: str = "same",
    ) -> None:
        given_dataset, watched = dataset, None
        lifted = _lifted(lift, dataset, augment)
        fetching = None
        if lifted is not None and lifted.augment is not None:
            lifted = _through_collate(lifted, dataset, collate_fn)
        if lifted is not None:
            dataset, hindrance = _fetched_whole(lifted.dataset, batch_size, batch_sampler, collate_fn)
            fetching = _fetching(dataset, hindrance, num_workers)
            if lifted.augment is None and hindrance is not None:
                why = f"{lifted.reason}; and fetches sample by sample: {hindrance}"
                warnings.warn(f"lift=True lifted nothing: {why}", NoEffectWarning, stacklevel=2)
                lifted = None
        if (
            lifted is not None
        ):  # what is assigned to the given data set is not seen by its copy, and the other way round
            watched = Watched(given_dataset, *([] if lifted.augment is None else [dataset]))
        given = (lift, augment, reweight, coreset, device, seed, inputs, target, returns)
        weighted = isinstance(sampler, CoresetSampler) and sampler.weighted
        active = (
            lifted is not None
            or augment is not None
            or reweight is not None
            or coreset is not None
            or returns != "same"
            or weighted
        )
        settings = dict(zip(_KEYWORDS, given, strict=True))
        earlier = collate_fn if isinstance(collate_fn, Collate) else None
        if earlier is not None:  # a framework builds us again from our own attributes
            collate_fn = earlier.inner
        pipeline = _shared(earlier, settings, lifted) if active else None
        if active and pipeline is None:
            pipeline = Pipeline(**settings, classes=classes_of(dataset), lifted=lifted, fetching=fetching)
        if pipeline is not None and coreset is not None:
            reading = {"collate_fn": collate_fn, "inputs": inputs, "target": target}
            if getattr(coreset, "apply", "train") == "train":
                sampler = _coreset_sampler(coreset, pipeline, dataset, sampler, batch_sampler, shuffle, reading)
                shuffle = None
            elif pipeline.selections is None:
                pipeline.selections = _selections(coreset, pipeline, dataset, reading)

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
        self.lift, self.augment, self.reweight, self.coreset = lift, augment, reweight, coreset
        self.device, self.seed, self.inputs, self.target, self.returns = device, seed, inputs, target, returns
        self._watched = watched
        if pipeline is not None:
            self._activate(pipeline, batch_sampler)

    def _activate(self, pipeline: Pipeline, batch_sampler: Any) -> None:
        self._pipeline = pipeline
        meet = getattr(pipeline.reweight, "meet", None)
        if meet is not None:
            meet(self.dataset)
        self.collate_fn: Any = Collate(self.collate_fn, pipeline=pipeline)
        if isinstance(self.sampler, CoresetSampler) and self.sampler.weighted:
            pipeline.weight_of = self.sampler.weight_of
        own_batches: Any = self.batch_sampler
        if batch_sampler is None and own_batches is not None:  # torch's own BatchSampler: ours to furnish
            own_batches.sampler = Listening(own_batches.sampler, pipeline.passes, pipeline.selections)
            own_batches.set_epoch = pipeline.passes.tell  # Accelerate's seedable sampler replaces the one just set
        sources = (self, self.sampler, self.batch_sampler, getattr(self.batch_sampler, "sampler", None))
        self._record = Record(getattr(source, "generator", None) for source in sources)

    @property
    def _index_sampler(self) -> Any:
        sampler = super()._index_sampler
        if self._record is None:
            return sampler
        share = self._share()
        if share is not None:
            own: Any = self.batch_sampler
            sampler = share if own is None else BatchSampler(share, own.batch_size, own.drop_last)
        return Recorded(sampler, self._record)

    def _share(self) -> Share | None:
        """This rank's part of a subset; None in a single process, and for samplers of the user's."""
        if not isinstance(self.sampler, CoresetSampler):
            return None
        share = self.sampler.part()
        if share.world == 1:
            return None
        share.whole = getattr(self.batch_sampler, "sampler", self.sampler)  # the stand-in that hears the epoch
        return share

    def __iter__(self) -> Any:
        if self._pipeline is None or self._record is None:
            return super().__iter__()
        if self._watched is not None:
            self._watched.check()
        if self._pipeline.selections is not None:  # before workers load a sample that a selection concerns
            self._pipeline.selections.of(self._pipeline.passes.upcoming)
        tell_epoch(self.dataset, self._pipeline.passes.upcoming)
        self._record.waiting = None
        if self._record.resume is None:
            self._record.waiting = self._record.own_states()
            batches = super().__iter__()
        else:  # the interrupted pass has drawn its worker seed already
            untouched = torch.get_rng_state()
            batches = super().__iter__()
            torch.set_rng_state(untouched)
        return _Iterator(batches, self._pipeline, self._record, ahead=self.num_workers > 0 and self.pin_memory)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _KEYWORDS and self._pipeline is not None:
            raise ValueError(f"{name} cannot be changed once the loader is made; build a new one with {name}=...")
        super().__setattr__(name, value)

    # --- epochs, figures, state --------------------------------------------------------------------------------------

    def set_epoch(self, epoch: int) -> None:
        """The next pass is epoch ``epoch``, for the stages, and for a sampler or data set that wants to know."""
        tell_epoch(self.dataset, epoch)
        for listener in (self.sampler, self.batch_sampler):
            forward_epoch(listener, epoch)
        if self._pipeline is not None:
            self._pipeline.passes.tell(epoch)

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

    def __getattr__(self, name: str) -> Any:
        # Lightning saves whatever has state_dict; without stages we have as little of it as torch's loader
        if name in ("state_dict", "load_state_dict") and self._pipeline is not None:
            return getattr(self, f"_{name}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _state_dict(self, record: bool = True) -> dict[str, Any]:
        """Where the current pass is, and the stages' states: tensors and plain values. See the README on resuming.

        record=False leaves out records of the size of the dataset (what a coreset observed).
        """
        pipeline, order = self._own()
        rank, ranks = here()
        state: dict[str, Any] = {
            "rank": rank,
            "ranks": ranks,
            "epoch": pipeline.passes.upcoming,
            "batches": 0,
            "checksum": 0,
            "generators": order.own_states(),
            "sampler_epoch": told_epoch(super()._index_sampler),
            **self._order(),
            "stages": pipeline.state_dict(record),
        }
        current = order.latest
        if order.resume is not None:  # loaded, and no pass begun since
            return {**order.resume, "stages": state["stages"]}
        if order.waiting is not None:  # a pass whose first batch is still to come: it begins anew
            state["generators"] = order.waiting
            return state
        if current is None or current.ended or not 0 < current.handed < self._length():
            return state
        if isinstance(self.dataset, IterableDataset):
            raise RuntimeError(
                "an IterableDataset cannot be resumed in mid-epoch: its position is its own; call state_dict() at the "
                "end of an epoch, or use a map-style dataset"
            )
        if not self.in_order:
            raise RuntimeError(
                "with in_order=False it is unknown which batches were handed out; use in_order=True to resume in "
                "mid-epoch, or call state_dict() at the end of an epoch"
            )
        state["epoch"] = pipeline.passes.upcoming if current.epoch is None else current.epoch
        state["batches"] = current.handed
        state["checksum"], state["generators"] = current.checksums[current.handed], list(current.states)
        state["sampler_epoch"] = current.told
        return state

    def _order(self) -> dict[str, Any]:
        """What the order of the data depends on, besides the sampler."""
        size = len(self.dataset) if hasattr(self.dataset, "__len__") else None
        return {"batch_size": self.batch_size, "drop_last": self.drop_last, "dataset_size": size}

    def _load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was called: the next pass goes on after the batches already handed out."""
        pipeline, record = self._own()
        missing = {"epoch", "batches", "generators", "stages", *self._order()} - set(state)
        if missing:
            raise ValueError(f"this is no state of a smartaug.DataLoader: it has no {', '.join(sorted(missing))}")
        if state["batches"] and (isinstance(self.dataset, IterableDataset) or not self.in_order):
            raise RuntimeError(
                "this state is from mid-epoch, which an IterableDataset or in_order=False cannot resume; "
                "use a map-style dataset with in_order=True"
            )
        ranks = here()[1]
        if state["batches"] and state["ranks"] != ranks:
            raise RuntimeError(
                f"this state is from mid-epoch on {state['ranks']} ranks, and the shares of {ranks} are others; "
                f"resume on {state['ranks']}, or from a state taken at the end of an epoch"
            )
        for name, own in self._order().items() if state["batches"] else ():
            if state[name] != own:
                raise RuntimeError(
                    f"this state is from mid-epoch with {name}={state[name]}, and this loader has {name}={own}, so the "
                    "epoch cannot be resumed; use the same, or a state taken at the end of an epoch"
                )
        pipeline.load_state_dict(state["stages"])
        if isinstance(self.sampler, CoresetSampler):
            self.sampler.forget()
        told = state["epoch"] if state["sampler_epoch"] is None else state["sampler_epoch"]
        for listener in (self.sampler, self.batch_sampler):
            forward_epoch(listener, told)
        pipeline.passes.tell(state["epoch"])  # last: a sampler's stand-in tells the stages, too
        record.latest, record.waiting = None, None
        record.resume = dict(state) if state["batches"] else None
        if not state["batches"]:
            record.put_own(state["generators"])

    def _own(self) -> tuple[Pipeline, Record]:
        if self._pipeline is None or self._record is None:
            raise AttributeError("state_dict needs one of lift=, augment=, reweight=, coreset=")
        return self._pipeline, self._record

    def _length(self) -> float:
        try:
            return len(self)
        except TypeError:  # an IterableDataset without a length
            return float("inf")

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._pipeline is not None:  # pickling a Collate drops its stages, and a coreset its data; the loader brings
            self.collate_fn.attach(self._pipeline)
            if hasattr(self.coreset, "meet"):
                reading = {"collate_fn": self.collate_fn.inner, "inputs": self.inputs, "target": self.target}
                self.coreset.meet(self.dataset, **reading)


class _Iterator:
    """Opens the batches of one pass as they are handed out."""

    def __init__(self, batches: Any, pipeline: Pipeline, record: Record, ahead: bool) -> None:
        self._batches, self._pipeline, self._record = batches, pipeline, record
        self._taken: int | None = None  # batches asked for in this pass, also those whose stages failed
        self._source: Iterator[Any] = batches
        if ahead and (pipeline.steps or pipeline.reweight is not None):
            device = pipeline.resolve_device()
            self._source = CopyAhead(batches, device, pipeline) if device.type == "cuda" else batches

    def __iter__(self) -> _Iterator:
        return self

    def __next__(self) -> Any:
        try:
            pending: Pending = next(self._source)
        except StopIteration:
            if self._pass is not None:
                self._pass.ended = True
            raise
        except Exception:  # a worker's error: its batch is gone, the pass goes on
            self._count()
            raise
        self._count()
        self._pass.epoch = self._pipeline.passes.of(pending.source.token).epoch
        self._record.waiting = None
        batch = pending.open()
        self._pass.handed = self._taken
        return batch

    @property
    def _pass(self) -> Any:
        return self._batches._index_sampler.latest

    def _count(self) -> None:
        """One more batch of the pass is taken, which began where it was resumed."""
        if self._pass is not None:
            self._taken = (self._pass.handed if self._taken is None else self._taken) + 1

    def __len__(self) -> int:
        return len(self._batches)

    def __getattr__(self, name: str) -> Any:
        if name == "_batches":
            raise AttributeError(name)
        return getattr(self._batches, name)  # frameworks reach for torch's own (_shutdown_workers)


def _lifted(lift: Any, dataset: Any, augment: Any) -> Lifted | None:
    """What lift=True takes out of ``dataset``, maybe nothing; None without it."""
    if not isinstance(lift, bool):
        raise TypeError(
            f"lift must be True or False, got {lift!r}; to compile a transform by itself write smartaug.lift(transform)"
        )
    before = taken_out(dataset)
    given = before is not None and any(stage is before.augment for stage in listed(augment))
    if not lift:
        if before is not None and not given:
            raise ValueError(
                "this dataset is a lifted copy, without the transforms that were taken out of it; pass lift=True, or "
                "the original dataset, or what was taken out: augment=lifted.augment"
            )
        return None
    if given:
        raise ValueError("lift=True runs lifted.augment by itself; leave it out of augment=, or leave lift=True out")
    return lift_dataset(dataset)


def _through_collate(lifted: Lifted, dataset: Any, collate_fn: Any) -> Lifted:
    """``lifted``, or nothing lifted of ``dataset`` where the user's own collate function works on the images."""
    inner = collate_fn.inner if isinstance(collate_fn, Collate) else collate_fn
    if inner is None or inner is default_collate or isinstance(dataset, IterableDataset):
        return lifted
    hindered = collate_hinders(lifted.dataset, inner)
    return lifted if hindered is None else Lifted(None, None, (), dataset, hindered)


def _fetched_whole(dataset: Any, batch_size: Any, batch_sampler: Any, collate_fn: Any) -> tuple[Any, str | None]:
    """The dataset answering with whole batches, and None; or the dataset as it is, and what hinders it."""
    if batch_size is None and batch_sampler is None:
        return dataset, "batch_size=None asks for single samples"
    inner = collate_fn.inner if isinstance(collate_fn, Collate) else collate_fn
    if inner is not None and inner is not default_collate:
        return dataset, "the collate function is your own and sees samples"
    hindrance = hinders(dataset)
    return (batched(dataset), None) if hindrance is None else (dataset, hindrance)


def _fetching(dataset: Any, hindrance: str | None, workers: int) -> tuple[str, str, str]:
    """A row of the table that `explain` gives: how samples are fetched, where, and why."""
    where = f"{workers} worker{'s' * (workers > 1)}" if workers else "main process"
    why = f"sample by sample: {hindrance}"
    if hindrance is None:
        slower = "; num_workers=0 is faster, since nothing is left for workers to do" if workers else ""
        arrays = len(storages(dataset))
        operations = (
            "one indexing operation each" if arrays == 1 else f"an indexing operation in each of {arrays} arrays"
        )
        why = f"whole batches, {operations}{slower}"
    return f"fetch: {type(dataset).__name__}", where, why


def _shared(earlier: Collate | None, settings: dict[str, Any], lifted: Lifted | None) -> Pipeline | None:
    """The pipeline of a loader that is being rebuilt with the same settings, so that its figures stay in one place."""
    pipeline = None if earlier is None else earlier.pipeline
    if pipeline is None or any(pipeline.settings[name] is not value for name, value in settings.items()):
        return None
    if (None if pipeline.lifted is None else pipeline.lifted.augment) is not (lifted and lifted.augment):
        return None
    return pipeline


def _coreset_sampler(
    coreset: Any,
    pipeline: Pipeline,
    dataset: Any,
    sampler: Any,
    batch_sampler: Any,
    shuffle: bool | None,
    reading: dict[str, Any],
) -> CoresetSampler:
    """The sampler of ``coreset=``: it shares the stages' seed and count of epochs."""
    if isinstance(sampler, CoresetSampler) and sampler.coreset is coreset:
        return sampler  # a rebuilt loader hands it back
    _refuse_streams(dataset)
    base = sampler if isinstance(sampler, DistributedSampler) and not isinstance(sampler, CoresetSampler) else None
    if (sampler is not None and base is None) or batch_sampler is not None:
        name = "sampler" if sampler is not None else "batch_sampler"
        raise ValueError(f"coreset= decides which samples are drawn, so {name}= must be left out; use shuffle=True")
    if getattr(coreset, "varies", False):
        warnings.warn(
            f"{coreset!r} gives epochs of different lengths: size learning-rate schedules by loader.steps(epochs), and "
            "mind that Lightning reads len(loader) once",
            stacklevel=3,
        )
    elif len(dataset) and coreset.budget(len(dataset)) >= len(dataset):
        warnings.warn("the coreset holds the whole dataset, so it selects nothing", NoEffectWarning, stacklevel=3)
    return CoresetSampler(
        coreset,
        dataset=dataset,
        shuffle=bool(shuffle),
        seed=pipeline.seed,
        passes=pipeline.passes,
        base=base,
        reading=reading,
    )


def _selections(coreset: Any, pipeline: Pipeline, dataset: Any, reading: dict[str, Any]) -> Selections:
    """The selections of a coreset that chooses what is augmented: all samples are drawn, by the user's own sampler."""
    _refuse_streams(dataset)
    if coreset.apply == "append" and not pipeline.steps:
        raise ValueError(
            'apply="append" appends augmented copies, and there is no augment=; write augment=RandAugment()'
        )
    if pipeline.lifted is not None and not listed(pipeline.settings["augment"]):
        raise ValueError(
            f"apply={coreset.apply!r} concerns augment= alone, and augment= is missing: what lift=True takes out of "
            "the dataset runs on all samples; write augment=RandAugment() and leave such transforms out of the dataset"
        )
    if hasattr(coreset, "meet"):
        coreset.meet(dataset, **reading)
    return Selections(coreset, len(dataset), pipeline.seed)


def _refuse_streams(dataset: Any) -> None:
    if isinstance(dataset, IterableDataset):
        raise ValueError("coreset= selects by index, which an IterableDataset does not have; use a map-style dataset")
    if not hasattr(dataset, "__len__"):
        raise TypeError(f"coreset= needs a dataset with a length, got {type(dataset).__name__}")


class Wrapped:
    """What `wrap` returns: the batches of ``loader`` after the stages. Other attributes are the loader's own."""

    def __init__(self, loader: Iterable, pipeline: Pipeline) -> None:
        self.loader, self._pipeline = loader, pipeline
        self._running: Running | None = None  # the pass under way
        self._resumed = 0  # samples that a resumed pass has handed out already

    def __iter__(self) -> Iterator[Any]:
        self._running = None
        for data in self.loader:
            if isinstance(data, Pending):
                raise TypeError("wrap got a loader that already is smartaug's; pass its stages to one of the two")
            if self._running is None:  # the pass begins with its first batch, as in DataLoader
                self._running = self._pipeline.passes.begin()
                self._running.samples, self._resumed = self._resumed, 0
            yield self._pipeline.run(data, None, self._running)
        self._running = None

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
    inputs: Spec = None,
    target: Spec = None,
    returns: str = "same",
) -> Wrapped:
    """The stages around any iterable of batches: webdataset, DALI, FFCV, a loader that Accelerate has prepared.

    The keywords are `DataLoader`'s, but for coreset=, which needs the sampler. The batches carry no dataset indices, so
    draws are keyed by a running count: they repeat for a seed and an epoch as far as the iterable's order does.
    """
    if not hasattr(loader, "__iter__"):
        raise TypeError(f"wrap needs an iterable of batches, got {type(loader).__name__}")
    if isinstance(loader, DataLoader) and loader._pipeline is not None:
        raise TypeError("wrap got a smartaug.DataLoader that has stages; give it all of them and leave wrap out")
    pipeline = Pipeline(
        augment=augment,
        reweight=reweight,
        device=device,
        seed=seed,
        inputs=inputs,
        target=target,
        returns=returns,
        classes=classes_of(getattr(loader, "dataset", None)),
    )
    return Wrapped(loader, pipeline)
