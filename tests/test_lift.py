"""Lift as a whole: the cut, datasets and their copies, the loader, frameworks that rebuild it, masks."""

import contextlib
import copy
import pickle
import random

import albumentations as A
import numpy as np
import pytest
import torch
from albumentations.pytorch import ToTensorV2
from PIL import Image
from torch import nn
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, StackDataset, Subset, TensorDataset
from torch.utils.data import DataLoader as TorchDataLoader
from torchvision import datasets as tvd
from torchvision import transforms as v1
from torchvision import tv_tensors
from torchvision.transforms import v2

import smartaug
from smartaug.augment.targets.maps import move_map
from smartaug.lift.source import Source
from tests.lifting import photos, pictures

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
SIZE = 24


class Cifar(tvd.CIFAR10):
    """CIFAR-10's class with 40 pictures of our own, whose first pixel is their index."""

    def __init__(self, transform=None, target_transform=None, count=40):
        tvd.VisionDataset.__init__(self, "nowhere", transform=transform, target_transform=target_transform)
        rng = np.random.default_rng(0)
        self.data = rng.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
        self.targets = [int(n) % 10 for n in range(count)]
        self.classes = [str(n) for n in range(10)]


class Own(Dataset):
    """A user's class: PIL images, ``self.transform`` and nothing else known."""

    def __init__(self, transform, count=12):
        self.transform, self.count = transform, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        image = Image.fromarray(photos(6, SIZE, SIZE)[index % 6])
        return self.transform(image), index % 3


def recipe():
    return v1.Compose(
        [
            v1.RandomCrop(SIZE, padding=2),
            v1.RandomHorizontalFlip(),
            v1.AutoAugment(v1.AutoAugmentPolicy.CIFAR10),
            v1.ToTensor(),
            v1.Normalize(MEAN, STD),
            v1.RandomErasing(),
        ]
    )


def everything(loader):
    batches = list(loader)
    return torch.cat([images for images, _ in batches]), torch.cat([target for _, target in batches])


# --- the cut ---------------------------------------------------------------------------------------------------------


def test_a_lambda_in_the_middle_keeps_its_place_and_meaning():
    brighter = v1.Lambda(lambda image: image.point(lambda value: min(255, value + 40)))
    pipeline = v1.Compose([v1.RandomVerticalFlip(1.0), brighter, v1.RandomInvert(1.0), v1.ToTensor()])
    lifted = smartaug.lift(pipeline)
    assert [(step.name, step.where) for step in lifted.steps] == [
        ("RandomVerticalFlip", "worker"),
        ("Lambda", "worker"),
        ("RandomInvert", "device"),
        ("ToTensor", "folded"),
    ]
    assert lifted.stays == (pipeline.transforms[0], brighter)
    assert lifted.steps[0].why == "comes before Lambda, which stays"
    image = pictures("pil")[0]
    assert torch.allclose(lifted.augment(lifted.head(image)[None])[0], pipeline(image), atol=1e-6)


def test_a_lambda_at_the_end_leaves_nothing_to_lift():
    pipeline = v1.Compose([v1.RandomHorizontalFlip(), v1.ToTensor(), v1.Lambda(lambda image: image * 2)])
    lifted = smartaug.lift(pipeline)
    assert lifted.augment is None
    assert lifted.head is pipeline
    assert "Lambda stays in the worker" in lifted.reason


def test_a_users_subclass_of_a_transform_is_not_taken_for_it():
    class Mine(v1.RandomHorizontalFlip):
        def forward(self, image):
            return image.rotate(90)

    assert [step.where for step in smartaug.lift([Mine(1.0), v1.RandomInvert()]).steps] == ["worker", "device"]


def test_floats_after_a_lambda_are_normalised_as_they_are():
    pipeline = v1.Compose([v1.ToTensor(), v1.Lambda(lambda image: image / 2), v1.Normalize(MEAN, STD)])
    images = pictures("pil")
    lifted = smartaug.lift(pipeline)
    found = lifted.augment(torch.stack([lifted.head(image) for image in images]))
    assert torch.allclose(found, torch.stack([pipeline(image) for image in images]), atol=1e-5)


def test_sequential_and_list_and_nested_compose_are_the_same():
    parts = [v2.RandomHorizontalFlip(), v2.RandomInvert()]
    for given in (
        nn.Sequential(*parts),
        list(parts),
        tuple(parts),
        v2.Compose(parts),
        [v2.Compose([parts[0]]), [parts[1]]],
    ):
        lifted = smartaug.lift(given)
        assert [step.original for step in lifted.steps] == parts
        assert [step.where for step in lifted.steps] == ["device", "device"]


def test_explain_is_a_table():
    table = smartaug.lift(v1.Compose([v1.RandomCrop(8), v1.RandomInvert(), v1.ToTensor()])).explain().splitlines()
    assert [line.split()[:2] for line in table] == [
        ["transform", "runs"],
        ["RandomCrop", "worker"],
        ["RandomInvert", "device"],
        ["ToTensor", "folded"],
    ]
    assert "differ in size" in table[1]


@pytest.mark.parametrize("given", [3, None, object()])
def test_anything_else_is_refused(given):
    with pytest.raises(TypeError, match="lift takes a transform or a dataset"):
        smartaug.lift(given)


def test_pictures_of_16_bits_are_refused():
    head = smartaug.lift([v1.RandomHorizontalFlip(), v1.ToTensor()]).head
    with pytest.raises(TypeError, match="8 bits"):
        head(Image.new("I;16", (4, 4)))
    assert head(Image.new("1", (4, 3), 1)).tolist() == [[[255] * 4] * 3]
    assert head(np.zeros((3, 4), np.uint8)).shape == (1, 3, 4)
    with pytest.raises(TypeError, match="PIL, array or tensor"):
        head("picture.png")


