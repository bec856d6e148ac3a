"""Mean and covariance of augmented images: against draws of the real augmentation, enumeration and closed forms."""

import itertools
import math

import albumentations
import numpy as np
import pytest
import torch
from albumentations.pytorch import ToTensorV2
from hypothesis import given, settings
from hypothesis import strategies as st

import smartaug
from smartaug import augment, moments
from smartaug.lift.albumentations.ops.geometry import RandomFrame
from smartaug.lift.timm.translate import TimmErase
from smartaug.moments.analytic import marginals
from smartaug.moments.nodes import _Sampler, fingerprint
from smartaug.moments.source import source
from tests import reference_moments as reference

PHOTOS = reference.photographs()
DRAWS = 100_000
FINITE = {
    "Flip": augment.Flip(0.3),
    "Flip, vertical": augment.Flip(0.5, vertical=True),
    "PadCrop": augment.PadCrop(2),
    "PadCrop, size": augment.PadCrop(1, size=(6, 7), fill=9),
    "PadCrop, reflect": augment.PadCrop(2, mode="reflect"),
    "Cutout": augment.Erase(0.4, scale=(0.2, 0.2), ratio=(1.0, 1.0), fill=7),
    "Invert": augment.Invert(0.2),
    "Posterize": augment.Posterize(3),
    "Solarize": augment.Solarize(100),
    "AutoContrast": augment.AutoContrast(),
    "Equalize": augment.Equalize(),
    "Grayscale": augment.Grayscale(0.3),
    "Sharpness": augment.Sharpness(2.0),
    "Shifts": augment.Affine(translate=(0.3, 0.2)),
    "RandAugment": augment.RandAugment(2, 9),
    "TrivialAugment": augment.TrivialAugment(),
    "AutoAugment": augment.AutoAugment("cifar10"),
    "Normalize": augment.Normalize((0.5, 0.4, 0.3), 0.25, dtype=torch.float64),
    "RandomApply": augment.RandomApply([augment.Flip(0.3), augment.Solarize(100), augment.PadCrop(1)], 0.4),
    "OneOf": augment.OneOf(
        [augment.PadCrop(1), augment.Invert(0.7), augment.RandAugment(1, 9), augment.Flip(1.0)], weights=[1, 0, 2.5, 1]
    ),
    "OneOf, sometimes": augment.OneOf([augment.Posterize(3), augment.Flip()], p=0.7),
    "SomeOf": augment.SomeOf(
        [augment.Flip(0.6), augment.Posterize(2), augment.Solarize(90), augment.Invert(0.9)],
        (0, 3),
        weights=[1, 2, 3, 4],
    ),
    "SomeOf, ordered": augment.SomeOf(
        [augment.Posterize(2), augment.Solarize(90), augment.Invert(1.0)], 2, ordered=True, weights=[3, 1, 1]
    ),
    "SomeOf, again and again": augment.SomeOf(
        [augment.PadCrop(1), augment.Solarize(90, 0.5), augment.Invert(1.0)], (1, 3), replace=True, weights=[1, 2, 0]
    ),
    "RandomOrder": augment.RandomOrder([augment.Flip(0.3), augment.Posterize(2), augment.Solarize(90)], p=0.8),
    "one inside the other": augment.Compose(
        [
            augment.OneOf([augment.RandomApply([augment.Flip(1.0)], 0.3), augment.RandomOrder([augment.PadCrop(1)])]),
            augment.Invert(0.1),
        ]
    ),
    "chain: crop, flip": augment.Compose([augment.PadCrop(2), augment.Flip()]),
    "chain: crop, flip, op, normalise": augment.Compose(
        [augment.PadCrop(1), augment.Flip(), augment.RandAugment(1, 9), augment.Normalize(0.5, 0.25)]
    ),
}
CONTINUOUS = {
    "Erase": augment.Erase(),
    "Rotation": augment.Affine(30),
    "Rotation, bilinear": augment.Affine(30, interpolation="bilinear"),
    "Affine": augment.Affine(20, (0.2, 0.1), (0.8, 1.2), 10, interpolation="bilinear"),
    "RandomResizedCrop": augment.RandomResizedCrop(8, scale=(0.3, 1.0)),
    "GaussianBlur": augment.GaussianBlur(3, p=0.7),
    "ColorJitter": augment.ColorJitter(0.4, 0.4, 0.4, 0.1),
    "AugMix": augment.AugMix(),
    "chain: turn, jitter": augment.Compose([augment.Affine(15), augment.ColorJitter(0.3, 0.3)]),
    "chain: flip, crop, erase": augment.Compose([augment.Flip(), augment.PadCrop(1), augment.Erase(0.5)]),
    "chain: resized crop, flip, policy": augment.Compose(
        [augment.RandomResizedCrop(8, scale=(0.5, 1.0)), augment.Flip(), augment.TrivialAugment()]
    ),
}


