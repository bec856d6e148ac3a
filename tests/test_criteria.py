"""Largest losses, and the embedding of a data set by one pass."""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import Dataset, IterableDataset, TensorDataset, default_collate

import smartaug
from smartaug.coreset import OrderDP, embed_pass, pick

# --- MaxLoss ---------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(size=st.integers(0, 30), smallest=st.booleans(), data=st.data())
def test_max_loss_takes_the_largest(size, smallest, data):
    budget = data.draw(st.integers(0, size))
    losses = data.draw(st.lists(st.sampled_from([0.0, 0.25, 0.5, 3.0]), min_size=size, max_size=size))
    embedding = smartaug.Embedding(torch.zeros(size, 3), None, torch.tensor(losses))
    indices, weights = smartaug.MaxLoss(smallest=smallest)(embedding, budget)
    sign = 1 if smallest else -1
    assert indices.tolist() == sorted(range(size), key=lambda i: (sign * losses[i], i))[:budget]
    assert (indices.dtype, weights) == (torch.int64, None)


@pytest.mark.parametrize("smallest", [False, True])
def test_the_residual_orders_as_the_cross_entropy_does(smallest):
    logits, labels = 3 * torch.randn(80, 6), torch.randint(0, 6, (80,))
    residual = logits.softmax(1) - F.one_hot(labels, 6)
    loss = F.cross_entropy(logits, labels, reduction="none")
    select = smartaug.MaxLoss(smallest=smallest)
    indices, _ = select(smartaug.Embedding(residual), 20)
    assert torch.equal(indices, select(smartaug.Embedding(residual, None, loss), 20)[0])
    assert torch.equal(indices, loss.argsort(descending=not smallest)[:20])


def test_certainly_wrong_samples_have_the_largest_loss():
    residual = torch.tensor([[-0.5, 0.5], [-1.0, 1.0], [-0.1, 0.1]])  # the loss of the second is infinite
    assert smartaug.MaxLoss()(smartaug.Embedding(residual), 2)[0].tolist() == [1, 0]


def test_max_loss_names_what_is_wrong():
    with pytest.raises(ValueError, match=r"loss is not finite in the rows \[1\]"):
        smartaug.MaxLoss()(smartaug.Embedding(torch.zeros(2, 2), None, torch.tensor([1.0, float("nan")])), 1)
    with pytest.raises(ValueError, match=r"budget must lie in 0\.\.2"):
        smartaug.MaxLoss()(smartaug.Embedding(torch.zeros(2, 2)), 3)


@pytest.mark.parametrize("smallest", [False, True])
@pytest.mark.parametrize("given_loss", [False, True])
def test_the_losses_of_many_classes_at_once(smallest, given_loss):
    sizes, budgets = np.array([5, 0, 9, 1, 30]), np.array([2, 0, 9, 0, 7])
    generator = torch.Generator().manual_seed(2)
    residual = torch.rand(45, 3, generator=generator).mul(4).round() - 4
    embedding = smartaug.Embedding(residual, None, residual[:, 1].abs() if given_loss else None)
    select = smartaug.MaxLoss(smallest=smallest)
    wanted, start = [], 0
    for size, budget in zip(sizes.tolist(), budgets.tolist(), strict=True):
        part = smartaug.Embedding(*(None if field is None else field[start : start + size] for field in embedding))
        wanted += (select(part, budget)[0] + start).tolist()
        start += size
    indices, weights = select.by_class(embedding, sizes, budgets, range(5))
    assert weights is None
    assert sorted(indices.tolist()) == sorted(wanted)


def test_what_selects_several_classes_must_select_as_many_of_each():
    class Wrong(smartaug.MaxLoss):
        def by_class(self, embedding, sizes, budgets, seeds):
            return torch.arange(int(budgets.sum())), None

    groups = pick.classes(np.repeat(np.arange(2), 4))

    def embedding(rows):
        return smartaug.Embedding(torch.zeros(len(rows), 2))

    with pytest.raises(ValueError, match=r"selected \[4, 0\] samples of the classes, not \[2, 2\]"):
        pick.chosen(Wrong(), groups, np.array([2, 2]), np.ones(8, bool), embedding, 0, 0)


