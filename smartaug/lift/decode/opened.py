"""A JPEG file that Pillow has opened, whose pixels are decoded by another library.

What: Pillow reads a file's header when it is opened, and decodes it when pixels are asked for. An `OpenedJpeg` is
Pillow's own object after the first; if the first thing asked of it is `load`, a copy, a crop or an array, it is decoded
by a faster library instead. Everything else, and every file that the decoder does not take, is left to Pillow. When:
``Image.open`` inside `opening`. Cost: none.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin

from .decoders import Decoder
from .encoded import Counts, Encoded
from .picture import Picture, PixelAccess, core_of


def why_not(image: JpegImagePlugin.JpegImageFile) -> str | None:
    """Why Pillow decodes a JPEG file that it has opened; None: another decoder can."""
    if image.mode != "RGB" or image.layers != 3:
        return {"L": "grey", "CMYK": "CMYK"}.get(image.mode, image.mode)
    if image.info.get("adobe_transform", 1) != 1:
        return "not stored as YCbCr"
    if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        return "larger than Pillow takes without a warning"
    return None if image.bits == 8 else f"{image.bits} bits a channel"


class OpenedJpeg(JpegImagePlugin.JpegImageFile):
    """A JPEG file of three channels, opened and not decoded yet."""

    _decode: Decoder
    _partly: str
    _counts: Counts
    _encoded: Encoded | None

    @classmethod
    def of(cls, image: JpegImagePlugin.JpegImageFile, decode: Decoder, partly: str, counts: Counts) -> OpenedJpeg:
        """``image``, turned into an `OpenedJpeg`. partly: see `Encoded`. counts: to be kept."""
        made: Any = image
        made.__class__ = cls
        made._decode, made._partly, made._counts, made._encoded = decode, partly, counts, None
        return made

    def decoded_pixels(self) -> np.ndarray | None:
        """The array (H, W, 3) uint8, not to be changed; None: Pillow decodes the file, and this is its own object."""
        encoded = self._read()
        return None if encoded is None else encoded.pixels()

    def _read(self) -> Encoded | None:
        """The file in memory, which can be decoded; None: Pillow decodes it, and this is its own object now.

        After that, as after Pillow's ``load``, a file that Pillow opened is closed.
        """
        if self._encoded is not None:
            return self._encoded
        untouched = self.__dict__.get("_im") is None and len(self.tile) == 1 and not self.decoderconfig
        data = self._bytes() if untouched and self.mode == "RGB" else None
        encoded = None if data is None else Encoded(data, self.size, self._decode, self._counts, self._partly)
        if encoded is None or not encoded.is_decodable():
            self._as_pillow_has_it()
            return None
        if self._exclusive_fp:
            self.fp = None
        self.tile, self._encoded = [], encoded
        return encoded

    def _bytes(self) -> bytes | None:
        """The whole file, which Pillow can read again from memory."""
        file = self.fp
        if file is None:
            return None
        try:
            file.seek(0)
            data = file.read()
        except (OSError, ValueError):  # a closed file: Pillow raises it, where it decodes
            return None
        if self._exclusive_fp:
            file.close()
        self.fp = io.BytesIO(data)
        return data

    def _as_pillow_has_it(self) -> JpegImagePlugin.JpegImageFile:
        """This object, turned back into Pillow's own; loaded if its pixels were asked for."""
        made: Any = self
        encoded = self._encoded
        for name in ("_decode", "_partly", "_counts", "_encoded"):
            del made.__dict__[name]
        made.__class__ = JpegImagePlugin.JpegImageFile
        if encoded is not None:
            made.im, made.readonly = core_of(encoded.pixels()), 0
        return made

    @property
    def _im(self) -> Any:
        return self.__dict__["_im"] if self._encoded is None else self._as_pillow_has_it()._im

    @_im.setter
    def _im(self, core: Any) -> None:
        made: Any = self._as_pillow_has_it()
        made._im = core

    def load(self) -> Any:
        """As `PIL.ImageFile.ImageFile.load`."""
        return self.load() if self._read() is None else PixelAccess(self)

    def _loaded(self) -> Image.Image:
        """An image with the pixels of the file, whose methods do as this one's; or Pillow's own object."""
        encoded = self._read()
        return self if encoded is None else Picture.waiting(encoded, self.info)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self._loaded().__array_interface__

    def copy(self) -> Image.Image:
        """As `PIL.Image.Image.copy`."""
        made = self._loaded()
        return made.copy() if made is self else made

    def convert(self, mode: str | None = None, matrix: Any = None, *args: Any, **kwargs: Any) -> Image.Image:
        """As `PIL.Image.Image.convert`."""
        if mode in (None, "RGB") and not matrix:
            return self.copy()
        return self._loaded().convert(mode, matrix, *args, **kwargs)

    def crop(self, box: Any = None) -> Image.Image:
        """As `PIL.Image.Image.crop`."""
        return self._loaded().crop(box)

    def transpose(self, method: Any) -> Image.Image:
        """As `PIL.Image.Image.transpose`."""
        return self._loaded().transpose(method)

    def resize(self, *args: Any, **kwargs: Any) -> Image.Image:
        """As `PIL.Image.Image.resize`."""
        return self._loaded().resize(*args, **kwargs)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, OpenedJpeg):
            other._as_pillow_has_it()
        return self._as_pillow_has_it() == other

    __hash__ = None  # type: ignore[assignment]  # as Pillow's

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._as_pillow_has_it().__reduce_ex__(protocol)

    def __repr__(self) -> str:
        where, size = f"at 0x{id(self):X}", f"{self.size[0]}x{self.size[1]}"
        return f"<PIL.JpegImagePlugin.JpegImageFile image mode={self.mode} size={size} {where}>"
