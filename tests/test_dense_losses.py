"""`Loss` on dense predictions: real segmentation losses, sample by sample, soft maps, several predictions."""

import copy
import functools
import pickle

import kornia.losses as kornia_losses
import monai.losses as monai_losses
import pytest
import segmentation_models_pytorch.losses as smp_losses
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import sigmoid_focal_loss

from smartaug import Loss, Target
from tests import reference

B, SIDE = 3, 4

pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")


def maps(kind, classes, size=B, seed=0):
    """Logits and labels as segmentation code has them."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(size, classes, SIDE, SIDE, dtype=torch.float64, generator=generator)
    index = torch.randint(classes, (size, SIDE, SIDE), generator=generator)
    several = torch.randint(2, logits.shape, generator=generator).double()
    if kind == "ignored":
        index[0, :2], index[1, 0, 0] = 255, 255
    if kind == "binary":
        return logits[:, :1], several[:, :1]
    return logits, {"index": index, "ignored": index, "channel": index[:, None], "several": several}[kind]


WEIGHT = torch.tensor([0.3, 1.7, 1.0], dtype=torch.float64)
MEANS = {  # the mean of their rows, so that nothing has to be said
    "smp focal": (smp_losses.FocalLoss("multiclass"), "index"),
    "smp focal binary": (smp_losses.FocalLoss("binary"), "binary"),
    "smp cross entropy": (smp_losses.SoftCrossEntropyLoss(smooth_factor=0.1, ignore_index=255), "ignored"),
    "smp BCE": (smp_losses.SoftBCEWithLogitsLoss(), "several"),
    "MONAI Dice": (monai_losses.DiceLoss(softmax=True, to_onehot_y=True), "channel"),
    "MONAI Dice and CE": (monai_losses.DiceCELoss(softmax=True, to_onehot_y=True), "channel"),
    "MONAI focal": (monai_losses.FocalLoss(to_onehot_y=True, use_softmax=True), "channel"),
    "MONAI Tversky": (monai_losses.TverskyLoss(softmax=True, to_onehot_y=True), "channel"),
    "Kornia Dice": (kornia_losses.DiceLoss(), "index"),
    "Kornia focal": (kornia_losses.FocalLoss(0.5, reduction="mean", ignore_index=255), "ignored"),
    "Kornia Lovász": (kornia_losses.LovaszSoftmaxLoss(), "index"),
    "torchvision focal": (functools.partial(sigmoid_focal_loss, reduction="mean"), "several"),
}
OF_THE_BATCH = {  # one value for all samples together: the user has to say that each sample's own is meant
    "smp Dice": (smp_losses.DiceLoss("multiclass"), "index"),
    "smp Dice, ignored": (smp_losses.DiceLoss("multiclass", ignore_index=255), "ignored"),
    "smp Dice, several": (smp_losses.DiceLoss("multilabel", log_loss=True), "several"),
    "smp Jaccard": (smp_losses.JaccardLoss("multiclass"), "index"),
    "smp Tversky": (smp_losses.TverskyLoss("multiclass", alpha=0.3, beta=0.7), "index"),
    "smp focal, ignored": (smp_losses.FocalLoss("multiclass", ignore_index=255), "ignored"),
    "smp focal, normalised": (smp_losses.FocalLoss("multiclass", normalized=True), "index"),
    "MONAI Dice over the batch": (monai_losses.DiceLoss(softmax=True, to_onehot_y=True, batch=True), "channel"),
    "MONAI Tversky over the batch": (monai_losses.TverskyLoss(softmax=True, to_onehot_y=True, batch=True), "channel"),
    "cross entropy and Dice": (
        lambda output, target: F.cross_entropy(output, target) + smp_losses.DiceLoss("multiclass")(output, target),
        "index",
    ),
    "hardest quarter": (
        lambda output, target: F.cross_entropy(output, target, reduction="none").flatten().topk(12).values.mean(),
        "index",
    ),
}
ALL = {**MEANS, **OF_THE_BATCH}


def alone(criterion, output, target, weight):
    """Σ w_i criterion(sample i) / B, one sample at a time."""
    return sum(w * criterion(z[None], y[None]) for w, z, y in zip(weight, output, target, strict=True)) / len(weight)


def agree(loss, criterion, output, target, weight):
    leaf, other = output.clone().requires_grad_(), output.clone().requires_grad_()
    value, wanted = loss(leaf, Target(target, weight)), alone(criterion, other, target, weight)
    near = {"rtol": 1e-9, "atol": 1e-12} if value.dtype == torch.float64 else {"rtol": 1e-5, "atol": 1e-7}
    torch.testing.assert_close(value, wanted.to(value.dtype), **near)  # MONAI's focal loss computes in float32
    value.backward()
    wanted.backward()
    torch.testing.assert_close(leaf.grad, other.grad, **near)


@pytest.mark.parametrize("classes", [B, 5])  # as many classes as samples: a value for each is not one a sample
@pytest.mark.parametrize("name", MEANS)
def test_means_over_samples_are_known(name, classes):
    criterion, kind = MEANS[name]
    output, target = maps(kind, classes)
    loss = Loss(criterion)
    for _ in range(2):
        agree(loss, criterion, output, target, WEIGHT)


@pytest.mark.parametrize("classes", [B, 5])
@pytest.mark.parametrize("name", OF_THE_BATCH)
def test_other_criteria_need_the_users_word(name, classes):
    criterion, kind = OF_THE_BATCH[name]
    output, target = maps(kind, classes)
    with pytest.raises(TypeError, match=r"not the mean of per-sample losses.*smartaug\.Loss\(criterion, per_sample=T"):
        Loss(criterion)(output, Target(target, WEIGHT))
    loss = Loss(criterion, per_sample=True)
    for _ in range(2):  # the second batch may be vectorised
        agree(loss, criterion, output, target, WEIGHT)


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("name", ALL)
def test_without_weights_the_criterion_is_untouched(name, per_sample):
    criterion, kind = ALL[name]
    output, target = maps(kind, 5)
    loss = Loss(criterion, per_sample=per_sample)
    for given in (target, Target(target), Target(target, index=torch.arange(B))):
        assert torch.equal(loss(output, given), criterion(output, target))
    if per_sample:  # made weights count, ones too: else it would be another loss wherever all of them are 1
        agree(loss, criterion, output, target, torch.ones(B, dtype=torch.float64))


@pytest.mark.parametrize(
    "criterion",
    [
        monai_losses.DiceLoss(softmax=True, to_onehot_y=True, batch=True, reduction="none"),
        monai_losses.DiceLoss(softmax=True, to_onehot_y=True, batch=True),
        lambda output, target: (output.softmax(1) - F.one_hot(target[:, 0], B).movedim(-1, 1)).square().mean((0, 2, 3)),
    ],
)
def test_a_value_for_each_class_is_not_one_for_each_sample(criterion):
    output, target = maps("channel", B)
    with pytest.raises(TypeError, match="not the mean of per-sample losses"):
        Loss(criterion)(output, Target(target, WEIGHT))


def test_values_for_each_sample_stay_apart():
    criterion = monai_losses.DiceLoss(softmax=True, to_onehot_y=True, reduction="none")
    output, target = maps("channel", B)
    for per_sample in (False, True):
        got = Loss(criterion, per_sample=per_sample)(output, Target(target, WEIGHT))
        torch.testing.assert_close(got, criterion(output, target) * WEIGHT[:, None, None, None])
    summed = monai_losses.DiceLoss(softmax=True, to_onehot_y=True, batch=True, reduction="sum")
    rows = torch.stack([summed(z[None], y[None]) for z, y in zip(output, target, strict=True)])
    got = Loss(summed, per_sample=True)(output, Target(target, WEIGHT))
    torch.testing.assert_close(got, (rows * WEIGHT).sum())
    with pytest.raises(TypeError, match=r"gives \(3,\) for one sample, and a sample needs one loss"):
        Loss(lambda o, t: o.mean((0, 2, 3)), per_sample=True)(output, Target(target, WEIGHT))


@pytest.mark.parametrize(
    "criterion", [nn.CrossEntropyLoss(ignore_index=255), smp_losses.FocalLoss("multiclass", ignore_index=255)]
)
def test_a_sample_that_is_ignored_as_a_whole_does_not_count(criterion):
    output, target = maps("ignored", 5)
    target[0] = 255
    leaf = output.clone().requires_grad_()
    value = Loss(criterion, per_sample=True)(leaf, Target(target, WEIGHT))
    wanted = sum(WEIGHT[row] * criterion(output[row : row + 1], target[row : row + 1]) for row in (1, 2)) / 2
    torch.testing.assert_close(value, wanted)
    value.backward()
    assert torch.isfinite(leaf.grad).all()
    assert not leaf.grad[0].any()
    torch.testing.assert_close(
        Loss(criterion, per_sample=True).rows(output, target)[1:],
        torch.stack([criterion(output[row : row + 1], target[row : row + 1]) for row in (1, 2)]),
    )


def test_what_is_not_finite_is_not_hidden():
    output, target = maps("index", 5)
    output[1, 0, 0, 0] = torch.nan
    for criterion in (smp_losses.DiceLoss("multiclass"), smp_losses.FocalLoss("multiclass")):
        assert bool(Loss(criterion, per_sample=True)(output, Target(target, WEIGHT)).isnan())
    zero = torch.tensor([1.0, 0.0, 2.0])
    assert torch.isfinite(Loss(smp_losses.FocalLoss("multiclass"), per_sample=True)(output, Target(target, zero)))


def test_torchs_own_sample_by_sample():
    output, target = maps("ignored", 5)
    criterion = nn.CrossEntropyLoss(torch.rand(5).double() + 0.5, ignore_index=255, label_smoothing=0.1)
    agree(Loss(criterion, per_sample=True), criterion, output, target, WEIGHT)
    summed = copy.copy(criterion)
    summed.reduction = "sum"
    wanted = reference.weighted_loss(
        summed, lambda z, y: criterion.weight[y[y != 255]].sum(), output, target, WEIGHT
    )  # else the positions of all samples are averaged together
    torch.testing.assert_close(Loss(criterion)(output, Target(target, WEIGHT)), wanted)
    with pytest.raises(TypeError, match="per_sample must be True or False"):
        Loss(criterion, per_sample="yes")


def test_copies_keep_the_users_word():
    loss = Loss(smp_losses.DiceLoss("multiclass"), per_sample=True)
    output, target = maps("index", 5)
    wanted = loss(output, Target(target, WEIGHT))
    for copied in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert torch.equal(copied(output, Target(target, WEIGHT)), wanted)


# --- several predictions ---------------------------------------------------------------------------------------------


def reference_criterion(output, target):
    """As torchvision's segmentation reference computes it."""
    return F.cross_entropy(output["out"], target) + 0.5 * F.cross_entropy(output["aux"], target)


