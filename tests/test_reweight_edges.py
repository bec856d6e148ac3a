"""Reweighters at the edges: tiny and wide batches, mixed labels, noise, criteria that cannot be used."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import TensorDataset

import smartaug
from smartaug import grads
from smartaug.augment.plan import Trace
from tests import reference

LEARNED = ["SAFLEX", "LearningToReweight", "MetaAugment", "MetaWeightNet"]
FORMS = [{"method": "jvp"}, {"method": "difference"}, {"scope": "head"}]


def net(classes=3, inputs=5):
    return nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, classes)).double()


def rows(n, inputs=5):
    return torch.randn(n, inputs, dtype=torch.float64)


def ops(n):
    return Trace(torch.arange(2 * n).reshape(n, 2) % 2, torch.zeros(n, 2), ("Identity", "Flip"))


def stage(name, model, held, **arguments):
    if name == "MetaAugment":
        arguments["operations"] = ("Identity", "Flip")
    return getattr(smartaug, name)(model, held, **arguments)


def sound(weight, soft, n, classes):
    assert weight.shape == (n,)
    assert bool((weight >= 0).all())
    assert float(weight.mean()) == pytest.approx(1.0, abs=1e-6)
    if soft is not None:
        assert soft.shape == (n, classes)
        assert torch.allclose(soft.sum(1), torch.ones(n, dtype=soft.dtype))


@pytest.mark.parametrize(
    ("name", "form"),  # those that step the model have no head scope, see test_meta.py
    [(name, form) for name in LEARNED for form in FORMS if "scope" not in form or not name.startswith("Meta")],
    ids=str,
)
@pytest.mark.parametrize(("n", "classes"), [(1, 3), (6, 3), (4, 1000)])
def test_one_sample_one_label_and_a_thousand_classes(name, form, n, classes):
    model, held = net(classes), (rows(12), torch.arange(12) % classes)
    made = stage(name, model, held, **form)
    for _ in range(2):
        weight, soft = made(smartaug.Batch(rows(n), torch.full((n,), classes - 1)), ops(n))  # one label in the batch
        sound(weight, soft, n, classes)


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 6),
    held=st.integers(1, 6),
    classes=st.integers(2, 5),
    form=st.sampled_from(FORMS),
    training=st.booleans(),
    statistics=st.sampled_from(["running", "batch"]),
    soft=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_the_verdict_is_the_rule_on_slow_benefits(n, held, classes, form, training, statistics, soft, seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, classes)).double()
    model.train(training and n > 1)  # BatchNorm wants two samples to train on
    inputs, target = rows(n), torch.randint(0, classes, (n,))
    upstream = rows(n, classes).softmax(1) if soft else nn.functional.one_hot(target, classes).double()
    validation = (rows(held), torch.randint(0, classes, (held,)))
    made = smartaug.SAFLEX(model, validation, validation_batch=held, statistics=statistics, **form)
    weight, labels = made(smartaug.Batch(inputs, target, None, upstream if soft else None), None)
    order = made.validation.batch(0, torch.device("cpu"))
    was = model.training
    model.train(was and statistics == "batch" and held > 1)  # a single sample has no statistics of its own
    g = reference.direction(model, order[0], nn.functional.one_hot(order[1], classes).double())
    model.train(was)
    if "scope" in form:
        g = {name: part for name, part in g.items() if name.startswith("3.")}
    log_p, benefits = reference.benefit(model, inputs, g)
    wanted_weight, wanted = smartaug.SAFLEX.rule(benefits, log_p, upstream)
    near = 1e-9 if form.get("method") != "difference" else 1e-4
    assert float((labels - wanted).abs().max()) <= near
    gain = (wanted * benefits).sum(1)
    if float(gain.abs().min()) > near * float(benefits.abs().max()):  # no weight sits on the edge between 0 and 1
        assert torch.allclose(weight, wanted_weight)


@pytest.mark.parametrize("mix", [smartaug.MixUp(), smartaug.CutMix()], ids=["MixUp", "CutMix"])
def test_mixed_labels_are_the_upstream_labels(mix):
    images = TensorDataset(torch.rand(16, 3, 8, 8), torch.arange(16) % 4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    settings = {"batch_size": 8, "augment": mix, "seed": 0, "device": "cpu"}
    _, plain = next(iter(smartaug.DataLoader(images, **settings)))
    held = (torch.rand(8, 3, 8, 8), torch.arange(8) % 4)
    far = smartaug.SAFLEX(model, held, penalty=1e6, temperature=1e6)  # softmax of the upstream labels themselves
    shown, target = next(iter(smartaug.DataLoader(images, reweight=far, **settings)))
    assert torch.allclose(target.soft, plain.soft.softmax(1), atol=1e-4)
    assert float(target.weight.mean()) == pytest.approx(1.0)
    loss = smartaug.Loss(nn.CrossEntropyLoss())(model(shown), target)
    wanted = -(target.weight[:, None] * target.soft * model(shown).log_softmax(1)).sum(1).mean()
    assert float(loss.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)


def test_noise_is_gumbel_and_differs_from_batch_to_batch():
    made = smartaug.SAFLEX(net(), (rows(6), torch.arange(6) % 3), noise=1.0)
    drawn = []
    for step in range(60):
        made.step = step
        drawn.append(made._gumbel(rows(40, 10)))
    noise = torch.stack(drawn)
    assert float(noise.mean()) == pytest.approx(0.5772, abs=0.03)
    assert float(noise.std()) == pytest.approx(math.pi / math.sqrt(6), abs=0.03)
    assert not torch.equal(drawn[0], drawn[1])
    made.step = 0
    assert torch.equal(made._gumbel(rows(40, 10)), drawn[0])
    batch = smartaug.Batch(rows(6), torch.arange(6) % 3)
    quiet = smartaug.SAFLEX(made.model, made.val_set)
    assert not torch.allclose(made(batch, None)[1], quiet(batch, None)[1])


def test_a_criterion_without_a_gradient_is_named():
    model, inputs, labels = net(), rows(4), torch.arange(4) % 3
    for criterion in (lambda z, y: z.detach().sum(), lambda z, y: torch.zeros(4)):
        with pytest.raises(TypeError, match=r"criterion must give a loss that depends on the model's output"):
            grads.direction(model, inputs, labels, criterion)


def test_validation_labels_of_no_batch_class_weigh_as_well():
    model = net()
    made = smartaug.SAFLEX(model, (rows(4), torch.tensor([2, 2, 2, 2])))  # a class that the batch has not
    sound(*made(smartaug.Batch(rows(5), torch.tensor([0, 1, 0, 1, 0])), None), 5, 3)


def test_a_data_frame_is_no_validation_set():
    class Frame(dict):
        iloc = None

    with pytest.raises(TypeError, match=r"got Frame; write val_set=TensorDataset"):
        smartaug.SAFLEX(nn.Linear(3, 2), Frame(a=[1, 2]))


def test_a_model_of_several_inputs_says_how_they_are_named():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, numbers, categories):
            return self.layer(numbers + categories)

    batch = smartaug.Batch(torch.randn(4, 3), torch.zeros(4, dtype=torch.int64), None, None, torch.arange(4))
    with pytest.raises(TypeError, match=r"missing 1 required positional argument.*inputs=\['first', 'second'\]"):
        smartaug.SAFLEX(Two(), (torch.randn(4, 3), torch.zeros(4, dtype=torch.int64)))(batch, None)
