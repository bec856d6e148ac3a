"""Images whose lifted transforms have not run yet, and the check, per sample, that they may run on the batch.

What: in a loader with ``lift=True`` the dataset's transform is a `DeferredTransform`. It runs the transforms that stay
in the worker and returns a `DeferredImage`, a tensor without data of its own. ``torch.stack`` and ``default_collate``
turn such images into a `DeferredBatch`. The lifted transforms run on the batch, on the device, only if that object is
still in the collated batch, unused. Any other operation on a deferred image (in the dataset after its transform, for a
statistic or a file, CutMix in a collate function) first turns it, in place, into the output of the user's whole
pipeline, and lifted transforms no longer apply to it. The same is done to images that the dataset itself keeps a
reference to (a cache).

When: in every loader with ``lift=True``. One sample cannot show that a dataset always returns its transform's output
unchanged; here each sample is checked, and one that fails the check is what torch's own loader would give. Cost: see
"lift, checks" in ``benchmarks/loader.py``.
"""

from __future__ import annotations

import itertools
import random
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data._utils.collate import collate_tensor_fn, default_collate_fn_map

from .._base import leaves
from . import registry
from .keyed_draws import KeyedDraws, may_draw
from .roles import Rules, kind_of, roles, rules_of
from .steps import Transform
from .watch import Watch

# the data of every deferred tensor: code that reads memory without __torch_function__ finds no pixels
_EMPTY = torch.empty(0, dtype=torch.uint8, device="cpu")
_HOLDER = [object()]
_ALONE = sys.getrefcount(_HOLDER[0])  # reference count of an object that only one container holds
_NDIM = torch.Tensor.ndim.__get__  # type: ignore[attr-defined]
_local = threading.local()
_NO_NAMES: Mapping[str, Any] = MappingProxyType({})
_make = torch.Tensor._make_subclass
_LEAVES = {Tensor, int, float, str}  # the commonest types that cannot contain a deferred image
_CHANGING = (Tensor, np.ndarray, tuple, list, dict)  # mutable, or may contain mutable parts: copied
_LIFTABLE = {torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64}
_OWN = ("head", "original", "rules", "kind", "noted", "watch")  # public attributes of a `DeferredTransform`
_finishes = itertools.count()  # incremented whenever an image is finished, in any thread


class Call:
    """One call of a `DeferredTransform`: its arguments, and the whole pipeline's result once it has been computed."""

    finished = False
    result: Any = None

    def __init__(self, by: DeferredTransform, given: tuple[Any, ...], named: Mapping[str, Any] = _NO_NAMES) -> None:
        self.by, self.given, self.named = by, given, named

    def finish(self) -> Any:
        """The result of the user's whole pipeline, which runs at the first call only."""
        if not self.finished:
            self.result = self.by.whole(*self.given, **self.named)
            self.finished, self.given, self.named = True, (), _NO_NAMES
        return self.result


