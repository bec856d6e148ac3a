"""What lies in images and beside them, against torchvision's functional with the same parameters."""

import dataclasses
import functools
import math
import sys
from typing import NamedTuple

import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

import smartaug.augment as A
from smartaug import draws
from smartaug.augment.ops.space import space
from smartaug.augment.plan import Plan, Trace, Warp
from smartaug.augment.projection import mapped
from smartaug.augment.targets import Boxes, Heatmap, Image, Keypoints, Mask, boxes, keypoints
from smartaug.augment.targets.kinds import FORMATS, ROTATED, UPRIGHT
from smartaug.augment.targets.maps import move_map
from smartaug.augment.targets.objects import polygon_area
from smartaug.augment.targets.through import move_objects
from smartaug.lift.torchvision.perspective import Perspective

pytestmark = pytest.mark.skipif(
    not hasattr(tv_tensors, "KeyPoints"),
    reason="keypoints and rotated boxes come with torchvision 0.23",
)

HEIGHT, WIDTH = 37, 54
SIZE = (HEIGHT, WIDTH)
BY_DEFAULT = InterpolationMode.NEAREST  # of affine and rotate
EXACT = InterpolationMode.NEAREST_EXACT  # the pixel under the centre, as every warp here


def drawn(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Case(NamedTuple):
    """One operation with frozen parameters: a plan of ours, and torchvision's functional on a tv_tensor."""

    plan: object
    theirs: object


def stage(augmentation):
    return lambda: augmentation.plan((1, 3, *SIZE), index=torch.zeros(1, dtype=torch.int64), seed=0)


def policy(name, magnitude):
    return lambda: space(((name, magnitude),), *SIZE).plan((1, 3, *SIZE), torch.zeros(1, 1, dtype=torch.int64))


def crop(top, left, height, width):
    """A crop at a given place."""
    matrix = torch.tensor([[[1.0, 0.0, left], [0.0, 1.0, top]]], dtype=torch.float64)
    return lambda: Plan((1, 3, *SIZE), (Warp(matrix, (height, width), grid=True, inside=True),), Trace.empty(1))


def affine(angle=0.0, translate=(0, 0), scale=1.0, shear=(0.0, 0.0), center=None):
    """F.affine, and our Affine with ranges of one value (its shifts are drawn, so they are put in by hand)."""

    def plan():
        own = A.Affine((angle, angle), scale=(scale, scale), shear=(shear[0],) * 2 + (shear[1],) * 2, center=center)
        made = stage(own)()
        warp = made.segments[0]
        warp.matrix[:, :, 2] -= (warp.matrix[:, :, :2] @ torch.tensor(translate, dtype=torch.float64)[:, None])[..., 0]
        return made

    return Case(plan, lambda x: F.affine(x, angle, list(translate), scale, list(shear), center=center))


def sheared(x, **settings):
    degrees = [math.degrees(math.atan(settings.get(side, 0.0))) for side in ("across", "down")]
    return F.affine(x, 0.0, [0, 0], 1.0, degrees, center=[0, 0])


KEY = draws.key(0, 0, torch.zeros(1, dtype=torch.int64))
PERSPECTIVE = Perspective(0.6, 1.0, "nearest", (0.0,))
STARTS = [[0, 0], [WIDTH - 1, 0], [WIDTH - 1, HEIGHT - 1], [0, HEIGHT - 1]]
ENDS = PERSPECTIVE.ends(KEY, *SIZE)[1][0].tolist()
CASES = {
    "Flip": Case(stage(A.Flip(1.0)), F.horizontal_flip),
    "Flip, vertical": Case(stage(A.Flip(1.0, vertical=True)), F.vertical_flip),
    "Crop": Case(crop(5, 11, 20, 30), lambda x: F.crop(x, 5, 11, 20, 30)),
    "Crop, center": Case(stage(A.Crop((20, 31), place="center")), lambda x: F.center_crop(x, [20, 31])),
    "Pad": Case(stage(A.Pad((3, 1, 4, 6))), lambda x: F.pad(x, [3, 1, 4, 6])),
    "Pad, negative": Case(stage(A.Pad((-3, 1, 4, -6))), lambda x: F.crop(x, -1, 3, HEIGHT - 5, WIDTH + 1)),
    "Resize": Case(stage(A.Resize((50, 31))), lambda x: resized(x, (50, 31))),
    "RandomResizedCrop": Case(
        stage(A.RandomResizedCrop((24, 40), scale=(0.4, 0.4), ratio=(1.3, 1.3))),
        lambda x: resized(F.crop(x, *PART), (24, 40)),
    ),
    "Affine, degrees": affine(angle=25.0),
    "Affine, center": affine(angle=-40.0, center=[10.0, 20.0]),
    "Affine, translate": affine(translate=(7, -4)),
    "Affine, scale": affine(scale=0.73),
    "Affine, shear": affine(shear=(15.0, -10.0)),
    "Affine": affine(130.0, (5, 3), 1.3, (12.0, 8.0)),
    "ShearX": Case(policy("ShearX", 0.3), lambda x: sheared(x, across=0.3)),
    "ShearY": Case(policy("ShearY", -0.21), lambda x: sheared(x, down=-0.21)),
    "TranslateX": Case(policy("TranslateX", 9.0), lambda x: F.affine(x, 0.0, [9, 0], 1.0, [0.0, 0.0])),
    "TranslateY": Case(policy("TranslateY", -8.0), lambda x: F.affine(x, 0.0, [0, -8], 1.0, [0.0, 0.0])),
    "Perspective": Case(stage(PERSPECTIVE), lambda x: F.perspective(x, STARTS, ENDS, interpolation=BY_DEFAULT)),
    "Rotate": Case(policy("Rotate", 33.0), lambda x: F.rotate(x, 33.0)),
}
PART = A.RandomResizedCrop(1, (0.4, 0.4), (1.3, 1.3))._parts(KEY, *SIZE)[0].tolist()
INDEX = [name for name in CASES if name.startswith(("Flip", "Crop", "Pad"))]  # torchvision counts pixel indices


def resized(x, size):
    return F.resize(x, list(size), interpolation=EXACT, antialias=False)


def xyxy(count=40):
    """Boxes inside the image, across its border, and without an area."""
    low, sides = drawn(count, 2) * torch.tensor([WIDTH, HEIGHT]) - 4, drawn(count, 2).flip(0) * 20
    sides[-1] = 0.0
    return torch.cat([low, low + sides], 1)


def formatted(format):
    """The same boxes in any format, rotated ones turned by all angles."""
    if format == "yolo":
        return formatted("cxcywh") / torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])
    if format in UPRIGHT:
        return F.convert_bounding_box_format(xyxy(), old_format="XYXY", new_format=format.upper())
    sides = drawn(40, 2) * 12 + 1
    turned = torch.cat([drawn(40, 2) * torch.tensor([WIDTH, HEIGHT]), sides, drawn(40, 1) * 360 - 180], 1)
    return F.convert_bounding_box_format(turned, old_format="CXCYWHR", new_format=format.upper())


