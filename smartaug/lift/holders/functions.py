"""Copies of a user's functions in which a variable has another value.

What: a function reads its pipeline from a cell of its closure, a default or a global. A `Refilled` runs the same code
with another value there; every other global is looked up where the function looks it up, when it does. When: see
`holders`. Cost: about 0.1 µs for each global that a call reads.
"""

from __future__ import annotations

import dis
import functools
import types
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Step = tuple[str, Any]  # kind and name of one part of a holder, see `paths`

_READS_GLOBAL = ("LOAD_GLOBAL", "LOAD_NAME")
_READS_ATTRIBUTE = ("LOAD_ATTR", "LOAD_METHOD")
_ASSIGNS = ("STORE_GLOBAL", "DELETE_GLOBAL", "STORE_DEREF", "DELETE_DEREF")
_LOOKS_UP = {"globals", "locals", "vars", "eval", "exec"}  # what sees more than the names in the code


class Names(NamedTuple):
    """The names in a function's code and in the functions that it defines: read and assigned variables, attributes."""

    globals: frozenset[str]
    attributes: frozenset[str]
    assigned: frozenset[str]


@functools.lru_cache(maxsize=256)
def names_in(code: types.CodeType) -> Names:
    """The `Names` of ``code``."""
    found: dict[str, set[str]] = {"global": set(), "attribute": set(), "assigned": set()}
    for instruction in _instructions(code):
        name, operation = instruction.argval, instruction.opname
        if operation.startswith(_READS_GLOBAL):
            found["global"].add(name)
        elif operation.startswith(_READS_ATTRIBUTE):
            found["attribute"].add(name)
        elif operation in _ASSIGNS:
            found["assigned"].add(name)
    return Names(*map(frozenset, found.values()))


def _instructions(code: types.CodeType) -> Iterator[dis.Instruction]:
    own = {*code.co_cellvars}
    for instruction in dis.get_instructions(code):
        if instruction.opname != "STORE_DEREF" or instruction.argval not in own:  # of a variable of its own
            yield instruction
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _instructions(constant)


def variables(function: types.FunctionType) -> dict[Step, Any]:
    """The values that a function reads from outside: ("cell" | "default" | "global", name) -> value.

    Without those that it assigns, and without globals where it looks names up in other ways, such as ``globals()``.
    """
    code, names = function.__code__, names_in(function.__code__)
    found: dict[Step, Any] = {}
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            found["cell", name] = cell.cell_contents
        except ValueError:  # a variable that has no value yet
            continue
    found |= {("default", name): value for name, value in _defaults(function).items()}
    if not names.globals & _LOOKS_UP and not names.assigned & function.__globals__.keys():
        inside = function.__globals__
        found |= {("global", name): inside[name] for name in sorted(names.globals & inside.keys())}
    return {step: value for step, value in found.items() if step[1] not in names.assigned}


def _defaults(function: types.FunctionType) -> dict[str, Any]:
    code, given = function.__code__, function.__defaults__ or ()
    positional = code.co_varnames[: code.co_argcount]
    return {
        **dict(zip(positional[len(positional) - len(given) :], given, strict=True)),
        **(function.__kwdefaults__ or {}),
    }


class Refilled:
    """``function`` with the values ``inside`` in the places of its variables, by ("cell" | "default" | "global", name).

    It is pickled as the function, by its name, and these values.
    """

    def __init__(self, function: types.FunctionType, inside: Mapping[Step, Any]) -> None:
        self.function, self.inside = function, dict(inside)
        self._made = _rebuilt(function, self.inside)
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the function gives."""
        return self._made(*args, **kwargs)

    def __reduce__(self) -> tuple[type[Refilled], tuple[Any, Any]]:
        return Refilled, (self.function, self.inside)

    def __deepcopy__(self, memo: dict[int, Any]) -> Refilled:
        return self  # as functions are

    def __repr__(self) -> str:
        return f"Refilled({self.function!r})"


class _Globals(dict[str, Any]):
    """The globals of a function, some of which have other values; all others are read from the module's own."""

    def __init__(self, own: dict[str, Any], others: Mapping[str, Any]) -> None:
        super().__init__(others)
        self._own = own
        self["__builtins__"] = own.get("__builtins__", __builtins__)

    def __missing__(self, name: str) -> Any:
        return self._own[name]


def _rebuilt(function: types.FunctionType, inside: Mapping[Step, Any]) -> types.FunctionType:
    by_kind: dict[str, dict[str, Any]] = {"cell": {}, "default": {}, "global": {}}
    for (kind, name), value in inside.items():
        by_kind[kind][name] = value
    scope = _Globals(function.__globals__, by_kind["global"]) if by_kind["global"] else function.__globals__
    cells = [
        types.CellType(by_kind["cell"][name]) if name in by_kind["cell"] else cell
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    ]
    defaults, given = {**_defaults(function), **by_kind["default"]}, function.__defaults__
    code = function.__code__
    if given is not None:
        given = tuple(defaults[name] for name in code.co_varnames[code.co_argcount - len(given) : code.co_argcount])
    made = types.FunctionType(code, scope, function.__name__, given, tuple(cells))
    made.__kwdefaults__ = {name: defaults[name] for name in function.__kwdefaults__ or {}} or None
    return made
