"""Pipelines to plain values and back, and names that were mistyped."""

import json

import pytest
import torch
import yaml

import smartaug
from smartaug import augment as a
from smartaug._base.names import did_you_mean
from tests.test_backends import NEED_MASKS, NEED_ROWS, ROWS

EXAMPLES = [
    a.Affine((-5, 10), translate=(0.1, 0.2), scale=(0.8, 1.2), shear=(1, 2, 3, 4), fill=(1, 2, 3), center=(3, 4)),
    a.AugMix(2, 2, 3, alpha=0.5, all_ops=False),
    a.AutoAugment("cifar10", "bilinear"),
    a.AutoContrast(0.3),
    a.ColorJitter(0.4, (0.5, 1.5), 0, 0.1),
    a.Compose([a.Flip(), a.Compose([a.Invert(0.2)])], backend="torch"),
    a.Crop((6, 5), place="center"),
    a.CopyPaste(0.3, most=2, p=0.5),
    a.CutMix(0.7, p=0.5, num_classes=7),
    a.Equalize(),
    a.Erase(0.4, scale=(0.1, 0.2), ratio=(0.5, 2), value=(1, 2, 3), count=2),
    a.Flip(0.1, vertical=True),
    a.GaussianBlur((3, 5), (0.2, 0.4), 0.6),
    a.GaussianNoise((0.1, 0.2), mean=0.5, p=0.6),
    a.Grayscale(0.2),
    a.Invert(),
    a.MixUp(0.2),
    a.Mosaic((6, 5), centre=(0.4, 1.2), scale=(0.7, 1), p=0.5, fill=(1, 2, 3), mask_fill=7, num_classes=4),
    a.Normalize((0.5, 0.4, 0.3), 0.2, dtype=torch.float16),
    a.OneOf([a.Flip(), a.Equalize()], weights=[1, 3], p=0.5),
    a.Pad((1, 2, 3, -1), fill=3, mode="reflect"),
    a.PadCrop(2, size=(6, 7), fill=(1, 2, 3), mode="edge"),
    a.Posterize(3),
    a.RandAugment(1, 5, 11, interpolation="bilinear", fill=(1, 2, 3), exact=False),
    a.RandomApply([a.Flip(), a.RandAugment()], 0.2),
    a.RandomOrder([a.Flip(), a.Invert()], p=0.4),
    a.RandomResizedCrop((6, 8), (0.2, 0.9), (0.5, 2.0), "nearest"),
    a.Resize((5, 6), "nearest"),
    a.Sharpness(1.5),
    a.Solarize(99),
    a.SMOTE(3, p=0.5),
    a.SwapFeatures(0.3, within="class"),
    a.SomeOf([a.Flip(), a.Invert(), a.Equalize()], (1, 2), weights=[1, 2, 3], ordered=True),
    a.TrivialAugment(11, fill=None),
]
EXAMPLES += [make() for name in ROWS.keys() - {type(one).__name__ for one in EXAMPLES} for make in ROWS[name]]


@pytest.mark.parametrize("one", EXAMPLES, ids=lambda one: type(one).__name__)
def test_it_comes_back_the_same_through_yaml_and_json(one):
    written = smartaug.to_dict(one)
    for read in (yaml.safe_load(yaml.safe_dump(written)), json.loads(json.dumps(written))):
        made = smartaug.from_dict(read)
        assert repr(made) == repr(one)
    images = torch.randint(0, 256, (4, 3, 9, 8), dtype=torch.uint8)
    index = torch.arange(4)
    if type(one).__name__ in NEED_MASKS:
        assert repr(made.plan(images.shape, index=index, seed=1)) == repr(one.plan(images.shape, index=index, seed=1))
        return
    if type(one).__name__ in NEED_ROWS:
        rows, labels = images.flatten(1).float(), torch.tensor([0, 1, 0, 1])
        both = [augmentation(rows, labels, index=index, seed=1)[0] for augmentation in (made, one)]
        assert torch.equal(*both)
        return
    assert torch.equal(made(images, index=index, seed=1), one(images, index=index, seed=1))


def test_lists_stay_lists_and_short_forms_are_read():
    stages = [a.PadCrop(2), a.Flip()]
    assert repr(smartaug.from_dict(smartaug.to_dict(stages))) == repr(stages)
    assert repr(smartaug.from_dict(["Flip", {"Invert": None}])) == repr([a.Flip(), a.Invert()])


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"Flp": {}}, "no augmentation 'Flp'; did you mean Flip"),
        ({"Augmentation": {}}, "no augmentation"),
        ({"os.system": {"command": "true"}}, "no augmentation"),
        ({"PadCrop": {"paddin": 2}}, "no argument 'paddin'.*did you mean padding"),
        ({"Sharpness": {"_amount": 2}}, "no argument"),
        (
            [{"Compose": {"augmentations": [{"Flip": {"p": 2}}]}}],
            r"at \[0\].Compose.augmentations\[0\]: Flip: p must be",
        ),
        ({"Flip": 3}, "arguments of Flip are a dict"),
        ({"Flip": {"p": {"a": 1}}}, "at Flip.p: plain values"),
        ({"Flip": {}, "Invert": {}}, "one name and its arguments"),
        ({"Compose": {"augmentations": {"Flip": {}}}}, "a list of augmentations"),
        ({"Normalize": {"dtype": "object"}}, "dtype is one of float16"),
        ({"Posterize": {}}, "missing 1 required"),
        (3, "one name and its arguments"),
    ],
)
def test_mistakes_name_the_place(written, words):
    with pytest.raises((TypeError, ValueError), match=words):
        smartaug.from_dict(written)


def test_what_cannot_be_written_is_refused():
    learned = a.RandAugment(1)
    learned.probabilities = torch.full((14,), 1 / 14)
    with pytest.raises(ValueError, match=r"RandAugment\.probabilities was set or learned"):
        smartaug.to_dict(learned)
    for foreign in (torch.nn.Identity(), len, type("Flip", (a.Flip,), {})()):
        with pytest.raises(TypeError, match=r"the augmentations of smartaug\.augment"):
            smartaug.to_dict([foreign])


def test_the_nearest_name():
    assert did_you_mean("flip", ["Flip", "Erase"]) == "; did you mean Flip?"
    assert did_you_mean("xyz", ["Flip"]) == ""
    with pytest.raises(AttributeError, match="no attribute 'RandAugmnt'; did you mean RandAugment"):
        smartaug.RandAugmnt  # noqa: B018
    assert not hasattr(smartaug, "_nothing")
