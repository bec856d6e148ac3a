"""Magnitudes of RandAugment and TrivialAugment that are drawn, or that each sample has of its own."""

import copy
import io
import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import TensorDataset

import smartaug
from smartaug.augment.ops.leveled import OPERATIONS
from tests import reference_policies as reference
from tests.data import Stream

SHAPE = (400, 3, 32, 32)
INDEX = torch.arange(400)
SIGNED = ("ShearX", "ShearY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness")


def steps(trace):
    """Positions (B, N) of 31 that the levels of a trace tell."""
    return (trace.levels * 31).floor().long()


def traced(policy, epoch=0):
    return policy.plan(SHAPE, index=INDEX, epoch=epoch, seed=3).trace


def in_table(policy, trace):
    """The unsigned magnitudes (B, N) that the table has at the positions of a trace."""
    found = [
        [policy.magnitude_of(trace.names[op], step, 32, 32) for op, step in zip(*row, strict=True)]
        for row in zip(trace.ops.tolist(), steps(trace).tolist(), strict=True)
    ]
    return torch.tensor(found)


@pytest.mark.parametrize("policy", [smartaug.RandAugment(2, (0, 30)), smartaug.TrivialAugment()], ids=repr)
def test_magnitudes_are_drawn_for_each_operation(policy):
    trace = traced(policy)
    drawn = steps(trace)
    assert set(drawn.flatten().tolist()) == set(range(31))
    if policy.num_ops == 2:
        assert abs(float((drawn[:, 0] == drawn[:, 1]).float().mean()) - 1 / 31) < 0.04
    moved = torch.tensor([name.startswith("Translate") for name in trace.names])[trace.ops]
    wanted = torch.where(moved, in_table(policy, trace).floor(), in_table(policy, trace))
    assert torch.allclose(trace.magnitudes.abs(), wanted, atol=1e-4)
    signs = trace.magnitudes[torch.tensor([name in SIGNED for name in trace.names])[trace.ops]]
    assert 0.4 < float((signs > 0).float().mean()) < 0.6


def test_a_range_of_magnitudes_keeps_operations_and_signs():
    fixed, ranged = (traced(smartaug.RandAugment(2, magnitude)) for magnitude in (9, (5, 12)))
    assert torch.equal(fixed.ops, ranged.ops)
    assert torch.equal(traced(smartaug.RandAugment(2, (9, 9))).magnitudes, fixed.magnitudes)
    low, high = (traced(smartaug.RandAugment(2, magnitude)).magnitudes for magnitude in (5, 12))
    inside = (ranged.magnitudes >= torch.minimum(low, high) - 1e-4) & (
        ranged.magnitudes <= torch.maximum(low, high) + 1e-4
    )
    assert bool(inside.all())


@pytest.mark.parametrize("magnitude", [(3, 2), (0, 31), (0, 1, 2), (0.5, 3), ("a", 2), 31, None])
def test_bad_ranges_are_named(magnitude):
    with pytest.raises(ValueError, match="magnitude must be"):
        smartaug.RandAugment(2, magnitude)


def test_trivial_augment_says_what_takes_a_magnitude():
    with pytest.raises(TypeError, match=r"or RandAugment\(1, 9\)"):
        smartaug.TrivialAugment(magnitude=9)


def test_ranges_stand_in_files():
    made = smartaug.from_dict({"RandAugment": {"num_ops": 1, "magnitude": [3, 20]}})
    assert made.magnitude == (3, 20)
    assert smartaug.to_dict(made)["RandAugment"]["magnitude"] == [3, 20]
    with pytest.raises(TypeError, match=r"RandAugment\.magnitude"):
        smartaug.to_dict(smartaug.RandAugment(1, smartaug.SRA()))


