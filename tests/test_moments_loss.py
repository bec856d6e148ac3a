"""Loss moments, samples needed, saliency, expected losses; the coreset by augmentation variance."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import smartaug
from smartaug import augment, moments
from smartaug.coreset import AugmentationVariance
from tests import reference_moments as reference

PHOTOS = reference.photographs()
LABELS = torch.tensor([1, 0])
STAGES = [augment.PadCrop(2), augment.Flip(), augment.Normalize(0.5, 0.25)]


def digits(count=64):
    """Digits (count, 1, 8, 8) in [0, 1] float64 and their labels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return torch.tensor(data.images[:count])[:, None] / 16, torch.tensor(data.target[:count])


def small_net(classes=3):
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(72, classes),
    )


def trained_net():
    """A small convolutional net that knows the digits."""
    torch.manual_seed(0)
    images, labels = digits(400)
    net = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 10))
    net = net.double()
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimizer.step()
    return net


# --- loss moments ----------------------------------------------------------------------------------------------------


def test_against_draws_and_the_model_stays():
    model = small_net()
    model[1].running_mean.normal_()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    mean, variance = moments.loss_moments(model, nn.CrossEntropyLoss(), PHOTOS, LABELS, STAGES)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(torch.equal(part, before[name]) for name, part in model.state_dict().items())
    assert all(part.grad is None for part in model.parameters())
    model.eval()
    count = 20_000
    aug = augment.Compose(STAGES)
    for row in range(2):
        made = aug(PHOTOS[row].expand(count, -1, -1, -1), index=torch.arange(count), seed=1)
        with torch.no_grad():
            losses = F.cross_entropy(model(made), LABELS[row].expand(count), reduction="none").double()
        assert abs(float(losses.mean() - mean[row])) <= 4 * float(variance[row] / count) ** 0.5
        spread = float(((losses - losses.mean()) ** 4).mean() - variance[row] ** 2)
        assert abs(float(losses.var() - variance[row])) <= 4 * (spread / count) ** 0.5


def test_against_every_transform_in_a_loop():
    model, images = small_net().double().eval(), PHOTOS.double() / 255
    stages = [augment.PadCrop(1), augment.Flip(0.3)]
    mean, variance = moments.loss_moments(model, None, images, LABELS, stages, memory=20_000)
    for row, image in enumerate(images):
        versions, weights = reference.pad_crops(image, 1, 0.3)
        with torch.no_grad():
            losses = [F.cross_entropy(model(version[None]), LABELS[row : row + 1]) for version in versions]
        wanted, spread = reference.weighted([loss.reshape(1) for loss in losses], weights)
        assert float(mean[row]) == pytest.approx(float(wanted), rel=1e-10)
        assert float(variance[row]) == pytest.approx(float(spread), rel=1e-9)


@pytest.mark.parametrize(
    ("criterion", "target"),
    [
        (nn.CrossEntropyLoss(label_smoothing=0.1), LABELS),
        (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 2.0]).double()), LABELS),
        (nn.CrossEntropyLoss(reduction="sum"), LABELS),
        (nn.CrossEntropyLoss(), torch.tensor([[0.2, 0.5, 0.3], [1.0, 0.0, 0.0]]).double()),
        (nn.MSELoss(), torch.rand(2, 3).double()),
        (lambda output, target: ((output.mean(1) - target) ** 2).mean(), torch.rand(2).double()),
    ],
)
def test_criteria(criterion, target):
    model, images = small_net().double().eval(), PHOTOS.double() / 255
    mean, variance = moments.loss_moments(model, criterion, images, target, augment.Flip(0.3))
    with torch.no_grad():
        for row in range(2):
            plain, turned = (
                float(criterion(model(image[row : row + 1]), target[row : row + 1]))
                for image in (images, images.flip(3))
            )
            assert float(mean[row]) == pytest.approx(0.7 * plain + 0.3 * turned, rel=1e-5)
            assert float(variance[row]) == pytest.approx(0.21 * (plain - turned) ** 2, rel=1e-4, abs=1e-12)


def test_an_ignored_label_has_no_loss():
    mean, variance = moments.loss_moments(
        small_net(), nn.CrossEntropyLoss(ignore_index=7), PHOTOS, torch.tensor([7, 0]), STAGES
    )
    assert float(mean[0]) == float(variance[0]) == 0.0
    assert float(mean[1]) > 0


