"""Reweighters and coresets on maps of classes, against gradients of one sample at a time."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import Dataset, TensorDataset

import smartaug
from smartaug import grads
from smartaug.coreset import InfoBatch, embed_pass
from smartaug.coreset.record import pack
from smartaug.grads.positions import map_residuals
from smartaug.pipeline.labelling import Labelling
from tests import reference

K, SIDE = 4, 4
LEARNED = ["SAFLEX", "LearningToReweight", "MetaWeightNet"]


def dice(output, target):
    """Of the batch as a whole, as segmentation_models_pytorch's, without its ignored positions."""
    p, y = output.softmax(1), F.one_hot(target.clamp(0, K - 1), K).movedim(-1, 1)
    return 1 - (2 * (p * y).sum((0, 2, 3)) / (p + y).sum((0, 2, 3))).mean()


CRITERIA = {
    "cross entropy": nn.CrossEntropyLoss(ignore_index=255),
    "class weights, smoothing": nn.CrossEntropyLoss(
        torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64), ignore_index=255, label_smoothing=0.1
    ),
    "NLL": lambda output, target: F.nll_loss(output.log_softmax(1), target, ignore_index=255),
    "Dice": dice,
}


def net(outputs=K):
    return nn.Sequential(nn.Conv2d(2, 5, 3, padding=1), nn.Tanh(), nn.Conv2d(5, outputs, 1)).double()


def pictures(n, seed=0, ignored=True):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, 2, SIDE, SIDE, dtype=torch.float64, generator=generator)
    target = torch.randint(K, (n, SIDE, SIDE), generator=generator)
    if ignored:
        target[torch.rand(target.shape, generator=generator) < 0.3] = 255
        target[0, 1:] = 255
        target[:, 0, 0] = torch.arange(n) % K  # a labelled position in every sample
    return images, target


@pytest.mark.parametrize("name", CRITERIA)
@settings(max_examples=4, deadline=None)
@given(n=st.integers(1, 5), seed=st.integers(0, 2**31), method=st.sampled_from(["jvp", "difference"]))
def test_weights_are_the_rule_on_slow_gains(name, n, seed, method):
    torch.manual_seed(seed)
    model, criterion = net(), CRITERIA[name]
    inputs, target = pictures(n, seed % 1000)
    held = pictures(5, seed % 1000 + 1)
    made = smartaug.LearningToReweight(model, held, validation_batch=5, criterion=criterion, method=method)
    drawn = made.validation.batch(0, torch.device("cpu"))
    losses, gains = reference.gains(model, criterion, inputs, target, *drawn)
    weight, soft = made(smartaug.Batch(inputs, target), None)
    assert soft is None
    near = 1e-8 if method == "jvp" else 1e-3
    wanted = gains.clamp_min(0)
    wanted = wanted / wanted.mean() if wanted.sum() > 0 else torch.ones_like(wanted)
    assert torch.allclose(weight, wanted, rtol=near, atol=near)
    direction = grads.direction(model, *drawn, criterion, training=False)
    minus, gain = grads.benefit(model, inputs, direction, against=(criterion, target))
    assert torch.allclose(-minus[:, 0], losses)
    assert torch.allclose(gain[:, 0], gains, atol=1e-10)
    weight, soft = smartaug.SAFLEX(model, held, validation_batch=5, criterion=criterion)(
        smartaug.Batch(inputs, target), None
    )
    assert soft is None
    if float(gains.abs().min()) > 1e-9:
        kept = (gains >= 0).double()
        assert torch.allclose(weight, kept / kept.mean() if kept.sum() > 0 else torch.ones_like(kept))


