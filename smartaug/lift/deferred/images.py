"""Images and targets whose lifted transforms have not run yet: tensors without data, alone or stacked.

What: a `DeferredImage` stands for what the user's whole pipeline gives. ``torch.stack`` and ``default_collate`` turn
such images into a `DeferredBatch`. Any other operation on one of them (in the dataset after its transform, for a
statistic or a file, CutMix in a collate function) first turns it, in place, into that result, and lifted transforms no
longer apply to it. When, cost: see `transform`, which makes them.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data._utils.collate import collate_tensor_fn, default_collate_fn_map

from ..._base import leaves
from ..decode.parts import Part, Parts
from .calls import Call, CallOnOne
from .typed import finishing
from .values import DeferredValue, finishes

# the data of every deferred tensor: code that reads memory without __torch_function__ (torch.tensor(x)) fails, since no
# machine can copy that many bytes; an empty tensor would be taken for a sample without boxes or labels
EMPTY = torch.empty(1, dtype=torch.uint8, device="cpu").expand(1 << 61)
_NDIM = torch.Tensor.ndim.__get__  # type: ignore[attr-defined]
local = threading.local()  # .collecting: the `Collecting` of the batch that this thread collates
_make = torch.Tensor._make_subclass


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


class WaitingImage(DeferredImage):
    """A deferred image that is still a part of a file, decoded with its batch, or here once its pixels are needed."""

    _part: Part

    @property
    def _made(self) -> Tensor:  # type: ignore[override]
        return self._part.pixels()


@functools.cache
def deferred_class(kind: type) -> type[DeferredImage]:
    """`DeferredImage`, or a subclass that is a ``kind``, too: code that asks for a type of torchvision must see it."""
    if kind is Tensor:
        return DeferredImage
    made = type(f"Deferred{kind.__name__}", (DeferredImage, kind), finishing(kind, finish))
    default_collate_fn_map[made] = default_collate_fn_map[DeferredImage]
    return made


def without_data(kind: type) -> Any:
    """A new deferred tensor, which is a ``kind``; the caller says what it stands for."""
    return _make(deferred_class(kind), EMPTY)


class DeferredBatch(Tensor):
    """A stack (B, C, H, W) of deferred images; any operation on it finishes all of them, in place."""

    _rows: list[DeferredImage]
    _made: Tensor | Parts  # what the worker's transforms made, stacked

    __torch_function__ = DeferredImage.__torch_function__
    as_subclass = DeferredImage.as_subclass

    @classmethod
    def of(cls, rows: list[DeferredImage], made: Tensor | Parts) -> DeferredBatch:
        """The stack of ``rows``; made: what the worker's transforms made of them, stacked."""
        batch: DeferredBatch = _make(cls, EMPTY)
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


def plain(image: Tensor) -> Tensor:
    """The tensor without its subclass."""
    return image if type(image) is Tensor else image.as_subclass(Tensor)
