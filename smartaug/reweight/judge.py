"""`Judge`: validation samples that are trained on as well, and whether the model has learned them by heart.

What: ``train_on_val=k`` of the learned reweighters puts the validation samples k times into every epoch, at weight 1.
Of 500 and more, a twentieth (64 at most) is left out of training and judges alone, so that over-fitting is measured:
every 50 validation batches the mean loss of the samples that are trained on is compared with that of the others. When:
clean data are few, and the others may be wrong. Cost: the repeated samples, and two forward passes of up to 64 samples
every 50 batches. Reference: none, the figures below are ours.

Measured on the tasks of benchmarks/few_clean.py (50 or 100 clean digits beside 600, SAFLEX, four seeds that vary by 1
to 2 points): the more often the clean samples came, the better the network, although it knew them by heart: 83.6, 85.8,
85.9 and 86.7 % after 30 epochs with 2, 5, 10 and 20 repeats of 50; 88.6 and 89.2 % with 2 and 5 repeats of 100. What
goes is what they say of others. The cosine of the gradient of their loss to that of 800 unseen images falls with the
ratio of their own loss to that of clean samples held out of training: 0.74 at a ratio of 0.9, 0.59 at 0.5, 0.37 at 0.3,
0.27 at 0.2, 0.13 at 0.1 (20 repeats, 80 epochs), where the benefits of the 600 had no positive correlation any more
with those by unseen images. So the warning comes below a tenth, and says that weights change nothing from there on, not
that the network is worse. Holding out a tenth of so few cost 0.4 and 1.5 points, so fewer than 500 all train.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.data import Subset

from .. import draws
from .._base.table_dataset import TableDataset
from ..grads import ForwardPass
from ..grads.logits import mean_loss
from ..grads.untouched import Mode
from ..warnings import NoEffectWarning, warn
from .other_transform import as_in
from .validation import ValidationBatches

REPEATS = 5  # of train_on_val=True
_SHARE, _LEAST = 20, 500  # one sample in twenty is held out, where there are 500 or more
_EVERY, _MOST = 50, 64  # validation batches between two measurements, and samples of each side
_RATIO = 0.1


class Judge:
    """The validation samples that train, ``repeats`` times in an epoch, and those that judge alone.

    repeats: 0, or what ``train_on_val=`` says. Raises ValueError unless it is a number of repeats, or a bool.
    """

    def __init__(self, batches: ValidationBatches, repeats: int) -> None:
        if not isinstance(repeats, int) or repeats < 0:
            raise ValueError(
                f"train_on_val must be how often an epoch holds each validation sample, got {repeats!r}; write "
                f"train_on_val=True, which is {REPEATS}"
            )
        self.batches, self.repeats = batches, REPEATS if repeats is True else int(repeats)
        order = draws.permutation(draws.key(batches.seed, 0, torch.arange(batches.count), view=1))
        held = min(_MOST, batches.count // _SHARE) if batches.count >= _LEAST else 0
        self.held, self.trained = sorted(order[:held].tolist()), sorted(order[held:].tolist())
        self.losses: tuple[float, float] | None = None  # of samples that train, and that are held out
        self._low = 0  # measurements in a row below the ratio
        self._warned = False

    def samples_for(self, training: Any) -> Any:
        """The dataset of the samples that train, through the transform of ``training`` where they are of its dataset.

        So those of `smartaug.split_validation(dataset, 0.1, transform=...)` judge without augmentation, and train with.
        """
        held = self.batches
        own = TableDataset(*held.data) if held.pair else as_in(training, held.data)
        return Subset(own, self.trained) if self.held else own

    def look(self, model: nn.Module, step: int, device: torch.device, mode: Mode, method: str) -> None:
        """Measure, if validation batch ``step`` is one in 50; warns once where two in a row are below a tenth."""
        if not (self.repeats and self.held) or step % _EVERY:
            return
        trained, held = (self._loss(model, rows[:_MOST], device, mode) for rows in (self.trained, self.held))
        self.losses = (trained, held)
        self._low = self._low + 1 if trained < _RATIO * held else 0
        if self._low > 1 and not self._warned:
            self._warned = True
            warn(
                f"{method} judges by samples that the model has learned by heart: their mean loss is {trained:.2g}, "
                f"and {held:.2g} on those of val_set that it is not trained on; weights from here on say nothing of "
                "other samples. What was learned so far stays. For weights that go on to matter give more validation "
                f"samples, or fewer repeats: train_on_val={max(1, self.repeats // 2)}",
                NoEffectWarning,
            )

    def _loss(self, model: nn.Module, rows: list[int], device: torch.device, mode: Mode) -> float:
        inputs, target = self.batches.samples(rows, device)
        with torch.no_grad():
            raw = ForwardPass(model, inputs, training=mode, graph=False).raw
            return float(mean_loss(raw, target.to(raw.device), self.batches.criterion))

    def stats(self) -> dict[str, float]:
        """The two losses of the last measurement, ``loss_trained`` and ``loss_held_out``; {} where there is none."""
        return {} if self.losses is None else dict(zip(("loss_trained", "loss_held_out"), self.losses, strict=True))
