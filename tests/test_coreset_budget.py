"""How a budget is split over classes and epochs: exact, never more than there is, and what cannot be is refused."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import Dataset, TensorDataset

import smartaug
from smartaug import coreset
from smartaug.coreset.pick import classes, clipped, explored, explorers_of, split
from smartaug.coreset.schedule import Schedule
from smartaug.coreset.shares import equal, lowest, proportional

COUNTS = st.lists(st.integers(0, 30), min_size=1, max_size=7)


def hamilton(budget, counts):
    """Whole parts first, then one by one to the largest remainder, the first of equal ones."""
    total = sum(counts)
    shares = [budget * count // total for count in counts]
    for _ in range(budget - sum(shares)):
        behind = [budget * count - share * total for count, share in zip(counts, shares, strict=True)]
        shares[behind.index(max(behind))] += 1
    return shares


@settings(max_examples=200, deadline=None)
@given(COUNTS, st.data())
def test_proportional_shares_are_hamiltons(counts, data):
    budget = data.draw(st.integers(0, sum(counts)))
    shares = proportional(budget, np.array(counts)).tolist()
    assert sum(shares) == budget
    assert all(share <= count for share, count in zip(shares, counts, strict=True))
    if sum(counts):
        assert shares == hamilton(budget, counts)


@settings(max_examples=200, deadline=None)
@given(COUNTS, st.data())
def test_equal_shares_are_level_but_for_classes_that_are_too_small(counts, data):
    budget = data.draw(st.integers(0, sum(counts)))
    shares = equal(budget, np.array(counts)).tolist()
    assert sum(shares) == budget
    assert all(share <= count for share, count in zip(shares, counts, strict=True))
    level = [share for share, count in zip(shares, counts, strict=True) if share < count]
    if level:  # who has more left over got no less than anybody, up to one
        assert max(shares) - min(level) <= 1


def test_counts_beyond_what_64_bits_multiply():
    counts = np.array([3 * 10**9, 10**9], np.int64)
    assert proportional(4 * 10**9 - 1, counts).tolist() == [3 * 10**9 - 1, 10**9]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 9)), max_size=25), st.data())
def test_the_lowest_of_each_class(rows, data):
    quota = data.draw(st.lists(st.integers(0, 6), min_size=4, max_size=4))
    code, first, second = (np.array([row[part] for row in rows], np.int64) for part in range(3))
    wanted = []
    for c in range(4):
        members = sorted((row[1], row[2], i) for i, row in enumerate(rows) if row[0] == c)
        wanted += [member[2] for member in members[: quota[c]]]
    assert lowest(code, np.array(quota), first, second).tolist() == sorted(wanted)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 5), st.booleans()), min_size=1, max_size=30), st.data())
def test_exploration_fills_the_budget_with_what_was_not_seen_for_longest(rows, data):
    labels, seen, taken = (np.array([row[part] for row in rows]) for part in range(3))
    groups = classes(labels)
    free = int((~taken).sum())
    quota = np.array([data.draw(st.integers(0, int(count))) for count in groups.counts])
    while quota.sum() > free:
        quota[quota.argmax()] -= 1
    made = explored(groups, quota, taken, seen, 3, 1)
    assert len(made) == len(set(made.tolist())) == quota.sum()
    assert not taken[made].any()
    for c, name in enumerate(groups.names):
        mine = [i for i in made if labels[i] == name]
        rest = [i for i in range(len(rows)) if labels[i] == name and not taken[i] and i not in made]
        assert len(mine) >= min(int(quota[c]), len(mine) + len(rest))
        assert all(seen[i] <= seen[j] for i in mine for j in rest)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=40), st.floats(0, 1), st.data())
def test_explorers_are_as_many_as_asked_and_the_seen_can_fill_the_rest(rows, explore, data):
    groups, seen = classes(np.array([row[0] for row in rows])), np.array([row[1] for row in rows])
    budget = data.draw(st.integers(0, len(rows)))
    quota = proportional(budget, groups.counts)
    for draws in (False, True):
        made = explorers_of(groups, quota, seen, explore, draws)
        known = np.bincount(groups.code[seen], minlength=len(quota))
        assert ((made >= 0) & (made <= quota) & (quota - made <= known)).all()
        if draws:
            assert made.sum() >= round(explore * budget)
        else:
            assert made.tolist() == np.maximum(quota - known, 0).tolist()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.floats(0.01, 1), st.booleans(), st.integers(0, 3))
def test_selections_have_the_exact_budget_and_shares(labels, fraction, balanced, epoch):
    dataset = TensorDataset(torch.zeros(len(labels), 2), torch.tensor(labels))
    for select in (coreset.Uniform(), smartaug.FacilityLocation(backend="torch")):
        chosen = smartaug.Coreset(fraction, select=select, balanced=balanced)
        chosen.attach(dataset)
        indices, weights = chosen.selection(epoch, len(labels), 3)
        assert weights is None
        assert indices.tolist() == sorted(set(indices.tolist()))
        assert len(indices) == chosen.budget(len(labels)) == max(1, round(fraction * len(labels)))
        groups = classes(np.array(labels))
        wanted = (equal if balanced else proportional)(len(indices), groups.counts)
        assert np.bincount(groups.code[indices.numpy()], minlength=len(wanted)).tolist() == wanted.tolist()
        again = smartaug.Coreset(fraction, select=select, balanced=balanced)
        again.attach(dataset)
        assert torch.equal(again.selection(epoch, len(labels), 3)[0], indices)


def test_warm_up_draws_fresh_subsets_of_the_same_budget():
    chosen = smartaug.Coreset(0.5, warmup=3)
    subsets = [tuple(chosen.selection(epoch, 40, 1)[0].tolist()) for epoch in range(3)]
    assert len(set(subsets)) == 3
    assert {len(subset) for subset in subsets} == {20}
    later = smartaug.Coreset(0.5)  # a run that begins later warms up later
    assert tuple(later.selection(2, 40, 1)[0].tolist()) == subsets[2]


# --- schedules -------------------------------------------------------------------------------------------------------


def test_a_schedule_changes_the_length_and_steps_counts_it():
    def growing(epoch):
        return 0.2 + 0.2 * epoch

    chosen = smartaug.Coreset(growing, select=coreset.Uniform(), every=2)
    with pytest.warns(UserWarning, match=r"different lengths: size learning-rate schedules by loader\.steps"):
        loader = smartaug.DataLoader(TensorDataset(torch.zeros(50, 2)), batch_size=8, coreset=chosen, target=0, seed=1)
    lengths, samples = [], []
    for _ in range(4):
        expected = len(loader)
        batches = [len(inputs) for (inputs,) in loader]
        assert len(batches) == expected
        lengths.append(len(batches))
        samples.append(sum(batches))
    assert samples == [10, 20, 30, 40]
    assert [loader.steps(epochs) for epochs in range(5)] == [sum(lengths[:epochs]) for epochs in range(5)]
    dropping = smartaug.Coreset(growing, select=coreset.Uniform())
    with pytest.warns(UserWarning, match="different lengths"):
        loader = smartaug.DataLoader(range(50), batch_size=8, drop_last=True, coreset=dropping)
    assert loader.steps(4) == 1 + 2 + 3 + 5


def test_a_schedule_of_what_is_augmented_keeps_the_length():
    chosen = smartaug.Coreset(lambda epoch: 10 * (epoch + 1), select=coreset.Uniform(), apply="augment")
    images = [(torch.rand(1, 4, 4), 0) for _ in range(30)]
    loader = smartaug.DataLoader(images, batch_size=5, coreset=chosen, augment=smartaug.Flip())
    for _ in range(3):
        assert len(list(loader)) == 6
    assert loader.stats()["augmented"] == 60


def test_a_schedule_that_makes_no_sense():
    with pytest.raises(ValueError, match=r"got 1.5 for epoch 3; write"):
        smartaug.Coreset(lambda epoch: 0.5 * epoch).budget(10, 3)


# --- weights ---------------------------------------------------------------------------------------------------------


def weights_of(option):
    """Weights of a selection of two clusters, 19 alike and 1 apart, of which one sample each is picked."""
    dataset = TensorDataset(torch.cat([torch.zeros(19, 4), torch.ones(1, 4)]), torch.zeros(20, dtype=torch.int64))
    torch.manual_seed(0)
    chosen = smartaug.Coreset(2, warmup=0, embed="pass", model=nn.Linear(4, 3), progress=False, weights=option)
    loader = smartaug.DataLoader(dataset, batch_size=2, coreset=chosen)
    ((_, target),) = loader
    assert 19 in target.index.tolist()
    return target.weight[target.index.argsort()].tolist()


def test_weights_are_off_clipped_or_whole():
    assert weights_of(False) == [1.0, 1.0]
    assert weights_of(float("inf")) == pytest.approx([1.9, 0.1])
    assert weights_of(True) == pytest.approx([1.9, 0.1])  # nothing above 4 times the mean
    assert weights_of(1.0) == pytest.approx([1.0 / 0.55, 0.1 / 0.55])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=20), st.floats(1, 20))
def test_clipped_weights_have_mean_1(values, limit):
    weights = torch.tensor(values, dtype=torch.float64)
    if not weights.sum() > 1e-6:
        return
    made = clipped(weights, limit)
    cut = torch.tensor([min(value, limit * float(weights.mean())) for value in values], dtype=torch.float64)
    assert torch.allclose(made, cut * (len(cut) / cut.sum()))


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"every": True}, ValueError, "every must be a number of epochs"),
        ({"warmup": -1}, ValueError, "warmup must be a number of epochs ≥ 0"),
        ({"batch_size": 0}, ValueError, "batch_size must be a number of samples ≥ 1"),
        ({"embed": "guess"}, ValueError, "embed must be one of observed, pass"),
        ({"apply": "mix"}, ValueError, "apply must be one of train, augment, append"),
        ({"explore": 1.5}, ValueError, "explore must be a share of the budget"),
        ({"weights": 0.5}, ValueError, "weights must be False, True or a multiple of the mean"),
        ({"weights": True, "apply": "augment"}, ValueError, 'weights are for apply="train"'),
        ({"model": nn.Linear}, TypeError, "model must be a torch.nn.Module"),
        ({"model": 3}, TypeError, "model must be a torch.nn.Module"),
    ],
)
def test_settings_that_make_no_sense(arguments, error, match):
    with pytest.raises(error, match=match):
        smartaug.Coreset(0.5, **arguments)


def test_a_pass_needs_a_model_and_data():
    chosen = smartaug.Coreset(0.5, embed="pass", warmup=0)
    with pytest.raises(RuntimeError, match="has no dataset"):
        chosen.selection(0, 10, 0)
    chosen.attach(TensorDataset(torch.zeros(10, 2), torch.arange(10) % 2))
    with pytest.raises(RuntimeError, match=r"has no model.*loader\.coreset\.bind\(model\)"):
        chosen.selection(0, 10, 0)
    assert len(chosen.bind(nn.Linear(2, 2)).selection(0, 10, 0)[0]) == 5
    spoilt = smartaug.Coreset(0.5, embed="pass", warmup=0, model=nn.Linear(2, 2))
    spoilt.attach(TensorDataset(torch.full((10, 2), torch.nan), torch.arange(10) % 2))
    with pytest.raises(ValueError, match="not finite"):
        spoilt.selection(0, 10, 0)


def test_explain_names_the_criterion_and_where_the_embedding_is_from():
    images = [(torch.rand(1, 4, 4), 0) for _ in range(30)]
    for settings_, words in (
        ({}, ["FacilityLocation", "observed", "only selected samples are drawn"]),
        ({"embed": "pass", "apply": "append", "select": smartaug.MaxLoss()}, ["MaxLoss", "pass", "appended"]),
    ):
        loader = smartaug.DataLoader(images, coreset=smartaug.Coreset(0.5, **settings_), augment=smartaug.Flip())
        assert all(word in loader.explain() for word in words)


# --- labels that are not known ---------------------------------------------------------------------------------------


class Unlabelled(Dataset):
    """40, 10 and 10 samples of three classes, kept where nobody looks for labels."""

    def __init__(self):
        self.hidden = [0] * 40 + [1] * 10 + [2] * 10

    def __len__(self):
        return len(self.hidden)

    def __getitem__(self, index):
        return torch.randn(4, generator=torch.Generator().manual_seed(index)), self.hidden[index]


def test_balanced_selections_explore_while_labels_are_unknown_and_are_balanced_then():
    chosen = smartaug.Coreset(24, balanced=True, explore=0.0, select=smartaug.MaxLoss())
    loader = smartaug.DataLoader(Unlabelled(), batch_size=8, shuffle=True, coreset=chosen, seed=0)
    criterion, model, seen, unseen = smartaug.Loss(nn.CrossEntropyLoss()), nn.Linear(4, 3), set(), []
    for _ in range(9):
        drawn = set()
        for inputs, target in loader:
            criterion(model(inputs), target)
            drawn |= set(target.index.tolist())
        unseen.append(len(drawn - seen))
        seen |= drawn
    assert unseen[:2] == [24, 15]  # 36 of 60 samples had not been seen: 15 of a budget of 24
    assert len(seen) == 60
    labels = np.array(loader.dataset.hidden)
    assert np.bincount(labels[sorted(drawn)]).tolist() == [8, 8, 8]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.data())
def test_unknown_labels_have_their_share_and_known_classes_equal_ones(labels, data):
    groups, budget = classes(np.array(labels)), data.draw(st.integers(0, len(labels)))
    shares = split(budget, groups, balanced=True)
    assert shares.sum() == budget
    assert (shares <= groups.counts).all()
    known = groups.names >= 0
    wanted = budget * sum(label < 0 for label in labels) / len(labels)
    assert wanted <= shares[~known].sum() < wanted + 1
    assert shares[known].tolist() == equal(int(shares[known].sum()), groups.counts[known]).tolist()
    assert split(budget, groups, balanced=False).tolist() == proportional(budget, groups.counts).tolist()


def test_balancing_classes_that_nobody_will_know_is_refused():
    chosen = smartaug.Coreset(0.5, balanced=True, select=coreset.Uniform())
    with pytest.raises(ValueError, match=r"balanced=True needs.*Unlabelled has none.*dataset\.targets = "):
        smartaug.DataLoader(Unlabelled(), coreset=chosen)
    with pytest.raises(ValueError, match=r"balanced=True needs the label of every sample.* and the dataset has none"):
        smartaug.Coreset(0.5, balanced=True, select=coreset.Uniform()).selection(0, 60, 0)
    model = nn.Linear(4, 3)
    passing = smartaug.Coreset(24, balanced=True, embed="pass", model=model, warmup=0, progress=False)
    passing.attach(Unlabelled())
    labels = np.array(Unlabelled().hidden)  # the pass reads them
    assert np.bincount(labels[passing.selection(0, 60, 0)[0]]).tolist() == [8, 8, 8]


# --- when it is chosen -----------------------------------------------------------------------------------------------


@given(st.integers(1, 4), st.integers(0, 3), st.integers(0, 5), st.integers(0, 30))
def test_a_selection_serves_so_many_epochs_after_the_warm_up(every, warmup, since, epoch):
    schedule = Schedule(0.3, every, warmup)
    assert schedule.number(epoch, None) == epoch // every  # without a warm-up
    served = [schedule.number(since + n, since) for n in range(warmup + 3 * every)]
    assert served == [None] * warmup + [n // every for n in range(3 * every)]


@pytest.mark.parametrize(
    "call", [lambda **given: smartaug.Coreset(0.5, **given), partial(coreset.embed_pass, None, [])]
)
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"batch_size": 0}, "batch_size must be a number of samples ≥ 1, got 0"),
        ({"dtype": torch.int8}, "dtype must be"),
    ],
)
def test_the_options_of_a_pass_are_checked_where_they_are_given(call, given, words):
    with pytest.raises(ValueError, match=words):
        call(**given)
