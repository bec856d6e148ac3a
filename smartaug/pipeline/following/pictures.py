"""`Pictures`: where the images of a batch are, and how large each is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..._base import leaves


@dataclass(frozen=True)
class Pictures:
    """The images of a batch. paths: where they are; rows: B; sizes: height and width of each sample's image."""

    paths: tuple[leaves.Path, ...]
    sizes: Sequence[tuple[int, int]]

    @property
    def rows(self) -> int:
        """The number of samples B."""
        return len(self.sizes)

    @classmethod
    def of(cls, data: leaves.Structure, paths: Sequence[leaves.Path]) -> Pictures:
        """The images at ``paths``: tensors (B, C, H, W), or one list of B tensors (C, H, W)."""
        first = leaves.get(data, paths[0])
        if isinstance(first, Tensor):
            return cls(tuple(paths), [(first.shape[-2], first.shape[-1])] * len(first))
        return cls(tuple(paths), [(image.shape[-2], image.shape[-1]) for image in first])
