"""`Coreset`: how much of the data an epoch trains on or augments, how often that is chosen, and by which criterion.

What: splits a budget of samples over the classes, and lets a criterion select that many samples of each class by their
embeddings. When: an epoch over all data, or the augmentation of all data, costs too much. Compare with
`coreset.RandomSubset` before paying for a selection. Cost: that of the criterion, and that of the embeddings: for
embed="observed" see benchmarks/results/coreset_record.json; embed="pass" is a forward pass of all samples. Reference:
Liu & Mirzasoleiman, "Data-Efficient Augmentation for Training Neural Networks", NeurIPS 2022; observed residuals and
exploration are ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from .._base import ranks
from .._base.names import SuggestsKeywords
from .._base.protocols import refuse_other
from ..grads.reference import Model
from .embed import Passing
from .facility_location import FacilityLocation
from .originals import RandomOriginals, WithOriginals
from .pick import Classes, Criterion, chosen, clipped, explored, explorers_of, random_subset, split
from .remembered import Remembered
from .samples import Embed, KnownSamples, no_columns, reads_of
from .schedule import Fraction, Schedule
from .use import Use, checked_word

_CLIP = 4.0  # largest weight under weights=True, in multiples of the mean


class Chosen(NamedTuple):
    """A selection, which is used for ``every`` epochs.

    name: (number of the selection, budget, dataset size, seed). indices: (k,) int64, increasing. weights: (k,) float64,
    or (0,) where there are none. explorers: (m, 2) int64 rows (label, number of samples to add in each epoch).
    """

    name: tuple[int, ...]
    indices: Tensor
    weights: Tensor
    explorers: Tensor


class Coreset(SuggestsKeywords):
    """Train on, or augment, a part of the data: ``coreset=smartaug.Coreset(0.3)``.

    What is selected:

    * `fraction`: a float in (0, 1], the share of the dataset; an int, a number of samples; or a schedule
      ``epoch -> either``, which changes the number of batches of an epoch (see `DataLoader.steps`).
    * `every`: number of epochs (not batches) that one selection serves.
    * `warmup`: number of epochs (not batches) at the start that train on a fresh random subset of the same size in
      place of a selection. A criterion whose ``reads`` is empty needs no warm-up and has none.
    * `select`: the criterion ``(embedding, budget, generator) -> (indices, weights)``, called once for each class; None
      is `coreset.FacilityLocation`. A criterion whose ``reads`` is empty needs no embedding.
    * `balanced`: how the budget is split over the classes. False: in proportion to their sizes, by largest remainder.
      True: equally; a class smaller than its share leaves the rest to the others. Labels are the dataset's own
      (``targets``, ``labels``, ``tensors``), else those seen in training; without any there is one class. With True,
      samples whose label is not known yet (or below 0) get a share in proportion, rounded up; where labels can never
      become known (``select`` reads no embedding) a ValueError is raised.
    * `explore`: in [0, 1], where only selected samples are trained on: the smallest share of each epoch's budget that
      goes to the samples that were not seen for longest. While a part of a class was never seen, at least that part of
      the class's budget.

    What is done with the selection:

    * `apply`: "train" draws the selected samples alone. "augment" draws all samples and augments the selected ones; the
      others are only normalised, and resized where a crop resizes. "append" draws samples without augmentation, and
      appends augmented copies of the selected rows (drawn as views 1, 2, ...) to each batch.
    * `originals`: for apply="append", of which samples the originals are trained on: "all"; "selected", those of the
      selection alone; or "random", as many as are selected, a fresh random subset in each epoch (see
      `coreset.originals`).
    * `copies`: for apply="append", the number of augmented copies of each selected sample.
    * `weights`: where only selected samples are trained on, whether the criterion's weights reach ``Target.weight``:
      False, True (none above 4 times the mean), or a float ≥ 1, the largest weight in multiples of the mean. Augmented
      copies weigh 1.

    What the criterion sees:

    * `embed`: "observed" takes the residuals p − y from the outputs that `smartaug.Loss` sees, with no extra pass and
      at most 128 bytes a sample. Where MixUp or CutMix mixed rows, a sample gets the mean of p − y over the rows that
      it is part of, weighted by its shares of them (see `coreset.record`). Maps of classes give the mean of p − y over
      their positions, and are of one class. Rows whose outputs are not finite are not recorded. The criterion chooses
      among the samples seen so far. "pass" runs ``model`` in evaluation mode over all samples as the dataset gives
      them.
    * `model`: for embed="pass", a module, a callable returning one, or None until `bind`.
    * `memory`: size in bytes above which the recorded outputs are kept in a memory-mapped file.
    * `folder`: where that file lies; None is the system's temporary folder.
    * `batch_size`: samples in a batch of the pass.
    * `device`: where the pass runs; None is the model's device.
    * `dtype`: of the pass, under autocast; None is whatever is in force.
    * `transform`: a callable on the batches of the pass, such as `smartaug.Normalize`: what ``augment=`` or
      ``lift=True`` do to images is not done in the pass.
    * `features`: whether the embedding holds the input φ of the last linear layer too, so that criteria compare the
      gradients r ⊗ (φ, 1) instead of the residuals r alone.
    * `progress`: whether the pass shows a progress bar.

    Where `smartaug.Loss` is called several times on a batch, the last outputs count. Under `torch.distributed` the
    records are merged, rank 0 selects, and all ranks use its selection; they wait for it, at most as long as the
    timeout of their process group. Raises ValueError for arguments out of range, and TypeError for a model that is
    none.
    """

    varies = False  # whether the number of samples differs between epochs
    numbered = False  # whether the record has the batch in which each sample was seen
    version = 0  # increases where the selections made so far no longer hold

    def __init__(
        self,
        fraction: Fraction,
        *,
        every: int = 1,
        select: Criterion | None = None,
        embed: str = "observed",
        model: Model = None,
        apply: str = "train",
        originals: str = "all",
        copies: int = 1,
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
        self.schedule = Schedule(fraction, every, warmup)
        passing = Passing(batch_size, device, dtype, transform, features, progress)
        self.embed = checked_word("embed", embed, ("observed", "pass"))
        self.use = Use(apply, originals, copies, weights)
        if select is not None:
            refuse_other("select", select)
        if not isinstance(explore, (int, float)) or not 0.0 <= explore <= 1.0:
            raise ValueError(f"explore must be a share of the budget in [0, 1], got {explore!r}; write explore=0.2")
        self.balanced = bool(balanced)
        self.select: Criterion = FacilityLocation() if select is None else select
        self.explore = float(explore)
        self.varies = self.schedule.varies
        self._samples = KnownSamples(
            self.observes, model, passing, memory=memory, folder=folder, numbered=self.numbered
        )
        self._epoch = 0  # the running one: what is observed is of this epoch
        self._since: int | None = None  # the first epoch of the warm-up
        self._block: Chosen | None = None
        self._made = Remembered()
        self._figures = {"selections": 0, "seconds": 0.0, "explored": 0}

    def budget(self, size: int, epoch: int = 0) -> int:
        """How many of ``size`` samples ``epoch`` selects; ValueError when that is more than ``size``."""
        return self.schedule.budget(size, epoch)

    # --- the data and the model --------------------------------------------------------------------------------------

    def attach(self, dataset: object, **reading: object) -> None:
        """Called by the loader with its dataset: reads the labels, and embeds these samples with embed="pass".

        reading: collate_fn, inputs and target, as `embed_pass` takes them.
        """
        self._samples.attach(dataset, reading)
        self._refuse_unknown()

    @property
    def apply(self) -> str:
        """What is done with the selection."""
        return self.use.apply

    @property
    def copies(self) -> int:
        """The number of augmented copies of each selected sample."""
        return self.use.copies

    def bind(self, model: Model) -> Coreset:
        """Embed with this model from now on; returns self."""
        self._samples.bind(model)
        return self

    @property
    def model(self) -> nn.Module:
        """The network of embed="pass"; raises RuntimeError before it is known."""
        return self._samples.model

    @property
    def observes(self) -> bool:
        """Whether it records outputs."""
        return self.embed == "observed" and bool(reads_of(self.select))

    def check_labels(self, index: Tensor, target: Tensor) -> None:
        """With balanced=True, raise a ValueError where labels target (B,) of a batch differ from the dataset's own."""
        if self.balanced:
            self._samples.check_labels(index, target)

    def observe(self, index: Tensor, output: Tensor, target: Tensor, unmixed: Tensor | None = None) -> None:
        """Outputs (B, ...) of the samples index (B,), as `smartaug.Loss` sees them.

        unmixed: (B,) rows whose labels are their own; the others are recorded where the target says what they are made
        of (`Target`), else left out.
        """
        if self.observes:
            self._samples.observe(index, output, target, unmixed, self._epoch)

    # --- selections --------------------------------------------------------------------------------------------------

    @property
    def drawn(self) -> Coreset | WithOriginals | None:
        """What the sampler draws; None: all samples."""
        return self if self.use.restricts else WithOriginals(self) if self.use.originals == "random" else None

    @property
    def plain(self) -> RandomOriginals | None:
        """Which of the drawn samples are trained on as they are, for apply="append"; None: all."""
        return RandomOriginals(self) if self.use.originals == "random" else None

    def selection(self, epoch: int, size: int, seed: int) -> tuple[Tensor, Tensor | None]:
        """``(indices, weights)`` for ``epoch``: (k,) int64 in 0..size-1, increasing, and (k,) float or None.

        Made at the first call, then remembered. Under `torch.distributed` every rank must call it.
        """
        key = (epoch, size, seed)
        if key not in self._made:
            started = time.perf_counter()
            if self._since is None:
                self._since = epoch
            self._samples.resize(size)
            made = self._select(epoch, size, seed)
            self._epoch = epoch
            self._made.add(key, made)
            self._figures["selections"] += 1
            self._figures["seconds"] += time.perf_counter() - started
        return self._made[key]

    def membership(self, size: int) -> Tensor:
        """A (size,) uint8 tensor in shared memory: 1 for the samples of the last selection, ones before the first.

        The same tensor for the same size, written in place at each selection, so that workers see it.
        """
        return self._made.membership(size)

    def _select(self, epoch: int, size: int, seed: int) -> tuple[Tensor, Tensor | None]:
        budget = self.budget(size, epoch)
        number = self.schedule.number(epoch, (self._since or 0) if reads_of(self.select) else None)
        if number is None:
            subset = ranks.from_first(lambda: [random_subset(self._classes(size), budget, self.balanced, seed, epoch)])
            return subset[0], None
        name = (number, budget, size, seed)
        block, seen = self._block, None
        new = block is None or block.name != name
        if self.observes:
            _, seen = self._samples.merged(new)
        if block is None or new:
            block = self._block = Chosen(
                name, *ranks.from_first(lambda: self._choose(number, budget, size, seed, seen))
            )
        if len(block.explorers) and seen is not None:
            block = Chosen(name, *ranks.from_first(partial(self._explored, block, seed, epoch, seen)))
        return block.indices, block.weights if len(block.weights) else None

    def _classes(self, size: int) -> Classes:
        self._refuse_unknown()
        return self._samples.classes(size)

    def _refuse_unknown(self) -> None:
        """Raise a ValueError where classes are to be balanced and no label will ever be known."""
        if self.balanced and not self._samples.labelled and not reads_of(self.select):
            raise ValueError(
                f"balanced=True needs the label of every sample as it reaches the loss, and {self._samples.name} has "
                "none in targets, labels or tensors that is known to be it; of several tensors name one, target=1; "
                "with a target_transform, or without a column, set dataset.targets = [...], one class number a "
                "sample, and target_transform = None; or leave balanced out"
            )

    def _choose(self, number: int, budget: int, size: int, seed: int, seen: np.ndarray | None) -> list[Tensor]:
        """The criterion's part of a selection, and how many samples of each class are added to explore (`Chosen`)."""
        if not reads_of(self.select):
            embedding: Embed = no_columns
        elif self._samples.record is not None and seen is not None:
            embedding = self._samples.record.embedding
        else:
            embedding = self._samples.passed(size)
        groups = self._classes(size)
        quota = split(budget, groups, self.balanced)
        pool, explorers = np.ones(size, bool), np.zeros_like(quota)
        if seen is not None:
            pool = seen >= 0
            explorers = explorers_of(groups, quota, pool, self.explore, draw_unseen=self.use.restricts)
        indices, weights = chosen(self.select, groups, quota - explorers, pool, embedding, seed, number)
        exploring = explorers > 0
        pairs = torch.from_numpy(np.stack([groups.names[exploring], explorers[exploring]], 1))
        if not self.use.weights or weights is None:
            return [indices.sort().values, torch.empty(0, dtype=torch.float64), pairs]
        order = indices.argsort()
        limit = _CLIP if self.use.weights is True else float(self.use.weights)
        return [indices[order], clipped(weights, limit)[order], pairs]

    def _explored(self, block: Chosen, seed: int, epoch: int, seen: np.ndarray) -> list[Tensor]:
        """A block's selection with this epoch's explorers, whose weight is 1."""
        groups = self._classes(len(seen))
        wanted = dict(block.explorers.tolist())
        quota = np.array([wanted.pop(name, 0) for name in groups.names.tolist()], np.int64)
        quota[np.argmax(groups.counts)] += sum(wanted.values())  # of classes that are gone
        taken = np.zeros(len(seen), bool)
        taken[block.indices.numpy()] = True
        more = torch.from_numpy(explored(groups, quota, taken, seen, seed, epoch))
        self._figures["explored"] += len(more)
        order = (indices := torch.cat([block.indices, more])).argsort()
        weights = block.weights
        if len(weights):
            weights = torch.cat([weights, torch.ones(len(more), dtype=weights.dtype)])[order]
        return [indices[order], weights, block.explorers]

    # --- state -------------------------------------------------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        """Number of selections, their seconds in all, and number of explored samples.

        With recorded outputs also the number of samples never seen, the mean and largest age of the others in epochs,
        bytes per sample, whether the record is memory-mapped, and how many rows were left out for which reason.
        """
        return {**self._figures, **self._samples.stats(self._epoch)}

    def explain(self) -> list[tuple[str, str, str]]:
        """Rows for the loader's table: what is selected, and from what."""
        name = getattr(self.select, "__name__", type(self.select).__name__)
        rows = self.use.explain(name)
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
        state: dict[str, Any] = {
            "epoch": self._epoch,
            "size": self._samples.size,
            "since": self._since,
            "told": dict(self._figures),
        }
        if self._block is not None:
            state["block"] = {**self._block._asdict(), "name": list(self._block.name)}
        state["made"] = self._made.state()
        if record and self.observes:
            table = self._samples.record
            state["record"] = None if table is None else table.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave; a loader's next batches have the weights and rows of these selections."""
        self.version += 1
        self._epoch, self._since = state["epoch"], state["since"]
        self._figures = dict(state["told"])
        block = state.get("block")
        self._block = None if block is None else Chosen(**{**block, "name": tuple(block["name"])})
        self._made.load(state["made"])
        self._samples.load(state["size"], state.get("record"))
        if self.observes and "record" not in state:
            self._since = self._block = None

    def __setstate__(self, state: dict[str, object]) -> None:
        if "_told" in state:  # as pickles of earlier versions name it
            state = {**state, "_figures": state["_told"]}
        if "use" not in state:
            state = {**state, "use": Use(state["apply"], "all", 1, state["weights"])}  # type: ignore[arg-type]
            state = {name: part for name, part in state.items() if name not in ("apply", "weights")}
        self.__dict__.update(state)

    def __repr__(self) -> str:
        schedule = self.schedule
        settings = f"every={schedule.every}, select={self.select!r}, embed={self.embed!r}, {self.use!r}"
        return f"{type(self).__name__}({schedule.fraction!r}, {settings}, warmup={schedule.warmup})"
