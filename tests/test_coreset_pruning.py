"""RePB and AlignPrune: their rules against brute force, and what they draw through the loader."""

import copy
import itertools
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import TensorDataset

import smartaug
from smartaug.coreset import AlignPrune, InfoBatch, RePB
from tests import reference_coreset as reference
from tests.data import Numbered

pytestmark = pytest.mark.filterwarnings("ignore:.*epochs of different lengths")


class Splitting(nn.Module):
    """Sure of the samples below ``sure``, the surer the longer it is asked, and clueless about the others."""

    def __init__(self, sure):
        super().__init__()
        self.sure, self.calls = sure, 0

    def forward(self, images):
        self.calls += self.training
        number = (images.flatten(1)[:, 0] * 1000).round().long()
        right = nn.functional.one_hot(number % 4, 4).float()
        return torch.where((number < self.sure)[:, None], (1 + 0.01 * self.calls) * right, -0.01 * self.calls * right)


CLEAN = (torch.arange(8.0)[:, None, None, None].expand(8, 3, 2, 2) / 1000, torch.arange(8) % 4)
MAKE = {
    "InfoBatch": lambda model: InfoBatch(9),
    "RePB": lambda model: RePB(),
    "RePB, windows of 3": lambda model: RePB(window=3),
    "AlignPrune": lambda model: AlignPrune(9, CLEAN, model=model, window=3),
}


def load(name, model=None, size=40):
    model = model or Splitting(30)
    loader = smartaug.DataLoader(Numbered(size), batch_size=4, shuffle=True, seed=1, coreset=MAKE[name](model))
    return loader, model


def train(loader, model, epochs, batches=None):
    """[{sample: weight} of each epoch], and the losses and batches of each, as the samples were seen."""
    criterion, seen = smartaug.Loss(nn.CrossEntropyLoss()), []
    for _ in range(epochs):
        rows = {}
        for number, (images, target) in enumerate(loader):
            if number == batches:
                break
            output = model(images)
            criterion(output, target)
            losses = nn.functional.cross_entropy(output, target.plain, reduction="none").tolist()
            for sample, weight, loss in zip(target.index.tolist(), target.weight.tolist(), losses, strict=True):
                assert sample not in rows
                rows[sample] = (weight, loss, number)
        seen.append(rows)
    return seen


# --- the rules -------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 30), st.sampled_from([0.0, 0.3, 0.5, 0.9]), st.integers(0, 1000))
def test_repb_window_by_window(size, prune, seed):
    generator = torch.Generator().manual_seed(seed)
    loss, drawn, back, more, out = torch.rand(5, size, generator=generator, dtype=torch.float64)
    window, before = torch.randint(4, (size,), generator=generator), out < 0.7
    loss[(more < 0.2) | ~before] = torch.nan
    kept = RePB.rule(loss, window, before, drawn, back, prune)
    known = [None if value != value else value for value in loss.tolist()]
    wanted = reference.windows_kept(known, window.tolist(), before.tolist(), drawn.tolist(), back.tolist(), prune)
    assert dict(enumerate(kept.tolist())) == wanted


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 12), st.integers(3, 11), st.integers(0, 1000))
def test_alignment_is_the_correlation_over_the_epochs_seen(size, window, seed):
    generator = torch.Generator().manual_seed(seed)
    losses = torch.rand(size, window, generator=generator, dtype=torch.float64)
    losses[torch.rand(losses.shape, generator=generator) < 0.4] = torch.nan
    losses[::4] = 0.25
    wanted = torch.rand(window, generator=generator, dtype=torch.float64)
    score = AlignPrune.score(losses, wanted)
    for row, made in zip(losses.tolist(), score.tolist(), strict=True):
        expected = reference.alignment([None if value != value else value for value in row], wanted.tolist())
        assert (made != made) if expected is None else made == pytest.approx(expected, abs=1e-9)


