"""A JPEG file in memory, decoded when its pixels are asked for: whole, a part of it, or for a crop that is shrunk.

What: `Encoded` decodes a file by the library chosen, at most once whole. For a crop that is resized to half its sides
or less, it can decode the file at 1/2, 1/4 or 1/8 of its size, where libjpeg computes fewer values of each block of 8×8
pixels. Or it decodes the first part that is asked for without the rest (`region`); who asks for a second gets it from
the whole file. When: ``Lift(decode="scaled")``, "region" and "batch" (`parts`). Cost: on photographs about 0.8 of the
time of the whole file at 1/2, since all of it must still be read bit by bit; the crop is then a fraction to resample.
Reference: libjpeg-turbo's scaled inverse DCT.
"""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from .decoders import SCALES, Decoder, decode_scaled
from .region import END, Box, decode_region, is_one_scan
from .resampling import resized

DAMAGED = "damaged, or of a rare kind"


@dataclass
class Counts:
    """Files decoded here, how many of them smaller or in part, and files left to Pillow, by reason.

    decoded: also those handed on, to be decoded with their batch. ended: their batch has been read.
    """

    decoded: int = 0
    partly: int = 0
    by_dataset: Counter[str] = field(default_factory=Counter)
    ended: bool = False


class Encoded:
    """The bytes of a JPEG file of ``size`` (width, height).

    partly: how it may be decoded for a crop, "scaled" or "region"; "batch": with its batch, or else as "region"; empty:
    as a whole.
    """

    def __init__(self, data: bytes, size: tuple[int, int], decode: Decoder, counts: Counts, partly: str = "") -> None:
        self.data, self.size, self.partly = data, size, partly
        self._decode, self._counts = decode, counts
        self._whole: np.ndarray | None = None
        self._parts = 0  # asked for
        self._counted = False

    def is_decodable(self) -> bool:
        """Whether the file can be decoded: by its end where it may be decoded smaller; by its scan or by doing it."""
        if self.partly != "scaled":
            return (bool(self.partly) and is_one_scan(self.data)) or self.decoded() is not None
        complete = self.data.rstrip(b"\0").endswith(END)
        if not complete:
            self._counts.by_dataset[DAMAGED] += 1
        return complete

    def decoded(self) -> np.ndarray | None:
        """The pixels (H, W, 3) uint8, not to be changed; None: Pillow must decode the file."""
        if self._whole is None:
            made = self._decode(self.data)
            if made is None or made.shape != (self.size[1], self.size[0], 3):
                self._counts.by_dataset[DAMAGED] += 1
                return None
            self._count()
            self._whole = made
        return self._whole

    def pixels(self) -> np.ndarray:
        """As `decoded`, by Pillow where it must; raises what Pillow raises."""
        made = self.decoded()
        if made is not None:
            return made
        from PIL import JpegImagePlugin  # not Image.open, which is why this runs

        self._whole = np.array(JpegImagePlugin.JpegImageFile(io.BytesIO(self.data)))
        return self._whole

    def part(self, box: Box) -> np.ndarray:
        """The pixels of the part ``box`` (left, top, right, bottom), not to be changed; raises what Pillow raises."""
        left, top, right, bottom = box
        self._parts += 1
        first = self.partly in ("region", "batch") and self._parts == 1 and self._whole is None
        if first and (right - left, bottom - top) != self.size:
            made = decode_region(self.data, box)
            if made is not None:
                self._count(partly=self.partly == "region")
                return made
        return self.pixels()[top:bottom, left:right]

    def shrunk(self, box: Box, height: int, width: int) -> np.ndarray | None:
        """The part ``box`` (left, top, right, bottom) resized to (height, width, 3), from a file decoded smaller.

        None: it does not shrink by half, or the file cannot be decoded so.
        """
        factor = min((box[2] - box[0]) // width, (box[3] - box[1]) // height)
        scale = next((scale for scale in SCALES if scale <= factor), 1)
        if scale == 1 or self._whole is not None or self.partly != "scaled":
            return None
        made = decode_scaled(self.data, self.size, scale)
        if made is None:
            return None
        self._count(partly=True)
        left, top, right, bottom = (round(side / scale) for side in box)
        return resized(made[top:bottom, left:right], height, width)

    def hand_on(self) -> bool:
        """Whether the file is decoded with its batch, and is so counted.

        Not where it is decoded, or where the dataset keeps it for later batches: then it is decoded once, whole.
        """
        if self._counts.ended:
            self._parts += 1
        if self._counts.ended or self._whole is not None:
            return False
        self._count()
        return True

    def _count(self, partly: bool = False) -> None:
        if not self._counted:
            self._counts.decoded += 1
            self._counts.partly += partly
        self._counted = True
