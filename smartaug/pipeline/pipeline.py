"""The stages of a batch: what `DataLoader`, `wrap` and `Collate` share.

Stages run in the main process when a batch is handed over, with the model as it is then: augment, then reweight.

| file | holds |
|---|---|
| `stages` | what users hand over as stages, checked |
| `pipeline_inputs` | the inputs of a batch, and what would move with them |
| `pipeline_augment` | the augmenting half |
| `pipeline_reweight` | the reweighting half |
| `pipeline` | the order of it all; targets, counts, state |
"""

from __future__ import annotations

import inspect
import time
import uuid
import warnings
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from .. import _leaves as leaves
from ..augment.labels import mix_labels
from ..augment.plan import Plan
from ..batch import READ, Batch, Target
from ..lift import Lifted
from ..lift.deferred import Unfinished
from ..warnings import NoEffectWarning
from .augmenting import Augmenting, Samples, streams_of
from .inputs import followers_of, found_inputs, masks_at, refuse_others, repeated
from .passes import Passes, Running
from .selection import CoresetLike, Selections
from .stages import Seed, as_steps, behind, checked_device, flattened, in_stage, listed, name_of, not_a_stage
from .weighing import Weighing

_live: WeakValueDictionary[str, Pipeline] = WeakValueDictionary()


def live(key: str) -> Pipeline | None:
    """The pipeline of that key in this process; None when it is gone."""
    return _live.get(key)


def pipeline_of(target: Any) -> Pipeline | None:
    """The pipeline that made a `Target`; None for a plain tensor or when its loader is gone."""
    return live(target._key) if isinstance(target, Target) and target._key is not None else None


