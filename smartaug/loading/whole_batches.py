"""Fetches whole batches from datasets that keep their samples in arrays.

What: if no sample needs processing of its own, a batch is read by one indexing operation on the array, instead of one
read per sample and a collate. Values, dtypes, label transforms and errors are those of reading sample by sample, which
is done instead in every other case: a negative index or one out of range, a changed transform, another kind of array.
When: ``lift=True``, torch's own collate function, and samples in arrays: torchvision's CIFAR, MNIST, EMNIST, QMNIST,
USPS, SVHN and STL10 whose transform is only "to uint8 tensor", `TensorDataset`, Hugging Face datasets in NumPy or
torch format, and `Subset`, `ConcatDataset` and `AugmentedDataset` of these. The ``__getitem__`` of a subclass is never
bypassed. Without ``lift=True`` it is off, since ``loader.dataset`` is then the object that the user passed, which must
not be changed. Cost: one gather per batch and array; worker processes cost more than they save.

How: see `fetch`, which asks for them.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset, default_collate

from ..lift.albumentations.worker_half import AlbumentationsWorkerTransform
from ..lift.deferred.collecting import Unfinished
from ..lift.deferred.transform import DeferredTransform
from ..lift.steps import UserDataset
from ..lift.worker_transform import AsTensor, WorkerTransform

_AT = "__getitems__"


class Fetched(NamedTuple):
    """A batch that is already collated. unfinished: where lifted transforms must still run; None: nowhere."""

    batch: Any
    unfinished: Unfinished | None = None


class _Each(NamedTuple):
    """One entry of each sample, and for each the transform that runs before they are collated; None: none."""

    values: list[Any]
    transforms: Sequence[Callable[[Any], Any] | None]


Column = Tensor | _Each
Columns = dict[Any, Column]  # by name, or by position from 0 where the batch is a list


def hinders(dataset: UserDataset) -> str | None:
    """Why batches of ``dataset`` cannot be fetched whole; None when they can."""
    for storage in storages(dataset):
        reader = _reader(storage)
        if reader is None:
            kind = type(storage).__name__
            return f"{kind} has a __getitem__ or __getitems__ of its own (arrays come whole from a TensorDataset)"
        if (reason := reader.hinders(storage)) is not None:
            return reason
    return None


def storages(dataset: UserDataset) -> list[UserDataset]:
    """The datasets inside `Subset` and `ConcatDataset` that hold the samples of ``dataset``, in order."""
    if is_plain_subset(dataset):
        return storages(dataset.dataset)
    if _plain_concatenation(dataset):
        return [storage for part in dataset.datasets for storage in storages(part)]
    return [dataset]


def whole_batch(dataset: UserDataset, indices: object) -> Any:
    """The collated batch of the samples ``indices``, read by one indexing operation per array.

    None if the batch must be read sample by sample.
    """
    columns = _columns(dataset, _integers(indices))
    if columns is None:
        return None
    made = {name: _collated(column) for name, column in columns.items()}
    return list(made.values()) if 0 in made else made


def _columns(dataset: UserDataset, rows: list[int] | None) -> Columns | None:
    """The entries of the samples ``rows``, column by column; None if they must be read sample by sample."""
    if not rows:
        return None
    if is_plain_subset(dataset):
        return _columns(dataset.dataset, _chosen(dataset.indices, rows))
    if min(rows) < 0 or max(rows) >= len(dataset):
        return None
    if _plain_concatenation(dataset):
        return _joined(dataset, rows)
    reader = _reader(dataset)
    if reader is None or reader.hinders(dataset) is not None:
        return None
    return reader.read(dataset, rows)


def defers(dataset: UserDataset) -> bool:
    """Whether lifted transforms must still run on the images of whole batches, which are their first entry."""
    return any(isinstance(getattr(storage, "transform", None), DeferredTransform) for storage in storages(dataset))


def _joined(dataset: UserDataset, rows: list[int]) -> Columns | None:
    """The rows of a `ConcatDataset`, read from each dataset in it and put back into their order."""
    ends = np.asarray(dataset.cumulative_sizes)
    holder = np.searchsorted(ends, rows, side="right")
    places = [np.flatnonzero(holder == part) for part in range(len(ends))]
    parts = []
    for part, own in enumerate(places):
        if len(own):
            start = int(ends[part - 1]) if part else 0
            parts.append(_columns(dataset.datasets[part], [rows[place] - start for place in own.tolist()]))
    names = None if parts[0] is None else list(parts[0])
    made: Columns = {}
    back = np.argsort(np.concatenate(places), kind="stable")
    for name in names or ():
        if any(part is None or list(part) != names for part in parts):
            return None
        column = _in_order([part[name] for part in parts if part is not None], back)
        if column is None:
            return None
        made[name] = column
    return made or None


def _in_order(parts: Sequence[Column], back: np.ndarray) -> Column | None:
    """``parts`` concatenated, then row i taken from row ``back[i]``; None if their types, shapes or dtypes differ."""
    tensors = [part for part in parts if isinstance(part, Tensor)]
    lists = [part for part in parts if not isinstance(part, Tensor)]
    if not tensors:
        values = [pair for part in lists for pair in zip(part.values, part.transforms, strict=True)]
        chosen = [values[row] for row in back.tolist()]
        return _Each([value for value, _ in chosen], [transform for _, transform in chosen])
    if lists or len({(part.dtype, part.shape[1:], part.device) for part in tensors}) > 1:
        return None
    return torch.cat(tensors).index_select(0, torch.from_numpy(back).to(tensors[0].device))


def _collated(column: Column) -> Any:
    if isinstance(column, Tensor):
        return column
    pairs = zip(column.values, column.transforms, strict=True)
    return default_collate([value if transform is None else transform(value) for value, transform in pairs])


def _integers(keys: object) -> list[int] | None:
    """Keys as a list of int; None for keys of another kind."""
    if isinstance(keys, (Tensor, np.ndarray)) and keys.ndim == 1:
        keys = keys.tolist()
    if not isinstance(keys, (list, tuple, range)):
        return None
    if _are_int(keys):
        return list(keys)
    made: list[Any] = [key.item() if isinstance(key, (Tensor, np.generic)) and key.ndim == 0 else key for key in keys]
    return made if _are_int(made) else None


def _are_int(keys: Sequence[object]) -> bool:
    return set(map(type, keys)) <= {int}  # no bool among them


def _chosen(chosen: Sequence[Any] | Tensor | np.ndarray, rows: list[int]) -> list[int] | None:
    """The indices in the inner dataset of the ``rows`` of a `Subset` with the indices ``chosen``."""
    if min(rows, default=0) < 0 or max(rows, default=-1) >= len(chosen):
        return None
    if isinstance(chosen, (Tensor, np.ndarray)):
        return _integers(chosen[rows])
    return _integers([chosen[row] for row in rows])


def is_plain_subset(dataset: UserDataset) -> bool:
    """Whether it is a `Subset` that reads its samples as torch wrote it."""
    kind = type(dataset)
    return (
        isinstance(dataset, Subset)
        and kind.__getitem__ is Subset.__getitem__
        and kind.__getitems__ is Subset.__getitems__
    )


def _plain_concatenation(dataset: UserDataset) -> bool:
    kind = type(dataset)
    return (
        isinstance(dataset, ConcatDataset)
        and kind.__getitem__ is ConcatDataset.__getitem__
        and getattr(kind, _AT, None) is getattr(ConcatDataset, _AT, None)
    )


# --- storages ------------------------------------------------------------------------------------------------------


class _Reader(NamedTuple):
    """hinders: why a dataset cannot be read in whole batches, or None. read: the columns of rows, all in range."""

    hinders: Callable[[UserDataset], str | None]
    read: Callable[[UserDataset, list[int]], Columns | None]
    of_images: bool = False  # whether its samples are PIL images if it has no transform


def _reader(dataset: UserDataset) -> _Reader | None:
    """The reader for the class that defines the dataset's ``__getitem__``, found by name: no import of torchvision."""
    definer = next((kind for kind in type(dataset).__mro__ if "__getitem__" in vars(kind)), None)
    method = None if definer is None else vars(definer)["__getitem__"]
    if definer is None or getattr(method, "__module__", None) != definer.__module__ or hasattr(method, "__wrapped__"):
        return None  # the class was patched
    reader = _READERS.get(f"{definer.__module__}.{definer.__qualname__}")
    batched = next((kind for kind in type(dataset).__mro__ if _AT in vars(kind)), definer)
    return reader if batched is definer else None


