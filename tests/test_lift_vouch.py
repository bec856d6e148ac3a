"""Lift runs only on images that the dataset's transform made for that sample; all else is what torch's loader gives."""

import functools
import pickle
from dataclasses import dataclass

import albumentations as A
import numpy as np
import pytest
import torch
from albumentations.pytorch import ToTensorV2
from torch import nn
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, default_collate
from torch.utils.data import DataLoader as TorchDataLoader
from torchvision import transforms as v1
from torchvision import tv_tensors
from torchvision.transforms import v2

import smartaug
from smartaug.loading.row_samples import rows_of

# most datasets here have no batch that can be lifted; the tests of the warning ask for it
pytestmark = pytest.mark.filterwarnings("ignore:lift=True (had no effect|ran for only):smartaug.NoEffectWarning")

COUNT, SIDE = 12, 8
MIRROR = v2.RandomHorizontalFlip(1.0)


def fixed():
    """Without chance, so that both loaders give the same; floats in the end, uint8 in the worker under lift."""
    return v2.Compose([MIRROR, v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5], [0.25])])


def pixels():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (COUNT, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)


class Plain(Dataset):
    """Calls its transform once for every sample and returns what it gives."""

    def __init__(self, transform=None):
        self.x, self.transform = pixels(), fixed() if transform is None else transform
        self.cache, self.rows, self.augment, self.drawn = {}, torch.zeros(COUNT, 3, SIDE, SIDE), True, None

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        return self.transform(self.x[index]), index


def floats(image):
    return image.float() / 255


def same(mine, theirs):
    if isinstance(mine, dict):
        assert mine.keys() == theirs.keys()
        mine, theirs = list(mine.values()), list(theirs.values())
    if isinstance(mine, (list, tuple)):
        assert len(mine) == len(theirs)
        for a, b in zip(mine, theirs, strict=True):
            same(a, b)
    elif isinstance(mine, torch.Tensor):
        torch.testing.assert_close(mine.as_subclass(torch.Tensor), theirs.as_subclass(torch.Tensor), rtol=0, atol=2e-6)
    else:
        assert mine == theirs


def as_torch(make, epochs=1, batch_size=4, **keywords):
    """Assert that a lifting loader over ``make()`` gives what torch's loader gives; the loader."""
    loader = smartaug.DataLoader(make(), batch_size, lift=True, seed=0, **keywords)
    own = {name: value for name, value in keywords.items() if name not in ("inputs", "target", "still")}
    torchs = TorchDataLoader(make(), batch_size, **own)
    for _ in range(epochs):
        for mine, theirs in zip(loader, torchs, strict=True):
            same(mine, theirs)
    return loader


# --- datasets whose __getitem__ does not always return what its transform gave ----------------------------------------


class ByLabel(Plain):
    def __getitem__(self, index):
        return (self.transform(self.x[index]) if index % 3 == 0 else floats(self.x[index])), index


class BySource(Plain):
    def __getitem__(self, index):
        return (self.transform(self.x[index]) if index < 6 else self.x[index]), index


class Calm(Plain):
    """Images that no transform was called for, of the worker's type and size."""

    def __init__(self):
        super().__init__(v2.RandomVerticalFlip(1.0))

    def __getitem__(self, index):
        return (self.transform(self.x[index]) if index in (0, 5) else self.x[index]), index


class Other(Plain):
    """Its transform is called on one picture, and another one returned."""

    def __getitem__(self, index):
        image = self.transform(self.x[index])
        return (image if index % 2 == 0 else floats(self.x[(index + 1) % COUNT])), index


class After(Plain):
    def __getitem__(self, index):
        image = self.transform(self.x[index])
        return (image * 2 if index in (5, 6, 7) else image), index


class InPlace(Plain):
    def __getitem__(self, index):
        image = self.transform(self.x[index])
        if index > 2:
            image[:, :2] = 0.5
        return image, index


class AsArray(Plain):
    def __getitem__(self, index):
        image = self.transform(self.x[index])
        return (image if index < 4 else torch.from_numpy(np.asarray(image) + 1)), index


class Statistic(Plain):
    def __getitem__(self, index):
        image = self.transform(self.x[index])
        return image, float(image.mean()) if index in (3, 9) else 0.0


class BySize(Plain):
    def __getitem__(self, index):
        image = self.transform(self.x[index])
        return image, image.shape[-1] if index > 3 else 0


