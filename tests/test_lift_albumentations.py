"""albumentations lifted: the same pixels for the same parameters, the same distribution of parameters."""

import collections
import copy
import itertools
import pickle
import random
import warnings
from functools import partial

import albumentations as A
import cv2
import hypothesis
import numpy as np
import pytest
import torch
from albumentations.augmentations.pixel import functional as pixel
from albumentations.pytorch import ToTensorV2
from hypothesis import strategies as st

import smartaug
from smartaug import draws
from smartaug.augment.backends.opencv import rows as opencv_rows
from smartaug.augment.plan import Erase, Warp
from smartaug.lift.albumentations.ops import geometry as opencv_geometry
from smartaug.lift.albumentations.ops import tone as opencv_tone
from smartaug.lift.albumentations.ops.geometry import nearest_map
from smartaug.lift.registry import translate
from smartaug.lift.steps import State
from tests.lifting import DRAWS, alike, alike_boxes, alike_kinds, as_often, reached
from tests.photos import batch, photos

SIZE = (48, 64)
KEYS = draws.key(3, 0, torch.arange(DRAWS))


def pipeline(*transforms, **settings):
    return A.Compose([*transforms, ToTensorV2()], **settings)


def lifted(*transforms, size=SIZE, **settings):
    made = smartaug.lift(pipeline(*transforms, **settings), size=size)
    assert made.stays == (), made.explain()
    return made


def theirs(transform, arrays):
    """albumentations' result as a batch."""
    return torch.stack([pipeline(transform)(image=array)["image"] for array in arrays])


def ours(made, arrays, **settings):
    given = torch.stack([made.head(image=array)["image"] for array in arrays])
    return made.augment(given, index=torch.arange(len(arrays)), seed=0, **settings)


def batched(made, arrays):
    return made.augment(batch(arrays), index=torch.arange(len(arrays)), seed=0)


def differences(one, other):
    assert one.shape == other.shape
    return (one.double() - other.double()).abs()


# --- the same pixels for the same parameters -------------------------------------------------------------------------


def fixed(**ranges):
    return {name: (value, value) for name, value in ranges.items()}


def two(name, **ranges):
    """The transform with ranges of one number each: nothing is left to draw."""
    return getattr(A, name)(**fixed(**ranges), p=1.0)


