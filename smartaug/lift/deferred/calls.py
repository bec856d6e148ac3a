"""The calls of a transform whose lifted part has not run: what the worker made, and the whole pipeline's result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from torch import Tensor

from ..keyed_draws import KeyedDraws
from ..roles import Role, Rules
from ..watch import Watch
from .rest import Form, Rest

_NO_NAMES: Mapping[str, Any] = MappingProxyType({})


class Caller(Protocol):
    """What is asked of the `DeferredTransform` that was called."""

    watch: Watch | None
    keyed: KeyedDraws
    final_kind: str | None
    rules: Rules

    def whole(self, *given: Any, **named: Any) -> Any:
        """The output of the user's whole pipeline."""
        ...


class Call:
    """One call of a `DeferredTransform`: its arguments, and the whole pipeline's result once it has been computed."""

    finished = False
    result: Any = None
    made: Any = None  # what the worker's transforms made of a sample with targets, none of it deferred
    places: Sequence[Role] = ()  # what of it was deferred, the image first
    form: Form = ""  # "Image" or "Tensor" where the image came as one

    def __init__(self, by: Caller, given: tuple[Any, ...], named: Mapping[str, Any] = _NO_NAMES) -> None:
        self.by, self.given, self.named = by, given, named

    def finish(self, made: Tensor) -> Any:
        """The result of the user's whole pipeline, which runs at the first call only; made: not used."""
        if not self.finished:
            self.result = self.by.whole(*self.given, **self.named)
            self.finished, self.given, self.named, self.made, self.places = True, (), _NO_NAMES, None, ()
        return self.result


class CallOnOne:
    """All calls of a `DeferredTransform` with one image as the only argument, of a form that `rest` restores."""

    finished = False

    def __init__(self, by: Caller, rest: Rest, form: Form) -> None:
        self.by, self.rest, self.form = by, rest, form

    def finish(self, made: Tensor) -> Any:
        """The result of the user's whole pipeline for an image of which the worker's part made ``made``."""
        with self.by.keyed():
            return self.rest(made, self.form)


def final_kind_of(call: Call | CallOnOne) -> str | None:
    """Which kind of tensor the whole pipeline makes of the image, "tensor" or "image"; None: it may be none."""
    final = call.by.final_kind
    known = final if final in ("tensor", "image") else {"Image": "image", "Tensor": "tensor"}.get(str(call.form))
    return None if final == "pil" else known
