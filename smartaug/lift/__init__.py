"""An existing pipeline, compiled: `lift` and what it gives. One module per library, imported when it is met.

| file | holds |
|---|---|
| `lifted`, `datasets` | `Lifted`, a pipeline in two halves; `lift` of a transform or of a dataset |
| `deferred`, `roles` | how each image shows that it may be lifted; what a pipeline is given: image, masks, others |
| `probe`, `source` | what a dataset's first sample shows; the user's dataset behind a loader's copy |
| `steps`, `registry` | what becomes of one transform; which library knows it |
| `worker_transform` | what stays of a pipeline in the workers |
| `keyed_draws` | what stays in the workers draws by seed, epoch and sample |
| `torchvision`, `albumentations`, `timm`, `kornia` | one library each: containers, conversions, the table of all |
| `noise` | operations that `augment` does not have and several libraries do |

How to write a translator for another library: the beginning of `steps.py`; in Python,
``help(sys.modules["smartaug.lift.steps"])``.
"""

from .datasets import lift
from .lifted import Lifted

__all__ = ["Lifted", "lift"]
