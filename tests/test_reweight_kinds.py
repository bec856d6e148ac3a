"""Reweighters on labels that are no choice among classes: several a sample, values. Weights alone, by the slow twin."""

import functools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import TensorDataset

import smartaug
from smartaug import grads

CRITERIA = {
    "BCE": nn.BCEWithLogitsLoss(),
    "BCE with pos_weight": nn.BCEWithLogitsLoss(pos_weight=torch.tensor([1.0, 3.0, 0.5], dtype=torch.float64)),
    "BCE, functional": F.binary_cross_entropy_with_logits,
    "MSE": nn.MSELoss(),
    "MSE, sum": nn.MSELoss(reduction="sum"),
    "Huber, partial": functools.partial(F.huber_loss, delta=0.5),
    "L1": nn.L1Loss(),
}
LEARNED = ["SAFLEX", "LearningToReweight", "MetaWeightNet", "MetaAugment"]


def net(outputs=3):
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, outputs)).double()


def labels(name, n, outputs=3):
    made = torch.randn(n, outputs, dtype=torch.float64)
    return (made > 0).double() if name.startswith("BCE") else 50 + 10 * made


def slow(model, criterion, inputs, target, held):
    """(losses, ⟨∇ℓ_i, ∇L_val⟩) by one reverse pass for each sample."""
    parameters = list(model.parameters())
    g = torch.autograd.grad(criterion(model(held[0]), held[1]), parameters)
    losses, gains = [], []
    for row in range(len(inputs)):
        loss = criterion(model(inputs[row : row + 1]), target[row : row + 1])
        own = torch.autograd.grad(loss, parameters)
        losses.append(loss.detach())
        gains.append(sum((a * b).sum() for a, b in zip(own, g, strict=True)))
    return torch.stack(losses), torch.stack(gains)


@pytest.mark.parametrize("name", CRITERIA)
@settings(max_examples=6, deadline=None)
@given(n=st.integers(1, 6), seed=st.integers(0, 2**31), form=st.sampled_from(["jvp", "head"]))
def test_weights_are_the_rule_on_slow_gains(name, n, seed, form):
    torch.manual_seed(seed)
    model, criterion = net(), CRITERIA[name]
    inputs, target = torch.randn(n, 4, dtype=torch.float64), labels(name, n)
    held = (torch.randn(5, 4, dtype=torch.float64), labels(name, 5))
    made = smartaug.LearningToReweight(
        model, held, validation_batch=5, criterion=criterion, scope="head" if form == "head" else "full"
    )
    drawn = made.validation.batch(0, torch.device("cpu"))
    if form == "head":
        for part in model[0].parameters():
            part.requires_grad_(False)
        model_of_head = nn.Sequential(model[0], model[1], model[2])
        model_of_head.parameters = model[2].parameters  # the twin differentiates by the head alone
    else:
        model_of_head = model
    losses, gains = slow(model_of_head, criterion, inputs, target, drawn)
    for part in model.parameters():
        part.requires_grad_(True)
    weight, soft = made(smartaug.Batch(inputs, target), None)
    assert soft is None
    wanted = gains.clamp_min(0)
    wanted = wanted / wanted.mean() if wanted.sum() > 0 else torch.ones_like(wanted)
    assert torch.allclose(weight, wanted, atol=1e-9)
    minus, gain = grads.benefit(
        model, inputs, grads.direction(model, *drawn, criterion, training=False), against=(criterion, target)
    )
    assert minus.shape == gain.shape == (n, 1)
    assert torch.allclose(-minus[:, 0], losses)
    saflex = smartaug.SAFLEX(model, held, validation_batch=5, criterion=criterion)
    weight, soft = saflex(smartaug.Batch(inputs, target), None)
    assert soft is None
    if float(gain.abs().min()) > 1e-9:
        kept = (gain[:, 0] >= 0).double()
        assert torch.allclose(weight, kept / kept.mean() if kept.sum() > 0 else torch.ones_like(kept))


