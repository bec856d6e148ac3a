"""Every batch knows its dataset indices, stages run exactly once, and passes are numbered, in every setting."""

import itertools

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, Dataset, IterableDataset, RandomSampler, Subset, TensorDataset
from torch.utils.data import DataLoader as TorchDataLoader

import smartaug
from smartaug._base.torch_fetch import Origin, Token
from smartaug.pipeline.epochs import EpochCounter
from tests.data import ADDED, Numbered, Stream, WithGetItems, add_constant, numbers

DATASETS = {
    "plain": Numbered,
    "getitems": WithGetItems,
    "subset": lambda: Subset(Numbered(), list(range(5, 17))),
}
WORKERS = {
    "0": {},
    "2": {"num_workers": 2},
    "persistent": {"num_workers": 2, "persistent_workers": True},
    "out of order": {"num_workers": 2, "in_order": False},
    "not forked": {"num_workers": 2, "multiprocessing_context": "forkserver"},
    "spawn": pytest.param({"num_workers": 2, "multiprocessing_context": "spawn"}, marks=pytest.mark.slow),
}
ORDERS = {
    "shuffle": lambda size: {"batch_size": 3, "shuffle": True},
    "batch_sampler": lambda size: {"batch_sampler": BatchSampler(RandomSampler(range(size)), 3, False)},
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("workers", WORKERS.values(), ids=WORKERS)
@pytest.mark.parametrize("make", DATASETS.values(), ids=DATASETS)
def test_indices_are_right_and_stages_run_once(make, workers, order):
    dataset = make()
    loader = smartaug.DataLoader(dataset, augment=add_constant, **order(len(dataset)), **workers)
    offset = 5 if isinstance(dataset, Subset) else 0
    for epoch in range(2):
        seen = []
        for images, target in loader:
            assert numbers(images) == (target.index + offset).tolist()
            assert target.tolist() == [(i + offset) % 4 for i in target.index.tolist()]
            seen += target.index.tolist()
        assert sorted(seen) == list(range(len(dataset)))
        assert loader.stats()["epoch"] == epoch
    assert loader.stats()["samples"] == 2 * len(dataset)


@pytest.mark.parametrize("workers", [0, 2])
def test_streams_have_no_indices_and_still_run_once(workers):
    loader = smartaug.DataLoader(Stream(), batch_size=3, num_workers=workers, augment=add_constant)
    seen = []
    for images, target in loader:
        assert target.index is None
        seen += numbers(images)
    assert sorted(seen) == list(range(20))


def test_numpy_indices_and_foreign_keys():
    import numpy as np

    loader = smartaug.DataLoader(Numbered(), batch_sampler=[np.array([3, 1])], augment=add_constant)
    assert next(iter(loader))[1].index.tolist() == [3, 1]

    class Keyed(Numbered):
        def __getitem__(self, key):
            return super().__getitem__(int(key))

    loader = smartaug.DataLoader(Keyed(), batch_sampler=[["3", "1"]], augment=add_constant)
    images, target = next(iter(loader))
    assert target.index is None
    assert numbers(images) == [3, 1]


def test_a_collate_function_that_drops_samples_keeps_the_indices_of_the_others():
    def first_half(samples):
        return torch.utils.data.default_collate(samples[: len(samples) // 2])

    loader = smartaug.DataLoader(Numbered(), batch_size=4, collate_fn=first_half, augment=add_constant)
    images, target = next(iter(loader))
    assert target.index.tolist() == [0, 1]
    assert numbers(images) == [0, 1]


def test_collate_outside_a_loader_is_the_inner_function():
    loader = smartaug.DataLoader(Numbered(), batch_size=2, augment=add_constant)
    images, target = loader.collate_fn([loader.dataset[3], loader.dataset[4]])
    assert images[:, 0, 0, 0].tolist() == pytest.approx([0.003, 0.004])
    assert type(target) is torch.Tensor


def test_two_live_iterators_keep_their_own_epoch():
    loader = smartaug.DataLoader(Numbered(), batch_size=10, augment=lambda x: x + torch.rand(1), seed=0)
    whole = [torch.cat([images for images, _ in loader]) for _ in range(2)]
    fresh = smartaug.DataLoader(Numbered(), batch_size=10, augment=lambda x: x + torch.rand(1), seed=0)
    one, other = iter(fresh), iter(fresh)
    mixed = [next(it)[0] for it in (one, other, one, other)]
    assert torch.equal(torch.cat(mixed[0::2]), whole[0])
    assert torch.equal(torch.cat(mixed[1::2]), whole[1])
    assert not torch.equal(whole[0], whole[1])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_pass_that_is_broken_off_counts(workers):
    loader = smartaug.DataLoader(Numbered(), batch_size=3, num_workers=workers, augment=add_constant)
    for epoch in range(3):
        for images, _ in itertools.islice(loader, 2):
            numbers(images)
        assert loader.stats()["epoch"] == epoch


def test_set_epoch_is_heard_wherever_it_is_said():
    loader = smartaug.DataLoader(Numbered(), batch_size=3, shuffle=True, augment=add_constant)
    for tell, epoch in ((loader.set_epoch, 7), (loader.batch_sampler.sampler.set_epoch, 11)):
        tell(epoch)
        next(iter(loader))
        assert loader.stats()["epoch"] == epoch
    next(iter(loader))
    assert loader.stats()["epoch"] == 12
    assert isinstance(loader.batch_sampler.sampler, RandomSampler)


def test_persistent_workers_that_sit_out_an_epoch_do_not_shift_the_count():
    passes = EpochCounter()
    worker = [Origin(None, Token(9, 0, (100, serial))) for serial in range(3)]
    idle = [Origin(None, Token(9, 1, (101, serial))) for serial in range(2)]
    assert passes.of(worker[0]).epoch == 0  # worker 1 gets nothing in the first epoch
    assert [passes.of(token).epoch for token in (worker[1], idle[0])] == [1, 1]
    assert [passes.of(token).epoch for token in (worker[2], idle[1], worker[2])] == [2, 2, 2]


class Itself:
    """A batch sampler that is its own iterator, as Lightning's for predicting is."""

    def __iter__(self):
        self.left = [[4, 5], [2], [0, 1]]
        return self

    def __next__(self):
        if not self.left:
            raise StopIteration
        return self.left.pop()

    def __len__(self):
        return 3


def test_a_batch_sampler_that_is_its_own_iterator():
    loader = smartaug.DataLoader(Numbered(), batch_sampler=Itself(), augment=add_constant)
    for _ in range(2):
        assert [target.index.tolist() for _, target in loader] == [[0, 1], [2], [4, 5]]


def test_stock_loader_with_collate_opens_on_use_and_on_to():
    collate = smartaug.Collate(augment=add_constant, seed=0)
    loader = torch.utils.data.DataLoader(Numbered(), batch_size=4, num_workers=2, collate_fn=collate)
    for position, pending in enumerate(loader):
        images, target = pending if position % 2 else pending.to("cpu")
        again, _ = pending
        assert again is images
        assert numbers(images) == target.index.tolist()
    assert collate.stats()["samples"] == 20


def test_pending_stands_for_a_dict():
    collate = smartaug.Collate(augment=add_constant)
    loader = torch.utils.data.DataLoader(Numbered(structure="dict"), batch_size=4, collate_fn=collate)
    pending = next(iter(loader))
    assert set(pending.keys()) == {"image", "label", "name"}
    assert "label" in pending
    assert len(pending) == 3
    assert dict(**pending)["name"] == [f"sample {i}" for i in range(4)]
    assert numbers(pending["image"]) == [0, 1, 2, 3]
    assert dict(pending.items())["label"].index.tolist() == [0, 1, 2, 3]


def test_a_batch_that_outlived_its_loader_says_so():
    loader = torch.utils.data.DataLoader(Numbered(), batch_size=4, collate_fn=smartaug.Collate(augment=add_constant))
    pending = next(iter(loader))
    del loader
    with pytest.raises(RuntimeError, match="outlived its loader"):
        pending.to("cpu")


def test_wrap_runs_stages_around_any_iterable():
    batches = [(torch.full((2, 1, 4, 4), i / 1000.0), torch.tensor([0, 1])) for i in range(3)]
    wrapped = smartaug.wrap(batches, augment=add_constant, seed=0)
    assert len(wrapped) == 3
    for epoch in range(2):
        for (images, target), (plain, label) in zip(wrapped, batches, strict=True):
            assert torch.equal(images, plain + ADDED)
            assert torch.equal(target.plain, label)
            assert target.index is None
        assert wrapped.stats()["epoch"] == epoch


@pytest.mark.parametrize("before", [[], [smartaug.Flip(0.0)], [smartaug.Erase(1.0)]])
def test_callables_that_work_in_place_do_not_change_the_users_memory(before):
    """Batches may be the user's own memory: in a list, or as a view that a dataset or collate function gives."""
    images, label = torch.rand(3, 2, 3, 4, 4), torch.arange(6).view(3, 2)
    kept, stages = images.clone(), [*before, lambda batch: batch.mul_(0.5)]

    class Views(Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, number):
            return images[number], label[number]

    for loader in (
        smartaug.wrap(list(zip(images, label, strict=True)), augment=stages, seed=0),
        smartaug.DataLoader(Views(), batch_size=None, augment=stages, seed=0),
        smartaug.DataLoader(Views(), 1, collate_fn=lambda samples: samples[0], augment=stages, seed=0),
    ):
        assert len(list(loader)) == 3
        assert torch.equal(images, kept)


def test_wrap_draws_anew_for_every_batch_and_epoch_and_repeats_for_a_seed():
    batches = [torch.rand(4, 3, 8, 8)] * 3
    draws = [
        [list(loader) for _ in range(2)] for loader in [smartaug.wrap(batches, augment=smartaug.Erase(1.0), seed=1)] * 1
    ]
    again = smartaug.wrap(batches, augment=smartaug.Erase(1.0), seed=1)
    flat = [batch for epoch in draws[0] for batch in epoch]
    for one, other in zip(flat, [batch for _ in range(2) for batch in again], strict=True):
        assert torch.equal(one, other)
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(flat, 2))


def test_wrap_forwards_to_the_loader():
    class Loader(list):
        dataset, sampler, told = "data", "sampler", None

        def set_epoch(self, epoch):
            self.told = epoch

    inner = Loader([torch.zeros(1, 1, 2, 2)])
    wrapped = smartaug.wrap(inner, augment=add_constant)
    wrapped.set_epoch(4)
    list(wrapped)
    assert (wrapped.dataset, wrapped.sampler, inner.told, wrapped.stats()["epoch"]) == ("data", "sampler", 4, 4)


def _arrays():
    return [np.arange(first, first + 4) for first in range(0, 12, 4)]


KEYS = {
    "arrays": lambda: {"batch_sampler": _arrays()},
    "numbers of NumPy": lambda: {"batch_sampler": [list(keys) for keys in _arrays()]},
    "tensors": lambda: {"batch_sampler": [torch.from_numpy(keys) for keys in _arrays()]},
    "ranges": lambda: {"batch_sampler": [range(first, first + 4) for first in range(0, 12, 4)]},
    "tuples": lambda: {"batch_sampler": [tuple(keys.tolist()) for keys in _arrays()]},
    "lists of the user's": lambda: {"batch_sampler": [type("Own", (list,), {})(keys.tolist()) for keys in _arrays()]},
}


def jittered(image):
    return image + torch.rand(image.shape)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("keys", KEYS)
def test_keys_of_any_kind_say_their_epoch(keys, workers):
    """Keys that are no list counted every pass twice, in the order and again for the stages."""
    augment = smartaug.Erase(1.0)
    images = torch.randint(0, 256, (12, 3, 8, 8), dtype=torch.uint8)
    augmented = smartaug.AugmentedDataset(TensorDataset(images, torch.arange(12)), jittered, seed=3)
    loader = smartaug.DataLoader(
        Subset(augmented, range(12)), augment=augment, seed=2, num_workers=workers, **KEYS[keys]()
    )
    alone = smartaug.AugmentedDataset(TensorDataset(images, torch.arange(12)), jittered, seed=3)
    for epoch in (0, 1, 7):
        if epoch == 7:
            loader.set_epoch(epoch)
        alone.set_epoch(epoch)
        for batch, target in loader:
            expected = torch.stack([alone[index][0] for index in target.index.tolist()])
            assert torch.equal(batch, augment(expected, index=target.index, epoch=epoch, seed=2))
        assert loader.stats()["epoch"] == epoch


class Named(Dataset):
    """A dataset whose keys are no integers and can carry nothing."""

    def __len__(self):
        return 3

    def __getitem__(self, key):
        return torch.full((2, 3, 8, 8), float(key)), torch.tensor([int(key)] * 2)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_pass_over_keys_that_carry_nothing_counts_once(workers):
    loader = smartaug.DataLoader(
        Named(), batch_size=None, sampler=["0", "1", "2"], augment=add_constant, seed=0, num_workers=workers
    )
    for epoch in (0, 1):
        assert len(list(loader)) == 3
        assert loader.stats()["epoch"] == epoch


@pytest.mark.parametrize("batch_size", [None, 2])
def test_a_pass_over_a_stream_counts_once(batch_size):
    class Batches(IterableDataset):
        def __iter__(self):
            return iter([(torch.zeros(3, 8, 8), 1) if batch_size else (torch.zeros(2, 3, 8, 8), torch.ones(2))] * 4)

    loader = smartaug.DataLoader(Batches(), batch_size=batch_size, augment=add_constant, seed=0)
    for epoch in (0, 1):
        list(loader)
        assert loader.stats()["epoch"] == epoch


def test_a_pass_whose_first_batches_are_skipped_is_a_new_one():
    """A batch that nobody opens is not seen; the worker behind the next one had no batch in the broken pass."""
    augment = smartaug.Erase(1.0)
    images = torch.randint(0, 256, (12, 3, 8, 8), dtype=torch.uint8)
    loader = TorchDataLoader(
        TensorDataset(images, torch.arange(12)),
        2,
        collate_fn=smartaug.Collate(augment=augment, seed=2),
        num_workers=2,
        persistent_workers=True,
    )
    next(iter(loader)).open()
    batches = iter(loader)
    next(batches)
    for batch, index in batches:
        assert torch.equal(batch, augment(images[index], index=index, epoch=1, seed=2))


def test_workers_that_persist_and_answer_out_of_order_are_refused():
    def answer(worker, task, passes=0):
        return Origin(None, Token(7, worker, (worker, passes), persistent=True), task=task)

    counter = EpochCounter()
    begun = counter.of(answer(0, 0))
    assert counter.of(answer(1, 1)) is begun
    assert counter.of(answer(0, 3)) is begun
    with pytest.raises(RuntimeError, match=r"in_order=True.*smartaug\.DataLoader"):
        counter.of(answer(2, 2))
    assert counter.of(answer(2, 4, passes=1)) is not begun


class Reused:
    """A batch sampler that fills one list or array again and again, and empties it in the end."""

    def __init__(self, keys):
        self.keys = keys

    def __len__(self):
        return 3

    def __iter__(self):
        for first in range(0, 12, 4):
            self.keys[:] = type(self.keys)(range(first, first + 4)) if isinstance(self.keys, list) else first
            if not isinstance(self.keys, list):
                self.keys += torch.arange(4) if isinstance(self.keys, torch.Tensor) else np.arange(4)
            yield self.keys
        self.keys[:] = [] if isinstance(self.keys, list) else 0


@pytest.mark.parametrize("keys", [[], np.zeros(4, int), torch.zeros(4, dtype=torch.int64)])
def test_a_batch_sampler_may_reuse_its_keys(keys):
    dataset = TensorDataset(torch.rand(12, 3, 8, 8), torch.arange(12))
    loader = smartaug.DataLoader(dataset, batch_sampler=Reused(keys), augment=smartaug.Erase(), seed=0)
    for _ in range(2):
        assert [label.tolist() for _, label in loader] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
