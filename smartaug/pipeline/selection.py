"""The interface of ``coreset=``; its selections, computed once and cached for prefetched batches; their use on a batch.

The cache is of checked selections, and serves coresets that remember none themselves. A `Coreset` has its own memory
of them, which belongs to its state; its ``version`` says when the two would differ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from .._base import ranks
from .._base.selections import LastFew, Selection, checked_selection
from ..batch import Batch, Target
from ..grads.logits import logits_of
from .augmenting.result_rows import ResultRows, in_place, with_copies


@runtime_checkable
class CoresetLike(Protocol):
    """What ``coreset=`` takes: which samples an epoch trains on.

    Optional: ``apply`` ("train", "augment" or "append", see `Coreset`; without it "train"), and with "append"
    ``copies``, how many of each selected sample; ``drawn`` and ``plain``, what the sampler draws and which of these
    pass plain: another of this kind, or None for all (without them, ``apply`` says it); ``varies``, whether the
    number of samples differs between epochs, then ``budget(size, epoch)`` is called; ``rescales``, whether weights are
    used as they are and not scaled to mean 1; ``attach(dataset, collate_fn=, inputs=,
    target=)`` is called once; ``check_labels(index, target)`` sees the labels of each batch before they are mixed;
    ``observe(index, output, target, unmixed)`` receives detached outputs from `smartaug.Loss`, unmixed (B,) bool being
    the rows with their own labels, or None for all; a target whose rows were mixed is a `Target` that says of what;
    ``state_dict(record=)``/``load_state_dict(state)`` are kept in the loader's state; ``version`` takes another value
    where the selections made so far no longer hold, as after ``load_state_dict``; ``stats()`` is shown in the loader's
    stats, ``explain()`` gives rows of its table.
    """

    def budget(self, size: int) -> int:
        """How many of ``size`` samples every epoch selects."""
        ...

    def selection(self, epoch: int, size: int, seed: int) -> tuple[Tensor, Tensor | None]:
        """``(indices, weights)`` of this epoch: (k,) int64 in 0..size-1 and (k,) float with mean 1, or None."""
        ...


@runtime_checkable
class RowChooser(Protocol):
    """What ``coreset=`` takes beside a `CoresetLike`: it chooses within each batch, and the sampler draws all samples.

    Optional: ``state_dict(record=)``/``load_state_dict(state)``, ``stats()`` and ``explain()``, as for a `CoresetLike`.
    """

    def choose_rows(self, inputs: Any, key: Tensor) -> Tensor:
        """The rows (b,) int64 of a batch that are handed out, distinct and in the order wanted; at least one.

        inputs: what the model is called with, as ``inputs=`` names it. key: (B,) int64 on the CPU, the stream of each
        row's draws, a function of (seed, epoch, sample).
        """
        ...


class AugmentingCoreset(CoresetLike, Protocol):
    """A coreset with ``apply``, the use of its selection: "train", "augment" or "append"."""

    apply: str


class Selections:
    """The selections of a coreset over ``size`` samples, each computed at first use. seed: an int, or a callable.

    Under `torch.distributed` the seed of rank 0 is used, and every rank must call `of` with the same epochs.
    """

    def __init__(self, coreset: CoresetLike, size: int, seed: int | Callable[[], int]) -> None:
        self.coreset, self.size, self._seed = coreset, size, seed
        self._known: LastFew[int, Selection] = LastFew()
        self._version: object = None  # of the coreset, when what is known was computed
        self._agreed: int | None = None

    @property
    def varies(self) -> bool:
        """Whether the number of samples differs between epochs."""
        return bool(getattr(self.coreset, "varies", False))

    def seed(self) -> int:
        """The seed that all ranks use."""
        own = self._seed() if callable(self._seed) else self._seed
        if ranks.here()[1] == 1:
            return own
        if self._agreed is None:
            signed = (own + (1 << 63)) % (1 << 64) - (1 << 63)
            self._agreed = int(ranks.from_first(lambda: [torch.tensor(signed, device="cpu")])[0])
        return self._agreed

    def budget(self, epoch: int) -> int:
        """Number of samples that ``epoch`` selects; once the selection is computed, its length."""
        if not self.varies:
            return int(self.coreset.budget(self.size))
        known = self._current().get(epoch)
        of_epoch: Callable[..., int] = self.coreset.budget  # takes the epoch, too, where the number varies
        return int(of_epoch(self.size, epoch)) if known is None else len(known.indices)

    def of(self, epoch: int) -> Selection:
        """The selection of ``epoch``; TypeError or ValueError where the coreset returns no valid one."""
        known = self._current()
        if epoch not in known:
            made: Any = self.coreset.selection(epoch, self.size, self.seed())
            if not isinstance(made, tuple) or len(made) != 2:
                raise TypeError(f"{self.coreset!r} must select (indices, weights), it returned {type(made).__name__}")
            selection = checked_selection(*made, self.size, scale=not getattr(self.coreset, "rescales", False))
            if not self.varies and len(selection.indices) != self.budget(epoch):
                raise ValueError(
                    f"{self.coreset!r} selected {len(selection.indices)} samples of a budget of {self.budget(epoch)}; "
                    "every epoch must have the same number"
                )
            known[epoch] = selection
        return known[epoch]

    def _current(self) -> LastFew[int, Selection]:
        """The known selections, none where the coreset's ``version`` says that earlier ones no longer hold."""
        version = getattr(self.coreset, "version", None)
        if version != self._version:
            self._version = version
            self.forget()
        return self._known

    def forget(self) -> None:
        """Drop the known selections, after the state of a coreset without ``version`` was loaded."""
        self._known.clear()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({"_version": None, **state})
        self._known = LastFew(self._known)  # pickles of earlier versions hold a dict


