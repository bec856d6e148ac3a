"""Images and targets whose lifted transforms have not run yet, and what makes them in the dataset.

What: in a loader with ``lift=True`` the dataset's transform is a `DeferredTransform`. It runs the transforms that stay
in the worker and returns a `DeferredImage`, a tensor without data of its own. ``torch.stack`` and ``default_collate``
turn such images into a `DeferredBatch`. The masks, boxes and keypoints that move with the image are deferred, too, and
the labels that are dropped with boxes. The lifted transforms run on the batch, on the device, only if that object is
still in the collated batch, unused (`collecting`). Any other operation on a deferred image (in the dataset after its
transform, for a statistic or a file, CutMix in a collate function) first turns it, in place, into the output of the
user's whole pipeline, and lifted transforms no longer apply to it. The same is done to images that the dataset itself
keeps a reference to (a cache).

When: in every loader with ``lift=True``. One sample cannot show that a dataset always returns its transform's output
unchanged; here each sample is checked, and one that fails the check is what torch's own loader would give. Cost: see
"lift, checks" in ``benchmarks/loader.py``.
"""

from __future__ import annotations

import functools
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data._utils.collate import collate_tensor_fn, default_collate_fn_map

from ..._base import leaves
from .. import registry
from ..keyed_draws import KeyedDraws, may_draw
from ..roles import Role, Rules, kind_of, roles, rules_of
from ..steps import Transform, name_of
from ..watch import Watch
from .places import LIFTABLE, made_places, why_not_made
from .rest import Form, Rest, form_of
from .typed import finishing
from .values import DeferredValue, finishes

# the data of every deferred tensor: code that reads memory without __torch_function__ (torch.tensor(x)) fails, since no
# machine can copy that many bytes; an empty tensor would be taken for a sample without boxes or labels
_EMPTY = torch.empty(1, dtype=torch.uint8, device="cpu").expand(1 << 61)
_NDIM = torch.Tensor.ndim.__get__  # type: ignore[attr-defined]
local = threading.local()  # .collecting: the `Collecting` of the batch that this thread collates
_NO_NAMES: Mapping[str, Any] = MappingProxyType({})
_make = torch.Tensor._make_subclass
_CHANGING = (Tensor, np.ndarray, tuple, list, dict)  # mutable, or may contain mutable parts: copied


class Call:
    """One call of a `DeferredTransform`: its arguments, and the whole pipeline's result once it has been computed."""

    finished = False
    result: Any = None
    made: Any = None  # what the worker's transforms made of a sample with targets, none of it deferred
    places: Sequence[Role] = ()  # what of it was deferred, the image first
    form: Form = ""  # "Image" or "Tensor" where the image came as one

    def __init__(self, by: DeferredTransform, given: tuple[Any, ...], named: Mapping[str, Any] = _NO_NAMES) -> None:
        self.by, self.given, self.named = by, given, named

    def finish(self, made: Tensor) -> Any:
        """The result of the user's whole pipeline, which runs at the first call only; made: not used."""
        if not self.finished:
            self.result = self.by.whole(*self.given, **self.named)
            self.finished, self.given, self.named, self.made, self.places = True, (), _NO_NAMES, None, ()
        return self.result


class CallOnOne:
    """All calls of a `DeferredTransform` with one image as the only argument, of a form that `rest` restores."""

    finished = False

    def __init__(self, by: DeferredTransform, rest: Rest, form: Form) -> None:
        self.by, self.rest, self.form = by, rest, form

    def finish(self, made: Tensor) -> Any:
        """The result of the user's whole pipeline for an image of which the worker's part made ``made``."""
        with self.by.keyed():
            return self.rest(made, self.form)


def final_kind_of(call: Call | CallOnOne) -> str | None:
    """Which kind of tensor the whole pipeline makes of the image, "tensor" or "image"; None: it may be none."""
    final = call.by.final_kind
    known = final if final in ("tensor", "image") else {"Image": "image", "Tensor": "tensor"}.get(str(call.form))
    return None if final == "pil" else known


class DeferredImage(Tensor):
    """An image (C, H, W) or a target of it, after the worker's transforms and before the lifted ones.

    Any operation on it except stacking replaces it, in place, by the whole pipeline's result.
    """

    _call: Call | CallOnOne
    _made: Tensor  # what the worker's transforms made
    _path: leaves.Path = ()  # where it is in the transform's return value
    _kind = "image"  # of its `Role`; "object" for one row an object, such as labels
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
            batch = stacked(*args, **kwargs)
            if batch is not None:
                return batch
        known = _of_every_image(func, args)
        if known is not None:
            return known
        finish_all((args, kwargs))
        return func(*args, **kwargs)

    def as_subclass(self, cls: type[Any]) -> Any:
        """As `torch.Tensor.as_subclass`, which does not ask ``__torch_function__``."""
        finish_all(self)
        return torch.Tensor.as_subclass(self, cls)


