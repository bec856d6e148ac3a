"""Joint pipelines, lifted: boxes, keypoints, masks and their labels are what the library's own pipeline gives."""

import functools
import json
import operator

import albumentations as A
import kornia.augmentation as K
import numpy as np
import pytest
import torch
from albumentations.pytorch import ToTensorV2
from PIL import Image
from torch.utils.data import DataLoader as TorchDataLoader
from torch.utils.data import Dataset, Subset, default_collate
from torchvision import datasets, tv_tensors
from torchvision.transforms import v2

import smartaug
from tests.lifting import DRAWS, alike

pytestmark = pytest.mark.filterwarnings("ignore:lift=True (had no effect|ran for only):smartaug.NoEffectWarning")

COUNT, SIZE = 8, (40, 56)
POINTS = hasattr(tv_tensors, "KeyPoints")  # since torchvision 0.23
KINDS = {"XYXY": 4, "XYWH": 4, "CXCYWH": 4}


def boxes_of(number, size=SIZE, form="XYXY", dtype=torch.float32):
    """Boxes of a sample; sample 0 has none."""
    generator = torch.Generator().manual_seed(number)
    start = torch.rand(number, 2, generator=generator) * 0.7
    sides = 0.05 + torch.rand(number, 2, generator=generator) * 0.25
    scale = torch.tensor([size[1], size[0]] * 2)
    made = torch.cat([start, start + sides], 1) * scale
    made = made.round() if not dtype.is_floating_point else made
    boxes = tv_tensors.BoundingBoxes(made.to(dtype), format="XYXY", canvas_size=size)
    return v2.functional.convert_bounding_box_format(boxes, new_format=form)


class Detection(Dataset):
    """(image, target) for the joint ``transforms``; sizes: of each image."""

    def __init__(self, transforms, sizes=(SIZE,), form="XYXY", dtype=torch.float32, parts=("boxes", "labels", "masks")):
        self.transforms, self.sizes, self.form, self.dtype, self.parts = transforms, sizes, form, dtype, parts

    def __len__(self):
        return COUNT

    def given(self, index):
        size = self.sizes[index % len(self.sizes)]
        generator = torch.Generator().manual_seed(100 + index)
        image = tv_tensors.Image(torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator))
        masks = torch.randint(0, 2, (index, *size), dtype=torch.uint8, generator=generator)
        points = torch.rand(index, 3, 2, generator=generator) * torch.tensor([size[1] - 1, size[0] - 1])
        target = {
            "boxes": boxes_of(index, size, self.form, self.dtype),
            "labels": torch.arange(index),
            "masks": tv_tensors.Mask(masks),
        }
        if POINTS:
            target["points"] = tv_tensors.KeyPoints(points, canvas_size=size)
        return image, {name: target[name] for name in self.parts if name in target} | {"image_id": index}

    def __getitem__(self, index):
        return self.transforms(*self.given(index))


def listed(samples):
    return tuple(zip(*samples, strict=True))


def same(mine, theirs, atol=1e-3):
    if isinstance(theirs, dict):
        assert mine.keys() == theirs.keys()
        mine, theirs = list(mine.values()), list(theirs.values())
    if isinstance(theirs, (list, tuple)):
        assert type(mine) is type(theirs)
        assert len(mine) == len(theirs)
        for a, b in zip(mine, theirs, strict=True):
            same(a, b, atol)
    elif isinstance(theirs, torch.Tensor):
        mine = mine.plain if isinstance(mine, smartaug.Target) and mine.index is not None else mine
        assert type(mine) is type(theirs)
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
        if isinstance(theirs, tv_tensors.BoundingBoxes):
            assert (mine.format, mine.canvas_size) == (theirs.format, theirs.canvas_size)
            assert getattr(mine, "clamping_mode", None) == getattr(theirs, "clamping_mode", None)
        if not isinstance(theirs, tv_tensors.Image):
            plain = (part.as_subclass(torch.Tensor) for part in (mine, theirs))
            torch.testing.assert_close(*plain, rtol=0, atol=atol)
    else:
        assert mine == theirs


def compared(make, collate=listed, atol=1e-3, lifted=True, **keywords):
    loader = smartaug.DataLoader(make(), 4, lift=True, seed=0, collate_fn=collate, **keywords)
    for mine, theirs in zip(loader, TorchDataLoader(make(), 4, collate_fn=collate), strict=True):
        same(mine, theirs, atol)
    if lifted:
        assert loader.stats()["lifted"] == COUNT, loader.explain()
    return loader


BILINEAR = v2.InterpolationMode.BILINEAR
CERTAIN = {
    "HorizontalFlip": v2.RandomHorizontalFlip(1.0),
    "VerticalFlip": v2.RandomVerticalFlip(1.0),
    "Pad": v2.Pad((3, 5, 7, 2)),
    "CenterCrop": v2.Compose([v2.Resize(SIZE), v2.CenterCrop((24, 30))]),
    "CenterCrop beyond": v2.Compose([v2.Resize(SIZE), v2.CenterCrop((60, 30))]),
    "Resize": v2.Compose([v2.Resize(SIZE), v2.Resize((60, 70))]),
    "RandomCrop": v2.Compose([v2.Resize(SIZE), v2.RandomCrop((44, 58), (1, 2))]),
    "RandomResizedCrop": v2.Compose([v2.Resize(SIZE), v2.RandomResizedCrop((45, 63), (1.0, 1.0), (1.4, 1.4))]),
    "Rotation": v2.RandomRotation((25, 25)),
    "Rotation 90": v2.RandomRotation((90, 90)),
    "Affine": v2.RandomAffine((-17, -17), scale=(1.3, 1.3), shear=(9, 9, -4, -4)),
    "Affine center": v2.RandomAffine((40, 40), scale=(0.7, 0.7), center=(3, 30)),
    "nothing": v2.RandomHorizontalFlip(0.0),
    "chain": v2.Compose([v2.RandomRotation((25, 25)), v2.RandomHorizontalFlip(1.0), v2.RandomRotation((-40, -40))]),
    "apply": v2.RandomApply([v2.RandomRotation((25, 25)), v2.RandomVerticalFlip(1.0)], 1.0),
}


@pytest.mark.parametrize("name", CERTAIN)
def test_one_operation(name):
    masks = () if "Resize" in name else ("masks",)  # resized masks take the pixel under the centre
    compared(lambda: Detection(CERTAIN[name], parts=("boxes", "labels", "points", *masks)))


# --- albumentations ---------------------------------------------------------------------------------------------------


