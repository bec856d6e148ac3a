"""The pixels of a decoded JPEG file, as a PIL image.

What: a `Picture` is an image of mode RGB whose pixels are still an array. Whatever Pillow does that reads or changes
pixels goes through the attribute ``im``; when that is asked for, the object becomes, in place, an ordinary
``PIL.Image.Image`` with the same pixels, so that all results are Pillow's own. Copies, crops, mirrors, turns by 90
degrees and conversion to an array need no ``im``: they are views or copies of the array, of equal values. When: what
``convert``, ``copy`` or ``crop`` make of an `OpenedJpeg`. Cost: none until pixels are asked for; then that of
``Image.frombuffer``. Until then ``type(picture)`` is a subclass of ``PIL.Image.Image``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from .encoded import Encoded
from .parts import Part
from .resampling import resized, resizing

_TURNS = {
    Image.Transpose.FLIP_LEFT_RIGHT: lambda a: a[:, ::-1],
    Image.Transpose.FLIP_TOP_BOTTOM: lambda a: a[::-1],
    Image.Transpose.ROTATE_90: lambda a: a.swapaxes(0, 1)[::-1],
    Image.Transpose.ROTATE_180: lambda a: a[::-1, ::-1],
    Image.Transpose.ROTATE_270: lambda a: a[::-1].swapaxes(0, 1),
    Image.Transpose.TRANSPOSE: lambda a: a.swapaxes(0, 1),
    Image.Transpose.TRANSVERSE: lambda a: a[::-1, ::-1].swapaxes(0, 1),
}


class Picture(Image.Image):
    """An RGB image whose pixels are an array (H, W, 3) uint8, which nothing changes; or that array is still to be made.

    In the second case it is the part ``_box`` (left, top, right, bottom) of the file ``_encoded``, resized to its size.
    """

    _array: np.ndarray | None
    _encoded: Encoded | None
    _box: tuple[int, int, int, int]

    @classmethod
    def of(cls, pixels: np.ndarray, info: Mapping[Any, Any]) -> Picture:
        """An image of ``pixels`` (H, W, 3) uint8; info: as Pillow keeps it beside an image, copied."""
        made: Any = cls._empty((pixels.shape[1], pixels.shape[0]), info)
        made._array, made._encoded = pixels, None
        return made

    @classmethod
    def waiting(
        cls,
        encoded: Encoded,
        info: Mapping[Any, Any],
        box: tuple[int, int, int, int] | None = None,
        size: tuple[int, int] | None = None,
    ) -> Picture:
        """An image of the part ``box`` of a file, of all of it without; info: as for `of`.

        size: (width, height) that it is resized to, bilinearly; None: as it is.
        """
        left, top, right, bottom = box or (0, 0, *encoded.size)
        made: Any = cls._empty(size or (right - left, bottom - top), info)
        made._array, made._encoded, made._box = None, encoded, (left, top, right, bottom)
        return made

    @classmethod
    def _empty(cls, size: tuple[int, int], info: Mapping[Any, Any]) -> Picture:
        made: Any = Image.Image()
        made._mode, made._size = "RGB", size
        made.info = {key: value.copy() if isinstance(value, list) else value for key, value in info.items()}
        made.__class__ = cls
        return made

    def decoded_pixels(self) -> np.ndarray:
        """The array (H, W, 3) uint8; not to be changed."""
        if self._array is None:
            assert self._encoded is not None
            made = self._encoded.part(self._box)
            self._array = made if not self._is_resized else resized(made, self.height, self.width)
            self._encoded = None
        return self._array

    def waiting_part(self) -> Part | None:
        """What is to be decoded, where that may be left to the loader's process; None: it is decoded, or must be."""
        encoded = self._encoded
        if encoded is None or encoded.partly != "batch" or min(self.size) < 2:  # see `resampling`
            return None
        if not encoded.hand_on():
            return None
        return Part(encoded, self._box, (self.height, self.width))

    @property
    def _is_resized(self) -> bool:
        left, top, right, bottom = self._box
        return (right - left, bottom - top) != self.size

    def as_pillow_has_it(self) -> Image.Image:
        """This object, turned into an ordinary image."""
        return _ordinary(self, core_of(self.decoded_pixels()))

    @property
    def _im(self) -> Any:
        return self.as_pillow_has_it().im

    @_im.setter
    def _im(self, core: Any) -> None:
        _ordinary(self, core)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        pixels = np.ascontiguousarray(self.decoded_pixels())
        return {"version": 3, "shape": pixels.shape, "typestr": "|u1", "data": pixels.data.toreadonly()}

    def load(self) -> Any:
        """As `PIL.Image.Image.load`."""
        self.decoded_pixels()
        return PixelAccess(self)

    def copy(self) -> Image.Image:
        """A copy of the image."""
        if self._encoded is not None:
            return Picture.waiting(self._encoded, self.info, self._box, self.size)
        return Picture.of(self.decoded_pixels(), self.info)

    def convert(self, mode: str | None = None, matrix: Any = None, *args: Any, **kwargs: Any) -> Image.Image:
        """As `PIL.Image.Image.convert`."""
        if mode in (None, "RGB") and not matrix:
            return self.copy()
        return self.as_pillow_has_it().convert(mode, matrix, *args, **kwargs)

    def crop(self, box: Any = None) -> Image.Image:
        """As `PIL.Image.Image.crop`."""
        if box is None:
            return self.copy()
        inside = _inside(box, self.size)
        if inside is None:
            return self.as_pillow_has_it().crop(box)
        left, top, right, bottom = inside
        if self._encoded is not None and not self._is_resized:
            x, y = self._box[:2]
            return Picture.waiting(self._encoded, self.info, (x + left, y + top, x + right, y + bottom))
        return Picture.of(self.decoded_pixels()[top:bottom, left:right], self.info)

    def transpose(self, method: Any) -> Image.Image:
        """As `PIL.Image.Image.transpose`."""
        turned = _TURNS.get(method)
        if turned is None:
            return self.as_pillow_has_it().transpose(method)
        return Picture.of(turned(self.decoded_pixels()).copy(), self.info)

    def resize(
        self, size: Any, resample: int | None = None, box: Any = None, reducing_gap: float | None = None
    ) -> Image.Image:
        """As `PIL.Image.Image.resize`; in transforms of `resampling`, bilinearly on the array."""
        plain = resample == Image.Resampling.BILINEAR and box is None and reducing_gap is None
        if plain and resizing() and len(size) == 2 and min(size) > 0:
            if tuple(size) == self.size:
                return self.copy()
            if self._encoded is not None and self._encoded.partly == "batch" and not self._is_resized:
                return Picture.waiting(self._encoded, self.info, self._box, tuple(size))
            return Picture.of(self._resized(size[1], size[0]), self.info)
        return self.as_pillow_has_it().resize(size, resample, box, reducing_gap)

    def _resized(self, height: int, width: int) -> np.ndarray:
        shrunk = None if self._encoded is None else self._encoded.shrunk(self._box, height, width)
        return resized(self.decoded_pixels(), height, width) if shrunk is None else shrunk

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Picture):
            other.as_pillow_has_it()
        return self.as_pillow_has_it() == other

    __hash__ = None  # type: ignore[assignment]  # as Pillow's

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.as_pillow_has_it().__reduce_ex__(protocol)

    def __repr__(self) -> str:
        return f"<PIL.Image.Image image mode=RGB size={self.size[0]}x{self.size[1]} at 0x{id(self):X}>"


class PixelAccess:
    """What ``image.load()`` returns: pixels by place, of an image that becomes an ordinary one when this is used."""

    def __init__(self, image: Image.Image) -> None:
        self._image = image

    def __getitem__(self, place: Any) -> Any:
        return self._access()[place]

    def __setitem__(self, place: Any, value: Any) -> None:
        self._access()[place] = value

    def _access(self) -> Any:
        return self._image.im.pixel_access(self._image.readonly)


def core_of(pixels: np.ndarray) -> Any:
    """Pillow's own memory with the values of ``pixels`` (H, W, 3) uint8."""
    height, width = pixels.shape[:2]
    return Image.frombuffer("RGB", (width, height), np.ascontiguousarray(pixels), "raw", "RGB", 0, 1).im


def _ordinary(picture: Any, core: Any) -> Image.Image:
    for name in ("_array", "_encoded", "_box"):
        picture.__dict__.pop(name, None)
    picture.__class__ = Image.Image
    picture._im = core
    return picture


def _inside(box: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """A box of Pillow's, rounded as there; None where it is empty, or reaches beyond an image of ``size``."""
    if len(box) != 4:
        return None
    left, top, right, bottom = map(round, box)
    inside = 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
    return (left, top, right, bottom) if inside else None