# --- OrderDP ---------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 30), top=st.sampled_from([0.2, 0.375, 0.5, 1.0]), seed=st.integers(0, 99), data=st.data())
def test_order_dp_takes_the_largest_of_a_random_subset(size, top, seed, data):
    budget = data.draw(st.integers(0, size))
    losses = data.draw(st.lists(st.sampled_from([0.0, 0.25, 0.5, 3.0]), min_size=size, max_size=size))
    embedding = smartaug.Embedding(torch.zeros(size, 3), None, torch.tensor(losses))
    indices, weights = OrderDP(top=top)(embedding, budget, torch.Generator().manual_seed(seed))
    subset = torch.randperm(size, generator=torch.Generator().manual_seed(seed))[: min(size, round(budget / top))]
    assert indices.tolist() == sorted(sorted(subset.tolist(), key=lambda i: (-losses[i], i))[:budget])
    assert (indices.dtype, weights) == (torch.int64, None)


def test_order_dp_selects_another_subset_in_each_epoch_and_prefers_large_losses():
    losses = torch.linspace(0, 1, 100)
    embedding = smartaug.Embedding(torch.zeros(100, 2), None, losses)
    generator = torch.Generator().manual_seed(0)
    counts = torch.zeros(100)
    for _ in range(400):
        counts[OrderDP(top=0.5)(embedding, 25, generator)[0]] += 1
    assert counts[:20].sum() == 0 < counts[45:55].min()  # the subset's lower half is never selected
    assert counts[75:].mean() > 1.15 * counts[50:60].mean()


@pytest.mark.parametrize("top", [0.0, 1.5, True, "half"])
def test_order_dp_names_a_wrong_share(top):
    with pytest.raises(ValueError, match="top must be a share of the random subset"):
        OrderDP(top=top)


# --- the pass --------------------------------------------------------------------------------------------------------


class Network(nn.Module):
    """With everything that a pass could disturb: running statistics, dropout, a head to find."""

    def __init__(self, outputs=4):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5))
        self.head = nn.Linear(48, outputs)

    def forward(self, x):
        return self.head(self.body(x))


def images(size=23, classes=4):
    return TensorDataset(torch.randn(size, 1, 6, 6), torch.arange(size) % classes)


def expected(model, inputs, labels):
    model.eval()
    with torch.no_grad():
        feature = model.body(inputs)
        logits = model.head(feature)
    model.train()
    residual = logits.softmax(1) - F.one_hot(labels, logits.shape[1])
    return residual, feature, F.cross_entropy(logits, labels, reduction="none")


def check(embedding, wanted, atol=1e-6):
    for made, right in zip(embedding, wanted, strict=True):
        assert torch.allclose(made, right, atol=atol)


@pytest.mark.parametrize("batch_size", [1, 7, 23, 100])
def test_the_embedding_is_that_of_evaluation_mode(batch_size):
    model, data = Network(), images()
    embedding, labels = embed_pass(model, data, batch_size=batch_size, features=True, progress=False)
    check(embedding, expected(model, *data.tensors))
    assert torch.equal(labels, data.tensors[1])
    without, _ = embed_pass(model, data, batch_size=batch_size, progress=False)
    assert without.feature is None
    assert torch.equal(without.residual, embedding.residual)


class Drawing(Dataset):
    """Draws from every global generator."""

    def __len__(self):
        return 9

    def __getitem__(self, index):
        noise = torch.rand(1) + random.random() + np.random.rand()
        return torch.full((1, 6, 6), float(index)) + 0 * noise.float(), index % 4


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("training", [True, False])
def test_nothing_of_the_users_is_touched(training, workers):
    model = Network().train(training)
    model(torch.randn(5, 1, 6, 6)).sum().backward()
    model.body[4].eval()  # a mode of its own
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    modes = [part.training for part in model.modules()]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    embed_pass(model, Drawing(), batch_size=4, num_workers=workers, progress=False)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(p.grad, old) for p, old in zip(model.parameters(), gradients, strict=True))
    assert modes == [part.training for part in model.modules()]
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]


