"""Validation data for learned weights: batches of it, and the split into training and validation data."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, default_collate

from .. import draws
from .._base import dataset_labels, input_leaves, leaves, ranks, target_leaves
from .._base.labels import Kind, kind_of
from .._base.names import suggest_keywords
from .._base.real_samples import real_samples
from .._base.table_dataset import TableDataset, is_table_pair
from ..grads.model_call import ModelInputs
from ..grads.pairs import pairs_of
from ..warnings import NoEffectWarning, warn
from .other_transform import through
from .protocols import MapStyle, ValidationSet
from .shared_samples import shared_samples
from .worker_reads import Stream, in_worker, read_here

_READ_AGAIN = 4  # samples that are read a second time, to see whether they are augmented
_KEPT_BYTES = 256 << 20  # samples are read once and kept up to this size, beyond it they are read for every batch


class ValidationBatches:
    """Batches of validation samples: every sample is drawn equally often, or, if balanced, every class is.

    * `data`: a map-style dataset of (input, label) samples, or a pair (inputs, labels) of tensors or tables (pandas,
      NumPy, scipy.sparse); several inputs of a model are a tuple, its arguments, or a dict, its keyword arguments.
    * `size`: number of samples in a batch, on each rank.
    * `transform`: a callable on a batch of inputs, such as `smartaug.Normalize`.
    * `criterion`: what the labels are compared by, None for cross entropy.
    * `balanced`: whether every class is equally frequent, whatever its share of the validation set. Samples whose
      labels are not one class each (several labels, values, maps) are drawn equally often in any case.

    Batch ``step`` is a pure function of (seed, step, rank): there is no state to save, and each rank draws other
    samples. A batch of pairs holds each once. Raises ValueError for an empty set, TypeError for one without indices or
    labels.
    """

    def __init__(
        self,
        data: ValidationSet,
        size: int,
        seed: int = 0,
        transform: Callable[[Tensor], Tensor] | None = None,
        criterion: Callable[[Tensor, Tensor], Tensor] | None = None,
        balanced: bool = False,
    ) -> None:
        if is_table_pair(data) and not all(isinstance(part, Tensor) for _, part in leaves.walk(data)):
            data = TableDataset(*data)  # type: ignore[misc]
        self.pair = _is_pair(data)
        is_frame = hasattr(data, "iloc")  # of pandas: its [] takes a column, not a row
        if is_frame or (not self.pair and not (hasattr(data, "__getitem__") and hasattr(data, "__len__"))):
            raise TypeError(
                f"val_set must be a map-style dataset or a pair of tensors (inputs, labels), got "
                f"{type(data).__name__}; write val_set=TensorDataset(images, labels), or loader.dataset"
            )
        count = len(data[1]) if self.pair else len(data)
        if count == 0:
            raise ValueError("val_set is empty; hold some data out: smartaug.split_validation(dataset, 0.1)")
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"validation_batch must be a number of samples ≥ 1, got {size!r}")
        self.data: Any = data  # two tensors or a dataset, as ``self.pair`` says
        self.count, self.size, self.seed, self.transform = count, size, seed, transform
        self.criterion, self.balanced = criterion, balanced
        self._inputs: leaves.Specs = None  # as given to the loader, whose samples have the same structure
        self._target: leaves.Targets = None
        self._kept: tuple[ModelInputs, Tensor] | None = None
        self._stream: Stream | None = None  # of batches that are read as they are needed
        self._classes: list[Tensor] = []
        self._orders: dict[tuple[int, int], list[int]] = {}

    def read_as(self, inputs: leaves.Specs, target: leaves.Targets) -> None:
        """Read samples as a loader with these keywords does, where they have the parts that those name."""
        if (inputs, target) != (self._inputs, self._target):
            self._inputs, self._target = inputs, target
            self._kept, self._classes, self._stream = None, [], None

    def batch(self, step: int, device: torch.device) -> tuple[ModelInputs, Tensor]:
        """(inputs, labels) number ``step`` on ``device``; several inputs as a dict of keywords or a tuple."""
        if not self._classes:
            self._read()
        if self._kept is not None:
            return self._on(device, *self._of(self._kept, self._rows(step)))
        self._stream = self._stream or Stream(_batch_of(weakref.ref(self)), self.data)
        return self._on(device, *self._stream(step))

    def samples(self, rows: Sequence[int], device: torch.device) -> tuple[ModelInputs, Tensor]:
        """(inputs, labels) of these samples on ``device``, as in `batch`."""
        if not self._classes:
            self._read()
        if self._kept is not None:
            return self._on(device, *self._of(self._kept, rows))
        return self._on(device, *in_worker(lambda: self._collated(rows), self.data))

    @staticmethod
    def _of(kept: tuple[ModelInputs, Tensor], rows: Sequence[int]) -> tuple[ModelInputs, Tensor]:
        chosen = torch.tensor(rows, dtype=torch.int64)
        return leaves.each(kept[0], lambda part: part[chosen]), kept[1][chosen]

    def _on(self, device: torch.device, inputs: ModelInputs, target: Tensor) -> tuple[ModelInputs, Tensor]:
        inputs = leaves.move(inputs, device, non_blocking=True)
        return input_leaves.transformed(inputs, self.transform), target.to(device, non_blocking=True)

    def _collated(self, rows: Sequence[int]) -> tuple[ModelInputs, Tensor]:
        """The inputs and labels of these samples."""
        return _collated(self.data, rows, self._inputs, self._target)

    def _rows(self, step: int) -> list[int]:
        """The samples of batch ``step``."""
        rank, world = ranks.here()
        first = (step * world + rank) * self.size
        return [self._row(slot) for slot in range(first, first + self.size)]

    def _row(self, slot: int) -> int:
        """The sample at position ``slot`` of all batches: groups take turns, each in a new order at every pass."""
        number, group = divmod(slot, len(self._classes))
        members = self._classes[group]
        turn, place = divmod(number, self._pass_of(len(members)))
        if (turn, group) not in self._orders:
            if len(self._orders) > 4 * len(self._classes):
                self._orders.clear()
            keys = draws.key(self.seed, turn, members, group)
            self._orders[turn, group] = members[draws.permutation(keys)].tolist()
        return self._orders[turn, group][place]

    def _pass_of(self, count: int) -> int:
        """How many of ``count`` samples one pass draws: of pairs whole batches, in which no pair occurs twice."""
        if pairs_of(self.criterion) is None:
            return count
        together = self.size * ranks.here()[1]
        if count < together:
            raise ValueError(
                f"a batch holds each pair once, and validation_batch={self.size} asks for {together} on all ranks, of "
                f"{count}; write validation_batch={max(2, count // ranks.here()[1])}"
            )
        return count - count % together

    def _read(self) -> None:
        if self.pair:
            inputs, labels = self.data
            self._kept = tuple(inputs) if isinstance(inputs, list) else inputs, labels
        else:
            in_memory = read_here(self.data)
            inputs, labels, varies = in_worker(lambda: self._looked_at(again=not in_memory), self.data)
            if varies:
                warn(
                    "val_set gives other inputs each time it is read, so samples are judged by augmented ones; give it "
                    "the transform of evaluation, smartaug.split_validation(dataset, 0.1, transform=...), or a dataset "
                    "that does not augment"
                )
            self._kept = None if inputs is None else (inputs, labels)
        kind = kind_of(labels, criterion=self.criterion)
        alike = kind in (Kind.MAP, Kind.PAIRS) or (kind in (Kind.SEVERAL, Kind.VALUES) and self.criterion is not None)
        labels = torch.zeros(self.count) if alike else class_of(labels, kind)
        labels = labels if self.balanced else torch.zeros_like(labels)  # one group of all samples
        self._classes = [(labels == label).nonzero().flatten() for label in labels.unique()]

    def _looked_at(self, *, again: bool) -> tuple[ModelInputs | None, Tensor, bool]:
        """`_inputs_labels`, and whether a few samples have other inputs when they are read ``again``."""
        inputs, labels = self._inputs_labels()
        if not again:
            return inputs, labels, False
        rows = range(min(self.count, _READ_AGAIN))
        second = self._collated(rows)[0]
        first = self._collated(rows)[0] if inputs is None else leaves.each(inputs, lambda part: part[: len(rows)])
        pairs = zip(leaves.walk(first), leaves.walk(second), strict=True)
        return inputs, labels, any(not _equal(one, other) for (_, one), (_, other) in pairs)

    def _inputs_labels(self) -> tuple[ModelInputs | None, Tensor]:
        """All inputs, None where they are too many to be kept, and all labels; of maps the first, if too many."""
        first = self._collated([0])
        tensors = [leaf for _, leaf in leaves.walk(first)]
        bytes_each = sum(part.numel() * part.element_size() for part in tensors)
        if bytes_each * self.count <= _KEPT_BYTES:
            return self._collated(range(self.count))
        if kind_of(first[1], criterion=self.criterion) in (Kind.MAP, Kind.PAIRS):  # which have no classes to balance
            return None, first[1]
        return None, torch.cat([self._collated([row])[1] for row in range(self.count)])

    def warn_if_shared(self, training: object, method: str) -> None:
        """Warn where every sample that is weighed judges, too: each is then judged by itself.

        Samples that count as real (`smartaug.Generated`) are trained on at weight 1, so they may judge the others.
        """
        real = real_samples(training)
        weighed: Any = training if real is None else Subset(training, (~real).nonzero()[:, 0].tolist())  # type: ignore[arg-type]
        shared = shared_samples(weighed, self.data)
        if shared and shared >= len(weighed):
            warn(
                f"all {shared} samples that {method} weighs are in its val_set, so each is judged by itself; hold data "
                "out: training, validation = smartaug.split_validation(dataset, 0.1), and, to train on them at weight "
                f"1 as well, {method}(model, validation, train_on_val=True)",
                NoEffectWarning,
            )

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_kept": None, "_classes": [], "_stream": None}


@suggest_keywords
def split_validation(
    dataset: Dataset,
    fraction: float,
    *,
    transform: Callable[..., Any] | None = None,
    seed: int = 0,
    inputs: leaves.Specs = None,
    target: leaves.Targets = None,
) -> tuple[Subset, Subset]:
    """``(training, validation)`` subsets; the validation part has all classes as equally as the data allow.

    fraction: of the samples, in (0, 0.5]. At most half of a class is taken. Learned weights train on the validation
    part, so keep a third set for reporting. transform: that of evaluation, which the validation part gets in the place
    of the dataset's own (its attribute ``transform`` or ``transforms``), so that samples are not judged by augmented
    ones; None: its own. inputs, target: which parts of a sample they are, as for `DataLoader`, for
    samples of several parts. Labels are read from ``targets``, ``labels`` or ``tensors`` of the dataset,
    else from its samples, once; in a worker process, so that no file is open here when your loader forks its own.
    Raises ValueError for other fractions and for classes with a single sample, TypeError for a transform that has no
    place in the dataset.
    """
    judging = dataset if transform is None else through(dataset, transform)
    if not isinstance(fraction, float) or not 0.0 < fraction <= 0.5:
        raise ValueError(
            f"fraction must be a float in (0, 0.5], got {fraction!r}; write split_validation(dataset, 0.1)"
        )
    labels = in_worker(lambda: class_labels(dataset, inputs, target), dataset)
    members = [(labels == label).nonzero().flatten() for label in labels.unique()]
    alone = [int(labels[rows[0]]) for rows in members if len(rows) < 2]
    if alone:
        raise ValueError(f"classes {alone[:8]} have a single sample, which cannot be on both sides; leave them out")
    shuffled = [rows[draws.permutation(draws.key(seed, 0, rows))] for rows in members]
    wanted, taken = max(len(members), round(fraction * len(labels))), [0] * len(members)
    while sum(taken) < wanted:
        open_classes = [c for c, rows in enumerate(shuffled) if taken[c] < len(rows) // 2]
        if not open_classes:
            break
        for c in sorted(open_classes, key=lambda c: taken[c])[: wanted - sum(taken)]:
            taken[c] += 1
    held = torch.cat([rows[:count] for rows, count in zip(shuffled, taken, strict=True)]).sort().values
    kept = torch.ones(len(labels), dtype=torch.bool)
    kept[held] = False
    return Subset(dataset, kept.nonzero().flatten().tolist()), Subset(judging, held.tolist())


def class_labels(dataset: Any, inputs: leaves.Specs = None, target: leaves.Targets = None) -> Tensor:
    """(n,) int64 class labels of a map-style dataset: those that it keeps, else those of its samples.

    inputs, target: as for `DataLoader`.
    """
    known = dataset_labels.labels_of(dataset, target)
    if known is None:
        known = torch.cat([_collated(dataset, [row], inputs, target)[1] for row in range(len(dataset))])
    return class_of(known)


def class_of(labels: Tensor, kind: Kind | None = None) -> Tensor:
    """(n,) int64 classes of integer labels (n,) or (n, 1), of 0/1 floats, or of distributions (n, K).

    kind: what the labels are where that is known. Raises TypeError for labels that are not one class a sample.
    """
    kind = kind_of(labels) if kind is None else kind
    if kind is Kind.DISTRIBUTIONS:
        return labels.argmax(1)
    if kind is Kind.BINARY:
        return (labels.reshape(-1) > 0.5).long()
    if kind is not Kind.CLASSES:
        raise TypeError(
            f"labels must be classes (n,) or distributions (n, K), got {labels.dtype} {tuple(labels.shape)}, which are "
            f"{kind.value}; let the dataset give classes as torch.int64, split such data by "
            "torch.utils.data.random_split, and name the criterion of a reweighter: criterion=nn.BCEWithLogitsLoss() "
            "or nn.MSELoss()"
        )
    return labels.reshape(-1).long()


def _equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape and values; NaN equals NaN."""
    return one.shape == other.shape and bool(torch.allclose(one, other, rtol=0, atol=0, equal_nan=True))