@pytest.mark.parametrize("name", ["BCE", "BCE with pos_weight", "BCE, functional"])
@settings(max_examples=6, deadline=None)
@given(n=st.integers(1, 5), seed=st.integers(0, 2**31))
def test_each_of_several_labels_is_moved_by_its_own_slow_gains(name, n, seed):
    torch.manual_seed(seed)
    model, criterion = net(), CRITERIA[name]
    inputs, target = torch.randn(n, 4, dtype=torch.float64), labels(name, n)
    held = (torch.randn(5, 4, dtype=torch.float64), labels(name, 5))
    made = smartaug.SAFLEX(model, held, validation_batch=5, criterion=criterion, by_column=True)
    drawn = made.validation.batch(0, torch.device("cpu"))
    g = torch.autograd.grad(criterion(model(drawn[0]), drawn[1]), list(model.parameters()))
    gains = torch.zeros(n, 3, 2, dtype=torch.float64)
    for row in range(n):
        for column in range(3):
            for value in (0.0, 1.0):  # the part of the sample's loss that this label has, were it so
                both = target[row : row + 1].clone()
                both[0, column] = value
                element = _elements(criterion)(model(inputs[row : row + 1]), both)[0, column] / 3
                own = torch.autograd.grad(element, list(model.parameters()))
                gains[row, column, int(value)] = sum((a * b).sum() for a, b in zip(own, g, strict=True))
    direction = grads.direction(model, *drawn, criterion, training=False)
    _, found = grads.benefit(model, inputs, direction, against=(criterion, target), by_column=True)
    assert torch.allclose(found, gains.flatten(1), atol=1e-10)
    weight, soft = made(smartaug.Batch(inputs, target), None)
    scaled = gains / gains.std(correction=0)
    wanted = (scaled + 3.0 * torch.stack([1 - target, target], 2)).softmax(2)
    assert torch.allclose(soft, wanted[..., 1], atol=1e-6)
    total = (wanted * scaled).sum((1, 2))
    kept = (total >= 0).double()
    if float(total.abs().min()) > 1e-9:
        assert torch.allclose(weight, kept / kept.mean() if kept.sum() > 0 else torch.ones_like(kept))


def _elements(criterion):
    if isinstance(criterion, nn.BCEWithLogitsLoss):
        return nn.BCEWithLogitsLoss(pos_weight=criterion.pos_weight, reduction="none")
    return functools.partial(F.binary_cross_entropy_with_logits, reduction="none")


def test_columns_through_the_loader():
    torch.manual_seed(0)
    inputs, target = torch.randn(32, 4, dtype=torch.float64), labels("BCE", 32)
    held = (torch.randn(16, 4, dtype=torch.float64), labels("BCE", 16))
    made = smartaug.SAFLEX(net(), held, criterion=CRITERIA["BCE"], by_column=True, weigh_every=2)
    settings = {"augment": smartaug.MixUp(), "inputs": 0, "target": 1, "seed": 0}
    loader = smartaug.DataLoader(TensorDataset(inputs, target), 16, reweight=made, **settings)
    criterion = smartaug.Loss(CRITERIA["BCE"])
    for rows, its in loader:
        assert its.soft.shape == (16, 3)
        assert its.soft.min() > -1e-6
        assert its.soft.max() < 1 + 1e-6
        output = made.model(rows)
        wanted = (its.weight[:, None] * F.binary_cross_entropy_with_logits(output, its.soft, reduction="none")).mean()
        assert torch.allclose(criterion(output, its), wanted)
    assert loader.stats()["fallbacks"] == 0
    assert 0 <= made.stats()["labels_moved"] <= 1
    assert made.stats()["label_entropy"] > 0


@pytest.mark.parametrize("kind", ["MSE", "BCE"])
@pytest.mark.parametrize("method", LEARNED)
def test_through_the_loader_labels_stay(method, kind):
    torch.manual_seed(0)
    inputs, target = torch.randn(32, 4, dtype=torch.float64), labels(kind, 32)
    held = (torch.randn(16, 4, dtype=torch.float64), labels(kind, 16))
    made = getattr(smartaug, method)(net(), held, criterion=CRITERIA[kind])
    loader = smartaug.DataLoader(TensorDataset(inputs, target), 16, reweight=made)
    criterion = smartaug.Loss(CRITERIA[kind])
    for rows, its in loader:
        assert its.soft is None
        assert torch.equal(its.plain, target[its.index])
        assert float(its.weight.mean()) == pytest.approx(1)
        output = made.model(rows)
        wanted = (its.weight[:, None] * type(CRITERIA[kind])(reduction="none")(output, its.plain)).mean()
        assert torch.allclose(criterion(output, its), wanted)
    assert loader.stats()["fallbacks"] == 0
    assert made.stats()["labels_moved"] == 0


