"""`AugmentedDataset`: draws are a function of (seed, epoch, index), in whatever process samples are loaded."""

import copy
import functools
import itertools
import pickle
import random
from collections import namedtuple

import albumentations
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from torch.utils.data import ConcatDataset, IterableDataset, Subset
from torch.utils.data import DataLoader as TorchDataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

import smartaug
from smartaug._base import leaves as _leaves
from smartaug._base.dataset_labels import classes_of
from smartaug.augment.generators import Generators
from smartaug.loading.augmented.per_sample import Albumentations, is_albumentations
from smartaug.loading.augmented.shared_epoch import SharedEpoch
from tests.data import SamePicture, blank, shifted

SIZE = 11


class AtOnce(SamePicture):
    def __init__(self, size=SIZE):
        super().__init__(size)
        self.batches = []

    def __getitems__(self, indices):
        self.batches.append(list(indices))
        return [self[index] for index in indices]


class Tensors(SamePicture):
    def __getitem__(self, index):
        return torch.from_numpy(self.picture).permute(2, 0, 1), index


def pipeline():
    noise = albumentations.GaussNoise(std_range=(0.1, 0.2), p=1.0)
    return albumentations.Compose(
        [albumentations.RandomCrop(8, 8), albumentations.HorizontalFlip(), noise, albumentations.ToTensorV2()]
    )


def augmented(**settings):
    return smartaug.AugmentedDataset(SamePicture(), pipeline(), **{"seed": 5, **settings})


def passes(loader, epochs=2):
    """{(epoch, index): image}."""
    return {
        (epoch, index): image
        for epoch in range(epochs)
        for images, indices in loader
        for index, image in zip(indices.tolist(), images, strict=True)
    }


def direct(dataset, epochs=2):
    """The same by indexing, with the epoch told."""
    found = {}
    for epoch in range(epochs):
        dataset.set_epoch(epoch)
        found.update({(epoch, index): dataset[index][0] for index in range(len(dataset))})
    return found


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture(scope="module")
def expected():
    found = direct(augmented())
    assert len({image.numpy().tobytes() for image in found.values()}) == 2 * SIZE, "samples and epochs must differ"
    return found


@pytest.mark.parametrize("make", [TorchDataLoader, smartaug.DataLoader])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"batch_size": 3, "shuffle": True},
        {"batch_size": 2, "num_workers": 1},
        {"batch_size": 2, "num_workers": 2, "shuffle": True},
        {"batch_size": 4, "num_workers": 2, "persistent_workers": True},
    ],
    ids=str,
)
def test_whatever_loads_it(make, settings, expected):
    assert_same(passes(make(augmented(), **settings)), expected)


@pytest.mark.parametrize(
    ("context", "workers"), [("forkserver", 1), ("forkserver", 2), pytest.param("spawn", 2, marks=pytest.mark.slow)]
)
def test_workers_that_are_not_forked(context, workers):
    """They share the count of epochs and the mask; two of them persist."""
    mask = torch.ones(SIZE, dtype=torch.uint8)
    dataset = smartaug.AugmentedDataset(SamePicture(), shifted, only=mask, plain=blank, seed=5)
    wanted = direct(copy.deepcopy(dataset))
    loader = TorchDataLoader(
        dataset, 4, num_workers=workers, persistent_workers=workers > 1, multiprocessing_context=context
    )
    found = passes(loader, 1)
    mask[:5] = 0
    found.update({(1, index): image for (_, index), image in passes(loader, 1).items()})
    assert found.keys() == wanted.keys()
    for (epoch, index), image in found.items():
        replaced = epoch == 1 and index < 5
        assert np.array_equal(image, np.zeros((12, 12, 3)) if replaced else wanted[epoch, index])


def test_each_seed_draws_its_own():
    one, two = direct(augmented(seed=1), 1), direct(augmented(seed=2), 1)
    assert not any(torch.equal(one[key], two[key]) for key in one)
    torch.manual_seed(77)
    assert_same(direct(augmented(seed=None), 1), direct(augmented(seed=77), 1))


