"""The base class of methods that learn weights and labels from validation data.

A method is a `Rule` on benefits or a `Learner`. `Reweighting` holds the model by reference, draws validation batches,
computes their gradient (the direction), calls the method for each batch, normalises weights over all ranks, and keeps
the state of a checkpoint and statistics.
"""

from __future__ import annotations

import importlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .. import grads
from .._base import ranks
from .._base.labels import Family, Kind, family_of, kind_of
from .._base.leaves import Spec, Specs, rows_of
from .._base.names import SuggestsKeywords
from .._base.original import refuse_another
from .._base.protocols import refuse_other
from ..batch import Batch, Target
from ..grads.last_layer import Listener
from ..grads.logits import distributions, logits_of
from ..grads.pairs import pairs_of
from ..grads.positions import Criterion, refuse_other_maps
from ..grads.reference import Model, checked_model, deepcopy_but, known_model
from ..grads.untouched import Mode, unwrapped
from .batch_gradients import BatchGradients
from .checks import check_batches, check_choices
from .figures import Figures, by_label
from .judge import Judge
from .memory import Memory
from .protocols import Gradients, OperationTrace, ValidationSet, WeightsAndLabels
from .validation import ValidationBatches
from .waiting import Shown, Waiting
from .weights import checked_results, normalised

_WAITING = 4  # batches that may be between the loader and the loss; loops fetch one or two ahead