def test_the_linear_method():
    """Exact for a linear model with a linear loss; on shifted digits it is several times too small."""
    images = PHOTOS.double() / 255
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).double()
    settings_ = {
        "criterion": lambda output, target: (output[:, 0] * target).mean(),
        "target": torch.tensor([1.0, -2.0]),
    }
    exact, linear = (
        moments.loss_moments(model, images=images, augment=STAGES[:2], method=method, **settings_)
        for method in ("exact", "linear")
    )
    assert torch.allclose(exact[0], linear[0], rtol=1e-6)
    assert torch.allclose(exact[1], linear[1], rtol=1e-5)
    net, (shown, labels) = trained_net(), digits(100)
    exact, linear = (
        moments.loss_moments(net, None, shown, labels, augment.PadCrop(1), method=method)[1]
        for method in ("exact", "linear")
    )
    ratio = float(exact.mean() / linear.mean())
    print(f"exact variance over linearised: {ratio:.1f} in the mean")
    assert ratio > 1.5


def test_draws_of_stages_without_a_plan():
    def shade(images):
        return images * (0.5 + torch.rand(len(images), 1, 1, 1, dtype=images.dtype))

    model, images = nn.Sequential(nn.Flatten(), nn.Linear(192, 1)).double(), PHOTOS.double() / 255
    target = torch.ones(2, dtype=torch.float64)

    def criterion(output, target):
        return output[:, 0].mean()

    with torch.no_grad():
        slope = (images.flatten(1) @ model[1].weight[0]).abs()
    mean, variance = moments.loss_moments(model, criterion, images, target, shade, draws=1000)
    assert torch.allclose(variance, slope**2 / 12, rtol=0.2)
    with torch.no_grad():
        assert torch.allclose(mean, model(images)[:, 0], atol=float(4 * slope.max() / 12**0.5 / 1000**0.5))
    with pytest.raises(TypeError, match="loss_moments"):
        moments.loss_moments(model, criterion, images, target, shade)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        (
            {"target": torch.tensor([1, 3])},
            ValueError,
            "label 3 is not among the model's 3 classes|Target 3 is out of bounds",
        ),
        ({"target": torch.rand(2, 4)}, ValueError, "4 classes and the model 3 outputs"),
        ({"target": torch.tensor([1])}, ValueError, "one row for each of the 2 images"),
        ({"target": [1, 0]}, ValueError, "must be a tensor"),
        ({"augment": STAGES[:2]}, TypeError, "end the augmentation with smartaug.Normalize"),
        ({"method": "quick"}, ValueError, 'write method="exact"'),
        (
            {"criterion": lambda output, target: output.mean(1) / 0.0},
            ValueError,
            "not finite, as of sample 0 under 'PadCrop",
        ),
        ({"augment": augment.MixUp()}, TypeError, "MixUp mixes"),
    ],
)
@pytest.mark.parametrize("criterion", [None, nn.CrossEntropyLoss()])
def test_mistakes(changes, error, words, criterion):
    given = {"criterion": criterion, "images": PHOTOS, "target": LABELS, "augment": STAGES, **changes}
    with pytest.raises(error, match=words):
        moments.loss_moments(small_net(), **given)


# --- samples needed --------------------------------------------------------------------------------------------------


def test_samples_needed_keeps_its_promise():
    """With n draws the mean of 95 % of trials is within the tolerance."""
    torch.manual_seed(3)
    mean, var = torch.tensor([2.0]), torch.tensor([9.0])
    n = int(moments.samples_needed(mean, var, rtol=0.1))
    assert n == 865  # ceil(1.959964² · 9 / (0.01 · 4))
    means = (2 + 3 * torch.randn(2000, n)).mean(1)
    inside = float(((means - 2).abs() <= 0.2).double().mean())
    assert abs(inside - 0.95) < 4 * (0.95 * 0.05 / 2000) ** 0.5


