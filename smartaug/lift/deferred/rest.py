"""The lifted transforms, run on one image after all: the user's own, behind the part that ran in the worker.

What: `Rest` turns what the worker's part made back into the object that the user's next transform takes (a PIL image,
an array, a tensor) and calls the user's transforms on it. When: an image of a lifted dataset whose lifted transforms
may not run on the batch (see `collecting`). The image that the dataset gave the transform, often a whole photo, can so
be freed at once, and what the worker's part drew is not drawn again. Cost: nothing unless it is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import is_not
from typing import Any

import numpy as np
from torch import Tensor

from ..lifted import Lifted
from ..steps import Transform
from ..worker_transform import WorkerTransform

Form = str | int  # a mode of PIL's; "Tensor", "Image" (torchvision's tv_tensors); or the dimensions of an array
_MODES = {"L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB"}  # a PIL image of these is its mode and its bytes


class Rest:
    """The user's ``transforms`` that follow ``head``, a `WorkerTransform` without them."""

    def __init__(self, head: WorkerTransform, transforms: Sequence[Transform]) -> None:
        self.head, self.transforms = head, tuple(transforms)

    @classmethod
    def of(cls, lifted: Lifted) -> Rest | None:
        """That of a lifted pipeline; None where the pipeline is not head's transforms and then these, one by one."""
        head = lifted.head
        if (
            type(head) is not WorkerTransform
            or head.last is None
            or any(step.rest is not None for step in lifted.steps)
        ):
            return None
        number = len(head.transforms)
        where = [step.where == "worker" for step in lifted.steps]
        own = [step.original for step in lifted.steps]
        if not all(where[:number]) or any(where[number:]) or any(map(is_not, own, head.transforms)):
            return None
        return cls(head, own[number:])

    def __call__(self, made: Tensor, form: Form) -> Any:
        """The output of the whole pipeline, from an output (C, H, W) of ``head`` and the form of the image before."""
        image = restored(made, form)
        for transform in self.transforms:
            image = transform(image)
        return image


def form_of(image: object) -> Form | None:
    """What a tensor (C, H, W) of its values does not say about an image; None: it could not be restored from these."""
    mode = getattr(image, "mode", None)
    if isinstance(mode, str):  # a tensor has a method of that name
        return mode if mode in _MODES else None
    if type(image) is Tensor:
        return "Tensor"
    if type(image) is np.ndarray:
        return image.ndim
    is_image = type(image).__name__ == "Image" and type(image).__module__.startswith("torchvision.tv_tensors")
    return "Image" if is_image else None


def restored(made: Tensor, form: Form) -> Any:
    """An image of ``form`` with the values of ``made``, (C, H, W), in memory of its own."""
    if form == "Tensor":
        return made.clone()
    if form == "Image":
        from torchvision import tv_tensors

        return tv_tensors.Image(made.clone())
    array = made.permute(1, 2, 0).numpy().copy()
    if isinstance(form, int):
        return array if form == 3 else array[..., 0]
    from PIL import Image

    return Image.frombytes(form, (made.shape[2], made.shape[1]), array.tobytes())