class Pipeline:
    """The stages and what they count. One object is shared by a loader, its collate function and its rebuilt copies.

    The arguments are those of `DataLoader`; classes: number of classes of the data set, or None when unknown.
    lifted: what was taken out of the data set. fetching: a row for `explain` on how samples are fetched.
    """

    def __init__(
        self,
        *,
        lift: bool = False,
        augment: Any = None,
        reweight: Any = None,
        coreset: Any = None,
        device: torch.device | str | None = None,
        seed: int | None = None,
        inputs: leaves.Spec = None,
        target: leaves.Spec = None,
        returns: str = "same",
        classes: int | None = None,
        lifted: Lifted | None = None,
        fetching: tuple[str, str, str] | None = None,
    ) -> None:
        self.settings = {  # as the user gave them: what a rebuilt loader is compared by
            "lift": lift,
            "augment": augment,
            "reweight": reweight,
            "coreset": coreset,
            "device": device,
            "seed": seed,
            "inputs": inputs,
            "target": target,
            "returns": returns,
        }
        if returns not in ("same", "batch"):
            raise ValueError(f'returns must be "same" or "batch", got {returns!r}')
        if inspect.isclass(reweight) or (reweight is not None and not callable(reweight)):
            raise TypeError(not_a_stage("reweight", reweight, "a reweighter"))
        if inspect.isclass(coreset) or (coreset is not None and not isinstance(coreset, CoresetLike)):
            raise TypeError(not_a_stage("coreset", coreset, "a coreset"))
        self.lifted, self.fetching = lifted, fetching
        steps = as_steps(augment if lifted is None else behind(lifted.augment, augment))
        self.reweight, self.coreset = reweight, coreset
        self.device = device if device is None else checked_device(device)
        self.seed = Seed(seed)
        self.inputs, self.target, self.returns = inputs, target, returns
        own = [] if lifted is None else flattened(listed(lifted.augment))
        names = [] if lifted is None else [step.name for step in lifted.steps if step.where == "device"]
        self.augmenting, self.weighing = Augmenting(steps, own, self.seed, names), Weighing(reweight)
        self.steps = self.augmenting.steps
        self.lifts = lifted is not None and lifted.augment is not None
        # what batches get whose samples went through the whole lifted pipeline already
        self._finished = Augmenting(as_steps(augment), [], self.seed) if self.lifts else self.augmenting
        for part in flattened(self.steps):
            classes = getattr(part, "num_classes", None) or classes
        self.classes = classes
        self._classes_declared = classes is not None
        # a coreset's weights (B,) by index (B,) and epoch, or None; set by the loader
        self.weight_of: Callable[[Tensor, int], Tensor | None] | None = None
        self.selections: Selections | None = None  # of a coreset that chooses what is augmented; set by the loader
        self.passes = Passes()
        self.counts = dict.fromkeys(("batches", "samples", "augmented", "weighted"), 0)
        if self.lifts:
            self.counts["lifted"] = 0  # samples whose lifted transforms ran here
        self.seconds = 0.0
        self._warned = False
        self._register()

    def _register(self) -> None:
        self.key = uuid.uuid4().hex
        _live[self.key] = self

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._register()  # a copy is a pipeline of its own

    # --- running the stages ------------------------------------------------------------------------------------------

    def resolve_device(self) -> torch.device:
        """The device that stages run on: the one asked for, else the current accelerator, else the CPU."""
        if self.device is not None:
            return self.device
        if torch.accelerator.is_available():
            return torch.accelerator.current_accelerator() or torch.device("cpu")
        return torch.device("cpu")

    def run(
        self,
        data: Any,
        index: list[int] | None,
        running: Running,
        device: torch.device | None = None,
        unfinished: Unfinished | None = None,
    ) -> Any:
        """Run all stages on a collated batch; the user's structure, or a `Batch` with returns="batch".

        index: dataset indices of the rows, or None: then draws are keyed by the count of samples in this pass.
        unfinished: where lifted transforms have still to run; None: the samples went through all of them.
        """
        started, epoch = time.perf_counter(), running.epoch
        rows_known = None if index is None else len(index)
        augmenting = self.augmenting if unfinished is not None else self._finished
        where, views = found_inputs(data, self.inputs, rows_known, augmented=bool(augmenting.steps))
        if self.lifted is not None and unfinished is not None:
            refuse_others(unfinished, where, data)
            self.lifted.check(views)
        length = len(views[0])
        label_path = leaves.find_target(data, where, length, self.target, index)
        target = leaves.get(data, label_path) if label_path is not None else None
        if index is not None and len(index) != length:
            index = None  # the user's collate function merged or dropped samples
        count = range(running.samples, running.samples + length)
        keyed = torch.tensor(list(count) if index is None else index, dtype=torch.int64, device="cpu")
        running.samples += length
        streams = keyed if index is None or not augmenting.steps else streams_of(keyed, running.before(index))
        samples = Samples(keyed, streams, epoch)

        if augmenting.steps or self.reweight is not None:
            device = device or self.resolve_device()
            views = [view.to(device, non_blocking=True) for view in views]
        self.weighing.begin(epoch)
        followers = {} if self.inputs is not None else followers_of(data, where, views[0])
        rows = self._selected_rows(index, length, epoch) if augmenting.steps else None
        if rows is None:
            moving = {} if unfinished is None else masks_at(data, unfinished.masks, device)
            refused = {path: what for path, what in followers.items() if path not in moving}
            made = augmenting.all_rows(views, samples, refused, moving)
            for path, mask in moving.items():
                data = leaves.put(data, path, mask)
            if label_path is not None and label_path in moving:
                target = moving[label_path]
        else:
            appends = getattr(self.coreset, "apply", "train") == "append"
            made, taken = augmenting.some_rows(views, samples, followers, rows, appends=appends)
            if len(taken) > length:
                data, keyed = repeated(data, where, label_path, rows, length), keyed[taken]
                target = None if label_path is None else leaves.get(data, label_path)
        known = None if index is None else keyed.to(torch.int64)
        wrapped = self._wrap(target, made.plans, known, device if self.reweight is not None or made.plans else None)
        batch = Batch(made.views[0] if len(made.views) == 1 else made.views, wrapped, None, None, known)
        if isinstance(wrapped, Target):
            batch = batch._replace(weight=wrapped._weight, soft=wrapped._soft, index=wrapped.index)
        if self.weight_of is not None:
            batch = batch._replace(weight=self._selected_weight(known, length, epoch))
        batch = self.weighing.weighed(batch, made.trace)
        result = self._hand_over(data, where, label_path, batch)
        self._count(batch, length, length if rows is None else len(rows))
        if self.lifts:
            self._count_lifted(length if unfinished is not None else 0)
        self.seconds += time.perf_counter() - started
        return result

    def _selected_weight(self, index: Tensor | None, length: int, epoch: int) -> Tensor | None:
        """The coreset's weights of the rows."""
        if self.weight_of is None:
            return None
        weight = self.weight_of(torch.empty(0, dtype=torch.int64) if index is None else index, epoch)
        if weight is not None and len(weight) != length:
            raise ValueError(
                f"the sampler has weights, but the collate function made {length} rows that are not its samples; "
                "let it keep one row a sample, or leave the weights out"
            )
        return weight

    def _selected_rows(self, index: list[int] | None, length: int, epoch: int) -> Tensor | None:
        """(s,) int64 rows of the batch that the coreset lets augment; None: all."""
        if self.selections is None:
            return None
        if index is None:
            raise ValueError(
                f"coreset= selects by index, and the collate function made {length} rows that are not its samples; let "
                "it keep one row a sample"
            )
        index_of = torch.tensor(index, dtype=torch.int64, device="cpu")
        return self.selections.of(epoch).holds(index_of).nonzero()[:, 0]

    def _wrap(self, target: Any, plans: list[Plan], index: Tensor | None, device: torch.device | None) -> Any:
        """The target as a `Target`; moved only when a stage reads or writes it."""
        mixing = [plan for plan in plans if plan.mixes]
        needed = mixing or self.reweight is not None
        if not isinstance(target, Tensor) or target.ndim == 0:
            if mixing or (needed and self.returns != "batch"):
                stage = "mixing" if mixing else "reweighting"
                what = "no target leaf was found" if target is None else f"the target is {type(target).__name__}"
                raise TypeError(
                    f"{stage} needs a target tensor, but {what}; name it with target='key', target=1 or "
                    "target=lambda batch: ..." + ("" if mixing else ', or take weights from a Batch: returns="batch"')
                )
            return target
        if isinstance(target, Target):
            target = target.plain
        if needed and device is not None:
            target = target.to(device, non_blocking=True)
        countable = not target.is_floating_point() and target.device.type == "cpu" and target.numel() > 0
        if mixing and countable and not self._classes_declared:
            # as wide as the largest label so far; Loss pads the rest with zeros
            self.classes = max(self.classes or 2, int(target.max()) + 1)
        index = index if index is None else index.to(target.device, non_blocking=True)
        wrapped: Any = Target(target, None, None, index, self.key)
        for plan in mixing:
            try:
                wrapped = mix_labels(wrapped, plan, num_classes=self.classes)
            except (TypeError, ValueError) as error:
                raise in_stage(error, "augment: mixing the labels", index, target) from error
        return wrapped

    def settle(self, output: Any, target: Target) -> Target:
        """The target with the weights and labels of a reweighter that waited for the loop's own ``output``."""
        batch = self.weighing.settled(output, target)
        if batch is None:
            return target
        self.counts["weighted"] += batch.weight is not None or batch.soft is not None
        return Target(target.plain, batch.weight, batch.soft, batch.index, self.key)

    def _hand_over(self, data: Any, where: leaves.Path, label_path: leaves.Path | None, batch: Batch) -> Any:
        target = batch.target
        if isinstance(target, Target):
            weight, soft, index = (
                None if part is None else part.to(target.device, non_blocking=True)
                for part in (batch.weight, batch.soft, batch.index)
            )
            batch = Batch(batch.inputs, Target(target.plain, weight, soft, index, self.key), weight, soft, index)
        elif batch.weight is not None and self.returns != "batch":
            raise TypeError(
                "the batch has weights, but no target tensor to carry them; name it with target='key', target=1 or "
                'target=lambda batch: ..., or take them from a Batch: returns="batch"'
            )
        if self.returns == "batch":
            return batch
        given, inputs = leaves.get(data, where), batch.inputs
        if isinstance(given, (tuple, list)):
            inputs = type(given)([inputs] if isinstance(inputs, Tensor) else inputs)
        result = leaves.put(data, where, inputs)
        return result if label_path is None else leaves.put(result, label_path, batch.target)

    # --- what is counted and told ------------------------------------------------------------------------------------

    def _count(self, batch: Batch, length: int, augmented: int) -> None:
        self.counts["batches"] += 1
        self.counts["samples"] += length
        self.counts["augmented"] += augmented if self.steps else 0
        self.counts["weighted"] += batch.weight is not None or batch.soft is not None
        unread = self.returns == "same" and self.key not in READ
        if self.counts["weighted"] >= 20 and unread and not self._warned:
            self._warned = True
            warnings.warn(
                "20 batches carried weights or soft labels that nobody has read, neither a smartaug.Loss nor by "
                "target.weight or target.soft, so they had no effect; write criterion = smartaug.Loss(criterion) and "
                "compute the loss outside the model",
                NoEffectWarning,
                stacklevel=2,
            )

    def _count_lifted(self, samples: int) -> None:
        self.counts["lifted"] += samples
        if self.counts["batches"] == 20 and not self.counts["lifted"]:
            warnings.warn(
                "lift=True had no effect on 20 batches: each has samples whose image is not what the dataset's "
                "transform returned (it was changed, cached, or not made by it), so the whole transform ran where "
                "samples are loaded; write lift=False, or let every sample return the transform's result",
                NoEffectWarning,
                stacklevel=2,
            )

    def observe(self, index: Tensor | None, output: Any, target: Target, classifies: bool = True) -> None:
        """`Loss` met a target of this pipeline: note that, and show the outputs to the coreset.

        classifies: the outputs are logits of one class each; a coreset that records residuals p − y needs that.
        """
        READ.add(self.key)
        look = getattr(self.coreset, "observe", None)
        if look is None or index is None or not isinstance(output, Tensor):
            return
        if not classifies and getattr(self.coreset, "observes", False):
            raise TypeError(
                "the coreset records p − y of classifiers, and this criterion compares element by element; use a "
                "cross entropy, or select=smartaug.coreset.Uniform()"
            )
        unmixed = None
        if target._soft is not None and self.augmenting.mixes:
            # a row that was left alone has its own label whole; softened ones (reweighting) cannot be told from mixed
            unmixed = target._soft.amax(1) > 1 - 1e-6
        look(index, output.detach(), target.plain, unmixed)

    def stats(self) -> dict[str, Any]:
        """Counts since the loader was made, seconds spent in the stages, and what the stages themselves report."""
        counts = {**self.counts, "fallbacks": self.weighing.fallbacks()}
        told: dict[str, Any] = {"epoch": max(self.passes.epoch, 0), **counts, "seconds": self.seconds}
        for name in ("reweight", "coreset"):
            own = getattr(getattr(self, name), "stats", None)
            if own is not None:
                told[name] = own()
        return told

    def explain(self) -> str:
        """A table: every stage in order, where it runs, and why; below a plan's stages its segments and backends."""
        device = str(self.resolve_device())
        rows = [("stage", "runs", "why")]
        if self.fetching is not None:
            rows.append(self.fetching)
        if self.coreset is not None:
            own = getattr(self.coreset, "explain", None)
            drawn = (f"coreset: {name_of(self.coreset)}", "sampler", "only selected samples are drawn")
            rows += [drawn] if own is None else own()
        rows += [*self.augmenting.explain(device), *self.weighing.explain(device)]
        widths = [max(len(row[column]) for row in rows) for column in range(2)]
        table = "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}" for a, b, c in rows)
        return table if self.lifted is None or not self.lifted.steps else f"{self.lifted.explain()}\n\n{table}"

    def state_dict(self, record: bool = True) -> dict[str, Any]:
        """The seed and the states of the stages, as tensors and plain values; record: with dataset-sized records."""
        state: dict[str, Any] = {"seed": self.seed()}
        for name in ("reweight", "coreset"):
            own = getattr(getattr(self, name), "state_dict", None)
            if own is not None:
                state[name] = own(record=record) if name == "coreset" else own()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self.seed.value = state["seed"]
        for name in ("reweight", "coreset"):
            if name in state:
                getattr(self, name).load_state_dict(state[name])
        if self.selections is not None:
            self.selections.forget()
