"""What labels mean, decided in one place, and what mixing, `Loss` and loaders make of each kind."""

import functools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import Subset, TensorDataset

import smartaug
from smartaug._base.dataset_labels import labels_of
from smartaug._base.labels import Family, Kind, family_of, kind_of
from smartaug.augment.labels import composition, mix_labels, mixable_rows
from smartaug.augment.plan import Mix, Plan

B = 8
IMAGES = torch.rand(B, 3, 8, 8)
CE, BCE, MSE = nn.CrossEntropyLoss(), nn.BCEWithLogitsLoss(), nn.MSELoss()
WHOLE = torch.tensor([0.0, 3, 1, 2, 0, 3, 1, 2])
HALVES = torch.tensor([0.5, 3.0, 1.5, 2.0, 7.0, -3.0, 1.0, 2.0])
BINARY = torch.tensor([0.0, 1, 1, 0, 0, 1, 1, 0])
SOFT = torch.rand(B, 4).softmax(1)
SEVERAL = torch.tensor([[1.0, 0, 1, 0], [0, 1, 1, 1]] * 4)
INTEGERS = torch.arange(B) % 4


# --- kinds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "said", "kind"),
    [
        (INTEGERS, {}, Kind.CLASSES),
        (INTEGERS.to(torch.uint8), {}, Kind.CLASSES),
        (INTEGERS > 1, {}, Kind.CLASSES),
        (INTEGERS[:, None], {}, Kind.CLASSES),
        (INTEGERS, {"criterion": MSE}, Kind.VALUES),
        (INTEGERS, {"classes": 0}, Kind.VALUES),
        (INTEGERS, {"criterion": BCE}, Kind.CLASSES),
        (WHOLE, {}, Kind.WHOLE),
        (WHOLE[:, None], {}, Kind.WHOLE),
        (WHOLE.half(), {}, Kind.WHOLE),
        (-WHOLE, {}, Kind.WHOLE),
        (WHOLE, {"classes": 4}, Kind.CLASSES),
        (WHOLE, {"classes": 0}, Kind.VALUES),
        (WHOLE, {"criterion": CE}, Kind.CLASSES),
        (WHOLE, {"criterion": F.mse_loss}, Kind.VALUES),
        (HALVES, {}, Kind.VALUES),
        (HALVES[:, None], {"classes": 4}, Kind.VALUES),
        (torch.full((B,), torch.nan), {}, Kind.VALUES),
        (BINARY, {}, Kind.BINARY),
        (BINARY[:, None], {}, Kind.BINARY),
        (BINARY * 0.3, {"classes": 2}, Kind.BINARY),
        (BINARY, {"classes": 2}, Kind.CLASSES),
        (BINARY, {"criterion": BCE}, Kind.BINARY),
        (SOFT, {}, Kind.DISTRIBUTIONS),
        (SOFT.half(), {}, Kind.DISTRIBUTIONS),
        (F.one_hot(INTEGERS).float(), {}, Kind.DISTRIBUTIONS),
        (F.one_hot(INTEGERS).float(), {"criterion": BCE}, Kind.SEVERAL),
        (F.one_hot(INTEGERS).float(), {"criterion": nn.L1Loss()}, Kind.VALUES),
        (SEVERAL, {}, Kind.SEVERAL),
        (SEVERAL, {"criterion": CE}, Kind.SEVERAL),
        (SEVERAL.long(), {}, Kind.MAP),
        (SEVERAL.long(), {"criterion": BCE}, Kind.SEVERAL),
        (HALVES[:, None].expand(B, 3), {}, Kind.VALUES),
        (torch.zeros(B, 5, 5), {}, Kind.MAP),
        (torch.zeros(B, 5, 5, dtype=torch.int64), {"classes": 3}, Kind.MAP),
        (torch.zeros(B, 1, 5, 5), {"criterion": MSE}, Kind.VALUES),
    ],
)
def test_kinds(target, said, kind):
    assert kind_of(target, **said) is kind


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.floats(-2, 60, width=32), min_size=3, max_size=3), min_size=1, max_size=6),
    st.sampled_from([None, CE, BCE, MSE]),
)
def test_the_order_of_the_samples_and_the_precision_change_no_kind(rows, criterion):
    target = torch.tensor(rows)
    kind = kind_of(target, criterion=criterion)
    assert kind_of(target.flip(0), criterion=criterion) is kind
    assert kind_of(target.double(), criterion=criterion) is kind


