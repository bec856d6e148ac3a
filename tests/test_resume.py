"""A loader resumed in mid-epoch goes on as the uninterrupted one would have."""

import copy
import functools
import inspect
import io
import itertools
import pickle
import random

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    Sampler,
    TensorDataset,
    WeightedRandomSampler,
)
from torchvision.transforms import v2

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
    return {"coreset": smartaug.Coreset(0.6, select=smartaug.coreset.Uniform()), "shuffle": True}


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


@functools.cache
def uninterrupted(arguments, workers):
    torch.manual_seed(1)
    loader = make(arguments, WORKERS[workers])
    return [record(loader) for _ in range(3)]


@pytest.mark.parametrize("first_epoch", [0, 1])
@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize(
    "arguments", [shuffled, with_generator, weighted, with_replacement, distributed, coreset], ids=lambda f: f.__name__
)
def test_resumed_equals_uninterrupted(arguments, workers, first_epoch):
    whole, workers = uninterrupted(arguments, workers), WORKERS[workers]

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


class Counting(Sampler):
    """Its order depends on how often it was iterated, which a new process does not know."""

    def __init__(self):
        self.passes = 0

    def __iter__(self):
        self.passes += 1
        return iter(torch.randperm(SIZE, generator=torch.Generator().manual_seed(self.passes)).tolist())

    def __len__(self):
        return SIZE


class OwnGenerator(Sampler):
    def __init__(self):
        self.rng = np.random.default_rng(0)

    def __iter__(self):
        return iter(self.rng.permutation(SIZE).tolist())

    def __len__(self):
        return SIZE


class OwnPython(OwnGenerator):
    def __init__(self):
        self.rng = random.Random(0)

    def __iter__(self):
        return iter(self.rng.sample(range(SIZE), SIZE))


class Weights(OwnGenerator):
    """Of which the training loop changes the weights."""

    def __init__(self):
        self.weights = torch.ones(SIZE)

    def __iter__(self):
        self.weights = self.weights.clone()
        self.weights[0] += 1
        return iter(torch.multinomial(self.weights, SIZE).tolist())


@pytest.mark.parametrize("batches", [None, 0, 2])
@pytest.mark.parametrize("within", [lambda s: {"sampler": s}, lambda s: {"batch_sampler": BatchSampler(s, 4, False)}])
@pytest.mark.parametrize("kind", [Counting, OwnGenerator, OwnPython, Weights])
def test_a_sampler_that_starts_over_in_a_new_process_is_noticed(kind, within, batches):
    """A state of an epoch's end continued with the sampler's first order."""

    def loader_of(sampler):
        size = {} if "batch_sampler" in within(sampler) else {"batch_size": 4}
        return smartaug.DataLoader(Numbered(SIZE), augment=add_constant, seed=0, **size, **within(sampler))

    sampler = kind()
    loader = loader_of(sampler)
    list(loader)
    before = copy.deepcopy(vars(sampler))
    if batches is not None:
        iterator = iter(loader)
        for _ in range(batches):
            next(iterator)
    state, rest = loader.state_dict(), None
    with pytest.raises(ValueError, match=f"what the sampler holds as a pass begins .* {kind.__name__}"):
        loader_of(kind()).load_state_dict(state)
    if batches is None:
        torch.manual_seed(1)
        rest = record(loader)
        known = kind()
        vars(known).update(before)
        resumed = loader_of(known)
        resumed.load_state_dict(state)
        torch.manual_seed(1)
        assert str(record(resumed)) == str(rest)


def test_another_dataset_is_noticed():
    loader = make(shuffled, {})
    next(iter(loader))
    state = loader.state_dict()
    other = smartaug.DataLoader(Numbered(SIZE + 1), batch_size=BATCH, shuffle=True, augment=add_constant)
    with pytest.raises(RuntimeError, match="dataset_size=22, and this loader has dataset_size=23"):
        other.load_state_dict(state)


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


class ByEpoch(Sampler):
    """A batch sampler that shuffles by the epoch it is told."""

    epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return 5

    def __iter__(self):
        order = torch.randperm(20, generator=torch.Generator().manual_seed(self.epoch)).tolist()
        return iter([order[i : i + 4] for i in range(0, 20, 4)])


def test_a_batch_sampler_is_told_its_epoch_again():
    loader = smartaug.DataLoader(Numbered(), batch_sampler=ByEpoch(), augment=add_constant)
    loader.set_epoch(3)
    iterator = iter(loader)
    next(iterator)
    loader.set_epoch(9)  # meant for the next pass
    state = loader.state_dict()
    fresh = smartaug.DataLoader(Numbered(), batch_sampler=ByEpoch(), augment=add_constant)
    fresh.load_state_dict(state)
    equal(record(fresh), record(iterator))


