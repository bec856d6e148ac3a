"""Decodes a batch of parts of JPEG files, and resizes them all at once.

What: nvImageCodec decodes the files of a `Parts`, on CUDA by nvJPEG, elsewhere on the CPU by threads, only the parts
that are kept; then one segment of `augment.backends.unequal` crops and resizes them to one batch. A file that it cannot
decode is decoded by Pillow. When: ``Lift(decode="batch")``, once a batch, in the loader's process. Cost: on the CPU
that of ``decode="region"``, in as many threads as torch has. Reference: nvImageCodec's `Decoder`; the resize is torch's
antialiased `interpolate`.

On the CPU pixels are those of ``decode="exact"``. On CUDA they differ: `why_not` measures by how much, and refuses more
than `LEVELS`. Regions are not asked for there, since nvJPEG before 13.2 (CUDA 13.3) errs at their edges where chroma is
interpolated.
"""

from __future__ import annotations

import functools
import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from ..._base import threads
from ...augment import backends
from ...augment.plan import Trace
from ...augment.resample import Resample
from ...augment.unequal import UnequalPlan, plan_for, shape_of
from . import region
from .decoders import samples
from .parts import Parts

LEVELS = 8  # of grey, by which nvJPEG may differ from Pillow on the check's samples; nvImageCodec's own tests allow 6
_GPU_OPTIONS = ":fancy_upsampling=1"  # chroma interpolated as by libjpeg, not repeated
_lock = threading.Lock()  # of the stream and decoder of CUDA devices


class Decoded(NamedTuple):
    """images: (B, 3, H, W) uint8. by_pillow: keys of the files that nvImageCodec could not decode."""

    images: Tensor
    by_pillow: set[int]


def decoded(parts: Parts, device: torch.device) -> Decoded:
    """The pixels of ``parts`` on ``device``; raises what Pillow raises for a file, ImportError where nvJPEG lacks."""
    if device.type == "cuda":
        return _on_cuda(parts, _with_index(device))
    images: list[Tensor | None] = _decoded_by_threads(parts)
    left = _filled(images, parts)
    every = [image for image in images if image is not None]
    bounds = [(0, 0, image.shape[2], image.shape[1]) for image in every]
    return Decoded(parts.placed(_resized(every, bounds, parts.size).to(device)), left)


def told(device: torch.device) -> str:
    """Where files are decoded, and how close to Pillow's pixels, where they were."""
    if device.type != "cuda":
        return f"on the CPU, by {region.told()}; pixels as Pillow's"
    device = _with_index(device)
    return f"on {device} by nvJPEG; pixels up to {difference(device)} grey levels from Pillow's"


def _decoded_by_threads(parts: Parts) -> list[Tensor | None]:
    files, boxes = parts.files(), parts.boxes.tolist()
    made: list[Tensor | None] = [None] * len(files)

    def decode(first: int, last: int) -> None:
        for number in range(first, last):
            pixels = region.decode_region(files[number], tuple(boxes[number]))
            made[number] = None if pixels is None else torch.from_numpy(pixels).permute(2, 0, 1)

    threads.over_rows(decode, len(files))
    return made


def _filled(images: list[Tensor | None], parts: Parts, whole: bool = False) -> set[int]:
    """Fill in what is None by Pillow, the part or the ``whole`` picture; return the keys of these files."""
    from PIL import JpegImagePlugin

    left = [number for number, image in enumerate(images) if image is None]
    for number in left:
        picture = JpegImagePlugin.JpegImageFile(io.BytesIO(parts.files()[number].tobytes()))
        pixels = np.array(picture if whole else picture.crop(tuple(parts.boxes[number].tolist())))
        images[number] = torch.from_numpy(pixels).permute(2, 0, 1)
    return set(parts.keys[left].tolist())


