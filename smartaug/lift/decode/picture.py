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
    """An RGB image whose pixels are an array (H, W, 3) uint8, which nothing changes."""

    _pixels: np.ndarray

    @classmethod
    def of(cls, pixels: np.ndarray, info: Mapping[Any, Any]) -> Picture:
        """An image of ``pixels`` (H, W, 3) uint8; info: as Pillow keeps it beside an image, copied."""
        made: Any = Image.Image()
        made._mode, made._size = "RGB", (pixels.shape[1], pixels.shape[0])
        made.info = {key: value.copy() if isinstance(value, list) else value for key, value in info.items()}
        made.__class__ = cls
        made._pixels = pixels
        return made

    def decoded_pixels(self) -> np.ndarray:
        """The array (H, W, 3) uint8; not to be changed."""
        return self._pixels

    def as_pillow_has_it(self) -> Image.Image:
        """This object, turned into an ordinary image."""
        return _ordinary(self, Image.frombuffer("RGB", self.size, _contiguous(self._pixels), "raw", "RGB", 0, 1).im)

    @property
    def _im(self) -> Any:
        return self.as_pillow_has_it().im

    @_im.setter
    def _im(self, core: Any) -> None:
        _ordinary(self, core)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        data = memoryview(_contiguous(self._pixels)).toreadonly()
        return {"version": 3, "shape": self._pixels.shape, "typestr": "|u1", "data": data}

    def copy(self) -> Image.Image:
        """A copy of the image."""
        return Picture.of(self._pixels, self.info)

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
        return Picture.of(self._pixels[top:bottom, left:right], self.info)

    def transpose(self, method: Any) -> Image.Image:
        """As `PIL.Image.Image.transpose`."""
        turned = _TURNS.get(method)
        if turned is None:
            return self.as_pillow_has_it().transpose(method)
        return Picture.of(np.ascontiguousarray(turned(self._pixels)), self.info)

    def resize(
        self, size: Any, resample: int | None = None, box: Any = None, reducing_gap: float | None = None
    ) -> Image.Image:
        """As `PIL.Image.Image.resize`; in transforms of `resampling`, bilinearly on the array."""
        plain = resample == Image.Resampling.BILINEAR and box is None and reducing_gap is None
        if plain and resizing() and len(size) == 2 and min(size) > 0:
            same = tuple(size) == self.size
            return self.copy() if same else Picture.of(resized(self._pixels, size[1], size[0]), self.info)
        return self.as_pillow_has_it().resize(size, resample, box, reducing_gap)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Picture):
            other.as_pillow_has_it()
        return self.as_pillow_has_it() == other

    __hash__ = None  # type: ignore[assignment]  # as Pillow's

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.as_pillow_has_it().__reduce_ex__(protocol)

    def __repr__(self) -> str:
        return f"<PIL.Image.Image image mode=RGB size={self.size[0]}x{self.size[1]} at 0x{id(self):X}>"


def _ordinary(picture: Any, core: Any) -> Image.Image:
    del picture.__dict__["_pixels"]
    picture.__class__ = Image.Image
    picture._im = core
    return picture


def _contiguous(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels)


def _inside(box: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """A box of Pillow's, rounded as there; None where it is empty, or reaches beyond an image of ``size``."""
    if len(box) != 4:
        return None
    left, top, right, bottom = map(round, box)
    inside = 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
    return (left, top, right, bottom) if inside else None
