"""Reweighters: rules against brute force, edge cases, the shell's promises, and that they learn."""

import copy
import io
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset
from torchvision.datasets import FakeData
from torchvision.transforms import PILToTensor

import smartaug
from smartaug import grads
from smartaug.reweight import ByRule, Learner, Rule, validation
from smartaug.reweight.memory import Memory
from smartaug.reweight.validation import ValidationBatches
from tests import reference

SHELLS = ["SAFLEX", "LearningToReweight"]


def net(classes=3, inputs=5):
    return nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, classes))


def data(n=24, classes=3):
    return TensorDataset(torch.randn(n, 5), torch.arange(n) % classes)


def shell(name="SAFLEX", model=None, val_set=None, **arguments):
    return getattr(smartaug, name)(
        net() if model is None else model, data() if val_set is None else val_set, **arguments
    )


def batch(n=6, classes=3, soft=None):
    return smartaug.Batch(torch.randn(n, 5), torch.arange(n) % classes, None, soft, torch.arange(n))


class TwoBenefits:
    """`Gradients` whose directions take turns between two sets of benefits."""

    def __init__(self, first, second, labels):
        self.benefits, self.labels, self.asked = (first, second), labels, 0

    def direction(self, at=None):
        self.asked += 1
        return {"number": torch.tensor(self.asked - 1)}

    def benefit(self, direction=None):
        made = self.benefits[0 if direction is None else int(direction["number"])]
        return made, made


@given(n=st.integers(2, 6), classes=st.integers(2, 4), seed=st.integers(0, 2**31), centred=st.booleans())
@settings(max_examples=40, deadline=None)
def test_centred_and_shrunk_benefits_follow_their_formulas(n, classes, seed, centred):
    torch.manual_seed(seed)
    first, second = torch.randn(n, classes).double(), torch.randn(n, classes).double()
    labels = torch.eye(classes, dtype=torch.float64)[torch.arange(n) % classes]
    stage = shell(centred=centred, shrunk=True)
    made = stage.weigh(TwoBenefits(first, second, labels), batch(n), None)
    if centred:
        first, second = first - first.mean(0), second - second.mean(0)
    agreement = max(0.0, 2 * float((first * second).sum() / ((first**2).sum() + (second**2).sum())))
    mean = (first + second) / 2
    score = agreement * mean / mean.std(correction=0) + 3.0 * labels
    soft = score.softmax(1)
    gain = agreement * (soft * mean).sum(1)
    torch.testing.assert_close(made[1], soft)
    clear = (soft * mean).sum(1).abs() > 1e-9
    assert torch.equal(made[0][clear], (gain[clear] >= 0).double())


def test_what_two_validation_batches_do_not_agree_on_moves_nothing():
    first = torch.randn(5, 3)
    labels = torch.eye(3)[torch.arange(5) % 3]
    weight, soft = shell(shrunk=True).weigh(TwoBenefits(first, -first, labels), batch(5), None)
    torch.testing.assert_close(soft, (3.0 * labels).softmax(1))
    assert (weight == 1).all()
    same = shell(shrunk=True).weigh(TwoBenefits(first, first, labels), batch(5), None)
    plain = shell().weigh(TwoBenefits(first, first, labels), batch(5), None)
    torch.testing.assert_close(same, plain)
    with pytest.raises(ValueError, match=r"shrunk=True compares two validation batches .* every="):
        shell(shrunk=True, every=2)


# --- rules -----------------------------------------------------------------------------------------------------------


def benefits(n, classes):
    """Benefits and log-probabilities that fit each other: Σ_k p_k B_k = 0."""
    log_p, h = torch.randn(n, classes).log_softmax(1), torch.randn(n, classes)
    return (log_p.exp() * h).sum(1, keepdim=True) - h, log_p


