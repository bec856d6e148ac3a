"""The way from an object to a pipeline that it holds: read, and replaced in a copy.

What: a path is a tuple of steps (kind, name), see `_READ`. `put` copies the objects along a path, shallowly, and
nothing beside it. When: see `holders`. Cost: one shallow copy a step.
"""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from ..._base.original import SOURCE
from .followed import Followed
from .functions import Refilled, Step, variables

Path = tuple[Step, ...]


def _variable(function: Any, step: Step) -> Any:
    if not isinstance(function, Refilled):
        return variables(function)[step]
    return function.inside[step] if step in function.inside else variables(function.function)[step]


_READ: dict[str, Callable[[Any, Any], Any]] = {
    "attribute": getattr,
    "item": lambda holder, key: holder[key],  # of a dict, list or tuple
    "member": getattr,  # of a module
    "function": lambda holder, _: holder.func if isinstance(holder, functools.partial) else holder.__func__,
    "argument": lambda holder, place: holder.args[place],  # of functools.partial
    "keyword": lambda holder, name: holder.keywords[name],
    "self": lambda holder, _: holder.__self__,  # of a bound method
    "format": lambda holder, name: holder._format_kwargs[name],  # of a dataset of Hugging Face
    "cell": lambda function, name: _variable(function, ("cell", name)),
    "default": lambda function, name: _variable(function, ("default", name)),
    "global": lambda function, name: _variable(function, ("global", name)),
}


def read(holder: Any, path: Path) -> Any:
    """What is at the end of ``path``. Raises AttributeError, KeyError or IndexError where it is not there any more."""
    for kind, name in path:
        holder = _READ[kind](holder, name)
    return holder


def put(holder: Any, values: Mapping[Path, Any]) -> Any:
    """A copy of ``holder`` with each value at the end of its path; the objects along the paths are copied, too."""
    if () in values:
        return values[()]
    parts: dict[Step, dict[Path, Any]] = {}
    for path, value in values.items():
        parts.setdefault(path[0], {})[path[1:]] = value
    return _with(holder, {step: put(read(holder, (step,)), inner) for step, inner in parts.items()})


def along(holder: Any, path: Path) -> list[Any]:
    """The objects on the way, ``holder`` first, without the end."""
    found = [holder]
    for step in path[:-1]:
        found.append(read(found[-1], (step,)))
    return found


def is_hugging_faces(dataset: object) -> bool:
    """Whether it is a ``datasets.Dataset``, told without importing that library."""
    return any(
        (kind.__module__, kind.__name__) == ("datasets.arrow_dataset", "Dataset") for kind in type(dataset).__mro__
    )


def _with(holder: Any, inside: Mapping[Step, Any]) -> Any:
    """A shallow copy of ``holder`` with other parts."""
    if isinstance(holder, Refilled):
        return Refilled(holder.function, {**holder.inside, **inside})
    if isinstance(holder, types.FunctionType):
        return Refilled(holder, inside)
    if isinstance(holder, functools.partial):
        function = inside.get(("function", None), holder.func)
        args = [inside.get(("argument", place), value) for place, value in enumerate(holder.args)]
        named = {name: inside.get(("keyword", name), value) for name, value in holder.keywords.items()}
        return functools.partial(function, *args, **named)
    if isinstance(holder, types.MethodType):
        function = inside.get(("function", None), holder.__func__)
        return types.MethodType(function, inside.get(("self", None), holder.__self__))
    if isinstance(holder, types.ModuleType):
        return _Module(holder, {name: value for (_, name), value in inside.items()})
    if type(holder) is tuple:
        return tuple(inside.get(("item", place), value) for place, value in enumerate(holder))
    copied = copy.copy(holder)
    if isinstance(holder, (dict, list)):
        for (_, name), value in inside.items():
            copied[name] = value
        return copied
    own = set()
    for (kind, name), value in inside.items():
        if kind == "format":
            copied._format_kwargs = {**copied._format_kwargs, name: value}
            own.add("_format_kwargs")
        else:
            own |= _assign(copied, name, value)
    copied.__dict__.setdefault(SOURCE, Followed(holder, {SOURCE, *own}))
    return copied


def _assign(copied: Any, name: str, value: Any) -> set[str]:
    """Set an attribute of a shallow copy; returns which of its attributes were set."""
    if isinstance(copied, nn.Module) and name in copied._modules:
        copied.__dict__["_modules"] = {**copied._modules, name: value}
        return {"_modules"}
    try:
        setattr(copied, name, value)
    except (AttributeError, TypeError):  # a frozen dataclass, or one that takes values of one type only
        object.__setattr__(copied, name, value)
    if name != "transform" or not has_joint(copied):
        return {name}
    copied.transforms = copy.copy(copied.transforms)  # torchvision keeps the transform a second time, in there
    copied.transforms.transform = value
    return {name, "transforms"}


def has_joint(dataset: object) -> bool:
    """Whether a torchvision dataset keeps its transform a second time, in a ``StandardTransform``."""
    return type(getattr(dataset, "transforms", None)).__name__ == "StandardTransform"


class _Module(types.ModuleType):
    """A module some of whose attributes have other values; all others are the module's own, when they are read."""

    def __init__(self, module: types.ModuleType, inside: Mapping[str, Any]) -> None:
        super().__init__(module.__name__)
        for name in ("__doc__", "__loader__", "__package__", "__spec__"):
            self.__dict__.pop(name, None)
        self.__dict__.update(inside)
        self.__dict__["_smartaug_module"] = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_smartaug_module"], name)

    def __reduce__(self) -> Any:
        inside = {name: value for name, value in self.__dict__.items() if name not in ("__name__", "_smartaug_module")}
        return _module, (self.__name__, inside)


def _module(name: str, inside: Mapping[str, Any]) -> _Module:
    import importlib

    return _Module(importlib.import_module(name), inside)