@functools.cache
def deferred_class(kind: type) -> type[DeferredImage]:
    """`DeferredImage`, or a subclass that is a ``kind``, too: code that asks for a type of torchvision must see it."""
    if kind is Tensor:
        return DeferredImage
    made = type(f"Deferred{kind.__name__}", (DeferredImage, kind), finishing(kind, finish))
    default_collate_fn_map[made] = default_collate_fn_map[DeferredImage]
    return made


class DeferredBatch(Tensor):
    """A stack (B, C, H, W) of deferred images; any operation on it finishes all of them, in place."""

    _rows: list[DeferredImage]
    _made: Tensor  # what the worker's transforms made, stacked

    __torch_function__ = DeferredImage.__torch_function__
    as_subclass = DeferredImage.as_subclass

    @classmethod
    def of(cls, rows: list[DeferredImage], made: Tensor) -> DeferredBatch:
        """The stack of ``rows``; made: what the worker's transforms made of them, stacked."""
        batch: DeferredBatch = _make(cls, _EMPTY)
        batch._rows, batch._made = rows, made
        return batch


def stacked(*args: Any, **kwargs: Any) -> DeferredBatch | None:
    """`torch.stack` of deferred images while a batch is collated: see `Collecting.stack`; None: it must finish them."""
    now: Any = getattr(local, "collecting", None)
    made: DeferredBatch | None = None if now is None else now.stack(*args, **kwargs)
    return made


def number_of_finishes() -> int:
    """A counter that has moved on by one more than it is read where an image was finished, in any thread."""
    return next(finishes)


def _of_every_image(func: Callable[..., Any], args: Sequence[Any]) -> int | None:
    """The number of dimensions or the length of a batch, known without finishing; None: another ``func``."""
    if len(args) == 0 or not isinstance(args[0], (DeferredImage, DeferredBatch)):
        return None
    given = args[0]
    if func == _NDIM or func is torch.Tensor.dim:
        return given._made.ndim
    length = func is torch.Tensor.__len__ or (func is torch.Tensor.size and args[1:] == (0,))
    return len(given._rows) if length and isinstance(given, DeferredBatch) else None


def finish_all(part: object) -> None:
    """Finish every deferred image in nested tuples, lists and dicts."""
    if type(part) is DeferredValue:
        part.value()
    elif isinstance(part, (DeferredImage, DeferredBatch)):
        finish(part)
    elif isinstance(part, Mapping):
        for value in part.values():
            finish_all(value)
    elif isinstance(part, (tuple, list)):
        for value in part:
            finish_all(value)


