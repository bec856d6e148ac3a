"""`Loss` is the criterion at weight 1 to the bit, and the hand-written weighted sum otherwise; else it says why not."""

import copy
import functools
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn import functional

import smartaug
from smartaug import Loss, Target
from smartaug.pipeline.losses.rows import joined
from tests import reference

timm_loss = pytest.importorskip("timm.loss")
B, K = 6, 4
CLASS_WEIGHT = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64)
POSITIVE = torch.tensor([2.0, 0.5, 1.0, 4.0], dtype=torch.float64)


class Focal(nn.Module):
    """As users write it: a reduction attribute, cross entropy inside."""

    def __init__(self, gamma=2.0, reduction="mean"):
        super().__init__()
        self.gamma, self.reduction = gamma, reduction

    def forward(self, output, target):
        cross = F.cross_entropy(output, target, reduction="none")
        losses = (1 - torch.exp(-cross)) ** self.gamma * cross
        return {"mean": losses.mean(), "sum": losses.sum(), "none": losses}[self.reduction]


class Plain:
    """A callable object without being a module."""

    def __call__(self, output, target):
        total = 0.0
        for row, label in zip(output, target, strict=True):  # no vmap over zip of a batch with Python numbers
            total = total - F.log_softmax(row, 0)[int(label)]
        return total / len(output)


class KeptForward(nn.CrossEntropyLoss):
    """A subclass that only sets defaults."""

    def __init__(self):
        super().__init__(weight=CLASS_WEIGHT)


def labels(rest=()):
    return torch.randint(K, (B, *rest))


def logits(*rest):
    return torch.randn(B, *rest, dtype=torch.float64)


def with_ignored(target):
    target = target.clone()
    target[1] = 2
    return (
        torch.where(torch.rand(target.shape) < 0.3, -100, target)
        if target.ndim > 1
        else target.index_fill(0, torch.tensor([0, 4]), -100)
    )


def ones(output, target):
    return 1.0


def elements(output, target):
    return output[0].numel()


def label_weights(output, target):
    return CLASS_WEIGHT[target].sum()


def unignored(output, target):
    return (target != -100).sum()


def weighted_unignored(output, target):
    kept = target[target != -100]
    return CLASS_WEIGHT[kept].sum()


def case(name, criterion, output, target, normaliser=ones, one=None):
    """one: the sum of the sample's losses; None: the criterion with reduction "sum" on one row."""
    return pytest.param(criterion, output, target, normaliser, one or summed(criterion), id=name)


def summed(criterion):
    if isinstance(criterion, nn.Module):
        criterion = copy.copy(criterion)
        criterion.reduction = "sum"
        return criterion
    return functools.partial(criterion, reduction="sum")


