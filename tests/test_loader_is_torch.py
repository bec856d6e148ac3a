"""Without a keyword our loader is torch's; with one, order and generators are still torch's."""

import functools
import itertools
import pickle

import pytest
import torch
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler, WeightedRandomSampler, default_collate
from torch.utils.data import DataLoader as TorchDataLoader

import smartaug
from tests.data import Noisy, Numbered, Stream, add_constant


class Seeds(Numbered):
    """Shows the seed that its worker was given."""

    def __getitem__(self, index):
        return torch.full((1, 4, 4), index / 1000.0), torch.initial_seed() % 2**62


def flat(batch):
    if isinstance(batch, torch.Tensor):
        return batch.as_subclass(torch.Tensor)
    if isinstance(batch, dict):
        return {name: flat(value) for name, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return [flat(part) for part in batch]
    return batch


def same(one, other):
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            same(one[name], other[name])
    elif isinstance(one, (tuple, list)):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            same(a, b)
    else:
        assert one == other


def run(kind, make, epochs=2, **keywords):
    """All batches of some epochs, the global generator's state afterwards, and the loader."""
    torch.manual_seed(3)
    dataset, arguments = make()
    loader = kind(dataset, **arguments, **keywords)
    batches = [list(loader) for _ in range(epochs)]
    return batches, torch.get_rng_state(), loader


def reverse_collate(samples):
    return default_collate(samples[::-1])


SETTINGS = {
    "plain": lambda: (Numbered(), {"batch_size": 3}),
    "shuffle": lambda: (Numbered(), {"batch_size": 3, "shuffle": True}),
    "drop_last": lambda: (Numbered(), {"batch_size": 3, "shuffle": True, "drop_last": True}),
    "generator": lambda: (
        Numbered(),
        {"batch_size": 3, "shuffle": True, "generator": torch.Generator().manual_seed(5)},
    ),
    "weighted": lambda: (Numbered(), {"batch_size": 3, "sampler": WeightedRandomSampler(torch.ones(20), 12)}),
    "batch_sampler": lambda: (
        Numbered(),
        {"batch_sampler": BatchSampler(RandomSampler(range(20)), 3, drop_last=False)},
    ),
    "list of batches": lambda: (Numbered(), {"batch_sampler": [[0, 1], [5], [7, 3, 2]]}),
    "collate": lambda: (Numbered(), {"batch_size": 3, "collate_fn": reverse_collate}),
    "iterable": lambda: (Stream(), {"batch_size": 3}),
    "dict": lambda: (Numbered(structure="dict"), {"batch_size": 3}),
    "namedtuple": lambda: (Numbered(structure="namedtuple"), {"batch_size": 3}),
    "nested": lambda: (Numbered(structure="nested"), {"batch_size": 3}),
    "strings": lambda: (Numbered(structure="strings"), {"batch_size": 3}),
    "draws in the dataset": lambda: (Noisy(), {"batch_size": 3, "shuffle": True}),
    "worker seeds": lambda: (Seeds(), {"batch_size": 3, "shuffle": True}),
}
WORKERS = {
    "0": {},
    "2": {"num_workers": 2},
    "persistent": {"num_workers": 2, "persistent_workers": True},
}


@functools.cache
def torchs(setting, workers):
    """What torch's loader gives; the loader itself is not kept, nor its workers."""
    batches, state, loader = run(TorchDataLoader, SETTINGS[setting], **WORKERS[workers])
    return batches, state, type(iter(loader)), loader.collate_fn


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("setting", SETTINGS)
def test_without_keywords_everything_is_torchs(setting, workers):
    theirs, their_state, their_iterator, their_collate = torchs(setting, workers)
    make, workers = SETTINGS[setting], WORKERS[workers]
    ours, our_state, our_loader = run(smartaug.DataLoader, make, **workers)
    same(ours, theirs)
    assert torch.equal(our_state, their_state)
    assert type(iter(our_loader)) is their_iterator
    assert our_loader.collate_fn is their_collate
    assert not hasattr(our_loader, "state_dict")


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("setting", SETTINGS)
def test_with_a_stage_order_draws_and_structure_are_torchs(setting, workers):
    theirs, their_state, _, _ = torchs(setting, workers)
    make, workers = SETTINGS[setting], WORKERS[workers]
    ours, our_state, _ = run(smartaug.DataLoader, make, **workers, reweight=smartaug.Uniform())
    same(flat(ours), flat(theirs))
    assert [type(batch) for batch in ours[0]] == [type(batch) for batch in theirs[0]]
    assert torch.equal(our_state, their_state)


@pytest.mark.parametrize("extra", [{}, {"augment": add_constant}], ids=["torch", "stage"])
def test_single_samples_pass_through(extra):
    dataset = [torch.full((2, 1, 4, 4), float(i)) for i in range(4)]  # batch_size=None: each item is a batch already
    loader = smartaug.DataLoader(dataset, batch_size=None, **extra)
    values = [batch.mean().item() for batch in loader]
    assert values == [i + (10.0 if extra else 0.0) for i in range(4)]


@pytest.mark.parametrize("context", ["forkserver", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_that_are_not_forked_and_out_of_order(context):
    loaders = [
        kind(Numbered(), batch_size=3, num_workers=2, multiprocessing_context=context, in_order=False, **extra)
        for kind, extra in ((TorchDataLoader, {}), (smartaug.DataLoader, {}), (smartaug.DataLoader, {"augment": abs}))
    ]
    seen = [sorted(torch.cat([images.flatten(1)[:, 0] for images, _ in loader]).tolist()) for loader in loaders]
    assert seen[0] == seen[1] == seen[2]


@pytest.mark.parametrize("extra", [{}, {"augment": add_constant, "seed": 1}], ids=["torch", "stage"])
def test_a_pickled_loader_loads_the_same(extra):
    loader = smartaug.DataLoader(Numbered(), batch_size=3, **extra)
    copy = pickle.loads(pickle.dumps(loader))
    for (a, _), (b, _) in zip(loader, copy, strict=True):
        assert torch.equal(a, b)
    if extra:  # the copy counts for itself
        assert copy.stats()["batches"] == loader.stats()["batches"] == 7
        assert copy.augment is add_constant


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_workers": -1},
        {"timeout": -1},
        {"shuffle": True, "sampler": SequentialSampler(range(20))},
        {"batch_size": None, "drop_last": True},
        {"batch_sampler": [[1]], "shuffle": True},
        {"persistent_workers": True},
        {"prefetch_factor": 3},
        {"multiprocessing_context": "spawn"},
    ],
)
def test_errors_are_torchs(arguments):
    with pytest.raises((TypeError, ValueError)) as theirs:
        TorchDataLoader(Numbered(), **arguments)
    with pytest.raises(type(theirs.value)) as ours:
        smartaug.DataLoader(Numbered(), **arguments)
    assert str(ours.value) == str(theirs.value)


def test_frozen_attributes_stay_frozen():
    loader = smartaug.DataLoader(Numbered(), augment=add_constant)
    with pytest.raises(ValueError, match="batch_size attribute should not be set"):
        loader.batch_size = 5


def test_keywords_are_attributes_holding_what_was_passed():
    given = {
        "augment": [add_constant],
        "reweight": smartaug.Uniform(),
        "coreset": smartaug.Coreset(0.5),
        "device": "cpu",
        "seed": 3,
        "inputs": 0,
        "target": 1,
        "returns": "batch",
    }
    loader = smartaug.DataLoader(Numbered(), **given)
    assert all(getattr(loader, name) is value for name, value in given.items())


def test_the_users_batch_sampler_and_dataset_are_not_touched():
    own = BatchSampler(SequentialSampler(range(20)), 3, False)
    before = dict(vars(own))
    dataset = Numbered()
    loader = smartaug.DataLoader(dataset, batch_sampler=own, augment=add_constant)
    list(itertools.islice(loader, 2))
    assert vars(own) == before
    assert loader.dataset is dataset
    assert loader.batch_sampler is own
