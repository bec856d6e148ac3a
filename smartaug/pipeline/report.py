"""What a pipeline says of itself: its counts, and the table of its stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._base.text_tables import words_table
from ..lift import Lifted
from .augmenting import Augmenting
from .stages import name_of
from .weighing import Weighing


def figures(counted: Mapping[str, Any], weighing: Weighing, coreset: object) -> dict[str, Any]:
    """What was counted, the batches that fell back to weight 1, and what the stages themselves report."""
    made: dict[str, Any] = {**counted, "fallbacks": weighing.fallbacks()}
    for name, stage in (("reweight", weighing.reweight), ("coreset", coreset)):
        own = getattr(stage, "stats", None)
        if own is not None:
            made[name] = own()
    return made


def table(
    device: str,
    augmenting: Augmenting,
    weighing: Weighing,
    *,
    coreset: object = None,
    lifted: Lifted | None = None,
    fetching: tuple[str, str, str] | None = None,
    more: Sequence[tuple[str, str, str]] = (),
) -> str:
    """Every stage in order, where it runs, and why; below a plan's stages its segments and backends.

    fetching: a row on how samples are fetched. more: rows for the end.
    """
    rows = [("stage", "runs", "why")]
    if fetching is not None:
        rows.append(fetching)
    if coreset is not None:
        own = getattr(coreset, "explain", None)
        drawn = (f"coreset: {name_of(coreset)}", "sampler", "only selected samples are drawn")
        rows += [drawn] if own is None else own()
    rows += [*augmenting.explain(device), *weighing.explain(device)]
    if augmenting.steps:
        rows.insert(1, ("augments", "every batch", "at random; evaluate with a loader without lift= and augment="))
    text = words_table([*rows, *more])
    return text if lifted is None or not lifted.steps else f"{lifted.explain()}\n\n{text}"
