"""`Coreset`: how much of the data an epoch trains on or augments, how often that is chosen, and by which criterion.

What: a budget split over the classes, a criterion that fills it, and what the criterion sees. When: an epoch over all
data, or the augmentation of all data, costs too much. Compare with `coreset.Uniform`, a fresh random subset, before
paying for a selection. Cost: the criterion's; of embed="observed" see benchmarks/results/coreset_record.json; of
embed="pass" a forward pass of all samples. Reference: Liu & Mirzasoleiman, "Data-Efficient Augmentation for Training
Neural Networks", NeurIPS 2022; observed residuals and exploration are ours.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from functools import partial
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from .. import ranks
from ..batch import Embedding
from ..labels import labels_of
from ..logits import columns
from .embed import embed_pass
from .facility_location import FacilityLocation
from .pick import Classes, Criterion, chosen, classes, clipped, explored, explorers_of, random_subset, split
from .record import Record, pack

Embed = Callable[[np.ndarray], Embedding]
Model = nn.Module | Callable[[], nn.Module] | None

_APPLY = ("train", "augment", "append")
_KEPT = 4  # selections remembered, for batches that are still on their way
_CLIP = 4.0  # largest weight under weights=True, in multiples of the mean


class Chosen(NamedTuple):
    """What serves ``every`` epochs. name: number of the selection, budget, dataset size, seed; indices (k,) int64
    increasing; weights (k,) float64, (0,) for none; explorers (m, 2) int64: (label, samples to add in each epoch)."""

    name: tuple[int, ...]
    indices: Tensor
    weights: Tensor
    explorers: Tensor


class Coreset:
    """Train on, or augment, a part of the data: ``coreset=smartaug.Coreset(0.3)``.

    fraction: a float in (0, 1] of the dataset, an int number of samples, or a schedule ``epoch -> either``; a schedule
    changes the number of batches (see `DataLoader.steps`). The budget is split over the classes in proportion to their
    sizes, by largest remainder, or equally with balanced=True, where a class smaller than its share gives the rest to
    the others. Labels are the dataset's own (``targets``, ``labels``, ``tensors``), else those seen in training;
    without any there is one class. With balanced=True, samples whose label is not known yet (or below 0) get a
    share in proportion, rounded up; where labels can never become known (``select`` reads no embedding)
    it is an error. every: epochs between two selections. select: the criterion ``(embedding, budget,
    generator) -> (indices, weights)``, called for each class; None is `coreset.FacilityLocation`. A criterion whose
    ``reads`` is empty needs no embedding, and no warm-up.

    apply: what is done with the selection. "train": only these samples are drawn. "augment": all data are drawn, and
    only these are augmented; the others pass plain (normalised, and resized where a crop resizes). "append": all data
    pass plain, and augmented copies of the selected rows (drawn as view 1) are appended to each batch. warmup: epochs
    at the start with a fresh random subset of the same budget in place of a selection.

    embed: "observed" takes residuals p − y from the outputs that `smartaug.Loss` sees, at no extra pass and at most 128
    bytes a sample. Rows whose label was mixed with another class, or whose outputs are not finite, are not recorded.
    The criterion chooses among the samples seen so far. explore: under apply="train" the least share of each epoch's
    budget that goes to the samples not seen for longest; while some of a class were never seen, their part of it.
    "pass" runs ``model`` (a module, a callable returning one, or None until `bind`) over all samples as the dataset
    gives them, in eval mode: batch_size, device (None: the model's), dtype (of the pass under autocast), transform (a
    callable on its batches, such as `smartaug.Normalize`: what augment= or lift=True do to the images is not done
    here), features (r ⊗ φ in place of r), progress (a bar).

    weights: under apply="train", whether the criterion's weights reach ``Target.weight``: False, True (none above 4
    times the mean), or the largest multiple of the mean. memory: bytes above which the record is mapped from a file in
    ``folder`` (None: the system's temporary folder).

    Where `smartaug.Loss` is called several times on a batch, the last outputs count. Under `torch.distributed` records
    are merged, rank 0 selects, and all ranks use that; they wait for it, at most as long as their process group does.
    """

    varies = False  # whether the number of samples differs between epochs

    def __init__(
        self,
        fraction: float | int | Callable[[int], float | int],
        *,
        every: int = 1,
        select: Criterion | None = None,
        embed: str = "observed",
        model: Model = None,
        apply: str = "train",
        warmup: int = 1,
        balanced: bool = False,
        weights: bool | float = False,
        explore: float = 0.2,
        memory: int = 1 << 28,
        folder: str | None = None,
        batch_size: int = 256,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        transform: Callable[[Tensor], Tensor] | None = None,
        features: bool = False,
        progress: bool = True,
    ) -> None:
        self.fraction: Any = fraction if callable(fraction) else checked_fraction(fraction)
        for name, value, least in (("every", every, 1), ("warmup", warmup, 0), ("batch_size", batch_size, 1)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                what = "samples" if name == "batch_size" else "epochs"
                raise ValueError(f"{name} must be a number of {what} ≥ {least}, got {value!r}; write {name}={least}")
        for name, given, known in (("embed", embed, ("observed", "pass")), ("apply", apply, _APPLY)):
            if given not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {given!r}; write {name}={known[0]!r}")
        if isinstance(select, Coreset):
            raise TypeError(f"{type(select).__name__} is a coreset of its own: coreset={select!r}")
        if isinstance(select, type) or (select is not None and not callable(select)):
            raise TypeError(f"select must be a criterion such as smartaug.coreset.Uniform(), got {select!r}")
        if not isinstance(explore, (int, float)) or not 0.0 <= explore <= 1.0:
            raise ValueError(f"explore must be a share of the budget in [0, 1], got {explore!r}; write explore=0.2")
        if not isinstance(weights, (bool, int, float)) or not weights >= 0 or (weights and weights < 1):
            raise ValueError(f"weights must be False, True or a multiple of the mean ≥ 1, got {weights!r}")
        if weights and apply != "train":
            raise ValueError(f'weights are for apply="train", got apply={apply!r}; leave weights out')
        self.every, self.embed, self.apply, self.warmup, self.balanced = every, embed, apply, warmup, bool(balanced)
        self.select: Criterion = FacilityLocation() if select is None else select
        self.weights, self.explore, self.memory, self.folder = weights, float(explore), memory, folder
        self.batch_size, self.device, self.dtype, self.transform = batch_size, device, dtype, transform
        self.features, self.progress = features, progress
        self.varies = callable(fraction)
        self._model = checked_model(model)
        self._dataset: Any = None
        self._reading: dict[str, Any] = {}
        self._labels: Tensor | None = None
        self._record: Record | None = None
        self._size: int | None = None
        self._epoch = 0  # the running one: what is observed is of this epoch
        self._since: int | None = None  # the first epoch of the warm-up
        self._block: Chosen | None = None
        self._made: dict[tuple[int, int, int], tuple[Tensor, Tensor | None]] = {}
        self._members: dict[int, Tensor] = {}
        self._told = {"selections": 0, "seconds": 0.0, "explored": 0}

    # --- sizes -------------------------------------------------------------------------------------------------------

    def budget(self, size: int, epoch: int = 0) -> int:
        """How many of ``size`` samples ``epoch`` selects; ValueError when more are asked for than there are."""
        fraction = checked_fraction(self.fraction(epoch), epoch) if callable(self.fraction) else self.fraction
        if isinstance(fraction, int):
            if fraction > size:
                raise ValueError(f"Coreset({fraction}) asks for more samples than the dataset's {size}")
            return fraction
        return max(1, round(fraction * size)) if size else 0

    # --- the data and the model --------------------------------------------------------------------------------------

    def meet(self, dataset: Any, **reading: Any) -> None:
        """The loader tells which data it draws from: their labels are read, and embed="pass" embeds them.

        reading: collate_fn, inputs and target, as `embed_pass` takes them.
        """
        self._dataset, self._reading, self._labels = dataset, reading, labels_of(dataset)
        self._refuse_unknown()

    def bind(self, model: Model) -> Coreset:
        """Embed with this model from now on; returns self."""
        self._model = checked_model(model)
        return self

    @property
    def model(self) -> nn.Module:
        """The network of embed="pass"; raises RuntimeError before it is known."""
        found = self._model
        if found is not None and not isinstance(found, nn.Module):
            found = found()
        if found is None:
            raise RuntimeError(
                'embed="pass" has no model (pickling drops it); write Coreset(..., embed="pass", model=model), or '
                "loader.coreset.bind(model)"
            )
        return found

    def observe(self, index: Tensor, output: Tensor, target: Tensor, unmixed: Tensor | None = None) -> None:
        """Outputs (B, ...) of the samples index (B,), as `smartaug.Loss` sees them; unmixed (B,): rows to record."""
        if not self.observes:
            return
        packed = pack(output, target, unmixed)
        record = self._table(columns(output).shape[1])
        record.add(index, packed, self._epoch)

    @property
    def observes(self) -> bool:
        """Whether it records outputs."""
        return self.embed == "observed" and bool(reads_of(self.select))

    def _table(self, classes: int) -> Record:
        if self._record is None:
            if self._size is None:
                raise RuntimeError(
                    "the coreset saw an output before any selection, so it does not know how many samples there are; "
                    "hand it to a loader: smartaug.DataLoader(..., coreset=coreset)"
                )
            self._record = Record(self._size, classes, memory=self.memory, folder=self.folder)
        if self._record.classes != classes:
            raise ValueError(
                f"the coreset recorded outputs of {self._record.classes} classes and now sees {classes}; use one "
                "Coreset for each model"
            )
        return self._record

    # --- selections --------------------------------------------------------------------------------------------------

    def selection(self, epoch: int, size: int, seed: int) -> tuple[Tensor, Tensor | None]:
        """``(indices, weights)`` for ``epoch``: (k,) int64 in 0..size-1, increasing, and (k,) float or None.

        Made when first asked for, then remembered. Under `torch.distributed` every rank must ask.
        """
        key = (epoch, size, seed)
        if key not in self._made:
            started = time.perf_counter()
            if self._since is None:
                self._since = epoch
            if self.observes and self._size not in (None, size):
                raise ValueError(
                    f"the coreset recorded a dataset of {self._size} samples and is asked about {size}; use one "
                    "Coreset for each dataset"
                )
            self._size = size
            made = self._select(epoch, size, seed)
            self._epoch = epoch
            self._remember(key, made)
            self._told["selections"] += 1
            self._told["seconds"] += time.perf_counter() - started
        return self._made[key]

    def membership(self, size: int) -> Tensor:
        """A (size,) uint8 tensor in shared memory: 1 for the samples of the last selection, ones before the first.

        The same tensor for the same size, written in place at each selection, so that workers see it.
        """
        if size not in self._members:
            self._members[size] = torch.ones(size, dtype=torch.uint8, device="cpu").share_memory_()
            for (_, made_for, _), (indices, _) in self._made.items():
                if made_for == size:
                    self._mark(size, indices)
        return self._members[size]

    def _mark(self, size: int, indices: Tensor) -> None:
        self._members[size].zero_()[indices] = 1

    def _remember(self, key: tuple[int, int, int], made: tuple[Tensor, Tensor | None]) -> None:
        self._made[key] = made
        while len(self._made) > _KEPT:
            del self._made[next(iter(self._made))]
        if key[1] in self._members:
            self._mark(key[1], made[0])

    def _select(self, epoch: int, size: int, seed: int) -> tuple[Tensor, Tensor | None]:
        budget, since, reads = self.budget(size, epoch), self._since or 0, bool(reads_of(self.select))
        if reads and 0 <= epoch - since < self.warmup:
            subset = ranks.from_first(lambda: [random_subset(self._classes(size), budget, self.balanced, seed, epoch)])
            return subset[0], None
        number = (epoch - since - self.warmup) // self.every if reads else epoch // self.every
        name = (number, budget, size, seed)
        block, seen = self._block, None
        new = block is None or block.name != name
        if self.observes:
            _, seen = self._merged(new)
        if block is None or new:
            block = self._block = Chosen(
                name, *ranks.from_first(lambda: self._choose(number, budget, size, seed, seen))
            )
        if len(block.explorers) and seen is not None:
            block = Chosen(name, *ranks.from_first(partial(self._explored, block, seed, epoch, seen)))
        return block.indices, block.weights if len(block.weights) else None

    def _merged(self, new: bool) -> tuple[Record, np.ndarray]:
        """The record, and the epoch in which each sample was last seen by any rank (−1: never).

        For a new selection the ranks' records become one.
        """
        if self._record is not None:
            self._record.flush()
        classes = torch.tensor([0 if self._record is None else self._record.classes], device="cpu")
        known = int(ranks.largest(classes))
        record = self._table(known) if known else None
        seen = np.empty(0) if record is None else ranks.largest(torch.from_numpy(record.seen)).numpy()
        if record is None or not bool((seen >= 0).any()):
            raise RuntimeError(
                "the coreset has to select, and no outputs were recorded: compute the loss with "
                "criterion = smartaug.Loss(criterion) on finite logits (B, K), give it warmup=1 or more, and without "
                'MixUp or CutMix; or use embed="pass", or select=smartaug.coreset.Uniform()'
            )
        if new:
            record.merge()
        return record, seen

    def _classes(self, size: int) -> Classes:
        """Labels: the dataset's own, else those recorded (−1: unknown)."""
        if self._labels is not None and len(self._labels) == size:
            return classes(self._labels.numpy())
        if self._record is not None:
            return classes(self._record.labels.astype(np.int64))
        self._refuse_unknown()
        return classes(np.full(size, -1, np.int64))

    def _refuse_unknown(self) -> None:
        """Raise a ValueError where classes are to be balanced and no label will ever be known."""
        if self.balanced and self._labels is None and not reads_of(self.select):
            of = "the dataset" if self._dataset is None else f"{type(self._dataset).__name__}"
            raise ValueError(
                f"balanced=True needs the label of every sample, and {of} has none in targets, labels or tensors; set "
                "dataset.targets = [...], one class number a sample, or leave balanced out"
            )

    def _choose(self, number: int, budget: int, size: int, seed: int, seen: np.ndarray | None) -> list[Tensor]:
        """The criterion's part of a selection, and how many samples of which class are to be explored beside it."""
        if not reads_of(self.select):
            embedding: Embed = _no_columns
        elif self._record is not None and seen is not None:
            embedding = self._record.embedding
        else:
            embedding = self._passed(size)
        groups = self._classes(size)
        quota = split(budget, groups, self.balanced)
        pool, explorers = np.ones(size, bool), np.zeros_like(quota)
        if seen is not None:
            pool = seen >= 0
            explorers = explorers_of(groups, quota, pool, self.explore, draw_unseen=self.apply == "train")
        indices, weights = chosen(self.select, groups, quota - explorers, pool, embedding, seed, number)
        asked = explorers > 0
        pairs = torch.from_numpy(np.stack([groups.names[asked], explorers[asked]], 1))
        if not self.weights or weights is None:
            return [indices.sort().values, torch.empty(0, dtype=torch.float64), pairs]
        order = indices.argsort()
        limit = _CLIP if self.weights is True else float(self.weights)
        return [indices[order], clipped(weights, limit)[order], pairs]

    def _explored(self, block: Chosen, seed: int, epoch: int, seen: np.ndarray) -> list[Tensor]:
        """A block's selection with this epoch's explorers, whose weight is 1."""
        groups = self._classes(len(seen))
        asked = dict(block.explorers.tolist())
        quota = np.array([asked.pop(name, 0) for name in groups.names.tolist()], np.int64)
        quota[np.argmax(groups.counts)] += sum(asked.values())  # of classes whose labels have become known
        taken = np.zeros(len(seen), bool)
        taken[block.indices.numpy()] = True
        more = torch.from_numpy(explored(groups, quota, taken, seen, seed, epoch))
        self._told["explored"] += len(more)
        order = (indices := torch.cat([block.indices, more])).argsort()
        weights = block.weights
        if len(weights):
            weights = torch.cat([weights, torch.ones(len(more), dtype=weights.dtype)])[order]
        return [indices[order], weights, block.explorers]

    def _passed(self, size: int) -> Embed:
        """Embeddings of all samples by one pass of the model."""
        if self._dataset is None or len(self._dataset) != size:
            raise RuntimeError(
                'embed="pass" has no dataset: hand the coreset to a loader, smartaug.DataLoader(..., coreset=coreset), '
                "or write coreset.meet(dataset)"
            )
        whole, labels = embed_pass(
            self.model,
            self._dataset,
            batch_size=self.batch_size,
            device=self.device,
            dtype=self.dtype,
            transform=self.transform,
            features=self.features,
            progress=self.progress,
            **self._reading,
        )
        if self._labels is None:
            self._labels = labels.cpu()

        def embedding(rows: np.ndarray) -> Embedding:
            of = torch.from_numpy(rows).to(whole.residual.device)
            feature, loss = (None if part is None else part[of] for part in whole[1:])
            return Embedding(whole.residual[of], feature, loss)

        return embedding

    # --- state -------------------------------------------------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        """Selections made, seconds in them in all, samples explored; of the record: samples never seen, mean and
        largest age in epochs of the others, bytes per sample, whether it is mapped, rows left out and why."""
        told: dict[str, Any] = dict(self._told)
        record = self._record
        if record is not None:
            record.flush()
            seen = record.seen
            age = self._epoch - seen[seen >= 0]
            told["unseen"] = int((seen < 0).sum())
            told["age_mean"], told["age_max"] = (float(age.mean()), int(age.max())) if len(age) else (0.0, 0)
            told |= {"bytes_per_sample": record.bytes, "mapped": record.mapped, **record.skipped}
        return told

    def explain(self) -> list[tuple[str, str, str]]:
        """Rows for the loader's table: what is selected, and from what."""
        name = getattr(self.select, "__name__", type(self.select).__name__)
        what = {
            "train": ("sampler", "only selected samples are drawn"),
            "augment": ("before augment", "only selected samples are augmented"),
            "append": ("after augment", "augmented copies of the selected rows are appended"),
        }[self.apply]
        rows = [(f"coreset: {name}", *what)]
        if reads_of(self.select):
            free = "from the outputs that smartaug.Loss sees, no pass of its own"
            why = free if self.embed == "observed" else "an eval pass over all samples at each selection"
            rows.append((f"    embedding: {self.embed}", "main process", why))
        return rows

    def state_dict(self, record: bool = True) -> dict[str, Any]:
        """Tensors and plain values. record=False leaves out the table of observed outputs: after loading such a state
        the warm-up begins anew.

        Under several ranks nothing is exchanged here, so that one rank may save alone. The table is this rank's: what
        all ranks had seen when the last selection was made (they are merged only then), and what this rank has seen
        since. Where every rank loads its own state, the run goes on as if it had not been interrupted. Where all load
        rank 0's, as under Lightning, the ranks agree from then on, and what the others had seen since that selection
        is as old as it was then, or not seen: it is explored again, and the criterion does not choose among it before.
        """
        if self._record is not None:
            self._record.flush()
        state: dict[str, Any] = {
            "epoch": self._epoch,
            "size": self._size,
            "since": self._since,
            "told": dict(self._told),
        }
        if self._block is not None:
            state["block"] = {**self._block._asdict(), "name": list(self._block.name)}
        state["made"] = [[*key, indices, weights] for key, (indices, weights) in self._made.items()]
        if record and self.observes:
            state["record"] = None if self._record is None else self._record.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self._epoch, self._size, self._since = state["epoch"], state["size"], state["since"]
        self._told = dict(state["told"])
        block = state.get("block")
        self._block = None if block is None else Chosen(**{**block, "name": tuple(block["name"])})
        self._made = {}
        for epoch, size, seed, indices, weights in state["made"]:
            self._remember((epoch, size, seed), (indices, weights))
        self._record = None
        if state.get("record") is not None:
            self._record = Record.from_state(state["record"], memory=self.memory, folder=self.folder)
        elif self.observes and "record" not in state:
            self._since = self._block = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Coreset:
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        for name, value in self.__dict__.items():
            made.__dict__[name] = value if name in ("_model", "_dataset", "_reading") else copy.deepcopy(value, memo)
        made._share()
        return made

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_model": None, "_dataset": None, "_reading": {}}  # the loader brings the data again

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._share()

    def _share(self) -> None:
        for members in self._members.values():
            members.share_memory_()

    def __repr__(self) -> str:
        names = ("every", "select", "embed", "apply", "warmup")
        settings = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__name__}({self.fraction!r}, {settings})"