torch.manual_seed(0)
soft_rows = torch.rand(B, K, dtype=torch.float64).softmax(1)
CRITERIA = [
    case("CE", nn.CrossEntropyLoss(), logits(K), labels()),
    case("CE functional", F.cross_entropy, logits(K), labels()),
    case("CE class weights", nn.CrossEntropyLoss(CLASS_WEIGHT), logits(K), labels(), label_weights),
    case("CE subclass", KeptForward(), logits(K), labels(), label_weights),
    case("CE partial", functools.partial(F.cross_entropy, weight=CLASS_WEIGHT), logits(K), labels(), label_weights),
    case("CE ignore_index", nn.CrossEntropyLoss(), logits(K), with_ignored(labels()), unignored),
    case(
        "CE class weights, ignore_index",
        nn.CrossEntropyLoss(CLASS_WEIGHT),
        logits(K),
        with_ignored(labels()),
        weighted_unignored,
    ),
    case("CE own ignore_index", nn.CrossEntropyLoss(ignore_index=2), logits(K), labels(), lambda o, t: (t != 2).sum()),
    case(
        "CE partial ignore_index",
        functools.partial(F.cross_entropy, ignore_index=2),
        logits(K),
        labels(),
        lambda o, t: (t != 2).sum(),
    ),
    case("CE label smoothing", nn.CrossEntropyLoss(label_smoothing=0.1), logits(K), labels()),
    case(
        "CE label smoothing, class weights",
        nn.CrossEntropyLoss(CLASS_WEIGHT, label_smoothing=0.1),
        logits(K),
        labels(),
        label_weights,
    ),
    case("CE dense", nn.CrossEntropyLoss(), logits(K, 3, 2), labels((3, 2)), lambda o, t: t.numel()),
    case("CE dense ignore_index", nn.CrossEntropyLoss(), logits(K, 3, 2), with_ignored(labels((3, 2))), unignored),
    case(
        "CE dense, all",
        nn.CrossEntropyLoss(CLASS_WEIGHT, label_smoothing=0.2),
        logits(K, 3, 2),
        with_ignored(labels((3, 2))),
        weighted_unignored,
    ),
    case("CE probabilities", nn.CrossEntropyLoss(), logits(K), soft_rows),
    case("CE probabilities, class weights", nn.CrossEntropyLoss(CLASS_WEIGHT), logits(K), soft_rows),
    case("NLL", nn.NLLLoss(), logits(K).log_softmax(1), labels()),
    case("NLL functional", F.nll_loss, logits(K).log_softmax(1), labels()),
    case("NLL class weights", nn.NLLLoss(CLASS_WEIGHT), logits(K).log_softmax(1), labels(), label_weights),
    case("NLL dense", nn.NLLLoss(), logits(K, 5).log_softmax(1), with_ignored(labels((5,))), unignored),
    case("BCE logits (B,)", nn.BCEWithLogitsLoss(), logits(), labels().remainder(2).double()),
    case("BCE logits (B, 1)", nn.BCEWithLogitsLoss(), logits(1), labels((1,)).remainder(2).double()),
    case("BCE logits (B, K)", nn.BCEWithLogitsLoss(), logits(K), labels((K,)).remainder(2).double(), elements),
    case("BCE pos_weight", nn.BCEWithLogitsLoss(pos_weight=POSITIVE), logits(K), soft_rows, elements),
    case("BCE weight", nn.BCEWithLogitsLoss(weight=POSITIVE), logits(K), soft_rows, elements),
    case("BCE functional", F.binary_cross_entropy_with_logits, logits(K), soft_rows, elements),
    case("BCE of probabilities", nn.BCELoss(), logits(K).sigmoid(), soft_rows, elements),
    case("BCE of probabilities functional", F.binary_cross_entropy, logits(K).sigmoid(), soft_rows, elements),
    case("MSE (B,)", nn.MSELoss(), logits(), logits()),
    case("MSE (B, D)", nn.MSELoss(), logits(3), logits(3), elements),
    case("MSE images", nn.MSELoss(), logits(3, 4, 5), logits(3, 4, 5), elements),
    case("MSE functional", F.mse_loss, logits(3), logits(3), elements),
    case("L1", nn.L1Loss(), logits(3, 4), logits(3, 4), elements),
    case("SmoothL1", nn.SmoothL1Loss(beta=0.5), logits(3), logits(3), elements),
    case("SmoothL1 partial", functools.partial(F.smooth_l1_loss, beta=0.5), logits(3), logits(3), elements),
    case("Huber", nn.HuberLoss(delta=0.5), logits(3), logits(3), elements),
    case("PoissonNLL", nn.PoissonNLLLoss(), logits(3), logits(3).abs(), elements),
    case("SoftMargin", nn.SoftMarginLoss(), logits(3), logits(3).sign(), elements),
    case("KLDiv batchmean", nn.KLDivLoss(reduction="batchmean"), logits(K).log_softmax(1), soft_rows),
    case("KLDiv log_target", nn.KLDivLoss(reduction="batchmean", log_target=True), logits(K), soft_rows.log()),
    case("MultiMargin", nn.MultiMarginLoss(), logits(K), labels()),
    case("MultiMargin functional", F.multi_margin_loss, logits(K), labels()),
    case("MultiLabelSoftMargin", nn.MultiLabelSoftMarginLoss(), logits(K), soft_rows),
    case("MultiLabelMargin", nn.MultiLabelMarginLoss(), logits(K), torch.tensor([[1, 3, -1, 0]]).repeat(B, 1)),
    case("HingeEmbedding", nn.HingeEmbeddingLoss(), logits(), logits().sign()),
    case("focal", Focal(), logits(K), labels()),
    case("timm label smoothing", timm_loss.LabelSmoothingCrossEntropy(0.1), logits(K), labels()),
    case("timm soft target", timm_loss.SoftTargetCrossEntropy(), logits(K), soft_rows),
    case("timm BCE", timm_loss.BinaryCrossEntropy(0.1), logits(K), labels(), elements),
    case("timm BCE soft", timm_loss.BinaryCrossEntropy(0.0, target_threshold=0.2), logits(K), soft_rows, elements),
    case("timm asymmetric single", timm_loss.AsymmetricLossSingleLabel(), logits(K), labels()),
    case(
        "lambda",
        lambda output, target: F.mse_loss(output.sigmoid(), target) * 3,
        logits(3),
        logits(3),
        one=lambda output, target: F.mse_loss(output.sigmoid(), target) * 3,
    ),
    case("callable object", Plain(), logits(K), labels(), one=Plain()),
]
# summing is not an option of these
for parameters in CRITERIA:
    if parameters.id in ("timm label smoothing", "timm soft target", "timm asymmetric single"):
        parameters.values[4].reduction = "mean"

