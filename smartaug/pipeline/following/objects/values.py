"""Values of boxes and keypoints that cannot be what ``follow=`` says: they would be moved to wrong places, or dropped.

What: NaN, negative sides, fractions of the image's sides that are called pixels, and pixels that are called fractions,
raise a ValueError that says what to write. When: each batch, before boxes move. Cost: a look at (M, 4) values.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ....augment.targets.kinds import UPRIGHT, Boxes

_ROUNDING = 1e-3  # of sides that were computed from corners
_FAR = 2.0  # sides of the image: no box of it is so large


def check_boxes(boxes: Tensor, kind: Boxes, counts: Tensor, shown: str, seen: dict[object, bool]) -> None:
    """Raise a ValueError for boxes (M, 4) of all samples that are none, or of another format.

    counts: (B,) int64 boxes of each sample. seen: cache of one loader, of leaves that were seen to be in pixels.
    """
    if not boxes.numel():
        return
    values = boxes.detach().to("cpu", torch.float64)
    _refuse(~values.isfinite().all(1), values, counts, shown, "which is no place; leave such boxes out in the dataset")
    if kind.format not in UPRIGHT:
        return
    sides = values[:, 2:] - values[:, :2] if kind.format == "xyxy" else values[:, 2:]
    other = "right and bottom sides before left and top" if kind.format == "xyxy" else "a side below 0"
    fitting = "write 'xywh' if the last two are width and height" if kind.format == "xyxy" else "write 'xyxy' if they "
    fitting += "" if kind.format == "xyxy" else "are corners"
    _refuse((sides < -_ROUNDING).any(1), values, counts, shown, f'which as "{kind.format}" has {other}; {fitting}')
    if kind.format == "yolo":
        advice = 'and "yolo" counts in sides of the image; write "cxcywh" for pixels'
        _refuse((values.abs() > _FAR).any(1), values, counts, shown, advice)
        return
    advice = 'write "yolo" for centre, width and height in fractions, or let the dataset multiply them by the sides'
    _refuse_fractions(values, shown, advice, seen)


def check_points(points: Tensor, shown: str, seen: dict[object, bool]) -> None:
    """Raise a ValueError for points (..., 2 or 3) of all samples that are fractions of the images' sides."""
    values = points.detach().to("cpu", torch.float64).flatten(0, -2)
    labelled = values[values[:, 2] > 0] if values.shape[1] == 3 else values
    _refuse_fractions(labelled[:, :2], shown, "let the dataset multiply them by the sides, width and height", seen)


def _refuse(wrong: Tensor, values: Tensor, counts: Tensor, shown: str, what: str) -> None:
    if bool(wrong.any()):
        first = int(wrong.nonzero()[0])
        row = int((counts.cumsum(0) <= first).sum())
        box = [round(value, 4) for value in values[first].tolist()]
        raise ValueError(f"{shown} has the box {box} in row {row} of the batch, {what}")


def _refuse_fractions(values: Tensor, shown: str, advice: str, seen: dict[object, bool]) -> None:
    """All places of a batch within the first pixel, and not on whole numbers, are no pixels; until some are seen."""
    if ("pixels", shown) in seen or not values.numel():
        return
    if bool(((values < 0) | (values > 1)).any()):
        seen["pixels", shown] = True
    elif bool(((values >= 0) & (values <= 1)).all() & (values != values.round()).any()):
        raise ValueError(
            f"{shown} has all its places between 0 and 1, which is one pixel; if they are fractions of the image's "
            f"sides, {advice}"
        )
