"""Magnitudes that each sample has of its own, from what `smartaug.Loss` saw of it: ``magnitude=smartaug.EntAugment()``.

| source | the level of a sample |
|---|---|
| `EntAugment` | 1 − H(p) / log K: the surer the model, the stronger the operation |
| `SRA` | cosine of p and the label: the better the model knows the sample, the stronger the operation |

| file | holds |
|---|---|
| `source` | `SampleMagnitudes`, what sources share: the record of levels, what is drawn without one |
"""

from .ent_augment import EntAugment
from .source import SampleMagnitudes
from .sra import SRA

__all__ = ["SRA", "EntAugment", "SampleMagnitudes"]
