"""Pictures: what the augmentations made of the images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def new_figure(**settings: Any) -> Any:
    """A matplotlib figure of its own, no part of pyplot's state; ImportError that says what to install."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('pictures need matplotlib: pip install "smartaug[demo]"') from error
    return Figure(**settings)


def image_grid(
    images: Tensor, captions: Sequence[str], path: str | Path, *, columns: int = 8, title: str | None = None
) -> Path:
    """Write images (N, C, H, W), uint8 or float in [0, 1], as a grid with one caption each; returns the path.

    C is 1 (grey) or 3. Raises ValueError unless there are as many captions as images, ImportError without matplotlib.
    """
    if len(captions) != len(images):
        raise ValueError(f"captions must be one an image: got {len(captions)} for {len(images)} images")
    rows = -(-len(images) // columns)
    figure = new_figure(figsize=(1.5 * columns, 1.8 * rows + 0.4), layout="constrained")
    if title is not None:
        figure.suptitle(title, fontsize=10)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axis in grid.flat:
        axis.set_axis_off()
    pixels = images.detach().cpu()
    pixels = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.float().clamp(0, 1)
    for axis, image, caption in zip(grid.flat, pixels, captions, strict=False):
        axis.imshow(image.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(caption, fontsize=6)
    figure.savefig(path, dpi=150)
    return Path(path)
