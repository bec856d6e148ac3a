"""8-bit CIE Lab as OpenCV computes it: its tables, as integers, so that every backend gives the same bytes.

From RGB: sRGB values become linear light in units of 1/8 grey level (`linear`); a product with `TO_XYZ`, whose entries
are in units of 1/4096, gives X, Y and Z over those of the white point D65; `root` has their cube roots in units of
1/32768. Back: roots, X, Y and Z are in units of 1/16384 (`ONE`), and `gamma` makes sRGB values of linear light.
Reference: OpenCV's documentation of `cvtColor` for 8-bit images.
"""

from __future__ import annotations

import numpy as np

ONE = 1 << 14  # the unit on the way back
KNEE = 3390  # 6/29 of it, below which the cube is a straight line
WHITE = np.array([0.950456, 1.0, 1.088754])
TO_XYZ = np.rint(
    4096
    * np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
    / WHITE[:, None]
).astype(np.int32)
"""(3, 3) int32: linear red, green and blue to X, Y and Z over the white's."""
TO_RGB = np.rint(
    4096
    * np.array([[3.240479, -1.53715, -0.498535], [-0.969256, 1.875991, 0.041556], [0.055648, -0.204043, 1.057311]])
    * WHITE
).astype(np.int32)
"""(3, 3) int32: back."""


def linear() -> np.ndarray:
    """(256,) int32: sRGB values to linear light, 0–2040."""
    unit = np.arange(256) / 255
    return np.rint(2040 * np.where(unit > 0.04045, ((unit + 0.055) / 1.055) ** 2.4, unit / 12.92)).astype(np.int32)


def root() -> np.ndarray:
    """(3072,) int32: a part of XYZ, 0–2040 for the white's, to its cube root in units of 1/32768."""
    part = np.arange(3072) / 2040
    exact = 32768 * np.where(part < 216 / 24389, part * (841 / 108) + 16 / 116, np.cbrt(part))
    return np.rint(exact.astype(np.float32)).astype(np.int32)  # in single precision two values are ties, to even


def lightness() -> np.ndarray:
    """(2, 256) int32: L to Y and to Y's cube root."""
    level = np.arange(256)
    below = level <= 20
    root_of_y = np.where(below, 16 / 116 + level * 5 / (3 * 17 * 29), (level * 100 / 255 + 16) / 116)
    y = np.where(below, level * 20 * 9 / (17 * 29**3), root_of_y**3)
    return np.rint(ONE * np.stack([y, root_of_y])).astype(np.int32)


A = 5 * 53687, 128, 128 * ONE // 500
"""What a adds to Y's cube root to give X's: (a · first + second) / 2**13 − third."""
B = 41943, 16, 128 * ONE // 200 - 1
"""What b takes from it to give Z's: (b · first + second) / 2**9 − third."""
LINE = ONE * 16 // 116 * 108 // 841  # where the straight line is 0


def gamma() -> np.ndarray:
    """(4096,) uint8: linear light in units of 1/4096 to sRGB values."""
    unit = np.arange(4096) / 4096
    return np.rint(255 * np.where(unit <= 0.0031308, unit * 12.92, 1.055 * unit ** (1 / 2.4) - 0.055)).astype(np.uint8)
