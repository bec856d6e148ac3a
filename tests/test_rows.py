"""Rows of features (B, F) and sequences (B, T, F): mixed and handed to callables, keyed by sample like pictures."""

import hypothesis
import hypothesis.strategies as st
import pytest
import torch
from torch.utils.data import TensorDataset

import smartaug
from smartaug import coreset, draws
from tests import reference
from tests.data import ADDED, add_constant

SIZE, BATCH = 64, 16
GENERATOR = torch.Generator().manual_seed(0)
ROWS = torch.randn(SIZE, 12, generator=GENERATOR)
SEQUENCES = torch.randn(SIZE, 10, 3, generator=GENERATOR)
LABELS = torch.arange(SIZE) % 3


def batches(data, augment, **settings):
    settings = {"inputs": 0, "target": 1, "seed": 0, "batch_size": BATCH, **settings}
    return list(smartaug.DataLoader(TensorDataset(data, LABELS), augment=augment, **settings))


# --- MixUp and CutMix against their slow twin ------------------------------------------------------------------------


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 12)) | st.tuples(st.integers(1, 9), *[st.integers(1, 6)] * 2),
    cut=st.booleans(),
    alpha=st.sampled_from([0.2, 1.0, 5.0]),
    p=st.sampled_from([0.0, 0.5, 1.0]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.float16]),
    seed=st.integers(0, 1000),
)
def test_mixing_is_what_its_twin_says(shape, cut, alpha, p, dtype, seed):
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    step = (smartaug.CutMix if cut else smartaug.MixUp)(alpha, p=p)
    plan = step.sample(shape, draws.key(seed, 0, torch.arange(shape[0])))
    made = step.apply(rows, plan)
    (mix,) = plan.mixes
    assert made.shape == rows.shape
    assert made.dtype == dtype
    wanted = reference.mixed_rows(rows.double(), mix.partner, mix.share, mix.pasted if cut else None)
    assert torch.allclose(made.double(), wanted, atol=1e-6 if dtype != torch.float16 else 5e-3)
    if cut:
        assert torch.allclose(mix.share, 1 - mix.pasted.float().mean(1))
    if p == 0:
        assert torch.equal(made, rows)


def test_features_are_pasted_by_their_share_and_anywhere():
    share = torch.linspace(0, 1, 9, dtype=torch.float64).repeat(500)
    keys = draws.key(0, 0, torch.arange(len(share)))
    pasted = smartaug.augment.rows.pasted_features((len(share), 8), share, keys)
    assert torch.equal(pasted.sum(1), ((1 - share) * 8).round().long())
    each = pasted[share == 0.5].double().mean(0)  # 500 rows: a standard deviation of 0.022
    assert (each - 0.5).abs().max() < 0.1
    spans = smartaug.augment.rows.pasted_span((len(share), 8, 2), share, keys)
    assert torch.equal(spans.sum(1), ((1 - share) * 8).round().long())
    edges = spans.long().diff(dim=1).abs().sum(1)
    assert edges.max() <= 2  # one piece
    starts = spans[share == 0.75].long().argmax(1)
    assert set(starts.tolist()) == set(range(7))


# --- in a loader ------------------------------------------------------------------------------------------------------

STAGES = {
    "MixUp": lambda: smartaug.MixUp(),
    "CutMix": lambda: smartaug.CutMix(),
    "swap": lambda: smartaug.SwapFeatures(0.5),
    "in class": lambda: [smartaug.SwapFeatures(0.5, within="class"), smartaug.SMOTE()],
    "gauss": lambda: smartaug.GaussianNoise(0.1),
    "all": lambda: [smartaug.SMOTE(), smartaug.SwapFeatures(), smartaug.GaussianNoise(), smartaug.CutMix()],
    "both": lambda: [smartaug.MixUp(), smartaug.CutMix()],
    "noise": lambda: lambda rows: rows + 0.1 * torch.randn_like(rows),
    "noise between": lambda: [smartaug.MixUp(), lambda rows: rows + 0.1 * torch.randn_like(rows), smartaug.CutMix()],
}


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("data", [ROWS, SEQUENCES], ids=["rows", "sequences"])
def test_rows_and_sequences_are_augmented(name, data):
    made = batches(data, STAGES[name]())
    again = batches(data, STAGES[name]())
    for number, ((rows, target), (same, _)) in enumerate(zip(made, again, strict=True)):
        plain = data[number * BATCH : (number + 1) * BATCH]
        assert rows.shape == plain.shape
        assert torch.equal(rows, same)
        changed = (rows != plain).flatten(1).any(1)
        assert changed.sum() > BATCH // 2
        if name in ("noise", "swap", "in class", "gauss"):
            assert target.soft is None
        else:
            assert target.soft.shape == (BATCH, 3)
            assert torch.allclose(target.soft.sum(1), torch.ones(BATCH))
            assert (target.soft.amax(1) < 1).sum() > BATCH // 4