def _tensors_hinder(dataset: UserDataset) -> str | None:
    for tensor in dataset.tensors:
        if type(tensor) is not Tensor or tensor.layout is not torch.strided or tensor.is_quantized:
            return "a tensor of it is of a special kind"
        if tensor.requires_grad:
            return "a tensor of it requires gradients"
    return None


def _tensors(dataset: UserDataset, rows: list[int]) -> Columns:
    index = torch.tensor(rows, dtype=torch.int64, device="cpu")
    return {n: tensor.index_select(0, index.to(tensor.device)) for n, tensor in enumerate(dataset.tensors)}


def _images_hinder(labels: str, layout: str) -> Callable[[UserDataset], str | None]:
    def hinders(dataset: UserDataset) -> str | None:
        data, targets = dataset.data, getattr(dataset, labels)
        if not only_to_tensor(dataset.transform):
            return "its transform does more for each sample than make it a uint8 tensor"
        if isinstance(data, Tensor) and not (data.device.type == "cpu" and data.layout is torch.strided):
            return "its images are not in the main memory"
        shape = tuple(data.shape) if isinstance(data, (Tensor, np.ndarray)) else ()
        if str(getattr(data, "dtype", "")).removeprefix("torch.") != "uint8" or len(shape) != 1 + len(layout):
            return "its images are no uint8 array"
        if "C" in layout and shape[1 + layout.index("C")] != 3:
            return "its images do not have three channels"
        if targets is None or len(targets) != len(data) or not getattr(dataset, "compat", True):
            return "its labels are no list of classes"
        if isinstance(targets, (Tensor, np.ndarray)) and targets.ndim != (2 if hasattr(dataset, "compat") else 1):
            return "its labels are no list of classes"
        return None

    return hinders