@pytest.mark.parametrize("when", ["batch", "loss"])
@pytest.mark.parametrize("method", LEARNED)
def test_through_the_loader(method, when):
    if when == "loss" and method == "MetaWeightNet":
        pytest.skip("it steps the model itself")
    torch.manual_seed(0)
    inputs, target = pictures(12)
    settings = {"method": "difference", "when": "loss"} if when == "loss" else {}
    criterion = CRITERIA["cross entropy"]
    made = getattr(smartaug, method)(net(), pictures(9, 1), criterion=criterion, **settings)
    loader = smartaug.DataLoader(TensorDataset(inputs, target.to(torch.uint8)), 6, reweight=made)
    loss, masks = smartaug.Loss(criterion), 0
    for rows, its in loader:
        output = made.model(rows)
        value = loss(output, its.long())
        weight = made.settle(output, its)[0] if when == "loss" else its.weight
        each = F.cross_entropy(output, its.plain.long(), ignore_index=255, reduction="none").sum((1, 2))
        assert torch.allclose(value, (weight * each).sum() / (its.plain != 255).sum())
        assert its.soft is None
        assert float(weight.mean()) == pytest.approx(1)
        masks += len(rows)
    assert masks == 12
    assert loader.stats()["fallbacks"] == 0


def test_meta_weight_net_learns_from_the_loss_of_each_picture():
    """The derivative of the pseudo step's validation loss in the weights, by autograd through the step."""
    torch.manual_seed(0)
    model, criterion, lr = net(), CRITERIA["cross entropy"], 0.05
    (inputs, target), held = pictures(5), pictures(4, 1)
    share = torch.full((5,), 1 / 5, dtype=torch.float64, requires_grad=True)
    values = dict(model.named_parameters())
    output = torch.func.functional_call(model, values, (inputs,))
    rows = torch.stack([criterion(output[row : row + 1], target[row : row + 1]) for row in range(5)])
    steps = torch.autograd.grad((share * rows).sum(), list(values.values()), create_graph=True)
    after = {name: value - lr * step for (name, value), step in zip(values.items(), steps, strict=True)}
    wanted = torch.autograd.grad(criterion(torch.func.functional_call(model, after, (held[0],)), held[1]), share)[0]
    done = grads.ForwardPass(model, inputs, against=(criterion, target))
    assert torch.allclose(-done.log_p[:, 0], rows)
    summed = done.pull(-share.detach()[:, None] * torch.ones(5, 1, dtype=torch.float64))
    g = grads.direction(model, *held, criterion, at=grads.stepped(model, summed, lr))
    _, gain = grads.benefit(model, inputs, g, against=(criterion, target))
    assert torch.allclose(-lr * gain[:, 0], wanted)


@pytest.mark.parametrize("when", ["batch", "loss"])
@pytest.mark.parametrize("size", [1, 3])
def test_the_head_alone_is_the_last_convolution(size, when):
    torch.manual_seed(0)
    model, criterion = net(), CRITERIA["class weights, smoothing"]
    model[2] = nn.Conv2d(5, K, size, padding="same").double()
    (inputs, target), held = pictures(12), pictures(5, 1)
    made = smartaug.LearningToReweight(model, held, validation_batch=5, criterion=criterion, scope="head", when=when)
    loader = smartaug.DataLoader(TensorDataset(inputs, target), 6, reweight=made)
    loss, met = smartaug.Loss(criterion), 0
    for number, (rows, its) in enumerate(loader):
        output = model(rows)
        loss(output, its)
        weight = made.settle(output, its)[0] if when == "loss" else its.weight
        drawn = made.validation.batch(number, torch.device("cpu"))
        gains = reference.gains(model, criterion, rows, its.plain, *drawn, part=model[2])[1].clamp_min(0)
        assert torch.allclose(weight, gains / gains.mean())
        met += 1
    assert met == 2


