"""`SampleMagnitudes`: a level in [0, 1] for every sample of a dataset, from the outputs that the loop's loss saw.

The level of a sample changes between epochs, not within one: it comes from what `smartaug.Loss` saw of the sample in
the epochs before. So draws do not depend on the order, the number of workers or of ranks within an epoch, and a run
that is resumed in the middle of one goes on with the same levels. Under `torch.distributed` the ranks exchange their
levels when an epoch begins. A sample that was never seen has none, and draws its magnitudes uniformly.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..._base import ranks
from ..._base.arriving import Arriving
from ..._base.names import SuggestsKeywords
from ..._base.original import refuse_another
from ...batch import Target
from ...grads.logits import columns, distributions
from ...warnings import NoEffectWarning, warn

_NEVER = -1


class SampleMagnitudes(SuggestsKeywords, ABC):
    """What sources of magnitudes share; subclasses say in `level` how strongly a sample is augmented.

    warmup: number of epochs at the start in which all magnitudes are drawn uniformly. Raises ValueError for another.
    """

    def __init__(self, *, warmup: int = 0) -> None:
        if not isinstance(warmup, int) or isinstance(warmup, bool) or warmup < 0:
            raise ValueError(f"warmup must be a number of epochs ≥ 0, got {warmup!r}; write warmup=0")
        self.warmup = warmup
        self._epoch: int | None = None
        self._now = torch.empty(0)  # (n,) float32 levels of this epoch, NaN where there is none
        self._next = torch.empty(0)  # (n,) float32 levels so far, for the next one
        self._seen = torch.empty(0, dtype=torch.int32)  # (n,) the epoch that each of those is from
        self._arriving = Arriving()
        self._asked = self._told = self._warned = False  # for a level, of an output, of that there was none
        self._dataset: Any = None  # whose samples the levels belong to

    @staticmethod
    @abstractmethod
    def level(log_p: Tensor, labels: Tensor) -> Tensor:
        """(B,) in [0, 1], from log-probabilities and labels as distributions, both (B, K)."""

    @abstractmethod
    def steps(self, level: Tensor, bins: int) -> Tensor:
        """(B,) int64 in 0..bins − 1: the positions in an operation's range for the levels (B,)."""

    # --- what a policy asks ------------------------------------------------------------------------------------------

    def chosen(self, key: Tensor, index: Tensor | None, drawn: Tensor, bins: int) -> Tensor:
        """Positions (B, N) in 0..bins − 1 of the N operations of the samples ``index`` (B,), whose keys are (B,).

        drawn: (B, N) uniform draws of them, which stay where a sample has no level; index: None: nowhere is one known.
        """
        if index is None or (self._epoch or 0) < self.warmup:
            self._asked = self._asked or index is not None
            return drawn
        self._asked = True
        level = self.levels(index)
        known = level.isfinite() & self._guided(key)
        made = self.steps(torch.where(known, level, 0.0), bins)[:, None].expand_as(drawn)
        return torch.where(known[:, None], made, drawn)

    def levels(self, index: Tensor) -> Tensor:
        """(B,) float32 levels of the samples ``index`` (B,) in this epoch; NaN where there is none."""
        index = index.cpu()
        inside = (index >= 0) & (index < len(self._now))
        found = torch.full((len(index),), torch.nan, device="cpu")
        found[inside] = self._now[index[inside]]
        return found

    def _guided(self, key: Tensor) -> Tensor:
        """(B,) bool: the samples with keys (B,) that get their level, where the others draw."""
        return torch.ones(len(key), dtype=torch.bool, device="cpu")

    # --- what the pipeline tells -------------------------------------------------------------------------------------

    def attach(self, dataset: object) -> None:
        """Called by the loader with its dataset; ValueError for a second one, whose samples are others."""
        self._dataset = refuse_another(self._dataset, dataset, type(self).__name__, "levels")

    def begin(self, epoch: int) -> None:
        """Called before an epoch's first batch: what was seen until now holds from here on, on all ranks."""
        if epoch == self._epoch:
            return
        if self._epoch is not None:
            if self._asked and not self._told and not self._warned:
                self._warned = True
                warn(
                    f"{type(self).__name__} saw no output of the model in epoch {self._epoch}, so all magnitudes are "
                    "drawn uniformly; write criterion = smartaug.Loss(criterion), and give it the loader's own target",
                    NoEffectWarning,
                )
            self._exchange()
        self._epoch = epoch
        self._now = self._next.clone()

    def observe(self, index: Tensor, output: Tensor, target: Tensor, unmixed: Tensor | None = None) -> None:
        """Logits (B, K), (B, 1) or (B,) of the samples index (B,), as `smartaug.Loss` sees them, and their labels.

        unmixed: (B,) bool rows that are one sample alone, None for all; a `Target` says itself which of its rows are.
        The others say nothing of a sample, nor do rows with an ignored label, and those whose output is not finite.
        Raises TypeError for maps of logits, ValueError for labels of another kind.
        """
        if isinstance(target, Target):
            unmixed, target = unmixed if target._mixed is None else target._mixed.whole, target.plain
        log_p = columns(output.detach()).log_softmax(1)
        labels, usable = _labels(target.to(log_p.device, non_blocking=True), log_p.shape[1])
        made = self.level(log_p, labels.to(log_p.dtype)).clamp(0, 1)
        usable &= made.isfinite()
        if unmixed is not None:
            usable &= unmixed.to(log_p.device, non_blocking=True)
        self._told = True
        epoch = 0 if self._epoch is None else self._epoch
        self._arriving.add(log_p.device, (index, made.float(), usable), partial(self._note, epoch))

    def _note(self, epoch: int, index: Tensor, level: Tensor, usable: Tensor) -> None:
        rows = usable.nonzero()[:, 0].flip(0)  # of a sample's rows the first is written last, and stays
        index = index[rows]
        if len(index) and int(index.max()) >= len(self._next):
            self._grow(max(int(index.max()) + 1, 2 * len(self._next)))
        places = index.numpy()  # NumPy writes in order, which torch does not promise
        self._next.numpy()[places], self._seen.numpy()[places] = level[rows].numpy(), epoch

    def _grow(self, size: int) -> None:
        more = size - len(self._next)
        self._next = torch.cat([self._next, torch.full((more,), torch.nan, device="cpu")])
        self._seen = torch.cat([self._seen, torch.full((more,), _NEVER, dtype=torch.int32, device="cpu")])

    def _exchange(self) -> None:
        """Every rank gets, for each sample, the level of the rank that saw it last."""
        self._arriving.flush()
        if ranks.here()[1] == 1:
            return
        self._grow(int(ranks.largest(torch.tensor([len(self._next)], device="cpu"))))
        rows = torch.stack([self._next.view(torch.int32), self._seen], 1)
        ranks.keep_latest(rows, self._seen)
        self._next, self._seen = rows[:, 0].contiguous().view(torch.float32), rows[:, 1].contiguous()

    # --- figures and state -------------------------------------------------------------------------------------------

    def stats(self) -> dict[str, float]:
        """known: number of samples with a level in this epoch; mean_level: their mean, NaN where there are none."""
        found = self._now[self._now.isfinite()]
        return {"known": len(found), "mean_level": float(found.mean())}

    def state_dict(self) -> dict[str, Any]:
        """The levels of this epoch and those for the next, of this rank: tensors and plain values."""
        self._arriving.flush()
        tables = {"now": self._now.clone(), "next": self._next.clone(), "seen": self._seen.clone()}
        return {"epoch": self._epoch, "asked": self._asked, "told": self._told, **tables}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self._arriving = Arriving()
        self._epoch, self._asked, self._told = state["epoch"], state["asked"], state["told"]
        self._now, self._next, self._seen = (state[name].clone() for name in ("now", "next", "seen"))

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_dataset": None}

    def __repr__(self) -> str:
        settings = (f"{name}={value!r}" for name, value in vars(self).items() if not name.startswith("_"))
        return f"{type(self).__name__}({', '.join(settings)})"


def _labels(target: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Labels as distributions (B, classes), and which rows (B,) have one: not those of an ignored class."""
    if target.is_floating_point() or target.numel() != len(target):
        made = distributions(target, classes)
        return made, ((made.sum(1) - 1).abs() < 1e-3) & (made >= 0).all(1)
    label = target.reshape(-1).long()
    return distributions(label.clamp(0, classes - 1), classes), (label >= 0) & (label < classes)