def jitter(**given):
    return two("ColorJitter", **{"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0, **given})


TONES = [
    *(two("RandomBrightnessContrast", brightness_limit=b, contrast_limit=c) for b, c in ((0.2, 0.3), (-0.3, -0.4))),
    A.RandomBrightnessContrast((0.3, 0.3), (0.2, 0.2), ensure_safe_range=True, p=1.0),
    *(two("RandomGamma", gamma_limit=g) for g in (63.0, 100.0, 180.0)),
    two("HueSaturationValue", hue_shift_limit=17.3, sat_shift_limit=25.6, val_shift_limit=-13.2),
    two("HueSaturationValue", hue_shift_limit=-40.0, sat_shift_limit=-28.4, val_shift_limit=20.5),
    two("HueSaturationValue", hue_shift_limit=0.0, sat_shift_limit=0.0, val_shift_limit=0.0),
    *(jitter(brightness=f) for f in (0.0, 0.6, 1.4)),
    *(jitter(contrast=f) for f in (0.0, 0.6, 1.4)),
    *(jitter(saturation=f) for f in (0.0, 0.6, 1.7)),
    *(jitter(hue=f) for f in (-0.3, 0.11, 0.5)),
    two("RGBShift", r_shift_limit=12.7, g_shift_limit=-20.2, b_shift_limit=0.0),
    *(A.ToGray(method=method, p=1.0) for method in ("weighted_average", "average", "max")),
    A.InvertImg(p=1.0),
    A.Posterize(num_bits=3, p=1.0),
    A.Posterize(num_bits=[(1, 1), (4, 4), (7, 7)], p=1.0),
    *(two("Solarize", threshold_range=t) for t in (0.0, 0.37, 1.0)),
    A.Equalize(p=1.0),
    A.Equalize(mode="pil", p=1.0),
    A.CLAHE((4.0, 4.0), p=1.0),
    A.CLAHE((1.7, 1.7), tile_grid_size=(5, 7), p=1.0),
    *(A.GaussianBlur(blur_limit=limit, sigma_limit=(s, s), p=1.0) for limit, s in ((0, 1.3), ((5, 5), 0.8), (0, 3.0))),
]


@pytest.mark.parametrize("transform", TONES, ids=lambda t: type(t).__name__)
def test_values(transform):
    arrays = photos()
    made = lifted(transform)
    difference = differences(ours(made, arrays), theirs(transform, arrays))
    assert (difference <= 1).double().mean() >= 0.995
    assert difference.mean() <= 0.25
    again = pickle.loads(pickle.dumps(made.augment))  # spawned workers get the data set that remembers it
    assert torch.equal(ours(made, arrays), again(batch(arrays), index=torch.arange(4), seed=0))


@pytest.mark.parametrize("transform", [t for t in TONES if type(t).__name__ not in ("RGBShift", "Posterize")])
def test_values_of_grey_images(transform):
    arrays = photos()[..., :1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "already gray"
        expected = torch.stack([pipeline(transform)(image=array[..., 0])["image"] for array in arrays])
    difference = differences(ours(lifted(transform), arrays[..., 0]), expected)
    assert (difference <= 1).double().mean() >= 0.995
    assert difference.mean() <= 0.25


def test_jitter_in_every_order():
    transform = A.ColorJitter((0.7, 0.7), (1.3, 1.3), (0.5, 0.5), (0.1, 0.1), p=1.0)
    arrays = photos(24)
    numbers = torch.tensor([[0.7, 1.3, 0.5, 0.1]], dtype=torch.float64).expand(24, 4)
    orders = torch.stack([draws.permutation(draws.key(n, 0, torch.arange(4))) for n in range(24)])
    plan = smartaug.augment.plan.Plan((24, 3, *SIZE), tuple(opencv_tone.jittered(numbers, orders)))
    found = smartaug.augment.backends.execute(plan, batch(arrays))
    some = torch.tensor([5, 23, 2])
    assert torch.equal(smartaug.augment.backends.execute(plan.rows(some), batch(arrays)[some]), found[some])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opencv_rows, "serves", lambda images: False)
        by_torch = smartaug.augment.backends.execute(plan, batch(arrays))
    difference = differences(by_torch, found)
    assert (difference <= 1).double().mean() >= 0.995
    assert difference.mean() <= 0.25
    expected = [transform.apply(a, 0.7, 1.3, 0.5, 0.1, order.tolist()) for a, order in zip(arrays, orders, strict=True)]
    assert torch.equal(found, batch(np.stack(expected)))
    assert len({tuple(order) for order in orders.tolist()}) > 10


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 2**31))
def test_opencv_and_torch_compute_the_same(height, width, seed):
    """On the CPU OpenCV is called, and gives albumentations' bytes; torch, elsewhere, is a grey level away at most."""
    hypothesis.assume((height, width) != (4, 1))  # OpenCV 5 takes a column of four for a scalar, and raises
    generator = np.random.default_rng(seed)
    array = cv2.blur(generator.integers(0, 256, (height, width, 3), dtype=np.uint8), (3, 1))
    images = torch.from_numpy(array.transpose(2, 0, 1).copy())[None]
    f, shift = float(generator.choice([0.0, generator.uniform(0.0, 2.0)])), generator.uniform(-30.0, 30.0, 3).round(1)
    (recolour,) = opencv_tone.hue_saturation_value(torch.from_numpy(shift)[None], KEYS[:1], images.shape)
    kernel = opencv_tone.gaussian_weights(torch.tensor([0.3 + f]), torch.tensor([7]))
    factor, turned = (
        torch.tensor([f], dtype=torch.float64),
        opencv_tone._turned(180.0 * torch.tensor([0.2 * f], dtype=torch.float64)),
    )
    cases = (
        (opencv_tone.contrasted, (factor,), pixel.adjust_contrast_torchvision(array, f)),
        (opencv_tone.saturated, (factor,), pixel.adjust_saturation_torchvision(array, f)),
        (opencv_tone.hue_turned, (turned,), pixel.adjust_hue_torchvision(array, 0.2 * f) if f else None),
        (opencv_tone.recoloured, recolour.arguments, pixel.shift_hsv(array, *shift)),
        (opencv_tone.blurred, (kernel,), pixel.separable_convolve(array, kernel[0].numpy())),
        (partial(opencv_tone.greyed, method="weighted_average"), (), pixel.to_gray_weighted_average(array)),
    )
    for function, arguments, expected in cases:
        by_opencv = function(images, *arguments)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(opencv_rows, "serves", lambda given: False)
            by_torch = function(images, *arguments)
        assert differences(by_opencv, by_torch).max() <= 1
        if expected is not None:
            plane = expected if expected.ndim == 3 else np.repeat(expected[..., None], 3, 2)
            assert np.array_equal(by_opencv[0].permute(1, 2, 0).numpy(), plane)


AFFINE = {"scale": 1.2, "rotate": 25.0, "shear": 8.0, "translate_px": 3}
MAPS = [
    {"rotate": 30.0},
    {"translate_px": {"x": (5, 5), "y": (-7, -7)}},
    {"translate_percent": {"x": (0.11, 0.11), "y": (-0.2, -0.2)}},
    {"scale": {"x": (0.73, 0.73), "y": (1.37, 1.37)}},
    {"shear": {"x": (15.0, 15.0), "y": (-10.0, -10.0)}},
    AFFINE,
]