pytestmark = [
    pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss:UserWarning"),
    # torch's own note on functions that vmap loops over
    pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning"),
]


def value_and_gradient(criterion, output, target):
    output = output.detach().clone().requires_grad_()
    loss = criterion(output, target)
    (gradient,) = torch.autograd.grad(loss.sum(), output)
    return loss.detach(), gradient


def some_weights():
    weight = torch.rand(B) * 2
    weight[2] = 0
    return weight


# --- the criterion itself --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("criterion", "output", "target", "normaliser", "one"), CRITERIA)
def test_weight_one_is_the_criterion_to_the_bit(criterion, output, target, normaliser, one, dtype):
    output, target = output.to(dtype), target.to(dtype) if target.is_floating_point() else target
    criterion = copy.deepcopy(criterion).to(dtype) if isinstance(criterion, nn.Module) else criterion
    if dtype == torch.float32 and isinstance(criterion, functools.partial) and "weight" in criterion.keywords:
        criterion = functools.partial(criterion.func, weight=CLASS_WEIGHT.float())
    expected = value_and_gradient(criterion, output, target)
    index = torch.arange(B)
    for given in (target, Target(target), Target(target, index=index), Target(target, torch.ones(B), index=index)):
        value, gradient = value_and_gradient(Loss(criterion), output, given)
        assert torch.equal(value, expected[0])
        assert torch.equal(gradient, expected[1])


