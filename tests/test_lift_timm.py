"""timm's policies, batched: each operation on photographs, and every drawn parameter, against timm's own."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import auto_augment, create_transform
from timm.data.auto_augment import AugmentOp
from timm.data.random_erasing import RandomErasing

import smartaug
from smartaug import draws
from smartaug.augment.backends import execute
from smartaug.augment.plan import Warp
from smartaug.lift.timm_ops import COVERED, TimmRandAugment
from tests.lifting import apart, as_batch, chi2, ks, lifted_batch, pictures

DRAWS = 20000
HPARAMS = {"translate_const": 20, "img_mean": (124, 116, 104)}
GEOMETRIC = [name for name in COVERED if name.startswith(("Rotate", "Shear", "Translate"))]


def inside(matrix, size, margin=2.0):
    """Pixels (B, 1, H, W) that read at least ``margin`` inside the picture, or as far outside."""
    x, y = torch.arange(size[1], dtype=torch.float64), torch.arange(size[0], dtype=torch.float64)[:, None]
    m = matrix[:, :, :, None, None]
    at = m[:, :, 0] * x + m[:, :, 1] * y + m[:, :, 2]
    high = torch.tensor([size[1] - 1.0, size[0] - 1.0])[None, :, None, None]
    within = ((at >= margin) & (at <= high - margin)).all(1)
    beyond = ((at <= -margin) | (at >= high + margin)).any(1)
    return (within | beyond)[:, None]


@pytest.mark.parametrize("resample", [Image.NEAREST, Image.BILINEAR, Image.BICUBIC])
@pytest.mark.parametrize("name", GEOMETRIC)
def test_geometry_equals_timms(name, resample):
    """Interpolated within a grey level on 99.5 % of the pixels two or more from the border, where PIL repeats it."""
    op = AugmentOp(name, prob=1.0, magnitude=7, hparams={**HPARAMS, "interpolation": resample})
    images = pictures("pil")
    plan = TimmRandAugment([op], 1, None).plan((6, 3, 64, 48), index=torch.arange(6), seed=0)
    assert len(set(plan.trace.magnitudes[:, 0].tolist())) == 2  # both signs
    found = execute(plan, as_batch(images))
    expected = as_batch(
        op.aug_fn(image, value, **op.kwargs)
        for image, value in zip(images, plan.trace.magnitudes[:, 0].double().tolist(), strict=True)
    )
    (warp,) = (segment for segment in plan.segments if isinstance(segment, Warp))
    close, mean, _ = apart(found, expected, inside(warp.matrix, (64, 48)))
    assert close >= 0.995
    assert mean <= 0.6  # PIL cuts the fraction off


@pytest.mark.parametrize("level", [0, 2.3, 9, 10])
@pytest.mark.parametrize("name", [name for name in COVERED if name not in GEOMETRIC])
def test_tone_equals_timms(name, level):
    """Within a grey level on 99.5 % of the values. PIL rounds the grey that contrast and colour fade to."""
    op = AugmentOp(name, prob=1.0, magnitude=level, hparams=HPARAMS)
    images = pictures("pil")
    plan = TimmRandAugment([op], 1, None).plan((6, 3, 64, 48), index=torch.arange(6), seed=0)
    found = execute(plan, as_batch(images))
    arguments = plan.trace.magnitudes[:, 0].tolist()
    if name.startswith("Posterize") and 0.0 in arguments:
        assert not found.any()  # no bits are kept; PIL raises there, so timm cannot run it
        return
    whole = name.startswith(("Posterize", "Solarize"))
    expected = []
    for image, value in zip(images, arguments, strict=True):
        value = 1.0 - value if name == "Desaturate" else value  # the trace has the factor of colour that is left
        given = () if op.level_fn is None else (int(value) if whole else value,)
        expected.append(op.aug_fn(image, *given, **op.kwargs))
    close, mean, _ = apart(found, as_batch(expected))
    assert close >= 0.995
    assert mean <= (
        0.25 if name not in ("Contrast", "ContrastIncreasing", "Color", "ColorIncreasing", "Desaturate") else 0.6
    )


def recorded(transform, count):
    """What a timm policy does to ``count`` samples: (operation, argument) for each operation that happens."""
    done = []
    ops = transform.ops if hasattr(transform, "ops") else [op for policy in transform.policy for op in policy]
    for op in ops:
        op.aug_fn = lambda image, *given, _name=op.name, **settings: (
            done.append((_name, *given, settings["resample"])) or image
        )
    random.seed(1)
    np.random.seed(1)
    for _ in range(count):
        transform(None)
    return done


@pytest.mark.parametrize(
    "config",
    [
        "rand-m9-mstd0.5-inc1",
        "rand-m6-n3-p0.7",
        "rand-m9-mstd101-inc1",
        "rand-m15-mmax20-mstd1-inc1-tweights",
        "original-mstd0.5",
        "v0",
    ],
)
def test_policy_draws_as_timm_does(config):
    count = DRAWS // 4
    lifted = smartaug.lift(config)
    assert [step.where for step in lifted.steps] == ["device"]
    from smartaug.lift.timm import from_string

    theirs = recorded(from_string(config), count)
    trace = lifted.augment.plan((count, 3, 224, 224), index=torch.arange(count), seed=0).trace
    names = [trace.names[op] for op in trace.ops.flatten().tolist()]
    ours = [(n, v) for n, v in zip(names, trace.magnitudes.flatten().tolist(), strict=True) if n != "Identity"]
    assert chi2([name for name, _ in ours], [name for name, *_ in theirs]) < 5
    assert abs(len(ours) - len(theirs)) < 5 * (2 * len(theirs)) ** 0.5
    for name in {name for name, *_ in theirs}:
        mine = [value for other, value in ours if other == name]
        given = [values for other, *values in theirs if other == name]
        if len(given[0]) == 2:
            assert ks(np.round(mine, 5), np.round([values[0] for values in given], 5)) <= 1, name


def test_interpolation_is_drawn_as_timm_does():
    lifted = smartaug.lift("rand-m9-p1.0-inc1")
    plan = lifted.augment.plan((DRAWS, 3, 32, 32), index=torch.arange(DRAWS), seed=0)
    counts = {}
    for segment in plan.segments:
        if isinstance(segment, Warp):
            counts[segment.interpolation] = counts.get(segment.interpolation, 0) + int(segment.active.sum())
    theirs = [done[-1] for done in recorded(auto_augment.rand_augment_transform("rand-m9-p1.0-inc1"), 10)]
    assert set(theirs) == {(Image.BILINEAR, Image.BICUBIC)}
    assert set(counts) == {"bilinear", "bicubic"}
    assert abs(counts["bilinear"] / sum(counts.values()) - 0.5) < 0.02


def test_three_augment_stays_and_says_why():
    lifted = smartaug.lift("3a")
    assert lifted.augment is None
    assert "GaussianBlur" in lifted.reason


def test_augmix_weights_and_depths():
    count = DRAWS // 4
    transform = auto_augment.augment_and_mix_transform("augmix-m5-w3")
    plan = smartaug.lift(transform).augment.plan((count, 3, 32, 32), index=torch.arange(count), seed=0)
    (mixed,) = plan.segments
    np.random.seed(0)
    shares = np.random.dirichlet([1.0] * 3, count)
    blend = np.random.beta(1.0, 1.0, count)
    assert ks(mixed.weights[:, 0], 1 - blend) <= 1
    for k in range(3):
        assert ks(mixed.weights[:, k + 1], blend * shares[:, k]) <= 1
    assert torch.allclose(mixed.weights.sum(1), torch.ones(count), atol=1e-5)
    happened = plan.trace.ops.view(count, 3, 3) != plan.trace.names.index("Identity")
    depths = happened.sum(2).flatten().bincount(minlength=4)
    assert depths[0] == 0
    assert ((depths[1:] / depths.sum() - 1 / 3).abs() < 0.01).all()


@pytest.mark.parametrize(("mode", "count"), [("const", 1), ("const", 3), ("rand", 2), ("pixel", 1)])
def test_random_erasing(mode, count):
    """Areas, aspects, places and numbers of the rectangles as timm's, by the share erased and its bounding box."""
    theirs = RandomErasing(0.4, mode=mode, max_count=count, device="cpu")
    random.seed(0)
    torch.manual_seed(0)
    samples = 1500
    images = torch.full((samples, 3, 24, 16), 9.0)
    expected = torch.stack([theirs(image.clone()) for image in images])
    lifted = smartaug.lift([nothing_normalised(), theirs])
    found = lifted.augment(images, index=torch.arange(samples), seed=0)
    for a, b in zip(measured(found), measured(expected), strict=True):
        assert ks(a, b) <= 1
    if mode == "const":
        assert set(found.unique().tolist()) == {0.0, 9.0}
    else:
        noise = [images[images != 9.0].flatten() for images in (found, expected)]
        if mode == "pixel":
            assert ks(noise[0][::10], noise[1][::10]) <= 1
        else:  # one colour a rectangle and channel
            colours = [len(image[0].unique()) for image in found]
            assert max(colours) == 1 + count


