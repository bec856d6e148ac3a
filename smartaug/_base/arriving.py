"""Tensors on their way from a device to the CPU: copied without waiting, and handed on once they are there."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Take = Callable[..., None]


class Arriving:
    """Groups of tensors, each handed to its ``take`` in the order in which they were added."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Any, tuple[Tensor | None, ...], Take]] = deque()

    def add(self, device: torch.device, parts: tuple[Tensor | None, ...], take: Take) -> None:
        """Call ``take(*parts)`` with the parts on the CPU: at once, or after a later `add` or `flush` on a device."""
        if device.type not in ("cuda", "xpu"):
            take(*(None if part is None else part.cpu() for part in parts))
            return
        # a copy to the CPU that is not waited for lands in pinned memory
        moved = tuple(None if part is None else part.to("cpu", non_blocking=True) for part in parts)
        arrived = torch.get_device_module(device).Event()
        arrived.record()
        self._waiting.append((arrived, moved, take))
        while self._waiting and self._waiting[0][0].query():
            self._hand_on()

    def flush(self) -> None:
        """Wait for all that is still on its way."""
        while self._waiting:
            self._waiting[0][0].synchronize()
            self._hand_on()

    def _hand_on(self) -> None:
        _, parts, take = self._waiting.popleft()
        take(*parts)

    def __getstate__(self) -> dict[str, object]:
        self.flush()
        return {"_waiting": deque()}
