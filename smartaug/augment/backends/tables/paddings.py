"""What a `plan.Warp` reads outside the image; a padding's code in compiled backends is its position.

For a row of pixels a b c d: "constant" reads a fill value, "edge" repeats d d d, "reflect" mirrors without repeating
the outermost pixel, c b a, and "symmetric" mirrors with it, d c b. The names are those of torchvision and NumPy.
"""

from __future__ import annotations

PADDINGS = ("constant", "edge", "reflect", "symmetric")
