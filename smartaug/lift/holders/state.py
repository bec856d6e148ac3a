"""Whether an object that writes its own attributes is read by something that knows only the user's original of it.

What: a dataset whose ``__getitem__`` writes ``self.level = ...`` writes it into its copy. A bound method of it in a
library's object (``T.Lambda(self.blur)``, ``functools.lru_cache``), or a weak reference to it, reads the original,
where nothing was written. When: the first sample is read. Cost: a look at the attributes; where some were written, a
visit to each of at most `_VISITS` objects.
"""

from __future__ import annotations

import gc
import inspect
import types
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from ..._base.original import SOURCE
from .copies import COPIES
from .followed import Followed, attributes
from .functions import Refilled, names_in, variables
from .parts import is_librarys

_ENTRIES = ("__getitem__", "__getitems__", "__iter__", "__next__", "__call__", "forward")
_VISITS, _LONGEST = 20_000, 1000
_OTHERS = (type, types.ModuleType, types.BuiltinFunctionType, types.FrameType, types.CodeType, Followed, Tensor, str)


class Written:
    """The copies that ``copied`` is made of, and their attributes before a sample is read from it."""

    def __init__(self, copied: Any) -> None:
        own = getattr(copied, "__dict__", {})
        copies = [copied, *own.get(COPIES, ())] if isinstance(own.get(SOURCE), Followed) else []
        self._copied = copied
        self._before = [(one, dict(attributes(one))) for one in copies]

    def hinders(self) -> str | None:
        """Why the copies cannot stand for the originals, as the end of a sentence; None: nothing is known to."""
        written: dict[int, tuple[type, set[str]]] = {}  # by the id of the original
        for one, before in self._before:
            now, (_, stored) = attributes(one), _names(type(one), _ENTRIES)
            names = {name for name, value in now.items() if name in stored or before.get(name, before) is not value}
            if names:
                written[id(vars(one)[SOURCE].dataset)] = type(one), names
        for holder, part in _references(self._copied) if written else ():
            kind, names = written.get(id(part), (object, set()))
            if isinstance(holder, types.MethodType):
                names = names & _names(kind, (holder.__func__.__name__,))[0]
            if names:
                return (
                    f"{kind.__name__} writes its attribute {min(names)} while a sample is read, and {_told(holder)} "
                    "refers to it, which would not see that in the loader's copy; pass the value on as an argument "
                    "instead"
                )
        return None


def _names(kind: type, entries: Sequence[str]) -> tuple[set[str], set[str]]:
    """The attributes that methods of a class read, and that they assign, with all methods and properties they name."""
    stored: set[str] = set()
    waiting, met = [*entries], set(entries)
    while waiting:
        member = inspect.getattr_static(kind, waiting.pop(), None)
        member = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        member = inspect.unwrap(member) if callable(member) else member
        if not isinstance(member, types.FunctionType) or is_librarys(member.__module__):
            continue
        names = names_in(member.__code__)
        stored |= names.stored
        waiting += names.attributes - met
        met |= names.attributes
    return met, stored


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
