"""Pictures: what the augmentations made of the images, what the stages did during training.

>>> smartaug.plots.batch(loader)                  # a batch: operations, magnitudes, partners, weights, soft labels
>>> recorder = smartaug.plots.record(loader)      # before training
>>> smartaug.plots.report(loader)                 # after it: one HTML file
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .grid import image_grid

if TYPE_CHECKING:
    from .recorder import Recorder

__all__ = ["batch", "image_grid", "record", "report"]


def batch(loader: Any, path: str | Path = "smartaug-batch.png", *, images: int = 8) -> Path:
    """Write a picture of a batch: above as stored, below after the stages, with what each sample received in words.

    * `loader`: a smartaug.DataLoader with stages.
    * `path`: of the file to write.
    * `images`: how many of the batch to show.

    The batch is evenly spread over the dataset; the loader's pass, counts, stages and random generators stay as they
    are. Returns the path. Raises ValueError for a loader without stages or without images, ImportError without
    matplotlib.
    """
    from .show import show

    return show(loader, path, images)


def record(loader: Any) -> Recorder:
    """Note from now on what the stages of ``loader`` do, for `report`; the recorder's ``stop()`` ends it."""
    from .recorder import Recorder

    return Recorder(loader)


def report(loader: Any, path: str | Path = "smartaug-report.html", *, samples: int = 8) -> Path:
    """Write one HTML file about a training run, with everything in it, and stop recording; returns its path.

    * `loader`: the loader given to `record` before training, or the recorder.
    * `path`: of the file to write.
    * `samples`: how many of the most trusted samples to show, and of the most doubted.

    The page has the weights over the epochs, the share of labels moved, samples with their pictures, the operations
    applied and the learned policy, which samples a subset met and how long ago, seconds by part of the work, `explain`
    and `stats`. Raises ValueError when nothing was recorded, ImportError without matplotlib.
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
