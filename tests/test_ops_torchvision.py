"""Every operation against torchvision's on the same parameters: within one grey level (1/255 for floats).

Nearest warps: where a coordinate lies within 1e-3 pixels of the middle between two pixels, float32 rounding decides
which of them is taken, in torchvision as here; those pixels are left out.
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as v1
from torchvision.transforms.autoaugment import AutoAugment as TorchvisionAutoAugment
from torchvision.transforms.autoaugment import AutoAugmentPolicy, TrivialAugmentWide, _apply_op
from torchvision.transforms.autoaugment import RandAugment as TorchvisionRandAugment
from torchvision.transforms.v2 import functional as v2

import smartaug.augment as A
from smartaug import draws
from smartaug.augment.backends import execute
from smartaug.augment.backends.tables.filters import FILTERS
from smartaug.augment.backends.tables.tones import TONES
from smartaug.augment.ops import policies
from smartaug.augment.ops.geometry import affine_matrix
from smartaug.augment.ops.space import GEOMETRIC, SIGNED, space
from smartaug.augment.plan import Filter, Plan, Tone, Trace, Warp
from smartaug.augment.targets import Image, Mask, boxes
from smartaug.augment.targets.maps import move_map
from smartaug.augment.targets.through import move_objects
from tests.reference import antialiased

BACKENDS = ("torch", "numba")


def photos(shape=(4, 3, 37, 29), dtype=torch.uint8, seed=0):
    """Smooth pictures with some noise and a flat channel, in the middle of the range as photographs are."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(*shape[:2], 5, 5, generator=generator)
    images = torch.nn.functional.interpolate(coarse, shape[2:], mode="bilinear") * 0.8 + 0.1
    images = (images + 0.04 * torch.randn(shape, generator=generator)).clamp(0, 1)
    if shape[0]:
        images[0, 0] = 0.5
    return (images * 255).to(torch.uint8) if dtype == torch.uint8 else images.to(dtype)


def grey_levels(a, b):
    """The largest difference in grey levels."""
    scale = 1.0 if a.dtype == torch.uint8 else 255.0
    return float((a.double() - b.double()).abs().max()) * scale if a.numel() else 0.0


def plan_of(name, magnitude, images, interpolation="nearest", fill=(0.0,)):
    table = space(((name, float(magnitude)),), *images.shape[2:])
    return table.plan(
        images.shape, torch.zeros(len(images), 1, dtype=torch.int64), interpolation=interpolation, fill=fill
    )


def decided(matrix, size):
    """Pixels (B, H, W) whose coordinates are not within 1e-3 of the middle between two pixels."""
    x = torch.arange(size[1], dtype=torch.float64)
    y = torch.arange(size[0], dtype=torch.float64)[:, None]
    m = matrix[:, :, :, None, None]
    coordinates = m[:, :, 0] * x + m[:, :, 1] * y + m[:, :, 2]
    return ((coordinates % 1.0 - 0.5).abs() > 1e-3).all(1)


def away_from_border(matrix, size):
    """Pixels (B, H, W) that read only inside, or only outside, the image."""
    ones = torch.ones(len(matrix), 1, *size)
    warp = Warp(matrix, size, "bilinear", (0.0,))
    inside = execute(Plan(tuple(ones.shape), (warp,), Trace.empty(len(matrix))), ones)[:, 0]
    return (inside > 1 - 1e-4) | (inside < 1e-4)


def magnitudes():
    for name in (*policies.OPERATIONS, "Invert"):
        for step in (0, 3, 9, 17, 30):
            small = policies.magnitude_at(name, step, 31, 37, 29)
            wide = policies.wide_magnitude_at(name, step, 31)
            for magnitude in {small, wide}:
                for sign in (1, -1) if name in SIGNED else (1,):
                    yield pytest.param(name, sign * magnitude, id=f"{name} {sign * magnitude:.3g}")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("name", "magnitude"), magnitudes())
