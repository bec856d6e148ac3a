"""Datasets whose pipeline has another name than ``transform``, and objects that call a pipeline."""

import pickle

import albumentations as A
import pytest
import torch
from albumentations.pytorch import ToTensorV2
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader as TorchDataLoader
from torch.utils.data import Dataset, Subset
from torchvision import models, tv_tensors
from torchvision import transforms as T
from torchvision.transforms import v2

import smartaug
from tests.lifting import photos

PICTURES = photos(6, 24, 24)


class Named(Dataset):
    """``images`` through the pipeline in the attribute ``name``; others: further attributes."""

    def __init__(self, name, pipeline, **others):
        setattr(self, name, pipeline)
        self._name, self._kind = name, type(pipeline)
        vars(self).update(others)

    def __len__(self):
        return 12

    def __getitem__(self, index):
        pipeline = getattr(self, self._name)
        if self._kind is A.Compose:
            return pipeline(image=PICTURES[index % 6])["image"], index % 3
        image = Image.fromarray(PICTURES[index % 6])
        if self._kind is nn.Sequential:
            image = tv_tensors.Image(v2.functional.pil_to_tensor(image))
        return pipeline(image), index % 3


def recipe():
    return T.Compose(
        [T.RandomHorizontalFlip(), T.RandomRotation(20), T.ToTensor(), T.Normalize((0.5,) * 3, (0.2,) * 3)]
    )


def loaded(dataset):
    return smartaug.DataLoader(dataset, 4, lift=True, seed=0, device="cpu")


@pytest.mark.parametrize("name", ["tf", "_preprocess", "aug"])
def test_another_name_gives_the_same_pictures(name):
    expected = torch.cat([images for images, _ in loaded(Named("transform", recipe()))])
    dataset = Named(name, recipe())
    own = getattr(dataset, name)
    for given in (dataset, Subset(dataset, range(12)), pickle.loads(pickle.dumps(dataset))):
        loader = loaded(given)
        assert torch.equal(torch.cat([images for images, _ in loader]), expected)
        assert loader.stats()["lifted"] == 12
        again = loaded(loader.dataset)  # as a framework does that builds the loader anew
        assert torch.equal(next(iter(again))[0], expected[:4])
    assert getattr(dataset, name) is own
    assert "_smartaug_slot" not in vars(dataset)


@pytest.mark.parametrize(
    "pipeline",
    [
        A.Compose([A.HorizontalFlip(), A.Normalize(), ToTensorV2()]),
        v2.Compose([v2.ToImage(), v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)]),
        nn.Sequential(v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)),
    ],
    ids=["albumentations", "v2", "Sequential"],
)
def test_pipelines_of_every_library_are_found(pipeline):
    loader = loaded(Named("augs", pipeline))
    assert len(list(loader)) == 3
    assert loader.stats()["lifted"] == 12


def test_what_is_no_pipeline_of_images_is_left_out():
    others = {
        "net": models.mobilenet_v3_small(),
        "inner": Named("tf", recipe()),
        "target_transform": T.Lambda(int),
        "head": nn.Sequential(nn.Linear(2, 2)),
        "mode": T.InterpolationMode.BILINEAR,
        "function": T.functional.to_tensor,
        "empty": nn.Sequential(),
    }
    assert smartaug.lift(Named("tf", recipe(), **others)).augment is not None
    with pytest.warns(smartaug.NoEffectWarning, match=r"its inner\.tf must stay: Named did not call it"):
        smartaug.lift(Named("function", T.functional.to_tensor, **others))
    del others["inner"]
    with pytest.warns(smartaug.NoEffectWarning, match="keeps no pipeline of a known library"):
        smartaug.lift(Named("function", T.functional.to_tensor, **others))


class Both(Named):
    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image, label, self.val_tf(Image.fromarray(PICTURES[index % 6]))


def test_of_several_the_one_that_is_called_is_taken():
    dataset = Named("train_tf", recipe(), val_tf=recipe())
    loader = loaded(dataset)
    assert next(iter(loader))[0].dtype == torch.float32
    assert loader.stats()["lifted"] == 4
    dataset = Both("train_tf", recipe(), val_tf=recipe())
    with pytest.warns(smartaug.NoEffectWarning, match=r"several pipelines \(train_tf, val_tf\)"):
        smartaug.lift(dataset)
    dataset.transform, dataset._name = dataset.train_tf, "transform"
    with pytest.warns(smartaug.NoEffectWarning, match="its transform must stay"):
        smartaug.lift(dataset)  # for its second image


def test_another_pipeline_assigned_later_raises():
    dataset = Named("tf", recipe())
    loader = loaded(dataset)
    dataset.tf = recipe()
    with pytest.raises(RuntimeError, match=r"Named\.tf was Compose"):
        iter(loader)


class TwoCrops:
    def __init__(self, base):
        self.base = base

    def __call__(self, image):
        return [self.base(image), self.base(image)]


def test_an_object_that_calls_a_pipeline_is_told_how_and_that_runs():
    """By itself it is not looked into: what it does with the pipeline's images is seen in a dataset only."""
    dataset = Named("transform", TwoCrops(recipe()))
    assert "pipeline in its attribute base is lifted by itself" in smartaug.lift(dataset.transform).explain()
    lifted = smartaug.lift(dataset.transform.base)
    dataset.transform = TwoCrops(lifted.head)
    loader = smartaug.DataLoader(dataset, 6, augment=lifted.augment, views="independent", seed=0, device="cpu")
    (one, two), _ = next(iter(loader))
    assert one.dtype == torch.float32
    assert not torch.equal(one, two)


class Crops:
    """A pipeline for each crop."""

    def __init__(self, *pipelines):
        self.whole, self.part = pipelines

    def __call__(self, image):
        return [self.whole(image), self.part(image)]


def test_an_object_with_several_pipelines_is_told_to_lift_each():
    dataset = Named("transform", Crops(recipe(), recipe()))
    assert "lift each of the pipelines in its attributes whole, part by itself" in smartaug.lift(dataset).explain()
    each = [smartaug.lift(one) for one in (dataset.transform.whole, dataset.transform.part)]
    dataset.transform = Crops(*(one.head for one in each))
    (one, two), _ = next(iter(TorchDataLoader(dataset, 6)))
    one, two = each[0].augment(one, view=0), each[1].augment(two, view=1)
    assert one.dtype == two.dtype == torch.float32
    assert not torch.equal(one, two)


class Pairs(Named):
    """The dataset itself calls its pipeline twice."""

    def __getitem__(self, index):
        one, two = Named.__getitem__(self, index)[0], Named.__getitem__(self, index)[0]
        return ([one, two], index % 3) if self.as_list else (one, two)


class Stacked(Pairs):
    def __getitem__(self, index):
        views, label = super().__getitem__(index)
        return torch.stack(views), label


def test_two_calls_are_lifted_in_a_list_and_told_so_elsewhere():
    with pytest.warns(smartaug.NoEffectWarning, match=r"\[view, view\], label"):
        smartaug.lift(Pairs("tf", recipe(), as_list=False))
    with pytest.warns(smartaug.NoEffectWarning, match=r"torch\.stack; return \[view, view\], label"):
        smartaug.lift(Stacked("tf", recipe(), as_list=True))
    told = Pairs("tf", recipe(), as_list=True)
    loader = smartaug.DataLoader(told, 6, lift=True, views="independent", seed=0, device="cpu")
    (one, two), _ = next(iter(loader))
    assert loader.stats()["lifted"] == 6
    assert not torch.equal(one, two)