class Reweighting(SuggestsKeywords, ABC):
    """Base class of methods that learn from validation data; subclasses implement the method in `weigh`.

    The model and the validation data:

    * `model`: the network that the loop trains, a callable returning it, or None until `bind`. Deepcopy keeps it by
      reference, pickle drops it.
    * `val_set`: a map-style dataset of (input, label) samples, or a pair (inputs, labels) of tensors or tables (pandas,
      NumPy, scipy.sparse). Several inputs of a model are a tuple of them (its arguments) or a dict (its keywords).
    * `validation_batch`: number of validation samples in one direction, on each rank.
    * `balanced`: False draws every validation sample equally often, so that batches have the set's own proportions of
      classes; True draws every class equally often. The proportions decide which prior weights and labels lean to.
      False was 1 to 4 points better on three tables, True 5 on PneumoniaMNIST, whose test set has other proportions
      (benchmarks/results/learning.json).
    * `train_on_val`: how often the loader puts each validation sample into an epoch as well, at weight 1; True is 5.
      For `DataLoader` alone; see `smartaug.reweight.judge`. The samples must have the form of the training set's;
      those of ``split_validation(..., transform=)`` train through the training set's transform.
    * `transform`: a callable on the validation inputs, for what ``augment=`` does to training images besides augmenting
      them (`smartaug.Normalize`).
    * `criterion`: the validation loss ``(logits, labels) -> loss``; None is cross entropy. It also decides what labels
      are (`smartaug._base.labels`): with nn.BCEWithLogitsLoss and several labels a sample, or with a regression loss
      such as nn.MSELoss, a sample's weight comes from ⟨∇ℓ_i, g⟩ of its own loss ℓ_i and the validation gradient g, its
      label stays as it is, and validation samples are drawn with equal probability. So it is where labels are maps of
      classes (segmentation); ℓ_i then is the value of any criterion, such as a Dice loss, for the sample alone, with
      cross entropy the mean over its positions that are not ignored. With `smartaug.ContrastiveLoss` samples are pairs,
      whose labels are the pairs of the batch (of all ranks); the target is whatever leaf carries the weights.
    * `statistics`: what BatchNorm normalises by in the validation pass, which has no dropout. "running" is the model as
      it is deployed; but running statistics lag behind the weights, and at high learning rates the direction mostly
      reflects that lag. "batch" takes those of the validation batch, as in the released code of Learning to Reweight:
      with ``balanced=True``, SAFLEX gained 2 points and Learning to Reweight 5 on CIFAR-10N in 12 epochs; on
      PneumoniaMNIST SAFLEX lost 7 (three seeds that vary by 3), the other nothing. Without BatchNorm they are the same.
    * `seed`: of the validation batches and of noise.

    How gradients are computed:

    * `scope`: "full", or "head" for the last linear layer alone. "head" is cheap but no replacement: its cosine to the
      full benefits was 0.2 and 0.7 in the median of two runs, and negative at worst.
    * `head`: the name of the last linear layer, of maps the last convolution; None finds it.
    * `method`: "jvp" or "difference", see `smartaug.grads.benefit`.
    * `when`: "batch" weighs a batch when the loader hands it over. "loss" waits until `smartaug.Loss` gets the loop's
      own logits, which saves one of the two passes of method="difference" and the only one of scope="head". `Loss` then
      needs the whole batch at once, and ``target.weight`` stays 1: only `Loss` sees the weights.

    How often (all numbers of batches, not epochs; an epoch has ``len(loader)`` of them):

    * `every`: number of batches that share one validation direction; all of them are weighed. Directions 4 and 8 steps
      old kept a cosine of 0.6 and 0.7 in the median of two runs, and were negative at worst; training lost little on
      digits and 9 points on CIFAR-10N (benchmarks/results).
    * `weigh_every`: one batch in so many is weighed; in the others each sample keeps its last weight and label.
    * `warmup`: number of batches at the start that are left as they are.
    * `ema`: in [0, 1), the share of the old direction in the new one.

    Raises ValueError for arguments out of range, and TypeError for a model or a validation set that is none.
    """

    def __init__(
        self,
        model: Model,
        val_set: ValidationSet,
        *,
        validation_batch: int = 64,
        balanced: bool = False,
        train_on_val: bool | int = False,
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
        check_choices(scope, statistics, method, when)
        if when == "loss" and scope == "full" and method == "jvp" and self.needs_direction:
            raise ValueError(
                'when="loss" saves a pass of method="difference" or scope="head"; write one of them as well'
            )
        check_batches(every, weigh_every, warmup)
        if not 0.0 <= ema < 1.0:
            raise ValueError(f"ema must be in [0, 1), got {ema!r}; ema=0.0 turns it off")
        if criterion is not None:
            refuse_other("criterion", criterion)
        if scope == "head" and pairs_of(criterion) is not None:
            raise ValueError('ContrastiveLoss compares two towers, which share no last layer; write scope="full"')
        self._model = checked_model(model)
        self.validation = ValidationBatches(val_set, validation_batch, seed, transform, criterion, bool(balanced))
        self.judge = Judge(self.validation, train_on_val)
        self.val_set, self.criterion, self.scope, self.head, self.method = val_set, criterion, scope, head, method
        self.every, self.weigh_every, self.ema, self.warmup, self.seed = every, weigh_every, ema, warmup, seed
        self.when, self.statistics, self.train_on_val = when, statistics, self.judge.repeats
        self.step = 0  # batches seen
        self._direction: grads.Direction | None = None
        self._age = 0
        self._drawn = 0  # validation batches drawn
        self._memory = Memory()
        self._record = Figures()
        self._waiting: list[Waiting] = []
        self._listener = Listener()
        self._kind: Kind | None = None  # of the labels, at the last check
        self._dataset: Any = None  # the training set, where weights of its samples are kept

    needs_direction = True  # whether the method computes benefits, along the gradient of the validation loss
    by_column = False  # whether each of several labels a sample is weighed by itself, see `SAFLEX`

    @abstractmethod
    def weigh(self, grads: Gradients, batch: Batch, trace: OperationTrace | None) -> WeightsAndLabels:
        """Weights (B,) of any mean and soft labels (B, K) for a batch; None leaves them as they are."""

    # --- the model ---------------------------------------------------------------------------------------------------

    @property
    def model(self) -> nn.Module:
        """The network; raises RuntimeError before it is known."""
        name = type(self).__name__
        return known_model(
            self._model,
            f"{name} has no model (pickling drops it); write reweight = smartaug.{name}(model, val_set), or "
            "loader.reweight.bind(model)",
        )

    def bind(self, model: Model) -> Reweighting:
        """Use this model from now on; returns self. A direction of the model before is forgotten."""
        if self._model is not None and model is not self._model:
            self._direction = None
        self._model = checked_model(model)
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Reweighting:
        state = {**self.__getstate__(), "_model": self._model}
        # the policy is copied with its loader
        shared = ("_model", "val_set", "validation", "judge", "criterion", "optimizer")
        return deepcopy_but(self, memo, state, shared)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_model": None, "_waiting": [], "_listener": Listener(), "_dataset": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "judge" not in state:  # as pickles of earlier versions have it
            state = {**state, "judge": Judge(state["validation"], 0), "train_on_val": 0}
        self.__dict__.update(state)

    def attach(self, dataset: object) -> None:
        """Called by the loader with its training set; warns where validation samples are in it.

        With ``weigh_every`` above 1, weights are kept by the index of a sample: ValueError for a second dataset.
        """
        if self.weigh_every > 1:
            self._dataset = refuse_another(self._dataset, dataset, type(self).__name__, "weights and labels")
        self.validation.warn_if_shared(dataset, type(self).__name__)

    def read_as(self, *, inputs: Specs, target: Spec) -> None:
        """Called by the loader with its keywords, so that validation samples are read as its batches are."""
        self.validation.read_as(inputs, target)

    # --- a batch -----------------------------------------------------------------------------------------------------

    def __call__(self, batch: Batch, trace: OperationTrace | None) -> WeightsAndLabels:
        """``(weight, soft)`` of a batch: weights have mean 1 over the batches of all ranks."""
        if self.when == "loss":
            self._wait(batch, trace)
            return None, None
        return self._weigh_now(batch, trace, None)

    def settle(self, output: object, target: Target) -> WeightsAndLabels | None:
        """With when="loss": ``(weight, soft)`` of the batch of ``target``, from the model output ``output``; else None.

        A second call for the same batch returns the same. Raises RuntimeError for rows that are not one whole batch of
        the last four.
        """
        if self.when == "batch":
            return None
        index = target.index
        # first by the address of the indices, which does not wait for the device; by value where the loop moved them.
        # newest first, for loops that reuse the memory of an index
        found = next((one for one in reversed(self._waiting) if one.lies_at(index)), None)
        found = found or next((one for one in reversed(self._waiting) if one.equals(index)), None)
        if found is None:
            raise RuntimeError(
                f'{type(self).__name__} with when="loss" weighs whole batches, one of the last {_WAITING} '
                f"of the loader, and Loss got {len(target)} other rows; give Loss the whole batch at once, or write "
                'when="batch"'
            )
        if found.result is None and found.batch is not None:
            pairs = pairs_of(self.criterion)
            logits = (logits_of(output) if pairs is None else pairs.logits(output)).detach()
            shown = Shown(logits, self._listener.feature(logits))  # before a pass of our own replaces it
            found.result = self._weigh_now(found.batch, found.trace, shown)
            found.batch = None
            if all(one.batch is None for one in self._waiting):
                self._listener.stop()
        return found.result

    def _wait(self, batch: Batch, trace: OperationTrace | None) -> None:
        if batch.index is None:
            raise ValueError(
                'when="loss" needs the dataset indices of a batch, and this one has none (an IterableDataset, or a '
                'collate function that merges samples); write when="batch"'
            )
        self._waiting = [*self._waiting[1 - _WAITING :], Waiting(batch, trace)]
        if self.scope == "head":
            self._listener.start(unwrapped(self.model), self.head)

    def _weigh_now(self, batch: Batch, trace: OperationTrace | None, shown: Shown | None) -> WeightsAndLabels:
        """Weights and labels of a batch; shown: logits and features of the loop's own forward pass, or None."""
        started = time.perf_counter()
        if self.step < self.warmup:
            self.step += 1
            return None, None
        if (self.step - self.warmup) % self.weigh_every:
            weight, soft = self._recalled(batch)
        else:
            against = self._against(batch)
            gradients = BatchGradients(
                batch,
                shown,
                model=lambda: self.model,
                current=self.current_direction,
                scope=self.scope,
                head=self.head,
                method=self.method,
                against=against,
                by_column=against is not None and self.by_column and self._kind is Kind.SEVERAL,
            )
            weight, soft = checked_results(self.weigh(gradients, batch, trace), rows_of(batch.inputs))
            soft = soft if against is None or self.by_column or self._kind is Kind.PAIRS else None
            if weight is not None:
                weight = normalised(weight)
            if self.weigh_every > 1 and batch.index is not None and weight is not None:
                # a mixed sample's label belongs to this mix alone, and one over pairs to this batch
                kept = batch.soft is None and self._kind is not Kind.PAIRS
                self._memory.note(batch.index, weight, soft if kept else None)
            self._record.note(*by_label(weight, soft, gradients.labels))
        self.step += 1  # a batch that failed was not seen
        self._record.seconds += time.perf_counter() - started
        return weight, soft

    def _against(self, batch: Batch) -> grads.Against | None:
        """The criterion and the labels of a batch that has no classes to choose among; None for one that has.

        Raises TypeError for labels that the method cannot learn from. Floats on an accelerator are checked in batches
        1, 2, 4, 8, ... only, because reading their values waits for the device.
        """
        target = batch.target
        if not isinstance(target, Tensor):
            raise TypeError("learned weights need labels, and the batch has no target; name it with target=")
        looks = target.device.type == "cpu" or not target.is_floating_point() or self.step & (self.step - 1) == 0
        if self._kind is None or looks:
            self._kind = kind_of(target, criterion=self.criterion)
        if self._kind in (Kind.CLASSES, Kind.BINARY, Kind.DISTRIBUTIONS):
            return None
        if self._kind is Kind.PAIRS and self.criterion is not None:
            return self.criterion, target
        apart = family_of(self.criterion) in (Family.BINARY, Family.VALUES)
        if self._kind in (Kind.SEVERAL, Kind.VALUES) and self.criterion is not None and apart:
            return self.criterion, target if batch.soft is None else batch.soft
        if self._kind is Kind.MAP:
            if batch.soft is None and (self.criterion is None or family_of(self.criterion) is Family.CLASSIFY):
                refuse_other_maps(target)
            return self.criterion or nn.CrossEntropyLoss(), target if batch.soft is None else batch.soft
        raise TypeError(
            f"{type(self).__name__} cannot learn from the labels {target.dtype} {tuple(target.shape)}, which are "
            f"{self._kind.value}; for several labels a sample write criterion=nn.BCEWithLogitsLoss(), for values of a "
            "regression criterion=nn.MSELoss(), and for classes let the dataset give integers: label.to(torch.int64)"
        )

    def _recalled(self, batch: Batch) -> WeightsAndLabels:
        if batch.index is None:
            return None, None
        classes = self._memory.soft.shape[1]
        upstream = distributions(batch.target, classes) if classes and batch.soft is None else None
        weight, soft = self._memory.recall(batch.index, upstream)
        return normalised(weight), soft

    def current_direction(self, device: torch.device, at: Mapping[str, Tensor] | None = None) -> grads.Direction:
        """∇L_val on the next validation batch, averaged over ranks; the last one while it is younger than ``every``."""
        model = self.model
        if self._direction is not None and not self._fits(self._direction, model):
            self._direction = None
        if at is None and self._direction is not None and self._age < self.every:
            self._age += 1
            return self._direction
        inputs, target = self.validation.batch(self._drawn, device)
        # no dropout: the loss that is to fall is the deployed model's; a single sample has no statistics
        mode: Mode = "statistics" if self.statistics == "batch" and len(target) > 1 else False
        made = grads.direction(
            model, inputs, target, self.criterion, scope=self.scope, head=self.head, training=mode, at=at
        )
        self.judge.look(model, self._drawn, device, mode, type(self).__name__)
        self._drawn += 1
        made = ranks.averaged(made)
        if at is not None:  # at the parameters of a pseudo step: of no use for the next batch
            return made
        if self.ema and self._direction is not None:
            made = {name: part.lerp(self._direction[name], self.ema) for name, part in made.items()}
        self._age = 1
        # a direction that is not finite affects its own batch, and is not reused for later ones
        fine = torch.stack([torch.isfinite(part).all() for part in made.values()]).all()
        if self._direction is None:
            self._direction = made if bool(fine) else None  # waits for the device once, at the start of a run
        else:  # no waiting any more
            self._direction = {name: torch.where(fine, part, self._direction[name]) for name, part in made.items()}
        return made

    def _fits(self, direction: grads.Direction, model: nn.Module) -> bool:
        """Whether a direction is one of the parameters that the model trains now: loops freeze and replace layers."""
        trained = {name: part for name, part in unwrapped(model).named_parameters() if part.requires_grad}
        whole = self.scope == "head" or len(trained) == len(direction)
        return whole and all(
            name in trained and trained[name].shape == part.shape and trained[name].device == part.device
            for name, part in direction.items()
        )

    # --- figures and state -------------------------------------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        """Statistics over all weighed batches, by name.

        batches: number of batches seen. mean_weight. share_zero: share of weights that are 0. label_entropy: in nats.
        labels_moved: share of samples whose likeliest class changed. not_finite: samples whose weight or label was not
        finite. seconds_per_batch. With train_on_val=, loss_trained and loss_held_out of validation samples.
        """
        return {"batches": self.step, **self._record.summary(max(1, self.step - self.warmup)), **self.judge.stats()}

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


def __getattr__(name: str) -> Any:
    """The class that pickles of earlier versions look for here."""
    if name == "ByRule":
        return importlib.import_module(".by_rule", __package__).ByRule
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