def test_operation_on_uint8(name, magnitude, backend):
    images = photos()
    for fill in ((0.0,), (10.0, 200.0, 90.0)):
        expected = torch.stack(
            [_apply_op(image, name, magnitude, InterpolationMode.NEAREST, list(fill)) for image in images]
        )
        plan = plan_of(name, magnitude, images, fill=fill)
        found = execute(plan, images, backend)
        if name in GEOMETRIC:
            kept = decided(plan.segments[0].matrix, (37, 29))[:, None].expand_as(found)
            assert kept.double().mean() > 0.8
            assert torch.equal(found[kept], expected[kept])
        else:
            assert grey_levels(found, expected) <= 1


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", GEOMETRIC)
@pytest.mark.parametrize("step", [4, 13, 30])
def test_bilinear_on_uint8(name, step, backend):
    """With a fill torchvision weights the border's blend with the image twice; there the comparison is without one."""
    images = photos()
    magnitude = -policies.magnitude_at(name, step, 31, 37, 29)
    for fill, theirs in (((0.0,), None), ((10.0, 200.0, 90.0), [10.0, 200.0, 90.0])):
        expected = torch.stack([_apply_op(i, name, magnitude, InterpolationMode.BILINEAR, theirs) for i in images])
        plan = plan_of(name, magnitude, images, "bilinear", fill)
        found = execute(plan, images, backend)
        kept = torch.ones_like(found, dtype=torch.bool)
        if theirs is not None:
            kept = away_from_border(plan.segments[0].matrix, (37, 29))[:, None].expand_as(found)
            assert kept.double().mean() > 0.8
        assert grey_levels(found[kept], expected[kept]) <= 1


FLOATS = {
    "Brightness": v2.adjust_brightness,
    "Color": v2.adjust_saturation,
    "Contrast": v2.adjust_contrast,
    "Sharpness": v2.adjust_sharpness,
}


@pytest.mark.parametrize(("name", "magnitude"), magnitudes())
def test_operation_on_floats(name, magnitude):
    images = photos(dtype=torch.float32)
    found = execute(plan_of(name, magnitude, images), images)
    if name in GEOMETRIC:
        expected = torch.stack(
            [_apply_op(image, name, magnitude, InterpolationMode.NEAREST, [0.0]) for image in images]
        )
        kept = decided(plan_of(name, magnitude, images).segments[0].matrix, (37, 29))[:, None].expand_as(found)
        assert torch.equal(found[kept], expected[kept])
        return
    if name in FLOATS:
        expected = FLOATS[name](images, 1.0 + magnitude)
    elif name == "Posterize":
        expected = v2.posterize(images, int(magnitude))
    elif name == "Solarize":
        expected = v2.solarize(images, magnitude / 255)
    elif name == "Identity":
        expected = images
    else:
        expected = {"Invert": v2.invert, "AutoContrast": v2.autocontrast, "Equalize": v2.equalize}[name](images)
    assert grey_levels(found, expected) <= 1


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("amount", [-0.5, -0.21, 0.0, 0.1, 0.5])
def test_hue(amount, dtype, backend):
    images = photos(dtype=dtype)
    images[1] = images[1, :1]  # grey
    plan = Plan(images.shape, (Tone(torch.full((4,), TONES.index("Hue")), torch.full((4,), amount)),), Trace.empty(4))
    found = execute(plan, images, backend if dtype == torch.uint8 else None)
    assert grey_levels(found, v2.adjust_hue(images, amount)) <= 1


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [(3, 3), (5, 7), (23, 23)])
@pytest.mark.parametrize("sigma", [0.1, 0.8, 3.0])
def test_gaussian_blur(size, sigma, backend):
    for dtype in (torch.uint8, torch.float32):
        images = photos(dtype=dtype)
        blur = Filter(torch.full((4,), FILTERS.index("GaussianBlur")), torch.full((4,), sigma), size)
        found = execute(Plan(images.shape, (blur,), Trace.empty(4)), images, backend if dtype == torch.uint8 else None)
        assert grey_levels(found, v1.gaussian_blur(images, [size[1], size[0]], [sigma, sigma])) <= 1