def test_children_of_a_pipeline_draw_apart():
    """2.0.8's Compose(seed=...) flips both ways or not at all."""
    ramp = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    flips = albumentations.Compose([albumentations.HorizontalFlip(), albumentations.VerticalFlip()], seed=3)
    dataset = smartaug.AugmentedDataset([ramp] * 200, flips, seed=0)
    counts = torch.zeros(16)
    for i in range(200):
        counts[int(dataset[i][0, 0, 0])] += 1
    assert (counts[[0, 3, 12, 15]] > 25).all()
    assert counts.sum() == 200


def test_epochs_are_counted_past_the_table():
    dataset = smartaug.AugmentedDataset([0], abs, seed=0)
    loader = TorchDataLoader(dataset)
    for epoch in range(300):
        assert list(loader) == [0]
        assert dataset.epoch == epoch
    dataset.set_epoch(7)
    assert dataset.epoch == 7
    assert list(loader) == [0]
    assert dataset.epoch == 7
    assert list(loader) == [0]
    assert dataset.epoch == 8


def test_an_abandoned_pass_and_two_at_once(expected):
    loader = TorchDataLoader(augmented(), batch_size=1)
    one, two = iter(loader), iter(loader)
    found = [next(one), next(two), next(one), next(two)]
    for position, (images, indices) in enumerate(found):
        assert torch.equal(images[0], expected[position % 2, int(indices)])


def test_through_wrappers_our_loader_tells_the_epoch(expected):
    part = Subset(ConcatDataset([augmented(), SamePicture(3)]), [0, 3, 4])
    loader = smartaug.DataLoader(part, returns="batch")
    loader.set_epoch(1)
    for images, index, *_ in loader:
        assert torch.equal(images[0], expected[1, int(index)])


def test_resuming_replays(expected):
    def make(seed):
        torch.manual_seed(seed)
        settings = {"batch_size": 3, "shuffle": True, "seed": 0, "num_workers": 1}
        return smartaug.DataLoader(augmented(), returns="batch", **settings)

    loader = make(0)
    list(loader)
    running = iter(loader)
    next(running)
    state = loader.state_dict()
    rest = [batch[:2] for batch in running]
    resumed = make(1)
    resumed.load_state_dict(state)
    again = [batch[:2] for batch in resumed]
    assert len(again) == len(rest) == 3
    for (images, index), (more, same) in zip(rest, again, strict=True):
        assert torch.equal(images, more)
        assert torch.equal(index, same)
        for image, i in zip(images, index.tolist(), strict=True):
            assert torch.equal(image, expected[1, i])


@pytest.mark.parametrize("make", [TorchDataLoader, smartaug.DataLoader])
def test_accelerate_says_the_epoch(make, expected):
    loader = Accelerator(cpu=True).prepare(make(augmented(), batch_size=4, num_workers=1, persistent_workers=True))
    assert_same(passes(loader), expected)


# --- what the transform is called with -------------------------------------------------------------------------------


def crop():
    return albumentations.Compose([albumentations.RandomCrop(4, 4)])


Pair = namedtuple("Pair", "image mask label")


def positions():
    """An array whose values say where they were."""
    return np.arange(144, dtype=np.uint8).reshape(12, 12)


@pytest.mark.parametrize(
    ("sample", "image", "mask"),
    [
        (positions(), (), None),
        ((positions(), 3), (0,), None),
        ([positions(), positions()], (0,), (1,)),
        (Pair(Image.fromarray(positions()), Image.fromarray(positions()), np.zeros(3)), (0,), (1,)),
        ({"image": positions(), "mask": positions(), "label": 1}, ("image",), ("mask",)),
        ({"pixel_values": Image.fromarray(positions()), "mask": positions(), "label": 1}, ("pixel_values",), ("mask",)),
        ({"image": positions(), "masks": [positions(), positions()], "mask": None}, ("image",), ("masks", 1)),
    ],
)
def test_albumentations_moves_what_belongs_together(sample, image, mask):
    dataset = smartaug.AugmentedDataset([sample] * 8, crop(), seed=0)
    seen = set()
    for made in (dataset[i] for i in range(8)):
        assert type(made) is type(sample)
        moved = _leaves.get(made, image)
        assert moved.shape == (4, 4)
        seen.add(int(moved[0, 0]))
        if mask is not None:
            assert np.array_equal(moved, _leaves.get(made, mask))
        if isinstance(sample, dict):
            assert made.keys() == sample.keys()
            assert made.get("label") == sample.get("label")
    assert len(seen) > 1
    assert np.asarray(_leaves.get(sample, image)).shape == (12, 12), "the given sample stays"