def test_nothing_global_is_drawn():
    lifted = smartaug.lift(recipe(), size=(SIZE, SIZE))
    batch = torch.stack([lifted.head(image) for image in pictures("pil", 6, SIZE, SIZE)])
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    lifted.augment(batch, index=torch.arange(6), seed=0)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), np.random.get_state()[1].tolist())


# --- datasets --------------------------------------------------------------------------------------------------------


def test_the_users_dataset_is_unchanged_and_shared():
    dataset = Cifar(recipe())
    before = dict(vars(dataset))
    lifted = smartaug.lift(dataset)
    assert vars(dataset) == before
    assert type(lifted.dataset) is Cifar
    assert lifted.dataset is not dataset
    assert lifted.dataset.data is dataset.data
    image, label = lifted.dataset[3]
    assert image.dtype == torch.uint8
    assert np.array_equal(image.permute(1, 2, 0).numpy(), dataset.data[3])
    assert label == 3
    assert lifted.stays == ()  # the crop too: the array tells the size


def test_target_transform_keeps_its_meaning():
    dataset = Cifar(recipe(), target_transform=lambda label: label + 100)
    assert smartaug.lift(dataset).dataset[3][1] == 103


@pytest.mark.parametrize(
    "wrapped", [lambda inner: inner, lambda inner: ConcatDataset([Subset(inner, range(8)), inner])]
)
@pytest.mark.parametrize("name", ["transform", "transforms", "target_transform"])
def test_a_transform_assigned_later_is_noticed(wrapped, name):
    dataset = Cifar(recipe())
    loader = smartaug.DataLoader(wrapped(dataset), batch_size=4, lift=True)
    first = next(iter(loader))[0]
    taken = getattr(dataset, name)
    setattr(dataset, name, v1.ToTensor())
    for _ in range(2):
        with pytest.raises(RuntimeError, match=rf"Cifar.{name} was .* and is ToTensor\(\) now.*make the loader anew"):
            next(iter(loader))
    assert smartaug.DataLoader(dataset, batch_size=4)  # others are not concerned
    setattr(dataset, name, taken)
    assert next(iter(loader))[0].shape == first.shape
    copied = copy.deepcopy(loader)
    dataset.transform = None
    assert next(iter(copied))[0].shape == first.shape


def test_a_transform_assigned_to_the_loaders_copy_is_noticed():
    loader = smartaug.DataLoader(Own(recipe()), batch_size=4, lift=True)
    loader.dataset.transform = v1.ToTensor()
    with pytest.raises(RuntimeError, match="make the loader anew"):
        next(iter(loader))


def test_a_transform_made_anew_at_each_call_is_no_change():
    class Made(Own):
        transform = property(lambda self: recipe(), lambda self, value: None)
        target_transform = property(lambda self: v1.ToTensor())

    Source(Made(None)).check()


def test_a_transform_that_was_not_lifted_may_change():
    dataset = Own(v1.ToTensor())
    loader = smartaug.DataLoader(dataset, batch_size=4, augment=smartaug.Flip())
    dataset.transform = v1.Compose([v1.CenterCrop(8), v1.ToTensor()])
    assert next(iter(loader))[0].shape == (4, 3, 8, 8)


def test_lifting_twice_is_lifting_once():
    first = smartaug.lift(Cifar(recipe()))
    second = smartaug.lift(first.dataset)
    assert second.augment is first.augment
    assert second.dataset is first.dataset
    assert second.steps == first.steps


@pytest.mark.parametrize("wrapped", ["subset", "subset of subset", "concat", "subset of concat"])
def test_subsets_and_concatenations(wrapped):
    transform = recipe()
    inner = Cifar(transform)
    dataset = {
        "subset": Subset(inner, [3, 5, 7]),
        "subset of subset": Subset(Subset(inner, [3, 5, 7]), [2, 1]),
        "concat": ConcatDataset([inner, Cifar(transform), inner]),
        "subset of concat": Subset(ConcatDataset([inner, inner]), [1, 41]),
    }[wrapped]
    lifted = smartaug.lift(dataset)
    assert lifted.augment is not None
    assert type(lifted.dataset) is type(dataset)
    assert len(lifted.dataset) == len(dataset)
    assert lifted.dataset[1][0].dtype == torch.uint8
    assert lifted.dataset[1][1] == dataset[1][1]
    assert dataset[1][0].dtype == torch.float32
    assert smartaug.lift(lifted.dataset).augment is lifted.augment
    assert smartaug.lift(Subset(lifted.dataset, [0])).augment is lifted.augment


def test_datasets_with_different_pipelines_are_not_lifted_together():
    with pytest.warns(smartaug.NoEffectWarning, match="different pipelines"):
        lifted = smartaug.lift(ConcatDataset([Cifar(recipe()), Cifar(recipe())]))
    assert lifted.augment is None
    assert "different pipelines" in lifted.reason


def test_a_type_that_pil_images_are_not_converted_to():
    """torchvision's ToDtype leaves PIL images alone: what comes behind ToImage is uint8 still."""
    chain = [v2.RandomHorizontalFlip(1.0), v2.ToDtype(torch.float32, scale=True), v2.ToImage()]
    for dataset in (Cifar(v2.Compose(chain)), Own(v2.Compose(chain)), tvd.FakeData(4, transform=v2.Compose(chain))):
        lifted = smartaug.lift(dataset)
        assert [step.where for step in lifted.steps] == ["device", "folded", "folded"]
        assert "leaves PIL images" in lifted.explain()
        batch = next(iter(smartaug.DataLoader(dataset, batch_size=4, lift=True)))[0]
        assert batch.dtype == torch.uint8
        assert torch.equal(batch, torch.stack([dataset[n][0] for n in range(4)]))
    first = smartaug.lift(Cifar(v1.Compose([v1.RandomInvert(), v1.ConvertImageDtype(torch.float32)])))
    assert first.augment is None  # raises in torchvision, and so in the worker
    assert "given PIL images" in first.reason
    both = smartaug.lift(Own(v2.Compose([v2.ToImage(), *chain[:2]])))
    assert both.dataset[0][0].dtype == torch.uint8
    assert [step.where for step in both.steps] == ["folded", "device", "folded"]


