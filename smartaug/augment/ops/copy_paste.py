"""CopyPaste: objects of another sample pasted onto each one.

What: some objects of a partner are copied with their pixels, by their instance masks, over a sample of the batch; its
own objects lose what is covered, and their boxes with it; those of which nothing is left are dropped. When: instance
segmentation and detection with masks, above all where some classes are rare; behind flips and a strong change of scale,
as in the paper. Cost: one extra read of the batch, a look at the masks' pixels on their device. Reference: Ghiasi et
al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation", CVPR 2021; torchvision's
reference script of that name. Difference: each object is drawn by itself; what is pasted is not blurred at its border,
which the paper found to change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ... import draws
from ..augmentation import Augmentation, check_probability
from ..checks import check_count
from ..mixing import PasteObjects, cycle
from ..plan import Plan, Trace


class CopyPaste(Augmentation):
    """Paste each object of a partner with probability ``share``, onto a sample with probability ``p``.

    most: at most so many objects a sample; None: any number. Partners are drawn as for `MixUp` and `CutMix`, from the
    batch. A label of the whole image stays that of the sample.

    Which pixels are pasted depends on the instance masks: in a loader masks (n, H, W), one a box, beside the boxes. The
    plan by itself is open; with masks (M, H, W) of all objects and the rows (M,) of the batch that they lie in,
    ``smartaug.augment.targets.settled(plan, masks, row)`` is one that runs. A batch without masks raises a ValueError.
    """

    def __init__(
        self, share: float = 0.5, *, most: int | None = None, p: float = 1.0, backend: str | None = None
    ) -> None:
        super().__init__(backend=backend)
        self.share, self.p = check_probability(share, "share"), check_probability(p)
        self.most = None if most is None else check_count(most, "most", 1)

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw the partners of the B samples; the objects are drawn when the masks are known."""
        partner = cycle(draws.fold(key, 0))
        drawn = draws.uniform(draws.fold(key, 1)) < self.p
        partner = torch.where(drawn, partner, torch.arange(len(partner)))
        paste = PasteObjects(partner, draws.fold(key, 2), self.share, self.most)
        trace = Trace(drawn.long()[:, None], torch.zeros(len(partner), 1), ("Identity", "CopyPaste"))
        return Plan(tuple(shape), (paste,), trace)