def test_boxes_follow():
    boxes = albumentations.BboxParams("pascal_voc", label_fields=["kinds"])
    transform = albumentations.Compose([albumentations.HorizontalFlip(p=1.0)], bbox_params=boxes)
    sample = {"image": positions(), "bboxes": [[1, 2, 5, 6]], "kinds": [4], "name": "a.jpg"}
    made = smartaug.AugmentedDataset([sample], transform, seed=0)[0]
    assert np.allclose(np.asarray(made["bboxes"]), [[7, 2, 11, 6]])
    assert list(made["kinds"]) == [4]
    assert made["name"] == "a.jpg"


def test_torchvision_on_the_image_and_on_the_whole_sample():
    flip, image = v2.RandomHorizontalFlip(), tv_tensors.Image(torch.from_numpy(positions())[None])
    alone = smartaug.AugmentedDataset([(image, 3)] * 20, flip, seed=0)
    assert {int(alone[i][0][0, 0, 0]) for i in range(20)} == {0, 11}
    assert all(alone[i][1] == 3 for i in range(20))
    joint = smartaug.AugmentedDataset([(image, tv_tensors.Mask(image[0]))] * 20, flip, seed=0, joint=True)
    assert {int(joint[i][0][0, 0, 0]) for i in range(20)} == {0, 11}
    assert all(torch.equal(joint[i][0][0], joint[i][1]) for i in range(20))


def draws_everywhere(image):
    return float(torch.rand(())) + random.random() + np.random.rand()


def shaken(image, **_):
    return np.full_like(image, np.random.randint(256))


@pytest.mark.parametrize("transform", [draws_everywhere, albumentations.Lambda(image=shaken, p=1.0), pipeline()])
def test_nothing_global_moves(transform):
    dataset = smartaug.AugmentedDataset(SamePicture(), transform, seed=0)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    one = [dataset[i][0] for i in range(SIZE)]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]
    assert len({np.asarray(made).tobytes() for made in one}) > SIZE - 3
    random.seed(8)
    np.random.seed(8)
    torch.manual_seed(8)
    assert all(np.array_equal(np.asarray(made), np.asarray(dataset[i][0])) for i, made in enumerate(one))


def test_only_what_may_draw_globally_is_forked():
    inside = [albumentations.ColorJitter(), albumentations.OneOf([albumentations.HorizontalFlip()])]
    assert not Albumentations(albumentations.Compose(inside)).forks
    assert Albumentations(albumentations.Compose([*inside, albumentations.Lambda(image=shaken)])).forks


def test_the_given_pipeline_keeps_its_generators():
    transform = pipeline()
    kept = transform.py_random, transform.transforms[0].py_random, transform.transforms[2].random_generator
    state = kept[2].bit_generator.state
    smartaug.AugmentedDataset(SamePicture(), transform, seed=0)[0]
    assert (transform.py_random, transform.transforms[0].py_random, transform.transforms[2].random_generator) == kept
    assert kept[2].bit_generator.state == state


def test_a_single_transform_and_old_releases_are_known():
    class Old:
        __module__ = "albumentations.core"

    assert is_albumentations(albumentations.HorizontalFlip())
    assert is_albumentations(Old())
    assert not is_albumentations(v2.RandomHorizontalFlip())


# --- only a part is augmented ----------------------------------------------------------------------------------------


class Selecting:
    """Offers what a coreset does: one shared mask per size, updated in place."""

    def __init__(self):
        self.masks = {}

    def membership(self, size):
        return self.masks.setdefault(size, torch.zeros(size, dtype=torch.uint8).share_memory_())

    def __deepcopy__(self, memo):
        raise AssertionError("the coreset must be kept by reference")


def halved(image):
    return image // 2