def test_a_type_that_tensors_are_converted_to():
    class Tensors(Own):
        def __getitem__(self, index):
            return self.transform(pictures("tensor")[index % 6]), index

    chain = v2.Compose([v2.RandomHorizontalFlip(1.0), v2.ToDtype(torch.float32, scale=True)])
    dataset = Tensors(chain)
    batch = next(iter(smartaug.DataLoader(dataset, batch_size=4, lift=True)))[0]
    assert torch.allclose(batch, torch.stack([dataset[n][0] for n in range(4)]), atol=1e-6)
    alone = smartaug.lift(chain)
    assert alone.head(pictures("tensor")[0]).dtype == torch.uint8
    with pytest.raises(TypeError, match=r"ToDtype leaves PIL images as they are.*put ToImage"):
        alone.head(pictures("pil")[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_floats_keep_their_type(dtype):
    class Floats(Own):
        def __getitem__(self, index):
            return self.transform(pictures("tensor")[index % 6].to(dtype) / 255), index

    flip = v1.RandomHorizontalFlip(1.0)
    for chain in (
        [flip, v1.Normalize(MEAN, STD)],
        [flip, v1.Normalize(MEAN, STD), v1.RandomErasing(1.0, (0.2, 0.2), (1.0, 1.0), value=0.5), v1.Normalize(0.5, 2)],
        [v1.ColorJitter((1.2, 1.2)), v1.Normalize(0.5, 0.5), v1.ConvertImageDtype(torch.float32)],
        [v1.ConvertImageDtype(torch.float32), flip, v1.Normalize(MEAN, STD)],
    ):
        dataset = Floats(v1.Compose(chain))
        lifted = smartaug.lift(dataset)
        assert lifted.augment is not None
        batch, expected = next(iter(smartaug.DataLoader(dataset, batch_size=4, lift=True)))[0], dataset[0][0]
        assert batch.dtype == expected.dtype
        if len(chain) != 4:
            wanted = torch.stack([dataset[n][0] for n in range(4)])
            assert torch.allclose(batch.double(), wanted.double(), atol=2e-2 if dtype == torch.float16 else 1e-5)
    array = smartaug.lift([v1.ToTensor(), flip])
    assert array.augment(array.head(np.zeros((4, 4, 3)))[None]).dtype == v1.ToTensor()(np.zeros((4, 4, 3))).dtype


def test_a_users_own_dataset_has_pictures_of_unknown_size():
    lifted = smartaug.lift(Own(recipe()))
    assert [step.where for step in lifted.steps][:3] == ["worker", "device", "device"]
    whole = smartaug.lift(Own(recipe()), size=(SIZE, SIZE))
    assert whole.stays == ()
    assert whole.dataset[0][0].shape == (3, SIZE, SIZE)


@pytest.mark.parametrize(
    ("dataset", "reason"),
    [
        (StackDataset(torch.zeros(4, 3, 8, 8), torch.zeros(4)), "keeps no pipeline"),
        (Cifar(v1.Lambda(v1.functional.pil_to_tensor)), "not covered"),
    ],
)
def test_nothing_to_lift_warns_with_the_reason(dataset, reason):
    with pytest.warns(smartaug.NoEffectWarning, match=reason):
        loader = smartaug.DataLoader(dataset, lift=True, batch_size=2)
    assert loader.dataset is dataset
    assert loader.lift is True
    assert len(list(loader)) == len(dataset) / 2


# --- the loader ------------------------------------------------------------------------------------------------------


def test_all_stages_draw_from_each_rows_own_key():
    chain = [v1.RandomPerspective(0.5, 0.8), v1.RandomInvert(), v1.ToTensor(), v1.RandomErasing(0.8, value="random")]
    lifted = smartaug.lift(chain)
    batch = torch.stack([lifted.head(image) for image in pictures("pil")])
    whole = lifted.augment(batch, index=torch.arange(6), seed=0)
    order = torch.tensor([4, 1, 3])
    assert torch.equal(lifted.augment(batch[order], index=order, seed=0), whole[order])
    assert lifted.augment(batch[:0], index=order[:0], seed=0).shape == (0, 3, 64, 48)
    counted = [lifted.augment(batch[:2], seed=0) for _ in range(2)]
    assert not torch.equal(*counted)  # without an index samples are counted
    images, target = smartaug.lift([*chain, v2.MixUp(num_classes=4)]).augment(batch, torch.arange(6) % 4)
    assert (images.dtype, target.soft.shape) == (torch.float32, (6, 4))


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_gives_what_head_and_augment_give(workers):
    dataset = Cifar(recipe())
    loader = smartaug.DataLoader(dataset, batch_size=16, lift=True, num_workers=workers, seed=4)
    lifted = smartaug.lift(dataset)
    plain = torch.stack([lifted.dataset[index][0] for index in range(40)])
    for epoch in range(2):
        images, target = everything(loader)
        assert torch.equal(images, lifted.augment(plain, index=torch.arange(40), epoch=epoch, seed=4))
        assert target.tolist() == dataset.targets
    assert loader.lift is True


def test_false_is_the_default_and_touches_nothing():
    dataset = Cifar(v1.ToTensor())
    loader = smartaug.DataLoader(dataset, batch_size=4)
    assert loader.lift is False
    assert loader.dataset is dataset
    assert type(iter(loader)).__module__.startswith("torch.utils.data")


def test_iterable_datasets():
    class Stream(IterableDataset):
        transform = v1.Compose([v1.RandomHorizontalFlip(1.0), v1.ToTensor()])

        def __iter__(self):
            yield from (self.transform(image) for image in pictures("pil"))

    (images,) = smartaug.DataLoader(Stream(), batch_size=6, lift=True)
    expected = torch.stack([v1.ToTensor()(image).flip(2) for image in pictures("pil")])
    assert torch.allclose(images, expected, atol=1e-6)


@pytest.mark.parametrize("given", ["yes", 1, recipe()])
def test_lift_is_true_or_false(given):
    with pytest.raises(TypeError, match="lift must be True, False or a smartaug"):
        smartaug.DataLoader(Cifar(recipe()), lift=given)


def test_a_lifted_copy_without_lift_is_refused():
    copied = smartaug.DataLoader(Cifar(recipe()), lift=True).dataset
    with pytest.raises(ValueError, match="pass lift=True, or the original"):
        smartaug.DataLoader(copied)
    with pytest.raises(ValueError, match="pass lift=True, or the original"):
        smartaug.DataLoader(Subset(copied, [0, 1]))


def test_both_halves_by_hand():
    dataset = Cifar(recipe())
    lifted = smartaug.lift(dataset)
    by_hand = smartaug.DataLoader(lifted.dataset, batch_size=16, augment=lifted.augment, seed=0)
    loader = smartaug.DataLoader(dataset, batch_size=16, lift=True, seed=0)
    assert torch.equal(everything(by_hand)[0], everything(loader)[0])
    with pytest.raises(ValueError, match="by itself"):
        smartaug.DataLoader(lifted.dataset, lift=True, augment=[lifted.augment])
    collate = smartaug.Collate(augment=lifted.augment, seed=0)
    stock = torch.utils.data.DataLoader(lifted.dataset, batch_size=16, collate_fn=collate)
    for epoch in (0, 1):
        by_hand.set_epoch(epoch)
        assert torch.equal(everything(stock)[0], everything(by_hand)[0])


def test_augment_comes_behind_what_was_lifted_and_before_normalize():
    """RandAugment needs grey levels, and the dataset normalises: lift=True makes room for it in between."""
    chain = v1.Compose([v1.RandomHorizontalFlip(), v1.ToTensor(), v1.Normalize(MEAN, STD)])
    loader = smartaug.DataLoader(
        Cifar(chain), batch_size=8, lift=True, augment=[smartaug.RandAugment(), smartaug.CutMix()]
    )
    names = [type(step).__name__ for step in loader._pipeline.steps[0]]
    assert names == ["Flip", "RandAugment", "CutMix", "Normalize"]
    images, target = next(iter(loader))
    assert target.soft.shape == (8, 10)
    assert float(images.min()) >= -3.0

    erased = v1.Compose([*chain.transforms, v1.RandomErasing()])
    loader = smartaug.DataLoader(Cifar(erased), lift=True, augment=[smartaug.RandAugment(), smartaug.CutMix()])
    names = [type(step).__name__ for step in loader._pipeline.steps[0]]
    assert names == ["Flip", "RandAugment", "Normalize", "Erase", "CutMix"]

    seen = []
    loader = smartaug.DataLoader(Cifar(chain), lift=True, augment=lambda images: seen.append(images) or images)
    next(iter(loader))
    assert seen[0].dtype == torch.float32  # a callable sees what the dataset gives

    loader = smartaug.DataLoader(
        Cifar(v1.ToTensor()), lift=True, augment=[smartaug.Flip(), smartaug.Normalize(MEAN, STD)]
    )
    (step,) = loader._pipeline.steps
    assert [type(part).__name__ for part in step] == ["Flip", "Normalize", "Normalize"]
    images, _ = next(iter(loader))
    assert float(images.min()) < 0


def test_explain_shows_transforms_and_backends():
    loader = smartaug.DataLoader(Cifar(recipe()), batch_size=8, lift=True)
    list(loader)
    table = loader.explain()
    for shown in ("RandomCrop            device", "ToTensor              folded", "augment: AutoAugment", "Warp"):
        assert shown in table


def test_resume_in_the_middle_of_an_epoch():
    def made():
        generator = torch.Generator().manual_seed(0)
        return smartaug.DataLoader(Cifar(recipe()), 8, shuffle=True, lift=True, seed=1, generator=generator)

    whole, part, resumed = made(), made(), made()
    expected = [images for images, _ in whole]
    batches = iter(part)
    for _ in range(2):
        next(batches)
    resumed.load_state_dict(part.state_dict())
    assert all(torch.equal(a, b) for a, (b, _) in zip(expected[2:], resumed, strict=True))


@pytest.mark.parametrize("rare", [False, True])
def test_pickled_and_copied_loaders_and_datasets(rare):
    chain = recipe()
    if rare:
        chain.transforms[1:2] = [v1.RandomPerspective()]
        chain.transforms[-1] = v1.RandomErasing(value="random")
    loader = smartaug.DataLoader(Cifar(chain), batch_size=20, lift=True, seed=0)
    expected = everything(loader)[0]
    for other in (pickle.loads(pickle.dumps(loader)), copy.deepcopy(loader)):
        other.set_epoch(0)
        assert torch.equal(everything(other)[0], expected)


# --- rebuilt by frameworks -------------------------------------------------------------------------------------------


class Counted(Dataset):
    """Pictures in which what happened can be counted: value 10, twice inverted is 10 again, once is 245."""

    def __init__(self):
        self.transform = v1.Compose([v1.RandomInvert(1.0), v1.PILToTensor()])

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return self.transform(Image.new("RGB", (4, 4), (10, 10, index))), index


def once(loader, size=12):
    batches = list(loader)
    images, target = (torch.cat([batch[part] for batch in batches]) for part in (0, 1))
    assert (images[:, :2] == 245).all()
    assert (255 - images[:, 2, 0, 0].int()).tolist() == target.tolist()
    assert sorted(set(target.tolist())) == list(range(size)) or len(target) < size
    return target


def test_once_under_accelerate():
    import accelerate

    loader = smartaug.DataLoader(Counted(), batch_size=4, shuffle=True, lift=True)
    prepared = accelerate.Accelerator(cpu=True).prepare(loader)
    for _ in range(2):
        assert len(once(prepared)) == 12
    assert type(prepared.dataset) is Counted


@pytest.mark.parametrize("how", ["pytorch", "fabric"])
def test_once_when_lightning_rebuilds(how):
    from lightning.fabric.utilities.data import _update_dataloader as fabric
    from lightning.pytorch.utilities.data import _update_dataloader as pytorch
    from torch.utils.data import DistributedSampler

    loader = smartaug.DataLoader(Counted(), batch_size=4, lift=True)
    again = loader
    for _ in range(2):
        sampler = DistributedSampler(again.dataset, num_replicas=2, rank=1, shuffle=False)
        again = {"pytorch": pytorch, "fabric": fabric}[how](again, sampler)
        assert type(again) is smartaug.DataLoader
        assert again.lift is True
        assert again._pipeline is loader._pipeline
        assert once(again).tolist() == [1, 3, 5, 7, 9, 11]


def test_once_under_fabric():
    from lightning.fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=1)
    loader = fabric.setup_dataloaders(smartaug.DataLoader(Counted(), batch_size=4, lift=True))
    assert len(once(loader)) == 12


def test_rebuilt_by_hand_from_its_attributes():
    loader = smartaug.DataLoader(Counted(), batch_size=4, lift=True)
    once(smartaug.DataLoader(loader.dataset, batch_size=3, lift=True))
    once(smartaug.DataLoader(Subset(loader.dataset, range(12)), batch_size=3, lift=True))
    once(torch.utils.data.DataLoader(loader.dataset, batch_size=4, collate_fn=loader.collate_fn))


# --- masks -----------------------------------------------------------------------------------------------------------


class Segmented(tvd.VisionDataset):
    """Image and mask, given to the joint ``transforms``; the mask is 1 where the image is bright."""

    def __init__(self, transforms, boxes=False):
        super().__init__("nowhere", transforms=transforms)
        self.boxes = boxes

    def __len__(self):
        return 8

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        bright = torch.rand(1, 20, 16, generator=generator) > 0.5
        image, target = (
            tv_tensors.Image(bright.to(torch.uint8).expand(3, -1, -1) * 200),
            tv_tensors.Mask(bright[0].long()),
        )
        if self.boxes:
            box = tv_tensors.BoundingBoxes([[1, 1, 5, 5]], format="XYXY", canvas_size=(20, 16))
            target = {"boxes": box, "mask": target}
        return (image, target) if self.transforms is None else self.transforms(image, target)


def test_masks_move_with_the_images():
    transforms = v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomAffine(30, (0.1, 0.1), (0.8, 1.2)),
            v2.Pad(2),
            v2.ColorJitter(0.1),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    loader = smartaug.DataLoader(Segmented(transforms), batch_size=8, lift=True, seed=0)
    assert smartaug.lift(Segmented(transforms)).stays == ()
    for _ in range(2):
        images, masks = next(iter(loader))
        assert masks.shape == (8, 24, 20)
        assert masks.dtype == torch.int64
        assert torch.equal(masks.bool(), images[:, 0] > 0.3)
    assert 0 < float(masks.float().mean()) < 1


def test_masks_of_a_segmentation_preset():
    """ToDtype with one type for each kind of input: the image's is folded, the mask's done in the worker."""
    dtypes = {tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int32, "others": None}
    transforms = v2.Compose(
        [v2.ToImage(), v2.RandomVerticalFlip(), v2.ToDtype(dtypes, scale=True), v2.Normalize(MEAN, STD)]
    )
    dataset = Segmented(transforms)
    lifted = smartaug.lift(dataset)
    assert [step.where for step in lifted.steps] == ["folded", "device", "folded", "folded"]
    image, mask = lifted.dataset[0]
    assert (image.dtype, mask.dtype) == (torch.uint8, torch.int32)
    images, masks = next(iter(smartaug.DataLoader(dataset, batch_size=8, lift=True)))
    assert masks.dtype == torch.int32
    expected = (masks[:, None] * 200 / 255 - torch.tensor(MEAN).view(-1, 1, 1)) / torch.tensor(STD).view(-1, 1, 1)
    assert torch.allclose(images, expected, atol=1e-5)


@pytest.mark.parametrize("as_dict", [False, True])
def test_masks_follow_projective_maps(as_dict):

    class Dictionaries(Segmented):
        def __getitem__(self, index):
            image, mask = Segmented(None)[index]
            return self.transforms({"mask": mask, "image": image})

    transforms = v2.Compose([v2.RandomVerticalFlip(), v2.RandomPerspective(0.5, p=1.0), v2.RandomHorizontalFlip(1.0)])
    dataset = (Dictionaries if as_dict else Segmented)(transforms)
    lifted = smartaug.lift(dataset)
    assert lifted.stays == ()
    batch = next(iter(smartaug.DataLoader(dataset, batch_size=8, lift=True)))
    images, masks = (batch["image"], batch["mask"]) if as_dict else batch
    assert float(((images[:, 0] > 100) == (masks > 0)).float().mean()) > 0.9  # one bilinear, the other nearest
    assert smartaug.lift(Own(v2.Compose([v2.RandomPerspective(), v2.PILToTensor()]))).stays == ()


def test_fill_of_masks_is_torchvisions():
    transforms = v2.Compose([v2.Pad(3, fill=7), v2.RandomRotation((90, 90), fill=9)])
    images, masks = next(iter(smartaug.DataLoader(Segmented(transforms), batch_size=8, lift=True)))
    for row in range(8):
        image, mask = Segmented(transforms)[row]
        assert torch.equal(images[row], image)
        assert torch.equal(masks[row], mask)


def test_a_mask_that_the_pipeline_did_not_get_is_not_moved():
    class Pairs(Own):
        def __getitem__(self, index):
            return self.transform(pictures("pil")[index % 6]), torch.zeros(64, 48, dtype=torch.int64)

    class Alone(tvd.VisionDataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return self.transforms(pictures("pil")[index % 4], torch.zeros(64, 48, dtype=torch.int64))

    flip = v1.Compose([v1.RandomHorizontalFlip(), v1.ToTensor()])
    for dataset in (Pairs(flip), Alone("nowhere", transform=flip)):
        with pytest.warns(smartaug.NoEffectWarning, match="a mask or a second image, which it is not given"):
            loader = smartaug.DataLoader(dataset, 4, lift=True)
        assert next(iter(loader))[1].shape == (4, 64, 48)


@pytest.mark.parametrize(
    "tone",
    [
        v1.Compose([v1.ColorJitter(0.4, 0.3), v1.ToTensor(), v1.Normalize(MEAN, STD), v1.RandomErasing()]),
        A.Compose([A.RandomBrightnessContrast(p=1.0), A.GaussNoise(), ToTensorV2()]),
    ],
    ids=["torchvision", "albumentations"],
)
@pytest.mark.parametrize("as_dict", [False, True])
def test_tone_beside_a_mask_that_the_pipeline_did_not_get_is_lifted(tone, as_dict):
    named = isinstance(tone, A.Compose)

    class Pairs(_Whole):
        def __getitem__(self, index):
            array = np.array(self.picture(index))
            made = self.transform(image=array)["image"] if named else self.transform(self.picture(index))
            mask = torch.arange(64 * 48).to(torch.uint8).view(1, 64, 48) + index
            return {"mask": mask, "image": made} if as_dict else (made, mask)

    loader = smartaug.DataLoader(Pairs(tone), 3, lift=True)
    first, second = next(iter(loader)), next(iter(loader))
    image, mask = ("image", "mask") if as_dict else (0, 1)
    assert torch.equal(first[mask], torch.stack([Pairs(tone)[n][mask] for n in range(3)]))
    assert first[image].shape == (3, 3, 64, 48)
    assert not torch.equal(first[image], second[image])


def test_tone_beside_a_second_image_that_could_be_taken_for_the_first_is_not_lifted():
    class Reversed(_Whole):
        def __getitem__(self, index):
            return torch.zeros(3, 64, 48), self.transform(self.picture(index))

    with pytest.warns(smartaug.NoEffectWarning, match="could be taken for its image"):
        smartaug.DataLoader(Reversed(v1.Compose([v1.ColorJitter(0.4), v1.ToTensor()])), 3, lift=True)


class _Augmented(Dataset):
    """Pairs of arrays for an `AugmentedDataset`; the second part has the image's size."""

    def __init__(self, dtype=np.uint8):
        self.images = np.stack([np.array(picture) for picture in pictures("pil")]).astype(dtype)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], self.images[index, ..., 0] // 128


@pytest.mark.parametrize("joint", [False, True])
def test_an_augmented_dataset_moves_only_what_its_transform_is_given(joint):
    class Named(_Augmented):
        def __getitem__(self, index):
            image, mask = super().__getitem__(index)
            return tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1)), tv_tensors.Mask(torch.from_numpy(mask))

    flip = v2.Compose([v2.RandomHorizontalFlip(1.0), v2.ToDtype(torch.float32, scale=True)])
    dataset = smartaug.AugmentedDataset(Named(), flip, joint=joint)
    why = "a mask or a second image, which it is not given"
    with contextlib.nullcontext() if joint else pytest.warns(smartaug.NoEffectWarning, match=why):
        assert (smartaug.lift(dataset).augment is not None) == joint
    with contextlib.nullcontext() if joint else pytest.warns(smartaug.NoEffectWarning, match=why):
        loader = smartaug.DataLoader(dataset, 4, lift=True)
    for mine, theirs in zip(next(iter(loader)), next(iter(TorchDataLoader(dataset, 4))), strict=True):
        assert torch.equal(mine, theirs)


