"""`lift`: an existing pipeline in two halves, what stays per sample and what runs on the batch.

Each library has a module or folder of its own here, imported when a pipeline holds one of its transforms.

| file | holds |
|---|---|
| `lifted`, `datasets` | `Lifted`, a pipeline in two halves; `lift` of a transform or of a dataset |
| `deferred` | images whose lifted transforms have still to run, and how each sample shows that they may |
| `roles` | what a pipeline is given: which part is the image, which are masks, and what cannot be lifted |
| `probe` | what a dataset's first sample shows |
| `source` | the user's dataset behind a loader's copy: what changes on it reaches the copy, or is an error |
| `steps`, `registry` | what becomes of one transform; which library knows it |
| `worker_transform` | what stays of a pipeline in the workers |
| `keyed_draws` | what runs in the workers draws by seed, epoch and sample |
| `torchvision`, `albumentations`, `timm`, `kornia` | one library each: containers, table of all its transforms |
| `noise` | operations that `augment` does not have and several libraries do |

How to write a translator for another library stands at the beginning of `steps.py`; in Python:
``import smartaug, sys; help(sys.modules["smartaug.lift.steps"])``.
"""

from .datasets import lift
from .lifted import Lifted

__all__ = ["Lifted", "lift"]