def moved_boxes(plan, given, format, size=SIZE):
    found = move_objects(plan, boxes.to_objects(given, [len(given)], format, size))
    return boxes.from_objects(found, format, plan.output_shape[2:], given.dtype)


@pytest.mark.parametrize("name", CASES)
def test_boxes(name):
    for format in UPRIGHT:
        check_boxes(*CASES[name], format)


def check_boxes(plan, theirs, format):
    given, size = formatted(format), plan().output_shape[2:]
    found = moved_boxes(plan(), given, format)
    absolute = "CXCYWH" if format == "yolo" else format.upper()
    pixels = given * torch.tensor([WIDTH, HEIGHT] * 2) if format == "yolo" else given
    # without its clamp after each step torchvision keeps what lies outside, and `sanitized` clamps both at the end
    expected = theirs(tv_tensors.BoundingBoxes(pixels, format=absolute, canvas_size=SIZE, clamping_mode=None))
    assert expected.canvas_size == size
    expected = F.clamp_bounding_boxes(expected, clamping_mode="soft").as_subclass(torch.Tensor)
    expected = expected / torch.tensor([size[1], size[0]] * 2) if format == "yolo" else expected
    scale = max(size) if format == "yolo" else 1.0
    torch.testing.assert_close(found * scale, expected * scale, rtol=0, atol=1e-3)
    assert found.dtype == given.dtype


def corners(turned, format):
    return F.convert_bounding_box_format(turned, old_format=format.upper(), new_format="XYXYXYXY").view(-1, 4, 2)


