"""Reweighters that outlive their first loader, model or layer: nothing of the one reaches the other unsaid."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import ConcatDataset, Subset, TensorDataset

import smartaug
from smartaug.augment.plan import Trace
from smartaug.reweight.shared_samples import shared_samples

HELD = (torch.randn(30, 6), torch.arange(30) % 3)


def net():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def data(size=48):
    return TensorDataset(torch.randn(size, 6), torch.arange(size) % 3)


def batch(size=8):
    return smartaug.Batch(torch.randn(size, 6), torch.arange(size) % 3)


@pytest.mark.parametrize("settings", [{}, {"every": 4}, {"ema": 0.9}, {"every": 2, "ema": 0.5}], ids=str)
@pytest.mark.parametrize("frozen_first", [True, False])
def test_layers_are_frozen_and_unfrozen_while_a_run_goes_on(settings, frozen_first):
    model, given = net(), batch()
    stage = smartaug.SAFLEX(model, HELD, **settings)
    model[0].requires_grad_(not frozen_first)
    stage(given, None)
    model[0].requires_grad_(frozen_first)
    weight, _ = stage(given, None)
    fresh = smartaug.SAFLEX(model, HELD, **settings)
    fresh._drawn = 1  # the same validation batch
    assert torch.equal(weight, fresh(given, None)[0])


def test_a_direction_is_not_used_for_another_model():
    first, second, given = net(), net(), batch()
    stage = smartaug.SAFLEX(first, HELD, every=100)
    stage(given, None)
    stage.bind(first)
    assert stage._direction is not None
    stage.bind(second)
    fresh = smartaug.SAFLEX(second, HELD)
    fresh._drawn = 1
    assert torch.equal(stage(given, None)[1], fresh(given, None)[1])


def test_remembered_weights_are_of_one_dataset():
    mine, stage = data(), smartaug.SAFLEX(net(), HELD, weigh_every=2)
    smartaug.DataLoader(mine, 8, reweight=stage)
    again = smartaug.DataLoader(mine, 16, reweight=stage)
    with pytest.raises(ValueError, match="belongs to another dataset: it keeps weights and labels by the index"):
        smartaug.DataLoader(data(), 8, reweight=stage)
    copied = copy.deepcopy(again)
    smartaug.DataLoader(copied.dataset, 8, reweight=copied.reweight)
    plain = smartaug.SAFLEX(net(), HELD)  # remembers nothing of samples
    for dataset in (data(), data()):
        smartaug.DataLoader(dataset, 8, reweight=plain)


@pytest.mark.parametrize("inside", [lambda policy: policy, lambda policy: [smartaug.Flip(), policy]])
def test_a_copied_loader_draws_from_the_policy_that_its_reweighter_sets(inside):
    images, policy = torch.rand(12, 3, 8, 8), smartaug.RandAugment(num_ops=2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    stage = smartaug.MetaAugment(model, (torch.rand(9, 3, 8, 8), torch.arange(9) % 3), policy=policy)
    dataset = TensorDataset(images, torch.arange(12) % 3)
    copied = copy.deepcopy(smartaug.DataLoader(dataset, 6, augment=inside(policy), reweight=stage, seed=0))
    assert copied.reweight.model is model
    assert copied.reweight.policy is not policy
    drawn = []
    for chance in (0, 1):
        table = torch.zeros(14, 14, dtype=torch.float64)
        table[:, chance] = 1 / 14
        copied._pipeline.weighing._begun = copied._pipeline.epochs.upcoming  # leaves the table to us
        copied.reweight.policy.probabilities = table
        drawn.append(torch.cat([batch[0] + 0 * batch[1].weight.sum() for batch in copied]))
    assert not torch.equal(*drawn)


class Table(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(5, 4), nn.Linear(10, 3)

    def forward(self, numbers, category):
        return self.out(torch.cat([numbers, self.embed(category)], 1))


@pytest.mark.parametrize("keywords", [False, True])
def test_validation_tensors_of_several_inputs(keywords):
    model, labels = Table(), torch.arange(30) % 3
    numbers, category = torch.randn(30, 6), torch.arange(30) % 5
    given = {"numbers": numbers, "category": category} if keywords else (numbers, category)
    made = smartaug.SAFLEX(model, (given, labels))
    same = smartaug.SAFLEX(model, TensorDataset(numbers, category, labels))
    same.read_as(inputs=[0, 1], target=2)
    for one, other in zip(
        *(stage(smartaug.Batch((numbers, category), labels), None) for stage in (made, same)), strict=True
    ):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("val_set", "kind", "words"),
    [
        ((HELD[0], HELD[1][:9]), ValueError, "a row a sample in every part, got \\[30, 9\\]"),
        (((HELD[0], HELD[0][:9]), HELD[1]), ValueError, "got \\[30, 9, 30\\]"),
        ((HELD[0].numpy()[:, 0], HELD[1].numpy()), TypeError, "must hold tensors, got ndarray, ndarray"),
    ],
)
def test_pairs_that_do_not_fit_are_named(val_set, kind, words):
    with pytest.raises(kind, match=words):
        smartaug.SAFLEX(net(), val_set)


def test_shared_samples_through_subsets_and_concatenations():
    first, second = data(20), data(30)
    both = ConcatDataset([first, second])
    assert shared_samples(second, both) == 30
    assert shared_samples(both, second) == 30
    assert shared_samples(Subset(both, range(15, 25)), first) == 5
    assert shared_samples(Subset(both, range(15, 25)), Subset(both, range(22, 50))) == 3
    assert shared_samples(ConcatDataset([first, first]), Subset(first, [3])) == 2
    assert shared_samples(data(20), first) == 0
    view = TensorDataset(first.tensors[0][5:], first.tensors[1][5:])
    assert shared_samples((view.tensors[0], view.tensors[1]), Subset(first, range(8))) == 3


def test_negative_weights_of_a_rule_never_turn_positive():
    stage = smartaug.reweight.ByRule(lambda B, log_p, batch: (-B[:, 0].abs() - 0.1, None), net(), HELD)
    assert bool((stage(batch(), None)[0] < 0).all())
    loader = smartaug.DataLoader(data(), 8, reweight=stage)
    with pytest.raises(ValueError, match="weight must not be negative"):
        next(iter(loader))[1]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (lambda B, log_p, batch: (B[:, :1].abs(), None), r"weight has shape \(8, 1\) for a batch of 8"),
        (lambda B, log_p, batch: (B[:-1, 0].abs(), None), r"weight has shape \(7,\) for a batch of 8"),
        (lambda B, log_p, batch: B, r"must return \(weight, soft\)"),
    ],
)
def test_what_a_rule_returns_is_checked(rule, words):
    with pytest.raises((TypeError, ValueError), match=words):
        smartaug.reweight.ByRule(rule, net(), HELD)(batch(), None)


def trace(names, width, rows=8):
    return Trace(torch.zeros(rows, width, dtype=torch.int64), torch.zeros(rows, width), names)


def test_a_policy_network_needs_the_operations_that_it_was_given():
    stage = smartaug.MetaAugment(net(), HELD, operations=("Identity", "Flip"))
    stage(batch(), trace(("Identity", "Flip"), 2))
    network = stage.net
    stage(batch(), trace((), 0))  # nothing of this batch was augmented
    assert stage.net is network
    with pytest.raises(ValueError, match="sequences of 2 operations, and the stages of this loader draw 1"):
        stage(batch(), trace(("Identity", "Flip"), 1))
    with pytest.raises(ValueError, match=r"none of the operations Identity, Flip is drawn .* operations=\['Rotate'\]"):
        stage(batch(), trace(("Rotate",), 2))


@pytest.mark.parametrize("visible", [lambda b, t: torch.full((8, 1), 0.5), lambda b, t: torch.full((8,), 1.5)])
def test_visible_fractions_are_checked(visible):
    with pytest.raises(ValueError, match="visible must return"):
        smartaug.SoftAugmentation(3, visible=visible)(batch(), trace((), 0))
