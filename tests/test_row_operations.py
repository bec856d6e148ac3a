"""Operations on rows of features: noise, swapped features, SMOTE; each against its slow twin, and one suite for all."""

import copy
import pickle

import hypothesis
import hypothesis.strategies as st
import pytest
import torch

import smartaug
import smartaug.augment as A
from smartaug import draws
from smartaug.augment.backends.tables import gauss
from smartaug.augment.ops.features import neighbours, partners
from tests import conformance, reference_rows

ROWS = {
    "CutMix": [A.CutMix],
    "GaussianNoise": [A.GaussianNoise, lambda: A.GaussianNoise((0.0, 3.0), mean=-2.0, p=0.5)],
    "MixUp": [A.MixUp],
    "SMOTE": [A.SMOTE, lambda: A.SMOTE(1, p=0.5)],
    "SwapFeatures": [A.SwapFeatures, lambda: A.SwapFeatures(0.7, within="class", p=0.8), lambda: A.SwapFeatures(1.0)],
}
CASES = [pytest.param(make, id=f"{name}{n}") for name, rows in ROWS.items() for n, make in enumerate(rows)]


def test_all_that_take_rows_have_a_row():
    taking = {name for name in A.__all__ if getattr(A, name).takes_rows is True}
    assert taking == set(ROWS), "write a row in ROWS of tests/test_row_operations.py"


@pytest.mark.parametrize("make", CASES)
def test_row_operations_conform(make):
    conformance.row_operation(make)


def batch(shape, seed, dtype=torch.float64, classes=3):
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randn(shape, generator=draw, dtype=torch.float64)
    labels = torch.randint(classes, (shape[0],), generator=draw)
    return (rows.to(dtype) if dtype.is_floating_point else (3 * rows).round().to(dtype)), labels


SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 7)) | st.tuples(st.integers(1, 6), *[st.integers(1, 5)] * 2)


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(
    shape=SHAPES,
    share=st.sampled_from([0.0, 0.3, 1.0]),
    within=st.sampled_from(["batch", "class"]),
    p=st.sampled_from([0.4, 1.0]),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.int64, torch.uint8]),
    seed=st.integers(0, 999),
)
def test_swapped_features_are_what_the_twin_says(shape, share, within, p, dtype, seed):
    rows, labels = batch(shape, seed, dtype)
    step = A.SwapFeatures(share, within=within, p=p)
    plan = step.plan_of([rows], labels, draws.key(seed, 0, torch.arange(shape[0])))
    (swap,) = plan.segments
    made = step.apply(rows, plan)
    assert torch.equal(made, reference_rows.swapped(rows, swap.partner.tolist()))
    if within == "class":
        assert torch.equal(labels[swap.partner], labels[:, None].expand_as(swap.partner))
    others = labels.bincount()[labels] if within == "class" else torch.full_like(labels, len(labels))
    moved = swap.partner != torch.arange(len(rows))[:, None]
    if share == 1.0 and p == 1.0:
        assert torch.equal(moved.all(1), others > 1)
    if share == 0.0:
        assert not moved.any()


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(
    shape=SHAPES,
    most=st.integers(1, 5),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.int64]),
    seed=st.integers(0, 999),
)
def test_smote_is_what_the_twin_says(shape, most, dtype, seed):
    rows, labels = batch(shape, seed, dtype)
    step = A.SMOTE(most, p=0.8)
    plan = step.plan_of([rows], labels, draws.key(seed, 0, torch.arange(shape[0])))
    (segment,) = plan.segments
    made = step.apply(rows, plan)
    assert made.dtype == dtype
    wanted = reference_rows.between(
        rows.double() if rows.is_floating_point() else rows, segment.partner, segment.share, segment.taken
    )
    assert torch.allclose(made.double(), wanted.double(), atol=1e-6)
    assert torch.equal(labels[segment.partner], labels)


@hypothesis.settings(max_examples=30, deadline=None)
@hypothesis.given(
    rows=st.integers(1, 12), numbers=st.integers(0, 4), categories=st.integers(0, 3), seed=st.integers(0, 999)
)
def test_neighbours_are_the_nearest_of_their_class(rows, numbers, categories, seed):
    hypothesis.assume(numbers or categories)
    table, labels = batch((rows, numbers), seed)
    words, _ = batch((rows, categories), seed + 1, torch.int64)
    tables = [part for part in (table, words) if part.shape[1]]
    wanted = reference_rows.neighbours(table, words.tolist(), labels.tolist(), 3)
    for place in (0.0, 0.4, 0.999):
        found = neighbours(tables, labels, 3, torch.full((rows,), place, dtype=torch.float64))
        for i, nearest in enumerate(wanted):
            assert int(found[i]) == (nearest[int(place * len(nearest))] if nearest else i)


@hypothesis.settings(max_examples=30, deadline=None)
@hypothesis.given(shape=SHAPES, p=st.sampled_from([0.5, 1.0]), seed=st.integers(0, 999))
def test_noise_is_what_the_twin_says(shape, p, seed):
    rows, _ = batch(shape, seed)
    step = A.GaussianNoise((0.5, 2.0), mean=0.25, p=p)
    plan = step.sample(shape, draws.key(seed, 0, torch.arange(shape[0])))
    (segment,) = plan.segments
    noise = gauss.field(segment.key, shape[1:])
    wanted = reference_rows.noisy(rows, noise, segment.spread, segment.centre)
    assert torch.allclose(step.apply(rows, plan), wanted, atol=1e-5)
    assert torch.equal(plan.trace.magnitudes[:, 0], segment.spread)
    categories = rows.long()
    assert torch.equal(step.apply(categories, plan), categories)