class Named(Dataset):
    """What albumentations returns, as it is."""

    def __init__(self, transform, form="pascal_voc", as_arrays=False, parts=("bboxes", "kinds", "keypoints", "names")):
        self.transform, self.form, self.as_arrays, self.parts = transform, form, as_arrays, parts

    def __len__(self):
        return COUNT

    def given(self, index):
        generator = np.random.default_rng(index)
        xyxy = boxes_of(index).numpy().clip(0, [SIZE[1], SIZE[0]] * 2)
        boxes = xyxy
        if self.form in ("albumentations", "yolo"):
            boxes = xyxy / np.array([SIZE[1], SIZE[0]] * 2)
        if self.form in ("coco", "yolo"):
            boxes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
        if self.form == "yolo":
            boxes[:, :2] += boxes[:, 2:] / 2
        points = generator.uniform(0, 1, (index, 2)) * np.array([SIZE[1] - 1, SIZE[0] - 1])
        image = generator.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
        found = {"bboxes": boxes.astype(np.float32), "kinds": np.arange(index), "keypoints": points}
        found["names"] = [f"point {n}" for n in range(index)]
        if not self.as_arrays:
            found = {name: value.tolist() if name != "names" else value for name, value in found.items()}
        masks = [generator.integers(0, 9, SIZE).astype(np.int32) for _ in range(2)]
        parts = {name: found[name] for name in self.parts}
        return {"image": image, "mask": masks[0], "masks": masks, **parts, "id": index}

    def __getitem__(self, index):
        return self.transform(**self.given(index))


def as_they_are(samples):
    return samples


def near(mine, theirs, share, atol=1e-3):
    assert type(mine) is type(theirs), (type(mine), type(theirs))
    if isinstance(theirs, dict):
        assert mine.keys() == theirs.keys()
        for name, value in theirs.items():
            near(mine[name], value, share, atol)
    elif isinstance(theirs, (list, tuple)):
        assert len(mine) == len(theirs)
        for a, b in zip(mine, theirs, strict=True):
            near(a, b, share, atol)
    elif isinstance(theirs, (np.ndarray, torch.Tensor)):
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
        if theirs.dtype == torch.int32:  # a mask, whose nearest pixel OpenCV finds to 1/32 of a pixel
            assert float((mine == theirs).float().mean()) >= share
        elif theirs.ndim != 3:
            np.testing.assert_allclose(np.asarray(mine), np.asarray(theirs), rtol=0, atol=atol)
    elif isinstance(theirs, float):
        assert abs(mine - theirs) <= atol
    else:
        assert mine == theirs


def compose(*transforms, form="pascal_voc", **settings):
    boxes = A.BboxParams(form, label_fields=["kinds"], **settings)
    points = A.KeypointParams("xy", label_fields=["names"])
    return A.Compose([*transforms, ToTensorV2()], bbox_params=boxes, keypoint_params=points)


SURE = {
    "HorizontalFlip": [A.HorizontalFlip(p=1.0)],
    "VerticalFlip": [A.VerticalFlip(p=1.0)],
    "never": [A.InvertImg(p=1.0), A.HorizontalFlip(p=0.0)],
    "CenterCrop": [A.Resize(*SIZE), A.CenterCrop(24, 30)],
    "Pad": [A.Resize(*SIZE), A.Pad((3, 5, 7, 2))],
    "PadIfNeeded": [A.Resize(*SIZE), A.PadIfNeeded(64, 64)],
    "Resize": [A.Resize(*SIZE), A.Resize(60, 70)],
    "RandomResizedCrop": [A.Resize(*SIZE), A.RandomResizedCrop((45, 63), (1.0, 1.0), (1.4, 1.4))],
    "Affine": [A.Affine(rotate=(25, 25), scale=(0.8, 0.8), shear=(5, 5), p=1.0)],
    "Affine large": [A.Affine(scale=(2.3, 2.3), translate_px=(7, 7), p=1.0)],
    "Rotate": [A.Rotate((-40, -40), p=1.0)],
    "Transpose": [A.Resize(40, 40), A.Transpose(p=1.0)],
    "chain": [A.Rotate((30, 30), p=1.0), A.HorizontalFlip(p=1.0), A.Rotate((-30, -30), p=1.0), A.VerticalFlip(p=1.0)],
    "OneOf": [A.OneOf([A.Rotate((30, 30), p=1.0)], p=1.0), A.HorizontalFlip(p=1.0)],
}


def inside(index, generator):
    return generator.uniform(0, 39, (index % 4, 2)).tolist()


def everywhere(index, generator):
    return generator.uniform(-30, 90, (index % 4, 2)).tolist()


HOSTILE = {  # keypoints, of which some samples have none and others are outside; with and without labels
    "kept": ({"remove_invisible": False}, everywhere, list),
    "kept, arrays": ({"remove_invisible": False}, everywhere, lambda points: np.array(points).reshape(-1, 2)),
    "kept, float32": ({"remove_invisible": False}, everywhere, lambda p: np.array(p, np.float32).reshape(-1, 2)),
    "kept, labels": ({"remove_invisible": False, "label_fields": ["names", "kinds"]}, everywhere, list),
    "removed": ({"remove_invisible": True}, inside, list),
    "removed, labels": ({"remove_invisible": True, "label_fields": ["names"]}, inside, list),
    "none": ({"remove_invisible": True, "label_fields": ["names"]}, lambda *_: [], list),
    "none, an array": ({"remove_invisible": False}, lambda *_: [], lambda points: np.zeros((0, 2))),
    "tuples": ({"remove_invisible": True}, inside, lambda points: [tuple(point) for point in points]),
    "more columns": ({"remove_invisible": False}, everywhere, lambda points: [[*point, 7] for point in points]),
    "row, column": ({"remove_invisible": False, "format": "yx"}, everywhere, list),
}


class Hostile(Named):
    def __init__(self, settings, points, form):
        given = A.KeypointParams(**{"format": "xy", **settings})
        chain = [A.HorizontalFlip(p=1.0), A.Affine(rotate=(20, 20), scale=(1.3, 1.3), p=1.0), ToTensorV2()]
        super().__init__(A.Compose(chain, keypoint_params=given))
        self.fields, self.points, self.form = settings.get("label_fields", ()), points, form

    def given(self, index):
        points = self.points(index, np.random.default_rng(index))
        labels = {"names": [f"point {n}" for n in range(len(points))], "kinds": list(range(len(points)))}
        image = np.full((*SIZE, 3), index, np.uint8)
        return {"image": image, "keypoints": self.form(points), **{field: labels[field] for field in self.fields}}


@pytest.mark.parametrize("kind", HOSTILE)
def test_keypoints_that_are_missing_or_outside(kind):
    alike_named(lambda: Hostile(*HOSTILE[kind]))


def alike_named(make, share=0.995, **keywords):
    loader = smartaug.DataLoader(make(), 4, lift=True, seed=0, collate_fn=as_they_are, **keywords)
    for mine, theirs in zip(loader, TorchDataLoader(make(), 4, collate_fn=as_they_are), strict=True):
        near(mine, theirs, share)
    assert loader.stats()["lifted"] == COUNT


@pytest.mark.parametrize("name", SURE)
def test_one_operation_of_albumentations(name):
    alike_named(lambda: Named(compose(*SURE[name])), 0.0 if "Resize" in name else 0.9)


