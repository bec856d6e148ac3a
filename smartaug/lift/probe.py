"""Whether a dataset does with its transform what lift takes for granted: call it once, and hand on what it gives.

What: the first sample is read with a recorder in place of the transform, and once more with other pixels coming out of
it, under the same forked random numbers. When: before a transform is taken out of a dataset, and where the user's own
collate function gets the samples. Cost: two samples when the loader is made; none for torchvision's own datasets, which
are known. Streams are taken at their word, and a ``__getitem__`` that does something else for other samples than for
the first is not found out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, default_collate

from .. import _leaves as leaves
from ..augment.foreign import forked_rng

_KNOWN = "torchvision"  # its datasets call their transform once, and do no more


class Recorder:
    """Stands for ``head`` and notes what it was given and what it made; changed: it makes other pixels.

    Other attributes are the head's, which say how it is called; a copy is the recorder itself.
    """

    def __init__(self, head: Callable[..., Any], changed: bool = False) -> None:
        self.head, self.changed = head, changed
        self.joint = False  # whether it was given more than the image
        self.made: list[list[Any]] = []

    def __call__(self, *given: Any, **named: Any) -> Any:
        """What the head makes."""
        made = self.head(*given, **named)
        self.joint = self.joint or len(given) + len(named) > 1
        if self.changed:
            for path, leaf in list(leaves.walk(made)):
                made = leaves.put(made, path, _other(leaf)) if isinstance(leaf, Tensor) else made
        self.made.append([leaf for _, leaf in leaves.walk(made) if isinstance(leaf, Tensor)])
        return made

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "head":  # not there yet while a copy is made
            raise AttributeError(name)
        return getattr(self.head, name)

    def __deepcopy__(self, memo: dict[int, Any]) -> Recorder:
        return self


class Looked(NamedTuple):
    """hinders: why the transform cannot be taken out; None: it can. uint8: see `Lifted`.

    channels: of the images that stay without it, where they are not RGB; None: they are, or it is not known.
    """

    hinders: str | None
    uint8: bool | None = None
    channels: int | None = None


def looked(
    dataset: Any,
    placed: Callable[[Callable[..., Any]], Any],
    head: Callable[..., Any],
    moves: Callable[[Sequence[int]], bool],
) -> Looked:
    """Whether the transform of ``dataset`` can be taken out of it, and what images it then gives.

    placed: gives a copy of the dataset with another transform. head: what would take the place of the transform. moves:
    whether what was taken out may change where things are in images (C, H, W) of a shape.
    """
    definer = next((kind for kind in type(dataset).__mro__ if "__getitem__" in vars(kind)), None)
    if isinstance(dataset, IterableDataset):
        return Looked(None)  # a stream cannot be looked into without being begun
    if definer is None or definer.__module__.partition(".")[0] == _KNOWN or not len(dataset):
        return Looked(None)
    recorder, again = Recorder(head), Recorder(head, changed=True)
    try:
        sample = first(placed(recorder))
        images = _images(recorder)
        if images and _are_uint8(images) is None:
            return Looked(_other_type(images[0].dtype))
        other = first(placed(again))
    except Exception as error:  # whatever the user's code does with what it does not expect
        why = f"its first sample cannot be read through the part that stays ({type(error).__name__}: {error})"
        return Looked(why)
    hinders = _does_more(type(dataset).__name__, sample, recorder, other, again, moves)
    return Looked(hinders, _are_uint8(images), _channels(images))


def _other_type(dtype: torch.dtype) -> str:
    return (
        f"its images are {str(dtype)[6:]}, and lifted transforms take uint8 or floats in [0, 1]; let the dataset give "
        "these, as in image.to(torch.uint8)"
    )


def _images(recorder: Recorder) -> list[Tensor]:
    """What was made that may be images (C, H, W)."""
    return [leaf for made in recorder.made for leaf in made if leaf.ndim >= 3]


def _are_uint8(images: Sequence[Tensor]) -> bool | None:
    """Whether ``images`` are uint8; False where any is of floats, None where there are neither."""
    types = {leaf.dtype for leaf in images}
    if any(dtype.is_floating_point for dtype in types):
        return False
    return True if torch.uint8 in types else None


def _channels(images: Sequence[Tensor]) -> int | None:
    """How many channels ``images`` have where none of them has three, which masks beside an image do not."""
    found = [leaf.shape[-3] for leaf in images]
    return None if 3 in found or not found else found[0]


def _does_more(
    name: str, sample: Any, recorder: Recorder, other: Any, again: Recorder, moves: Callable[[Sequence[int]], bool]
) -> str | None:
    if not recorder.made:
        return f"{name} did not call it for its first sample"
    if len(recorder.made) != len(again.made):
        return f"{name} looks at the image after it"
    mine = {id(leaf) for made in recorder.made for leaf in made}
    places = [path for path, leaf in leaves.walk(sample) if id(leaf) in mine]
    if len(places) < len(recorder.made) or not all(any(id(leaf) in mine for leaf in made) for made in recorder.made):
        return f"{name} works on the image after it"
    if len(recorder.made) > 1 and (len({path[:-1] for path in places}) > 1 or not places[0][:-1]):
        return f"{name} calls it {len(recorder.made)} times, and the results are not in a list of their own"
    rest, other_rest = (
        [(path, leaf) for path, leaf in leaves.walk(each) if path not in places] for each in (sample, other)
    )
    if [path for path, _ in rest] != [path for path, _ in other_rest] or not all(
        _same(mine, theirs) for (_, mine), (_, theirs) in zip(rest, other_rest, strict=True)
    ):
        return f"{name} makes other parts of a sample from the image after it"
    image = leaves.get(sample, places[0])
    dense = [leaf for _, leaf in rest if getattr(leaf, "ndim", 0) >= 2 and tuple(leaf.shape[-2:]) == image.shape[-2:]]
    if not dense or recorder.joint:
        return None
    if moves(image.shape):
        return f"the samples of {name} have a mask or a second image, which it is not given"
    if len(places) > 1 or not _found(sample, places[0]):
        return f"the samples of {name} have a mask or a second image that could be taken for its image"
    return None


def _found(sample: Any, place: leaves.Path) -> bool:
    """Whether the images of a batch of such samples are found at ``place`` where nobody names them."""
    try:
        return leaves.find_inputs(default_collate([sample])) == place
    except (TypeError, ValueError, RuntimeError):  # samples that only the user's own collate function can take
        return False


def has_masks(dataset: Any, placed: Callable[[Callable[..., Any]], Any], head: Callable[..., Any]) -> bool:
    """Whether the first sample of ``dataset`` has more of the image's size than the image; see `looked`.

    It cannot be known of streams, which may have some.
    """
    if isinstance(dataset, IterableDataset):
        return True
    recorder = Recorder(head)
    try:
        sample = first(placed(recorder)) if len(dataset) else None
    except Exception:  # of the user's code; `looked` reads the sample again and says why nothing is lifted
        return False
    images = [next((leaf for leaf in made if leaf.ndim >= 3), None) for made in recorder.made]
    sizes = {tuple(image.shape[-2:]) for image in images if image is not None}
    others = [leaf for _, leaf in leaves.walk(sample) if not any(leaf is image for image in images)]
    return any(getattr(leaf, "ndim", 0) >= 2 and tuple(leaf.shape[-2:]) in sizes for leaf in others)


class _Enough(Exception):
    """The transform was called: nothing more of the sample is needed."""


def kind_given(dataset: Any, placed: Callable[[Callable[..., Any]], Any]) -> str | None:
    """What the transform of ``dataset`` is given: "pil", "tensor", "image" (torchvision's), None: not known.

    placed: gives a copy of the dataset with another transform. The first sample is begun; a stream is not.
    """
    if isinstance(dataset, IterableDataset) or not len(dataset):
        return None
    seen: list[Any] = []

    def note(*given: Any, **named: Any) -> Any:
        seen.extend(leaf for _, leaf in leaves.walk([*given, *named.values()]))
        raise _Enough

    with contextlib.suppress(Exception):  # the user's code, which may also catch ours
        first(placed(note))
    for leaf in seen:
        if hasattr(leaf, "mode") and hasattr(leaf, "getbands"):
            return "pil"
        if isinstance(leaf, Tensor) and leaf.ndim >= 3:
            return "image" if type(leaf).__name__ == "Image" else "tensor"
    return None


def collate_hinders(dataset: Any, collate_fn: Callable[[Any], Any]) -> str | None:
    """Why batches of the lifted ``dataset`` cannot go through the user's ``collate_fn``; None: they can.

    What runs on the device must get the images as they left the dataset: stacked, and not worked on.
    """
    if not len(dataset):
        return None
    try:
        samples = [first(dataset, number) for number in range(min(2, len(dataset)))]
        images = [_image(sample) for sample in samples]
        stacked = torch.stack([torch.as_tensor(image) for image in images])
        with _forked():
            batch = collate_fn(samples)
    except Exception as error:
        return f"the collate function cannot take what the dataset then gives ({type(error).__name__}: {error})"
    found = (leaf for _, leaf in leaves.walk(batch) if isinstance(leaf, Tensor) and leaf.shape == stacked.shape)
    if any(leaf.dtype == stacked.dtype and torch.equal(leaf, stacked) for leaf in found):
        return None
    return "the collate function works on the images, which would then be raw; lift by hand, or work on the device"


def _image(sample: Any) -> Tensor:
    return next(leaf for _, leaf in leaves.walk(sample) if isinstance(leaf, Tensor) and leaf.ndim >= 3)


def _forked() -> Any:
    return forked_rng(torch.zeros(1, dtype=torch.int64, device="cpu"), torch.device("cpu"))


def first(dataset: Any, number: int = 0) -> Any:
    """The sample ``number``, with the global random generators put back after it."""
    with _forked():
        return dataset[number]


def _other(leaf: Tensor) -> Tensor:
    """A tensor of the same kind without a value in common."""
    if leaf.is_floating_point():
        return leaf + 1
    return ~leaf if leaf.dtype in (torch.uint8, torch.bool) else leaf + 1


def _same(mine: Any, theirs: Any) -> bool:
    if isinstance(mine, Tensor) and isinstance(theirs, Tensor):
        return mine.dtype == theirs.dtype and mine.shape == theirs.shape and torch.equal(mine, theirs)
    if isinstance(mine, np.ndarray) and isinstance(theirs, np.ndarray):
        return mine.dtype == theirs.dtype and np.array_equal(mine, theirs)
    if isinstance(mine, (int, float, str, bytes, np.generic)):
        return bool(mine == theirs)
    return type(mine) is type(theirs)
