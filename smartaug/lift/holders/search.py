"""The pipelines that an object or a function can reach.

What: its `parts`, and those of the objects in them that are the user's own: no library's object is looked into, but
its datasets. When: see `holders`. Cost: a visit to each of at most `_VISITS` parts.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, NamedTuple

from .. import registry
from .parts import is_holder, members, parts
from .paths import Path

DEPTH, _VISITS = 6, 2000


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
    for step, value in parts(holder):
        if next(visits, None) is None:
            return
        if isinstance(value, types.ModuleType) and step[0] == "global":
            for inner, member in members(holder, value).items():
                if registry.is_pipeline(member):
                    yield (*path, step, inner), member
        if step[1] == registry.TARGETS or id(value) in around:
            continue
        if registry.is_pipeline(value):
            yield (*path, step), value
        elif len(path) < DEPTH and is_holder(value):
            yield from _walk(value, (*path, step), (*around, id(value)), visits)
