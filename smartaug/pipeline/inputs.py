"""The inputs of a collated batch: finds them, decides which of them are augmented, and validates their shapes.

Paths are as in `smartaug._base.leaves`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .._base import input_leaves, leaves
from .._base.unequal_images import UnequalImages
from ..lift.deferred.collecting import Unfinished
from .augmenting.image_lists import are_images, check_images
from .following.addresses import Address, are_objects, every, find, is_per_sample
from .following.followers import MASKS, Follow, staying
from .settings import Settings
from .stages import rows_not_finite


@dataclass(frozen=True)
class Inputs:
    """Where the inputs of a batch are. parts: what the model is called with, as ``inputs=`` names it.

    augmented: the leaves among them that stages augment: all images (B, C, H, W), or all rows (B, F) or (B, T, F).
    beside: the other tensors among them. specs: the ``inputs=`` by which they were found. listed: the inputs are a list
    of one image (C, H, W) a sample.
    """

    parts: tuple[leaves.Path, ...]
    augmented: tuple[leaves.Path, ...]
    beside: tuple[leaves.Path, ...]
    specs: leaves.Specs = None
    listed: bool = False

    @property
    def all(self) -> tuple[leaves.Path, ...]:
        """Every tensor that the model gets."""
        return self.augmented + self.beside

    def rows(self, data: leaves.Structure) -> int:
        """The number of samples."""
        return len(leaves.get(data, self.parts[0])) if self.listed else leaves.rows_of(self.given(data))

    def given(self, data: leaves.Structure) -> leaves.Structure:
        """What the model is called with: a tensor, a list of views, or the several inputs as a dict or a tuple."""
        if len(self.parts) == 1 or isinstance(self.specs, (list, tuple)):
            return input_leaves.model_inputs(data, self.specs, self.parts)
        names = [path[-1] for path in self.parts]  # views beside each other, found with views=
        return input_leaves.model_inputs(data, names, self.parts)


def found_inputs(
    data: leaves.Structure, settings: Settings, rows: int | None, *, augmented: bool, averaged: bool = False
) -> Inputs:
    """Where the inputs are; raises TypeError or ValueError unless they are tensors that the stages can take.

    rows: the number of samples B, None when unknown. augmented: whether stages augment the inputs; otherwise they may
    be any tensors. averaged: whether stages average values of samples, so that whole numbers are left out.
    """
    specs = settings.inputs
    if augmented or specs is not None:
        others = data if specs is not None else _without_followers(data, settings.follow, rows)
        parts = input_leaves.find_all_inputs(others, specs)
        if augmented and specs is None and settings.views is not None and len(parts) == 1:
            parts = _beside_each_other(others, parts[0], settings)
        first = leaves.get(data, parts[0])
        if augmented and len(parts) == 1 and are_images(first, data, rows):
            check_images(first, parts[0])
            if not isinstance(first, UnequalImages):
                refuse_reweighted_lists(settings)
            return Inputs(parts, parts, (), specs, listed=True)
    else:
        parts = (input_leaves.find_rows(data, rows),)
    found = [((*part, *path), leaf) for part in parts for path, leaf in leaves.walk(leaves.get(data, part))]
    work = _to_augment(found, specs) if augmented and isinstance(specs, (list, tuple)) else found
    for path, leaf in work:
        check_input(leaf, path, augmented=augmented, clips=settings.views is not None)
    if augmented and len({leaf.ndim >= 4 for _, leaf in work}) > 1:
        raise ValueError(
            f"the inputs are pictures and rows of features together, {leaves.describe(leaves.get(data, parts[0]))}; "
            "name them one by one, of which the pictures are augmented: inputs=['key', 'other']"
        )
    chosen = tuple(path for path, _ in work) if augmented else ()
    if augmented and not averaged and isinstance(specs, (list, tuple)):
        chosen += _categories(found, chosen, staying(data, settings.still, rows or leaves.rows_of(first)))
    beside = tuple(path for path, leaf in found if isinstance(leaf, Tensor) and path not in chosen)
    return Inputs(parts, chosen, beside, specs)


def listed_images(data: leaves.Structure, rows: int | None) -> leaves.Path | None:
    """Where a batch that nothing augments has a list of one image (C, H, W) a sample; None: nowhere."""
    around = input_leaves.find_rows(data, rows)[:-1]
    return around if around and are_images(leaves.get(data, around), data, rows) else None


def refuse_reweighted_lists(settings: Settings) -> None:
    """Raise TypeError where ``reweight=`` would be given a list of images."""
    if settings.reweight is not None:
        raise TypeError(
            "reweight= needs the inputs in one tensor (B, C, H, W), and they are a list of images; let the collate "
            "function stack images of one size, torch.stack(images)"
        )


def _to_augment(
    found: Sequence[tuple[leaves.Path, leaves.Structure]], specs: leaves.Specs
) -> list[tuple[leaves.Path, leaves.Structure]]:
    """The images among several inputs, else the float rows (B, F) or (B, T, F); ValueError where there are neither."""
    plain = [(path, leaf) for path, leaf in found if isinstance(leaf, Tensor) and not leaf.is_nested]
    taken = [(path, leaf) for path, leaf in plain if leaf.ndim in (4, 5)]
    taken = taken or [(path, leaf) for path, leaf in plain if leaf.ndim in (2, 3) and leaf.is_floating_point()]
    if not taken:
        shown = ", ".join(f"{leaf.dtype} {tuple(leaf.shape)}" for _, leaf in plain)
        raise ValueError(
            f"inputs={specs!r} names nothing that augment= could work on, neither pictures (B, C, H, W) nor rows of "
            f"floats (B, F); they are {shown or 'no tensors'}"
        )
    return taken


def _categories(
    found: Sequence[tuple[leaves.Path, leaves.Structure]], chosen: Sequence[leaves.Path], still: Sequence[leaves.Path]
) -> tuple[leaves.Path, ...]:
    """Paths of whole numbers (B,) or (B, G) beside rows of floats, which are swapped with them; none beside images."""
    known = dict(found)
    if any(known[path].ndim != 2 for path in chosen):
        return ()
    return tuple(
        path
        for path, leaf in found
        if isinstance(leaf, Tensor) and not leaf.is_nested and leaf.ndim in (1, 2)
        if not (leaf.is_floating_point() or leaves.starts_with(path, still))
    )


def _beside_each_other(data: leaves.Structure, found: leaves.Path, settings: Settings) -> tuple[leaves.Path, ...]:
    """Paths of an image and of the images of its shape and dtype in the same container, which are its views.

    Without those that ``still=`` or ``target=`` names; a list of views is one path.
    """
    picture = leaves.get(data, found)
    if not isinstance(picture, Tensor) or not found:
        return (found,)
    others = staying(data, settings.still, len(picture))
    others += leaves.find_parts(data, settings.target, "target")
    around = leaves.get(data, found[:-1])
    alike = []
    for name, leaf in leaves.parts_of(around) or ():
        path = (*found[:-1], name)
        is_view = isinstance(leaf, Tensor) and leaf.shape == picture.shape and leaf.dtype == picture.dtype
        if path == found or (is_view and path not in others and name not in (*leaves.TARGET_NAMES, *MASKS)):
            alike.append(path)
    return tuple(alike)


def _without_followers(data: leaves.Structure, follow: Follow | None, rows: int | None) -> leaves.Structure:
    """The batch with None for what ``follow=`` names, which is never the input."""
    for spec in follow or ():
        try:
            address = find(data, spec, rows or 0, "follow")
        except ValueError:
            continue  # said where it is used
        data = leaves.put(data, address.path, None) if address.path and address.each is None else data
    return data


def check_input(leaf: leaves.Structure, where: leaves.Path, *, augmented: bool, clips: bool = False) -> None:
    """Raise TypeError or ValueError unless an input is a tensor, if ``augmented`` (B, C, H, W), (B, F) or (B, T, F).

    clips: whether it may be (B, T, C, H, W), too.
    On the CPU the values must be finite; on an accelerator they are not read, which would synchronise it.
    """
    if not isinstance(leaf, Tensor):
        kind = type(leaf[0] if isinstance(leaf, (list, tuple)) and leaf else leaf).__name__
        raise TypeError(
            f"the inputs at {where!r} are {kind}, stages need a tensor (B, C, H, W); "
            "let the dataset or collate_fn make tensors (torchvision: PILToTensor)"
        )
    if augmented:
        _check_shape(leaf, where, clips)
    # a sum is NaN or Inf if any value is: the rows are checked only then (finite values may overflow the sum, too)
    if leaf.device.type == "cpu" and leaf.is_floating_point() and leaf.numel():
        total = leaf.sum(dtype=torch.float64 if leaf.dtype == torch.float64 else torch.float32)
        bad = [] if torch.isfinite(total) else rows_not_finite(leaf)
        if bad:
            raise ValueError(
                f"the inputs at {where!r} hold NaN or Inf in rows {bad[:8]} of the batch; "
                "look at those samples (loader.dataset[i]) or replace the values: torch.nan_to_num(image)"
            )


def _check_shape(leaf: Tensor, where: leaves.Path, clips: bool) -> None:
    shape = tuple(leaf.shape)
    if leaf.ndim == 5 and shape[1] in (1, 3, 4) and shape[2] not in (1, 3, 4):
        raise ValueError(
            f"the inputs at {where!r} look like clips (B, C, T, H, W), they have shape {shape}; stages need "
            "(B, T, C, H, W): write clip.transpose(0, 1) in the dataset, and clips.transpose(1, 2) before the model"
        )
    if leaf.ndim == 5 and clips:
        return _check_shape(leaf[:, 0], where, clips)
    if leaf.ndim == 3 and leaf.dtype == torch.uint8:
        raise ValueError(
            f"the inputs at {where!r} look like pictures without channels, they have shape {shape}; stages need "
            "(B, C, H, W): write image[None] in the dataset"
        )
    if leaf.ndim not in (2, 3, 4):
        clip = "; of a clip (B, T, C, H, W) write views='same', for one draw for all frames" if leaf.ndim == 5 else ""
        raise ValueError(
            f"the inputs at {where!r} have shape {shape}, stages need (B, C, H, W), or rows (B, F) or (B, T, F){clip}; "
            "name the images with inputs= or let the loader batch them (batch_size=...)"
        )
    if leaf.ndim == 4 and leaf.shape[3] in (3, 4) and leaf.shape[1] > 4:
        raise ValueError(
            f"the inputs at {where!r} look like (B, H, W, C), they have shape {shape}; "
            "write image.permute(2, 0, 1) in the dataset"
        )
    if leaf.ndim == 4 and leaf.dtype != torch.uint8 and not leaf.is_floating_point():
        raise ValueError(
            f"the inputs at {where!r} are {str(leaf.dtype)[6:]} {shape}, which is not augmented: "
            f"{input_leaves.scaling_of(leaf.dtype)}"
        )


def draws_shared(data: leaves.Structure, inputs: Inputs, views: Sequence[Tensor], said: str | None) -> bool | None:
    """Whether several augmented inputs share one draw; None where nothing says so: then each has its own.

    Rows of features that ``inputs=[...]`` names are parts of one sample and always do. said: ``views=``. Raises
    ValueError for images in a dict without ``views=``, and for shared draws on pictures of unequal shapes.
    """
    if views[0].ndim != 4 and isinstance(inputs.specs, (list, tuple)):
        return True
    if said is None:
        named = next((part for part in inputs.parts if isinstance(leaves.get(data, part), Mapping)), None)
        if named is not None:
            shown = "".join(f"[{step!r}]" for step in named)
            raise ValueError(
                f"batch{shown} holds {len(views)} pictures by name; write views='same' if they are to be augmented "
                "with one draw (frames, cameras), or views='independent' if each has its own"
            )
        return None
    shapes = {tuple(view.shape) for view in views}
    if said == "same" and len(shapes) > 1:
        raise ValueError(
            f"views='same' augments all pictures of a sample with one draw, which needs one shape, and they have "
            f"{' and '.join(map(str, sorted(shapes)))}; make them equal in the dataset, or write views='independent'"
        )
    return said == "same"


def check_mixed_alone(data: leaves.Structure, inputs: Inputs, still: Sequence[leaves.Path]) -> None:
    """Raise a ValueError where samples were mixed, but one of their inputs cannot be and is not in ``still``."""
    for path in inputs.beside:
        if not leaves.starts_with(path, still):
            leaf, shown = leaves.get(data, path), "".join(f"[{step!r}]" for step in path)
            raise ValueError(
                f"mixing samples mixes the labels and the other inputs, but batch{shown}, {str(leaf.dtype)[6:]} "
                f"{tuple(leaf.shape)}, which inputs= names as well, cannot be mixed; write still={path[0]!r} if each "
                "sample is to keep its own values there, beside other inputs and a label that are partly those of "
                "another sample; let the dataset give one-hot floats, which are mixed; or leave MixUp and CutMix out"
            )


def refuse_unmixed(
    data: leaves.Structure, inputs: Inputs, labels: Sequence[leaves.Path], still: Sequence[leaves.Path]
) -> None:
    """Raise a ValueError where samples were mixed, but some tensor (B, ...) that the model may read was not.

    labels: paths of the labels, which are mixed. One number or text per sample is accepted: it identifies the sample.
    """
    known = (*inputs.parts, *inputs.augmented, *labels, *still)
    for path, leaf in leaves.walk(data):
        if leaves.starts_with(path, known) or not leaves.is_plain(leaf) or leaves.in_samples(data, path):
            continue
        if leaf.ndim < 2 or leaf.shape[1:].numel() < 2:
            continue
        name = leaves.spec_for(data, path)
        named = ", ".join(leaves.spec_for(data, label) for label in labels)
        also = f", target=[{named}, {name}] if it is a label as well" if leaf.is_floating_point() and labels else ""
        raise ValueError(
            f"MixUp and CutMix mix the inputs and the labels, and batch{_steps(path)}, {str(leaf.dtype)[6:]} "
            f"{tuple(leaf.shape)}, would stay each sample's own; write still={name} if it may (the model then sees it "
            f"beside what is partly another sample's){also}, or leave them out"
        )


def refuse_sample_labels(
    data: leaves.Structure, rows: int, followed: Sequence[Address], known: Sequence[leaves.Path]
) -> None:
    """Raise a ValueError where samples were mixed, and a list holds a label for each, which stayed that of the sample.

    followed: leaves that were mixed. known: labels that are mixed, and what stays.
    """
    for address in every(data, rows):
        if address.each is None or address in followed or leaves.starts_with(next(address.paths(rows)), known):
            continue
        own = address.each or address.path
        name = leaves.name_of_step(leaves.get(data, own[:-1]), own[-1]) if not address.each else own[-1]
        words = set(str(name).lower().replace("-", "_").split("_"))
        if not words & _LABELS or not any(getattr(one, "numel", lambda: 1)() for one in address.read(data)):
            continue
        raise ValueError(
            f"mixing samples mixes their labels, and {address.shown}, one entry a sample of a list, would stay each "
            f"sample's own; let the collate function give the labels of images as one tensor, torch.stack(labels), or "
            f"write still={address.step!r} if they may stay"
        )


_LABELS = frozenset(("label", "labels", "class", "classes", "category", "categories", "cls", "target", "targets"))


def _steps(path: leaves.Path) -> str:
    return "".join(f"[{step!r}]" for step in path)


def _listed(data: leaves.Structure, path: leaves.Path, length: int) -> leaves.Path:
    """``path``, or that of the list of one object a sample which it leads into."""
    return path[:-1] if len(path) > 1 and are_objects(leaves.get(data, path[:-1]), length) else path


def refuse_others(unfinished: Unfinished, inputs: Inputs) -> None:
    """Raise ValueError unless the inputs to augment are the images that lifted transforms have still to run on."""
    if set(inputs.augmented) == set(unfinished.images):
        return
    shown, named = (_shown(paths) for paths in (unfinished.images, inputs.augmented))
    raise ValueError(
        f"the dataset's transform made {shown}, and the inputs are {named}, so lifted transforms would run on other "
        "images; name the transformed ones with inputs=, let the dataset return views in a list of their own, or write "
        "lift=False"
    )


def _shown(paths: Iterable[leaves.Path]) -> str:
    return " and ".join("batch" + "".join(f"[{step!r}]" for step in path) for path in paths)


def repeated(
    data: leaves.Structure, augmented: Sequence[leaves.Path], label_path: leaves.Path | None, rows: Tensor, length: int
) -> leaves.Structure:
    """The batch with the ``rows`` (M,) int64 of its ``length`` samples, in all leaves but the augmented ones.

    Raises TypeError when the target is no tensor.
    """
    for path in dict.fromkeys(_listed(data, address.path, length) for address in every(data, length)):
        leaf = leaves.get(data, path)
        if path in augmented or len(path) == 0:
            continue
        if is_per_sample(leaf, length) or are_objects(leaf, length):
            data = leaves.put(data, path, type(leaf)([leaf[row] for row in rows.tolist()]))
        elif isinstance(leaf, Tensor) and leaf.ndim and len(leaf) == length:
            data = leaves.put(data, path, leaf.index_select(0, rows.to(leaf.device, non_blocking=True)))
    target = None if label_path is None else leaves.get(data, label_path)
    if label_path is not None and not isinstance(target, Tensor):
        raise TypeError(
            f'apply="append" repeats the target, which is {type(target).__name__}; let the collate function make a '
            'tensor, name it with target=, or use apply="augment"'
        )
    return data
