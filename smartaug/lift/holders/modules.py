"""A module some of whose members have other values, for functions that read them as ``module.member``."""

from __future__ import annotations

import importlib
import types
from collections.abc import Mapping
from typing import Any

from .functions import Step

_OWN = "_smartaug_own"


class ModuleWith(types.ModuleType):
    """``module`` with other values of some members, each as long as the module has the member that it had then.

    All others are read from and written to the module.
    """

    def __init__(self, module: types.ModuleType, inside: Mapping[Step, Any] | None = None) -> None:
        super().__init__(module.__name__)
        before: dict[str, tuple[Any, Any]] = {}
        if isinstance(module, ModuleWith):
            module, before = vars(module)[_OWN]
        vars(self).clear()
        vars(self)[_OWN] = module, dict(before)
        self.smartaug_fill(inside or {})

    def smartaug_fill(self, inside: Mapping[Step, Any]) -> None:
        """Put ``inside`` in the places of members."""
        module, values = vars(self)[_OWN]
        for (_, name), value in inside.items():
            taken = values[name][0] if name in values else getattr(module, name)
            values[name] = taken, value

    def __getattr__(self, name: str) -> Any:
        module, values = vars(self)[_OWN]
        now = getattr(module, name)
        taken, value = values.get(name, (None, now))
        return value if now is taken else now

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(vars(self)[_OWN][0], name, value)

    def __delattr__(self, name: str) -> None:
        delattr(vars(self)[_OWN][0], name)

    def __reduce__(self) -> Any:
        module, values = vars(self)[_OWN]
        return _module, (module.__name__,), {("member", name): value for name, (_, value) in values.items()}

    def __setstate__(self, inside: Mapping[Step, Any]) -> None:
        self.smartaug_fill(inside)


def _module(name: str) -> ModuleWith:
    return ModuleWith(importlib.import_module(name))
