"""The inputs of a collated batch: where they are, whether stages can take them, and what would move with their pixels.

Functions on the user's batch; a path is where a leaf is in it, see `leaves`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from .. import _leaves as leaves
from ..lift.deferred import Unfinished
from .stages import rows_not_finite


def found_inputs(
    data: Any, spec: leaves.Spec, rows: int | None, *, augmented: bool
) -> tuple[leaves.Path, list[Tensor]]:
    """Where the inputs are, and their views; without augmentation any tensor of as many rows will do."""
    if augmented or spec is not None:
        where = leaves.find_inputs(data, spec, images=True)
    else:
        where = leaves.find_rows(data, rows)
    return where, checked_inputs(leaves.get(data, where), where, augmented=augmented)


def checked_inputs(inputs: Any, where: leaves.Path, *, augmented: bool) -> list[Tensor]:
    """The views of the inputs; raises TypeError or ValueError unless they are tensors, if ``augmented`` (B, C, H, W).

    On the CPU they must be finite; on an accelerator looking would stall the queue.
    """
    views = list(inputs) if isinstance(inputs, (tuple, list)) else [inputs]
    for view in views:
        if not isinstance(view, Tensor):
            raise TypeError(
                f"the inputs at {where!r} are {type(view).__name__}, stages need a tensor (B, C, H, W); "
                "let the dataset or collate_fn make tensors (torchvision: PILToTensor)"
            )
        if augmented and view.ndim != 4:
            raise ValueError(
                f"the inputs at {where!r} have shape {tuple(view.shape)}, stages need (B, C, H, W); "
                "name the images with inputs= or let the loader batch them (batch_size=...)"
            )
        if augmented and view.shape[3] in (3, 4) and view.shape[1] > 4:
            raise ValueError(
                f"the inputs at {where!r} look like (B, H, W, C), they have shape {tuple(view.shape)}; "
                "write image.permute(2, 0, 1) in the dataset"
            )
        # one sum shows any NaN or Inf, and rows are looked at only then: large finite values overflow the sum too
        if view.device.type == "cpu" and view.is_floating_point() and view.numel():
            total = view.sum(dtype=torch.float64 if view.dtype == torch.float64 else torch.float32)
            bad = [] if torch.isfinite(total) else rows_not_finite(view)
            if bad:
                raise ValueError(
                    f"the inputs at {where!r} hold NaN or Inf in rows {bad[:8]} of the batch; "
                    "look at those samples (loader.dataset[i]) or replace the values: torch.nan_to_num(image)"
                )
    return views


def followers_of(data: Any, where: leaves.Path, images: Tensor) -> dict[leaves.Path, str]:
    """Leaves that would have to move with the pixels: other image-sized tensors, boxes and keypoints."""
    found = {}
    for path, leaf in leaves.walk(data):
        if path[: len(where)] == where:
            continue
        if any(step in ("boxes", "bboxes", "keypoints") for step in path):
            found[path] = "boxes or keypoints"
            continue
        dense = isinstance(leaf, Tensor) and not leaf.is_nested and leaf.ndim >= 3
        if dense and leaf.shape[-2:] == images.shape[-2:]:
            found[path] = f"a mask or a second image {tuple(leaf.shape)}"
    return found


def masks_at(data: Any, paths: Iterable[leaves.Path], device: torch.device | None) -> dict[leaves.Path, Tensor]:
    """The masks at ``paths``, on ``device``."""
    return {path: leaves.get(data, path).to(device, non_blocking=True) for path in paths}


def refuse_others(unfinished: Unfinished, where: leaves.Path, data: Any) -> None:
    """Raise ValueError unless the inputs at ``where`` are the images that lifted transforms have still to run on."""
    given = leaves.get(data, where)
    views = {(*where, number) for number in range(len(given))} if isinstance(given, (tuple, list)) else {where}
    if views == set(unfinished.images):
        return
    shown = " and ".join("batch" + "".join(f"[{step!r}]" for step in path) for path in unfinished.images)
    named = "batch" + "".join(f"[{step!r}]" for step in where)
    raise ValueError(
        f"the dataset's transform made {shown}, and the inputs are {named}, so lifted transforms would run on other "
        "images; name the transformed ones with inputs=, let the dataset return views in a list of their own, or write "
        "lift=False"
    )


def repeated(data: Any, where: leaves.Path, label_path: leaves.Path | None, rows: Tensor, length: int) -> Any:
    """The batch of ``length`` samples with the ``rows`` (s,) once more below, for all tensors but the inputs.

    Raises TypeError when the target is no tensor.
    """
    for path, leaf in list(leaves.walk(data)):
        if path[: len(where)] != where and isinstance(leaf, Tensor) and leaf.ndim and len(leaf) == length:
            more = leaf.index_select(0, rows.to(leaf.device, non_blocking=True))
            data = leaves.put(data, path, torch.cat([leaf, more]))
    target = None if label_path is None else leaves.get(data, label_path)
    if label_path is not None and not isinstance(target, Tensor):
        raise TypeError(
            f'apply="append" repeats the target, which is {type(target).__name__}; let the collate function make a '
            'tensor, name it with target=, or use apply="augment"'
        )
    return data