def test_labels_follow_the_share_of_features():
    marks = torch.arange(SIZE, dtype=torch.float32)[:, None].expand(-1, 10).clone()  # each row says whose it is
    for rows, target in batches(marks, smartaug.CutMix()):
        whole = torch.nn.functional.one_hot(LABELS, 3).float()
        wanted = torch.stack([whole[row.long()].mean(0) for row in rows])
        assert torch.allclose(target.soft, wanted, atol=1e-6)


def test_the_only_rows_of_a_batch_need_no_name():
    for settings in ({}, {"inputs": None, "target": None}):
        rows, target = batches(ROWS, smartaug.MixUp(), **settings)[0]
        assert rows.shape == (BATCH, 12)
        assert target.soft.shape == (BATCH, 3)


def test_several_rows_have_to_be_named():
    data = [(ROWS[i], ROWS[i, :5], i % 3) for i in range(SIZE)]
    with pytest.raises(ValueError, match=r"no images found .* inputs=0"):
        next(iter(smartaug.DataLoader(data, BATCH, augment=smartaug.MixUp())))


@pytest.mark.parametrize(
    "stage", [smartaug.Flip(), smartaug.RandAugment(), smartaug.Normalize(0.5, 0.5), smartaug.Erase()]
)
@pytest.mark.parametrize("beside", [[], [smartaug.MixUp()]])
def test_what_needs_pictures_says_so(stage, beside):
    name = type(stage).__name__
    with pytest.raises(
        TypeError,
        match=rf"{name} needs pictures .* MixUp, .* and SMOTE take rows.*image\[None\]",
    ):
        batches(ROWS, [*beside, stage])


def test_callables_may_change_the_width_and_nothing_else():
    assert batches(ROWS, lambda rows: rows[:, :5])[0][0].shape == (BATCH, 5)
    with pytest.raises(TypeError, match=r"must return a tensor \(B, F\) for rows \(16, 12\), it returned \(15, 12\)"):
        batches(ROWS, lambda rows: rows[1:])
    with pytest.raises(TypeError, match=r"must return a tensor \(B, T, F\) for sequences"):
        batches(SEQUENCES, lambda rows: rows[:, 0])


def test_whole_numbers_are_not_mixed():
    with pytest.raises(
        TypeError, match=r"MixUp needs rows of floats, got int64 \(16, 12\), .*; write features.float\(\)"
    ):
        batches((ROWS * 10).long(), smartaug.MixUp())
    assert batches((ROWS * 10).long(), lambda rows: rows + 1)[0][0].dtype == torch.int64


def test_pictures_without_channels_are_no_rows():
    pictures = torch.zeros(SIZE, 8, 8, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"pictures without channels, .*image\[None\]"):
        batches(pictures, smartaug.MixUp())
    with pytest.raises(ValueError, match=r"Pictures without channels need them: image\[None\]"):
        batches(pictures, smartaug.MixUp(), inputs=None)


def test_rows_do_not_ask_what_lies_beside_them():
    data = [(ROWS[i], torch.rand(4), i % 3) for i in range(SIZE)]
    settings = {"inputs": 0, "target": 2, "seed": 0}
    rows, beside, _ = next(iter(smartaug.DataLoader(data, BATCH, augment=smartaug.MixUp(), **settings)))
    assert beside.shape == (BATCH, 4)
    assert rows.shape == (BATCH, 12)


def test_explain_says_what_runs():
    loader = smartaug.DataLoader(TensorDataset(ROWS, LABELS), BATCH, augment=smartaug.CutMix(), inputs=0, target=1)
    next(iter(loader))
    assert "rows of features" in loader.explain()


@pytest.mark.parametrize("apply", ["augment", "append"])
def test_selected_rows_alone_are_augmented(apply):
    chosen = smartaug.Coreset(0.5, select=coreset.Uniform(), apply=apply)
    loader = smartaug.DataLoader(
        TensorDataset(ROWS, LABELS), BATCH, coreset=chosen, augment=add_constant, inputs=0, target=1, seed=5
    )
    mine = set(chosen.selection(0, SIZE, 5)[0].tolist())
    for rows, target in loader:
        added = (rows - ROWS[target.index])[:, 0].round().tolist()
        first = BATCH if apply == "append" else 0
        wanted = [
            ADDED if place >= first and index in mine else 0.0 for place, index in enumerate(target.index.tolist())
        ]
        assert added == wanted


def test_a_mixing_called_by_itself_takes_rows():
    made, target = smartaug.MixUp(num_classes=3)(ROWS, LABELS, index=torch.arange(SIZE), seed=1)
    assert made.shape == ROWS.shape
    assert target.soft.shape == (SIZE, 3)
    plan = smartaug.CutMix().plan(ROWS.shape, index=torch.arange(SIZE), seed=1)
    assert torch.equal(smartaug.CutMix().apply(ROWS, plan), smartaug.CutMix()(ROWS, index=torch.arange(SIZE), seed=1))
    with pytest.raises(ValueError, match=r"images must have shape \(B, C, H, W\), got \(64, 12\)"):
        smartaug.Flip()(ROWS)
    with pytest.raises(ValueError, match="add the batch dimension"):
        smartaug.MixUp()(torch.rand(3, 8, 8))
