"""Which files that ``PIL.Image.open`` opens are decoded by another library, and when.

What: inside ``with Opening(...)``, in the thread that entered it, Pillow's registered opener of JPEG files is replaced
by one that makes an `OpenedJpeg` of plain files; every way to open a file comes to it (``Image.open`` under any name, a
path, bytes, torchvision's ``default_loader``). When: around the reading of the samples of a batch. Cost: 2 µs a batch.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple

from .decoders import Decoder
from .encoded import Counts

_lock = threading.Lock()
_inside = 0  # threads inside an `Opening`
_before: Any = None  # what Pillow had registered for JPEG files
_ours: Any = None  # what is registered in its place
_local = threading.local()  # .opening: the `Opening` that this thread is in; .files: see `take`
_OTHER = "no JPEG files, or decoded before they were converted, cropped or made an array"


class Files(NamedTuple):
    """The files of one batch.

    decoded: how many were decoded here. partly: how many of them smaller, only a part, or with their batch. by_dataset:
    how many the dataset's own code decoded, by reason.
    """

    decoded: int
    partly: int
    by_dataset: dict[str, int]


class Opening:
    """The context in which JPEG files are decoded by ``decode``.

    partly: how files may be decoded for a crop, see `Encoded`. counts: of the files, see `Files`.
    """

    def __init__(self, decode: Decoder, partly: str = "") -> None:
        self.decode, self.partly = decode, partly
        self.counts = Counts()

    def __enter__(self) -> Opening:
        self._outer = getattr(_local, "opening", None)
        _local.opening = self
        _register()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _local.opening = self._outer
        self.counts.ended = True
        _unregister()

    def note(self, samples: int) -> None:
        """Keep the counts of a batch of ``samples`` samples for `take`."""
        counts = self.counts
        others = samples - counts.decoded - sum(counts.by_dataset.values())
        if others > 0:
            counts.by_dataset[_OTHER] += others
        _local.files = Files(counts.decoded, counts.partly, dict(counts.by_dataset))


def take() -> Files | None:
    """The files of the batch that this thread read last, once; None: it was not read inside an `Opening`."""
    files: Files | None = getattr(_local, "files", None)
    _local.files = None
    return files


def handed_on(files: int) -> None:
    """So many of the files of the batch that this thread read last are decoded with it."""
    known: Files | None = getattr(_local, "files", None)
    if known is not None:
        _local.files = known._replace(partly=known.partly + files)


def _register() -> None:
    global _inside, _before, _ours
    from PIL import Image, JpegImagePlugin  # noqa: F401  # which registers Pillow's own opener, once

    with _lock:
        _inside += 1
        if _inside == 1 and "JPEG" in Image.OPEN:
            _before = Image.OPEN["JPEG"]
            _ours = partial(_open, _before[0])  # not looked up: code that wraps it now is ``_before`` the next time
            Image.OPEN["JPEG"] = (_ours, _before[1])


def _unregister() -> None:
    global _inside
    with _lock:
        _inside -= 1
        if _inside == 0:
            _restore()


def _restore() -> None:
    from PIL import Image

    if Image.OPEN.get("JPEG", (None,))[0] is _ours:  # else other code registered one meanwhile
        Image.OPEN["JPEG"] = _before


def _after_fork() -> None:
    """In a forked child, of the threads of its parent only the one that forked goes on."""
    global _lock, _inside
    _lock = threading.Lock()  # another thread may have held it
    if getattr(_local, "opening", None) is None:
        _inside = 0
        if _ours is not None:
            _restore()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _open(pillows: Callable[..., Any], file: Any, filename: Any = None) -> Any:
    """What Pillow's own opener gives; in a thread that is inside an `Opening`, plain files as `OpenedJpeg`."""
    from PIL import JpegImagePlugin

    from .opened import OpenedJpeg, why_not

    image = pillows(file, filename)
    opening: Opening | None = getattr(_local, "opening", None)
    if opening is None or type(image) is not JpegImagePlugin.JpegImageFile:
        return image
    reason = why_not(image)
    if reason is None:
        return OpenedJpeg.of(image, opening.decode, opening.partly, opening.counts)
    opening.counts.by_dataset[reason] += 1
    return image
