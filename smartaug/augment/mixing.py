"""Segments that put other samples of the batch into each one, beside `plan.Mix`, and partners of the batch.

| segment | from | does |
|---|---|---|
| `Tiles` | Mosaic | puts parts of several samples beside each other |
| `PasteObjects` | CopyPaste | is open: what it pastes depends on the instance masks, see `targets.instances.settled` |
| `Paste` | CopyPaste | `PasteObjects` with the masks known |
| `Parts` | any, on some rows of a batch | moves nothing; labels follow it |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .. import draws
from .plan import Mixing, Segment, Warp

GREY = 114.0  # of 255: what YOLO's trainers fill with


@dataclass(frozen=True)
class Parts(Mixing):
    """What the rows of a batch are made of, for labels. row: (B, C) int64, the row's own first; share: (B, C)."""

    row: Tensor
    share: Tensor

    def parts(self) -> tuple[Tensor, Tensor]:
        """Both fields."""
        return self.row, self.share


@dataclass(frozen=True)
class Tiles(Mixing):
    """Each sample put together from parts of C samples, each resampled as in `Warp` and seen through a rectangle.

    row: (B, C) int64, where each part comes from, the sample itself first. matrix: (B, C, 2, 3) float64, pixels of the
    result to pixels of the part. boxes: (B, C, 4) int64 top, left, height, width of the part in the result; parts do
    not overlap, height 0: none; what a rectangle shows lies inside the part's image. size: height and width of the
    result. fill: where no part is, in the image's own units; None: grey, 114 of 255. whole: every pixel of the result
    falls on one of its part, so nothing is interpolated.
    """

    row: Tensor
    matrix: Tensor
    boxes: Tensor
    size: tuple[int, int]
    interpolation: str = "bilinear"
    fill: tuple[float, ...] | None = None
    whole: bool = False
    mask_fill: float = 0.0

    def warp(self, part: int) -> Warp:
        """How one part of every sample is resampled, without its rectangle."""
        return Warp(self.matrix[:, part], self.size, self.interpolation, padding="edge", grid=self.whole)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """The size it makes."""
        return self.size

    def parts(self) -> tuple[Tensor, Tensor]:
        """The shares are areas of the parts; what is filled in counts for none. A row without a part is its own."""
        area = (self.boxes[..., 2] * self.boxes[..., 3]).double()
        total = area.sum(1, keepdim=True)
        own = torch.zeros_like(area)
        own[:, :1] = 1.0
        return self.row, torch.where(total > 0, area / total.clamp_min(1.0), own).float()


@dataclass(frozen=True)
class PasteObjects(Segment):
    """Some objects of another sample pasted onto each one, as their instance masks say, which a plan does not know.

    partner: (B,) int64 row of the other sample; the row itself: nothing is pasted. key: (B,) int64 stream keys; the
    objects of the partner take their draws from slot 0 on, in their order. share: probability that an object is pasted.
    most: how many at most, those with the lowest draws.
    """

    moves_pixels: ClassVar[bool] = True
    from_others: ClassVar[bool] = True

    partner: Tensor
    key: Tensor
    share: float = 0.5
    most: int | None = None


@dataclass(frozen=True)
class Paste(Segment):
    """Pixels of another sample put over each one's, which are those of P objects.

    partner: (B,) int64 row of the other sample. pasted: (B, H, W) bool, the pixels taken from it. source: (P,) int64,
    which of the batch's M objects are pasted, and receiver: (P,) int64, the samples onto which. Of the M + P objects
    behind it, first those that were there, then the pasted ones: left: (M + P,) float64 share of an object's pixels
    that is not covered; hulls: (M + P, 4) float64 box left, top, right, bottom around what is left, in continuous
    pixels, where left is below 1. It is made for one batch, and has no rows of its own to take.
    """

    moves_pixels: ClassVar[bool] = True
    from_others: ClassVar[bool] = True

    partner: Tensor
    pasted: Tensor
    source: Tensor
    receiver: Tensor
    left: Tensor
    hulls: Tensor


def needs_masks() -> ValueError:
    """The error where CopyPaste meets no instance masks."""
    return ValueError(
        "CopyPaste pastes objects by their instance masks, and none were given; let the dataset give masks (n, H, W), "
        'one a box, beside the boxes, and write smartaug.DataLoader(..., follow={"boxes": "xyxy", "masks": "mask"}); '
        "in a direct call: smartaug.augment.targets.settled(plan, masks, row)"
    )


def cycle(key: Tensor) -> Tensor:
    """(B,) int64: the batch's samples in a random order, from their keys (B,), and for each one the next of it.

    The order is one cycle, so that no sample is its own partner but in a batch of one. It depends on which samples are
    in the batch, and on nothing else of it.
    """
    order = draws.permutation(key)
    partner = torch.empty_like(order)
    partner[order] = order.roll(-1)
    return partner
