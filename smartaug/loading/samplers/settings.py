"""What a sampler of the user's holds that its order may depend on, to compare when a state is loaded.

What: numbers, texts, tensors, arrays and random generators among the attributes of a sampler and of the sampler in it.
A sampler that counts its own passes, or draws from a generator of NumPy, starts over in a new process; torch's global
generator and those in an attribute ``generator`` are in the loader's state. When: a pass begins, a state is saved or
loaded. Cost: a checksum of the tensors and arrays.
"""

from __future__ import annotations

import random
import zlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .coreset import CoresetSampler, Share

# set by `set_epoch`, which a state carries; of the rank, whose state may be that of rank 0; in the state anyway
_ELSEWHERE = ("epoch", "rank", "generator", "batch_size", "drop_last", "dataset")
_LISTED = 1000  # longer lists are not looked at


def sampler_settings(sampler: object) -> list[str]:
    """``name=value`` of each such attribute; nothing of samplers that have a state of their own."""
    own = getattr(sampler, "_sampler", sampler)  # not the stand-in of a loader's
    inner = getattr(own, "sampler", None)
    found = [] if inner is None else sampler_settings(inner)
    if isinstance(own, (CoresetSampler, Share)) or hasattr(own, "state_dict"):
        return found
    values = ((name, _text(value)) for name, value in getattr(own, "__dict__", {}).items() if name not in _ELSEWHERE)
    return [f"{type(own).__name__}.{name}={text}" for name, text in sorted(values) if text is not None] + found


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    if isinstance(value, (list, tuple)) and len(value) <= _LISTED:
        return _sum(repr(value).encode()) if all(isinstance(one, (bool, int, float, str)) for one in value) else None
    if isinstance(value, Tensor):
        return None if value.is_meta else _sum(repr(value.shape).encode() + value.detach().cpu().numpy().tobytes())
    if isinstance(value, np.ndarray):
        return _sum(value.tobytes())
    if isinstance(value, random.Random):
        return _sum(repr(value.getstate()).encode())
    if isinstance(value, torch.Generator):
        return _sum(value.get_state().cpu().numpy().tobytes())
    if isinstance(value, (np.random.Generator, np.random.RandomState)):
        state = value.bit_generator.state if isinstance(value, np.random.Generator) else value.get_state(legacy=False)
        return _sum(repr([(name, _plain(part)) for name, part in sorted(state.items())]).encode())
    return None


def _plain(part: Any) -> object:
    if isinstance(part, dict):
        return [(name, _plain(value)) for name, value in sorted(part.items())]
    return part.tolist() if isinstance(part, np.ndarray) else part


def _sum(content: bytes) -> str:
    return f"checksum {zlib.crc32(content):08x}"