def _images(labels: str, layout: str, cast: bool) -> Callable[[UserDataset, list[int]], Columns]:
    def read(dataset: UserDataset, rows: list[int]) -> Columns:
        data = dataset.data.numpy() if isinstance(dataset.data, Tensor) else dataset.data
        images = torch.from_numpy(np.asarray(data[rows]))
        images = images.unsqueeze(1) if layout == "HW" else images.permute(0, *(1 + layout.index(d) for d in "CHW"))
        targets = getattr(dataset, labels)
        if isinstance(targets, Tensor) and cast:
            kept = targets[rows]
            chosen = (kept if kept.ndim == 1 else kept[:, 0]).tolist()
        else:
            chosen = [targets[row] for row in rows]
        if cast:
            chosen = [int(label) for label in chosen]
        return {0: images.contiguous(), 1: _Each(chosen, [dataset.target_transform] * len(chosen))}

    return read


def _stored(labels: str, layout: str, cast: bool) -> _Reader:
    """The reader of an array of images and a list of labels. cast: whether ``__getitem__`` returns labels as int."""
    return _Reader(_images_hinder(labels, layout), _images(labels, layout, cast), of_images=True)


def _table_hinders(dataset: UserDataset) -> str | None:
    return None if dataset.format["type"] in ("numpy", "torch") else "its format is neither NumPy's nor torch's"


def _table(dataset: UserDataset, rows: list[int]) -> Columns:
    """Numeric columns with an array per entry are taken as they are; all others are collated from their entries."""
    made: Columns = {}
    for name, column in dataset[rows].items():
        if isinstance(column, np.ndarray) and column.ndim > 1 and column.dtype.kind in "biuf":
            column = torch.as_tensor(column)
        made[name] = column if isinstance(column, Tensor) else _Each(list(column), [None] * len(column))
    return made