def test_meta_augment_sees_the_mean_of_the_last_convolutions_input():
    torch.manual_seed(0)
    model, (inputs, target), criterion = net(), pictures(6), CRITERIA["cross entropy"]
    made = smartaug.MetaAugment(model, pictures(5, 1), criterion=criterion)
    seen = []
    made.make_net = lambda widths, make=made.make_net: seen.append(widths) or make(widths)
    weight, soft = made(smartaug.Batch(inputs, target), None)
    assert seen == [(5, 1)]
    assert soft is None
    assert float(weight.mean()) == pytest.approx(1)
    shown = grads.ForwardPass(model, inputs, features=True).feature
    assert torch.allclose(shown, model[:2](inputs))
    resized = nn.Sequential(model, nn.Upsample(scale_factor=2))  # what is behind the head is named
    masks = target.repeat_interleave(2, 1).repeat_interleave(2, 2)
    for head in (None, "0.2"):
        made = smartaug.MetaAugment(resized, (inputs, masks), criterion=criterion, head=head)
        if head is None:
            with pytest.raises(ValueError, match=r"no convolution makes the logits; candidates: '0\.2'\. Name"):
                made(smartaug.Batch(inputs, masks), None)
        else:
            assert float(made(smartaug.Batch(inputs, masks), None)[0].mean()) == pytest.approx(1)
    with pytest.raises(ValueError, match="features=True compares gradients"):
        embed_pass(model, TensorDataset(inputs, target), features=True, progress=False)


def test_mixed_maps_weigh_by_their_mixed_loss():
    torch.manual_seed(0)
    model = net()
    (inputs, target), held = pictures(4, ignored=False), pictures(5, 1, ignored=False)
    hot = F.one_hot(target, K).movedim(-1, 1).double()
    soft = 0.75 * hot + 0.25 * hot.roll(1, 0)
    made = smartaug.LearningToReweight(model, held, validation_batch=5)
    weight, _ = made(smartaug.Batch(inputs, target, None, soft), None)
    drawn = made.validation.batch(0, torch.device("cpu"))
    gains = reference.gains(model, F.cross_entropy, inputs, soft, *drawn)[1].clamp_min(0)
    assert torch.allclose(weight, gains / gains.mean())


def test_a_binary_map_goes_by_its_criterion():
    torch.manual_seed(0)
    model, criterion = net(1), nn.BCEWithLogitsLoss()
    images = torch.randn(9, 2, SIDE, SIDE, dtype=torch.float64)
    masks = torch.randint(2, (9, 1, SIDE, SIDE)).double()
    made = smartaug.LearningToReweight(model, (images[4:], masks[4:]), validation_batch=5, criterion=criterion)
    weight, _ = made(smartaug.Batch(images[:4], masks[:4]), None)
    drawn = made.validation.batch(0, torch.device("cpu"))
    gains = reference.gains(model, criterion, images[:4], masks[:4], *drawn)[1].clamp_min(0)
    assert torch.allclose(weight, gains / gains.mean())


class Files(Dataset):
    """Samples that are read one by one, whose masks are too many to be kept."""

    def __init__(self, inputs, target):
        self.inputs, self.target, self.read = inputs, target, 0

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        self.read += 1
        return self.inputs[index], self.target[index]


def test_large_validation_sets_are_not_read_as_a_whole(monkeypatch):
    monkeypatch.setattr("smartaug.reweight.validation._KEPT_BYTES", 1000)
    monkeypatch.setattr("smartaug.reweight.validation.in_worker", lambda read, data: read())
    files = Files(*pictures(50))
    made = smartaug.LearningToReweight(net(), files, validation_batch=4, criterion=CRITERIA["cross entropy"])
    made.validation._read()
    assert files.read < len(files) / 2  # the first, and some twice, to see whether they are the same both times
    assert len(made.validation._classes) == 1