@pytest.mark.parametrize("form", ["pascal_voc", "coco", "yolo", "albumentations"])
@pytest.mark.parametrize("as_arrays", [False, True])
def test_formats_of_albumentations(form, as_arrays):
    settings = {"form": form, "min_area": 30, "min_visibility": 0.4, "clip": True}
    transforms = A.Affine(rotate=(10, 10), scale=(1.5, 1.5), p=1.0), A.HorizontalFlip(p=1.0)
    alike_named(lambda: Named(compose(*transforms, **settings), form, as_arrays), 0.98)


# --- torchvision: what comes at the end, presets, types ---------------------------------------------------------------


def tail(form="XYWH", **settings):
    return [
        v2.ToDtype(torch.float32, scale=True),
        v2.ConvertBoundingBoxFormat(form),
        v2.SanitizeBoundingBoxes(**settings),
        v2.ToPureTensor(),
    ]


TAILS = {
    "detection": tail(),
    "sanitised": [v2.SanitizeBoundingBoxes(min_size=3, min_area=60)],
    "labels of a function": [v2.SanitizeBoundingBoxes(labels_getter=lambda s: (s[1]["labels"], s[1]["areas"]))],
    "no labels": [v2.SanitizeBoundingBoxes(min_area=100, labels_getter=None)],
}
if POINTS:
    TAILS["clamped"] = [v2.SetClampingMode(None), v2.ClampBoundingBoxes("soft"), v2.SanitizeBoundingBoxes()]
    TAILS["points"] = [v2.SanitizeKeyPoints(labels_getter=lambda s: s[1]["labels"])]
    TAILS["points clamped"] = [v2.ClampKeyPoints(), v2.ToPureTensor()]


class Areas(Detection):
    def given(self, index):
        image, target = super().given(index)
        return image, target | {"areas": torch.rand(index, generator=torch.Generator().manual_seed(index))}


@pytest.mark.parametrize("name", TAILS)
def test_what_comes_at_the_end_runs_as_the_user_wrote_it(name):
    transforms = v2.Compose([v2.RandomRotation((35, 35)), v2.RandomHorizontalFlip(1.0), *TAILS[name]])
    parts = ("points", "labels") if "points" in name else ("boxes", "labels", "masks")
    compared(lambda: Areas(transforms, parts=parts))


