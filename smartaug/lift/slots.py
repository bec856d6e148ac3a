"""Which attribute of a dataset holds its pipeline.

``transform`` and ``transforms`` come first. Otherwise it is the only attribute that holds transforms of a known
library. A wrong choice cannot give wrong images: what is lifted runs only on images that the attribute's transform
returned (see `deferred`).
"""

from __future__ import annotations

import inspect

from . import registry
from .steps import Transform, UserDataset

NAMED = "_smartaug_slot"  # attribute of a copy: which of its attributes was lifted, if none of `_USUAL`
_USUAL = ("transform", "transforms")


def slot(dataset: UserDataset) -> tuple[str, Transform] | None:
    """The attribute that holds a dataset's pipeline, and the pipeline; None: there is none, or more than one."""
    for name in _USUAL:
        if inspect.getattr_static(dataset, name, None) is None:
            continue  # found by __getattr__ only: it belongs to a dataset inside, and cannot be replaced here
        value = getattr(dataset, name, None)
        if value is not None and (callable(value) or registry.parts(value) is not None):
            return name, value
    own = getattr(dataset, "__dict__", {})
    if NAMED in own:
        return own[NAMED], own[own[NAMED]]
    found = registry.pipelines_of(dataset)
    return found[0] if len(found) == 1 else None


def no_slot(dataset: UserDataset) -> str:
    """Why `slot` is None, and what to write."""
    kind, several = type(dataset).__name__, ", ".join(name for name, _ in registry.pipelines_of(dataset))
    apart = (
        "take it apart yourself: lifted = smartaug.lift(pipeline), lifted.head for each sample, augment=lifted.augment"
    )
    if several:
        return (
            f"{kind} keeps several pipelines ({several}), and which makes the images cannot be known; keep that one in "
            f"self.transform, or {apart}"
        )
    return (
        f"{kind} keeps no pipeline of a known library in an attribute; keep it in self.transform, or where a function "
        f"holds it {apart}"
    )
