"""One coreset, several loaders: its record and labels go by the index of a sample, so by one dataset."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, Subset, TensorDataset

import smartaug
from smartaug._base.selections import LastFew, checked_selection


def data(size=24):
    return TensorDataset(torch.randn(size, 6), torch.arange(size) % 3)


class Growing(Dataset):
    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return torch.ones(6) * index, index % 3


def coresets():
    return [
        smartaug.Coreset(0.5),
        smartaug.Coreset(0.5, select=smartaug.coreset.RandomSubset(), balanced=True),
        smartaug.Coreset(0.5, apply="augment"),
        smartaug.InfoBatch(5),
    ]


def loader(dataset, coreset, **arguments):
    augment = smartaug.Flip() if coreset.apply != "train" else None
    return smartaug.DataLoader(dataset, 4, coreset=coreset, augment=augment, inputs=0, seed=0, **arguments)


@pytest.mark.filterwarnings("ignore:InfoBatch")
@pytest.mark.parametrize("coreset", coresets(), ids=repr)
def test_a_second_dataset_is_refused(coreset):
    mine = data()
    loader(mine, coreset)
    again = loader(mine, coreset, shuffle=True)  # another line over the same data
    with pytest.raises(ValueError, match="belongs to another dataset: it keeps labels and outputs by the index"):
        loader(data(), coreset)
    with pytest.raises(ValueError, match="belongs to another dataset"):
        loader(Subset(mine, range(12)), coreset)
    for made in (copy.deepcopy(again), pickle.loads(pickle.dumps(again))):
        loader(made.dataset, made.coreset)
        with pytest.raises(ValueError, match="belongs to another dataset"):
            loader(data(), made.coreset)


def test_a_dataset_that_changes_its_length_is_refused():
    dataset = Growing(24)
    made = loader(dataset, smartaug.Coreset(0.5, select=smartaug.coreset.RandomSubset()))
    assert sum(len(images) for images, _ in made) == 12
    dataset.size = 36
    with pytest.raises(ValueError, match="had 24 samples when the coreset was given to its loader, and has 36"):
        list(made)


@pytest.mark.parametrize(
    ("select", "words"),
    [
        (lambda e, budget, g: (torch.arange(budget) + 0.7, None), "integers ≥ 0 .*float32"),
        (lambda e, budget, g: (torch.arange(len(e.residual)) < budget, None), "mask.nonzero"),
        (lambda e, budget, g: (torch.arange(budget)[:, None], None), r"shape \(k,\), got torch.int64 \(2, 1\)"),
        (lambda e, budget, g: (torch.zeros(budget, dtype=torch.int64), None), "repeat some samples"),
        (lambda e, budget, g: (torch.arange(budget) + 99, None), "index 100 is selected"),
        (lambda e, budget, g: (torch.arange(budget) - 1, None), "integers ≥ 0"),
        (lambda e, budget, g: (torch.arange(budget), -torch.ones(budget)), "weights must be 2 finite numbers ≥ 0"),
    ],
)
def test_what_a_criterion_returns_is_checked(select, words):
    dataset, criterion, model = data(), smartaug.Loss(nn.CrossEntropyLoss()), nn.Linear(6, 3)
    made = loader(dataset, smartaug.Coreset(0.5, select=select))
    for images, target in made:
        criterion(model(images), target)
    with pytest.raises(ValueError, match=f"was asked for 2 of the 4 rows of class 0: .*{words}"):
        list(made)


def test_only_the_last_few_are_kept():
    kept = LastFew()
    for epoch in range(9):
        kept[epoch] = checked_selection([epoch], None, 9)
    assert list(kept) == [5, 6, 7, 8]
    assert list(pickle.loads(pickle.dumps(kept))) == [5, 6, 7, 8]
