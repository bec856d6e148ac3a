"""Ways from JPEG files, or images in memory, to batches of float32: each library with the fastest settings found.

A contestant is a function of a `Job` that returns an epoch: a function without arguments whose iterator gives
``(images, labels)``, images (B, 3, size, size) float32 and normalised, labels (B,) int64 or int32. Packages that are no
dependency of smartaug are imported where they are used; one that is not installed raises ImportError or OSError, and
`built` says so. All threads and processes are idle between two epochs: nothing is prepared for the next one, so that
no contestant works in the time of another.

Settings: torchvision, albumentations and smartaug in torch's loader with persistent workers, one thread each. DALI:
its decoder decodes no more of a file than the crop, mirroring comes with normalising, the dynamic executor, two batches
in flight, batches are handed over without a copy. SPDL: as many threads as workers, around torchvision on PIL images,
around albumentations, and with its own decoder, FFmpeg, which crops and resizes. FFCV: its own file format, JPEG
inside, cached by the system; it has no RandAugment. `decode_only` reads and decodes each file with simplejpeg, and
nothing else: the limit of what decodes whole files.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import CIFAR10, ImageFolder
from torchvision.transforms import v2

import smartaug
from benchmarks import jpeg, recipes

Epoch = Callable[[], Iterator[tuple[Tensor, Tensor]]]
MEAN, STD = recipes.MEAN, recipes.STD
IN_FLIGHT = 2  # batches of DALI
DALI_POLICY = {"n": 2, "m": 9, "fill_value": 0, "max_translate_rel": 150 / 331}  # torchvision's; DALI's own is 100 px
_one_thread = threading.local()


@dataclass(frozen=True)
class Job:
    """JPEG files in class folders, to batches of ``size`` pixels with as many workers; policy: with RandAugment."""

    folder: Path
    size: int = 224
    workers: int = 2
    policy: bool = True
    batch_size: int = 64

    def files(self) -> ImageFolder:
        """The files as torchvision finds them."""
        return ImageFolder(str(self.folder))

    def loader(self) -> dict[str, Any]:
        """Arguments of torch's loader and of ours."""
        several = {"num_workers": self.workers, "persistent_workers": self.workers > 0}
        return {"batch_size": self.batch_size, "shuffle": True, **several}


def built(make: Callable[[Any], Epoch], job: Any) -> Epoch | str:
    """The epoch of a contestant, or what is missing."""
    try:
        return make(job)
    except (ImportError, OSError) as error:
        return f"not installed: {' '.join(str(error).split())[:300]}"


# --- torch's loader and ours -----------------------------------------------------------------------------------------


def original(job: Job) -> Epoch:
    """torchvision on PIL images."""
    dataset = ImageFolder(str(job.folder), transform=jpeg.pipeline(v2.PILToTensor(), job.size, job.policy))
    loader = DataLoader(dataset, **job.loader())
    return lambda: iter(loader)


def lifted(decode: Any) -> Callable[[Job], Epoch]:
    """The original through smartaug; decode: "exact" or "scaled"."""

    def make(job: Job) -> Epoch:
        dataset = ImageFolder(str(job.folder), transform=jpeg.pipeline(v2.PILToTensor(), job.size, job.policy))
        loader = smartaug.DataLoader(dataset, lift=smartaug.Lift(decode=decode), seed=0, **job.loader())
        return lambda: iter(loader)

    return make


def on_tensors(job: Job) -> Epoch:
    """torchvision's decoder and its transforms on uint8 tensors."""
    dataset = jpeg.Tensors(str(job.folder), transform=jpeg.pipeline(None, job.size, job.policy))
    loader = DataLoader(dataset, **job.loader())
    return lambda: iter(loader)


def on_arrays(job: Job) -> Epoch:
    """albumentations on arrays that OpenCV decoded."""
    loader = DataLoader(recipes.ArrayFolder(str(job.folder), transform=_for_arrays(job)), **job.loader())
    return lambda: iter(loader)


