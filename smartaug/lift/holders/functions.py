"""Copies of a user's functions in which a variable has another value.

What: a function reads its pipeline from a cell of its closure, a default or a global. A `Refilled` runs the same code
with another value there, for as long as the user's own variable has the value that it had; every other global is looked
up where the function looks it up, when it does. When: see `holders`. Cost: about 0.1 µs for each global that a call
reads.
"""

from __future__ import annotations

import dis
import functools
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any, NamedTuple

Step = tuple[str, Any]  # kind and name of one part of a holder, see `paths`

_READS_GLOBAL = ("LOAD_GLOBAL", "LOAD_NAME")
_READS_ATTRIBUTE = ("LOAD_ATTR", "LOAD_METHOD")
_ASSIGNS = ("STORE_DEREF", "DELETE_DEREF")
_ASSIGNS_GLOBAL = ("STORE_GLOBAL", "DELETE_GLOBAL")
_IN_CLASSES = ("LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")  # which read the dict of globals past `_Globals.__missing__`
_LOOKS_UP = {"globals", "locals", "vars", "eval", "exec"}  # what sees more than the names in the code
_OF_CLASS = ("__annotations__", "__doc__", "__module__")  # which a class has, too
_OF_MODULE = ("__name__", "__package__", "__spec__", "__loader__", "__path__", "__file__", "__doc__")


class Names(NamedTuple):
    """The names in a function's code and in the functions that it defines.

    globals: that are read. attributes: that are read; stored: that are assigned. assigned: variables of enclosing
    functions; assigned_globals. why: what in the code rules out a copy with other globals, as the end of a sentence;
    None: nothing does.
    """

    globals: frozenset[str]
    attributes: frozenset[str]
    stored: frozenset[str]
    assigned: frozenset[str]
    assigned_globals: frozenset[str]
    why: str | None


@functools.lru_cache(maxsize=256)
def names_in(code: types.CodeType) -> Names:
    """The `Names` of ``code``."""
    found: dict[str, set[str]] = {name: set() for name in Names._fields[:-1]}
    why = None
    for instruction in _instructions(code):
        name, operation = instruction.argval, instruction.opname
        if operation in _ASSIGNS_GLOBAL:
            why = f"assigns the global {name}"
            found["assigned_globals"].add(name)
        elif operation.startswith(_IN_CLASSES):
            why = "defines a class"
        if operation.startswith(_READS_GLOBAL):
            found["globals"].add(name)
        elif operation.startswith(_READS_ATTRIBUTE):
            found["attributes"].add(name)
        elif operation == "STORE_ATTR":
            found["stored"].add(name)
        elif operation in _ASSIGNS:
            found["assigned"].add(name)
    looked_up = sorted(found["globals"] & _LOOKS_UP)
    if looked_up:
        why = f"calls {looked_up[0]}()"
    return Names(**{name: frozenset(names) for name, names in found.items()}, why=why)


def _instructions(code: types.CodeType) -> Iterator[dis.Instruction]:
    own = {*code.co_cellvars}
    for instruction in dis.get_instructions(code):
        if instruction.opname != "STORE_DEREF" or instruction.argval not in own:  # of a variable of its own
            yield instruction
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _instructions(constant)


def names_of(function: Any) -> Names:
    """The `Names` of a function, or of the one that a `Refilled` runs."""
    return names_in(plain(function).__code__)


def plain(function: Any) -> Any:
    """The user's function behind a `Refilled`; any other object itself."""
    return function.smartaug_parts.function if isinstance(function, Refilled) else function


