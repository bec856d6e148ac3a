"""Rows of features with values of other rows: swapped features, and points between neighbours of a class.

What: `SwapFeatures` replaces some values of a row by those that other rows of the batch have in the same columns;
`SMOTE` moves a row some way to one of its nearest neighbours of the same class. Labels stay. When: tables, embeddings,
sensor data; swapping as a regulariser, SMOTE where a class has few rows. Cost: one gather of the batch; SMOTE also the
distances of all pairs of it. Reference: Bahri et al., "SCARF", ICLR 2022, for features swapped with draws of their
columns, known as swap noise; Chawla et al., "SMOTE", JAIR 2002, with its SMOTE-NC for categories. Difference: partners
come from the batch, not from the whole table, so a class needs several rows in a batch; SMOTE changes rows that are
there instead of adding some; a category comes from the neighbour with the probability of the way to it, where SMOTE-NC
takes the most frequent one of all neighbours.

Columns of whole numbers are categories: swapped, and never averaged. Each row draws from its own stream; which rows are
there to be drawn depends on the batch, not on their order in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ... import draws
from ..._base.labels import Kind, kind_of
from ...batch import Target
from ..augmentation import Augmentation, check_probability, rows_shape
from ..checks import check_count, check_number
from ..plan import Plan, Trace
from ..rows import Between, Swap


class _OfRows(Augmentation):
    takes_rows, takes_images = True, False


class SwapFeatures(_OfRows):
    """Each value replaced, with probability ``share``, by that of another row of the batch in the same column.

    * `share`: in [0, 1], of the features; every one has a partner of its own. Of sequences (B, T, F) a feature is
      swapped with all its steps of time.
    * `within`: "batch", or "class" for partners with the same label alone, which need labels that are classes.
    * `p`: the probability that a row is changed at all.

    Rows of any type are taken. Raises ValueError for arguments out of range; a batch whose labels are no classes raises
    a TypeError with ``within="class"``.
    """

    def __init__(
        self,
        share: float = 0.15,
        *,
        within: Literal["batch", "class"] = "batch",
        p: float = 1.0,
        backend: str | None = None,
    ) -> None:
        super().__init__(backend=backend)
        if within not in ("batch", "class"):
            raise ValueError(f'within must be "batch" or "class", got {within!r}; write within="class"')
        self.share, self.within = check_number(share, "share", 0.0, 1.0), within
        self.p = check_probability(p)

    @property
    def reads_labels(self) -> bool:  # type: ignore[override]
        """Whether partners have the same class."""
        return self.within == "class"

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw the partner of every value among the whole batch."""
        if self.reads_labels:
            raise _needs_labels(self)
        return self._drawn(shape, key, torch.zeros(shape[0], dtype=torch.int64))

    def plan_of(self, rows: Sequence[Tensor], labels: Tensor | None, key: Tensor) -> Plan:
        """Draw the partner of every value, with within="class" among the rows of the same label."""
        groups = classes_of(self, labels) if self.reads_labels else torch.zeros(len(rows[0]), dtype=torch.int64)
        return self._drawn(rows_shape(rows), key, groups)

    def _drawn(self, shape: Sequence[int], key: Tensor, group: Tensor) -> Plan:
        _check_rows(self, shape)
        count = (shape[-1],)
        changed = draws.uniform(draws.fold(key, 0)) < self.p
        swapped = (draws.uniform(draws.fold(key, 1), count) < self.share) & changed[:, None]
        own = torch.arange(shape[0])[:, None]
        partner = torch.where(swapped, partners(draws.fold(key, 2), count[0], group), own)
        taken = (partner != own).float().mean(1) if count[0] else torch.zeros(shape[0])
        names = ("Identity", "SwapFeatures")
        return Plan(tuple(shape), (Swap(partner),), Trace((taken > 0).long()[:, None], taken[:, None], names))


class SMOTE(_OfRows):
    """x_i + λ (x_n − x_i), λ ~ U[0, 1), with x_n one of the ``k_neighbors`` nearest rows of the same class.

    * `k_neighbors`: how many neighbours are drawn from; of a class with fewer rows in the batch, those. A row that is
      alone in its class stays as it is.
    * `p`: the probability that a row is moved.

    Distances are Euclidean, so standardise the columns; each category that differs counts as the median standard
    deviation of the other columns in the batch (SMOTE-NC). Labels must be classes, and stay. What mixes labels (MixUp,
    CutMix) comes after it. The trace has the way λ. Raises ValueError for arguments out of range.
    """

    reads_labels = True

    def __init__(self, k_neighbors: int = 5, *, p: float = 1.0, backend: str | None = None) -> None:
        super().__init__(backend=backend)
        self.k_neighbors, self.p = check_count(k_neighbors, "k_neighbors", 1), check_probability(p)

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Neighbours are found among the rows of a batch, so a shape alone raises a ValueError."""
        raise _needs_labels(self)

    def plan_of(self, rows: Sequence[Tensor], labels: Tensor | None, key: Tensor) -> Plan:
        """Find each row's neighbours and draw one of them, and the way to it."""
        _check_rows(self, rows[0].shape)
        group, count = classes_of(self, labels), len(rows[0])
        moved = draws.uniform(key) < self.p
        way = draws.uniform(key, start=1) * moved
        chosen = neighbours(rows, group, self.k_neighbors, draws.uniform(key, start=2, dtype=torch.float64))
        partner = torch.where(moved, chosen, torch.arange(count))
        way = way * (partner != torch.arange(count))
        shape = rows_shape(rows)
        taken = draws.uniform(draws.fold(key, 0), (shape[-1],)) < way[:, None]
        trace = Trace((way > 0).long()[:, None], way[:, None], ("Identity", "SMOTE"))
        return Plan(shape, (Between(partner, 1.0 - way, taken),), trace)