@pytest.mark.parametrize(("criterion", "output", "target", "normaliser", "one"), CRITERIA)
def test_weights_give_the_hand_written_sum(criterion, output, target, normaliser, one):
    weight = some_weights()
    loss = Loss(criterion)
    for _ in range(2):  # the first call may check how the criterion is taken apart, the second relies on it
        value, gradient = value_and_gradient(loss, output, Target(target, weight))
        expected = value_and_gradient(
            lambda given, label: reference.weighted_loss(one, normaliser, given, label, weight), output, target
        )
        torch.testing.assert_close(value, expected[0], rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(gradient, expected[1], rtol=1e-10, atol=1e-12)
        assert torch.equal(gradient[2], torch.zeros_like(gradient[2]))


@pytest.mark.parametrize(("criterion", "output", "target", "normaliser", "one"), CRITERIA)
def test_the_formula_at_weights_near_one_is_the_criterion(criterion, output, target, normaliser, one):
    weight = torch.ones(B, dtype=torch.float64)
    weight[0] += 1e-15
    value = Loss(criterion)(output, Target(target, weight))
    torch.testing.assert_close(value, criterion(output, target), rtol=1e-12, atol=1e-14)


REDUCING = [
    (nn.CrossEntropyLoss(CLASS_WEIGHT, reduction="sum"), logits(K), labels()),
    (nn.CrossEntropyLoss(CLASS_WEIGHT, reduction="none"), logits(K), labels()),
    (nn.CrossEntropyLoss(reduction="none"), logits(K, 3), labels((3,))),
    (functools.partial(F.cross_entropy, reduction="none"), logits(K), labels()),
    (nn.MSELoss(reduction="sum"), logits(3), logits(3)),
    (nn.MSELoss(reduction="none"), logits(3), logits(3)),
    (functools.partial(F.mse_loss, reduction="sum"), logits(3), logits(3)),
    (nn.MultiMarginLoss(reduction="sum"), logits(K), labels()),
    (nn.MultiMarginLoss(reduction="none"), logits(K), labels()),
    (nn.KLDivLoss(reduction="sum"), logits(K), soft_rows),
    (nn.KLDivLoss(reduction="none"), logits(K), soft_rows),
    (Focal(reduction="sum"), logits(K), labels()),
    (Focal(reduction="none"), logits(K), labels()),
    (timm_loss.BinaryCrossEntropy(reduction="none"), logits(K), labels()),
    (lambda output, target: F.mse_loss(output, target, reduction="sum"), logits(3), logits(3)),
    (lambda output, target: F.cross_entropy(output, target, reduction="none"), logits(K), labels()),
]


@pytest.mark.parametrize(("criterion", "output", "target"), REDUCING)
def test_sum_and_none(criterion, output, target):
    weight = some_weights().double()
    loss = Loss(criterion)
    for _ in range(2):
        value = loss(output, Target(target, weight))
        rows = [weight[i] * criterion(output[i : i + 1], target[i : i + 1]) for i in range(B)]
        expected = torch.cat(rows) if rows[0].ndim else torch.stack(rows).sum()
        torch.testing.assert_close(value, expected.to(value.dtype))
        assert value.shape == criterion(output, target).shape


@pytest.mark.parametrize("reduction", ["batchmean", "mean", "sum", "none"])
def test_timms_asymmetric_loss_of_many_labels(reduction):
    output, target, weight = logits(K).float(), labels((K,)).remainder(2), some_weights()
    losses = timm_loss.AsymmetricLossMultiLabel(reduction="none")(output, target) * weight[:, None]
    expected = {"batchmean": losses.sum() / B, "mean": losses.mean(), "sum": losses.sum(), "none": losses}[reduction]
    loss = Loss(timm_loss.AsymmetricLossMultiLabel(reduction=reduction))
    for _ in range(2):
        torch.testing.assert_close(loss(output, Target(target, weight)), expected)


def test_functionals_take_settings_with_the_call():
    output, target, weight = logits(K), with_ignored(labels()), some_weights().double()
    for args, kwargs in [
        ((CLASS_WEIGHT,), {}),
        ((), {"weight": CLASS_WEIGHT}),
        ((CLASS_WEIGHT, None, 2), {}),
        ((), {"weight": CLASS_WEIGHT, "ignore_index": 2, "label_smoothing": 0.1}),
        ((None, None, -100, None, "sum"), {}),
        ((), {"reduction": "none"}),
    ]:
        target = torch.where(target == -100, 2, target) if "ignore_index" in kwargs or len(args) == 3 else target
        got = Loss(F.cross_entropy)(output, Target(target, weight), *args, **kwargs)
        bound = {**dict(zip(("weight", "size_average", "ignore_index", "reduce", "reduction"), args, strict=False))}
        bound |= kwargs
        losses = F.cross_entropy(output, target, **{**bound, "reduction": "none"}) * weight
        counts = (target != bound.get("ignore_index", -100)).double()
        if bound.get("weight") is not None:
            counts = counts * CLASS_WEIGHT[target.clamp_min(0)]
        mean = losses.sum() / counts.sum()
        expected = {"sum": losses.sum(), "none": losses}.get(bound.get("reduction"), mean)
        torch.testing.assert_close(got, expected)


def test_further_arguments_are_taken_by_row():
    output, target, weight = logits(3), logits(3), some_weights().double()
    variance = torch.rand(B, 3, dtype=torch.float64) + 0.1
    expected = (F.gaussian_nll_loss(output, target, variance, reduction="none").mean(1) * weight).mean()
    torch.testing.assert_close(Loss(nn.GaussianNLLLoss())(output, Target(target, weight), variance), expected)

    def users(output, target, variance, scale=1.0):
        return scale * F.gaussian_nll_loss(output, target, variance)

    loss = Loss(users)
    for _ in range(2):
        torch.testing.assert_close(loss(output, Target(target, weight), variance, scale=2.0), 2 * expected)
        torch.testing.assert_close(loss(output, Target(target, weight), variance=variance), expected)

    def looped(output, target, *, variance):
        return users(output, target, variance) * float(output.detach().isfinite().all())  # no vmap

    torch.testing.assert_close(Loss(looped)(output, Target(target, weight), variance=variance), expected)


def test_a_further_argument_with_as_many_entries_as_rows_need_not_be_rows():
    output, target, weight = logits(B), logits(B).sigmoid(), some_weights().double()  # as many classes as samples
    positive = torch.rand(B, dtype=torch.float64) + 1

    def users(output, target, positive):
        return F.binary_cross_entropy_with_logits(output, target, pos_weight=positive)

    rows = F.binary_cross_entropy_with_logits(output, target, pos_weight=positive, reduction="none").mean(1)
    torch.testing.assert_close(Loss(users)(output, Target(target, weight), positive), (rows * weight).mean())


# --- soft labels -----------------------------------------------------------------------------------------------------


def hand_soft(output, soft, weight, class_weight=None, smoothing=0.0):
    soft = F.pad(soft.double(), (0, output.shape[1] - soft.shape[1]))
    soft = soft * (1 - smoothing) + smoothing / output.shape[1]
    scaled = soft if class_weight is None else soft * class_weight
    return sum(weight[i] * -(scaled[i] * output[i].log_softmax(0)).sum() for i in range(B)) / B


@pytest.mark.parametrize("width", [K, K - 1])
@pytest.mark.parametrize(
    ("criterion", "settings"),
    [
        (nn.CrossEntropyLoss(), {}),
        (nn.CrossEntropyLoss(CLASS_WEIGHT), {"class_weight": CLASS_WEIGHT}),
        (nn.CrossEntropyLoss(label_smoothing=0.1), {"smoothing": 0.1}),
        (functools.partial(F.cross_entropy, label_smoothing=0.1), {"smoothing": 0.1}),
        (F.cross_entropy, {}),
        (timm_loss.SoftTargetCrossEntropy(), {}),
        (lambda output, target: -(target * output.log_softmax(1)).sum(1).mean(), {}),
        (
            lambda output, target: (
                nn.NLLLoss()(output.log_softmax(1), target) if target.ndim == 1 else F.cross_entropy(output, target)
            ),
            {},
        ),
    ],
)
def test_soft_labels(criterion, settings, width):
    output, soft = logits(K), torch.rand(B, width).softmax(1)
    for weight in (None, some_weights()):
        target = Target(labels(), weight, soft)
        expected = value_and_gradient(
            lambda given, carried: hand_soft(given, soft, carried.weight, **settings), output, target
        )
        value, gradient = value_and_gradient(Loss(criterion), output, target)
        torch.testing.assert_close(value, expected[0])
        torch.testing.assert_close(gradient, expected[1])


@pytest.mark.parametrize("criterion", [nn.NLLLoss(), F.nll_loss, nn.NLLLoss(CLASS_WEIGHT)])
def test_soft_labels_of_log_probabilities(criterion):
    output, soft, weight = logits(K), soft_rows.clone(), some_weights()
    expected = hand_soft(output, soft, weight, class_weight=getattr(criterion, "weight", None))
    torch.testing.assert_close(Loss(criterion)(output.log_softmax(1), Target(labels(), weight, soft)), expected)


def test_soft_labels_of_a_class_that_is_ruled_out():
    log_p = torch.tensor([[0.5, 0.5, 0.0]]).log().requires_grad_()
    loss = Loss(nn.NLLLoss())(log_p, Target(torch.tensor([0]), None, torch.tensor([[0.5, 0.5, 0.0]])))
    loss.backward()
    assert loss.item() == pytest.approx(0.6931472)
    assert log_p.grad.tolist() == [[-0.5, -0.5, 0.0]]


def test_soft_labels_element_by_element():
    weight, soft = some_weights().double(), soft_rows
    output = logits(K)
    rows = F.binary_cross_entropy_with_logits(output, soft, reduction="none").mean(1)
    got = Loss(nn.BCEWithLogitsLoss())(output, Target(labels(), weight, soft))
    torch.testing.assert_close(got, (rows * weight).mean())
    narrow = soft[:, :3]
    rows = F.binary_cross_entropy_with_logits(output, F.pad(narrow, (0, 1)), reduction="none").mean(1)
    torch.testing.assert_close(
        Loss(F.binary_cross_entropy_with_logits)(output, Target(labels(), weight, narrow)), (rows * weight).mean()
    )
    torch.testing.assert_close(
        Loss(timm_loss.BinaryCrossEntropy(0.0))(output, Target(labels(), weight, soft)),
        (F.binary_cross_entropy_with_logits(output, soft, reduction="none").mean(1) * weight).mean(),
    )


@pytest.mark.parametrize("shape", [(), (1,)])
def test_soft_labels_of_two_classes_to_a_single_logit(shape):
    output, soft, weight = logits(*shape), torch.rand(B, 2).softmax(1), some_weights().double()
    target = Target(labels(shape).remainder(2).double(), weight, soft)
    rows = F.binary_cross_entropy_with_logits(output.flatten(), soft[:, 1].double(), reduction="none")
    torch.testing.assert_close(Loss(nn.BCEWithLogitsLoss())(output, target), (rows * weight).mean())


def test_mixed_binary_labels_of_one_class_keep_their_meaning():
    # a batch whose labels are all class 0 must not become "probability 1 of the first column" for a single logit
    images = torch.rand(4, 1, 8, 8)
    _, target = smartaug.MixUp()(images, torch.zeros(4, dtype=torch.int64), index=torch.arange(4), epoch=0, seed=0)
    output = torch.randn(4)
    expected = F.binary_cross_entropy_with_logits(output, torch.zeros(4))
    torch.testing.assert_close(Loss(nn.BCEWithLogitsLoss())(output, target.float()), expected)


def test_soft_regression_values():
    output, soft, weight = logits(1), torch.rand(B, 1), some_weights().double()
    expected = ((output - soft) ** 2 * weight[:, None]).mean()
    torch.testing.assert_close(Loss(nn.MSELoss())(output, Target(torch.rand(B), weight, soft)), expected)
    torch.testing.assert_close(Loss(nn.MSELoss())(output[:, 0], Target(torch.rand(B), weight, soft)), expected)


def test_ignored_samples_stay_ignored_with_soft_labels():
    output, target, soft = logits(K), labels(), soft_rows
    target[3] = -100
    got = Loss(nn.CrossEntropyLoss())(output, Target(target, None, soft))
    kept = torch.tensor([0, 1, 2, 4, 5])
    torch.testing.assert_close(got, F.cross_entropy(output[kept], soft[kept]))


# --- what must not poison, and precision -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "criterion",
    [nn.CrossEntropyLoss(), F.cross_entropy, Focal(), timm_loss.LabelSmoothingCrossEntropy(), Plain()],
    ids=lambda criterion: getattr(criterion, "__name__", type(criterion).__name__),
)
@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
def test_weight_zero_takes_a_sample_out_whatever_its_loss(criterion, bad):
    output, target, weight = logits(K), torch.zeros(B, dtype=torch.int64), some_weights().double()
    output[2, 0] = bad  # weight[2] is 0
    loss = Loss(criterion)
    kept = torch.tensor([0, 1, 3, 4, 5])
    for _ in range(2):
        value, gradient = value_and_gradient(loss, output, Target(target, weight))
        rows = torch.stack([criterion(output[i : i + 1], target[i : i + 1]) for i in kept])
        torch.testing.assert_close(value, (rows * weight[kept]).sum() / B)
        assert torch.isfinite(gradient).all()
        assert not gradient[2].any()