def deeply(output, target):
    return sum(0.5**level * F.cross_entropy(one, target) for level, one in enumerate(output))


@pytest.mark.parametrize("kind", ["dict", "list", "tuple"])
def test_several_predictions(kind):
    first, target = maps("index", 5)
    second, _ = maps("index", 5, seed=1)
    output = {"dict": {"out": first, "aux": second}, "list": [first, second], "tuple": (first, second)}[kind]
    criterion, rate = (reference_criterion, 0.5) if kind == "dict" else (deeply, 0.5)
    own = Loss(nn.CrossEntropyLoss())
    weighted = Target(target, WEIGHT)
    wanted = own(first, weighted) + rate * own(second, weighted)
    loss = Loss(criterion)
    for _ in range(2):
        torch.testing.assert_close(loss(output, weighted), wanted)
    torch.testing.assert_close(Loss(criterion, per_sample=True)(output, weighted), wanted)
    assert torch.equal(loss(output, Target(target)), criterion(output, target))
    with pytest.raises(TypeError, match=r"criterion\(output\['out'\], target\) \+ 0\.5 \* criterion\(output\['aux'\]"):
        own(output, weighted)


def test_deep_supervision_of_monai_takes_a_list():
    first, target = maps("channel", 5)
    output, target = [first, first[:, :, ::2, ::2].contiguous()], target.float()
    criterion = monai_losses.DeepSupervisionLoss(monai_losses.DiceLoss(softmax=True, to_onehot_y=True))
    wanted = sum(
        w * criterion([part[row : row + 1] for part in output], target[row : row + 1]) for row, w in enumerate(WEIGHT)
    )
    got = Loss(criterion)(output, Target(target, WEIGHT))
    torch.testing.assert_close(got, (wanted / B).to(got.dtype))


