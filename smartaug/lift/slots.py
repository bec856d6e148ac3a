"""Where a dataset holds its pipeline.

``transform`` and ``transforms`` come first, and what they hold if they are no pipeline of a library but the user's own
object or function. Otherwise it is the only attribute that is a pipeline; or the only pipeline that any attribute, or
the function of ``with_transform``, reaches. Of several it is the one that the dataset calls for its first sample. A
wrong choice cannot give wrong images: what is lifted runs only on images that the pipeline returned (see `deferred`).
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

from . import registry
from .advice import of_function
from .holders.calling import called
from .holders.functions import plain, variables
from .holders.held import Held, told
from .holders.parts import is_holder, is_hugging_faces
from .holders.search import Reached, pipelines_in
from .steps import Transform, UserDataset

NAMED = "_smartaug_slot"  # attribute of a copy: the `Held` of what was lifted, if it is not simply in one of `_USUAL`
_USUAL = ("transform", "transforms")
_APART = "take it apart yourself: lifted = smartaug.lift(pipeline), lifted.head for each sample, augment=lifted.augment"


def slot(dataset: UserDataset) -> tuple[Held, Transform] | None:
    """Where a dataset holds its pipeline, and the pipeline; None: there is none, or it cannot be told from others."""
    own = getattr(dataset, "__dict__", {})
    if NAMED in own:
        held = as_held(own[NAMED])
        return held, held.get(dataset)
    found = _usual(dataset)
    if found is not None and not _is_users(found[1]):
        return found
    reached = _reached(dataset)
    return _as_slot(reached[0]) if len(reached) == 1 else found


def slot_called(dataset: UserDataset, first: Callable[[Any], Any] | None) -> tuple[Held, Transform] | None:
    """`slot`, or of several pipelines the one that is called when ``first`` reads the first sample of a copy.

    first: None where no sample can be read.
    """
    found = _usual(dataset)
    if NAMED in getattr(dataset, "__dict__", {}) or (found is not None and not _is_users(found[1])):
        return slot(dataset)
    reached = _reached(dataset)
    if len(reached) > 1 and first is not None:
        seen = called(dataset, reached, first)
        if len(seen) == 1:
            return _as_slot(seen[0])
    direct = [one for one in reached if _held(one).only is not None]
    if found is None and len(direct) == 1:
        return _as_slot(direct[0])
    return slot(dataset)


def as_held(named: object) -> Held:
    """The `Held` that a copy keeps; those of earlier versions keep the name of the attribute."""
    return named if isinstance(named, Held) else Held(((("attribute", named),),))


def is_usual(dataset: UserDataset, held: Held) -> bool:
    """Whether `slot` finds what a copy of ``dataset`` has in the place ``held`` without being told."""
    found = _usual(dataset)
    return found is not None and found[0] == held


def _usual(dataset: UserDataset) -> tuple[Held, Transform] | None:
    for name in _USUAL:
        if inspect.getattr_static(dataset, name, None) is None:
            continue  # found by __getattr__ only: it belongs to a dataset inside, and cannot be replaced here
        if isinstance(inspect.getattr_static(dataset, name), property):
            continue  # its setter may write into an object inside; what it reads is found there
        value = getattr(dataset, name, None)
        if value is not None and (callable(value) or registry.parts(value) is not None):
            return as_held(name), value
    return None


def _is_users(transform: Transform) -> bool:
    """Whether a transform is the user's own object or function, which may hold a pipeline."""
    return registry.parts(transform) is None and registry.library_of(transform) is None and is_holder(transform)


def _reached(dataset: UserDataset) -> list[Reached]:
    """The pipelines that its usual attribute reaches; else those that it reaches at all."""
    reached = pipelines_in(dataset)
    for name in _USUAL:
        inside = [one for one in reached if any(path[0] == ("attribute", name) for path in one.paths)]
        if inside:
            return inside
    return reached


def _held(reached: Reached) -> Held:
    return Held(reached.paths)


def _as_slot(reached: Reached) -> tuple[Held, Transform]:
    return _held(reached), reached.pipeline


def no_slot(dataset: UserDataset) -> str:
    """Why there is no slot, and what to write."""
    kind, reached = type(dataset).__name__, _reached(dataset)
    several = ", ".join(_held(one).name for one in reached)
    if is_hugging_faces(dataset):
        return _no_function(dataset, several)
    if several:
        return (
            f"{kind} keeps several pipelines ({several}), and which makes the images cannot be known; keep that one in "
            f"self.transform, or {_APART}"
        )
    return (
        f"{kind} keeps no pipeline of a known library in an attribute; keep it in self.transform, or where a function "
        f"holds it {_APART}"
    )


def _no_function(dataset: UserDataset, several: str) -> str:
    """`no_slot` of a dataset of Hugging Face."""
    given = getattr(dataset, "_format_kwargs", None) or {}
    if getattr(dataset, "_format_type", None) != "custom" or "transform" not in given:
        return (
            f"{type(dataset).__name__} keeps no pipeline, since it has no function of with_transform; write one, or "
            "augment=[smartaug.RandAugment(), ...] without lift=True"
        )
    function = given["transform"]
    said = told(function.func if isinstance(function, functools.partial) else function)
    if several:
        return (
            f"{said} calls several pipelines ({several}) for a sample, or it cannot be known which; put what the "
            f"images pass into one Compose, and let the function call only that; or {_APART}"
        )
    return f"{said} names no pipeline of a known library{of_function(function) or _processor(function)}"


def _processor(function: object) -> str:
    """What to write for a function that names no pipeline: an image processor, or one made inside the function."""
    own = plain(function)
    if isinstance(own, types.FunctionType):
        for (_, name), value in variables(own).items():
            if hasattr(value, "image_mean") and hasattr(value, "image_std"):
                return (
                    f"; {name} is an image processor, which is none: let it resize alone, {name}(..., "
                    "do_rescale=False, do_normalize=False), and write augment=[smartaug.RandAugment(), "
                    f"smartaug.Normalize({name}.image_mean, {name}.image_std)] without lift=True"
                )
    return (
        " in its closure, its defaults or the globals that it reads; make it once, outside of the function: pipeline = "
        "v2.Compose([...]), then call pipeline(image) in it"
    )