@pytest.mark.parametrize("form", ["XYXY", "XYWH", "CXCYWH"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_formats_and_types_of_boxes(form, dtype):
    transforms = v2.Compose([v2.RandomHorizontalFlip(1.0), v2.Pad(3), v2.RandomRotation((20, 20))])
    if dtype.is_floating_point or form == "XYXY":
        compared(lambda: Detection(transforms, form=form, dtype=dtype))
    else:
        with pytest.warns(smartaug.NoEffectWarning, match=f"integer boxes in the format {form}"):
            compared(lambda: Detection(transforms, form=form, dtype=dtype), lifted=False)


MODES = [{"clamping_mode": mode} for mode in ("soft", "hard", None)] if POINTS else [{}]


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_boxes_are_cut_where_torchvision_cuts_them(mode):
    class Outside(Detection):
        def given(self, index):
            image, target = super().given(index)
            boxes = tv_tensors.wrap(target["boxes"] * 1.5 - 9, like=target["boxes"], **mode)
            return image, target | {"boxes": boxes}

    for transforms in (v2.RandomHorizontalFlip(1.0), v2.RandomVerticalFlip(0.0), CERTAIN["chain"], CERTAIN["Pad"]):
        compared(functools.partial(Outside, transforms))


def test_a_chain_takes_the_hull_after_each_operation():
    """Of a square turned by 45° and back: torchvision's box is twice as large, not the square again."""
    box = tv_tensors.BoundingBoxes([[28.0, 28, 36, 36]], format="XYXY", canvas_size=(64, 64))

    class One(Detection):
        def given(self, index):
            return tv_tensors.Image(torch.zeros(3, 64, 64, dtype=torch.uint8)), {"boxes": box.clone()}

    transforms = v2.Compose([v2.RandomRotation((45, 45)), v2.RandomRotation((-45, -45))])
    loader = compared(lambda: One(transforms))
    (_, targets) = next(iter(loader))
    torch.testing.assert_close(targets[0]["boxes"].as_subclass(torch.Tensor), torch.tensor([[24.0, 24, 40, 40]]))


def detection(name):
    """torchvision's reference presets for detection, on tensors."""
    flip = v2.RandomHorizontalFlip(1.0)
    changes = {
        "hflip": [flip],
        "multiscale": [v2.RandomShortestSize((30,), 60), flip],
        "lsj": [v2.ScaleJitter((40, 40), (0.8, 0.8)), flip],
        "ssdlite": [v2.RandomIoUCrop(trials=1, sampler_options=[2.0]), flip],
        "ssd": [
            v2.RandomPhotometricDistort(p=0.0),
            v2.RandomZoomOut(p=0.0),
            v2.RandomIoUCrop(sampler_options=[2.0]),
            flip,
        ],
    }
    return v2.Compose([v2.ToImage(), *changes[name], *tail("XYXY")])


@pytest.mark.parametrize("name", ["hflip", "multiscale", "lsj", "ssdlite", "ssd"])
def test_presets_of_detection(name):
    """What draws by boxes or makes sizes differ stays; the flip and the end of the pipeline are lifted."""
    sizes = (SIZE, (33, 47), SIZE, (52, 40))
    loader = compared(lambda: Detection(detection(name), sizes))
    rows = {row.split()[0]: row.split()[1] for row in loader.explain().splitlines() if row.strip()}
    assert rows["SanitizeBoundingBoxes"] == "folded"
    stays = [part for part in ("RandomShortestSize", "ScaleJitter", "RandomIoUCrop") if part in rows]
    assert all(rows[part] == "worker" for part in stays)
    assert len(stays) == (name != "hflip")


# --- the check, sample by sample --------------------------------------------------------------------------------------


class Touched(Detection):
    """Works on what the transform gave for some samples."""

    def __init__(self, touch, every=2, **settings):
        super().__init__(v2.Compose([v2.RandomHorizontalFlip(1.0), *tail()]), **settings)
        self.touch, self.every, self.kept = touch, every, {}

    def __getitem__(self, index):
        image, target = self.transforms(*self.given(index))
        if index % self.every == self.every - 1:
            image, target = self.touch(self, index, image, target)
        return image, target


def reads_shape(own, index, image, target):
    return image, target | {"count": target["boxes"].shape[0]}


def changes_boxes(own, index, image, target):
    return image, target | {"boxes": target["boxes"] + 1}


def changes_in_place(own, index, image, target):
    target["boxes"][:, 2:] += 2
    return image, target


def changes_labels(own, index, image, target):
    return image, target | {"labels": target["labels"] + 5}


def changes_image(own, index, image, target):
    return image * 2, target


def area(own, index, image, target):
    sides = target["boxes"][:, 2:]
    return image, target | {"area": sides[:, 0] * sides[:, 1]}


def drops_masks(own, index, image, target):
    return image, {name: value for name, value in target.items() if name != "masks"}


def keeps_boxes(own, index, image, target):
    own.kept[index] = target["boxes"]
    return image, target


def keeps_sample(own, index, image, target):
    return own.kept.setdefault(index, (image, target))


TOUCHES = [reads_shape, changes_boxes, changes_in_place, changes_labels, changes_image, area, keeps_boxes, keeps_sample]


@pytest.mark.filterwarnings("ignore:lift=True lifted nothing")
@pytest.mark.parametrize("every", [2, 3])  # the batches of 4 that have none: none, and some
@pytest.mark.parametrize("touch", TOUCHES)
def test_samples_that_the_dataset_works_on_are_what_torch_gives(touch, every):
    compared(lambda: Touched(touch, every), lifted=False)


# --- code that asks for types -----------------------------------------------------------------------------------------

UPSIDE_DOWN = v2.RandomVerticalFlip(1.0)


def again(own, index, image, target):
    return UPSIDE_DOWN(image, target)


def functional(own, index, image, target):
    return image, target | {"boxes": v2.functional.vertical_flip(target["boxes"])}


def of_types(own, index, image, target):
    return image, {name: value for name, value in target.items() if isinstance(value, tv_tensors.TVTensor)}


def canvas(own, index, image, target):
    return image, target | {"canvas": target["boxes"].canvas_size}


def wrapped(own, index, image, target):
    plain = torch.ones(2, 4)
    return image, target | {"more": tv_tensors.wrap(plain, like=target["boxes"])}


@pytest.mark.parametrize("touch", [again, functional, of_types, canvas, wrapped])
def test_types_of_torchvision_are_there_before_anything_was_moved(touch):
    """A second transform decides by type which parts of a sample it moves, and would leave the boxes."""

    def make():
        made = Touched(touch, every=4)
        made.transforms = v2.RandomHorizontalFlip(1.0)
        return made

    loader = compared(make, as_they_are, lifted=False)
    assert loader.stats()["lifted"] >= COUNT // 2


def test_images_in_a_list_are_no_labels_where_nothing_was_lifted():
    """An image (C, H, W) was taken for the batch's target."""

    class Second(Touched):
        def __getitem__(self, index):
            made = self.transforms(*self.given(index))
            return self.touch(self, index, *made) if index >= COUNT // 2 else made

    made = Second(reads_shape)
    made.transforms = v2.RandomHorizontalFlip(1.0)  # images stay uint8, as class numbers may be
    for images, _ in smartaug.DataLoader(made, 2, lift=True, collate_fn=listed):
        assert not any(isinstance(image, smartaug.Target) for image in images)


def test_what_a_dataset_drops_is_no_reason_not_to_lift():
    compared(lambda: Touched(drops_masks))


def copies_labels(own, index, image, target):
    return image, target | {"labels": torch.tensor(target["labels"], dtype=torch.float32)}


@pytest.mark.filterwarnings("ignore:To copy construct:UserWarning")
def test_copies_past_torch_functions_fail_instead_of_being_empty():
    """`torch.tensor` reads memory; seen in the first sample nothing is lifted, in a later one it is an error."""
    with pytest.warns(smartaug.NoEffectWarning, match="cannot be read"):
        smartaug.DataLoader(Late(copies_labels, 0), 4, lift=True, collate_fn=listed)
    loader = smartaug.DataLoader(Late(copies_labels, 3), 4, lift=True, collate_fn=listed)
    with pytest.raises(RuntimeError):
        list(loader)


class Late(Touched):
    def __init__(self, touch, first):
        super().__init__(touch)
        self.first = first

    def __getitem__(self, index):
        image, target = self.transforms(*self.given(index))
        return self.touch(self, index, image, target) if index == self.first else (image, target)


def stacks_images(samples):
    return torch.stack([image for image, _ in samples]), [target for _, target in samples]


def by_name(samples):
    return {"images": [image for image, _ in samples], "boxes": [target["boxes"] for _, target in samples]}


def in_other_order(samples):
    samples = samples[::-1]
    return [image for image, _ in samples], [target for _, target in samples]


def without_empty(samples):
    return listed([sample for sample in samples if sample[1]["image_id"] % 4])


def boxes_of_others(samples):
    return [image for image, _ in samples], [target for _, target in samples[1:] + samples[:1]]


def one_tensor(samples):
    return [image for image, _ in samples], torch.cat([target["boxes"] for _, target in samples])


@pytest.mark.parametrize(
    "collate", [listed, as_they_are, stacks_images, by_name, in_other_order, without_empty, boxes_of_others]
)
def test_collate_functions_that_put_samples_together(collate):
    loader = smartaug.DataLoader(Touched(None, every=99), 4, lift=True, seed=0, collate_fn=collate)
    for mine, theirs in zip(loader, TorchDataLoader(Touched(None, every=99), 4, collate_fn=collate), strict=True):
        same(mine, theirs)
    assert loader.stats()["lifted"] >= COUNT - 2


class SomeTouched(Detection):
    """The images of samples 2, 3 and 7 get their whole pipeline, or those of none."""

    def __init__(self, touches):
        flips = v2.Compose([v2.RandomHorizontalFlip(1.0), v2.RandomVerticalFlip(1.0), v2.ToPureTensor()])
        super().__init__(flips, (SIZE, (33, 47)), parts=("boxes", "labels"))
        self.touches = touches

    def __getitem__(self, index):
        image, target = super().__getitem__(index)
        return (image.clone() if self.touches and index in (2, 3, 7) else image), target


@pytest.mark.parametrize("collate", [listed, in_other_order, without_empty, by_name])
@pytest.mark.parametrize("batch", [4, 3])
def test_samples_that_were_not_lifted_keep_their_rows_and_draws(collate, batch):
    """Behind them, `augment=` draws for each sample as if all had been lifted, and moves its boxes."""
    tone, boxes = smartaug.ColorJitter(0.3), "boxes" if collate is by_name else (1, "boxes")
    settings = {"lift": True, "seed": 0, "collate_fn": collate, "augment": [smartaug.Affine(20), tone]}
    settings["follow"] = {boxes: "xyxy"}
    loaders = [smartaug.DataLoader(SomeTouched(touches), batch, **settings) for touches in (True, False)]
    for mine, theirs in zip(*loaders, strict=True):
        same(mine, theirs)
        for a, b in zip(*(one["images"] if collate is by_name else one[0] for one in (mine, theirs)), strict=True):
            assert torch.equal(a, b)
    counts = [loader.stats()["lifted"] for loader in loaders]
    assert counts[0] == counts[1] - 3


@pytest.mark.parametrize("library", ["torchvision", "albumentations"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_pass_goes_on_where_it_was_left(library, workers):
    def loader():
        transforms = v2.Compose([v2.RandomAffine(30), v2.RandomHorizontalFlip(), *tail()])
        made = {"torchvision": Detection(transforms), "albumentations": Named(compose(A.Affine(rotate=(-30, 30))))}
        return smartaug.DataLoader(
            made[library],
            2,
            shuffle=True,
            generator=torch.Generator().manual_seed(3),
            lift=True,
            seed=0,
            collate_fn=as_they_are,
            num_workers=workers,
            multiprocessing_context="fork" if workers else None,
        )

    first = loader()
    batches = iter(first)
    next(batches)
    state = first.state_dict()
    again = loader()
    again.load_state_dict(state)
    for mine, theirs in zip(again, batches, strict=True):
        for one, other in zip(mine, theirs, strict=True):
            near(one, other, 1.0, 0.0) if library == "albumentations" else same(one, other, 0.0)


# --- follow= beside lift=True -----------------------------------------------------------------------------------------


class Spot(Dataset):
    """A bright rectangle and its box, which the dataset does not give to the transform; with a mask, which it does."""

    def __init__(self, transform, mask, touched=()):
        self.transform, self.mask, self.touched = transform, mask, touched

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        image = torch.full((3, *SIZE), 20, dtype=torch.uint8)
        image[:, 6:14, 8:24] = 220
        target = {"boxes": torch.tensor([[8.0, 6, 24, 14]]), "labels": torch.tensor([index])}
        if self.mask:
            given = tv_tensors.Image(image), tv_tensors.Mask((image[:1] > 100).to(torch.uint8))
            image, target["masks"] = self.transform(*given)
        else:
            image = self.transform(image)
        return (image.clone() if index in self.touched else image), target


def found_box(image):
    rows, columns = (image.as_subclass(torch.Tensor)[0] > 120).nonzero().unbind(1)
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]


MIRRORS = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()])


@pytest.mark.parametrize("mask", [False, True], ids=["image alone", "with a mask"])
@pytest.mark.parametrize("collate", [listed, stacks_images])
@pytest.mark.parametrize("augment", [None, smartaug.augment.Flip(1.0)])
def test_what_follow_names_moves_under_lifted_stages_too(mask, collate, augment):
    """Also where the transform was not given it; once, and what it was given as the library moves it."""
    loader = smartaug.DataLoader(
        Spot(MIRRORS, mask), 4, lift=True, seed=0, collate_fn=collate, augment=augment, follow={"boxes": "xyxy"}
    )
    seen = set()
    for images, targets in loader:
        for image, target in zip(images, targets, strict=True):
            assert target["boxes"].tolist() == [found_box(image)]
            seen.add(tuple(found_box(image)))
            if mask:
                assert torch.equal(target["masks"].as_subclass(torch.Tensor)[0] > 0, image[0] > 120)
    assert len(seen) > 2
    assert loader.stats()["lifted"] == COUNT


@pytest.mark.parametrize("collate", [listed, stacks_images])
@pytest.mark.parametrize("touched", [(2,), (2, 3, 4, 5, 6, 7)])
def test_what_follow_names_does_not_stay_behind_where_samples_were_not_lifted(collate, touched):
    loader = smartaug.DataLoader(
        Spot(MIRRORS, False, touched), 2, lift=True, seed=0, collate_fn=collate, follow={"boxes": "xyxy"}
    )
    batches = iter(loader)
    next(batches)
    with pytest.raises(ValueError, match=r"it stayed behind: .* give the transform both"):
        list(batches)
    tones = Spot(v2.ColorJitter(0.2), False, touched)
    loader = smartaug.DataLoader(tones, 2, lift=True, seed=0, collate_fn=collate, follow={"boxes": "xyxy"})
    assert all(target["boxes"].tolist() == [[8, 6, 24, 14]] for _, targets in loader for target in targets)


def test_follow_cannot_name_leaves_of_a_list_of_samples():
    loader = smartaug.DataLoader(Spot(MIRRORS, True), 4, lift=True, collate_fn=as_they_are, follow={"boxes": "xyxy"})
    with pytest.raises(ValueError, match=r"this one is a list of samples; .* tuple\(zip"):
        next(iter(loader))


@pytest.mark.filterwarnings("ignore:lift=True lifted nothing")
def test_collate_functions_that_work_on_boxes():
    compared(lambda: Touched(None, every=99), one_tensor, lifted=False)


def test_boxes_of_one_number_are_stacked():
    class Four(Detection):
        def given(self, index):
            return super().given(4)

    transforms = v2.Compose([v2.RandomRotation((20, 20)), v2.RandomHorizontalFlip(1.0)])
    compared(lambda: Four(transforms), default_collate)
    compared(lambda: Four(v2.Compose([transforms, *tail()]), parts=("boxes", "labels")), default_collate)


def test_a_draw_belongs_to_its_sample():
    """Not to its batch, order or worker; images, boxes and masks of a sample share it."""
    transforms = v2.Compose([v2.RandomAffine(30, (0.1, 0.1), (0.8, 1.2)), v2.RandomHorizontalFlip()])

    class Marked(Detection):
        """The mask of a sample is its box."""

        def given(self, index):
            mask = torch.zeros(1, *SIZE, dtype=torch.uint8)
            mask[:, 8:24, 10:34] = 1
            box = tv_tensors.BoundingBoxes([[10.0, 8, 34, 24]], format="XYXY", canvas_size=SIZE)
            return tv_tensors.Image(mask.expand(3, -1, -1) * 200), {"boxes": box, "masks": tv_tensors.Mask(mask)}

    seen = {}
    for batch in (4, 3):
        loader = smartaug.DataLoader(Marked(transforms), batch, lift=True, seed=0, collate_fn=as_they_are)
        seen[batch] = [sample for samples in loader for sample in samples]
    same(seen[3], seen[4])
    boxes = torch.cat([target["boxes"] for _, target in seen[4]]).as_subclass(torch.Tensor)
    assert len({tuple(box) for box in boxes.tolist()}) == COUNT
    for image, target in seen[4]:
        assert torch.equal(image[:1] > 100, target["masks"].bool())
        rows, columns = target["masks"][0].nonzero().unbind(1)
        found = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert float((found - target["boxes"][0].as_subclass(torch.Tensor)).abs().max()) <= 1


def test_workers_give_the_same():
    transforms = v2.Compose([v2.RandomAffine(30), v2.RandomHorizontalFlip(), *tail()])
    own = smartaug.DataLoader(Detection(transforms), 4, lift=True, seed=0, collate_fn=listed)
    for workers in (0, 2):
        loader = smartaug.DataLoader(
            Detection(transforms),
            4,
            lift=True,
            seed=0,
            collate_fn=listed,
            num_workers=workers,
            multiprocessing_context="fork" if workers else None,
        )
        for mine, theirs in zip(loader, own, strict=True):
            same(mine, theirs)
        own.set_epoch(0)


@pytest.mark.parametrize("library", ["torchvision", "albumentations", "kornia"])
def test_a_plain_pass_moves_nothing(library):
    """`loader.plain()`: pictures, boxes, points and masks as they came, through conversions and the end alone."""
    still = {
        "torchvision": lambda: Detection(v2.Compose([FLOATS, v2.ToPureTensor()]), (SIZE, (33, 47))),
        "albumentations": lambda: Named(compose(A.InvertImg(p=0.0), A.HorizontalFlip(p=0.0), A.Normalize())),
        "kornia": lambda: Keyed(keyed(K.RandomHorizontalFlip(p=0.0))),
    }[library]
    moves = {
        "torchvision": lambda: Detection(
            v2.Compose([v2.RandomAffine(30), v2.ColorJitter(0.5), FLOATS, v2.ToPureTensor()]), (SIZE, (33, 47))
        ),
        "albumentations": lambda: Named(compose(A.InvertImg(p=1.0), A.Affine(rotate=(9, 30), p=1.0), A.Normalize())),
        "kornia": lambda: Keyed(keyed(K.RandomRotation((9.0, 30.0), p=1.0), K.RandomInvert(p=1.0))),
    }[library]
    loader = smartaug.DataLoader(moves(), 4, lift=True, seed=0, collate_fn=as_they_are)
    with loader.plain():
        found = list(loader)
    for mine, theirs in zip(found, TorchDataLoader(still(), 4, collate_fn=as_they_are), strict=True):
        for one, other in zip(mine, theirs, strict=True):
            if library == "albumentations":
                near(one, other, 1.0)
            else:
                same(one, other)
    drawn = next(iter(loader))
    assert loader.stats()["lifted"] == 4
    images = [sample["image"] if library == "albumentations" else sample[0] for sample in (drawn[3], found[0][3])]
    assert float((images[0] - images[1]).abs().mean()) > 0.05


def test_augment_comes_behind_what_was_lifted():
    transforms = v2.Compose([v2.RandomHorizontalFlip(1.0), v2.ToPureTensor()])
    loader = smartaug.DataLoader(
        Detection(transforms, parts=("labels", "masks")),
        4,
        lift=True,
        seed=0,
        collate_fn=listed,
        augment=smartaug.Flip(1.0),
    )
    for (images, targets), rows in zip(loader, ((0, 1, 2, 3), (4, 5, 6, 7)), strict=True):
        for image, target, row in zip(images, targets, rows, strict=True):
            given, wanted = Detection(None, parts=("labels", "masks")).given(row)
            assert torch.equal(image, given.as_subclass(torch.Tensor))
            assert torch.equal(target["masks"], wanted["masks"].as_subclass(torch.Tensor))


class NamedTouched(Named):
    def __init__(self, touch):
        super().__init__(compose(A.HorizontalFlip(p=1.0), A.Affine(rotate=(10, 10), p=1.0)))
        self.touch = touch

    def __getitem__(self, index):
        made = super().__getitem__(index)
        return self.touch(made) if index == 5 else made


@pytest.mark.parametrize(
    "touch",
    [
        lambda made: made | {"bboxes": torch.tensor(made["bboxes"])},
        lambda made: made | {"bboxes": np.asarray(made["bboxes"], dtype=np.float32)},
        lambda made: made | {"count": len(made["bboxes"])},
        lambda made: made | {"first": made["bboxes"][0]},
        lambda made: made | {"areas": [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in made["bboxes"]]},
        lambda made: made | {"kinds": [kind + 1 for kind in made["kinds"]]},
        lambda made: made | {"names": made["names"] + ["more"]},
        lambda made: made | {"labels": sorted(made["kinds"])},
        lambda made: made | {"image": made["image"].float()},
        lambda made: made | {"names": ["first", *made["names"]]},
        lambda made: made | {"names": ["first"] + made["names"]},
        lambda made: made if isinstance(made["bboxes"], list) else {},
        lambda made: [made, made["bboxes"].append([1.0, 2.0, 3.0, 4.0])],
        lambda made: [made, operator.iadd(made["bboxes"], [[1.0, 2.0, 3.0, 4.0]])],
        lambda made: [made, operator.delitem(made["bboxes"], 0)],
    ],
)
def test_uses_of_albumentations_boxes_are_of_what_the_library_gives(touch):
    loader = smartaug.DataLoader(NamedTouched(touch), 4, lift=True, seed=0, collate_fn=as_they_are)
    for mine, theirs in zip(loader, TorchDataLoader(NamedTouched(touch), 4, collate_fn=as_they_are), strict=True):
        near(mine, theirs, 0.98)
    assert loader.stats()["lifted"] == COUNT - 1


@pytest.mark.filterwarnings("ignore:lift=True lifted nothing")
def test_a_cache_of_albumentations_holds_what_the_library_gives():
    class Cached(Named):
        def __init__(self):
            super().__init__(compose(A.HorizontalFlip(p=1.0)))
            self.kept = {}

        def __getitem__(self, index):
            if index not in self.kept:
                self.kept[index] = super().__getitem__(index)
            return self.kept[index]

    mine = Cached()
    loader = smartaug.DataLoader(mine, 4, lift=True, collate_fn=as_they_are)
    for batch, theirs in zip(loader, TorchDataLoader(Cached(), 4, collate_fn=as_they_are), strict=True):
        near(batch, theirs, 1.0)
    assert {type(value) for sample in mine.kept.values() for value in sample.values()} <= {list, int, torch.Tensor}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (compose(A.CoarseDropout()), "holes cover"),
        (compose(A.Affine(border_mode=4)), "border mirrors"),
        (compose(A.Rotate(rotate_method="ellipse")), "rotate_method"),
        (compose(A.HorizontalFlip(), check_each_transform=False), "check_each_transform"),
        (
            A.Compose([A.HorizontalFlip(), ToTensorV2()], keypoint_params=A.KeypointParams("xya")),
            "more moves than places",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_boxes_of_albumentations_cannot_follow_stays(given, says):
    parts = ("bboxes", "kinds", "keypoints", "names") if "bboxes" in given.processors else ()
    lifted = smartaug.lift(Named(given, parts=parts))
    assert lifted.augment is None
    assert says in lifted.reason


def test_boxes_through_what_stays_and_what_is_lifted():
    """A crop of images of unknown size stays, and drops boxes there; the flip behind it is lifted."""
    alike_named(lambda: Named(compose(A.CenterCrop(30, 30), A.HorizontalFlip(p=1.0), min_visibility=0.5)))


# --- the same distribution, drawn -------------------------------------------------------------------------------------

BOX = [10.0, 8.0, 34.0, 24.0]


class Drawn(Detection):
    def __init__(self, transforms):
        super().__init__(v2.Compose([v2.Resize(SIZE), transforms]))

    def __len__(self):
        return DRAWS // 10

    def given(self, index):
        boxes = tv_tensors.BoundingBoxes([BOX], format="XYXY", canvas_size=SIZE)
        points = {"points": tv_tensors.KeyPoints([[12.0, 20.0]], canvas_size=SIZE)} if POINTS else {}
        return tv_tensors.Image(torch.zeros(1, *SIZE, dtype=torch.uint8)), {"boxes": boxes, **points}


@pytest.mark.parametrize(
    "transforms",
    [
        v2.Compose([v2.RandomRotation(30), v2.RandomHorizontalFlip(0.3)]),
        v2.RandomAffine(20, (0.1, 0.2), (0.8, 1.2), 8),
        v2.RandomResizedCrop((50, 70), (0.5, 1.0)),
        v2.RandomPerspective(0.4, p=0.7),
        v2.RandomApply([v2.RandomRotation(20)], 0.4),
    ],
    ids=["rotation", "affine", "crop", "perspective", "apply"],
)
def test_boxes_are_distributed_as_torchvisions(transforms):
    dataset = Drawn(transforms)
    torch.manual_seed(0)
    theirs = [dataset[number][1] for number in range(len(dataset))]
    loader = smartaug.DataLoader(dataset, len(dataset), lift=True, seed=0, collate_fn=listed)
    _, mine = next(iter(loader))
    assert loader.stats()["lifted"] == len(dataset)
    for name in ("boxes", "points") if POINTS else ("boxes",):
        ours, others = (np.stack([np.asarray(target[name]).ravel() for target in side]) for side in (mine, theirs))
        for column in range(ours.shape[1]):
            alike(ours[:, column], others[:, column], len(dataset))


# --- Kornia -----------------------------------------------------------------------------------------------------------

KEYS = ["input", "mask", "bbox_xyxy", "bbox_xywh", "bbox", "keypoints"]


class Keyed(Dataset):
    """Kornia's AugmentationSequential on an image and its targets."""

    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        boxes = boxes_of(index + 1).as_subclass(torch.Tensor)
        xywh = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
        vertices = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].view(-1, 4, 2)
        generator = torch.Generator().manual_seed(index)
        image = torch.rand(3, *SIZE, generator=generator)
        mask = torch.randint(0, 5, (1 + index % 2, *SIZE), generator=generator).float()
        points = torch.rand(index + 1, 2, generator=generator) * 30
        return self.transform(image, mask, boxes, xywh, vertices, points)


def keyed(*modules, keys=KEYS, **settings):
    return K.AugmentationSequential(*modules, data_keys=keys, **{"keepdim": True, **settings})


@pytest.mark.parametrize(
    "modules",
    [
        [K.RandomHorizontalFlip(p=1.0)],
        [K.RandomVerticalFlip(p=1.0), K.RandomInvert(p=1.0)],
        [K.RandomRotation((25.0, 25.0), p=1.0)],
        [K.RandomAffine((-20.0, -20.0), None, (0.8, 0.8), p=1.0), K.RandomHorizontalFlip(p=1.0)],
        [K.RandomRotation((45.0, 45.0), p=1.0), K.RandomRotation((-45.0, -45.0), p=1.0)],
        [K.RandomHorizontalFlip(p=0.0), K.RandomGrayscale(p=1.0)],
    ],
    ids=["mirror", "upside down", "rotation", "affine", "there and back", "colours"],
)
def test_one_operation_of_kornia(modules):
    def make():
        return Keyed(keyed(*modules))

    torch.manual_seed(0)
    loader = smartaug.DataLoader(make(), 4, lift=True, seed=0, collate_fn=as_they_are)
    for mine, theirs in zip(loader, TorchDataLoader(make(), 4, collate_fn=as_they_are), strict=True):
        for a, b in zip(mine, theirs, strict=True):
            assert type(a) is type(b) is list
            assert [(part.shape, part.dtype) for part in a] == [(part.shape, part.dtype) for part in b]
            assert float((a[1] == b[1]).float().mean()) > 0.9  # the nearest pixel, where two are as near
            same(a[2:], b[2:], 2e-3)
    assert loader.stats()["lifted"] == COUNT


class KeyedFew(Keyed):
    """Boxes and points that are missing in some samples, or lie outside of the picture."""

    def __getitem__(self, index):
        boxes = torch.tensor([[-9.0, -9, 10, 10], [50, 30, 80, 70], [100, 100, 120, 120]])[: index % 4]
        points = torch.tensor([[-5.0, 3], [20, 10], [90, 70]], dtype=torch.float64)[: (index + 2) % 4]
        return self.transform(torch.full((3, *SIZE), index / 10), boxes, points)


def test_boxes_and_points_of_kornia_that_are_missing_or_outside():
    modules = [K.RandomRotation((25.0, 25.0), p=1.0), K.RandomVerticalFlip(p=1.0)]

    def make():
        return KeyedFew(keyed(*modules, keys=["image", "bbox_xyxy", "keypoints"]))

    torch.manual_seed(0)
    loader = smartaug.DataLoader(make(), 4, lift=True, seed=0, collate_fn=as_they_are)
    for mine, theirs in zip(loader, TorchDataLoader(make(), 4, collate_fn=as_they_are), strict=True):
        for a, b in zip(mine, theirs, strict=True):
            same(a[1:], b[1:], 2e-3)
    assert loader.stats()["lifted"] == COUNT


@pytest.mark.parametrize(
    ("transform", "says"),
    [
        (keyed(K.RandomHorizontalFlip(), keepdim=False), "keepdim=True"),
        (keyed(K.RandomHorizontalFlip(), K.RandomMotionBlur(3, 35.0, 0.5)), "RandomMotionBlur inside it"),
        (keyed(K.RandomErasing()), "writes into masks"),
        (keyed(K.RandomHorizontalFlip(same_on_batch=True)), "targets could not follow"),
    ],
    ids=["keepdim", "blur", "erasing", "same_on_batch"],
)
def test_what_targets_of_kornia_cannot_follow_stays(transform, says):
    lifted = smartaug.lift(Keyed(transform))
    assert lifted.augment is None
    assert says in lifted.reason


# --- samples and pipelines of other kinds -----------------------------------------------------------------------------


class AsDict(Detection):
    def __getitem__(self, index):
        image, target = self.given(index)
        inside = {"boxes": target["boxes"], "masks": [target["masks"]]}
        return self.transforms({"image": image, "labels": target["labels"], "found": inside})


class AsPIL(Detection):
    def given(self, index):
        image, target = super().given(index)
        return v2.functional.to_pil_image(image), target


class ImageAlone(Detection):
    def __getitem__(self, index):
        return self.transforms(self.given(index)[0]), index


class PILAlone(AsPIL, ImageAlone):
    pass


FLIP, SMALL = v2.RandomHorizontalFlip(1.0), v2.SanitizeBoundingBoxes(min_area=80)
FLOATS = v2.ToDtype(torch.float32, scale=True)
OWN_TYPES = {tv_tensors.Image: torch.float32, tv_tensors.BoundingBoxes: torch.float64, "others": None}
TYPES = v2.ToDtype({**OWN_TYPES, tv_tensors.Mask: torch.int64}, scale=True)
CROP = v2.RandomIoUCrop(sampler_options=[2.0])
UNEQUAL = ((20, 20), (30, 22))
LISTED = {
    "a subset": lambda: Subset(Detection(v2.Compose([FLIP, *tail()])), [1, 3, 5, 0, 2, 4, 6, 7]),
    "dicts": lambda: AsDict(v2.Compose([FLIP, SMALL])),
    "PIL images": lambda: AsPIL(v2.Compose([FLIP, v2.ToImage(), *tail()])),
    "normalised": lambda: Detection(v2.Compose([FLIP, FLOATS, v2.Normalize([0.5] * 3, [0.25] * 3), SMALL])),
    "sanitised twice": lambda: Detection(v2.Compose([SMALL, CERTAIN["Rotation"], v2.SanitizeBoundingBoxes()])),
    "types": lambda: Detection(v2.Compose([FLIP, TYPES, CERTAIN["Rotation"], SMALL])),
    "types of integers": lambda: Detection(v2.Compose([CERTAIN["Rotation"], TYPES, SMALL]), dtype=torch.int64),
    "a function first": lambda: Detection(v2.Compose([v2.Lambda(lambda part: part), FLIP, *tail()])),
    "a crop first": lambda: Detection(v2.Compose([CROP, FLIP])),
    "PIL images, a crop first": lambda: AsPIL(v2.Compose([CROP, FLIP, v2.ToImage(), SMALL])),
    "images alone": lambda: ImageAlone(FLIP, UNEQUAL),
    "images alone, pure": lambda: ImageAlone(v2.Compose([FLIP, v2.ToPureTensor()]), UNEQUAL),
    "PIL images alone": lambda: PILAlone(v2.Compose([FLIP, v2.PILToTensor()]), UNEQUAL),
}
WHOLE = {
    "PIL images to the end": lambda: AsPIL(FLIP),
    "PIL images alone, to the end": lambda: PILAlone(FLIP, UNEQUAL),
    "PIL images behind a crop": lambda: AsPIL(v2.Compose([CROP, FLIP, SMALL])),
    "a function last": lambda: Detection(v2.Compose([FLIP, SMALL, v2.Lambda(lambda part: part)])),
    "a video": lambda: Others(tv_tensors.Video(torch.zeros(2, 3, *SIZE, dtype=torch.uint8))),
    "a second image": lambda: Others(tv_tensors.Image(torch.zeros(3, *SIZE, dtype=torch.uint8))),
}


class Others(Detection):
    def __init__(self, other):
        super().__init__(FLIP)
        self.other = other

    def given(self, index):
        return *super().given(index), self.other


@pytest.mark.parametrize("kind", LISTED)
def test_kinds_that_are_lifted(kind):
    compared(LISTED[kind], as_they_are if kind == "dicts" else listed)


class Turned(Detection):
    """From sample ``first`` on the boxes are rotated ones."""

    def __init__(self, first=0):
        super().__init__(FLIP, parts=("boxes", "labels"))
        self.first = first

    def given(self, index):
        image, target = super().given(index)
        if index >= self.first:
            boxes = torch.cat([target["boxes"].as_subclass(torch.Tensor), torch.full((index, 1), 20.0)], 1)
            target["boxes"] = tv_tensors.BoundingBoxes(boxes, format="CXCYWHR", canvas_size=SIZE)
        return image, target


TURNED = "rotated boxes"
WHOLE[TURNED] = Turned
WHOLE["integers in xywh"] = lambda: Detection(FLIP, form="XYWH", dtype=torch.int64)
WHY = {
    "a video": "its samples have Video, which only the whole pipeline moves",
    "a second image": "2 images at once, which get the same draws",
    "rotated boxes": "its samples have rotated boxes (CXCYWHR)",
    "integers in xywh": "integer boxes in the format XYWH",
    "a function last": "Lambda stays in the worker",
}


@pytest.mark.filterwarnings("ignore:lift=True lifted nothing")
@pytest.mark.parametrize(
    ("kind", "augment"),
    [*((kind, None) for kind in WHOLE), *((kind, smartaug.ColorJitter(0.0)) for kind in ("a function last", TURNED))],
)
def test_kinds_that_are_not_lifted(kind, augment):
    """They are right, and `explain` says why, whether there are other stages or not."""
    loader = compared(WHOLE[kind], lifted=False, augment=augment)
    assert loader.stats().get("lifted", 0) == 0
    assert "lifted nothing:" in loader.explain()
    assert WHY.get(kind, "put ToTensor() or ToImage() at the transform's end") in loader.explain()


def test_samples_of_another_kind_later_on_are_not_lifted():
    loader = compared(lambda: Turned(4), lifted=False)
    assert loader.stats()["lifted"] == 4
    assert "4 of 8 samples so far" in loader.explain()
    assert "rotated boxes, videos" in loader.explain()


def test_augment_in_units_before_normalize_is_refused_behind_it():
    transforms = v2.Compose([FLIP, FLOATS, v2.Normalize([0.5] * 3, [0.25] * 3)])
    tone = smartaug.ColorJitter(0.2)
    loader = smartaug.DataLoader(Detection(transforms), 4, lift=True, collate_fn=listed, augment=tone)
    with pytest.raises(ValueError, match="take Normalize out of the dataset"):
        next(iter(loader))


# --- torchvision's own dataset ----------------------------------------------------------------------------------------


@pytest.fixture
def coco(tmp_path, capsys):
    """Makes `CocoDetection` of eight pictures in two sizes, wrapped as torchvision's v2 asks for."""
    pytest.importorskip("pycocotools")
    random, images, found = np.random.default_rng(0), [], []
    for number in range(COUNT):
        height, width = SIZE if number % 2 else (48, 64)
        Image.fromarray(random.integers(0, 256, (height, width, 3)).astype(np.uint8)).save(tmp_path / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": width, "height": height})
        for kind in range(1 + number % 3):
            x, y, wide, tall = random.integers(4, 18, 4).tolist()
            outline = [[x, y, x + wide, y, x + wide, y + tall, x, y + tall]]
            box = {"bbox": [x, y, wide, tall], "area": wide * tall, "iscrowd": 0, "segmentation": outline}
            found.append({"id": len(found) + 1, "image_id": number, "category_id": kind + 1, **box})
    kinds = [{"id": kind, "name": str(kind)} for kind in (1, 2, 3)]
    (tmp_path / "all.json").write_text(json.dumps({"images": images, "annotations": found, "categories": kinds}))

    def make(transforms):
        made = datasets.CocoDetection(tmp_path, tmp_path / "all.json", transforms=transforms)
        capsys.readouterr()  # pycocotools prints
        return datasets.wrap_dataset_for_transforms_v2(made, target_keys=("boxes", "labels", "masks", "image_id"))

    return make


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools with NumPy 2
def test_coco_of_torchvision(coco):
    """Lifted as it is; and with nothing but `augment=`, since the types say what moves."""
    flips = [v2.ToImage(), v2.RandomHorizontalFlip(1.0), v2.RandomRotation((10, 10)), *tail("XYXY")]
    compared(lambda: coco(v2.Compose(flips)))
    flip = smartaug.augment.Flip(1.0)
    mine = smartaug.DataLoader(coco(v2.Compose([v2.ToImage()])), 4, augment=flip, collate_fn=listed)
    theirs = TorchDataLoader(coco(v2.Compose([v2.ToImage(), v2.RandomHorizontalFlip(1.0)])), 4, collate_fn=listed)
    for (images, targets), (others, expected) in zip(mine, theirs, strict=True):
        assert all(map(torch.equal, images, others))
        same(list(targets), list(expected))
