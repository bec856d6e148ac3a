"""What moves with the images: found in a batch by ``follow=``, types and names, moved by their plans, and put back.

| file | holds |
|---|---|
| `addresses` | where leaves lie, those of each sample in a list included |
| `pictures` | where the images are, and how large |
| `followers` | which leaves follow the images: `follow=`, types, names |
| `moving` | what follows the images of a batch: read, moved by plans, put back |
| `maps` | masks and other maps, moved |
| `objects/` | leaves with a row for each object, such as boxes and their labels |
| `places` | what may lie in the images and is not known to follow: an error where a stage moves pixels |
"""

from .moving import Following, Found, Moving

__all__ = ["Following", "Found", "Moving"]
