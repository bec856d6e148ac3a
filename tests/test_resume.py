"""A loader resumed in mid-epoch goes on as the uninterrupted one would have."""

import io
import itertools
import random

import pytest
import torch
from torch.utils.data import DistributedSampler, RandomSampler, Sampler, WeightedRandomSampler

import smartaug
from tests.data import Numbered, Stream, add_constant

SIZE, BATCH = 22, 4


def shuffled():
    return {"shuffle": True}


def with_generator():
    return {"shuffle": True, "generator": torch.Generator().manual_seed(8)}


def weighted():
    return {"sampler": WeightedRandomSampler(torch.arange(1.0, SIZE + 1), SIZE, generator=torch.Generator())}


def with_replacement():
    sampler = RandomSampler(range(SIZE), replacement=True, num_samples=40, generator=torch.Generator().manual_seed(1))
    return {"sampler": sampler}


def distributed():
    return {"sampler": DistributedSampler(range(SIZE), num_replicas=2, rank=1, seed=4)}


def coreset():
    return {"coreset": smartaug.Coreset(0.6), "shuffle": True}


WORKERS = {"0": {}, "2": {"num_workers": 2}, "persistent": {"num_workers": 2, "persistent_workers": True}}


def make(arguments, workers):
    return smartaug.DataLoader(
        Numbered(SIZE), batch_size=BATCH, augment=[smartaug.Erase(1.0), add_constant], seed=5, **arguments(), **workers
    )


def record(batches):
    return [(images.clone(), target.index.tolist()) for images, target in batches]


def equal(one, other):
    assert [index for _, index in one] == [index for _, index in other]
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(one, other, strict=True))


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("first_epoch", [0, 1])
@pytest.mark.parametrize("workers", WORKERS.values(), ids=WORKERS)
@pytest.mark.parametrize(
    "arguments", [shuffled, with_generator, weighted, with_replacement, distributed, coreset], ids=lambda f: f.__name__
)
def test_resumed_equals_uninterrupted(arguments, workers, first_epoch):
    torch.manual_seed(1)
    loader = make(arguments, workers)
    whole = [record(loader) for _ in range(3)]

    torch.manual_seed(1)
    loader = make(arguments, workers)
    for _ in range(first_epoch):
        record(loader)
    iterator = iter(loader)
    begun = record(itertools.islice(iterator, 2))
    state, rng = through_a_file(loader.state_dict()), torch.get_rng_state()
    del iterator, loader
    equal(begun, whole[first_epoch][:2])

    torch.manual_seed(77)
    resumed = make(arguments, workers)
    resumed.load_state_dict(state)
    torch.set_rng_state(rng)  # the user's own checkpoint does this; the loader must leave it as it is
    iterator = iter(resumed)
    rest = record(itertools.islice(iterator, 1))
    assert torch.equal(torch.get_rng_state(), rng)
    rest += record(iterator)
    equal(rest, whole[first_epoch][2:])
    assert resumed.stats()["epoch"] == first_epoch
    for epoch in range(first_epoch + 1, 3):
        equal(record(resumed), whole[epoch])


def test_a_state_from_between_epochs_starts_the_next_one():
    torch.manual_seed(1)
    loader = make(with_generator, {})
    first = record(loader)
    state = loader.state_dict()
    second = record(loader)
    fresh = make(with_generator, {})
    fresh.load_state_dict(state)
    assert state["batches"] == 0
    assert fresh.stats()["epoch"] == 0
    record(fresh)
    assert fresh.stats()["epoch"] == 1
    assert first[0][1] != second[0][1]


@pytest.mark.parametrize("workers", WORKERS.values(), ids=WORKERS)
def test_a_state_from_before_the_first_batch_begins_that_epoch(workers):
    loader = make(with_generator, workers)
    iterator = iter(loader)  # workers fetch ahead, and draw the order
    state = loader.state_dict()
    fresh = make(with_generator, workers)
    fresh.load_state_dict(state)
    equal(record(fresh), record(iterator))
    assert state["epoch"] == 0


