"""Parts of JPEG files that are decoded a batch at a time, in the loader's process.

What: where a dataset's picture is still a part of a file at the end of what runs in the worker, the worker hands on the
file and the part (`Part`) instead of pixels; those of a batch become one `Parts`, whose bytes lie behind each other.
`on_device` decodes them. When: ``Lift(decode="batch")``. Cost: files are a fifth to a tenth of their pixels, which so
need not go from process to process. Reference: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .encoded import Encoded
from .region import Box
from .resampling import resized

CHANNELS = 3


class Part:
    """The part ``box`` (left, top, right, bottom) of a JPEG file, resized to ``size`` (height, width)."""

    def __init__(self, encoded: Encoded, box: Box, size: tuple[int, int]) -> None:
        self.encoded, self.box, self.size = encoded, box, size
        self._pixels: Tensor | None = None

    def pixels(self) -> Tensor:
        """(3, H, W) uint8, decoded here and now; raises what Pillow raises."""
        if self._pixels is None:
            made = self.encoded.part(self.box)
            if made.shape[:2] != self.size:
                made = resized(made, *self.size)
            self._pixels = torch.from_numpy(made).permute(2, 0, 1).contiguous()
        return self._pixels


def waiting(image: object) -> Part | None:
    """What is to be decoded of a picture, where that may be left to the loader's process; None: of any other image."""
    part = getattr(type(image), "waiting_part", None)  # of `picture.Picture`, which needs Pillow
    made: Part | None = None if part is None else part(image)
    return made


class Parts:
    """The rows of a batch, of which some are parts of files, all of one size; no container, so that nothing enters it.

    data: (N,) uint8, the files behind each other. ends: (n,) int64, where each ends. boxes: (n, 4) int64, left, top,
    right and bottom of the parts. rows: (n,) int64, where in the batch they are. decoded: (B − n, 3, H, W) uint8, the
    other rows in order. keys: (n,) int64, equal for parts of one file. shape: of the batch, (B, 3, H, W).
    """

    ndim = 4

    def __init__(self, data: Tensor, ends: Tensor, boxes: Tensor, rows: Tensor, decoded: Tensor, keys: Tensor) -> None:
        self.data, self.ends, self.boxes, self.rows, self.decoded, self.keys = data, ends, boxes, rows, decoded, keys
        self.shape = (len(rows) + len(decoded), *decoded.shape[1:])

    @classmethod
    def of(cls, rows: Sequence[Part | Tensor]) -> Parts | None:
        """Those of a batch of parts and images (3, H, W); None where sizes or types differ, so that none are made."""
        parts = [(number, row) for number, row in enumerate(rows) if isinstance(row, Part)]
        others = [row for row in rows if isinstance(row, Tensor)]
        sizes = {part.size for _, part in parts}
        if len(sizes) != 1:
            return None
        shape = (CHANNELS, *next(iter(sizes)))
        if any(tuple(row.shape) != shape or row.dtype != torch.uint8 for row in others):
            return None
        decoded = torch.stack(others) if others else torch.empty(0, *shape, dtype=torch.uint8)
        files = [part.encoded.data for _, part in parts]
        return cls(
            torch.from_numpy(np.frombuffer(bytearray().join(files), np.uint8)),
            torch.tensor([len(file) for file in files]).cumsum(0),
            torch.tensor([part.box for _, part in parts]),
            torch.tensor([number for number, _ in parts]),
            decoded,
            torch.tensor([id(part.encoded) for _, part in parts]),
        )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the parts."""
        return self.shape[2], self.shape[3]

    def files(self) -> list[np.ndarray]:
        """The bytes of each file, in place."""
        ends = self.ends.tolist()
        data = self.data.numpy()
        return [data[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]

    def placed(self, made: Tensor) -> Tensor:
        """The batch: ``made`` (n, 3, H, W), the pixels of the parts, and the other rows, on the device of ``made``."""
        if not len(self.decoded):
            return made
        rows = self.rows.to(made.device)
        others = torch.ones(self.shape[0], dtype=torch.bool, device=made.device)
        others[rows] = False
        batch = torch.empty(self.shape, dtype=torch.uint8, device=made.device)
        batch[rows] = made
        batch[others] = self.decoded.to(made.device)
        return batch

    def pin_memory(self, device: Any = None) -> Parts:
        """The same object: the bytes of files are read on the CPU."""
        return self