REFUSED = {
    "a class that the model lacks": (
        lambda: (net(), pictures(6)[1], None),
        r"label 255 is not among the model's 4 classes.*criterion=nn\.CrossEntropyLoss\(ignore_index=255\)",
    ),
    "one class a sample": (
        lambda: (nn.Sequential(net(), nn.AvgPool2d(SIDE), nn.Flatten()), pictures(6, ignored=False)[1], None),
        r"needs logits \(B, K, \.\.\.\).*the labels are int64 \(6, 4, 4\) for outputs \(6, 4\)",
    ),
    "another size": (
        lambda: (nn.Sequential(net(), nn.AvgPool2d(2)), pictures(6, ignored=False)[1], None),
        r"for outputs \(6, 4, 2, 2\); let the model return logits of the labels' size: F\.interpolate",
    ),
    "a single logit": (
        lambda: (net(1), pictures(6, ignored=False)[1] % 2, None),
        r"for a single map of logits write criterion=nn\.BCEWithLogitsLoss\(\)",
    ),
    "several labels at a position": (
        lambda: (net(), torch.ones(6, K, SIDE, SIDE, dtype=torch.float64), None),
        r"must hold distributions over the classes.*criterion=nn\.BCEWithLogitsLoss\(\)",
    ),
}


@pytest.mark.parametrize(("case", "match"), REFUSED.values(), ids=REFUSED)
def test_maps_that_do_not_fit_are_refused(case, match):
    model, target, criterion = case()
    made = smartaug.SAFLEX(model, (pictures(6)[0], target), validation_batch=6, criterion=criterion)
    with pytest.raises(ValueError, match=match):
        made(smartaug.Batch(pictures(6)[0], target), None)
    with pytest.raises(TypeError, match=r"must hold logits \(B, K\) or \(B,\), got torch.float64 \(6, 4, 4, 4\)"):
        grads.direction(net(), pictures(6)[0], torch.zeros(6, dtype=torch.int64))


def test_soft_augmentation_weighs_maps_and_leaves_them():
    _, target = pictures(3)
    seen = torch.tensor([1.0, 0.5, 0.0])
    made = smartaug.SoftAugmentation(K, visible=lambda batch, trace: seen)
    weight, soft = made(smartaug.Batch(torch.rand(3, 3, SIDE, SIDE), target), None)
    p = 1 - 0.75 * (1 - seen) ** 2
    assert soft is None
    assert torch.allclose(weight, p / p.mean())
    with pytest.raises(TypeError, match="reweight=False leaves nothing to do"):
        smartaug.SoftAugmentation(K, reweight=False)(smartaug.Batch(None, target), None)