def partners(key: Tensor, count: int, group: Tensor) -> Tensor:
    """(B, count) int64: for each value of each row another row of its ``group`` (B,), all equally likely.

    A row that is alone in its group is its own partner. The draw depends on which rows are in the batch, and not on
    their order.
    """
    order = draws.permutation(draws.fold(key, 0))
    order = order[torch.argsort(group[order], stable=True)]  # groups one after the other, each in a random order
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    _, which, size = torch.unique(group, return_inverse=True, return_counts=True)
    first, size = (size.cumsum(0) - size)[which][:, None], size[which][:, None]
    further = 1 + (draws.uniform(draws.fold(key, 1), (count,), dtype=torch.float64) * (size - 1)).floor().long()
    return order[first + (place[:, None] - first + further) % size]


def neighbours(rows: Sequence[Tensor], group: Tensor, most: int, drawn: Tensor) -> Tensor:
    """(B,) int64: one of the ``most`` nearest rows of the same ``group`` (B,); a row alone in its group: itself.

    drawn: (B,) float64 in [0, 1), which of them. Distances are computed where the rows are, in float64.
    """
    numbers = [table.flatten(1).double() for table in rows if table.is_floating_point()]
    apart = torch.zeros(len(group), len(group), dtype=torch.float64, device=rows[0].device)
    differs = apart.new_ones(())
    if numbers and len(group):
        joined = torch.cat(numbers, 1)
        # by differences: the product form of cdist loses the digits that tell near rows apart
        apart += torch.cdist(joined, joined, compute_mode="donot_use_mm_for_euclid_dist").square()
        differs = joined.var(0, unbiased=False).sqrt().median().square() if joined.shape[1] else differs
    for table in rows:
        if not table.is_floating_point():
            wide = table.flatten(1)
            apart += differs * (wide[:, None] != wide).sum(2)
    apart = apart.cpu()
    apart[group[:, None] != group] = torch.inf
    apart.fill_diagonal_(torch.inf)
    order = apart.argsort(dim=1, stable=True)
    count = torch.isfinite(apart).sum(1).clamp_max(most)
    place = (drawn * count).floor().long()
    return torch.where(count > 0, order.gather(1, place[:, None])[:, 0], torch.arange(len(group)))


def classes_of(step: Augmentation, labels: Tensor | None) -> Tensor:
    """(B,) int64 classes on the CPU; ValueError without labels, TypeError for labels that are no classes."""
    if labels is None:
        raise _needs_labels(step)
    plain = (labels.plain if isinstance(labels, Target) else labels).detach().cpu()
    kind = kind_of(plain, classes=step.num_classes)
    if kind is Kind.CLASSES:
        return plain.reshape(-1).long()
    if kind is Kind.BINARY and bool(((plain == 0) | (plain == 1)).all()):
        return plain.reshape(-1).long()
    if kind is Kind.DISTRIBUTIONS and bool((plain.amax(1) == 1).all()):
        return plain.argmax(1)
    name = type(step).__name__
    without = 'smartaug.SwapFeatures(within="batch")' if name == "SwapFeatures" else "smartaug.MixUp(regression=True)"
    raise TypeError(
        f"{name} takes its partners from the same class, and the labels {plain.dtype} {tuple(plain.shape)} are "
        f"{kind.value}; let the dataset give classes, label.to(torch.int64), or write {without}"
    )


def _check_rows(step: Augmentation, shape: Sequence[int]) -> None:
    if len(shape) not in (2, 3):
        raise TypeError(
            f"{type(step).__name__} needs rows (B, F) or sequences (B, T, F), got {tuple(shape)}; for pictures write "
            "smartaug.CutMix() or smartaug.MixUp()"
        )


def _needs_labels(step: Augmentation) -> ValueError:
    name = type(step).__name__
    return ValueError(
        f"{name} finds partners of the same class in a batch, so it needs the rows and their labels: call "
        f"augment(rows, target, index=index), or give it to a loader whose batches have a label, which "
        "target= names"
    )