def test_a_batch_that_failed_is_behind_us():
    fails = [True]

    def fragile(images):
        if fails[0] and abs(float(images[0, 0, 0, 0]) - 0.008) < 1e-6:
            raise ValueError("once")
        return images

    loader = smartaug.DataLoader(Numbered(), batch_size=4, augment=fragile)
    iterator = iter(loader)
    next(iterator)
    next(iterator)
    with pytest.raises(ValueError, match="once"):
        next(iterator)
    next(iterator)
    fails[0] = False
    fresh = smartaug.DataLoader(Numbered(), batch_size=4, augment=fragile)
    fresh.load_state_dict(loader.state_dict())
    assert [target.index.tolist() for _, target in fresh] == [[16, 17, 18, 19]]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda loader: pickle.loads(pickle.dumps(loader))])
def test_a_copied_loader_resumes(copied):
    loader = copied(make(shuffled, {}))
    iterator = iter(loader)
    next(iterator)
    fresh = make(shuffled, {})
    fresh.load_state_dict(loader.state_dict())
    equal(record(fresh), record(iterator))


def test_another_batch_size_is_named():
    loader = make(shuffled, {})
    next(iter(loader))
    other = smartaug.DataLoader(Numbered(SIZE), batch_size=5, shuffle=True, augment=add_constant)
    with pytest.raises(RuntimeError, match="with batch_size=4, and this loader has batch_size=5"):
        other.load_state_dict(loader.state_dict())
    with pytest.raises(ValueError, match=r"no state of a smartaug\.DataLoader: it has no"):
        other.load_state_dict({})


def test_streams_and_wrapped_loaders_repeat_an_epoch():
    for loader in (
        smartaug.DataLoader(Stream(), batch_size=4, augment=smartaug.Erase(1.0), seed=1),
        smartaug.wrap([torch.rand(4, 1, 6, 6) for _ in range(3)], augment=smartaug.Erase(1.0), seed=1),
    ):
        runs = []
        for _ in range(2):
            loader.set_epoch(5)
            runs.append([batch[0] if isinstance(batch, list) else batch for batch in loader])
        assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


class Stateful:
    """An iterable of batches that keeps its place, as torchdata's loader does."""

    def __init__(self):
        self.batches, self.place = (
            [torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(i)) for i in range(5)],
            0,
        )

    def __iter__(self):
        while self.place < 5:
            self.place += 1
            yield self.batches[self.place - 1]
        self.place = 0

    def state_dict(self):
        return {"place": self.place}

    def load_state_dict(self, state):
        self.place = state["place"]


def test_a_wrapped_loader_that_keeps_its_place_resumes():
    wrapped = smartaug.wrap(Stateful(), augment=smartaug.Erase(1.0), seed=1)
    list(wrapped)
    iterator = iter(wrapped)
    next(iterator)
    next(iterator)
    state = wrapped.state_dict()
    assert state["epoch"] == 1
    fresh = smartaug.wrap(Stateful(), augment=smartaug.Erase(1.0))
    fresh.load_state_dict(state)
    for a, b in zip(iterator, fresh, strict=True):
        assert torch.equal(a, b)


def doubled(samples):
    """Twice as many rows as samples: no row is a sample any more."""
    images = torch.stack([image for image, _ in samples])
    labels = torch.stack([torch.as_tensor(label) for _, label in samples])
    return torch.cat([images, images]), torch.cat([labels, labels])


class Ready(torch.utils.data.Dataset):
    """Gives whole batches."""

    def __len__(self):
        return 5

    def __getitem__(self, index):
        images = torch.arange(4 * 3 * 6 * 6).reshape(4, 3, 6, 6)
        return (images % 200 + index).to(torch.uint8), torch.arange(4)