class Twice(Plain):
    def __getitem__(self, index):
        image = self.transform(self.x[index])
        return (self.transform(self.x[index]) + image if index == 7 else image), index


class DictCache(Plain):
    def __getitem__(self, index):
        if index not in self.cache:
            self.cache[index] = self.transform(self.x[index])
        return self.cache[index], index


class SampleCache(Plain):
    def __getitem__(self, index):
        if index not in self.cache:
            self.cache[index] = {"image": self.transform(self.x[index]), "label": index}
        return self.cache[index]


class LateCache(Plain):
    """Keeps some samples only."""

    def __getitem__(self, index):
        if index < 4:
            return self.transform(self.x[index]), index
        return self.cache.setdefault(index, self.transform(self.x[index])), index


class ArrayCache(Plain):
    def __getitem__(self, index):
        if index > 1:
            self.rows[index] = self.transform(self.x[index])
            return self.rows[index], index
        return self.transform(self.x[index]), index


class BatchCache(Plain):
    """Keeps whole lists of samples, which torch's fetcher is given as they are."""

    def __getitems__(self, indices):
        return self.cache.setdefault(tuple(indices), [self[index] for index in indices])


class Buffer(Plain):
    """Fills the same memory for every sample, as video decoders do."""

    def __init__(self, *shape):
        super().__init__()
        self.buffer = torch.empty(shape or (3, SIDE, SIDE), dtype=torch.uint8)

    def __getitem__(self, index):
        self.buffer.numpy()[...] = self.x[index].numpy()
        return self.transform(self.buffer), index


class BufferSeen(Buffer):
    """What a finished image is made of must be what came, too."""

    def __getitem__(self, index):
        made, index = super().__getitem__(index)
        self.buffer.zero_()
        return (made + 0 if index == 6 else made), index


class GreyBuffer(Plain):
    """The same with arrays (H, W)."""

    def __init__(self):
        super().__init__(v1.Compose([v1.ToTensor(), v1.RandomHorizontalFlip(1.0)]))
        self.buffer = np.empty((SIDE, SIDE), np.uint8)

    def __getitem__(self, index):
        self.buffer[...] = self.x[index][0].numpy()
        return self.transform(self.buffer), index


class InTwoPlaces(Plain):
    def __getitem__(self, index):
        image = self.transform(self.x[index])
        return {"image": image, "same": [image], "label": index}


class Flag(Plain):
    def __getitem__(self, index):
        return (self.transform(self.x[index]) if self.augment else floats(self.x[index])), index


GATES = [
    ByLabel,
    BySource,
    Calm,
    Other,
    After,
    InPlace,
    AsArray,
    Statistic,
    BySize,
    Twice,
    Buffer,
    BufferSeen,
    GreyBuffer,
]
CACHES = [DictCache, SampleCache, LateCache, ArrayCache, BatchCache]


@pytest.mark.filterwarnings("ignore:lift=True lifted nothing")
@pytest.mark.parametrize("kind", [*GATES, *CACHES])
def test_every_sample_is_what_torch_gives(kind):
    as_torch(kind, epochs=2)


@pytest.mark.filterwarnings("ignore:lift=True lifted nothing")
def test_one_image_at_two_places_of_a_sample():
    as_torch(InTwoPlaces, inputs="image", still="same")


@pytest.mark.parametrize("kind", [ByLabel, Statistic])
def test_every_sample_is_what_torch_gives_with_workers(kind):
    as_torch(kind, epochs=2, num_workers=2, persistent_workers=True)


@pytest.mark.parametrize("context", ["forkserver", pytest.param("spawn", marks=pytest.mark.slow)])
def test_every_sample_is_what_torch_gives_in_workers_that_are_not_forked(context):
    as_torch(ByLabel, num_workers=1, multiprocessing_context=context)


@pytest.mark.filterwarnings("ignore:lift=True lifted nothing")
@pytest.mark.parametrize("kind", CACHES)
def test_what_a_dataset_keeps_is_its_own(kind):
    dataset = kind()
    list(smartaug.DataLoader(dataset, 4, lift=True))
    pickle.dumps(dataset.cache)
    kept = [next(iter(TorchDataLoader(dataset, COUNT)))]
    same(kept, [next(iter(TorchDataLoader(kind(), COUNT)))])
    for part in dataset.cache.values():
        image = part["image"] if isinstance(part, dict) else part[0][0] if isinstance(part, list) else part
        assert type(image) is torch.Tensor


