"""Where a dataset holds its pipeline, and what that is called in messages."""

from __future__ import annotations

import functools
import inspect
import types
from typing import Any, NamedTuple

from . import functions
from .copies import has_joint, replaced
from .parts import is_hugging_faces
from .paths import Path, along, read


class _Missing:
    def __repr__(self) -> str:
        return "not there"


_MISSING = _Missing()
_TOPS = {"format": "_format_kwargs"}  # kind of a first step -> the dataset's attribute, if it is not the step's name
_STACKS = (
    '; put what it gives into a list (batch["pixel_values"] = [pipeline(image) for image in batch["image"]]) without '
    "torch.stack, and what changes the values into the pipeline"
)


class Held(NamedTuple):
    """paths: the ways from the dataset to its pipeline, all of them to the same object."""

    paths: tuple[Path, ...]

    def get(self, dataset: Any) -> Any:
        """The pipeline; raises as `paths.read`."""
        return read(dataset, self.paths[0])

    def now(self, dataset: Any) -> Any:
        """The pipeline, or an object of its own where it is not there any more."""
        try:
            return self.get(dataset)
        except (AttributeError, IndexError, KeyError, TypeError):
            return _MISSING

    def put(self, dataset: Any, pipeline: Any) -> Any:
        """A copy of ``dataset``, and of what holds its pipeline, with another one; see `copies`. Raises `NotCopied`."""
        return replaced(dataset, {id(self.get(dataset)): pipeline})

    @property
    def only(self) -> str | None:
        """The attribute of the dataset that is the pipeline itself; None: something else holds it."""
        path = self.paths[0]
        return path[0][1] if len(self.paths) == 1 and len(path) == 1 and path[0][0] == "attribute" else None

    @property
    def name(self) -> str:
        """As in ``transform.base``; of a variable of a function its name."""
        said = ""
        for kind, name in self.paths[0]:
            if kind in ("attribute", "member"):
                said += f".{name}"
            elif kind in ("item", "argument"):
                said += f"[{name!r}]"
            elif kind in ("cell", "default", "global", "keyword"):
                said = str(name)
        return said.removeprefix(".")

    def own(self, dataset: Any) -> set[str]:
        """The attributes of a copy of ``dataset`` that are not those of the original."""
        tops = {_TOPS.get(path[0][0], str(path[0][1])) for path in self.paths}
        return tops | ({"transforms"} if "transform" in tops and has_joint(dataset) else set())

    def owner(self, dataset: Any) -> Any:
        """The object that has the pipeline as its attribute ``transform`` or another one, or the function."""
        return along(dataset, self.paths[0])[-1]

    def caller(self, dataset: Any) -> str:
        """What calls the pipeline, in words: the class of an object, a function with its file and line."""
        return told(next(one for one in reversed(along(dataset, self.paths[0])) if not isinstance(one, _PARTS)))

    def remedy(self, dataset: Any) -> str:
        """What to write where the images are worked on after the pipeline, beyond what holds for every dataset."""
        return _STACKS if is_hugging_faces(dataset) else ""

    def way(self, dataset: Any) -> list[Any]:
        """The objects on the ways, and what is in the dicts, lists and partials among them; [] where one is gone."""
        try:
            every = [one for path in self.paths for one in along(dataset, path)[1:]]
        except (AttributeError, IndexError, KeyError, TypeError):
            return []
        return [part for one in every for part in (one, *_inside(one))]


_PARTS = (dict, list, tuple, functools.partial, types.ModuleType, types.MethodType)


def _inside(holder: Any) -> list[Any]:
    if isinstance(holder, functools.partial):
        return [*holder.args, *holder.keywords.values()]
    if isinstance(holder, (dict, list, tuple)):
        return [*holder, *holder.values()] if isinstance(holder, dict) else list(holder)
    return []


def told(caller: object) -> str:
    """An object by its class, a function by its name, file and line."""
    function = functions.plain(caller)
    if isinstance(function, types.MethodType):
        function = functions.plain(function.__func__)
    if isinstance(function, types.FunctionType):
        return functions.told(function)
    return type(function).__name__ if not inspect.isclass(function) else function.__name__