def test_families_of_criteria():
    class Named(nn.CrossEntropyLoss):
        pass

    class Other(nn.MSELoss):
        def forward(self, output, target):
            return (output - target).abs().mean()

    assert family_of(Named()) is Family.CLASSIFY
    assert family_of(functools.partial(F.binary_cross_entropy_with_logits, reduction="sum")) is Family.BINARY
    assert family_of(F.huber_loss) is Family.VALUES
    assert family_of(Other()) is None
    assert family_of(lambda output, target: output.sum()) is None


# --- mixing ----------------------------------------------------------------------------------------------------------


def values(target):
    return target.float().reshape(B, -1)


@pytest.mark.parametrize("mix", [smartaug.MixUp(), smartaug.CutMix()], ids=["MixUp", "CutMix"])
@pytest.mark.parametrize(
    ("target", "rows"),
    [
        (INTEGERS, F.one_hot(INTEGERS).float()),
        (INTEGERS[:, None].to(torch.int32), F.one_hot(INTEGERS).float()),
        (BINARY, values(BINARY)),
        (HALVES, values(HALVES)),
        (HALVES[:, None], values(HALVES)),
        (SOFT, SOFT),
        (SEVERAL, SEVERAL),
        (-3 * SOFT, -3 * SOFT),
    ],
)
def test_each_kind_is_mixed_as_the_table_says(mix, target, rows):
    plan = mix.plan(IMAGES.shape, index=torch.arange(B), seed=0)
    share, partner = plan.mixes[0].share[:, None].double(), plan.mixes[0].partner
    made = mix_labels(target, plan)
    assert torch.allclose(made.soft.double(), share * rows + (1 - share) * rows[partner], atol=1e-5)
    assert torch.equal(made.plain, target)


def loaded(*columns, augment, **arguments):
    return next(iter(smartaug.DataLoader(TensorDataset(*columns), B, augment=augment, seed=0, **arguments)))


@pytest.mark.parametrize("mix", [smartaug.MixUp, smartaug.CutMix])
@pytest.mark.parametrize("target", [WHOLE, WHOLE[:, None], 50 + WHOLE.double()])
def test_whole_numbers_stored_as_floats_ask_what_they_are(mix, target):
    with pytest.raises(TypeError, match=r"whole numbers stored as float.*label\.to\(torch\.int64\).*regression=True"):
        loaded(IMAGES, target, augment=mix())
    plan = mix(regression=True).plan(IMAGES.shape, index=torch.arange(B), seed=0)
    _, made = loaded(IMAGES, target, augment=mix(regression=True))
    share, partner = plan.mixes[0].share[:, None], plan.mixes[0].partner
    assert torch.allclose(made.soft, torch.lerp(values(target)[partner], values(target), share).to(made.soft.dtype))
    if target.max() < 4:
        _, made = loaded(IMAGES, target, augment=mix(num_classes=4))
        assert torch.allclose(made.soft.sum(1), torch.ones(B))
        assert made.soft.shape == (B, 4)


def test_a_stage_inside_another_says_what_labels_are():
    inside = smartaug.augment.OneOf([smartaug.MixUp(regression=True), smartaug.CutMix(regression=True)])
    _, made = loaded(IMAGES, 10 * INTEGERS, augment=[inside, smartaug.Flip()])
    assert made.soft.shape == (B, 1)
    assert float(made.soft.max()) > 3


def test_float_class_numbers_meet_a_criterion_of_classes():
    _, made = loaded(IMAGES, BINARY, augment=smartaug.MixUp())  # 0 and 1 may be a probability
    for criterion in (CE, F.cross_entropy, nn.NLLLoss(), lambda z, y: -(y * z.log_softmax(1)).sum(1).mean()):
        with pytest.raises(ValueError, match=r"compares 4 classes.*label\.to\(torch\.int64\)"):
            smartaug.Loss(criterion)(torch.randn(B, 4), made.long())
    smartaug.Loss(BCE)(torch.randn(B), made)
    with pytest.raises(ValueError, match=r"mixed as they are"):
        smartaug.Loss(MSE)(torch.randn(B, 4), made)


