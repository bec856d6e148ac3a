"""The samples that a plan is being drawn for, for policies whose magnitudes differ between samples.

Draws depend on keys alone, and keys do not tell the sample; so whoever knows the dataset indices states them around the
call of `Augmentation.sample`, and a policy asks for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

import torch
from torch import Tensor

_INDEX: ContextVar[Tensor | None] = ContextVar("index", default=None)


@contextmanager
def drawing_for(index: Tensor | None) -> Iterator[None]:
    """Plans drawn inside are for the samples ``index`` (B,) int64; None: it is not known which."""
    token = _INDEX.set(index)
    try:
        yield
    finally:
        _INDEX.reset(token)


def drawn_for(rows: int) -> Tensor | None:
    """(rows,) int64: the samples of the plan that is being drawn; None where they are not known.

    Raises RuntimeError where the plan is of other rows than those that were stated.
    """
    index = _INDEX.get()
    if index is not None and len(index) != rows:
        raise RuntimeError(
            f"a plan of {rows} rows is drawn inside one of {len(index)} samples, so which sample is which is not "
            "known; an augmentation that draws for a part of a batch cannot hold a policy with magnitudes per sample"
        )
    return index


def on_cpu() -> AbstractContextManager[object]:
    """Plans are made on the CPU, whatever `torch.set_default_device` says."""
    return nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu")
