"""The pipelines that an object or a function can reach.

What: attributes, entries of small dicts and lists, arguments of partials, variables of functions, and those of the
objects in them that are the user's own: no library's object is looked into, but its datasets. When: see `holders`.
Cost: a visit to each of at most `_VISITS` parts.
"""

from __future__ import annotations

import argparse
import functools
import sys
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import nn
from torch.utils.data import Dataset

from .. import registry
from .functions import Step, names_in, variables
from .paths import Path, is_hugging_faces

_DEPTH, _LONGEST, _VISITS = 6, 32, 2000
_LIBRARIES = {
    *("PIL", "accelerate", "albumentations", "cv2", "datasets", "joblib", "kornia", "lightning", "matplotlib", "monai"),
    *("numba", "numpy", "pandas", "pyarrow", "pytorch_lightning", "scipy", "skimage", "sklearn", "skorch", "smartaug"),
    *("timm", "torch", "torchdata", "torchmetrics", "torchvision", "tqdm", "transformers"),
}
_USERS = ("__main__", "builtins")  # modules of code of the user's; the second one where it is run by exec


class Reached(NamedTuple):
    """A pipeline, and the ways to it; all of them lead to the same object."""

    pipeline: Any
    paths: tuple[Path, ...]


def pipelines_in(holder: object) -> list[Reached]:
    """The pipelines of known libraries that ``holder`` reaches, without those for labels."""
    found: dict[int, Reached] = {}
    visits = iter(range(_VISITS))
    for path, pipeline in _walk(holder, (), (id(holder),), visits):
        before = found.get(id(pipeline), Reached(pipeline, ()))
        found[id(pipeline)] = Reached(pipeline, (*before.paths, path))
    return list(found.values())


def _walk(holder: Any, path: Path, around: tuple[int, ...], visits: Iterator[int]) -> Iterator[tuple[Path, Any]]:
    """around: ids of ``holder`` and of the objects around it, to stop at cycles. visits: as many as are left."""
    for step, value in _parts(holder):
        if next(visits, None) is None:
            return
        if isinstance(holder, types.FunctionType) and isinstance(value, types.ModuleType):
            for name in sorted(names_in(holder.__code__).attributes & vars(value).keys()):
                if registry.is_pipeline(vars(value)[name]):
                    yield (*path, step, ("member", name)), vars(value)[name]
        if step[1] == registry.TARGETS or id(value) in around:
            continue
        if registry.is_pipeline(value):
            yield (*path, step), value
        elif len(path) < _DEPTH and is_holder(value):
            yield from _walk(value, (*path, step), (*around, id(value)), visits)


def _parts(holder: Any) -> Iterator[tuple[Step, Any]]:
    """The parts of ``holder`` that may be pipelines, or hold one."""
    if isinstance(holder, types.FunctionType):
        yield from variables(holder).items()
    elif isinstance(holder, functools.partial):
        yield ("function", None), holder.func
        yield from ((("argument", place), value) for place, value in enumerate(holder.args))
        yield from ((("keyword", name), value) for name, value in holder.keywords.items())
    elif isinstance(holder, types.MethodType):
        yield ("function", None), holder.__func__
        yield ("self", None), holder.__self__
    elif isinstance(holder, dict):
        yield from ((("item", key), value) for key, value in holder.items() if isinstance(key, (str, int)))
    elif isinstance(holder, (list, tuple)):
        yield from ((("item", place), value) for place, value in enumerate(holder))
    elif is_hugging_faces(holder):
        given = getattr(holder, "_format_kwargs", None) or {}
        if getattr(holder, "_format_type", None) == "custom" and "transform" in given:
            yield ("format", "transform"), given["transform"]
    else:
        own = list(getattr(holder, "__dict__", {}).items())
        if isinstance(holder, nn.Module):
            own += holder._modules.items()
        yield from ((("attribute", name), value) for name, value in own if not name.startswith("_smartaug"))


def is_holder(value: object) -> bool:
    """Whether to look into an object for pipelines: a small container, or the user's own object or function."""
    if type(value) in (dict, list, tuple):
        return 0 < len(value) <= _LONGEST  # type: ignore[arg-type]
    if isinstance(value, (functools.partial, types.MethodType)):
        return True
    if isinstance(value, types.FunctionType):
        return not _is_librarys(value.__module__)
    if isinstance(value, (type, types.ModuleType)) or not hasattr(value, "__dict__"):
        return False
    if isinstance(value, nn.Module) and next(value.parameters(), None) is not None:
        return False  # a model
    if any(registry.is_of_transforms(kind) for kind in type(value).__mro__):
        return False  # the user's subclass of a library's transform
    if isinstance(value, (types.SimpleNamespace, argparse.Namespace)):
        return True
    if isinstance(value, Dataset) or is_hugging_faces(value) or type(value).__name__ == "SliceDataset":  # skorch's
        return True
    return not _is_librarys(type(value).__module__)


def _is_librarys(module: str | None) -> bool:
    top = (module or "").partition(".")[0]
    return top in _LIBRARIES or (top not in _USERS and top in sys.stdlib_module_names)
