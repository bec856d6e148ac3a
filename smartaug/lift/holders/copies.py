"""Copies of the user's objects in which other objects stand for some that they hold.

What: every object that reaches one of those is copied once, shallowly, and the copies refer to each other as the
originals do: what an object writes into itself is read by all that hold it, a bound method of it or a closure too.
When: see `holders`. Cost: a visit to each of at most `_VISITS` parts, one shallow copy for each object that is copied.
"""

from __future__ import annotations

import copy
import functools
import types
from collections import deque
from collections.abc import Mapping
from typing import Any

from torch import nn

from ..._base.original import SOURCE
from .followed import Followed, slots_of
from .functions import Refilled, Step
from .modules import ModuleWith
from .parts import is_holder, members, parts
from .search import DEPTH

COPIES = "_smartaug_copies"  # attribute of a copied dataset: the other copies that follow objects of the user's
_VISITS = 2000
Graph = dict[int, tuple[Any, dict[Step, Any]]]  # id of a holder -> the holder, its parts


class NotCopied(TypeError):
    """An object of the user's cannot be copied; says which and why, as the end of a sentence."""


def replaced(root: Any, values: Mapping[int, Any]) -> Any:
    """A copy of ``root`` in which ``values[id(part)]`` stands wherever ``part`` is. Raises `NotCopied`."""
    if id(root) in values:
        return values[id(root)]
    graph = _graph(root, values)
    copies = _Copies(graph, _reaching(graph, values) | {id(root)}, values)
    copied = copies.of(root)
    own = getattr(copied, "__dict__", {})
    if SOURCE in own:
        before = [copies.made.get(id(one), one) for one in own.get(COPIES, ())]
        others = [one for one in copies.made.values() if one is not copied and SOURCE in getattr(one, "__dict__", {})]
        own[COPIES] = list({id(one): one for one in (*before, *others)}.values())
    return copied


def copied_whole(root: Any) -> Any:
    """A shallow copy of ``root``, and of what in it refers to ``root``. Raises `NotCopied`."""
    return replaced(root, {})


def _graph(root: Any, values: Mapping[int, Any]) -> Graph:
    graph: Graph = {}
    waiting, left = deque([(root, 0)]), _VISITS
    while waiting and left > 0:
        holder, depth = waiting.popleft()
        if id(holder) in graph:
            continue
        own = dict(parts(holder))
        graph[id(holder)] = holder, own
        left -= len(own)
        for value in own.values():
            if id(value) in values:
                continue
            if isinstance(value, types.ModuleType):
                _, seen = graph.setdefault(id(value), (value, {}))
                seen.update(members(holder, value) if isinstance(holder, (types.FunctionType, Refilled)) else {})
            elif depth < DEPTH and is_holder(value):
                waiting.append((value, depth + 1))
    return graph


def _reaching(graph: Graph, values: Mapping[int, Any]) -> set[int]:
    """The ids of the holders from which one of ``values``, or the first holder, is reached."""
    holders_of: dict[int, list[int]] = {}
    for holder, (_, own) in graph.items():
        for value in own.values():
            holders_of.setdefault(id(value), []).append(holder)
    found: set[int] = set()
    waiting = [*values, next(iter(graph))]
    while waiting:
        for holder in holders_of.get(waiting.pop(), ()):
            if holder not in found and holder not in values:
                found.add(holder)
                waiting.append(holder)
    return found


class _Copies:
    """made: by the id of the original."""

    def __init__(self, graph: Graph, marked: set[int], values: Mapping[int, Any]) -> None:
        self._graph, self._marked, self._values = graph, marked, values
        self.made: dict[int, Any] = {}

    def of(self, part: Any) -> Any:
        """What stands for ``part``: another value, its copy, or itself."""
        known: Mapping[int, Any]
        for known in (self._values, self.made):
            if id(part) in known:
                return known[id(part)]
        if id(part) not in self._marked:
            return part
        holder, own = self._graph[id(part)]
        steps = [step for step, value in own.items() if id(value) in self._values or id(value) in self._marked]
        if isinstance(holder, (functools.partial, types.MethodType, tuple)):
            made = _built(holder, {step: self.of(own[step]) for step in steps})
            return self.made.setdefault(id(part), made)
        copied = self.made[id(part)] = _shell(holder)  # before its parts, which may hold it
        _fill(copied, holder, {step: self.of(own[step]) for step in steps})
        return copied


