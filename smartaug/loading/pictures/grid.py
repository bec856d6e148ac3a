"""Grids of images, and the matplotlib figures that all pictures are drawn on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

AnyFigure = Any  # a `matplotlib.figure.Figure`; matplotlib is optional


def new_figure(**settings: Any) -> AnyFigure:
    """A matplotlib figure outside of pyplot's state. Raises ImportError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('pictures need matplotlib: pip install "smartaug[demo]"') from error
    return Figure(**settings)


def image_grid(
    images: Tensor,
    captions: Sequence[str],
    path: str | Path,
    *,
    columns: int = 8,
    title: str | None = None,
    side: float = 1.5,
) -> Path:
    """Write images (N, C, H, W), uint8 or float in [0, 1], as a grid with one caption each; returns the path.

    C is 1 (grey) or 3. side: width of an image, in inches. Raises ValueError unless there are as many captions as
    images, ImportError without matplotlib.
    """
    if len(captions) != len(images):
        raise ValueError(f"captions must be one an image: got {len(captions)} for {len(images)} images")
    rows = -(-len(images) // columns)
    lines = [max(caption.count("\n") + 1 for caption in captions[n * columns : (n + 1) * columns]) for n in range(rows)]
    heights = [side * images.shape[2] / images.shape[3] + 0.11 * count + 0.08 for count in lines]
    figure = new_figure(
        figsize=(side * columns, sum(heights) + (0.2 * (title.count("\n") + 1) if title else 0.0)), layout="constrained"
    )
    if title is not None:
        figure.suptitle(title, fontsize=10)
    grid = figure.subplots(rows, columns, squeeze=False, height_ratios=heights)
    for axis in grid.flat:
        axis.set_axis_off()
    pixels = images.detach().cpu()
    pixels = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.float().clamp(0, 1)
    for axis, image, caption in zip(grid.flat, pixels, captions, strict=False):
        axis.imshow(image.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(caption, fontsize=6, pad=3)
    figure.savefig(path, dpi=150)
    return Path(path)


def shown_as_picture(images: Tensor) -> Tensor:
    """Images (B, C, H, W) as floats in [0, 1]: uint8 is divided by 255; a batch of floats with values outside [0, 1] is
    scaled linearly from its range to [0, 1].
    """
    pixels = images.detach().cpu()
    if not pixels.is_floating_point():
        return pixels.float() / 255
    pixels = pixels.float()
    low, high = float(pixels.min()), float(pixels.max())
    return pixels if low >= 0 and high <= 1 else (pixels - low) / max(high - low, 1e-12)
