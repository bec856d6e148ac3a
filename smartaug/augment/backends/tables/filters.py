"""The operations of a `plan.Filter`, which computes each pixel from its neighbours. Codes are positions.

| name | amount |
|---|---|
| Identity | none |
| Sharpness | factor ≥ 0: 0 the smoothed image, 1 changes nothing, more sharpens |
| GaussianBlur | standard deviation in pixels |
"""

from __future__ import annotations

FILTERS = ("Identity", "Sharpness", "GaussianBlur")
