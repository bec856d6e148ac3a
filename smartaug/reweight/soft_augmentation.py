"""Soft Augmentation: the less of an image is visible, the softer its label.

What: with v the visible fraction of the image, its class keeps the probability p = 1 − (1 − p_min)(1 − v)^k, and the
other classes share the rest equally; the sample's weight is p.

When: crops and erased rectangles are large; it needs no model and no validation set.

Cost: none worth measuring.

Reference: Liu et al., "Soft Augmentation for Image Classification", CVPR 2023, eq. 4–6 (k = 2). How this
differs: v is read from the trace of the stages, here `Erase`; for other stages give ``visible=``; weights have mean 1.
Maps of classes (segmentation) get weights alone: the paper softens the one label of an image.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .._base.labels import Kind, kind_of
from .._base.names import SuggestsKeywords
from .._base.protocols import refuse_other
from ..batch import Batch
from ..grads.logits import distributions
from .protocols import OperationTrace
from .weights import normalised


class SoftAugmentation(SuggestsKeywords):
    """``reweight=smartaug.SoftAugmentation(num_classes=10)``: softer labels, and smaller weights, for hidden images.

    * `num_classes`: K ≥ 2.
    * `p_min`: in [0, 1], the probability that is left to the class where nothing is visible; None is 1 / K.
    * `k`: > 0; the larger it is, the more of an image must be hidden before the probability falls noticeably.
    * `visible`: a callable ``(batch, trace) -> (B,)``, the visible fraction of each image in [0, 1]; None reads the
      share that `Erase` left.
    * `reweight`: whether samples are also weighed by p.

    Raises ValueError for numbers out of range.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        p_min: float | None = None,
        k: float = 2.0,
        visible: Callable[[Batch, OperationTrace], Tensor] | None = None,
        reweight: bool = True,
    ) -> None:
        if not isinstance(num_classes, int) or num_classes < 2:
            raise ValueError(f"num_classes must be an integer ≥ 2, got {num_classes!r}; write SoftAugmentation(10)")
        if visible is not None:
            refuse_other("visible", visible)
        p_min = 1.0 / num_classes if p_min is None else p_min
        if not 0.0 <= p_min <= 1.0:
            raise ValueError(f"p_min must be in [0, 1], got {p_min!r}; None is 1 / num_classes")
        if not k > 0:
            raise ValueError(f"k must be positive, got {k!r}; the paper's is 2")
        self.num_classes, self.p_min, self.k, self.visible, self.reweight = num_classes, p_min, k, visible, reweight

    @staticmethod
    def confidence(visible: Tensor, p_min: float, k: float = 2.0) -> Tensor:
        """p = 1 − (1 − p_min)(1 − v)^k (B,) for the visible fraction v (B,) in [0, 1]."""
        return 1 - (1 - p_min) * (1 - visible).pow(k)

    @staticmethod
    def rule(visible: Tensor, soft_upstream: Tensor, p_min: float, k: float = 2.0) -> tuple[Tensor, Tensor]:
        """``(p, soft)``: confidence (B,) and labels (B, K) for the visible fraction (B,) in [0, 1]."""
        p = SoftAugmentation.confidence(visible, p_min, k)
        others = (1 - soft_upstream) / (soft_upstream.shape[1] - 1)
        return p, p[:, None] * soft_upstream + (1 - p)[:, None] * others

    def __call__(self, batch: Batch, trace: OperationTrace) -> tuple[Tensor | None, Tensor | None]:
        """``(weight, soft)``: weights of mean 1, or None with reweight=False; soft None for maps."""
        maps = self._are_maps(batch.target)
        seen = self._left_by_erase(trace) if self.visible is None else self.visible(batch, trace)
        seen = self._checked(seen, len(batch.target))
        if maps:
            return normalised(self.confidence(seen.to(batch.target.device), self.p_min, self.k)), None
        upstream = distributions(batch.target if batch.soft is None else batch.soft, self.num_classes)
        p, soft = self.rule(seen.to(upstream.device, upstream.dtype), upstream, self.p_min, self.k)
        return (normalised(p) if self.reweight else None), soft

    def _are_maps(self, target: Tensor) -> bool:
        """Whether labels are maps; TypeError for others than classes; floats on an accelerator are not checked."""
        free = not target.is_floating_point() or target.device.type == "cpu"
        kind = kind_of(target) if free else Kind.DISTRIBUTIONS if target.ndim < 3 else Kind.MAP
        if kind is Kind.MAP and self.reweight:
            return True
        if kind is Kind.MAP:
            raise TypeError(
                f"SoftAugmentation leaves the labels of maps {tuple(target.shape)} as they are and weighs their "
                "samples, so reweight=False leaves nothing to do; write reweight=True, or leave it out"
            )
        if kind not in (Kind.CLASSES, Kind.BINARY, Kind.DISTRIBUTIONS):
            raise TypeError(
                f"SoftAugmentation softens class labels, and the labels {target.dtype} {tuple(target.shape)} are "
                f"{kind.value}; let the dataset give classes as torch.int64, or leave it out"
            )
        return False

    @staticmethod
    def _checked(seen: Tensor, rows: int) -> Tensor:
        """The visible fraction (B,) if it is one; on an accelerator its values are not checked."""
        if not isinstance(seen, Tensor) or seen.shape != (rows,):
            what = tuple(seen.shape) if isinstance(seen, Tensor) else type(seen).__name__
            raise ValueError(f"visible must return a tensor ({rows},), one fraction a sample, it returned {what}")
        if seen.device.type == "cpu" and not bool(((seen >= 0) & (seen <= 1)).all()):
            raise ValueError(
                f"visible must return fractions in [0, 1], it returned {float(seen.min()):g} to {float(seen.max()):g}; "
                "divide the visible pixels by all of them"
            )
        return seen

    def _left_by_erase(self, trace: OperationTrace) -> Tensor:
        if "Erase" not in trace.names:
            raise ValueError(
                "SoftAugmentation reads the visible fraction from Erase, which is not among the stages "
                f"({', '.join(trace.names) or 'none'}); add smartaug.Erase(), or pass visible=lambda batch, trace: ..."
            )
        covered = torch.where(trace.ops == trace.names.index("Erase"), trace.magnitudes, 0.0).sum(1)
        return (1 - covered).clamp(0, 1)
