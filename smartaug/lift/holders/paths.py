"""The way from an object to a pipeline that it holds.

What: a path is a tuple of steps (kind, name), see `_READ`. When: see `holders`. Cost: one look-up a step.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from .functions import Step, variables

Path = tuple[Step, ...]

_READ: dict[str, Callable[[Any, Any], Any]] = {
    "attribute": getattr,
    "item": lambda holder, key: holder[key],  # of a dict, list or tuple
    "member": getattr,  # of a module
    "function": lambda holder, _: holder.func if isinstance(holder, functools.partial) else holder.__func__,
    "argument": lambda holder, place: holder.args[place],  # of functools.partial
    "keyword": lambda holder, name: holder.keywords[name],
    "self": lambda holder, _: holder.__self__,  # of a bound method
    "format": lambda holder, name: holder._format_kwargs[name],  # of a dataset of Hugging Face
    "cell": lambda function, name: variables(function)["cell", name],
    "default": lambda function, name: variables(function)["default", name],
    "global": lambda function, name: variables(function)["global", name],
}


def read(holder: Any, path: Path) -> Any:
    """What is at the end of ``path``. Raises AttributeError, KeyError or IndexError where it is not there any more."""
    for kind, name in path:
        holder = _READ[kind](holder, name)
    return holder


def along(holder: Any, path: Path) -> list[Any]:
    """The objects on the way, ``holder`` first, without the end."""
    found = [holder]
    for step in path[:-1]:
        found.append(read(found[-1], (step,)))
    return found