# --- through the loader ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 3])
def test_repb_draws_by_windows_and_weighs_by_how_often(window):
    loader, model = load("RePB" if window == 1 else "RePB, windows of 3")
    epochs = train(loader, model, 7)
    assert {sample: row[0] for sample, row in epochs[0].items()} == dict.fromkeys(range(40), 1.0)
    started = 0
    for passed in range(1, 7):
        last, now = epochs[passed - 1], epochs[passed]
        for sample, (weight, _, _) in now.items():
            assert weight == pytest.approx(passed / sum(sample in rows for rows in epochs[:passed]))
        means = {}
        for _, loss, number in last.values():
            means.setdefault((started + number) // window, []).append(loss)
        for sample, (_, loss, number) in last.items():
            mine = means[(started + number) // window]
            if loss >= sum(mine) / len(mine) + 1e-6:
                assert sample in now
        assert 0 < len(now) < 40
        started += 1 + max(row[2] for row in last.values())
    assert loader.stats()["coreset"]["pruned"] == 7 * 40 - sum(map(len, epochs))
    assert any(set(after) - set(before) for before, after in itertools.pairwise(epochs))


def test_alignprune_leaves_out_what_does_not_fall_with_the_reference():
    loader, model = load("AlignPrune")
    model.train()
    epochs = train(loader, model, 9)
    aligned, others = range(30), range(30, 40)  # the loss of the others rises
    for number in (1, 2):  # too few epochs for a correlation: by the loss, as InfoBatch
        assert set(others) <= set(epochs[number])
    compared = 0
    for number in (3, 4, 5, 6, 7):
        known = {n for n in range(40) if all(n in rows for rows in epochs[number - 3 : number])}
        if known & set(others):  # else all that are known are aligned, and some are below their mean
            compared += 1
            assert known & set(aligned) <= set(epochs[number])
        assert all(weight in (1.0, 2.0) for weight, _, _ in epochs[number].values())
    assert compared
    drawn = [len(set(others) & set(rows)) for rows in epochs[3:8]]
    assert sum(drawn) < 5 * len(others)
    assert len(epochs[8]) == 40  # the end is whole


@pytest.mark.parametrize("name", MAKE)
def test_a_run_resumed_in_mid_epoch_draws_the_rest(name):
    loader, model = load(name)
    train(loader, model, 5)
    batches, criterion = iter(loader), smartaug.Loss(nn.CrossEntropyLoss())
    for images, target in (next(batches), next(batches)):
        criterion(model(images), target)
    state, twin = loader.state_dict(), copy.deepcopy(model)

    def following(batches, loader, model):
        made = []
        for batch in (batches, loader, loader):
            for images, target in batch:
                criterion(model(images), target)
                made.append((target.index.tolist(), target.weight.tolist()))
        return made

    rest = following(batches, loader, model)
    resumed, _ = load(name, twin)
    resumed.load_state_dict(state)
    assert following(iter(resumed), resumed, twin) == rest


@pytest.mark.parametrize("name", MAKE)
def test_without_its_record_a_run_begins_with_a_whole_epoch(name):
    loader, model = load(name)
    train(loader, model, 4)
    state = loader.state_dict(record=False)
    assert max((part.numel() for part in _tensors(state["stages"])), default=0) <= 40  # the last selections
    resumed, _ = load(name, model)
    resumed.load_state_dict(state)
    assert [len(rows) for rows in train(resumed, model, 1)] == [40]


def _tensors(state):
    for part in state.values() if isinstance(state, dict) else state if isinstance(state, list) else ():
        yield from [part] if isinstance(part, torch.Tensor) else _tensors(part)


@pytest.mark.parametrize("name", MAKE)
def test_copies_go_their_own_way(name):
    loader, model = load(name)
    train(loader, model, 4)
    for other in (copy.deepcopy(loader.coreset), pickle.loads(pickle.dumps(loader.coreset))):
        if name == "AlignPrune":
            other.bind(model)
        wanted, mine = loader.coreset.selection(3, 40, 1), other.selection(3, 40, 1)
        assert torch.equal(wanted[0], mine[0])
        other.selection(4, 40, 1)
        assert loader.coreset.stats()["selections"] == 4
    if name == "AlignPrune":
        assert copy.deepcopy(loader.coreset).reference is loader.coreset.reference


def test_the_reference_is_a_dataset_or_tensors():
    whole = AlignPrune(5, TensorDataset(*CLEAN), model=Splitting(4))
    assert whole._reference_loss() == AlignPrune(5, CLEAN, model=Splitting(4))._reference_loss()
    with pytest.raises(RuntimeError, match="has no model"):
        AlignPrune(5, CLEAN)._reference_loss()


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: RePB(prune=1.0), ValueError, "prune must be a probability"),
        (lambda: RePB(window=0), ValueError, "window must be a number of batches ≥ 1"),
        (lambda: AlignPrune(0, CLEAN), ValueError, r"epochs must be .*write AlignPrune\(100"),
        (lambda: AlignPrune(5, CLEAN, window=2), ValueError, "window must be a number of epochs ≥ 3"),
        (lambda: AlignPrune(5, iter([1])), TypeError, "reference must be a dataset with a length"),
        (lambda: AlignPrune(5, TensorDataset(torch.empty(0))), ValueError, "reference has no samples"),
        (lambda: AlignPrune(5, CLEAN, modle=None), TypeError, "model"),
    ],
)
def test_bad_settings(make, error, match):
    with pytest.raises(error, match=match):
        make()
