"""Subsets: exactly the selected samples, each once, the same number of batches in every epoch."""

import pytest
import torch
from torch.utils.data import DataLoader as TorchDataLoader

import smartaug
from smartaug import coreset
from tests.data import Numbered, add_constant, numbers


def half(amount=0.5, **settings):
    """A coreset that needs no model."""
    return smartaug.Coreset(amount, select=coreset.Uniform(), **settings)


WORKERS = {"0": {}, "2": {"num_workers": 2}, "persistent": {"num_workers": 2, "persistent_workers": True}}


@pytest.mark.parametrize("workers", WORKERS.values(), ids=WORKERS)
def test_an_epoch_draws_the_selection_once(workers):
    chosen = smartaug.Coreset(0.3, every=2, select=coreset.Uniform())
    loader = smartaug.DataLoader(
        Numbered(), batch_size=4, shuffle=True, coreset=chosen, augment=add_constant, seed=2, **workers
    )
    assert len(loader) == 2
    epochs = []
    for epoch in range(4):
        drawn = []
        for images, target in loader:
            assert numbers(images) == target.index.tolist()
            drawn += target.index.tolist()
        assert sorted(drawn) == chosen.selection(epoch, 20, 2)[0].tolist()
        epochs.append(drawn)
    assert sorted(epochs[0]) == sorted(epochs[1]) != sorted(epochs[2])
    assert epochs[0] != epochs[1]  # the same samples in another order
    assert loader.steps(10) == 20


def test_order_and_selection_draw_nothing_global():
    loader = smartaug.DataLoader(Numbered(), batch_size=4, shuffle=True, coreset=half(8), seed=2)
    list(loader)  # torch's own draws happen in iter()
    before = torch.get_rng_state()
    list(loader.sampler)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("fraction", [0.0, 1.5, -0.1, 0, True, "half"])
def test_fractions_that_make_no_sense(fraction):
    with pytest.raises(ValueError, match=r"fraction must be a float in \(0, 1\] or a number of samples"):
        smartaug.Coreset(fraction)


def test_more_than_there_is():
    with pytest.raises(ValueError, match="asks for more samples than the dataset's 20"):
        smartaug.DataLoader(Numbered(), coreset=smartaug.Coreset(21))
    with pytest.raises(ValueError, match="every must be a number of epochs"):
        smartaug.Coreset(0.5, every=0)
    with pytest.raises(TypeError, match=r"select got the class .*select=RandomSubset"):
        smartaug.Coreset(0.5, select=coreset.Uniform)


def test_a_coreset_of_everything_warns():
    with pytest.warns(smartaug.NoEffectWarning, match="selects nothing"):
        smartaug.DataLoader(Numbered(), coreset=smartaug.Coreset(1.0))


def test_criteria_by_the_protocol_bring_weights_into_the_target():
    def loudest(embedding, budget, generator):
        return torch.arange(budget) * 2, torch.arange(1.0, budget + 1)

    loudest.reads = ()

    chosen = smartaug.Coreset(4, select=loudest, weights=float("inf"))
    loader = smartaug.DataLoader(Numbered(), batch_size=4, coreset=chosen, augment=add_constant)
    images, target = next(iter(loader))
    assert numbers(images) == [0, 2, 4, 6]
    assert torch.allclose(target.weight, torch.tensor([1.0, 2.0, 3.0, 4.0]) / 2.5)


def test_any_object_that_follows_the_protocol_is_a_coreset():
    class Odd:
        seen = ()

        def budget(self, size):
            return size // 2

        def selection(self, epoch, size, seed):
            return torch.arange(1, size, 2), None

        def observe(self, index, output, target, unmixed):
            self.seen += (index.tolist(), output.requires_grad, type(target), unmixed)

    odd = Odd()
    loader = smartaug.DataLoader(Numbered(), batch_size=5, coreset=odd)
    criterion = smartaug.Loss(torch.nn.CrossEntropyLoss())
    _, target = next(iter(loader))
    criterion(torch.randn(5, 4, requires_grad=True), target).backward()
    assert target.index.tolist() == [1, 3, 5, 7, 9]
    assert odd.seen == ([1, 3, 5, 7, 9], False, torch.Tensor, None)


def test_rows_with_mixed_labels_are_marked():
    class Looking(smartaug.Coreset):
        def observe(self, index, output, target, unmixed):
            self.looked = unmixed

    loader = smartaug.DataLoader(
        Numbered(), batch_size=5, coreset=Looking(0.5), augment=smartaug.CutMix(p=0.5, num_classes=4)
    )
    for _, target in loader:
        smartaug.Loss(torch.nn.CrossEntropyLoss())(torch.randn(5, 4), target)
        assert torch.equal(loader.coreset.looked, (target.soft == 1).any(1))
        assert 0 < int(loader.coreset.looked.sum()) < 5