@pytest.mark.parametrize("kind", ["merged rows", "ready batches"])
def test_draws_that_count_samples_go_on_counting(kind):
    """Where rows are no samples, draws are keyed by how many came before, which a state holds."""

    def loader():
        if kind == "ready batches":
            return smartaug.DataLoader(Ready(), batch_size=None, augment=smartaug.Erase(1.0), seed=1)
        arrays = TensorDataset(pictures, torch.arange(12))
        return smartaug.DataLoader(arrays, batch_size=3, collate_fn=doubled, augment=smartaug.Erase(1.0), seed=1)

    pictures = torch.randint(0, 256, (12, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole = [images.clone() for images, _ in loader()]
    begun = loader()
    iterator = iter(begun)
    next(iterator), next(iterator)
    state = through_a_file(begun.state_dict())
    assert state["samples"] > 0
    resumed = loader()
    resumed.load_state_dict(state)
    rest = [images for images, _ in resumed]
    assert len(rest) == len(whole) - 2
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(rest, whole[2:], strict=True))


def test_a_pass_that_ended_forgets_which_samples_came():
    """Where the sampler is not ours, the counts are kept for the newest passes."""
    collate = smartaug.Collate(augment=add_constant)
    loader = torch.utils.data.DataLoader(Numbered(SIZE), batch_size=BATCH, collate_fn=collate)
    iterators = [iter(loader) for _ in range(12)]
    for iterator in iterators:
        next(iterator).open()
    passes = [fetched.progress for fetched in collate.pipeline.epochs._fetched.values()]
    assert [progress.repeats is None for progress in passes] == [True] * 8 + [False] * 4


# --- what a state was made of ----------------------------------------------------------------------------------------


def simple(**settings):
    given = {"augment": smartaug.Erase(1.0), "seed": 5, **settings}
    if "share" in given:  # a coreset of its own for each loader's dataset
        given["coreset"] = selects(given.pop("share"))
    return smartaug.DataLoader(Numbered(given.pop("size", SIZE)), batch_size=BATCH, shuffle=True, **given)


def selects(fraction):
    return smartaug.Coreset(fraction, select=smartaug.coreset.Uniform())


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"seed": 6}, "seed: 5 in the state, 6 in this loader"),
        ({"augment": smartaug.Erase(0.5)}, r"stages of lift= and augment=: Erase\(p=1.0.*Erase\(p=0.5"),
        ({"augment": add_constant}, "Erase.* in the state, <function add_constant> in this loader"),
        ({"augment": [smartaug.Erase(1.0), smartaug.Flip()]}, "Flip"),
        ({"size": SIZE + 1}, r"len\(dataset\): 22 in the state, 23 in this loader"),
        ({"reweight": smartaug.reweight.Uniform()}, "reweight=: None in the state, UniformWeights in this loader"),
        ({"share": 0.5}, r"coreset=: None in the state, Coreset\(0.5"),
    ],
)
def test_a_state_of_another_loader_says_what_differs(other, says):
    loader = simple()
    record(loader)
    state = through_a_file(loader.state_dict())
    with pytest.raises(ValueError, match=says):
        simple(**other).load_state_dict(state)
    simple(**other).load_state_dict(state, strict=False)
    simple().load_state_dict(state)


def test_a_state_that_is_refused_changes_nothing():
    loader, other = simple(), simple(augment=smartaug.Flip())
    state = loader.state_dict()
    state["epoch"] = 7
    with pytest.raises(ValueError, match="Flip"):
        other.load_state_dict(state)
    record(other)
    assert other.stats()["epoch"] == 0


def test_seeds_of_augmented_datasets_belong_to_a_state():
    def loader(seed):
        return smartaug.DataLoader(smartaug.AugmentedDataset(Numbered(SIZE), add_constant, seed=seed), returns="batch")

    loader(1).load_state_dict(loader(1).state_dict())
    with pytest.raises(ValueError, match=r"seeds of the AugmentedDatasets: \[1\] in the state, \[2\] in this loader"):
        loader(2).load_state_dict(loader(1).state_dict())


def test_versions():
    state = simple().state_dict()
    with pytest.raises(ValueError, match="this state has version 99, and this smartaug reads states up to 1"):
        simple().load_state_dict({**state, "version": 99})


@pytest.mark.parametrize("begun", [False, True])
def test_states_of_the_first_version_still_load(begun):
    """They had neither a version nor what they were made of."""
    torch.manual_seed(1)
    loader = make(with_generator, {})
    iterator = iter(loader)
    record(itertools.islice(iterator, 2 if begun else 9))
    state = loader.state_dict()
    first = (
        "rank ranks epoch batches samples checksum generators sampler_epoch batch_size drop_last dataset_size stages"
    )
    old = {name: state[name] for name in first.split()}
    rest = record(iterator) if begun else record(loader)
    fresh = make(with_generator, {})
    fresh.load_state_dict(old)
    equal(record(fresh), rest)


def test_a_stage_that_is_missing_is_named_for_the_first_version():
    state = smartaug.DataLoader(Numbered(), coreset=selects(0.5), seed=0).state_dict()
    del state["version"], state["made_of"]
    with pytest.raises(ValueError, match="coreset=: something in the state, None in this loader"):
        smartaug.DataLoader(Numbered(), augment=add_constant).load_state_dict(state)


