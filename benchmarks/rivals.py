"""Other libraries' augmentations at RandAugment N = 2, M = 9 and as single operations, each on its own input type.

Per-sample rivals get lists of ready-made PIL images, (H, W, C) arrays or (C, H, W) tensors, and what they return is not
put into a batch: both are in their favour. Batched rivals get a ready-made batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import albumentations
import cv2
import kornia.augmentation as kornia
import numpy as np
import torch
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from torch import Tensor
from torchvision.transforms import v2

cv2.setNumThreads(1)
Call = Callable[[], Any]


class Inputs:
    """The same pictures in every form: batch (B, C, H, W) uint8 and float, tensors, arrays, PIL images."""

    def __init__(self, batch: Tensor) -> None:
        self.batch, self.floats = batch, batch.float() / 255
        self.tensors = [image.clone() for image in batch]
        self.arrays = [np.ascontiguousarray(image.permute(1, 2, 0).numpy()) for image in batch]
        self.pictures = [Image.fromarray(array) for array in self.arrays]
        self.size = batch.shape[-1]


def each(function: Callable[[Any], Any], samples: Sequence[Any]) -> Call:
    """Call ``function`` on every sample."""
    return lambda: [function(sample) for sample in samples]


def each_array(transform: Any, arrays: Sequence[np.ndarray]) -> Call:
    """albumentations takes the picture by keyword."""
    return lambda: [transform(image=array)["image"] for array in arrays]


def albumentations_operations(size: int) -> list[Any]:
    """The 14 operations at magnitude 9 of 31 (0.3 of the range), nearest interpolation."""
    shift = int(150 / 331 * size * 0.3)
    degrees = 5.14  # arctan(0.09)
    warp: dict[str, Any] = {"interpolation": cv2.INTER_NEAREST, "p": 1}
    none: dict[str, Any] = {"brightness": (1, 1), "contrast": (1, 1), "saturation": (1, 1), "hue": (0, 0), "p": 1}
    both = (0.73, 1.27)
    return [
        albumentations.NoOp(p=1),
        albumentations.Affine(shear={"x": (-degrees, degrees), "y": (0, 0)}, **warp),
        albumentations.Affine(shear={"x": (0, 0), "y": (-degrees, degrees)}, **warp),
        albumentations.Affine(translate_px={"x": (-shift, shift), "y": (0, 0)}, **warp),
        albumentations.Affine(translate_px={"x": (0, 0), "y": (-shift, shift)}, **warp),
        albumentations.Affine(rotate=(-9, 9), **warp),
        albumentations.ColorJitter(**{**none, "brightness": both}),
        albumentations.ColorJitter(**{**none, "saturation": both}),
        albumentations.ColorJitter(**{**none, "contrast": both}),
        albumentations.Sharpen(alpha=(0.27, 0.27), lightness=(1, 1), p=1),
        albumentations.Posterize(num_bits=7, p=1),
        albumentations.Solarize(threshold_range=(0.7, 0.7), p=1),
        albumentations.AutoContrast(p=1),
        albumentations.Equalize(p=1),
    ]


def kornia_gated() -> Any:
    """Each operation twice, each time on every sample with probability 1/14: per-sample choice, two on average."""
    operations = [
        lambda p: kornia.RandomAffine(0, shear=(-5.14, 5.14), p=p),
        lambda p: kornia.RandomAffine(0, shear=(0, 0, -5.14, 5.14), p=p),
        lambda p: kornia.RandomAffine(0, translate=(0.136, 0), p=p),
        lambda p: kornia.RandomAffine(0, translate=(0, 0.136), p=p),
        lambda p: kornia.RandomRotation(9.0, p=p),
        lambda p: kornia.RandomBrightness((0.73, 1.27), p=p),
        lambda p: kornia.RandomSaturation((0.73, 1.27), p=p),
        lambda p: kornia.RandomContrast((0.73, 1.27), p=p),
        lambda p: kornia.RandomSharpness(0.27, p=p),
        lambda p: kornia.RandomPosterize(7.0, p=p),
        lambda p: kornia.RandomSolarize(0.05, 0.0, p=p),
        lambda p: kornia.RandomAutoContrast(p=p),
        lambda p: kornia.RandomEqualize(p=p),
    ]
    return kornia.AugmentationSequential(*[make(1 / 14) for _ in range(2) for make in operations], data_keys=["input"])


def randaugment(inputs: Inputs) -> dict[str, Call]:
    """RandAugment N = 2, M = 9."""
    size = inputs.size
    timm_policy = rand_augment_transform("rand-m9-n2", {"translate_const": int(size * 0.45)})
    some = albumentations.SomeOf(albumentations_operations(size), n=2, replace=True, p=1)
    on_tensors, on_pictures = v2.RandAugment(2, 9), v2.RandAugment(2, 9)
    same, gated = kornia.auto.RandAugment(n=2, m=9), kornia_gated()
    return {
        "timm, PIL": each(timm_policy, inputs.pictures),
        "torchvision, PIL": each(on_pictures, inputs.pictures),
        "torchvision, tensor": each(on_tensors, inputs.tensors),
        "albumentations": each_array(some, inputs.arrays),
        "kornia, one op for all (not equivalent)": lambda: same(inputs.floats),
        "kornia, per-sample gates": lambda: gated(inputs.floats),
    }


def single(name: str, inputs: Inputs) -> dict[str, Call]:
    """One operation on every sample by each library."""
    size, batch = inputs.size, inputs.batch
    hole = size // 2
    alb, tv, kor = {
        "equalize": (albumentations.Equalize(p=1), v2.RandomEqualize(1.0), kornia.RandomEqualize(p=1.0)),
        "sharpness": (
            albumentations.Sharpen(alpha=(0.5, 0.5), lightness=(1, 1), p=1),
            v2.RandomAdjustSharpness(1.5, 1.0),
            kornia.RandomSharpness(1.5, p=1.0),
        ),
        "posterize": (
            albumentations.Posterize(num_bits=4, p=1),
            v2.RandomPosterize(4, 1.0),
            kornia.RandomPosterize(4.0, p=1.0),
        ),
        "colour jitter": (
            albumentations.ColorJitter(0.4, 0.4, 0.4, 0.1, p=1),
            v2.ColorJitter(0.4, 0.4, 0.4, 0.1),
            kornia.ColorJitter(0.4, 0.4, 0.4, 0.1, p=1.0),
        ),
        "flip + crop": (
            albumentations.Compose(
                [
                    albumentations.Pad(4, p=1),
                    albumentations.RandomCrop(size, size, p=1),
                    albumentations.HorizontalFlip(p=0.5),
                ]
            ),
            v2.Compose([v2.RandomCrop(size, padding=4), v2.RandomHorizontalFlip()]),
            kornia.AugmentationSequential(kornia.RandomCrop((size, size), padding=4), kornia.RandomHorizontalFlip()),
        ),
        "cutout": (
            albumentations.CoarseDropout((1, 1), (hole, hole), (hole, hole), fill=0, p=1),
            v2.RandomErasing(1.0, (0.25, 0.25), (1.0, 1.0)),
            kornia.RandomErasing((0.25, 0.25), (1.0, 1.0), p=1.0),
        ),
        "CutMix": (None, v2.CutMix(num_classes=10), kornia.RandomCutMixV2(p=1.0)),
    }[name]
    if name == "CutMix":
        label = torch.arange(len(batch)) % 10
        return {
            "torchvision, one box for all": lambda: tv(batch, label),
            "kornia": lambda: kor(inputs.floats, label.float()),
        }
    return {
        "albumentations": each_array(alb, inputs.arrays),
        "torchvision, tensor": each(tv, inputs.tensors),
        "torchvision, one draw for the batch": lambda: tv(batch),
        "kornia": lambda: kor(inputs.floats),
    }


def affine(inputs: Inputs, interpolation: str) -> dict[str, Call]:
    """One random affine map a sample: OpenCV's own loop and albumentations."""
    flag = cv2.INTER_LINEAR if interpolation == "bilinear" else cv2.INTER_NEAREST
    generator = np.random.default_rng(0)
    size = inputs.size
    alb = albumentations.Affine(
        rotate=(-20, 20), scale=(0.8, 1.2), shear={"x": (-10, 10), "y": (0, 0)}, interpolation=flag, p=1
    )

    def loop() -> list[np.ndarray]:
        done = []
        for array in inputs.arrays:
            matrix = cv2.getRotationMatrix2D(
                (size / 2, size / 2), generator.uniform(-20, 20), generator.uniform(0.8, 1.2)
            )
            done.append(cv2.warpAffine(array, matrix, (size, size), flags=flag))
        return done

    return {"OpenCV, loop": loop, "albumentations": each_array(alb, inputs.arrays)}


def quiet() -> None:
    """Silence the libraries' own warnings; they are not what is measured."""
    warnings.filterwarnings("ignore")
