"""Finds a pipeline that exists: by its key, by a target it made, or of the loader that is built again."""

from __future__ import annotations

from .._base.row_extras.mixed import makers
from ..batch import Target
from ..lift import Lifted
from .pipeline import Pipeline
from .settings import Settings


def live(key: str) -> Pipeline | None:
    """The pipeline of this process with that key; None when it no longer exists."""
    found = makers.get(key)
    return found if isinstance(found, Pipeline) else None


def pipeline_of(target: object) -> Pipeline | None:
    """The pipeline that made a `Target`; None for anything else, or when that pipeline no longer exists."""
    return live(target._key) if isinstance(target, Target) and target._key is not None else None


def shared(earlier: Pipeline | None, settings: Settings, lifted: Lifted | None) -> Pipeline | None:
    """``earlier``, the pipeline of the loader from which a framework builds one again, if its settings are the same.

    So its counts go on. None where there is none, or a setting differs.
    """
    if earlier is None or not settings.is_like(earlier.settings):
        return None
    if (None if earlier.lifted is None else earlier.lifted.augment) is not (lifted and lifted.augment):
        return None
    return earlier
