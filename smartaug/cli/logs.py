"""The loader's figures (`stats`) in experiment trackers and trainers, by one thin callback each.

>>> log = smartaug.logs.to_tensorboard(loader, writer)     # log(step) writes
>>> log = smartaug.logs.to_wandb(loader, run)              # log(step) writes
>>> Trainer(callbacks=[smartaug.logs.to_lightning(loader)])  # Lightning: at the end of every training epoch
>>> smartaug.logs.to_transformers(loader, trainer)         # Hugging Face: whenever the trainer logs an epoch's end

Numbers alone are written, nested ones under their path: ``smartaug/reweight/share_zero``.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any

from ..loading.collate import Collate

PREFIX = "smartaug/"


def figures(loader: Any, prefix: str = PREFIX) -> dict[str, float]:
    """The numbers in ``loader.stats()``, flat, by path; those that are not finite are left out.

    loader: a smartaug.DataLoader, what `wrap` made, or a `Collate`.
    """
    source = loader.pipeline if isinstance(loader, Collate) else loader
    if source is None or not hasattr(source, "stats"):
        raise TypeError(f"a smartaug loader or Collate is wanted, got {type(loader).__name__}")
    return _flat(source.stats(), prefix)


def _flat(told: Mapping[str, Any], prefix: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in told.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}/")
        elif isinstance(value, numbers.Real) and math.isfinite(value):
            found[prefix + name] = float(value)
    return found


def to_tensorboard(loader: Any, writer: Any) -> Callable[[int], None]:
    """``log(step)`` writes the figures as scalars; writer: a `torch.utils.tensorboard.SummaryWriter`."""

    def log(step: int) -> None:
        for name, value in figures(loader).items():
            writer.add_scalar(name, value, step)

    return log


def to_wandb(loader: Any, run: Any) -> Callable[[int], None]:
    """``log(step)`` writes the figures to a Weights & Biases run (what ``wandb.init()`` returns)."""

    def log(step: int) -> None:
        run.log(figures(loader), step=step)

    return log


def to_lightning(loader: Any) -> Any:
    """A Lightning callback that logs the figures at the end of every training epoch, to whatever logger there is."""
    try:
        from lightning.pytorch.callbacks import Callback
    except ImportError as error:
        raise ImportError('to_lightning needs Lightning: pip install "smartaug[lightning]"') from error

    class Stats(Callback):
        """Logs the figures of a loader."""

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            """Log them."""
            pl_module.log_dict(figures(loader), on_epoch=True, batch_size=1)

    return Stats()


def to_transformers(loader: Any, trainer: Any) -> Any:
    """A callback, already added to ``trainer``, that logs the figures at the end of every epoch; also returned.

    loader: the `Collate` that the trainer was given as data_collator, or a smartaug loader.
    """
    try:
        from transformers import TrainerCallback
    except ImportError as error:
        raise ImportError('to_transformers needs transformers: pip install "smartaug[transformers]"') from error

    class Stats(TrainerCallback):
        """Logs the figures of a loader."""

        def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            """Log them, through the trainer, so that all its reporters get them."""
            trainer.log(figures(loader))

    made = Stats()
    trainer.add_callback(made)
    return made
