"""LiLAW: weights and steps of its three numbers against slow twins, through the loader and the loss."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import TensorDataset

import smartaug
from smartaug.reweight.validation import ValidationBatches
from tests import reference_policies as reference

START = (10.0, 2.0, 6.0)


@given(st.floats(0, 1), st.floats(0, 1), st.tuples(st.floats(1, 20), st.floats(-5, 9), st.floats(-5, 20)))
def test_weights_are_the_twins(one, other, scalars):
    given_label, largest = min(one, other), max(one, other)
    made = smartaug.LiLAW.weights(
        torch.tensor([given_label], dtype=torch.float64),
        torch.tensor([largest], dtype=torch.float64),
        torch.tensor(scalars, dtype=torch.float64),
    )
    assert float(made) == pytest.approx(reference.lilaw_weight(given_label, largest, *scalars), abs=1e-12)
    sure = smartaug.LiLAW.weights(torch.ones(1), torch.ones(1), torch.tensor(START))
    assert float(sure) == pytest.approx(1.27, abs=0.01)
    nothing = smartaug.LiLAW.weights(torch.zeros(1), torch.tensor([largest]), torch.tensor(scalars))
    assert float(nothing) == pytest.approx(1 + 2.718281828459045 ** (-(largest**2) / 2), abs=1e-5)  # as the card says


def problem():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)).double()
    model(torch.randn(20, 5).double())
    held = (torch.randn(24, 5).double(), torch.arange(24) % 3)
    return model, held


def batch_of(seed):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(6, 5, generator=generator).double()
    return smartaug.Batch(inputs, torch.arange(6) % 3, None, None, torch.arange(6))


@pytest.mark.parametrize("every", [1, 2])
def test_the_steps_are_the_twins(every):
    model, held = problem()
    stage = smartaug.LiLAW(model, held, lr=0.7, weight_decay=0.01, validation_batch=8, every=every)
    drawn, scalars, number = ValidationBatches(held, 8), START, 0
    for step in range(5):
        if step and step % every == 0:
            inputs, labels = drawn.batch(number, torch.device("cpu"))
            number += 1
            with torch.no_grad():
                logits = copy.deepcopy(model).eval()(inputs)
            scalars = reference.lilaw_step(logits.tolist(), labels.tolist(), scalars, 0.7, 0.01)
        weight, soft = stage(batch_of(step), None)
        assert soft is None
        assert stage.scalars.tolist() == pytest.approx(scalars, abs=1e-7)
        with torch.no_grad():
            logits = copy.deepcopy(model)(batch_of(step).inputs)
        wanted = torch.tensor(
            [
                reference.lilaw_weight(reference.softmax(row)[label % 3], max(reference.softmax(row)), *scalars)
                for label, row in enumerate(logits.tolist())
            ],
            dtype=torch.float64,
        )
        assert torch.allclose(weight, wanted / wanted.mean(), atol=1e-7)
        with torch.no_grad():  # the loop's own step
            model[0].weight += 0.1
    assert stage.stats()["alpha"] == pytest.approx(scalars[0], abs=1e-7)
    assert scalars[0] < START[0]
    assert scalars[1] > START[1]


def test_the_bounds_hold():
    model, held = problem()
    stage = smartaug.LiLAW(model, held, lr=1e4, weight_decay=0.0, validation_batch=8)
    for step in range(3):
        stage(batch_of(step), None)
    alpha, beta, delta = stage.scalars.tolist()
    assert alpha == 1.0
    assert delta >= beta > 2.0


@pytest.mark.parametrize("when", ["batch", "loss"])
def test_it_trains_through_the_loader(when):
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    data = TensorDataset(torch.randn(48, 5), torch.arange(48) % 3)
    passes = []
    model[0].register_forward_hook(lambda _, args, output: passes.append(len(output)))
    stage = smartaug.LiLAW(model, (torch.randn(30, 5), torch.arange(30) % 3), lr=0.1, validation_batch=10, when=when)
    loader = smartaug.DataLoader(data, 12, reweight=stage, device="cpu", seed=0)
    criterion, optimizer = smartaug.Loss(nn.CrossEntropyLoss()), torch.optim.SGD(model.parameters(), lr=0.1)
    for inputs, target in loader:
        optimizer.zero_grad()
        loss = criterion(model(inputs), target)
        loss.backward()
        optimizer.step()
        if when == "batch":
            assert float(target.weight.mean()) == pytest.approx(1.0, abs=1e-5)
    assert stage.scalars.tolist() != list(START)
    assert passes.count(12) == (8 if when == "batch" else 4)  # with when="loss" the loop's own passes alone
    assert passes.count(10) == 3


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"start": (0.5, 2.0, 6.0)}, "start must be .* with alpha ≥ 1"),
        ({"start": (10.0, 7.0, 6.0)}, "start must have delta ≥ beta"),
        ({"start": (10.0, 2.0)}, "start must be"),
        ({"lr": 0.0}, "lr must be positive"),
        ({"weight_decay": -1.0}, "weight_decay must not be negative"),
        ({"when": "later"}, 'when must be "batch" or "loss"'),
    ],
)
def test_bad_arguments_are_named(arguments, match):
    with pytest.raises(ValueError, match=match):
        smartaug.LiLAW(*problem(), **arguments)


def test_what_it_cannot_weigh_is_refused():
    model, held = problem()
    with pytest.raises(TypeError, match="scope"):
        smartaug.LiLAW(model, held, scope="head")
    maps = nn.Conv2d(1, 3, 1)
    stage = smartaug.LiLAW(maps, (torch.randn(6, 1, 4, 4), torch.randint(0, 3, (6, 4, 4))))
    with pytest.raises(TypeError, match="LiLAW weighs by the probability of one class a sample"):
        stage(smartaug.Batch(torch.randn(6, 1, 4, 4), torch.randint(0, 3, (6, 4, 4))), None)
