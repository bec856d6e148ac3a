"""`ShareSampler`: a sampler that draws a given share of every batch from one part of a dataset.

What: one stream of indices in which marked and other samples alternate as evenly as the share allows, so that of any B
neighbours, marked ones are ``share × B`` to within one. Each part is drawn in a new random order, again and again, so
the smaller part may appear several times in an epoch.

When: real and generated samples (`Generated.sampler`). Cost: a permutation of each part for each of its passes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler


class ShareSampler(Sampler[int]):
    """``sampler=ShareSampler(marked, share)``: indices of a dataset whose samples ``marked`` (n,) bool are a part.

    share: in [0, 1], the share of marked samples. length: indices in a pass, None for n. generator: of the order; None
    draws a seed from torch's global one at each pass, as `torch.utils.data.RandomSampler` does. Raises TypeError for
    another kind of mask, ValueError for a share out of range or one that a part is too empty for.
    """

    def __init__(
        self,
        marked: Tensor,
        share: float,
        *,
        length: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        if not isinstance(share, (int, float)) or isinstance(share, bool) or not 0.0 <= share <= 1.0:
            raise ValueError(f"share must be the share of a batch in [0, 1], got {share!r}; write share=0.5")
        if not isinstance(marked, Tensor) or marked.dtype != torch.bool or marked.ndim != 1:
            what = f"{marked.dtype} {tuple(marked.shape)}" if isinstance(marked, Tensor) else type(marked).__name__
            raise TypeError(
                f"marked must be a mask (n,) of bool, one entry a sample, got {what}; write marked.bool() for one of "
                "0 and 1, or for indices mask = torch.zeros(n, dtype=torch.bool); mask[indices] = True"
            )
        self.parts = [(~marked).nonzero()[:, 0].cpu(), marked.nonzero()[:, 0].cpu()]
        for part, needed, name in ((self.parts[0], 1.0 - share, "other"), (self.parts[1], share, "marked")):
            if needed > 0 and not len(part):
                raise ValueError(f"share={share} needs {name} samples, and the dataset has none")
        self.share, self.generator = float(share), generator
        self.length = len(marked) if length is None else length

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        generator = self.generator
        if generator is None:
            generator = torch.Generator().manual_seed(int(torch.empty((), dtype=torch.int64).random_().item()))
        streams = [self._endless(part, generator) for part in self.parts]
        for place in range(self.length):
            # the marked ones among the first p + 1 are floor((p + 1) × share): as even as whole numbers can be
            marked = int((place + 1) * self.share + 1e-9) > int(place * self.share + 1e-9)
            yield next(streams[marked])

    @staticmethod
    def _endless(part: Tensor, generator: torch.Generator) -> Iterator[int]:
        for _ in itertools.count():
            yield from part[torch.randperm(len(part), generator=generator)].tolist()
