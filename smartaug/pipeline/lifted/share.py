"""The share of samples whose lifted transforms ran on the batch; for the others they ran when the sample was loaded.

A batch is lifted only if every image in it is the object that the dataset's transform returned. In other batches the
whole transform ran per sample, and only ``augment=`` still runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...augment import CopyPaste, CutMix, Flip, MixUp, Normalize
from ...lift import Lifted
from ...warnings import NoEffectWarning, warn
from ..stages import Stage, behind, flattened, listed, name_of

Stages = Stage | Sequence[Stage] | None

_BATCHES = 20  # warn after so many batches without a lifted one; at the end of a pass after any number
_FEW = 0.05  # at the end of a pass, warn where at most this share of samples was lifted
_ANY_UNITS = (Flip, MixUp, CutMix, CopyPaste)  # they give the same before Normalize and after it
_NOT_LIFTED = (
    "samples whose image is not what the dataset's transform returned (it was changed, cached, or not made by it), or "
    "that have targets which only the whole transform moves (rotated boxes, videos)"
)


class LiftedShare:
    """Warnings, errors and a table row on the samples of one pipeline that were not lifted.

    lifted: the transforms taken out of the dataset; augment: the loader's ``augment=``.
    """

    def __init__(self, lifted: Lifted, augment: Stages) -> None:
        self._early = _before_normalize(lifted.augment, augment)
        self._said = False

    def refuse_other_units(self, *, joint: bool = False) -> None:
        """Raise ValueError where ``augment=`` expects images before Normalize, and those of a batch are behind it.

        joint: its lifted transforms ran first, on images with their targets; else it is not lifted.
        """
        if not self._early:
            return
        has = "boxes, or its images in a list, whose lifted transforms run first" if joint else _NOT_LIFTED
        let = "" if joint else "let every sample return the transform's result, or "
        raise ValueError(
            f"lift=True runs {', '.join(self._early)} of augment= before the dataset's Normalize, but this batch has "
            f"{has}, so it is normalised already; {let}take Normalize out of the dataset, and end with it: "
            f"augment=[..., smartaug.Normalize(mean, std)]{'' if joint else ', or write lift=False'}"
        )

    def look(self, counts: Mapping[str, int], *, ended: bool = False) -> None:
        """Warn, once, where (nearly) nothing was lifted; ended: at the end of a pass."""
        batches, samples, lifted = counts["batches"], counts["samples"], counts["lifted"]
        few = lifted <= _FEW * samples if ended else lifted == 0
        if self._said or not few or batches < (1 if ended else _BATCHES):
            return
        self._said = True
        ran = "had no effect on" if lifted == 0 else f"ran for only {lifted} of the {samples} samples of"
        which = "each has" if lifted == 0 else "the others have"
        warn(
            f"lift=True {ran} {batches} batch{'es' * (batches > 1)}: {which} {_NOT_LIFTED}, so the whole "
            "transform ran where samples are loaded; write lift=False, or let every sample return the transform's "
            "result",
            NoEffectWarning,
        )

    def explain(self, counts: Mapping[str, int]) -> list[tuple[str, str, str]]:
        """A row for the table of stages, once samples were not lifted."""
        whole = counts["samples"] - counts["lifted"]
        if whole == 0:
            return []
        what = f"{whole} of {counts['samples']} samples so far, in batches with {_NOT_LIFTED}"
        return [("not lifted", "where loaded", what)]


def _before_normalize(lifted: Stages, augment: Stages) -> list[str]:
    """Names of the stages of ``augment=`` that run before the Normalize taken out of a dataset, and count in pixels."""
    taken = [part for stage in listed(lifted) for part in flattened([stage]) if _normalizes(part)]
    order = behind(lifted, augment)
    last = max((number for number, stage in enumerate(order) if any(stage is one for one in taken)), default=0)
    own = [part for stage in listed(augment) for part in flattened([stage])]
    early = [stage for stage in order[:last] if any(stage is one for one in own)]
    return [name_of(stage) for stage in early if not isinstance(stage, _ANY_UNITS)]


def _normalizes(stage: object) -> bool:
    """Whether a stage is a Normalize that does more than scale to [0, 1]: mean other than 0, or std other than 1."""
    return isinstance(stage, Normalize) and (any(stage.mean) or any(value != 1.0 for value in stage.std))
