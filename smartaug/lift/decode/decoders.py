"""Libraries that decode JPEG files to arrays, and the check that their pixels are Pillow's.

What: a decoder takes a file's bytes and returns its pixels (H, W, 3) uint8, or None for a file that it cannot decode
without a doubt. All of these libraries contain libjpeg-turbo, but of versions of their own; so each is compared with
the installed Pillow before its first use. When: simplejpeg where installed, else torchvision. Cost: the comparison,
about 10 ms a process that makes a loader. Reference: none.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import io
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

Decoder = Callable[[bytes], "np.ndarray | None"]
SCALES = (8, 4, 2)  # a file can be decoded to 1/8, 1/4 and 1/2 of its sides in less time than whole
NAMES = ("simplejpeg", "torchvision")  # the fastest first
_KEPT = 1 << 24  # bytes; memory of larger pictures is not kept
_local = threading.local()  # .memory: that of the last picture
_HOLDER = [object()]
_ALONE = sys.getrefcount(_HOLDER[0])  # of an object that one container holds


def decoder_named(name: str) -> Decoder:
    """The decoder of the library ``name``, one of `NAMES`."""
    return {"simplejpeg": _by_simplejpeg, "torchvision": _by_torchvision}[name]


@functools.cache
def best_decoder() -> tuple[str | None, str]:
    """The name of the fastest installed decoder with Pillow's pixels, and its name with its version.

    If there is none: None, and why.
    """
    if importlib.util.find_spec("PIL") is None:
        return None, "Pillow is not installed"
    reasons: list[str] = []
    for name in NAMES:
        if importlib.util.find_spec(name) is None:
            reasons.append(f"{name} is not installed")
        elif (why := _why_not(name)) is not None:
            reasons.append(f"{name} {why}")
        else:
            return name, f"{name} {importlib.metadata.version(name)}"
    return None, f"{', '.join(reasons)}; pip install simplejpeg"


def _by_simplejpeg(data: bytes) -> np.ndarray | None:
    import simplejpeg

    try:
        height, width = simplejpeg.decode_jpeg_header(data)[:2]
        return simplejpeg.decode_jpeg(data, "RGB", buffer=_memory(height * width * 3))
    except ValueError:  # also for what Pillow puts up with, of which some warning of libjpeg's tells
        return None


def decode_scaled(data: bytes, size: tuple[int, int], scale: int) -> np.ndarray | None:
    """A JPEG file of ``size`` (width, height), decoded to 1/scale of its sides, rounded up, by simplejpeg.

    (H, W, 3) uint8, one of `SCALES`; None: it cannot be, without a doubt.
    """
    import simplejpeg

    width, height = (-(-side // scale) for side in size)
    try:
        made = simplejpeg.decode_jpeg(
            data, "RGB", min_height=height, min_width=width, min_factor=scale, buffer=_memory(height * width * 3)
        )
    except ValueError:
        return None
    return made if made.shape == (height, width, 3) else None


def _memory(size: int) -> np.ndarray:
    """Memory of at least ``size`` bytes: that of the last picture where nothing refers to it, else new.

    New memory of this size comes from the system each time, page by page.
    """
    if size > _KEPT:
        return np.empty(size, np.uint8)
    holder: list[np.ndarray] | None = getattr(_local, "memory", None)
    if holder is None or holder[0].size < size or sys.getrefcount(holder[0]) > _ALONE:
        holder = _local.memory = [np.empty(size, np.uint8)]
    return holder[0]


def _by_torchvision(data: bytes) -> np.ndarray | None:
    import torchvision.io

    # the operator itself: torchvision.io.decode_jpeg warns at each call that TorchCodec will replace it
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    try:
        made: Any = torch.ops.image.decode_jpeg(encoded, torchvision.io.ImageReadMode.RGB.value, False)
    except RuntimeError:
        return None
    return made.permute(1, 2, 0).numpy()


def _why_not(name: str) -> str | None:
    """Why the decoder ``name`` cannot stand in for the installed Pillow; None: it can."""
    from PIL import Image, features

    if not isinstance(vars(Image.Image).get("im"), property):  # through which `picture` comes in
        return "would need Pillow 11"
    decode = decoder_named(name)
    try:
        for data in samples():
            wanted = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
            made = decode(data)
            if made is None or made.shape != wanted.shape or not np.array_equal(made, wanted):
                version = features.version("libjpeg_turbo") or features.version("jpg")
                return f"does not decode to the pixels of Pillow's libjpeg {version}"
            if decode(data[: len(data) // 2]) is not None:
                return "decodes half a file"
    except (AttributeError, ImportError, RuntimeError, TypeError, ValueError) as error:  # of another version
        return f"fails ({type(error).__name__}: {error})"
    return None


def samples() -> Iterator[bytes]:
    """JPEG files of one small picture: baseline and progressive, with each subsampling that Pillow writes."""
    from PIL import Image

    y, x = np.mgrid[:45, :70]
    picture = np.stack([y * 5, x * 3, (x * y) % 256], 2).astype(np.uint8)
    picture[10:30, 20:50] ^= np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    for quality, subsampling, progressive in ((90, 0, False), (75, 1, True), (75, 2, False), (40, 2, True)):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=quality, subsampling=subsampling, progressive=progressive)
        yield file.getvalue()
