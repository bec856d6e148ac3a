"""The coordinates of a `plan.Warp`: integers, so that backends agree to the bit, in units of 2**-32 pixels.

A pixel's number is a coordinate shifted right by 32 bits, and that of the nearest pixel the coordinate and a half of
`ONE`, shifted alike.
"""

from __future__ import annotations

ONE = 1 << 32
"""One pixel."""
