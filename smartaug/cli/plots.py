"""Pictures: what the augmentations made of the images, what the stages did during training.

>>> smartaug.plots.batch(loader)                  # a batch: operations, magnitudes, partners, weights, soft labels
>>> recorder = smartaug.plots.record(loader)      # before training
>>> smartaug.plots.report(loader)                 # after it: one HTML file
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .recorder import Recorder

__all__ = ["batch", "image_grid", "record", "report"]


def new_figure(**settings: Any) -> Any:
    """A matplotlib figure of its own, no part of pyplot's state; ImportError that says what to install."""
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

    C is 1 (grey) or 3; side: of an image, in inches. Raises ValueError unless there are as many captions as images,
    ImportError without matplotlib.
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
    """Images (B, C, H, W) as floats in [0, 1]: uint8 by 255, floats outside [0, 1] stretched over the batch's range."""
    pixels = images.detach().cpu()
    if not pixels.is_floating_point():
        return pixels.float() / 255
    pixels = pixels.float()
    low, high = float(pixels.min()), float(pixels.max())
    return pixels if low >= 0 and high <= 1 else (pixels - low) / max(high - low, 1e-12)


def batch(loader: Any, path: str | Path = "smartaug-batch.png", *, images: int = 8) -> Path:
    """Write a picture of a batch: above as stored, below after the stages, with what each sample received in words.

    loader: a smartaug.DataLoader with stages. images: how many of the batch to show. The batch is evenly spread over
    the dataset; the loader's pass, counts, stages and random generators stay as they are. Returns the path. Raises
    ValueError for a loader without stages or without images, ImportError without matplotlib.
    """
    from .show import show

    return show(loader, path, images)


def record(loader: Any) -> Recorder:
    """Note from now on what the stages of ``loader`` do, for `report`; the recorder's ``stop()`` ends it."""
    from .recorder import Recorder

    return Recorder(loader)


def report(loader: Any, path: str | Path = "smartaug-report.html", *, samples: int = 8) -> Path:
    """Write one HTML file about a training run, with everything in it, and stop recording; returns its path.

    loader: the loader given to `record` before training, or the recorder. It has the weights over the epochs, the share
    of labels moved, the ``samples`` most trusted and most doubted samples with their pictures, the operations applied
    and the learned policy, which samples a subset met and how long ago, seconds by part of the work, `explain` and
    `stats`. Raises ValueError when nothing was recorded, ImportError without matplotlib.
    """
    from .recorder import Recorder
    from .report_page import page

    watchers = getattr(getattr(loader, "_pipeline", None), "watchers", [])
    recorder = loader if isinstance(loader, Recorder) else next((w for w in watchers if isinstance(w, Recorder)), None)
    if recorder is None:
        raise ValueError(
            "nothing was recorded; write recorder = smartaug.plots.record(loader) before training, and "
            "smartaug.plots.report(recorder) after it"
        )
    recorder.stop()
    if not recorder.epochs:
        raise ValueError("no batch was met since smartaug.plots.record(loader); train first, then report")
    Path(path).write_text(page(recorder, samples), encoding="utf-8")
    return Path(path)