def test_a_sample_of_weight_zero_adds_nothing_to_any_prediction():
    first, target = maps("index", 5)
    output = {"out": first.clone(), "aux": first.clone()}
    output["aux"][0] = torch.inf
    leaves = {name: part.requires_grad_() for name, part in output.items()}
    weight = torch.tensor([0.0, 1.5, 1.5], dtype=torch.float64)
    Loss(reference_criterion, per_sample=True)(leaves, Target(target, weight)).backward()
    assert all(torch.isfinite(part.grad).all() and not part.grad[0].any() for part in leaves.values())


def test_predictions_of_other_rows_are_refused():
    first, target = maps("index", 5)
    with pytest.raises(TypeError, match="need an output tensor with the target's 3 rows, got dict"):
        Loss(reference_criterion)({"out": first, "aux": first[:2]}, Target(target, WEIGHT))


# --- soft maps -------------------------------------------------------------------------------------------------------


def soft_map(target, classes, share=0.75):
    """Each map mixed with the next sample's; ignored positions have no class."""
    hot = F.one_hot(torch.where(target == 255, 0, target), classes).movedim(-1, 1).double()
    hot = torch.where((target == 255).unsqueeze(1), 0.0, hot)
    return share * hot + (1 - share) * hot.roll(1, 0)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["index", "ignored"])
