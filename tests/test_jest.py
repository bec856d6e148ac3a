"""JEST chooses the rows that a chunk-by-chunk computation by hand chooses, by hand and through the loader, and leaves
both models alone.
"""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import IterableDataset, RandomSampler, TensorDataset

import smartaug
from smartaug import ContrastiveLoss, draws
from smartaug._base.contrastive import Towers
from smartaug.coreset import JEST
from smartaug.pipeline.choosing import _STREAM
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


# --- through the loader ----------------------------------------------------------------------------------------------

SIZE, READ, CHUNKS = 30, 10, 3
DATA = TensorDataset(*pairs(SIZE, 5))
ENTRIES = [
    {"image": image, "tokens": tokens, "caption": f"text {n}", "number": n} for n, (image, tokens) in enumerate(DATA)
]
SAID = {"inputs": [0, 1], "target": 1, "seed": 4}


def models(loss="softmax"):
    model, known = Model().double(), Model().double()
    for part in known.parameters():
        part.data += 0.3
    return model, known


def loader(fraction=0.4, data=DATA, loss="softmax", jest=(), **settings):
    chooser = JEST(*models(), fraction, chunks=CHUNKS, loss=loss, **dict(jest))
    return smartaug.DataLoader(data, **{"batch_size": READ, **SAID, "coreset": chooser, **settings})


def indices(of, epochs=1):
    return [[tokens.index.tolist() for _, tokens in of] for _ in range(epochs)]


