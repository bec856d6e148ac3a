"""Boxes whose format is known without `follow=`: their type, their name or the lifted pipeline says it."""

import json

import albumentations as A
import kornia.augmentation as K
import numpy as np
import pytest
import torch
from albumentations.pytorch import ToTensorV2
from PIL import Image
from torch.utils.data import Dataset
from torchvision import datasets
from torchvision.transforms import v2

import smartaug

COUNT, SIZE = 6, (24, 32)
CORNERS = torch.tensor([[4.0, 3, 14, 8], [20.0, 10, 30, 22]])
SIDES = torch.tensor([SIZE[1], SIZE[0]] * 2, dtype=torch.float64)
MIRROR = smartaug.Flip(1.0)


def as_format(boxes, word):
    """(n, 4) corners in another format."""
    start, end = boxes[:, :2], boxes[:, 2:]
    made = {
        "xyxy": boxes,
        "xywh": torch.cat([start, end - start], 1),
        "cxcywh": torch.cat([(start + end) / 2, end - start], 1),
    }
    made["yolo"] = made["cxcywh"].double() / SIDES
    return made[word]


def mirrored(boxes):
    left, top, right, bottom = boxes.unbind(1)
    return torch.stack([SIZE[1] - right, top, SIZE[1] - left, bottom], 1)


def listed(samples):
    return tuple(zip(*samples, strict=True))


class Named(Dataset):
    """Boxes by name, as tensors or arrays."""

    def __init__(self, name, boxes):
        self.name, self.boxes = name, boxes

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        return torch.zeros(3, *SIZE, dtype=torch.uint8), {
            self.name: self.boxes,
            "labels": torch.arange(len(self.boxes)),
        }


@pytest.mark.parametrize("name", ["boxes_{}", "{}", "gt-{}", "Boxes.{}"])
@pytest.mark.parametrize("word", ["xyxy", "xywh", "cxcywh"])
def test_a_name_that_says_the_format(name, word):
    key = name.format(word.upper() if name[0] == "B" else word)
    loader = smartaug.DataLoader(Named(key, as_format(CORNERS, word)), 2, collate_fn=listed, augment=MIRROR)
    _, targets = next(iter(loader))
    torch.testing.assert_close(targets[0][key], as_format(mirrored(CORNERS), word))
    assert f"batch[1][i]['{key}']" in loader.explain()


@pytest.mark.parametrize("name", ["boxes", "bbox", "xyxy_or_xywh", "boxes_yolo", "boxes_xyxyn"])
def test_a_name_that_does_not_say_it_is_refused(name):
    loader = smartaug.DataLoader(Named(name, CORNERS), 2, collate_fn=listed, augment=MIRROR)
    with pytest.raises(ValueError, match=rf"batch\[1\]\[i\]\['{name}'\] is boxes .* write follow=.*\"xyxy\""):
        next(iter(loader))