@given(
    mean=st.floats(-1e3, 1e3).filter(lambda x: abs(x) > 1e-3),
    var=st.floats(0, 1e4),
    rtol=st.sampled_from([0.01, 0.1, 1.0]),
)
def test_samples_needed_is_enough_and_not_more(mean, var, rtol):
    n = moments.samples_needed(torch.tensor([mean]), torch.tensor([var]), rtol)
    assert n.dtype == torch.int64
    z, mean, var = 1.959963984540054, float(torch.tensor(mean)), float(torch.tensor(var))
    assert int(n) >= 1
    assert z * (var / int(n)) ** 0.5 <= rtol * abs(mean) * (1 + 1e-6)
    if int(n) > 1:
        assert z * (var / (int(n) - 1)) ** 0.5 >= rtol * abs(mean) * (1 - 1e-6)


@pytest.mark.parametrize(
    ("mean", "var", "changes", "words"),
    [
        (0.0, 1.0, {}, "mean of 0"),
        (1.0, -1.0, {}, "var ≥ 0"),
        (float("nan"), 1.0, {}, "finite"),
        (1.0, 1.0, {"rtol": 0.0}, "rtol must"),
        (1.0, 1.0, {"confidence": 1.0}, "confidence in"),
    ],
)
def test_samples_needed_mistakes(mean, var, changes, words):
    with pytest.raises(ValueError, match=words):
        moments.samples_needed(torch.tensor([mean]), torch.tensor([var]), **changes)
    assert moments.samples_needed(torch.zeros(2), torch.zeros(2)).tolist() == [1, 1]


def test_samples_needed_has_a_largest_number():
    most = 2**63 - 1024
    mean, var = torch.tensor([1e-12, 1e-200, 1.0, 1e-200], dtype=torch.float64), torch.ones(4).double()
    var[3] = 0.0
    assert moments.samples_needed(mean, var, rtol=1e-9).tolist() == [most, most, 3841458820694124544, 1]
    assert moments.samples_needed(mean, var, rtol=1e-300).tolist() == [most, most, most, 1]
    small = torch.tensor([1e-170], dtype=torch.float64)
    assert moments.samples_needed(small, torch.zeros(1), 0.1).tolist() == [1]
    assert moments.samples_needed(small * 1e20, (small * 1e20) ** 2, 0.1).tolist() == [385]


# --- saliency --------------------------------------------------------------------------------------------------------


def test_saliency_alignment_of_known_gradients():
    """A linear loss whose gradient is Σ's first, last, or no eigenvector."""
    images = PHOTOS[:1].double() / 255
    aug = augment.Compose(STAGES[:2])
    found = moments.of(aug, images)
    top, bottom = found.top(1), found.bottom(1)
    nowhere = torch.randn_like(top[1][0, 0])
    for direction in found.top(found.size)[1][0]:
        nowhere -= (nowhere * direction).sum() * direction
    for direction, wanted in ((top[1][0, 0], 1.0), (bottom[1][0, 0], float(bottom[0] / top[0])), (nowhere, 0.0)):
        model = nn.Sequential(nn.Flatten(), nn.Linear(192, 1, bias=False)).double()
        with torch.no_grad():
            model[1].weight.copy_(3.0 * direction.flatten()[None])
        aligned = moments.saliency_alignment(
            model, images, torch.ones(1), aug, criterion=lambda output, target: output.mean()
        )
        assert float(aligned) == pytest.approx(wanted, abs=1e-9)
    with torch.no_grad():
        model[1].weight.zero_()
    aligned = moments.saliency_alignment(
        model, images, torch.ones(1), aug, criterion=lambda output, target: output.mean()
    )
    assert float(aligned) == 0.0


def test_a_report_over_a_dataset():
    net, (images, labels) = trained_net(), digits(50)
    aug = augment.PadCrop(1)
    told = moments.report(net, None, zip(images.split(20), labels.split(20), strict=True), aug)
    mean, variance = moments.loss_moments(net, None, images, labels, aug)
    assert torch.allclose(told.mean, mean, rtol=1e-9)
    assert torch.allclose(told.deviation() ** 2, variance, rtol=1e-9)
    assert torch.allclose(told.alignment, moments.saliency_alignment(net, images, labels, aug), rtol=1e-6)
    assert told.samples_for_the_mean() == int(moments.samples_needed(mean.mean()[None], variance.mean()[None]))
    assert f"{told.samples_for_the_mean():,}" in str(told)
    head, *lines = str(told).split("\n")
    assert head.startswith("50 samples ")
    assert len(lines) == 5
    assert all(line[head.index("quartiles") - 1] == " " and line[head.index("quartiles")].isdigit() for line in lines)
    assert str(moments.report(net, None, [], aug)) == "no samples"


