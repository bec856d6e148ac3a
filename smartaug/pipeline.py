"""The stages of a batch: what `DataLoader`, `wrap` and `Collate` share.

Stages run in the main process when a batch is handed over, with the model as it is then: augment, then reweight.
"""

from __future__ import annotations

import inspect
import time
import uuid
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from . import draws, leaves
from .augment import CutMix, MixUp, masks
from .augment.augmentation import Augmentation, on_cpu
from .augment.foreign import Foreign
from .augment.labels import mix_labels
from .augment.partly import beside as beside_of
from .augment.partly import check_fit, plain, plain_foreign, together, widened
from .augment.plan import Plan, Trace
from .batch import READ, Batch, Target
from .fetch import Passes, Running
from .lift import Lifted
from .notices import NoEffectWarning
from .selection import CoresetLike, Selections
from .stages import (
    Seed,
    as_steps,
    behind,
    checked_device,
    checked_results,
    flattened,
    in_stage,
    listed,
    name_of,
    not_a_stage,
    refuse_followers,
    rows_not_finite,
)


class Reweighter(Protocol):
    """What ``reweight=`` takes: per-sample weights and soft labels for a batch.

    Optional: ``state_dict()``/``load_state_dict(state)`` are kept in the loader's state, ``stats()`` is shown in its
    stats; ``meet(dataset)`` is called once with the training set, ``begin(epoch)`` before an epoch's first batch;
    ``settle(output, target)`` is called by `smartaug.Loss` and may give weights and labels then, or None.
    """

    def __call__(self, batch: Batch, trace: Trace) -> tuple[Tensor | None, Tensor | None]:
        """``(weight, soft)``: (B,) with mean 1 and (B, K) rows summing to 1; None leaves them as they are."""
        ...


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
        self.steps = as_steps(augment if lifted is None else behind(lifted.augment, augment))
        own = [] if lifted is None else flattened(listed(lifted.augment))
        # what samples that a coreset leaves alone get in place of a step; None: what is plain about it
        self._beside = [beside_of(step, own) if own else None for step in self.steps]
        self._mixes = any(isinstance(part, (MixUp, CutMix)) for part in flattened(self.steps))
        self.reweight, self.coreset = reweight, coreset
        self.device = device if device is None else checked_device(device)
        self.seed = Seed(seed)
        self.inputs, self.target, self.returns = inputs, target, returns
        for part in flattened(self.steps):
            classes = getattr(part, "num_classes", None) or classes
        self.classes = classes
        self._classes_declared = classes is not None
        # a coreset's weights (B,) by index (B,) and epoch, or None; set by the loader
        self.weight_of: Callable[[Tensor, int], Tensor | None] | None = None
        self.selections: Selections | None = None  # of a coreset that chooses what is augmented; set by the loader
        self.passes = Passes()
        self.counts = dict.fromkeys(("batches", "samples", "augmented", "weighted", "fallbacks"), 0)
        self.seconds = 0.0
        self._fallbacks: Tensor | None = None  # counted on an accelerator, read when asked for
        self._begun: int | None = None  # the epoch that the reweighter was told last
        self._warned = False
        self._choices: dict[int, list[tuple[str, str, str]]] = {}  # step -> (segment, backend, why), of the first batch
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

    def run(self, data: Any, index: list[int] | None, running: Running, device: torch.device | None = None) -> Any:
        """Run all stages on a collated batch; the user's structure, or a `Batch` with returns="batch".

        index: dataset indices of the rows, or None: then draws are keyed by the count of samples in this pass.
        """
        started, epoch = time.perf_counter(), running.epoch
        where, views = self._find_inputs(data, None if index is None else len(index))
        length = len(views[0])
        label_path = leaves.find_target(data, where, length, self.target, index)
        target = leaves.get(data, label_path) if label_path is not None else None
        if index is not None and len(index) != length:
            index = None  # the user's collate function merged or dropped samples
        count = range(running.samples, running.samples + length)
        keyed = torch.tensor(list(count) if index is None else index, dtype=torch.int64, device="cpu")
        running.samples += length

        if self.steps or self.reweight is not None:
            device = device or self.resolve_device()
            views = [view.to(device, non_blocking=True) for view in views]
        begin = getattr(self.reweight, "begin", None)
        if begin is not None and epoch != self._begun:
            begin(epoch)  # a learned policy sets its probabilities before anything is drawn
            self._begun = epoch
        followers = {} if self.inputs is not None else self._followers(data, where, views[0])
        rows = self._selected_rows(index, length, epoch)
        if rows is None:
            moving = self._masks(data, followers, device, len(views))
            refused = {path: what for path, what in followers.items() if path not in moving}
            views, _, plans, trace = self._augment(views, keyed, epoch, refused, moving)
            for path, mask in moving.items():
                data = leaves.put(data, path, mask)
            if label_path in moving:
                target = moving[label_path]
        else:
            views, plans, trace, taken = self._augment_partly(views, keyed, epoch, followers, rows)
            if len(taken) > length:
                data, target = self._grown(data, where, label_path, rows, length)
                keyed = keyed[taken]
        known = None if index is None else keyed.to(torch.int64)
        wrapped = self._wrap(target, plans, known, device if self.reweight is not None or plans else None)
        batch = Batch(views[0] if len(views) == 1 else views, wrapped, None, None, known)
        if isinstance(wrapped, Target):
            batch = batch._replace(weight=wrapped._weight, soft=wrapped._soft, index=wrapped.index)
        if self.weight_of is not None:
            batch = batch._replace(weight=self._selected_weight(known, length, epoch))
        if self.reweight is not None:
            batch = self._reweight(batch, trace)
        result = self._hand_over(data, where, label_path, batch)
        self._count(batch, length, length if rows is None else len(rows))
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

    def _find_inputs(self, data: Any, rows: int | None) -> tuple[leaves.Path, list[Tensor]]:
        """Where the inputs are, and their views; without augmentation any tensor of as many rows will do."""
        if self.steps or self.inputs is not None:
            where = leaves.find_inputs(data, self.inputs, images=True)
        else:
            where = leaves.find_rows(data, rows)
        return where, self.check_inputs(leaves.get(data, where), where)

    def check_inputs(self, inputs: Any, where: leaves.Path) -> list[Tensor]:
        """The views of the inputs; raises TypeError or ValueError unless they are tensors (B, C, H, W).

        On the CPU they must be finite; on an accelerator looking would stall the queue.
        """
        views = list(inputs) if isinstance(inputs, (tuple, list)) else [inputs]
        for view in views:
            if not isinstance(view, Tensor):
                raise TypeError(
                    f"the inputs at {where!r} are {type(view).__name__}, stages need a tensor (B, C, H, W); "
                    "let the dataset or collate_fn make tensors (torchvision: PILToTensor)"
                )
            if self.steps and view.ndim != 4:
                raise ValueError(
                    f"the inputs at {where!r} have shape {tuple(view.shape)}, stages need (B, C, H, W); "
                    "name the images with inputs= or let the loader batch them (batch_size=...)"
                )
            if self.steps and view.shape[3] in (3, 4) and view.shape[1] > 4:
                raise ValueError(
                    f"the inputs at {where!r} look like (B, H, W, C), they have shape {tuple(view.shape)}; "
                    "write image.permute(2, 0, 1) in the dataset"
                )
            # one sum shows any NaN or Inf, and rows are looked at only then: large finite values overflow the sum too
            if view.device.type == "cpu" and view.is_floating_point() and view.numel():
                total = view.sum(dtype=torch.float64 if view.dtype == torch.float64 else torch.float32)
                bad = [] if torch.isfinite(total) else rows_not_finite(view)
                if bad:
                    raise ValueError(
                        f"the inputs at {where!r} hold NaN or Inf in rows {bad[:8]} of the batch; "
                        "look at those samples (loader.dataset[i]) or replace the values: torch.nan_to_num(image)"
                    )
        return views

    def _followers(self, data: Any, where: leaves.Path, images: Tensor) -> dict[leaves.Path, str]:
        """Leaves that would have to move with the pixels: other image-sized tensors, boxes and keypoints."""
        found = {}
        for path, leaf in leaves.walk(data):
            if path[: len(where)] == where:
                continue
            if any(step in ("boxes", "bboxes", "keypoints") for step in path):
                found[path] = "boxes or keypoints"
                continue
            dense = isinstance(leaf, Tensor) and not leaf.is_nested and leaf.ndim >= 3
            if dense and leaf.shape[-2:] == images.shape[-2:]:
                found[path] = f"a mask or a second image {tuple(leaf.shape)}"
        return found

    def _masks(
        self, data: Any, followers: dict[leaves.Path, str], device: torch.device | None, views: int
    ) -> dict[Any, Tensor]:
        """The masks among the followers that a lifted pipeline moves with the images."""
        if self.lifted is None or not self.lifted.follows or views > 1:
            return {}
        found = {path: leaves.get(data, path) for path in followers}
        return {
            path: leaf.to(device, non_blocking=True)
            for path, leaf in found.items()
            if isinstance(leaf, Tensor) and masks.is_mask(leaf)
        }

    def _selected_rows(self, index: list[int] | None, length: int, epoch: int) -> Tensor | None:
        """(s,) int64 rows of the batch that the coreset lets augment; None: all."""
        if self.selections is None or not self.steps:
            return None
        if index is None:
            raise ValueError(
                f"coreset= selects by index, and the collate function made {length} rows that are not its samples; let "
                "it keep one row a sample"
            )
        index_of = torch.tensor(index, dtype=torch.int64, device="cpu")
        return self.selections.of(epoch).holds(index_of).nonzero()[:, 0]

    def _augment_partly(
        self,
        views: list[Tensor],
        index: Tensor,
        epoch: int,
        followers: dict[leaves.Path, str],
        rows: Tensor,
    ) -> tuple[list[Tensor], list[Plan], Trace, Tensor]:
        """Augment the ``rows`` (s,) alone, in place of the plain samples or below all of them; with apply="append" the
        copies are view 1 of their samples (after all views, where there are several). Also the sample of each row."""
        batch = len(index)
        others = torch.arange(batch, device="cpu")
        appends = getattr(self.coreset, "apply", "train") == "append"
        taken = torch.cat([others, rows]) if appends else others
        if not appends:
            kept = torch.ones(batch, dtype=torch.bool, device="cpu")
            kept[rows] = False
            others = kept.nonzero()[:, 0]
        place = torch.arange(batch, len(taken), device="cpu") if appends else rows
        picked, rest = (
            [view.index_select(0, part.to(view.device, non_blocking=True)) for view in views] for part in (rows, others)
        )
        picked, rest, plans, trace = self._augment(
            picked, index[rows], epoch, followers, {}, rest, index[others], len(views) if appends else 0
        )
        views = [together(*pair, place, others) for pair in zip(picked, rest, strict=True)]
        wide = [widened(plan, place, len(taken)) for plan in plans]
        trace = Trace.empty(len(taken))
        for plan in wide:
            trace = trace.then(plan.trace)
        return views, wide, trace, taken

    def _grown(
        self, data: Any, where: leaves.Path, label_path: leaves.Path | None, rows: Tensor, length: int
    ) -> tuple[Any, Any]:
        """The batch and its target with the ``rows`` once more below, for all tensors but the inputs."""
        for path, leaf in list(leaves.walk(data)):
            if path[: len(where)] != where and isinstance(leaf, Tensor) and leaf.ndim and len(leaf) == length:
                more = leaf.index_select(0, rows.to(leaf.device, non_blocking=True))
                data = leaves.put(data, path, torch.cat([leaf, more]))
        target = None if label_path is None else leaves.get(data, label_path)
        if label_path is not None and not isinstance(target, Tensor):
            raise TypeError(
                f'apply="append" repeats the target, which is {type(target).__name__}; let the collate function make a '
                'tensor, name it with target=, or use apply="augment"'
            )
        return data, target

    def _augment(
        self,
        views: list[Tensor],
        index: Tensor,
        epoch: int,
        followers: dict[leaves.Path, str],
        moving: dict[Any, Tensor],
        others: list[Tensor] | None = None,
        others_index: Tensor | None = None,
        first: int = 0,
    ) -> tuple[list[Tensor], list[Tensor], list[Plan], Trace]:
        """Run all augmentations on every view; the masks in ``moving`` are replaced by what becomes of them.

        others: samples beside the views, which get what was lifted out of the data set and else pass plain. first: the
        number of the first view, of which draws are a function.
        """
        plans: list[Plan] = []
        trace = Trace.empty(len(index))
        if not self.steps:
            return views, others or [], plans, trace
        seed = self.seed()
        done, passed = [], []
        for number, images in enumerate(views):
            key = draws.key(seed, epoch, index, first + number)
            beside = None if others is None else others[number]
            beside_key = None if others_index is None else draws.key(seed, epoch, others_index, number)
            for position, step in enumerate(self.steps):
                # a single augmentation draws what aug(images, index=..., epoch=..., seed=...) would
                own = key if len(self.steps) == 1 else draws.fold(key, position)
                other = self._beside[position]
                other_key = beside_key
                if beside_key is not None and len(self.steps) > 1:
                    other_key = draws.fold(beside_key, position)
                try:
                    if isinstance(step, Foreign):
                        if step.moves_pixels:
                            refuse_followers(step.name, {**followers, **dict.fromkeys(moving, "a mask")})
                        images = step(images, own) if len(images) or beside is None else images
                        if beside is not None and other_key is not None:
                            if isinstance(other, Foreign):
                                beside = other(beside, other_key) if len(beside) else beside
                            else:
                                beside = plain_foreign(step, beside, other_key)
                            check_fit(step.name, images, beside)
                        continue
                    with on_cpu():
                        plan = step.sample(images.shape, own)
                    if plan.moves_pixels:
                        refuse_followers(type(step).__name__, followers)
                    if position not in self._choices:
                        chosen = step.explain(plan, images)
                        self._choices[position] = [(type(c.segment).__name__, c.backend, c.reason) for c in chosen]
                    images = step.apply(images, plan)
                    if plan.moves_pixels:
                        moving.update({path: masks.follow(plan, mask) for path, mask in moving.items()})
                    if beside is not None and isinstance(other, Augmentation) and other_key is not None:
                        if len(beside):
                            with on_cpu():
                                plan_beside = other.sample(beside.shape, other_key)
                            if plan_beside.moves_pixels:
                                refuse_followers(type(step).__name__, followers)
                            beside = other.apply(beside, plan_beside)
                    elif beside is not None:
                        beside = step.apply(beside, plain(plan, len(beside)))
                except Exception as error:
                    raise in_stage(error, f"augment stage {name_of(step)}", index, images) from error
                plans.append(plan)
                trace = trace.then(plan.trace)
            done.append(images)
            passed += [] if beside is None else [beside]
        if len(done) > 1 and any(plan.mixes for plan in plans):
            raise ValueError(
                "MixUp and CutMix give every view its own labels, and the batch has one target for "
                f"{len(done)} views; leave them out, or name one view: inputs=0"
            )
        return done, passed, plans, trace

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

    def _reweight(self, batch: Batch, trace: Trace) -> Batch:
        given = batch._replace(target=batch.target.plain) if isinstance(batch.target, Target) else batch
        length = len(batch.inputs[0]) if isinstance(batch.inputs, list) else len(batch.inputs)
        verdict = self._told(lambda: checked_results(self.reweight(given, trace), length), batch.index, batch.inputs)
        return self._with(verdict, batch)

    def settle(self, output: Any, target: Target) -> Target:
        """The target with the weights and labels of a reweighter that waited for the loop's own ``output``."""
        ask = getattr(self.reweight, "settle", None)
        made = None if ask is None else self._told(lambda: ask(output, target), target.index, output)
        if made is None:
            return target
        verdict = self._told(lambda: checked_results(made, len(target)), target.index, output)
        batch = self._with(verdict, Batch(None, target.plain, target._weight, target._soft, target.index))
        self.counts["weighted"] += batch.weight is not None or batch.soft is not None
        return Target(target.plain, batch.weight, batch.soft, batch.index, self.key)

    def _told(self, ask: Callable[[], Any], index: Tensor | None, shown: Any) -> Any:
        """What the reweighter says; its errors name it and what it was shown."""
        try:
            return ask()
        except Exception as error:
            raise in_stage(error, f"reweight stage {name_of(self.reweight)}", index, shown) from error

    def _with(self, verdict: tuple[Tensor | None, Tensor | None], batch: Batch) -> Batch:
        """The batch with the reweighter's weights and labels."""
        weight, soft = self._finite(*verdict, batch)
        if weight is not None and batch.weight is not None:
            weight = weight * batch.weight.to(weight.device)  # coreset weights stay in force
        weight = batch.weight if weight is None else weight.detach()
        return batch._replace(weight=weight, soft=batch.soft if soft is None else soft.detach())

    def _finite(self, weight: Tensor | None, soft: Tensor | None, batch: Batch) -> tuple[Tensor | None, Tensor | None]:
        """Weight 1 and the upstream labels for a batch whose weights or labels are not finite; counted."""
        made = [part for part in (weight, soft) if part is not None]
        if not made:
            return weight, soft
        bad = torch.stack([~torch.isfinite(part).all() for part in made]).any()
        if bad.device.type == "cpu":
            if bad:
                self.counts["fallbacks"] += 1
                self._warn_fallback()
                return None, None
            return weight, soft
        # no look at the device: choose there, count there
        self._fallbacks = bad.long() if self._fallbacks is None else self._fallbacks + bad
        if weight is not None:
            weight = torch.where(bad, torch.ones_like(weight), weight)
        if soft is not None:
            upstream = batch.soft
            if upstream is None:
                label = batch.target.long()
                upstream = torch.zeros_like(soft).scatter_(1, label.reshape(-1, 1), 1.0)
            soft = torch.where(bad, upstream.to(soft.dtype), soft)
        return weight, soft

    def _warn_fallback(self) -> None:
        if self.counts["fallbacks"] == 1:
            warnings.warn(
                f"{name_of(self.reweight)} made weights or labels that are not finite; such batches keep weight 1 and "
                'their own labels. loader.stats()["fallbacks"] counts them; look for NaN in the model\'s outputs',
                stacklevel=2,
            )

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
        if target._soft is not None and self._mixes:
            # a row that was left alone has its own label whole; softened ones (reweighting) cannot be told from mixed
            unmixed = target._soft.amax(1) > 1 - 1e-6
        look(index, output.detach(), target.plain, unmixed)

    def stats(self) -> dict[str, Any]:
        """Counts since the loader was made, seconds spent in the stages, and what the stages themselves report."""
        if self._fallbacks is not None:
            self.counts["fallbacks"] += int(self._fallbacks)
            self._fallbacks = None
            if self.counts["fallbacks"]:
                self._warn_fallback()
        told: dict[str, Any] = {"epoch": max(self.passes.epoch, 0), **self.counts, "seconds": self.seconds}
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
        for position, step in enumerate(self.steps):
            if isinstance(step, Foreign):
                rows.append((f"augment: {step.name}", device, "no plan for it: as it is, in a forked RNG"))
                continue
            for part in flattened([step]):
                rows.append((f"augment: {name_of(part)}", device, "one plan for neighbouring stages"))
            for segment, backend, why in self._choices.get(position, [("segments", "", "chosen at the first batch")]):
                rows.append((f"    {segment}", backend, why))
        if self.reweight is not None:
            late = getattr(self.reweight, "when", "batch") == "loss"
            why = "in smartaug.Loss, with the loop's logits" if late else "at hand-over, with the model as it is then"
            rows.append((f"reweight: {name_of(self.reweight)}", device, why))
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