def test_a_cached_draw_stays_the_same():
    """What the dataset keeps has been drawn once, as with torch's loader."""

    class Drawn(LateCache):
        pass

    loader = smartaug.DataLoader(Drawn(v2.RandomHorizontalFlip()), 4, lift=True)
    first, second = ([images for images, _ in loader] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first[1:], second[1:], strict=True))


def test_a_random_gate_follows_the_datasets_own_draw():
    class Drawn(Plain):
        def __getitem__(self, index):
            on = index == 0 or bool(torch.rand(()) < 0.5)
            return (self.transform(self.x[index]) if on else floats(self.x[index])), on

    x, transform = pixels(), fixed()
    for _ in range(2):
        (images, flags), *_ = smartaug.DataLoader(Drawn(), COUNT, lift=True)
        expected = torch.stack([transform(x[i]) if flags[i] else floats(x[i]) for i in range(COUNT)])
        torch.testing.assert_close(images, expected)
        assert 1 < flags.sum() < COUNT


def test_a_batch_without_a_transformed_image_gets_only_what_augment_says():
    class Late(Plain):
        def __getitem__(self, index):
            return (self.transform(self.x[index]) if index < 4 else self.x[index]), index

    loader = smartaug.DataLoader(Late(MIRROR), 4, lift=True, augment=lambda images: images.flip(-2))
    for number, (images, _) in enumerate(loader):
        own = pixels()[4 * number : 4 * number + 4]
        assert torch.equal(images, (own.flip(-1) if number == 0 else own).flip(-2))


def test_untouched_samples_are_lifted():
    """The checks refuse nothing that is in order: views, dicts, subsets, streams, datasets that hold references."""

    class Views(Plain):
        def __getitem__(self, index):
            return [self.transform(self.x[index]), self.transform(self.x[index])], index

    class Named(Plain):
        def __getitem__(self, index):
            return {"image": self.transform(self.x[index]), "label": index}

    class Stream(IterableDataset):
        transform = fixed()

        def __iter__(self):
            for number, image in enumerate(pixels()):
                made = self.transform(image)
                yield made, number

    shared = fixed()
    for make in (
        Plain,
        Views,
        Named,
        Stream,
        lambda: Subset(Plain(), [3, 1, 7]),
        lambda: ConcatDataset([Plain(shared), Subset(Plain(shared), range(5))]),
        lambda: smartaug.AugmentedDataset(Bare(), fixed(), seed=0),
    ):
        loader = as_torch(make)
        assert loader.stats()["lifted"] == loader.stats()["samples"] > 0


class Bare(Dataset):
    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        return pixels()[index], index


def test_images_of_other_types_among_them_go_through_the_whole_pipeline():
    class Mixed(Plain):
        def __getitem__(self, index):
            image = self.x[index] if index % 4 else self.x[index].float() / 255
            return self.transform(image), index

    as_torch(Mixed)


def test_boxes_in_later_samples():
    """What a joint pipeline is given is looked at in every call, not only in the first."""

    class Later(Plain):
        def __getitem__(self, index):
            box = tv_tensors.BoundingBoxes([[0, 0, 4, 4]], format="XYXY", canvas_size=(SIDE, SIDE))
            extra = box if index > 3 else torch.zeros(1, 4)
            return self.transform(tv_tensors.Image(self.x[index]), extra)

    as_torch(functools.partial(Later, MIRROR))


# --- batches that are not lifted -------------------------------------------------------------------------------------


class Never(Plain):
    """The first sample alone is what the transform gave."""

    def __getitem__(self, index):
        image = self.transform(self.x[index])
        return (image if index == 0 else image + 0), index


def test_a_pass_in_which_nothing_was_lifted_says_so():
    loader = smartaug.DataLoader(Never(), 4, lift=True)
    with pytest.warns(smartaug.NoEffectWarning, match=r"no effect on 3 batches.*write lift=False"):
        list(loader)
    list(loader)  # once
    assert loader.stats()["lifted"] == 0
    assert "not lifted" in loader.explain()
    assert "24 of 24 samples so far" in loader.explain()