def test_frozen_models_are_embedded():
    model, data = Network().requires_grad_(False), images()
    embedding, _ = embed_pass(model, data, features=True, progress=False)
    check(embedding, expected(model, *data.tensors))


def test_the_transform_runs_on_batches():
    data = TensorDataset(torch.randint(0, 256, (10, 1, 6, 6), dtype=torch.uint8), torch.arange(10) % 4)
    model = Network()
    embedding, _ = embed_pass(model, data, transform=lambda batch: batch / 255 - 0.5, progress=False)
    inputs = data.tensors[0] / 255 - 0.5
    assert torch.allclose(embedding.residual, expected(model, inputs, data.tensors[1])[0], atol=1e-5)


def test_arithmetic_of_another_type():
    model, data = Network(), images()
    exact, _ = embed_pass(model, data, progress=False)
    rough, _ = embed_pass(model, data, dtype=torch.bfloat16, features=True, progress=False)
    assert [part.dtype for part in rough] == [torch.float32] * 3
    assert not torch.equal(rough.residual, exact.residual)
    assert torch.allclose(rough.residual, exact.residual, atol=0.03)
    with torch.autocast("cpu", torch.bfloat16):
        full, _ = embed_pass(model, data, dtype=torch.float32, progress=False)
        as_set, _ = embed_pass(model, data, progress=False)
    assert torch.equal(full.residual, exact.residual)
    assert torch.equal(as_set.residual, rough.residual)


def test_dicts_name_their_leaves():
    inputs, labels = images().tensors
    rows = [{"image": image, "label": label, "weight": 1.0} for image, label in zip(inputs, labels, strict=True)]
    model = Network()
    embedding, found = embed_pass(model, rows, progress=False)
    assert torch.allclose(embedding.residual, expected(model, inputs, labels)[0], atol=1e-6)
    assert torch.equal(found, labels)
    others = [{"kind": row["label"], "size": 0, "photo": row["image"]} for row in rows]
    embedding, found = embed_pass(model, others, inputs="photo", target="kind", progress=False)
    assert torch.allclose(embedding.residual, expected(model, inputs, labels)[0], atol=1e-6)


