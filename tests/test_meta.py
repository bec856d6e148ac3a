"""MetaAugment and Meta-Weight-Net: exact hypergradients, the table of pairs, and its way back into RandAugment."""

import copy
import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call
from torch.utils.data import TensorDataset

import smartaug
from smartaug.augment.plan import Trace
from smartaug.reweight.pair_table import PairTable
from smartaug.reweight.validation import ValidationBatches
from tests import reference, reference_policies
from tests.models import images, make
from tests.test_reweight import data, net, shell, train

NAMES = ("Identity", "Flip", "Swap")


def trace(n):
    ops = torch.stack([torch.arange(n) % 3, torch.arange(n) // 3 % 3], 1)
    return Trace(ops, torch.zeros(n, 2), NAMES)


def losses(model, values, inputs, labels, training):
    """Per-sample losses with ``values`` as parameters, buffers and mode put back."""
    was = model.training
    model.train(training)
    buffers = {name: part.clone() for name, part in model.named_buffers()}
    logits = reference.as_classes(functional_call(model, {**buffers, **values}, (inputs,)))
    model.train(was)
    return nn.functional.cross_entropy(logits, labels, reduction="none")


def reference_hypergradient(model, policy, seen, batch, held, lr, normalise):
    """d L_val(ŵ(θ)) / dθ by a second-order graph."""
    parameters = dict(model.named_parameters())
    P = policy(*seen)
    shares = P / P.sum() if normalise else P / len(P)
    loss = (shares * losses(model, parameters, batch.inputs, batch.target, model.training)).sum()
    steps = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
    moved = {name: part - lr * step for (name, part), step in zip(parameters.items(), steps, strict=True)}
    value = losses(model, moved, *held, False).mean()
    return torch.autograd.grad(value, list(policy.parameters()))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("make_name", ["batch norm", "single column", "tied"])
@pytest.mark.parametrize("name", ["MetaAugment", "MetaWeightNet"])
def test_the_hypergradient_equals_second_order_autograd(name, make_name, training):
    model = make(make_name, training)
    classes = 2 if make_name == "single column" else 3
    held = (images(12), torch.arange(12) % classes)
    extra = {"operations": NAMES} if name == "MetaAugment" else {}
    stage = getattr(smartaug, name)(model, held, lr=0.3, validation_batch=6, **extra)
    batch = smartaug.Batch(images(9), torch.arange(9) % classes, None, None, None)
    if classes == 2:  # the reference's cross entropy is of (0, z)
        assert reference.as_classes(model(batch.inputs)).shape[1] == 2
    stage(batch, trace(9))  # makes the network
    before = copy.deepcopy(stage.net)
    seen = []
    stage.net.register_forward_hook(lambda _, args, __: seen.append(args))
    drawn = ValidationBatches(held, 6).batch(1, torch.device("cpu"))
    stage(batch, trace(9))
    wanted = reference_hypergradient(model, before, seen[0], batch, drawn, 0.3, name == "MetaAugment")
    for parameter, part in zip(stage.net.parameters(), wanted, strict=True):
        assert float((parameter.grad - part).abs().max()) <= 1e-8
    assert any(float(part.abs().max()) > 1e-8 for part in wanted)


@pytest.mark.parametrize("name", ["MetaAugment", "MetaWeightNet"])
@pytest.mark.parametrize("settings", [{}, {"method": "difference"}, {"every": 3}, {"weigh_every": 2}])
def test_they_train_through_the_loader(name, settings):
    model = net()
    loader = train(shell(name, model, **settings), model=model)
    target = next(iter(loader))[1]
    assert float(target.weight.mean()) == pytest.approx(1.0, abs=1e-5)
    assert target.soft is None


def test_alpha_from_the_users_optimizer():
    model, state = net(), torch.get_rng_state()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.25)
    batch, held = smartaug.Batch(torch.randn(6, 5), torch.arange(6) % 3), data()
    state = torch.get_rng_state()
    one = smartaug.MetaWeightNet(model, held, optimizer=optimizer)
    other = smartaug.MetaWeightNet(model, held, lr=0.25)
    assert torch.equal(one(batch, None)[0], other(batch, None)[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_the_table_follows_the_papers_formula():
    table = PairTable(3, 2, history=2, epsilon=0.1)
    assert torch.allclose(table.probabilities(), torch.full((3, 3), 1 / 9, dtype=torch.float64))
    table.note(torch.tensor([[0, 1], [0, 1], [2, 2]]), torch.tensor([0.2, 0.4, 0.9]))
    table.close()
    v = torch.ones(3, 3, dtype=torch.float64)
    v[0, 1], v[2, 2] = 0.3, 0.9
    assert torch.allclose(table.probabilities(), 0.9 * v / v.sum() + 0.1 / 9)
    for _ in range(2):  # forgotten after two epochs
        table.close()
    assert torch.allclose(table.probabilities(), torch.full((3, 3), 1 / 9, dtype=torch.float64))


@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1, width=32)), min_size=2, max_size=2),
            st.floats(0.01, 0.99),
        ),
        min_size=1,
        max_size=30,
    ),
    st.integers(1, 3),
)
def test_the_table_of_ranges_is_the_twins(seen, bands):
    table = PairTable(4, 2, history=3, epsilon=0.2, bands=bands, without=(0, 2))
    ops = torch.tensor([[op for op, _ in pair] for pair, _ in seen])
    levels = torch.tensor([[level for _, level in pair] for pair, _ in seen]).clamp(max=1 - 1e-6)
    P = torch.tensor([weight for _, weight in seen], dtype=torch.float64)
    table.note(ops, P, levels)
    table.close()
    drawn = [
        (tuple((op, reference_policies.band(level, bands)) for op, level in zip(*row, strict=True)), weight)
        for row, (_, weight) in zip(
            (pair for pair in zip(ops.tolist(), levels.tolist(), strict=True)), seen, strict=True
        )
    ]
    made = table.probabilities()
    assert made.shape == ((4, 4) if bands == 1 else (4, bands, 4, bands))
    assert float(made.sum()) == pytest.approx(1.0)
    wide = made.reshape(4, bands, 4, bands)
    for ((one, r), (two, q)), p in reference_policies.table(drawn, 4, bands, 0.2, (0, 2)).items():
        assert float(wide[one, r, two, q]) == pytest.approx(p, abs=1e-12)