def _collated(
    data: MapStyle, rows: Sequence[int], inputs: leaves.Specs = None, target: leaves.Targets = None
) -> tuple[ModelInputs, Tensor]:
    """The inputs and labels of these samples, named as a loader names them where the samples have such parts."""
    samples = [data[row] for row in rows]
    try:
        batch = default_collate(samples)
    except TypeError as error:
        raise TypeError(
            f"val_set's samples must hold only what torch's default_collate puts into a batch, got "
            f"{leaves.describe(samples[0])} ({error}); leave the rest out of them, so that a sample is "
            '(image, label) or {"pixel_values": image, "label": label}, or write val_set=TensorDataset(images, labels)'
        ) from error
    several = isinstance(inputs, (list, tuple))
    inputs = inputs if several or _has(batch, inputs) else None
    paths = input_leaves.find_all_inputs(batch, inputs, images=False)
    given = input_leaves.model_inputs(batch, inputs, paths)
    try:
        named = target if _has(batch, target) else None
        found = target_leaves.find_targets(batch, paths, len(rows), named, needed="val_set")
    except ValueError as error:
        raise ValueError(f"{error}; or write val_set=TensorDataset(images, labels)") from error
    label = leaves.get(batch, found[0]) if found else None
    if not (several or isinstance(given, Tensor)) or not isinstance(label, Tensor):
        raise TypeError(
            f"val_set must give samples with an input and a label, got {leaves.describe(batch)}; write "
            "val_set=TensorDataset(images, labels)"
        )
    return given, label