def test_a_dict_without_images_goes_to_the_model_whole():
    class Language(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.head = nn.Embedding(11, 6), nn.Linear(6, 3)

        def forward(self, input_ids, attention_mask):
            return {"logits": self.head((self.words(input_ids) * attention_mask[..., None]).sum(1))}

    tokens = torch.randint(0, 11, (12, 5))
    rows = [{"input_ids": row, "attention_mask": (row > 2).float(), "labels": i % 3} for i, row in enumerate(tokens)]
    model = Language()
    embedding, labels = embed_pass(model, rows, batch_size=5, progress=False)
    logits = model(tokens, (tokens > 2).float())["logits"]
    assert torch.allclose(embedding.residual, logits.softmax(1) - F.one_hot(labels, 3), atol=1e-6)


def test_single_logits_and_soft_labels():
    inputs, labels = images(classes=2).tensors
    model = Network(outputs=1)
    embedding, found = embed_pass(model, TensorDataset(inputs, labels), features=True, progress=False)
    model.eval()
    probability = torch.sigmoid(model(inputs)[:, 0])
    assert torch.allclose(embedding.residual[:, 1], probability - labels, atol=1e-6)
    assert torch.equal(found, labels)
    soft = torch.rand(23, 4).softmax(1)
    model = Network()
    embedding, found = embed_pass(model, TensorDataset(inputs, soft), progress=False)
    model.eval()
    assert torch.allclose(embedding.residual, model(inputs).softmax(1) - soft, atol=1e-6)
    assert torch.allclose(embedding.loss, F.cross_entropy(model(inputs), soft, reduction="none"), atol=1e-5)
    assert torch.equal(found, soft.argmax(1))


def test_masked_classes_leave_the_loss_finite():
    class Masked(Network):
        def forward(self, x):
            return super().forward(x).index_fill(1, torch.tensor([3]), -torch.inf)

    embedding, _ = embed_pass(Masked(), images(classes=3), progress=False)
    assert all(bool(torch.isfinite(part).all()) for part in embedding if part is not None)


def test_the_bar_can_be_seen_and_hidden(capsys):
    embed_pass(Network(), images())
    assert "embedding" in capsys.readouterr().err
    embed_pass(Network(), images(), progress=False)
    assert capsys.readouterr().err == ""


class Stream(IterableDataset):
    def __iter__(self):
        yield from images()


@pytest.mark.parametrize(
    ("data", "settings", "error", "match"),
    [
        (Stream(), {}, TypeError, "dataset must be map-style, with a length, got Stream"),
        (images(0), {}, ValueError, "dataset is empty"),
        (images(), {"dtype": torch.float64}, ValueError, "dtype must be torch.float32, bfloat16, float16 or None"),
        (TensorDataset(torch.randn(3, 1, 6, 6)), {}, ValueError, "no labels found in the batch"),
        (images(), {"collate_fn": lambda rows: default_collate(rows[:2])}, ValueError, "made 2 rows of 23"),
        (images(classes=6), {}, ValueError, "label 5 is not among the model's 4 classes|label 4 is not among"),
    ],
)
def test_what_cannot_be_embedded(data, settings, error, match):
    with pytest.raises(error, match=match):
        embed_pass(Network(), data, progress=False, **settings)


def test_pass_and_criterion_pick_the_same_from_a_copy_elsewhere():
    model, data = Network(), images(60)
    picks = [
        smartaug.FacilityLocation()(embed_pass(network, data, device=device, progress=False)[0], 10)[0]
        for network, device in ((model, None), (model, "cpu"), (nn.DataParallel(model), torch.device("cpu")))
    ]
    assert torch.equal(picks[0], picks[1])
    assert torch.equal(picks[0], picks[2])


@pytest.mark.parametrize("target", [torch.full((4, 1), 3.0), torch.ones(4, 3)], ids=["regression", "several labels"])
def test_a_pass_refuses_targets_that_are_no_classes(target):
    dataset = torch.utils.data.TensorDataset(torch.rand(4, 5), target)
    with pytest.raises(ValueError, match="classes or rows that sum to 1"):
        smartaug.coreset.embed_pass(torch.nn.Linear(5, target.shape[1]), dataset, progress=False)


def test_a_pass_over_bytes_says_how_to_convert_them():
    data = TensorDataset(torch.randint(0, 256, (6, 3, 4, 4), dtype=torch.uint8), torch.arange(6) % 2)

    def network():
        return torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.Flatten(), torch.nn.Linear(8, 2))

    with pytest.raises(TypeError, match=r"uint8 inputs \(6, 3, 4, 4\).*images\.float\(\) / 255"):
        embed_pass(network(), data, progress=False)
    chosen = smartaug.Coreset(2, embed="pass", model=network(), warmup=0, progress=False)
    loader = smartaug.DataLoader(data, coreset=chosen, augment=smartaug.Normalize(0.5, 0.25))
    with pytest.raises(TypeError, match=r"transform=smartaug\.Normalize"):
        next(iter(loader))
    embed_pass(network(), data, progress=False, transform=lambda images: images.float() / 255)

    class Converting(torch.nn.Sequential):
        def forward(self, images):
            return super().forward(images / 255.0)

    embed_pass(Converting(network()), data, progress=False)  # a model that takes bytes is given them
    floats = TensorDataset(torch.rand(6, 1, 4, 4), torch.arange(6) % 2)
    with pytest.raises(RuntimeError, match="expected input"):  # what has nothing to do with bytes is said as it is
        embed_pass(network(), floats, progress=False)
