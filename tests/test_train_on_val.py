"""`train_on_val=`: validation samples in the training set at weight 1, and the measured over-fitting of the judge."""

import copy
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, TensorDataset
from torchvision.transforms import v2

import smartaug
from smartaug._base.real_samples import real_samples
from smartaug.reweight import judge
from smartaug.reweight.judge import Judge
from smartaug.reweight.validation import ValidationBatches

DRAW = torch.Generator().manual_seed(0)
ROWS, LABELS = torch.randn(48, 5, generator=DRAW), torch.arange(48) % 3
HELD, HELD_LABELS = torch.randn(12, 5, generator=DRAW) + 100, torch.arange(12) % 3  # each is known by its values
TRAINING = TensorDataset(ROWS, LABELS)
METHODS = ("SAFLEX", "LearningToReweight", "MetaWeightNet")


def judged(held=(HELD, HELD_LABELS), repeats=True, method="SAFLEX", **settings):
    torch.manual_seed(0)
    return getattr(smartaug, method)(nn.Linear(5, 3), held, train_on_val=repeats, validation_batch=6, **settings)


def loader(dataset=TRAINING, reweight=None, **settings):
    return smartaug.DataLoader(dataset, 12, reweight=reweight or judged(), seed=0, **{"shuffle": True, **settings})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("repeats", [1, 3, True])
def test_every_validation_sample_comes_so_often_at_weight_one(method, repeats):
    made = loader(reweight=judged(repeats=repeats, method=method))
    times = 5 if repeats is True else repeats
    assert made.reweight.train_on_val == times
    assert len(made.dataset) == 48 + times * 12
    seen = torch.zeros(12, dtype=torch.int64)
    for rows, target in made:
        judge = rows[:, 0] > 50
        assert (target.weight[judge] == 1).all()
        if target._soft is not None:
            assert torch.equal(target.soft[judge], nn.functional.one_hot(target.plain[judge], 3).float())
        rest = target.weight[~judge]
        assert not rest.any() or float(rest.mean()) == pytest.approx(1, abs=1e-5)
        for row in rows[judge]:
            seen[(row == HELD).all(1)] += 1
    assert (seen == times).all()


@pytest.mark.parametrize(
    "held",
    [
        TensorDataset(HELD, HELD_LABELS),
        [(row, int(label)) for row, label in zip(HELD, HELD_LABELS, strict=True)],
        (HELD.numpy(), HELD_LABELS.numpy()),
    ],
    ids=["tensors", "numbers", "arrays"],
)
@pytest.mark.parametrize("numbers", [False, True])
def test_labels_of_other_types_fit_into_a_batch(held, numbers):
    training = [(row, int(label)) for row, label in TRAINING] if numbers else TRAINING
    for rows, target in loader(training, judged(held)):
        assert rows.shape[1] == 5
        assert target.weight.shape == target.shape
        assert target.dtype == torch.int64


def test_dicts_and_several_inputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.embedding = nn.Linear(5, 3), nn.Embedding(3, 3)

        def forward(self, num, cat):
            return self.linear(num) + self.embedding(cat)

    codes = torch.arange(48) % 3
    reweight = smartaug.SAFLEX(Two(), ({"num": HELD, "cat": codes[:12]}, HELD_LABELS), train_on_val=2)
    made = smartaug.DataLoader(({"num": ROWS, "cat": codes}, LABELS), 12, reweight=reweight, shuffle=True, seed=0)
    batch = next(iter(made))
    assert list(batch) == ["num", "cat", "label"]
    assert len(made.dataset) == 48 + 24


def test_a_loader_that_is_built_again_adds_them_once():
    made = loader()
    kept = {name: getattr(made, name) for name in ("reweight", "seed", "inputs", "target")}
    sampler = torch.utils.data.SequentialSampler(made.dataset)  # as Lightning puts one in
    again = smartaug.DataLoader(made.dataset, 12, sampler=sampler, collate_fn=made.collate_fn, **kept)
    assert len(again.dataset) == len(made.dataset) == 48 + 60
    copied = copy.deepcopy(made)
    assert copied.dataset.judge is not None
    assert len(list(copied)) == len(made)
    assert pickle.loads(pickle.dumps(judged())).train_on_val == 5


