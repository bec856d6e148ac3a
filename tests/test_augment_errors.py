"""Bad input: the error names the argument, what came, what is wanted, and what to write."""

import pytest
import torch

import smartaug.augment as A
from smartaug._base import compiled

UINT8 = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: A.RandAugment(interpolation="bicubic"),
            'interpolation must be "nearest" or "bilinear", got \'bicubic\'',
        ),
        (lambda: A.Affine(interpolation=3), "interpolation must be"),
        (lambda: A.RandAugment(magnitude=31), r"magnitude must be an integer in 0\.\.30 .*got 31"),
        (lambda: A.RandAugment(magnitude=-1), "magnitude must be"),
        (lambda: A.RandAugment(magnitude=1.5), r"magnitude must be .*got 1\.5"),
        (lambda: A.RandAugment(num_ops=-1), "num_ops must be an integer of at least 0, got -1"),
        (lambda: A.TrivialAugment(num_magnitude_bins=1), "num_magnitude_bins must be"),
        (lambda: A.RandAugment(backend="cuda"), 'backend must be None, "torch" or "numba", got \'cuda\''),
        (lambda: A.Compose([], backend="opencv"), "backend must be"),
        (lambda: A.AutoAugment("cifar"), "policy must be one of imagenet, cifar10, svhn, got 'cifar'"),
        (lambda: A.AugMix(severity=11), r"severity must be an integer in 1\.\.10, got 11"),
        (lambda: A.AugMix(alpha=0), "alpha must be positive"),
        (lambda: A.AugMix(chain_depth=0), "chain_depth must be"),
        (lambda: A.AugMix(mixture_width=0), "mixture_width must be"),
        (lambda: A.Posterize(9), r"bits must be an integer in 0\.\.8, got 9"),
        (lambda: A.Solarize(256), r"threshold must be a number in \[0, 255\], got 256"),
        (lambda: A.Sharpness(-1), "factor must be"),
        (lambda: A.Invert(p=2), "p must be a probability"),
        (lambda: A.ColorJitter(hue=0.6), r"hue must be a number in \[0, 0\.5\], got 0\.6"),
        (lambda: A.ColorJitter(brightness=(2, 1)), "brightness must be"),
        (lambda: A.ColorJitter(contrast=-1), "contrast must be"),
        (lambda: A.GaussianBlur(4), "kernel_size must be odd"),
        (lambda: A.GaussianBlur(3, sigma=0), "sigma must be"),
        (lambda: A.RandomResizedCrop(0), "size must be"),
        (lambda: A.RandomResizedCrop(8, scale=(1, 0.5)), "scale must be"),
        (lambda: A.RandomResizedCrop(8, ratio=(0, 1)), "ratio must be"),
        (lambda: A.Resize(8, "nearest", antialias=True), 'write interpolation="bilinear"'),
        (lambda: A.Affine(degrees=(5, -5)), "degrees must be"),
        (lambda: A.Affine(translate=(2, 0)), "translate must be"),
        (lambda: A.Affine(scale=(0, 1)), "scale must be"),
        (lambda: A.Affine(shear=90), "shear must lie within"),
    ],
)
def test_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_fill_that_is_no_number():
    with pytest.raises(TypeError, match="fill must be a number or one number per channel"):
        A.RandAugment(fill="black")


@pytest.mark.parametrize(
    "make", [A.RandAugment, A.TrivialAugment, A.AutoAugment, A.AugMix, A.Grayscale, lambda: A.ColorJitter(1)]
)
def test_two_channels(make):
    augmentation = make()
    with pytest.raises(
        ValueError, match=rf"{type(augmentation).__name__} needs images of 1 \(grey\) or 3 \(RGB\).*got 2"
    ):
        augmentation(UINT8[:, :2])


@pytest.mark.parametrize("make", [A.RandAugment, A.PadCrop, lambda: A.Affine(9), lambda: A.Erase(fill=(1, 2))])
def test_fill_of_other_channels(make):
    augmentation = make()
    if hasattr(augmentation, "fill"):
        augmentation.fill = (1.0, 2.0)
    with pytest.raises(ValueError, match="has 2 values for 3 channels"):
        augmentation(UINT8)


@pytest.mark.parametrize(
    "make",
    [
        lambda: A.Equalize(1),
        lambda: A.Invert(1),
        lambda: A.ColorJitter(0.5),
        lambda: A.Sharpness(2, 1),
        lambda: A.Posterize(4, 1),
    ],
)
def test_tones_on_normalised_floats(make):
    images = torch.linspace(-2.0, 2.0, 2 * 3 * 64).view(2, 3, 8, 8)
    with pytest.raises(
        ValueError, match=r"needs uint8 images or floats in \[0, 1\], got floats from .*lift=True"
    ) as raised:
        make()(images, index=torch.arange(2), seed=2)
    assert str(raised.value).split()[0] in ("Equalize", "Invert", "Brightness", "Sharpness", "Posterize")


def test_tones_behind_normalize():
    with pytest.raises(ValueError, match="put Normalize last"):
        A.Compose([A.Normalize(0.5, 0.1), A.Invert(1.0)])(UINT8)


def test_uint16():
    with pytest.raises(TypeError, match=r"uint8 \(0–255\) or floating point, got torch.uint16; convert them"):
        A.RandAugment()(UINT8.to(torch.uint16))


def test_values_that_are_no_uint8():
    with pytest.raises(ValueError, match=r"fill must lie in 0\.\.255 for uint8 images, got \(-1.0,\)"):
        A.PadCrop(2, fill=-1)(UINT8)
    with pytest.raises(ValueError, match=r"fill must lie in 0\.\.255"):
        A.Erase(fill=300)(UINT8)
    A.PadCrop(2, fill=-1)(UINT8.float())


def test_backend_that_cannot_take_the_batch():
    with pytest.raises(ValueError, match=r'backend="numba" runs uint8 images on the CPU, but images are torch.float32'):
        A.RandAugment(backend="numba")(UINT8.float())


def test_backend_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(compiled, "installed", lambda: False)
    with pytest.raises(ImportError, match=r'pip install "smartaug\[fast\]"'):
        A.RandAugment(backend="numba")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (torch.full((14,), 1 / 14), r"probabilities must have shape \(14, 14\), got \(14,\)"),
        (torch.full((14, 14), 1.0), "sum to 1"),
    ],
)
def test_probabilities(table, message):
    policy = A.RandAugment(2)
    policy.probabilities = table
    with pytest.raises(ValueError, match=message):
        policy(UINT8)


def test_plan_for_another_shape():
    plan = A.RandAugment().plan((2, 3, 9, 9))
    with pytest.raises(ValueError, match=r"the plan was made for images \(2, 3, 9, 9\), got \(2, 3, 8, 8\)"):
        A.RandAugment().apply(UINT8, plan)