def test_grayscale():
    images = photos()
    found = A.Grayscale(p=1.0)(images)
    assert grey_levels(found, v1.rgb_to_grayscale(images, 3)) <= 1


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_affine(interpolation):
    images = photos()
    mode = InterpolationMode(interpolation)
    fill = 0.0 if interpolation == "bilinear" else 7.0
    for degrees, shift, scale, shear in ((0, (0, 0), 1.0, 0), (20, (3, -5), 0.8, 10), (-100, (-4, 2), 1.3, -25)):
        expected = v1.affine(images, degrees, list(shift), scale, [shear, 0.0], mode, [fill] if fill else None)
        as_rows = [torch.tensor([float(v)] * 4, dtype=torch.float64) for v in (degrees, scale, shear)]
        moved = torch.tensor([shift] * 4, dtype=torch.float64)
        matrix = affine_matrix(as_rows[0], moved, as_rows[1], as_rows[2], 37, 29)
        found = execute(Plan(images.shape, (Warp(matrix, (37, 29), interpolation, (fill,)),), Trace.empty(4)), images)
        if interpolation == "bilinear":
            assert grey_levels(found, expected) <= 1
        else:
            kept = decided(matrix, (37, 29))[:, None].expand_as(found)
            assert torch.equal(found[kept], expected[kept])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_random_resized_crop(dtype, backend):
    images = photos((6, 3, 40, 53), dtype)
    crop = A.RandomResizedCrop((24, 17), scale=(0.05, 1.0))
    plan = crop.plan(images.shape, index=torch.arange(6), seed=0)
    found = execute(plan, images, backend if dtype == torch.uint8 else None)
    parts = crop._parts(draws.key(0, 0, torch.arange(6)), 40, 53)
    expected = [
        v1.resized_crop(image, *part.tolist(), [24, 17], antialias=False)
        for image, part in zip(images, parts, strict=True)
    ]
    assert grey_levels(found, torch.stack(expected)) <= 1


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
def test_antialiased_is_torchvisions(dtype):
    images = photos((6, 3, 40, 53), torch.uint8 if dtype == torch.uint8 else torch.float32).to(dtype)
    crop, resize = A.RandomResizedCrop((12, 8), antialias=True), A.Resize((9, 60), antialias=True)
    parts = crop._parts(draws.key(0, 0, torch.arange(6)), 40, 53)
    found = crop(images, index=torch.arange(6), seed=0)
    for one, image, part in zip(found, images, parts, strict=True):
        assert torch.equal(one, v2.resized_crop(image, *part.tolist(), [12, 8], antialias=True))
    assert torch.equal(resize(images), v2.resize(images, [9, 60], antialias=True))


@given(st.tuples(st.integers(1, 12), st.integers(1, 12)), st.tuples(st.integers(1, 12), st.integers(1, 12)))
@settings(max_examples=60, deadline=None)
def test_antialiased_is_the_reference(given_size, size):
    """Also to one pixel, where torch's own `interpolate` fails or is wrong."""
    images = photos((2, 3, *given_size))
    expected = torch.stack([antialiased(image, size) for image in images])
    resize = A.Resize(size, antialias=True)
    assert (resize(images).double() - expected).abs().max() <= 1.01  # two passes, each rounded
    for dtype in (torch.float32, torch.float64):
        torch.testing.assert_close(resize(images.to(dtype)), expected.to(dtype), rtol=0, atol=1e-3)


def test_antialiased_rows_that_are_left_out_and_what_comes_behind():
    images = photos((6, 3, 24, 24), torch.uint8)
    crop = A.RandomResizedCrop(24, (0.9, 1.0), antialias=True)
    some = A.RandomApply([crop], 0.5)
    plan = some.plan(images.shape, index=torch.arange(6), seed=1)
    left_out = ~plan.segments[0].active
    assert 0 < int(left_out.sum()) < 6
    made = some.apply(images, plan)
    assert torch.equal(made[left_out], images[left_out])
    assert not any(torch.equal(one, image) for one, image in zip(made[~left_out], images[~left_out], strict=True))
    plan = A.Compose([crop, A.Flip(1.0)]).plan(images.shape, index=torch.arange(6), seed=0)
    first = execute(Plan(plan.shape, plan.segments[:1]), images)
    assert len(plan.segments) == 2  # a mirror does not join: what is averaged would have to be mirrored, too
    assert torch.equal(execute(plan, images), first.flip(3))


