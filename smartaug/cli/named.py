"""Objects of the user's that a command line names: ``path/to/script.py:make_loader`` or ``package.module:name``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from ..augment.names import did_you_mean


def named(text: str, option: str) -> Any:
    """What ``text`` names; the script or module is imported, so its code runs, but for ``if __name__ == "__main__"``.

    option: what errors call the argument. Raises ValueError or FileNotFoundError that says what is wrong.
    """
    place, colon, path = text.rpartition(":")
    if not colon or not place or not path:
        raise ValueError(f"{option} {text!r}: name a file or a module, and what in it: train.py:make_loader")
    found: Any = _script(Path(place), option) if place.endswith(".py") else _module(place, option)
    for name in path.split("."):
        if not hasattr(found, name):
            raise ValueError(f"{option} {text!r}: {place} has no {name}{did_you_mean(name, dir(found))}")
        found = getattr(found, name)
    return found


def _script(path: Path, option: str) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"{option} {path}: there is no such file")
    folder = str(path.resolve().parent)
    if folder not in sys.path:  # scripts import what lies beside them
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{option} {path}: cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # workers find the classes in it by this name
    spec.loader.exec_module(module)
    return module


def _module(name: str, option: str) -> ModuleType:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise  # something that it imports is missing
        raise ValueError(f"{option}: there is no module {name!r}; name a file: path/to/script.py:name") from error


def made(thing: Any, option: str, text: str) -> Any:
    """What a function without arguments returns; a class of datasets or an object is no such function."""
    if hasattr(thing, "__getitem__") or hasattr(thing, "__iter__"):
        return thing
    if not callable(thing):
        raise ValueError(
            f"{option} {text!r} is a {type(thing).__name__}; name a loader, a dataset, or what returns one"
        )
    return thing()