def test_mixed_maps_are_the_mixed_losses(kind, weighted, smoothing):
    """Σ of λ·ℓ(own map) + (1 − λ)·ℓ(partner's), over the counts of the positions mixed in the same way."""
    output, target = maps(kind, 5)
    class_weight = torch.rand(5).double() + 0.5 if weighted else None
    criterion = nn.CrossEntropyLoss(class_weight, ignore_index=255, label_smoothing=smoothing)
    each = functools.partial(
        F.cross_entropy, output, weight=class_weight, ignore_index=255, label_smoothing=smoothing, reduction="none"
    )
    partner = target.roll(1, 0)
    losses = (0.75 * each(target) + 0.25 * each(partner)).sum((1, 2))
    counts = 0.75 * (target != 255) + 0.25 * (partner != 255)  # torch divides distributions by their number alone
    got = Loss(criterion)(output, Target(target, WEIGHT, soft_map(target, 5)))
    torch.testing.assert_close(got, (WEIGHT * losses).sum() / counts.sum())
    if kind == "index":
        plain = nn.CrossEntropyLoss(class_weight, label_smoothing=smoothing)  # torch ignores no distributions
        soft = Loss(criterion)(output, Target(target, None, soft_map(target, 5)))
        torch.testing.assert_close(soft, plain(output, soft_map(target, 5)))