# --- expected losses -------------------------------------------------------------------------------------------------


def regression(count=40):
    images = digits(count)[0][:, :, 1:6, 1:6]
    torch.manual_seed(0)
    return images, images.flatten(1) @ torch.randn(25, 2, dtype=torch.float64)


def test_ridge_is_least_squares_on_a_hundred_thousand_copies():
    images, target = regression()
    aug = augment.Compose([augment.PadCrop(1), augment.Flip(0.3)])
    weight, bias = moments.ridge(images, target, aug, penalty=10.0)
    versions = 2500
    shown = images.repeat_interleave(versions, 0)
    copies = aug(shown, index=torch.arange(len(shown)), seed=2).flatten(1)
    assert len(copies) == 100_000
    centre, level = copies.mean(0), target.mean(0)
    apart, wanted = copies - centre, target.repeat_interleave(versions, 0) - level
    system = apart.T @ apart / versions + 10.0 * torch.eye(25, dtype=torch.float64)
    solved = torch.linalg.solve(system, apart.T @ wanted / versions).T
    assert torch.allclose(weight, solved, atol=0.05 * float(solved.abs().max()))
    assert torch.allclose(bias, level - solved @ centre, atol=0.05)
    # and on the enumerated copies it is least squares itself
    pairs = [reference.pad_crops(image, 1, 0.3) for image in images]
    every = torch.stack([torch.stack(versions_).flatten(1) for versions_, _ in pairs])
    share = torch.tensor([weights for _, weights in pairs], dtype=torch.float64)[..., None]
    centre = (share * every).sum((0, 1)) / len(images)
    apart, wanted = every - centre, (target - level)[:, None]
    system = torch.einsum("nsd,nse->de", share * apart, apart) + 10.0 * torch.eye(25, dtype=torch.float64)
    exact = torch.linalg.solve(system, torch.einsum("nsd,nsk->dk", share * apart, wanted.expand(-1, 18, -1))).T
    assert torch.allclose(weight, exact, atol=1e-9)
    assert torch.allclose(bias, level - exact @ centre, atol=1e-9)


def test_the_identity_of_the_expected_squared_error():
    images, target = regression()
    aug = augment.Compose([augment.PadCrop(1), augment.Flip(0.3)])
    found = moments.of(aug, images)
    weight, bias = torch.randn(2, 25, dtype=torch.float64), torch.randn(2, dtype=torch.float64)
    made = moments.squared_error(weight, bias, found, target)
    for row, image in enumerate(images):
        versions, weights = reference.pad_crops(image, 1, 0.3)
        wanted = sum(
            w * float((target[row] - weight @ version.flatten() - bias).square().sum())
            for version, w in zip(versions, weights, strict=True)
        )
        assert float(made[row]) == pytest.approx(wanted, abs=1e-9)


def test_the_ridge_is_the_minimum():
    images, target = regression()
    aug = augment.PadCrop(1)
    found = moments.of(aug, images)
    weight, bias = (part.requires_grad_() for part in moments.ridge(images, target, aug, memory=1 << 16))
    loss = moments.squared_error(weight, bias, found, target).sum()
    for gradient in torch.autograd.grad(loss, (weight, bias)):
        assert float(gradient.abs().max()) < 1e-6


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"augment": []}, ValueError, "penalty=1e-3"),
        ({"penalty": -1.0}, ValueError, "penalty must"),
        ({"memory": 1000}, MemoryError, "25×25"),
        ({"images": torch.rand(0, 1, 5, 5), "target": torch.rand(0, 1)}, ValueError, "at least one"),
    ],
)
def test_ridge_mistakes(changes, error, words):
    images, target = regression(10)
    with pytest.raises(error, match=words):
        moments.ridge(**{"images": images, "target": target, "augment": augment.Flip(), **changes})


