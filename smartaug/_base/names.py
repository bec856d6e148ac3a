"""Suggestions for mistyped names, and for mistyped keywords of a call."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """``"; did you mean Flip?"`` where one of ``names`` is close to ``name``, whatever the case; else empty."""
    by_lower = {known.lower(): known for known in names}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean {by_lower[close[0]]}?" if close else ""


def suggest_keywords(function: F) -> F:
    """Decorator of a function or an ``__init__``: a TypeError for an unknown keyword names the nearest, or all of them.

    The type of the error and the first half of its text are Python's own. An ``__init__`` with ``**settings`` also
    takes the keywords of the next ``__init__`` in the class's order of bases.
    """
    own, is_open = _keywords(function)

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        unknown = [name for name in kwargs if name not in own]
        if unknown:
            known = {**own, **_inherited(type(args[0]), checked)} if is_open else own
            for name in unknown:
                if name not in known:
                    nearest = did_you_mean(name, known) or f"; it takes {', '.join(known)}"
                    called = function.__qualname__
                    if called.endswith(".__init__"):  # inherited ones are called by the name of the user's class
                        called = f"{type(args[0]).__name__}.__init__"
                    raise TypeError(f"{called}() got an unexpected keyword argument {name!r}{nearest}")
        return function(*args, **kwargs)

    checked.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]  # also for getfullargspec
    return checked  # type: ignore[return-value]


class SuggestsKeywords:
    """Base of classes whose ``__init__``, and that of every subclass, is decorated with `suggest_keywords`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own: Any = vars(cls).get("__init__")
        if own is not None:
            cls.__init__ = suggest_keywords(own)  # type: ignore[method-assign]


def _keywords(function: Callable[..., Any]) -> tuple[dict[str, None], bool]:
    """The keywords that ``function`` takes by name, in order, and whether it takes others too (``**settings``)."""
    parameters = list(inspect.signature(function).parameters.values())
    if parameters and parameters[0].name == "self":
        parameters = parameters[1:]
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = dict.fromkeys(one.name for one in parameters if one.kind in named)
    return found, any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters)


def _inherited(kind: type, init: Callable[..., Any]) -> dict[str, None]:
    """The keywords of the bases of the class of ``init``, as far as each hands on what it does not name itself."""
    known: dict[str, None] = {}
    inits = [vars(base)["__init__"] for base in kind.__mro__[:-1] if "__init__" in vars(base)]
    for base in inits[inits.index(init) + 1 :]:
        own, is_open = _keywords(base)
        known |= own
        if not is_open:
            break
    return known
