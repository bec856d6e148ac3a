"""Reweighters that wait for the loss: the loop's own logits give the same weights and labels for one pass less."""

import copy
import logging
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.utils.data import IterableDataset, TensorDataset

import smartaug
from smartaug import grads
from smartaug.grads import model_call as grads_call
from smartaug.warnings import NoEffectWarning
from tests import reference
from tests.models import MODELS, convolutional, images, make, read


def problem(name, training):
    model = make(name, training)
    with torch.no_grad():
        classes = reference.as_classes(read(copy.deepcopy(model)(images(2)))).shape[1]
    held, labels = images(6), torch.arange(6) % classes
    return model, images(4), grads.direction(model, held, labels), grads.direction(model, held, labels, scope="head")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", [name for name in MODELS if name != "output object"])
def test_benefits_from_given_logits(name, training, monkeypatch):
    model, inputs, g, _ = problem(name, training)
    with torch.random.fork_rng():
        given = read(copy.deepcopy(model)(inputs)).detach()
    log_p, wanted = reference.benefit(model, inputs, g, read)
    grads.benefit(model, inputs, g, "difference", logits=given)  # the first call also looks whether they are its own
    grads.benefit(model, inputs, g, "difference", logits=given)
    calls = count(monkeypatch)
    made_log_p, made = grads.benefit(model, inputs, g, "difference", logits=given)
    assert float((made - wanted).norm()) <= 1e-4 * float(wanted.norm())
    assert torch.allclose(made_log_p, log_p)
    # dropout draws, so the pass has other features than the given logits: two passes
    assert len(calls) == (2 if name == "dropout" and training else 1)


def count(monkeypatch):
    calls, original = [], grads_call._call_as_is
    monkeypatch.setattr(grads_call, "_call_as_is", lambda *args: calls.append(1) or original(*args))
    return calls


def test_head_benefits_from_given_logits_and_features_need_no_pass(monkeypatch):
    model, inputs, _, g = problem("batch norm", True)
    wanted = grads.benefit(model, inputs, g)
    done = grads.Pass(model, inputs, scope="head")
    calls = count(monkeypatch)
    for part, other in zip(grads.benefit(model, inputs, g, logits=done.raw, feature=done.feature), wanted, strict=True):
        assert torch.allclose(part, other)
    assert calls == []


@pytest.mark.parametrize("other", [lambda z: z.log_softmax(1), lambda z: z.bfloat16().to(z.dtype), lambda z: z.float()])
def test_logits_that_are_not_the_models_own_are_not_used(other, caplog):
    model, inputs, g, _ = problem("batch norm", True)
    wanted = grads.benefit(model, inputs, g, "difference")[1]
    given = other(copy.deepcopy(model)(inputs).detach())
    with caplog.at_level(logging.WARNING, logger="smartaug"):
        for _ in range(3):
            assert torch.equal(grads.benefit(model, inputs, g, "difference", logits=given)[1], wanted)
    assert len(caplog.records) == (0 if given.dtype == torch.float32 else 1)
    with pytest.raises(ValueError, match=r'logits= saves a pass of method="difference"'):
        grads.benefit(model, inputs, g, logits=given)


# --- through the loader and the loss ---------------------------------------------------------------------------------


def data(n=24):
    return TensorDataset(images(n), torch.arange(n) % 3)