@pytest.mark.parametrize("name", [name for name in CASES if name != "Perspective"])
def test_rotated_boxes(name):
    """Without clipping, of which torchvision has several kinds; corners stay corners where it makes rectangles.

    A projective map makes other quadrilaterals, of which torchvision takes a rectangle as if they were parallelograms.
    """
    for format in ROTATED:
        check_rotated_boxes(*CASES[name], format)


def check_rotated_boxes(plan, theirs, format):
    given = formatted(format)
    found = corners(moved_boxes(plan(), given, format), format)
    wrapped = tv_tensors.BoundingBoxes(given, format=format.upper(), canvas_size=SIZE, clamping_mode=None)
    expected = corners(theirs(wrapped).as_subclass(torch.Tensor), format)
    found = boxes.rectangles(found) if format == "xyxyxyxy" else found
    # where the angle between two sides passes ±180° torchvision takes the wrong sign, and its rectangle is too small
    right = polygon_area(expected) >= polygon_area(found) - 1e-6
    assert right.double().mean() > 0.5
    torch.testing.assert_close(found[right], expected[right], rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", CASES)
def test_the_corners_of_rotated_boxes_are_points(name):
    plan, theirs = CASES[name]
    given = formatted("xyxyxyxy")
    found = moved_boxes(plan(), given, "xyxyxyxy").view(-1, 4, 2)
    expected = continuous(given.view(-1, 4, 2), name, theirs)
    expected = expected[:, [1, 0, 3, 2]] if name.startswith("Flip") else expected  # again clockwise
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


def continuous(points, name, theirs):
    """torchvision's points in continuous pixels: its flips, crops and pads count pixel indices, others do not."""
    wrapped = tv_tensors.KeyPoints(points - 0.5 if name in INDEX else points, canvas_size=SIZE)
    return theirs(wrapped).as_subclass(torch.Tensor) + (0.5 if name in INDEX else 0.0)


@pytest.mark.parametrize("name", CASES)
def test_keypoints(name):
    """Index coordinates are those of torchvision's flips, crops and pads, continuous ones those of all the others."""
    plan, theirs = CASES[name]
    kind = Keypoints("index" if name in INDEX else "continuous")
    for shape in ((30,), (6, 5)):
        given = drawn(*shape, 2) * torch.tensor([WIDTH, HEIGHT])
        expected = theirs(tv_tensors.KeyPoints(given, canvas_size=SIZE)).as_subclass(torch.Tensor)
        moved = move_objects(plan(), keypoints.to_objects(given, [len(given)], kind))
        torch.testing.assert_close(keypoints.from_objects(moved, given, kind), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", CASES)
def test_masks(name):
    for dtype in (torch.uint8, torch.int64, torch.bool):
        check_masks(*CASES[name], name, dtype)


def check_masks(plan, theirs, name, dtype):
    mask = (drawn(1, *SIZE) * 5).to(dtype)
    expected = theirs(tv_tensors.Image(mask)) if "Re" in name else theirs(tv_tensors.Mask(mask))
    same = move_map(plan(), mask, Mask(0)) == expected.as_subclass(torch.Tensor)
    if name == "Perspective":  # whole pixels go to whole pixels, so some lie between two
        matrix, index = plan().segments[0].matrix, (~same[0]).nonzero().flip(1).double()
        read = mapped(matrix, index[None])[0] % 1.0
        assert ((read - 0.5).abs() < 1e-3).any(2).all()
        assert len(index) < 6
    else:
        assert bool(same.all())


@pytest.fixture
def bilinear(monkeypatch):
    """torchvision's functionals of `CASES` interpolate."""
    for name in ("affine", "rotate"):
        monkeypatch.setattr(F, name, functools.partial(getattr(F, name), interpolation=InterpolationMode.BILINEAR))
    for name in ("EXACT", "BY_DEFAULT"):
        monkeypatch.setattr(sys.modules[__name__], name, InterpolationMode.BILINEAR)


@pytest.mark.parametrize("name", CASES)
def test_heatmaps(name, bilinear):
    """Interpolated whatever the plan's own interpolation is, as torchvision does it; bytes to one level."""
    plan, theirs = CASES[name]
    for dtype, atol in ((torch.float64, 1e-4), (torch.float32, 1e-3), (torch.uint8, 1)):
        given = drawn(1, 5, *SIZE)
        given = (given * 255).to(dtype) if dtype == torch.uint8 else given.to(dtype)
        expected = theirs(tv_tensors.Image(given[0])).as_subclass(torch.Tensor)
        found = move_map(plan(), given, Heatmap())[0]
        assert found.dtype == dtype
        apart = (found.double() - expected.double()).abs()
        assert float(apart.max()) <= atol, (dtype, float(apart.max()))


@pytest.mark.parametrize("name", CASES)
def test_further_images(name):
    """By the plan's own interpolation, the nearest pixel here."""
    plan, theirs = CASES[name]
    for dtype in (torch.uint8, torch.float32):
        given = (drawn(1, 3, *SIZE) * 255).to(dtype)
        expected = theirs(tv_tensors.Image(given)).as_subclass(torch.Tensor)
        nearest = tuple(
            dataclasses.replace(s, interpolation="nearest") if hasattr(s, "interpolation") else s
            for s in plan().segments
        )
        found = move_map(Plan((1, 3, *SIZE), nearest, Trace.empty(1)), given, Image())
        assert found.dtype == dtype
        same = (found == expected).all(1)
        assert float(same.double().mean()) > (0.99 if name == "Perspective" else 1 - 1e-9)  # ties, see `check_masks`


@pytest.mark.parametrize("name", CASES)
def test_further_images_that_are_interpolated(name, bilinear):
    plan, theirs = CASES[name]
    given = drawn(1, 3, *SIZE)
    segments = tuple(
        dataclasses.replace(s, interpolation="bilinear") if hasattr(s, "interpolation") else s for s in plan().segments
    )
    found = move_map(Plan((1, 3, *SIZE), segments, Trace.empty(1)), given, Image())
    torch.testing.assert_close(found, theirs(tv_tensors.Image(given)).as_subclass(torch.Tensor), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_a_point_stays_on_its_pixel(name):
    """What a keypoint, a box and a mask mark in the image is marked in the moved image, too."""
    plan = CASES[name].plan()
    given = torch.tensor([[30.0, 20.0]], dtype=torch.float64)
    kind = Keypoints()
    x, y = keypoints.from_objects(move_objects(plan, keypoints.to_objects(given, [1], kind)), given, kind)[0].tolist()
    spot = torch.zeros(1, 1, *SIZE, dtype=torch.float64)
    spot[0, 0, 16:25, 26:35] = 1.0
    shown = move_map(plan, spot, Mask())[0, 0]
    rows, columns = shown.nonzero(as_tuple=True)
    assert abs(float(columns.double().mean()) - x) < 0.5
    assert abs(float(rows.double().mean()) - y) < 0.5


@pytest.mark.parametrize(
    ("format", "min_size", "min_area"), [("xyxy", 1.0, 1.0), ("xywh", 3.0, 1.0), ("cxcywh", 1.0, 60.0)]
)
def test_the_boxes_of_sanitize_stay(format, min_size, min_area):
    plan = Plan((1, 3, *SIZE), crop(5, 11, 20, 30)().segments, Trace.empty(1))
    given = formatted(format)
    # as xyxy, since the rounding of torchvision's other formats puts clamped boxes 1e-15 pixels outside of the image
    expected = F.crop(tv_tensors.BoundingBoxes(xyxy(), format="XYXY", canvas_size=SIZE), 5, 11, 20, 30)
    expected, valid = F.sanitize_bounding_boxes(expected, min_size=min_size, min_area=min_area)
    expected = F.convert_bounding_box_format(expected, new_format=format.upper())
    moved = move_objects(plan, boxes.to_objects(given, [len(given)], format, SIZE))
    stay = boxes.kept(moved, Boxes(format, min_size, min_area))
    assert torch.equal(stay, valid)
    assert 0 < int(valid.sum()) < len(valid)
    found = boxes.from_objects(moved.take(stay), format, (20, 30), given.dtype)
    torch.testing.assert_close(found, expected.as_subclass(torch.Tensor), rtol=0, atol=1e-3)


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "yolo"])
def test_whole_pixels_stay_whole(format):
    """Integer boxes come back as integers, to the nearest, where torchvision cuts fractions off: half a pixel apart."""
    given = formatted(format).round().long()
    found = moved_boxes(stage(A.Flip(1.0))(), given, format)
    assert found.dtype == torch.int64
    precise = moved_boxes(stage(A.Flip(1.0))(), given.double(), format)
    assert torch.equal(found, precise.round().long())
