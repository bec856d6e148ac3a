"""Which of several pipelines a dataset calls for its first sample.

What: in a copy of the dataset every pipeline is replaced by one that notes its calls, and sample 0 is read, with the
global random generators forked. Samples that call another one later get what that gives: see `holders`. When: a dataset
reaches several pipelines. Cost: reading one sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .copies import replaced
from .search import Reached


class Noting:
    """A pipeline that adds its number to ``calls`` each time it is called."""

    def __init__(self, pipeline: Any, number: int, calls: list[int]) -> None:
        self._pipeline, self._number, self._calls = pipeline, number, calls

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the pipeline gives."""
        self._calls.append(self._number)
        return self._pipeline(*args, **kwargs)

    @property  # type: ignore[misc]
    def __class__(self) -> type[Any]:
        """The user's class, for datasets that ask ``isinstance(self.transform, A.Compose)``."""
        return type(self._pipeline)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("_pipeline", "_number", "_calls"):
            raise AttributeError(name)
        return getattr(self._pipeline, name)


def called(dataset: Any, reached: Sequence[Reached], read: Callable[[Any], Any]) -> list[Reached]:
    """Those of the ``reached`` pipelines that are called when ``read(copy of the dataset)`` reads the first sample.

    Empty where it cannot be read.
    """
    calls: list[int] = []
    values = {id(one.pipeline): Noting(one.pipeline, number, calls) for number, one in enumerate(reached)}
    try:
        read(replaced(dataset, values))
    except Exception:  # the user's code may raise anything; what follows reads the sample again, and says so
        return []
    return [reached[number] for number in sorted(set(calls))]
