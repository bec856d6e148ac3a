"""timm's policies, batched: each operation on photographs, and every drawn parameter, against timm's own."""

import collections
import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import auto_augment, create_transform
from timm.data.auto_augment import AugmentOp
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import RandomResizedCropAndInterpolation

import smartaug
from smartaug import draws
from smartaug.augment.backends import execute
from smartaug.augment.plan import Warp
from smartaug.lift.timm import from_string
from smartaug.lift.timm.ops import COVERED, TimmRandAugment
from tests.lifting import (
    DRAWS,
    alike,
    alike_boxes,
    alike_kinds,
    alike_signs,
    apart,
    as_batch,
    as_often,
    lifted_batch,
    pictures,
)

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


KEYS = draws.key(0, 0, torch.arange(DRAWS))


def recorded(transform, image=None):
    """What a timm policy does to `DRAWS` samples, noted instead of done: lists of (operation, argument)."""
    rows = []
    ops = transform.ops if hasattr(transform, "ops") else [op for policy in transform.policy for op in policy]
    for op in ops:
        op.aug_fn = lambda given, *argument, _name=op.name, **settings: rows[-1].append((_name, *argument)) or given
    random.seed(1)
    np.random.seed(1)
    for _ in range(DRAWS):
        rows.append([])
        transform(image)
    return rows


def lifted_rows(trace):
    """The same of a lifted policy's draws."""
    every = zip(trace.ops.tolist(), trace.magnitudes.tolist(), strict=True)
    named = ([(trace.names[op], value) for op, value in zip(*row, strict=True)] for row in every)
    return [[done for done in row if done[0] != "Identity"] for row in named]