def drawn(aug, image, count=DRAWS):
    """``count`` draws of one image (C, H, W) through the augmentation itself: (count, D) float64."""
    index = torch.arange(count)
    made = [aug(image.expand(len(part), -1, -1, -1), index=part, seed=3) for part in index.split(10_000)]
    return torch.cat(made).flatten(1).double()


@pytest.mark.parametrize("count", [20_000, pytest.param(DRAWS, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", [*FINITE, *CONTINUOUS])
def test_agrees_with_draws(name, count):
    aug = FINITE.get(name) or CONTINUOUS[name]
    found = moments.of(aug, PHOTOS[:1], nodes=2048 if name in FINITE else 1 << 14, dtype=torch.float64)
    assert found.exact == (name in FINITE)
    sample = drawn(aug, PHOTOS[0], count)
    mean, variance = found.mean.flatten(), found.variance().flatten()
    apart = (sample - sample.mean(0)).square_()
    spread = (apart.square().mean(0) - variance.square()).clamp_min(0)
    # 5 standard errors of the draws; a quadrature has at most 0.7 of the standard error of as many draws as nodes
    errors = 5 / count**0.5 + (0.0 if found.exact else 0.7 / found.size**0.5)
    assert ((sample.mean(0) - mean).abs() <= errors * variance.sqrt() + 1e-9).all()
    assert ((apart.mean(0) - variance).abs() <= 1.1 * errors * spread.sqrt() + 1e-9).all()


def test_a_rare_branch_is_no_reason_to_call_a_rule_exact():
    rare = augment.RandomApply([augment.Erase(p=0.02)], 0.02)
    assert not moments.of(rare, PHOTOS[:1], nodes=256).exact
    assert not moments.of(augment.Erase(p=5e-4), PHOTOS[:1], nodes=256).exact


@pytest.mark.parametrize("name", FINITE)
def test_finite_sets_are_enumerated(name):
    """The nodes are the different plans of the real augmentation with their frequencies, and the sums over them."""
    aug, count = FINITE[name], 20_000
    found = moments.nodes(aug, (3, 8, 8), 2048)
    assert found.exact
    assert float(found.weights.sum()) == pytest.approx(1.0, abs=1e-12)
    listed = [row.tobytes() for row in fingerprint(found.plan)]
    assert len(set(listed)) == len(listed)
    keys = fingerprint(aug.plan((count, 3, 8, 8), index=torch.arange(count), seed=1))
    place = {row: n for n, row in enumerate(listed)}
    seen = np.bincount([place[row.tobytes()] for row in keys], minlength=len(listed)) / count
    chance = found.weights.numpy()
    assert (np.abs(seen - chance) <= 5 * np.sqrt(chance * (1 - chance) / count) + 2e-3 / len(chance)).all()
    versions = aug.apply(PHOTOS[:1].expand(len(listed), -1, -1, -1), found.plan)
    mean, covariance = reference.weighted(versions, found.weights.tolist())
    made = moments.of(aug, PHOTOS[:1], nodes=2048, dtype=torch.float64)
    assert torch.allclose(made.mean[0], mean, rtol=1e-12, atol=1e-10)
    assert torch.allclose(made.variance()[0].flatten(), covariance.diagonal(), rtol=1e-10, atol=1e-9)
    factor = made.factor[0].flatten(1)
    assert torch.allclose(factor.T @ factor, covariance, rtol=1e-10, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    padding=st.integers(0, 3),
    p=st.sampled_from([0.0, 0.3, 1.0]),
    size=st.sampled_from([(1, 1), (1, 4), (5, 3)]),
    batch=st.integers(0, 2),
)
def test_padded_crops_and_flips_against_loops(padding, p, size, batch):
    images = torch.rand(batch, 2, *size, dtype=torch.float64)
    made = moments.of([smartaug.PadCrop(padding), smartaug.Flip(p)], images)
    assert made.mean.shape == images.shape
    for image, mean, variance in zip(images, made.mean, made.variance(), strict=True):
        wanted, covariance = reference.weighted(*reference.pad_crops(image, padding, p))
        assert torch.allclose(mean, wanted, atol=1e-12)
        assert torch.allclose(variance.flatten(), covariance.diagonal(), atol=1e-12)


LIFTED = {
    "rectangles": TimmErase(0.3, (0.1, 0.3), (-1.0, 1.0), (1, 3)),
    "frame": RandomFrame(3, 2, fill=(0.0,), mode="constant", mask_fill=0.0),
}


@pytest.mark.parametrize("name", [*FINITE, *CONTINUOUS, *LIFTED])
def test_declared_choices_are_what_the_draws_do(name):
    """Between two neighbouring cuts the plan does not change, and every declared draw is made."""
    aug = {**FINITE, **CONTINUOUS, **LIFTED}[name]
    sampler = _Sampler(aug, (3, 8, 8))
    assert set(aug.cuts((1, 3, 8, 8))) <= set(sampler.slots)
    random = np.random.default_rng(0)
    table = random.random((300, len(sampler.slots)))
    moved = table.copy()
    for column, cells in sampler.choices.items():
        edges = np.concatenate([[0.0], np.cumsum(cells.weights)])
        edges[-1] = 1.0
        cell = np.searchsorted(edges, table[:, column], side="right") - 1
        inside = 1e-6 + random.random(300) * (1 - 2e-6)
        moved[:, column] = edges[cell] + inside * (edges[cell + 1] - edges[cell])
        near = np.abs(edges[:, None] - table[:, column]).min(0) < 1e-6  # float32 draws round there
        moved[near, column] = table[near, column]
    assert np.array_equal(fingerprint(sampler.plan(table)), fingerprint(sampler.plan(moved)))


def test_combinators_are_enumerated_by_their_probabilities():
    """Against the closed forms: a gate multiplies p, one of several is a mixture, orders by drawing one by one."""
    image = PHOTOS[:1]
    gate, flip = moments.of(augment.RandomApply([augment.Flip()], 0.3), image), moments.of(augment.Flip(0.15), image)
    assert gate.exact
    assert torch.allclose(gate.mean, flip.mean, atol=1e-4)
    assert torch.allclose(gate.variance(), flip.variance(), rtol=1e-5, atol=1e-3)

    inside, weights = [augment.PadCrop(1), augment.Flip(0.7), augment.RandAugment(1, 9)], [1, 2, 1]
    parts = [moments.of(part, image, dtype=torch.float64) for part in [*inside, []]]
    mixed = moments.mixture(parts, [0.2, 0.4, 0.2, 0.2])
    found = moments.of(augment.OneOf(inside, weights=weights, p=0.8), image, dtype=torch.float64)
    assert found.exact
    assert torch.allclose(found.mean, mixed.mean, atol=1e-9)
    assert torch.allclose(found.variance(), mixed.variance(), rtol=1e-9, atol=1e-9)

    inside = [augment.Posterize(2, 1.0), augment.Solarize(90, 1.0), augment.Flip(1.0), augment.Invert(1.0)]
    weights = [1, 2, 3, 4]
    for count, ordered in itertools.product((1, 2, 3), (False, True)):
        versions, chances = [], []
        for order in itertools.permutations(range(4), count):
            chance, left = 1.0, sum(weights)
            for number in order:
                chance, left = chance * weights[number] / left, left - weights[number]
            version = image
            for number in sorted(order) if ordered else order:
                version = inside[number](version)
            versions.append(version[0])
            chances.append(chance)
        mean, covariance = reference.weighted(versions, chances)
        some = augment.SomeOf(inside, count, weights=weights, ordered=ordered)
        found = moments.of(some, image, dtype=torch.float64)
        assert found.exact
        assert torch.allclose(found.mean[0], mean, atol=1e-9)
        assert torch.allclose(found.variance()[0].flatten(), covariance.diagonal(), rtol=1e-9, atol=1e-9)


def lifted_pipeline(library):
    """A pipeline of ``library`` that only chooses, lifted."""
    if library == "kornia":
        kornia = pytest.importorskip("kornia.augmentation")
        inside = [kornia.RandomHorizontalFlip(p=0.3), kornia.RandomInvert(p=0.6), kornia.RandomVerticalFlip(p=1.0)]
        return kornia.ImageSequential(*inside, random_apply=2)
    if library == "timm":
        return pytest.importorskip("timm.data.auto_augment").rand_augment_transform("rand-m9-n1-p0.7-tweights", {})
    if library == "albumentations":
        package = pytest.importorskip("albumentations")
        some = [package.HorizontalFlip(p=0.3), package.VerticalFlip(p=1.0), package.InvertImg(p=0.5)]
        frame = package.PadIfNeeded(10, 11, position="random", p=1.0)
        return package.Compose([package.OneOf(some, p=0.8), package.SomeOf(some, n=2), frame, package.ToTensorV2()])
    package = pytest.importorskip("torchvision.transforms")
    some = [package.RandomHorizontalFlip(0.3), package.RandomInvert(0.6), package.RandomSolarize(100, 0.5)]
    return package.Compose([package.RandomOrder(some), package.RandomChoice(some), package.RandomApply(some, 0.2)])


@pytest.mark.parametrize("library", ["torchvision", "timm", "albumentations", "kornia"])
def test_what_lifted_pipelines_choose_is_enumerated(library):
    aug = smartaug.lift(lifted_pipeline(library), size=(8, 8)).augment
    found = moments.of(aug, PHOTOS[:1], nodes=2048, dtype=torch.float64)
    assert found.exact
    assert found.size > 8
    sample = drawn(aug, PHOTOS[0], 20_000)
    spread = found.variance().flatten().sqrt()
    assert ((sample.mean(0) - found.mean.flatten()).abs() <= 5 * spread / len(sample) ** 0.5 + 1e-9).all()
    assert torch.allclose(sample.var(0), found.variance().flatten(), rtol=0.1)


def test_too_many_earlier_choices_are_integrated_over():
    """The cuts of 20 stages with weights of their own would be too many to list: those draws stay continuous."""
    some = augment.SomeOf([augment.Invert(1.0) for _ in range(20)], 6, weights=range(1, 21))
    listed = [slot for path, slot in some.cuts((1, 3, 8, 8)) if path == (0,)]
    assert listed == [0, 1, 2, 3, 4, 5]  # how many, whether, and four of the six stages
    assert not moments.of(some, PHOTOS[:1], nodes=4).exact


def test_learned_probabilities_are_followed():
    aug = augment.RandAugment(1, 9)
    aug.probabilities = torch.zeros(14).index_fill(0, torch.tensor([1, 7]), 0.5)  # ShearX and Color
    found = moments.nodes(aug, (3, 8, 8), 1024)
    assert found.exact
    assert sorted(found.plan.trace.names[op] for op in found.plan.trace.ops[:, 0]) == ["Color"] * 2 + ["ShearX"] * 2
    assert torch.allclose(found.weights, torch.full((4,), 0.25, dtype=torch.float64))


# --- closed forms ----------------------------------------------------------------------------------------------------


def test_translation_is_a_convolution():
    images = PHOTOS[:, :1].double()
    made = moments.of(augment.PadCrop(2), images)
    for image, mean in zip(images, made.mean, strict=True):
        assert torch.allclose(mean, reference.shifted_mean(image, 2), atol=1e-10)


CLOSED = {
    "crop": [augment.PadCrop(2)],
    "crop, edge": [augment.PadCrop(2, mode="edge")],
    "crop, reflect, of a size": [augment.PadCrop(2, mode="reflect", size=(5, 7))],
    "crop, symmetric": [augment.PadCrop(3, mode="symmetric")],
    "crop, filled": [augment.PadCrop(2, fill=(1, 200, 30))],
    "crop, filled with fractions": [augment.PadCrop(2, fill=(0.5, 200.7, 31.5))],
    "flips": [augment.Flip(0.3), augment.Flip(0.6, vertical=True)],
    "invert": [augment.Invert(0.3)],
    "cutout": [augment.Erase(0.4, scale=(0.2, 0.2), ratio=(1.0, 1.0), fill=(1, 2, 3))],
    "all": [
        augment.PadCrop(1),
        augment.Flip(),
        augment.Invert(0.2),
        augment.Erase(0.5, scale=(0.1, 0.1), ratio=(2.0, 2.0)),
        augment.Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.4), dtype=torch.float64),
    ],
}


@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms_equal_the_enumeration(name):
    aug = augment.Compose(CLOSED[name])
    mean, variance = marginals(aug, PHOTOS)
    found = source(aug, PHOTOS, 4096, 1 << 30, None, 0)
    assert found.exact
    versions = torch.cat([block for _, block in found.blocks()], 1).double()
    weights = found.weights[None, :, None, None, None]
    wanted = (weights * versions).sum(1)
    near = 1e-6 if name == "all" else 1e-10  # the compiled backend normalises in float32
    assert torch.allclose(mean, wanted, atol=near)
    assert torch.allclose(variance, (weights * (versions - wanted[:, None]) ** 2).sum(1), rtol=1e-9, atol=10 * near)


def test_affine_tone_maps():
    """Brightness and contrast t = a x + b: E = E[a] x + E[b], Cov = Var(a) x xᵀ where b is fixed."""
    image = torch.rand(1, 1, 4, 4, dtype=torch.float64) * 0.4  # no value is cut off
    made = moments.of(augment.ColorJitter(brightness=(0.5, 1.5)), image, nodes=64)
    assert torch.allclose(made.mean, image, atol=1e-6)  # the factor is float32
    values, vectors = made.top(1)
    assert float(values[0, 0]) == pytest.approx(float(image.square().sum()) / 12, rel=1e-4)
    assert torch.allclose(vectors[0, 0].abs(), (image / image.norm())[0], atol=1e-5)
    assert float(made.trace()) == pytest.approx(float(values.sum()), rel=1e-6)


def test_a_full_turn_has_the_radial_mean():
    aug = augment.Affine(180, interpolation="bilinear")
    y, x = torch.meshgrid(torch.arange(9.0), torch.arange(9.0), indexing="ij")
    image = (torch.sin(x / 2) + torch.cos(y / 3) + x * y / 40).double()  # smooth, so two bilinear rules agree
    made = moments.of(aug, image[None, None], nodes=1024).mean[0, 0]
    inside = torch.hypot(y - 4, x - 4) <= 3.5
    assert torch.allclose(made[inside], reference.radial_mean(image)[inside], atol=5e-3)
    assert float((made[inside] - image[inside]).abs().max()) > 0.3
    ring = (torch.hypot(y - 4, x - 4) - math.hypot(1, 3)).abs() < 1e-9
    assert float(made[ring].std()) < 0.01 * float(image[ring].std())


@pytest.mark.parametrize(
    "aug",
    [
        augment.RandAugment(0, 9),
        augment.Affine(0, interpolation="bilinear"),
        augment.Flip(0.0),
        augment.PadCrop(0),
        augment.ColorJitter(0.0),
        augment.Erase(0.0),
        augment.GaussianBlur(3, p=0.0),
    ],
)
def test_zero_magnitude_has_zero_covariance(aug):
    made = moments.of(aug, PHOTOS)
    assert torch.equal(made.mean, PHOTOS.float())
    assert made.exact
    assert not made.variance().any()
    assert not made.factor.any()
    values, vectors = made.top(1)
    assert not values.any()
    assert not vectors.any()


# --- the covariance as an operator -----------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", [1 << 30, 2000])
@pytest.mark.parametrize("name", ["few transforms", "few values"])
def test_matvec_trace_and_eigenvectors(name, memory):
    images = PHOTOS.double() / 255
    images = images[:, :1, :4, :4] if name == "few values" else images
    aug = augment.Compose([augment.PadCrop(1), augment.Flip()])
    made = moments.of(aug, images, memory=memory)
    vector = torch.randn_like(images)
    product = made.covariance_matvec(vector)
    values, vectors = made.top(5)
    low, lowest = made.bottom(2)
    for row, image in enumerate(images):
        _, covariance = reference.weighted(*reference.pad_crops(image, 1, 0.5))
        assert torch.allclose(product[row].flatten(), covariance @ vector[row].flatten(), atol=1e-12)
        assert float(made.trace()[row]) == pytest.approx(float(covariance.trace()), rel=1e-12)
        wanted = torch.linalg.eigvalsh(covariance)
        assert torch.allclose(values[row], wanted.flip(0)[:5], atol=1e-12)
        above = wanted[wanted > 1e-10]
        assert torch.allclose(low[row], above[:2], atol=1e-12)
        every = zip([*values[row], *low[row]], [*vectors[row], *lowest[row]], strict=True)
        for value, direction in every:
            flat = direction.flatten()
            assert float(flat.norm()) == pytest.approx(1.0, abs=1e-8)
            assert torch.allclose(covariance @ flat, value * flat, atol=1e-9)


@settings(max_examples=8, deadline=None)
@given(vector=st.integers(0, 1000), name=st.sampled_from(["Erase", "Affine", "ColorJitter"]))
def test_covariance_is_positive_semidefinite(vector, name):
    made = moments.of(CONTINUOUS[name], PHOTOS[:1], nodes=64, dtype=torch.float64)
    direction = torch.randn(made.mean.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(vector))
    assert float((direction * made.covariance_matvec(direction)).sum()) >= 0
    assert (made.variance() >= 0).all()


def test_a_mixture_is_the_policy_of_its_parts():
    """RandAugment with one operation is the mixture of its operations; a flip that of both sides."""
    images = PHOTOS.double() / 255
    both = moments.mixture([moments.of(augment.Flip(p), images) for p in (0.0, 1.0)], [0.7, 0.3])
    flip = moments.of(augment.Flip(0.3), images)
    policy, parts = augment.RandAugment(1, 9), []
    for operation in range(14):
        single = augment.RandAugment(1, 9)
        single.probabilities = torch.zeros(14).index_fill(0, torch.tensor([operation]), 1.0)
        parts.append(moments.of(single, PHOTOS, dtype=torch.float64))
    mixed, whole = moments.mixture(parts, [1 / 14] * 14), moments.of(policy, PHOTOS, dtype=torch.float64)
    vector = torch.randn(PHOTOS.shape, dtype=torch.float64)
    for one, other in ((both, flip), (mixed, whole)):
        assert one.exact
        assert torch.allclose(one.mean, other.mean, atol=1e-10)
        assert torch.allclose(one.variance(), other.variance(), atol=1e-8)
        assert torch.allclose(one.covariance_matvec(vector), other.covariance_matvec(vector), atol=1e-7)
        assert torch.allclose(one.factor.square().sum(1), other.variance(), atol=1e-8)
        assert torch.allclose(one.top(2)[0], other.top(2)[0], atol=1e-7)


def test_sums_of_independent_images():
    one, other = (moments.of(aug, PHOTOS, dtype=torch.float64) for aug in (augment.Flip(), augment.PadCrop(1)))
    total = one + other
    assert torch.equal(total.mean, one.mean + other.mean)
    assert torch.equal(total.variance(), one.variance() + other.variance())
    assert torch.allclose(total.factor.square().sum(1), total.variance())
    with pytest.raises(ValueError, match="same images"):
        one + moments.of(augment.Flip(), PHOTOS[:1])


# --- rules, memory, errors -------------------------------------------------------------------------------------------


def test_the_error_estimate_is_of_the_size_of_the_error():
    fine = moments.of(augment.Affine(30, interpolation="bilinear"), PHOTOS, nodes=1 << 14, dtype=torch.float64)
    for nodes in (16, 64, 256, 1024):
        made = moments.of(augment.Affine(30, interpolation="bilinear"), PHOTOS, nodes=nodes, dtype=torch.float64)
        assert made.size <= nodes
        error = (made.mean - fine.mean).flatten(1).norm(dim=1) / fine.mean.flatten(1).norm(dim=1)
        assert (error <= 3 * made.error.mean).all()
        assert (made.error.mean <= 100 * error + 1e-5).all()


@pytest.mark.parametrize("count", [*range(5, 40), 64, 100])
def test_both_gauss_rules_integrate_polynomials(count):
    from smartaug.moments.nodes import _gauss

    axis = _gauss(count)
    assert len(axis.values) <= count
    assert (axis.weights > 0).all()
    assert (axis.check >= 0).all()
    for power in range(5):
        assert axis.weights @ axis.values**power == pytest.approx(1 / (power + 1), abs=1e-12)
    for power in range(3):
        assert axis.check @ axis.values**power == pytest.approx(1 / (power + 1), abs=1e-12)


@pytest.mark.parametrize("limit", [2, 3, 100])
def test_too_large_sets_become_a_quadrature(limit):
    made = moments.of([augment.PadCrop(2), augment.Flip(), augment.RandAugment(1)], PHOTOS, nodes=limit)
    assert 1 <= made.size <= limit
    assert not made.exact
    assert torch.isfinite(made.error.mean).all()


@pytest.mark.parametrize("name", ["Flip", "RandAugment", "Erase", "ColorJitter"])
def test_one_node_is_refused_unless_there_is_one_outcome(name):
    """It would have a variance of 0, and an error of 0 as if it were exact."""
    aug = FINITE.get(name) or CONTINUOUS[name]
    for call in (
        lambda: moments.of(aug, PHOTOS, nodes=1),
        lambda: moments.nodes(aug, (3, 8, 8), 1),
        lambda: moments.loss_moments(
            torch.nn.Flatten(), None, PHOTOS, torch.tensor([0, 1]), [aug, augment.Normalize(0.5, 0.25)], nodes=1
        ),
    ):
        with pytest.raises(ValueError, match=r"nodes=1 for an augmentation of several.*write nodes=1024"):
            call()
    for one in (augment.Invert(1.0), augment.Normalize(0.5, 0.25), augment.Flip(0.0)):
        assert moments.of(one, PHOTOS, nodes=1).exact
    two = moments.of(aug, PHOTOS, nodes=2, dtype=torch.float64)
    assert two.exact == (name == "Flip")


def test_small_memory_gives_the_same():
    aug = [augment.PadCrop(1), augment.RandAugment(1, 9), augment.Normalize(0.5, 0.25)]
    wanted, made = (moments.of(aug, PHOTOS, memory=memory, dtype=torch.float64) for memory in (1 << 30, 4096))
    assert torch.allclose(made.mean, wanted.mean, atol=1e-12)
    assert torch.allclose(made.variance(), wanted.variance(), atol=1e-12)
    assert torch.allclose(made.top(2)[0], wanted.top(2)[0], rtol=1e-9)
    with pytest.raises(MemoryError, match="pass memory="):
        _ = made.factor


def test_nothing_is_drawn_or_changed():
    images = PHOTOS.clone()
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    for name in ("Erase", "AugMix"):
        moments.of(CONTINUOUS[name], images, nodes=16)
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()
    assert torch.equal(images, PHOTOS)
    first, again = (moments.of(CONTINUOUS["AugMix"], images, nodes=64).mean for _ in range(2))
    assert torch.equal(first, again)


def test_channels_last_and_empty_lists():
    laid = PHOTOS.contiguous(memory_format=torch.channels_last)
    aug = augment.RandAugment(1, 9)
    assert torch.allclose(moments.of(aug, laid).mean, moments.of(aug, PHOTOS).mean, atol=1e-4)
    assert torch.equal(moments.of([], PHOTOS).mean, PHOTOS.float())


def test_an_augmentation_of_ones_own_is_integrated_over():
    """A subclass that declares nothing: its continuous draws are found."""

    class Shade(augment.Augmentation):
        def sample(self, shape, key):
            from smartaug import draws
            from smartaug.augment.plan import Plan, Tone

            factor = 0.5 + draws.uniform(draws.fold(key, 5), (2,))[:, 1]
            return Plan(tuple(shape), (Tone(torch.full((shape[0],), 4), factor),))

    image = torch.full((1, 1, 2, 2), 0.5, dtype=torch.float64)
    made = moments.of(Shade(), image, nodes=31)
    assert made.size == 31
    assert torch.allclose(made.mean, image, atol=1e-6)
    assert torch.allclose(made.variance(), torch.full_like(image, 0.25 / 12), atol=1e-6)


def test_what_a_function_in_a_plan_is_given_matters():
    """The arguments of a `Call`, as lifted pipelines have them, are part of what tells two plans apart."""

    class Shade(augment.Augmentation):
        def sample(self, shape, key):
            from smartaug import draws
            from smartaug.augment.plan import Call, Plan

            chosen, factor = draws.uniform(key) < 0.25, 0.5 + draws.uniform(key, start=1)

            def shaded(images, factor):
                return images * factor[:, None, None, None].to(images)

            return Plan(tuple(shape), (Call(shaded, (factor,), "Shade", chosen),))

        def cuts(self, shape):
            return {((), 0): [0.25]}

    image = torch.full((1, 1, 2, 2), 0.5, dtype=torch.float64)
    made = moments.of(Shade(), image, nodes=62)
    assert not made.exact
    assert torch.allclose(made.mean, image, atol=1e-6)
    assert torch.allclose(made.variance(), torch.full_like(image, 0.25 * 0.25 / 12), atol=1e-6)
    assert made.size == 32  # all that is left alone is one node


def test_stages_without_a_plan():
    def shade(images):
        return images * torch.rand(len(images), 1, 1, 1)

    images = torch.full((2, 1, 3, 3), 0.5)
    with pytest.raises(TypeError, match=r"shade has no plan.*draws=1000"):
        moments.of([augment.Flip(), shade], images)
    noise = smartaug.lift(albumentations.Compose([albumentations.GaussNoise(p=1.0), ToTensorV2()])).augment
    with pytest.raises(TypeError, match=r"noise for every pixel.*draws=1000"):
        moments.of(noise, images)
    assert float(moments.of(noise, images, draws=200).trace().min()) > 0
    made = moments.of([augment.Flip(), shade], images, draws=500, dtype=torch.float64)
    assert not made.exact
    assert (made.error.mean > 0.01).all()
    assert (made.error.mean < 0.06).all()
    away = (made.mean - 0.25).flatten(1).norm(dim=1) / made.mean.flatten(1).norm(dim=1)
    assert (away < 4 * made.error.mean).all()
    assert torch.allclose(made.variance(), torch.full_like(made.mean, 0.25 / 12), rtol=0.25)
    assert torch.allclose(made.factor.square().sum(1), made.variance(), rtol=1e-6)


def test_draws_repeat_by_their_seed():
    aug = augment.RandAugment(1, 9)
    first, again, other = (moments.of(aug, PHOTOS, draws=50, seed=seed).mean for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: moments.of(augment.MixUp(), PHOTOS), TypeError, "MixUp mixes each image"),
        (lambda: moments.of(augment.Compose([augment.CutMix()]), PHOTOS), TypeError, "CutMix mixes"),
        (lambda: moments.of(augment.Flip, PHOTOS), TypeError, "make an object"),
        (lambda: moments.of(augment.Flip(), PHOTOS[0]), ValueError, "images\\[None\\]"),
        (lambda: moments.of(augment.Flip(), PHOTOS, nodes=0), ValueError, "nodes must be"),
        (lambda: moments.of(augment.Flip(), PHOTOS, memory=1.5), ValueError, "memory must be"),
        (lambda: moments.of(augment.Flip(), PHOTOS, draws=1), ValueError, "draws must be"),
        (lambda: moments.of(augment.Flip(), PHOTOS, dtype=torch.uint8), TypeError, "dtype must be"),
        (lambda: moments.of(augment.Flip(), PHOTOS.double().log()), ValueError, "NaN or Inf"),
        (lambda: moments.of(augment.PadCrop(1, fill=300), PHOTOS), ValueError, "0..255"),
        (lambda: moments.of(augment.Flip(), PHOTOS).top(3), ValueError, "1..2"),
        (lambda: moments.of(augment.Flip(), PHOTOS).covariance_matvec(PHOTOS[:1]), ValueError, "shape"),
        (lambda: moments.mixture([moments.of(augment.Flip(), PHOTOS)], [0.5]), ValueError, "sum to 1"),
        (lambda: moments.mixture([], []), ValueError, "one weight"),
    ],
)
def test_mistakes(call, error, words):
    with pytest.raises(error, match=words):
        call()
