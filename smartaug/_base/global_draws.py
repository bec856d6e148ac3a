"""Whether loading a batch in a worker drew from the global random generators (torch's, `random`'s, NumPy's).

A worker records their states when it receives the keys of a batch, and compares them after collating. smartaug's own
code restores the generators, so a difference means that the dataset or its collate function drew from them or seeded
them. Generators that are attributes of the dataset are not checked. Cost: about 0.08 ms a batch.
"""

from __future__ import annotations

import random

import numpy as np
import torch

_noted: tuple[object, ...] | None = None
_found = False  # once True it stays True, and nothing more is compared


def note() -> None:
    """Record the states before the samples of a batch are loaded."""
    global _noted
    if not _found:
        _noted = _states()


def changed() -> bool:
    """Whether the states differ from those recorded, for this batch or an earlier one; False if none were recorded."""
    global _noted, _found
    if _noted is not None:
        _found = _noted != _states()
        _noted = None
    return _found


def _states() -> tuple[object, ...]:
    numpy = np.random.get_state(legacy=False)
    own = {**numpy, "state": {name: _bytes(part) for name, part in numpy["state"].items()}}
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), own


def _bytes(part: object) -> object:
    return part.tobytes() if isinstance(part, np.ndarray) else part
