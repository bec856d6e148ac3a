"""Targets: everything that lies in an image and moves with it.

| file | holds |
|---|---|
| `kinds` | what a target is: the words and settings that ``follow=`` takes |
| `objects` | boxes, keypoints and polygons of a batch as points |
| `through` | points moved by a plan |
| `boxes` | formats of boxes, clipping, which boxes are dropped |
| `keypoints` | formats of keypoints, visibility, left and right |
| `maps` | masks, heatmaps, flow, disparity and further images moved by a plan |
| `mixed` | objects and maps where samples are mixed |
| `instances` | masks of single objects; which of them CopyPaste pastes |
| `flow` | vectors of motion, turned with their images; disparity, scaled with them |
| `mask_values` | masks of any type, carried by one that backends move fast |

Coordinates here are continuous pixels: (0, 0) is the outer corner of the first pixel, (W, H) the far corner of the
image. A plan counts pixel indices, which are smaller by 0.5.

A kind of segment that moves pixels says in functions registered with `through.through` and `maps.map_segments` how
points and maps follow it; until it does, they are refused.
"""

from .instances import move_instances, settled
from .kinds import Boxes, Disparity, Flow, Heatmap, Image, Keypoints, Kind, MapKind, Mask, Object, kind_of

__all__ = [
    "Boxes",
    "Disparity",
    "Flow",
    "Heatmap",
    "Image",
    "Keypoints",
    "Kind",
    "MapKind",
    "Mask",
    "Object",
    "kind_of",
    "move_instances",
    "settled",
]