def colour(n=32):
    return TensorDataset(torch.randint(0, 256, (n, 3, 8, 8), dtype=torch.uint8), torch.arange(n) % 3)


def image_net():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.Tanh(), nn.Linear(8, 3))


def with_policy(dataset, model, held, policy=None, **settings):
    policy = policy or smartaug.RandAugment(num_ops=2)
    stage = smartaug.MetaAugment(model, held, policy=policy, transform=smartaug.Normalize(), policy_lr=0.05, **settings)
    loader = smartaug.DataLoader(
        dataset, batch_size=8, shuffle=True, reweight=stage, seed=3, device="cpu",
        augment=[smartaug.PadCrop(1), policy, smartaug.Erase(0.5), smartaug.Normalize()],
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    return loader, stage, policy


def test_probabilities_reach_randaugment_at_the_next_epoch():
    loader, stage, policy = with_policy(colour(), image_net(), colour())
    assert len(stage.operations) == 14
    uniform = torch.full((14, 14), 1 / 196, dtype=torch.float64)
    assert all(target.weight.shape == (len(target),) for _, target in loader)
    assert torch.allclose(policy.probabilities, uniform)
    assert int(stage.table.now[1].sum()) == 32  # the policy's two columns, not PadCrop's or Erase's
    list(loader)
    assert not torch.allclose(policy.probabilities, uniform)
    assert torch.equal(policy.probabilities, stage.probabilities)
    assert float(policy.probabilities.sum()) == pytest.approx(1.0)
    told = loader.stats()["reweight"]
    assert told["probabilities"].shape == (14, 14)
    assert told["operations"][0] == "Identity"


POLICIES = {
    "one magnitude": (lambda: smartaug.RandAugment(2), {}),
    "ranges": (lambda: smartaug.RandAugment(2, (0, 30)), {"bands": 3}),
    "TrivialAugment": (smartaug.TrivialAugment, {"bands": 2}),
}


@pytest.mark.parametrize("name", POLICIES)
def test_a_resumed_run_draws_and_weighs_the_same(name):
    torch.manual_seed(1)
    dataset, held, model = colour(), colour(), image_net()
    make, settings = POLICIES[name]
    loader, _, _ = with_policy(dataset, model, held, make(), **settings)
    assert all(target.weight.shape == (len(target),) for _, target in loader)
    batches = iter(loader)
    next(batches)
    file = io.BytesIO()
    torch.save(loader.state_dict(), file)
    file.seek(0)
    other, _, _ = with_policy(dataset, model, held, make(), **settings)
    other.load_state_dict(torch.load(file, weights_only=True))
    rest = [*batches, *loader]
    again = [*other, *other]
    assert len(rest) == len(again) == 7
    for (a, target), (b, second) in zip(rest, again, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(target.weight, second.weight)


def test_the_embedding_is_the_papers():
    policy = smartaug.RandAugment(num_ops=2)
    stage = smartaug.MetaAugment(image_net(), colour(), policy=policy)
    names = stage.operations
    where = {name: number for number, name in enumerate(names)}
    drawn = [("Rotate", "AutoContrast"), ("Posterize", "Solarize"), ("TranslateX", "CutOut")]
    operations = torch.tensor([[where.get(name, -1) for name in pair] for pair in drawn])
    magnitudes = torch.tensor([[-12.0, 0.0], [6.0, 51.0], [7.0, 1.0]])
    made = stage.embedding(operations, magnitudes, (32, 64))
    wanted = torch.zeros(3, 28)
    wanted[0, 2 * where["Rotate"]] = (4 + 1) / 11  # 12 of 30 degrees is m = 4
    wanted[0, 2 * where["AutoContrast"] + 1] = 11 / 11  # no magnitude
    wanted[1, 2 * where["Posterize"]] = (5 + 1) / 11  # 6 of 8 .. 4 bits
    wanted[1, 2 * where["Solarize"] + 1] = (8 + 1) / 11  # threshold 255 .. 0
    wanted[2, 2 * where["TranslateX"]] = (10 * 7 / (150 / 331 * 64) + 1) / 11
    assert torch.allclose(made, wanted, atol=1e-6)


def test_drawn_magnitudes_are_seen_and_ranges_of_them_are_drawn_more_often():
    policy = smartaug.RandAugment(2, (0, 30))
    loader, stage, _ = with_policy(colour(64), image_net(), colour(), policy, bands=3)
    seen = []
    handed = stage.embedding

    def embedding(operations, magnitudes, size):
        seen.append(handed(operations, magnitudes, size))
        return seen[-1]

    stage.embedding = embedding
    assert all(target.weight.shape == (len(target),) for _, target in loader)
    assert stage.probabilities.shape == (14, 3, 14, 3)
    entries = torch.cat(seen).unique()
    assert len(entries) > 20  # levels of the magnitudes, in elevenths
    assert int(stage.table.now[1].sum()) == 64
    stage.begin(1)
    made = stage.probabilities
    for plain in (0, 12, 13):  # Identity, AutoContrast, Equalize
        assert bool((made[plain] == made[plain, :1]).all())
        assert bool((made[:, :, plain] == made[:, :, plain, :1]).all())
    table = torch.zeros(14, 3, 14, 3, dtype=torch.float64)
    table[5, 2, 1, 0] = 0.75  # strong rotations, then weak shears
    table[0, 1, 5, 1] = 0.25
    policy.probabilities = table
    trace = policy.plan((4000, 3, 32, 32), index=torch.arange(4000), seed=0).trace
    first = trace.ops[:, 0] == 5
    assert float(first.float().mean()) == pytest.approx(0.75, abs=0.03)
    steps, parts = (trace.levels * 31).floor().long(), (trace.levels * 3).floor()
    assert bool((parts[first] == torch.tensor([2.0, 0.0])).all())
    assert bool((parts[~first, 1] == 1).all())
    assert [len(set(drawn.tolist())) for drawn in (steps[first, 0], steps[first, 1], steps[~first, 1])] == [10, 10, 11]
    assert bool((trace.magnitudes[first, 0].abs() >= 21 - 1e-4).all())  # degrees


@pytest.mark.parametrize("span", [(0, 30), (3, 11), (0, 8), (5, 9)])
@pytest.mark.parametrize("bands", [2, 3, 4, 5])
def test_the_policy_draws_in_the_range_that_the_table_notes(span, bands):
    policy = smartaug.RandAugment(1, span)
    for part in range(bands):
        policy.probabilities = torch.zeros(14, bands, dtype=torch.float64)
        policy.probabilities[5, part] = 1.0
        levels = policy.plan((300, 3, 32, 32), index=torch.arange(300), seed=0).trace.levels
        table = PairTable(14, 1, history=1, epsilon=0.0, bands=bands)
        table.note(torch.full((300, 1), 5), torch.full((300,), 0.5), levels)
        assert table.now[1].nonzero().tolist() == [[5, part]]


def test_trivial_augment_learns_which_operations_to_draw():
    policy = smartaug.TrivialAugment()
    loader, stage, _ = with_policy(colour(), image_net(), colour(), policy)
    assert all(target.weight.shape == (len(target),) for _ in range(2) for _, target in loader)
    assert policy.probabilities.shape == (14,)
    assert torch.equal(policy.probabilities, stage.probabilities)
    policy.probabilities = torch.eye(14, dtype=torch.float64)[5]
    trace = policy.plan((300, 3, 32, 32), index=torch.arange(300), seed=0).trace
    assert trace.ops.unique().tolist() == [5]
    assert len(trace.magnitudes.abs().unique()) == 31


def test_ranges_that_cannot_be_learned_are_named():
    for policy, has in (
        (smartaug.RandAugment(2), "has 1"),
        (smartaug.RandAugment(2, smartaug.SRA()), "has a source of them"),
        (smartaug.RandAugment(2, (4, 5)), "has 2"),
    ):
        with pytest.raises(ValueError, match=rf"bands=3 divides the magnitudes.*{has}; write policy ="):
            smartaug.MetaAugment(image_net(), colour(), policy=policy, bands=3)
    with pytest.raises(ValueError, match="bands must be a number of ranges ≥ 1, got 0"):
        shell("MetaAugment", operations=NAMES, bands=0)
    stage = shell("MetaAugment", operations=NAMES, bands=2)
    with pytest.raises(ValueError, match=r"bands=2 needs to know where in its range"):
        stage(smartaug.Batch(torch.randn(6, 5), torch.arange(6) % 3), trace(6))
    policy = smartaug.RandAugment(1)
    for shape, message in (((14, 2), r"divides magnitudes into 2 ranges.* draws from 1"), ((7, 2), "must have shape")):
        policy.probabilities = torch.full(shape, 1 / 28, dtype=torch.float64)
        with pytest.raises(ValueError, match=message):
            policy.plan((2, 3, 8, 8), index=torch.arange(2), seed=0)
    whole, other = (
        smartaug.MetaAugment(image_net(), colour(), policy=smartaug.RandAugment(2, (0, 30)), bands=bands)
        for bands in (2, 3)
    )
    with pytest.raises(ValueError, match=r"has a table of shape \(14, 2, 14, 2\), and this MetaAugment one of"):
        other.load_state_dict(whole.state_dict())


def test_magnitudes_reach_the_policy_network():
    given_batch = smartaug.Batch(torch.randn(6, 5), torch.arange(6) % 3)

    def seen(magnitude, **settings):
        stage = shell("MetaAugment", operations=NAMES, **settings)
        drawn = Trace(torch.ones(6, 2, dtype=torch.int64), torch.full((6, 2), magnitude), NAMES)
        stage(given_batch, drawn)  # makes the network
        found = []
        stage.net.register_forward_hook(lambda _, args, __: found.append(args[1]))
        stage(given_batch, drawn)
        return found[0].reshape(6, 3, 2)

    flips = {"ranges": {"Flip": (0.0, 30.0)}}
    for magnitude, entry in ((0.0, 1 / 11), (30.0, 1.0), (-15.0, 6 / 11), (99.0, 1.0)):
        made = seen(magnitude, **flips)
        assert torch.allclose(made[:, 1], torch.tensor(entry))
        assert not bool(made[:, [0, 2]].any())
    assert torch.equal(seen(0.0), seen(30.0))  # without a range there is no magnitude
    with pytest.raises(
        ValueError, match=r"ranges names 'Spin', which is not among the operations \(Identity, Flip, Swap"
    ):
        shell("MetaAugment", operations=NAMES, ranges={"Spin": (0.0, 1.0)})
    with pytest.raises(ValueError, match=r"must be two different magnitudes \(low, high\)"):
        shell("MetaAugment", operations=NAMES, ranges={"Flip": (1.0, 1.0)})


def test_without_operations_features_alone_decide():
    stage = shell("MetaAugment")
    weight, _ = stage(smartaug.Batch(torch.randn(6, 5), torch.arange(6) % 3), None)
    assert weight.shape == (6,)
    assert stage.probabilities is None
    assert "probabilities" not in stage.stats()


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"policy": 3}, TypeError, r"policy must be an augmentation that draws from probabilities, got int"),
        ({"epsilon": 2.0}, ValueError, r"epsilon must be in \[0, 1\], got 2.0"),
        ({"history": 0}, ValueError, "history must be a number of epochs ≥ 1"),
        ({"lr": 0.0}, ValueError, "lr must be positive"),
        ({"scope": "head"}, ValueError, "MetaAugment steps the whole model"),
    ],
)
def test_bad_arguments_are_named(arguments, error, match):
    with pytest.raises(error, match=match):
        shell("MetaAugment", **arguments)


def test_a_state_of_a_network_of_another_shape_is_named():
    def loader(width):
        model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, width), nn.ReLU(), nn.Linear(width, 3))
        stage = smartaug.MetaAugment(model, (torch.rand(12, 3, 8, 8), torch.arange(12) % 3), validation_batch=6)
        arrays = TensorDataset(torch.rand(12, 3, 8, 8), torch.arange(12) % 3)
        return smartaug.DataLoader(arrays, 6, reweight=stage, augment=smartaug.RandAugment(), seed=0)

    whole, other = loader(5), loader(7)
    list(whole)
    other.load_state_dict(whole.state_dict())
    with pytest.raises(ValueError, match=r"for inputs of the widths .*5.*, and this model's batches have .*7"):
        list(other)
    same = loader(5)
    same.load_state_dict(whole.state_dict())
    assert len(list(same)) == 2
