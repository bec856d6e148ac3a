"""Passes a batch from torch's loader to the stages: `Collate` and `Pending`.

The user's own function collates a batch, in a worker or in the main process; the result is wrapped in a `Pending`
together with the dataset indices of its rows. The main process opens it once: when a `smartaug.DataLoader` yields it,
at ``.to(device)`` (Accelerate, HF Trainer), or at first use. Opening runs the stages.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate
from torch.utils.data._utils.pin_memory import pin_memory

from .._base import leaves
from .._base.global_draws import changed
from .._base.names import suggest_keywords
from .._base.torch_fetch import Origin, origin, streams
from .._base.unequal_images import collated
from ..lift.decode.opening import Files, take
from ..lift.deferred.collecting import Unfinished, collecting
from ..pipeline.epochs import EpochProgress
from ..pipeline.existing import live
from ..pipeline.pipeline import Pipeline
from ..pipeline.settings import Settings, Views
from . import small_tensors
from .keywords.coreset import refuse_selecting
from .keywords.training_set import refuse_without_dataset
from .row_samples import rows_of
from .whole_batches import Fetched

_DISPATCHER = (
    "Accelerate's dispatcher cannot: use DataLoaderConfiguration(dispatch_batches=False), in TrainingArguments "
    "accelerator_config={'dispatch_batches': False}, or smartaug.wrap(accelerator.prepare(loader))"
)
_UNEQUAL = (
    "equal size",
    "storage that is not resizable",
)  # torch's words for tensors of unequal size, in workers as well


class _SaysWhatToDo(type):
    """Metaclass whose repr tells the user what to write: frameworks that cannot handle a batch print its type."""

    def __repr__(cls) -> str:
        if cls.__module__ != __name__:
            return super().__repr__()
        return (
            "<class 'smartaug.Pending'> (a batch not yet handed over: call .to(device) on it or unpack it. "
            f"{_DISPATCHER})"
        )


class Pending(metaclass=_SaysWhatToDo):
    """A collated batch on which the stages have not run yet; they run once, at ``.to(device)`` or at first use.

    After that it behaves as the user's batch: unpack it, index it, read ``items()`` or an attribute. source: where the
    batch comes from; its ``index`` has the dataset index of each row. key: of the `Pipeline` that runs the stages.
    unfinished: where lifted transforms must still run; None: nowhere. files: see `opening.take`.
    """

    def __init__(
        self,
        data: Any,
        source: Origin,
        key: str,
        unfinished: Unfinished | None = None,
        files: Files | None = None,
    ) -> None:
        self.data, self.source, self._key, self.unfinished, self._files = data, source, key, unfinished, files
        self._opened: Any = None
        self._is_open = False

    def open(self, device: torch.device | str | None = None, progress: EpochProgress | None = None) -> Any:
        """Run the stages (at the first call) and return the user's batch.

        device: where they run, unless the pipeline has a device of its own. progress: the epoch that the batch belongs
        to; None: found by ``source``. Raises RuntimeError if the loader no longer exists or is in another process.
        """
        if not self._is_open:
            pipeline = live(self._key)
            if pipeline is None:
                raise RuntimeError(
                    "this batch outlived its loader, whose stages should run on it: keep the smartaug.DataLoader or "
                    "Collate alive while its batches are used. Or it came from another process, whose stages are not "
                    f"here. {_DISPATCHER}"
                )
            progress = pipeline.epochs.of(self.source) if progress is None else progress
            where = None if device is None or pipeline.device is not None else torch.device(device)
            before = progress.before(self.source) if pipeline.steps else None
            if self._files is not None:
                pipeline.files.add(self._files)
            self._opened = pipeline.run(self.data, self.source.index, progress, where, before, self.unfinished)
            self._is_open = True
            self.data = None
        return self._opened

    def to(self, device: torch.device | str, *args: Any, non_blocking: bool = False, **kwargs: Any) -> Any:
        """The user's batch, after the stages, with all its tensors on ``device``."""
        return leaves.move(self.open(device), device, non_blocking)

    def pin_memory(self, device: torch.device | str | None = None) -> Pending:
        """The same object with its tensors in pinned memory; the stages do not run."""
        self.data = pin_memory(self.data, device)
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(self.open())

    def __getitem__(self, key: Any) -> Any:
        return self.open()[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self.open()[key] = value

    def __len__(self) -> int:
        return len(self.open())

    def __contains__(self, key: Any) -> bool:
        return key in self.open()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # pickle and copy look these up, which must not run the stages
            raise AttributeError(name)
        return getattr(self.open(), name)


def _arrived(state: bytes) -> Pending:
    """A `Pending` from a worker."""
    made = Pending.__new__(Pending)
    made.__dict__.update(small_tensors.loads(state))
    return made


ForkingPickler.register(Pending, lambda pending: (_arrived, (small_tensors.dumps(pending.__dict__),)))


class Collate:
    """A collate function with stages, for frameworks that build the loader themselves.

    ``Trainer(data_collator=smartaug.Collate(default_data_collator, augment=...))``, or a stock DataLoader under
    Accelerate or Lightning.

    * `collate_fn`: the user's own; None is torch's default.
    * The keywords are `DataLoader`'s; `coreset` is one that chooses within each batch (`coreset.JEST`).

    In a torch loader it returns a batch on which the stages run in the main process, at ``.to(device)`` or at first
    use. Called outside a torch loader it only calls the inner collate function.
    """

    _makes_equal = False  # also where a pickle of an earlier version has none

    @suggest_keywords
    def __init__(
        self,
        collate_fn: Callable[[Any], Any] | None = None,
        *,
        augment: Any = None,
        reweight: Any = None,
        coreset: Any = None,
        seed: int | None = None,
        inputs: leaves.Specs = None,
        target: leaves.Targets = None,
        views: Views | None = None,
        follow: Mapping[Any, Any] | None = None,
        still: leaves.Specs = None,
        pipeline: Pipeline | None = None,
    ) -> None:
        if pipeline is None:
            refuse_without_dataset(reweight, "Collate")
            refuse_selecting(coreset, "Collate")
            pipeline = Pipeline(Settings.of(locals()))
        self.inner = default_collate if collate_fn is None else collate_fn
        self.pipeline: Pipeline | None = None
        self.attach(pipeline)

    def attach(self, pipeline: Pipeline) -> None:
        """Use ``pipeline`` for all further batches, and keep a reference to it."""
        self.pipeline, self._key = pipeline, pipeline.key
        self._lifts, self._makes_equal = pipeline.lifts, pipeline.makes_equal

    @property
    def takes_fetched(self) -> bool:
        """Whether a collated batch is accepted: only if the inner function is torch's own."""
        return self.inner is default_collate

    def __call__(self, samples: Any) -> Any:
        """Collate ``samples``: a `Pending` inside a torch loader, the user's batch elsewhere."""
        source = origin()
        if isinstance(samples, Fetched):
            return samples.batch if source is None else Pending(samples.batch, source, self._key, samples.unfinished)
        if source is None or not self._lifts:
            data, unfinished, rows = self._collated(samples), None, None
        else:
            with collecting(samples, may_hold=streams()) as collected:
                data = self._collated(samples)
                data, unfinished, rows = collected.settle(data)
        if source is None:
            return data
        source = source._replace(drew=changed())
        return Pending(data, self._by_row(source, samples, data, rows), self._key, unfinished, take())

    def _collated(self, samples: Any) -> Any:
        inner = collated if self._makes_equal and self.inner is default_collate else self.inner
        try:
            return inner(samples)
        except RuntimeError as error:
            if not any(text in str(error) for text in _UNEQUAL):
                raise
            raise RuntimeError(f"{error}. {_unequal(samples)}") from error

    def _by_row(self, source: Origin, samples: Any, data: Any, rows: list[int] | None) -> Origin:
        """``source`` with the dataset index of each row, if the user's own function did not make row k of sample k."""
        index = source.index
        if self.inner is default_collate or index is None or len(index) != len(samples):
            return source
        if rows is None:
            found = rows_of(samples, data)
            if found is None:
                return source
            rows = found.samples
        if rows is None:
            return source._replace(index=None)
        drawn = source.drawn
        if drawn is not None and drawn.before is not None:
            drawn = drawn._replace(before=[drawn.before[number] for number in rows])
        return source._replace(index=[index[number] for number in rows], drawn=drawn)

    def set_epoch(self, epoch: int) -> None:
        """The next iteration is epoch ``epoch``; for resumed runs, since frameworks do not inform collate functions."""
        self._own().epochs.set_next(epoch)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "pipeline": None}  # workers collate; stages run in the main process

    def __deepcopy__(self, memo: dict[int, Any]) -> Collate:
        return Collate(copy.deepcopy(self.inner, memo), pipeline=copy.deepcopy(self.pipeline, memo))

    def stats(self) -> dict[str, Any]:
        """See `DataLoader.stats`."""
        return self._own().stats()

    def explain(self) -> str:
        """See `DataLoader.explain`."""
        return self._own().explain()

    def state_dict(self) -> dict[str, Any]:
        """The epoch begun last and the states of the stages; the framework keeps the position in the data.

        Between two epochs it has the epoch that ended: after loading such a state call ``set_epoch(epoch + 1)``.
        """
        return {"epoch": max(self._own().epochs.epoch, 0), "stages": self._own().state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; the next iteration has its epoch."""
        self._own().load_state_dict(state["stages"])
        self._own().epochs.set_next(state["epoch"])

    def _own(self) -> Pipeline:
        if self.pipeline is None:
            raise RuntimeError("this Collate is a worker's copy, without its stages; ask the one in the main process")
        return self.pipeline


def _unequal(samples: Any) -> str:
    sizes = {tuple(leaf.shape) for sample in samples for _, leaf in leaves.walk(sample) if isinstance(leaf, Tensor)}
    shown = ", ".join(map(str, sorted(sizes)[:6]))
    return (
        f"The samples of this batch have tensors of the sizes {shown}; make the images equal by the first "
        "augmentation, augment=[smartaug.RandomResizedCrop(224), ...], or in the dataset's transform: "
        "torchvision.transforms.RandomResizedCrop(224) or Resize((224, 224))"
    )