@pytest.mark.parametrize("stage", [smartaug.RandAugment(), smartaug.PadCrop(2)])
def test_augment_never_runs_in_two_units(stage):
    """It runs before the lifted Normalize; a batch that was not lifted is normalised already."""
    loader = smartaug.DataLoader(ByLabel(), 4, lift=True, augment=stage)
    with pytest.raises(ValueError, match=rf"runs {type(stage).__name__} of augment= before.*Normalize.*lift=False"):
        list(loader)
    list(smartaug.DataLoader(Plain(), 4, lift=True, augment=stage))
    list(smartaug.DataLoader(ByLabel(), 4, lift=True, augment=smartaug.Flip(1.0)))


@pytest.mark.parametrize("kind", [Plain, Twice])
def test_plain_passes_convert_and_normalise(kind):
    """Without the lifted flip, but with the lifted conversion."""
    loader = smartaug.DataLoader(kind(), 4, lift=True)
    flipless = v2.Compose(fixed().transforms[1:])
    with loader.plain():
        (images, _), *_ = list(loader)
    torch.testing.assert_close(images, torch.stack([flipless(image) for image in pixels()[:4]]))


def test_whole_pipelines_in_a_worker_draw_by_seed_and_epoch():
    """As the part that stays does, so that a resumed run repeats them."""

    def passes(epoch, seed):
        loader = smartaug.DataLoader(After(v2.RandomHorizontalFlip()), COUNT, lift=True, seed=3)
        loader.set_epoch(epoch)
        torch.manual_seed(seed)
        return next(iter(loader))[0]

    assert torch.equal(passes(0, 1), passes(0, 2))
    assert not torch.equal(passes(0, 1), passes(1, 1))
    flipped = (passes(0, 1) == passes(1, 1)).flatten(1).all(1)
    assert 0 < flipped.sum() < COUNT  # each sample by a draw of its own


# --- joint pipelines --------------------------------------------------------------------------------------------------


def _box():
    return tv_tensors.BoundingBoxes([[0, 0, 4, 4], [1, 2, 3, 6]], format="XYXY", canvas_size=(SIDE, SIDE))


def _points():
    return tv_tensors.KeyPoints([[1, 2], [3, 4]], canvas_size=(SIDE, SIDE))


POINTS = hasattr(tv_tensors, "KeyPoints")  # and rotated boxes: since torchvision 0.23
BESIDE = {
    "second image": lambda: tv_tensors.Image(pixels()[0]),
    "video": lambda: tv_tensors.Video(pixels()[:2]),
}
if POINTS:
    BESIDE["rotated boxes"] = lambda: tv_tensors.BoundingBoxes(
        [[4.0, 4, 2, 2, 30]], format="CXCYWHR", canvas_size=(SIDE, SIDE)
    )
MOVED = {
    "boxes": _box,
    "mask": lambda: tv_tensors.Mask(torch.arange(SIDE * SIDE).view(1, SIDE, SIDE)),
    "mask of half the size": lambda: tv_tensors.Mask(torch.arange(16).view(1, 4, 4)),
}
if POINTS:
    MOVED["keypoints"] = _points
ROOMS = {
    "tuple": lambda transform, image, part: transform(image, part),
    "named": lambda transform, image, part: transform(image, {"part": part}),
    "one dict": lambda transform, image, part: transform({"image": image, "part": part}),
    "nested": lambda transform, image, part: transform([image, {"deep": [part, 3]}]),
}


class Joint(Plain):
    def __init__(self, beside, room, transform=MIRROR):
        super().__init__(v2.Compose([v2.ToImage(), transform]))
        self.beside, self.room = beside, room

    def __getitem__(self, index):
        return ROOMS[self.room](self.transform, tv_tensors.Image(self.x[index]), (BESIDE | MOVED)[self.beside]())


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("beside", BESIDE)
def test_what_lift_cannot_move_keeps_the_whole_pipeline(beside, room):
    with pytest.warns(smartaug.NoEffectWarning, match="only the whole pipeline|images at once"):
        as_torch(functools.partial(Joint, beside, room))


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("beside", MOVED)
def test_what_moves_with_the_image_is_lifted(beside, room):
    assert as_torch(functools.partial(Joint, beside, room)).stats()["lifted"] == COUNT


def test_a_mask_of_another_size_stays_where_more_than_mirrors_move_it():
    with pytest.warns(smartaug.NoEffectWarning, match="another size"):
        as_torch(functools.partial(Joint, "mask of half the size", "tuple", v2.RandomRotation((90, 90))))