def test_the_regulariser_is_exact_for_linear_models_with_squared_error():
    images, target = regression(6)
    aug = augment.Compose([augment.PadCrop(1), augment.Flip(0.3)])
    model = nn.Sequential(nn.Flatten(), nn.Linear(25, 2)).double()
    criterion = moments.ExpectedLoss(nn.MSELoss(), aug, rank=None)
    loss = criterion(model, images, target)
    wanted = moments.squared_error(model[1].weight, model[1].bias, moments.of(aug, images), target).mean() / 2
    assert float(loss.detach()) == pytest.approx(float(wanted.detach()), rel=1e-10)
    ours, theirs = (torch.autograd.grad(value, list(model.parameters())) for value in (loss, wanted))
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)
    full = moments.ExpectedLoss(nn.MSELoss(), aug, rank=17)(model, images, target)
    assert float(full.detach()) == pytest.approx(float(loss.detach()), rel=1e-9)


def test_the_regulariser_is_the_second_order_term():
    """½ tr(H J Σ Jᵀ) by differences and the softmax's own Hessian, with BatchNorm and dropout; its gradient."""
    torch.manual_seed(0)
    images, target = PHOTOS.double() / 255, LABELS
    model = small_net().double()
    aug = augment.Flip(0.3)
    criterion = moments.ExpectedLoss(None, aug, rank=1)
    state, before = torch.get_rng_state(), copy.deepcopy(model)
    loss = criterion(model, images, target)
    found = moments.of(aug, images)
    values, vectors = found.top(1)
    column = vectors[:, 0] * values[:, 0].sqrt()[:, None, None, None]

    def at(step, training):
        twin = copy.deepcopy(before).train(training)
        torch.set_rng_state(state)
        return twin(found.mean + step * column).detach()

    z = at(0.0, True)
    pushed = (at(1e-5, False) - at(-1e-5, False)) / 2e-5
    p = z.softmax(1)
    curvature = (p * pushed**2).sum(1) - (p * pushed).sum(1) ** 2
    wanted = (F.cross_entropy(z, target, reduction="none") + 0.5 * curvature).mean()
    assert float(loss.detach()) == pytest.approx(float(wanted), rel=1e-6)
    assert int(model[1].num_batches_tracked) == 1  # one ordinary call
    parameter = model[0].weight
    (gradient,) = torch.autograd.grad(loss, parameter)
    direction, eps = torch.randn_like(parameter), 1e-6
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            parameter.add_(sign * eps * direction)
        model[1].load_state_dict(before[1].state_dict())
        torch.set_rng_state(state)
        values.append(float(criterion(model, images, target).detach()))
        with torch.no_grad():
            parameter.sub_(sign * eps * direction)
    assert float((gradient * direction).sum()) == pytest.approx((values[0] - values[1]) / (2 * eps), rel=1e-5)


def test_expected_loss_trains():
    images, labels = digits(100)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10)).double()
    criterion = moments.ExpectedLoss(nn.CrossEntropyLoss(), augment.PadCrop(1), rank=2)
    prepared = criterion.moments(images)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = criterion(net, prepared, labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0]
    assert criterion(net, images, labels).item() == pytest.approx(criterion(net, prepared, labels).item(), rel=1e-9)
    plain = moments.ExpectedLoss(nn.CrossEntropyLoss(), augment.PadCrop(1), rank=0)(net, prepared, labels)
    assert plain.item() == pytest.approx(F.cross_entropy(net(prepared.mean), labels).item(), rel=1e-12)
    with pytest.raises(ValueError, match="rank must"):
        moments.ExpectedLoss(rank=-1)


# --- the coreset -----------------------------------------------------------------------------------------------------


def rows(size):
    return smartaug.Embedding(torch.empty(size, 0))


