"""`Objects`: boxes, keypoints and polygons of a whole batch as points, whatever their number per sample."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Objects:
    """M objects of K points each, in the images of a batch; a box is its four corners.

    points: (M, K, 2) float64 x and y in continuous pixels, (0, 0) the outer corner of the first pixel and (W, H) the
    far corner of the image. row: (M,) int64, the sample of the batch that an object lies in. origin: (M,) int64, which
    of the objects it was as the batch came; labels follow as ``labels[origin]``. Mixing repeats and drops objects and
    moves them to other rows; everything else leaves row and origin as they are.
    """

    points: Tensor
    row: Tensor
    origin: Tensor

    @classmethod
    def of(cls, points: Tensor, counts: Sequence[int] | Tensor) -> Objects:
        """The objects ``points`` (M, K, 2), of which the first counts[0] lie in sample 0, the next in sample 1, ...

        Raises ValueError unless the counts, one a sample, add up to M.
        """
        counts = torch.as_tensor(counts, dtype=torch.int64, device="cpu")
        if points.ndim != 3 or points.shape[2] != 2 or int(counts.sum()) != len(points):
            raise ValueError(
                f"points must be (M, K, 2) with M the sum of counts, got {tuple(points.shape)} and counts that add up "
                f"to {int(counts.sum())}; give one count a sample"
            )
        row = torch.arange(len(counts), device="cpu").repeat_interleave(counts)
        return cls(points.double(), row, torch.arange(len(points), device="cpu"))

    def __len__(self) -> int:
        return len(self.row)

    def take(self, index: Tensor) -> Objects:
        """The objects at ``index``: (M,) bool, or int64 places, which may repeat."""
        return Objects(self.points[index], self.row[index], self.origin[index])

    def at(self, points: Tensor) -> Objects:
        """The same objects with other points (M, K', 2)."""
        return dataclasses.replace(self, points=points)

    def counts(self, batch: int) -> Tensor:
        """(batch,) int64: how many objects lie in each sample."""
        return torch.bincount(self.row, minlength=batch)

    def by_row(self) -> Objects:
        """The same objects, those of sample 0 first, then those of sample 1, ...; within a sample in their order."""
        return self.take(self.row.argsort(stable=True))


def joined(*parts: Objects) -> Objects:
    """The objects of all ``parts``, which have the same number of points each, one part after the other."""
    return Objects(*(torch.cat([getattr(part, name) for part in parts]) for name in ("points", "row", "origin")))
