"""Loading the user's objects by name: ``path/to/script.py:make_loader`` or ``package.module:name``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from .._base.names import did_you_mean

Named = Any  # an object of the user's, of any type


def named(text: str, option: str) -> Named:
    """The object that ``text`` names. The script or module is imported; ``if __name__ == "__main__"`` does not run.

    option: the name of the argument in error messages. Raises ValueError for a name that does not exist,
    FileNotFoundError for a script that does not exist.
    """
    place, colon, path = text.rpartition(":")
    if not colon or not place or not path:
        raise ValueError(f"{option} {text!r}: name a file or a module, and what in it: train.py:make_loader")
    found: Named = _script(Path(place), option) if place.endswith(".py") else _module(place, option)
    for name in path.split("."):
        if not hasattr(found, name):
            raise ValueError(f"{option} {text!r}: {place} has no {name}{did_you_mean(name, dir(found))}")
        found = getattr(found, name)
    return found


def _script(path: Path, option: str) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"{option} {path}: there is no such file")
    folder = str(path.resolve().parent)
    if folder not in sys.path:  # scripts may import modules of their own folder
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{option} {path}: cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # worker processes import its classes by this name
    spec.loader.exec_module(module)
    return module


def _module(name: str, option: str) -> ModuleType:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise  # a module that it imports is missing
        raise ValueError(f"{option}: there is no module {name!r}; name a file: path/to/script.py:name") from error


def made(thing: Named, option: str, text: str) -> Named:
    """``thing`` if it is a dataset or a loader, else the result of calling it without arguments.

    Raises ValueError where it is neither.
    """
    if hasattr(thing, "__getitem__") or hasattr(thing, "__iter__"):
        return thing
    if not callable(thing):
        raise ValueError(
            f"{option} {text!r} is a {type(thing).__name__}; name a loader, a dataset, or what returns one"
        )
    return thing()