def same(image):
    return image


@pytest.mark.parametrize("workers", [0, 2])
def test_only_the_selected(workers):
    coreset = Selecting()
    dataset = smartaug.AugmentedDataset(Tensors(), halved, only=coreset, seed=0)
    copies = [dataset, copy.deepcopy(dataset)]
    loaders = [TorchDataLoader(d, 4, num_workers=workers, persistent_workers=workers > 0) for d in copies]
    picture = Tensors()[0][0]
    for selected in ([], [1, 4], [0, 1, 2, 10]):
        coreset.masks[SIZE].zero_()[selected] = 1
        for loader in loaders:
            found = passes(loader, 1)
            assert len(found) == SIZE
            for (_, index), image in found.items():
                assert torch.equal(image, picture // 2 if index in selected else picture)


def test_only_with_a_plain_transform_and_negative_indices():
    mask = torch.arange(SIZE) % 2 == 0
    dataset = smartaug.AugmentedDataset(Tensors(), halved, only=mask, plain=torch.zeros_like, seed=0)
    assert all(bool(dataset[i][0].any()) == (i % 2 == 0) for i in range(SIZE))
    assert dataset[-1][1] == SIZE - 1
    assert bool(dataset[-1][0].any())


def test_pickled_with_a_mask():
    mask = torch.zeros(SIZE, dtype=torch.uint8)
    mask[3] = 1
    again = pickle.loads(pickle.dumps(smartaug.AugmentedDataset(Tensors(), halved, only=mask, seed=0)))
    assert [bool((again[i][0] == Tensors()[0][0]).all()) for i in range(SIZE)] == [i != 3 for i in range(SIZE)]


# --- the data set inside ---------------------------------------------------------------------------------------------


def test_batches_are_fetched_at_once(expected):
    inner = AtOnce()
    dataset = smartaug.AugmentedDataset(inner, pipeline(), seed=5)
    assert_same(passes(TorchDataLoader(dataset, batch_size=4)), expected)
    assert inner.batches[:3] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]


def test_attributes_are_those_of_the_data_set():
    dataset = augmented()
    assert dataset.classes == SamePicture.classes
    assert classes_of(dataset) == 3
    with pytest.raises(AttributeError, match="targets"):
        dataset.targets  # noqa: B018


def test_copies_count_by_themselves(expected):
    dataset = augmented()
    passes(TorchDataLoader(dataset), 1)
    for twin in (copy.deepcopy(dataset), pickle.loads(pickle.dumps(dataset))):
        assert twin.epoch == 0
        found = passes(TorchDataLoader(twin, num_workers=1), 1)
        assert_same({(1, i): image for (_, i), image in found.items()}, {k: v for k, v in expected.items() if k[0]})
        assert dataset.epoch == 0
    assert pickle.loads(pickle.dumps(SharedEpoch())).current() == 0


def test_empty_and_single():
    assert len(smartaug.AugmentedDataset([], halved)) == 0
    assert smartaug.AugmentedDataset([], halved).__getitems__([]) == []
    assert smartaug.AugmentedDataset([(8, 1)], halved)[0] == (4, 1)
    with pytest.raises(IndexError, match="out of range for 0"):
        smartaug.AugmentedDataset([], halved)[0]


class Stream(IterableDataset):
    def __iter__(self):
        return iter(())


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: smartaug.AugmentedDataset(Stream(), halved), TypeError, "draws by index"),
        (lambda: smartaug.AugmentedDataset([1], None), TypeError, "transform must be a callable"),
        (lambda: smartaug.AugmentedDataset([1], v2.RandomCrop), TypeError, "transform must be a callable"),
        (lambda: smartaug.AugmentedDataset([1], halved, plain=halved), ValueError, "only=coreset"),
        (lambda: smartaug.AugmentedDataset([1], halved, seed=0.5), TypeError, "seed=0"),
        (lambda: smartaug.AugmentedDataset([1], halved, only=[0]), TypeError, "membership"),
        (lambda: smartaug.AugmentedDataset([1], halved, only=torch.zeros(1)), TypeError, "float32"),
        (lambda: smartaug.AugmentedDataset([1], halved, only=torch.ones(3).bool()), ValueError, r"it must be \(1,\)"),
        (lambda: smartaug.AugmentedDataset([1], halved, seed=0)["a"], TypeError, "integers"),
        (lambda: smartaug.AugmentedDataset([{"photo": 1}], halved)[0], TypeError, "'photo'.*joint=True"),
        (lambda: smartaug.AugmentedDataset(Tensors(), crop())[0], TypeError, r"permute\(1, 2, 0\)"),
        (lambda: smartaug.AugmentedDataset([(positions(),) * 3], crop())[0], ValueError, "parts 1, 2"),
    ],
)
def test_errors_say_what_to_type(call, error, says):
    with pytest.raises(error, match=says):
        call()