def test_what_moves_with_antialiased_images():
    """A mask is not averaged, a further image of the same size is; boxes move alike."""
    images = photos((4, 3, 40, 53), torch.uint8)
    masks = (images[:, 0] > 128).long()
    crop, plain = (A.RandomResizedCrop((12, 8), antialias=antialias) for antialias in (True, False))
    plan, other = (one.plan(images.shape, index=torch.arange(4), seed=0) for one in (crop, plain))
    assert torch.equal(move_map(plan, masks, Mask()), move_map(other, masks, Mask()))
    assert torch.equal(move_map(plan, images, Image()), execute(plan, images))
    given = boxes.to_objects(torch.tensor([[4.0, 5.0, 40.0, 35.0]] * 4), [1] * 4, "xyxy", (40, 53))
    assert torch.equal(move_objects(plan, given).points, move_objects(other, given).points)
    half = images[:, :, ::2, ::2]
    assert torch.equal(move_map(plan, half, Image()), move_map(other, half, Image()))


def test_random_resized_crop_parts_are_torchvisions_distribution():
    from torchvision.transforms import RandomResizedCrop

    parts = torch.from_numpy(A.RandomResizedCrop(8)._parts(draws.key(0, 0, torch.arange(4000)), 48, 64)).double()
    torch.manual_seed(0)
    image = torch.empty(3, 48, 64)
    theirs = [RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)]
    theirs = torch.tensor(theirs, dtype=torch.float64)
    error = (parts.var(0) / 4000 + theirs.var(0) / 4000).sqrt()
    assert ((parts.mean(0) - theirs.mean(0)).abs() < 4 * error).all()


def test_chain_of_two_is_the_sequence():
    """A chain equals the sequence of torchvision's operations but for what one grey level becomes in the next.

    Bound: fewer than 5 % of the values differ by more than one grey level (equalize and posterize spread them), and
    the mean difference is below half a level.
    """
    images = photos()
    policy = A.RandAugment(2, 9)
    entries = policy.entries(37, 29)
    table = space(entries, 37, 29)
    for first in range(0, 28, 2):
        for second in range(1, 28, 2):
            pair = torch.tensor([[first, second]]).expand(4, 2)
            plan = table.plan(images.shape, pair)
            found = execute(plan, images)
            expected = images
            for entry in (first, second):
                expected = _apply_op(expected, *entries[entry], InterpolationMode.NEAREST, [0.0])
            error = (found.int() - expected.int()).abs().double()
            assert float(error.gt(1).double().mean()) < 0.05, (entries[first], entries[second])
            assert float(error.mean()) < 0.5, (entries[first], entries[second])


def chi_squared(counts, expected):
    """The statistic in standard deviations above its mean."""
    counts, expected = counts.double(), expected.double()
    freedom = (expected > 0).sum() - 1
    assert (counts[expected == 0] == 0).all()
    kept = expected > 0
    value = ((counts - expected)[kept] ** 2 / expected[kept]).sum()
    return float((value - freedom) / math.sqrt(2 * max(1, int(freedom))))


def frequencies(policy, count):
    plan = policy.plan((count, 3, 32, 32), index=torch.arange(count), seed=0)
    return plan.trace


def test_randaugment_table_and_frequencies():
    theirs = TorchvisionRandAugment()._augmentation_space(31, (32, 32))
    assert set(theirs) == set(policies.OPERATIONS)
    for step in range(31):
        for name, (values, signed) in theirs.items():
            assert signed == (name in SIGNED)
            value = float(values[step]) if values.ndim else 0.0
            assert policies.magnitude_at(name, step, 31, 32, 32) == pytest.approx(value, abs=1e-4)
    trace = frequencies(A.RandAugment(2, 9), 20000)
    pairs = (trace.ops[:, 0] * 14 + trace.ops[:, 1]).bincount(minlength=196)
    assert abs(chi_squared(pairs, torch.full((196,), 20000 / 196))) < 4
    rotated = trace.magnitudes[trace.ops == trace.names.index("Rotate")]
    assert set(rotated.tolist()) == {9.0, -9.0}
    assert abs((rotated > 0).double().mean() - 0.5) < 0.03