def test_whole_number_regression_is_told_how_to_say_so():
    _, made = loaded(IMAGES, 7 * INTEGERS, augment=smartaug.MixUp())
    with pytest.raises(TypeError, match=r"taken for class numbers.*MixUp\(regression=True\)"):
        smartaug.Loss(MSE)(torch.randn(B), made)
    _, made = loaded(IMAGES, 7 * INTEGERS, augment=smartaug.MixUp(regression=True))
    output = torch.randn(B, 1)
    assert torch.allclose(smartaug.Loss(MSE)(output, made), F.mse_loss(output, made.soft))
    assert torch.allclose(smartaug.Loss(MSE)(output[:, 0], made), F.mse_loss(output, made.soft))


def test_numbers_of_samples_are_no_classes():
    with pytest.raises(ValueError, match=r"label 1000000000000 as a class number.*32|GB"):
        loaded(IMAGES, torch.arange(B) + 10**12, augment=smartaug.CutMix())
    with pytest.raises(ValueError, match="got -3"):
        loaded(IMAGES, INTEGERS - 3, augment=smartaug.CutMix())


def test_multi_hot_labels_mix_by_column():
    _, made = loaded(IMAGES, SEVERAL, augment=smartaug.MixUp())
    output = torch.randn(B, 4)
    wanted = F.binary_cross_entropy_with_logits(output, made.soft)
    assert torch.allclose(smartaug.Loss(BCE)(output, made), wanted)
    with pytest.raises(TypeError, match=r"target\.float\(\)"):
        loaded(IMAGES, SEVERAL.long(), augment=smartaug.MixUp())


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 7), st.integers(0, 3), st.integers(0, 2**31))
def test_what_rows_are_made_of(rows, mixes, seed):
    generator = torch.Generator().manual_seed(seed)
    drawn = [
        Mix(torch.randint(rows, (rows,), generator=generator), torch.rand(rows, generator=generator))
        for _ in range(mixes)
    ]
    labels = torch.rand(rows, 3, generator=generator)
    row, share = composition(drawn, rows)
    assert row.shape == share.shape == (rows, 2**mixes)
    assert torch.equal(row[:, 0], torch.arange(rows))
    assert torch.allclose(share.sum(1), torch.ones(rows))
    wanted = mix_labels(labels, Plan((rows, 1, 1, 1), tuple(drawn)))
    wanted = labels if mixes == 0 else wanted.soft
    assert torch.allclose((share[..., None] * labels[row]).sum(1), wanted, atol=1e-5)


def test_class_numbers_are_one_hot_bit_for_bit():
    assert torch.equal(mixable_rows(INTEGERS), F.one_hot(INTEGERS).float())
    assert torch.equal(mixable_rows(INTEGERS, 6), F.one_hot(INTEGERS, 6).float())
    assert mixable_rows(torch.zeros(3, dtype=torch.int64)).shape == (3, 2)


# --- which leaf ------------------------------------------------------------------------------------------------------


OTHERS = {
    "a second task": INTEGERS % 2,
    "sample weights": torch.rand(B),
    "teacher logits": torch.randn(B, 5),
    "group ids": torch.arange(B) + 1000,
    "index column": torch.arange(B),
    "a regression target": HALVES,
}


@pytest.mark.parametrize("stage", ["augment", "chosen", "reweight", "coreset"])
@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_several_leaves_ask_for_target(stage, other):
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    made = {
        "augment": {"augment": smartaug.CutMix()},
        "chosen": {"augment": smartaug.augment.RandomApply([smartaug.MixUp()])},
        "reweight": {"reweight": smartaug.SAFLEX(model, (torch.rand(B, 3, 8, 8), INTEGERS))},
        "coreset": {"coreset": smartaug.Coreset(0.5)},
    }[stage]
    data = TensorDataset(IMAGES, INTEGERS, other)
    with pytest.raises(ValueError, match=r"2 leaves of the batch can be it.*target=1.*target=\[1, 2\]"):
        next(iter(smartaug.DataLoader(data, B, **made)))
    _, label, beside = next(iter(smartaug.DataLoader(data, B, target=1, **made)))
    assert isinstance(label, smartaug.Target)
    assert type(beside) is torch.Tensor


def test_stages_that_need_no_label_take_any_batch():
    data = TensorDataset(IMAGES, INTEGERS, INTEGERS % 2)
    next(iter(smartaug.DataLoader(data, B, augment=smartaug.Flip())))
    next(iter(smartaug.DataLoader(data, 4, coreset=smartaug.Coreset(0.5, select=smartaug.coreset.Uniform()))))