def test_a_twentieth_of_many_judges_alone():
    for count, left in ((499, 0), (500, 25), (2000, 64)):
        held = (torch.randn(count, 5), torch.arange(count) % 3)
        reweight = judged(held)
        reweight.validation.size = 100
        judge = reweight.judge
        assert len(judge.held) == left
        assert sorted(judge.held + judge.trained) == list(range(count))
        made = loader(reweight=reweight)
        assert int(real_samples(made.dataset).sum()) == 5 * (count - left)
        trained = {tuple(made.dataset[row][0].tolist()) for row in range(5 * (count - left))}
        assert trained == {tuple(held[0][row].tolist()) for row in judge.trained}
        drawn = {tuple(row) for step in range(count // 100 + 1) for row in _drawn(reweight.validation, step)}
        assert len(drawn) == count  # all of them judge


def _drawn(batches, step):
    return batches.batch(step, torch.device("cpu"))[0].tolist()


class Stream(IterableDataset):
    def __iter__(self):
        yield from TRAINING


REFUSED = {
    "a sampler": (lambda: loader(sampler=range(48), shuffle=None), r"sampler= .* smartaug.Generated\(validation"),
    "a batch sampler": (
        lambda: smartaug.DataLoader(TRAINING, batch_sampler=[[0, 1]], reweight=judged()),
        r"batch_sampler= do not reach",
    ),
    "a stream": (lambda: loader(Stream(), shuffle=None), r"train_on_val= needs a training set with indices"),
    "wrap": (lambda: smartaug.wrap([], reweight=judged()), r"wrap\(loader\) has none; load batches from smartaug.Gen"),
    "Collate": (lambda: smartaug.Collate(reweight=judged()), r"Collate has none"),
    "another form": (
        lambda: loader([{"x": row, "y": int(label)} for row, label in TRAINING]),
        r"training set, which are \['x'\]: float32 \(5,\), .* val_set's are \[0\]: .* same form and transforms",
    ),
    "images": (lambda: loader(TensorDataset(torch.rand(48, 3, 4, 4), LABELS)), r"give both the same form"),
    "less than none": (lambda: judged(repeats=-1), r"train_on_val must be how often .* train_on_val=True, which is 5"),
    "a share": (lambda: judged(repeats=0.5), r"got 0.5"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_on_is_refused(name):
    make, words = REFUSED[name]
    with pytest.raises(ValueError, match=words):
        make()


# --- the measured over-fitting ---------------------------------------------------------------------------------------


class Lookup(nn.Module):
    """Knows the samples that it is told by heart, and nothing of the others."""

    def __init__(self, known):
        super().__init__()
        self.known, self.scale = known, nn.Parameter(torch.tensor(20.0))

    def forward(self, rows):
        row = rows[:, 0].long()
        right = nn.functional.one_hot(row % 3, 3).float()
        return self.scale * right * torch.isin(row, self.known)[:, None]


def looked(known, repeats=5):
    numbers = torch.arange(600)
    batches = ValidationBatches((numbers[:, None].float(), numbers % 3), 16)
    judge = Judge(batches, repeats)
    model = Lookup(torch.tensor(judge.trained if known == "trained" else range(600)))
    for step in range(0, 151, 50):
        judge.look(model, step, torch.device("cpu"), False, "SAFLEX")
    return judge


def test_a_judge_that_is_known_by_heart_is_told_once():
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        judge = looked("trained")
    (warning,) = told
    assert issubclass(warning.category, smartaug.NoEffectWarning)
    assert "learned by heart" in str(warning.message)
    assert "train_on_val=2" in str(warning.message)
    assert judge.losses[0] < 1e-6
    assert judge.losses[1] == pytest.approx(torch.tensor(3.0).log().item(), abs=1e-5)  # it knows nothing: log 3
    assert judge.stats() == {"loss_trained": judge.losses[0], "loss_held_out": judge.losses[1]}


def test_a_judge_whose_model_knows_the_others_too_is_not():
    judge = looked("all")  # warnings are errors
    assert judge.losses[1] < 1e-6
    assert looked("trained", repeats=0).losses is None


def test_the_losses_are_measured_in_training(monkeypatch):
    """Labels drawn at random cannot be known but by heart."""
    monkeypatch.setattr(judge, "_EVERY", 10)
    torch.manual_seed(0)
    monkeypatch.setattr(judge, "_LEAST", 100)
    rows, labels = torch.randn(150, 8), torch.randint(2, (150,))
    net = nn.Sequential(nn.Linear(8, 128), nn.ReLU(), nn.Linear(128, 2))
    reweight = smartaug.SAFLEX(net, (rows[:100], labels[:100]), train_on_val=20)
    made = smartaug.DataLoader((rows[100:], labels[100:]), 390, shuffle=True, reweight=reweight, seed=0)
    criterion = smartaug.Loss(nn.CrossEntropyLoss())
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)

    def fit():
        for _ in range(16):  # of 5 batches: eight measurements
            for inputs, target in made:
                optimizer.zero_grad()
                criterion(net(inputs), target).backward()
                optimizer.step()

    with pytest.warns(smartaug.NoEffectWarning, match=r"SAFLEX judges by .* learned by heart: .* train_on_val=10"):
        fit()
    figures = made.stats()["reweight"]
    assert figures["loss_trained"] < 0.1 * figures["loss_held_out"]
    assert all(torch.isfinite(part).all() for part in net.parameters())


class Pictures(Dataset):
    """uint8 images whose label is their number; a transform of torchvision."""

    def __init__(self, transform):
        self.transform, self.targets = transform, [number % 3 for number in range(24)]

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, number):
        image = torch.full((3, 6, 6), number, dtype=torch.uint8)
        image[:, :, 0] = 200  # the left edge
        return self.transform(image), self.targets[number]


@pytest.mark.parametrize("lift", [False, True])
@pytest.mark.parametrize("around", [lambda one: one, lambda one: ConcatDataset([one, one])], ids=["one", "joined"])
def test_those_of_another_transform_judge_by_it_and_train_as_the_others(lift, around):
    convert = v2.ToDtype(torch.float32, scale=True)
    own = Pictures(v2.Compose([v2.RandomHorizontalFlip(p=1.0), convert]))
    training, validation = smartaug.split_validation(around(own), 0.25, transform=convert)
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, 3))
    reweight = smartaug.SAFLEX(model, validation, train_on_val=2, validation_batch=6)
    made = loader(training, reweight, lift=lift)
    assert len(made.dataset) == len(training) + 2 * len(validation)
    for images, target in made:
        assert (images[..., -1] > 0.7).all()  # all of them are mirrored
        assert (images[..., 0] < 0.2).all()
        assert target.weight.shape == (len(images),)
    judging, _ = reweight.validation.batch(0, torch.device("cpu"))
    assert (judging[..., 0] > 0.7).all()
    assert made._pipeline is not None
    assert (made._pipeline.lifted is not None) == lift