def _built(holder: Any, inside: Mapping[Step, Any]) -> Any:
    """A copy of what cannot be changed."""
    if isinstance(holder, functools.partial):
        function = inside.get(("function", None), holder.func)
        args = [inside.get(("argument", place), value) for place, value in enumerate(holder.args)]
        named = {name: inside.get(("keyword", name), value) for name, value in holder.keywords.items()}
        return type(holder)(function, *args, **named)
    if isinstance(holder, types.MethodType):
        function, owner = inside.get(("function", None), holder.__func__), inside.get(("self", None), holder.__self__)
        return Method(function, owner) if isinstance(function, Refilled) else types.MethodType(function, owner)
    values = [inside.get(("item", place), value) for place, value in enumerate(holder)]
    made = tuple.__new__(type(holder), values)
    getattr(made, "__dict__", {}).update(getattr(holder, "__dict__", {}))
    return made


class Method(functools.partial[Any]):
    """A bound method whose function is a `Refilled`; one of `types.MethodType` is pickled by its name alone."""

    @property
    def __self__(self) -> Any:
        return self.args[0]

    @property
    def __func__(self) -> Any:
        return self.func


def _shell(holder: Any) -> Any:
    """A shallow copy, in which nothing stands for another yet."""
    if isinstance(holder, (types.FunctionType, Refilled)):
        return Refilled(holder)
    if isinstance(holder, types.ModuleType):
        return ModuleWith(holder)
    name = type(holder).__name__
    if type(holder) not in (dict, list) and not hasattr(holder, "__dict__"):
        raise NotCopied(f'{name} has __slots__ alone, and a copy needs a __dict__; add "__dict__" to them')
    try:
        copied = copy.copy(holder)
    except Exception as error:  # the user's __new__, __copy__ or __reduce__ may raise anything
        raise NotCopied(f"{name} cannot be copied: copy.copy of it raises {type(error).__name__}: {error}") from error
    own = getattr(copied, "__dict__", None)
    if copied is holder or (own is not None and own is vars(holder)):
        raise NotCopied(
            f"{name} cannot be copied, since copy.copy of it gives the object itself (a singleton), or one that shares "
            "its attributes; keep the pipeline in an object of a plain class"
        )
    return copied


def _fill(copied: Any, holder: Any, inside: Mapping[Step, Any]) -> None:
    """Put ``inside`` into the shallow copy of ``holder``, past setters of the user's, which may write elsewhere."""
    if isinstance(copied, (Refilled, ModuleWith)):
        return copied.smartaug_fill(inside)
    for (kind, name), value in inside.items():
        if kind == "format":
            copied._format_kwargs = {**copied._format_kwargs, name: value}
        elif kind == "item":
            (dict if isinstance(copied, dict) else list).__setitem__(copied, name, value)
        else:
            _assign(copied, name, value)
    if hasattr(copied, "__dict__"):
        copied.__dict__.setdefault(SOURCE, Followed(holder, {SOURCE}))


def _assign(copied: Any, name: str, value: Any) -> None:
    if isinstance(copied, nn.Module) and name in copied._modules:
        copied.__dict__["_modules"] = {**copied._modules, name: value}
    elif name in slots_of(copied):
        object.__setattr__(copied, name, value)
    else:
        copied.__dict__[name] = value
        if name == "transform" and has_joint(copied):  # torchvision keeps the transform a second time, in there
            joint = copied.__dict__["transforms"] = copy.copy(copied.transforms)
            joint.transform = value


def has_joint(dataset: object) -> bool:
    """Whether a torchvision dataset keeps its transform a second time, in a ``StandardTransform``."""
    return type(getattr(dataset, "transforms", None)).__name__ == "StandardTransform"