def test_weight_zero_without_reduction():
    output, target = torch.zeros(2, 2), torch.tensor([0, 1])
    output[0, 0] = float("-inf")
    losses = Loss(nn.CrossEntropyLoss(reduction="none"))(output, Target(target, torch.tensor([0.0, 2.0])))
    torch.testing.assert_close(losses, torch.tensor([0.0, 2 * 0.6931472]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "criterion", [nn.CrossEntropyLoss(), nn.NLLLoss(), Focal(), timm_loss.LabelSmoothingCrossEntropy()]
)
def test_half_precision(criterion, dtype):
    output, target, weight = torch.randn(64, 10).to(dtype), torch.randint(10, (64,)), torch.rand(64)
    got = Loss(criterion)(output, Target(target, weight))
    assert got.dtype == criterion(output, target).dtype
    wide = Loss(criterion)(output.float(), Target(target, weight))
    torch.testing.assert_close(got.float(), wide, rtol=0.02, atol=1e-3)


def test_half_precision_counts_many_positions():
    output, target = torch.zeros(2, 1, 300, 300, dtype=torch.float16), torch.ones(2, 1, 300, 300, dtype=torch.float16)
    assert Loss(nn.MSELoss())(output, Target(target, torch.tensor([0.5, 1.5]))).item() == 1.0
    labels = torch.zeros(2, 300, 300, dtype=torch.int64)
    dense = torch.zeros(2, 2, 300, 300, dtype=torch.bfloat16)
    got = Loss(nn.CrossEntropyLoss())(dense, Target(labels, torch.tensor([0.5, 1.5])))
    assert got.item() == pytest.approx(0.6931, rel=1e-2)


@pytest.mark.parametrize("weight", [None, torch.tensor([3.0])])
@pytest.mark.parametrize(
    "criterion", [nn.CrossEntropyLoss(), F.cross_entropy, Focal(), Plain(), timm_loss.LabelSmoothingCrossEntropy()]
)
def test_a_batch_of_one(criterion, weight):
    output, target = torch.randn(1, K), torch.tensor([2])
    loss = Loss(criterion)
    factor = 1.0 if weight is None else weight.item()
    torch.testing.assert_close(loss(output, Target(target, weight)), criterion(output, target) * factor)
    output, target, weight = logits(K), labels(), some_weights().double()  # and it was not taken as proof
    rows = torch.stack([criterion(output[i : i + 1], target[i : i + 1]) for i in range(B)])
    torch.testing.assert_close(loss(output, Target(target, weight)), (rows * weight).mean())


# not MultiMarginLoss: torch returns memory that it never wrote for an empty batch
@pytest.mark.parametrize("criterion", [nn.CrossEntropyLoss(), nn.MSELoss(), Focal(), nn.NLLLoss()])
def test_a_batch_of_none_is_the_criterions(criterion):
    output = torch.randn(0, K, requires_grad=True)
    target = torch.zeros(0, K) if isinstance(criterion, nn.MSELoss) else torch.zeros(0, dtype=torch.int64)
    for weight in (None, torch.zeros(0)):
        value = Loss(criterion)(output, Target(target, weight))
        assert torch.equal(value.isnan(), criterion(output, target).isnan())
        assert value.shape == ()
    for reduction, expected in (("sum", torch.tensor(0.0)), ("none", torch.zeros(0))):
        summing = Loss(nn.CrossEntropyLoss(reduction=reduction))
        soft = Target(torch.zeros(0, dtype=torch.int64), None, torch.zeros(0, K))
        assert torch.equal(summing(output, soft), expected)


def test_weights_may_carry_a_gradient():
    output, target = logits(K), labels()
    weight = torch.rand(B, dtype=torch.float64, requires_grad=True)
    for criterion in (nn.CrossEntropyLoss(), Focal(gamma=0.0), Plain()):
        (gradient,) = torch.autograd.grad(Loss(criterion)(output, Target(target, weight)), weight)
        torch.testing.assert_close(gradient, F.cross_entropy(output, target, reduction="none") / B)


# --- what cannot be weighed ------------------------------------------------------------------------------------------


def contrastive(output, target):
    features = F.normalize(output, dim=1)
    return F.cross_entropy(features @ features.T / 0.1, torch.arange(len(output)))


def dice(output, target):
    p, y = output.softmax(1), F.one_hot(target, output.shape[1])
    return 1 - 2 * (p * y).sum() / (p.sum() + y.sum() + (p * p).sum())


class Normalised(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(K, dtype=torch.float64)

    def forward(self, output, target):
        return F.cross_entropy(self.norm(output), target)


@pytest.mark.parametrize(
    ("criterion", "name"),
    [
        (contrastive, "contrastive"),
        (dice, "dice"),
        (Normalised(), "Normalised"),
        (timm_loss.JsdCrossEntropy(num_splits=3), "JsdCrossEntropy"),
        (lambda output, target: F.cross_entropy(output, target) ** 2, "<lambda>"),
        (lambda output, target: F.cross_entropy(output, target).item(), "<lambda>"),
    ],
)
def test_criteria_that_are_no_mean_over_samples_raise(criterion, name):
    output, target = logits(K), labels()
    loss = Loss(criterion)
    for _ in range(2):
        with pytest.raises(TypeError, match=rf"{name} is not the mean of per-sample losses .* nn.CrossEntropyLoss"):
            loss(output, Target(target, some_weights()))
    # without weights it is the user's own business
    assert loss(output, Target(target)) == criterion(output, target)


@pytest.mark.parametrize(
    "criterion", [timm_loss.LabelSmoothingCrossEntropy(), nn.MultiMarginLoss(), F.multi_margin_loss, Plain()]
)
def test_criteria_that_take_no_soft_labels_raise(criterion):
    with pytest.raises(TypeError, match=r"cannot take the soft labels \(6, 4\) that a stage made.*SoftTarget"):
        Loss(criterion)(logits(K), Target(labels(), None, soft_rows))


def test_soft_labels_that_do_not_fit_raise():
    soft = torch.rand(B, K + 1).softmax(1)
    with pytest.raises(ValueError, match=r"soft labels have 5 classes and the model's output 4.*num_classes=4"):
        Loss(nn.CrossEntropyLoss())(logits(K), Target(labels(), None, soft))
    with pytest.raises(TypeError, match=r"soft labels \(B, K\) need logits \(B, K\), got \(6, 4, 3\)"):
        Loss(nn.CrossEntropyLoss())(logits(K, 3), Target(labels((3,)), None, soft_rows))
    with pytest.raises(TypeError, match=r"soft labels \(6, 4\) do not fit the output \(6, 1\); give .* 4 outputs"):
        Loss(nn.BCEWithLogitsLoss())(logits(1), Target(labels((1,)).double(), None, soft_rows))


def test_outputs_that_are_no_logits_raise():
    loss, target = Loss(nn.CrossEntropyLoss()), Target(labels(), some_weights())
    with pytest.raises(TypeError, match=r"output tensor with the target's 6 rows, got tuple; pass the logits"):
        loss((logits(K), None), target)
    with pytest.raises(TypeError, match=r"the target's 6 rows, got \(3, 4\)"):
        loss(logits(K)[:3], target)
    with pytest.raises(TypeError, match=r"the target's 6 rows, got \(\)"):
        loss(torch.tensor(1.0), target)
    # untouched where nothing is weighed
    pair = Loss(lambda outputs, target: F.cross_entropy(outputs[0], target) + F.cross_entropy(outputs[1], target))
    outputs = (logits(K), logits(K))
    assert torch.equal(pair(outputs, Target(target.plain)), pair.criterion(outputs, target.plain))


def test_the_criterions_own_errors_come_through():
    with pytest.raises(IndexError, match="Target 9 is out of bounds"):
        Loss(Focal())(logits(K), Target(torch.full((B,), 9), some_weights()))


def test_what_is_no_criterion_is_refused():
    with pytest.raises(TypeError, match=r"got the class CrossEntropyLoss; write Loss\(CrossEntropyLoss\(\)\)"):
        Loss(nn.CrossEntropyLoss)
    with pytest.raises(TypeError, match="needs a criterion to call, got str"):
        Loss("cross_entropy")


# --- a module among modules ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "criterion", [nn.CrossEntropyLoss(CLASS_WEIGHT), Focal(), F.cross_entropy, timm_loss.LabelSmoothingCrossEntropy()]
)
def test_copies_and_state(criterion):
    output, target = logits(K), Target(labels(), some_weights())
    loss = Loss(criterion)
    expected = loss(output, target)
    for copied in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert torch.equal(copied(output, target), expected)
    assert set(loss.state_dict()) == ({"criterion.weight"} if hasattr(criterion, "weight") else set())
    loss.load_state_dict(loss.state_dict())
    assert set(vars(loss)) - set(vars(nn.Module())) <= {"criterion", "per_sample", "_unknown"}


def test_the_users_criterion_is_not_changed():
    for criterion in (nn.CrossEntropyLoss(CLASS_WEIGHT), Focal(), nn.MultiMarginLoss()):
        before = {name: value for name, value in vars(criterion).items() if not name.startswith("_")}
        Loss(criterion)(logits(K), Target(labels(), some_weights()))
        assert {name: value for name, value in vars(criterion).items() if not name.startswith("_")} == before
        assert criterion.reduction == "mean"


def test_two_losses_at_once():
    output, target = logits(K), Target(labels(), some_weights().double())
    first, second = Loss(nn.CrossEntropyLoss()), Loss(Focal())
    together = first(output, target) + 0.5 * second(output, target)
    alone = Loss(nn.CrossEntropyLoss())(output, target) + 0.5 * Loss(Focal())(output, target)
    assert torch.equal(together, alone)


def test_every_functional_in_the_table_is_torchs():
    from smartaug._base.labels import _FAMILIES, Family

    families = {family: members for family, members in _FAMILIES.items() if family is not Family.PAIRS}
    for member in (member for members in families.values() for member in members):
        home = nn if isinstance(member, type) else functional
        assert getattr(home, member.__name__) is member


def test_an_unknown_criterion_is_watched_beyond_its_first_batch():
    def hidden(output, label):
        return F.cross_entropy(output, label)  # ignores label -100, which its rows alone cannot show

    criterion, output = smartaug.Loss(hidden), torch.randn(4, 3)
    weight = torch.tensor([0.5, 1.5, 1.0, 1.0])
    criterion(output, Target(torch.tensor([0, 1, 2, 0]), weight))
    with pytest.raises(TypeError, match=r"not the mean of per-sample losses.*functools.partial\(F.cross_entropy"):
        criterion(output, Target(torch.tensor([-100, 1, 2, 0]), weight))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_criterion_taken_apart_is_itself_again(reduction):
    """Losses and counts give the criterion back; a sample by itself is what the criterion has for it alone."""
    criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 2.0]), ignore_index=2, reduction=reduction)
    output, label = torch.randn(4, 3), torch.tensor([0, 1, 2, 1])
    loss = smartaug.Loss(criterion)
    assert torch.allclose(joined(loss.apart(output, label), torch.ones(4)), criterion(output, label))
    alone = [criterion(output[row : row + 1], label[row : row + 1]).sum() for row in range(4)]
    assert torch.allclose(loss.rows(output, label), torch.stack(alone).nan_to_num())  # 0 / 0 where it is ignored
    values = nn.MSELoss(reduction=reduction)
    apart = smartaug.Loss(values).apart(output, output + 2.0).by_sample()
    assert torch.allclose(apart.losses, torch.full((4,), 12.0))
    assert apart.reduction == ("sum" if reduction == "sum" else "mean")
    assert torch.allclose(joined(apart, torch.ones(4)), values(output, output + 2.0).mean())


def test_soft_labels_of_a_target_are_taken_apart_with_its_ignored_ones():
    weight, output, soft = torch.tensor([1.0, 5.0, 2.0]), torch.randn(3, 3), torch.rand(3, 3).softmax(1)
    target = smartaug.Target(torch.tensor([0, 7, 1]), soft=soft)
    rows = smartaug.Loss(nn.CrossEntropyLoss(weight=weight, ignore_index=7)).rows(output, target)
    plain = nn.CrossEntropyLoss(weight=weight)  # torch takes no ignored labels beside distributions
    assert torch.allclose(rows[[0, 2]], torch.stack([plain(output[[n]], soft[[n]]) for n in (0, 2)]))
    assert float(rows[1]) == 0.0
