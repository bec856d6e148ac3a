"""EntAugment: the surer the model is of a sample, the stronger the operations that the sample gets.

What: the level of a sample is 1 − H(p) / log K, H the entropy of the softmax p that the loop's loss saw last. Its
operations are at position min(⌊(bins − 1) · level⌋ + 1, bins − 1) of their ranges.

When: there is no time to tune RandAugment's magnitude. What it gains is in benchmarks/results/policy.json.

Cost: a softmax of the outputs that the loop computes anyway, and 12 bytes a sample; no pass of its own.

Reference: Yang, Shen and Zhao, "EntAugment: Entropy-Driven Adaptive Data Augmentation Framework for Image
Classification", ECCV 2024, arXiv 2409.06290. The formula, one operation of 14 a sample, and ten epochs of
TrivialAugment before it are those of the released code. How this differs: ranges are those of the policy that it is
given to (torchvision's; the released code has a table of its own, in which a colour or contrast at level 0 is nearly
grey, where here level 0 changes nothing); the entropy is exact (there log(p + 1e-8)). Its second part, EntLoss, is not
here.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .source import SampleMagnitudes


class EntAugment(SampleMagnitudes):
    """``augment=smartaug.RandAugment(num_ops=1, magnitude=smartaug.EntAugment())``, or in TrivialAugment.

    warmup: number of epochs at the start whose magnitudes are drawn uniformly; the released code has 10. Samples that
    `smartaug.Loss` has not seen draw uniformly at any time. Raises ValueError for a warmup that is none.
    """

    def __init__(self, *, warmup: int = 10) -> None:
        super().__init__(warmup=warmup)

    @staticmethod
    def level(log_p: Tensor, labels: Tensor) -> Tensor:
        """1 − H(p) / log K, (B,), from log-probabilities (B, K); labels (B, K) are not used."""
        return 1 - torch.special.entr(log_p.exp()).sum(1) / math.log(log_p.shape[1])

    def steps(self, level: Tensor, bins: int) -> Tensor:
        """min(⌊(bins − 1) · level⌋ + 1, bins − 1), (B,) int64."""
        return ((level * (bins - 1)).floor().long() + 1).clamp_max(bins - 1)
