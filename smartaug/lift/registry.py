"""Which library a transform comes from, and its translator; no library is imported that the user has not."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from torch import nn

from .steps import State, Step, unknown

# the package that a transform's class comes from, to the module here that knows it
LIBRARIES = {
    "torchvision": "torchvision",
    "timm": "timm",
    "albumentations": "albumentations",
    "kornia": "kornia",
}


def library_of(transform: Any) -> ModuleType | None:
    """The translator module for the class of ``transform`` (not for a user's subclass of it); None: nobody's."""
    name = LIBRARIES.get(type(transform).__module__.partition(".")[0])
    return None if name is None else module(name)


def module(name: str) -> ModuleType:
    """The translator module of that name, imported."""
    return importlib.import_module(f"{__package__}.{name}")


def parts(transform: Any) -> Sequence[Any] | None:
    """The transforms of a container that runs all of them in order; None for a single transform."""
    if type(transform) in (list, tuple):
        return transform
    if type(transform) in (nn.Sequential, nn.ModuleList):
        return list(transform)
    library = library_of(transform)
    own = None if library is None else getattr(library, "parts", None)
    return None if own is None else own(transform)


def flat(transform: Any) -> list[Any]:
    """``transform`` without its containers: single transforms in the order in which they run."""
    inside = parts(transform)
    return [transform] if inside is None else [single for part in inside for single in flat(part)]


def translate(transform: Any, state: State) -> Step:
    """What becomes of one transform that is no container."""
    library = library_of(transform)
    step = None if library is None else library.translate(transform, state)
    return unknown(transform, state) if step is None else step