def affine(given, **settings):
    ranges = {name: value if isinstance(value, dict) else (value, value) for name, value in given.items()}
    return A.Affine(**ranges, **settings, p=1.0)


@pytest.mark.parametrize("border", [0, 1, 2, 4])
@pytest.mark.parametrize("given", MAPS)
def test_affine_nearest(given, border):
    """OpenCV rounds coordinates to 1/1024 pixel: pixels so near to the middle of two are left out, some per mille."""
    arrays = photos()
    transform = affine(given, interpolation=cv2.INTER_NEAREST, border_mode=border, fill=(10, 200, 90))
    difference = differences(ours(lifted(transform), arrays), theirs(transform, arrays))
    assert (difference <= 1).double().mean() >= 0.995
    assert difference.mean() <= 0.25


@pytest.mark.parametrize("border", [0, 2])
@pytest.mark.parametrize("given", MAPS)
def test_affine_bilinear(given, border):
    """OpenCV rounds coordinates to 1/32 pixel: up to 1/32 of the contrast between neighbours, 8 levels at the most."""
    arrays = photos()
    transform = affine(given, border_mode=border, fill=90)
    difference = differences(ours(lifted(transform), arrays), theirs(transform, arrays))
    assert difference.max() <= 8
    assert difference.mean() <= 0.6


def shift_scale_rotate(*ranges):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "use Affine"
        return A.ShiftScaleRotate(*ranges, p=1.0)


def others():
    return [
        A.Rotate((17, 17), border_mode=cv2.BORDER_REFLECT_101, p=1.0),
        shift_scale_rotate((0.1, 0.1), (0.2, 0.2), (-33, -33)),
        A.Affine(scale={"x": (1.3, 1.3), "y": (1.3, 1.3)}, keep_ratio=True, p=1.0),
    ]


@pytest.mark.parametrize("transform", others(), ids=lambda t: type(t).__name__)
def test_other_maps(transform):
    arrays = photos()
    difference = differences(ours(lifted(transform), arrays), theirs(transform, arrays))
    assert difference.max() <= 8
    assert difference.mean() <= 0.6


@pytest.mark.parametrize(
    "transform",
    [
        A.HorizontalFlip(p=1.0),
        A.VerticalFlip(p=1.0),
        A.CenterCrop(31, 40),
        A.CenterCrop(60, 41, pad_if_needed=True, fill=7),
        A.CenterCrop(53, 71, pad_if_needed=True, pad_position="bottom_left", fill=(1, 2, 3)),
        *(
            A.PadIfNeeded(59, 70, position=place, border_mode=border, fill=9, fill_mask=4)
            for place, border in (
                ("center", 0),
                ("top_left", 1),
                ("top_right", 2),
                ("bottom_left", 4),
                ("bottom_right", 0),
            )
        ),
        A.PadIfNeeded(None, None, pad_height_divisor=32, pad_width_divisor=15),
        A.Pad((1, 2), border_mode=4),
        A.Pad((1, 2, 3, 4), fill=200),
        *(A.Resize(*size, interpolation=0) for size in ((24, 32), (96, 128), (31, 47), (48, 64), (17, 101))),
        A.Compose([A.NoOp(), A.VerticalFlip(p=1.0)]),
    ],
    ids=str,
)
def test_whole_pixels(transform):
    arrays = photos()
    assert torch.equal(ours(lifted(transform), arrays), theirs(transform, arrays))


@pytest.mark.parametrize("sizes", [((27, 28), (21, 36)), ((14, 35), (18, 45)), ((6, 9), (34, 51))], ids=str)
def test_nearest_resize_where_pixels_tie(sizes):
    transform = A.Resize(*sizes[1], interpolation=0)
    arrays = photos(3, *sizes[0])
    assert torch.equal(ours(lifted(transform, size=sizes[0]), arrays), theirs(transform, arrays))


def test_nearest_pixels_are_opencvs():
    stays = []
    for length, wanted in itertools.product(range(1, 71), range(1, 71, 3)):
        row = np.arange(length, dtype=np.uint8)[None]
        expected = cv2.resize(row, (wanted, 1), interpolation=cv2.INTER_NEAREST)[0]
        found = nearest_map(length, wanted)
        if found is None:
            stays.append((length, wanted))
        else:  # a warp rounds to 2**-32 pixels, and these are such numbers
            step, start = (int(number * 2**32) for number in found)
            assert np.array_equal((step * np.arange(wanted) + start + 2**31) >> 32, expected)
    assert stays == [(45, 25), (45, 55), (45, 70), (63, 49), (63, 70)]
    assert "12 to 68" in smartaug.lift(pipeline(A.Resize(68, 24, interpolation=0)), size=(12, 24)).reason


@pytest.mark.parametrize("size", [(24, 32), (96, 128), (31, 47), (17, 101)])
def test_bilinear_resize(size):
    arrays, transform = photos(), A.Resize(*size)
    difference = differences(ours(lifted(transform), arrays), theirs(transform, arrays))
    assert difference.max() <= 1
    assert difference.mean() <= 0.25


