"""What learned reweighters share: the model by reference, validation batches, directions, the record of what was done.

A method is a `Rule` on benefits or a `Learner`; `Reweighting` is the shell around either: it calls the method for each
batch, normalises weights over all ranks, and keeps what a checkpoint needs.
"""

from __future__ import annotations

import copy
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from .. import grads, ranks
from ..batch import Batch, Target
from ..head import Listener
from ..logits import Criterion, distributions, logits_of
from ..notices import NoEffectWarning
from ..untouched import Mode, unwrapped
from .memory import Memory
from .protocols import Gradients, Rule, Verdict
from .validation import ValidationBatches

Model = nn.Module | Callable[[], nn.Module] | None
_WAITING = 4  # batches that may be between the loader and the loss; loops fetch one or two ahead


class Reweighting(ABC):
    """The shell around a method; subclasses say in `weigh` what it does.

    model: the network that the loop trains, a callable returning it, or None until `bind`. It is kept by reference
    through deepcopy and dropped by pickle. val_set: a map-style dataset or a pair of tensors; its classes are drawn
    equally often. validation_batch: samples of it per direction and rank. transform: a callable on its batches, for
    what ``augment=`` does to training images besides augmenting (`smartaug.Normalize`). criterion: the validation loss
    ``(logits, labels) -> loss``; None is cross entropy.

    statistics: what BatchNorm takes in the validation pass, which has no dropout. "running" is the deployed model;
    running statistics lag behind the weights, and at high learning rates the direction is mostly about that lag.
    "batch" is the statistics of the validation batch while the model trains, as in the released code of Learning to
    Reweight; that batch is class-balanced, so other class proportions than the training data's are normalised away.
    With "batch", SAFLEX gained 2 points and Learning to Reweight 5 on CIFAR-10N in 12 epochs; on PneumoniaMNIST, whose
    classes are unequal, SAFLEX lost 7 and Learning to Reweight nothing (benchmarks/results/learning.json). Models
    without such layers do not differ.

    scope: "full", or "head" for the last linear layer alone (cheap, and no stand-in: its cosine to the full benefits
    was 0.2 and 0.7 in the median of two runs, and negative at worst). head: that layer's name, None finds it. method:
    "jvp" or "difference", see `smartaug.grads.benefit`. every: batches that share a direction; all of them are weighed
    (directions 4 and 8 steps old kept a cosine of 0.6 and 0.7 in the median of two runs, and were negative at worst;
    training lost little on digits and 9 points on CIFAR-10N, see benchmarks/results). weigh_every: batches of which one
    is weighed; in the others each sample keeps its last weight and label. when: "batch" weighs a batch as the loader
    hands it over; "loss" waits for `smartaug.Loss` to show the loop's own logits, which saves one of the two passes of
    method="difference" and the only one of scope="head". `Loss` then needs the whole batch at once, and
    ``target.weight`` stays 1: only `Loss` sees the weights. ema: share of the old direction in the new one, in [0, 1).
    warmup: batches at the start that are left as they are. seed: of validation batches and noise.
    """

    def __init__(
        self,
        model: Model,
        val_set: Any,
        *,
        validation_batch: int = 64,
        transform: Callable[[Tensor], Tensor] | None = None,
        criterion: Criterion | None = None,
        statistics: Literal["running", "batch"] = "running",
        scope: grads.Scope = "full",
        head: str | None = None,
        method: grads.Method = "jvp",
        every: int = 1,
        weigh_every: int = 1,
        when: Literal["batch", "loss"] = "batch",
        ema: float = 0.0,
        warmup: int = 0,
        seed: int = 0,
    ) -> None:
        if scope not in ("full", "head"):
            raise ValueError(f'scope must be "full" or "head", got {scope!r}; write scope="full"')
        if statistics not in ("running", "batch"):
            raise ValueError(f'statistics must be "running" or "batch", got {statistics!r}; write statistics="running"')
        if method not in ("jvp", "difference"):
            raise ValueError(f'method must be "jvp" or "difference", got {method!r}; write method="jvp"')
        if when not in ("batch", "loss"):
            raise ValueError(f'when must be "batch" or "loss", got {when!r}; write when="batch"')
        if when == "loss" and scope == "full" and method == "jvp":
            raise ValueError(
                'when="loss" saves a pass of method="difference" or scope="head"; write one of them as well'
            )
        for name, value, least in (("every", every, 1), ("weigh_every", weigh_every, 1), ("warmup", warmup, 0)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} must be a number of batches ≥ {least}, got {value!r}; write {name}={least}")
        if not 0.0 <= ema < 1.0:
            raise ValueError(f"ema must be in [0, 1), got {ema!r}; ema=0.0 turns it off")
        self._model = _checked(model)
        self.validation = ValidationBatches(val_set, validation_batch, seed, transform)
        self.val_set, self.criterion, self.scope, self.head, self.method = val_set, criterion, scope, head, method
        self.every, self.weigh_every, self.ema, self.warmup, self.seed = every, weigh_every, ema, warmup, seed
        self.when, self.statistics = when, statistics
        self.step = 0  # batches seen
        self._direction: grads.Direction | None = None
        self._age = 0
        self._drawn = 0  # validation batches drawn
        self._memory = Memory()
        self._record = _Record()
        self._waiting: list[_Waiting] = []
        self._listener = Listener()
        self._unmet = 0  # batches handed over in a row that no loss has shown

    @abstractmethod
    def weigh(self, grads: Gradients, batch: Batch, trace: Any) -> Verdict:
        """Weights (B,) of any mean and soft labels (B, K) for a batch; None leaves them as they are."""

    # --- the model ---------------------------------------------------------------------------------------------------

    @property
    def model(self) -> nn.Module:
        """The network; raises RuntimeError before it is known."""
        found = self._model
        if found is not None and not isinstance(found, nn.Module):
            found = found()
        if found is None:
            name = type(self).__name__
            raise RuntimeError(
                f"{name} has no model (pickling drops it); write reweight = smartaug.{name}(model, val_set), or "
                "loader.reweight.bind(model)"
            )
        return found

    def bind(self, model: Model) -> Reweighting:
        """Use this model from now on; returns self."""
        self._model = _checked(model)
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Reweighting:
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        shared = ("_model", "val_set", "validation", "criterion", "policy", "optimizer")
        for name, value in self.__getstate__().items():
            made.__dict__[name] = value if name in shared else copy.deepcopy(value, memo)
        made._model = self._model
        return made

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_model": None, "_waiting": [], "_listener": Listener(), "_unmet": 0}

    def meet(self, dataset: Any) -> None:
        """The loader tells which data it trains on; a validation set out of it is warned about."""
        self.validation.warn_if_shared(dataset, type(self).__name__)

    # --- a batch -----------------------------------------------------------------------------------------------------

    def __call__(self, batch: Batch, trace: Any) -> Verdict:
        """``(weight, soft)`` of a batch: weights have mean 1 over the batches of all ranks."""
        if self.when == "loss":
            self._wait(batch, trace)
            return None, None
        return self._judged(batch, trace, None)

    def settle(self, output: Any, target: Target) -> Verdict | None:
        """With when="loss": the verdict on the batch of ``target`` from the loop's own ``output``; else None.

        The same verdict for a batch that is shown again. Raises RuntimeError for rows that are no whole batch of late.
        """
        if self.when == "batch":
            return None
        index = target.index
        # by where the indices lie, which needs no look at the device; by value where the loop moved them
        # newest first, for loops that use the memory of an index again
        found = next((one for one in reversed(self._waiting) if one.lies_at(index)), None)
        found = found or next((one for one in reversed(self._waiting) if one.equals(index)), None)
        if found is None:
            raise RuntimeError(
                f'{type(self).__name__} with when="loss" weighs whole batches, one of the last {_WAITING} '
                f"of the loader, and Loss got {len(target)} other rows; give Loss the whole batch at once, or write "
                'when="batch"'
            )
        self._unmet = 0
        if found.verdict is None and found.batch is not None:
            logits = logits_of(output).detach()
            shown = Shown(logits, self._listener.feature(logits))  # before passes of our own are heard
            found.verdict = self._judged(found.batch, found.trace, shown)
            found.batch = None
            if all(one.batch is None for one in self._waiting):
                self._listener.stop()
        return found.verdict

    def _wait(self, batch: Batch, trace: Any) -> None:
        if batch.index is None:
            raise ValueError(
                'when="loss" needs the dataset indices of a batch, and this one has none (an IterableDataset, or a '
                'collate function that merges samples); write when="batch"'
            )
        self._waiting = [*self._waiting[1 - _WAITING :], _Waiting(batch, trace)]
        if self.scope == "head":
            self._listener.start(unwrapped(self.model), self.head)
        self._unmet += 1
        if self._unmet == 20:
            warnings.warn(
                f'{type(self).__name__} with when="loss" waits, and no smartaug.Loss has met 20 batches, so it has no '
                "effect; write criterion = smartaug.Loss(criterion) and compute the loss outside the model",
                NoEffectWarning,
                stacklevel=2,
            )

    def _judged(self, batch: Batch, trace: Any, shown: Shown | None) -> Verdict:
        """The verdict on a batch, of whose forward pass the training loop may have shown the end."""
        started = time.perf_counter()
        if self.step < self.warmup:
            self.step += 1
            return None, None
        if (self.step - self.warmup) % self.weigh_every:
            weight, soft = self._recalled(batch)
        else:
            asked = _Asked(self, batch, shown)
            weight, soft = self.weigh(asked, batch, trace)
            if weight is not None:
                weight = normalised(weight)
            if self.weigh_every > 1 and batch.index is not None and weight is not None:
                # a mixed sample's label belongs to this mix alone
                self._memory.note(batch.index, weight, soft if batch.soft is None else None)
            self._record.note(weight, soft, asked.labels)
        self.step += 1  # a batch that failed was not seen
        self._record.seconds += time.perf_counter() - started
        return weight, soft

    def _recalled(self, batch: Batch) -> Verdict:
        if batch.index is None:
            return None, None
        classes = self._memory.soft.shape[1]
        upstream = distributions(batch.target, classes) if classes and batch.soft is None else None
        weight, soft = self._memory.recall(batch.index, upstream)
        return normalised(weight), soft

    def current_direction(self, device: torch.device, at: Mapping[str, Tensor] | None = None) -> grads.Direction:
        """∇L_val on the next validation batch, averaged over ranks; the last one while it is younger than ``every``."""
        if at is None and self._direction is not None and self._age < self.every:
            self._age += 1
            return self._direction
        model, (inputs, target) = self.model, self.validation.batch(self._drawn, device)
        # no dropout: the loss that is to fall is the deployed model's; a single sample has no statistics
        mode: Mode = "statistics" if self.statistics == "batch" and len(target) > 1 else False
        made = grads.direction(
            model, inputs, target, self.criterion, scope=self.scope, head=self.head, training=mode, at=at
        )
        self._drawn += 1
        made = ranks.averaged(made)
        if at is not None:  # one of a pseudo step, which the next batch has no use for
            return made
        if self.ema and self._direction is not None:
            made = {name: part.lerp(self._direction[name], self.ema) for name, part in made.items()}
        self._age = 1
        if self._direction is None:
            self._direction = made
        else:  # one that is not finite spoils its own batch and no later one; no look at the device
            fine = torch.stack([torch.isfinite(part).all() for part in made.values()]).all()
            self._direction = {name: torch.where(fine, part, self._direction[name]) for name, part in made.items()}
        return made

    # --- figures and state -------------------------------------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        """Over all weighed batches: mean weight, share of weights at zero, label entropy in nats, share of labels moved
        (another class became the likeliest), batches that were not finite, seconds a batch."""
        return {"batches": self.step, **self._record.figures(max(1, self.step - self.warmup))}

    def state_dict(self) -> dict[str, Any]:
        """Counters, the direction in use, remembered weights and figures: tensors and plain values."""
        reused = self.every > 1 or self.ema > 0
        return {
            "step": self.step,
            "age": self._age,
            "drawn": self._drawn,
            "direction": dict(self._direction) if reused and self._direction is not None else None,
            "memory": self._memory.state_dict() if self.weigh_every > 1 else None,
            "record": self._record.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self.step, self._age, self._drawn = state["step"], state["age"], state["drawn"]
        self._direction = None if state["direction"] is None else dict(state["direction"])
        if state["memory"] is not None:
            self._memory.load_state_dict(state["memory"])
        self._record.load_state_dict(state["record"])


class ByRule(Reweighting):
    """A shell for any `Rule`: ``ByRule(rule, model, val_set, ...)``; the other arguments are `Reweighting`'s."""

    def __init__(self, rule: Rule, model: Model, val_set: Any, **settings: Any) -> None:
        if not callable(rule):
            raise TypeError(f"rule must be a callable (B, log_p, batch) -> (weight, soft), got {type(rule).__name__}")
        super().__init__(model, val_set, **settings)
        self.rule = rule

    def weigh(self, grads: Gradients, batch: Batch, trace: Any) -> Verdict:
        """What the rule says about the batch's benefits."""
        log_p, benefits = grads.benefit()
        return self.rule(benefits, log_p, batch._replace(soft=grads.labels))