@pytest.mark.parametrize("shuffle", [False, True])
def test_sampler_with_given_indices_works_in_torchs_loader(shuffle):
    sampler = smartaug.CoresetSampler([7, 3, 11], shuffle=shuffle, seed=1)
    loader = TorchDataLoader(Numbered(), batch_size=2, sampler=sampler)
    epochs = [torch.cat([images.flatten(1)[:, 0] * 1000 for images, _ in loader]).round().tolist() for _ in range(6)]
    assert all(sorted(epoch) == [3, 7, 11] for epoch in epochs)
    assert (len({tuple(epoch) for epoch in epochs}) > 1) == shuffle
    sampler.set_epoch(2)
    assert torch.cat([images.flatten(1)[:, 0] * 1000 for images, _ in loader]).round().tolist() == epochs[2]


def test_sampler_weights_reach_the_loss():
    sampler = smartaug.CoresetSampler(torch.tensor([5, 1, 9]), weights=[1.0, 0.0, 5.0], shuffle=False)
    loader = smartaug.DataLoader(Numbered(), batch_size=3, sampler=sampler)
    _, target = next(iter(loader))
    assert target.index.tolist() == [5, 1, 9]
    assert torch.allclose(target.weight, torch.tensor([0.5, 0.0, 2.5]))
    output = torch.randn(3, 4)
    rows = torch.nn.functional.cross_entropy(output, target.plain, reduction="none")
    assert torch.allclose(smartaug.Loss(torch.nn.CrossEntropyLoss())(output, target), (target.weight * rows).sum() / 3)
    assert sampler.weight_of(torch.tensor([9, 4]), epoch=0).tolist() == pytest.approx([2.5, 1.0])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"selected": [-1]}, "must be integers ≥ 0"),
        ({"selected": [0.5]}, "must be integers ≥ 0"),
        ({"selected": [1, 2], "weights": [1.0]}, "weights must be 2 finite numbers"),
        ({"selected": [1, 2], "weights": [1.0, float("inf")]}, "weights must be 2 finite numbers"),
        ({"selected": [1, 2, 1]}, "repeat some samples"),
        ({"selected": torch.tensor([True, False])}, r"take mask.nonzero\(\).flatten\(\)"),
        ({"selected": [1, 2], "weights": [0.0, 0.0]}, "positive sum"),
        ({"selected": [21], "size": 20}, "index 21 is selected from a dataset of 20"),
        ({"selected": smartaug.Coreset(0.5)}, "needs the dataset's length"),
    ],
)
def test_bad_selections(arguments, match):
    with pytest.raises(ValueError, match=match):
        smartaug.CoresetSampler(**arguments)


def test_uniform_is_uniform():
    criterion, generator = coreset.Uniform(), torch.Generator().manual_seed(1)
    embedding = smartaug.Embedding(torch.empty(10, 0))
    drawn = torch.cat([criterion(embedding, 3, generator)[0] for _ in range(3000)])
    counts = torch.bincount(drawn, minlength=10)
    assert float(((counts - 900) ** 2 / 900).sum()) < 27.9  # chi-square, 9 degrees of freedom, p = 0.001


def test_a_coreset_needs_no_images():
    tokens = [{"input_ids": torch.arange(5) + i, "labels": torch.tensor(i % 2)} for i in range(20)]
    loader = smartaug.DataLoader(tokens, batch_size=5, coreset=half())
    batch = next(iter(loader))
    assert torch.equal(batch["input_ids"][:, 0], batch["labels"].index)


class Growing(smartaug.Coreset):
    """Weights that tell the epoch: index + 1 times the epoch's own factor, before they are scaled."""

    def selection(self, epoch, size, seed):
        indices, _ = super().selection(epoch, size, seed)
        return indices, (indices + 1.0) * (epoch + 1) + 10.0 * epoch


@pytest.mark.parametrize("workers", [0, 2])
def test_weights_belong_to_the_batchs_own_epoch(workers):
    chosen = Growing(0.5, select=coreset.Uniform())
    loader = smartaug.DataLoader(Numbered(), batch_size=5, coreset=chosen, seed=1, num_workers=workers)

    def expected(epoch, index):
        indices, weights = chosen.selection(epoch, 20, 1)
        scaled = dict(zip(indices.tolist(), (weights / weights.mean()).tolist(), strict=True))
        return torch.tensor([scaled[i] for i in index.tolist()])

    one = iter(loader)
    first = next(one)[1]
    other = iter(loader)
    second = next(other)[1]
    list(loader.sampler)  # a look at what comes next changes nothing
    third = next(one)[1]
    for epoch, target in ((0, first), (1, second), (0, third)):
        assert torch.allclose(target.weight, expected(epoch, target.index))