def test_a_state_can_be_taken_again_after_resuming():
    torch.manual_seed(1)
    whole = record(make(shuffled, {}))
    torch.manual_seed(1)
    loader = make(shuffled, {})
    iterator = iter(loader)
    next(iterator)
    for _ in range(2):
        state = loader.state_dict()
        loader = make(shuffled, {})
        loader.load_state_dict(state)
        iterator = iter(loader)
        next(iterator)
    assert loader.state_dict()["batches"] == 3
    equal(record(iterator), whole[3:])


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("workers", WORKERS.values(), ids=WORKERS)
def test_a_state_taken_right_after_loading_is_the_same_place(workers, begun):
    loader = make(with_generator, workers)
    iterator = iter(loader)
    record(itertools.islice(iterator, 2))
    state = loader.state_dict()
    rest = record(iterator)
    middle = make(with_generator, workers)
    middle.load_state_dict(state)
    held = iter(middle) if begun else None
    again = middle.state_dict()
    assert (again["epoch"], again["batches"]) == (0, 2)
    last = make(with_generator, workers)
    last.load_state_dict(again)
    equal(record(last), rest)
    assert held is None or len(record(held)) == 4


def test_no_sample_is_loaded_for_the_batches_dropped():
    loaded = []

    class Counting(Numbered):
        def __getitem__(self, index):
            loaded.append(index)
            return super().__getitem__(index)

    loader = smartaug.DataLoader(Counting(SIZE), batch_size=BATCH, augment=add_constant)
    iterator = iter(loader)
    record(itertools.islice(iterator, 3))
    state = loader.state_dict()
    loader = smartaug.DataLoader(Counting(SIZE), batch_size=BATCH, augment=add_constant)
    loader.load_state_dict(state)
    loaded.clear()
    record(loader)
    assert loaded == list(range(3 * BATCH, SIZE))


class PythonRandom(Sampler):
    def __iter__(self):
        return iter(random.sample(range(SIZE), SIZE))

    def __len__(self):
        return SIZE


def test_a_sampler_that_does_not_replay_is_noticed():
    loader = make(lambda: {"sampler": PythonRandom()}, {})
    next(iter(loader))
    state = loader.state_dict()
    loader = make(lambda: {"sampler": PythonRandom()}, {})
    loader.load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"PythonRandom did not repeat its order.*torch.Generator"):
        next(iter(loader))
    assert len(record(loader)) == 6  # and the loader can be iterated again


def test_another_dataset_is_noticed():
    loader = make(shuffled, {})
    next(iter(loader))
    state = loader.state_dict()
    other = smartaug.DataLoader(Numbered(SIZE + 1), batch_size=BATCH, shuffle=True, augment=add_constant)
    other.load_state_dict(state)
    with pytest.raises(RuntimeError, match="the dataset has changed"):
        next(iter(other))


def test_other_generators_are_noticed():
    loader = make(with_generator, {})
    next(iter(loader))
    other = make(shuffled, {})
    other.load_state_dict(loader.state_dict())
    with pytest.raises(RuntimeError, match="same generator= and sampler="):
        next(iter(other))


def test_streams_and_unordered_loaders_say_what_to_do():
    stream = smartaug.DataLoader(Stream(), batch_size=BATCH, augment=add_constant)
    iterator = iter(stream)
    next(iterator)
    with pytest.raises(RuntimeError, match="IterableDataset cannot be resumed in mid-epoch"):
        stream.state_dict()
    list(iterator)
    unordered = smartaug.DataLoader(Numbered(), batch_size=BATCH, num_workers=2, in_order=False, augment=add_constant)
    iterator = iter(unordered)
    next(iterator)
    with pytest.raises(RuntimeError, match="use in_order=True"):
        unordered.state_dict()
    list(iterator)
    assert unordered.state_dict()["batches"] == 0  # between epochs there is nothing to lose


def test_stages_keep_their_state_in_the_loaders():
    class Counting:
        count = 0

        def __call__(self, batch, trace):
            self.count += 1
            return None, None

        def state_dict(self):
            return {"count": self.count}

        def load_state_dict(self, state):
            self.count = state["count"]

    loader = smartaug.DataLoader(Numbered(), batch_size=5, reweight=Counting())
    record(loader)
    state = through_a_file(loader.state_dict())
    other = smartaug.DataLoader(Numbered(), batch_size=5, reweight=Counting())
    other.load_state_dict(state)
    assert other.reweight.count == 4
