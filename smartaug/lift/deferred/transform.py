"""What a loader with ``lift=True`` puts in place of the dataset's transform.

What: a `DeferredTransform` runs the transforms that stay in the worker and returns a `DeferredImage`. The masks, boxes
and keypoints that move with the image are deferred, too, and the labels that are dropped with boxes. The lifted
transforms run on the batch, on the device, only if that object is still in the collated batch, unused (`collecting`).
Where it is not, the result of the user's whole pipeline takes its place; so it does in images that the dataset itself
keeps a reference to (a cache).

When: in every loader with ``lift=True``. One sample cannot show that a dataset always returns its transform's output
unchanged; here each sample is checked, and one that fails the check is what torch's own loader would give. Cost: see
"lift, checks" in ``benchmarks/loader.py``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ..._base import leaves
from .. import registry
from ..keyed_draws import KeyedDraws, may_draw
from ..roles import Role, Rules, kind_of, roles, rules_of
from ..steps import Transform, name_of
from ..watch import Watch
from .calls import Call, CallOnOne, final_kind_of
from .given import IMAGE_ALONE, Given, note
from .images import EMPTY, DeferredImage, WaitingImage, plain, without_data
from .places import LIFTABLE, made_places, why_not_made
from .rest import Form, Rest, form_of
from .values import DeferredValue

_CHANGING = (Tensor, np.ndarray, tuple, list, dict)  # mutable, or may contain mutable parts: copied


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
            note(Given.of_arguments(self.rules, given, named))
            return self._instead(found, given, named)
        note(Given.of_roles(found))
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
            made = leaves.put(made, role.path, _deferred(call, role, self.tail))
        return made

    def _of_one(self, rest: Rest, image: Any) -> Any:
        """The same where the image is the only argument, which is the common case and must be fast."""
        note(IMAGE_ALONE)
        before = rest.head.before_last(image)
        form = form_of(before)
        part = None if form is None else rest.head.waiting(before)
        deferred: Any = EMPTY.detach()  # with its class set: half the time of `without_data`
        if part is None:
            made = rest.head.to_tensor(before)
            if not isinstance(made, Tensor) or made.dim() != 3 or made.dtype not in LIFTABLE:
                return self._instead(str(why_not_made(made)), (image,), {})
            deferred.__class__ = DeferredImage
            deferred._made = made if type(made) is Tensor else plain(made)
        else:
            deferred.__class__ = WaitingImage
            deferred._part = part
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

    @property  # type: ignore[misc]
    def __class__(self) -> type[Any]:
        """The user's class, for datasets that ask ``isinstance(self.transform, A.Compose)``."""
        kind = type(self.__dict__.get("original", self))
        return type(self) if kind in (list, tuple) else kind

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """By the true class, since pickle asks for ``__class__``."""
        return _without_init, (type(self),), vars(self)

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


def _without_init(kind: type[Any]) -> Any:
    return object.__new__(kind)


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


def _deferred(call: Call, role: Role, tail: Sequence[Transform]) -> DeferredImage | DeferredValue:
    if not isinstance(role.leaf, Tensor):
        return DeferredValue(call, role.path, role.leaf, role.kind)
    image: DeferredImage = without_data(_final_type(call, role, tail))
    image._call, image._made = call, plain(role.leaf) if role.kind in ("image", "mask") else role.leaf
    if role.path:
        image._path, image._kind = role.path, role.kind
    return image


def _final_type(call: Call, role: Role, tail: Sequence[Transform]) -> type:
    """The type that the whole pipeline gives to a part of a sample with targets: one of torchvision's, or Tensor."""
    if role.kind == "object" or len(call.places) == 0 or "ToPureTensor" in map(name_of, tail):
        return Tensor
    if role.kind != "image":
        return type(role.leaf)
    if final_kind_of(call) != "image":
        return Tensor
    from torchvision import tv_tensors

    return tv_tensors.Image
