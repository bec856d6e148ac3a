"""The last step of most pipelines: (x − mean) / std, as floats.

What: uint8 scaled to [0, 1], then normalised per channel. When: last; tone operations need [0, 1]. Cost: none of its
own, the final write of the plan does it. Reference: torchvision's Normalize.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..augmentation import Augmentation
from ..plan import Plan, Store, Trace, per_channel


class Normalize(Augmentation):
    """Scale uint8 to [0, 1] (floats are taken as they are), then (x − mean) / std, in ``dtype``.

    mean, std: one number, or one per channel, of images in [0, 1]. dtype: None keeps the type of floats, and makes
    uint8 torch's default type. Put it last: tone operations need [0, 1].
    """

    def __init__(
        self,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        *,
        dtype: torch.dtype | None = torch.float32,
        backend: str | None = None,
    ) -> None:
        super().__init__(backend=backend)
        self.mean, self.std = per_channel(mean, "mean"), per_channel(std, "std")
        if any(s <= 0 for s in self.std):
            raise ValueError(f"std must be positive, got {std!r}")
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(f"dtype must be a floating-point type, got {dtype}; write dtype=torch.float32")
        channels = max(len(self.mean), len(self.std))
        self.mean = self.mean * channels if len(self.mean) == 1 else self.mean
        self.std = self.std * channels if len(self.std) == 1 else self.std
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} channels and std {len(self.std)}; give as many of each")
        self.dtype = dtype

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Nothing is drawn: the same final write for all B samples."""
        if len(self.mean) not in (1, shape[1]):
            raise ValueError(f"Normalize has statistics of {len(self.mean)} channels, the images have {shape[1]}")
        return Plan(tuple(shape), (Store(self.mean, self.std, self.dtype),), Trace.empty(shape[0]))
