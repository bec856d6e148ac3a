"""The user's own dataset behind the copy that a loader reads, to tell whether two datasets are the same."""

from __future__ import annotations

from typing import Any

SOURCE = "_smartaug_source"  # attribute of a copy: what it was made from, see `smartaug.lift.source`


def original(dataset: object) -> Any:
    """The dataset that the user made; ``dataset`` itself where it is not a copy that a loader made."""
    while True:
        inner = getattr(getattr(dataset, "__dict__", {}).get(SOURCE), "dataset", None)
        if inner is None:
            return dataset
        dataset = inner


def refuse_another(mine: object, dataset: object, who: str, keeps: str) -> Any:
    """``original(dataset)``. Raises ValueError unless that is ``mine``, or ``mine`` is None.

    who: name of the object that stores something by sample index of ``mine``; keeps: what it stores (for the error).
    """
    own = original(dataset)
    if mine is not None and own is not mine:
        raise ValueError(
            f"{who} belongs to another dataset: it keeps {keeps} by the index of a sample, and the sample of that "
            f"index is another one here; make another for each dataset"
        )
    return own