def _resized(images: Sequence[Tensor], boxes: Sequence[Sequence[int]], size: tuple[int, int]) -> Tensor:
    """The parts ``boxes`` of images (3, H, W) as one batch (n, 3, *size)."""
    bounds = torch.tensor([[left, right - 1, top, bottom - 1] for left, top, right, bottom in boxes]).double()
    matrix = torch.zeros(len(images), 2, 3, dtype=torch.float64)  # which is for what moves along: nothing does
    segment = Resample(matrix, size, "bilinear", padding="edge", bounds=bounds)
    plan = plan_for(shape_of(images), (segment,), Trace.empty(len(images)))
    assert isinstance(plan, UnequalPlan)
    return backends.execute_unequal(plan, images)


def _on_cuda(parts: Parts, device: torch.device) -> Decoded:
    if (lacking := why_not(device)) is not None:
        raise ImportError(f'lift=Lift(decode="batch") {lacking}, or write lift=True')
    outer = torch.cuda.current_stream(device)
    with _own_stream(device):
        images: list[Tensor | None] = _by_nvjpeg(parts.files(), device)
        left = _filled(images, parts, whole=True)
        every = [image.to(device) for image in images if image is not None]
        made = parts.placed(_resized(every, parts.boxes.tolist(), parts.size))
    made.record_stream(outer)
    return Decoded(made.clone(), left)  # in memory of the caller's stream, which orders its reuse


def _by_nvjpeg(files: Sequence[Any], device: torch.device) -> list[Tensor | None]:
    """Whole pictures (3, H, W) uint8 on ``device``, None for what nvJPEG cannot decode."""
    from nvidia import nvimgcodec as codec

    streams = [codec.CodeStream(file) for file in files]
    number = torch.cuda.current_stream(device).cuda_stream
    made = _gpu_decoder(device).decode(streams, params=region.as_stored(), cuda_stream=number)
    return [None if image is None else from_dlpack(image).permute(2, 0, 1) for image in made]


@contextmanager
def _own_stream(device: torch.device) -> Iterator[None]:
    """Where nvJPEG decodes: a stream of its own, of one thread at a time, empty before and after, also after errors.

    nvJPEG's hardware engine writes without waiting for what its stream still has to do, so that memory of other
    streams, or work left on this one, would be overwritten; and the decoder frees its memory once nothing refers to it.
    """
    stream = _stream(device)
    with _lock, torch.cuda.stream(stream):
        try:
            yield
        finally:
            stream.synchronize()


def _with_index(device: torch.device) -> torch.device:
    return torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)


@functools.cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


@functools.cache
def _gpu_decoder(device: torch.device) -> Any:
    from nvidia import nvimgcodec as codec

    kinds = codec.GPU_ONLY, codec.HYBRID_CPU_GPU, codec.HW_GPU_ONLY
    return codec.Decoder(device.index, backends=[codec.Backend(kind) for kind in kinds], options=_GPU_OPTIONS)


@functools.cache
def why_not(device: torch.device) -> str | None:
    """Why files cannot be decoded on a CUDA device with pixels close to Pillow's; None: they can."""
    largest = difference(device)
    if largest is None:
        return (
            f"found no nvJPEG for {region.told()} on {device}; "
            f'pip install "nvidia-nvimgcodec-cu{str(torch.version.cuda).partition(".")[0]}[nvjpeg]"'
        )
    return None if largest <= LEVELS else f"decodes to pixels up to {largest} grey levels from Pillow's on {device}"


@functools.cache
def difference(device: torch.device) -> int | None:
    """The largest difference in grey levels to Pillow's pixels, over `samples`; None: not all can be decoded."""
    from PIL import Image

    files = list(samples())
    largest = 0
    with _own_stream(device):
        made = _by_nvjpeg([np.frombuffer(file, np.uint8) for file in files], device)
        for file, image in zip(files, made, strict=True):
            if image is None:
                return None
            wanted = np.asarray(Image.open(io.BytesIO(file)).convert("RGB")).astype(int)
            largest = max(largest, int(np.abs(image.permute(1, 2, 0).cpu().numpy() - wanted).max()))
    return largest
