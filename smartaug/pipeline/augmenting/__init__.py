"""The augmenting half of the pipeline: lifted and batched stages, run on the images of a batch.

| file | holds |
|---|---|
| `stage` | the augment stage on a batch of the user's structure |
| `augmenting` | the steps on images |
| `result_rows` | which rows a batch has afterwards, where a coreset selects what is augmented |
| `tables` | tables of a batch's samples, planned as one |
| `image_lists` | images in lists, one a sample, of unequal size: one plan for each size, or one for all (`unequal`) |
| `unequal`, `trial` | images that the first step makes equal, as one batch from there on; which way is faster |
"""

from .augmenting import Augmented, Augmenting

__all__ = ["Augmented", "Augmenting"]
