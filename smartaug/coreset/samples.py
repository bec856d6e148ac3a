"""What a coreset knows about each sample: its label, and what the model makes of it, as recorded or by a pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._base import ranks
from .._base.dataset_labels import labels_of
from .._base.original import refuse_another
from ..batch import Embedding, Target
from ..grads.reference import Model, checked_model, deepcopy_but, known_model
from .embed import Passing, passed
from .pick import Classes, Criterion, classes
from .record import OutputRecord, pack

Embed = Callable[[np.ndarray], Embedding]

_BY_REFERENCE = ("_model", "_dataset", "_reading")


class KnownSamples:
    """Labels and embeddings of a dataset's samples.

    observes: outputs are recorded, in a table that is mapped from a file in ``folder`` beyond ``memory`` bytes; else
    ``model`` is run over the dataset as ``passing`` says. numbered: the record also has the batch of each sample.
    Copies keep the model and the dataset by reference, pickles drop them.
    """

    _numbered = False  # of pickles of earlier versions

    def __init__(
        self,
        observes: bool,
        model: Model,
        passing: Passing,
        *,
        memory: int,
        folder: str | None,
        numbered: bool = False,
    ) -> None:
        self.observes, self.passing, self._memory, self._folder = observes, passing, memory, folder
        self._numbered = numbered
        self._model = checked_model(model)
        self._dataset: Any = None
        self._original: Any = None  # the user's own; ``_dataset`` may be a loader's copy of it
        self._reading: dict[str, Any] = {}
        self._labels: Tensor | None = None
        self._record: OutputRecord | None = None
        self.size: int | None = None

    # --- the data and the model --------------------------------------------------------------------------------------

    def attach(self, dataset: object, reading: Mapping[str, Any]) -> None:
        """Read the labels of ``dataset``. reading: collate_fn, inputs and target, as `embed_pass` takes them.

        Raises ValueError for another dataset than before: what is known goes by the index of a sample.
        """
        self._original = refuse_another(self._original, dataset, "this coreset", "labels and outputs")
        self._dataset, self._reading = dataset, dict(reading)
        self._labels = labels_of(dataset, reading.get("target"))

    def bind(self, model: Model) -> None:
        """Embed with this model from now on."""
        self._model = checked_model(model)

    @property
    def model(self) -> nn.Module:
        """The network of a pass; raises RuntimeError before it is known."""
        return known_model(
            self._model,
            'embed="pass" has no model (pickling drops it); write Coreset(..., embed="pass", model=model), or '
            "loader.coreset.bind(model)",
        )

    @property
    def reading(self) -> dict[str, Any]:
        """How the loader reads its dataset: collate_fn, inputs and target, as `embed_pass` takes them."""
        return self._reading

    def resize(self, size: int) -> None:
        """Set the number of samples; ValueError where another was recorded, or the dataset's length has changed."""
        now = len(self._dataset) if hasattr(self._dataset, "__len__") else size
        if now != size:
            raise ValueError(
                f"{self.name} had {size} samples when the coreset was given to its loader, and has {now}; make "
                "both anew"
            )
        if self.observes and self.size not in (None, size):
            raise ValueError(
                f"the coreset recorded a dataset of {self.size} samples and is asked about {size}; use one "
                "Coreset for each dataset"
            )
        self.size = size

    # --- labels ------------------------------------------------------------------------------------------------------

    @property
    def labelled(self) -> bool:
        """Whether the dataset's labels are known as a whole."""
        return self._labels is not None

    @property
    def name(self) -> str:
        """The name of the dataset in error messages."""
        return "the dataset" if self._dataset is None else type(self._dataset).__name__

    def check_labels(self, index: Tensor, target: Tensor) -> None:
        """Raise a ValueError where the labels target (B,) of the samples index (B,) differ from the dataset's own."""
        labels = self._labels
        if labels is None or target.is_floating_point() or target.numel() != len(index):
            return
        kept, came = labels[index.cpu()], target.reshape(-1).cpu().long()
        wrong = (kept != came).nonzero().flatten().tolist()
        if wrong:
            row = wrong[0]
            raise ValueError(
                f"balanced=True counts the classes that {self.name} keeps, and sample {int(index[row])} has label "
                f"{int(kept[row])} there but {int(came[row])} in the batch; let dataset.targets hold what reaches the "
                "loss, name the label leaf with target=, or leave balanced out"
            )

    def classes(self, size: int) -> Classes:
        """Labels: the dataset's own, else those recorded (−1: unknown)."""
        if self._labels is not None and len(self._labels) == size:
            return classes(self._labels.numpy())
        if self._record is not None:
            return classes(self._record.labels.astype(np.int64))
        return classes(np.full(size, -1, np.int64))

    # --- outputs of the model --------------------------------------------------------------------------------

    def observe(self, index: Tensor, output: Tensor, target: Tensor, unmixed: Tensor | None, epoch: int) -> None:
        """Record outputs (B, ...) of the samples index (B,), seen in ``epoch``; unmixed: see `Coreset.observe`."""
        mixed = target._mixed if isinstance(target, Target) else None
        plain = target.plain if isinstance(target, Target) else target
        packed = pack(output, plain, unmixed) if mixed is None else pack(output, plain, mixed=(index, mixed))
        classes = output.shape[1] if output.ndim > 1 else 1
        self._table(max(2, classes)).add(index, packed, epoch)  # a single logit has two classes

    @property
    def record(self) -> OutputRecord | None:
        """The table of outputs, after those still being copied from a device have arrived; None before the first."""
        if self._record is not None:
            self._record.flush()
        return self._record

    def _table(self, classes: int) -> OutputRecord:
        if self._record is None:
            if self.size is None:
                raise RuntimeError(
                    "the coreset saw an output before any selection, so it does not know how many samples there are; "
                    "hand it to a loader: smartaug.DataLoader(..., coreset=coreset)"
                )
            self._record = OutputRecord(
                self.size, classes, memory=self._memory, folder=self._folder, numbered=self._numbered
            )
        if self._record.classes != classes:
            raise ValueError(
                f"the coreset recorded outputs of {self._record.classes} classes and now sees {classes}; use one "
                "Coreset for each model"
            )
        return self._record

    def merged(self, new: bool) -> tuple[OutputRecord, np.ndarray]:
        """The record, and the epoch in which each sample was last seen by any rank (−1: never).

        For a new selection the ranks' records become one. Every rank must call it.
        """
        record = self.record
        classes = torch.tensor([0 if record is None else record.classes], device="cpu")
        known = int(ranks.largest(classes))
        record = self._table(known) if known else None
        seen = np.empty(0) if record is None else ranks.largest(torch.from_numpy(record.seen)).numpy()
        if record is None or not bool((seen >= 0).any()):
            raise RuntimeError(
                "the coreset has to select, and no outputs were recorded: compute the loss with "
                "criterion = smartaug.Loss(criterion) on finite logits (B, K), and give it warmup=1 or more; "
                'or use embed="pass", or select=smartaug.coreset.RandomSubset()'
            )
        if new:
            record.merge()
        return record, seen

    def passed(self, size: int) -> Embed:
        """Embeddings of all samples by one pass of the model, which also reads labels that are not known."""
        if self._dataset is None or len(self._dataset) != size:
            raise RuntimeError(
                'embed="pass" has no dataset: hand the coreset to a loader, smartaug.DataLoader(..., coreset=coreset), '
                "or write coreset.attach(dataset)"
            )
        whole, labels = passed(self.model, self._dataset, self.passing, **self._reading)
        if self._labels is None:
            self._labels = labels.cpu()

        def embedding(rows: np.ndarray) -> Embedding:
            of = torch.from_numpy(rows).to(whole.residual.device)
            feature, loss = (None if part is None else part[of] for part in whole[1:])
            return Embedding(whole.residual[of], feature, loss)

        return embedding

    # --- state -------------------------------------------------------------------------------------------------------

    def stats(self, epoch: int) -> dict[str, Any]:
        """Of the record, if there is one: samples never seen, ages at ``epoch``, bytes, rows left out and why."""
        record = self.record
        if record is None:
            return {}
        seen = record.seen
        age = epoch - seen[seen >= 0]
        mean, largest = (float(age.mean()), int(age.max())) if len(age) else (0.0, 0)
        figures = {"unseen": int((seen < 0).sum()), "age_mean": mean, "age_max": largest}
        return {**figures, "bytes_per_sample": record.bytes, "mapped": record.mapped, **record.skipped}

    def load(self, size: int | None, record: Mapping[str, Any] | None) -> None:
        """Put back a dataset's size and the state of a record, None: there is none."""
        self.size = size
        self._record = (
            None if record is None else OutputRecord.from_state(record, memory=self._memory, folder=self._folder)
        )

    def __deepcopy__(self, memo: dict[int, object]) -> KnownSamples:
        return deepcopy_but(self, memo, {**self.__dict__, "_original": None}, _BY_REFERENCE)

    def __getstate__(self) -> dict[str, object]:
        return {
            **self.__dict__,
            "_model": None,
            "_dataset": None,
            "_original": None,
            "_reading": {},
        }  # a loader brings data


def reads_of(select: Criterion) -> tuple[str, ...]:
    """The fields of the embedding that a criterion reads; the residual where it does not say (``reads``)."""
    return tuple(getattr(select, "reads", ("residual",)))


def no_columns(rows: np.ndarray) -> Embedding:
    """The embedding for a criterion that reads nothing of it but the number of rows (m,)."""
    return Embedding(torch.empty(len(rows), 0, device="cpu"))


Samples = KnownSamples  # its name in pickles of earlier versions
