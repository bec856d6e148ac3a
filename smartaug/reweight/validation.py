"""Validation data as training signal: class-balanced batches, and the split that keeps a third set for reporting."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, default_collate

from .. import _leaves as leaves
from .. import _ranks as ranks
from .. import draws
from .worker_reads import Stream, in_worker

_KEPT_BYTES = 256 << 20  # samples are read once and kept up to this size, beyond it they are read for every batch


class ValidationBatches:
    """Batches with every class equally often, whatever the set's own proportions.

    data: a map-style dataset of (input, label) samples, or a pair of tensors (inputs, labels). size: samples a batch
    and a rank. transform: a callable on a batch of inputs, such as `smartaug.Normalize`. Batch ``step`` is a pure
    function of (seed, step, rank): nothing to save, and each rank sees other samples. Raises ValueError for an empty
    set, TypeError for one without indices or labels.
    """

    def __init__(
        self, data: Any, size: int, seed: int = 0, transform: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self.pair = isinstance(data, tuple) and len(data) == 2 and all(isinstance(part, Tensor) for part in data)
        if not self.pair and not (hasattr(data, "__getitem__") and hasattr(data, "__len__")):
            raise TypeError(
                f"val_set must be a map-style dataset or a pair of tensors (inputs, labels), got "
                f"{type(data).__name__}; write val_set=TensorDataset(images, labels), or loader.dataset"
            )
        count = len(data[0]) if self.pair else len(data)
        if count == 0:
            raise ValueError("val_set is empty; hold some data out: smartaug.split_validation(dataset, 0.1)")
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"validation_batch must be a number of samples ≥ 1, got {size!r}")
        self.data, self.count, self.size, self.seed, self.transform = data, count, size, seed, transform
        self._kept: tuple[Tensor, Tensor] | None = None
        self._stream: Stream | None = None  # of batches that are read as they are needed
        self._classes: list[Tensor] = []
        self._orders: dict[tuple[int, int], list[int]] = {}

    def batch(self, step: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """(inputs, labels) number ``step`` on ``device``."""
        if not self._classes:
            self._read()
        if self._kept is not None:
            rows = torch.tensor(self._rows(step))
            inputs, target = self._kept[0][rows], self._kept[1][rows]
        else:
            self._stream = self._stream or Stream(_batch_of(weakref.ref(self)), self.data)
            inputs, target = self._stream(step)
        inputs, target = inputs.to(device, non_blocking=True), target.to(device, non_blocking=True)
        return (inputs if self.transform is None else self.transform(inputs)), target

    def _rows(self, step: int) -> list[int]:
        """The samples of batch ``step``."""
        rank, world = ranks.here()
        first = (step * world + rank) * self.size
        return [self._row(slot) for slot in range(first, first + self.size)]

    def _row(self, slot: int) -> int:
        """Slots go round the classes; each class is gone through in an order that is new every time."""
        number, group = divmod(slot, len(self._classes))
        members = self._classes[group]
        turn, place = divmod(number, len(members))
        if (turn, group) not in self._orders:
            if len(self._orders) > 4 * len(self._classes):
                self._orders.clear()
            keys = draws.key(self.seed, turn, members, group)
            self._orders[turn, group] = members[draws.permutation(keys)].tolist()
        return self._orders[turn, group][place]

    def _read(self) -> None:
        if self.pair:
            self._kept = self.data
            labels = self.data[1]
        else:
            inputs, labels = in_worker(self._inputs_labels, self.data)
            self._kept = None if inputs is None else (inputs, labels)
        labels = class_of(labels)
        self._classes = [(labels == label).nonzero().flatten() for label in labels.unique()]

    def _inputs_labels(self) -> tuple[Tensor | None, Tensor]:
        """All inputs, None where they are too many to be kept, and all labels."""
        inputs, target = _collated(self.data, [0])
        bytes_each = sum(part.numel() * part.element_size() for part in (inputs, target))
        if bytes_each * self.count <= _KEPT_BYTES:
            return _collated(self.data, range(self.count))
        return None, torch.cat([_collated(self.data, [row])[1] for row in range(self.count)])

    def warn_if_shared(self, training: Any, method: str) -> None:
        """Warn where samples of this set are trained on too: benefits of memorised samples say nothing."""
        mine, ours = _members(self.data), _members(training)
        shared = 0
        if mine[0] & ours[0]:
            every = len(training) if hasattr(training, "__len__") else self.count
            shared = len((mine[1] or set(range(every))) & (ours[1] or set(range(every))))
        if shared:
            warnings.warn(
                f"{shared} of the {self.count} samples of {method}'s val_set are in the training set, where the model "
                "remembers them; hold data out: training, validation = smartaug.split_validation(dataset, 0.1)",
                stacklevel=5,
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None, "_classes": [], "_stream": None}


def split_validation(dataset: Dataset, fraction: float, *, seed: int = 0) -> tuple[Subset, Subset]:
    """``(training, validation)`` subsets; the validation part has all classes as equally as the data allow.

    fraction: of the samples, in (0, 0.5]. At most half of a class is taken. Learned weights train on the validation
    part, so keep a third set for reporting. Labels are read from ``targets``, ``labels`` or ``tensors`` of the dataset,
    else from its samples, once; in a worker process, so that no file is open here when your loader forks its own.
    Raises ValueError for other fractions and for classes with a single sample.
    """
    if not isinstance(fraction, float) or not 0.0 < fraction <= 0.5:
        raise ValueError(
            f"fraction must be a float in (0, 0.5], got {fraction!r}; write split_validation(dataset, 0.1)"
        )
    labels = in_worker(lambda: labels_of(dataset), dataset)
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
    return Subset(dataset, kept.nonzero().flatten().tolist()), Subset(dataset, held.tolist())


def labels_of(dataset: Any) -> Tensor:
    """(n,) int64 class labels of a map-style dataset."""
    if isinstance(dataset, Subset):
        return labels_of(dataset.dataset)[torch.as_tensor(list(dataset.indices))]
    known = getattr(dataset, "targets", getattr(dataset, "labels", None))
    if known is None and isinstance(getattr(dataset, "tensors", None), tuple) and len(dataset.tensors) > 1:
        known = dataset.tensors[-1]
    if known is not None and len(known) == len(dataset):
        return class_of(torch.as_tensor(known))
    return class_of(torch.cat([_collated(dataset, [row])[1] for row in range(len(dataset))]))


def class_of(labels: Tensor) -> Tensor:
    """(n,) int64 classes of integer labels (n,) or (n, 1), of 0/1 floats, or of distributions (n, K)."""
    if labels.ndim == 2 and labels.shape[1] > 1:
        return labels.argmax(1)
    if labels.numel() != len(labels):
        raise TypeError(f"labels must be classes (n,) or distributions (n, K), got {tuple(labels.shape)}")
    flat = labels.reshape(-1)
    return (flat > 0.5).long() if flat.is_floating_point() else flat.long()


def _batch_of(batches: weakref.ref[ValidationBatches]) -> Callable[[int], tuple[Tensor, Tensor]]:
    """Reads the batch of a step. It keeps nothing alive: by a cycle from the iterator, a forked process would collect
    its workers."""

    def read(step: int) -> tuple[Tensor, Tensor]:
        own = batches()
        assert own is not None
        return _collated(own.data, own._rows(step))

    return read


def _members(data: Any) -> tuple[set[int], set[int] | None]:
    """The identities of what a dataset is made from, and which of its indices are used (None: all)."""
    used: list[int] | None = None
    while isinstance(data, Subset):
        indices = [int(index) for index in data.indices]
        used = indices if used is None else [indices[place] for place in used]
        data = data.dataset
    parts = data if isinstance(data, tuple) else getattr(data, "tensors", None)
    stored = (
        {parts[0].untyped_storage().data_ptr()} if isinstance(parts, tuple) and isinstance(parts[0], Tensor) else set()
    )
    return {id(data), *stored}, None if used is None else set(used)


def _collated(data: Any, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
    batch = default_collate([data[row] for row in rows])
    where = leaves.find_inputs(batch, images=False)
    inputs = leaves.get(batch, where)
    path = leaves.find_target(batch, where, len(rows))
    target = None if path is None else leaves.get(batch, path)
    if not isinstance(inputs, Tensor) or not isinstance(target, Tensor):
        raise TypeError(
            f"val_set must give samples with an input and a label, got {leaves.describe(batch)}; write "
            "val_set=TensorDataset(images, labels)"
        )
    return inputs, target