def test_the_methods_have_signatures_and_are_missing_without_stages():
    names = ("state_dict", "load_state_dict")
    bare, staged = smartaug.DataLoader(Numbered()), simple()
    assert not any(hasattr(bare, name) for name in names)
    assert all(hasattr(staged, name) for name in names)
    assert str(inspect.signature(smartaug.DataLoader.load_state_dict)).startswith("(self, state:")
    assert "batches already handed out" in smartaug.DataLoader.load_state_dict.__doc__
    assert list(inspect.signature(staged.state_dict).parameters) == ["record"]


def test_set_epoch_after_loading_a_pass_with_nothing_left_is_meant_for_the_next():
    """Programs that name every epoch do so before the loader can know that the interrupted one was over."""
    whole = make(distributed, {})
    epochs = []
    for epoch in range(2):
        whole.set_epoch(epoch)
        epochs.append(record(whole))
    loader = make(distributed, {})
    loader.set_epoch(0)
    iterator = iter(loader)
    for _ in epochs[0]:
        next(iterator)  # as Lightning does, which stops at the length
    fresh = make(distributed, {})
    fresh.load_state_dict(loader.state_dict())
    fresh.set_epoch(1)
    equal(record(fresh), epochs[1])


def test_what_set_epoch_said_of_the_next_pass_is_kept():
    loader = simple()
    iterator = iter(loader)
    next(iterator)
    loader.set_epoch(6)
    state = loader.state_dict()
    fresh = simple()
    fresh.load_state_dict(state)
    equal(record(fresh), record(iterator))
    record(fresh)
    assert fresh.stats()["epoch"] == 6


class Bright:
    """Stays in the worker under lift=True."""

    def __init__(self):
        self.own = np.random.default_rng(3)

    def __call__(self, image):
        drawn = int(self.own.integers(0, 99)) + int(torch.randint(0, 99, ())) + random.randrange(50)
        return torch.full_like(image, drawn)


class WithTransform(torch.utils.data.Dataset):
    def __init__(self):
        self.images = torch.zeros(SIZE, 3, 6, 6, dtype=torch.uint8)
        self.transform = v2.Compose([Bright(), v2.RandomHorizontalFlip()])

    def __len__(self):
        return SIZE

    def __getitem__(self, index):
        return self.transform(self.images[index]), index


def test_what_stays_in_the_worker_is_drawn_by_seed_epoch_and_sample():
    def loader(workers, size=BATCH):
        return smartaug.DataLoader(WithTransform(), size, shuffle=True, lift=True, seed=1, num_workers=workers)

    def drawn(batches):
        return {
            int(i): int(image[0, 0, 0]) for images, target in batches for image, i in zip(images, target, strict=True)
        }

    made = [loader(0), loader(2), loader(0, 7)]
    before = torch.get_rng_state(), random.getstate()
    first, *others = ([drawn(one), drawn(one)] for one in made)
    assert others == [first, first]
    assert len(set(first[0].values())) > 15
    assert first[0] != first[1]
    assert random.getstate() == before[1]
    begun = loader(0)
    iterator = iter(begun)
    head = drawn(itertools.islice(iterator, 2))
    fresh = loader(2)
    fresh.load_state_dict(through_a_file(begun.state_dict()))
    assert {**head, **drawn(fresh)} == first[0]


# --- passes for evaluation -------------------------------------------------------------------------------------------


def with_own():
    return {"generator": torch.Generator().manual_seed(8)}