def test_names_decide_but_for_others_that_are_called_labels():
    def batch(**more):
        names = {"image": IMAGES, "label": INTEGERS, **more}
        samples = [{name: value[row] for name, value in names.items()} for row in range(B)]
        return next(iter(smartaug.DataLoader(samples, B, augment=smartaug.MixUp())))

    assert batch(group=torch.arange(B) + 50)["label"].soft is not None
    for name in ("label2", "fine_label", "target", "teacher_logits", "superclass"):
        with pytest.raises(ValueError, match=rf"can be it.*{name}"):
            batch(**{name: INTEGERS % 2})


def test_named_labels_follow_each_by_its_kind():
    columns = (IMAGES, INTEGERS, SEVERAL, HALVES)
    plan = smartaug.CutMix().plan(IMAGES.shape, index=torch.arange(B), seed=0)
    share, partner = plan.mixes[0].share[:, None], plan.mixes[0].partner
    _, *made = loaded(*columns, augment=smartaug.CutMix(), target=[1, 2, 3])
    for target, rows in zip(made, (F.one_hot(INTEGERS).float(), SEVERAL, HALVES[:, None]), strict=True):
        assert torch.allclose(target.soft, torch.lerp(rows[partner], rows, share))
        assert torch.equal(target.index, torch.arange(B))
    nested = [(IMAGES[row], (int(INTEGERS[row]), int(INTEGERS[row] % 2))) for row in range(B)]
    loader = smartaug.DataLoader(nested, B, augment=smartaug.CutMix(), target=1, seed=0)
    _, (first, second) = next(iter(loader))
    assert first.soft.shape == (B, 4)
    assert second.soft.shape == (B, 2)  # each as wide as its own labels


def test_of_several_labels_a_regression_is_the_floats():
    columns, arguments = (IMAGES, INTEGERS, WHOLE), {"target": [1, 2]}
    _, label, value = loaded(*columns, augment=smartaug.MixUp(regression=True), **arguments)
    assert (label.soft.shape, value.soft.shape) == ((B, 4), (B, 1))
    with pytest.raises(TypeError, match="whole numbers stored as float32"):
        loaded(*columns, augment=smartaug.MixUp(), **arguments)
    with pytest.raises(ValueError, match=r"num_classes=4 .* 2 labels; leave it out"):
        loaded(*columns, augment=smartaug.MixUp(num_classes=4), **arguments)
    with pytest.raises(ValueError, match=r"regression=True and num_classes=4"):
        loaded(*columns, augment=[smartaug.MixUp(regression=True), smartaug.CutMix(num_classes=4)])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"target": []}, "names no leaf"),
        ({"target": [1, 1], "augment": smartaug.MixUp()}, "names a leaf twice"),
        ({"target": [1, 5], "augment": smartaug.MixUp()}, "target=5 is not in the batch"),
        ({"target": [1, 2], "reweight": lambda batch, trace: (None, None)}, "learns from one label"),
        ({"target": [1, 2], "coreset": smartaug.Coreset(0.5)}, r"records the outputs for one label.*RandomSubset"),
        ({"target": [1, 2], "returns": "batch"}, 'returns="batch" holds one target'),
    ],
)
def test_lists_that_cannot_be_are_named(arguments, match):
    data = TensorDataset(IMAGES, INTEGERS, SEVERAL)
    with pytest.raises(ValueError, match=match):
        next(iter(smartaug.DataLoader(data, B, **{"augment": smartaug.Flip(), **arguments})))


# --- the labels that a dataset keeps ---------------------------------------------------------------------------------


class Kept(TensorDataset):
    """Labels under targets, changed by a target_transform, or by the dataset itself."""

    def __init__(self, labels, transform=None, change=lambda label: label):
        super().__init__(torch.rand(len(labels), 3, 8, 8), labels)
        self.targets, self.target_transform, self.change = labels.tolist(), transform, change

    def __getitem__(self, row):
        label = self.change(int(self.targets[row]))
        return self.tensors[0][row], label if self.target_transform is None else self.target_transform(label)


def drawn(dataset, **arguments):
    chosen = smartaug.Coreset(0.2, balanced=True, select=smartaug.coreset.Uniform())
    loader = smartaug.DataLoader(dataset, 10, augment=smartaug.Flip(), coreset=chosen, **arguments)
    return torch.bincount(torch.cat([torch.as_tensor(batch[1]) for batch in loader]))


