"""The results of ``loader.stats()`` and ``loader.explain()``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._base.text_tables import words_table
from ..lift import Lifted
from .augmenting.augmenting import Augmenting
from .stages import name_of
from .weighing import Weighing


def figures(counted: Mapping[str, Any], weighing: Weighing, coreset: object) -> dict[str, Any]:
    """``counted``, the number of batches that fell back to weight 1, and the ``stats()`` of reweighter and coreset."""
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
    fetching: Sequence[tuple[str, str, str]] = (),
    more: Sequence[tuple[str, str, str]] = (),
) -> str:
    """A table of the stages in order: name, where it runs, why; augmentations also list their segments and backends.

    fetching: the rows on how samples are fetched and decoded. more: rows to append.
    """
    rows = [("stage", "runs", "why"), *fetching]
    if coreset is not None:
        own = getattr(coreset, "explain", None)
        drawn = (f"coreset: {name_of(coreset)}", "sampler", "only selected samples are drawn")
        rows += [drawn] if own is None else own()
    rows += [*augmenting.explain(device), *weighing.explain(device)]
    if augmenting.steps:
        rows.insert(1, ("augments", "every batch", "at random; evaluate with a loader without lift= and augment="))
    text = words_table([*rows, *more])
    return text if lifted is None or not lifted.steps else f"{lifted.explain()}\n\n{text}"