def test_an_augmented_dataset_with_masks_for_albumentations_is_lifted():
    dataset = smartaug.AugmentedDataset(_Augmented(), A.Compose([A.HorizontalFlip(p=1.0), ToTensorV2()]))
    loader = smartaug.DataLoader(dataset, 4, lift=True)
    assert smartaug.lift(dataset).augment is not None
    for mine, theirs in zip(next(iter(loader)), next(iter(TorchDataLoader(dataset, 4))), strict=True):
        assert torch.equal(mine, theirs)


def test_an_augmented_dataset_of_floats_is_left_alone_by_albumentations():
    dataset = smartaug.AugmentedDataset(_Augmented(np.float32), A.Compose([A.HorizontalFlip(p=1.0), ToTensorV2()]))
    with pytest.warns(smartaug.NoEffectWarning, match="uint8 arrays .* got image=float32"):
        loader = smartaug.DataLoader(dataset, 4, lift=True)
    assert torch.equal(next(iter(loader))[0], next(iter(TorchDataLoader(dataset, 4)))[0])


def test_mixing_and_foreign_stages_refuse_masks():
    dataset = Segmented(v2.RandomHorizontalFlip())
    with pytest.raises(ValueError, match=r"the values of a mask of .* have no blend"):
        next(iter(smartaug.DataLoader(dataset, 4, lift=True, augment=smartaug.MixUp())))
    with pytest.raises(ValueError, match="would not follow"):
        next(iter(smartaug.DataLoader(dataset, 4, lift=True, augment=lambda images: images)))


