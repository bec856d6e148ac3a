"""Finds the inputs in a batch: the images, rows of features or sequences that a model is called with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from . import leaves


def find_inputs(batch: leaves.Structure, spec: leaves.Spec = None, *, images: bool = True) -> leaves.Path:
    """Path of the inputs: a tensor, or a list, tuple or dict of images.

    spec: key, position or callable; None: a part named like an image, else the first float or uint8 leaf (B, C, H, W),
    else the only float leaf (B, F), or with images=False the first float leaf. Raises ValueError naming the leaves when
    there is none.
    """
    if spec is not None:
        return leaves.find_part(batch, spec, "inputs")
    named = leaves.named(batch, leaves.INPUT_NAMES, lambda value: leaves.is_plain(value) or leaves.is_views(value))
    if named is not None:
        return named
    tensors = [(path, leaf) for path, leaf in leaves.walk(batch) if leaves.is_plain(leaf)]
    numeric = [(path, leaf) for path, leaf in tensors if leaves.is_numeric(leaf)]
    found = next((path for path, leaf in numeric if leaf.ndim == 4), None)
    if found is None and images:
        found = _clips_or_listed(batch)
    if found is None:
        found = _only_rows(batch) if images else next((path for path, leaf in numeric if leaf.ndim >= 1), None)
    if found is None:
        raise ValueError(
            "no images found in the batch: no leaf is a float or uint8 tensor (B, C, H, W) or named "
            f"{', '.join(leaves.INPUT_NAMES)}. Its leaves are {leaves.describe(batch)}. {_remedy(batch)}"
        )
    if images:
        _refuse_other_pictures(batch, found, tensors)
    # ([view, view], label): all of them are the inputs; at the top level two pictures may be image and mask
    parent = leaves.get(batch, found[:-1]) if len(found) > 1 else None
    parts = list(parent.values()) if isinstance(parent, Mapping) else parent
    if isinstance(parts, (tuple, list)) and all(leaves.is_plain(part) and part.ndim == 4 for part in parts):
        return found[:-1]
    return found


def _refuse_other_pictures(
    batch: leaves.Structure, found: leaves.Path, tensors: Sequence[tuple[leaves.Path, Tensor]]
) -> None:
    """Raise a ValueError where a leaf before ``found`` may be the images: a video, or a dtype that no stage takes."""
    for path, leaf in tensors:
        if path == found:
            return
        if leaf.ndim >= 5 or (leaf.ndim == 4 and leaf.dtype in _DEEP):
            pair = ((path, leaf), (found, leaves.get(batch, found)))
            shown = " and ".join(f"{str(one.dtype)[6:]} {tuple(one.shape)}" for _, one in pair)
            first, second = leaves.spec_for(batch, path), leaves.spec_for(batch, found)
            raise ValueError(
                f"several leaves of the batch may be the pictures, {shown}; name them: inputs={second} or "
                f"inputs={first}"
            )


def images_of(batch: leaves.Structure) -> Tensor | None:
    """The images of a batch: its first tensor (B, C, H, W) of floats or uint8; None where there is none."""
    for leaf in pytree.tree_leaves(batch):
        if isinstance(leaf, Tensor) and leaf.ndim == 4 and (leaf.is_floating_point() or leaf.dtype == torch.uint8):
            return leaf
    return None


def find_all_inputs(
    batch: leaves.Structure, specs: leaves.Specs = None, *, images: bool = True
) -> tuple[leaves.Path, ...]:
    """The paths of the inputs: one for each spec of a list, in its order; else the one path that `find_inputs` gives.

    Raises ValueError for an empty list, and as `find_inputs`.
    """
    if not isinstance(specs, (list, tuple)):
        return (find_inputs(batch, specs, images=images),)  # type: ignore[arg-type]
    if not specs:
        raise ValueError("inputs=[] names nothing; write inputs=['key', 'other'], or leave it out")
    return tuple(leaves.find_part(batch, spec, "inputs") for spec in specs)


def find_rows(batch: leaves.Structure, rows: int | None) -> leaves.Path:
    """Path of the inputs where no stage augments: a leaf named like an image, else a float or uint8 leaf, else any.

    Leaves of ``rows`` rows come first; None takes any length. Raises ValueError when there is no tensor at all.
    """
    tensors = [(path, leaf) for path, leaf in leaves.walk(batch) if leaves.is_plain(leaf) and leaf.ndim >= 1]
    fitting = [(path, leaf) for path, leaf in tensors if rows is None or len(leaf) == rows] or tensors
    named = leaves.named(
        batch, leaves.INPUT_NAMES, lambda value: any(value is leaf for _, leaf in fitting) or leaves.is_views(value)
    )
    if named is not None:
        return named
    if not fitting:
        raise ValueError(f"the batch holds no tensor; its leaves are {leaves.describe(batch)}")
    return next((path for path, leaf in fitting if leaves.is_numeric(leaf)), fitting[0][0])


def model_inputs(batch: leaves.Structure, specs: leaves.Specs, paths: Sequence[leaves.Path]) -> leaves.Structure:
    """What a model is called with: the one part; for a list of keys a dict (keyword arguments); else a tuple.

    specs: as given to `find_all_inputs`; paths: what it returned.
    """
    parts = tuple(leaves.get(batch, path) for path in paths)
    if not isinstance(specs, (list, tuple)):
        return parts[0]
    if all(isinstance(spec, str) for spec in specs):
        return dict(zip(specs, parts, strict=True))
    return parts


def transformed(
    inputs: leaves.Structure, transform: Callable[[leaves.Structure], leaves.Structure] | None
) -> leaves.Structure:
    """A model's inputs after the user's transform. Of several inputs, only images (B, C, H, W) if there are any."""
    if transform is None or not isinstance(inputs, (dict, tuple)):
        return inputs if transform is None else transform(inputs)
    pictures = any(isinstance(leaf, Tensor) and leaf.ndim == 4 for _, leaf in leaves.walk(inputs))
    return leaves.each(inputs, lambda leaf: transform(leaf) if leaf.ndim == 4 or not pictures else leaf)


def _clips_or_listed(batch: leaves.Structure) -> leaves.Path | None:
    """Path of clips (B, T, C, H, W), else of a list of images (C, H, W); None if there is neither."""
    lists = []
    for path, leaf in leaves.walk(batch):
        if not leaves.is_plain(leaf) or not leaves.is_numeric(leaf):
            continue
        if leaf.ndim == 5:
            return path
        if len(path) > 1 and path[-1] == 0 and leaf.ndim == 3 and leaf.shape[0] in (1, 3, 4):
            parent = leaves.get(batch, path[:-1])
            if leaves.is_views(parent) and all(part.ndim == 3 for part in parent):
                lists.append(path[:-1])
    return lists[0] if lists else None


def _only_rows(batch: leaves.Structure) -> leaves.Path | None:
    """Path of the only float leaf (B, F), if another tensor has B rows as well; None if there is none or several."""
    tensors = [(path, leaf) for path, leaf in leaves.walk(batch) if leaves.is_plain(leaf) and leaf.ndim >= 1]
    rows = [(path, leaf) for path, leaf in tensors if leaf.ndim == 2 and leaf.is_floating_point()]
    if len(rows) != 1 or leaves.in_samples(batch, rows[0][0]):
        return None
    path, found = rows[0]
    return path if any(len(leaf) == len(found) for _, leaf in tensors if leaf is not found) else None


_DEEP = (torch.uint16, torch.int16, torch.uint32, torch.int32, torch.complex32, torch.complex64, torch.complex128)
_SCALING = {
    torch.complex32: "torch.view_as_real(image) with its two parts as channels, or image.abs(),",
    torch.complex64: "torch.view_as_real(image) with its two parts as channels, or image.abs(),",
    torch.complex128: "torch.view_as_real(image) with its two parts as channels, or image.abs(),",
    torch.uint16: "image.float() / 65535",
    torch.bool: "image.float()",
}


def scaling_of(dtype: torch.dtype) -> str:
    """Advice, for errors, on converting images of a dtype that stages do not take."""
    if dtype in _SCALING:
        return f"write {_SCALING[dtype]} in the dataset"
    return (
        "scale them to floats in [0, 1] in the dataset by the range that your data have, such as "
        "image.float() / 65535 for 16 bits or (image.float() + 1024) / 4096 for CT; only values that all lie in 0..255 "
        "survive image.to(torch.uint8)"
    )


def _remedy(batch: leaves.Structure) -> str:
    """Advice, for the error that no images were found."""
    if leaves.parts_of(batch) is None and not isinstance(batch, Tensor):
        return (
            f"It is an object {type(batch).__name__}, whose parts are not known: let collate_fn return a dict, a tuple "
            "or a dataclass of its tensors"
        )
    plain = [leaf for _, leaf in leaves.walk(batch) if leaves.is_plain(leaf)]
    pictures = next((leaf for leaf in plain if leaf.ndim == 4), None)
    if pictures is not None:
        return f"{str(pictures.dtype)[6:]} images are not augmented: {scaling_of(pictures.dtype)}"
    if any(leaf.ndim == 3 and leaves.is_numeric(leaf) for leaf in plain):
        return (
            "Pictures without channels need them: image[None] in the dataset. Sequences (B, T, F) and rows (B, F) have "
            "to be named: inputs=0 or inputs='key'"
        )
    return "Name the one to augment: inputs=0, inputs='key' or inputs=lambda batch: ..."
