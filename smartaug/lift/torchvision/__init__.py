"""The translator for torchvision, transforms v1 and v2.

| file | holds |
|---|---|
| `translate` | containers, conversions, policies, and the table of all transforms |
| `geometry`, `values` | translators of transforms that move pixels, and of those that change values |
| `perspective` | RandomPerspective, which `augment` does not have |
| `targets` | boxes, keypoints and masks that move with their images |
"""

from .targets import following
from .translate import parts, translate

__all__ = ["following", "parts", "translate"]
