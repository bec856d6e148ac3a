"""Decoding only a part of a JPEG file, by nvImageCodec on the CPU.

What: libjpeg-turbo still reads a file from its beginning, bit by bit, but leaves out what is above, below and beside
the part when it computes pixels. When: ``Lift(decode="region")``. Cost: on photographs of 500×375 two thirds of that of
the whole file for parts of a sixth of it, five sixths for those that RandomResizedCrop draws by default; see
``benchmarks/regions.py``; to find that a file may be decoded so, 35 µs for 94 kB. The library needs no GPU, and says on
stderr which of NVIDIA's others it did not find. Reference: nvImageCodec's libjpeg-turbo extension.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import io
import os
import re
import threading
from contextlib import suppress
from typing import Any

import numpy as np

PACKAGE = "nvidia-nvimgcodec-cu12"
_OPTIONS = ":fancy_upsampling=1 libjpeg_turbo_decoder:fast_idct=0"  # as Pillow's libjpeg
_OTHER_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # within a scan
END = b"\xff\xd9"  # the marker at which a file ends
_local = threading.local()  # .made: the process and the decoder of this thread

Box = tuple[int, int, int, int]  # left, top, right, bottom


def decode_region(data: bytes | np.ndarray, box: Box) -> np.ndarray | None:
    """The part ``box`` of a JPEG file, its bytes or a uint8 array of them, (H, W, 3) uint8 not to be changed.

    None: it cannot be decoded.
    """
    from nvidia import nvimgcodec

    left, top, right, bottom = box
    try:
        stream = nvimgcodec.CodeStream(data)
        part = stream.get_sub_code_stream(region=nvimgcodec.Region(top, left, bottom, right))
        made = _decoder().decode(part, params=as_stored())
    except RuntimeError:
        return None
    pixels = None if made is None else np.asarray(made)
    return pixels if pixels is not None and pixels.shape == (bottom - top, right - left, 3) else None


def is_one_scan(data: bytes) -> bool:
    """Whether a JPEG file has one scan, from its beginning to its end, with no markers in it that end or change it.

    In others (progressive, damaged, with more behind the end) libjpeg may fail, or smooth blocks by their neighbours,
    and nvImageCodec then gives the pixels that it has.
    """
    data = data.rstrip(b"\0")
    end, place = len(data) - len(END), 2
    while place < end and data[place] == 0xFF:  # a segment: a marker, its length, and what it says
        kind = data[place + 1]
        if kind == 0xFF:  # before a marker there may be more of them
            place += 1
            continue
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if kind == 0xDA:
            return data.endswith(END) and _OTHER_MARKER.search(data, place, end) is None
    return False


@functools.cache
def why_not() -> str | None:
    """Why parts of files cannot be decoded with the installed Pillow's pixels; None: they can."""
    if importlib.util.find_spec("nvidia") is None or importlib.util.find_spec("nvidia.nvimgcodec") is None:
        return f"needs nvImageCodec, which needs no GPU; pip install {PACKAGE}"
    from PIL import Image

    from .decoders import samples

    try:
        for data in samples():
            wanted = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
            for box in ((0, 0, 70, 45), (13, 7, 64, 31), (37, 18, 38, 19)):
                made = decode_region(data, box)
                if made is None or not np.array_equal(made, wanted[box[1] : box[3], box[0] : box[2]]):
                    return f"{told()} does not decode to the pixels of Pillow"
    except (AttributeError, ImportError, TypeError) as error:  # of another version
        return f"{told()} fails ({type(error).__name__}: {error})"
    return None


def told() -> str:
    """The name of the library, and its version where it is known."""
    for package in (PACKAGE, f"{PACKAGE[:-1]}3"):  # for CUDA 13
        with suppress(importlib.metadata.PackageNotFoundError):
            return f"nvImageCodec {importlib.metadata.version(package)}"
    return "nvImageCodec"


@functools.cache
def as_stored() -> Any:
    """Settings by which a picture is not turned as its EXIF data say: the dataset's own code does that, if any."""
    from nvidia import nvimgcodec

    return nvimgcodec.DecodeParams(apply_exif_orientation=False)


def _decoder() -> Any:
    """This thread's decoder, of this process: what a parent made does not outlive a fork."""
    held = getattr(_local, "made", None)
    if held is None or held[0] != os.getpid():
        from nvidia import nvimgcodec as codec

        backends, device = [codec.Backend(codec.CPU_ONLY)], codec.NVIMGCODEC_DEVICE_CPU_ONLY
        decoder = codec.Decoder(device, max_num_cpu_threads=1, backends=backends, options=_OPTIONS)
        held = _local.made = (os.getpid(), decoder)
    return held[1]