def _for_arrays(job: Job) -> Any:
    import albumentations
    from albumentations.pytorch import ToTensorV2

    from benchmarks import rivals

    operations = rivals.albumentations_operations(job.size)
    return albumentations.Compose(
        [
            albumentations.RandomResizedCrop((job.size, job.size)),
            albumentations.HorizontalFlip(p=0.5),
            *([albumentations.SomeOf(operations, n=2, replace=True, p=1)] if job.policy else []),
            albumentations.Normalize(MEAN, STD),
            ToTensorV2(),
        ]
    )


def decode_only(job: Job) -> Epoch:
    """Nothing but decoded files; gives their numbers of values."""
    import simplejpeg

    assert simplejpeg.decode_jpeg  # the workers import it again
    dataset = jpeg.DecodeOnly([path for path, _ in job.files().samples])
    loader = DataLoader(dataset, **job.loader())
    return lambda: ((sizes, sizes) for sizes in loader)


# --- NVIDIA DALI -----------------------------------------------------------------------------------------------------


def dali(job: Job) -> Epoch:
    """DALI's pipeline on the processor, as many threads as workers."""
    from nvidia.dali import fn, pipeline_def, types
    from nvidia.dali.auto_aug import rand_augment

    samples = job.files().samples

    @pipeline_def(enable_conditionals=True)
    def pipeline() -> Any:
        data, labels = fn.readers.file(
            files=[path for path, _ in samples], labels=[label for _, label in samples], random_shuffle=True
        )
        images = fn.decoders.image_random_crop(data, random_area=(0.08, 1.0), random_aspect_ratio=(3 / 4, 4 / 3))
        images = fn.resize(images, size=(job.size, job.size), interp_type=types.INTERP_LINEAR)
        if job.policy:
            images = rand_augment.rand_augment(images, shape=(job.size, job.size), **DALI_POLICY)
        return _normalized(images), labels

    pipe = _Dali(pipeline, job.batch_size, job.workers)
    return lambda: pipe.epoch([{}] * (len(samples) // job.batch_size))


def _normalized(images: Any) -> Any:
    """Mirrored by chance, float32, normalised, channels first."""
    from nvidia.dali import fn, types

    scaled = {"mean": [255 * value for value in MEAN], "std": [255 * value for value in STD]}
    mirror = fn.random.coin_flip(probability=0.5)
    return fn.crop_mirror_normalize(images, dtype=types.FLOAT, output_layout="CHW", mirror=mirror, **scaled)


class _Dali:
    """A pipeline, run as often as there are inputs in an epoch, with `IN_FLIGHT` batches begun at a time."""

    def __init__(self, pipeline: Any, batch_size: int, threads: int) -> None:
        # DALI's own RandAugment warns of operators that DALI renamed
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            self.pipe = pipeline(
                batch_size=batch_size,
                num_threads=threads,
                device_id=None,
                seed=0,
                prefetch_queue_depth=IN_FLIGHT,
                exec_dynamic=True,
            )
            self.pipe.build()
        self.fresh = True

    def epoch(self, inputs: list[dict[str, np.ndarray]]) -> Iterator[tuple[Tensor, Tensor]]:
        """A batch for each of ``inputs``, which are fed by name; valid until the next one."""
        if len(inputs) < IN_FLIGHT:
            raise ValueError(f"DALI begins {IN_FLIGHT} batches at once, got {len(inputs)}; take more images")
        for fed in inputs[:IN_FLIGHT]:
            self._feed(fed)
        for _ in range(1 if self.fresh else IN_FLIGHT):  # the first call of all begins as many as may be in flight
            self.pipe.schedule_run()
        self.fresh = False
        for number in range(len(inputs)):
            images, labels = (torch.from_dlpack(output.as_tensor()) for output in self.pipe.share_outputs())
            yield images, labels.flatten()
            self.pipe.release_outputs()
            if number + IN_FLIGHT < len(inputs):
                self._feed(inputs[number + IN_FLIGHT])
                self.pipe.schedule_run()

    def _feed(self, inputs: dict[str, np.ndarray]) -> None:
        for name, data in inputs.items():
            self.pipe.feed_input(name, data)


# --- SPDL ------------------------------------------------------------------------------------------------------------


def spdl_on_pil(job: Job) -> Epoch:
    """SPDL's threads around torchvision on PIL images."""
    transform = jpeg.pipeline(v2.PILToTensor(), job.size, job.policy)
    kept = v2.Compose(transform.transforms[:-2])  # the batch is normalised whole

    def sample(item: tuple[str, int]) -> tuple[Tensor, int]:
        with Image.open(item[0]) as image:
            return kept(image.convert("RGB")), item[1]

    return _spdl(job, sample)


def spdl_on_arrays(job: Job) -> Epoch:
    """SPDL's threads around albumentations on arrays that OpenCV decoded."""
    free: SimpleQueue[Any] = SimpleQueue()  # a transform has a generator of its own: one for each thread
    for _ in range(job.workers):
        free.put(_for_arrays(job))

    def sample(item: tuple[str, int]) -> tuple[Tensor, int]:
        array = cv2.cvtColor(cv2.imread(item[0]), cv2.COLOR_BGR2RGB)
        transform = free.get()
        try:
            return transform(image=array)["image"], item[1]
        finally:
            free.put(transform)

    return _spdl(job, sample)


def spdl_own(job: Job) -> Epoch:
    """SPDL's threads and decoder: FFmpeg decodes, crops, resizes and mirrors; RandAugment on PIL images."""
    import spdl.io

    files = job.files().samples
    try:
        spdl.io.demux_image(files[0][0])
    except RuntimeError as error:  # FFmpeg's libraries are looked for at the first call
        raise ImportError(str(error)) from error
    crop, policy = v2.RandomResizedCrop(job.size), v2.RandAugment(2, 9)

    def sample(item: tuple[str, int]) -> tuple[Tensor, int]:
        packets = spdl.io.demux_image(item[0])
        shape = torch.empty(3, packets.codec.height, packets.codec.width, device="meta")
        box = crop.make_params([shape])
        steps = [
            f"crop={box['width']}:{box['height']}:{box['left']}:{box['top']}:exact=1",
            f"scale={job.size}:{job.size}:flags=bilinear",
            *(["hflip"] if torch.rand(()) < 0.5 else []),
            "format=rgb24",
        ]
        frames = spdl.io.decode_packets(packets, filter_desc=",".join(steps))
        array = spdl.io.to_numpy(spdl.io.convert_frames(frames))
        if job.policy:
            return v2.functional.pil_to_tensor(policy(Image.fromarray(array))), item[1]
        return torch.from_numpy(array).permute(2, 0, 1), item[1]

    return _spdl(job, sample)


def _spdl(job: Job, sample: Callable[[tuple[str, int]], tuple[Tensor, int]]) -> Epoch:
    from spdl.pipeline import PipelineBuilder

    samples = job.files().samples
    finish = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])

    def one(item: tuple[str, int]) -> tuple[Tensor, int]:
        _stay_at_one_thread()
        return sample(item)

    def batch(items: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
        _stay_at_one_thread()
        images = torch.stack([image for image, _ in items])
        done = images if images.is_floating_point() else finish(images)
        return done, torch.tensor([label for _, label in items])

    def epoch() -> Iterator[tuple[Tensor, Tensor]]:
        order = [samples[number] for number in torch.randperm(len(samples)).tolist()]
        builder = PipelineBuilder().add_source(order).pipe(one, concurrency=job.workers)
        pipe = builder.aggregate(job.batch_size).pipe(batch).add_sink(2).build(num_threads=job.workers, max_failures=0)
        with pipe.auto_stop():
            yield from pipe.get_iterator()

    return epoch


def _stay_at_one_thread() -> None:
    """What `torch.set_num_threads` sets holds for the thread that calls it."""
    if not hasattr(_one_thread, "set"):
        torch.set_num_threads(1)
        _one_thread.set = True


# --- FFCV ------------------------------------------------------------------------------------------------------------


def ffcv(job: Job) -> Epoch:
    """FFCV without RandAugment; the files are written anew in its format, at the same quality, before."""
    from ffcv.fields import IntField, RGBImageField
    from ffcv.fields.decoders import IntDecoder, RandomResizedCropRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import NormalizeImage, RandomHorizontalFlip, Squeeze, ToTensor, ToTorchImage
    from ffcv.writer import DatasetWriter

    if job.policy:
        raise ValueError("FFCV has no RandAugment; write Job(policy=False)")
    place = job.folder.parent / f"{job.folder.name}.beton"
    fields = {"image": RGBImageField(write_mode="jpg", jpeg_quality=90), "label": IntField()}
    with redirect_stderr(StringIO()):  # its progress bar
        DatasetWriter(str(place), fields, num_workers=1).from_indexed_dataset(job.files())
    mean, std = (255 * np.array(values) for values in (MEAN, STD))
    crop = RandomResizedCropRGBImageDecoder((job.size, job.size))
    image = [crop, RandomHorizontalFlip(), NormalizeImage(mean, std, np.float32), ToTensor(), ToTorchImage()]
    loader = Loader(
        str(place),
        batch_size=job.batch_size,
        num_workers=job.workers,
        order=OrderOption.RANDOM,
        os_cache=True,
        seed=0,
        pipelines={"image": image, "label": [IntDecoder(), ToTensor(), Squeeze()]},
    )
    return lambda: iter(loader)


# --- images in memory ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Memory:
    """Images (N, 32, 32, 3) uint8 of a `CIFAR10`: padded by 4, cropped, mirrored, RandAugment, normalised."""

    dataset: CIFAR10
    workers: int = 2
    batch_size: int = 256

    def loader(self) -> dict[str, Any]:
        """Arguments of torch's loader and of ours."""
        return {"batch_size": self.batch_size, "shuffle": True}


def memory_original(job: Memory) -> Epoch:
    """torchvision on PIL images."""
    loader = DataLoader(job.dataset, num_workers=job.workers, persistent_workers=True, **job.loader())
    return lambda: iter(loader)


def memory_lifted(job: Memory) -> Epoch:
    """The original through smartaug, without workers: batches are fetched whole, by as many threads."""
    loader = smartaug.DataLoader(job.dataset, lift=True, seed=0, **job.loader())

    def epoch() -> Iterator[tuple[Tensor, Tensor]]:
        before = torch.get_num_threads()
        torch.set_num_threads(job.workers)
        yield from loader
        torch.set_num_threads(before)

    return epoch


def memory_dali(job: Memory) -> Epoch:
    """DALI fed with whole batches, which were padded once, before."""
    from nvidia.dali import fn, pipeline_def
    from nvidia.dali.auto_aug import rand_augment

    padded = np.pad(job.dataset.data, ((0, 0), (4, 4), (4, 4), (0, 0)))
    labels = np.asarray(job.dataset.targets)[:, None]

    @pipeline_def(enable_conditionals=True)
    def pipeline() -> Any:
        images = fn.external_source(name="images", layout="HWC")
        places = {name: fn.random.uniform(range=(0.0, 1.0)) for name in ("crop_pos_x", "crop_pos_y")}
        images = fn.crop(images, crop=(32, 32), **places)
        images = rand_augment.rand_augment(images, shape=(32, 32), **DALI_POLICY)
        return _normalized(images), fn.external_source(name="labels")

    pipe = _Dali(pipeline, job.batch_size, job.workers)

    def epoch() -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(padded)).numpy().reshape(-1, job.batch_size)
        yield from pipe.epoch([{"images": padded[rows], "labels": labels[rows]} for rows in order])

    return epoch