def test_normalising_and_units():
    arrays = photos()
    transform = A.Normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.25), max_pixel_value=250.0)
    made = lifted(A.HorizontalFlip(p=1.0), transform, A.Pad(2, fill=0.5))
    expected = torch.stack(
        [pipeline(A.HorizontalFlip(p=1.0), transform, A.Pad(2, fill=0.5))(image=a)["image"] for a in arrays]
    )
    found = ours(made, arrays)
    assert found.dtype == torch.float32
    assert differences(found, expected).max() < 1e-5
    scaled = ours(lifted(A.ToFloat()), arrays)
    assert differences(scaled, theirs(A.ToFloat(), arrays)).max() < 1e-6


# --- what is drawn ---------------------------------------------------------------------------------------------------


def library(transform, shape=(48, 64, 3)):
    """The library's own draws."""
    transform.set_random_seed(0)
    data = {"image": np.zeros(shape, np.uint8)}
    found = []
    for _ in range(DRAWS):
        params = {"shape": shape, **transform.get_params()}
        found.append({**params, **transform.get_params_dependent_on_data(params, data)})
    return found


def stage_of(transform, size=SIZE):
    made = translate(transform, State(size=size))
    assert made.where == "device", made
    return made.stage


@pytest.mark.parametrize(
    ("transform", "names"),
    [
        (A.RandomGamma((60, 150), p=1.0), {"gamma": lambda n: n[:, 0] / 100}),
        (
            A.HueSaturationValue(20, 30, (-5, 20), p=1.0),
            dict(zip(("hue_shift", "sat_shift", "val_shift"), range(3), strict=True)),
        ),
        (A.ColorJitter(p=1.0), dict(zip(("brightness", "contrast", "saturation", "hue"), range(4), strict=True))),
        (A.Solarize((0.2, 0.9), p=1.0), {"threshold": 0}),
        (A.CLAHE((1.0, 6.0), p=1.0), {"clip_limit": 0}),
        (
            A.RandomBrightnessContrast((-0.1, 0.3), (-0.2, 0.4), p=1.0),
            {"alpha": lambda n: 1 + n[:, 0], "beta": lambda n: 255 * n[:, 1]},
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_numbers(transform, names):
    drawn, numbers = library(transform), stage_of(transform).numbers(KEYS)
    for name, column in names.items():
        alike([one[name] for one in drawn], column(numbers) if callable(column) else numbers[:, column])
    if "order" in drawn[0]:
        (segment,) = stage_of(transform).sample((len(KEYS), 3, *SIZE), KEYS).segments
        orders = [tuple(order) for order in segment.host[0].tolist()]
        assert len(set(orders)) == 24
        alike_kinds(orders, [tuple(int(n) for n in one["order"]) for one in drawn])


@pytest.mark.parametrize(
    "transform",
    [
        A.Affine((0.8, 1.3), (-0.1, 0.2), rotate=(-20, 40), shear={"x": (-5, 10), "y": (0, 8)}, p=1.0),
        A.Affine((0.8, 1.3), translate_px={"x": (-3, 3), "y": (0, 5)}, keep_ratio=True, p=1.0),
        A.Affine((0.5, 2.0), balanced_scale=True, p=1.0),
        A.Affine({"x": (0.5, 0.9), "y": (1.1, 1.5)}, balanced_scale=True, p=1.0),
        A.Rotate((-30, 70), p=1.0),
        shift_scale_rotate(0.1, (-0.3, 0.2), 60),
    ],
    ids=lambda t: type(t).__name__,
)
def test_maps(transform):
    theirs_drawn = np.stack([one["matrix"] for one in library(transform)])
    drawn = stage_of(transform).parameters(KEYS, *SIZE)
    back = opencv_geometry.inverse(drawn, *SIZE)
    made = np.linalg.inv(np.concatenate([back, np.tile([[0.0, 0.0, 1.0]], (len(back), 1, 1))], 1))
    for row in range(2):
        for column in range(3):
            alike(theirs_drawn[:, row, column].round(9), made[:, row, column].round(9))
    # the two axes' factors are drawn apart, or not
    alike(
        (theirs_drawn[:, 0, 0] * theirs_drawn[:, 1, 1]).round(9),
        (made[:, 0, 0] * made[:, 1, 1]).round(9),
    )


def test_maps_that_shrink_as_often_as_they_enlarge():
    transform = A.Affine((0.5, 2.0), balanced_scale=True, p=1.0)
    shrunk = sum(one["matrix"][0, 0] < 1 for one in library(transform))
    as_often((stage_of(transform).parameters(KEYS, *SIZE).scale_x < 1).sum(), shrunk, 0.5)


def test_crops_frames_and_holes():
    shape = (len(KEYS), 3, *SIZE)
    warp = stage_of(A.RandomCrop(30, 40)).sample(shape, KEYS).segments[0]
    assert isinstance(warp, Warp)
    found = [one["crop_coords"][:2] for one in library(A.RandomCrop(30, 40))]
    for axis in range(2):
        alike([place[axis] for place in found], warp.matrix[:, axis, 2])

    transform = A.RandomResizedCrop((20, 20), (0.2, 0.9), (0.5, 2.0))
    large = (480, 640)
    bounds = stage_of(transform, large).sample((DRAWS, 3, *large), KEYS).segments[0].bounds
    left, top, right, bottom = np.array([one["crop_coords"] for one in library(transform, (*large, 3))]).T
    made = (bounds[:, 2], bounds[:, 0], bounds[:, 3] - bounds[:, 2] + 1, bounds[:, 1] - bounds[:, 0] + 1)
    alike_boxes(made, (top, left, bottom - top, right - left))

    transform = A.PadIfNeeded(60, 70, position="random")
    warp = stage_of(transform).sample(shape, KEYS).segments[0]
    drawn = library(transform)
    alike([one["pad_left"] for one in drawn], -warp.matrix[:, 0, 2])
    alike([one["pad_top"] for one in drawn], -warp.matrix[:, 1, 2])

    for transform in (
        A.CoarseDropout((1, 4), (0.1, 0.3), (0.05, 0.5), p=1.0),
        A.CoarseDropout((2, 3), (3, 60), (1, 9), p=1.0),
    ):
        erase = stage_of(transform).sample(shape, KEYS).segments[0]
        assert isinstance(erase, Erase)
        holes = [one["holes"] for one in library(transform)]
        alike([len(one) for one in holes], (erase.boxes[:, :, 2] > 0).sum(1))
        top, left, tall, wide = erase.boxes[:, 0].unbind(1)
        first = np.array([one[0] for one in holes])
        for theirs_column, column in zip(
            (first[:, 1], first[:, 0], first[:, 3] - first[:, 1], first[:, 2] - first[:, 0]),
            (top, left, tall, wide),
            strict=True,
        ):
            alike(theirs_column, column)


def test_holes_are_filled():
    arrays = photos()
    transform = A.CoarseDropout((2, 5), fill=(10, 20, 30), p=1.0)
    made = stage_of(transform)
    plan = made.plan((4, 3, *SIZE), index=torch.arange(4), seed=0)
    boxes = plan.segments[0].boxes
    found = made.apply(batch(arrays), plan)
    for image, array, rows in zip(found, arrays, boxes.tolist(), strict=True):
        holes = np.array([[left, top, left + wide, top + tall] for top, left, tall, wide in rows if tall])
        assert np.array_equal(image.permute(1, 2, 0).numpy(), transform.apply(array, holes=holes, seed=0))


def test_channels_are_shifted_as_far():
    transform = A.RGBShift(20, (-30, 5), 10, p=1.0)
    numbers = stage_of(transform).numbers(KEYS)
    shifts = np.stack([one["noise_map"] for one in library(transform)]).reshape(DRAWS, -1, 3)[:, 0]
    for channel in range(3):
        alike(255 * numbers[:, channel], shifts[:, channel])


def test_the_noise_is_as_wide(monkeypatch):
    transform = A.GaussNoise((0.05, 0.1), (-0.02, 0.03), p=1.0)
    monkeypatch.setattr(pixel, "generate_noise", lambda params, **settings: params)
    numbers = stage_of(transform).numbers(KEYS)
    given = [one["noise_map"] for one in library(transform)]
    for place, name in enumerate(("std_range", "mean_range")):
        assert all(one[name][0] == one[name][1] for one in given)
        alike(numbers[:, place], [one[name][0] for one in given])


@pytest.mark.parametrize("per_channel", [True, False])
def test_noise(per_channel):
    """A pixel, the mean and the deviation of many small images; the tails of few large ones.

    The first pixel is left out: OpenCV's first normal number behind a seed is always 0.
    """
    transform = A.GaussNoise((0.05, 0.1), (-0.02, 0.03), per_channel=per_channel, p=1.0)
    sides = []
    for shape in ((DRAWS, 2, 3, 3), (400, 24, 24, 3)):
        grey = np.full(shape, 128, np.uint8)
        transform.set_random_seed(0)
        expected = torch.stack([torch.from_numpy(transform(image=image)["image"]) for image in grey])
        found = batched(lifted(transform, size=shape[1:3]), grey)
        sides.append([(one.double() - 128).flatten(2)[..., 1:] for one in (found, expected.permute(0, 3, 1, 2))])
    small, large = sides
    channels = [torch.equal(one[:, 0], one[:, 2]) for one in (*small, *large)]
    assert channels == [not per_channel] * 4
    alike(*(one[:, 0, 0] for one in small))
    alike(*(one[:, 0].mean(1) for one in small))
    alike(*(one[:, 0].std(1) for one in small))
    centred = [noise - noise.mean((1, 2), keepdim=True) for noise in large]
    tails = [float((noise / noise.std((1, 2), keepdim=True)).pow(4).mean()) for noise in centred]
    assert abs(tails[0] - tails[1]) < 0.1  # OpenCV's normal numbers have a kurtosis of 3.06


@pytest.mark.parametrize(
    "name",
    [
        *(
            "HorizontalFlip",
            "VerticalFlip",
            "Transpose",
            "RandomRotate90",
            "D4",
            "Affine",
            "ShiftScaleRotate",
            "Rotate",
        ),
        *("RandomBrightnessContrast", "RandomGamma", "HueSaturationValue", "ColorJitter", "RGBShift", "ToGray"),
        *("InvertImg", "Posterize", "Solarize", "Equalize", "CLAHE", "CoarseDropout", "GaussNoise", "GaussianBlur"),
    ],
)
@pytest.mark.filterwarnings("ignore:ShiftScaleRotate is a special case")
def test_how_often_each(name):
    transform = getattr(A, name)(p=0.3)
    transform.set_random_seed(0)
    changed = reached(stage_of(transform, (48, 48)).sample((DRAWS, 3, 48, 48), KEYS))
    as_often(changed.sum(), sum(transform.should_apply() for _ in range(DRAWS)), 0.3)


def test_symmetries_and_bits_and_windows():
    square = photos(1, 32, 32)[0]
    turns = ("e", "r90", "r180", "r270")
    for transform, read in (
        (A.D4(p=1.0), lambda one: one["group_element"]),
        (A.RandomRotate90(p=1.0), lambda one: turns[one["factor"]]),
        (A.Transpose(p=1.0), lambda one: "t"),
    ):
        trace = stage_of(transform, (32, 32)).sample((DRAWS, 3, 32, 32), KEYS).trace
        named = [trace.names[op].removeprefix("Symmetry ") for op in trace.ops[:, 0].tolist()]
        drawn = [read(one) for one in library(transform, (32, 32, 3))]
        assert set(named) == set(drawn)
        alike_kinds(named, drawn)
        found = ours(lifted(transform, size=(32, 32)), np.stack([square] * 100))
        every = {theirs(transform, [square])[0].numpy().tobytes() for _ in range(100)}
        assert set(outcomes(found)) == every
        assert len(every) == len(set(drawn))

    stage = stage_of(A.Posterize((2, 6), p=1.0))
    table = stage.sample((DRAWS, 3, 8, 8), KEYS).segments[0].table
    kept = 8 - (256 - table.amax((1, 2)).double()).log2()
    alike([one["num_bits"] for one in library(A.Posterize((2, 6), p=1.0))], kept)

    transform = A.GaussianBlur((0, 6), (0.5, 3.0), p=1.0)
    weights = stage_of(transform).sample((DRAWS, 3, 8, 8), KEYS).segments[0].arguments[0]
    drawn = library(transform)
    alike([len(one["kernel"]) for one in drawn], (weights > 0).sum(1))
    alike([one["kernel"].max() for one in drawn], weights.amax(1).double())


# --- which run -------------------------------------------------------------------------------------------------------


def outcomes(images):
    return collections.Counter(image.numpy().tobytes() for image in images)


@pytest.mark.parametrize(
    "transforms",
    [
        [A.HorizontalFlip(p=0.3)],
        [A.HorizontalFlip(p=0.3), A.InvertImg(p=0.6)],
        [A.OneOf([A.HorizontalFlip(p=0.2), A.VerticalFlip(p=0.6), A.Transpose(p=0.2)], p=0.7)],
        [A.OneOf([A.Sequential([A.HorizontalFlip(p=0.5), A.InvertImg(p=1.0)], p=0.3), A.VerticalFlip(p=0.9)], p=1.0)],
        [A.OneOf([A.OneOf([A.Transpose(), A.InvertImg()], p=0.1), A.VerticalFlip(p=0.3)], p=1.0)],
        [A.OneOf([jitter(brightness=0.5), A.VerticalFlip(p=0.3)], p=0.8)],
        [A.OneOf([A.ColorJitter((0.5, 0.5), (1, 1), (1, 1), (0, 0), p=0.1), A.VerticalFlip(p=0.1)], p=1.0)],
        [A.SomeOf([A.HorizontalFlip(p=0.5), A.InvertImg(p=0.8), A.Transpose(p=1.0)], n=2)],
        [A.SomeOf([A.Transpose(p=0.9), A.HorizontalFlip(p=0.9)], n=3, replace=True, p=0.8)],
        [A.RandomOrder([A.Transpose(p=1.0), A.HorizontalFlip(p=0.7)], n=2)],
        [A.OneOrOther(A.Transpose(), A.HorizontalFlip(p=0.1), p=0.2)],
        [A.OneOrOther(A.Transpose(), A.HorizontalFlip(p=0.0), p=0.4)],
        [A.OneOrOther(A.Transpose(), A.Sequential([A.HorizontalFlip(p=1.0)], p=0.0), p=0.4)],
        [A.OneOf([A.Transpose(p=0.0), A.HorizontalFlip(p=0.5)], p=0.5)],
        [A.Sequential([A.HorizontalFlip(p=0.5), A.Transpose(p=1.0)], p=0.4)],
        [A.Compose([A.HorizontalFlip(p=0.5), A.InvertImg(p=1.0)], p=0.4), A.VerticalFlip(p=0.5)],
        [A.Compose([A.HorizontalFlip(p=0.5), A.Sequential([A.Transpose(p=0.5)], p=1.0)])],
        [A.HorizontalFlip(p=0.0), A.VerticalFlip(p=0.5)],
    ],
    ids=str,
)
def test_how_often(transforms):
    square = photos(1, 8, 8)[0]
    given = pipeline(*transforms)
    given.set_random_state(np.random.default_rng(0), random.Random(0))
    expected = [given(image=square)["image"].numpy().tobytes() for _ in range(DRAWS)]
    found = batched(lifted(*transforms, size=(8, 8)), np.stack([square] * DRAWS))
    assert len(set(expected)) > 1
    alike_kinds([image.tobytes() for image in found.numpy()], expected)


# --- what stays ------------------------------------------------------------------------------------------------------


class Custom(A.ImageOnlyTransform):
    def apply(self, img, **params):
        return img // 2


def test_the_unknown_stays_with_everything_before_it():
    unknown = Custom(p=1.0)
    given = pipeline(A.RandomCrop(32, 32), unknown, A.HorizontalFlip(p=1.0), A.Normalize())
    made = smartaug.lift(given)
    assert made.stays == (given.transforms[0], unknown)
    table = made.explain()
    assert [row.split()[1] for row in table.splitlines()[1:]] == ["worker", "worker", "device", "folded", "folded"]
    image = photos(1)[0]
    at_head = made.head(image=image, mask=image[..., 0], name="a")
    assert at_head["image"].shape == (3, 32, 32)
    assert torch.equal(at_head["image"][0] // 1, at_head["image"][0])
    assert at_head["mask"].shape == (32, 32)
    assert at_head["name"] == "a"
    found = made.augment(at_head["image"][None], index=torch.zeros(1, dtype=torch.int64), seed=0)[0]
    flipped = at_head["image"].flip(2).permute(1, 2, 0).numpy()
    assert torch.allclose(found, pipeline(A.Normalize())(image=flipped)["image"], atol=1e-5)


class Segmented(torch.utils.data.Dataset):
    """Pictures whose masks are their first channel."""

    def __init__(self, transform):
        self.transform, self.arrays = transform, photos(8)

    def __len__(self):
        return len(self.arrays)

    def __getitem__(self, index):
        made = self.transform(image=self.arrays[index], mask=self.arrays[index][..., 0])
        return {"image": made["image"], "mask": made["mask"], "label": index}


def test_masks_move_with_their_images():
    padded = A.PadIfNeeded(60, 80, fill=7, fill_mask=7, position="random")
    turned = A.Affine(rotate=(-40, 40), interpolation=0, fill=9, fill_mask=9, p=1.0)
    for given in (
        pipeline(A.CenterCrop(44, 50), A.HorizontalFlip(), padded, A.RandomCrop(40, 40)),
        pipeline(A.RandomCrop(40, 40), A.D4(), turned, A.CoarseDropout(fill=77)),
    ):
        dataset = Segmented(given)
        loader = smartaug.DataLoader(dataset, batch_size=4, lift=True, seed=0)
        seen = [sample for _ in range(3) for sample in loader]
        for sample in seen:
            red = sample["image"][:, 0]
            assert sample["mask"].shape == (4, 40, 40)
            assert torch.equal(torch.where(red == 77, 77, sample["mask"]), red)
        assert not torch.equal(seen[0]["mask"], seen[2]["mask"])
        assert dataset.transform is given


def test_a_dataset_that_augments_is_lifted_too():
    inner = [(array, n) for n, array in enumerate(photos(8))]
    given = pipeline(A.RandomCrop(40, 40), Custom(p=0.5), A.HorizontalFlip(), A.Normalize())
    dataset = smartaug.AugmentedDataset(inner, given, seed=0)
    loader = smartaug.DataLoader(dataset, batch_size=4, lift=True, seed=0)
    first, second = ([images for images, _ in loader] for _ in range(2))
    assert first[0].dtype == torch.float32
    assert not torch.equal(first[0], second[0])
    loader.set_epoch(0)
    assert all(torch.equal(one, other) for one, other in zip(first, (images for images, _ in loader), strict=True))
    partly = smartaug.AugmentedDataset(inner, given, only=torch.ones(8, dtype=torch.bool), plain=given)
    with pytest.warns(smartaug.NoEffectWarning, match="only= says which samples"):
        smartaug.lift(partly)


def boxes():
    return A.BboxParams("pascal_voc", label_fields=["kinds"])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (pipeline(A.HorizontalFlip(), bbox_params=boxes()), "boxes or keypoints"),
        (pipeline(A.HorizontalFlip(), keypoint_params=A.KeypointParams("xy")), "boxes or keypoints"),
        (pipeline(A.HorizontalFlip(), additional_targets={"second": "image"}), "more than one image"),
        (pipeline(A.HorizontalFlip(), save_applied_params=True), "save_applied_params"),
        (A.Compose([A.HorizontalFlip()]), "put ToTensorV2 at its end"),
        (pipeline(A.HorizontalFlip(), A.Lambda(p=1.0)), "Lambda stays"),
        (pipeline(A.CLAHE(), A.ElasticTransform()), "ElasticTransform stays"),
        (pipeline(A.Affine(fit_output=True)), "fit_output"),
        (pipeline(A.Rotate(crop_border=True)), "crop_border"),
        (pipeline(A.Rotate(interpolation=2)), "interpolation=2"),
        (pipeline(A.Rotate(border_mode=3)), "border_mode=3"),
        (pipeline(A.Rotate(mask_interpolation=1)), "nearest pixel"),
        (pipeline(A.CoarseDropout(fill="random")), "fill='random'"),
        (pipeline(A.CoarseDropout(fill_mask=0)), "masks are left whole"),
        (pipeline(A.Resize(20, 20, interpolation=3)), "areas"),
        (pipeline(A.Resize(20, 20, p=0.5)), "p=0.5"),
        (pipeline(A.RandomCrop(100, 20)), "does not fit"),
        (pipeline(A.Transpose()), "square"),
        (pipeline(A.ToGray(1)), "1 channels"),
        (pipeline(A.Normalize(p=0.5)), "p=0.5"),
        (pipeline(A.Normalize(normalization="image")), "statistics"),
        (pipeline(A.Normalize(), A.RandomGamma()), "counts otherwise"),
        (pipeline(A.ToFloat(), A.HueSaturationValue()), "counts otherwise"),
        (pipeline(A.RandomBrightnessContrast(brightness_by_max=False)), "mean of the image"),
        (pipeline(A.OneOf([A.HorizontalFlip(), A.ElasticTransform()])), "ElasticTransform inside it"),
        (pipeline(A.OneOf([A.HorizontalFlip(), A.RandomCrop(8, 8)])), "inside it changes the size"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_stays_says_why(given, says):
    made = smartaug.lift(given, size=SIZE)
    assert made.augment is None
    assert says in made.reason


@pytest.mark.parametrize(
    "transform", [A.CenterCrop(8, 8), A.RandomResizedCrop((8, 8)), A.Resize(8, 8), A.RandomCrop(8, 8)]
)
def test_behind_a_size_that_is_made_the_rest_is_lifted(transform):
    made = smartaug.lift(pipeline(transform, A.RandomRotate90(), A.PadIfNeeded(9, 9)))
    assert made.stays == (made.steps[0].original,)
    assert "smartaug.lift(dataset, size=(height, width))" in made.reason
    arrays = photos()
    assert ours(made, arrays).shape == (4, 3, 9, 9)


def test_floats_are_refused():
    made = lifted(A.HorizontalFlip())
    with pytest.raises(TypeError, match=r"float32 array; write lift=False"):
        made.head(image=np.zeros((4, 4, 3), np.float32))


def test_the_given_pipeline_is_unchanged():
    given = pipeline(Custom(p=1.0), A.OneOf([A.HorizontalFlip(p=0.3), A.VerticalFlip(p=0.1)]), A.Normalize())
    before = copy.deepcopy(given.to_dict_private() | {"custom": None})
    smartaug.lift(given)
    assert given.to_dict_private() | {"custom": None} == before
    assert [part.p for part in given.transforms[1]] == [0.3, 0.1]


@pytest.mark.parametrize("count", [0, 1])
def test_empty_and_single_batches(count):
    made = lifted(*TONES, A.GaussNoise(p=1.0), A.GaussianBlur(p=1.0), A.Equalize(), A.D4(), size=(8, 8))
    given = torch.zeros(count, 3, 8, 8, dtype=torch.uint8)
    assert made.augment(given, index=torch.arange(count), seed=0).shape == (count, 3, 8, 8)


def test_a_sample_does_not_depend_on_its_batch():
    made = lifted(A.GaussNoise(p=0.7), A.ColorJitter(p=0.8), A.OneOf([A.GaussianBlur(), A.Affine(rotate=(-20, 20))]))
    arrays = photos(16)
    whole = ours(made, arrays)
    given = batch(arrays)
    for rows in (torch.tensor([3]), torch.tensor([15, 2, 7])):
        assert torch.equal(made.augment(given[rows], index=rows, seed=0), whole[rows])