def alike_rows(ours, theirs):
    """How many operations, which, in which neighbourhood, and each operation's argument."""
    alike([len(row) for row in ours], [len(row) for row in theirs])
    for length in (1, 2):
        alike_kinds(*([tuple(done[0] for done in row[:length]) for row in side] for side in (ours, theirs)))
    mine, given = (collections.defaultdict(list), collections.defaultdict(list))
    for found, side in ((mine, ours), (given, theirs)):
        for row in side:
            for name, *argument in row:
                found[name] += argument
    for name in given:
        if given[name]:
            alike(mine[name], given[name], least=DRAWS // 400)
    alike_signs(mine, given, GEOMETRIC)


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
    lifted = smartaug.lift(config)
    assert [step.where for step in lifted.steps] == ["device"]
    trace = lifted.augment.plan((DRAWS, 3, 224, 224), index=torch.arange(DRAWS), seed=0).trace
    alike_rows(lifted_rows(trace), recorded(from_string(config)))


def test_interpolation_is_drawn_as_timm_does():
    op = AugmentOp("Rotate", prob=1.0, hparams=HPARAMS)
    plan = TimmRandAugment([op], 1, None).plan((DRAWS, 3, 32, 32), index=torch.arange(DRAWS), seed=0)
    counts = {part.interpolation: int(part.active.sum()) for part in plan.segments if isinstance(part, Warp)}
    random.seed(0)
    theirs = [auto_augment._interpolation(dict(op.kwargs)) for _ in range(DRAWS)]
    assert set(theirs) == {Image.BILINEAR, Image.BICUBIC}
    assert counts["bilinear"] + counts["bicubic"] == DRAWS
    as_often(counts["bicubic"], theirs.count(Image.BICUBIC), 0.5)


def test_three_augment_stays_and_says_why():
    lifted = smartaug.lift("3a")
    assert lifted.augment is None
    assert "GaussianBlur" in lifted.reason


@pytest.mark.parametrize("config", ["augmix-m5-w3", "augmix-m4-w2-d2-a0.6-mstd1"])
def test_augmix_draws_as_timm_does(config, monkeypatch):
    transform = from_string(config)
    weights, mix = [], transform._apply_basic

    def noted(image, shares, blend):
        weights.append([1 - blend, *(blend * shares)])
        return mix(image, shares, blend)

    monkeypatch.setattr(transform, "_apply_basic", noted)
    theirs = recorded(transform, Image.new("RGB", (1, 1)))
    plan = smartaug.lift(config).augment.plan((DRAWS, 3, 32, 32), index=torch.arange(DRAWS), seed=0)
    for place, column in enumerate(zip(*weights, strict=True)):
        alike(plan.segments[0].weights[:, place], column)
    alike_rows(lifted_rows(plan.trace), theirs)


class Erased:
    """An image that notes what is written to it."""

    dtype = torch.float32

    def __init__(self, size):
        self.shape, self.boxes, self.values = (3, *size), [], []

    def size(self):
        return self.shape

    def __setitem__(self, place, value):
        _, rows, columns = place
        self.boxes.append((rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start))
        self.values.append(value)


def erased(transform, size):
    """What timm's RandomErasing writes to `DRAWS` images."""
    random.seed(0)
    torch.manual_seed(0)
    return [transform(Erased(size)) for _ in range(DRAWS)]


@pytest.mark.parametrize(("mode", "least", "most"), [("const", 1, 1), ("const", 1, 3), ("rand", 2, 2), ("pixel", 1, 2)])
def test_random_erasing(mode, least, most):
    """How many rectangles, where, and how large; the number is drawn once for all of a sample."""
    size = (240, 160)
    transform = RandomErasing(0.4, mode=mode, min_count=least, max_count=most, device="cpu")
    stage = smartaug.lift([nothing_normalised(), transform]).augment
    (made,) = [part for part in stage if not isinstance(part, smartaug.Normalize)]
    boxes = getattr(made, "boxes", made).sample((DRAWS, 3, *size), KEYS).segments[0].boxes
    theirs = [image.boxes for image in erased(transform, size)]
    there = boxes[..., 2] > 0
    as_often(there.any(1).sum(), sum(map(bool, theirs)), 0.4)
    alike(there.sum(1), [len(rows) for rows in theirs])
    alike_boxes(boxes[there].T, list(zip(*(box for rows in theirs for box in rows), strict=True)), least=0.39 * DRAWS)


@pytest.mark.parametrize("mode", ["const", "rand", "pixel"])
def test_random_erasings_values(mode):
    """The first value written, and whether the values of a rectangle are alike."""
    size = (5, 4)
    transform = RandomErasing(0.6, 0.3, mode=mode, device="cpu")
    images = torch.full((DRAWS, 3, *size), 9.0)
    found = smartaug.lift([nothing_normalised(), transform]).augment(images, index=torch.arange(DRAWS), seed=0)
    changed = (found != 9.0).flatten(1)
    rows = changed.any(1)
    first = found.flatten(1).gather(1, changed.long().argmax(1)[:, None])[rows, 0]
    theirs = [image.values[0] for image in erased(transform, size) if image.boxes]
    as_often(rows.sum(), len(theirs), 0.6)
    alike(first, [float(value.flatten()[0]) for value in theirs], least=DRAWS // 2)
    colours = max(len(image[0].unique()) for image in found)
    assert (colours > 2) == (mode == "pixel")


@pytest.mark.parametrize("scale", [(0.2, 0.8), (0.5, 1.0)])
def test_resized_crops(scale):
    """The second often does not fit, and is then cut from the middle."""
    transform = RandomResizedCropAndInterpolation((700, 600), scale, (0.5, 1.6), interpolation="bilinear")
    lifted = smartaug.lift(transform, size=(640, 480))
    bounds = lifted.augment.plan((DRAWS, 3, 640, 480), index=torch.arange(DRAWS), seed=0).segments[0].bounds
    image = Image.new("RGB", (480, 640))
    random.seed(0)
    params = [transform.get_params(image, transform.scale, transform.ratio) for _ in range(DRAWS)]
    ours = (bounds[:, 2], bounds[:, 0], bounds[:, 3] - bounds[:, 2] + 1, bounds[:, 1] - bounds[:, 0] + 1)
    alike_boxes(ours, list(zip(*params, strict=True)))


def nothing_normalised():
    from torchvision.transforms import Normalize

    return Normalize(0.0, 1.0)


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
    assert "bicubic" in {mode for group in lifted.augment.augmentations[1].ops.modes for mode in group}


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
    picked = stage.choices(KEYS)
    assert (picked[:, 0] != picked[:, 1]).all()
    np.random.seed(0)
    theirs = [tuple(np.random.choice(15, 2, replace=False, p=transform.choice_weights)) for _ in range(DRAWS)]
    alike_kinds([tuple(row) for row in picked.tolist()], theirs)