# --- which epoch it is -----------------------------------------------------------------------------------------------


def one_number(image):
    return image + torch.rand(())


def numbered(seed=7, size=24):
    return smartaug.AugmentedDataset(
        torch.utils.data.TensorDataset(torch.zeros(size, 1), torch.arange(size)), one_number, seed=seed
    )


def values(loader):
    return {int(i): float(value) for images, index in loader for value, i in zip(images, index, strict=True)}


def reference(epoch, **settings):
    dataset = numbered(**settings)
    dataset.set_epoch(epoch)
    return {i: float(dataset[i][0]) for i in range(len(dataset))}


class Growing(torch.utils.data.Sampler):
    """Worker 1 has nothing to do in the first passes."""

    lengths, at = (2, 2, 24, 4, 24), -1

    def __len__(self):
        return 24

    def __iter__(self):
        self.at += 1
        return iter(range(self.lengths[self.at]))


@pytest.mark.parametrize("context", ["fork", "forkserver", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_that_had_nothing_to_do_know_the_epoch(context):
    loader = TorchDataLoader(
        numbered(), 2, sampler=Growing(), num_workers=2, persistent_workers=True, multiprocessing_context=context
    )
    for epoch in range(5):
        found = values(loader)
        assert found == {i: value for i, value in reference(epoch).items() if i in found}
        assert len(found) == Growing.lengths[epoch]


@pytest.mark.parametrize("nested", [False, True])
def test_the_epoch_that_is_set_is_drawn_also_where_seeds_repeat(nested):
    dataset = numbered()
    loader = TorchDataLoader(Subset(dataset, range(24)) if nested else dataset, 4, num_workers=2)
    for epoch in (0, 1, 5, 5):
        torch.manual_seed(0)
        dataset.set_epoch(epoch)
        assert values(loader) == reference(epoch)


def test_an_epoch_set_after_the_iterator_was_made_is_of_the_next_pass():
    dataset = numbered()
    loader = TorchDataLoader(dataset, 4, num_workers=2)
    iterator = iter(loader)
    dataset.set_epoch(6)
    assert values(iterator) == reference(0)
    assert values(loader) == reference(6)


def test_persistent_workers_inside_a_wrapper_must_be_told():
    dataset = numbered()
    settings = {"batch_size": 4, "num_workers": 1, "persistent_workers": True}
    loader = TorchDataLoader(Subset(dataset, range(24)), **settings)
    for epoch in (2, 3):
        dataset.set_epoch(epoch)
        assert values(loader) == reference(epoch)
    with pytest.raises(RuntimeError, match=r"call set_epoch\(epoch\).*before each pass"):
        values(loader)


class OwnWrapper(torch.utils.data.Dataset):
    """Nobody knows what it does with its indices."""

    def __init__(self, inner):
        self.inner = inner

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index):
        return self.inner[len(self) - 1 - index]


@pytest.mark.parametrize("wrapper", [lambda d: Subset(d, range(24)), lambda d: ConcatDataset([d]), OwnWrapper])
@pytest.mark.parametrize("sampler", ["default", "tuples", "batch_size=None"])
def test_our_loader_sends_the_epoch_through_every_wrapper(wrapper, sampler):
    how = {
        "default": {"batch_size": 5},
        "tuples": {"batch_sampler": [tuple(range(i, i + 4)) for i in range(0, 24, 4)]},
        "batch_size=None": {"batch_size": None},
    }[sampler]
    loader = smartaug.DataLoader(wrapper(numbered()), inputs=0, returns="batch", target=1, **how)
    loader.set_epoch(4)
    for epoch in (4, 5):
        found = {}
        for images, index, *_ in loader:
            found.update(zip(torch.atleast_1d(index).tolist(), images.flatten().tolist(), strict=True))
        assert found == reference(epoch)


@pytest.mark.parametrize(
    "wrapped",
    [lambda d: d, lambda d: Subset(d, range(24)), lambda d: ConcatDataset([numbered(1), Subset(d, range(24))])],
)
def test_a_sample_that_comes_again_is_drawn_anew(wrapped):
    dataset = wrapped(numbered())
    first = len(dataset) - 24
    order = [first + i for i in (3, 3, 5, 3, 3, 5, 4)]

    def drawn(size, workers=0):
        loader = smartaug.DataLoader(
            dataset, size, sampler=order, num_workers=workers, inputs=0, target=1, returns="batch", seed=0
        )
        return torch.cat([batch.inputs.flatten() for batch in loader]).tolist()

    whole = drawn(7)
    assert drawn(2) == drawn(3, workers=2) == whole
    assert len(set(whole)) == 7
    assert whole[0] == reference(0)[3]


# --- generators that transforms hold ---------------------------------------------------------------------------------


class Holds:
    """Draws from a generator somewhere inside it."""

    def __init__(self, rng, draw, where="attribute"):
        self.held = {"attribute": rng, "list": [1, [rng]], "dict": {"a": {"b": rng}}}[where]
        self.where, self.draw = where, draw

    def __call__(self, image):
        held = self.held
        rng = {"attribute": lambda: held, "list": lambda: held[1][0], "dict": lambda: held["a"]["b"]}[self.where]()
        return image + float(self.draw(rng))


DRAWS = {
    "Generator": (lambda: np.random.default_rng(1), lambda rng: rng.random()),
    "RandomState": (lambda: np.random.RandomState(1), lambda rng: rng.rand()),
    "Philox": (lambda: np.random.Philox(1), lambda bits: bits.random_raw() / 2.0**64),
    "Random": (lambda: random.Random(1), lambda rng: rng.random()),
    "torch": (lambda: torch.Generator().manual_seed(1), lambda rng: torch.rand((), generator=rng)),
}
shared = np.random.default_rng(4)


def by_global_name(image):
    return image + shared.random()


def by_closure(rng):
    return lambda image: image + rng.random()


def by_default(image, rng=random.Random(3)):  # noqa: B008
    return image + rng.random()


def by_argument(rng, image):
    return image + rng.random()


class ByClass:
    rng = np.random.RandomState(2)

    def __call__(self, image):
        return image + self.rng.rand()


TRANSFORMS = {
    **{
        f"{kind} in {where}": (lambda kind=kind, where=where: Holds(DRAWS[kind][0](), DRAWS[kind][1], where))
        for kind in DRAWS
        for where in ("attribute", "list", "dict")
    },
    "nested": lambda: v2.Compose([v2.Identity(), v2.Compose([Holds(np.random.default_rng(0), lambda g: g.random())])]),
    "global name": lambda: by_global_name,
    "closure": lambda: by_closure(random.Random(0)),
    "default": lambda: by_default,
    "partial": lambda: functools.partial(by_argument, random.Random(5)),
    "class": ByClass,
    "method": lambda: Holds(random.Random(0), lambda rng: rng.random()).__call__,
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_generators_are_set_for_each_sample(name):
    transform = TRANSFORMS[name]()
    kept = [(own, kind.get(own)) for own, kind in Generators(transform)._found]
    assert len(kept) == 1
    dataset = smartaug.AugmentedDataset([torch.zeros(()).double()] * 6, transform, seed=0)
    drawn = [float(dataset[i]) for i in range(6)]
    assert len(set(drawn)) == 6
    assert [float(dataset[i]) for i in reversed(range(6))] == drawn[::-1]
    dataset.set_epoch(1)
    assert float(dataset[0]) != drawn[0]
    assert repr([kind.get(own) for own, kind in Generators(transform)._found]) == repr([state for _, state in kept])


def test_monai_pipelines_run_and_repeat():
    import monai.transforms as mt

    image = torch.arange(36.0).reshape(1, 6, 6)
    flip = mt.Compose([mt.RandFlip(prob=0.5, spatial_axis=0), mt.RandGaussianNoise(prob=1.0)])
    by_key = mt.Compose([mt.RandFlipd(keys=["image"], prob=0.5), mt.RandScaleIntensityd(["image"], 0.5, prob=1.0)])
    for sample, transform, joint in ((image, flip, False), ({"image": image, "label": 1}, by_key, True)):
        dataset = smartaug.AugmentedDataset([sample] * 12, transform, seed=0, joint=joint)
        made = [torch.as_tensor(dataset[i]["image"] if joint else dataset[i]) for i in range(12)]
        assert len({part.numpy().tobytes() for part in made}) > 8
        again = [torch.as_tensor(dataset[i]["image"] if joint else dataset[i]) for i in reversed(range(12))]
        assert all(torch.equal(one, other) for one, other in zip(made, again[::-1], strict=True))


class Seedable:
    """MONAI's convention without MONAI."""

    def __init__(self):
        self.R = np.random.RandomState()

    def set_random_state(self, seed=None, state=None):
        self.R = state if state is not None else np.random.RandomState(seed)
        return self

    def __call__(self, image):
        return image + self.R.rand()


def test_set_random_state_of_another_convention_is_not_albumentations():
    assert not is_albumentations(Seedable())
    dataset = smartaug.AugmentedDataset([torch.zeros(())] * 3, Seedable(), seed=0)
    assert float(dataset[1]) == float(dataset[1]) != float(dataset[2])


def test_a_function_in_albumentations_with_a_generator_of_its_own():
    rng = np.random.default_rng(0)

    def shifted_by(image, **_):
        return image + rng.integers(0, 99)

    shift = albumentations.Lambda(image=shifted_by, p=1.0)
    dataset = smartaug.AugmentedDataset([np.zeros((4, 4, 3), np.int64)] * 6, albumentations.Compose([shift]), seed=0)
    first = [int(dataset[i].max()) for i in range(6)]
    assert [int(dataset[i].max()) for i in range(6)] == first
    assert len(set(first)) > 2


@pytest.mark.parametrize(
    ("transform", "says"),
    [
        (Holds(random.SystemRandom(), lambda rng: rng.random()), r"Holds.held \(SystemRandom\)"),
        (Holds((n for n in range(99)), next), r"Holds.held \(generator\)"),
        (Holds(itertools.count(), next, "list"), r"Holds.held\[1\]\[0\] \(count\)"),
    ],
)
def test_what_cannot_be_set_is_named(transform, says):
    dataset = smartaug.AugmentedDataset([1.0], transform, seed=0)
    with pytest.warns(smartaug.warnings.NoEffectWarning, match=f"cannot set the state of {says}"):
        dataset[0]


def test_a_transform_that_is_replaced_or_changed_is_used():
    """The first one was copied at its first use, and used for ever."""
    rows = torch.arange(4.0)[:, None, None, None].expand(4, 3, 2, 2)
    dataset = smartaug.AugmentedDataset(list(zip(rows, range(4), strict=True)), lambda image: image + 1, seed=0)
    assert dataset[2][0].unique().tolist() == [3.0]
    dataset.transform = lambda image: image + 10
    assert dataset[2][0].unique().tolist() == [12.0]
    pictures = [(np.arange(12, dtype=np.uint8).reshape(2, 2, 3), 0)]
    flipped = smartaug.AugmentedDataset(
        pictures, albumentations.Compose([albumentations.HorizontalFlip(p=0.0)]), seed=0
    )
    assert (flipped[0][0] == pictures[0][0]).all()
    flipped.transform.transforms[0].p = 1.0
    flipped.set_epoch(1)
    assert (flipped[0][0] == pictures[0][0][:, ::-1]).all()
    for copied in (copy.deepcopy(flipped), pickle.loads(pickle.dumps(flipped))):
        assert (copied[0][0] == pictures[0][0][:, ::-1]).all()