def test_plain_tensors_beside_an_image_stay_as_torchvision_leaves_them():
    class Labelled(Plain):
        def __getitem__(self, index):
            return self.transform(tv_tensors.Image(self.x[index]), torch.eye(4)[index % 4], index)

    loader = as_torch(functools.partial(Labelled, v2.Compose([MIRROR, v2.ToDtype(torch.float32, scale=True)])))
    assert loader.stats()["lifted"] == COUNT


def test_masks_of_albumentations():
    class Named(Plain):
        def __init__(self, half):
            super().__init__(A.Compose([A.HorizontalFlip(p=1.0), ToTensorV2()], is_check_shapes=False))
            self.half = half

        def __getitem__(self, index):
            image = self.x[index].permute(1, 2, 0).numpy()
            side = SIDE // 2 if self.half else SIDE
            mask = np.arange(side * side, dtype=np.int32).reshape(side, side)
            made = self.transform(image=image, mask=mask)
            return made["image"], made["mask"]

    assert as_torch(lambda: Named(False)).stats()["lifted"] == COUNT
    assert as_torch(lambda: Named(True)).stats()["lifted"] == COUNT


# --- collate functions ------------------------------------------------------------------------------------------------


def stacked(samples):
    return torch.stack([image for image, _ in samples]), torch.tensor([label for _, label in samples])


@dataclass
class Item:
    image: torch.Tensor
    label: int


class Objects(Plain):
    def __getitem__(self, index):
        return Item(self.transform(self.x[index]), index)


def of_objects(samples):
    return {"image": torch.stack([s.image for s in samples], dim=0), "label": torch.tensor([s.label for s in samples])}


def mixes(samples):
    images, labels = default_collate(samples)
    images = images.clone()
    images[:, :, 2:5, 2:5] = images.flip(0)[:, :, 2:5, 2:5]
    return images, labels


def mixes_some(samples):
    images, labels = default_collate(samples)
    if labels[0] > 3:
        images[:, :, :4] = 0
    return images, labels


def erases_one(samples):
    if samples[0][1] == 4:
        samples[1][0][:, :3] = 0
    return default_collate(samples)


def in_place_of_batch(samples):
    batch = default_collate(samples)
    batch[0].mul_(2)
    return batch


def halved(samples):
    images, labels = default_collate(samples)
    return images[..., ::2, ::2], labels


def by_array(samples):
    return torch.from_numpy(np.stack([np.asarray(image) for image, _ in samples])), stacked(samples)[1]


def as_lists(samples):
    return default_collate([(image, label) for image, label in samples])[::-1]


def filled(samples):
    batch = torch.zeros(len(samples), 3, SIDE, SIDE)
    for row, (image, _) in enumerate(samples):
        batch[row].copy_(image)
    return batch, torch.tensor([label for _, label in samples])


@pytest.mark.filterwarnings("ignore:lift=True lifted nothing")
@pytest.mark.parametrize("collate", [mixes, mixes_some, erases_one, in_place_of_batch, halved, by_array, filled])
def test_collate_functions_that_work_on_images_see_what_they_saw(collate):
    as_torch(Plain, collate_fn=collate)


def of_the_batch_before(kept, samples):
    images, labels = default_collate(samples)
    kept.append(images)
    return kept[-2] if len(kept) > 1 and len(kept[-2]) == len(images) else images, labels