def test_trivialaugment_table_and_frequencies():
    theirs = TrivialAugmentWide()._augmentation_space(31)
    for step in range(31):
        for name, (values, _) in theirs.items():
            value = float(values[step]) if values.ndim else 0.0
            assert policies.wide_magnitude_at(name, step, 31) == pytest.approx(value, abs=1e-4)
    trace = frequencies(A.TrivialAugment(), 20000)
    assert abs(chi_squared(trace.ops[:, 0].bincount(minlength=14), torch.full((14,), 20000 / 14))) < 4
    rotated = trace.magnitudes[trace.ops == trace.names.index("Rotate")]
    bins = (rotated.abs() / 4.5).round().long().bincount(minlength=31)
    assert abs(chi_squared(bins, torch.full((31,), len(rotated) / 31))) < 4


@pytest.mark.parametrize("name", ["imagenet", "cifar10", "svhn"])
def test_autoaugment_table_and_frequencies(name):
    theirs = TorchvisionAutoAugment(AutoAugmentPolicy(name))
    space_of = theirs._augmentation_space(10, (32, 32))
    expected = {}
    for pair in theirs.policies:
        for operation, chance, step in pair:
            values, signed = space_of[operation]
            value = float(values[step]) if step is not None else 0.0
            value = math.trunc(value) if operation.startswith("Translate") else value
            for sign in (1, -1) if signed and value else (1,):
                share = chance / (2 if signed and value else 1) / 25
                expected[operation, round(sign * value, 3)] = (
                    expected.get((operation, round(sign * value, 3)), 0) + share
                )
    count = 20000
    trace = frequencies(A.AutoAugment(AutoAugmentPolicy(name)), count)
    found = {}
    for operations, values in zip(trace.ops.tolist(), trace.magnitudes.tolist(), strict=True):
        for operation, value in zip(operations, values, strict=True):
            if trace.names[operation] != "Identity":
                drawn = (trace.names[operation], round(value, 3) + 0.0)
                found[drawn] = found.get(drawn, 0) + 1
    assert set(found) <= set(expected)
    wanted = torch.tensor([expected[k] * count for k in expected])
    assert abs(chi_squared(torch.tensor([found.get(k, 0) for k in expected]), wanted)) < 5


def test_randaugment_by_given_probabilities():
    policy = A.RandAugment(2, 9)
    policy.probabilities = torch.zeros(14, 14)
    policy.probabilities[3, 7], policy.probabilities[13, 0] = 0.25, 0.75
    ops = frequencies(policy, 4000).ops
    drawn = (ops[:, 0] * 14 + ops[:, 1]).bincount(minlength=196)
    assert drawn.nonzero()[:, 0].tolist() == [3 * 14 + 7, 13 * 14]
    assert abs(float(drawn[3 * 14 + 7]) / 4000 - 0.25) < 0.03


def test_inexact_is_the_tones_in_order_then_one_composed_warp():
    """exact=False: the same draws, the tones first, then the product of the warps; nothing else changes."""
    images = photos((64, 3, 37, 29))
    exact, moved = (
        A.RandAugment(3, 9, exact=kept).plan(images.shape, index=torch.arange(64), seed=0) for kept in (True, False)
    )
    assert torch.equal(exact.trace.ops, moved.trace.ops)
    assert torch.equal(exact.trace.magnitudes, moved.trace.magnitudes)
    warps = [segment for segment in exact.segments if isinstance(segment, Warp)]
    square = [torch.cat([w.matrix, torch.tensor([[[0.0, 0.0, 1.0]]]).double().expand(64, 1, 3)], 1) for w in warps]
    product = (square[0] @ square[1] @ square[2])[:, :2]
    torch.testing.assert_close(moved.segments[-1].matrix, product)
    others = tuple(segment for segment in exact.segments if not isinstance(segment, Warp))
    one = Warp(product, (37, 29), active=torch.stack([w.active for w in warps]).any(0))
    assert torch.equal(execute(moved, images), execute(Plan(images.shape, (*others, one), exact.trace), images))
    moves = torch.stack([w.active for w in warps], 1)
    tones = torch.tensor([[name not in GEOMETRIC for name in exact.trace.names]])[0][exact.trace.ops]
    unchanged = ~moves.any(1) | ((moves.sum(1) == 1) & ~tones.any(1))  # no warp, or nothing but one
    assert unchanged.any()
    assert torch.equal(execute(moved, images)[unchanged], execute(exact, images)[unchanged])
