"""The check, per sample, that lifted transforms may run on the batch that the samples were collated into.

What: while a batch is collated, ``torch.stack`` and ``default_collate`` turn deferred images into a `DeferredBatch`.
The lifted transforms run on the batch only if every deferred image is still in it, unused; else all of them are
finished: they become the output of the user's whole pipeline. When: in every loader with ``lift=True``. Cost: see
"lift, checks" in ``benchmarks/loader.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils.data._utils.collate import collate_tensor_fn, default_collate_fn_map

from .._base import leaves
from . import deferred as deferring
from .deferred import DeferredBatch, DeferredImage, finish, finish_all, number_of_finishes

_HOLDER = [object()]
_ALONE = sys.getrefcount(_HOLDER[0])  # reference count of an object that only one container holds
_MAPPED = max(map(sys.getrefcount, _HOLDER))  # the same as `map` counts it
_LEAVES = {Tensor, int, float, str}  # the commonest types that cannot contain a deferred image
_used, _finished, _mask, _made = map(attrgetter, ("_used", "_call.finished", "_is_mask", "_made"))
_dtype, _shape = attrgetter("dtype"), attrgetter("shape")


class Unfinished(NamedTuple):
    """Where in a batch the lifted transforms must still run: paths of images, and of masks that move with them."""

    images: tuple[leaves.Path, ...]
    masks: tuple[leaves.Path, ...] = ()


class Collecting:
    """The state while one batch is collated: the deferred images in its samples, and the stacks made of them.

    may_hold: see `collecting`.
    """

    def __init__(self, samples: Any, may_hold: bool) -> None:
        self._streams = may_hold
        self.batches: list[DeferredBatch] = []
        listed = samples if isinstance(samples, list) else [samples]
        images = _in_order(listed, may_hold)  # kept here, so that ids stay unique
        self._images, numbers = _checked(listed, may_hold) if images is None else (images, range(len(listed)))
        # id of a deferred image -> position of its sample in the list
        self.sample_of = dict(zip(map(id, self._images), numbers, strict=True))
        self._finishes = number_of_finishes()

    def stack(self, tensors: object, dim: int = 0, *, out: Tensor | None = None) -> DeferredBatch | None:
        """A deferred batch, if all are deferred images of this batch, equal in shape, dtype and role; else None."""
        if dim != 0 or out is not None or not isinstance(tensors, (tuple, list)):
            return None
        rows = list(tensors)
        if set(map(type, rows)) != {DeferredImage} or not self.sample_of.keys() >= set(map(id, rows)):
            return None
        made = list(map(_made, rows))
        if any(len(set(map(part, made))) > 1 for part in (_dtype, _shape)) or len(set(map(_mask, rows))) > 1:
            return None
        batch = DeferredBatch.of(rows, collate_tensor_fn(made))
        self.batches.append(batch)
        return batch

    def settle(self, batch: Any) -> tuple[Any, Unfinished | None, list[int] | None]:
        """The collated ``batch`` with ordinary tensors, its `Unfinished` part, and the sample of each row if known.

        Deferred batches are replaced in the structure, not filled in place, so references kept by the user's code stay
        deferred. If one deferred image was used, all are finished, since image and masks of a sample share their draws.
        """
        left = [(path, leaf) for path, leaf in leaves.walk(batch) if isinstance(leaf, (DeferredBatch, DeferredImage))]
        stacks = [(path, leaf) for path, leaf in left if isinstance(leaf, DeferredBatch)]
        arrived = {id(made) for made in self.batches} == {id(stack) for _, stack in stacks}
        if self._touched() or len(stacks) < len(left) or not arrived or self._repeats():
            finish_all(self.batches)
            finish_all([leaf for _, leaf in left])
            return batch, None, None
        if not stacks:
            return batch, None, None
        numbers = [list(map(self.sample_of.__getitem__, map(id, stack._rows))) for _, stack in stacks]
        masks = {path for path, stack in stacks if stack._rows[0]._is_mask}
        for path, stack in stacks:
            for image in stack._rows:
                image._used = True
            batch = leaves.put(batch, path, stack._made)
        unfinished = Unfinished(
            tuple(path for path, _ in stacks if path not in masks), tuple(path for path, _ in stacks if path in masks)
        )
        return batch, unfinished, numbers[0] if all(one == numbers[0] for one in numbers) else None

    def _repeats(self) -> bool:
        """Whether an image is in two stacks, or twice in one stack of a stream: its copies would get different draws.

        For datasets with an index, rows of one stack draw by the index of their sample, so that copies stay equal.
        """
        stacks = [list(map(id, made._rows)) for made in self.batches]
        rows = [row for stack in stacks for row in (stack if self._streams else set(stack))]
        return len(set(rows)) < len(rows)

    def _touched(self) -> bool:
        """Whether an image of the samples was finished since collating began."""
        if number_of_finishes() == self._finishes + 1:
            return False  # the counter has not moved: no image was finished, in any thread
        return any(not isinstance(image, DeferredImage) or image._call.finished for image in self._images)


def _in_order(samples: list[Any], may_hold: bool) -> list[DeferredImage] | None:
    """The image of each sample, for tuples with one each that nothing else references; None: look at each closely.

    The same as `_checked` for the common case, without Python code for each sample.
    """
    if set(map(type, samples)) != {tuple} or len(set(map(len, samples))) > 1:
        return None
    kinds = [set(map(type, map(itemgetter(place), samples))) for place in range(len(samples[0]))]
    places = [place for place, found in enumerate(kinds) if found == {DeferredImage}]
    if len(places) != 1 or any(place not in places and not found <= _LEAVES for place, found in enumerate(kinds)):
        return None
    images = list(map(itemgetter(places[0]), samples))
    if not may_hold and max(map(sys.getrefcount, samples)) > _MAPPED:
        return None
    if not may_hold and max(map(sys.getrefcount, images)) > _MAPPED + 1:  # the sample, and this list
        return None
    return None if any(map(_used, images)) or any(map(_finished, images)) else images


def _checked(samples: list[Any], may_hold: bool) -> tuple[list[DeferredImage], list[int]]:
    """The deferred images that lifted transforms may run on, and the sample of each; all others are finished."""
    images: list[DeferredImage] = []
    numbers: list[int] = []
    for number in range(len(samples)):  # by position: a loop variable would add a reference
        held = sys.getrefcount(samples[number]) > _ALONE  # before the call below adds a reference
        for image, kept in found_in(samples[number], held):
            if type(image) is not DeferredImage:
                continue  # it occurs twice in the sample, and was finished the first time
            if (kept and not may_hold) or image._used or image._call.finished:
                finish(image)  # the dataset keeps it, and must find there its own transform's output
            else:
                images.append(image)
                numbers.append(number)
    return images, numbers


@contextmanager
def collecting(samples: Any, *, may_hold: bool) -> Iterator[Collecting]:
    """A context in which deferred images of ``samples`` are stacked without being finished.

    may_hold: ignore references to an image from outside its sample, which else count as a cache (the generator of an
    iterable dataset holds its last sample).
    """
    earlier = getattr(deferring.local, "collecting", None)
    deferring.local.collecting = made = Collecting(samples, may_hold)
    try:
        yield made
    finally:
        deferring.local.collecting = earlier


def found_in(
    part: Any, held: bool = False, found: list[tuple[DeferredImage, bool]] | None = None
) -> list[tuple[DeferredImage, bool]]:
    """The deferred images in a sample, each with whether anything else references it or a container around it.

    held: whether ``part`` itself is so referenced. Results are appended to ``found`` if it is given.
    """
    found = [] if found is None else found
    if isinstance(part, (tuple, list)):
        keys: Any = range(len(part))
    elif isinstance(part, dict):
        keys = list(part)
    else:
        if type(part) is DeferredImage:
            found.append((part, held))
        return found
    for key in keys:
        kind = type(part[key])
        if kind in _LEAVES:
            continue
        kept = held or sys.getrefcount(part[key]) > _ALONE  # before a variable or a call here adds a reference
        if kind is DeferredImage:
            found.append((part[key], kept))
        elif issubclass(kind, (dict, tuple, list)):
            found_in(part[key], kept, found)
    return found


def _collate_deferred(
    batch: Sequence[Tensor], *, collate_fn_map: dict[Any, Callable[..., Any]] | None = None
) -> Tensor:
    """The function that ``default_collate`` uses for deferred images."""
    made = deferring.stacked(batch)
    if made is not None:
        return made
    finish_all(batch)
    return collate_tensor_fn(batch, collate_fn_map=collate_fn_map)


default_collate_fn_map[DeferredImage] = _collate_deferred