@pytest.mark.parametrize("workers", [0, 2])
def test_selection_and_stages_agree_on_the_epoch(workers):
    chosen = half()
    loader = smartaug.DataLoader(
        Numbered(), batch_size=5, coreset=chosen, augment=add_constant, seed=1, num_workers=workers
    )
    iter(loader)  # begun and dropped
    for epoch in (0, 1):
        drawn = [i for _, target in loader for i in target.index.tolist()]
        assert sorted(drawn) == chosen.selection(epoch, 20, 1)[0].tolist()
        assert loader.stats()["epoch"] == epoch


def test_without_a_seed_a_resumed_run_selects_the_same():
    torch.manual_seed(5)
    loader = smartaug.DataLoader(Numbered(), batch_size=5, coreset=half())
    list(loader)
    state = loader.state_dict()
    rest = [target.index.tolist() for _, target in loader]
    torch.manual_seed(6)
    resumed = smartaug.DataLoader(Numbered(), batch_size=5, coreset=half())
    resumed.load_state_dict(state)
    assert [target.index.tolist() for _, target in resumed] == rest


@pytest.mark.parametrize(
    ("made", "match"),
    [
        (lambda: torch.arange(10), r"must select \(indices, weights\), it returned Tensor"),
        (lambda: (torch.arange(9), None), "selected 9 samples of a budget of 10"),
        (lambda: (torch.arange(10), torch.full((10,), float("nan"))), "finite numbers"),
    ],
)
def test_what_a_criterion_selects_is_checked(made, match):
    def select(embedding, budget, generator):
        return made()

    select.reads = ()
    loader = smartaug.DataLoader(Numbered(), coreset=smartaug.Coreset(0.5, select=select))
    with pytest.raises((TypeError, ValueError), match=match):
        next(iter(loader))


def test_weights_are_never_dropped_silently():
    def doubled(samples):
        return torch.utils.data.default_collate([*samples, *samples])

    def unknown(samples):  # rows that hold nothing of any sample
        images, labels = doubled(samples)
        return images + torch.rand(4, 1, 1, 1), labels + 100

    sampler = smartaug.CoresetSampler([1, 2, 3, 4], [1.0, 2.0, 3.0, 4.0])
    loader = smartaug.DataLoader(Numbered(), batch_size=2, sampler=sampler, collate_fn=unknown)
    with pytest.raises(ValueError, match="made 4 rows that are not its samples"):
        next(iter(loader))
    _, target = next(iter(smartaug.DataLoader(Numbered(), batch_size=2, sampler=sampler, collate_fn=doubled)))
    assert torch.allclose(target.weight, torch.tensor([0.4, 0.8, 1.2, 1.6])[target.index - 1])
    square = [{"attention": torch.eye(6), "label": i} for i in range(8)]

    def once(samples):
        return {"attention": samples[0]["attention"], "label": torch.tensor([sample["label"] for sample in samples])}

    loader = smartaug.DataLoader(square, batch_size=2, sampler=sampler, collate_fn=once)
    target = next(iter(loader))["label"]
    assert torch.allclose(target.weight, torch.tensor([0.4, 0.8, 1.2, 1.6])[target.index - 1])


def test_seeds_and_numpy_fractions():
    import numpy as np

    chosen = smartaug.Coreset(np.float32(0.5), every=1)
    selections = {tuple(chosen.selection(0, 40, seed)[0].tolist()) for seed in (-1, -2, 0, 1, 2**61 - 1)}
    assert len(selections) == 5
    assert smartaug.Coreset(np.int64(5)).budget(20) == 5


@pytest.mark.parametrize("size", [10, 30])
def test_a_criterion_made_for_another_dataset_is_refused(size):
    dataset = torch.utils.data.TensorDataset(torch.rand(20, 3), torch.arange(20) % 2)
    criterion = smartaug.coreset.AugmentationVariance(torch.ones(size))
    loader = smartaug.DataLoader(dataset, batch_size=5, coreset=smartaug.Coreset(10, select=criterion))
    with pytest.raises(ValueError, match=f"a dataset of {size} samples and this one has 20"):
        list(loader)
