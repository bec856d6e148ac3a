"""Lift where the dataset changes its transform between samples, seeds it, or changes itself: right, or refused."""

import copy
import pickle
import random

import albumentations as A
import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset
from torch.utils.data import DataLoader as TorchDataLoader
from torchvision import transforms as v1
from torchvision.transforms import v2

import smartaug

COUNT = 12
PIXELS = torch.randint(0, 256, (COUNT, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Images(Dataset):
    def __init__(self, transform=None):
        self.transform, self.flips = transform or v2.Compose([v2.RandomHorizontalFlip(0.5)]), True

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        return self.transform(PIXELS[index]), index


# --- a transform that is changed for a sample ------------------------------------------------------------------------


class ByPath(Images):
    def change(self, p):
        self.transform.transforms[0].p = p


class ByReference(Images):
    def __init__(self, flip=None):
        self.flip = flip or v1.RandomHorizontalFlip(0.5)
        super().__init__(v1.Compose((v1.RandomApply([self.flip], 1.0),)))

    def change(self, p):
        self.flip.p = p


class OneTransform(Images):
    def __init__(self):
        super().__init__(v2.RandomHorizontalFlip(0.5))

    def change(self, p):
        self.transform.p = p


class TakesOut(Images):
    def __init__(self):
        super().__init__(v2.Compose([v2.RandomHorizontalFlip(1.0), v2.RandomVerticalFlip(0.0)]))

    def change(self, p):
        self.transform.transforms[:] = [v2.RandomHorizontalFlip(p)]


class OfAlbumentations(Images):
    def __init__(self):
        super().__init__(A.Compose([A.HorizontalFlip(p=0.5)]))

    def change(self, p):
        self.transform.transforms[0].p = p


def changing(kind, first):
    """A dataset that from sample ``first`` on flips odd images only."""

    class Changing(kind):
        def __getitem__(self, index):
            if index >= first:
                self.change(float(index % 2))
            if kind is not OfAlbumentations:
                return super().__getitem__(index)
            made = self.transform(image=PIXELS[index].permute(1, 2, 0).numpy())["image"]
            return torch.as_tensor(np.ascontiguousarray(made)).reshape(4, 4, 3).permute(2, 0, 1), index

    return Changing()


KINDS = [ByPath, ByReference, OneTransform, TakesOut, OfAlbumentations]


@pytest.mark.filterwarnings("ignore:lift=True lifted nothing")
@pytest.mark.parametrize("kind", KINDS)
def test_a_transform_that_the_first_sample_changes_stays(kind):
    loader = smartaug.DataLoader(changing(kind, 0), 4, lift=True, seed=0)
    for images, index in loader:
        for image, number in zip(images, index.tolist(), strict=True):
            assert torch.equal(image, PIXELS[number].flip(-1) if number % 2 else PIXELS[number])


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", [ByPath, ByReference, OneTransform, TakesOut])
def test_a_transform_that_a_later_sample_changes_is_refused(kind, workers):
    if workers and kind is not ByPath:
        return
    loader = smartaug.DataLoader(changing(kind, 6), 4, lift=True, seed=0, num_workers=workers)
    iterator = iter(loader)
    next(iterator)
    with pytest.raises(RuntimeError, match="write lift=False"):
        next(iterator)


def test_a_transform_that_is_changed_during_a_pass_is_refused():
    dataset = Images()
    iterator = iter(smartaug.DataLoader(dataset, 4, lift=True, seed=0))
    next(iterator)
    dataset.transform.transforms[0].p = 1.0
    with pytest.raises(RuntimeError, match=r"RandomHorizontalFlip.p .* was 0.5 and is 1.0"):
        next(iterator)
    dataset.transform.transforms[0].p = 0.5
    iterator = iter(smartaug.DataLoader(dataset, 4, lift=True, seed=0))
    next(iterator)
    dataset.transform = v2.RandomVerticalFlip(1.0)
    with pytest.raises(RuntimeError, match="make the loader anew"):
        next(iterator)


def test_copies_of_what_is_watched_are_watched():
    loader = smartaug.DataLoader(Images(), 4, lift=True, seed=0)
    for copied in (copy.deepcopy(loader.dataset), pickle.loads(pickle.dumps(loader.dataset))):
        assert copied[0][0].shape == (3, 4, 4)
        copied.transform.original.transforms[0].p = 1.0
        with pytest.raises(RuntimeError, match="write lift=False"):
            copied[0]


# --- draws that are to agree -----------------------------------------------------------------------------------------


def seeds_torch():
    seed = int(torch.randint(2**31, ()))
    return lambda: torch.manual_seed(seed)


def seeds_python():
    seed = random.randrange(2**31)
    return lambda: random.seed(seed)


def seeds_numpy():
    seed = np.random.randint(2**31)
    return lambda: np.random.seed(seed)


def sets_back():
    state = torch.get_rng_state()
    return lambda: torch.set_rng_state(state)


@pytest.mark.parametrize("again", [seeds_torch, seeds_python, seeds_numpy, sets_back])
def test_frames_drawn_with_one_seed_stay_alike(again):
    """The usual advice for clips: the same seed before each frame."""

    class Clip(Images):
        def __getitem__(self, index):
            seeded, frames = again(), []
            for _ in range(3):
                seeded()
                frames.append(self.transform(PIXELS[index]))
            return frames, index

    with pytest.warns(smartaug.NoEffectWarning, match="seeds a global random generator, or sets it back"):
        loader = smartaug.DataLoader(Clip(), 4, lift=True, seed=0)
    for frames, _ in loader:
        if again in (seeds_torch, sets_back):  # of which torchvision draws
            assert torch.equal(frames[0], frames[1])
            assert torch.equal(frames[0], frames[2])


@pytest.mark.parametrize("views", [None, "same", "independent"])
def test_frames_of_a_stream_need_views(views):
    """No sample of a stream is read beforehand, so that seeds are not seen."""

    class Clips(IterableDataset):
        transform = v2.RandomHorizontalFlip(0.5)

        def __iter__(self):
            for index in range(COUNT):
                yield [self.transform(PIXELS[index]) for _ in range(3)], index

    loader = smartaug.DataLoader(Clips(), 4, lift=True, seed=0, views=views)
    if views is None:
        with pytest.raises(ValueError, match='write views="independent"'):
            next(iter(loader))
        return
    alike = [torch.equal(frames[0], frame) for frames, _ in loader for frame in frames[1:]]
    assert all(alike) == (views == "same")


@pytest.mark.filterwarnings("ignore:lift=True lifted nothing")
def test_draws_seeded_by_the_index_stay_the_same():
    """Validation sets that are augmented alike in every run."""

    class Fixed(Images):
        def __getitem__(self, index):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(index)
                return super().__getitem__(index)

    for (mine, _), (theirs, _) in zip(
        smartaug.DataLoader(Fixed(), 4, lift=True, seed=0), TorchDataLoader(Fixed(), 4), strict=True
    ):
        assert torch.equal(mine, theirs)


def test_draws_of_the_dataset_itself_do_not_count_as_seeds():
    class Drawing(Images):
        def __getitem__(self, index):
            random.random(), np.random.rand(700), torch.rand(700)
            return [self.transform(PIXELS[index]) for _ in range(2)], index

    loader = smartaug.DataLoader(Drawing(), 4, lift=True, seed=0, views="independent")
    assert len(list(loader)) == 3
    assert loader.stats()["lifted"] == COUNT


# --- a dataset that changes ------------------------------------------------------------------------------------------


class Flag(Images):
    def __getitem__(self, index):
        return (self.transform(PIXELS[index]) if self.flips else PIXELS[index]), index


class Slotted(Flag):
    __slots__ = ("flips",)


@pytest.mark.parametrize("wrapped", [lambda d: d, lambda d: Subset(d, range(COUNT)), lambda d: ConcatDataset([d])])
@pytest.mark.parametrize("kind", [Flag, Slotted])
def test_attributes_act_at_once_without_workers(kind, wrapped):
    dataset = kind(v2.RandomHorizontalFlip(1.0))
    loader = smartaug.DataLoader(wrapped(dataset), 4, lift=True, seed=0)
    for number, (images, _) in enumerate(loader):
        own = PIXELS[4 * number : 4 * number + 4]
        assert torch.equal(images, own.flip(-1) if number == 0 else own)
        dataset.flips = False
    for (images, _), own in zip(loader, PIXELS.split(4), strict=True):
        assert torch.equal(images, own)
