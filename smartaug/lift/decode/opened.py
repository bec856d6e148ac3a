"""A JPEG file that Pillow has opened, whose pixels are decoded by another library.

What: Pillow reads a file's header when it is opened, and decodes it when pixels are asked for. An `OpenedJpeg` is
Pillow's own object after the first; if the first thing asked of it is a copy, a crop or an array, it is decoded by a
faster library instead. Everything else, and every file that the decoder does not take, is left to Pillow. When:
``Image.open`` inside `opening`. Cost: none.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin

from .decoders import Decoder
from .encoded import Counts, Encoded
from .picture import Picture


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
    _scales: bool
    _counts: Counts
    _encoded: Encoded | None

    @classmethod
    def of(cls, image: JpegImagePlugin.JpegImageFile, decode: Decoder, scales: bool, counts: Counts) -> OpenedJpeg:
        """``image``, turned into an `OpenedJpeg`. scales: whether it may be decoded smaller. counts: to be kept."""
        made: Any = image
        made.__class__ = cls
        made._decode, made._scales, made._counts, made._encoded = decode, scales, counts, None
        return made

    def decoded_pixels(self) -> np.ndarray | None:
        """The array (H, W, 3) uint8, not to be changed; None: Pillow decodes the file, and this is its own object."""
        encoded = self._read()
        made = None if encoded is None else encoded.decoded()
        if made is None:
            self._as_pillow_has_it()
        return made

    def _read(self) -> Encoded | None:
        """The file in memory; None: Pillow has decoded it, or begun to."""
        if self._encoded is None:
            untouched = self._im is None and len(self.tile) == 1 and not self.decoderconfig and self.mode == "RGB"
            data = self._bytes() if untouched else None
            self._encoded = None if data is None else Encoded(data, self.size, self._decode, self._counts)
        return self._encoded

    def _bytes(self) -> bytes | None:
        """The whole file, which is closed where Pillow would close it, and can be read again from memory."""
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
        """This object, turned back into Pillow's own."""
        made: Any = self
        for name in ("_decode", "_scales", "_counts", "_encoded"):
            del made.__dict__[name]
        made.__class__ = JpegImagePlugin.JpegImageFile
        return made

    def _loaded(self) -> Image.Image:
        """An image with the pixels of the file, whose methods do as this one's; or Pillow's own object."""
        if self._scales:
            encoded = self._read()
            if encoded is not None and encoded.is_complete:
                return Picture.waiting(encoded, self.info)
        pixels = self.decoded_pixels()
        return self if pixels is None else Picture.of(pixels, self.info)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self._loaded().__array_interface__

    def copy(self) -> Image.Image:
        """As `PIL.Image.Image.copy`."""
        return self._loaded().copy()

    def convert(self, *args: Any, **kwargs: Any) -> Image.Image:
        """As `PIL.Image.Image.convert`."""
        return self._loaded().convert(*args, **kwargs)

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
