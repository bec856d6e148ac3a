"""JEST chooses the rows that a chunk-by-chunk computation by hand chooses, and leaves both models alone."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from smartaug._base.contrastive import Towers
from smartaug.coreset import JEST
from tests import reference_contrastive as reference
from tests.test_contrastive import Towers as Model
from tests.test_contrastive import pairs

COUNT = 12


def towers(seed, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    a, b = (nn.functional.normalize(torch.randn(COUNT, 4, dtype=torch.float64, generator=generator)) for _ in range(2))
    return Towers(a, b, scale, -1.0)


def gumbel(seed, chunks):
    generator = torch.Generator().manual_seed(seed)
    return -(-torch.rand(COUNT, chunks, dtype=torch.float64, generator=generator).log()).log()


@given(st.integers(0, 99), st.integers(0, COUNT), st.integers(1, 5), st.sampled_from(["softmax", "sigmoid"]))
@settings(deadline=None, max_examples=25)
def test_the_rule_is_its_twin(seed, budget, chunks, loss):
    model, known, noise = towers(seed), towers(seed + 1, 2.0), gumbel(seed, chunks)
    rows = JEST.rule(model, known, budget, noise, loss)
    sizes = [budget * (k + 1) // chunks - budget * k // chunks for k in range(chunks)]
    whole = [one.products(one.a, one.b) for one in (model, known)]
    assert rows.tolist() == reference.jest(*whole, sizes, noise, loss)
    assert len(set(rows.tolist())) == budget


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_the_order_of_rows_does_not_matter(loss):
    model, known, noise = towers(0), towers(1), gumbel(2, 3)
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(3))
    turned = [Towers(one.a[order], one.b[order], one.scale, one.bias) for one in (model, known)]
    rows = JEST.rule(model, known, 5, noise, loss)
    assert torch.equal(order[JEST.rule(*turned, 5, noise[order], loss)], rows)


def test_draws_have_the_probabilities_of_the_worth():
    model, known = towers(0), towers(1)
    worth = -(model.products(model.a, model.b) - known.products(known.a, known.b)).diagonal()
    counts = torch.zeros(COUNT)
    for seed in range(3000):
        counts[JEST.rule(model, known, 1, gumbel(seed, 1))] += 1
    assert torch.allclose(counts / 3000, worth.softmax(0).float(), atol=0.03)


def test_without_gain_rows_are_drawn_at_random_and_with_much_the_most_valuable():
    model, known = towers(0), towers(1)
    noise = gumbel(0, 1)
    assert torch.equal(JEST.rule(model, known, 4, noise, gain=0.0), noise[:, 0].topk(4).indices)
    worth = -(model.products(model.a, model.b) - known.products(known.a, known.b)).diagonal()
    assert torch.equal(JEST.rule(model, known, 4, noise, gain=1e9), worth.topk(4).indices)
    with pytest.raises(ValueError, match="budget"):
        JEST.rule(model, known, COUNT + 1, noise)


def test_rows_that_are_not_finite_come_last():
    model, known = towers(0), towers(1)
    for loss in ("softmax", "sigmoid"):
        for bad in (float("nan"), float("inf")):
            first = model.a.clone()
            first[3] = bad
            rows = JEST.rule(model._replace(a=first), known, COUNT - 1, gumbel(2, 3), loss)
            assert sorted(rows.tolist()) == [row for row in range(COUNT) if row != 3]
            assert len(set(JEST.rule(model._replace(a=first), known, COUNT, gumbel(2, 3), loss).tolist())) == COUNT


def test_a_batch_is_chosen_from_and_the_models_are_left_alone():
    model, known = Model(), Model(bag=True)
    model.numbers.insert(1, nn.Dropout(0.5))
    image, tokens = pairs(40, dtype=torch.float32)
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    chooser = JEST(model, known, 0.25)
    rows, more = chooser(image, tokens), chooser(image=image, tokens=tokens)
    assert rows.shape == (10,)
    assert torch.equal(rows, rows.unique())
    assert not torch.equal(rows, more)  # drawn anew
    assert torch.equal(JEST(model, known, 0.25)(image, tokens), rows)
    assert len(JEST(model, known, 0.2)(image[:2], tokens[:2])) == 1
    assert len(JEST(model, known, 1.0)(image, tokens)) == 40
    assert torch.equal(torch.get_rng_state(), random)
    assert model.training
    assert all(torch.equal(now, before[name]) for name, now in model.state_dict().items())
    copied, pickled = copy.deepcopy(chooser), pickle.loads(pickle.dumps(chooser))
    resumed = JEST(model, known, 0.25)
    resumed.load_state_dict(chooser.state_dict())
    with pytest.raises(RuntimeError, match=r"chooser.bind\(model, reference\)"):
        pickled(image, tokens)
    wanted = chooser(image, tokens)
    for twin in (copied, pickled.bind(model, known), resumed):
        assert torch.equal(twin(image, tokens), wanted)
    assert copied.model is model


def test_wrong_pairs_are_left_out():
    """A reference that knows which pair belongs together leaves out those that do not."""
    torch.manual_seed(0)
    image = torch.randn(64, 5)
    tokens = image.clone()
    tokens[:32] = image[:32].roll(1, 0)

    class Sure(nn.Module):
        def forward(self, one, other):
            return one, other, torch.tensor(8.0)

    class Unsure(nn.Module):
        def forward(self, one, other):
            return one, other, torch.tensor(0.0)

    for loss in ("softmax", "sigmoid"):
        rows = JEST(Unsure(), Sure(), 0.25, chunks=4, loss=loss)(image, tokens)
        assert (rows < 32).float().mean() < 0.3


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: JEST(Model(), Model(), 0), ValueError, r"fraction must be a float in \(0, 1\]"),
        (lambda: JEST(Model(), Model(), chunks=0), ValueError, "chunks must be a number of chunks ≥ 1"),
        (lambda: JEST(Model(), Model(), loss="clip"), ValueError, '"softmax" or "sigmoid"'),
        (lambda: JEST(Model(), Model(), gain=-1.0), ValueError, "gain must be"),
        (lambda: JEST(Model(), 3), TypeError, "model must be"),
        (lambda: JEST(Model(), Model())(1, tokens=2), TypeError, "not both"),
        (lambda: JEST(nn.Identity(), nn.Identity())(torch.ones(3, 3)), TypeError, "features of both towers are needed"),
    ],
)
def test_what_is_refused_says_what_to_write(make, error, match):
    with pytest.raises(error, match=match):
        make()
