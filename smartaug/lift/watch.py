"""`Watch`: whether lifted transforms still have the settings with which they were lifted, looked at for each sample.

What: datasets may change their pipeline between samples (``self.transform.transforms[0].p = 0.9 if rare else 0.1``),
which what was lifted could not follow. The settings are the attributes named like arguments of the constructor, and the
lists of transforms. All other changes are found by the fingerprint at the next pass (`source`). When: each call of a
lifted pipeline. Cost: about 0.2 µs per transform.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any

import numpy as np
from torch import Tensor, nn

from . import registry
from .lifted import Lifted

_HOLDS = (list, tuple, dict)


class Watch:
    """The settings of the transforms of ``lifted`` that run on the batch, and of the pipelines that hold them."""

    def __init__(self, lifted: Lifted) -> None:
        given = None if lifted.recipe is None else lifted.recipe.transform
        stays = {id(step.original) for step in lifted.steps if step.where == "worker"}
        settings: list[tuple[Any, Callable[[Any], Any], Any]] = []
        for single in _transforms(given, stays, set()):
            if isinstance(single, (list, dict)):
                settings.append((single, _same, type(single)(single)))
            elif names := _names(single):
                read = attrgetter(*names)
                settings.append((single, read, read(single)))
        self._settings = settings

    def check(self) -> None:
        """Raise RuntimeError where a setting is not what it was."""
        for single, read, kept in self._settings:
            now = read(single)
            if now is not kept and not _equal(now, kept):
                raise RuntimeError(
                    f"{_told(single, now, kept)} since lift=True took it over: the dataset, or the training loop in "
                    "the middle of a pass, changes its transform, and what was lifted would not follow; write "
                    "lift=False"
                )


def _equal(now: object, kept: object) -> bool:
    try:
        return bool(now == kept)
    except (RuntimeError, ValueError):  # the truth of tensors and arrays, which were the same object before
        return False


def _same(single: object) -> object:
    return single


def _told(single: object, now: object, kept: object) -> str:
    if isinstance(single, _HOLDS):
        return "the list of transforms of the dataset has changed"
    names = _names(single)
    values: list[Any] = [now, kept] if len(names) > 1 else [(now,), (kept,)]
    pairs = list(zip(names, *values, strict=True))
    name, value, was = next((pair for pair in pairs if not _equal(pair[1], pair[2])), pairs[0])
    return f"{type(single).__name__}.{name} of the dataset's transform was {was!r} and is {value!r}"


def _transforms(part: Any, stays: set[int], seen: set[int]) -> Iterator[Any]:
    """``part``, and the lists and transforms in it, without those that stay in the worker."""
    if id(part) in seen or id(part) in stays or isinstance(part, (str, type, Tensor, np.ndarray)):
        return
    seen.add(id(part))
    if isinstance(part, _HOLDS):
        inside = list(part.values() if isinstance(part, dict) else part)
        if not isinstance(part, tuple) and any(map(_is_transform, inside)):
            yield part
    elif _is_transform(part):
        yield part
        inside = [getattr(part, name) for name in _names(part)]
        inside += [part._modules] if isinstance(part, nn.Module) else [registry.parts(part)]
    else:
        return
    for inner in inside:
        yield from _transforms(inner, stays, seen)


def _is_transform(part: object) -> bool:
    return callable(part) and hasattr(part, "__dict__") and not inspect.isroutine(part) and not isinstance(part, type)


def _names(single: object) -> list[str]:
    """The attributes of a transform that are named like arguments of its constructor, or of a base class's."""
    arguments = set()
    for kind in type(single).__mro__:
        if "__init__" in vars(kind) and kind is not object:
            arguments |= set(inspect.signature(vars(kind)["__init__"]).parameters)
    return sorted(name for name in vars(single) if name in arguments)
