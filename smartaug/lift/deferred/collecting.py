"""The check, per sample, that lifted transforms may run on the batch that the samples were collated into.

What: while a batch is collated, ``torch.stack`` and ``default_collate`` turn deferred images into a `DeferredBatch`.
The lifted transforms run on the batch only if every deferred image is still in it, unused; else all of them are
finished: they become the output of the user's whole pipeline. When: in every loader with ``lift=True``. Cost: see
"lift, checks" in ``benchmarks/loader.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple, TypeGuard

from torch import Tensor
from torch.utils.data._utils.collate import collate, collate_tensor_fn, default_collate_fn_map

from ..._base import leaves
from ..decode import opening
from ..decode.parts import Parts
from ..joint import Joint, JointSample
from . import given as noted
from . import images as deferring
from .calls import Call, final_kind_of
from .given import Given, Whole
from .images import DeferredBatch, DeferredImage, WaitingImage, finish_all, number_of_finishes
from .rows import rows_of_list
from .values import DeferredValue, looking

_HOLDER = [object()]
_ALONE = sys.getrefcount(_HOLDER[0])  # reference count of an object that only one container holds
_MAPPED = max(map(sys.getrefcount, _HOLDER))  # the same as `map` counts it
_LEAVES = {Tensor, int, float, str}  # the commonest types that cannot contain a deferred image
_used, _finished, _kind, _made = map(attrgetter, ("_used", "_call.finished", "_kind", "_made"))
_dtype, _shape = attrgetter("dtype"), attrgetter("shape")
Deferred = DeferredBatch | DeferredImage | DeferredValue
_DEFERRED = (DeferredImage, DeferredValue)
_IMAGES = {DeferredImage, WaitingImage}
Found = tuple[Any, bool]  # a deferred image or value of a sample, and whether anything else references it


class Unfinished(NamedTuple):
    """Where in a batch the lifted transforms must still run: paths of images, and of masks that move with them.

    joint: instead of these, for a batch with other targets, or with images in a list. whole: what the transform was
    given in samples where the whole pipeline ran. encoded: paths of images that are still `Parts` of files.
    """

    images: tuple[leaves.Path, ...] = ()
    masks: tuple[leaves.Path, ...] = ()
    joint: Joint | None = None
    whole: tuple[Whole, ...] = ()
    encoded: tuple[leaves.Path, ...] = ()

    @property
    def lifts(self) -> bool:
        """Whether lifted transforms must still run."""
        return len(self.images) > 0 or self.joint is not None


def apart(unfinished: Unfinished | None) -> tuple[Unfinished | None, tuple[Whole, ...]]:
    """``unfinished``, None where no lifted transform must still run; and its samples whose whole pipeline ran."""
    if unfinished is None:
        return None, ()
    return unfinished if unfinished.lifts else None, unfinished.whole


class Collecting:
    """The state while one batch is collated: the deferred images in its samples, and the stacks made of them.

    may_hold: see `collecting`.
    """

    def __init__(self, samples: Any, may_hold: bool) -> None:
        self._streams, self._listed = may_hold, isinstance(samples, list)
        self.batches: list[DeferredBatch] = []
        self._samples = listed = samples if isinstance(samples, list) else [samples]
        self._calls = noted.take(len(listed))
        images = _in_order(listed, may_hold)  # kept here, so that ids stay unique
        numbers: Sequence[int]
        self._images: list[Any]
        self._unread: list[list[tuple[str, leaves.Path]]] = []
        if images is None:
            with looking():
                self._unread = [noted.unread(sample, _is_deferred) for sample in listed]
        self._images, numbers = _checked(listed, may_hold) if images is None else (images, range(len(listed)))
        # id of a deferred image -> position of its sample in the list
        self.sample_of = dict(zip(map(id, self._images), numbers, strict=True))
        self._finishes = number_of_finishes()

    def stack(self, tensors: object, dim: int = 0, *, out: Tensor | None = None) -> DeferredBatch | None:
        """A deferred batch, if all are deferred images of this batch, equal in shape, dtype and role; else None."""
        if dim != 0 or out is not None or not isinstance(tensors, (tuple, list)):
            return None
        rows = list(tensors)
        if not all(
            issubclass(kind, DeferredImage) for kind in set(map(type, rows))
        ) or not self.sample_of.keys() >= set(map(id, rows)):
            return None
        waiting = [type(row) is WaitingImage for row in rows]
        if any(waiting):
            parts = Parts.of([row._part if waits else row._made for row, waits in zip(rows, waiting, strict=True)])
            return None if parts is None else self._stacked(rows, parts)
        made = list(map(_made, rows))
        if any(len(set(map(part, made))) > 1 for part in (_dtype, _shape)) or len(set(map(_kind, rows))) > 1:
            return None
        return self._stacked(rows, collate_tensor_fn(made))

    def _stacked(self, rows: list[Any], made: Tensor | Parts) -> DeferredBatch:
        batch = DeferredBatch.of(rows, made)
        self.batches.append(batch)
        return batch

    def settle(self, batch: Any) -> tuple[Any, Unfinished | None, list[int] | None]:
        """The collated ``batch`` with ordinary tensors, its `Unfinished` part, and the sample of each row if known.

        Deferred batches are replaced in the structure, not filled in place, so references kept by the user's code stay
        deferred. If one deferred image was used, all are finished, since image and masks of a sample share their draws.
        """
        with looking():
            left = [(path, leaf) for path, leaf in leaves.walk(batch) if isinstance(leaf, (DeferredBatch, *_DEFERRED))]
        stacks = [(path, leaf) for path, leaf in left if _is_stack(leaf)]
        arrived = {id(made) for made in self.batches} == {id(stack) for _, stack in stacks}
        if self._touched() or not arrived or self._repeats():
            return self._all_finished(batch, left)
        if not left:
            return batch, self._whole(batch), None
        sizes = {stack._made.shape[-2:] for _, stack in stacks if stack._rows[0]._kind == "image"}
        if len(stacks) < len(left) or any(not _moves_as_stack(stack, sizes) for _, stack in stacks):
            return self._settle_joint(batch, left)
        numbers = [list(map(self.sample_of.__getitem__, map(id, stack._rows))) for _, stack in stacks]
        masks = {path for path, stack in stacks if stack._rows[0]._kind == "mask"}
        for path, stack in stacks:
            for image in stack._rows:
                image._used = True
            batch = leaves.put(batch, path, stack._made)
        images, moving = (tuple(path for path, _ in stacks if (path in masks) is moves) for moves in (False, True))
        unfinished = Unfinished(images, moving, encoded=_handed_on(stacks))
        return batch, unfinished, numbers[0] if all(one == numbers[0] for one in numbers) else None

    def _all_finished(
        self, batch: Any, left: Sequence[tuple[leaves.Path, Deferred]]
    ) -> tuple[Any, Unfinished | None, None]:
        finish_all(self.batches)
        finish_all([leaf for _, leaf in left])
        for path, leaf in left:
            batch = leaves.put(batch, path, leaf.value()) if isinstance(leaf, DeferredValue) else batch
        return batch, self._whole(batch), None

    def _whole(self, batch: Any, lifted: Collection[int] = ()) -> Unfinished | None:
        """What the transform was given for samples that are not in ``lifted``; None where it was not called for any."""
        calls: list[Any] = self._calls
        if len(calls) and isinstance(calls[0], Given):  # of a stream
            if len(calls) > len(self._samples):
                calls = [noted.together(calls)]
            return Unfinished(whole=tuple(map(Whole, dict.fromkeys(calls)))) if len(calls) > len(lifted) else None
        made: dict[Given, int] = {}
        for number, own in enumerate(calls):
            if len(own) and number not in lifted:
                made.setdefault(noted.together(own)._replace(arrived=self._arrived(number, batch)), number)
        whole = tuple(Whole(given, number) for given, number in made.items())
        return Unfinished(whole=whole) if whole else None

    def _arrived(self, number: int, batch: Any) -> tuple[tuple[str, tuple[leaves.Path, ...]], ...]:
        targets = self._unread[number] if self._unread else []
        sample = self._samples[number]
        return tuple((kind, noted.places_of(leaves.get(sample, path), number, batch)) for kind, path in targets)

    def _settle_joint(
        self, batch: Any, left: Sequence[tuple[leaves.Path, Deferred]]
    ) -> tuple[Any, Unfinished | None, list[int] | None]:
        """`settle` for a batch with targets of objects, or with images or targets in lists."""
        every = [row for _, leaf in left for row in rows_of(leaf)]
        found = joint_of(left) if self._listed and {id(row) for row in every} <= self.sample_of.keys() else None
        if found is None:
            return self._all_finished(batch, left)
        joint, images = found
        numbers = [self.sample_of[id(image)] for image in images]
        if not joint.stacked and len(set(self.sample_of.values())) < len(self._samples):
            with looking():
                rows = rows_of_list(batch, self._samples, joint.images)
            if rows is not None:
                joint, numbers = joint._replace(rows=tuple(rows[0]), length=len(rows[1])), rows[1]
        for row in every:
            row._used = True
        for path, leaf in left:
            batch = leaves.put(batch, path, leaf._made)
        lifted = set(map(self.sample_of.__getitem__, map(id, images)))
        _, whole = apart(self._whole(batch, lifted) if len(lifted) < len(self._samples) else None)
        return batch, Unfinished((), (), joint, whole, _handed_on(left)), numbers

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
        return any(not issubclass(type(image), _DEFERRED) or image._call.finished for image in self._images)


def _in_order(samples: list[Any], may_hold: bool) -> list[DeferredImage] | None:
    """The image of each sample, for tuples with one each that nothing else references; None: look at each closely.

    The same as `_checked` for the common case, without Python code for each sample.
    """
    if set(map(type, samples)) != {tuple} or len(set(map(len, samples))) > 1:
        return None
    kinds = [set(map(type, map(itemgetter(place), samples))) for place in range(len(samples[0]))]
    places = [place for place, found in enumerate(kinds) if found <= _IMAGES]
    if len(places) != 1 or any(place not in places and not found <= _LEAVES for place, found in enumerate(kinds)):
        return None
    images = list(map(itemgetter(places[0]), samples))
    if not may_hold and max(map(sys.getrefcount, samples)) > _MAPPED:
        return None
    if not may_hold and max(map(sys.getrefcount, images)) > _MAPPED + 1:  # the sample, and this list
        return None
    return None if any(map(_used, images)) or any(map(_finished, images)) else images


def _checked(samples: list[Any], may_hold: bool) -> tuple[list[Any], list[int]]:
    """The deferred images that lifted transforms may run on, and the sample of each; all others are finished."""
    images: list[Any] = []
    numbers: list[int] = []
    for number in range(len(samples)):  # by position: a loop variable would add a reference
        held = sys.getrefcount(samples[number]) > _ALONE  # before the call below adds a reference
        for image, kept in found_in(samples[number], held):
            if not issubclass(type(image), _DEFERRED):
                continue  # it occurs twice in the sample, and was finished the first time
            if (kept and not may_hold) or image._used or image._call.finished:
                finish_all(image)  # the dataset keeps it, and must find there its own transform's output
                put_values(samples[number])
            else:
                images.append(image)
                numbers.append(number)
    if not any(map(_finished, images)):
        return images, numbers
    finish_all([image for image in images if image._call.finished])  # a later part of their sample was kept
    left = [
        (image, number) for image, number in zip(images, numbers, strict=True) if issubclass(type(image), _DEFERRED)
    ]
    left = [(image, number) for image, number in left if not image._call.finished]
    return [image for image, _ in left], [number for _, number in left]


def _moves_as_stack(stack: DeferredBatch, sizes: set[Any]) -> bool:
    """Whether a stack is of images, or of masks of one of their ``sizes``."""
    kind = stack._rows[0]._kind
    return kind == "image" or (kind == "mask" and stack._made.shape[-2:] in sizes)


def _is_deferred(leaf: Any) -> bool:
    return issubclass(type(leaf), _DEFERRED)


def _is_stack(leaf: Deferred) -> TypeGuard[DeferredBatch]:
    return type(leaf) is DeferredBatch  # by type: isinstance would use a `DeferredValue`


def _handed_on(left: Sequence[tuple[leaves.Path, Deferred]]) -> tuple[leaves.Path, ...]:
    """The paths of stacks that are still parts of files; the files are counted."""
    encoded = [(path, leaf._rows) for path, leaf in left if _is_stack(leaf) and isinstance(leaf._made, Parts)]
    if encoded:
        waiting = (row for _, rows in encoded for row in rows if type(row) is WaitingImage)
        opening.handed_on(len({id(row._part.encoded) for row in waiting}))
    return tuple(path for path, _ in encoded)


def rows_of(leaf: Deferred) -> list[Any]:
    """The deferred images that a leaf of a batch is made of."""
    return leaf._rows if _is_stack(leaf) else [leaf]


def joint_of(left: Sequence[tuple[leaves.Path, Deferred]]) -> tuple[Joint, list[DeferredImage]] | None:
    """The `Joint` of a batch whose deferred leaves are ``left``, and its images row by row.

    None where targets cannot be brought together with images: not one image a sample, one without its image, a stack in
    another order, a leaf in two places.
    """
    pictures = [(path, leaf) for path, leaf in left if rows_of(leaf)[0]._kind == "image"]
    stacked = any(_is_stack(leaf) for _, leaf in pictures)
    if not pictures or (stacked and len(pictures) > 1):
        return None
    images = [row for _, leaf in pictures for row in rows_of(leaf)]
    if not stacked and any(final_kind_of(image._call) is None for image in images):
        return None  # the user's pipeline may make PIL images, which a list of them is to hold
    calls = [_call_of(image) for image in images]
    row_of = {call: row for row, call in enumerate(calls)}
    places: list[list[tuple[leaves.Path, leaves.Path]]] = [[] for _ in images]
    targets = [(path, leaf) for path, leaf in left if rows_of(leaf)[0]._kind != "image"]
    every = [id(row) for _, leaf in targets for row in rows_of(leaf)]
    if len(row_of) < len(images) or len(set(every)) < len(every):
        return None
    for path, leaf in targets:
        own = [_call_of(row) for row in rows_of(leaf)]
        if not row_of.keys() >= set(own) or (_is_stack(leaf) and own != calls):
            return None
        for row in rows_of(leaf):
            places[row_of[_call_of(row)]].append((row._path, path))
    samples = tuple(_joint_sample(image, tuple(own)) for image, own in zip(images, places, strict=True))
    stacks = frozenset(path for path, leaf in targets if _is_stack(leaf))
    paths = tuple(path for path, _ in pictures)
    return Joint(samples, paths, stacked, stacks, tuple(range(len(images))), len(images)), images


def _call_of(row: Any) -> int:
    """Equal for what one call of the transform made."""
    return id(row._call if isinstance(row._call, Call) else row)


def _joint_sample(image: DeferredImage, places: tuple[tuple[leaves.Path, leaves.Path], ...]) -> JointSample:
    call = image._call
    as_image = final_kind_of(call) == "image"
    if not isinstance(call, Call):
        return JointSample(None, image._path, False, places, as_image)
    made = call.made
    for role in call.places:
        made = leaves.put(made, role.path, None if role.kind == "image" else role.leaf)
    return JointSample(made, image._path, len(call.given) > 1, places, as_image)


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


def found_in(part: Any, held: bool = False, found: list[Found] | None = None) -> list[Found]:
    """The deferred images in a sample, each with whether anything else references it or a container around it.

    held: whether ``part`` itself is so referenced. Results are appended to ``found`` if it is given.
    """
    found = [] if found is None else found
    if issubclass(type(part), _DEFERRED):
        found.append((part, held))
        return found
    if isinstance(part, (tuple, list)):
        keys: Any = range(len(part))
    elif isinstance(part, dict):
        keys = list(part)
    else:
        return found
    for key in keys:
        kind = type(part[key])
        if kind in _LEAVES:
            continue
        kept = held or sys.getrefcount(part[key]) > _ALONE  # before a variable or a call here adds a reference
        if issubclass(kind, _DEFERRED):
            found.append((part[key], kept))
        elif issubclass(kind, (dict, tuple, list)):
            found_in(part[key], kept, found)
    return found


def put_values(part: Any) -> None:
    """Replace, in the lists and dicts of a sample, each `DeferredValue` by what it stands for."""
    if issubclass(type(part), _DEFERRED) or not isinstance(part, (list, tuple, dict)):
        return
    for key in list(part) if isinstance(part, dict) else range(len(part)):
        if type(part[key]) is DeferredValue and not isinstance(part, tuple):
            part[key] = part[key].value()
        else:
            put_values(part[key])


def _collate_deferred(
    batch: Sequence[Tensor], *, collate_fn_map: dict[Any, Callable[..., Any]] | None = None
) -> Tensor:
    """The function that ``default_collate`` uses for deferred images."""
    made = deferring.stacked(batch)
    if made is not None:
        return made
    finish_all(batch)
    return collate_tensor_fn(batch, collate_fn_map=collate_fn_map)


def _collate_values(batch: Sequence[DeferredValue], *, collate_fn_map: Any = None) -> Any:
    """The function that ``default_collate`` uses for deferred values: it collates what they stand for."""
    return collate([one.value() for one in batch], collate_fn_map=collate_fn_map)


default_collate_fn_map[DeferredImage] = default_collate_fn_map[WaitingImage] = _collate_deferred
default_collate_fn_map[DeferredValue] = _collate_values
