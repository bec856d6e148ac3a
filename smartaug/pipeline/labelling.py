"""The labels of a batch: finds their leaves, and mixes them where samples were mixed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .._base import leaves, target_leaves
from .._base.labels import Kind, kind_of
from .._base.row_extras.mixed import Mixed
from ..augment.labels import composition, mix_labels
from ..augment.plan import Plan
from ..batch import Target
from .stages import Stage, flattened, in_stage

Path = leaves.Path


class Labelling:
    """Finds the labels of a batch and makes each a `Target`, mixed where samples were mixed.

    spec: `DataLoader`'s ``target=``; None: the labels are searched for. classes: how many classes the dataset has;
    stated: ``num_classes=`` of MixUp and CutMix, 0 for ``regression=True``; None where unknown. Where there are several
    labels ``classes`` is not used, and ``stated=0`` holds for those that are floats. reweighs: a reweighter reads the
    label. recorded: the keyword of a stage that records outputs with the label, "" for none. needed: the keyword of
    another stage that needs to know which leaf is the label, "" for none. Raises ValueError for several labels where a
    stage takes one.
    """

    def __init__(
        self,
        spec: leaves.Targets,
        key: str,
        *,
        classes: int | None,
        stated: int | None,
        reweighs: bool,
        recorded: str,
        needed: str,
    ) -> None:
        if isinstance(spec, list):
            _refuse_several(spec, reweighs=reweighs, recorded=recorded)
        self.spec, self.key = spec, key
        self.classes, self._stated = classes if stated is None else stated, stated
        self.reweighs, self.recorded = reweighs, recorded
        self.needed = "reweight=" if reweighs else recorded or needed
        self._several = isinstance(spec, list)
        self._widths: dict[Path, int] = {}  # the largest label so far + 1
        self._kinds: dict[Path, tuple[Kind, int]] = {}  # the last kind, and the number of batches so far

    def find(
        self, data: leaves.Structure, inputs: Sequence[Path], length: int, index: list[int] | None, mixing: bool
    ) -> list[Path]:
        """Paths of the labels of a batch, [] when there is none; ValueError where a stage needs one and several fit."""
        needed = "mixing (MixUp, CutMix)" if mixing else self.needed
        found = target_leaves.find_targets(data, inputs, length, self.spec, index, needed)
        if len(found) > 1 and not self._several:
            _refuse_several(found, reweighs=self.reweighs, recorded=self.recorded)
            self._several = True
        if len(found) > 1 and mixing and self._stated:
            raise ValueError(
                f"num_classes={self._stated} is one number, and target= names {len(found)} labels; leave it out of "
                "MixUp and CutMix, and each is as wide as its own"
            )
        return found

    def wrap(
        self,
        target: leaves.Structure,
        path: Path | None,
        plans: list[Plan],
        index: Tensor | None,
        device: torch.device | None,
        pasted: Sequence[Plan] = (),
    ) -> leaves.Structure:
        """The label at ``path`` as a `Target` on ``device``, mixed as the plans mix.

        pasted: plans that have mixed the label already, a map that went with its images. It moves to ``device`` only
        where a stage reads it. Labels that are not tensors (B, ...) are returned unchanged; TypeError where a plan
        mixes them.
        """
        mixing = [plan for plan in plans if plan.mixes]
        if not isinstance(target, Tensor) or target.ndim == 0:
            if mixing:
                raise TypeError(f"mixing needs a target tensor, but {no_tensor(target)}")
            return target
        if isinstance(target, Target):
            target = target.plain
        if self.recorded:
            _refuse_unrecorded(target, self.recorded)
        given = target
        if device is not None and (mixing or self.reweighs):
            target = target.to(device, non_blocking=True)
        index = index if index is None else index.to(target.device, non_blocking=True)
        wrapped: Any = Target(target, None, None, index, self.key)
        if not mixing or path is None:
            return self._made_of_maps(wrapped, [plan for plan in pasted if plan.mixes]) if self.recorded else wrapped
        try:
            known = self._known(given)
            kind = self._kind(given, path, known)
            width = self._width(given, path, kind) if known is None else known
            for plan in mixing:
                wrapped = mix_labels(wrapped, plan, num_classes=width, kind=kind)
        except (TypeError, ValueError) as error:
            raise in_stage(error, "augment: mixing the labels", index, target) from error
        return self._made_of(wrapped, mixing, kind) if self.recorded else wrapped

    def _known(self, target: Tensor) -> int | None:
        """The number of classes of a label; 0: it is a value of a regression; None: unknown."""
        if not self._several:
            return self.classes
        return 0 if self._stated == 0 and target.is_floating_point() else None

    def _kind(self, target: Tensor, path: Path, known: int | None) -> Kind:
        """The kind of a label. Floats on an accelerator are read in batches 1, 2, 4, ... only: it synchronises."""
        before, times = self._kinds.get(path, (Kind.CLASSES, 0))
        free = target.device.type == "cpu" or not target.is_floating_point()
        kind = kind_of(target, classes=known) if free or times & (times + 1) == 0 else before
        if kind is Kind.WHOLE and before is Kind.VALUES:
            kind = before  # a small batch of a regression may hold whole numbers alone; class numbers are never 2.5
        self._kinds[path] = kind, times + 1
        return kind

    def _width(self, target: Tensor, path: Path, kind: Kind) -> int | None:
        """K of class numbers: the largest label so far plus one (`Loss` pads the rest with zeros)."""
        if kind is Kind.CLASSES and target.device.type == "cpu" and target.numel():
            self._widths[path] = max(self._widths.get(path, 2), int(target.max()) + 1)
        return self._widths.get(path)

    def _made_of(self, target: Target, mixing: list[Plan], kind: Kind) -> Target:
        """``target`` with the samples and shares of its rows (`Mixed`), for a coreset that records outputs."""
        index, soft = target.index, target._soft
        if index is None or soft is None or kind in (Kind.SEVERAL, Kind.VALUES):
            return target
        parts, share = _composed(mixing, index)
        mixed = Mixed(parts, share.to(soft.device, non_blocking=True), soft)
        return Target(target.plain, target._weight, soft, index, target._key, mixed)

    def _made_of_maps(self, target: Target, pasted: list[Plan]) -> Target:
        """``target``, a map that was mixed with its images, with the samples and shares of its rows."""
        index = target.index
        if not pasted or index is None:
            return target
        parts, share = _composed(pasted, index)
        return Target(target.plain, target._weight, target._soft, index, target._key, Mixed(parts, share, share))


def _composed(plans: list[Plan], index: Tensor) -> tuple[Tensor, Tensor]:
    """The samples (B, C) of the rows that ``plans`` mixed and their shares (B, C); index: (B,) of the rows."""
    row, share = composition([mix for plan in plans for mix in plan.mixes], len(index))
    parts = index[row.to(index.device, non_blocking=True)]
    return parts, share.to(index.device, non_blocking=True)


def stated_classes(steps: Sequence[Stage]) -> int | None:
    """``num_classes=`` of the stages, 0 for ``regression=True``; None where no stage has it.

    Raises ValueError where one stage says a regression and another a number of classes.
    """
    given = [getattr(part, "num_classes", None) for part in flattened(steps)]
    said = [number for number in given if number is not None]
    if 0 in said and any(said):
        raise ValueError(
            f"the stages say regression=True and num_classes={max(said)}; the labels are one of both, leave one out"
        )
    return said[-1] if said else None


def no_tensor(target: object) -> str:
    """Text for errors: that the target is not a tensor, and what to write."""
    what = "no target leaf was found" if target is None else f"the target is {type(target).__name__}"
    return f"{what}; name it with target='key', target=1 or target=lambda batch: ..."


def _refuse_several(named: Sequence[object], *, reweighs: bool, recorded: str) -> None:
    if not named:
        raise ValueError("target=[] names no leaf; write target=1, or leave target= out")
    if len(named) > 1 and (reweighs or recorded):
        stage, does = ("reweight=", "learns from") if reweighs else (recorded, "records the outputs for")
        instead = "" if reweighs else f", or {without(recorded)}"
        raise ValueError(
            f"{stage} {does} one label, and target= names {len(named)}; name the one it goes by: target=1 or "
            f"target='key'{instead}"
        )


def recorder(keyword: str) -> str:
    """What the stage that records outputs does, for errors. keyword: its own, "coreset=" or "magnitude="."""
    return "the coreset selects by p − y" if keyword == "coreset=" else "magnitude= reads p"


def without(keyword: str) -> str:
    """What to write in place of a stage that records outputs, for errors."""
    return "Coreset(..., select=smartaug.coreset.RandomSubset())" if keyword == "coreset=" else "magnitude=(0, 30)"


def _refuse_unrecorded(target: Tensor, recorded: str) -> None:
    """Raise a TypeError for labels that are no classes: values of a regression, several labels a sample."""
    looked = target.ndim < 3 and target.is_floating_point() and target.device.type == "cpu"
    kind = kind_of(target) if looked else Kind.CLASSES
    if kind is Kind.SEVERAL or (kind is Kind.VALUES and target.numel() == len(target)):
        raise TypeError(
            f"{recorder(recorded)} of one class a sample, and the target {str(target.dtype)[6:]} "
            f"{tuple(target.shape)} is {kind.value}; write {without(recorded)}, or "
            'name the class label: target="key"'
        )