@pytest.mark.parametrize("word", ["xyxy", "xywh", "yolo"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_arrays_follow_and_stay_arrays(word, dtype):
    if word == "yolo" and dtype == np.int64:
        return
    given = as_format(CORNERS, word).numpy().astype(dtype)
    loader = smartaug.DataLoader(Named("boxes", given), 2, collate_fn=listed, augment=[MIRROR], follow={"boxes": word})
    _, targets = next(iter(loader))
    made = targets[1]["boxes"]
    assert (type(made), made.dtype) == (np.ndarray, dtype)
    np.testing.assert_allclose(made, as_format(mirrored(CORNERS), word).numpy(), atol=1e-6)
    np.testing.assert_array_equal(given, as_format(CORNERS, word).numpy().astype(dtype))


def test_keypoints_in_arrays_beside_boxes():
    class Points(Named):
        def __getitem__(self, index):
            image, target = super().__getitem__(index)
            points = np.array([[[4.0, 3, 2]], [[20.0, 10, 2]]], np.float32)
            return image, {**target, "points": points}, np.zeros((0, 2), np.float32)

    loader = smartaug.DataLoader(
        Points("boxes", CORNERS.numpy()),
        2,
        collate_fn=listed,
        augment=MIRROR,
        follow={"boxes": "xyxy", (1, "points"): "keypoints", 2: "keypoints"},
    )
    _, targets, none = next(iter(loader))
    np.testing.assert_array_equal(targets[0]["points"], [[[27.0, 3, 2]], [[11.0, 10, 2]]])
    assert all(type(one) is np.ndarray and one.shape == (0, 2) for one in none)


# --- the lifted pipeline says it --------------------------------------------------------------------------------------

WORDS = {"pascal_voc": "xyxy", "coco": "xywh", "yolo": "yolo"}


class Albumentations(Dataset):
    def __init__(self, form, p=0.5, touched=()):
        settings = A.BboxParams(form, label_fields=["labels"])
        self.transform = A.Compose([A.HorizontalFlip(p=p), ToTensorV2()], bbox_params=settings)
        self.form, self.touched = form, touched

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        word = WORDS.get(self.form)
        boxes = as_format(CORNERS, word) if word else CORNERS.double() / SIDES
        image = np.zeros((*SIZE, 3), np.uint8)
        image[3:8, 4:14] = 200
        made = self.transform(image=image, bboxes=boxes.numpy(), labels=np.arange(2))
        image = made["image"].clone() if index in self.touched else made["image"]
        return image, {"bboxes": made["bboxes"], "labels": made["labels"]}


@pytest.mark.parametrize("form", WORDS)
def test_bbox_params_say_the_format(form):
    """Under `augment=` the boxes go on from where the lifted pipeline left them."""
    loader = smartaug.DataLoader(
        Albumentations(form), COUNT, lift=True, seed=0, collate_fn=listed, augment=[smartaug.ColorJitter(0.1), MIRROR]
    )
    images, targets = next(iter(loader))
    assert loader.stats()["lifted"] == COUNT
    seen = set()
    for image, target in zip(images, targets, strict=True):
        left, right = (image[0] > 100).any(0).nonzero()[:, 0][[0, -1]].tolist()
        expected = CORNERS if left == 4 else mirrored(CORNERS)
        assert type(target["bboxes"]) is np.ndarray
        np.testing.assert_allclose(target["bboxes"], as_format(expected, WORDS[form]), atol=1e-4)
        assert [left, right + 1] == expected[0, 0::2].tolist()
        seen.add(left)
    assert len(seen) == 2
    assert "batch[1][i]['bboxes']" in loader.explain()


def test_fractions_of_albumentations_and_boxes_that_were_touched_are_refused():
    make = {"batch_size": 2, "lift": True, "collate_fn": listed, "augment": MIRROR}
    with pytest.raises(ValueError, match=r"format 'albumentations' .* write BboxParams\(format='pascal_voc'\)"):
        next(iter(smartaug.DataLoader(Albumentations("albumentations"), **make)))
    _, targets = next(iter(smartaug.DataLoader(Albumentations("albumentations", 1.0), still="bboxes", **make)))
    np.testing.assert_allclose(targets[0]["bboxes"], mirrored(CORNERS).double() / SIDES, atol=1e-6)
    batches = iter(smartaug.DataLoader(Albumentations("coco", touched=(3,)), **make))
    next(batches)
    with pytest.raises(ValueError, match=r"\['bboxes'\] is boxes .* write follow="):
        next(batches)


@pytest.mark.parametrize(("key", "word"), [("bbox_xyxy", "xyxy"), ("bbox_xywh", "xywh")])
def test_a_data_key_of_kornia_says_the_format(key, word):
    """Kornia's bbox_xyxy ends at the last pixel, which is none of ours."""

    class Kornia(Dataset):
        transform = K.AugmentationSequential(K.RandomHorizontalFlip(p=1.0), data_keys=["input", key], keepdim=True)

        def __len__(self):
            return COUNT

        def __getitem__(self, index):
            return tuple(self.transform(torch.zeros(3, *SIZE), as_format(CORNERS, word)))

    loader = smartaug.DataLoader(Kornia(), 2, lift=True, seed=0, collate_fn=listed, augment=MIRROR)
    if word == "xyxy":
        with pytest.raises(ValueError, match="boxes or keypoints"):
            next(iter(loader))
        return
    _, boxes = next(iter(loader))
    torch.testing.assert_close(boxes[0], as_format(CORNERS, word), atol=1e-4, rtol=0)


# --- the dataset says it ----------------------------------------------------------------------------------------------


@pytest.fixture
def coco(tmp_path):
    """Folder and file of a dataset of COCO's."""
    for number in range(COUNT):
        Image.new("RGB", SIZE[::-1], (number, 0, 0)).save(tmp_path / f"{number}.png")
    sizes = {"height": SIZE[0], "width": SIZE[1]}
    boxes = as_format(CORNERS, "xywh").tolist()
    notes = [
        {"id": 2 * n + k, "image_id": n, "bbox": box, "category_id": k, "area": box[2] * box[3], "iscrowd": 0}
        for n in range(COUNT)
        for k, box in enumerate(boxes)
    ]
    made = {
        "images": [{"id": n, "file_name": f"{n}.png", **sizes} for n in range(COUNT)],
        "annotations": notes,
        "categories": [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}],
    }
    (tmp_path / "notes.json").write_text(json.dumps(made))
    return str(tmp_path), str(tmp_path / "notes.json")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchvisions_datasets_say_it_once_they_are_wrapped(coco):
    plain = datasets.CocoDetection(*coco, transform=v2.ToImage())
    with pytest.raises(ValueError, match=r"\['bbox'\] is .*boxes .*wrap_dataset_for_transforms_v2\(dataset\)"):
        next(iter(smartaug.DataLoader(plain, 2, collate_fn=listed, augment=MIRROR)))
    wrapped = datasets.wrap_dataset_for_transforms_v2(datasets.CocoDetection(*coco, transforms=v2.ToImage()))
    _, targets = next(iter(smartaug.DataLoader(wrapped, 2, collate_fn=listed, augment=MIRROR)))
    assert targets[0]["boxes"].tolist() == mirrored(CORNERS).tolist()
    assert targets[0]["boxes"].format.name == "XYXY"