def test_wrong_masks_get_weight_zero():
    torch.manual_seed(0)
    colours = torch.randn(K, 3)

    def drawn(n):
        """Smooth regions of K colours, with noise, and the region of each pixel."""
        target = F.interpolate(torch.randn(n, K, 4, 4), size=(16, 16), mode="bilinear").argmax(1)
        return colours[target].movedim(-1, 1) + torch.randn(n, 3, 16, 16), target

    (images, target), held = drawn(24), drawn(16)
    target[:8] = (target[:8] + 1) % K
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, K, 1))
    made = smartaug.SAFLEX(model, held, validation_batch=16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    for _ in range(20):
        weight, _ = made(smartaug.Batch(images, target), None)
        optimizer.zero_grad()
        F.cross_entropy(model(images), target).backward()
        optimizer.step()
    assert not weight[:8].any()
    assert bool((weight[8:] > 0).all())


# --- soft maps of a function of the user's ---------------------------------------------------------------------------


def test_soft_maps_from_a_function_reach_the_loss():
    inputs, target = pictures(6)
    data = TensorDataset(inputs, target)

    def smooth(batch, trace):
        kept = (batch.target != 255).unsqueeze(1)
        hot = F.one_hot(torch.where(batch.target == 255, 0, batch.target), K).movedim(-1, 1)
        return None, torch.where(kept, 0.8 * hot + 0.2 / K, 0.0).double()

    model = net()
    for rows, its in smartaug.DataLoader(data, 3, reweight=smooth):
        got = smartaug.Loss(CRITERIA["cross entropy"])(model(rows), its)
        wanted = F.cross_entropy(model(rows), its.plain, ignore_index=255, label_smoothing=0.2)
        assert torch.allclose(got, wanted)
    for soft, match in [
        (torch.rand(3, K, 2, 2).softmax(1), r"labels of the positions \(2, 2\), and the target is \(3, 4, 4\)"),
        (torch.rand(3, K, SIDE, SIDE) + 1, "rows of soft must sum to 1"),
    ]:
        with pytest.raises(ValueError, match=match):
            next(iter(smartaug.DataLoader(data, 3, reweight=lambda batch, trace, soft=soft: (None, soft))))


# --- coresets --------------------------------------------------------------------------------------------------------


def bias_gradients(model, inputs, target):
    """(losses, gradients in the head's bias) by one reverse pass a sample."""
    losses, rows = [], []
    for row in range(len(inputs)):
        loss = F.cross_entropy(model(inputs[row : row + 1]), target[row : row + 1].long(), ignore_index=255)
        rows.append(torch.autograd.grad(loss, model[-1].bias)[0])
        losses.append(loss.detach())
    return torch.stack(losses), torch.stack(rows)


@pytest.mark.parametrize("kind", [torch.int64, torch.uint8])
def test_the_residual_is_the_gradient_in_the_bias_of_the_head(kind):
    torch.manual_seed(0)
    model = net()
    inputs, target = pictures(6)
    target = target.to(kind)
    losses, wanted = bias_gradients(model, inputs, target)
    for labels in (target, target[:, None], target[:, None].double()):
        residual, loss, usable = map_residuals(model(inputs), labels)
        assert torch.allclose(residual, wanted)
        assert torch.allclose(loss, losses)
        assert bool(usable.all())
    embedding, labels = embed_pass(model, TensorDataset(inputs, target), batch_size=4, progress=False)
    assert torch.allclose(embedding.residual, wanted)
    assert torch.allclose(embedding.loss, losses)
    assert embedding.feature is None
    assert torch.equal(labels, torch.zeros(6, dtype=torch.int64))
    hot = F.one_hot(target.long().clamp_max(K - 1), K).movedim(-1, 1).double()
    assert torch.allclose(map_residuals(model(inputs), hot)[0], map_residuals(model(inputs), hot.argmax(1))[0])


def test_a_binary_map_has_two_classes():
    output, mask = torch.randn(3, 1, SIDE, SIDE, dtype=torch.float64), torch.randint(2, (3, 1, SIDE, SIDE))
    residual, loss, _ = map_residuals(output, mask.double())
    off = (output.sigmoid() - mask).mean((1, 2, 3))
    assert torch.allclose(residual, torch.stack([-off, off], 1))
    wanted = F.binary_cross_entropy_with_logits(output, mask.double(), reduction="none").mean((1, 2, 3))
    assert torch.allclose(loss, wanted)


def test_maps_that_hold_no_classes_are_not_usable():
    output, (_, target) = torch.randn(4, K, SIDE, SIDE), pictures(4)
    target[1] = 255
    assert map_residuals(output, target)[2].tolist() == [True, False, True, True]
    assert not bool(map_residuals(output, torch.rand(4, K, SIDE, SIDE))[2].any())
    assert not bool(map_residuals(output[:, :1], torch.rand(4, 1, SIDE, SIDE))[2].any())


def run(coreset, data, model, criterion, epochs, outputs=lambda made: made, **settings):
    loader = smartaug.DataLoader(data, 5, shuffle=True, coreset=coreset, seed=0, **settings)
    drawn = []
    for _ in range(epochs):
        drawn.append([])
        for rows, its in loader:
            criterion(outputs(model(rows.double())), its)
            drawn[-1] += its.index.tolist()
    return loader, drawn


@pytest.mark.parametrize("form", ["tensor", "dict", "Dice"])
@pytest.mark.parametrize("select", [smartaug.MaxLoss(), smartaug.FacilityLocation()], ids=["MaxLoss", "Facility"])
def test_observed_maps_are_selected_as_by_hand(select, form):
    torch.manual_seed(0)
    model, (inputs, target) = net(), pictures(20)
    losses, residual = bias_gradients(model, inputs, target)
    chosen = smartaug.Coreset(10, select=select, explore=0.0, apply="augment")
    criterion = smartaug.Loss(dice if form == "Dice" else CRITERIA["cross entropy"])
    as_dict = form == "dict"
    if as_dict:
        criterion = smartaug.Loss(lambda output, target: F.cross_entropy(output["out"], target, ignore_index=255))
    loader, _ = run(
        chosen,
        TensorDataset(inputs, target),
        model,
        criterion,
        1,
        (lambda made: {"out": made, "aux": made}) if as_dict else (lambda made: made),
        augment=smartaug.Normalize(0.0, 1.0),
    )
    indices, _ = chosen.selection(1, 20, 0)
    wanted, _ = select(smartaug.Embedding(residual.float(), None, losses.float()), 10)
    assert indices.tolist() == sorted(wanted.tolist())
    assert loader.stats()["coreset"]["unusable"] == 0
    assert loader.stats()["coreset"]["bytes_per_sample"] <= 128


def test_info_batch_prunes_maps_by_their_mean_loss():
    torch.manual_seed(0)
    model, (inputs, target) = net(), pictures(40)
    losses, _ = bias_gradients(model, inputs, target)
    with pytest.warns(UserWarning, match="epochs of different lengths"):
        _, drawn = run(InfoBatch(8), TensorDataset(inputs, target), model, smartaug.Loss(CRITERIA["cross entropy"]), 2)
    gone = sorted(set(range(40)) - set(drawn[1]))
    assert gone
    assert bool((losses[gone] < losses.mean()).all())


def test_an_ignored_class_of_the_model_is_left_out_of_the_record():
    torch.manual_seed(0)
    model, (inputs, target) = net(), pictures(10, ignored=False)
    chosen = smartaug.Coreset(0.5, apply="augment")
    run(
        chosen,
        TensorDataset(inputs, target),
        model,
        smartaug.Loss(nn.CrossEntropyLoss(ignore_index=0)),
        1,
        augment=smartaug.Normalize(0.0, 1.0),
    )
    _, wanted = bias_gradients(model, inputs, torch.where(target == 0, 255, target))
    got = chosen._samples.record.embedding(torch.arange(10).numpy()).residual
    assert torch.allclose(got, wanted.float(), atol=1e-6)


def test_what_is_mixed_or_no_class_is_not_recorded():
    torch.manual_seed(0)
    model, (inputs, target) = net(), pictures(10)
    hot = torch.rand(5, K, SIDE, SIDE).softmax(1)
    chosen = smartaug.Coreset(0.5)
    loader, _ = run(
        chosen,
        TensorDataset(inputs, target),
        model,
        smartaug.Loss(CRITERIA["cross entropy"]),
        1,
        reweight=lambda batch, trace: (None, hot[: len(batch.target)]),
    )
    assert loader.stats()["coreset"]["mixed"] == 5
    assert loader.stats()["coreset"]["unseen"] == 10
    plan = smartaug.CutMix().plan((10, 2, SIDE, SIDE), index=torch.arange(10), epoch=0, seed=0)
    pasted = Labelling(None, "", classes=None, stated=None, reweighs=False, recorded=True, needed="").wrap(
        target, (1,), [], torch.arange(10), None, [plan]
    )
    own = plan.mixes[0].share > 1 - 1e-6
    assert torch.equal(pasted._mixed.whole, own)
    assert not bool(own.all())
    status = pack(model(inputs).detach(), pasted.plain, mixed=(pasted.index, pasted._mixed)).status
    assert torch.equal(status == 0, own)
    assert torch.equal(status == 1, ~own)
    values = TensorDataset(inputs, torch.rand(10, 1, SIDE, SIDE, dtype=torch.float64))
    with pytest.raises(TypeError, match=r"selects by p − y of one class"):
        run(smartaug.Coreset(0.5), values, net(1), smartaug.Loss(nn.MSELoss()), 1)
    with pytest.raises(ValueError, match="targets must be classes or rows that sum to 1"):
        embed_pass(net(1), values, progress=False)
