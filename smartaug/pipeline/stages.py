"""Validates what users pass as stages, and turns it into the steps that the pipeline runs."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from .._base.protocols import refuse_other
from .._base.ranks import here
from ..augment import Augmentation, Compose, Normalize
from ..augment.foreign import Foreign
from ..lift.lifted import Stages
from ..warnings import warn

Stage = Any  # an augmentation, or a callable of the user's on a batch of images


def flattened(steps: Iterable[Stage]) -> list[Stage]:
    """All stages in order, with every `Compose` replaced by its parts."""
    return [part for step in steps for part in (flattened(step) if isinstance(step, Compose) else [step])]


def checked_seed(seed: int | None) -> int | None:
    """``seed``; TypeError unless it is an integer or None."""
    try:
        return None if seed is None else operator.index(seed)
    except TypeError:
        raise TypeError(f"seed must be an integer or None, got {seed!r}; write seed=0") from None


class Seed:
    """The seed of all draws: ``given``, else `torch.initial_seed()` at the first call. TypeError unless an integer."""

    def __init__(self, given: int | None) -> None:
        self.value = checked_seed(given)

    def __call__(self) -> int:
        """The seed; warns under `torch.distributed` when no seed is given, since every rank then has its own."""
        if self.value is None:
            self.value = torch.initial_seed()
            if here()[1] > 1:
                warn(
                    "the loader has no seed, so each rank draws from its own torch.initial_seed() and the number of "
                    "ranks changes the augmentations; pass seed=0",
                )
        return self.value


def listed(augment: Stage | Sequence[Stage] | None) -> list[Stage]:
    """``augment=`` as a list of its stages; [] for None."""
    if augment is None:
        return []
    return list(augment) if isinstance(augment, (tuple, list, Stages)) else [augment]


def behind(lifted: Stage | Sequence[Stage] | None, augment: Stage | Sequence[Stage] | None) -> list[Stage]:
    """The stages of a lifted pipeline and of ``augment=``, in the order in which they run.

    ``augment=`` comes after what was lifted, but its plans and Kornia modules see the images before Normalize, so the
    lifted conversion waits for them: for all where nothing follows it, else up to the first that mixes samples. Other
    callables see what the dataset would have given them.
    """
    own = [part for stage in listed(lifted) for part in flattened([stage])]
    first = next((number for number, stage in enumerate(own) if isinstance(stage, Normalize)), len(own))
    before, conversion = own[:first], own[first:]
    stages = [part for stage in listed(augment) for part in flattened([stage])]
    waits = 0
    for stage in stages:
        planned = isinstance(stage, Augmentation) and not isinstance(stage, Normalize)
        if not (planned or type(stage).__module__.partition(".")[0] == "kornia"):
            break
        if getattr(stage, "mixes", False) and len(conversion) > 1:
            break
        waits += 1
    return [*before, *stages[:waits], *conversion, *stages[waits:]]


def as_steps(augment: Stage | Sequence[Stage] | None) -> list[Augmentation | Foreign]:
    """``augment=`` as stages: neighbouring smartaug augmentations become one plan, everything else a foreign stage."""
    stages = listed(augment)
    steps: list[Augmentation | Foreign] = []
    group: list[Augmentation] = []
    for stage in stages:
        if not isinstance(stage, (Augmentation, Foreign)):
            refuse_other("augment", stage)
        if isinstance(stage, Augmentation) and not stage.reads_labels:
            group.append(stage)
            continue
        steps += _grouped(group)
        group = []
        steps.append(stage if isinstance(stage, (Augmentation, Foreign)) else Foreign(stage))
    _refuse_mixed_before(stages)
    return steps + _grouped(group)


def _refuse_mixed_before(stages: Sequence[Stage]) -> None:
    """Raise a ValueError where a stage that reads labels comes after one that mixes them."""
    mixing: Stage = None
    for stage in flattened(stages):
        if mixing is not None and getattr(stage, "reads_labels", False):
            raise ValueError(
                f"{name_of(stage)} takes partners of the same class, and {name_of(mixing)} before it mixes the "
                f"classes; write it first: augment=[{name_of(stage)}(...), {name_of(mixing)}(...)]"
            )
        mixing = stage if getattr(stage, "mixes", False) else mixing


def _grouped(group: list[Augmentation]) -> list[Augmentation]:
    """Neighbouring augmentations as one `Compose`, with the backend that any of them names; ValueError for two."""
    if len(group) < 2:
        return group
    asked = sorted({step.backend for step in group if step.backend is not None})
    if len(asked) > 1:
        raise ValueError(f"neighbouring augmentations ask for the backends {' and '.join(asked)}; give them one")
    return [Compose(group, backend=asked[0] if asked else None)]


def refuse_changed_list(given: Sequence[Stage] | None, now: Any) -> None:
    """Raise a RuntimeError where stages were added to the list of ``augment=``, or taken out of it.

    given: the stages when the loader was made; None: it was no list.
    """
    if given is not None and (len(now) != len(given) or any(map(operator.is_not, now, given))):
        raise RuntimeError(
            "the list given as augment= was changed after the loader was made, which it does not follow; set "
            "another probability on a stage of it (stage.p = 0.0), or make the loader anew"
        )


def refuse_another_policy(reweight: object, steps: Iterable[Stage]) -> None:
    """Raise a ValueError where a reweighter sets the probabilities of an augmentation that is not among the steps."""
    policy = getattr(reweight, "policy", None)
    if policy is not None and not any(part is policy for part in all_parts(steps)):
        raise ValueError(
            f"{type(reweight).__name__} has the policy {policy!r}, which is not among the augmentations of this "
            "loader, so what it learns would change nothing; give both the same object: "
            "policy = smartaug.RandAugment(num_ops=2), augment=policy, "
            f"reweight=smartaug.{type(reweight).__name__}(model, val_set, policy=policy)"
        )


def all_parts(steps: Iterable[Stage]) -> Iterator[Stage]:
    """Every stage, and the augmentations in its attributes (as of `Compose`), at any depth."""
    for step in steps:
        yield step
        held = vars(step).values() if isinstance(step, Augmentation) else ()
        inside = [part for value in held for part in (value if isinstance(value, (list, tuple)) else [value])]
        yield from all_parts(part for part in inside if isinstance(part, Augmentation))


def checked_device(device: torch.device | str) -> torch.device:
    """``device`` as a `torch.device`; ValueError, naming what exists, where this machine does not have it."""
    try:
        made = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device={device!r} is no device; write device='cpu' or device='cuda:0'") from error
    if made.type in ("cpu", "meta"):
        return made
    current = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    count = torch.accelerator.device_count() if current is not None and current.type == made.type else 0
    if (made.index or 0) >= count:
        there = f"{current.type} with {torch.accelerator.device_count()} devices" if current else "only the CPU"
        raise ValueError(f"device={str(device)!r} does not exist here: this machine has {there}; leave device= out")
    return made


def in_stage(error: Exception, stage: str, index: Tensor | None, inputs: object) -> Exception:
    """A new error whose message begins with the stage, the sample indices and the shape and dtype of the inputs.

    It is a TypeError or ValueError where ``error`` is one, else a RuntimeError.
    """
    rows = "unknown indices" if index is None else f"samples {index[:16].tolist()}{' ...' if len(index) > 16 else ''}"
    what = f"{str(inputs.dtype)[6:]} {tuple(inputs.shape)}" if isinstance(inputs, Tensor) else type(inputs).__name__
    message = f"{stage} failed on {rows}, inputs {what}: {error}"
    kind = next((kind for kind in (TypeError, ValueError) if isinstance(error, kind)), RuntimeError)
    return kind(message)


def name_of(stage: object) -> str:
    """The name of a stage in errors and tables."""
    return stage.name if isinstance(stage, Foreign) else getattr(stage, "__name__", type(stage).__name__)


def rows_not_finite(view: Tensor) -> list[int]:
    """The rows of a tensor (B, ...) that contain NaN or Inf."""
    return (~torch.isfinite(view).flatten(1).all(1)).nonzero().flatten().tolist()