def test_those_of_another_dataset_keep_their_transform():
    """Also where the training set wraps the dataset that they were split from, and transforms its samples itself."""
    convert = v2.ToDtype(torch.float32, scale=True)
    training, validation = smartaug.split_validation(Pictures(v2.Identity()), 0.25, transform=convert)
    wrapped = smartaug.AugmentedDataset(training, v2.Compose([v2.RandomHorizontalFlip(p=1.0), convert]))
    reweight = smartaug.SAFLEX(nn.Sequential(nn.Flatten(), nn.Linear(108, 3)), validation, train_on_val=1)
    made = loader(wrapped, reweight)
    held = len(validation)
    assert all((made.dataset[number][0][..., 0] > 0.7).all() for number in range(held))
    assert all((made.dataset[number][0][..., -1] > 0.7).all() for number in range(held, len(made.dataset)))


def test_a_dataset_that_cannot_be_copied_keeps_its_transform():
    class Single(Pictures):
        def __copy__(self):
            return self

    convert = v2.ToDtype(torch.float32, scale=True)
    dataset = Single(convert)
    with pytest.raises(TypeError, match=r"Single cannot be copied.*Subset\(evaluation_set, validation.indices\)"):
        smartaug.split_validation(dataset, 0.25, transform=v2.Identity())
    assert dataset.transform is convert