class DeferredImage(Tensor):
    """An image (C, H, W), or a mask (C, H, W) or (H, W), after the worker's transforms and before the lifted ones.

    Any operation on it except stacking replaces it, in place, by the whole pipeline's result.
    """

    _call: Call
    _made: Tensor  # what the worker's transforms made
    _path: leaves.Path = ()  # where it is in the transform's return value
    _is_mask = False
    _used = False  # it has been part of a batch

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Stack while a batch is collated; else finish all deferred arguments, then run ``func``."""
        kwargs = kwargs or {}
        if func is torch.stack:
            batch = _stacked(*args, **kwargs)
            if batch is not None:
                return batch
        known = _of_every_image(func, args)
        if known is not None:
            return known
        _finish_all((args, kwargs))
        return func(*args, **kwargs)


class DeferredBatch(Tensor):
    """A stack (B, C, H, W) of deferred images; any operation on it finishes all of them, in place."""

    _rows: list[DeferredImage]
    _made: Tensor  # what the worker's transforms made, stacked

    __torch_function__ = DeferredImage.__torch_function__


def _of_every_image(func: Callable[..., Any], args: Sequence[Any]) -> int | None:
    """The number of dimensions or the length of a batch, known without finishing; None: another ``func``."""
    if len(args) == 0 or not isinstance(args[0], (DeferredImage, DeferredBatch)):
        return None
    given = args[0]
    if func == _NDIM or func is torch.Tensor.dim:
        return given._made.ndim
    length = func is torch.Tensor.__len__ or (func is torch.Tensor.size and args[1:] == (0,))
    return len(given._rows) if length and isinstance(given, DeferredBatch) else None


def _finish_all(part: object) -> None:
    """Finish every deferred image in nested tuples, lists and dicts."""
    if isinstance(part, (DeferredImage, DeferredBatch)):
        finish(part)
    elif isinstance(part, Mapping):
        for value in part.values():
            _finish_all(value)
    elif isinstance(part, (tuple, list)):
        for value in part:
            _finish_all(value)


def finish(deferred: DeferredImage | DeferredBatch) -> None:
    """Replace it, in place, by the whole pipeline's output. Raises TypeError if that is not a tensor."""
    next(_finishes)
    if isinstance(deferred, DeferredBatch):
        rows = deferred._rows
        _finish_all(rows)
        return _become(deferred, collate_tensor_fn(list(rows)))
    call = deferred._call
    if not call.finished and call.by.watch is not None:
        call.by.watch.check()
    result = leaves.get(call.finish(), deferred._path)
    if not isinstance(result, Tensor):
        raise TypeError(
            f"the dataset's transform gives {type(result).__name__}, and lift=True a tensor; put ToTensor() or "
            "ToImage() at the transform's end, or write lift=False"
        )
    return _become(deferred, result)


def _become(deferred: Tensor, result: Tensor) -> None:
    with torch._C.DisableTorchFunctionSubclass():
        deferred.data = result
    kept = vars(result)
    vars(deferred).clear()
    deferred.__class__ = type(result)
    vars(deferred).update(kept)


# --- in the dataset --------------------------------------------------------------------------------------------------