def normalised(weight: Tensor) -> Tensor:
    """Weights (B,) scaled to mean 1 over the batches of all ranks; all zero: ones. NaN stays NaN."""
    sums = ranks.total(torch.stack([weight.sum(), torch.full_like(weight.sum(), float(len(weight)))]))
    return _divided(weight, sums[0] / sums[1])


def with_mean_one(weight: Tensor) -> Tensor:
    """The same over this batch alone."""
    return _divided(weight, weight.mean())


def _divided(weight: Tensor, mean: Tensor) -> Tensor:
    return torch.where(mean == 0, torch.ones_like(weight), weight / mean)


class Shown(NamedTuple):
    """The end of the loop's own forward pass: logits (B, K), and features (B, d) where the last layer was heard."""

    logits: Tensor
    feature: Tensor | None


class _Waiting:
    """A batch between the loader and the loss, then the verdict on it."""

    def __init__(self, batch: Batch, trace: Any) -> None:
        self.batch: Batch | None = batch
        self.trace = trace
        self.index: Tensor = batch.index  # type: ignore[assignment]  # the shell looked
        self.verdict: Verdict | None = None

    def lies_at(self, index: Tensor | None) -> bool:
        """Whether ``index`` is this very memory."""
        return index is not None and len(index) == len(self.index) and index.data_ptr() == self.index.data_ptr()

    def equals(self, index: Tensor | None) -> bool:
        """Whether ``index`` holds the same rows in the same order."""
        return index is not None and torch.equal(index.to(self.index.device), self.index)