@given(n=st.integers(1, 6), classes=st.integers(2, 5), seed=st.integers(0, 2**31), loose=st.booleans())
@settings(max_examples=60, deadline=None)
def test_saflex_solves_its_linear_programme(n, classes, seed, loose):
    torch.manual_seed(seed)
    B = torch.randn(n, classes) if loose else benefits(n, classes)[0]
    weight, soft = smartaug.SAFLEX.rule(B, None, torch.zeros(n, classes), temperature=0.0, penalty=0.0)
    wanted_weight, wanted_label, optimum = reference.linear_programme(B)
    used = wanted_weight > 0  # where the weight is 0 any label is as good
    assert torch.equal(soft.argmax(1)[used], wanted_label[used])
    if not loose:  # the identity that makes the raw rule vacuous
        assert torch.equal(weight, torch.ones(n))
    elif bool(wanted_weight.any()):
        assert torch.equal(weight > 0, used)
        assert torch.allclose((weight > 0) * (soft * B).sum(1), optimum)


@given(
    n=st.integers(1, 5), classes=st.integers(1, 5), seed=st.integers(0, 2**31), penalty=st.sampled_from([0.0, 1.0, 3.0])
)
@settings(max_examples=40, deadline=None)
def test_weights_have_mean_one_and_labels_sum_to_one(n, classes, seed, penalty):
    torch.manual_seed(seed)
    B, log_p = benefits(n, classes)
    upstream = torch.rand(n, classes).softmax(1)
    weight, soft = smartaug.SAFLEX.rule(B, log_p, upstream, temperature=0.5, penalty=penalty)
    other, none = smartaug.LearningToReweight.rule(B, log_p, upstream)
    assert none is None
    for made in (weight, other):
        assert made.shape == (n,)
        assert bool((made >= 0).all())
        assert float(made.mean()) == pytest.approx(1.0, abs=1e-5)
    assert torch.allclose(soft.sum(1), torch.ones(n), atol=1e-5)


def test_saflex_follows_the_penalty_and_the_scale_does_not_matter():
    B, log_p = benefits(8, 4)
    upstream = nn.functional.one_hot(torch.arange(8) % 4, 4).float()
    _, far = smartaug.SAFLEX.rule(B, log_p, upstream, penalty=100.0)
    assert torch.equal(far.argmax(1), upstream.argmax(1))
    _, near = smartaug.SAFLEX.rule(B, log_p, upstream, penalty=0.0, temperature=0.01)
    assert torch.equal(near.argmax(1), B.argmax(1))
    for scale in (1e-6, 1e6):
        made = smartaug.SAFLEX.rule(scale * B, log_p, upstream)
        for part, wanted in zip(made, smartaug.SAFLEX.rule(B, log_p, upstream), strict=True):
            assert torch.allclose(part, wanted, atol=1e-4)


def test_a_harmful_label_is_left_out():
    B = torch.tensor([[-5.0, 1.0, 1.0], [1.0, -0.5, -0.5]])
    upstream = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    weight, _ = smartaug.SAFLEX.rule(B, None, upstream, temperature=0.1, penalty=50.0)
    assert weight.tolist() == [0.0, 2.0]


@pytest.mark.parametrize("shape", [(4, 3), (1, 3), (4, 1), (3, 1000), (0, 3)])
def test_all_benefits_equal(shape):
    B = torch.zeros(shape)
    upstream = torch.zeros(shape)
    upstream[:, 0] = 1.0
    weight, soft = smartaug.SAFLEX.rule(B, B, upstream)
    assert torch.equal(weight, torch.ones(shape[0]))
    assert torch.equal(soft.argmax(1), upstream.argmax(1))
    assert torch.equal(smartaug.LearningToReweight.rule(B, B, upstream)[0], torch.ones(shape[0]))


def test_benefits_that_are_not_finite_stay_so():
    B = torch.tensor([[float("nan"), 1.0], [1.0, 2.0]])
    weight, soft = smartaug.SAFLEX.rule(B, B, torch.tensor([[1.0, 0.0]] * 2))
    assert not bool(torch.isfinite(weight).all() and torch.isfinite(soft).all())
    assert not bool(torch.isfinite(smartaug.LearningToReweight.rule(B, B, torch.ones(2, 2))[0]).all())


def test_soft_augmentation_is_the_papers_formula():
    upstream = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    p, soft = smartaug.SoftAugmentation.rule(torch.tensor([1.0, 0.5]), upstream, 1 / 3, 2.0)
    assert p.tolist() == pytest.approx([1.0, 1 - 2 / 3 * 0.25])
    assert torch.allclose(soft[1], torch.tensor([(1 - p[1]) / 2, p[1], (1 - p[1]) / 2]))
    assert torch.equal(soft[0], upstream[0])


