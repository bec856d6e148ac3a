"""Boxes, points and masks beside images, against albumentations with the same frozen parameters."""

import albumentations as A
import numpy as np
import pytest
import torch
from albumentations.augmentations.geometric import functional as theirs
from albumentations.pytorch import ToTensorV2

import smartaug
from smartaug.augment.targets import Boxes, Keypoints, boxes, keypoints
from smartaug.augment.targets.maps import move_map
from smartaug.augment.targets.through import move_objects
from smartaug.lift.albumentations.ops.geometry import SYMMETRIES, Symmetry

SIZE = (48, 64)
IMAGE = np.zeros((*SIZE, 3), np.uint8)
CASES = {
    "HorizontalFlip": A.HorizontalFlip(p=1.0),
    "VerticalFlip": A.VerticalFlip(p=1.0),
    "CenterCrop": A.CenterCrop(31, 40),
    "Pad": A.Pad((3, 5, 2, 4)),
    "PadIfNeeded": A.PadIfNeeded(60, 81),
    "Resize": A.Resize(70, 50),
    "Affine": A.Affine(
        scale=(1.2, 1.2), rotate=(25, 25), shear={"x": (9, 9), "y": (-7, -7)}, translate_px=(5, 5), p=1.0
    ),
    "Affine, edge": A.Affine(rotate=(-40, -40), border_mode=1, p=1.0),
    "Rotate": A.Rotate((33, 33), p=1.0),
}


def drawn(count, columns):
    return torch.rand(count, columns, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def boxed(count=30):
    """Boxes inside the image, some touching its border: albumentations takes no others."""
    made = drawn(count, 4) * 1.2 - 0.1
    low, high = torch.minimum(made[:, :2], made[:, 2:]), torch.maximum(made[:, :2], made[:, 2:])
    made = torch.cat([low, high], 1).clamp(0, 1) * torch.tensor([SIZE[1], SIZE[0]] * 2)
    return made[(made[:, 2:] - made[:, :2] > 0.5).all(1)]


def planned(transform):
    lifted = smartaug.lift(A.Compose([transform, ToTensorV2()]), size=SIZE)
    assert lifted.stays == (), lifted.explain()
    return lifted.augment.plan((1, 3, *SIZE), index=torch.zeros(1, dtype=torch.int64), seed=0)


def moved(plan, given, format="xyxy"):
    return move_objects(plan, boxes.to_objects(given, [len(given)], format, SIZE))


@pytest.mark.parametrize("format", ["pascal_voc", "coco", "yolo"])
@pytest.mark.parametrize("name", CASES)
def test_boxes(name, format):
    own = {"pascal_voc": "xyxy", "coco": "xywh", "yolo": "yolo"}[format]
    plan, size = planned(CASES[name]), planned(CASES[name]).output_shape[2:]
    given = boxes.from_objects(boxes.to_objects(boxed(), [len(boxed())], "xyxy", SIZE), own, SIZE, torch.float64)
    settings = A.BboxParams(format, label_fields=["number"], clip=True)
    compose = A.Compose([CASES[name]], bbox_params=settings)
    made = compose(image=IMAGE, bboxes=given.numpy(), number=np.arange(len(given)))
    assert made["image"].shape[:2] == size
    after = moved(plan, given, own)
    stay = boxes.kept(after, Boxes(own, min_size=0.0))
    assert sorted(made["number"]) == stay.nonzero()[:, 0].tolist()
    found = boxes.from_objects(after.take(stay), own, size, torch.float64)
    scale = max(size) if own == "yolo" else 1.0
    np.testing.assert_allclose(found * scale, np.array(made["bboxes"])[:, :4] * scale, atol=1e-3)


@pytest.mark.parametrize(
    "limits",
    [{"min_area": 90.0}, {"min_visibility": 0.6}, {"min_size": 6.0}, {"min_visibility": 0.3, "min_area": 50.0}],
)
@pytest.mark.parametrize("name", ["CenterCrop", "Affine", "Rotate"])
def test_the_same_boxes_stay(name, limits):
    given = boxed()
    size = limits.get("min_size", 0.0)
    theirs = {key: value for key, value in limits.items() if key != "min_size"}
    settings = A.BboxParams("pascal_voc", label_fields=["number"], min_width=size, min_height=size, clip=True, **theirs)
    compose = A.Compose([CASES[name]], bbox_params=settings)
    made = compose(image=IMAGE, bboxes=given.numpy(), number=np.arange(len(given)))
    after = moved(planned(CASES[name]), given)
    stay = boxes.kept(after, Boxes(**{"min_size": 0.0, **limits}))
    assert sorted(made["number"]) == stay.nonzero()[:, 0].tolist()
    assert 0 < int(stay.sum()) < len(given)


@pytest.mark.parametrize("name", CASES)
def test_keypoints(name):
    """albumentations counts pixel indices, but for Resize, which scales them as continuous pixels."""
    kind = Keypoints("continuous" if name == "Resize" else "index")
    given = drawn(20, 2) * torch.tensor([SIZE[1] - 1, SIZE[0] - 1])
    settings = A.KeypointParams("xy", remove_invisible=False)
    made = A.Compose([CASES[name]], keypoint_params=settings)(image=IMAGE, keypoints=given.numpy())
    objects = move_objects(planned(CASES[name]), keypoints.to_objects(given, [20], kind))
    np.testing.assert_allclose(keypoints.from_objects(objects, given, kind), made["keypoints"], atol=1e-3)


@pytest.mark.parametrize("name", [name for name in CASES if name != "Resize"])
def test_masks(name):
    """Resize is left out: OpenCV takes pixel ⌊x⌋ there, and the warp here the one under the centre."""
    mask = (drawn(1, SIZE[0] * SIZE[1]).view(*SIZE) * 200).to(torch.uint8)
    made = A.Compose([CASES[name]])(image=IMAGE, mask=mask.numpy())["mask"]
    found = move_map(planned(CASES[name]), mask[None], smartaug.Mask())[0]
    apart = found.numpy() != made
    assert apart.mean() < 0.02  # OpenCV rounds coordinates to 1/32 pixel: another pixel near ties


@pytest.mark.parametrize("element", SYMMETRIES)
def test_symmetries_of_the_square(element):
    side = 24
    plan = Symmetry((element,)).plan((1, 3, side, side), index=torch.zeros(1, dtype=torch.int64), seed=0)
    given = boxed()[:, [0, 1, 2, 3]] * torch.tensor([side / SIZE[1], side / SIZE[0]] * 2)
    found = boxes.from_objects(
        move_objects(plan, boxes.to_objects(given, [len(given)], "xyxy", (side, side))),
        "xyxy",
        (side, side),
        given.dtype,
    )
    np.testing.assert_allclose(found / side, theirs.bboxes_d4(given.numpy() / side, element), atol=1e-6)
    mask = torch.arange(side * side, dtype=torch.int64).view(1, side, side)
    assert move_map(plan, mask, smartaug.Mask())[0].tolist() == theirs.d4(mask[0].numpy(), element).tolist()
    points = given[:, :2].floor().clamp(max=side - 1)
    kind = Keypoints()
    found = keypoints.from_objects(move_objects(plan, keypoints.to_objects(points, [len(points)], kind)), points, kind)
    for before, after in zip(points.long().tolist(), found.round().long().tolist(), strict=True):
        assert theirs.d4(mask[0].numpy(), element)[after[1], after[0]] == before[1] * side + before[0]