def drawn_of(coreset: CoresetLike | RowChooser) -> CoresetLike | None:
    """What the sampler draws; None: all samples, in the order of the user's own sampler."""
    if not isinstance(coreset, CoresetLike):  # it chooses within each batch
        return None
    trains = getattr(coreset, "apply", "train") == "train"
    return getattr(coreset, "drawn", coreset if trains else None)


class Selecting:
    """A coreset's part in the pipeline: the weights of drawn samples, the rows to augment, and what it is told.

    coreset: that of the loader, or None, which selects nothing.
    """

    plain: Selections | None = None  # of pickles of earlier versions

    def __init__(self, coreset: CoresetLike | RowChooser | None) -> None:
        self.coreset = coreset
        # a coreset's weights (B,) by index (B,) and epoch, or None; set by the loader
        self.weight_of: Callable[[Tensor, int], Tensor | None] | None = None
        self.selections: Selections | None = None  # of a coreset that chooses what is augmented; set by the loader
        self.plain = None  # of those that pass plain beside augmented copies; None: all

    @property
    def observes(self) -> bool:
        """Whether the coreset needs the model's outputs."""
        return bool(getattr(self.coreset, "observes", False))

    @property
    def appends(self) -> bool:
        """Whether augmented copies are appended, so that the others are originals."""
        return getattr(self.coreset, "apply", "train") == "append"

    def plain_rows(self, rows: ResultRows | None) -> Tensor | None:
        """(B,) bool: rows that augmented copies were appended to, which alone are weighed; None: all are."""
        return None if rows is None or not self.appends else ~rows.augmented

    def rows(self, index: list[int] | None, length: int, epoch: int) -> ResultRows | None:
        """The rows that become of the batch, of which the coreset's are augmented; None: all rows are augmented."""
        if self.selections is None:
            return None
        if index is None:
            raise ValueError(
                f"coreset= selects by index, and the collate function made {length} rows that are not its samples; let "
                "it keep one row a sample"
            )
        samples = torch.tensor(index, dtype=torch.int64, device="cpu")
        selected = self.selections.of(epoch).holds(samples)
        if not self.appends:
            return in_place(selected)
        plain = torch.ones_like(selected) if self.plain is None else self.plain.of(epoch).holds(samples)
        return with_copies(selected, plain, getattr(self.coreset, "copies", 1))

    def weighted(
        self, batch: Batch, index: Tensor | None, length: int, epoch: int, rows: ResultRows | None = None
    ) -> Batch:
        """``batch`` with the coreset's weights (B,) of its rows, None where it gives none; of augmented copies they
        are 1.

        length: of the batch before copies were appended. Raises ValueError where rows and samples do not correspond.
        """
        if self.weight_of is None:
            return batch
        weight = self.weight_of(torch.empty(0, dtype=torch.int64) if index is None else index, epoch)
        if weight is not None and len(weight) != (length if rows is None else len(rows.source)):
            raise ValueError(
                f"the sampler has weights, but the collate function made {length} rows that are not its samples; "
                "let it keep one row a sample, or leave the weights out"
            )
        if weight is not None and rows is not None:
            weight = torch.where(rows.augmented, 1.0, weight)
        return batch._replace(weight=weight)

    def check_labels(self, index: Tensor | None, target: object) -> None:
        """Pass the labels (B, ...) on the CPU to a coreset that checks them."""
        check = getattr(self.coreset, "check_labels", None)
        if check is not None and index is not None and isinstance(target, Tensor) and target.device.type == "cpu":
            check(index, target)

    def observe(self, index: Tensor | None, output: object, target: Target, classifies: bool) -> None:
        """Pass the detached outputs to the coreset, see `Pipeline.observe`."""
        look = getattr(self.coreset, "observe", None)
        if look is None or index is None:
            return
        if not isinstance(output, Tensor):  # a dict or tuple of several predictions
            if not self.observes:
                return
            output = logits_of(output)
        if not classifies and self.observes:
            raise TypeError(
                "the coreset selects by p − y of one class a sample, and this criterion has no classes (it compares "
                "element by element, as for several labels a sample, or pairs); write "
                "select=smartaug.coreset.RandomSubset(), or where each sample has one class use a cross entropy"
            )
        mixed = target._mixed
        if mixed is None:
            soft_map = target._soft is not None and target._soft.ndim > 2  # mixed, and of what is not known
            own = torch.zeros(len(target), dtype=torch.bool, device=output.device) if soft_map else None
            look(index, output.detach(), target.plain, own)
        else:  # with what its rows are made of
            look(index, output.detach(), target, mixed.soft.amax(1) > 1 - 1e-6)

    def forget(self) -> None:
        """Drop the known selections, after the state of a coreset without ``version`` was loaded."""
        for selections in (self.selections, self.plain):
            if selections is not None:
                selections.forget()
