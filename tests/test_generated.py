"""Real and generated samples in one dataset: which are weighed, in which shares they are drawn."""

import copy
import pickle
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

import smartaug
from smartaug._base.real_samples import real_samples
from smartaug.loading.samplers.share import ShareSampler


def part(count, label, start=0.0):
    return TensorDataset(start + torch.rand(count, 3), torch.full((count,), label))


class Verdict:
    """A reweighter that gives each sample a weight of its own and moves every label to class 0."""

    def __call__(self, batch, trace):
        weight = batch.index.double() + 1
        soft = torch.zeros(len(weight), 3, dtype=torch.float64)
        soft[:, 0] = 1
        return weight / weight.mean(), soft


def batches(dataset, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", smartaug.NoEffectWarning)
        loader = smartaug.DataLoader(dataset, batch_size=6, reweight=Verdict(), device="cpu", seed=0, **settings)
        return [target for _, target in loader]


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda data: data,
        lambda data: Subset(data, [9, 0, 3, 7, 1, 10]),
        copy.deepcopy,
        lambda data: smartaug.AugmentedDataset(Subset(data, [9, 0, 3, 7, 1, 10]), torch.clone),
    ],
)
def test_real_samples_keep_weight_one_and_their_label(wrapped):
    dataset = wrapped(smartaug.Generated(part(4, 1), part(8, 2)))
    real = real_samples(dataset)
    for target in batches(dataset):
        kept = real[target.index]
        assert (target.weight[kept] == 1).all()
        assert torch.equal(target.soft[kept], torch.eye(3, dtype=torch.float64)[target.plain[kept]])
        wanted = (target.index[~kept] + 1).double()
        torch.testing.assert_close(target.weight[~kept], wanted / wanted.mean())
        assert (target.soft[~kept, 0] == 1).all()


def test_generated_samples_that_a_method_rejects_stay_rejected():
    class Rejects:
        def __call__(self, batch, trace):
            weight = (batch.index < 3).double()
            return weight / weight.mean(), None

    loader = smartaug.DataLoader(smartaug.Generated(part(3, 1), part(3, 2)), batch_size=6, reweight=Rejects(), seed=0)
    (target,) = (target for _, target in loader)
    assert target.weight.tolist() == [1, 1, 1, 0, 0, 0]


def test_without_index_real_samples_cannot_be_told():
    def merged(samples):
        inputs, labels = zip(*samples, strict=True)
        return torch.stack(inputs).unfold(0, 2, 2).mean(2), torch.stack(labels)[::2]

    class Even:
        def __call__(self, batch, trace):
            return torch.ones(len(batch.target)), None

    dataset = smartaug.Generated(part(4, 1), part(8, 2))
    with pytest.raises(ValueError, match="tells real from generated samples by index"):
        list(smartaug.DataLoader(dataset, batch_size=6, reweight=Even(), collate_fn=merged, seed=0))


def test_plain_rows_beside_appended_copies_are_not_weighed():
    images = torch.randint(0, 255, (12, 3, 8, 8), dtype=torch.uint8)
    coreset = smartaug.Coreset(0.5, apply="append", select=smartaug.coreset.RandomSubset())
    data = TensorDataset(images, torch.ones(12, dtype=torch.int64))
    for target in batches(data, augment=smartaug.Flip(), coreset=coreset):
        copies = len(target) - 6
        assert copies > 0
        assert (target.weight[:6] == 1).all()
        wanted = (target.index[6:] + 1).double()
        torch.testing.assert_close(target.weight[6:], wanted / wanted.mean())
        assert torch.equal(target.soft[:6, 1], torch.ones(6, dtype=torch.float64))


def test_a_real_reweighter_leaves_real_samples_alone_and_does_not_warn_of_them():
    clean = TensorDataset(torch.randn(12, 4), torch.arange(12) % 3)
    model = nn.Linear(4, 3)
    dataset = smartaug.Generated(clean, TensorDataset(torch.randn(24, 4), torch.arange(24) % 3), repeat=2)
    loader = smartaug.DataLoader(dataset, batch_size=16, reweight=smartaug.SAFLEX(model, clean, shrunk=True), seed=0)
    criterion = smartaug.Loss(nn.CrossEntropyLoss())
    for inputs, target in loader:
        assert torch.isfinite(criterion(model(inputs), target))
        assert (target.weight[target.index < 24] == 1).all()
    both = ConcatDataset([clean, dataset.datasets[-1]])  # weighed as well, beside others: no reason to warn
    smartaug.DataLoader(both, reweight=smartaug.SAFLEX(model, clean), seed=0)


