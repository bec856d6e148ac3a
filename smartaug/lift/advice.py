"""What to write for a transform that cannot be lifted: one clause for tables and messages.

What: the user's own object that calls a pipeline, a function whose globals are left alone, and MONAI's dictionary
transforms, of which those that smartaug has an augmentation for are named. When: a transform that no translator knows.
Cost: a look at its attributes.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any

from .holders.functions import names_of, plain
from .steps import Transform

# MONAI's transform -> smartaug's augmentation for 2-D images; none of values, which have other units there
_MONAI = {
    "RandAffined": "Affine(...)",
    "RandAxisFlipd": "Flip(p={p})",
    "RandCoarseDropoutd": "Erase(p={p})",
    "RandFlipd": "Flip(p={p})",
    "RandRotated": "Affine(degrees=...)",
    "RandSpatialCropd": "Crop(...)",
    "RandZoomd": "Affine(scale=...)",
}


def advice(transform: Transform, held: Sequence[str]) -> str:
    """What to write for ``transform``, beginning with a semicolon, or nothing. held: its attributes with pipelines."""
    if type(transform).__module__.partition(".")[0] == "monai":
        return _of_monai(transform)
    if not held:
        return of_function(transform)
    if len(held) > 1:
        return (
            f"; lift each of the pipelines in its attributes {', '.join(held)} by itself: lifted = "
            "smartaug.lift(pipeline), lifted.head in its place, and in the loop lifted.augment(images, view=number) on "
            "what each made"
        )
    return (
        f"; the pipeline in its attribute {held[0]} is lifted by itself: lifted = smartaug.lift(pipeline), then "
        "lifted.head in its place, and augment=lifted.augment instead of lift=True"
    )


def of_function(function: Transform) -> str:
    """What to write for a function whose globals are left alone, or nothing; see `holders.functions`."""
    own = plain(function)
    why = names_of(own).why if isinstance(own, types.FunctionType) else None
    if why is None:
        return ""
    first = own.__code__.co_varnames[0] if own.__code__.co_argcount else "image"
    return (
        f"; it {why}, so the globals that it reads are not taken over: give it the pipeline as an argument with a "
        f"default, {own.__name__}({first}, pipeline=pipeline)"
    )


def _of_monai(transform: Transform) -> str:
    known = [one for one in _singles(transform) if type(one).__name__ in _MONAI]
    if not known:
        return "; MONAI's transforms are not lifted, and smartaug has none of these: leave lift=True out"
    lines = [_MONAI[type(one).__name__].format(p=getattr(one, "prob", "...")) for one in known]
    names, written = ", ".join(type(one).__name__ for one in known), ", ".join(f"smartaug.{line}" for line in lines)
    return (
        f"; MONAI's transforms are not lifted: for 2-D images take {names} out of this Compose, and write "
        f"augment=[{written}], for a key with a mask "
        'also follow={"label": "mask"}, instead of lift=True'
    )


def _singles(transform: Any) -> list[Any]:
    """The transforms in MONAI's containers."""
    inside = getattr(transform, "transforms", None)
    return [transform] if not isinstance(inside, (list, tuple)) else [one for part in inside for one in _singles(part)]
