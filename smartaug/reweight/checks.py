"""Argument checks of methods that learn from validation data; each error says what to write."""

from __future__ import annotations


def check_choices(scope: str, statistics: str, method: str, when: str) -> None:
    """Raise a ValueError for a word that an argument does not take."""
    if scope not in ("full", "head"):
        raise ValueError(f'scope must be "full" or "head", got {scope!r}; write scope="full"')
    if statistics not in ("running", "batch"):
        raise ValueError(f'statistics must be "running" or "batch", got {statistics!r}; write statistics="running"')
    if method not in ("jvp", "difference"):
        raise ValueError(f'method must be "jvp" or "difference", got {method!r}; write method="jvp"')
    if when not in ("batch", "loss"):
        raise ValueError(f'when must be "batch" or "loss", got {when!r}; write when="batch"')


def check_batches(every: int, weigh_every: int, warmup: int) -> None:
    """Raise a ValueError unless each is a number of batches."""
    for name, value, least in (("every", every, 1), ("weigh_every", weigh_every, 1), ("warmup", warmup, 0)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name} must be a number of batches ≥ {least}, got {value!r}; write {name}={least}")