def test_a_batch_that_a_collate_function_keeps_is_what_torch_gives():
    mine, theirs = [], []
    loader = smartaug.DataLoader(Plain(), 4, lift=True, collate_fn=functools.partial(of_the_batch_before, mine))
    torchs = TorchDataLoader(Plain(), 4, collate_fn=functools.partial(of_the_batch_before, theirs))
    for a, b in zip(loader, torchs, strict=True):
        same(a, b)
    same(mine[-COUNT // 4 :], theirs)


@pytest.mark.filterwarnings("ignore:lift=True lifted nothing")
def test_one_image_in_two_places_is_drawn_once():
    def both(samples):
        return default_collate([((image, image), label) for image, label in samples])

    for (one, other), _ in smartaug.DataLoader(Plain(v2.RandomHorizontalFlip()), 4, lift=True, collate_fn=both):
        assert torch.equal(one, other)


def test_collate_functions_in_workers():
    as_torch(Plain, collate_fn=mixes_some, num_workers=2)


@pytest.mark.parametrize("collate", [stacked, as_lists, default_collate])
def test_collate_functions_that_only_put_samples_together_are_lifted(collate):
    assert as_torch(Plain, collate_fn=collate).stats()["lifted"] == COUNT


def test_samples_that_are_objects_of_the_users_are_left_alone():
    with pytest.warns(smartaug.NoEffectWarning, match="does not return it"):
        as_torch(Objects, collate_fn=of_objects)


def test_a_collate_function_that_mixes_at_random_is_called_once_a_batch():
    calls, begun = [], False

    def cut(samples):
        images, labels = default_collate(samples)
        if begun and torch.rand(()) < 0.5:
            calls.append(images.dtype)
            images = images.roll(1, 0)
        else:
            calls.append(None)
        return images, labels

    torch.manual_seed(1)
    loader = smartaug.DataLoader(Plain(), 2, lift=True, collate_fn=cut)
    transform, x, begun = fixed(), pixels(), True
    for _ in range(3):
        calls.clear()
        for number, (images, labels) in enumerate(loader):
            expected = torch.stack([transform(x[i]) for i in labels.tolist()])
            torch.testing.assert_close(images, expected.roll(1, 0) if calls[number] else expected)
        assert len(calls) == COUNT // 2
        assert set(calls) <= {None, torch.float32}


# --- rows that are not the samples one by one -------------------------------------------------------------------------


class Broken(Plain):
    """Samples 2 and 5 cannot be read."""

    broken = (2, 5)

    def __init__(self, lifted):
        super().__init__(v2.Compose([MIRROR]) if lifted else None)
        self.lifted = lifted

    def __getitem__(self, index):
        if index in self.broken:
            return None
        return (self.transform(self.x[index]) if self.lifted else self.x[index]), index % 2


def dropped(samples):
    return default_collate([sample for sample in samples if sample is not None])


def replaced(samples):
    good = [sample for sample in samples if sample is not None]
    return default_collate([good[0] if sample is None else sample for sample in samples])


def reversed_(samples):
    return dropped(samples[::-1])


def by_hand(samples):
    good = [sample for sample in samples if sample is not None]
    return torch.stack([image for image, _ in good]), torch.tensor([float(label) for _, label in good])


@pytest.mark.parametrize("lifted", [False, True])
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("collate", "expected"),
    [
        (dropped, [0, 1, 3, 4, 6, 7, 8, 9, 10, 11]),
        (replaced, [0, 1, 0, 3, 4, 4, 6, 7, 8, 9, 10, 11]),
        (reversed_, [3, 1, 0, 7, 6, 4, 11, 10, 9, 8]),
        (by_hand, [0, 1, 3, 4, 6, 7, 8, 9, 10, 11]),
    ],
)
def test_the_index_stays_with_its_sample(collate, expected, lifted, workers):
    if workers and collate is not dropped:
        return
    augment = smartaug.PadCrop(3)
    loader = smartaug.DataLoader(
        Broken(lifted), 4, lift=lifted, augment=augment, collate_fn=collate, seed=0, num_workers=workers
    )
    images, index = [], []
    for batch, target in loader:
        images.append(batch)
        index += target.index.tolist()
    assert index == expected
    if collate is not replaced and not lifted:  # a sample that came before in the pass is drawn anew
        whole = augment(pixels(), index=torch.arange(COUNT), epoch=0, seed=0)
        assert torch.equal(torch.cat(images), whole[expected])


def test_rows_that_cannot_be_told_apart_have_no_index():
    """Labels alone are left, and several samples have them."""

    def replaced_images(samples):
        images, labels = dropped(samples)
        return torch.rand(images.shape), labels

    loader = smartaug.DataLoader(Broken(False), 4, augment=lambda images: images, collate_fn=replaced_images)
    found = [target.index for _, target in loader]
    assert found[0] is None
    assert found[1] is None
    assert found[2].tolist() == [8, 9, 10, 11]


def test_equal_samples_are_interchangeable():
    x = torch.zeros(3, 2, 2)
    samples = [(x, 0), None, (x.clone(), 0), (x + 1, 1)]
    assert rows_of(samples, dropped(samples)).samples == [0, 2, 3]
    assert rows_of(samples[2:], torch.full((5, 2), 9.0)) is None


def test_rows_with_new_images_are_not_attributed_by_their_labels():
    samples = [(torch.rand(3, 4, 4), label) for label in (0, 1, 2, 3)]
    images = torch.stack([image for image, _ in samples])
    averaged = (images[::2] + images[1::2]) / 2
    assert rows_of(samples, (averaged, torch.tensor([1, 1]))).samples is None
    normalised = (images / 255 - torch.tensor([0.1, 0.2, 0.3])[:, None, None]) / 0.5
    assert rows_of(samples, (normalised, torch.zeros(4))).samples == [0, 1, 2, 3]
    assert rows_of(samples, (normalised.flip(0), torch.zeros(4))).samples == [3, 2, 1, 0]
    assert rows_of(samples, (normalised[[2, 0]], torch.tensor([2, 0]))).samples == [2, 0]


@pytest.mark.filterwarnings("ignore:InfoBatch.* gives epochs of different lengths")
def test_coresets_over_dropped_samples():
    class One(Broken):
        broken = (2,)

    data, network = One(False), nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 2))
    data.targets = [index % 2 for index in range(COUNT)]
    criterion = smartaug.Loss(nn.CrossEntropyLoss())
    loader = smartaug.DataLoader(
        data,
        4,
        shuffle=True,
        drop_last=True,
        collate_fn=dropped,
        augment=smartaug.Flip(),
        coreset=smartaug.coreset.InfoBatch(4),
        seed=0,
    )
    for _ in range(2):
        for images, target in loader:
            criterion(network(images.float() / 255), target).backward()
            assert 2 not in target.index.tolist()
            assert torch.equal(target % 2, target.index % 2)


