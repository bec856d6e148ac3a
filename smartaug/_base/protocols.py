"""What each keyword of a loader or method accepts; for anything else, a TypeError that says what to write.

The folders of smartaug do not import each other's classes, so an object is recognised by its methods and by the names
of the parameters that it is called with.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn


class Kind(NamedTuple):
    """One kind of object. what: its description; call: names of its call's arguments; example: code to write."""

    what: str
    call: tuple[str, ...]
    example: str


KINDS = {
    "augment": Kind(
        "an augmentation, a Kornia module or a callable on a batch", ("images",), "augment=smartaug.RandAugment()"
    ),
    "reweight": Kind("a reweighter", ("batch", "trace"), "reweight=smartaug.SAFLEX(model, val_set)"),
    "coreset": Kind("a coreset", (), "coreset=smartaug.Coreset(0.3)"),
    "select": Kind("a criterion", ("embedding", "budget", "generator"), "select=smartaug.coreset.RandomSubset()"),
    "policy": Kind(
        "an augmentation that draws from probabilities",
        (),
        "policy = smartaug.RandAugment(num_ops=2) and give it to augment= as well",
    ),
    "rule": Kind(
        "a callable (B, log_p, batch) -> (weight, soft)",
        ("B", "log_p", "batch"),
        "rule=lambda B, log_p, batch: (B.clamp_min(0).sum(1), None)",
    ),
    "criterion": Kind("a callable (logits, labels) -> loss", ("logits", "labels"), "criterion=nn.CrossEntropyLoss()"),
    "visible": Kind("a callable (batch, trace) -> (B,)", ("batch", "trace"), "visible=None, which reads Erase"),
    "transform": Kind("a callable on a batch of inputs", ("inputs",), "transform=smartaug.Normalize(mean, std)"),
}
_METHODS = (  # an object with all of these methods belongs to the keyword, whatever its call looks like
    ("coreset", ("budget", "selection")),
    ("coreset", ("choose_rows",)),
    ("reweight", ("weigh",)),
    ("augment", ("sample", "plan", "apply")),
)
_FIRST: dict[tuple[str, ...], str] = {  # names of the first parameters -> the keyword
    ("embedding", "budget"): "select",
    ("batch", "trace"): "reweight",
    ("B", "log_p"): "rule",
    ("input", "target"): "criterion",
}
_REMEDY = {
    "select": "coreset=smartaug.Coreset(0.3, select={})",
    "rule": "reweight=smartaug.reweight.ByRule({}, model, val_set)",
    "criterion": "criterion = smartaug.Loss({})",
}
_ALIKE = {("transform", "augment"), ("visible", "reweight")}  # (keyword, kind): both are called with the same arguments
_PER_SAMPLE = "albumentations"
_POLICY = ("probabilities", "entries", "num_ops")


def refuse_other(keyword: str, given: object) -> None:
    """Raise a TypeError that names ``given`` and says what to write, unless ``keyword`` accepts ``given``."""
    kind = KINDS[keyword]
    if inspect.isclass(given):
        raise TypeError(
            f"{keyword} got the class {given.__name__}; make an object of it: {keyword}={given.__name__}(...)"
        )
    own = _is_policy(given) if keyword == "policy" else belongs_to(given) == keyword
    if own and not (keyword == "coreset" and not _selects(given)):
        return
    other = belongs_to(given)
    if other not in (None, keyword) and (keyword, other) not in _ALIKE:
        remedy = _REMEDY.get(other, f"{other}={{}}").format(_shown(given))
        raise TypeError(
            f"{keyword} got {_shown(given)}, which is {KINDS[other].what}: write {remedy}; {keyword} must be "
            f"{kind.what}, such as {kind.example}"
        )
    if not callable(given) or not kind.call:
        raise TypeError(
            f"{keyword} must be {kind.what}, got {type(given).__name__}: {_shown(given)}; write {kind.example}"
        )
    if type(given).__module__.partition(".")[0] == _PER_SAMPLE:
        raise TypeError(
            f"{keyword} got albumentations' {type(given).__name__}, which works on one sample, not on a batch; give it "
            "to the dataset and write lift=True, or write smartaug.AugmentedDataset(dataset, transform)"
        )
    if not _takes(given, len(kind.call)):
        raise TypeError(
            f"{keyword} is called with ({', '.join(kind.call)}), and {_shown(given)} takes {_signature(given)}; write "
            f"{kind.example}, or a callable of {_counted(len(kind.call))}"
        )


def belongs_to(given: object) -> str | None:
    """The keyword that an object belongs to; None where its methods and parameters do not show it."""
    for keyword, methods in _METHODS:
        if all(callable(getattr(given, name, None)) for name in methods):
            return keyword
    if isinstance(given, nn.Module) and type(given).__module__.partition(".")[0] in ("kornia", "torchvision"):
        return None if _first(given)[:1] == ("x",) else "augment"  # torchvision has networks, too
    names = _first(given)
    return "augment" if names[:1] == ("images",) else _FIRST.get(names[:2])


def _is_policy(given: object) -> bool:
    return all(hasattr(given, name) for name in _POLICY)


def _selects(given: Any) -> bool:  # Any: an object with the methods of a coreset
    """Whether a coreset's ``budget`` and ``selection``, or ``choose_rows``, accept as many arguments as are passed."""
    if not hasattr(given, "budget"):
        return _takes(given.choose_rows, 2)
    return _takes(given.budget, 1) and _takes(given.selection, 3)


def _called(given: Callable[..., object]) -> Callable[..., object]:
    """The function that a call of the object runs: ``forward`` for a module."""
    return given.forward if isinstance(given, nn.Module) and type(given).__call__ is nn.Module.__call__ else given


def _parameters(given: object) -> inspect.Signature | None:
    """The signature of the call; None for objects without one (some builtins, and what cannot be called)."""
    try:
        return inspect.signature(_called(given)) if callable(given) else None
    except (TypeError, ValueError):
        return None


def _first(given: object) -> tuple[str, ...]:
    signature = _parameters(given)
    return () if signature is None else tuple(signature.parameters)


def _takes(given: object, count: int) -> bool:
    signature = _parameters(given)
    if signature is None:
        return True
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def _signature(given: object) -> str:
    signature = _parameters(given)
    names = (
        ()
        if signature is None
        else tuple(map(str, signature.replace(return_annotation=inspect.Signature.empty).parameters))
    )
    return f"({', '.join(names)})"


def _counted(count: int) -> str:
    return "1 argument" if count == 1 else f"{count} arguments"


def _shown(given: object) -> str:
    name = getattr(given, "__name__", None)
    shown = name if isinstance(name, str) else repr(given)
    return shown if len(shown) <= 80 else f"a {type(given).__name__}"
