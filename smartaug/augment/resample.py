"""Parts of images resized with antialiasing.

What: a segment of plans, `Resample`, beside `plan.Warp`, which reads as many pixels for each pixel of the result
whatever the scale. When: images that shrink, for which `Warp` shows aliasing. Cost: that of torch's `interpolate` for
each sample, on every backend; on uint8 on the CPU it is shared among threads. Reference: Pillow's ``Image.resize``,
whose filters torch has.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from .plan import Warp


@dataclass(frozen=True)
class Resample(Warp):
    """The pixels within ``bounds``, which are whole, resized to ``size``; ``matrix`` says it for what moves along.

    interpolation: "bilinear" or "bicubic" (a = −0.5), with a filter that is as wide as a pixel of the result is in the
    image, and never narrower than a pixel of the image. Rows that are not active keep their size.
    """

    def without_filter(self) -> Warp:
        """The same map as a `Warp`: for what may not be averaged, such as masks."""
        return Warp(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Warp)})
