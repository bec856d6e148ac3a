"""Keeps a copy of a user's object in step with the original: what is assigned to that is copied.

What: attributes that were assigned to the original since the last look are assigned to the copy, except the copy's own.
When: at the beginning of each epoch. Cost: a look at the attributes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..._base.original import SOURCE


class Followed:
    """The original ``dataset`` (or another holder) of a copy, and its attributes when they were last copied.

    own: names of attributes that are the copy's own and are never overwritten. A copied or pickled loader no longer
    follows the user's objects, so a copy of this is an empty one.
    """

    def __init__(self, dataset: Any = None, own: Iterable[str] = ()) -> None:
        self.dataset, self.own = dataset, frozenset(own)
        self.taken = dict(attributes(dataset))

    def refresh(self, copied: Any) -> None:
        """As `renew`, at the beginning of a pass."""
        self.renew(copied)

    def renew(self, copied: Any) -> None:
        """Copy the attributes that were assigned since the last call to ``copied``."""
        if self.dataset is None:
            return
        now = dict(attributes(self.dataset))
        changed = [name for name, value in now.items() if name not in self.taken or self.taken[name] is not value]
        removed = self.taken.keys() - now.keys() - self.own
        if not changed and not removed:
            return
        mine, slots = vars(copied), slots_of(copied)
        for name in set(changed) - self.own:
            if name in slots:
                object.__setattr__(copied, name, now[name])
            else:
                mine[name] = now[name]
        for name in removed:
            mine.pop(name, None)
        renewed = type(self)()  # a new object: shallow copies of ``copied`` keep the state of their own attributes
        renewed.__dict__.update({**self.__dict__, "taken": now})
        mine[SOURCE] = renewed

    def __reduce__(self) -> tuple[type[Followed], tuple[()]]:
        return type(self), ()


def attributes(holder: Any) -> dict[str, Any]:
    """The attributes of an object, in ``__dict__`` and ``__slots__``."""
    own = getattr(holder, "__dict__", {})
    slots = slots_of(holder)
    return {**own, **{name: getattr(holder, name) for name in slots if hasattr(holder, name)}} if slots else own


def slots_of(holder: Any) -> list[str]:
    """The attributes that an object keeps in ``__slots__`` and not in ``__dict__``."""
    given = [vars(kind).get("__slots__", ()) for kind in type(holder).__mro__]
    names = [name for slots in given for name in ([slots] if isinstance(slots, str) else slots)]
    return [name for name in names if name not in ("__dict__", "__weakref__")]
