"""`Trace`: the operations that each sample of a plan received, for people and for learned policies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Trace:
    """Which operation each sample received, readable and in order.

    ops: (B, N) int64 into ``names``; magnitudes: (B, N) float32 in the operation's own unit, 0 where it has none.
    levels: (B, N) float32 in (0, 1), where each magnitude lies among those that it was chosen from (the middle of its
    own share), NaN where that is not known; None: it is known of none.
    """

    ops: Tensor
    magnitudes: Tensor
    names: tuple[str, ...] = ()
    levels: Tensor | None = None

    @classmethod
    def empty(cls, batch: int) -> Trace:
        """A trace of no operations for ``batch`` samples."""
        return cls(torch.empty(batch, 0, dtype=torch.int64), torch.empty(batch, 0))

    def then(self, *later: Trace) -> Trace:
        """The operations of all, in order; operations of the same name share one id."""
        traces = [trace for trace in (self, *later) if trace.ops.shape[1]]
        if len(traces) < 2:
            return traces[0] if traces else self
        names, to_new = _common_names(tuple(trace.names for trace in traces))
        ops = [new.take(trace.ops.numpy()) for new, trace in zip(to_new, traces, strict=True)]
        magnitudes = [trace.magnitudes.numpy() for trace in traces]
        joined = np.concatenate(ops, 1), np.concatenate(magnitudes, 1)
        levels = None
        if any(trace.levels is not None for trace in traces):
            levels = torch.cat([_levels_of(trace) for trace in traces], 1)
        return Trace(torch.from_numpy(joined[0]), torch.from_numpy(joined[1]), names, levels)

    def rows(self, index: Tensor) -> Trace:
        """The trace of the samples ``index`` (R,) int64, which may repeat."""
        levels = None if self.levels is None else self.levels.index_select(0, index)
        return Trace(self.ops.index_select(0, index), self.magnitudes.index_select(0, index), self.names, levels)

    def describe(self, row: int) -> str:
        """One sample's operations in words, for reports: ``"Rotate 12.0, Flip"``."""
        pairs = zip(self.ops[row].tolist(), self.magnitudes[row].tolist(), strict=True)
        shown = [self.names[op] + (f" {magnitude:.3g}" if magnitude else "") for op, magnitude in pairs]
        return ", ".join(name for name in shown if not name.startswith("Identity")) or "Identity"


def _levels_of(trace: Trace) -> Tensor:
    """The levels of a trace (B, N), NaN where they are not known."""
    return torch.full_like(trace.magnitudes, torch.nan) if trace.levels is None else trace.levels


@lru_cache(maxsize=256)
def _common_names(lists: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], tuple[np.ndarray, ...]]:
    """All names once, and for each list the places of its names among them."""
    names = tuple(dict.fromkeys(name for listed in lists for name in listed))
    return names, tuple(np.array([names.index(name) for name in listed], np.int64) for listed in lists)