def variables(function: Any) -> dict[Step, Any]:
    """The values that a function reads from outside: ("cell" | "default" | "global", name) -> value.

    Without those that it assigns, and without globals where `Names.why` says so. Of a `Refilled` with its values.
    """
    if isinstance(function, Refilled):
        own = function.smartaug_parts
        return {**variables(own.function), **{step: value for step, (_, value) in own.inside.items()}}
    code, names = function.__code__, names_in(function.__code__)
    found: dict[Step, Any] = {}
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            found["cell", name] = cell.cell_contents
        except ValueError:  # a variable that has no value yet
            continue
    found |= {("default", name): value for name, value in _defaults(function).items()}
    if names.why is None:
        inside = function.__globals__
        found |= {("global", name): inside[name] for name in sorted(names.globals & inside.keys())}
    hidden = _assigned_by_others(function, found)
    return {
        step: value
        for step, value in found.items()
        if step not in hidden and (step[0] == "global" or step[1] not in names.assigned)
    }


def _assigned_by_others(function: types.FunctionType, found: Mapping[Step, Any]) -> set[Step]:
    """The variables of a function that a function in another variable of it assigns, so when the first calls it."""
    hidden: set[Step] = set()
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    for other in map(plain, found.values()):
        if not isinstance(other, types.FunctionType):
            continue
        names = names_in(other.__code__)
        if other.__globals__ is function.__globals__:
            hidden |= {("global", name) for name in names.assigned_globals}
        for name, cell in zip(other.__code__.co_freevars, other.__closure__ or (), strict=True):
            if name in names.assigned and cells.get(name) is cell:
                hidden.add(("cell", name))
    return hidden


def _defaults(function: types.FunctionType) -> dict[str, Any]:
    code, given = function.__code__, function.__defaults__ or ()
    positional = code.co_varnames[: code.co_argcount]
    return {
        **dict(zip(positional[len(positional) - len(given) :], given, strict=True)),
        **(function.__kwdefaults__ or {}),
    }


class _Parts:
    """What a `Refilled` runs. inside: step -> (the value of the user's variable, what stands for it)."""

    def __init__(self, function: types.FunctionType, inside: dict[Step, tuple[Any, Any]]) -> None:
        self.function, self.inside = function, inside
        self.cells: list[tuple[types.CellType, types.CellType, Any, Any]] = []  # own, the user's, its value, other
        self.made: types.FunctionType = function

    def rebuild(self) -> None:
        """Make the function anew with what is ``inside``."""
        function, code, inside = self.function, self.function.__code__, self.inside
        others = {name: pair for (kind, name), pair in inside.items() if kind == "global"}
        scope = _Globals(function.__globals__, others) if others else function.__globals__
        cells, self.cells = [], []
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            if ("cell", name) in inside:
                taken, value = inside["cell", name]
                self.cells.append((types.CellType(value), cell, taken, value))
                cell = self.cells[-1][0]
            cells.append(cell)
        defaults = {name: inside.get(("default", name), (0, value))[1] for name, value in _defaults(function).items()}
        given = function.__defaults__
        if given is not None:
            given = tuple(defaults[name] for name in code.co_varnames[code.co_argcount - len(given) : code.co_argcount])
        self.made = types.FunctionType(code, scope, function.__name__, given, tuple(cells))
        self.made.__kwdefaults__ = {name: defaults[name] for name in function.__kwdefaults__ or {}} or None


