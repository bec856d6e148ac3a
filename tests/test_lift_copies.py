"""The copies of the user's objects and functions: they refer to each other as the originals do, which stay as they are.

Every program gives with ``lift=True`` what torch's loader gives: the pipelines here always draw the same.
"""

import collections
import copy
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader as TorchDataLoader
from torch.utils.data import Dataset, IterableDataset
from torchvision import transforms as T

import smartaug
from smartaug.lift.holders.copies import replaced
from tests.lifting import photos

COUNT = 8
PICTURES = [Image.fromarray(picture) for picture in photos(COUNT, 20, 24)]


def recipe(flip=1.0):
    return T.Compose([T.CenterCrop(16), T.RandomHorizontalFlip(flip), T.ToTensor(), T.Normalize(0.5, 0.2)])


class Pictures(Dataset):
    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        return self.transform(PICTURES[index]), index % 3


def numbers(batches):
    """The tensors and numbers of some batches, in order."""
    leaves = torch.utils._pytree.tree_leaves([list(batch) for batch in batches])
    return [torch.as_tensor(leaf).as_subclass(torch.Tensor) for leaf in leaves]


def check(make, lifted, warned=None, **others):
    """Compare ``make()`` in both loaders; lifted: the number of samples, 0 where none is. Returns the dataset."""
    expected = numbers(TorchDataLoader(make(), 4, **others))
    dataset = make()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        loader = smartaug.DataLoader(dataset, 4, lift=True, seed=0, device="cpu", **others)
        found = numbers(loader)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert (loader.stats().get("lifted") or 0) == lifted
    if warned is not None:
        assert warned in " ".join(str(one.message) for one in seen)
    return dataset


# --- objects that are not to be written to ---------------------------------------------------------------------------


class Holder:
    def __init__(self, pipeline):
        self.tf = pipeline

    def __call__(self, image):
        return self.tf(image)


class Singleton(Holder):
    made = None

    def __new__(cls, *_):
        cls.made = cls.made or super().__new__(cls)
        return cls.made


class Shared(Holder):
    state = {}  # noqa: RUF012

    def __new__(cls, *_):
        made = super().__new__(cls)
        made.__dict__ = cls.state
        return made


class Itself(Holder):
    def __copy__(self):
        return self


class NoCopy(Holder):
    def __reduce_ex__(self, protocol):
        raise TypeError("not for copies")


class Stream(IterableDataset):
    def __init__(self):
        self.transform = recipe()

    def __copy__(self):
        return self

    def __iter__(self):
        return ((self.transform(picture), 0) for picture in PICTURES)


ONE_OBJECT = "gives the object itself (a singleton), or one that shares its attributes; keep the pipeline in"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Pictures(Singleton(recipe())), ONE_OBJECT),
        (lambda: Pictures(Shared(recipe())), ONE_OBJECT),
        (lambda: Pictures(Itself(recipe())), ONE_OBJECT),
        (
            lambda: Pictures(NoCopy(recipe())),
            "NoCopy cannot be copied: copy.copy of it raises TypeError: not for",
        ),
        (Stream, ONE_OBJECT),
    ],
    ids=["singleton", "shared attributes", "copies are itself", "not copied", "a stream"],
)
def test_objects_that_cannot_be_copied_are_left_alone(make, words):
    transform = check(make, 0, words).transform
    assert type(getattr(transform, "tf", transform)) is T.Compose


class Delegating(Dataset):
    """Its property writes into the dataset inside."""

    def __init__(self):
        self.inner = Pictures(recipe())

    @property
    def transform(self):
        return self.inner.transform

    @transform.setter
    def transform(self, value):
        self.inner.transform = value

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        return self.inner[index]


class Config:
    """Its attributes lie in a dict, into which it writes what is assigned."""

    def __init__(self, **values):
        object.__setattr__(self, "values", values)

    def __setattr__(self, name, value):
        self.values[name] = value

    def __getattr__(self, name):
        if name.startswith("__") or name == "values":
            raise AttributeError(name)
        return self.values[name]

    def __call__(self, image):
        return self.tf(image)


class Read(Dataset):
    """Its property cannot be assigned."""

    def __init__(self):
        self.kept = recipe()

    transform = property(lambda self: self.kept)
    __len__, __getitem__ = Pictures.__len__, Pictures.__getitem__