def learned(parts):
    policy = smartaug.RandAugment(1, (0, 8), 9)
    policy.probabilities = torch.rand(14, parts, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    policy.probabilities /= policy.probabilities.sum()
    return policy


@pytest.mark.parametrize(
    "policy", [smartaug.RandAugment(1, (0, 8), 9), smartaug.RandAugment(1, smartaug.SRA(), 9), learned(2)], ids=repr
)
def test_moments_enumerate_drawn_magnitudes(policy):
    images = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = smartaug.moments.of(policy, images, nodes=4096)
    assert found.exact
    drawn = policy(images.expand(4000, -1, -1, -1), index=None, seed=0)
    assert float((drawn.mean(0) - found.mean[0]).abs().max()) < 0.03


# --- the levels of samples -------------------------------------------------------------------------------------------

rows = st.integers(2, 6).flatmap(
    lambda classes: st.lists(st.lists(st.floats(-30, 30), min_size=classes, max_size=classes), min_size=1, max_size=5)
)


@given(rows)
def test_levels_are_those_of_the_twins(logits):
    given_logits = torch.tensor(logits, dtype=torch.float64)
    labels = torch.arange(len(logits)) % given_logits.shape[1]
    one_hot = F.one_hot(labels, given_logits.shape[1]).double()
    log_p = given_logits.log_softmax(1)
    entropy, cosine = (kind.level(log_p, one_hot) for kind in (smartaug.EntAugment, smartaug.SRA))
    for row, (row_logits, label) in enumerate(zip(logits, one_hot.tolist(), strict=True)):
        assert float(entropy[row]) == pytest.approx(reference.entropy_level(row_logits), abs=1e-12)
        assert float(cosine[row]) == pytest.approx(reference.cosine_level(row_logits, label), abs=1e-12)
    levels = [0.0, 0.2, 1 / 3, 0.99, 1.0]
    wanted = [reference.entropy_step(level, 31) for level in levels]
    assert smartaug.EntAugment().steps(torch.tensor(levels, dtype=torch.float64), 31).tolist() == wanted


def taught(source, logits, labels, index, epoch=1):
    """The source at the beginning of ``epoch``, after it saw these outputs in the one before."""
    source.begin(epoch - 1)
    source.observe(index, logits, labels)
    source.begin(epoch)
    return source


def sure(rows, classes=4, by=50.0):
    """Logits whose softmax is one-hot at class 0."""
    logits = torch.zeros(rows, classes)
    logits[:, 0] = by
    return logits


@pytest.mark.parametrize("make", [smartaug.RandAugment, smartaug.TrivialAugment])
def test_samples_get_their_own_levels_and_others_draw(make):
    source = smartaug.EntAugment(warmup=0)
    policy = make(magnitude=source)
    free = traced(make() if make is smartaug.TrivialAugment else make(2, (0, 30)))
    assert torch.equal(traced(policy).magnitudes, free.magnitudes)  # nobody was seen
    certain, even = INDEX[:100], INDEX[100:200]
    logits = torch.cat([sure(100), torch.zeros(100, 4)])
    taught(source, logits, torch.zeros(200, dtype=torch.int64), torch.cat([certain, even]))
    trace = traced(policy)
    assert torch.equal(trace.ops, free.ops)
    assert set(steps(trace)[certain].flatten().tolist()) == {30}
    assert set(steps(trace)[even].flatten().tolist()) == {1}
    assert torch.equal(trace.magnitudes[200:], free.magnitudes[200:])
    later = policy.plan((50, 3, 32, 32), index=INDEX[50:100].flip(0), epoch=0, seed=3).trace
    assert torch.equal(later.magnitudes, trace.magnitudes[50:100].flip(0))  # whatever the batch
    inside = smartaug.OneOf([smartaug.Compose([policy]), smartaug.Flip()])
    drawn = inside.plan(SHAPE, index=INDEX, epoch=0, seed=3).trace
    reached = (drawn.ops[:, : policy.num_ops] != drawn.names.index("Identity")).all(1)
    assert set(steps(drawn)[:100][reached[:100]][:, : policy.num_ops].flatten().tolist()) == {30}
    without = policy.plan(SHAPE, epoch=0, seed=3).trace  # a counter is no index of the dataset
    assert len(set(steps(without)[:100].flatten().tolist())) > 5


def test_half_of_the_samples_explore():
    source = taught(smartaug.SRA(), sure(400), torch.zeros(400, dtype=torch.int64), INDEX)
    policy = smartaug.RandAugment(2, source)
    guided = [(steps(traced(policy, epoch)) == 30).all(1) for epoch in (1, 2)]
    assert all(abs(float(part.float().mean()) - 0.5) < 0.1 for part in guided)
    assert abs(float((guided[0] & guided[1]).float().mean()) - 0.25) < 0.1  # drawn anew in each epoch
    free = traced(smartaug.RandAugment(2, (0, 30)), 1)
    assert torch.equal(traced(policy, 1).magnitudes[~guided[0]], free.magnitudes[~guided[0]])
    source.explore = 0.0
    assert bool((steps(traced(policy, 1)) == 30).all())
    wrong = taught(smartaug.SRA(explore=0.0), sure(400), torch.ones(400, dtype=torch.int64), INDEX)
    assert bool((steps(traced(smartaug.RandAugment(2, wrong))) == 0).all())


def test_the_warm_up_draws():
    source = taught(smartaug.EntAugment(warmup=2), sure(400), torch.zeros(400, dtype=torch.int64), INDEX)
    policy = smartaug.RandAugment(2, source)
    assert len(set(steps(traced(policy, 1)).flatten().tolist())) > 20
    source.begin(2)
    assert set(steps(traced(policy, 2)).flatten().tolist()) == {30}


def test_what_says_nothing_of_a_sample_is_left_out():
    source = smartaug.SRA()
    logits = sure(6)
    logits[1, 2] = torch.nan
    labels = torch.tensor([0, 0, -100, 0, 7, 0])
    source.begin(0)
    source.observe(INDEX[:6], logits, labels, torch.tensor([True, True, True, False, True, True]))
    assert source.levels(INDEX[:6]).isnan().all()  # not before the next epoch
    source.begin(1)
    assert source.levels(torch.tensor([0, 1, 2, 3, 4, 5, 99, -1])).isfinite().nonzero().flatten().tolist() == [0, 5]
    source.observe(torch.tensor([0, 0]), torch.stack([sure(1)[0], torch.zeros(4)]), torch.zeros(2, dtype=torch.int64))
    source.begin(2)
    assert float(source.levels(INDEX[:1])) == 1.0  # of a sample's rows the first, as in a coreset's record
    for output, target in ((torch.zeros(2), torch.tensor([0.0, 1.0])), (torch.zeros(2, 1), torch.tensor([0, 1]))):
        source.observe(INDEX[:2], output, target)  # a single logit has two classes
    with pytest.raises(TypeError, match=r"must hold logits \(B, K\) or \(B,\), got torch.float32 \(2, 3, 4, 4\)"):
        source.observe(INDEX[:2], torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4))