def staged(**settings):
    images = torch.randint(0, 256, (SIZE, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    augment = [smartaug.Flip(1.0), smartaug.MixUp(num_classes=4), smartaug.Normalize(0.5, 0.25)]
    data = TensorDataset(images, torch.arange(SIZE) % 4)
    loader = smartaug.DataLoader(data, BATCH, shuffle=True, seed=2, augment=augment, coreset=selects(0.5), **settings)
    return loader, (images.float() / 255 - 0.5) / 0.25


@pytest.mark.filterwarnings("ignore::smartaug.NoEffectWarning")  # no loss is computed here
@pytest.mark.parametrize("settings", [dict, with_own, lambda: {"num_workers": 1}], ids=["", "generator", "worker"])
def test_plain_passes_are_whole_and_leave_no_trace(settings):
    loader, expected = staged(**settings())
    other, _ = staged(**settings())
    torch.manual_seed(3)
    wanted = [record(other), record(other)]
    torch.manual_seed(3)
    iterator = iter(loader)
    head = record(itertools.islice(iterator, 1))
    state, rng = loader.state_dict(), torch.get_rng_state()
    with loader.plain() as plain:
        assert plain is loader
        assert len(loader) == 6
        batches = list(loader)
    assert torch.allclose(torch.cat([images for images, _ in batches]), expected, atol=1e-5)
    assert torch.cat([target.index for _, target in batches]).tolist() == list(range(SIZE))
    assert all(target.soft is None for _, target in batches)
    assert torch.equal(torch.get_rng_state(), rng)
    again = loader.state_dict()
    assert {k: again[k] for k in ("epoch", "batches", "checksum")} == {
        k: state[k] for k in ("epoch", "batches", "checksum")
    }
    assert len(loader) == 3
    equal(head + record(iterator), wanted[0])
    equal(record(loader), wanted[1])
    assert loader.stats()["batches"] == 6


def test_plain_passes_of_other_kinds():
    stream = smartaug.DataLoader(Stream(), batch_size=4, augment=add_constant)
    with stream.plain():
        assert torch.cat([images for images, _ in stream])[:, 0, 0, 0].tolist() == pytest.approx(
            [i / 1000 for i in range(20)]
        )
    one = smartaug.DataLoader(Ready(), batch_size=None, augment=smartaug.Erase(1.0))
    with one.plain():
        assert torch.equal(next(iter(one))[0], Ready()[0][0])
    bare = smartaug.DataLoader(Numbered(), batch_size=4)
    with bare.plain():
        assert len(list(bare)) == 5
    odd = smartaug.DataLoader(Numbered(), batch_sampler=[[0, 1]], augment=add_constant)
    with odd.plain(), pytest.raises(ValueError, match="attribute batch_size"):
        next(iter(odd))
    augmented = smartaug.AugmentedDataset(Numbered(), add_constant, seed=0)
    refused = smartaug.DataLoader(augmented, returns="batch")
    with refused.plain(), pytest.raises(RuntimeError, match="cannot leave out the transform of an AugmentedDataset"):
        next(iter(refused))
    half = smartaug.AugmentedDataset(Numbered(), add_constant, only=torch.ones(20).bool(), seed=0)
    loader = smartaug.DataLoader(half, returns="batch")
    with loader.plain():
        assert [float(batch.inputs.max()) for batch in loader] == pytest.approx([i / 1000 for i in range(20)])


class Drawing(Numbered):
    """Draws for every sample by itself, as many datasets do in ``__getitem__``."""

    draw = staticmethod(torch.rand)

    def __getitem__(self, index):
        type(self).draw(1)
        return super().__getitem__(index)


class DrawingNumPy(Drawing):
    draw = staticmethod(np.random.rand)


class DrawingPython(Drawing):
    draw = staticmethod(random.getrandbits)


def drawing_collate(samples):
    torch.randperm(len(samples))
    return torch.utils.data.default_collate(samples)


DRAWS = {
    "torch": (Drawing, None),
    "NumPy": (DrawingNumPy, None),
    "random": (DrawingPython, None),
    "collate_fn": (Numbered, drawing_collate),
}


@pytest.mark.parametrize("draws", DRAWS)
def test_a_state_says_that_it_does_not_carry_what_workers_drew(draws):
    kind, collate = DRAWS[draws]
    loader = smartaug.DataLoader(kind(SIZE), BATCH, num_workers=2, augment=add_constant, seed=1, collate_fn=collate)
    loader.state_dict()
    batches = iter(loader)
    next(batches)
    with pytest.warns(smartaug.NoEffectWarning, match="does not carry these draws"):
        loader.state_dict()
    loader.state_dict()  # said once
    list(batches)
    loader.state_dict()  # between two epochs nothing is drawn


def test_what_is_repeated_is_not_warned_about():
    noisy = smartaug.AugmentedDataset(Numbered(SIZE), lambda image: image + torch.rand(1) + random.random(), seed=0)
    for dataset, workers in ((noisy, 2), (Drawing(SIZE), 0)):  # without workers the generators are the user's to keep
        loader = smartaug.DataLoader(dataset, BATCH, num_workers=workers, augment=add_constant, seed=1)
        next(iter(loader))
        assert loader.state_dict()["begun"]


def test_another_random_split_is_named():
    def split(seed):
        part = torch.utils.data.random_split(Numbered(SIZE), [0.5, 0.5], torch.Generator().manual_seed(seed))[0]
        return smartaug.DataLoader(part, BATCH, augment=add_constant, seed=1)

    state = split(1).state_dict()
    split(1).load_state_dict(state)
    with pytest.raises(ValueError, match="the samples of each Subset"):
        split(2).load_state_dict(state)
    split(2).load_state_dict(state, strict=False)
