"""InfoBatch: pruned below the mean with the given probability, unbiased in expectation, whole at both ends."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import smartaug
from tests.data import Numbered


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 30), st.sampled_from([0.0, 0.3, 0.5, 0.9]), st.integers(0, 1000))
def test_the_rule_row_by_row(size, prune, seed):
    generator = torch.Generator().manual_seed(seed)
    loss = torch.rand(size, generator=generator, dtype=torch.float64)
    loss[torch.rand(size, generator=generator) < 0.2] = torch.nan
    drawn = torch.rand(size, generator=generator)
    known = [value for value in loss.tolist() if value == value]
    kept = {}
    for i, (value, draw) in enumerate(zip(loss.tolist(), drawn.tolist(), strict=True)):
        easy = value == value and value < sum(known) / len(known) - 1e-12
        if not (easy and draw < prune):
            kept[i] = 1 / (1 - prune) if easy else 1.0
    indices, weights = smartaug.InfoBatch.rule(loss, drawn, prune)
    assert dict(zip(indices.tolist(), weights.tolist(), strict=True)) == pytest.approx(kept)


def test_the_sum_over_an_epoch_is_unbiased():
    loss = torch.rand(400, generator=torch.Generator().manual_seed(1), dtype=torch.float64) ** 3
    gradient, total = torch.randn(400, dtype=torch.float64), torch.zeros(2000, dtype=torch.float64)
    for draw in range(len(total)):
        indices, weights = smartaug.InfoBatch.rule(loss, torch.rand(400), 0.5)
        total[draw] = (gradient[indices] * weights).sum()
    assert abs(total.mean() - gradient.sum()) < 4 * total.std() / len(total) ** 0.5
    assert total.std() > 1


class Splitting(nn.Module):
    """Sure of the samples below ``sure``, and clueless about the others."""

    def __init__(self, sure):
        super().__init__()
        self.sure = sure

    def forward(self, images):
        number = (images.flatten(1)[:, 0] * 1000).round().long()
        right = nn.functional.one_hot(number % 4, 4).float()
        return torch.where((number < self.sure)[:, None], 9 * right, 0 * right)


def train(loader, epochs, model=None):
    model, criterion = model or Splitting(30), smartaug.Loss(nn.CrossEntropyLoss())
    seen = []
    for _ in range(epochs):
        rows = []
        for images, target in loader:
            criterion(model(images), target)
            rows += zip(target.index.tolist(), target.weight.tolist(), strict=True)
        seen.append(dict(rows))
        assert len(seen[-1]) == len(rows)
    return seen


@pytest.mark.filterwarnings("ignore:.*epochs of different lengths")
def test_epochs_are_whole_at_both_ends_and_pruned_between():
    loader = smartaug.DataLoader(Numbered(40), batch_size=4, shuffle=True, seed=1, coreset=smartaug.InfoBatch(8))
    epochs = train(loader, 8)
    for number, epoch in enumerate(epochs):
        if number in (0, 7):
            assert epoch == dict.fromkeys(range(40), 1.0)
            continue
        assert set(range(30, 40)) <= set(epoch)
        assert 5 <= len(epoch) - 10 <= 25
        assert all(weight == (2.0 if index < 30 else 1.0) for index, weight in epoch.items())
    assert epochs[1] != epochs[2]  # what was pruned comes back
    pruned = 8 * 40 - sum(map(len, epochs))
    assert loader.stats()["coreset"]["pruned"] == pruned
    assert sum(map(len, epochs)) / 4 <= loader.steps(8) <= 80
    assert "InfoBatch" in loader.explain()


def test_it_warns_once_and_names_steps():
    with pytest.warns(UserWarning, match=r"different lengths.*loader\.steps\(epochs\)") as noticed:
        smartaug.DataLoader(Numbered(), coreset=smartaug.InfoBatch(4))
    assert len(noticed) == 1


@pytest.mark.filterwarnings("ignore:.*epochs of different lengths")
def test_a_run_resumed_in_mid_epoch_draws_the_rest():
    def make():
        return smartaug.DataLoader(Numbered(40), batch_size=4, shuffle=True, seed=1, coreset=smartaug.InfoBatch(8))

    loader = make()
    train(loader, 1)
    batches, criterion = iter(loader), smartaug.Loss(nn.CrossEntropyLoss())
    for images, target in (next(batches), next(batches)):
        criterion(Splitting(30)(images), target)
    state = loader.state_dict()
    rest = [(target.index.tolist(), target.weight.tolist()) for _, target in batches]
    resumed = make()
    resumed.load_state_dict(state)
    assert [(target.index.tolist(), target.weight.tolist()) for _, target in resumed] == rest
    assert 2 + len(rest) < 10


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"epochs": 0}, "epochs must be the number of epochs"),
        ({"epochs": 2.5}, "epochs must be the number of epochs"),
        ({"epochs": 2, "prune": 1.0}, "prune must be a probability"),
        ({"epochs": 2, "final": -0.1}, "final must be a share"),
    ],
)
def test_bad_settings(arguments, match):
    with pytest.raises(ValueError, match=match):
        smartaug.InfoBatch(**arguments)


def test_it_is_no_criterion_of_a_coreset():
    with pytest.raises(TypeError, match=r"is a coreset: write coreset=InfoBatch\(5"):
        smartaug.Coreset(0.5, select=smartaug.InfoBatch(5))
    kept, weights = smartaug.InfoBatch(5)(smartaug.Embedding(torch.zeros(9, 2), None, torch.arange(9.0)), 3)
    assert set(range(4, 9)) <= set(kept.tolist())
    assert len(kept) == len(weights)
    with pytest.raises(ValueError, match=r"embedding.loss"):
        smartaug.InfoBatch(5)(smartaug.Embedding(torch.zeros(9, 2)), 3)
