"""The translator for albumentations.

| file | holds |
|---|---|
| `translate` | containers, conversions, and the table of all transforms |
| `geometry`, `values` | translators of transforms that move pixels, and of those that change values |
| `ops/` | operations of albumentations that `augment` does not have |
| `targets` | boxes, keypoints and masks that move with their images |
| `worker_half` | the part of a pipeline that stays in the workers |
"""

from .targets import box_formats, following
from .translate import head, parts, translate

__all__ = ["box_formats", "following", "head", "parts", "translate"]
