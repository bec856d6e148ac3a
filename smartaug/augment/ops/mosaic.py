"""Mosaic: parts of four samples around a random point.

What: a sample and three others of the batch meet at a point, each in one of the four corners, and a window of that
canvas, drawn closer or wider, becomes the image; boxes, keypoints and masks of all four move along and are cut at the
seams; class labels become soft by area. When: detectors, which see four scenes at once, small objects, and objects cut
off; usually not in the last epochs (`set_epoch` and two loaders, or ``p=``). Cost: one resampling of the batch.
Reference: Bochkovskiy et al., "YOLOv4", 2020; the trainers of YOLOv5 to YOLOX, which put four images around a centre in
(0.5, 1.5) of a canvas of twice the size, enlarge it by a factor in (0.5, 1.5), and cut out its middle. Difference: they
draw the three partners freely; here they are the next three in a random order of the batch, so that every image of a
batch is used equally often, and no one twice in a picture of four or more.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ... import draws
from ..checks import Fill, Interpolation, Size, check_fill, height_and_width, interpolation_name
from ..mixing import Tiles, cycle
from ..plan import Plan, Trace, per_channel
from .mix import Labelled


class Mosaic(Labelled):
    """Four samples around a random point, with probability ``p``: the sample and three partners of its batch.

    The canvas is twice as high and wide as an image, and the four meet at a point of it. size: of the result, (height,
    width) or one number; None: that of the images. centre: range of that point along each axis, in sides of an image,
    within (0, 2). scale: range of the enlargement: at 1 the window shows a quarter of the canvas, its middle, at 0.5
    all of it. fill: what no image covers, in the images' own units; None: grey, 114 of 255. mask_fill: that of masks.
    interpolation: where the scale is not 1. num_classes: width of the soft labels; None: the dataset's classes, else
    the largest label seen plus one. regression: the labels are values, and are mixed as they are.

    Which samples are the partners depends on which ones are in the batch, as for `MixUp` and `CutMix`. A sample that
    ``p`` leaves alone is only resized to ``size``, and still serves as a partner.
    """

    def __init__(
        self,
        size: Size | None = None,
        *,
        centre: tuple[float, float] = (0.5, 1.5),
        scale: tuple[float, float] = (0.5, 1.5),
        p: float = 1.0,
        fill: Fill | None = None,
        mask_fill: float = 0,
        interpolation: Interpolation = "bilinear",
        num_classes: int | None = None,
        regression: bool = False,
        backend: str | None = None,
    ) -> None:
        super().__init__(p=p, num_classes=num_classes, regression=regression, backend=backend)
        if not 0 <= centre[0] <= centre[1] <= 2:
            raise ValueError(
                f"centre must be two places 0 ≤ low ≤ high ≤ 2 on a canvas of 2 images a side, got {centre!r}; write "
                "centre=(0.5, 1.5)"
            )
        if not 0 < scale[0] <= scale[1]:
            raise ValueError(f"scale must be two factors 0 < low ≤ high, got {scale!r}; write scale=(0.5, 1.5)")
        self.size = None if size is None else height_and_width(size)
        self.centre, self.scale = (float(centre[0]), float(centre[1])), (float(scale[0]), float(scale[1]))
        self.fill, self.mask_fill = None if fill is None else per_channel(fill, "fill"), float(mask_fill)
        self.interpolation = interpolation_name(interpolation)

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw partners, the point where the four meet, and the window, of the B samples."""
        batch, channels, *side = shape
        if self.fill is not None:
            check_fill(self.fill, channels)
        size = (side[0], side[1]) if self.size is None else self.size
        drawn = draws.uniform(draws.fold(key, 1)) < self.p
        row = _partners(draws.fold(key, 0))
        matrix, boxes = self._placed(draws.fold(key, 2), (side[0], side[1]), size)
        alone = torch.arange(batch)[:, None].expand(-1, 4)
        whole = torch.zeros(4, 4, dtype=torch.int64)
        whole[0, 2], whole[0, 3] = size
        tiles = Tiles(
            torch.where(drawn[:, None], row, alone),
            torch.where(drawn[:, None, None, None], matrix, _resize((side[0], side[1]), size)),
            torch.where(drawn[:, None, None], boxes, whole),
            size,
            self.interpolation,
            self.fill,
            self.scale == (1.0, 1.0) and size == (side[0], side[1]),
            self.mask_fill,
        )
        own = tiles.parts()[1][:, 0] * drawn
        trace = Trace(drawn.long()[:, None], own[:, None], ("Identity", "Mosaic"))
        return Plan(tuple(shape), (tiles,), trace)

    def _placed(self, key: Tensor, side: tuple[int, int], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Matrices (B, 4, 2, 3) and rectangles (B, 4, 4) of the four parts, the sample's own in a random corner."""
        drawn = draws.uniform(key, (3,), dtype=torch.float64)
        corner = (draws.integers(key, 4, start=3)[:, None] + torch.arange(4)) % 4
        low, high = self.scale
        enlarged = low + (high - low) * drawn[:, 2]
        matrix = torch.zeros(len(key), 4, 2, 3, dtype=torch.float64)
        spans = []
        for axis, (length, wanted) in enumerate(zip(side, size, strict=True)):
            meet = ((self.centre[0] + (self.centre[1] - self.centre[0]) * drawn[:, axis]) * length).round()
            start = (length - length / (2 * enlarged)).floor()  # of the window, in whole pixels of the canvas
            zoom = enlarged * wanted / max(1, length)
            beyond = corner // 2 == 1 if axis == 0 else corner % 2 == 1  # below, or right of, where the four meet
            first = meet[:, None] - length * ~beyond  # the canvas's pixel where the part's image begins
            step = (1.0 / zoom)[:, None]
            matrix[:, :, 1 - axis, 1 - axis] = step
            matrix[:, :, 1 - axis, 2] = start[:, None] + 0.5 * step - 0.5 - first
            ends = torch.stack([first, first + length]).clamp(0, 2 * length)  # cut off where the canvas ends
            ends = (ends - start[:, None]) * zoom[:, None] - 0.5
            begin, end = ends.ceil().clamp(0, wanted).long().unbind(0)
            spans.append((begin, end - begin))
        (top, tall), (left, wide) = spans
        return matrix, torch.stack([top, left, tall, wide], -1)


def _partners(key: Tensor) -> Tensor:
    """(B, 4) int64: each sample and the three that come after it in a random order of the batch."""
    following = cycle(key)
    rows = [torch.arange(len(following)), following]
    rows += [following[following], following[following[following]]]
    return torch.stack(rows, 1)


def _resize(side: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """(2, 3) float64: the whole image in all of the result."""
    down, across = side[0] / size[0], side[1] / size[1]
    rows = [[across, 0.0, across / 2 - 0.5], [0.0, down, down / 2 - 0.5]]
    return torch.tensor(rows, dtype=torch.float64)
