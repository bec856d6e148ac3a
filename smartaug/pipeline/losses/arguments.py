"""A call of a criterion: which of its arguments are the output and the target, and the same call with others."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from ...batch import Target

T = TypeVar("T")
Argument = Any  # an argument of a criterion: an output, a target, or whatever else it takes
Place = int | str  # of an argument: its position, or its keyword

# parameter names of the model's output; never "inputs", which is what distillation losses call the images
_OUTPUTS = frozenset(
    ("input", "x", "output", "outputs", "logits", "pred", "preds", "prediction", "predictions", "y_pred", "y_hat")
)


class Places(NamedTuple):
    """The places of the target and of the output among the arguments; output is None where it is unknown."""

    target: Place
    output: Place | None


def by_place(args: tuple[Argument, ...], kwargs: Mapping[str, Argument]) -> dict[Place, Argument]:
    """All arguments of a call, by position or keyword."""
    given: dict[Place, Argument] = dict(enumerate(args))
    given.update(kwargs)
    return given


def places_of(
    criterion: Callable[..., object], args: tuple[Argument, ...], kwargs: Mapping[str, Argument]
) -> Places | None:
    """The places of the output and of the `Target` among the arguments of one call; None without a `Target`.

    The target is the second argument where that is a `Target`, else the first that is one. The output is the first
    argument before such a second one; else what is named like an output (by keyword, or by the criterion's own
    parameters), or the only other argument.
    """
    if len(args) > 1 and isinstance(args[1], Target):
        return Places(1, 0)
    given = by_place(args, kwargs)
    targets = [place for place, value in given.items() if isinstance(value, Target)]
    if not targets:
        return None
    others = [place for place in given if place not in targets]
    names = _positional_names(criterion)
    named = [place for place in others if (names.get(place) if isinstance(place, int) else place) in _OUTPUTS]
    if len(named) == 1:
        return Places(targets[0], named[0])
    positions = [place for place in others if isinstance(place, int)]
    only = positions if len(positions) == 1 and not named else others
    return Places(targets[0], only[0] if len(only) == 1 else None)


def _positional_names(criterion: Callable[..., object]) -> dict[int, str]:
    """The names of the criterion's parameters by position; {} for a criterion without a signature."""
    called = getattr(criterion, "forward", criterion)
    try:
        parameters = inspect.signature(called).parameters.values()
    except (TypeError, ValueError):
        return {}
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return dict(enumerate(one.name for one in parameters if one.kind in positional))


class Call(NamedTuple):
    """One call of a criterion: its arguments, None in the places of the output and the target."""

    args: tuple[Argument, ...]
    kwargs: dict[str, Argument]
    output: Place = 0
    target: Place = 1

    def filled(self, output: Argument, target: Argument) -> tuple[list[Argument], dict[str, Argument]]:
        """All arguments, with this output and target."""
        args, kwargs = list(self.args), dict(self.kwargs)
        for place, value in ((self.output, output), (self.target, target)):
            if isinstance(place, int):
                args[place] = value
            else:
                kwargs[place] = value
        return args, kwargs

    def of(self, criterion: Callable[..., T], output: Argument, target: Argument) -> T:
        """The criterion called with this output and target, and the other arguments of the call."""
        args, kwargs = self.filled(output, target)
        return criterion(*args, **kwargs)

    def row_arguments(self, size: int) -> tuple[list[Place], list[Tensor]]:
        """The further arguments that have ``size`` rows: their places, and their values (size, ...)."""
        given = by_place(self.args, self.kwargs)
        rows = {at: one for at, one in given.items() if isinstance(one, Tensor) and one.ndim > 0 and len(one) == size}
        return list(rows), list(rows.values())

    def with_arguments(self, places: list[Place], values: Sequence[Tensor]) -> Call:
        """The same call with other values in some places."""
        changed = dict(zip(places, values, strict=True))
        args = tuple(changed.get(at, value) for at, value in enumerate(self.args))
        return self._replace(args=args, kwargs={name: changed.get(name, one) for name, one in self.kwargs.items()})


def call_without(args: tuple[Argument, ...], kwargs: Mapping[str, Argument], output: Place, target: Place) -> Call:
    """The call without its output and target."""
    positional = tuple(None if at in (output, target) else one for at, one in enumerate(args))
    named = {name: None if name in (output, target) else one for name, one in kwargs.items()}
    return Call(positional, named, output, target)