def by_hand(index, epoch, seed, own=0, loss="softmax", fraction=0.4):
    """The samples that the twin picks of those with the indices ``index``."""
    image, tokens = DATA[index]
    products = []
    for model in models():
        a, b, scale = model(image, tokens)
        products.append((scale * nn.functional.normalize(a) @ nn.functional.normalize(b).T).detach())
    key = draws.fold(draws.key(seed, epoch, torch.tensor(index), view=_STREAM), own)
    noise = -(-draws.uniform(key, (CHUNKS,), dtype=torch.float64).log()).log()
    budget = round(fraction * len(index))
    sizes = [budget * (k + 1) // CHUNKS - budget * k // CHUNKS for k in range(CHUNKS)]
    return sorted(index[row] for row in reference.jest(*products, sizes, noise, loss))


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_the_loader_hands_out_what_the_twin_picks_of_each_batch_it_reads(loss):
    made = loader(loss=loss, jest={"seed": 2})
    for epoch in range(2):
        batches = list(made)
        assert len(batches) == len(made) == 3
        for number, (image, tokens) in enumerate(batches):
            read = list(range(number * READ, (number + 1) * READ))
            assert tokens.index.tolist() == by_hand(read, epoch, 4, 2, loss)
            for part, whole in ((image, DATA.tensors[0]), (tokens.plain, DATA.tensors[1])):
                assert torch.equal(part, whole[tokens.index])
    told = made.stats()
    assert (told["batches"], told["samples"], told["coreset"]["read"], told["coreset"]["chosen"]) == (6, 60, 60, 24)
    assert told["coreset"]["worth_chosen"] > told["coreset"]["worth_read"]
    assert "40% of each batch" in made.explain()
    assert made.steps(2) == 6


def test_the_choice_goes_by_seed_epoch_and_sample():
    made = indices(loader(), 2)
    assert made == indices(loader(), 2)
    assert made[0] != made[1]
    assert made != indices(loader(seed=5), 2)
    assert made != indices(loader(jest={"seed": 1}), 2)
    sampler = RandomSampler(DATA, replacement=True, generator=torch.Generator().manual_seed(0))
    repeated = indices(loader(sampler=sampler, batch_size=SIZE, fraction=0.9))[0][0]
    assert len(repeated) == 27  # a sample that was drawn twice is two rows, each with draws of its own


def test_a_resumed_pass_chooses_the_same():
    whole = loader(shuffle=True, generator=torch.Generator().manual_seed(1))
    wanted = indices(whole, 2)
    first = loader(shuffle=True, generator=torch.Generator().manual_seed(1))
    indices(first)
    next(iter(first))
    again = loader(shuffle=True, generator=torch.Generator())
    again.load_state_dict(first.state_dict())
    assert indices(again)[0] == wanted[1][1:]
    assert again.stats()["coreset"] == whole.stats()["coreset"]
    for twin in (copy.deepcopy(whole), pickle.loads(pickle.dumps(whole))):
        if twin.coreset._model is None:
            twin.coreset.bind(*models())
        assert len(indices(twin)[0]) == 3


def test_all_parts_of_a_batch_are_of_the_rows_chosen():
    made = loader(data=ENTRIES, inputs=["image", "tokens"], target="tokens")
    for batch in made:
        index = batch["tokens"].index
        assert len(index) == 4
        assert batch["number"].tolist() == index.tolist()
        assert batch["caption"] == [f"text {n}" for n in index.tolist()]
        assert torch.equal(batch["image"], DATA.tensors[0][index])
    batch = next(iter(loader(returns="batch")))
    assert torch.equal(batch.inputs[0], DATA.tensors[0][batch.index])
    image, tokens = next(iter(loader(target=None)))  # nothing to carry the indices
    assert image.shape == (4, 5)
    assert type(tokens) is torch.Tensor


def iterable(data):
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(data)

    return Stream()


def test_streams_choose_too():
    assert [len(image) for image, _ in loader(data=iterable(DATA), batch_size=8)] == [3, 3, 3, 2]


def test_batches_from_elsewhere_and_other_peoples_loaders_are_chosen_from():
    batches = [DATA[row : row + READ] for row in range(0, SIZE, READ)]
    streamed = [image for image, _ in loader(data=iterable(DATA))]
    wrapped = smartaug.wrap(batches, coreset=JEST(*models(), 0.4, chunks=CHUNKS), **SAID)
    for image, wanted, (_, tokens) in zip((batch[0] for batch in wrapped), streamed, loader(), strict=True):
        assert torch.equal(image, wanted)  # in order, so that positions are indices
        assert torch.equal(image, DATA.tensors[0][tokens.index])
    collate = smartaug.Collate(coreset=JEST(*models(), 0.4, chunks=CHUNKS), **SAID)
    stock = torch.utils.data.DataLoader(DATA, READ, collate_fn=collate)
    assert [batch[1].index.tolist() for batch in stock] == indices(loader())[0]
    for function in (lambda **given: smartaug.wrap(batches, **given), smartaug.Collate):
        with pytest.raises(ValueError, match="can only choose within the batches"):
            function(coreset=smartaug.Coreset(0.5))


def test_it_chooses_among_augmented_pairs_and_weights_are_of_those_chosen():
    seen = []

    def louder(images):
        return 2 * images

    class Note(smartaug.SAFLEX):
        def weigh(self, grads, batch, trace):
            seen.append((batch.index, batch.inputs, trace))
            return super().weigh(grads, batch, trace)

    model, known = models()
    held = pairs(12, 9)
    stage = Note(model, (held, held[1]), validation_batch=8, criterion=ContrastiveLoss())
    made = smartaug.DataLoader(
        DATA, READ, augment=louder, coreset=JEST(model, known, 0.4), reweight=stage, still=1, **SAID
    )
    for image, tokens in made:
        index, inputs, trace = seen.pop()
        assert torch.equal(index, tokens.index)
        assert torch.equal(image, 2 * DATA.tensors[0][index])
        assert torch.equal(inputs[0], image)
        assert tokens.weight.shape == (4,)
        assert tokens.soft.shape == (4, 4)
        assert len(trace.ops) in (0, 4)
        loss = smartaug.Loss(ContrastiveLoss())(model(image, tokens), tokens)
        assert bool(torch.isfinite(loss))
    with made.plain():
        assert sum(len(image) for image, _ in made) == SIZE


def test_what_was_drawn_for_the_rows_chosen_stays_beside_them():
    images = torch.randint(0, 256, (SIZE, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    class Pictures(Model):
        def forward(self, image, tokens):
            return super().forward(image.float().mean((2, 3)).repeat(1, 2)[:, :5] / 255, tokens)

    traces, data = [], TensorDataset(images, DATA.tensors[1])

    def note(batch, trace):
        traces.append(trace)
        return None, None

    policy = smartaug.RandAugment(2, (0, 30), backend="torch")
    chooser = JEST(Pictures(), Pictures(bag=True), 0.4)
    made = smartaug.DataLoader(data, READ, augment=policy, coreset=chooser, reweight=note, still=1, **SAID)
    watched = []
    made._pipeline.watchers.append(lambda batch, plans, epoch: watched.append((batch, plans)))
    for image, tokens in made:
        batch, (plan,) = watched.pop()
        whole = policy.plan((4, 3, 8, 8), index=tokens.index, epoch=0, seed=4)
        for trace in (traces.pop(), plan.trace, whole.trace):
            assert torch.equal(trace.ops, plan.trace.ops)
            assert torch.equal(trace.levels, plan.trace.levels)
        assert torch.equal(policy.apply(images[tokens.index], plan), image)
        assert len(batch.index) == plan.shape[0] == 4


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: loader(inputs=None, target=None), TypeError, r"coreset stage JEST.*inputs=\['first', 'second'\]"),
        (lambda: loader(coreset=JEST(None, Model())), RuntimeError, r"chooser.bind\(model, reference\)"),
        (lambda: loader(coreset=Rows(torch.ones(READ, dtype=torch.bool))), TypeError, r"write mask.nonzero\(\)"),
        (lambda: loader(coreset=Rows(torch.tensor([1, 1]))), ValueError, r"rows 0 to 9 .* each once, .* \[1, 1\]"),
        (lambda: loader(coreset=Rows(torch.tensor([READ]))), ValueError, "rows 0 to 9"),
        (lambda: loader(coreset=Rows(torch.tensor([], dtype=torch.int64))), ValueError, "at least one"),
    ],
)
def test_the_loader_says_what_to_write(make, error, match):
    with pytest.raises(error, match=match):
        next(iter(make()))


class Rows:
    """A coreset of one's own that chooses the same rows of every batch."""

    def __init__(self, rows):
        self.rows = rows

    def choose_rows(self, inputs, key):
        assert len(key) == len(inputs[0])
        return self.rows


def test_keywords_tell_choosers_from_others():
    assert indices(loader(coreset=Rows(torch.tensor([7, 2]))))[0][0] == [7, 2]
    chooser = JEST(*models())
    with pytest.raises(TypeError, match=r"reweight got JEST.*: write coreset=JEST"):
        smartaug.DataLoader(DATA, reweight=chooser)
    with pytest.raises(TypeError, match=r"select got JEST.*: write coreset=JEST"):
        smartaug.Coreset(0.5, select=chooser)

    class Short:
        def choose_rows(self, inputs):
            return torch.arange(2)

    with pytest.raises(TypeError, match="coreset must be a coreset"):
        smartaug.DataLoader(DATA, coreset=Short())


def test_a_choice_of_all_rows_is_warned_of():
    with pytest.warns(smartaug.NoEffectWarning, match="handed out all 10 rows of the first batch"):
        made = indices(loader(1.0))
    assert made[0][0] == list(range(READ))
