"""Masks that move with their images.

What: runs the warps of a plan on a mask, with nearest-neighbour interpolation; colour operations do not change it.
When: lifted transforms whose dataset returns masks. Cost: one warp of the mask for each warp of the images.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from .backends.torch import run as torch_backend
from .mixing import Paste, PasteObjects
from .plan import Branches, Mixing, Plan, Warp


def is_mask(leaf: Tensor) -> bool:
    """Whether a leaf of the images' height and width is a mask: (B, H, W), (B, 1, H, W), or neither uint8 nor float."""
    if leaf.ndim not in (3, 4):
        return False
    return leaf.ndim == 3 or leaf.shape[1] == 1 or not (leaf.dtype == torch.uint8 or leaf.is_floating_point())


def follow(plan: Plan, mask: Tensor) -> Tensor:
    """A mask (B, H, W) or (B, C, H, W) of any dtype, moved as ``plan`` moves the images; on the mask's device.

    Raises ValueError for plans that mix samples or blend several copies of an image: they have no single mask.
    """
    for segment in plan.segments:
        if isinstance(segment, (Mixing, Paste, PasteObjects, Branches)):
            raise ValueError(
                "MixUp, CutMix, Mosaic, CopyPaste and AugMix make pictures that no single mask belongs to; leave them out of a pipeline "
                "whose batches have masks"
            )
    moved = mask[:, None] if mask.ndim == 3 else mask
    for segment in plan.segments:
        if isinstance(segment, Warp):
            nearest = dataclasses.replace(segment, interpolation="nearest", fill=(segment.mask_fill,))
            moved = torch_backend.run((nearest,), moved)
    return moved[:, 0] if mask.ndim == 3 else moved