def nothing_normalised():
    from torchvision.transforms import Normalize

    return Normalize(0.0, 1.0)


def measured(images):
    """Share erased, and the bounding box of what is erased, for each image."""
    erased = (images != 9.0).any(1)
    rows, columns = erased.any(2), erased.any(1)
    share = erased.double().mean((1, 2))
    hit = share > 0
    place = [part.double().argmax(1)[hit] for part in (rows, columns)]
    return share, *place, rows.sum(1)[hit], columns.sum(1)[hit]


def test_training_transform_is_lifted_behind_its_crop():
    transform = create_transform(
        32,
        is_training=True,
        auto_augment="rand-m9-mstd0.5-inc1",
        interpolation="bicubic",
        re_prob=0.25,
        re_mode="pixel",
    )
    lifted = smartaug.lift(transform)
    assert [(step.name, step.where) for step in lifted.steps] == [
        ("RandomResizedCropAndInterpolation", "worker"),
        ("RandomHorizontalFlip", "device"),
        ("RandAugment", "device"),
        ("MaybeToTensor", "folded"),
        ("Normalize", "folded"),
        ("RandomErasing", "device"),
    ]
    images = pictures("pil")
    head = lifted.head(images[0])
    assert head.dtype == torch.uint8
    assert head.shape == (3, 32, 32)
    found = lifted_batch(lifted, images, index=torch.arange(6), epoch=1, seed=3)
    assert found.dtype == torch.float32
    assert torch.isfinite(found).all()
    assert "bicubic" in {mode for group in lifted.augment.stages[0].augmentations[1].ops.modes for mode in group}