@settings(max_examples=60, deadline=None)
@given(
    deviation=st.lists(st.floats(0, 1e3), min_size=1, max_size=30),
    share=st.sampled_from([0.05, 0.5, 1.0]),
    part=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_the_coreset_has_its_budget(deviation, share, part, seed):
    criterion, budget = AugmentationVariance(torch.tensor(deviation), share), round(part * len(deviation))
    chance = criterion.probabilities(criterion.deviation, budget) if budget else torch.zeros(1)
    assert float(chance.sum()) == pytest.approx(budget, rel=1e-9)
    assert bool((chance <= 1 + 1e-12).all())
    indices, weights = criterion(rows(len(deviation)), budget, torch.Generator().manual_seed(seed))
    assert len(indices) == len(indices.unique()) == budget
    assert torch.equal(indices, indices.sort().values)
    if budget:
        assert float(weights.mean()) == pytest.approx(1.0, rel=1e-5)
        assert torch.allclose(weights * chance[indices].float(), weights[0] * chance[indices[0]].float(), rtol=1e-4)


def test_the_draw_follows_the_probabilities():
    deviation = torch.tensor([0.0, 1.0, 2.0, 3.0, 50.0])
    criterion, generator = AugmentationVariance(deviation, share=0.2), torch.Generator().manual_seed(0)
    chance = criterion.probabilities(criterion.deviation, 2)
    assert float(chance[4]) == 1.0
    drawn, trials = torch.zeros(5, dtype=torch.float64), 4000
    for _ in range(trials):
        drawn[criterion(rows(5), 2, generator)[0]] += 1
    assert ((drawn / trials - chance).abs() <= 4.5 * (chance * (1 - chance) / trials).sqrt()).all()


def test_the_coreset_in_a_loader():
    deviation = torch.rand(40)
    criterion = AugmentationVariance(deviation)
    data = torch.utils.data.TensorDataset(torch.rand(40, 1, 4, 4), torch.arange(40) % 4 * 0)
    loader = smartaug.DataLoader(data, batch_size=5, coreset=smartaug.Coreset(0.5, select=criterion), seed=0)
    assert sum(len(target) for _, target in loader) == 20
    part = criterion.on(torch.tensor([3, 5]))
    assert torch.equal(part.deviation, deviation[[3, 5]].double())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: AugmentationVariance(torch.tensor([1.0, -1.0])), "≥ 0"),
        (lambda: AugmentationVariance(torch.rand(2, 2)), "deviation must be"),
        (lambda: AugmentationVariance(torch.rand(3), share=2), "share must"),
        (lambda: AugmentationVariance(torch.rand(3))(rows(4), 2), "criterion.on"),
        (lambda: AugmentationVariance(torch.rand(3))(rows(3), 4), "0..3"),
        (lambda: AugmentationVariance(torch.tensor([0.0, 1.0]), share=0.0)(rows(2), 2), "write share=0.1"),
    ],
)
def test_coreset_mistakes(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize(
    "criterion",
    [
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 2.0])),
        nn.CrossEntropyLoss(ignore_index=1),
        nn.CrossEntropyLoss(reduction="sum"),
        nn.MSELoss(reduction="sum"),
    ],
)
def test_the_expected_loss_joins_rows_as_the_criterion(criterion):
    model, images = small_net().eval(), PHOTOS / 255
    label = torch.rand(2, 3) if isinstance(criterion, nn.MSELoss) else LABELS
    for target in (label, smartaug.Target(label, weight=torch.tensor([0.5, 1.5]))):
        found = moments.ExpectedLoss(criterion, augment.Flip(0.0))(model, images, target)
        assert torch.allclose(found, smartaug.Loss(criterion)(model(images), target), rtol=1e-5)


CLASS_WEIGHT = torch.tensor([1.0, 5.0, 2.0]).double()
SOFT = torch.tensor([[0.2, 0.5, 0.3], [0.9, 0.1, 0.0], [0.0, 0.3, 0.7]]).double()
HARD = torch.tensor([1, 0, 2])
SAMPLE_WEIGHT = torch.tensor([0.5, 1.7, 0.8]).double()


def without(ignored, soft):
    """Soft labels (B, K) without an ignored class, as distributions, and what is left of each row (B,)."""
    left, mass = soft.clone(), 1 - soft[:, ignored]
    left[:, ignored] = 0
    return left / mass[:, None], mass


def soft_cross_entropy(kept=(0, 1, 2), weight=None, ignored=None, **settings):
    """Torch's own cross entropy of the rows that are kept, the sample weights and the ignored class by hand."""
    soft, mass = (SOFT, torch.ones(3).double()) if ignored is None else without(ignored, SOFT)

    def loss(z):
        rows = [mass[n] * F.cross_entropy(z[[n]], soft[[n]], weight=CLASS_WEIGHT, **settings) for n in kept]
        summed = sum((1.0 if weight is None else weight[n]) * row for n, row in zip(kept, rows, strict=True))
        return summed / sum(mass[n] for n in kept)

    return loss