def test_meta_weight_net_learns_from_the_criterion():
    """The derivative of the pseudo step's validation loss in the weights, by autograd through the step."""
    torch.manual_seed(0)
    model, criterion, lr = net(), nn.MSELoss(), 0.05
    inputs, target = torch.randn(6, 4, dtype=torch.float64), labels("MSE", 6) / 50
    held = (torch.randn(5, 4, dtype=torch.float64), labels("MSE", 5) / 50)
    share = torch.full((6,), 1 / 6, dtype=torch.float64, requires_grad=True)
    values = dict(model.named_parameters())
    rows = (torch.func.functional_call(model, values, (inputs,)) - target).square().mean(1)
    steps = torch.autograd.grad((share * rows).sum(), list(values.values()), create_graph=True)
    after = {name: value - lr * step for (name, value), step in zip(values.items(), steps, strict=True)}
    wanted = torch.autograd.grad(criterion(torch.func.functional_call(model, after, (held[0],)), held[1]), share)[0]
    done = grads.Pass(model, inputs, against=(criterion, target))
    assert torch.allclose(-done.log_p[:, 0], rows)
    summed = done.pull(-share.detach()[:, None] * torch.ones(6, 1, dtype=torch.float64))
    g = grads.direction(model, *held, criterion, at=grads.stepped(model, summed, lr))
    _, gain = grads.benefit(model, inputs, g, against=(criterion, target))
    assert torch.allclose(-lr * gain[:, 0], wanted)


REFUSED = {
    "multi-hot, no criterion": ((torch.rand(16, 3) > 0.3).float(), None, "several labels a sample"),
    "values, no criterion": (50 + torch.rand(16, 1), None, "values of a regression"),
    "float class numbers": (torch.arange(16.0) % 3, None, "whole numbers stored as floats"),
    "values, a criterion of unknown make": (50 + torch.rand(16, 3), lambda z, y: (z - y).abs().mean(), "values"),
}


@pytest.mark.parametrize("method", LEARNED)
@pytest.mark.parametrize(("target", "criterion", "match"), REFUSED.values(), ids=REFUSED)
def test_labels_no_method_can_learn_from(method, target, criterion, match):
    model, held = net(3).float(), (torch.randn(8, 4), torch.arange(8) % 3)
    made = getattr(smartaug, method)(model, held, criterion=criterion)
    loader = smartaug.DataLoader(TensorDataset(torch.randn(16, 4), target), 16, reweight=made)
    with pytest.raises(TypeError, match=rf"{match}.*criterion=nn\.BCEWithLogitsLoss\(\).*nn\.MSELoss\(\)"):
        next(iter(loader))


def test_outputs_of_another_number_are_not_broadcast():
    made = smartaug.SAFLEX(net(3), (torch.randn(8, 4).double(), labels("MSE", 8, 2)), criterion=nn.MSELoss())
    batch = smartaug.Batch(torch.randn(4, 4).double(), labels("MSE", 4, 2))
    with pytest.raises(ValueError, match=r"labels \(64, 2\) do not fit the model's outputs \(64, 3\)"):
        made(batch, None)
    one = smartaug.SAFLEX(net(1), (torch.randn(8, 4).double(), labels("MSE", 8, 1)[:, 0]), criterion=nn.MSELoss())
    assert one(smartaug.Batch(torch.randn(4, 4).double(), labels("MSE", 4, 1)[:, 0]), None)[1] is None


def test_a_batch_of_one_hot_rows_stays_several_labels_where_the_criterion_says_so():
    made = smartaug.SAFLEX(net(), (torch.randn(8, 4).double(), labels("BCE", 8)), criterion=nn.BCEWithLogitsLoss())
    assert made(smartaug.Batch(torch.randn(3, 4).double(), torch.eye(3).double()), None)[1] is None


def test_soft_augmentation_takes_one_class_a_sample():
    rule = smartaug.SoftAugmentation(3, visible=lambda batch, trace: torch.ones(len(batch.target)))
    for target in ((torch.rand(16, 3) > 0.3).float(), 50 + torch.rand(16), torch.arange(16.0) % 3):
        with pytest.raises(TypeError, match="softens class labels"):
            rule(smartaug.Batch(torch.rand(16, 4), target), None)


def test_splitting_by_class_needs_classes():
    for target in ((torch.rand(16, 3) > 0.3).float(), 50 + torch.rand(16), torch.arange(16.0) % 3):
        with pytest.raises(TypeError, match=r"labels must be classes.*random_split"):
            smartaug.split_validation(TensorDataset(torch.rand(16, 4), target), 0.2)
    with pytest.raises(ValueError, match=r"val_set needs the label, and 2 leaves.*TensorDataset\(images, labels\)"):
        smartaug.split_validation(TensorDataset(torch.rand(16, 4), torch.arange(16) % 3, torch.arange(16) % 2), 0.2)