# --- through the loader ----------------------------------------------------------------------------------------------

SIZE = 40


def pictures(size=SIZE):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (size, 3, 8, 8), dtype=torch.uint8, generator=generator)
    return TensorDataset(images, torch.arange(size) % 3)


def loader_of(source, dataset=None, policy=smartaug.RandAugment, **keywords):
    settings = {"batch_size": 8, "shuffle": True, "seed": 1, "device": "cpu"}
    stages = [smartaug.Flip(), policy(magnitude=source), smartaug.Normalize()]
    return smartaug.DataLoader(
        pictures() if dataset is None else dataset,
        augment=stages,
        generator=torch.Generator().manual_seed(4),
        **{**settings, **keywords},
    )


def model_of():
    torch.manual_seed(2)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 3))


def trained(loader, model, epochs=1, criterion=None):
    """The batches of some epochs, each followed by a step."""
    criterion = criterion or smartaug.Loss(nn.CrossEntropyLoss())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    made = []
    for _ in range(epochs):
        for images, target in loader:
            optimizer.zero_grad()
            criterion(model(images), target).backward()
            optimizer.step()
            made.append((images.clone(), target.index.clone()))
    return made


def equal(ours, theirs):
    return len(ours) == len(theirs) and all(
        torch.equal(a, b) and torch.equal(i, j) for (a, i), (b, j) in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize("policy", [smartaug.RandAugment, smartaug.TrivialAugment])
@pytest.mark.parametrize("make", [lambda: smartaug.EntAugment(warmup=1), smartaug.SRA], ids=["EntAugment", "SRA"])
def test_what_the_loss_saw_sets_the_next_epoch(make, policy):
    source = make()
    loader = loader_of(source, policy=policy)
    model, outputs = model_of(), {}
    model.register_forward_hook(lambda _, args, output: outputs.update(last=output.detach().double()))
    criterion, seen = smartaug.Loss(nn.CrossEntropyLoss()), {}
    for images, target in loader:
        criterion(model(images), target)
        for row, sample in enumerate(target.index.tolist()):
            label = [float(k == sample % 3) for k in range(3)]
            logits = outputs["last"][row].tolist()
            is_entropy = isinstance(source, smartaug.EntAugment)
            seen[sample] = reference.entropy_level(logits) if is_entropy else reference.cosine_level(logits, label)
    assert loader.stats()["magnitudes"][type(source).__name__]["known"] == 0
    next(iter(loader))
    assert torch.allclose(
        source.levels(torch.arange(SIZE)).double(), torch.tensor([seen[i] for i in range(SIZE)]).double(), atol=1e-5
    )
    told = loader.stats()["magnitudes"][type(source).__name__]
    assert told["known"] == SIZE
    assert told["mean_level"] == pytest.approx(sum(seen.values()) / SIZE, abs=1e-5)


@pytest.mark.parametrize("batches", [0, 3, 5])
def test_a_resumed_run_draws_the_same(batches):
    model = model_of()
    loader = loader_of(smartaug.SRA())
    trained(loader, model)
    iterator, criterion = iter(loader), smartaug.Loss(nn.CrossEntropyLoss())
    for _ in range(batches):
        images, target = next(iterator)
        criterion(model(images), target)
    file = io.BytesIO()
    torch.save(loader.state_dict(), file)
    file.seek(0)
    other, twin = loader_of(smartaug.SRA()), copy.deepcopy(model)
    other.load_state_dict(torch.load(file, weights_only=True))
    rest = []
    for images, target in iterator:
        rest.append((images, target.index))
        criterion(model(images), target)
    rest += trained(loader, model)
    again = []
    for images, target in other if len(rest) > 5 else ():
        again.append((images, target.index))
        criterion(twin(images), target)
    again += trained(other, twin)
    assert equal(rest, again)
    light = loader_of(smartaug.SRA())
    light.load_state_dict(loader.state_dict(record=False))
    next(iter(light))
    assert light.stats()["magnitudes"]["SRA"]["known"] == 0


def test_workers_and_order_change_no_draw():
    def levels(**keywords):
        source = smartaug.EntAugment(warmup=0)
        loader = loader_of(source, **keywords)
        model = model_of().requires_grad_(False)
        criterion = smartaug.Loss(nn.CrossEntropyLoss())
        for epoch in range(2):
            made = {}
            for images, target in loader:
                criterion(model(images), target)
                made |= {int(i): (epoch, image) for i, image in zip(target.index, images, strict=True)}
        return made

    alone = levels()
    for keywords in (
        {"num_workers": 1, "multiprocessing_context": "forkserver"},
        {"shuffle": False, "batch_size": 5},
    ):
        other = levels(**keywords)
        assert all(torch.equal(other[sample][1], image) for sample, (_, image) in alone.items())


def test_mixed_rows_say_nothing_of_a_sample():
    source = smartaug.SRA()
    loader = smartaug.DataLoader(
        pictures(), 8, augment=[smartaug.RandAugment(1, source), smartaug.MixUp(p=1.0)], seed=0, device="cpu"
    )
    model, alone = model_of(), torch.zeros(SIZE, dtype=torch.bool)
    for images, target in loader:
        smartaug.Loss(nn.CrossEntropyLoss())(model(images.float() / 255), target)
        alone[target.index] = target._mixed.whole
    next(iter(loader))
    kept = source.levels(torch.arange(SIZE)).isfinite()
    assert loader.stats()["magnitudes"]["SRA"]["known"] == int(kept.sum()) == int(alone.sum()) < SIZE // 2
    assert torch.equal(kept, alone)


def test_copies_that_a_coreset_appends_have_their_levels():
    source = smartaug.EntAugment(warmup=0)
    loader = loader_of(
        source, coreset=smartaug.Coreset(0.5, select=smartaug.coreset.RandomSubset(), apply="append"), shuffle=False
    )
    trained(loader, model_of(), 2)
    assert loader.stats()["magnitudes"]["EntAugment"]["known"] == SIZE


def test_without_a_loss_it_has_no_effect_and_says_so():
    loader = loader_of(smartaug.SRA())
    list(loader)
    with pytest.warns(smartaug.NoEffectWarning, match=r"SRA saw no output of the model in epoch 0"):
        list(loader)


def test_what_cannot_be_known_is_refused():
    stream = smartaug.DataLoader(Stream(), 4, augment=smartaug.RandAugment(1, smartaug.SRA()), seed=0)
    with pytest.raises(ValueError, match=r"SRA keeps magnitudes by dataset index.* write magnitude=9"):
        next(iter(stream))
    source = smartaug.SRA()
    loader_of(source, pictures())
    with pytest.raises(ValueError, match=r"SRA belongs to another dataset: it keeps levels by the index"):
        loader_of(source, pictures())
    loader = loader_of(smartaug.SRA(), TensorDataset(pictures().tensors[0], torch.rand(SIZE) * 3.7))
    with pytest.raises(TypeError, match=r"magnitude= reads p of one class a sample.* write magnitude=\(0, 30\)"):
        next(iter(loader))
    loader = loader_of(smartaug.SRA(), TensorDataset(pictures().tensors[0], (torch.arange(SIZE) % 2).float()[:, None]))
    images, target = next(iter(loader))
    with pytest.raises(TypeError, match=r"SRA reads the probabilities of classifiers, and this criterion"):
        smartaug.Loss(nn.MSELoss())(torch.rand(len(images), 1), target)
    for make in (lambda: smartaug.EntAugment(warmup=-1), lambda: smartaug.SRA(warmup=True)):
        with pytest.raises(ValueError, match="warmup must be a number of epochs ≥ 0"):
            make()
    with pytest.raises(ValueError, match=r"explore must be a probability in \[0, 1\]"):
        smartaug.SRA(explore=2)


def test_an_augmentation_that_draws_for_a_part_is_named():
    class Half(smartaug.Augmentation):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def sample(self, shape, key):
            return self.inner.sample((shape[0] // 2, *shape[1:]), key[: shape[0] // 2])

    with pytest.raises(RuntimeError, match=r"a plan of 200 rows is drawn inside one of 400 samples"):
        Half(smartaug.RandAugment(1, smartaug.SRA())).plan(SHAPE, index=INDEX, seed=0)


def test_copies_have_levels_of_their_own():
    source = taught(smartaug.SRA(explore=0.0), sure(400), torch.zeros(400, dtype=torch.int64), INDEX)
    policy = smartaug.RandAugment(2, source)
    wanted = traced(policy).magnitudes
    for twin in (copy.deepcopy(policy), pickle.loads(pickle.dumps(policy))):
        assert torch.equal(traced(twin).magnitudes, wanted)
        assert twin.magnitude is not source
    assert repr(source) == "SRA(warmup=0, explore=0.0)"
    assert len(OPERATIONS) == 14
