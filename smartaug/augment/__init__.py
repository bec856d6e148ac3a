"""Augmentations drawn per sample and run on whole batches.

| augmentation | what a sample receives | reference |
|---|---|---|
| `RandAugment` | N operations at one magnitude, or drawn, or its own | Cubuk et al. 2020, torchvision's table |
| `TrivialAugment` | one operation at a random magnitude, or its own | Müller & Hutter 2021, torchvision's Wide table |
| `AutoAugment` | one of 25 learned pairs of operations | Cubuk et al. 2019, torchvision's three policies |
| `AugMix` | a mixture of chains of operations | Hendrycks et al. 2020 |
| `PadCrop`, `RandomResizedCrop`, `Resize`, `Flip`, `Affine` | another place, size or pose | torchvision |
| `Erase` | rectangles filled with one value | Zhong et al. 2020; DeVries & Taylor 2017 |
| `MixUp`, `CutMix` | a blend with, or a rectangle of, another sample (or row) | Zhang et al. 2018; Yun et al. 2019 |
| `SwapFeatures`, `SMOTE` | features of other rows; a step to a neighbour of its class | SCARF 2022; SMOTE 2002 |
| `GaussianNoise` | noise on every value of a picture or row | torchvision |
| `Mosaic` | parts of four samples around a point | Bochkovskiy et al. 2020, the YOLO trainers |
| `CopyPaste` | objects of another sample, by their instance masks | Ghiasi et al. 2021 |
| `ColorJitter`, `Grayscale` | other colours | torchvision |
| `Invert`, `Posterize`, `Solarize`, `AutoContrast`, `Equalize` | other values | torchvision |
| `Sharpness`, `GaussianBlur` | sharper or softer edges | torchvision |
| `Normalize` | (x − mean) / std | torchvision |
| `Pad`, `Crop` | a frame around it, a window of it | torchvision |
| `Compose` | several of these, in order | |
| `RandomApply`, `OneOf`, `SomeOf`, `RandomOrder` | some of these, drawn per sample | torchvision, albumentations |

Arguments mean the same everywhere:

* ``p``: the probability that a sample is changed, drawn for each sample. Its default is that of torchvision's transform
  of that kind, and 1 where torchvision's has no ``p``.
* ``fill``: the value of pixels that do not come from the image, in its own units (0–255 for uint8), one number or one
  per channel; ``mask_fill``: that of a mask that moves with the image.
* ``size``, ``kernel_size``: (height, width) in pixels, or one number for both.
* ``interpolation``: "nearest" or "bilinear", or torchvision's InterpolationMode.
* ``backend``: "torch", "numba" or "triton", None for the fastest there is. A plan is executed by one backend: inside
  `Compose` and the combinators it counts for all, and different ones are an error.

| file or folder | holds |
|---|---|
| `plan`, `projection` | what will happen to a batch, as a value; its projective maps |
| `resample` | resizes with antialiasing, as segments of plans |
| `unequal`, `one_size` | plans for images of unequal size; running what makes them equal |
| `trace` | what of it each sample received |
| `mixing` | segments that put several samples together; partners |
| `augmentation` | the base class: sample, plan, apply |
| `ops` | the operations, one concept a file |
| `backends` | one folder per way to execute a plan |
| `labels` | makes the labels of mixed samples |
| `targets` | masks, boxes, keypoints and all else that moves with the images |
| `magnitudes` | magnitudes that each sample has of its own: EntAugment, SRA |
| `samples` | which samples a plan is being drawn for |
| `steps` | running stages one after the other |
| `rows` | what plans do to rows of features and sequences |
| `foreign` | Kornia modules and callables as stages of their own |
| `partly` | augmenting some samples of a batch beside the others |
| `generators` | the random generators that a transform holds |
| `as_dict` | pipelines as plain values, for YAML and JSON files |
| `checks` | argument checks |
"""

from . import ops
from .augmentation import Augmentation
from .ops import *  # noqa: F403 - one list of operations, in `ops`

__all__ = ["Augmentation"]
__all__ += ops.__all__