@pytest.mark.parametrize("shape", [(0, 9, 7), (1, 9, 7), (5, 9, 7), (5, 1, 9, 7), (5, 4, 9, 7)])
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.uint8, torch.float32])
def test_a_mask_follows_as_an_image_moved_to_the_nearest_pixel(shape, dtype):
    stage = smartaug.Compose([smartaug.Flip(), smartaug.augment.Affine(40, scale=(0.7, 1.3)), smartaug.PadCrop(2)])
    mask = (torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 3).to(dtype)
    plan = stage.plan((shape[0], 3, 9, 7), index=torch.arange(shape[0]), seed=0)
    as_images = (mask if mask.ndim == 4 else mask[:, None]).float()
    expected = stage.apply(as_images.expand(-1, 3, -1, -1) if as_images.shape[1] == 1 else as_images[:, :3], plan)
    found = move_map(plan, mask, smartaug.Mask())
    assert found.dtype == dtype
    assert found.shape == shape
    compared = found if found.ndim == 4 else found[:, None]
    assert torch.equal(compared[:, :1].float(), expected[:, :1])


class _Whole(Dataset):
    """Six pictures through ``transform`` once each, and nothing else."""

    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return 6

    def picture(self, index):
        return pictures("pil")[index]

    def __getitem__(self, index):
        return self.transform(self.picture(index)), index


