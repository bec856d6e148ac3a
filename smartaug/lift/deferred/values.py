"""Boxes, keypoints and labels that are lists or arrays (albumentations), before the lifted transforms ran.

What: a stand-in that becomes, at any use, the part of the whole pipeline's result that it stands for. When: lifted
albumentations pipelines with ``bbox_params`` or ``keypoint_params``. Cost: none unless it is used.
"""

from __future__ import annotations

import itertools
import operator
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..._base import leaves

finishes = itertools.count()  # incremented whenever something deferred is finished, in any thread
_looking = threading.local()  # .on: see `looking`


@contextmanager
def looking() -> Iterator[None]:
    """A context in which ``isinstance`` takes a `DeferredValue` for what it is: no container, and not used."""
    before = getattr(_looking, "on", False)
    _looking.on = True
    try:
        yield
    finally:
        _looking.on = before


class DeferredValue:
    """One value of a `Call`, at ``_path`` of its result; it passes every use on to that value."""

    __slots__ = ("_call", "_kind", "_made", "_path", "_used")

    def __init__(self, call: Any, path: leaves.Path, made: Any, kind: str) -> None:
        self._call, self._path, self._made, self._kind, self._used = call, path, made, kind, False

    def value(self) -> Any:
        """The part of the whole pipeline's result."""
        next(finishes)
        return leaves.get(self._call.finish(self._made), self._path)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """What ``isinstance`` asks for: the user's code must take a list for a list."""
        return DeferredValue if getattr(_looking, "on", False) else type(self.value())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.value(), name)

    def __bool__(self) -> bool:
        return bool(self.value())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.value(), dtype=dtype, copy=True if copy is None else copy)

    def __len__(self) -> int:
        return len(self.value())

    def __iter__(self) -> Iterator[Any]:
        return iter(self.value())

    def __getitem__(self, key: Any) -> Any:
        return self.value()[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self.value()[key] = value

    def __neg__(self) -> Any:
        return -self.value()

    def __delitem__(self, key: Any) -> None:
        del self.value()[key]

    def __contains__(self, one: object) -> bool:
        return one in self.value()

    def __eq__(self, other: object) -> Any:
        return self.value() == other

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self.value())

    def __copy__(self) -> Any:
        return self.value()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self.value()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _same, (self.value(),)


def _binary(of: Callable[[Any, Any], Any], *, reflected: bool = False) -> Callable[[DeferredValue, Any], Any]:
    """A method that applies ``of`` to the value, which in-place operators such as ``+=`` change where it lies."""
    if reflected:
        return lambda deferred, other: of(other, deferred.value())
    return lambda deferred, other: of(deferred.value(), other)


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"):
    setattr(DeferredValue, f"__{_name}__", _binary(getattr(operator, _name)))
    setattr(DeferredValue, f"__r{_name}__", _binary(getattr(operator, _name), reflected=True))
    setattr(DeferredValue, f"__i{_name}__", _binary(getattr(operator, f"i{_name}")))
for _name in ("ne", "lt", "le", "gt", "ge"):
    setattr(DeferredValue, f"__{_name}__", _binary(getattr(operator, _name)))


def _same(value: Any) -> Any:
    return value
