"""`lift`: splits an existing transform pipeline into a part that runs per sample and a part that runs on the batch.

Each supported library has its own folder here. It is imported only when a pipeline contains one of its
transforms.

| file | holds |
|---|---|
| `lifted`, `datasets` | `Lifted`, the split pipeline; `lift`, which splits a transform or a dataset's transform |
| `slots`, `holders/` | where a dataset holds its pipeline: an attribute, or the user's object or function |
| `advice` | what to write for a transform that cannot be lifted |
| `deferred/` | images and values whose lifted transforms have not run yet, until they lie in a collated batch |
| `roles` | the arguments of a pipeline: which is the image, which are masks, and which cannot be lifted |
| `probe` | reads a dataset's first sample to decide whether its transform can be lifted |
| `source` | the user's dataset behind the loader's copy: changes to it reach the copy or raise RuntimeError |
| `watch` | whether lifted transforms still have the settings with which they were lifted |
| `steps`, `registry` | the record of one translated transform; the translator module of each library |
| `worker_transform` | the transforms that stay in the workers, followed by the conversion to a tensor |
| `keyed_draws` | random numbers in the workers, determined by seed, epoch and sample |
| `torchvision/`, `albumentations/`, `timm/`, `kornia/` | each library's translator: its containers and transforms |
| `joint` | what travels from the worker with boxes, keypoints or images in a list |
| `moving_masks` | masks of any number and size |
| `decode/` | JPEG files that a dataset opens with Pillow: decoded and cropped by faster code; `Lift` |
| `noise` | rectangles of normal noise, which two libraries have and `augment` does not |

The beginning of `steps.py` explains how to write a translator for another library; in Python:
``import smartaug, sys; help(sys.modules["smartaug.lift.steps"])``.
"""

from .datasets import lift
from .decode.settings import Lift
from .lifted import Lifted

__all__ = ["Lift", "Lifted", "lift"]