def run(stage, model, dataset, epochs=2):
    """Losses of a training run."""
    loader = smartaug.DataLoader(
        dataset, batch_size=6, shuffle=True, reweight=stage, device="cpu", generator=torch.Generator().manual_seed(0)
    )
    criterion = smartaug.Loss(nn.CrossEntropyLoss())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(epochs):
        for inputs, target in loader:
            loss = criterion(model(inputs), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    return losses, loader


@pytest.mark.parametrize("name", ["SAFLEX", "LearningToReweight"])
@pytest.mark.parametrize(
    "settings", [{"method": "difference"}, {"scope": "head"}, {"method": "difference", "every": 2, "weigh_every": 2}]
)
def test_training_is_the_same_either_way(name, settings):
    held, dataset = data(12), data()
    losses = []
    for when in ("batch", "loss"):
        torch.manual_seed(1)
        model = convolutional(nn.GroupNorm(2, 4)).double()
        stage = getattr(smartaug, name)(model, held, validation_batch=6, when=when, **settings)
        made, loader = run(stage, model, dataset)
        losses.append(made)
        told = loader.stats()
        assert told["weighted"] == told["reweight"]["batches"] == 8
        assert ("in smartaug.Loss" in loader.explain()) == (when == "loss")
    # the second-order term of a one-sided difference, and its amplification by training
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert not any(part._forward_hooks for part in model.modules())


def test_warmup_counts_batches_that_the_loss_has_met():
    model = convolutional(nn.GroupNorm(2, 4)).double()
    stage = smartaug.SAFLEX(model, data(12), method="difference", when="loss", warmup=3)
    _, loader = run(stage, model, data())
    told = loader.stats()
    assert (told["batches"], told["weighted"], told["reweight"]["batches"]) == (8, 5, 8)


def test_head_scope_makes_no_pass_of_the_batch(monkeypatch):
    model, held, sizes = convolutional(nn.GroupNorm(2, 4)).double(), data(12), []
    original = grads_call._call_as_is
    monkeypatch.setattr(grads_call, "_call_as_is", lambda m, v, x: sizes.append(len(x)) or original(m, v, x))
    run(smartaug.SAFLEX(model, held, validation_batch=5, scope="head", when="loss"), model, data())
    assert sizes == [5, 6] + [5] * 7  # 6: the first batch, before the head is known


def test_batches_fetched_ahead_shown_twice_or_in_part():
    model = convolutional(nn.GroupNorm(2, 4)).double()
    stage = smartaug.SAFLEX(model, data(12), method="difference", when="loss")
    loader = smartaug.DataLoader(data(), batch_size=6, reweight=stage, device="cpu")
    criterion = smartaug.Loss(nn.CrossEntropyLoss(reduction="none"))
    (first, one), (second, two), *_ = list(loader)
    assert torch.equal(one.weight, torch.ones(6))
    shown = criterion(model(second), two)
    assert torch.equal(shown, criterion(model(second), two))
    assert stage.step == 1
    moved = smartaug.Target(one.plain, None, None, one.index.clone(), one._key)  # as another device would have it
    assert bool(torch.isfinite(criterion(model(first), moved)).all())
    assert stage.step == 2
    with pytest.raises(
        RuntimeError, match=r"weighs whole batches, one of the last 4.*Loss got 2 other rows.*when=\"batch\""
    ):
        criterion(model(first[:2]), one[:2])
    with pytest.raises(TypeError, match=r"must hold logits"):
        criterion({"wrong": 1}, next(iter(loader))[1])


def test_verdicts_that_are_not_finite_fall_back():
    model = convolutional(nn.GroupNorm(2, 4)).double()
    stage = smartaug.SAFLEX(model, data(12), method="difference", when="loss")
    loader = smartaug.DataLoader(data(), batch_size=6, reweight=stage, device="cpu")
    inputs, target = next(iter(loader))
    output = model(inputs).detach().clone()
    output[0] = float("inf")
    with pytest.warns(UserWarning, match="not finite"):
        smartaug.Loss(nn.CrossEntropyLoss())(output, target)
    assert loader.stats()["fallbacks"] == 1


def test_copies_wait_for_nothing():
    model = convolutional(nn.GroupNorm(2, 4)).double()
    stage = smartaug.SAFLEX(model, data(12), scope="head", when="loss")
    run(stage, model, data(), epochs=1)
    loader = smartaug.DataLoader(data(), batch_size=6, reweight=stage, device="cpu")
    next(iter(loader))
    assert sum(len(part._forward_hooks) for part in model.modules()) == 1
    assert copy.deepcopy(stage).model is model
    assert copy.deepcopy(stage)._waiting == []
    assert pickle.loads(pickle.dumps(stage))._waiting == []
    assert pickle.loads(pickle.dumps(model))[-1]._forward_hooks  # a model in mid-batch can be saved


class Stream(IterableDataset):
    def __iter__(self):
        yield from data(12)


def test_misuse_is_named():
    model, held = convolutional(nn.GroupNorm(2, 4)).double(), data(12)
    with pytest.raises(ValueError, match=r'when must be "batch" or "loss", got \'later\''):
        smartaug.SAFLEX(model, held, when="later")
    with pytest.raises(ValueError, match=r'when="loss" saves a pass of method="difference" or scope="head"'):
        smartaug.SAFLEX(model, held, when="loss")
    with pytest.raises(ValueError, match=r'MetaAugment steps the model itself; leave when= at "batch"'):
        smartaug.MetaAugment(model, held, method="difference", when="loss")
    stage = smartaug.SAFLEX(model, held, method="difference", when="loss")
    with pytest.raises(ValueError, match=r'when="loss" needs the dataset indices'):
        next(iter(smartaug.DataLoader(Stream(), batch_size=4, reweight=stage, device="cpu")))
    loader = smartaug.DataLoader(TensorDataset(images(20), torch.zeros(20).long()), reweight=stage, device="cpu")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        list(loader)
    assert [one.category for one in caught] == [NoEffectWarning]


def test_the_same_index_tensor_again_is_a_new_batch():
    model, index = convolutional(nn.GroupNorm(2, 4)).double(), torch.arange(6)
    stage = smartaug.SAFLEX(model, data(12), method="difference", when="loss")
    soft = []
    for step in range(3):
        inputs, target = images(6), torch.arange(6) % 3
        stage(smartaug.Batch(inputs, target, None, None, index), None)
        _, labels = stage.settle(model(inputs), smartaug.Target(target, index=index))
        assert stage.step == step + 1  # judged, not remembered
        soft.append(labels)
    assert not torch.equal(soft[0], soft[1])
    assert not torch.equal(soft[1], soft[2])
