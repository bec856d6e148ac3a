"""The part of a pipeline that stays in the workers: the user's transforms in order, then the conversion to a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .decode.parts import Part, waiting
from .decode.resampling import applied, pixels_of, resizes
from .keyed_draws import KeyedDraws
from .steps import Transform

_EIGHT_BIT = ("L", "LA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "La", "RGBa")


class AsTensor:
    """Converts a PIL image or an array (H, W) or (H, W, C) to a tensor (C, H, W) of equal values; copies a tensor.

    only: name of a lifted transform that does nothing to PIL images and was translated for tensors; PIL images then
    raise TypeError. PIL images of more than 8 bits per channel always raise TypeError: libraries differ in their scale.
    """

    def __init__(self, only: str | None = None) -> None:
        self.only = only

    def __call__(self, image: Any) -> Any:
        """The image as a tensor (C, H, W)."""
        if isinstance(image, Tensor):
            return image.clone()  # the dataset may reuse the memory for its next sample
        mode = getattr(image, "mode", None)
        if mode is not None:
            if self.only is not None:
                raise TypeError(
                    f"{self.only} leaves PIL images as they are, and was lifted as it works on tensors, but a PIL "
                    "image came; put ToImage() before it, or lift the dataset, which shows what its images are"
                )
            if mode not in _EIGHT_BIT:
                if mode not in ("1", "P"):
                    raise TypeError(
                        f"lift takes PIL images of 8 bits a channel, got mode {mode!r}; write lift=False, or convert "
                        'the image in the dataset: image.convert("RGB")'
                    )
                image = image.convert("L") if mode == "1" else image
            pixels = pixels_of(image)
            if pixels is not None:
                return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
            image = np.array(image)
        elif not isinstance(image, np.ndarray):
            raise TypeError(f"lift needs an image (PIL, array or tensor) here, got {type(image).__name__}")
        elif (
            image.ndim < 3 or image.shape[2] == 1 or not image.flags.writeable
        ):  # the cases that ascontiguousarray and contiguous below do not copy
            image = image.copy()
        given = torch.from_numpy(np.ascontiguousarray(image))
        return given[None] if given.ndim == 2 else given.permute(2, 0, 1).contiguous()

    def __repr__(self) -> str:
        return "AsTensor()" if self.only is None else f"AsTensor(only={self.only!r})"


class WorkerTransform:
    """Runs the user's ``transforms`` one after the other on the dataset's arguments, then ``last`` on the images.

    With several arguments (image, target), each transform is called with all of them, as in torchvision v2, and the PIL
    images in the result are converted.
    """

    def __init__(self, transforms: Sequence[Transform], last: AsTensor | None = None) -> None:
        self.transforms, self.last = tuple(transforms), last
        self._keyed = KeyedDraws(self.transforms)
        self._resize = tuple(map(resizes, self.transforms))

    @property
    def only_to_tensor(self) -> bool:
        """Whether converting an image to a tensor is all it does."""
        return not self.transforms and type(self.last) is AsTensor

    def __call__(self, *inputs: Any) -> Any:
        """The sample after the transforms that stay."""
        several = len(inputs) > 1
        with self._keyed():
            for transform, resize in zip(self.transforms, self._resize, strict=True):
                outputs = applied(transform, inputs) if resize else transform(*inputs)
                inputs = outputs if several else (outputs,)
        if self.last is not None:
            inputs = tuple(_tensors(part, self.last) for part in inputs) if several else (self.to_tensor(inputs[0]),)
        return inputs if several else inputs[0]

    def before_last(self, image: Any) -> Any:
        """One image after the transforms that stay, before ``last``."""
        if self.transforms:
            with self._keyed():
                for transform, resize in zip(self.transforms, self._resize, strict=True):
                    image = applied(transform, (image,)) if resize else transform(image)
        return image

    def waiting(self, image: Any) -> Part | None:
        """What is to be decoded of an image that `before_last` gave, where that is left to the loader's process."""
        plain = type(self.last) is AsTensor and self.last.only is None
        return waiting(image) if plain else None

    def to_tensor(self, sample: Any) -> Any:
        """What `before_last` gave, after ``last``; of a container the PIL images in it."""
        assert self.last is not None
        return _tensors(sample, self.last) if isinstance(sample, (dict, tuple, list)) else self.last(sample)

    def __repr__(self) -> str:
        shown = [repr(part) for part in (*self.transforms, *([self.last] if self.last else []))]
        return f"WorkerTransform({', '.join(shown)})"


def _tensors(value: Any, last: AsTensor) -> Any:
    """``value`` with the PIL images in it converted to tensors."""
    if isinstance(value, dict):
        return {key: _tensors(part, last) for key, part in value.items()}
    if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
        return type(value)(_tensors(part, last) for part in value)
    return last(value) if hasattr(value, "mode") and hasattr(value, "getbands") else value