def test_soft_augmentation_reads_what_was_erased():
    images = TensorDataset(torch.rand(8, 3, 8, 8), torch.arange(8) % 4)
    loader = smartaug.DataLoader(
        images, batch_size=8, augment=smartaug.Erase(0.5), reweight=smartaug.SoftAugmentation(4), seed=1
    )
    shown, target = next(iter(loader))
    covered = ((shown == 0).all(1)).float().mean((1, 2))
    p = 1 - 0.75 * covered**2
    assert torch.allclose(target.soft.gather(1, target.plain[:, None])[:, 0], p, atol=1e-5)
    assert torch.allclose(target.weight, p / p.mean(), atol=1e-5)
    with pytest.raises(ValueError, match="reads the visible fraction from Erase, which is not among the stages"):
        next(iter(smartaug.DataLoader(images, reweight=smartaug.SoftAugmentation(4))))


# --- the shell -------------------------------------------------------------------------------------------------------


def train(reweight, epochs=2, criterion=None, seed=0, model=None, dataset=None):
    model = net() if model is None else model
    loader = smartaug.DataLoader(
        data() if dataset is None else dataset, batch_size=6, shuffle=True, reweight=reweight, seed=seed, device="cpu",
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    criterion = smartaug.Loss(nn.CrossEntropyLoss()) if criterion is None else criterion
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(epochs):
        for inputs, target in loader:
            optimizer.zero_grad()
            criterion(model(inputs), target).backward()
            optimizer.step()
    return loader


def test_uniform_is_plain_training_bit_for_bit():
    dataset, first = data(), net()
    second = copy.deepcopy(first)
    train(smartaug.Uniform(), model=first, dataset=dataset)
    train(None, model=second, dataset=dataset, criterion=nn.CrossEntropyLoss())
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", SHELLS)
@pytest.mark.parametrize("settings", [{}, {"method": "difference"}, {"scope": "head"}, {"every": 3, "ema": 0.5}])
def test_weights_and_labels_reach_the_loss(name, settings):
    model = net()
    loader = train(shell(name, model, **settings), model=model)
    _, target = next(iter(loader))
    assert float(target.weight.mean()) == pytest.approx(1.0, abs=1e-5)
    assert (target.soft is None) == (name == "LearningToReweight")
    told = loader.stats()["reweight"]
    assert told["mean_weight"] == pytest.approx(1.0, abs=1e-5)
    assert 0 <= told["share_zero"] <= 1
    assert 0 <= told["labels_moved"] <= 1
    assert 0 <= told["label_entropy"] <= math.log(3)
    assert told["seconds_per_batch"] > 0


def test_the_verdict_is_the_rule_on_the_benefits():
    model, held, given_batch = net(), data(), batch()
    made = shell("SAFLEX", model, held)(given_batch, None)
    inputs, target = ValidationBatches(held, 64).batch(0, torch.device("cpu"))
    log_p, B = grads.benefit(model, given_batch.inputs, grads.direction(model, inputs, target))
    upstream = nn.functional.one_hot(given_batch.target, 3).float()
    for part, wanted in zip(made, smartaug.SAFLEX.rule(B, log_p, upstream), strict=True):
        assert torch.allclose(part, wanted, atol=1e-5)


def test_mixed_labels_narrow_labels_and_single_logits():
    narrow = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    _, soft = shell()(smartaug.Batch(torch.randn(2, 5), torch.tensor([0, 0]), None, narrow, None), None)
    assert soft.shape == (2, 3)
    single = nn.Sequential(nn.Linear(5, 1), nn.Flatten(0))
    binary = TensorDataset(torch.randn(8, 5), torch.arange(8) % 2)
    loader = smartaug.DataLoader(binary, batch_size=4, reweight=smartaug.SAFLEX(single, data(classes=2)))
    inputs, target = next(iter(loader))
    assert target.soft.shape == (4, 2)
    loss = smartaug.Loss(nn.BCEWithLogitsLoss())(single(inputs), target)
    wanted = nn.functional.binary_cross_entropy_with_logits(single(inputs), target.soft[:, 1], target.weight.clone())
    assert float(loss.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)


def test_a_rule_of_ones_own():
    def trust(B, log_p, batch):
        assert batch.soft.shape == B.shape == log_p.shape
        return log_p.exp().max(1).values, None

    assert isinstance(trust, Rule)
    made = ByRule(trust, net(), data())
    assert isinstance(made, Learner)
    weight, soft = made(batch(), None)
    assert float(weight.mean()) == pytest.approx(1.0)
    assert soft is None


def test_warmup_leaves_batches_alone():
    stage = shell(warmup=2)
    assert [stage(batch(), None)[0] is None for _ in range(4)] == [True, True, False, False]


def count_calls(monkeypatch):
    calls = []
    original = grads.direction
    monkeypatch.setattr(grads, "direction", lambda *args, **kwargs: calls.append(1) or original(*args, **kwargs))
    return calls


def test_every_reuses_the_direction_and_weighs_every_batch(monkeypatch):
    calls, stage = count_calls(monkeypatch), shell(every=3)
    assert all(stage(batch(), None)[1] is not None for _ in range(7))
    assert len(calls) == 3


def test_weigh_every_recalls_the_last_weight_and_label():
    stage = shell(weigh_every=2)
    first = batch()
    weight, soft = stage(first, None)
    again, remembered = stage(first._replace(inputs=torch.randn(6, 5)), None)
    assert torch.allclose(again, weight, atol=1e-6)
    assert torch.allclose(remembered, soft, atol=2e-3)
    stage(first, None)
    unseen, upstream = stage(first._replace(index=torch.arange(6) + 100), None)
    assert torch.equal(unseen, torch.ones(6))
    assert torch.equal(upstream, nn.functional.one_hot(first.target, 3).float())
    stage(first, None)
    assert stage(first._replace(index=None), None) == (None, None)


def test_memory_is_bounded_and_leaves_out_what_is_not_finite():
    memory = Memory(limit=10 * (5 + 2 * 3))
    weight, soft = torch.tensor([2.0, 0.0, 1.0]), torch.eye(3)
    memory.note(torch.tensor([0, 9, 5000]), weight, soft)
    assert len(memory.weight) == 10
    recalled, labels = memory.recall(torch.tensor([9, 5000]), torch.full((2, 3), 1 / 3))
    assert recalled.tolist() == [0.0, 1.0]
    assert torch.allclose(labels, torch.tensor([[0.0, 1.0, 0.0], [1 / 3] * 3]))
    memory.note(torch.tensor([0]), torch.tensor([float("nan")]), torch.eye(3)[:1])
    assert memory.recall(torch.tensor([0]), None)[0].tolist() == [2.0]


def test_ema_mixes_directions():
    model, stage = net(), None
    stage = shell(model=model, ema=0.5)
    held = stage.validation
    one, two = (grads.direction(model, *held.batch(step, torch.device("cpu"))) for step in (0, 1))
    stage(batch(), None)
    stage(batch(), None)
    for name, part in stage._direction.items():
        assert torch.allclose(part, (one[name] + two[name]) / 2, atol=1e-6)


@pytest.mark.parametrize("settings", [{"ema": 0.5}, {"every": 3}, {"every": 2, "ema": 0.5}, {}])
@pytest.mark.parametrize("bad", [0, 1])
def test_a_direction_that_is_not_finite_spoils_its_own_batch_alone(settings, bad):
    """The first one as well, which nothing stands in for."""
    model = net()
    stage = shell(model=model, **settings)
    drawn = stage.validation.batch

    def once(step, device):
        inputs, target = drawn(step, device)
        return (inputs * torch.nan if step == bad else inputs), target

    stage.validation.batch = once
    finite = []
    for _ in range(8):
        weight, _ = stage(batch(), None)
        finite.append(bool(torch.isfinite(weight).all()))
    assert finite.count(False) == 1
    assert all(bool(torch.isfinite(part).all()) for part in stage._direction.values())


def test_validation_batches_draw_every_sample_equally_often():
    labels = torch.tensor([0] * 40 + [1] * 5 + [4] * 3)
    held = ValidationBatches((torch.arange(48.0)[:, None], labels), 12, seed=3)
    for turn in range(3):
        rows = [held.batch(4 * turn + step, torch.device("cpu"))[0] for step in range(4)]
        assert sorted(torch.cat(rows)[:, 0].tolist()) == list(range(48))
    assert not torch.equal(held.batch(0, torch.device("cpu"))[0], held.batch(4, torch.device("cpu"))[0])


def test_validation_batches_are_class_balanced_if_asked_and_repeatable():
    labels = torch.tensor([0] * 40 + [1] * 5 + [4] * 3)
    held = ValidationBatches((torch.arange(48.0)[:, None], labels), 9, seed=3, balanced=True)
    seen = []
    for step in range(8):
        inputs, target = held.batch(step, torch.device("cpu"))
        assert torch.bincount(target, minlength=5).tolist() == [3, 3, 0, 0, 3]
        seen += inputs[:, 0].tolist()
    assert {n for n in seen if n >= 40} == set(range(40, 48))  # all of the rare classes within a turn
    assert len({n for n in seen if n < 40}) == 24  # none of the common one twice before all
    other = ValidationBatches((torch.arange(48.0)[:, None], labels), 9, seed=3, balanced=True)
    assert torch.equal(other.batch(5, torch.device("cpu"))[0], held.batch(5, torch.device("cpu"))[0])


def test_a_set_that_judges_itself_is_warned_about():
    """Views of one tensor share its memory, and not all of its rows; a part of the set that judges is no fault."""
    inputs, labels = torch.randn(64, 5), torch.arange(64) % 3
    whole = TensorDataset(inputs, labels)
    for held, training, shared in (
        ((inputs, labels), whole, 64),
        ((inputs[54:], labels[54:]), torch.utils.data.Subset(whole, range(55, 60)), 5),
        (whole, torch.utils.data.Subset(whole, range(50, 56)), 6),
    ):
        told = f"all {shared} samples that SAFLEX weighs .* train_on_val=True"
        with pytest.warns(smartaug.NoEffectWarning, match=told):
            shell(val_set=held).attach(training)
    for held, training in (
        ((inputs[:10], labels[:10]), whole),  # warnings are errors
        ((inputs[54:], labels[54:]), TensorDataset(inputs[:54], labels[:54])),
        (torch.utils.data.Subset(whole, range(5)), torch.utils.data.Subset(whole, range(64))),
    ):
        shell(val_set=held).attach(training)


def test_a_split_of_samples_with_several_parts_is_told_which_is_the_label():
    table = TensorDataset(torch.randn(20, 3), torch.arange(40).reshape(20, 2), torch.arange(20) % 2)
    with pytest.raises(ValueError, match="target="):
        smartaug.split_validation(table, 0.2)
    _, held = smartaug.split_validation(table, 0.2, inputs=[0, 1], target=2)
    assert sorted(int(table[row][2]) for row in held.indices) == [0, 0, 1, 1]


class Augmenting(Dataset):
    """Samples whose images have noise, and in ``transform`` what makes it."""

    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return self.transform(torch.full((3,), float(index))), index % 2


def noisy(rows):
    return rows + torch.rand(3)


def test_a_split_may_have_the_transform_of_evaluation():
    given, plain = Augmenting(noisy), torch.zeros_like
    both = ConcatDataset([Subset(given, range(4)), given])
    for dataset in (given, Subset(given, range(8)), both):
        training, held = smartaug.split_validation(dataset, 0.5, transform=plain)
        assert training.dataset is dataset
        assert given.transform is noisy
        assert all(not held[row][0].any() for row in range(len(held)))
        same = smartaug.split_validation(dataset, 0.5)
        assert [part.indices for part in same] == [training.indices, held.indices]
    images = FakeData(12, (3, 8, 8), num_classes=2, transform=PILToTensor())
    _, held = smartaug.split_validation(images, 0.5, transform=plain)
    assert held.dataset.transforms.transform is held.dataset.transform is plain
    assert images.transforms.transform is images.transform
    with pytest.raises(TypeError, match=r"TensorDataset has no attribute transform.*Subset\(evaluation_set"):
        smartaug.split_validation(TensorDataset(torch.zeros(4, 3), torch.arange(4) % 2), 0.5, transform=plain)
    with pytest.raises(TypeError, match="transform must be the transform of evaluation"):
        smartaug.split_validation(given, 0.5, transform=True)


@pytest.mark.parametrize("kept", [True, False])
def test_validation_that_is_augmented_is_seen(kept, monkeypatch):
    monkeypatch.setattr(validation, "_KEPT_BYTES", 1 << 20 if kept else 0)
    _, held = smartaug.split_validation(Augmenting(noisy), 0.5)
    with pytest.warns(UserWarning, match="judged by augmented ones"):
        validation.ValidationBatches(held, 2).batch(0, torch.device("cpu"))
    _, held = smartaug.split_validation(Augmenting(noisy), 0.5, transform=torch.clone)
    validation.ValidationBatches(held, 2).batch(0, torch.device("cpu"))
    nan = Augmenting(lambda rows: rows / 0.0 * 0.0)
    validation.ValidationBatches(nan, 2).batch(0, torch.device("cpu"))


def test_split_validation_is_class_balanced():
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    dataset = TensorDataset(torch.randn(100, 2), labels)
    for source in (dataset, [(torch.zeros(2), int(label)) for label in labels]):
        training, validation = smartaug.split_validation(source, 0.12)
        assert sorted([*training.indices, *validation.indices]) == list(range(100))
        assert torch.bincount(labels[validation.indices]).tolist() == [4, 4, 4]
    assert torch.bincount(labels[smartaug.split_validation(dataset, 0.3)[1].indices]).tolist() == [13, 12, 5]
    nested, held = smartaug.split_validation(Subset(dataset, range(50, 100)), 0.1)
    assert len(nested) + len(held) == 50
    with pytest.raises(ValueError, match=r"fraction must be a float in \(0, 0.5\], got 0.9"):
        smartaug.split_validation(dataset, 0.9)
    with pytest.raises(ValueError, match=r"classes \[7\] have a single sample"):
        smartaug.split_validation(TensorDataset(torch.zeros(3, 1), torch.tensor([0, 0, 7])), 0.5)


# --- the model, copies and checkpoints -------------------------------------------------------------------------------


def test_the_model_by_reference_callable_or_bound():
    model = net()
    stage = shell(model=model)
    assert copy.deepcopy(stage).model is model
    assert shell(model=lambda: model).model is model
    with pytest.raises(RuntimeError, match=r"SAFLEX has no model.*bind\(model\)"):
        smartaug.SAFLEX(None, data())(batch(), None)
    assert smartaug.SAFLEX(None, data()).bind(model).model is model
    thawed = pickle.loads(pickle.dumps(stage))
    with pytest.raises(RuntimeError, match="pickling drops it"):
        thawed(batch(), None)
    given_batch = batch()
    for a, b in zip(thawed.bind(model)(given_batch, None), stage(given_batch, None), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", SHELLS)
def test_a_resumed_run_goes_on_exactly(name):
    torch.manual_seed(5)
    arguments = {"every": 3, "weigh_every": 2, "ema": 0.3, "warmup": 1}
    arguments |= {"noise": 0.5} if name == "SAFLEX" else {}
    model, held, batches = net(), data(), [batch() for _ in range(12)]
    first = shell(name, model, held, **arguments)
    for given_batch in batches[:5]:
        first(given_batch, None)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = shell(name, model, held, **arguments)
    second.load_state_dict(torch.load(file, weights_only=True))
    for given_batch in batches[5:]:
        for a, b in zip(first(given_batch, None), second(given_batch, None), strict=True):
            assert (a is None and b is None) or torch.equal(a, b)
    told, other = first.stats(), second.stats()
    assert told.pop("seconds_per_batch") > 0
    assert other.pop("seconds_per_batch") > 0
    assert told == other


def test_the_loaders_state_holds_the_reweighters():
    model = net()
    loader = train(shell(model=model, every=2), model=model)
    state = loader.state_dict()
    other = smartaug.DataLoader(
        data(), batch_size=6, shuffle=True, reweight=shell(model=model, every=2), device="cpu",
        generator=torch.Generator(),
    )  # fmt: skip
    other.load_state_dict(state)
    assert other.reweight.step == loader.reweight.step == 8


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (
            {"val_set": TensorDataset(torch.zeros(0, 5), torch.zeros(0))},
            ValueError,
            "val_set is empty.*split_validation",
        ),
        ({"val_set": 3}, TypeError, "val_set must be a map-style dataset or a pair of tensors"),
        ({"model": 3}, TypeError, "model must be a torch.nn.Module, a callable returning one, or None, got int"),
        ({"validation_batch": 0}, ValueError, "validation_batch must be a number of samples ≥ 1, got 0"),
        ({"every": 0}, ValueError, "every must be a number of batches ≥ 1, got 0"),
        ({"weigh_every": 1.5}, ValueError, "weigh_every must be a number of batches"),
        ({"warmup": -1}, ValueError, "warmup must be a number of batches ≥ 0"),
        ({"ema": 1.0}, ValueError, r"ema must be in \[0, 1\), got 1.0"),
        ({"scope": "half"}, ValueError, 'scope must be "full" or "head"'),
        ({"statistics": "mean"}, ValueError, 'statistics must be "running" or "batch", got .mean.'),
        ({"method": "exact"}, ValueError, 'method must be "jvp" or "difference"'),
        ({"penalty": -1.0}, ValueError, "penalty must be a number ≥ 0"),
        ({"temperature": float("nan")}, ValueError, "temperature must be a number ≥ 0"),
    ],
)
def test_bad_arguments_are_named(arguments, error, match):
    with pytest.raises(error, match=match):
        shell(**arguments)


