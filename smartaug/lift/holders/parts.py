"""The parts of an object of the user's that may be pipelines, or hold one, each with the step that leads to it.

What: attributes, entries of small dicts and lists, arguments of partials, variables of functions, members of modules.
When: see `holders`. Cost: a look at the attributes.
"""

from __future__ import annotations

import argparse
import functools
import sys
import types
import weakref
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from .. import registry
from .followed import attributes
from .functions import Refilled, Step, names_of, variables

_LONGEST = 32
_LIBRARIES = {
    *("PIL", "accelerate", "albumentations", "cv2", "datasets", "joblib", "kornia", "lightning", "matplotlib", "monai"),
    *("numba", "numpy", "pandas", "pyarrow", "pytorch_lightning", "scipy", "skimage", "sklearn", "skorch", "smartaug"),
    *("timm", "torch", "torchdata", "torchmetrics", "torchvision", "tqdm", "transformers"),
}
_OF_MODULES = ("_buffers", "_modules", "_parameters")
_USERS = ("__main__", "builtins")  # modules of code of the user's; the second one where it is run by exec


def parts(holder: Any) -> Iterator[tuple[Step, Any]]:
    """The parts of ``holder``; those of a module depend on the function that reads it, see `members`."""
    if isinstance(holder, (types.FunctionType, Refilled)):
        yield from variables(holder).items()
    elif isinstance(holder, functools.partial):
        yield ("function", None), holder.func
        yield from ((("argument", place), value) for place, value in enumerate(holder.args))
        yield from ((("keyword", name), value) for name, value in holder.keywords.items())
    elif isinstance(holder, types.MethodType):
        yield ("function", None), holder.__func__
        yield ("self", None), holder.__self__
    elif isinstance(holder, (list, tuple)):
        yield from ((("item", place), value) for place, value in enumerate(holder))
    elif is_hugging_faces(holder):
        given = getattr(holder, "_format_kwargs", None) or {}
        if getattr(holder, "_format_type", None) == "custom" and "transform" in given:
            yield ("format", "transform"), given["transform"]
    else:
        if isinstance(holder, dict):
            yield from ((("item", key), value) for key, value in holder.items() if isinstance(key, (str, int)))
        yield from _attributes(holder)


def _attributes(holder: Any) -> Iterator[tuple[Step, Any]]:
    own = dict(attributes(holder))
    if isinstance(holder, nn.Module):
        own = {name: value for name, value in own.items() if name not in _OF_MODULES} | holder._modules
    for kind in type(holder).__mro__:
        if not is_librarys(kind.__module__):  # of the class's own only pipelines: its objects are written by all
            given = {name: value for name, value in vars(kind).items() if _is_of_class(value)}
            own = {**given, **own}
    yield from ((("attribute", name), value) for name, value in own.items() if not name.startswith(("_smartaug", "__")))


def _is_of_class(value: object) -> bool:
    return type(value) in (dict, list, tuple) or (registry.is_pipeline(value) and not hasattr(type(value), "__get__"))


def members(function: object, module: types.ModuleType) -> dict[Step, Any]:
    """The members of a module whose names are in the code of a function that reads it.

    None of a function that asks for all of them by ``__dict__``.
    """
    names = names_of(function).attributes
    if "__dict__" in names:
        return {}
    found = ((("member", name), getattr(module, name, None)) for name in sorted(names))
    return {step: value for step, value in found if value is not None}


def is_holder(value: object) -> bool:
    """Whether to look into an object for pipelines: a small container, or the user's own object or function."""
    if type(value) in (dict, list, tuple):
        return 0 < len(value) <= _LONGEST  # type: ignore[arg-type]
    if isinstance(value, tuple):
        return hasattr(type(value), "_fields") and hasattr(type(value), "_make")  # a namedtuple
    if isinstance(value, (functools.partial, types.MethodType, Refilled)):
        return True
    if isinstance(value, types.FunctionType):
        return not is_librarys(value.__module__)
    if type(value) in weakref.ProxyTypes:  # whose attributes are those of another object
        return False
    if isinstance(value, (type, types.ModuleType)) or not hasattr(value, "__dict__"):
        return False
    if isinstance(value, nn.Module) and _is_model(value):
        return False
    if any(registry.is_of_transforms(kind) for kind in type(value).__mro__):
        return False  # the user's subclass of a library's transform
    if isinstance(value, (types.SimpleNamespace, argparse.Namespace)):
        return True
    if isinstance(value, Dataset) or is_hugging_faces(value) or type(value).__name__ == "SliceDataset":  # skorch's
        return True
    return not is_librarys(type(value).__module__)


def _is_model(module: nn.Module) -> bool:
    """Whether it has parameters. What is in it may be the part of a pipeline that stays, which is no module."""
    inside = (inner for inner in module._modules.values() if isinstance(inner, nn.Module))
    return any(one is not None for one in module._parameters.values()) or any(map(_is_model, inside))


def is_librarys(module: str | None) -> bool:
    """Whether code of a module is a library's."""
    top = (module or "").partition(".")[0]
    return top in _LIBRARIES or (top not in _USERS and top in sys.stdlib_module_names)


def is_hugging_faces(dataset: object) -> bool:
    """Whether it is a ``datasets.Dataset``, told without importing that library."""
    return any(
        (kind.__module__, kind.__name__) == ("datasets.arrow_dataset", "Dataset") for kind in type(dataset).__mro__
    )