# --- what changes on the user's object --------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapped", [lambda d: d, lambda d: Subset(d, range(COUNT)), lambda d: ConcatDataset([d])])
@pytest.mark.parametrize("workers", [0, 2])
def test_attributes_reach_the_loaders_copy(wrapped, workers):
    dataset = Flag()
    loader = smartaug.DataLoader(wrapped(dataset), 4, lift=True, num_workers=workers)
    next(iter(loader))
    dataset.augment = False
    dataset.x = 255 - dataset.x
    dataset.new = 3
    torch.testing.assert_close(next(iter(loader))[0], floats(255 - pixels()[:4]))
    del dataset.new
    dataset.augment = True
    torch.testing.assert_close(
        next(iter(loader))[0], torch.stack([fixed()(image) for image in 255 - pixels()[:4]]), rtol=0, atol=2e-6
    )
    inner = loader.dataset
    while type(inner) is not Flag:
        inner = inner.dataset if isinstance(inner, Subset) else inner.datasets[0]
    assert not hasattr(inner, "new")


def test_indices_of_a_subset_are_followed():
    subset = Subset(Plain(), range(4))
    loader = smartaug.DataLoader(subset, 4, lift=True)
    list(loader)
    subset.indices = [8, 9, 10, 11]
    assert next(iter(loader))[1].tolist() == [8, 9, 10, 11]


def test_copies_follow_nobody():
    dataset = Flag()
    loader = smartaug.DataLoader(dataset, 4, lift=True, seed=0)
    copied = pickle.loads(pickle.dumps(loader))
    dataset.augment = False
    torch.testing.assert_close(next(iter(copied))[0], torch.stack([fixed()(image) for image in pixels()[:4]]))


def chain():
    return [v2.RandomHorizontalFlip(1.0), v2.ColorJitter(0.4), v2.RandomAffine(20), v2.RandomErasing(0.5)]


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("by", torch.ones(1))

    def forward(self, image):
        return (image * self.by).to(image.dtype)


def _nested():
    return v2.Compose([v2.RandomApply([v2.RandomVerticalFlip(1.0)], 0.5), v2.Compose(chain())])


def _policy():
    return v1.Compose([v1.RandAugment(2, 5), v1.RandomInvert(0.0)])


