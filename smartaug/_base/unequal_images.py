"""Images of unequal size that torch's collate function cannot stack, kept as a list until a stage makes them equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data._utils.collate import collate, collate_tensor_fn, default_collate_fn_map

from . import leaves


class UnequalImages(list[Tensor]):
    """Images (C, H, W), or maps (H, W), one a sample, in the place of a batch of them."""


def collated(samples: Any) -> Any:
    """As torch's ``default_collate``, with `UnequalImages` for images and maps that have several sizes.

    Raises what that raises for all other tensors of unequal size.
    """
    return collate(samples, collate_fn_map={**default_collate_fn_map, Tensor: _tensors})


def stacked(data: leaves.Structure) -> leaves.Structure:
    """The batch with a tensor in the place of every `UnequalImages`. Raises ValueError where sizes still differ."""
    for path in {path[:-1]: None for path, _ in leaves.walk(data) if path}:
        images = leaves.get(data, path)
        if not isinstance(images, UnequalImages):
            continue
        sizes = sorted({tuple(image.shape) for image in images})
        if len(sizes) > 1:
            spec = path[0] if len(path) == 1 else path
            raise ValueError(
                f"batch{''.join(f'[{step!r}]' for step in path)} holds tensors of the sizes "
                f"{', '.join(map(str, sizes[:6]))}, which no stage made equal; say that it moves with the images, "
                f"follow={{{spec!r}: 'mask'}}, or make it equal in the dataset"
            )
        data = leaves.put(data, path, torch.stack(list(images)))
    return data


def _tensors(batch: Sequence[Tensor], *, collate_fn_map: Any = None) -> Any:
    first = batch[0]
    maps = first.ndim == 3 or (first.ndim == 2 and not first.is_floating_point())
    alike = {(one.ndim, one.dtype, one.shape[:-2]) for one in batch} == {(first.ndim, first.dtype, first.shape[:-2])}
    if maps and alike and any(one.shape != first.shape for one in batch):
        return UnequalImages(batch)
    return collate_tensor_fn(batch, collate_fn_map=collate_fn_map)