def test_length_labels_and_pickling():
    dataset = smartaug.Generated(part(4, 1), part(6, 2), repeat=3)
    assert len(dataset) == 18
    assert dataset.is_real.tolist() == [True] * 12 + [False] * 6
    assert dataset.targets.tolist() == [1] * 12 + [2] * 6
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again.is_real, dataset.is_real)
    assert torch.equal(again[13][0], dataset[13][0])
    assert real_samples(part(2, 0)) is None
    assert real_samples(ConcatDataset([part(2, 0), dataset])).tolist() == [False] * 2 + dataset.is_real.tolist()


class Inputs(Dataset):
    """Generated inputs without labels."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return torch.full((3,), float(index))


class NoLabels(Dataset):
    """Samples whose labels are known only by reading them."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.zeros(3), 10 * index


@pytest.mark.parametrize(("real", "wanted"), [(part(4, 7), [7, 7, 7]), (NoLabels(), [30, 0, 30])])
def test_generated_inputs_take_the_label_of_their_source(real, wanted):
    dataset = smartaug.Generated(real, Inputs(), source=[3, 0, 3])
    assert [dataset[4 + n][1] for n in range(3)] == wanted
    assert torch.equal(dataset[5][0], torch.ones(3))


def test_arguments_that_do_not_fit_are_named():
    with pytest.raises(TypeError, match=r"generated must be a map-style dataset.*ImageFolder"):
        smartaug.Generated(part(4, 1), "folder")
    with pytest.raises(ValueError, match="repeat must be"):
        smartaug.Generated(part(4, 1), part(4, 1), repeat=0)
    for source in ([0, 1], [0.5, 1.0, 2.0], [0, 1, 4]):
        with pytest.raises(ValueError, match="source must"):
            smartaug.Generated(part(4, 1), Inputs(), source=source)
    with pytest.raises(ValueError, match="share must be"):
        smartaug.Generated(part(4, 1), part(4, 1)).sampler(1.5)
    with pytest.raises(ValueError, match="needs marked samples"):
        ShareSampler(torch.zeros(3, dtype=torch.bool), 0.5)
    with pytest.raises(AttributeError, match="targets"):
        _ = smartaug.Generated(NoLabels(), part(2, 1)).targets


@settings(max_examples=60, deadline=None)
@given(
    real=st.integers(1, 9),
    generated=st.integers(1, 9),
    share=st.floats(0, 1),
    size=st.integers(1, 12),
    seed=st.integers(0, 9),
)
def test_every_batch_has_its_share_and_every_sample_its_turn(real, generated, share, size, seed):
    dataset = smartaug.Generated(part(real, 0), part(generated, 1))
    drawn = list(dataset.sampler(share, generator=torch.Generator().manual_seed(seed)))
    assert drawn == list(dataset.sampler(share, generator=torch.Generator().manual_seed(seed)))
    assert len(drawn) == len(dataset)
    marked = [int(~dataset.is_real[row]) for row in drawn]
    for start in range(len(drawn) - size + 1):
        assert abs(sum(marked[start : start + size]) - share * size) <= 1 + 1e-6
    for kind, members in ((0, real), (1, generated)):
        rows = [row for row, is_marked in zip(drawn, marked, strict=True) if is_marked == kind]
        for turn in range(0, len(rows), members):  # each pass over a part is a permutation of it
            assert len(set(rows[turn : turn + members])) == len(rows[turn : turn + members])


def test_a_share_resumes_in_mid_epoch():
    def make():
        dataset = smartaug.Generated(part(5, 0), part(11, 1))
        torch.manual_seed(3)
        return smartaug.DataLoader(dataset, batch_size=4, sampler=dataset.sampler(0.5), reweight=Verdict(), seed=0)

    first = make()
    whole = [(target.weight, target.index.tolist())[1] for _ in range(2) for _, target in first]
    second = make()
    running = iter(second)
    begun = [next(running)[1] for _ in range(2)]
    assert all(len(target.weight) == 4 for target in begun)
    state = second.state_dict()
    third = make()
    third.load_state_dict(state)
    rest = [(target.weight, target)[1] for _, target in third]
    assert [target.index.tolist() for target in [*begun, *rest]] == whole[:4]


@pytest.mark.parametrize(
    "wrong", [lambda m: m.to(torch.uint8), lambda m: m.long(), lambda m: m.tolist(), lambda m: m[None]]
)
def test_a_mask_of_numbers_is_refused(wrong):
    """The complement of 0 and 1 in whole numbers is nowhere 0, so that every sample counted as one of the others."""
    from smartaug.loading.samplers.share import ShareSampler

    with pytest.raises(TypeError, match=r"marked must be a mask .* write marked.bool\(\)"):
        ShareSampler(wrong(torch.arange(8) > 3), 0.5)
