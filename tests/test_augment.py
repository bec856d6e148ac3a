"""The first plan-based augmentations, one by one and composed."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torchvision.transforms import v2

import smartaug
from smartaug import draws
from smartaug.augment.ops.rectangles import TRIES, rectangles
from smartaug.augment.plan import Erase as EraseSegment
from smartaug.augment.plan import Warp

KINDS = {
    "Flip": lambda: smartaug.Flip(),
    "Flip vertical": lambda: smartaug.Flip(vertical=True),
    "PadCrop": lambda: smartaug.PadCrop(2, fill=7),
    "PadCrop reflect": lambda: smartaug.PadCrop(2, mode="reflect"),
    "Erase": lambda: smartaug.Erase(0.7, count=2, fill=3),
    "MixUp": lambda: smartaug.MixUp(0.4),
    "CutMix": lambda: smartaug.CutMix(),
    "Mosaic": lambda: smartaug.Mosaic(p=0.7),
    "Normalize": lambda: smartaug.Normalize(0.5, 0.25),
    "Compose": lambda: smartaug.Compose([smartaug.PadCrop(1), smartaug.Flip(), smartaug.CutMix(p=0.5)]),
}
kinds = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


def photos(shape, dtype=torch.uint8):
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    return images if dtype == torch.uint8 else images.to(dtype) / 255


@kinds
@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(0, 5), st.sampled_from([1, 3]), st.integers(3, 9), st.integers(3, 9)),
    dtype=st.sampled_from([torch.uint8, torch.float32, torch.float64, torch.bfloat16]),
    last=st.booleans(),
    seed=st.integers(0, 99),
)
def test_every_augmentation(make, shape, dtype, last, seed):
    """Dtype, layout, inputs untouched, replay, and independence of the rest of the batch."""
    augmentation, images = make(), photos(shape, dtype)
    if last:
        images = images.contiguous(memory_format=torch.channels_last)
    before, index = images.clone(), torch.arange(shape[0]) + 10
    plan = augmentation.plan(images.shape, index=index, epoch=2, seed=seed)
    result = augmentation.apply(images, plan)
    assert torch.equal(images, before)
    assert result.shape == plan.output_shape
    assert result.dtype == (torch.float32 if isinstance(augmentation, smartaug.Normalize) else dtype)
    if last and 0 not in shape and shape[1] > 1:
        assert result.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(result, augmentation.apply(images, plan))
    assert torch.equal(result, augmentation(images, index=index, epoch=2, seed=seed))
    assert plan.trace.ops.shape == plan.trace.magnitudes.shape
    assert len(plan.trace.ops) == shape[0]
    if shape[0] > 1 and not plan.mixes:
        alone = augmentation(images[1:2], index=index[1:2], epoch=2, seed=seed)
        assert torch.equal(alone, result[1:2])


@kinds
def test_calls_without_an_index_differ_and_draw_nothing_global(make):
    augmentation, images = make(), photos((8, 3, 16, 16))
    before = torch.get_rng_state()
    first, second = augmentation(images), augmentation(images)
    assert torch.equal(torch.get_rng_state(), before)
    if not isinstance(augmentation, smartaug.Normalize):
        assert not torch.equal(first, second)


@pytest.mark.parametrize("vertical", [False, True])
def test_flip_mirrors_with_its_probability(vertical):
    images = photos((2000, 1, 2, 2))
    images[:, 0] = torch.tensor([[0, 1], [2, 3]], dtype=torch.uint8)
    result = smartaug.Flip(0.3, vertical=vertical)(images, seed=0)
    mirrored = images.flip(2 if vertical else 3)
    changed = (result == mirrored).flatten(1).all(1)
    assert bool(((result == images).flatten(1).all(1) ^ changed).all())
    assert abs(changed.float().mean() - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 2000)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
@pytest.mark.parametrize("size", [None, (5, 9), 3])
def test_pad_crop_equals_torchvisions_pad_and_crop(mode, size):
    images = photos((32, 3, 7, 8))
    crop = smartaug.PadCrop(4, size=size, mode=mode, fill=9)
    plan = crop.plan(images.shape, seed=1)
    result = crop.apply(images, plan)
    (warp,) = plan.segments
    height, width = warp.size
    padded = v2.functional.pad(images, [4] * 4, fill=9, padding_mode=mode)
    for row in range(32):
        left, top = (warp.matrix[row, :, 2] + 4).long().tolist()
        assert torch.equal(result[row], padded[row, :, top : top + height, left : left + width])


def test_pad_crop_places_are_uniform():
    plan = smartaug.PadCrop(2).plan((20_000, 1, 8, 8), seed=3)
    places = (plan.segments[0].matrix[:, :, 2] + 2).long()
    counts = torch.bincount(places[:, 0] * 5 + places[:, 1], minlength=25)
    expected = 20_000 / 25
    assert float(((counts - expected) ** 2 / expected).sum()) < 52.6  # chi-square, 24 degrees of freedom, p = 0.0006


def test_erase_draws_rectangles_as_torchvision_does():
    ours = smartaug.Erase(0.6, scale=(0.05, 0.3), ratio=(0.4, 2.5))
    plan = ours.plan((6000, 1, 32, 24), seed=2)
    (segment,) = plan.segments
    assert isinstance(segment, EraseSegment)
    boxes = segment.boxes[:, 0]
    erased = boxes[:, 2] > 0
    theirs = v2.RandomErasing(1.0, scale=(0.05, 0.3), ratio=(0.4, 2.5))
    image = torch.zeros(1, 32, 24)
    drawn = torch.tensor([[theirs.make_params([image])[k] for k in ("h", "w")] for _ in range(6000)])
    assert abs(erased.float().mean() - 0.6) < 0.03
    for mine, other in zip(boxes[erased][:, 2:].T, drawn.T, strict=True):
        values = torch.arange(33)
        cdf = [(sample[:, None] <= values).float().mean(0) for sample in (mine, other)]
        assert float((cdf[0] - cdf[1]).abs().max()) < 1.95 * math.sqrt(1 / len(mine) + 1 / 6000)  # KS, p = 0.001
    inside = (
        (boxes[:, :2] >= 0).all()
        and (boxes[:, 0] + boxes[:, 2] <= 32).all()
        and (boxes[:, 1] + boxes[:, 3] <= 24).all()
    )
    assert bool(inside)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("least", [0, 1])
@pytest.mark.parametrize("size", [(20, 30), (1, 3), (0, 5)])
def test_rectangles_are_the_first_that_fit_of_ten_tries(count, least, size):
    key, (height, width) = draws.key(2, 1, torch.arange(300)), size
    scale, ratio = (0.3, 1.0), (0.2, 5.0)  # about every second try does not fit
    boxes, found = rectangles(key, size, scale, ratio, count, least=least)
    drawn = draws.uniform(key, (TRIES, count, 4), dtype=torch.float64)
    for row in range(300):
        for n in range(count):
            expected = None
            for first, second, third, fourth in drawn[row, :, n].tolist():
                area = height * width * (scale[0] + first * (scale[1] - scale[0]))
                aspect = math.exp(math.log(ratio[0]) + second * (math.log(ratio[1]) - math.log(ratio[0])))
                tall, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
                if least <= tall <= height and least <= wide <= width:
                    expected = [int(third * (height - tall + 1)), int(fourth * (width - wide + 1)), tall, wide]
                    break
            assert bool(found[row, n]) == (expected is not None)
            assert boxes[row, n].tolist() == (expected or [0, 0, 0, 0])
    assert rectangles(key[:0], size, scale, ratio, count)[0].shape == (0, count, 4)


def test_erase_sets_its_value_and_nothing_else():
    images = photos((16, 3, 12, 10)) // 2
    erase = smartaug.Erase(1.0, fill=(200, 210, 220))
    plan = erase.plan(images.shape, seed=5)
    result = erase.apply(images, plan)
    for row, (top, left, height, width) in enumerate(plan.segments[0].boxes[:, 0].tolist()):
        expected = images[row].clone()
        expected[:, top : top + height, left : left + width] = torch.tensor([200, 210, 220], dtype=torch.uint8)[
            :, None, None
        ]
        assert torch.equal(result[row], expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_normalize_is_torchvisions(dtype):
    images, mean, std = photos((4, 3, 6, 6), dtype), [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    expected = v2.functional.normalize(v2.functional.to_dtype(images, torch.float32, scale=True), mean, std)
    assert torch.allclose(smartaug.Normalize(mean, std)(images), expected, atol=1e-6)
    assert smartaug.Normalize(mean, std, dtype=torch.bfloat16)(images).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", [smartaug.MixUp, smartaug.CutMix])
def test_mixed_images_and_labels_agree(kind):
    """One-hot images: the share of a label in the image is its share in the soft label."""
    size, classes = 12, 6
    label = torch.arange(size) % classes
    images = torch.zeros(size, classes, 16, 16).scatter_(1, label[:, None, None, None].expand(-1, 1, 16, 16), 1.0)
    mixed, target = kind(num_classes=classes, p=0.8)(images, label, seed=3)
    assert torch.allclose(mixed.mean((2, 3)), target.soft, atol=1e-6)
    assert torch.allclose(target.soft.sum(1), torch.ones(size))
    assert torch.equal(target.plain, label)
    assert len({round(float(share), 4) for share in target.soft.max(1).values}) > 4  # each sample has its own share


def test_partners_are_one_cycle():
    plan = smartaug.MixUp().plan((7, 1, 2, 2), seed=1)
    partner = plan.mixes[0].partner
    row, seen = 0, set()
    for _ in range(7):
        seen.add(row)
        row = int(partner[row])
    assert len(seen) == 7


def test_cutmix_share_is_the_area_that_stays_and_uniform():
    images = torch.zeros(4000, 1, 32, 32)
    plan = smartaug.CutMix().plan(images.shape, seed=1)
    (mix,) = plan.mixes
    area = mix.boxes[:, 2] * mix.boxes[:, 3]
    assert torch.allclose(mix.share, 1 - area.float() / 1024)
    theirs = v2.CutMix(num_classes=2)
    torch.manual_seed(0)
    drawn = torch.tensor([theirs.make_params([images[:1]])["lam_adjusted"] for _ in range(4000)])
    grid = torch.linspace(0, 1, 200)
    gap = ((mix.share[:, None] <= grid).float().mean(0) - (drawn[:, None] <= grid).float().mean(0)).abs().max()
    assert float(gap) < 1.95 * math.sqrt(2 / 4000)


def test_mixing_soft_labels_regression_values_and_a_target_again():
    images = photos((4, 3, 8, 8), torch.float32)
    soft = torch.softmax(torch.randn(4, 5), 1)
    mix = smartaug.MixUp()
    plan = mix.plan(images.shape, index=torch.arange(4), seed=0)
    share, partner = plan.mixes[0].share[:, None], plan.mixes[0].partner
    _, target = mix(images, soft, index=torch.arange(4), seed=0)
    assert torch.allclose(target.soft, share * soft + (1 - share) * soft[partner])
    _, value = mix(images, torch.tensor([1.5, 2.0, 3.0, 4.0]), index=torch.arange(4), seed=0)
    assert value.soft.shape == (4, 1)
    _, twice = smartaug.CutMix()(images, target, seed=1)
    assert torch.allclose(twice.soft.sum(1), torch.ones(4))
    with pytest.raises(TypeError, match="float32; leave MixUp and CutMix out"):
        mix(images, torch.zeros(4, 8, 8))


def test_neighbouring_rearrangements_become_one_segment():
    both = smartaug.Compose([smartaug.PadCrop(2, fill=5), smartaug.Flip(0.5), smartaug.Flip(0.5, vertical=True)])
    images = photos((16, 3, 9, 8))
    plan = both.plan(images.shape, index=torch.arange(16), seed=4)
    assert [type(segment) for segment in plan.segments] == [Warp]
    key = smartaug.augment.augmentation.draws.key(4, 0, torch.arange(16))
    step = images
    for position, part in enumerate(both):
        step = part.apply(step, part.sample(step.shape, smartaug.augment.augmentation.draws.fold(key, position)))
    assert torch.equal(both.apply(images, plan), step)


def test_trace_reads_in_order():
    chain = smartaug.Compose(
        [smartaug.Flip(1.0), smartaug.Erase(1.0, scale=(0.25, 0.25), ratio=(1, 1)), smartaug.Flip(0.0)]
    )
    plan = chain.plan((2, 3, 8, 8), seed=0)
    assert plan.trace.names == ("Identity", "HorizontalFlip", "Erase")
    assert plan.trace.ops.tolist() == [[1, 2, 0]] * 2
    assert plan.trace.describe(0) == "HorizontalFlip, Erase 0.25"


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: smartaug.Flip(1.5), ValueError, r"p must be a probability in \[0, 1\], got 1.5"),
        (lambda: smartaug.PadCrop(-1), ValueError, "padding must be a number of pixels"),
        (lambda: smartaug.PadCrop(1, mode="wrap"), ValueError, "mode must be one of constant, edge"),
        (lambda: smartaug.PadCrop(1, fill="x"), TypeError, "fill must be a number"),
        (lambda: smartaug.Erase(scale=(0, 2)), ValueError, "scale must be two area fractions"),
        (lambda: smartaug.Erase(ratio=(0, 2)), ValueError, "ratio must be two aspect ratios"),
        (lambda: smartaug.Erase(count=0), ValueError, "count must be at least 1"),
        (lambda: smartaug.Normalize(0.5, 0), ValueError, "std must be positive"),
        (lambda: smartaug.Normalize([0.5] * 2, [1.0] * 3), ValueError, "mean has 2 channels and std 3"),
        (lambda: smartaug.Normalize(dtype=torch.uint8), TypeError, "dtype must be a floating-point type"),
        (lambda: smartaug.MixUp(0), ValueError, "alpha must be positive"),
        (lambda: smartaug.CutMix(num_classes=0), ValueError, "num_classes must be a positive integer"),
        (lambda: smartaug.MixUp(num_classes=3, regression=True), ValueError, "a regression has no classes"),
        (lambda: smartaug.Compose([abs]), TypeError, "Compose takes smartaug augmentations"),
        (lambda: smartaug.PadCrop(0, size=9)(photos((1, 3, 8, 8))), ValueError, "use a padding of at least 1"),
        (lambda: smartaug.Normalize([0.5] * 3, 1.0)(photos((1, 1, 8, 8))), ValueError, "3 channels, the images have 1"),
        (lambda: smartaug.Flip()([1]), TypeError, r"images must be a torch.Tensor \(B, C, H, W\), got list"),
        (lambda: smartaug.Flip()(photos((3, 8, 8))), ValueError, r"add the batch dimension: images\[None\]"),
        (lambda: smartaug.Flip()(torch.zeros(1, 1, 2, 2, dtype=torch.int16)), TypeError, "images must be uint8"),
        (lambda: smartaug.Flip().plan((1, 2, 3)), ValueError, r"shape must be \(B, C, H, W\)"),
        (lambda: smartaug.Flip().plan((2, 3, 4, 4), index=torch.arange(3)), ValueError, "one dataset index a sample"),
        (
            lambda: smartaug.Flip().apply(photos((1, 3, 4, 4)), smartaug.Flip().plan((2, 3, 4, 4))),
            ValueError,
            "the plan was made for images",
        ),
    ],
)
def test_bad_input_says_what_to_type(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_foreign_modules_keep_layout_and_get_unit_floats():
    import kornia.augmentation

    seen = []

    class Looks(kornia.augmentation.RandomHorizontalFlip):
        def forward(self, images):
            seen.append((images.dtype, float(images.max())))
            return super().forward(images)

    Looks.__module__ = "kornia.augmentation"
    data = [(image, 0) for image in photos((4, 3, 8, 8))]
    loader = smartaug.DataLoader(
        data, batch_size=4, augment=[smartaug.Flip(), Looks(p=0.5), smartaug.Normalize(0.5, 0.5)]
    )
    images, _ = next(iter(loader))
    assert seen[0][0] == torch.float32
    assert seen[0][1] <= 1.0
    assert images.dtype == torch.float32
    assert float(images.min()) >= -1.0


def test_torchvision_transforms_run_as_stages():
    data = [(image, 0) for image in photos((4, 3, 8, 8))]
    loader = smartaug.DataLoader(data, batch_size=4, augment=[v2.RandomInvert(1.0), smartaug.Flip(0.0)])
    images, _ = next(iter(loader))
    assert torch.equal(images, 255 - torch.stack([image for image, _ in data]))
    assert "RandomInvert" in loader.explain()