class Refilled:
    """``function`` with the values ``inside`` in the places of its variables, by ("cell" | "default" | "global", name).

    Its attributes are those of the function. It is pickled as the function, by its name, and these values.
    """

    __slots__ = ("__weakref__", "smartaug_parts")
    smartaug_parts: _Parts

    def __init__(self, function: Any, inside: Mapping[Step, Any] | None = None) -> None:
        before = dict(function.smartaug_parts.inside) if isinstance(function, Refilled) else {}
        object.__setattr__(self, "smartaug_parts", _Parts(plain(function), before))
        self.smartaug_fill(inside or {})

    def smartaug_fill(self, inside: Mapping[Step, Any]) -> None:
        """Put ``inside`` in the places of variables."""
        own = self.smartaug_parts
        now = variables(own.function)
        for step, value in inside.items():
            own.inside[step] = own.inside[step][0] if step in own.inside else now.get(step), value
        own.rebuild()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the function gives. Raises RuntimeError where a variable of its closure is assigned in the meantime."""
        own = _parts_of(self)
        for mine, users, taken, value in own.cells:
            now = users.cell_contents
            mine.cell_contents = value if now is taken else now
        made = own.made(*args, **kwargs)
        for mine, users, taken, value in own.cells:
            if mine.cell_contents is not (value if users.cell_contents is taken else users.cell_contents):
                raise RuntimeError(
                    f"a variable of {told(self)} that lift=True took over was assigned while it ran, by another "
                    "function with the same closure; let it be given as an argument, or write lift=False"
                )
        return made

    def __getattribute__(self, name: str) -> Any:
        if name in _OF_CLASS:
            return getattr(plain(self), name)
        return plain(self) if name == "__wrapped__" else object.__getattribute__(self, name)

    def __getattr__(self, name: str) -> Any:
        if name == "smartaug_parts":  # absent while a copy is being made
            raise AttributeError(name)
        return getattr(self.smartaug_parts.function, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.smartaug_parts.function, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self.smartaug_parts.function, name)

    def __reduce__(self) -> tuple[Any, ...]:
        own = self.smartaug_parts
        return Refilled, (own.function,), _state(self)

    def __setstate__(self, inside: Mapping[Step, Any]) -> None:
        now = variables(self.smartaug_parts.function)
        self.smartaug_fill(
            {step: value.on(now[step]) if isinstance(value, _Again) else value for step, value in inside.items()}
        )

    def __copy__(self) -> Refilled:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Refilled:
        return self  # as functions are

    def __repr__(self) -> str:
        return f"Refilled({self.smartaug_parts.function!r})"


_parts_of = Refilled.smartaug_parts.__get__  # type: ignore  # without `__getattribute__`


class _Again(NamedTuple):
    """The pickled form of a `Refilled` in a variable of another, where its function is not found by its name.

    So it is behind a decorator: the name is that of what the decorator made.
    """

    inside: Mapping[Step, Any]

    def on(self, function: Any) -> Refilled:
        """The same with the function that is in the variable now."""
        made = Refilled(function)
        made.__setstate__(self.inside)
        return made


def _state(refilled: Refilled) -> dict[Step, Any]:
    own = refilled.smartaug_parts
    return {
        step: _Again(_state(value))
        if isinstance(value, Refilled) and plain(value) is taken and not _is_named(taken)
        else value
        for step, (taken, value) in own.inside.items()
    }


def _is_named(function: Any) -> bool:
    """Whether a function is found by its module and name, as pickle looks for it."""
    found: Any = sys.modules.get(function.__module__)
    for name in function.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is function


def told(function: Any) -> str:
    """A function by its name, file and line."""
    code = plain(function).__code__
    return f"{plain(function).__name__} ({PurePath(code.co_filename).name}, line {code.co_firstlineno})"


class _Globals(dict[str, Any]):
    """The globals of a function; those in ``others``, name -> (value, another), have the other while they have that.

    They are looked up in the module's own when they are read: a dict of a subclass asks ``__missing__``.
    """

    def __init__(self, own: dict[str, Any], others: Mapping[str, tuple[Any, Any]]) -> None:
        super().__init__({name: own[name] for name in _OF_MODULE if name in own})  # C code reads these directly
        self._own, self._others = own, others
        self["__builtins__"] = own.get("__builtins__", __builtins__)

    def __missing__(self, name: str) -> Any:
        value = self._own[name]
        if name in self._others:
            taken, other = self._others[name]
            return other if value is taken else value
        return value

    def __contains__(self, name: object) -> bool:
        return name in self._own

    def get(self, name: str, default: Any = None) -> Any:
        """As `dict.get`."""
        return self[name] if name in self._own else default