def _batch_of(batches: weakref.ref[ValidationBatches]) -> Callable[[int], tuple[ModelInputs, Tensor]]:
    """A function that reads the batch of a step. It holds a weak reference: with a reference cycle through the
    iterator, the garbage collector of a forked process would shut its workers down."""

    def read(step: int) -> tuple[ModelInputs, Tensor]:
        own = batches()
        assert own is not None
        return own._collated(own._rows(step))

    return read


def _is_pair(data: object) -> bool:
    """Whether val_set= is (inputs, labels): tensors, or several inputs as a tuple or dict of tensors, and the labels.

    Raises TypeError for arrays that are no tensors, ValueError for parts of different lengths.
    """
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        return False
    inputs, labels = data
    parts = list(inputs.values()) if isinstance(inputs, Mapping) else inputs
    parts = list(parts) if isinstance(parts, (tuple, list)) else [parts]
    if not all(hasattr(part, "shape") and getattr(part, "ndim", 0) for part in [*parts, labels]) or not parts:
        return False  # two samples
    if not all(isinstance(part, Tensor) for part in [*parts, labels]):
        raise TypeError(
            "val_set=(inputs, labels) must hold tensors, got "
            f"{', '.join(type(part).__name__ for part in [*parts, labels])}; write torch.from_numpy(array) for each"
        )
    lengths = [len(part) for part in [*parts, labels]]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"val_set=(inputs, labels) must have a row a sample in every part, got {lengths} rows; give all of "
            "them the same samples"
        )
    return True


def _has(batch: Any, spec: leaves.Specs | leaves.Targets) -> bool:
    """Whether a key or position is in a batch; True for a callable, which computes its part."""
    if isinstance(spec, str):
        return spec in batch if isinstance(batch, Mapping) else spec in getattr(batch, "_fields", ())
    if isinstance(spec, int):
        return spec in batch if isinstance(batch, Mapping) else -len(batch) <= spec < len(batch)
    return spec is not None
