"""Whether what is written while a sample is read would be read from another object than it is written to.

What: a dataset whose ``__getitem__`` writes ``self.level = ...`` writes it into its copy. A bound method of it in a
library's object (``T.Lambda(self.blur)``, ``functools.lru_cache``), or a weak reference to it, reads the original,
where nothing was written. The reverse holds for what a method writes by the name of a global or of its class. When: the
first sample is read. Cost: a look at the attributes, and once at the code of at most `_FUNCTIONS` functions; where
something was written, a visit to each of at most `_VISITS` objects.
"""

from __future__ import annotations

import gc
import inspect
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor

from ..._base.original import SOURCE
from .copies import COPIES
from .followed import Followed, attributes
from .functions import Refilled, names_in, variables
from .parts import is_librarys

_ENTRIES = ("__getitem__", "__getitems__", "__iter__", "__next__", "__call__", "forward")
_VISITS, _LONGEST, _FUNCTIONS = 20_000, 1000, 200
_OTHERS = (type, types.ModuleType, types.BuiltinFunctionType, types.FrameType, types.CodeType, Followed, Tensor, str)


class Written:
    """The copies that ``copied`` is made of, and all attributes before a sample is read from it.

    way: gives the objects and the entries of containers by which the original reaches its pipeline.
    """

    def __init__(self, copied: Any, way: Callable[[], list[Any]]) -> None:
        own = getattr(copied, "__dict__", {})
        copies = [copied, *own.get(COPIES, ())] if isinstance(own.get(SOURCE), Followed) else []
        pairs = [(one, vars(one)[SOURCE].dataset) for one in copies]
        self._copied, self._way, self._entries = copied, way, way()
        self._before = [
            (one, original, _taken(one), _taken(original)) for one, original in pairs if original is not None
        ]

    def hinders(self) -> str | None:
        """Why the copies cannot stand for the originals, as the end of a sentence; None: nothing is known to."""
        now = self._way()
        if len(now) != len(self._entries) or any(a is not b for a, b in zip(now, self._entries, strict=True)):
            return f"{type(self._copied).__name__} changes a container that holds it while a sample is read{_APART}"
        written: dict[int, tuple[type, set[str]]] = {}  # by the id of the original
        code = _Code(type(self._copied), _ENTRIES)
        for one, original, before, of_original in self._before:
            kind, stored = type(one), _Code(type(one), _ENTRIES).stored
            beside = _changed(of_original, _taken(original))
            if id(original) in code.globals:
                beside |= (code.stored | stored) & of_original.keys()
            if beside:
                return f"{kind.__name__} gets its attribute {min(beside)} by a global while a sample is read{_APART}"
            names = _changed(before, _taken(one)) | (stored & _taken(one).keys())
            if names:
                written[id(original)] = kind, names
        for holder, part in _references(self._copied) if written else ():
            kind, names = written.get(id(part), (object, set()))
            if isinstance(holder, types.MethodType):
                names = names & _Code(kind, (holder.__func__.__name__,)).attributes
            if names:
                return (
                    f"{kind.__name__} writes its attribute {min(names)} while a sample is read, and {_told(holder)} "
                    f"refers to it{_APART}"
                )
        return None


_APART = ", which would not be the same in the loader's copy; pass the value on as an argument instead"


def _taken(holder: Any) -> dict[str, Any]:
    return {name: value for name, value in attributes(holder).items() if not name.startswith("_smartaug")}


def _changed(before: dict[str, Any], now: dict[str, Any]) -> set[str]:
    return {name for name, value in now.items() if before.get(name, before) is not value}


class _Code:
    """What methods of a class name, with all methods, properties and functions of the user's that they name.

    attributes: that are read. stored: that are assigned, even to the value that they have. globals: ids of objects.
    """

    def __init__(self, kind: type, entries: Sequence[str]) -> None:
        self.attributes, self.stored, self.globals = set(entries), set[str](), set[int]()
        waiting: list[Any] = [inspect.getattr_static(kind, name, None) for name in entries]
        left = _FUNCTIONS
        while waiting and left > 0:
            member = waiting.pop()
            member = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            member = inspect.unwrap(member) if callable(member) else member
            if not isinstance(member, types.FunctionType) or is_librarys(member.__module__):
                continue
            names, left = names_in(member.__code__), left - 1
            self.stored |= names.stored
            waiting += [inspect.getattr_static(kind, name, None) for name in names.attributes - self.attributes]
            self.attributes |= names.attributes
            for name in names.globals & member.__globals__.keys():
                value = member.__globals__[name]
                if id(value) not in self.globals:
                    self.globals.add(id(value))
                    waiting.append(value)


def _told(holder: object) -> str:
    if isinstance(holder, types.MethodType):
        return f"the bound method {holder.__func__.__qualname__}"
    if isinstance(holder, weakref.ReferenceType) or type(holder) in weakref.ProxyTypes:
        return "a weak reference"
    return "the closure of a function" if isinstance(holder, types.CellType) else "an object in a library's"


def _references(root: Any) -> Iterator[tuple[Any, Any]]:
    """The objects that ``root`` reaches through whatever holds them, each with its holder; not by globals."""
    waiting, met = deque([root]), {id(root)}
    while waiting and len(met) < _VISITS:
        holder = waiting.popleft()
        for part in _referents(holder):
            yield holder, part
            if id(part) not in met and not isinstance(part, _OTHERS) and not _is_long(part):
                met.add(id(part))
                waiting.append(part)


def _is_long(part: object) -> bool:
    return isinstance(part, (dict, list, tuple, set)) and len(part) > _LONGEST


def _referents(holder: Any) -> list[Any]:
    if type(holder) is Refilled:
        return [part for (kind, _), part in variables(holder).items() if kind != "global"]
    if type(holder) is types.FunctionType:
        return [*(holder.__closure__ or ()), holder.__defaults__, holder.__kwdefaults__]
    if type(holder) in weakref.ProxyTypes:
        return [_behind(holder)]
    if isinstance(holder, weakref.ReferenceType):
        return [holder()]
    return gc.get_referents(holder)


def _behind(proxy: Any) -> Any:
    """The object that a weak proxy stands for: what a method of it is bound to."""
    try:
        return proxy.__dir__.__self__
    except (AttributeError, ReferenceError):
        return None