def reads_of(select: Any) -> tuple[str, ...]:
    """The fields of the embedding that a criterion reads; the residual where it does not say (``reads``)."""
    return tuple(getattr(select, "reads", ("residual",)))


def checked_fraction(fraction: Any, epoch: int | None = None) -> int | float:
    """A share of the dataset or a number of samples; ValueError for anything else."""
    whole = isinstance(fraction, Integral) and not isinstance(fraction, bool)
    exact = whole and int(fraction) >= 1
    share = not isinstance(fraction, Integral) and isinstance(fraction, Real) and 0.0 < float(fraction) <= 1.0
    if not exact and not share:
        at = "" if epoch is None else f" for epoch {epoch}"
        raise ValueError(
            f"fraction must be a float in (0, 1] or a number of samples ≥ 1, got {fraction!r}{at}; write Coreset(0.3)"
        )
    return int(fraction) if exact else float(fraction)


def checked_model(model: Any) -> Model:
    """``model`` if it is a module, a callable or None; else a TypeError."""
    if model is None or (callable(model) and not isinstance(model, type)):
        return model
    raise TypeError(f"model must be a torch.nn.Module, a callable returning one or None, got {model!r}")


def _no_columns(rows: np.ndarray) -> Embedding:
    return Embedding(torch.empty(len(rows), 0, device="cpu"))