def _bare(dataset: UserDataset) -> UserDataset:
    """``dataset``, its datasets of PIL images without a transform replaced by copies that return tensors."""
    if is_plain_subset(dataset):
        copied = copy.copy(dataset)
        copied.dataset = _bare(dataset.dataset)
        return copied
    if _plain_concatenation(dataset):
        copied = copy.copy(dataset)
        copied.datasets = [_bare(part) for part in dataset.datasets]
        return copied
    if getattr(dataset, "transform", None) is None:
        reader = _reader(dataset)
        if reader is not None and reader.of_images:
            copied = copy.copy(dataset)
            copied.transform = _IMAGES
            return copied
    return dataset


def _augmented_hinders(dataset: UserDataset) -> str | None:
    if dataset.only is not None or dataset.joint:
        return "its transform is for some of the samples, or for more than the image"
    if not only_to_tensor(dataset.transform):
        return "its transform does more for each sample than make it a uint8 tensor"
    transform = dataset.transform
    head = transform.head if isinstance(transform, DeferredTransform) else transform
    takes_tensors = not isinstance(head, AlbumentationsWorkerTransform)
    for storage in storages(dataset.dataset):
        reader = _reader(storage)
        if reader is not None and not _equals_its_tensors(storage, reader, takes_tensors):
            return f"what {type(storage).__name__} gives is looked at image by image on its way to a tensor"
    return hinders(_bare(dataset.dataset))


def _equals_its_tensors(storage: UserDataset, reader: _Reader, takes_tensors: bool) -> bool:
    """Whether whole batches of ``storage`` have the images that converting each sample to a tensor gives.

    takes_tensors: whether the conversion accepts tensors, which it leaves unchanged, or raises for them.
    """
    if reader.of_images:
        return takes_tensors or storage.transform is None
    return takes_tensors and reader.read is _tensors


def _augmented(dataset: UserDataset, rows: list[int]) -> Columns | None:
    return _columns(_bare(dataset.dataset), rows)


_IMAGES = WorkerTransform((), AsTensor())
_READERS: Mapping[str, _Reader] = {
    "smartaug.loading.augmented.dataset.AugmentedDataset": _Reader(_augmented_hinders, _augmented),
    "torch.utils.data.dataset.TensorDataset": _Reader(_tensors_hinder, _tensors),
    "torchvision.datasets.cifar.CIFAR10": _stored("targets", "HWC", cast=False),
    "torchvision.datasets.mnist.MNIST": _stored("targets", "HW", cast=True),
    "torchvision.datasets.mnist.QMNIST": _stored("targets", "HW", cast=True),
    "torchvision.datasets.usps.USPS": _stored("targets", "HW", cast=True),
    "torchvision.datasets.svhn.SVHN": _stored("labels", "CHW", cast=True),
    "torchvision.datasets.stl10.STL10": _stored("labels", "CHW", cast=True),
    "datasets.arrow_dataset.Dataset": _Reader(_table_hinders, _table),
}

_TO_TENSOR = ("torchvision.transforms.transforms.PILToTensor", "torchvision.transforms.v2._type_conversion.PILToTensor")


def only_to_tensor(transform: object) -> bool:
    """Whether converting a PIL image to a uint8 tensor (C, H, W) is all that ``transform`` does."""
    if isinstance(transform, DeferredTransform):
        transform = transform.head
    if isinstance(transform, (WorkerTransform, AlbumentationsWorkerTransform)):
        return transform.only_to_tensor
    return f"{type(transform).__module__}.{type(transform).__qualname__}" in _TO_TENSOR


def __getattr__(name: str) -> Any:
    """The class that pickles of earlier versions look for here."""
    if name == "BatchFetch":
        return importlib.import_module(".fetch", __package__).BatchFetch
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
