"""The user's dataset behind the copies that a loader reads: what tells one dataset from another."""

from __future__ import annotations

from typing import Any

SOURCE = "_smartaug_source"  # attribute of a copy: what it was made from, see `smartaug.lift.source`


def original(dataset: object) -> Any:
    """The dataset that the user made; ``dataset`` itself where it is no copy of a loader's."""
    while True:
        inner = getattr(getattr(dataset, "__dict__", {}).get(SOURCE), "dataset", None)
        if inner is None:
            return dataset
        dataset = inner


def refuse_another(mine: object, dataset: object, who: str, keeps: str) -> Any:
    """``original(dataset)`` where that is ``mine``, or ``mine`` is None; else a ValueError.

    who: the object that knows the samples of ``mine`` by their index. keeps: what it keeps of them.
    """
    own = original(dataset)
    if mine is not None and own is not mine:
        raise ValueError(
            f"{who} belongs to another dataset: it keeps {keeps} by the index of a sample, and the sample of that "
            f"index is another one here; make another for each dataset"
        )
    return own