def test_classes_are_counted_by_the_label_that_reaches_the_loss():
    labels, images = torch.tensor([0] * 90 + [1] * 10), torch.rand(100, 3, 8, 8)
    assert drawn(Kept(labels)).tolist() == [10, 10]
    three = TensorDataset(images, labels, torch.arange(100) // 10)
    assert drawn(three, target=1).tolist() == [10, 10]
    assert drawn(Subset(three, range(100)), target=-2).tolist() == [10, 10]
    with pytest.raises(ValueError, match=r"balanced=True needs.*target=1"):
        drawn(three)
    with pytest.raises(ValueError, match=r"balanced=True needs.*target_transform"):
        drawn(Kept(labels, transform=lambda label: 1 - label))
    with pytest.raises(ValueError, match=r"sample \d+ has label 0 there but 1 in the batch"):
        drawn(Kept(labels, change=lambda label: 1 - label))
    with pytest.raises(ValueError, match="balanced=True needs"):
        drawn(Subset(Kept(labels, transform=lambda label: 1 - label), range(100)))


def test_which_column_holds_the_labels():
    three = TensorDataset(IMAGES, INTEGERS, INTEGERS % 2)
    assert labels_of(three) is None
    assert labels_of(three, "label") is None
    assert torch.equal(labels_of(three, 1), INTEGERS)
    assert torch.equal(labels_of(Subset(three, [3, 0]), -1), (INTEGERS % 2)[[3, 0]])
    assert torch.equal(labels_of(TensorDataset(IMAGES, INTEGERS[:, None])), INTEGERS)
    chosen = Subset(TensorDataset(IMAGES, INTEGERS), [*range(1, len(INTEGERS)), 0])
    wrapped = smartaug.AugmentedDataset(chosen, torch.clone)  # it passes `indices` on, which are not its own
    assert torch.equal(labels_of(wrapped), INTEGERS.roll(-1))
    assert torch.equal(labels_of(Subset(wrapped, [0, 2])), INTEGERS.roll(-1)[[0, 2]])
    assert labels_of(TensorDataset(IMAGES)) is None


# --- what callables return -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weight", "soft", "match"),
    [
        (torch.full((B,), -1.0), None, "must not be negative, it holds -1"),
        (torch.tensor([2.0, -1e-3] * 4), None, "must not be negative"),
        (torch.zeros(B), None, "0 for all 8 samples"),
        (None, torch.ones(B, 4), r"row 0 sums to 4.*softmax"),
        (None, SOFT * 0.5, "sums to 0.5"),
        (None, torch.tensor([[1.5, -0.5, 0, 0]] * B), "must hold probabilities"),
        (None, SOFT[:, :2] / SOFT[:, :2].sum(1, keepdim=True), "soft has 2 columns and the batch a label 3"),
    ],
)
def test_weights_and_labels_that_would_spoil_the_loss_are_refused(weight, soft, match):
    with pytest.raises(ValueError, match=rf"(?s)reweight stage .*samples.*{match}"):
        loaded(IMAGES, INTEGERS, augment=None, reweight=lambda batch, trace: (weight, soft))


@pytest.mark.parametrize("bad", [1e38, torch.inf, torch.nan, -torch.inf])
def test_weights_no_loss_can_hold_fall_back(bad):
    loader = smartaug.DataLoader(
        TensorDataset(IMAGES, INTEGERS), B, reweight=lambda batch, trace: (torch.tensor([bad] + [1.0] * 7), SOFT)
    )
    with pytest.warns(UserWarning, match="not finite"):
        _, target = next(iter(loader))
    assert torch.equal(target.weight, torch.ones(B))
    assert target.soft is None
    assert loader.stats()["fallbacks"] == 1


def test_labels_of_several_columns_need_not_sum_to_one():
    rule = lambda batch, trace: (None, batch.target * 0.9)  # noqa: E731
    _, target = loaded(IMAGES, SEVERAL, augment=None, reweight=rule)
    assert torch.equal(target.soft, SEVERAL * 0.9)
    with pytest.raises(ValueError, match="soft has 2 columns and the target 4"):
        loaded(IMAGES, SEVERAL, augment=None, reweight=lambda batch, trace: (None, SEVERAL[:, :2]))
