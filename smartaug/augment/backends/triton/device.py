"""The device that kernels are launched on."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def on(device: torch.device) -> AbstractContextManager[object]:
    """Launches go to ``device``: Triton uses the current one."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