def test_partners_are_equally_likely_and_do_not_depend_on_the_order():
    group = torch.tensor([0, 1, 0, 0, 1, 2])
    keys = draws.key(3, 0, torch.arange(6))
    found = partners(keys, 4000, group)
    for row, members in ((0, [2, 3]), (1, [4]), (3, [0, 2]), (5, [5])):
        counts = found[row].bincount(minlength=6)
        assert counts.nonzero().flatten().tolist() == members
        assert (counts[members] - 4000 / len(members)).abs().max() < 150  # five standard deviations
    order = torch.tensor([4, 0, 5, 3, 1, 2])
    assert torch.equal(order[partners(keys[order], 50, group[order])], partners(keys, 50, group)[order])


def test_a_trace_says_how_much():
    rows, labels = batch((40, 10), 0)
    index = torch.arange(40)
    plan = A.SwapFeatures(0.3).plan_of([rows], None, draws.key(0, 0, index))
    assert torch.allclose(plan.trace.magnitudes[:, 0], (plan.segments[0].partner != index[:, None]).float().mean(1))
    assert any("SwapFeatures 0.3" in plan.trace.describe(row) for row in range(40))
    plan = A.SMOTE(p=0.5).plan_of([rows], labels, draws.key(0, 0, index))
    words = [plan.trace.describe(row) for row in range(40)]
    assert "Identity" in words
    assert sum(word.startswith("SMOTE 0.") for word in words) > 10
    assert not plan.mixes  # labels stay


def test_labels_of_binary_floats_and_one_hot_rows_are_classes():
    rows, _ = batch((8, 3), 0)
    hard = torch.tensor([0, 1, 0, 1, 0, 1, 0, 1])
    keys = {"index": torch.arange(8), "seed": 1}
    wanted = A.SMOTE()(rows, hard, **keys)[0]
    for labels in (hard.float(), hard[:, None].float(), torch.nn.functional.one_hot(hard, 2).float(), hard[:, None]):
        made, target = A.SMOTE()(rows, labels, **keys)
        assert torch.equal(made, wanted)
        assert torch.equal(target, labels)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda r, y: A.SMOTE()(r, torch.rand(8) * 9), r"SMOTE takes .* are values of a regression; .*MixUp\(regress"),
        (lambda r, y: A.SwapFeatures(within="class")(r, r), r'SwapFeatures takes .*SwapFeatures\(within="batch"\)'),
        (lambda r, y: A.SMOTE()(r), r"SMOTE finds partners .* augment\(rows, target, index=index\)"),
        (lambda r, y: A.SMOTE().plan(r.shape), r"SMOTE finds partners"),
        (lambda r, y: A.SwapFeatures()(torch.rand(2, 3, 8, 8)), r"SwapFeatures needs rows \(B, F\) or sequences"),
        (
            lambda r, y: A.SwapFeatures().sample((2, 3, 8, 8), draws.key(0, 0, torch.arange(2))),
            r"write smartaug.CutMix",
        ),
        (lambda r, y: A.Compose([A.Flip(), A.SMOTE()]), r"Compose plans .* SMOTE reads the labels; .* with p="),
        (
            lambda r, y: smartaug.DataLoader([], augment=[A.MixUp(), A.SMOTE()]),
            r"MixUp before it mixes .* write it first",
        ),
        (lambda r, y: A.SwapFeatures(1.5), r"share must be a number in \[0, 1\], got 1.5"),
        (lambda r, y: A.SwapFeatures(within="row"), r'within must be "batch" or "class"'),
        (lambda r, y: A.SMOTE(0), r"k_neighbors must be an integer of at least 1"),
        (lambda r, y: A.GaussianNoise(-1), r"sigma must be a number ≥ 0"),
        (lambda r, y: A.GaussianNoise((2, 1)), r"sigma must be"),
        (lambda r, y: A.GaussianNoise(mean="a"), r"mean must be a number"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_write(call, words):
    rows, labels = batch((8, 3), 0)
    with pytest.raises((TypeError, ValueError), match=words):
        call(rows, labels)


def test_noise_on_pictures_is_torchvisions():
    from torchvision.transforms import v2

    images = torch.full((64, 3, 16, 16), 0.5)
    ours = smartaug.GaussianNoise(0.1, mean=0.05)(images, index=torch.arange(64), seed=0) - images
    theirs = v2.GaussianNoise(mean=0.05, sigma=0.1)(images) - images
    assert abs(float(ours.mean()) - float(theirs.mean())) < 0.003
    assert abs(float(ours.std()) - float(theirs.std())) < 0.003
    grey = smartaug.GaussianNoise(0.1)(torch.full((64, 3, 16, 16), 128, dtype=torch.uint8), seed=0).double()
    assert abs(float(grey.std()) - 25.5) < 0.5


def test_copies_and_pickles_draw_the_same():
    rows, labels = batch((8, 3), 0)
    how = {"index": torch.arange(8), "seed": 1}
    for makers in ROWS.values():
        for make in makers:
            one = make()
            wanted = one(rows, labels, **how)[0]
            for other in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
                assert torch.equal(other(rows, labels, **how)[0], wanted)