EDITS = {
    "p": (lambda: v2.Compose(chain()), lambda t: setattr(t.transforms[0], "p", 0.0)),
    "pop": (lambda: v2.Compose(chain()), lambda t: t.transforms.pop()),
    "append": (lambda: v2.Compose(chain()), lambda t: t.transforms.append(v2.RandomInvert())),
    "swapped": (lambda: v2.Compose(chain()), lambda t: t.transforms.reverse()),
    "range": (lambda: v2.Compose(chain()), lambda t: setattr(t.transforms[2], "degrees", [-5.0, 5.0])),
    "jitter": (lambda: v2.Compose(chain()), lambda t: setattr(t.transforms[1], "brightness", (0.9, 1.1))),
    "nested p": (_nested, lambda t: setattr(t.transforms[0].transforms[0], "p", 0.1)),
    "nested pop": (_nested, lambda t: t.transforms[1].transforms.pop(0)),
    "combinator": (_nested, lambda t: setattr(t.transforms[0], "p", 0.9)),
    "magnitude": (_policy, lambda t: setattr(t.transforms[0], "magnitude", 9)),
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("wrapped", [lambda d: d, lambda d: ConcatDataset([Subset(d, range(8))])])
def test_a_pipeline_changed_in_place_is_noticed(edit, wrapped):
    make, change = EDITS[edit]
    dataset = Plain(make())
    loader = smartaug.DataLoader(wrapped(dataset), 4, lift=True)
    for _ in range(2):
        list(loader)
    change(dataset.transform)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"changed after lift=True took it over.*make the loader anew"):
            next(iter(loader))
    list(smartaug.DataLoader(wrapped(dataset), 4, lift=True))


def _p_of_albumentations(transform):
    transform.transforms[0].p = 0.0


@pytest.mark.parametrize("edit", [_p_of_albumentations, lambda t: t.transforms.pop(0)])
def test_an_albumentations_pipeline_changed_in_place_is_noticed(edit):
    class Named(Plain):
        def __getitem__(self, index):
            return self.transform(image=self.x[index].permute(1, 2, 0).numpy())["image"], index

    dataset = Named(A.Compose([A.HorizontalFlip(p=1.0), A.RandomBrightnessContrast(p=0.5), ToTensorV2()]))
    loader = smartaug.DataLoader(dataset, 4, lift=True)
    list(loader)
    list(loader)
    edit(dataset.transform)
    with pytest.raises(RuntimeError, match="make the loader anew"):
        next(iter(loader))


def test_what_stays_in_the_worker_may_change():
    """Those transforms are the user's own objects, which the loader calls."""
    dataset = Plain(v2.Compose([Scale(), MIRROR]))
    loader = smartaug.DataLoader(dataset, 4, lift=True)
    list(loader)
    dataset.transform.transforms[0].by.zero_()
    assert not next(iter(loader))[0].any()


def test_the_buffers_of_a_kornia_module_are_watched():
    import kornia.augmentation as K

    dataset = Plain(nn.Sequential(K.RandomHorizontalFlip(p=1.0, keepdim=True), K.RandomErasing(p=0.5, keepdim=True)))
    loader = smartaug.DataLoader(dataset, 4, lift=True)
    list(loader)
    list(loader)
    dataset.transform[0].p = 0.0
    with pytest.raises(RuntimeError, match="make the loader anew"):
        next(iter(loader))


# --- which images ----------------------------------------------------------------------------------------------------


def test_lifted_transforms_run_on_the_transformed_images_or_not_at_all():
    class Pair(Plain):
        def __getitem__(self, index):
            return {"image": floats(self.x[index])[:, ::2, ::2], "view": self.transform(self.x[index]), "label": index}

    loader = smartaug.DataLoader(Pair(), 4, lift=True)
    with pytest.raises(ValueError, match=r"made batch\['view'\], and the inputs are batch\['image'\].*inputs="):
        next(iter(loader))
    as_torch(Pair, inputs="view", still="image")


def test_deferred_images_outside_a_loader_are_what_the_transform_gives():
    copied = smartaug.DataLoader(Plain(), 4, lift=True).dataset
    image, _ = copied[3]
    assert image.ndim == 3
    torch.testing.assert_close(image + 0, fixed()(pixels()[3]))
    assert type(image) is torch.Tensor
    for mine, theirs in zip(TorchDataLoader(copied, 4, num_workers=1), TorchDataLoader(Plain(), 4), strict=True):
        same(mine, theirs)
    torch.testing.assert_close(pickle.loads(pickle.dumps(copied[1][0])), fixed()(pixels()[1]))
    assert copied[2][0].numpy().shape == (3, SIDE, SIDE)
