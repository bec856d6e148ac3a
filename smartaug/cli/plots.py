"""Pictures of augmented batches, and a report on the stages during training.

>>> loader.show()                                 # one batch: operations, magnitudes, partners, weights, soft labels
>>> recorder = smartaug.plots.record(loader)      # before training
>>> smartaug.plots.report(loader)                 # after it: one HTML file
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..loading.pictures.grid import image_grid
from ..loading.pictures.show import Picture, show

if TYPE_CHECKING:
    from .recorder import Recorder

Loader = Any  # a `smartaug.DataLoader`, or what `smartaug.wrap` returns

__all__ = ["batch", "image_grid", "record", "report"]


def batch(loader: Loader, path: str | Path = "smartaug-batch.png", *, images: int = 8) -> Picture:
    """``loader.show(path, images=images)``: a picture of a batch before and after the stages, see `DataLoader.show`.

    * `loader`: a `DataLoader` with stages, or what `wrap` returns.
    """
    return show(loader, path, images)


def record(loader: Loader) -> Recorder:
    """Start recording the work of the stages of ``loader``, for `report`. The recorder's ``stop()`` ends it.

    Raises ValueError for a loader without stages, and for one that is being recorded already.
    """
    from .recorder import Recorder

    return Recorder(loader)


def report(loader: Loader | Recorder, path: str | Path = "smartaug-report.html", *, samples: int = 8) -> Path:
    """Stop recording and write a report on the training run, as a single HTML file. Returns its path.

    * `loader`: the loader given to `record` before training, or the recorder.
    * `path`: the file to write.
    * `samples`: number of images to show with the highest mean weights, and as many with the lowest.

    The page has the weights over the epochs, the probability mass of the labels moved to other classes, images with the
    highest and lowest weights, the operations applied and the learned policy, the samples drawn so far and the age of
    their last draw, seconds by part of the work, `explain` and `stats`.

    Raises ValueError when nothing was recorded, ImportError without matplotlib.
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
