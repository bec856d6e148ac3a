"""One convention for arguments: backend, size, p, fill, mask_fill; and former spellings that keep working."""

import inspect
import warnings

import pytest
import torch
from test_backends import NEED_ROWS, ROWS, pictures
from torchvision.transforms import v2

import smartaug
import smartaug.augment as A
from smartaug.augment import backends
from smartaug.augment.mixing import Tiles
from smartaug.augment.plan import Warp
from smartaug.augment.targets.maps import move_map

AUGMENTATIONS = sorted(set(A.__all__) - {"Augmentation"})


def parameters(name):
    return inspect.signature(getattr(A, name)).parameters


def made(name, **more):
    """The augmentation with what it cannot do without, as in its first row."""
    needed = [argument.name for argument in parameters(name).values() if argument.default is argument.empty]
    first = ROWS[name][0]() if needed else None
    return getattr(A, name)(**{argument: getattr(first, argument) for argument in needed}, **more)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_all_are_reachable_from_the_top(name):
    assert name in smartaug.__all__, f"name {name} in smartaug/__init__.py (import, __all__)"
    assert getattr(smartaug, name) is getattr(A, name)
    assert f"`{name}`" in A.__doc__, f"give {name} a place in the table of smartaug/augment/__init__.py"


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_augmentation_takes_a_backend(name):
    assert parameters(name)["backend"].default is None
    assert made(name).backend is None
    with pytest.raises(ValueError, match="backend must be None"):
        made(name, backend="cuda")
    if name in NEED_ROWS:
        assert made(name, backend="torch").backend == "torch"
        return
    augmentation, images = made(name, backend="torch"), pictures((2, 3, 9, 9))
    plan = augmentation.plan(images.shape, seed=0)
    assert {choice.reason for choice in augmentation.explain(plan, images)} <= {'asked for by backend="torch"'}


@pytest.mark.parametrize("around", [A.Compose, A.RandomApply, A.SomeOf, A.OneOf, A.RandomOrder])
def test_a_backend_named_inside_counts_for_all(around):
    asked = [A.Flip(backend="torch"), A.Invert(), A.Solarize(9, backend="torch")]
    assert around(asked).backend == "torch"
    assert around([A.Flip()]).backend is None
    two = [A.Flip(backend="torch"), A.Invert(backend="numba")]
    with pytest.raises(ValueError, match=rf"inside {around.__name__} ask for numba and torch; write {around.__name__}"):
        around(two)
    assert around(two, backend="numba").backend == "numba"


SIZES = {
    "Crop": lambda size: A.Crop(size),
    "Mosaic": lambda size: A.Mosaic(size),
    "PadCrop": lambda size: A.PadCrop(2, size=size),
    "RandomResizedCrop": lambda size: A.RandomResizedCrop(size),
    "Resize": lambda size: A.Resize(size),
}


@pytest.mark.parametrize("name", SIZES)
def test_size_is_one_number_or_two(name):
    assert set(SIZES) == {name for name in AUGMENTATIONS if "size" in parameters(name)}
    images, index = pictures((3, 3, 9, 9)), torch.arange(3)
    one, two, listed = (SIZES[name](size)(images, index=index, seed=1) for size in (5, (5, 5), [5, 5]))
    assert torch.equal(one, two)
    assert torch.equal(one, listed)
    assert SIZES[name]((4, 7))(images).shape[2:] == (4, 7)
    for wrong in (0, -3, (4, 0), (4, 5, 6), 2.5, "5", True):
        with pytest.raises(ValueError, match=r"size must be a number of pixels, or \(height, width\) in pixels, got"):
            SIZES[name](wrong)


def test_kernel_size_and_padding_take_one_number_too():
    assert A.GaussianBlur(3).kernel_size == A.GaussianBlur((3, 3)).kernel_size == (3, 3)
    assert A.Pad(2).padding == A.Pad((2, 2, 2, 2)).padding


