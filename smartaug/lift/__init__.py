"""An existing pipeline, compiled: `lift` and what it gives. One module per library, imported when it is met.

| file | holds |
|---|---|
| `lifted`, `datasets` | `Lifted`, a pipeline in two halves; `lift` of a transform or of a dataset |
| `steps`, `registry`, `head` | what becomes of one transform; which library knows it; what stays in the workers |
| `keyed_draws` | what stays in the workers draws by seed, epoch and sample |
| `torchvision`, `albumentations`, `timm`, `kornia` | one library each: containers, conversions, the table of all |
| `torchvision_*`, `albumentations_*` | its translators of geometry and of values; albumentations' own head |
| `opencv_*`, `timm_ops`, `perspective`, `noise` | operations that `augment` does not have |
| `probe` | whether a dataset does with a transform what lift takes for granted |
"""

from .datasets import lift
from .lifted import Lifted

__all__ = ["Lifted", "lift"]