def finish(deferred: DeferredImage | DeferredBatch) -> None:
    """Replace it, in place, by the whole pipeline's output. Raises TypeError if that is not a tensor."""
    next(finishes)
    if isinstance(deferred, DeferredBatch):
        rows = deferred._rows
        finish_all(rows)
        return _become(deferred, collate_tensor_fn(list(rows)))
    call = deferred._call
    if not call.finished and call.by.watch is not None:
        call.by.watch.check()
    result = leaves.get(call.finish(deferred._made), deferred._path)
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
    rules: how the images and targets among the arguments are found. If an argument cannot be lifted, or head's output
    is not an image that can, the original runs at once and its result is returned unchanged. kind: the image kind that
    head was made for, see `roles.kind_of`; None: any. noted: a list that each call is appended to. rest: what finishes
    an image from head's output, where the image is the only argument; None: the original does, from a copy of all
    arguments. tail, final_kind: see `Lifted`. watch: raises an error at a call where the original has changed since it
    was lifted.
    """

    def __init__(
        self,
        head: Callable[..., Any],
        original: Transform,
        rules: Rules,
        kind: str | None = None,
        noted: Noted | None = None,
        rest: Rest | None = None,
        tail: Sequence[Transform] = (),
        final_kind: str | None = None,
    ) -> None:
        self.head, self.original, self.rules, self.kind, self.noted = head, original, rules, kind, noted
        self.tail, self.final_kind = tuple(tail), final_kind
        self._rest = rest if noted is None else None
        self._calls: dict[Form, CallOnOne] = {}
        self._type: type | None = None  # a type whose objects are all of the kind
        self.keyed = KeyedDraws([original] if may_draw(registry.flat(original)) else [])
        self.watch: Watch | None = None

    @classmethod
    def of(
        cls,
        head: Callable[..., Any],
        original: Transform,
        kind: str | None = None,
        noted: Noted | None = None,
        rest: Rest | None = None,
        *,
        tail: Sequence[Transform] = (),
        any_size: bool = False,
        final_kind: str | None = None,
    ) -> DeferredTransform:
        """An instance of the class for the library of ``original``. any_size: see `Rules`."""
        rules = rules_of(original, any_size)
        made = DeferredAlbumentations if callable(getattr(head, "set_random_state", None)) else cls
        return made(head, original, rules, kind, noted, rest, tail, final_kind)

    def __call__(self, *given: Any, **named: Any) -> Any:
        """The output of ``head``, images and masks deferred; or the original's, where it must run whole."""
        if self.watch is not None:
            self.watch.check()
        if self._rest is not None and len(given) == 1 and not named and self._is_of_kind(given[0]):
            return self._of_one(self._rest, given[0])
        found = roles(self.rules, given, named)
        if isinstance(found, str):
            return self._instead(found, given, named)
        if self.kind is not None and kind_of(found[0].leaf) != self.kind:
            return self._instead(f"its images are not {self.kind} each time", given, named)
        made = self.head(*given, **named)
        places = made_places(made, found, self.rules, self.tail, len(given) > 1)
        if isinstance(places, str):
            return self._instead(places, given, named)
        call = Call(self, _kept(given), {name: _copied(value) for name, value in named.items()})
        if self.noted is not None:
            self.noted.append(call)
        if len(places) > 1:
            call.made, call.places = made, places
        if kind_of(found[0].leaf) in ("tensor", "image"):
            call.form = "Image" if kind_of(places[0].leaf) == "image" else "Tensor"
        for role in places:
            made = leaves.put(made, role.path, _deferred(call, role))
        return made

    def _of_one(self, rest: Rest, image: Any) -> Any:
        """The same where the image is the only argument, which is the common case and must be fast."""
        before = rest.head.before_last(image)
        form = form_of(before)
        made = rest.head.to_tensor(before)
        if not isinstance(made, Tensor) or made.dim() != 3 or made.dtype not in LIFTABLE:
            return self._instead(str(why_not_made(made)), (image,), {})
        deferred: Any = _EMPTY.detach()  # with its class set: half the time of _make
        deferred.__class__ = DeferredImage
        deferred._made = made if type(made) is Tensor else plain(made)
        if form is None:
            deferred._call = Call(self, _kept((image,)))
        else:
            deferred._call = self._calls.get(form) or self._calls.setdefault(form, CallOnOne(self, rest, form))
        return deferred

    def _is_of_kind(self, image: object) -> bool:
        if type(image) is self._type:
            return True
        kind = kind_of(image)
        if kind is None or self.kind not in (None, kind):
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
        with self.keyed():
            return self.original(*given, **named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in (
            "head",
            "original",
            "watch",
            "_rest",
            "keyed",
        ):  # absent while a copy is being made: avoids infinite recursion
            raise AttributeError(name)
        return getattr(self.original, name)

    def __setattr__(self, name: str, value: object) -> None:
        """Set an attribute of the user's transform, as a dataset does that changes it for a sample."""
        own = name.startswith("_") or name in vars(self) or "watch" not in vars(self)  # which is set last
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


def plain(image: Tensor) -> Tensor:
    """The tensor without its subclass."""
    return image if type(image) is Tensor else image.as_subclass(Tensor)


def _deferred(call: Call, role: Role) -> DeferredImage | DeferredValue:
    if not isinstance(role.leaf, Tensor):
        return DeferredValue(call, role.path, role.leaf, role.kind)
    image: DeferredImage = _make(deferred_class(_final_type(call, role)), _EMPTY)
    image._call, image._made = call, plain(role.leaf) if role.kind in ("image", "mask") else role.leaf
    if role.path:
        image._path, image._kind = role.path, role.kind
    return image


def _final_type(call: Call, role: Role) -> type:
    """The type that the whole pipeline gives to a part of a sample with targets: one of torchvision's, or Tensor."""
    if role.kind == "object" or len(call.places) == 0 or "ToPureTensor" in map(name_of, call.by.tail):
        return Tensor
    if role.kind != "image":
        return type(role.leaf)
    if final_kind_of(call) != "image":
        return Tensor
    from torchvision import tv_tensors

    return tv_tensors.Image
