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

from .holders.followed import Followed
from .holders.held import Held
from .lifted import Lifted, compiled
from .slots import NAMED, as_held
from .steps import Step, Transform, UserDataset

_WATCHED = ("transform", "transforms", "target_transform")

_MISSING = object()

Fingerprint = object


class Source(Followed):
    """The user's dataset, the attributes last copied from it, and the fingerprint of its pipeline at the start.

    own: see `Followed`. lifted: what was lifted of the dataset; held: where it holds it, see `transforms_of`.
    """

    def __init__(
        self,
        dataset: UserDataset = None,
        own: Iterable[str] = (),
        lifted: Lifted | None = None,
        held: Held | None = None,
    ) -> None:
        super().__init__(dataset, own)
        self.lifted = lifted
        self.transforms = [] if dataset is None else transforms_of(dataset, held)
        self.held, self.way = held, [] if held is None else held.way(dataset)
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
        self._check_way()
        super().renew(copied)

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

    def _check_way(self) -> None:
        """Raise RuntimeError where the pipeline is reached by other functions or containers, or these have changed."""
        now = [] if self.held is None else self.held.way(self.dataset)
        if len(now) != len(self.way) or any(one is not before for one, before in zip(now, self.way, strict=True)):
            kind = type(self.dataset).__name__
            raise RuntimeError(
                f"the function, object, dict, list or partial by which {kind} reaches its pipeline was replaced or "
                "changed after lift=True took it over, which this loader would not see; make the loader anew: "
                "smartaug.DataLoader(dataset, ..., lift=True)"
            )

    @property
    def _transform(self) -> object:
        return None if self.lifted is None or self.lifted.recipe is None else self.lifted.recipe.transform


def transforms_of(dataset: UserDataset, held: Held | None = None) -> list[tuple[Held, Transform]]:
    """Where a dataset holds transforms, and these; properties, which compute a new value, are left out.

    held: where that is which was lifted; None: in one of the usual attributes, or where a copy says.
    """
    if held is None and NAMED in getattr(dataset, "__dict__", {}):
        held = as_held(dataset.__dict__[NAMED])
    plain = (
        as_held(name)
        for name in (*_WATCHED, *([held.only] if held is not None and held.only not in (None, *_WATCHED) else []))
        if inspect.getattr_static(dataset, name, _MISSING) is getattr(dataset, name, _MISSING) is not _MISSING
    )
    deeper = [held] if held is not None and held.only is None else []
    return [(one, one.get(dataset)) for one in (*plain, *deeper)]


def check_transforms(dataset: UserDataset, transforms: Sequence[tuple[Held, Transform]]) -> None:
    """Raise RuntimeError unless ``dataset`` has the ``transforms`` that `transforms_of` gave."""
    for held, taken in transforms:
        now = held.now(dataset)
        if now is not taken:
            raise RuntimeError(
                f"{type(dataset).__name__}.{held.name} was {_short(taken)} when lift=True took it over, and is "
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
    if isinstance(value, nn.Module) and issubclass(type(value), nn.Module):  # not what stands for one in a loader
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