def test_soft_maps_of_other_criteria():
    output, target = maps("index", 5)
    soft = soft_map(target, 5)
    log_p = output.log_softmax(1)
    wanted = -(soft * log_p).sum(1).mean((1, 2)) @ WEIGHT / B
    torch.testing.assert_close(Loss(nn.NLLLoss())(log_p, Target(target, WEIGHT, soft)), wanted)
    rows = F.binary_cross_entropy_with_logits(output, soft, reduction="none").mean((1, 2, 3))
    torch.testing.assert_close(Loss(nn.BCEWithLogitsLoss())(output, Target(target, WEIGHT, soft)), rows @ WEIGHT / B)
    single = F.binary_cross_entropy_with_logits(output[:, :1], soft[:, 1:2], reduction="none").mean((1, 2, 3))
    two = torch.cat([1 - soft[:, 1:2], soft[:, 1:2]], 1)
    torch.testing.assert_close(
        Loss(nn.BCEWithLogitsLoss())(output[:, :1], Target(target, WEIGHT, two)), single @ WEIGHT / B
    )
    dice = monai_losses.DiceLoss(softmax=True, soft_label=True)
    rows = torch.stack([dice(z[None], y[None]) for z, y in zip(output, soft, strict=True)])
    torch.testing.assert_close(Loss(dice)(output, Target(target, WEIGHT, soft)), rows @ WEIGHT / B)
    narrow = Target(target, WEIGHT, soft[:, :4])  # as many classes as the batch has
    torch.testing.assert_close(
        Loss(nn.CrossEntropyLoss())(output, narrow),
        -(soft[:, :4] * log_p[:, :4]).sum((1, 2, 3)) @ WEIGHT / soft[:, :4].sum(),
    )


def test_soft_labels_that_do_not_fit_maps_are_refused():
    output, target = maps("index", 5)
    with pytest.raises(TypeError, match=r"soft labels \(B, K\) need logits \(B, K\), got \(3, 5, 4, 4\)"):
        Loss(nn.CrossEntropyLoss())(output, Target(target, None, torch.rand(3, 5).softmax(1)))
    with pytest.raises(TypeError, match=r"need logits \(B, K, \.\.\.\), got \(3, 5, 4, 4\) for \(3, 5, 2, 2\)"):
        Loss(nn.CrossEntropyLoss())(output, Target(target, None, torch.rand(3, 5, 2, 2).softmax(1)))
    with pytest.raises(ValueError, match="the soft labels have 6 classes and the model's output 5"):
        Loss(nn.CrossEntropyLoss())(output, Target(target, None, torch.rand(3, 6, 4, 4).softmax(1)))
    for criterion in (smp_losses.DiceLoss("multiclass"), smp_losses.SoftCrossEntropyLoss()):
        with pytest.raises(TypeError, match=r"cannot take the soft labels \(3, 5, 4, 4\) that a stage made"):
            Loss(criterion, per_sample=True)(output, Target(target, WEIGHT, soft_map(target, 5)))
    with pytest.raises(ValueError, match=r"soft has shape \(5,\)"):
        Target(target, None, torch.rand(5))


def test_targets_with_soft_maps_are_joined_and_cut():
    _, target = maps("ignored", 5)
    soft = soft_map(target, 5)
    whole = Target(target, WEIGHT, soft, torch.arange(3))
    assert torch.equal(whole[1:].soft, soft[1:])
    assert torch.equal(whole.to(torch.int32).soft, soft)
    joined = torch.cat([whole[:1], Target(target[1:], WEIGHT[1:])])
    assert torch.equal(joined.soft[:1], soft[:1])
    assert torch.equal(joined.soft[1:].argmax(1)[target[1:] != 255], target[1:][target[1:] != 255])
    assert torch.equal(joined.soft[1:].sum(1), (target[1:] != 255).double())  # ignored positions stay so
    assert torch.equal(copy.deepcopy(whole).soft, soft)