def soft_nll(z):
    """The same of log-probabilities, where class 1 and the first row are ignored."""
    soft, mass = without(1, SOFT)
    return -(mass[:, None] * CLASS_WEIGHT * soft * z).sum(1)[[1, 2]].sum() / mass[[1, 2]].sum()


EXPECTED = {  # criterion, target, torch's own loss of the batch's logits
    "class weights": (
        nn.CrossEntropyLoss(weight=CLASS_WEIGHT),
        HARD,
        lambda z: F.cross_entropy(z, HARD, weight=CLASS_WEIGHT),
    ),
    "ignored labels": (
        nn.CrossEntropyLoss(weight=CLASS_WEIGHT, ignore_index=0, label_smoothing=0.1),
        HARD,
        lambda z: F.cross_entropy(z, HARD, weight=CLASS_WEIGHT, ignore_index=0, label_smoothing=0.1),
    ),
    "distributions": (nn.CrossEntropyLoss(weight=CLASS_WEIGHT), SOFT, soft_cross_entropy()),
    "soft labels, smoothed": (
        nn.CrossEntropyLoss(weight=CLASS_WEIGHT, label_smoothing=0.1),
        smartaug.Target(HARD, soft=SOFT),
        soft_cross_entropy(label_smoothing=0.1),
    ),
    "soft labels, an ignored one": (
        nn.CrossEntropyLoss(weight=CLASS_WEIGHT, ignore_index=0),
        smartaug.Target(HARD, soft=SOFT),
        soft_cross_entropy(kept=(0, 2), ignored=0),
    ),
    "soft labels, weights, an ignored one": (
        nn.CrossEntropyLoss(weight=CLASS_WEIGHT, ignore_index=0),
        smartaug.Target(HARD, SAMPLE_WEIGHT, SOFT),
        soft_cross_entropy(kept=(0, 2), weight=SAMPLE_WEIGHT, ignored=0),
    ),
    "soft labels of fewer classes": (
        nn.CrossEntropyLoss(weight=CLASS_WEIGHT),
        smartaug.Target(torch.tensor([1, 0, 1]), soft=SOFT[:, :2]),
        lambda z: F.cross_entropy(z, F.pad(SOFT[:, :2], (0, 1)), weight=CLASS_WEIGHT),
    ),
    "no reduction": (
        nn.CrossEntropyLoss(weight=CLASS_WEIGHT, reduction="none"),
        HARD,
        lambda z: F.cross_entropy(z, HARD, weight=CLASS_WEIGHT, reduction="none").mean(),
    ),
    "log-probabilities": (
        nn.NLLLoss(weight=CLASS_WEIGHT, ignore_index=1),
        smartaug.Target(HARD, soft=SOFT),
        soft_nll,
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_expected_loss_is_torchs_own_over_every_transform(name):
    """The second-order term in full, and for small moves the loss itself, joined as torch joins."""
    criterion, target, theirs = EXPECTED[name]
    images = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double()
    if name == "log-probabilities":
        model.append(nn.LogSoftmax(1))
    aug = augment.Compose([augment.PadCrop(1), augment.Flip(0.3)])
    for contrast in (1.0, 0.05):
        pairs = [reference.pad_crops(contrast * image, 1, 0.3) for image in images]
        versions, weights = torch.stack([torch.stack(made) for made, _ in pairs], 1), pairs[0][1]
        found = moments.ExpectedLoss(criterion, aug, rank=None)(model, contrast * images, target).detach()
        with torch.no_grad():
            logits, at_the_mean = model(versions.flatten(0, 1)).view(18, 3, 3), moments.of(aug, contrast * images).mean
            summed = reference.expected_loss(theirs, logits, weights)
            plain = theirs(model(at_the_mean))
        if name != "log-probabilities":  # else the model has a curvature of its own
            assert float(found) == pytest.approx(float(reference.second_order(theirs, logits, weights)), rel=1e-10)
            if contrast < 1.0:
                assert abs(found - summed) < 0.05 * abs(plain - summed)
        else:
            assert float(found) == pytest.approx(float(plain), rel=1e-10)


@pytest.mark.parametrize("name", EXPECTED)
def test_loss_moments_are_torchs_own_of_each_sample(name):
    """The mean of each sample's loss by itself; ignored ones have none."""
    criterion, target, _ = EXPECTED[name]
    images = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.LogSoftmax(1)).double()
    mean, variance = moments.loss_moments(model, criterion, images, target, augment.Flip(0.3))
    ignored = criterion.ignore_index == HARD
    soft = getattr(target, "soft", None)
    for row in range(3):
        with torch.no_grad():
            plain, turned = (model(image)[row : row + 1] for image in (images, images.flip(3)))
        label = target[row : row + 1] if soft is None else F.pad(soft, (0, 3 - soft.shape[1]))[row : row + 1]
        if soft is not None and criterion.ignore_index >= 0:  # a sample alone counts whole, whatever is left of it
            label, _ = without(criterion.ignore_index, label)
        if soft is not None and isinstance(criterion, nn.NLLLoss):
            losses = [float(-(CLASS_WEIGHT * label * z).sum()) for z in (plain, turned)]
        else:
            settings = {"label_smoothing": criterion.label_smoothing, "reduction": criterion.reduction}
            losses = [float(F.cross_entropy(z, label, weight=CLASS_WEIGHT, **settings)) for z in (plain, turned)]
        if ignored[row]:
            losses = [0.0, 0.0]
        assert float(mean[row]) == pytest.approx(0.7 * losses[0] + 0.3 * losses[1], rel=1e-9)
        assert float(variance[row]) == pytest.approx(0.21 * (losses[0] - losses[1]) ** 2, rel=1e-6, abs=1e-15)


def test_a_sample_of_weight_0_adds_nothing_to_the_expected_loss():
    images = torch.rand(3, 1, 4, 4, dtype=torch.float64)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double()
    criterion = moments.ExpectedLoss(nn.CrossEntropyLoss(), augment.Flip(0.3))
    prepared = criterion.moments(images)
    target = smartaug.Target(HARD, torch.tensor([1.5, 0.0, 1.5]))

    def gradient(level):
        place = torch.zeros(3, 3, dtype=torch.bool).index_put_((torch.tensor(1), torch.tensor(0)), torch.tensor(True))
        handle = model.register_forward_hook(lambda module, given, logits: logits.masked_fill(place, level))
        found = criterion(model, prepared, target)
        handle.remove()
        return found.detach(), torch.autograd.grad(found, model[1].weight)[0]

    for one, other in zip(gradient(0.0), gradient(-torch.inf), strict=True):
        assert bool(torch.isfinite(other).all())
        assert torch.equal(one, other)


def test_the_expected_loss_is_evaluated_without_gradients():
    model, images = small_net().eval(), PHOTOS / 255
    criterion = moments.ExpectedLoss(None, augment.Flip(0.3))
    wanted = criterion(model, images, LABELS)
    with torch.no_grad():
        found = criterion(model, images, LABELS)
    assert not found.requires_grad
    assert torch.allclose(found, wanted)
    with torch.inference_mode(), pytest.raises(RuntimeError, match=r"torch\.no_grad"):
        criterion(model, images, LABELS)
    model.requires_grad_(False)
    assert torch.allclose(criterion(model, images, LABELS), wanted)


def test_bytes_are_refused_everywhere():
    for call in (
        lambda: moments.ExpectedLoss(None, augment.Flip())(small_net(), PHOTOS, LABELS),
        lambda: moments.ExpectedLoss(None, augment.RandAugment(1))(small_net(), PHOTOS, LABELS),
        lambda: moments.ExpectedLoss()(small_net(), moments.of(augment.Flip(), PHOTOS), LABELS),
        lambda: moments.ExpectedLoss()(
            small_net(), moments.mixture([moments.of(augment.Flip(), PHOTOS)] * 2, [0.5, 0.5]), LABELS
        ),
        lambda: moments.loss_moments(small_net(), None, PHOTOS, LABELS, augment.Flip(), method="linear"),
        lambda: moments.saliency_alignment(small_net(), PHOTOS, LABELS, augment.Flip()),
    ):
        with pytest.raises(TypeError, match="Normalize"):
            call()
