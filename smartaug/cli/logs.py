"""Logging the numbers in a loader's `stats` to experiment trackers and trainers, with one callback for each.

>>> log = smartaug.logs.to_tensorboard(loader, writer)     # log(step) writes
>>> log = smartaug.logs.to_wandb(loader, run)              # log(step) writes
>>> Trainer(callbacks=[smartaug.logs.to_lightning(loader)])  # Lightning: at the end of every training epoch
>>> smartaug.logs.to_transformers(loader, trainer)         # Hugging Face: whenever the trainer logs an epoch's end

Only numbers are logged, nested ones under their path: ``smartaug/reweight/share_zero``.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any

from ..loading.collate import Collate

PREFIX = "smartaug/"
Tracker = Any  # an object of a library that is not imported here


def figures(loader: object, prefix: str = PREFIX) -> dict[str, float]:
    """Path -> value of the finite numbers in ``loader.stats()``.

    loader: a smartaug.DataLoader, the result of `wrap`, or a `Collate`. prefix: put before each path. Raises TypeError
    for other objects.
    """
    source = loader.pipeline if isinstance(loader, Collate) else loader
    if source is None or not hasattr(source, "stats"):
        raise TypeError(f"a smartaug loader or Collate is wanted, got {type(loader).__name__}")
    return _flat(source.stats(), prefix)


def _flat(stats: Mapping[str, object], prefix: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in stats.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}/")
        elif isinstance(value, numbers.Real) and math.isfinite(value):
            found[prefix + name] = float(value)
    return found


def to_tensorboard(loader: object, writer: Tracker) -> Callable[[int], None]:
    """``log(step)``, which writes the numbers as scalars. writer: a `torch.utils.tensorboard.SummaryWriter`."""

    def log(step: int) -> None:
        for name, value in figures(loader).items():
            writer.add_scalar(name, value, step)

    return log


def to_wandb(loader: object, run: Tracker) -> Callable[[int], None]:
    """``log(step)``, which writes the numbers to a Weights & Biases run. run: the result of ``wandb.init()``."""

    def log(step: int) -> None:
        run.log(figures(loader), step=step)

    return log


def to_lightning(loader: object) -> Tracker:
    """A Lightning callback that logs the numbers at the end of every training epoch, to all loggers of the trainer.

    Raises ImportError without Lightning.
    """
    try:
        from lightning.pytorch.callbacks import Callback
    except ImportError as error:
        raise ImportError('to_lightning needs Lightning: pip install "smartaug[lightning]"') from error

    class Stats(Callback):
        """Logs the numbers of a loader."""

        def on_train_epoch_end(self, trainer: object, pl_module: Tracker) -> None:
            """Log them."""
            pl_module.log_dict(figures(loader), on_epoch=True, batch_size=1)

    return Stats()


def to_transformers(loader: object, trainer: Tracker) -> Tracker:
    """Add a callback to ``trainer`` that logs the numbers at the end of every epoch, and return it.

    loader: the `Collate` that is the trainer's data_collator, or a smartaug loader. trainer: a `transformers.Trainer`.
    Raises ImportError without transformers.
    """
    try:
        from transformers import TrainerCallback
    except ImportError as error:
        raise ImportError('to_transformers needs transformers: pip install "smartaug[transformers]"') from error

    class Stats(TrainerCallback):
        """Logs the numbers of a loader."""

        def on_epoch_end(self, args: object, state: object, control: object, **_: object) -> None:
            """Log them through the trainer, to all its integrations."""
            trainer.log(figures(loader))

    made = Stats()
    trainer.add_callback(made)
    return made
