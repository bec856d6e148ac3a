"""torchvision's transforms, v1 and v2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..augment import Flip
from .steps import State, Step, device, folded


def parts(transform: Any) -> Sequence[Any] | None:
    """The transforms of a v1 or v2 Compose."""
    return list(transform.transforms) if type(transform).__name__ == "Compose" else None


def translate(transform: Any, state: State) -> Step | None:
    """What becomes of a torchvision transform; None: not covered."""
    known = _TRANSLATORS.get(type(transform).__name__)
    return None if known is None else known(transform, state)


def _horizontal_flip(t: Any, state: State) -> Step:
    return device(t, state, Flip(float(t.p)))


def _to_tensor(t: Any, state: State) -> Step:
    return folded(t, state, state.converted((0.0,), (1.0,), torch.get_default_dtype()))


def _normalize(t: Any, state: State) -> Step:
    return folded(t, state, state.converted(list(t.mean), list(t.std)))


_TRANSLATORS: dict[str, Callable[[Any, State], Step]] = {
    "RandomHorizontalFlip": _horizontal_flip,
    "ToTensor": _to_tensor,
    "Normalize": _normalize,
}