def test_setters_are_not_called():
    dataset = check(Delegating, COUNT)
    assert type(dataset.inner.transform) is T.Compose
    dataset = check(lambda: Pictures(Config(tf=recipe())), COUNT)
    assert type(dataset.transform.values["tf"]) is T.Compose
    check(Read, COUNT)


Pair = collections.namedtuple("Pair", ["train", "val"])


class Named(Pictures):
    def __getitem__(self, index):
        return self.transform.train(PICTURES[index]), 0


class OfClass(Pictures):
    augs = {"train": recipe()}  # noqa: RUF012

    def __init__(self):
        pass

    def transform(self, image):
        return self.augs["train"](image)


class Asking(Pictures):
    """Looks for the class of its transform, at later samples."""

    def __getitem__(self, index):
        made = self.transform(PICTURES[index])
        return (made if index < 4 or isinstance(self.transform, T.Compose) else made * 0), 0


def test_other_kinds_of_holders():
    check(lambda: Named(Pair(recipe(), 3)), COUNT)
    check(OfClass, COUNT)
    check(lambda: Asking(recipe()), COUNT)
    assert type(OfClass.augs["train"]) is T.Compose


# --- graphs of objects ------------------------------------------------------------------------------------------------


class Node:
    pass


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_copies_refer_to_each_other_as_the_originals_do(data):
    """The twin is `copy.deepcopy`, which copies all, with the other value in its memo."""
    count, old, new = data.draw(st.integers(1, 6)), object(), object()
    nodes = [data.draw(st.sampled_from([Node, dict, list]))() for _ in range(count)]
    for number, node in enumerate(nodes):
        for place in range(data.draw(st.integers(0, 3))):
            part = data.draw(st.sampled_from([*nodes, old, number]))
            part = (part, number) if data.draw(st.booleans()) else part
            if isinstance(node, Node):
                setattr(node, f"n{place}", part)
            else:
                node.append(part) if isinstance(node, list) else node.__setitem__(f"n{place}", part)
    before = _drawn(nodes[0])
    assert _drawn(replaced(nodes[0], {id(old): new}), {id(new): "new"}) == _drawn(
        copy.deepcopy(nodes[0], {id(old): new}), {id(new): "new"}
    )
    assert _drawn(nodes[0]) == before


def _drawn(root, said=None):
    """A graph in words: each mutable object gets a number where it is met first."""
    numbered, said = {}, said or {}

    def word(part):
        if id(part) in said:
            return said[id(part)]
        if isinstance(part, int) or type(part) is object:
            return repr(part)
        if isinstance(part, tuple):
            return tuple(map(word, part))
        if id(part) in numbered:
            return numbered[id(part)]
        numbered[id(part)] = len(numbered)
        own = vars(part) if isinstance(part, Node) else dict(enumerate(part)) if isinstance(part, list) else part
        inside = {name: value for name, value in own.items() if not str(name).startswith("_smartaug")}
        return numbered[id(part)], type(part).__name__, {name: word(value) for name, value in inside.items()}

    return word(root)


def test_pipelines_in_a_list_are_named():
    class Chain:
        def __init__(self, *parts):
            self.parts = parts

        def __call__(self, image):
            return self.parts[1](self.parts[0](image))

    words = "lift each of the pipelines in its attributes parts[0], parts[1] by itself"
    check(lambda: Pictures(Chain(T.Compose([T.RandomHorizontalFlip(1.0)]), T.Compose([T.ToTensor()]))), 0, words)


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")
def test_memory_that_is_not_there_yet_is_told():
    class Copying(Pictures):
        def __getitem__(self, index):
            made = self.transform(PICTURES[index])
            return torch.tensor(made) if index > 4 else made

    loader = smartaug.DataLoader(Copying(recipe()), 4, lift=True)
    with pytest.raises(RuntimeError, match=r"as torch\.tensor\(image\) does.*write image\.clone"):
        list(loader)


def test_modules_that_hold_a_pipeline_and_a_model():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.tf = nn.Sequential(T.RandomHorizontalFlip(1.0), T.Normalize((0.5,) * 3, (0.2,) * 3))

        def forward(self, image):
            return self.tf(T.functional.to_tensor(image))

    check(lambda: Pictures(Both()), COUNT)
