"""Keeps a loader's copy of a dataset in step with the user's dataset, or raises where that is impossible.

What: attributes that are assigned to the user's dataset after the loader was made are copied at the beginning of the
next epoch. Another transform, or a change inside the lifted one (``transforms[0].p = 0``, ``.pop()``), raises
RuntimeError, since the lifted part would not change with it. When: at the beginning of each epoch. Cost: compiling the
pipeline again, about a millisecond for a dataset of any size.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import inspect
import random
import types
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._base.original import SOURCE
from .lifted import Lifted, compiled
from .slots import slot
from .steps import Step, Transform, UserDataset

_WATCHED = ("transform", "transforms", "target_transform")

Fingerprint = object


class Source:
    """The user's dataset, the attributes last copied from it, and the fingerprint of its pipeline at the start.

    own: names of attributes that are the copy's own and are never overwritten. lifted: what was lifted of the dataset.
    A copied or pickled loader no longer follows the user's dataset, so a copy of a `Source` is an empty one.
    """

    def __init__(self, dataset: UserDataset = None, own: Iterable[str] = (), lifted: Lifted | None = None) -> None:
        self.dataset, self.own, self.lifted = dataset, frozenset(own), lifted
        self.taken = dict(_attributes(dataset))
        self.transforms = [] if dataset is None else transforms_of(dataset)
        self.pipeline = None if lifted is None else fingerprint(lifted)

    def refresh(self, copied: Any) -> None:
        """Copy attributes assigned since the last call to ``copied``; RuntimeError if lifted transforms changed."""
        if self.dataset is None:
            return
        self.check()
        self.renew(copied)

    def renew(self, copied: Any) -> None:
        """Copy attributes assigned since the last call to ``copied``; RuntimeError if a transform was replaced."""
        if self.dataset is None:
            return
        check_transforms(self.dataset, self.transforms)
        now = dict(_attributes(self.dataset))
        changed = [name for name, value in now.items() if name not in self.taken or self.taken[name] is not value]
        removed = self.taken.keys() - now.keys() - self.own
        if not changed and not removed:
            return
        mine, slots = vars(copied), _slots(copied)
        for name in set(changed) - self.own:
            if name in slots:
                object.__setattr__(copied, name, now[name])
            else:
                mine[name] = now[name]
        for name in removed:
            mine.pop(name, None)
        renewed = Source()  # a new object: shallow copies of ``copied`` keep the state of their own attributes
        renewed.__dict__.update({**self.__dict__, "taken": now})
        mine[SOURCE] = renewed

    def check(self) -> None:
        """Raise RuntimeError if the dataset has another transform now, or the lifted one was modified."""
        kind = type(self.dataset).__name__
        check_transforms(self.dataset, self.transforms)
        if self.lifted is not None and fingerprint(self.lifted) != self.pipeline:
            raise RuntimeError(
                f"the transform of {kind} was changed after lift=True took it over; it is {_short(self._transform)} "
                "now, and what was lifted would not follow; make the loader anew: smartaug.DataLoader(dataset, ..., "
                "lift=True)"
            )

    @property
    def _transform(self) -> object:
        return None if self.lifted is None or self.lifted.recipe is None else self.lifted.recipe.transform

    def __reduce__(self) -> tuple[type[Source], tuple[()]]:
        return Source, ()


def _attributes(dataset: UserDataset) -> dict[str, Any]:
    own = getattr(dataset, "__dict__", {})
    slots = _slots(dataset)
    return {**own, **{name: getattr(dataset, name) for name in slots if hasattr(dataset, name)}} if slots else own


def _slots(dataset: UserDataset) -> list[str]:
    """The attributes that a dataset keeps in ``__slots__`` and not in ``__dict__``."""
    given = [vars(kind).get("__slots__", ()) for kind in type(dataset).__mro__]
    names = [name for slots in given for name in ([slots] if isinstance(slots, str) else slots)]
    return [name for name in names if name not in ("__dict__", "__weakref__")]


def transforms_of(dataset: UserDataset) -> list[tuple[str, Transform]]:
    """The attributes that hold transforms, and their values; properties, which compute a new value, are left out."""
    missing, held = object(), slot(dataset)
    names = _WATCHED if held is None or held[0] in _WATCHED else (*_WATCHED, held[0])
    found = ((name, inspect.getattr_static(dataset, name, missing)) for name in names)
    return [(name, value) for name, value in found if value is not missing and value is getattr(dataset, name, missing)]


def check_transforms(dataset: UserDataset, transforms: Sequence[tuple[str, Transform]]) -> None:
    """Raise RuntimeError unless ``dataset`` has the ``transforms`` that `transforms_of` gave."""
    for name, taken in transforms:
        now = getattr(dataset, name, None)
        if now is not taken:
            raise RuntimeError(
                f"{type(dataset).__name__}.{name} was {_short(taken)} when lift=True took it over, and is "
                f"{_short(now)} now, which this loader would not see; make the loader anew: "
                "smartaug.DataLoader(dataset, ..., lift=True)"
            )


def _short(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


# --- the state of a pipeline, to compare -----------------------------------------------------------------------------


def fingerprint(lifted: Lifted) -> Fingerprint:
    """A value that changes when lifting the same transform again would give another result; it is compiled anew."""
    if lifted.recipe is None:
        return None
    try:
        steps = compiled(*lifted.recipe).steps
    except Exception as error:  # a changed transform may raise anything in a translator
        return f"{type(error).__name__}: {error}"
    return tuple(_of_step(step) for step in steps)


def fingerprint_of(transform: object) -> Fingerprint:
    """A value that changes with the settings of ``transform``, whatever it is."""
    return _of(transform, ())


def _of_step(step: Step) -> Fingerprint:
    stage = _of(step.stage, ()) if step.stage is not None else None
    rest = None if step.rest is None else type(step.rest).__name__  # each translation makes a new object
    return (
        step.name,
        step.where,
        step.why,
        repr(step.after),
        step.floats,
        step.tensors,
        id(step.original),
        stage,
        rest,
    )


_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size, type, enum.Enum)
_DRAWING = (random.Random, np.random.Generator, np.random.RandomState, np.random.BitGenerator, torch.Generator)


def _of(value: object, around: tuple[int, ...]) -> Fingerprint:
    """``value`` as nested tuples of plain values; around: ids of the objects that contain it, to stop at cycles."""
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, _DRAWING) or id(value) in around:
        return type(value).__name__
    inside = (*around, id(value))
    if isinstance(value, Tensor):
        value = value.detach().cpu().double().numpy()
    if isinstance(value, np.ndarray):
        return (value.shape, str(value.dtype), hashlib.blake2b(np.ascontiguousarray(value).data).hexdigest())
    if isinstance(value, dict):
        return tuple((_of(key, inside), _of(part, inside)) for key, part in value.items())
    if isinstance(value, (tuple, list)):
        return tuple(_of(part, inside) for part in value)
    if isinstance(value, (set, frozenset)):
        return frozenset(_of(part, inside) for part in value)
    return _of_object(value, inside)


def _of_object(value: object, inside: tuple[int, ...]) -> Fingerprint:
    if isinstance(value, functools.partial):
        return ("partial", _of([value.func, value.args, value.keywords], inside))
    if isinstance(value, types.MethodType):
        return ("method", value.__func__.__qualname__, _of(value.__self__, inside))
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return (
            value.__qualname__,
            hash(value.__code__),
            _of([value.__defaults__, value.__kwdefaults__, cells], inside),
        )
    if isinstance(value, nn.Module):
        return _of_module(value, inside)
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    own = {name: getattr(value, name, None) for name in slots if name != "__weakref__"} | getattr(value, "__dict__", {})
    return (type(value).__qualname__, _of(own, inside))


def _of_module(module: nn.Module, inside: tuple[int, ...]) -> Fingerprint:
    """Buffers, parameters, submodules and public attributes; private ones may change with every call."""
    names = ("_buffers", "_parameters", "_modules")
    held = {name: vars(module)[name] for name in names}
    public = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    return (type(module).__qualname__, _of(held, inside), _of(public, inside))
