"""`lift`: splits an existing transform pipeline into a part that runs per sample and a part that runs on the batch.

Each supported library has its own module or folder here. It is imported only when a pipeline contains one of its
transforms.

| file | holds |
|---|---|
| `lifted`, `datasets` | `Lifted`, the split pipeline; `lift`, which splits a transform or a dataset's transform |
| `slots` | which attribute of a dataset holds its pipeline |
| `deferred` | images whose lifted transforms have not run yet |
| `rest` | the lifted transforms, run on one image after all, from what the worker made of it |
| `collecting` | the check, per sample, that lifted transforms may run on the collated batch |
| `roles` | the arguments of a pipeline: which is the image, which are masks, and which cannot be lifted |
| `probe` | reads a dataset's first sample to decide whether its transform can be lifted |
| `source` | the user's dataset behind the loader's copy: changes to it reach the copy or raise RuntimeError |
| `steps`, `registry` | the record of one translated transform; the translator module of each library |
| `worker_transform` | the transforms that stay in the workers, followed by the conversion to a tensor |
| `keyed_draws` | random numbers in the workers, determined by seed, epoch and sample |
| `torchvision`, `albumentations`, `timm`, `kornia` | the translator of each library: its containers and transforms |
| `joint`, `made_places` | batches with boxes, keypoints or lists of images; what the worker made of such a sample |
| `moving_masks`, `kornia_targets` | masks of any number and size; Kornia's masks, boxes and keypoints |
| `deferred_value` | boxes and labels in lists or arrays, whose lifted transforms have not run yet |
| `rest` | the lifted transforms, run on one image after all |
| `decode` | JPEG files that a dataset opens with Pillow: decoded and cropped by faster code; `Lift` |
| `noise` | rectangles of normal noise, which two libraries have and `augment` does not |

The beginning of `steps.py` explains how to write a translator for another library; in Python:
``import smartaug, sys; help(sys.modules["smartaug.lift.steps"])``.
"""

from .datasets import lift
from .decode.settings import Lift
from .lifted import Lifted

__all__ = ["Lift", "Lifted", "lift"]