def test_bad_batches_are_named():
    with pytest.raises(ValueError, match=r"label 5 is not among the model's 3 classes"):
        shell(val_set=(torch.randn(4, 5), torch.tensor([0, 1, 2, 5])))(batch(), None)
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        shell(model=net().requires_grad_(False))(batch(), None)
    with pytest.raises(TypeError, match="learned weights need labels, and the batch has no target"):
        shell()(smartaug.Batch(torch.randn(2, 5)), None)
    with pytest.raises(ValueError, match="candidates: '0'"):
        shell(model=nn.Sequential(nn.Linear(5, 3), nn.Softplus()), scope="head")(batch(), None)


def test_a_sharded_model_is_refused():
    class FSDPNet(nn.Linear):
        """As torch's fully_shard names what it makes."""

    with pytest.raises(TypeError, match="sharded"):
        shell(model=FSDPNet(5, 3))(batch(), None)


@pytest.mark.parametrize("name", SHELLS)
def test_logits_that_are_not_finite_fall_back_and_do_not_stay(name):
    model = net()
    loader = smartaug.DataLoader(data(), batch_size=6, reweight=shell(name, model, every=2, ema=0.5), device="cpu")
    saved = model[0].weight.detach().clone()
    batches = iter(loader)
    next(batches)
    with torch.no_grad():
        model[0].weight.fill_(float("nan"))
    with pytest.warns(UserWarning, match="not finite"):
        _, second = next(batches)
    _, third = next(batches)
    assert all(torch.equal(target.weight, torch.ones(6)) and target.soft is None for target in (second, third))
    with torch.no_grad():
        model[0].weight.copy_(saved)
    _, fourth = next(batches)
    assert loader.stats()["fallbacks"] == 2
    assert loader.stats()["reweight"]["not_finite"] == 12
    assert fourth._weight is not None


def test_a_loader_whose_samples_all_judge_warns():
    whole = data()
    for held in (whole, whole.tensors):
        with pytest.warns(smartaug.NoEffectWarning, match=r"samples that SAFLEX weighs are in its val_set"):
            smartaug.DataLoader(whole, batch_size=6, reweight=shell(val_set=held))
    training, validation = smartaug.split_validation(whole, 0.25)
    smartaug.DataLoader(training, batch_size=6, reweight=shell(val_set=validation))
    smartaug.DataLoader(whole, batch_size=6, reweight=shell(val_set=validation))