def test_evaluation_transform_equals_timms():
    transform = create_transform(32, is_training=False)
    images = pictures("pil")
    expected = torch.stack([transform(image) for image in images])
    assert torch.allclose(lifted_batch(smartaug.lift(transform), images), expected, atol=1e-5)


def test_rows_do_not_depend_on_the_batch():
    lifted = smartaug.lift("rand-m9-mstd0.5-inc1")
    images = as_batch(pictures("tensor"))
    whole = lifted.augment(images, index=torch.arange(6), epoch=2, seed=5)
    part = lifted.augment(images[3:5], index=torch.arange(3, 5), epoch=2, seed=5)
    assert torch.equal(whole[3:5], part)


def test_unknown_string_says_what_to_write():
    with pytest.raises(ValueError, match="rand-m9"):
        smartaug.lift("best")


def test_weighted_choice_draws_without_putting_back():
    transform = auto_augment.rand_augment_transform("rand-m9-n2-tweights")
    stage = smartaug.lift(transform).augment.augmentations[0]
    picked = stage.choices(draws.key(0, 0, torch.arange(DRAWS)))
    assert (picked[:, 0] != picked[:, 1]).all()
    np.random.seed(0)
    theirs = [tuple(np.random.choice(15, 2, replace=False, p=transform.choice_weights)) for _ in range(5000)]
    assert chi2([p for p, _ in theirs], picked[:5000, 0].tolist()) < 5
    assert chi2([p for _, p in theirs], picked[:5000, 1].tolist()) < 5