TORCHVISIONS = {
    "AutoContrast": v2.RandomAutocontrast,
    "Equalize": v2.RandomEqualize,
    "Erase": v2.RandomErasing,
    "Flip": v2.RandomHorizontalFlip,
    "Grayscale": v2.RandomGrayscale,
    "Invert": v2.RandomInvert,
    "Posterize": v2.RandomPosterize,
    "RandomApply": v2.RandomApply,
    "Sharpness": v2.RandomAdjustSharpness,
    "Solarize": v2.RandomSolarize,
}


@pytest.mark.parametrize("name", [name for name in AUGMENTATIONS if "p" in parameters(name)])
def test_p_has_torchvisions_default_or_one(name):
    theirs = inspect.signature(TORCHVISIONS[name]).parameters["p"].default if name in TORCHVISIONS else 1.0
    why = f"{name}: p must be {theirs} by default: torchvision's, named in TORCHVISIONS here, or 1 where it has none"
    assert parameters(name)["p"].default == theirs, why


def test_who_fills_an_image_fills_a_mask():
    """All that move pixels and have a fill; AugMix has no mask, Erase moves nothing."""
    fills = {name for name in AUGMENTATIONS if "fill" in parameters(name)} - {"AugMix", "Erase"}
    assert fills == {name for name in AUGMENTATIONS if "mask_fill" in parameters(name)}
    assert fills >= {"PadCrop", "Pad", "Affine", "RandAugment"}
    images, mask = pictures((8, 3, 9, 9)), torch.ones(8, 9, 9, dtype=torch.int64)
    for name in fills:
        how = {"translate": (0.9, 0.9)} if name == "Affine" else {}
        plan = made(name, fill=7, mask_fill=255, **how).plan(images.shape, index=torch.arange(8), seed=2)
        assert {segment.mask_fill for segment in plan.segments if isinstance(segment, (Warp, Tiles))} == {255.0}
        if name in ("Affine", "Pad", "PadCrop"):  # which surely move something
            assert set(move_map(plan, mask, smartaug.Mask()).unique().tolist()) == {1, 255}
    (*_, warp) = A.RandAugment(mask_fill=255, exact=False).plan(images.shape).segments
    assert warp.mask_fill == 255.0


def test_value_is_now_fill():
    with pytest.warns(DeprecationWarning, match=r"Erase: value= is now called fill=; write fill=\(1, 2, 3\)"):
        old = A.Erase(1.0, value=(1, 2, 3))
    images, how = pictures((4, 3, 9, 9)), {"index": torch.arange(4), "seed": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new = A.Erase(1.0, fill=(1, 2, 3))
    assert torch.equal(old(images, **how), new(images, **how))


@pytest.mark.parametrize(
    ("made", "state"),
    [
        (A.Erase(1.0, fill=9), {"value": (9.0,)}),
        (A.PadCrop(2, fill=9), {}),
        (A.RandAugment(fill=9), {}),
    ],
    ids=["Erase", "PadCrop", "RandAugment"],
)
def test_states_of_former_versions_load(made, state):
    """A pickle made before ``fill`` and ``mask_fill`` had those names has other attributes; it draws the same."""
    gone = {"mask_fill"} | ({"fill"} if state else set())
    former = {name: value for name, value in vars(made).items() if name not in gone} | state
    loaded = object.__new__(type(made))
    getattr(loaded, "__setstate__", loaded.__dict__.update)(former)
    images, how = pictures((4, 3, 9, 9)), {"index": torch.arange(4), "seed": 0}
    assert torch.equal(loaded(images, **how), made(images, **how))
    assert repr(loaded).startswith(type(made).__name__)


def test_no_argument_has_two_names():
    """What former versions called otherwise is the only exception; the rows of the conformance suite use none of it."""
    former = {name for name in AUGMENTATIONS if "value" in parameters(name)}
    assert former == {"Erase"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for rows in ROWS.values():
            for make in rows:
                make()


def test_unknown_backends_say_which_there_are():
    with pytest.raises(ValueError, match='or "triton" for images on CUDA'):
        A.Flip(backend="opencv")
    assert backends.check_backend("torch") == "torch"
