"""`Pipeline`: runs the stages on each batch, for `DataLoader`, `wrap` and `Collate`.

The stages run in the main process when the loader yields a batch, with the current parameters of the model: first
augment, then choose rows, then reweight.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._base import leaves
from .._base.protocols import refuse_other
from .._base.row_extras.mixed import makers
from ..augment.plan import Plan
from ..batch import Batch, Target
from ..lift import Lifted
from ..lift.deferred.collecting import Unfinished, apart
from ..lift.joint import Joint
from . import report, stages
from .augmenting.augmenting import Augmenting, Samples, streams_of
from .augmenting.result_rows import ResultRows
from .augmenting.stage import AugmentStage
from .augmenting.unequal import makes_equal
from .choosing import Choosing
from .decoded_files import NO_FILES, DecodedFiles, with_pixels
from .epochs import EpochCounter, EpochProgress
from .hand_over import in_structure, on_target
from .inputs import Inputs, found_inputs, listed_images, refuse_reweighted_lists
from .labelling import Labelling, no_tensor, stated_classes
from .lifted.joint import LiftedJoint
from .lifted.share import LiftedShare
from .magnitudes import Magnitudes
from .readers import Readers
from .selection import Selecting
from .settings import Settings
from .stages import Seed, as_steps, behind, checked_device, flattened, listed, refuse_another_policy
from .weighing import Weighing


class Pipeline:
    """The stages and their counts. A loader, its collate function and its rebuilt copies share one object.

    settings: the loader's keywords. classes: number of classes of the dataset, or None when unknown. lifted: the
    transforms taken out of the dataset. fetching: a row for `explain` on how samples are fetched. files: counts the
    files that were decoded. Raises TypeError or ValueError for stages that cannot be used, saying what to write.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        classes: int | None = None,
        lifted: Lifted | None = None,
        fetching: tuple[str, str, str] | None = None,
        files: DecodedFiles = NO_FILES,
    ) -> None:
        self.settings = settings
        self._given = list(settings.augment) if isinstance(settings.augment, list) else None
        augment, reweight, coreset = settings.augment, settings.reweight, settings.coreset
        for keyword, stage in (("reweight", reweight), ("coreset", coreset)):
            if stage is not None:
                refuse_other(keyword, stage)
        self.lifted, self.fetching, self.files = lifted, fetching, files
        steps = as_steps(augment if lifted is None else behind(lifted.augment, augment))
        self.reweight, self.coreset = reweight, coreset
        self.device = None if settings.device is None else checked_device(settings.device)
        self.seed = Seed(settings.seed)
        self.target, self.returns = settings.target, settings.returns
        own = [] if lifted is None else flattened(listed(lifted.augment))
        names = [] if lifted is None else [step.name for step in lifted.steps if step.where == "device"]
        self.augmenting, self.weighing = Augmenting(steps, own, self.seed, names), Weighing(reweight)
        self.steps = self.augmenting.steps
        self.magnitudes = Magnitudes(self.steps)
        refuse_another_policy(reweight, self.steps)
        self.labelling = self._labels(classes)
        self.lifts = lifted is not None and lifted.augment is not None
        # for batches whose samples already went through the whole transform of the dataset
        self.augmenting_finished = Augmenting(as_steps(augment), [], self.seed) if self.lifts else self.augmenting
        self.selecting, self.choosing = Selecting(coreset), Choosing(coreset)
        # called as watch(batch, plans, epoch) after the stages; again with no plans when `Loss` settled weights
        self.watchers: list[Callable[[Batch, list[Plan], int], None]] = []
        self.epochs = EpochCounter()
        self.counts = dict.fromkeys(("batches", "samples", "augmented", "weighted"), 0)
        self.share: LiftedShare | None = None
        self.joint: LiftedJoint | None = None
        if lifted is not None and self.lifts:
            self.joint = LiftedJoint(lifted, settings, self.seed)
            self.counts["lifted"] = 0  # samples whose lifted transforms ran here
            self.share = LiftedShare(lifted, augment)
        self.seconds = 0.0
        self.readers = Readers()
        self.augment_stage = AugmentStage(settings, lifted)
        read_as = getattr(reweight, "read_as", None)
        if read_as is not None:
            read_as(**settings.reading())
        self._register()

    def _labels(self, classes: int | None) -> Labelling:
        """The labels of batches. classes: of the dataset."""
        if isinstance(self.target, list) and self.returns == "batch":
            raise ValueError(
                'returns="batch" holds one target, and target= is a list; name one, or write returns="same"'
            )
        observes = getattr(self.coreset, "observes", hasattr(self.coreset, "observe"))
        reads = "augment= (partners of the same class)" if self.augmenting.reads_labels else ""
        needed = reads or ('returns="batch"' if self.returns == "batch" else "")
        return Labelling(
            self.target,
            "",
            classes=classes,
            stated=stated_classes(self.steps),
            reweighs=self.reweight is not None,
            recorded="coreset=" if observes else "magnitude=" if self.magnitudes.sources else "",
            needed="coreset=" if getattr(self.coreset, "balanced", False) else needed,
        )

    def _register(self) -> None:
        self.key = self.labelling.key = uuid.uuid4().hex
        makers[self.key] = self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "watchers": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        earlier = {"files": NO_FILES, "choosing": Choosing(None), "magnitudes": Magnitudes(state["steps"])}
        self.__dict__.update({**earlier, **state})
        if "selecting" not in state:  # as pickles of earlier versions have it
            self.selecting = Selecting(self.coreset)
            self.selecting.weight_of, self.selecting.selections = state["weight_of"], state["selections"]
        self.readers = Readers()
        self._register()  # a copy is a pipeline of its own

    @property
    def makes_equal(self) -> bool:
        """Whether the first stage makes images of unequal size equal, whatever ran before."""
        return all(makes_equal(half.steps) for half in (self.augmenting, self.augmenting_finished))

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
        data: leaves.Structure,
        index: list[int] | None,
        progress: EpochProgress,
        device: torch.device | None = None,
        before: list[int] | None = None,
        unfinished: Unfinished | None = None,
    ) -> leaves.Structure:
        """Run all stages on a collated batch; returns the user's structure, or a `Batch` with returns="batch".

        index: dataset indices of the rows, or None: then draws are keyed by the count of samples in this pass.
        progress: of the pass. device: to run on; None: see `resolve_device`. before: how often each row's sample
        occurred earlier in the pass, or None. unfinished: the leaves on which lifted transforms still have to run;
        None: all ran when samples were loaded. Raises TypeError or ValueError for a batch that stages cannot take.
        """
        started, epoch = time.perf_counter(), progress.epoch
        stages.refuse_changed_list(self._given, self.settings.augment)
        unfinished, whole = apart(unfinished)
        data, unfinished = with_pixels(data, unfinished, device or self.resolve_device(), self.files)
        lifted, samples, joint = unfinished is not None, None, None if unfinished is None else unfinished.joint
        if self.joint is not None and joint is not None:
            device = device or self.resolve_device()
            samples = self._samples(index, joint.length, progress, before)
            data, unfinished = self.joint.run(data, joint, samples, device, whole), None
        elif self.joint is not None:
            self.joint.check(data, index, unfinished, whole)
        if self.share is not None and unfinished is None:
            self.share.refuse_other_units(joint=joint is not None)
        augmenting = self.augmenting if unfinished is not None else self.augmenting_finished
        inputs, length, paths = self._found(data, joint, index, augmenting)
        if index is not None and len(index) != length:
            index = None  # the user's collate function merged or dropped samples
        if augmenting.steps or self.calls_model:
            device = device or self.resolve_device()
        self.weighing.begin(epoch)
        self.magnitudes.begin(epoch, index)
        rows = self.selecting.rows(index, length, epoch) if augmenting.steps else None
        samples = samples or self._samples(index, length, progress, before)
        data, made, keyed, followed = self.augment_stage.run(
            augmenting, data, inputs, paths, samples, rows, device, unfinished, joint
        )
        if any(plan.mixes for plan in made.plans) and not augmenting.mixes:  # a stage of the user's own
            paths = self.labelling.find(data, inputs.parts, length, index, True)
        known = None if index is None else keyed
        data, batch = self._labelled(data, inputs, paths, made.plans, followed, known, device)
        batch = self.selecting.weighted(batch, known, length, epoch, rows)
        if self.selecting.weight_of is not None and batch.weight is not None:
            self._check_label_is_known(data, inputs, length, index)
        data, batch, made = self.choosing.chosen(data, inputs, paths, batch, made, samples, self.seed)
        batch = self.weighing.weighed(batch, made.trace, self.selecting.plain_rows(rows))
        result = self._hand_over(data, paths, batch)
        self._count(batch, length, rows, lifted * (length if joint is None else len(joint.samples)))
        for watch in self.watchers:
            watch(batch, made.plans, epoch)
        self.seconds += time.perf_counter() - started
        return result

    def _found(
        self, data: leaves.Structure, joint: Joint | None, index: list[int] | None, augmenting: Augmenting
    ) -> tuple[Inputs, int, list[leaves.Path]]:
        """The inputs of a batch, the number of its rows, and the paths of its labels."""
        count = None if index is None else len(index)
        parent = None
        if self.joint is not None and not augmenting.steps and self.settings.inputs is None:
            parent = listed_images(data, count) if joint is None else None if joint.stacked else joint.parent
        if parent is not None:
            refuse_reweighted_lists(self.settings)
            inputs = Inputs((parent,), (), ())
            length = len(leaves.get(data, parent)) if joint is None else joint.length
        else:
            inputs = found_inputs(
                data, self.settings, count, augmented=bool(augmenting.steps), averaged=augmenting.averages
            )
            length = inputs.rows(data)
        paths = self.labelling.find(data, inputs.parts, length, index, augmenting.mixes)
        if joint is not None and self.target is None:
            paths = [path for path in paths if not joint.in_samples(path)]
        return inputs, length, paths

    def _labelled(
        self,
        data: leaves.Structure,
        inputs: Inputs,
        paths: list[leaves.Path],
        plans: list[Plan],
        followed: Sequence[leaves.Path],
        index: Tensor | None,
        device: torch.device | None,
    ) -> tuple[leaves.Structure, Batch]:
        """The batch with the labels at ``paths`` as `Target`, mixed as the plans mix, and the same as a `Batch`.

        Labels that are, or consist of, leaves in ``followed`` were mixed with the images already.
        Raises TypeError where a reweighter is to weigh a batch without a target tensor.
        """
        if self.calls_model:
            for path in inputs.beside:
                data = leaves.put(data, path, leaves.get(data, path).to(device, non_blocking=True))
        target = leaves.get(data, paths[0]) if paths else None
        self.selecting.check_labels(index, target)
        if self.reweight is not None and self.returns != "batch" and not (isinstance(target, Tensor) and target.ndim):
            instead = 'or take weights from a Batch: returns="batch"'
            raise TypeError(f"reweighting needs a target tensor, but {no_tensor(target)}, {instead}")
        on = device if self.reweight is not None or plans else None

        def mixing(path: leaves.Path) -> list[Plan]:
            return [] if any(leaves.starts_with(one, (path,)) for one in followed) else plans

        def labelled(label: leaves.Structure, path: leaves.Path | None) -> leaves.Structure:
            still_to_mix = mixing(path or ())
            return self.labelling.wrap(label, path, still_to_mix, index, on, () if still_to_mix else plans)

        wrapped = labelled(target, paths[0] if paths else None)
        for path in paths[1:]:
            data = leaves.put(data, path, labelled(leaves.get(data, path), path))
        batch = Batch(inputs.given(data), wrapped, None, None, index)
        if isinstance(wrapped, Target):
            batch = batch._replace(weight=wrapped._weight, soft=wrapped._soft, index=wrapped.index)
        return data, batch

    def _check_label_is_known(
        self, data: leaves.Structure, inputs: Inputs, length: int, index: list[int] | None
    ) -> None:
        """Raise a ValueError where several leaves can be the label that carries the weights of a coreset."""
        if not self.labelling.needed:
            self.labelling.needed = "coreset="
            self.labelling.find(data, inputs.parts, length, index, False)

    def _samples(
        self, index: list[int] | None, length: int, progress: EpochProgress, before: list[int] | None
    ) -> Samples:
        """The next ``length`` samples of a pass, by their dataset indices or, without them, by their count."""
        count = range(progress.samples, progress.samples + length)
        keyed = torch.from_numpy(np.array(count if index is None else index, np.int64))
        progress.samples += length
        streams = keyed if index is None else streams_of(keyed, before)
        return Samples(keyed, streams, progress.epoch)

    def settle(self, output: object, target: Target) -> Target:
        """``target`` with the weights and labels of a reweighter that computes them from the loop's own ``output``."""
        batch = self.weighing.settled(output, target)
        if batch is None:
            return target
        self.counts["weighted"] += batch.weight is not None or batch.soft is not None
        for watch in self.watchers:
            watch(batch, [], self.epochs.epoch)
        return Target(target.plain, batch.weight, batch.soft, batch.index, self.key, target._mixed)

    def _hand_over(self, data: leaves.Structure, paths: list[leaves.Path], batch: Batch) -> leaves.Structure:
        """The result of `run`: the user's structure with the new targets, or the `Batch`."""
        read = batch.weight is not None or batch.soft is not None or self.weighing.late
        key = self.readers.ticket(self.key) if read and self._carries(batch) else self.key
        batch = on_target(batch, key)
        return batch if self.returns == "batch" else in_structure(data, paths, batch, self.key)

    def _carries(self, batch: Batch) -> bool:
        """Whether weights and soft labels are in a `Target`, so that `Loss` or the user has to read them."""
        return self.returns == "same" and isinstance(batch.target, Target)

    # --- what is counted and reported --------------------------------------------------------------------------------

    def _count(self, batch: Batch, length: int, rows: ResultRows | None, lifted: int) -> None:
        self.counts["batches"] += 1
        self.counts["samples"] += length
        if self.steps:
            self.counts["augmented"] += length if rows is None else int(rows.augmented.sum())
        self.counts["weighted"] += batch.weight is not None or batch.soft is not None
        self.readers.look()
        if self.share is not None:
            self.counts["lifted"] += lifted
            self.share.look(self.counts)

    def was_read(self) -> None:
        """Called when a weight or soft label of a target is read; ignored where `Loss` has yet to make them."""
        self.readers.met = self.readers.met or not self.weighing.late

    @property
    def calls_model(self) -> bool:
        """Whether a stage calls the user's model, and so needs all its inputs on the device."""
        return self.reweight is not None or self.choosing.chooser is not None

    @property
    def watches(self) -> bool:
        """Whether a stage needs the model's outputs, which `Loss` passes to `observe` and `settle`."""
        return self.weighing.late or self.selecting.observes or bool(self.magnitudes.sources)

    def pass_ended(self) -> None:
        """Called at the end of a pass: warn of stages that had no effect in it."""
        self.readers.look(ended=True)
        if self.share is not None:
            self.share.look(self.counts, ended=True)

    def observe(self, index: Tensor | None, output: object, target: Target, classifies: bool = True) -> None:
        """Called by `Loss` for a target of this pipeline: passes the detached outputs to the stages that record.

        index: (B,) int64, or None. classifies: the outputs are logits of one class per sample; TypeError where they are
        not and a stage records probabilities.
        """
        self.readers.met = True
        self.magnitudes.observe(index, output, target, classifies)
        self.selecting.observe(index, output, target, classifies)

    def stats(self) -> dict[str, Any]:
        """Counts since the loader was made, seconds spent in the stages, and what the stages themselves report."""
        counted = {"epoch": max(self.epochs.epoch, 0), **self.counts, "seconds": self.seconds}
        halves = {id(half): half for half in (self.augmenting, self.augmenting_finished)}.values()
        if by_torch := sum(half.by_torch for half in halves):
            counted["batches_while_compiling"] = by_torch  # run by torch in numba's place
        counted |= self.files.stats()
        return {**report.figures(counted, self.weighing, self.coreset), **self.magnitudes.stats()}

    def explain(self) -> str:
        """A table of the stages, see `report.table`."""
        more = self.augment_stage.explain() + ([] if self.share is None else self.share.explain(self.counts))
        return report.table(
            str(self.resolve_device()),
            self.augmenting,
            self.weighing,
            coreset=self.coreset,
            lifted=self.lifted,
            fetching=[] if self.fetching is None else [self.fetching, *self.files.explain()],
            more=more,
        )

    def state_dict(self, record: bool = True) -> dict[str, Any]:
        """The seed and the states of the stages, as tensors and plain values; record: with dataset-sized records."""
        state: dict[str, Any] = {"seed": self.seed()}
        for name in ("reweight", "coreset"):
            own = getattr(getattr(self, name), "state_dict", None)
            if own is not None:
                state[name] = own(record=record) if name == "coreset" else own()
        if record and self.magnitudes.sources:
            state["magnitudes"] = self.magnitudes.state()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self.seed.value = state["seed"]
        for name in ("reweight", "coreset"):
            own = getattr(getattr(self, name), "load_state_dict", None)
            if name in state and own is not None:
                own(state[name])
        self.magnitudes.load(state.get("magnitudes", []))
        self.selecting.forget()