class _After(_Whole):
    def __getitem__(self, index):
        return self.transform(self.picture(index)) * 2 - 1, index


class _Statistic(_Whole):
    def __getitem__(self, index):
        image = self.transform(self.picture(index))
        return image, float(image.double().mean())


class _Twice(_Whole):
    def __getitem__(self, index):
        return self.transform(self.picture(index)), self.transform(self.picture(index)), index


class _Never(_Whole):
    def __getitem__(self, index):
        return v1.ToTensor()(self.picture(index)), index


class _Cifar(tvd.CIFAR10):
    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image + 0.5, label


class _Part(Subset):
    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return (image - 0.5) / 0.5, label

    def __getitems__(self, indices):
        return [self[index] for index in indices]


class _Passes(Dataset):
    def __init__(self, inner):
        self.inner = inner

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index):
        return self.inner[index]

    def __getattr__(self, name):
        return getattr(self.inner, name)  # endless where a copy has no inner yet, as in many programs


def _fixed():
    """A pipeline without chance, so that both ways give the same."""
    return v1.Compose([v1.RandomHorizontalFlip(1.0), v1.ToTensor(), v1.Normalize(0.5, 0.25)])


def _cifar(kind):
    made = kind.__new__(kind)
    made.data, made.targets = np.stack([np.asarray(one)[:32, :32] for one in pictures("pil")]), list(range(6))
    made.target_transform, made.transform = None, _fixed()
    return made


