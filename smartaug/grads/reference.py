"""The user's model, held by reference: not copied by deepcopy, left out of pickles, or known only later."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from torch import nn

Model = nn.Module | Callable[[], nn.Module] | None
T = TypeVar("T")


def checked_model(model: object) -> Model:
    """``model`` if it is a module, a callable returning one, or None; else a TypeError."""
    if model is None or (callable(model) and not isinstance(model, type)):
        return model
    got = f"the class {model.__name__}" if isinstance(model, type) else f"{type(model).__name__}: {model!r}"
    raise TypeError(f"model must be a torch.nn.Module, a callable returning one, or None, got {got}; write model=model")


def known_model(model: Model, unknown: str) -> nn.Module:
    """The module, or what the callable ``model`` returns now; RuntimeError(unknown) where there is none yet."""
    found = model if model is None or isinstance(model, nn.Module) else model()
    if found is None:
        raise RuntimeError(unknown)
    return found


def deepcopy_but(original: T, memo: dict[int, object], state: Mapping[str, object], shared: Collection[str]) -> T:
    """A deep copy of ``original`` with the attributes ``state``, of which those in ``shared`` are the same objects."""
    made = type(original).__new__(type(original))
    memo[id(original)] = made
    for name, value in state.items():
        made.__dict__[name] = value if name in shared else copy.deepcopy(value, memo)
    return made
