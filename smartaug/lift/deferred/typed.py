"""Deferred images and targets that are of torchvision's types, as what they stand for.

What: the attributes that a class defines anew to be both a deferred tensor and a `tv_tensors` type, whose own ones
read memory past ``__torch_function__``. When: joint pipelines of torchvision v2; a second transform, a function of
``v2.functional`` and the user's own ``isinstance`` decide by type, and must take boxes for boxes.
Cost: one class a type, made once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor

_READ = ("shape", "dtype", "device")


def finishing(kind: type, finish: Callable[[Any], None]) -> dict[str, Any]:
    """The attributes of a deferred class of ``kind``. finish: replaces an object by what it stands for, in place."""
    own = kind.__mro__[: kind.__mro__.index(Tensor)]
    known = {name for base in own for name in inspect.get_annotations(base)}
    attributes: dict[str, Any] = {name: _read(name, finish) for name in (*_READ, *sorted(known))}
    attributes["ndim"] = property(lambda deferred: deferred._made.ndim)
    attributes["__repr__"] = lambda deferred: _shown(deferred, finish)
    attributes["wrap"] = staticmethod(lambda wrappee, like, **changes: _wrapped(wrappee, like, finish, changes))
    return attributes


def _read(name: str, finish: Callable[[Any], None]) -> property:
    def read(deferred: Any) -> Any:
        finish(deferred)
        return getattr(deferred, name)

    return property(read)


def _shown(deferred: Any, finish: Callable[[Any], None]) -> str:
    finish(deferred)
    return repr(deferred)


def _wrapped(wrappee: Tensor, like: Any, finish: Callable[[Any], None], changes: dict[str, Any]) -> Any:
    """`tv_tensors.wrap` like a deferred one, which finds this function on its class."""
    from torchvision import tv_tensors

    finish(like)
    return tv_tensors.wrap(wrappee, like=like, **changes)
