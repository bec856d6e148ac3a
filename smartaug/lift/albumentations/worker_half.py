"""The part of an albumentations pipeline that stays in the workers, called by keyword as the pipeline is."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from ..keyed_draws import KeyedDraws
from ..steps import Transform
from ..worker_transform import AsTensor


class AlbumentationsWorkerTransform:
    """Runs the transforms of a pipeline that stay, then converts the image to a tensor (C, H, W).

    Masks become tensors as ToTensorV2 makes them. Raises TypeError for images that are not uint8: albumentations
    uses other units for them.
    """

    def __init__(self, given: Transform, kept: Sequence[Transform], last: AsTensor) -> None:
        self.available_keys = set(getattr(given, "available_keys", ()))
        self.kept, self.last = tuple(kept), last
        self._keyed, self._is_set = KeyedDraws(self.kept), False
        self.pipeline: Transform = kept[0] if kept else None
        if kept and is_container(given):
            self.pipeline = copy.copy(given)
            self.pipeline.transforms = list(kept)
        last_of_all = given.transforms[-1] if is_container(given) else given
        self.transpose = bool(getattr(last_of_all, "transpose_mask", False))

    @property
    def only_to_tensor(self) -> bool:
        """Whether converting an image to a tensor is all it does."""
        return not self.kept and type(self.last) is AsTensor

    def __call__(self, **sample: Any) -> dict[str, Any]:
        """The sample after the transforms that stay."""
        image = sample["image"]
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            what = f"{image.dtype} array" if isinstance(image, np.ndarray) else type(image).__name__
            raise TypeError(
                f"lift takes albumentations pipelines on uint8 arrays (H, W, C), got image={what}; write lift=False"
            )
        if self.pipeline is not None:
            with nullcontext() if self._is_set else self._keyed():
                sample = self.pipeline(**sample)
        made = {**sample, "image": self.last(sample["image"])}
        if isinstance(made.get("mask"), np.ndarray):
            made["mask"] = self._mask(made["mask"])
        if isinstance(made.get("masks"), (list, tuple)):
            made["masks"] = [self._mask(mask) for mask in made["masks"]]
        elif isinstance(made.get("masks"), np.ndarray):
            made["masks"] = torch.stack([self._mask(mask) for mask in made["masks"]])
        return made

    def set_random_state(self, random_generator: np.random.Generator, py_random: random.Random) -> None:
        """Set the generators of the transforms that stay, as albumentations does; see `AugmentedDataset`."""
        self._is_set = True
        if self.pipeline is not None:
            self.pipeline.set_random_state(random_generator, py_random)

    def _mask(self, mask: np.ndarray) -> torch.Tensor:
        turned = mask.transpose(2, 0, 1) if self.transpose and mask.ndim == 3 else mask
        return torch.from_numpy(np.ascontiguousarray(turned))

    def __repr__(self) -> str:
        return f"AlbumentationsWorkerTransform({', '.join(type(part).__name__ for part in (*self.kept, self.last))})"


def is_container(transform: Transform) -> bool:
    """Whether it is a container; ColorJitter, which is none, has ``transforms``, too: its four functions."""
    return hasattr(transform, "transforms") and not hasattr(transform, "apply")
