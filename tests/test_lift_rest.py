"""A deferred image is finished from what the worker made of it; the image that the transform was given is not kept."""

import gc
import weakref

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader as TorchDataLoader
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

import smartaug
from smartaug.lift.datasets import deferring
from smartaug.lift.deferred.collecting import collecting
from smartaug.lift.deferred.images import DeferredImage
from smartaug.lift.deferred.rest import form_of, restored
from smartaug.lift.worker_transform import AsTensor

ARRAY = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
RGB = Image.fromarray(ARRAY)
IMAGES = {
    **{mode: RGB.convert(mode) for mode in ("L", "RGB", "RGBA", "CMYK", "YCbCr", "HSV")},
    "LA": RGB.convert("L").convert("LA"),
    "LAB": Image.frombytes("LAB", RGB.size, RGB.tobytes()),
    "array": ARRAY,
    "grey array": ARRAY[..., 0].copy(),
    "one channel": ARRAY[..., :1].copy(),
    "float array": ARRAY.astype(np.float32) / 255,
    "tensor": torch.from_numpy(ARRAY).permute(2, 0, 1),
    "tv": tv_tensors.Image(torch.from_numpy(ARRAY).permute(2, 0, 1)),
}


@pytest.mark.parametrize("name", IMAGES)
def test_images_are_restored(name):
    image = IMAGES[name]
    made = AsTensor()(image)
    again = restored(made, form_of(image))
    assert type(again) is type(image)
    if isinstance(image, Image.Image):
        assert again.mode == image.mode
    assert np.array_equal(np.asarray(again), np.asarray(image))
    assert getattr(again, "dtype", None) == getattr(image, "dtype", None)
    if isinstance(again, (torch.Tensor, np.ndarray)):
        again[...] = 0
        assert np.asarray(made).any()


@pytest.mark.parametrize("image", [RGB.quantize(), RGB.convert("1"), RGB.convert("I"), "no image"])
def test_what_a_tensor_does_not_hold_is_not_restored(image):
    assert form_of(image) is None


class Photos(Dataset):
    """Fresh images of different kinds, as decoders give them."""

    def __init__(self, *transforms, kind="RGB"):
        self.transform, self.kind, self.given = v2.Compose(transforms), kind, []

    def __len__(self):
        return 6

    def __getitem__(self, index):
        image = Image.fromarray(np.roll(np.tile(ARRAY, (3, 3, 1)), index, 1))
        image = image.quantize() if self.kind == "P" else image
        image = tv_tensors.Image(v2.functional.pil_to_tensor(image)) if self.kind == "tv" else image
        self.given.append(weakref.ref(image))
        return self.transform(image), index


LAST = (v2.RandomHorizontalFlip(1.0), v2.ToImage(), v2.ToDtype(torch.float32, scale=True))


@pytest.mark.parametrize("kind", ["RGB", "tv"])
def test_the_image_that_came_is_freed_before_the_batch_is_collated(kind):
    dataset = Photos(v2.RandomResizedCrop(4), *LAST, kind=kind)
    lifted = deferring(smartaug.lift(dataset).dataset)
    dataset.given.clear()
    samples = [lifted[number] for number in range(4)]
    gc.collect()
    assert [ref() for ref in lifted.given] == [None] * len(lifted.given) != []
    with collecting(samples, may_hold=False) as collected:
        assert len(collected.sample_of) == 4


@pytest.mark.parametrize("kind", ["RGB", "tv", "P"])
def test_finished_images_are_the_whole_pipelines(kind):
    """The worker's part runs once for each image, also where the image is finished in the dataset."""
    calls = []

    class Counts:
        def __call__(self, image):
            calls.append(1)
            return image

    class Uses(Photos):
        def __getitem__(self, index):
            image, index = super().__getitem__(index)
            return (image + 0 if index == 3 else image), index

    def make():
        return Uses(Counts(), v2.CenterCrop(4), *LAST, kind=kind)

    loader = smartaug.DataLoader(make(), 2, lift=True, seed=0, target=1)
    calls.clear()
    mine = list(loader)
    if kind != "P":  # a palette is kept, and goes through all of it
        assert len(calls) == 6
    for (images, numbers), (wanted, _) in zip(mine, TorchDataLoader(make(), 2), strict=True):
        assert numbers.dtype == torch.int64
        torch.testing.assert_close(images, wanted, rtol=0, atol=2e-6)


STEPS = [
    lambda: v2.RandomHorizontalFlip(),
    lambda: v2.RandomResizedCrop(9),
    lambda: v2.RandomCrop(9, padding=3),
    lambda: v2.ColorJitter(0.3, 0.3, 0.3),
    lambda: v2.RandAugment(),
    lambda: v2.RandomApply([v2.ColorJitter(0.5)], 0.5),
    lambda: lambda image: image,
]


@pytest.mark.parametrize("number", range(24))
def test_finishing_goes_on_with_the_draws_of_the_whole_pipeline(number):
    """Bit for bit: the same seed, the same transforms, none of them twice."""
    drawn = np.random.default_rng(number)
    steps = [STEPS[one]() for one in drawn.integers(0, len(STEPS), drawn.integers(1, 5))]
    dataset = Photos(*steps, v2.RandomHorizontalFlip(), *LAST[1:], kind=("RGB", "tv")[number % 2])
    torch.manual_seed(number)
    wanted, _ = dataset[1]
    lifted = deferring(smartaug.lift(dataset).dataset)
    torch.manual_seed(number)
    image, _ = lifted[1]
    assert type(image) is DeferredImage
    assert torch.equal((image + 0).as_subclass(torch.Tensor), wanted.as_subclass(torch.Tensor))
