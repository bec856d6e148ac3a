"""The random generators that a transform holds: found at any depth, seeded for one call, and restored.

What: NumPy's Generator, RandomState and bit generators, `random.Random` and torch.Generator in attributes (also of the
class, as MONAI has them), lists, dicts, nested pipelines, closures, defaults, `functools.partial` and the global names
that a function of the user's mentions. When: transforms that do not draw from the global generators. Cost: one walk at
first use, then about 0.01 ms a generator and sample.
"""

from __future__ import annotations

import functools
import random
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch

from .. import draws

_LIBRARIES = {"torch", "torchvision", "numpy", "albumentations", "kornia", "timm", "PIL", "cv2", "monai", "smartaug"}
_VALUES = (str, bytes, bytearray, int, float, complex, bool, type(None), np.ndarray, np.generic, torch.Tensor, type)
_FUNCTIONS = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial)


class _Kind(NamedTuple):
    """For one type of generator: how to seed it from 64 bits, and how to read and restore its state."""

    seed: Callable[[Any, int], Any]
    get: Callable[[Any], Any]
    put: Callable[[Any, Any], Any]


def _seed_bits(bits: Any, word: int) -> None:
    bits.state = type(bits)(word).state


def _put_bits(bits: Any, state: Any) -> None:
    bits.state = state


_KINDS: dict[type, _Kind] = {
    np.random.Generator: _Kind(
        lambda own, word: _seed_bits(own.bit_generator, word),
        lambda own: own.bit_generator.state,
        lambda own, state: _put_bits(own.bit_generator, state),
    ),
    np.random.RandomState: _Kind(
        lambda own, word: own.seed(word & 0xFFFFFFFF),
        lambda own: own.get_state(legacy=False),
        lambda own, state: own.set_state(state),
    ),
    np.random.BitGenerator: _Kind(_seed_bits, lambda own: own.state, _put_bits),
    random.Random: _Kind(
        lambda own, word: own.seed(word), lambda own: own.getstate(), lambda own, state: own.setstate(state)
    ),
    torch.Generator: _Kind(
        lambda own, word: own.manual_seed(word >> 1),
        lambda own: own.get_state(),
        lambda own, state: own.set_state(state),
    ),
}


class Generators:
    """The generators in ``transform``; ``unreached`` lists, by path, sources of randomness that cannot be seeded."""

    def __init__(self, transform: object) -> None:
        self.unreached: list[str] = []
        found: dict[int, tuple[Any, _Kind]] = {}
        for path, part in _parts(transform):
            kind = _kind_of(part)
            if kind is not None:
                found.setdefault(id(part), (part, kind))
            elif _cannot_be_set(part):
                self.unreached.append(f"{path} ({type(part).__name__})")
        self._found = list(found.values())

    def __bool__(self) -> bool:
        return bool(self._found)

    @contextmanager
    def seeded(self, word: int) -> Iterator[None]:
        """Seed every generator from ``word`` (64 bits), each differently; restore their states afterwards."""
        kept = [kind.get(own) for own, kind in self._found]
        try:
            for place, (own, kind) in enumerate(self._found):
                kind.seed(own, draws.mix(word + place))
            yield
        finally:
            for (own, kind), state in zip(self._found, kept, strict=True):
                kind.put(own, state)


def _kind_of(value: object) -> _Kind | None:
    if isinstance(value, random.SystemRandom) or value is torch.default_generator or value is np.random.mtrand._rand:
        return None  # the system's cannot be seeded; `forked_rng` handles the global ones
    return next((kind for type_, kind in _KINDS.items() if isinstance(value, type_)), None)


def _cannot_be_set(value: object) -> bool:
    """Whether a value is the system's generator, or an iterator, whose position cannot be restored."""
    return isinstance(value, (random.SystemRandom, types.GeneratorType)) or (
        isinstance(value, Iterator) and not isinstance(value, _FUNCTIONS) and type(value).__module__ == "itertools"
    )


def _parts(transform: object) -> Iterator[tuple[str, object]]:
    """``(path, value)`` for ``transform`` and everything that it holds, each object once."""
    seen: dict[int, object] = {}
    waiting = [(_name(transform), transform)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, (*_VALUES, types.ModuleType)) or id(value) in seen:
            continue
        seen[id(value)] = value
        yield path, value
        if _kind_of(value) is None:
            waiting += reversed(list(_held(path, value)))


def _held(path: str, value: object) -> Iterator[tuple[str, object]]:
    """``(path, value)`` for everything that ``value`` holds directly."""
    if isinstance(value, Mapping):
        yield from ((f"{path}[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from ((f"{path}[{place}]", part) for place, part in enumerate(value))
    elif isinstance(value, functools.partial):
        yield from (
            (path, value.func),
            *((f"{path}.args[{n}]", part) for n, part in enumerate(value.args)),
            *((f"{path}.{name}", part) for name, part in value.keywords.items()),
        )
    elif isinstance(value, types.MethodType):
        yield from ((path, value.__self__), (path, value.__func__))
    elif isinstance(value, types.BuiltinMethodType) and value.__self__ is not None:
        yield path, value.__self__  # rng.normal, passed as a function
    elif isinstance(value, types.FunctionType):
        yield from _of_function(path, value)
    yield from _attributes(path, value)


def _attributes(path: str, value: object) -> Iterator[tuple[str, object]]:
    """Attributes of an object, the generators among those of its class, and the functions of a class of the user's."""
    yield from ((f"{path}.{name}", part) for name, part in getattr(value, "__dict__", {}).items())
    if isinstance(value, _FUNCTIONS):
        return
    for kind in type(value).__mro__:
        own = kind.__module__.partition(".")[0] not in _LIBRARIES | {"builtins"}
        for name, part in vars(kind).items():
            if isinstance(part, types.MemberDescriptorType):  # __slots__
                if hasattr(value, name):
                    yield f"{path}.{name}", getattr(value, name)
            elif _kind_of(part) is not None or (own and isinstance(part, types.FunctionType)):
                yield f"{path}.{name}", part


def _of_function(path: str, function: types.FunctionType) -> Iterator[tuple[str, object]]:
    """What a function reaches: closure, defaults and, of one of the user's, the global names that it mentions."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"{path}.{name}", cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    yield from ((f"{path}.default[{place}]", part) for place, part in enumerate(defaults))
    if function.__module__ is None or function.__module__.partition(".")[0] in _LIBRARIES:
        return
    for name in _global_names(function.__code__):
        part = function.__globals__.get(name)
        if not isinstance(part, types.FunctionType) or part.__module__ == function.__module__:
            yield f"{path}.{name}", part


def _global_names(code: types.CodeType) -> Iterator[str]:
    """The global names that a function mentions, and the functions written inside it."""
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _global_names(inner)


def _name(transform: object) -> str:
    return getattr(transform, "__qualname__", type(transform).__name__)
