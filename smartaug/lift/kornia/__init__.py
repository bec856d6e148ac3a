"""The translator for Kornia.

| file | holds |
|---|---|
| `translate` | containers, modules, and the table of those with a plan |
| `targets` | masks, boxes and keypoints of ``data_keys``, which move with their images |
"""

from .targets import box_formats, following
from .translate import ListWorkerTransform, Planned, head, parts, translate

__all__ = ["ListWorkerTransform", "Planned", "box_formats", "following", "head", "parts", "translate"]
