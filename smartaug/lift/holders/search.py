"""The pipelines that an object or a function can reach.

What: its `parts`, and those of the objects in them that are the user's own: no library's object is looked into, but
its datasets. When: see `holders`. Cost: a visit to each of at most `_VISITS` parts.
"""

from __future__ import annotations

import types
from collections import deque
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
    """The pipelines of known libraries that ``holder`` reaches, without those for labels.

    Of the ways to an object that holds one only the shortest is taken.
    """
    found: dict[int, Reached] = {}
    for path, pipeline in _ends(holder):
        before = found.get(id(pipeline), Reached(pipeline, ()))
        found[id(pipeline)] = Reached(pipeline, (*before.paths, path))
    return list(found.values())


def _ends(root: Any) -> Iterator[tuple[Path, Any]]:
    waiting: deque[tuple[Any, Path]] = deque([(root, ())])
    met, left = {id(root)}, _VISITS
    while waiting and left > 0:
        holder, path = waiting.popleft()
        for step, value in parts(holder):
            left -= 1
            if isinstance(value, types.ModuleType) and step[0] == "global":
                for inner, member in members(holder, value).items():
                    if registry.is_pipeline(member):
                        yield (*path, step, inner), member
            if step[1] == registry.TARGETS:
                continue
            if registry.is_pipeline(value):
                yield (*path, step), value
            elif len(path) < DEPTH and id(value) not in met and is_holder(value):
                met.add(id(value))
                waiting.append((value, (*path, step)))
