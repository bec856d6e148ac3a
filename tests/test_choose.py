"""Combinators, pads and cuts, tables and cubic warps against slow, obvious twins."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional

import smartaug
import smartaug.augment as A
from smartaug import draws
from smartaug.augment.backends import execute
from smartaug.augment.ops.combinators import gated, gated_plan
from smartaug.augment.plan import Lookup, Plan, Store, Trace, Warp
from tests.lifting import chi2, photos

MANY = 20000


def noise(shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def everything():
    """One augmentation for every kind of segment."""
    return [
        A.Flip(),
        A.Affine(30, interpolation="bilinear"),
        A.RandomResizedCrop((12, 10)),
        A.ColorJitter(0.5, 0.5),
        A.Sharpness(2.0),
        A.Erase(1.0),
        A.AugMix(),
        A.MixUp(),
        A.CutMix(),
        A.RandAugment(),
    ]


@pytest.mark.parametrize("stage", everything(), ids=lambda stage: type(stage).__name__)
def test_rows_left_out_stay_and_the_others_do_as_before(stage):
    images = noise((8, 3, 12, 10))
    plan = stage.plan(images.shape, index=torch.arange(8), seed=0)
    rows = torch.tensor([True, False, True, True, False, False, True, False])
    some = gated_plan(plan, rows)
    found, whole = execute(some, images), execute(plan, images)
    assert torch.equal(found, torch.where(rows[:, None, None, None], whole, images))
    for row in range(8):
        assert some.trace.describe(row) == (plan.trace.describe(row) if rows[row] else "Identity")


def test_a_table_is_gated_too():
    images = noise((4, 3, 5, 5))
    rows = torch.tensor([True, False, True, True])
    table = Lookup(255.0 - torch.arange(256.0).expand(4, 256), torch.tensor([True, True, False, True]))
    found = execute(Plan(images.shape, (gated(table, rows, 5, 5),), Trace.empty(4)), images)
    expected = images.clone()
    expected[[0, 3]] = 255 - images[[0, 3]]
    assert torch.equal(found, expected)


def test_what_cannot_be_gated_says_so():
    rows = torch.tensor([True, False])
    with pytest.raises(ValueError, match="must keep the size, 9×9"):
        gated(Warp(torch.zeros(2, 2, 3), (4, 4)), rows, 9, 9)
    with pytest.raises(ValueError, match="put it last"):
        gated(Store(), rows, 9, 9)


def one_by_one(stage, images, key):
    """The slow twin: each sample by itself, its stages picked and applied one after the other."""
    out = []
    for index in range(len(images)):
        now = images[index : index + 1]
        own = key[index : index + 1]
        if isinstance(stage, A.RandomApply):
            happens = bool(draws.uniform(draws.fold(own, 0)) < stage.p)
            picks = range(len(stage)) if happens else ()
        else:
            picks = [n for n in stage.picks(own)[0].tolist() if n >= 0]
        for place, number in enumerate(picks):
            inner = draws.fold(own, place) if getattr(stage, "replace", False) else own
            part = stage.augmentations[number]
            now = part.apply(now, part.sample(now.shape, draws.fold(inner, number + 1)))
        out.append(now)
    return torch.cat(out) if out else images


def combinators():
    inside = [A.Flip(1.0), A.Solarize(100, 0.7), A.Posterize(3), A.Affine(40)]
    return [
        A.RandomApply(inside, 0.6),
        A.OneOf(inside, weights=[1, 0, 2.5, 1]),
        A.OneOf(inside, p=0.4),
        A.SomeOf(inside, (0, 3)),
        A.SomeOf(inside, 2, ordered=True),
        A.SomeOf(inside, (1, 6), replace=True, weights=[1, 1, 3, 0]),
        A.RandomOrder(inside),
        A.RandomOrder(inside, p=0.5),
        A.OneOf([A.RandomApply(inside[:2]), A.RandomOrder(inside[2:])]),
    ]


@pytest.mark.parametrize("number", range(9))
@pytest.mark.parametrize("batch", [0, 1, 17])
def test_combinators_are_the_stages_one_after_the_other(number, batch):
    stage = combinators()[number]
    images = noise((batch, 3, 9, 7))
    key = draws.key(3, 1, torch.arange(batch))
    found = stage.apply(images, stage.sample(images.shape, key))
    assert torch.equal(found, one_by_one(stage, images, key))


def test_how_often_each_is_picked():
    inside = [A.Flip(), A.Invert(), A.Equalize(), A.Posterize(4)]
    key = draws.key(0, 0, torch.arange(MANY))
    one = A.OneOf(inside, weights=[1, 2, 3, 4], p=0.5).picks(key)[:, 0]
    shares = (one + 1).bincount(minlength=5) / MANY
    assert torch.allclose(shares, torch.tensor([0.5, 0.05, 0.1, 0.15, 0.2]), atol=0.02)

    rng = np.random.default_rng(0)
    weights = np.array([1, 2, 3, 4]) / 10
    for replace in (False, True):
        some = A.SomeOf(inside, 2, weights=[1, 2, 3, 4], replace=replace).picks(key)
        theirs = [tuple(rng.choice(4, 2, replace=replace, p=weights)) for _ in range(MANY)]
        assert chi2([tuple(row) for row in some.tolist()], theirs) <= 1

    orders = A.RandomOrder(inside[:3]).picks(key)
    assert (orders.sort(1).values == torch.arange(3)).all()
    counts = torch.stack([(orders * torch.tensor([9, 3, 1])).sum(1)]).flatten().unique(return_counts=True)[1]
    assert len(counts) == 6
    assert ((counts / MANY - 1 / 6).abs() < 0.02).all()

    number = (A.SomeOf(inside, (0, 3)).picks(key) >= 0).sum(1).bincount() / MANY
    assert torch.allclose(number, torch.full((4,), 0.25), atol=0.02)
    sorted_picks = A.SomeOf(inside, 3, ordered=True).picks(key)
    assert (sorted_picks.diff(dim=1) > 0).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: A.RandomApply([print]), "takes smartaug augmentations"),
        (lambda: A.RandomApply([A.Flip()], p=1.5), "probability"),
        (lambda: A.SomeOf([A.Flip()], 2), "count must be"),
        (lambda: A.SomeOf([A.Flip()], (2, 1), replace=True), "count must be"),
        (lambda: A.OneOf([A.Flip()], weights=[1, 2]), "weights must be"),
        (lambda: A.OneOf([A.Flip()], weights=[-1]), "weights must be"),
        (lambda: A.SomeOf([A.Flip(), A.Invert()], 2, weights=[1, 0]), "fewer have a weight"),
        (lambda: A.Pad((1, 2)), "left, top, right, bottom"),
        (lambda: A.Pad((1, 1, 1, 1), mode="wrap"), "mode must be"),
        (lambda: A.Pad((-3, 0, -3, 0))(noise((1, 3, 6, 6))), "leaves nothing"),
        (lambda: A.Crop((5, 0)), "size must be"),
        (lambda: A.Crop((5, 5), place="corner"), "place must be"),
        (lambda: A.Crop((7, 5))(noise((1, 3, 6, 6))), "pad before it"),
        (lambda: A.Resize((0, 5)), "size must be"),
        (lambda: A.Affine(shear=(0, 1, 0, 90)), "shear must lie"),
    ],
)
def test_errors_say_what_to_write(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_num_classes_of_a_mix_inside_is_known():
    _, target = A.OneOf([A.MixUp(num_classes=7), A.CutMix(num_classes=7)])(noise((6, 3, 8, 8)), torch.arange(6))
    assert target.soft.shape == (6, 7)


# --- whole pixels ----------------------------------------------------------------------------------------------------

sides = st.integers(0, 4)


@given(
    st.integers(0, 3),
    st.integers(1, 6),
    st.integers(1, 6),
    st.tuples(sides, sides, sides, sides),
    st.sampled_from(["constant", "edge", "reflect", "symmetric"]),
)
def test_pad_is_numpys(batch, height, width, padding, mode):
    left, top, right, bottom = padding
    images = noise((batch, 3, height, width))
    if mode == "reflect" and (max(left, right) >= width or max(top, bottom) >= height):
        return  # numpy reflects again and again, torchvision refuses
    if mode == "symmetric" and (max(left, right) > width or max(top, bottom) > height):
        return
    settings = {"constant_values": 7} if mode == "constant" else {}
    expected = np.pad(images.numpy(), ((0, 0), (0, 0), (top, bottom), (left, right)), mode, **settings)
    assert torch.equal(A.Pad(padding, fill=7, mode=mode)(images), torch.from_numpy(expected))


@given(st.integers(0, 4), st.integers(1, 7), st.integers(1, 7), st.data())
def test_crop_is_a_slice(batch, height, width, data):
    size = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    images = noise((batch, 3, height, width))
    crop = A.Crop(size)
    plan = crop.plan(images.shape, index=torch.arange(batch), seed=data.draw(st.integers(0, 99)))
    places = plan.segments[0].matrix[:, :, 2].long()
    expected = [
        image[:, top : top + size[0], left : left + size[1]]
        for image, (left, top) in zip(images, places.tolist(), strict=True)
    ]
    found = crop.apply(images, plan)
    assert torch.equal(found, torch.stack(expected) if batch else images.new_empty(0, 3, *size))


def test_pad_and_crop_are_one_warp():
    plan = A.Compose([A.Pad((2, 2, 2, 2)), A.Crop((8, 8)), A.Flip()]).plan((4, 3, 8, 8), index=torch.arange(4))
    assert len(plan.segments) == 1


# --- tables, cubic warps, sizes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("active", [None, [True, False, True]])
def test_a_table_is_looked_up(active):
    generator = torch.Generator().manual_seed(0)
    table = torch.rand(3, 256, generator=generator) * 300 - 20
    images = noise((3, 2, 6, 5))
    chosen = None if active is None else torch.tensor(active)
    plan = Plan(images.shape, (Lookup(table, chosen),), Trace.empty(3))
    found = execute(plan, images)
    for row in range(3):
        expected = images[row].numpy()
        if active is None or active[row]:
            expected = np.clip(np.round(table[row].clamp(0, 255).numpy()), 0, 255).astype(np.uint8)[expected]
        assert np.array_equal(found[row].numpy(), expected)
    on_floats = execute(plan, images / 255.0) * 255.0
    assert float((on_floats - found).abs().max()) <= 0.51
    with pytest.raises(ValueError, match=r"floats in \[0, 1\]"):
        execute(plan, images.float())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_cubic_warps_are_pils(dtype):
    """Within a grey level (PIL cuts the fraction off) where no pixel outside is read."""
    matrix = torch.tensor([[0.9, -0.2, 6.3], [0.15, 1.1, -2.7]], dtype=torch.float64)
    image = photos(1)[0]
    height, width = image.shape[:2]
    a, b, c, d, e, f = matrix.flatten().tolist()
    # PIL's pixel centres are at one half
    coefficients = (a, b, c + 0.5 - a / 2 - b / 2, d, e, f + 0.5 - d / 2 - e / 2)
    theirs = Image.fromarray(image).transform((width, height), Image.AFFINE, coefficients, Image.BICUBIC)
    given = torch.from_numpy(image).permute(2, 0, 1)[None]
    given = given if dtype == torch.uint8 else given / 255.0
    warp = Warp(matrix[None], (height, width), "bicubic", (0.0,))
    found = execute(Plan(given.shape, (warp,), Trace.empty(1)), given)[0]
    found = found.double() * (1.0 if dtype == torch.uint8 else 255.0)
    error = (found - torch.from_numpy(np.array(theirs)).permute(2, 0, 1).double()).abs()
    x, y = torch.arange(width), torch.arange(height)[:, None]
    at = [m[0] * x + m[1] * y + m[2] for m in matrix]
    inside = (at[0] > 2) & (at[0] < width - 3) & (at[1] > 2) & (at[1] < height - 3)
    assert inside.double().mean() > 0.6
    assert float((error[:, inside] <= 1.01).double().mean()) >= 0.995


@pytest.mark.parametrize("shape", [(0, 3, 9, 7), (5, 3, 9, 7), (4, 1, 1, 1), (3, 2, 20, 33), (2, 3, 2, 40)])
def test_cubic_backends_agree_to_the_byte(shape):
    images = noise(shape)
    affine = A.Affine(180, (0.5, 0.5), (0.3, 3.0), 40, fill=77)
    plan = affine.plan(shape, index=torch.arange(shape[0]), seed=0)
    warp = dataclasses.replace(plan.segments[0], interpolation="bicubic", active=torch.arange(shape[0]) % 3 != 1)
    plan = Plan(shape, (warp,), Trace.empty(shape[0]))
    assert [choice.backend for choice in A.Affine(1).explain(plan, images)] == ["numba"]
    for same in (images, images.contiguous(memory_format=torch.channels_last)):
        assert torch.equal(execute(plan, same, "numba"), execute(plan, images, "torch"))


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (20, 13)])
@pytest.mark.parametrize("batch", [0, 3])
def test_resize_is_torchs(size, batch):
    images = noise((batch, 3, 8, 11)).float() / 255.0
    found = A.Resize(size)(images)
    if batch:
        expected = functional.interpolate(images, size, mode="bilinear", align_corners=False)
        assert torch.allclose(found, expected, atol=1e-5)
    assert found.shape == (batch, 3, *size)


def test_public_names():
    for name in ("RandomApply", "OneOf", "SomeOf", "RandomOrder", "Pad", "Crop", "Resize"):
        assert hasattr(smartaug.augment, name)
