"""Small tensors of a batch go from workers to the main process by value.

What: torch sends every tensor of a batch through a file of its own in shared memory, which the main process must open,
about 0.2 ms each. That pays for stacked images, and not for the boxes and labels of each sample: memory of up to
`LIMIT` bytes is sent with the rest of the batch instead. When: lists of tensors beside images, as for detection. Cost:
a copy of these bytes; it saves most of what such a batch costs, and open files.
"""

from __future__ import annotations

import io
import pickle
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch

LIMIT = 1 << 14  # bytes; a copy of more takes as long as the file


class _ByValue(ForkingPickler):
    """Pickles as processes do for each other, but small memory of tensors on the CPU as bytes."""

    def reducer_override(self, given: Any) -> Any:
        """How to rebuild ``given``; NotImplemented: as ever."""
        if type(given) is not torch.UntypedStorage or given.device.type != "cpu" or given.nbytes() > LIMIT:
            return NotImplemented
        return _storage, (torch.empty(0, dtype=torch.uint8, device="cpu").set_(given).numpy().tobytes(),)


def _storage(content: bytes) -> torch.UntypedStorage:
    """Memory of its own with this content."""
    if not content:
        return torch.UntypedStorage(0)
    return torch.frombuffer(bytearray(content), dtype=torch.uint8).untyped_storage()


def dumps(given: Any) -> bytes:
    """``given`` for another process; `loads` reads it."""
    written = io.BytesIO()
    _ByValue(written, pickle.HIGHEST_PROTOCOL).dump(given)
    return written.getvalue()


loads = pickle.loads
