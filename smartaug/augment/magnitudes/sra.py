"""SRA, Sample-aware RandAugment: the better the model knows a sample, the stronger the operations that it gets.

What: the level of a sample is cos(p, y)^(2 / log K), with p the softmax that the loop's loss saw last, y the label and
K the number of classes. Half of the samples explore: each of their operations has a magnitude drawn uniformly.

When: there is no time to tune RandAugment's magnitude, and labels are right: a wrong label gives level 0. What it gains
is in benchmarks/results/policy.json.

Cost: a softmax of the outputs that the loop computes anyway, and 12 bytes a sample; no pass of its own.

Reference: Xiao, Yu and Yu, "Sample-aware RandAugment", IJCV 2025, arXiv 2508.08004. The formula, the half that explores
and two operations a sample are those of the released code; its exponent is 2 / log K for ResNets and 1 for
transformers. How this differs: there p comes from a further pass over the sample without operations, in the same step,
and the two halves of a batch are two steps; here p is that of the augmented sample one epoch ago, and both halves make
one step. Ranges are those of the policy that it is given to. Of the paper's text only the abstract was at hand.
"""

from __future__ import annotations

import math

from torch import Tensor

from ... import draws
from ..augmentation import check_probability
from .source import SampleMagnitudes

_EXPLORES = 0x5EA  # the stream of a sample's draw for exploring


class SRA(SampleMagnitudes):
    """``augment=smartaug.RandAugment(num_ops=2, magnitude=smartaug.SRA())``.

    explore: in [0, 1], the share of samples, drawn anew in each epoch, whose magnitudes are drawn uniformly. warmup:
    number of epochs at the start in which all are. Samples that `smartaug.Loss` has not seen draw uniformly at any
    time. Raises ValueError for arguments out of range.
    """

    def __init__(self, *, explore: float = 0.5, warmup: int = 0) -> None:
        super().__init__(warmup=warmup)
        self.explore = check_probability(explore, "explore")

    @staticmethod
    def level(log_p: Tensor, labels: Tensor) -> Tensor:
        """cos(p, y)^(2 / log K), (B,), from log-probabilities and labels as distributions, both (B, K)."""
        p = log_p.exp()
        cosine = (p * labels).sum(1) / (p.norm(dim=1) * labels.norm(dim=1))
        return cosine ** (2 / math.log(log_p.shape[1]))

    def steps(self, level: Tensor, bins: int) -> Tensor:
        """The position nearest to the level, (B,) int64."""
        return (level * (bins - 1)).round().long()

    def _guided(self, key: Tensor) -> Tensor:
        return draws.uniform(draws.fold(key, _EXPLORES)) >= self.explore
