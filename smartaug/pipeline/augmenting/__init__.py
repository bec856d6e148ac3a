"""The augmenting half of the pipeline: lifted and batched stages, run on the images of a batch.

| file | holds |
|---|---|
| `stage` | the augment stage on a batch of the user's structure |
| `augmenting` | the steps on images |
| `result_rows` | which rows a batch has afterwards, where a coreset selects what is augmented |
| `tables` | tables of a batch's samples, planned as one |
| `image_lists` | images in lists, one a sample, of several sizes |
| `unequal`, `trial` | these made equal by the first step, where that is faster; what is faster |
"""

from .augmenting import Augmented, Augmenting

__all__ = ["Augmented", "Augmenting"]
