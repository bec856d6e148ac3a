"""Images and values whose lifted transforms have not run yet: carried from the dataset to the collated batch.

| file | holds |
|---|---|
| `transform` | what stands in place of the dataset's transform, and defers what it returns |
| `images` | deferred images, alone or stacked |
| `calls` | the calls of the transform, and the whole pipeline's results |
| `given` | what the transform was given for each sample |
| `values` | boxes and labels in lists or arrays, whose lifted transforms have not run yet |
| `typed` | deferred images of a tv_tensor's type |
| `places` | what the worker made of a sample with boxes, keypoints or several images |
| `rows` | the sample of each row, where only some of the images are deferred |
| `rest` | the lifted transforms, run on one image after all, from what the worker made of it |
| `collecting` | decides for each sample whether its lifted transforms may run on the collated batch |
"""

from .calls import Call, CallOnOne  # whose pickles of earlier versions name this module
from .images import DeferredBatch, DeferredImage
from .transform import DeferredAlbumentations, DeferredTransform

__all__ = ["Call", "CallOnOne", "DeferredAlbumentations", "DeferredBatch", "DeferredImage", "DeferredTransform"]