@pytest.mark.parametrize(
    "dataset",
    [
        _After(_fixed()),
        _Statistic(_fixed()),
        _Twice(_fixed()),
        _Never(_fixed()),
        _cifar(_Cifar),
        _Part(_Whole(_fixed()), [0, 3, 5]),
        _Passes(_Whole(_fixed())),
    ],
    ids=lambda given: type(given).__name__,
)
def test_a_dataset_that_does_more_than_apply_its_transform_is_left_alone(dataset):
    with pytest.warns(smartaug.NoEffectWarning, match="lifted nothing"):
        loader = smartaug.DataLoader(dataset, batch_size=3, lift=True)
    for mine, theirs in zip(loader, torch.utils.data.DataLoader(dataset, batch_size=3), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_looking_at_a_sample_moves_no_generator_and_changes_nothing():
    dataset = _Whole(v1.Compose([v1.RandomCrop(8), v1.RandomHorizontalFlip(), v1.ToTensor()]))
    held, transform = torch.get_rng_state(), dataset.transform
    smartaug.DataLoader(dataset, batch_size=3, lift=True)
    assert torch.equal(torch.get_rng_state(), held)
    assert dataset.transform is transform


def test_a_collate_function_that_works_on_the_images_sees_what_it_did():
    def scaled(samples):
        images, labels = torch.utils.data.default_collate(samples)
        return images * 2, labels

    def renamed(samples):
        images, labels = torch.utils.data.default_collate(samples)
        return {"image": images, "label": labels}

    dataset = _Whole(_fixed())
    with pytest.warns(smartaug.NoEffectWarning, match="works on the images"):
        loader = smartaug.DataLoader(dataset, batch_size=3, lift=True, collate_fn=scaled)
    expected = next(iter(torch.utils.data.DataLoader(dataset, batch_size=3, collate_fn=scaled)))
    assert torch.equal(next(iter(loader))[0], expected[0])
    lifted = next(iter(smartaug.DataLoader(dataset, batch_size=3, lift=True, collate_fn=renamed)))
    assert torch.allclose(lifted["image"] * 2, expected[0], atol=1e-5)


class _Falls(Own):
    """Where a picture cannot be read there are zeros of a type."""

    dtype = torch.float32

    def __getitem__(self, index):
        try:
            if index == 5:
                raise OSError("truncated")
            return super().__getitem__(index)
        except OSError:
            return torch.zeros(3, SIZE, SIZE, dtype=self.dtype), 0


class _FallsAlike(_Falls):
    dtype = torch.uint8


def _normalised():
    return v1.Compose([v1.RandomHorizontalFlip(1.0), v1.ToTensor(), v1.Normalize(MEAN, STD)])


@pytest.mark.parametrize("size", [4, 1], ids=["mixed", "alone"])
@pytest.mark.parametrize("kind", [_Falls, _FallsAlike])
def test_images_that_did_not_go_through_the_transform_stay_what_they_are(kind, size):
    """Collating uint8 of the others with these floats would make 0..255 of them, which would be taken for [0, 1]."""
    loader = smartaug.DataLoader(kind(_normalised()), size, lift=True)
    for mine, theirs in zip(loader, TorchDataLoader(kind(_normalised()), size), strict=True):
        torch.testing.assert_close(mine[0], theirs[0], check_dtype=True)


def test_datasets_of_floats_and_of_uint8_are_not_lifted_together():
    class Floats(Own):
        def __getitem__(self, index):
            return self.transform(torch.from_numpy(photos(6, SIZE, SIZE)[index % 6]).permute(2, 0, 1) / 255), index % 3

    class Bytes(Own):
        def __getitem__(self, index):
            return self.transform(torch.from_numpy(photos(6, SIZE, SIZE)[index % 6]).permute(2, 0, 1)), index % 3

    flip = v2.Compose([v2.RandomHorizontalFlip(1.0), v2.ToDtype(torch.float32, scale=True)])
    floats, whole = Floats(flip), Bytes(flip)
    assert smartaug.lift(floats).uint8 is False
    assert smartaug.lift(ConcatDataset([whole, whole])).uint8 is True
    with pytest.warns(smartaug.NoEffectWarning, match="some floats"):
        smartaug.lift(ConcatDataset([whole, floats]))
    images, _ = everything(smartaug.DataLoader(floats, 4, lift=True))
    assert torch.equal(images, everything(TorchDataLoader(floats, 4))[0])


@pytest.mark.parametrize(
    ("transform", "scale", "says"),
    [
        (v2.Compose([v2.RandomVerticalFlip(), v2.ColorJitter(0.3)]), 1.0, "Brightness .* from .* to 25.*; lift=True"),
        (v2.Compose([v2.RandAugment(4, fill=[50, 100, 150])]), 255.0, "to 150; lift=True runs RandAugment"),
    ],
    ids=["images", "fill"],
)
def test_tone_on_floats_that_are_no_shares_says_what_lifting_wants(transform, scale, says):
    class Floats(Own):
        def __getitem__(self, index):
            return self.transform(torch.from_numpy(photos(6, SIZE, SIZE)[index % 6]).permute(2, 0, 1) / scale), 0

    with pytest.raises(ValueError, match=says) as caught:
        list(smartaug.DataLoader(Floats(transform, 64), 64, lift=True, seed=0))
    assert "fill= in the same units, or write lift=False" in str(caught.value)
    assert "write smartaug.DataLoader" not in str(caught.value)


class _Tensors(Own):
    """Tensors of so many channels and of a type."""

    def __init__(self, transform, channels=3, dtype=torch.uint8):
        super().__init__(transform)
        self.channels, self.dtype = channels, dtype

    def __getitem__(self, index):
        array = np.concatenate([photos(6, SIZE, SIZE)[index % 6]] * 2, -1)[..., : self.channels]
        return self.transform(torch.from_numpy(array).permute(2, 0, 1).to(self.dtype)), index % 3


def test_what_takes_only_colours_stays_where_images_have_other_channels():
    class Transparent(Own):
        def __getitem__(self, index):
            return self.transform(Image.fromarray(photos(6, SIZE, SIZE)[index % 6]).convert("RGBA")), index % 3

    dataset = Transparent(
        v1.Compose([v1.RandomVerticalFlip(), v1.ColorJitter(0.3), v1.RandomHorizontalFlip(1.0), v1.ToTensor()])
    )
    lifted = smartaug.lift(dataset)
    assert [step.where for step in lifted.steps] == ["worker", "worker", "device", "folded"]
    assert "1 (grey) or 3 (RGB) channels, got 4" in lifted.reason
    images, _ = everything(smartaug.DataLoader(dataset, 4, lift=True))
    assert images.shape == (12, 4, SIZE, SIZE)
    assert torch.equal(images[:, 3], torch.ones(12, SIZE, SIZE))
    assert "got 2" in smartaug.lift(_Tensors(v2.RandomApply([v2.ColorJitter(0.3)]), 2)).reason


def test_numbers_for_three_channels_of_grey_images_stay():
    """torchvision's second generation makes three channels of one there."""
    chain = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD), v2.RandomHorizontalFlip(1.0)]
    for channels, where in ((1, "worker"), (3, "folded")):
        dataset = _Tensors(v2.Compose(chain), channels)
        assert [step.where for step in smartaug.lift(dataset).steps] == [where, where, "device"]
        images, _ = everything(smartaug.DataLoader(dataset, 4, lift=True))
        torch.testing.assert_close(images, everything(TorchDataLoader(dataset, 4))[0])


