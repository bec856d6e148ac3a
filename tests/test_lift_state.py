"""What a dataset writes into itself while it is read reaches all that refer to it, or nothing is lifted."""

import copy
import functools
import pickle
import types
import weakref

import numpy as np
import pytest
from torch.utils.data import Dataset
from torchvision import transforms as T

import smartaug
from tests.test_lift_copies import COUNT, PICTURES, Pictures, check, recipe


class Stateful(Dataset):
    """What it writes into itself is read by what is made of it."""

    def __init__(self, make):
        self.now, self.tf = 0, recipe()
        self.load = make(self)

    def read(self, *_):
        return PICTURES[self.now]

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        self.now = index
        return self.tf(self.load(index)), index


class Back:
    def __init__(self, owner):
        self.owner, self.tf = owner, recipe()

    def __call__(self, _):
        return self.owner.read()


class Weak(Back):
    def __init__(self, owner):
        super().__init__(weakref.proxy(owner))


class Behind:
    def __init__(self, call):
        self.target_transform = call

    def __call__(self, index):
        return self.target_transform(index)


READERS = {
    "a bound method": (lambda self: self.read, COUNT),
    "a closure": (lambda self: lambda _: self.read(), COUNT),
    "a partial": (lambda self: functools.partial(Stateful.read, self), COUNT),
    "an object": (Back, COUNT),
    "a cache": (lambda self: functools.lru_cache(self.read), 0),
    "NumPy's object": (lambda self: Unpacked(np.vectorize(self.read, otypes=[object])), 0),
    "a weak proxy": (Weak, 0),
    "a library's transform": (lambda self: Behind(T.Lambda(self.read)), 0),
}


class Unpacked:
    def __init__(self, call):
        self.call = call

    def __call__(self, index):
        return self.call(index).item()


@pytest.mark.parametrize("name", READERS)
def test_what_a_dataset_writes_into_itself_is_read_by_what_refers_to_it(name):
    make, lifted = READERS[name]
    words = None if lifted else "Stateful writes its attribute now while a sample is read, and "
    dataset = check(lambda: Stateful(make), lifted, words)
    assert type(dataset.tf) is T.Compose


shared = types.SimpleNamespace(level=0, tf=recipe())


def shift(level):
    shared.level = level


class ByGlobal(Pictures):
    """Writes into what it holds by a global name."""

    def __init__(self):
        self.held = shared

    def __getitem__(self, index):
        shift(index)
        return self.held.tf(PICTURES[self.held.level]), 0


class Counting(Pictures):
    held = {"tf": recipe(), "read": 0}  # noqa: RUF012

    def __init__(self):
        pass

    def __getitem__(self, index):
        Counting.held["read"] += 1
        return self.held["tf"](PICTURES[index]), 0


def test_what_is_written_by_another_name():
    check(ByGlobal, 0, "SimpleNamespace gets its attribute level by a global while a sample is read")
    check(Counting, 0, "Counting changes a container that holds it while a sample is read")


class Lazy(Stateful):
    """What it writes is not what the bound method reads."""

    file = None

    def __getitem__(self, index):
        self.file = self.file or [1]
        return self.tf(self.load(PICTURES[index])), index


def test_what_is_written_and_not_read_hinders_nothing():
    class Grey(Lazy):
        def grey(self, image):
            return image.convert("L").convert("RGB")

    check(lambda: Grey(lambda self: Behind(T.Lambda(self.grey))), COUNT)


def test_what_is_assigned_later_reaches_all_copies():
    class Scaled(Stateful):
        scale = 1

        def __getitem__(self, index):
            return super().__getitem__(index)[0], index * self.load.owner.scale

    dataset = Scaled(Back)
    loader = smartaug.DataLoader(dataset, 4, lift=True, seed=0, device="cpu")
    assert next(iter(loader))[1].tolist() == [0, 1, 2, 3]
    dataset.scale = 5
    assert next(iter(loader))[1].tolist() == [0, 5, 10, 15]
    assert dataset.load.owner is dataset
    for copied in (copy.deepcopy(loader.dataset), pickle.loads(pickle.dumps(smartaug.lift(Stateful(Back)).dataset))):
        assert copied.load.owner is copied
