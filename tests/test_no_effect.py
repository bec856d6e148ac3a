"""Weights and soft labels that nobody reads: said early, once, at the user's line; never where a loss comes late."""

import copy
import pickle
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import TensorDataset

import smartaug

IMAGES = torch.zeros(40, 3, 8, 8, dtype=torch.uint8)


class Doubled:
    """Weights every batch."""

    def __call__(self, batch, trace):
        return torch.linspace(0.5, 1.5, len(batch.target)), None


def loader_of(batches=5, **keywords):
    data = TensorDataset(IMAGES[: 8 * batches], torch.arange(8 * batches) % 3)
    return smartaug.DataLoader(data, batch_size=8, reweight=Doubled(), device="cpu", **keywords)


def said(run):
    """The warnings of ``run()``."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run()
    return [one for one in caught if one.category is smartaug.NoEffectWarning]


def mixed_in_the_loop(images, target):
    """As timm's Mixup: the target becomes a plain distribution."""
    return images, F.one_hot(target.plain, 3).float().lerp(torch.full((len(target), 3), 1 / 3), 0.1)


@pytest.mark.parametrize("batches", [2, 3, 5])
def test_a_loop_that_encodes_its_targets_is_told_in_the_first_pass(batches):
    criterion, lines = smartaug.Loss(torch.nn.CrossEntropyLoss()), []

    def train():
        lines.append(train.__code__.co_firstlineno + 2)
        for images, target in loader_of(batches):
            images, target = mixed_in_the_loop(images, target)
            criterion(torch.zeros(len(images), 3, requires_grad=True), target).backward()

    (warning,) = said(train)
    assert "carried weights or soft labels that nobody has read" in str(warning.message)
    assert "mixed or encoded in the loop" in str(warning.message)
    assert Path(warning.filename) == Path(__file__)
    assert warning.lineno == lines[0]


def test_it_is_said_at_the_second_batch_that_is_gone():
    loader, told = loader_of(), []
    batches = iter(loader)
    for _ in range(4):
        told.append(len(said(lambda: next(batches))))
    assert told == [0, 0, 1, 0]  # two are gone when the third comes


@pytest.mark.parametrize("ahead", [1, 2, 4])
def test_loops_that_fetch_ahead_are_not_told(ahead):
    criterion = smartaug.Loss(torch.nn.CrossEntropyLoss())

    def train():
        held = []
        for images, target in loader_of():
            held.append((images, target.to("cpu", copy=True)))
            del images, target
            if len(held) > ahead:
                inputs, labels = held.pop(0)
                criterion(torch.zeros(len(inputs), 3), labels)
        for inputs, labels in held:
            criterion(torch.zeros(len(inputs), 3), labels)

    assert said(train) == []


def test_a_loop_that_keeps_all_targets_is_told_after_twenty():
    loader, kept = loader_of(), []

    def train():
        for _ in range(5):
            kept.extend(target for _, target in loader)

    assert len(said(train)) == 1


@pytest.mark.parametrize("read", [lambda target: target.weight, lambda target: target.soft])
def test_reading_them_is_an_effect(read):
    def train():
        for _, target in loader_of():
            read(target)

    assert said(train) == []


def test_a_late_reweighter_needs_the_loss_itself():
    """With when="loss" there is nothing in target.weight, so reading that is none."""
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3))
    data = TensorDataset(torch.rand(40, 3, 8, 8), torch.arange(40) % 3)
    held = TensorDataset(torch.rand(12, 3, 8, 8), torch.arange(12) % 3)
    stage = smartaug.SAFLEX(model, held, method="difference", when="loss")
    loader = smartaug.DataLoader(data, batch_size=8, reweight=stage, device="cpu")
    assert len(said(lambda: [target.weight.sum() for _, target in loader])) == 1


def test_wrap_and_collate_tell_too():
    batches = [(IMAGES[:8], torch.arange(8) % 3)] * 3

    def wrapped():
        for _, target in smartaug.wrap(batches, reweight=Doubled(), device="cpu"):
            del target

    collate = smartaug.Collate(reweight=Doubled())

    def collated():
        data = TensorDataset(IMAGES, torch.arange(40) % 3)
        for batch in torch.utils.data.DataLoader(data, 8, collate_fn=collate):
            batch.to("cpu")

    assert [len(said(wrapped)), len(said(collated))] == [1, 1]


def test_targets_travel_as_before():
    """What counts the batch is no part of a target that is copied, saved or sent."""
    _, target = next(iter(loader_of()))
    for other in (copy.deepcopy(target), pickle.loads(pickle.dumps(target))):
        assert torch.equal(other.weight, target.weight)
        assert type(other._key) is str
        assert other._key == target._key