class _Asked:
    """`Gradients` of one batch, worked out when asked for."""

    def __init__(self, shell: Reweighting, batch: Batch, shown: Shown | None) -> None:
        self._shell, self._batch, self._shown = shell, batch, shown
        self._pass: grads.Pass | None = None
        self._labels: Tensor | None = None

    @property
    def labels(self) -> Tensor:
        """(B, K) upstream labels; K is known once the model has been asked."""
        if self._labels is None:
            raise RuntimeError("the number of classes is known only after rows() or benefit()")
        return self._labels

    def rows(self, features: bool = False, graph: bool = True) -> grads.Pass:
        """The batch's forward pass, made once."""
        if self._pass is None:
            head = self._shell.head if features else None
            self._pass = grads.Pass(self._shell.model, self._batch.inputs, features=features, head=head, graph=graph)
            self._note(self._pass.log_p)
        return self._pass

    def pseudo_step(self, weight: Tensor, lr: float) -> grads.Direction:
        """Σ weight_i ∇ℓ_i over all ranks from the graph of `rows`, and the parameters one step down it."""
        world = ranks.here()[1]
        summed = ranks.averaged(self.rows().pull(-world * weight[:, None] * self.labels))
        return grads.stepped(self._shell.model, summed, lr)

    def direction(self, at: Mapping[str, Tensor] | None = None) -> grads.Direction:
        """See `Reweighting.current_direction`."""
        return self._shell.current_direction(_device(self._batch), at)

    def benefit(self, direction: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """In the model's own mode, train as a rule: what the coming step will do."""
        along = self.direction() if direction is None else direction
        shell, shown = self._shell, self._shown
        if shown is not None and shown.feature is None and shell.scope == "head":
            shown = None  # not heard (a compiled model, the first batch): one pass of our own
        logits, feature = (None, None) if shown is None else shown
        log_p, made = grads.benefit(
            shell.model, self._batch.inputs, along, shell.method, logits=logits, feature=feature
        )
        self._note(log_p)
        return log_p, made

    def _note(self, log_p: Tensor) -> None:
        upstream = self._batch.target if self._batch.soft is None else self._batch.soft
        if upstream is None:
            raise TypeError("learned weights need labels, and the batch has no target; name it with target=")
        self._labels = distributions(upstream.to(log_p.device), log_p.shape[1]).to(log_p.dtype)


class _Record:
    """Sums over weighed batches, on the device until asked for."""

    names = ("samples", "weight", "zero", "entropy", "moved", "failed")

    def __init__(self) -> None:
        self.sums: Tensor | None = None
        self.seconds = 0.0

    def note(self, weight: Tensor | None, soft: Tensor | None, labels: Tensor) -> None:
        shown = labels.new_ones(len(labels)) if weight is None else weight.detach()
        rows = labels if soft is None else soft.detach()
        fine = torch.isfinite(shown) & torch.isfinite(rows).all(1)
        entropy = -(rows.clamp_min(1e-30).log() * rows).sum(1)
        moved = rows.argmax(1) != labels.argmax(1)
        each = torch.stack([fine, shown, shown == 0, entropy, moved, ~fine]).double()
        each = torch.cat([torch.where(fine, each[:5], 0.0), each[5:]]).sum(1)
        self.sums = each if self.sums is None else self.sums.to(each.device) + each

    def figures(self, batches: int) -> dict[str, Any]:
        values = [0.0] * 6 if self.sums is None else self.sums.tolist()
        count = max(1.0, values[0])
        return {
            "mean_weight": values[1] / count,
            "share_zero": values[2] / count,
            "label_entropy": values[3] / count,
            "labels_moved": values[4] / count,
            "not_finite": int(values[5]),
            "seconds_per_batch": self.seconds / batches,
        }

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self.sums, "seconds": self.seconds}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.sums, self.seconds = state["sums"], state["seconds"]


def _checked(model: Any) -> Model:
    if model is not None and not callable(model):
        raise TypeError(
            f"model must be a torch.nn.Module, a callable returning one, or None, got {type(model).__name__}"
        )
    return model


def _device(batch: Batch) -> torch.device:
    inputs = batch.inputs[0] if isinstance(batch.inputs, (tuple, list)) else batch.inputs
    return inputs.device