class Noted(list["Call | str"]):
    """Log of a `DeferredTransform`: each `Call`, or why the original ran instead. A deep copy is the same list."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Noted:
        return self


class DeferredTransform:
    """Replaces the dataset's transform in a loader with ``lift=True``: ``head`` runs now, the rest on the batch.

    head: the part that stays in the worker. original: the user's transform; all other attributes are read from it.
    rules: how the images and masks among the arguments are found. If an argument cannot be lifted, or head's output is
    not an image that can, the original runs at once and its result is returned unchanged. kind: the image kind that
    head was made for, see `roles.kind_of`; None: any. noted: a list that each call is appended to. watch: raises an
    error at a call where the original has changed since it was lifted.
    """

    def __init__(
        self,
        head: Callable[..., Any],
        original: Transform,
        rules: Rules,
        kind: str | None = None,
        noted: Noted | None = None,
    ) -> None:
        self.head, self.original, self.rules, self.kind, self.noted = head, original, rules, kind, noted
        self._takes_one = kind is not None and not rules.by_name
        self._type: type | None = None  # a type whose objects are all of the kind
        self._keyed = KeyedDraws([original] if may_draw(registry.flat(original)) else [])
        self.watch: Watch | None = None

    @classmethod
    def of(
        cls, head: Callable[..., Any], original: Transform, kind: str | None = None, noted: Noted | None = None
    ) -> DeferredTransform:
        """An instance of the class for the library of ``original``."""
        rules = rules_of(original)
        made = DeferredAlbumentations if callable(getattr(head, "set_random_state", None)) else cls
        return made(head, original, rules, kind, noted)

    def __call__(self, *given: Any, **named: Any) -> Any:
        """The output of ``head``, images and masks deferred; or the original's, where it must run whole."""
        if self.watch is not None:
            self.watch.check()
        if self._takes_one and not named and len(given) == 1 and self._is_of_kind(given[0]):
            image = self.head(given[0])  # fast path for the common case: the image is the only argument
            if type(image) is Tensor and image.dtype in _LIFTABLE and image.dim() == 3:
                deferred: DeferredImage = _make(DeferredImage, _EMPTY)
                deferred._call = call = Call(self, _kept(given))
                deferred._made = image
                if self.noted is not None:
                    self.noted.append(call)
                return deferred
        found = roles(self.rules, given, named)
        if isinstance(found, str):
            return self._instead(found, given, named)
        if self.kind is not None and any(kind_of(leaf) != self.kind for _, leaf, is_mask in found if not is_mask):
            return self._instead(f"its images are not {self.kind} each time", given, named)
        made = self.head(*given, **named)
        places = [(path, is_mask) for path, _, is_mask in found]
        refused = _refused(made, places)
        if refused is not None:
            return self._instead(refused, given, named)
        call = Call(self, _kept(given), {name: _copied(value) for name, value in named.items()})
        if self.noted is not None:
            self.noted.append(call)
        for path, is_mask in places:
            made = leaves.put(made, path, _deferred(call, path, leaves.get(made, path), is_mask))
        return made

    def _is_of_kind(self, image: object) -> bool:
        if type(image) is self._type:
            return True
        if kind_of(image) != self.kind:
            return False
        if isinstance(image, (Tensor, np.ndarray)) or hasattr(type(image), "getbands"):  # the class decides
            self._type = type(image)
        return True

    def _instead(self, why: str, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if self.noted is not None:
            self.noted.append(why)
        return self.whole(*given, **named)

    def whole(self, *given: Any, **named: Any) -> Any:
        """The output of the user's whole pipeline; its draws in a loader depend on seed and epoch: `keyed_draws`."""
        with self._keyed():
            return self.original(*given, **named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in (
            "head",
            "original",
            "watch",
            "_takes_one",
            "_keyed",
        ):  # absent while a copy is being made: avoids infinite recursion
            raise AttributeError(name)
        return getattr(self.original, name)

    def __setattr__(self, name: str, value: object) -> None:
        """Set an attribute of the user's transform, as a dataset does that changes it for a sample."""
        own = name.startswith("_") or name in _OWN or "original" not in vars(self)
        object.__setattr__(self if own else self.original, name, value)

    def __repr__(self) -> str:
        return f"DeferredTransform({self.head!r})"


class DeferredAlbumentations(DeferredTransform):
    """A `DeferredTransform` for albumentations, whose random generators are set from outside."""

    def set_random_state(self, random_generator: np.random.Generator, py_random: random.Random) -> None:
        """Set the generators of the whole pipeline and of the part that stays in the worker."""
        head: Any = self.head
        for part in (self.original, head):
            part.set_random_state(random_generator, py_random)


def _kept(given: tuple[Any, ...]) -> tuple[Any, ...]:
    return given if len(given) == 1 and not isinstance(given[0], _CHANGING) else tuple(map(_copied, given))


def _copied(part: Any) -> Any:
    """``part`` with copies of its tensors and arrays: a dataset may reuse their memory for its next sample."""
    if isinstance(part, Tensor):
        return part.clone()
    if isinstance(part, np.ndarray):
        return part.copy()
    if type(part) in (tuple, list):
        return type(part)(map(_copied, part))
    return {key: _copied(value) for key, value in part.items()} if type(part) is dict else part


def _refused(made: Any, places: Sequence[tuple[leaves.Path, bool]]) -> str | None:
    """Why the lifted part cannot run on ``made``, the output of the worker's part; None: it can."""
    size = None
    for path, is_mask in places:
        try:
            leaf = leaves.get(made, path)
        except (KeyError, IndexError, TypeError):
            return "the transforms that stay in the worker change the structure of the sample"
        if not isinstance(leaf, Tensor):
            return f"the transforms that stay in the worker make {type(leaf).__name__} of an image"
        wrong = None if is_mask else why_no_image(leaf)
        if wrong is not None:
            return wrong
        if leaf.ndim not in (2, 3) or (size is not None and leaf.shape[-2:] != size):
            return "its samples have masks of another size than the image, which only the whole pipeline moves with it"
        size = leaf.shape[-2:]
    return None


def why_no_image(image: Tensor) -> str | None:
    """Why lifted transforms cannot take ``image``, an output of the worker; None: they can."""
    if image.dim() != 3:
        return f"its images are tensors of {image.ndim} dimensions, and lifted transforms take (C, H, W)"
    if image.dtype not in _LIFTABLE:
        return (
            f"its images are {str(image.dtype)[6:]}, and lifted transforms take uint8 or floats in [0, 1]; let the "
            "dataset give these, as in image.to(torch.uint8)"
        )
    return None


def _deferred(call: Call, path: leaves.Path, made: Tensor, is_mask: bool) -> DeferredImage:
    image: DeferredImage = _make(DeferredImage, _EMPTY)
    image._call, image._made = call, made
    if path:
        image._path, image._is_mask = path, is_mask
    return image


# --- in the collate function -----------------------------------------------------------------------------------------


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
        self.sample_of: dict[int, int] = {}  # id of a deferred image -> position of its sample in the list
        self.batches: list[DeferredBatch] = []
        self._images: list[DeferredImage] = []  # keeps the images alive, so that ids stay unique
        found: list[tuple[DeferredImage, bool]] = []
        listed = samples if isinstance(samples, list) else [samples]
        for number in range(len(listed)):  # by position: a loop variable would add a reference
            held = sys.getrefcount(listed[number]) > _ALONE  # before the call below adds a reference
            found_in(listed[number], held, found)
            for image, kept in found:
                if type(image) is not DeferredImage:
                    continue  # it occurs twice in the sample, and was finished the first time
                if (kept and not may_hold) or image._used or image._call.finished:
                    finish(image)  # the dataset keeps it, and must find there its own transform's output
                else:
                    self.sample_of[id(image)] = number
                    self._images.append(image)
            found.clear()
        self._finishes = next(_finishes)

    def settle(self, batch: Any) -> tuple[Any, Unfinished | None, list[int] | None]:
        """The collated ``batch`` with ordinary tensors, its `Unfinished` part, and the sample of each row if known.

        Deferred batches are replaced in the structure, not filled in place, so references kept by the user's code stay
        deferred. If one deferred image was used, all are finished, since image and masks of a sample share their draws.
        """
        left = [(path, leaf) for path, leaf in leaves.walk(batch) if isinstance(leaf, (DeferredBatch, DeferredImage))]
        stacks = [(path, leaf) for path, leaf in left if isinstance(leaf, DeferredBatch)]
        arrived = {id(made) for made in self.batches} == {id(stack) for _, stack in stacks}
        if self._touched() or len(stacks) < len(left) or not arrived or self._repeats():
            _finish_all(self.batches)
            _finish_all([leaf for _, leaf in left])
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
        if next(_finishes) == self._finishes + 1:
            return False  # the counter has not moved: no image was finished, in any thread
        return any(not isinstance(image, DeferredImage) or image._call.finished for image in self._images)


def _plain(image: Tensor) -> Tensor:
    return image if type(image) is Tensor else image.as_subclass(Tensor)


@contextmanager
def collecting(samples: Any, *, may_hold: bool) -> Iterator[Collecting]:
    """A context in which deferred images of ``samples`` are stacked without being finished.

    may_hold: ignore references to an image from outside its sample, which else count as a cache (the generator of an
    iterable dataset holds its last sample).
    """
    earlier = getattr(_local, "collecting", None)
    _local.collecting = made = Collecting(samples, may_hold)
    try:
        yield made
    finally:
        _local.collecting = earlier


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


def _stacked(tensors: object, dim: int = 0, *, out: Tensor | None = None) -> DeferredBatch | None:
    """A deferred batch, if all are deferred images of this batch, equal in shape, dtype and role; else None."""
    now: Collecting | None = getattr(_local, "collecting", None)
    if now is None or dim != 0 or out is not None or not isinstance(tensors, (tuple, list)):
        return None
    rows = list(tensors)
    if set(map(type, rows)) != {DeferredImage} or not now.sample_of.keys() >= set(map(id, rows)):
        return None
    made = [_plain(row._made) for row in rows]
    if len({image.dtype for image in made}) > 1 or len({image.shape for image in made}) > 1:
        return None
    if len({row._is_mask for row in rows}) > 1:
        return None
    batch: DeferredBatch = _make(DeferredBatch, _EMPTY)
    batch._rows, batch._made = rows, collate_tensor_fn(made)
    now.batches.append(batch)
    return batch


def _collate_deferred(
    batch: Sequence[Tensor], *, collate_fn_map: dict[Any, Callable[..., Any]] | None = None
) -> Tensor:
    """The function that ``default_collate`` uses for deferred images."""
    made = _stacked(batch)
    if made is not None:
        return made
    _finish_all(batch)
    return collate_tensor_fn(batch, collate_fn_map=collate_fn_map)


default_collate_fn_map[DeferredImage] = _collate_deferred