@pytest.mark.parametrize("dtype", [torch.int16, torch.int64, torch.bool, torch.uint16])
def test_images_of_other_types_are_left_alone(dtype):
    dataset = _Tensors(v2.RandomHorizontalFlip(1.0), dtype=dtype)
    with pytest.warns(smartaug.NoEffectWarning, match=f"its images are {str(dtype)[6:]}, and .* uint8 or floats"):
        loader = smartaug.DataLoader(dataset, 4, lift=True)
    assert torch.equal(next(iter(loader))[0], next(iter(TorchDataLoader(dataset, 4)))[0])


def test_a_dataset_without_a_pipeline_is_answered_with_a_warning():
    from datasets import Dataset as Table

    for dataset in (Table.from_dict({"label": [0, 1]}), TensorDataset(torch.zeros(4, 3, 8, 8))):
        with pytest.warns(smartaug.NoEffectWarning, match=r"lifted nothing: \w+ keeps no pipeline"):
            assert smartaug.lift(dataset).augment is None


def test_tables_name_what_a_choice_is_of():
    colours = v1.RandomApply([v1.ColorJitter(0.4)], p=0.8)
    given = v1.Compose([colours, v1.RandomChoice([v1.RandomInvert(), colours]), v1.ToTensor()])
    loader = smartaug.DataLoader(tvd.FakeData(8, (3, 16, 16), transform=given), 4, lift=True)
    table = loader.explain()
    assert "RandomApply(ColorJitter)  " in table
    assert "RandomChoice(RandomInvert, RandomApply(ColorJitter))  " in table
    assert "augment: OneOf(" in table
