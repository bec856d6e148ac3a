"""What moves with the images: points, boxes and maps against slow twins, for any plan and any number of objects."""

from typing import get_args

import hypothesis.strategies as st
import numpy as np
import pytest
import reference_targets as reference
import torch
from hypothesis import given, settings

import smartaug
import smartaug.augment as A
from smartaug.augment import targets
from smartaug.augment.plan import Branches, Call, Plan, Trace, Warp
from smartaug.augment.projection import Projection
from smartaug.augment.targets import (
    Boxes,
    Disparity,
    Flow,
    Heatmap,
    Image,
    Keypoints,
    Mask,
    Object,
    boxes,
    keypoints,
    kind_of,
)
from smartaug.augment.targets.kinds import FORMATS, ROTATED, UPRIGHT, WORDS, Kind, MapKind
from smartaug.augment.targets.maps import move_map
from smartaug.augment.targets.objects import Objects, clipped, joined, polygon_area, within
from smartaug.augment.targets.through import move_objects
from smartaug.lift.torchvision.perspective import Perspective
from smartaug.pipeline.following import followers

SIZE = (21, 30)
MOVING = {
    "Affine": lambda: A.Affine(60, (0.3, 0.2), (0.6, 1.5), (-20, 20, -10, 10), mask_fill=3),
    "Flip": A.Flip,
    "Flip, vertical": lambda: A.Flip(vertical=True),
    "Crop": lambda: A.Crop((6, 7)),
    "Crop, center": lambda: A.Crop((6, 7), place="center"),
    "Pad": lambda: A.Pad((1, 2, 3, 4), mode="edge"),
    "PadCrop": lambda: A.PadCrop(5, mode="reflect"),
    "RandomResizedCrop": lambda: A.RandomResizedCrop((10, 12)),
    "Resize": lambda: A.Resize((12, 20)),
    "RandAugment": lambda: A.RandAugment(3, 14, mask_fill=2),
    "TrivialAugment": A.TrivialAugment,
    "AutoAugment": A.AutoAugment,
    "RandomApply": lambda: A.RandomApply([A.Affine(30), A.Erase(1.0)]),
    "Perspective": lambda: Perspective(0.4, 0.8, "bilinear", (7.0,), 5.0),
    "OneOf": lambda: A.OneOf([A.Flip(1.0), A.Affine(90), A.Invert(1.0)]),
}
STILL = {
    "Erase": lambda: A.Erase(1.0),
    "ColorJitter": lambda: A.ColorJitter(0.4, 0.4, 0.4),
    "Sharpness": lambda: A.Sharpness(2.0),
    "GaussianBlur": lambda: A.GaussianBlur(3),
    "Normalize": lambda: A.Normalize(0.5, 0.5),
    "Equalize": lambda: A.Equalize(1.0),
}
chains = st.lists(st.sampled_from([*MOVING, "Erase", "Equalize"]), min_size=1, max_size=3)
counts = st.lists(st.integers(0, 4), min_size=1, max_size=4)


def planned(names, batch, seed=0, size=SIZE):
    stage = A.Compose([{**MOVING, **STILL}[name]() for name in names])
    return stage.plan((batch, 3, *size), index=torch.arange(batch), seed=seed)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def boxes_of(count, seed=0, size=SIZE):
    """Boxes (M, 4) xyxy inside the image and across its border."""
    made = torch.rand(count, 4, generator=generator(seed), dtype=torch.float64)
    low = made[:, :2] * torch.tensor([size[1], size[0]]) - 3
    return torch.cat([low, low + made[:, 2:] * 15], 1)


@given(chains, counts, st.integers(0, 1 << 30))
@settings(max_examples=30, deadline=None)
def test_points_and_boxes_of_any_number(names, counts, seed):
    """Of each sample its own number, none too, through any chain: as one at a time."""
    plan = planned(names, len(counts), seed)
    rows = [row for row, count in enumerate(counts) for _ in range(count)]
    moving = plan.moves_pixels
    boxed = boxes_of(sum(counts), seed)
    made = move_objects(plan, boxes.to_objects(boxed, counts, "xyxy", SIZE))
    found = boxes.from_objects(made, "xyxy", plan.output_shape[2:], torch.float64)
    assert made.counts(len(counts)).tolist() == counts
    assert made.origin.tolist() == list(range(sum(counts)))
    for row, before, after, visible in zip(rows, boxed.tolist(), found.tolist(), made.visible[:, 0], strict=True):
        expected, share = reference.box(plan, row, *before)
        if moving:
            np.testing.assert_allclose(after, expected, atol=1e-9)
            assert abs(float(visible) - share) < 1e-9
    kind = Keypoints("continuous")
    points = torch.cat([boxed[:, :2], torch.ones(len(boxed), 1, dtype=torch.float64)], 1)
    made = keypoints.from_objects(move_objects(plan, keypoints.to_objects(points, counts, kind)), points, kind)
    for row, before, after in zip(rows, points.tolist(), made.tolist(), strict=True):
        np.testing.assert_allclose(after[:2], reference.point(plan, row, *before[:2]), atol=1e-9)
        assert after[2] == reference.seen(plan, row, *before[:2])


@given(chains, st.integers(0, 1 << 30), st.sampled_from([torch.uint8, torch.int64, torch.bool, torch.float32]))
@settings(max_examples=15, deadline=None)
def test_masks_pixel_by_pixel(names, seed, dtype):
    plan = planned(names, 2, seed, (9, 11))
    mask = (torch.rand(2, 9, 11, generator=generator(seed)) * 4).to(dtype)
    found = move_map(plan, mask, Mask(fill=1))
    assert found.dtype == dtype
    for row in range(2):
        assert found[row].tolist() == reference.mask(plan, row, mask[row].tolist(), 1)


@pytest.mark.parametrize("name", MOVING)
def test_backends_agree_on_masks(name):
    """numba gives the bytes of torch at any resolution and for any type; so does Triton, in test_triton.py."""
    for shape in ((3, 21, 30), (3, 1, 21, 30), (3, 4, 21, 30), (3, 7, 10), (3, 2, 42, 45), (0, 8, 9)):
        check_backends_agree(name, shape)


def check_backends_agree(name, shape):
    plan = planned([name], shape[0])
    mask = (torch.rand(shape, generator=generator(1)) * 200).to(torch.uint8)
    expected = move_map(plan, mask, Mask(9), "torch")
    assert torch.equal(move_map(plan, mask, Mask(9), "numba"), expected)
    for dtype in (torch.int64, torch.uint16, torch.float32):
        assert torch.equal(move_map(plan, mask.to(dtype), Mask(9)), expected.to(dtype))
    for kind in (Heatmap(9), Image(9)):
        assert torch.equal(move_map(plan, mask, kind, "numba"), move_map(plan, mask, kind, "torch"))


@pytest.mark.parametrize("values", [(0, 255), (-100, 20), (0, 70000), (-129, 3), (0, 256)])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.int16, torch.uint16, torch.uint32, torch.int8])
def test_all_values_of_a_type(dtype, values):
    limits = torch.iinfo(dtype)
    low, high = max(values[0], limits.min), min(values[1], limits.max)
    plan = planned(["Affine", "Flip"], 3)
    mask = torch.randint(low, high + 1, (3, *SIZE), generator=generator(0))
    for fill in (low, high, min(limits.max, 1 << 40)):
        expected = move_map(plan, mask.double() + 0.25, Mask(fill + 0.25)) - 0.25  # fractions move as floats
        for own in (dtype, torch.float32, torch.float64):
            found = move_map(plan, mask.to(own), Mask(fill))
            assert found.dtype == own
            assert torch.equal(found.double(), expected.to(own).double())


@pytest.mark.parametrize("odd", [-0.0, 0.5, float("nan"), float("inf"), 256.0, -129.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_floats_come_back_bit_for_bit(dtype, odd):
    mask = torch.arange(-3.0, SIZE[0] * SIZE[1] - 3.0).remainder(120).view(1, *SIZE).to(dtype)
    mask[0, 2, 3] = odd
    plan = planned(["Flip"], 6)
    moved = move_map(plan, mask.expand(6, *SIZE), Mask())
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[mask.element_size()]
    for row, matrix in zip(moved, plan.segments[0].matrix, strict=True):
        expected = mask[0].flip(1) if float(matrix[0, 0]) < 0 else mask[0]
        assert torch.equal(row.view(bits), expected.contiguous().view(bits))


@pytest.mark.parametrize("size", [(7, 10), (40, 60), (10, 13)])
@pytest.mark.parametrize("name", [name for name in MOVING if name not in ("Pad", "PadCrop", "RandAugment")])
def test_maps_of_another_resolution(name, size):
    """A map covers the area of the image, whatever its resolution; ties of two pixels are left out."""
    plan = planned([name], 3, 5)
    mask = torch.randint(0, 200, (3, *size), generator=generator(0))
    found = move_map(plan, mask, Mask(fill=7))
    expected = torch.tensor([reference.map_at_scale(plan, row, mask[row].tolist(), 7) for row in range(3)])
    assert found.shape == expected.shape
    assert (found != expected).double().mean() < 0.03


def test_a_map_at_a_quarter_shows_what_the_image_shows():
    """Blocks of 4 × 4 pixels of one class: the image's own mask, seen at every fourth pixel."""
    small = torch.randint(0, 5, (4, 16, 12), generator=generator(0))
    large = small.repeat_interleave(4, 1).repeat_interleave(4, 2)
    stage = A.Compose([A.Flip(), A.Flip(vertical=True), A.Resize((96, 64)), A.Flip()])
    plan = stage.plan((4, 3, 64, 48), index=torch.arange(4), seed=1)
    assert torch.equal(move_map(plan, small, Mask()), move_map(plan, large, Mask())[:, 2::4, 2::4])


@pytest.mark.parametrize("kind", [Heatmap(), Image()])
def test_soft_maps_are_interpolated(kind):
    """A slope stays a slope at every resolution, away from the border; an image takes the plan's interpolation."""
    plan = A.Affine(20, interpolation="bilinear").plan((3, 3, 40, 40), index=torch.arange(3), seed=0)
    slope = (torch.arange(20.0) * 2 + 1).expand(3, 1, 20, 20)  # x in continuous pixels of the image
    found = move_map(plan, slope, kind)
    for row in range(3):
        matrix, _, _ = next(reference.steps(plan, row))
        expected = reference.sent(matrix, 20.5, 14.5)[0] + 0.5  # at the centre of pixel (10, 7) of the map
        assert abs(float(found[row, 0, 7, 10]) - expected) < 1e-3
    nearest = A.Affine(20).plan((3, 3, 40, 40), index=torch.arange(3), seed=0)
    assert torch.equal(move_map(nearest, slope, Image()), move_map(nearest, slope, Mask()))


@pytest.mark.parametrize("names", [["Affine"], ["Perspective"], ["Affine", "Flip", "RandomResizedCrop"]])
def test_flow_turns_with_its_image(names):
    plan = planned(names, 3, 2, (9, 12))
    flow = torch.randn(3, 2, 9, 12, generator=generator(0), dtype=torch.float64)
    found = move_map(plan, flow, Flow())
    for row in range(3):
        expected = reference.flow(plan, row, flow[row].numpy())
        inside = (move_map(plan, torch.ones(3, 1, 9, 12, dtype=torch.float64), Heatmap())[row, 0] > 1 - 1e-9).numpy()
        assert inside.any()
        np.testing.assert_allclose(found[row].numpy()[:, inside], expected[:, inside], atol=1e-6)


@pytest.mark.parametrize("name", ["Affine", "Perspective"])
def test_flow_points_to_where_its_end_goes(name):
    """p + v of a constant flow moves to p' + v', also at half the resolution."""
    plan = planned([name], 1, 3, (40, 60))
    for scale in (1, 2):
        flow = torch.tensor([3.0, -2.0]).view(1, 2, 1, 1).expand(1, 2, 40 // scale, 60 // scale) / scale
        middle = torch.tensor([[30.0, 20.0], [33.0, 18.0]], dtype=torch.float64)
        kind = Keypoints("continuous")
        start, end = keypoints.from_objects(move_objects(plan, keypoints.to_objects(middle, [2], kind)), middle, kind)
        found = move_map(plan, flow.double().contiguous(), Flow())
        x, y = (start / scale).long().tolist()
        apart = 0.1 if name == "Perspective" else 1e-9  # the pixel's centre is not the point, and vectors vary
        torch.testing.assert_close(found[0, :, y, x] * scale, end - start, rtol=0, atol=apart)


LEVEL = {  # a pair of pictures stays one under these
    "Affine": lambda: A.Affine(0, (0.2, 0.2), (0.6, 1.5), (-20, 20), interpolation="bilinear"),
    "Flip, vertical": lambda: A.Flip(vertical=True),
    "Crop": lambda: A.Crop((6, 7)),
    "Pad": lambda: A.Pad((1, 2, 3, 4)),
    "RandomResizedCrop": lambda: A.RandomResizedCrop((10, 12)),
    "Resize": lambda: A.Resize((12, 20)),
    "nothing": lambda: A.RandomApply([A.Affine(30)], p=0.0),
}


@given(st.lists(st.sampled_from([*LEVEL, "Equalize"]), min_size=1, max_size=3), st.integers(0, 1 << 30))
@settings(max_examples=20, deadline=None)
def test_disparity_is_the_flow_along_x(names, seed):
    """Also of half the resolution. What is missing stays missing, also where a later step would scale it."""
    stage = A.Compose([{**LEVEL, **STILL}[name]() for name in names])
    plan = stage.plan((3, 3, *SIZE), index=torch.arange(3), seed=seed)
    for size in (SIZE, (10, 15)):
        given = torch.rand(3, 1, *size, generator=generator(seed), dtype=torch.float64) * 9
        flow = move_map(plan, torch.cat([given, torch.zeros_like(given)], 1), Flow())
        assert float(flow[:, 1].abs().max()) < 1e-9
        torch.testing.assert_close(move_map(plan, given, Disparity("bilinear")), flow[:, :1])
        for missing in (-1.0, float("nan")):
            marked = torch.where(given < 3, missing, given)
            copied = move_map(plan, marked, Mask(missing))
            found = move_map(plan, marked[:, 0], Disparity(missing=missing))[:, None]
            gone = copied.isnan() if missing != missing else copied == missing
            assert torch.equal(gone, found.isnan() if missing != missing else found == missing)
            for row in range(3):  # the others: copies, all scaled alike
                ratio = (found[row] / copied[row])[~gone[row]]
                assert not len(ratio) or float(ratio.max() - ratio.min()) < 1e-9


@pytest.mark.parametrize("name", ["Affine", "RandomResizedCrop", "Resize", "Crop", "Flip, vertical"])
def test_a_stereo_pair_stays_one(name):
    """What the left picture shows at x the right one shows at x − d, before and after."""
    ramp = 10 * torch.arange(60.0) + torch.arange(40.0)[:, None]
    pair = ramp.expand(3, 1, 40, 60), ramp.expand(3, 1, 40, 60) + 50  # the right one shows 5 pixels further on
    plan = LEVEL[name]().plan(pair[0].shape, index=torch.arange(3), seed=2)
    left, right, inside = (move_map(plan, view, Heatmap())[:, 0] for view in (*pair, torch.ones(3, 1, 40, 60)))
    found = move_map(plan, torch.full((3, 40, 60), 5.0), Disparity("bilinear"))
    step = left[:, :, 1:] - left[:, :, :-1]
    apart = (right - found * torch.nn.functional.pad(step, (0, 1)) - left)[:, :, :-1]
    whole = (inside[:, :, 1:] == 1) & (inside[:, :, :-1] == 1)
    assert int(whole.sum()) > 60
    assert float(apart[whole].abs().max()) < 0.05


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (lambda: A.Affine(20), "turns the lines"),
        (lambda: A.Affine((180, 180)), "mirrors left and right"),
        (lambda: A.Affine(0, shear=(0, 0, 5, 5)), "shears them upwards"),
        (lambda: A.Flip(1.0), "mirrors left and right"),
        (lambda: Perspective(0.4, 1.0, "bilinear", (0.0,), 0.0), "perspective"),
        (A.MixUp, "disparity has no blend"),
        (A.Mosaic, "disparity would end in another image"),
    ],
)
def test_stages_behind_which_there_is_no_disparity(stage, message):
    plan = stage().plan((4, 3, *SIZE), index=torch.arange(4), seed=0)
    with pytest.raises(ValueError, match=message):
        move_map(plan, torch.ones(4, *SIZE), Disparity())
    lines = A.Flip(0.0).plan((4, 3, *SIZE), index=torch.arange(4), seed=0)
    assert torch.equal(move_map(lines, torch.ones(4, *SIZE), Disparity()), torch.ones(4, *SIZE))


@pytest.mark.parametrize("mode", ["reflect", "symmetric"])
def test_what_is_mirrored_beyond_the_border_has_no_motion(mode):
    """There things move the other way: nothing is said of them, as outside of any image."""
    plan = A.Pad((4, 3, 2, 1), mode=mode).plan((1, 3, *SIZE), index=torch.arange(1), seed=0)
    for kind, channels in ((Flow(), 2), (Disparity(), 1)):
        found = move_map(plan, torch.ones(1, channels, *SIZE), kind)
        expected = torch.nn.functional.pad(torch.ones(1, channels, *SIZE), (4, 2, 3, 1))
        assert torch.equal(found, expected)


@pytest.mark.parametrize("format", FORMATS)
def test_there_and_back(format):
    """Flipped twice, turned and turned back: boxes, corners and angles are the old ones."""
    back = {"rotate": A.Affine((-25, -25)), "flip": A.Flip(1.0), "vertical": A.Flip(1.0, vertical=True)}
    there = {**back, "rotate": A.Affine((25, 25))}
    given = boxes.from_objects(Objects.of(_turned(6), [4, 2]), format, SIZE, torch.float64)
    for name in there:
        stage = A.Compose([there[name], back[name]])
        plan = stage.plan((2, 3, *SIZE), index=torch.arange(2), seed=0)
        moved = move_objects(plan, boxes.to_objects(given, [4, 2], format, SIZE))
        found = boxes.from_objects(moved, format, SIZE, torch.float64)
        torch.testing.assert_close(_unwound(found, format), _unwound(given, format), rtol=0, atol=1e-9)
        assert bool((moved.visible == 1).all()) or format in UPRIGHT or name == "rotate"


def _turned(count):
    """Rectangles in the middle of the image, which no turn pushes out of it."""
    angle = torch.linspace(-170, 170, count, dtype=torch.float64).deg2rad()[:, None, None]
    corners = torch.tensor([[-3.0, -2], [3, -2], [3, 2], [-3, 2]], dtype=torch.float64)
    x, y = corners[None].unbind(-1)
    turned = torch.stack([x * angle[..., 0].cos() - y * angle[..., 0].sin(), x * angle[..., 0].sin() + y * angle[..., 0].cos()], -1)  # noqa: E501 # fmt: skip
    return turned + torch.tensor([15.0, 10.0])


def _unwound(found, format):
    """Angles as sine and cosine, which have no jump."""
    if format not in ("xywhr", "cxcywhr"):
        return found
    turn = found[:, 4].deg2rad()
    return torch.cat([found[:, :4], turn.sin()[:, None], turn.cos()[:, None]], 1)


@pytest.mark.parametrize("name", STILL)
def test_what_recolours_leaves_all_in_place(name):
    plan = planned([name], 2)
    given = boxes_of(3)
    moved = move_objects(plan, boxes.to_objects(given, [1, 2], "xyxy", SIZE))
    assert torch.equal(boxes.from_objects(moved, "xyxy", SIZE, given.dtype), given)
    mask = torch.randint(0, 9, (2, *SIZE))
    assert move_map(plan, mask, Mask()) is mask or torch.equal(move_map(plan, mask, Mask()), mask)


def test_augmix_moves_what_no_box_can_follow():
    plan = A.AugMix().plan((2, 3, *SIZE), index=torch.arange(2), seed=0)
    with pytest.raises(ValueError, match=r"AugMix .* use RandAugment or TrivialAugment"):
        move_objects(plan, boxes.to_objects(boxes_of(2), [1, 1], "xyxy", SIZE))
    with pytest.raises(ValueError, match=r"AugMix .* use RandAugment or TrivialAugment"):
        move_map(plan, torch.zeros(2, *SIZE, dtype=torch.int64), Mask())
    still = planned(["Equalize"], 2).segments
    plan = Plan((2, 3, *SIZE), (Branches((still, still), torch.full((2, 3), 1 / 3)),), Trace.empty(2))
    assert torch.equal(move_objects(plan, boxes.to_objects(boxes_of(2), [1, 1], "xyxy", SIZE)).row, torch.arange(2))
    mask = torch.ones(2, *SIZE)
    assert torch.equal(move_map(plan, mask, Mask()), mask)


def test_what_moves_pixels_without_a_map_refuses():
    class Elastic(Call):
        moves_pixels = True

    plan = Plan((2, 3, *SIZE), (Elastic(torch.sin, (), "Elastic"),), Trace.empty(2))
    with pytest.raises(ValueError, match=r"Elastic moves pixels .* out of augment="):
        move_objects(plan, boxes.to_objects(boxes_of(2), [1, 1], "xyxy", SIZE))
    with pytest.raises(ValueError, match=r"Elastic makes pictures .* out of augment="):
        move_map(plan, torch.zeros(2, *SIZE), Mask())
    call = Plan((2, 3, *SIZE), (Call(torch.sin, (), "Sine"),), Trace.empty(2))
    assert torch.equal(move_objects(call, boxes.to_objects(boxes_of(2), [1, 1], "xyxy", SIZE)).row, torch.arange(2))


def test_a_warp_that_makes_a_line_of_an_image_has_no_way_back():
    warp = Warp(torch.tensor([[[1.0, 0, 0], [1, 0, 0]]], dtype=torch.float64), SIZE)
    with pytest.raises(ValueError, match="no inverse"):
        move_objects(Plan((1, 3, *SIZE), (warp,)), boxes.to_objects(boxes_of(1), [1], "xyxy", SIZE))


def test_behind_the_horizon_nothing_is_seen():
    matrix = torch.tensor([[[1.0, 0, 0], [0, 1, 0], [-0.05, 0, 1]]], dtype=torch.float64)
    plan = Plan((1, 3, *SIZE), (Projection(matrix, SIZE, "nearest", (9.0,)),))
    points = torch.tensor([[10.0, 5.0, 2.0], [-40.0, 5.0, 2.0]])
    kind = Keypoints()
    found = keypoints.from_objects(move_objects(plan, keypoints.to_objects(points, [2], kind)), points, kind)
    assert found[:, 2].tolist() == [2, 0]
    torch.testing.assert_close(found[0, :2], torch.tensor([10 / 1.5, 5 / 1.5]))
    wide = torch.tensor([[-45.0, 2, 10, 8], [4, 2, 10, 8]])
    moved = move_objects(plan, boxes.to_objects(wide, [2], "xyxy", SIZE))
    assert boxes.kept(moved, Boxes()).tolist() == [False, True]
    mask = torch.ones(1, *SIZE, dtype=torch.int64)
    assert move_map(plan, mask, Mask(3))[0, :, 20:].unique().tolist() == [3]
    flat = Plan((1, 3, *SIZE), (Projection(torch.zeros(1, 3, 3, dtype=torch.float64), SIZE),))
    with pytest.raises(ValueError, match="no inverse"):
        move_objects(flat, boxes.to_objects(wide, [2], "xyxy", SIZE))


def test_what_left_the_image_does_not_come_back():
    """A shift there and back again: what was outside in between is filled, so it is lost to boxes and points, too."""
    shift = torch.tensor([[[1.0, 0, 12], [0, 1, 0]]], dtype=torch.float64)
    back = shift * torch.tensor([1.0, 1.0, -1.0])
    plan = Plan((1, 3, *SIZE), (Warp(shift, SIZE), Warp(back, SIZE)))
    given = torch.tensor([[2.0, 2, 8, 6], [8, 2, 18, 6], [14, 2, 20, 6]])
    moved = move_objects(plan, boxes.to_objects(given, [3], "xyxy", SIZE))
    found = boxes.from_objects(moved, "xyxy", SIZE, given.dtype)
    assert found[1:].tolist() == [[12, 2, 18, 6], [14, 2, 20, 6]]
    assert boxes.kept(moved, Boxes(min_size=0)).tolist() == [False, True, True]
    assert boxes.kept(moved, Boxes(min_visibility=0.7)).tolist() == [False, False, True]
    torch.testing.assert_close(moved.visible[:, 0], torch.tensor([0, 0.6, 1], dtype=torch.float64))
    points = torch.tensor([[5.0, 3, 2], [15, 3, 1], [0, 0, 0]])
    kind = Keypoints()
    found = keypoints.from_objects(move_objects(plan, keypoints.to_objects(points, [3], kind)), points, kind)
    assert found.tolist() == [[5, 3, 0], [15, 3, 1], [0, 0, 0]]
    bare = points[:, :2]
    found = keypoints.from_objects(move_objects(plan, keypoints.to_objects(bare, [3], kind)), bare, kind)
    assert torch.equal(found, bare)  # without a column of visibility all stay


def test_left_and_right_change_places_in_mirrored_samples():
    kind = Keypoints(swap=((0, 1),))
    given = torch.tensor([[[1.0, 3, 2], [9, 3, 1], [5, 7, 2]]]).repeat(8, 1, 1)
    stage = A.Compose([A.Flip(), A.Affine((10, 10)), A.Flip(vertical=True)])
    plan = stage.plan((8, 3, *SIZE), index=torch.arange(8), seed=0)
    found = keypoints.from_objects(move_objects(plan, keypoints.to_objects(given, [1] * 8, kind)), given, kind)
    plain = Keypoints()
    expected = keypoints.from_objects(move_objects(plan, keypoints.to_objects(given, [1] * 8, plain)), given, plain)
    turned = torch.stack([torch.linalg.det(s.matrix[:, :, :2]) < 0 for s in plan.segments]).sum(0) % 2 == 1
    assert 0 < int(turned.sum()) < 8
    assert torch.equal(found[~turned], expected[~turned])
    assert torch.equal(found[turned], expected[turned][:, [1, 0, 2]])


@given(st.integers(0, 1 << 30))
@settings(max_examples=20, deadline=None)
def test_what_of_a_polygon_lies_in_a_window(seed):
    turned = _turned(5) + torch.randn(5, 1, 2, generator=generator(seed)) * 4
    window = torch.tensor([11.0, 8.0, 18.0, 12.5], dtype=torch.float64)
    found = polygon_area(clipped(turned, window.expand(5, 4)))
    expected = [reference.left_of_polygon(list(map(tuple, p)), window.tolist()) for p in turned.tolist()]
    np.testing.assert_allclose(found, expected, atol=1e-9)
    visible = within(Objects.of(turned, [5], "rotated"), window).visible[:, 0] * 24
    np.testing.assert_allclose(visible, expected, atol=1e-9)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.float16])
def test_formats_come_back_as_they_came(format, dtype):
    given = boxes.from_objects(Objects.of(_turned(6), [6]), format, SIZE, dtype)
    again = boxes.to_objects(given, [0, 6], format, SIZE)
    assert again.shape == ("rotated" if format in ROTATED else "box")
    found = boxes.from_objects(again, format, SIZE, dtype)
    assert found.dtype == dtype
    torch.testing.assert_close(found, given, rtol=0, atol=2 if format == "xyxyxyxy" else 1e-2)
    empty = boxes.from_objects(boxes.to_objects(given[:0], [0, 0], format, SIZE), format, SIZE, dtype)
    assert empty.shape == given[:0].shape


def test_objects_are_taken_joined_and_sorted():
    first = boxes.to_objects(boxes_of(3), [2, 1], "xyxy", SIZE)
    second = first.take(torch.tensor([2, 0]))
    both = joined(first, second)
    assert both.row.tolist() == [0, 0, 1, 1, 0]
    assert both.by_row().origin.tolist() == [0, 1, 0, 2, 2]
    assert both.take(both.row == 1).counts(3).tolist() == [0, 2, 0]
    assert both.shape == "box"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kind_of("xyxi"), "did you mean xyxy"),
        (lambda: kind_of(3), "kind of target is one of"),
        (lambda: Boxes("xxyy"), "format must be one of"),
        (lambda: Boxes(min_size=-1), "min_size=0"),
        (lambda: Boxes(min_visibility=30), "share in"),
        (lambda: Keypoints("pixels"), "coordinates must be"),
        (lambda: keypoints.to_objects(torch.zeros(2, 4), [2], Keypoints()), "keypoints must be"),
        (lambda: keypoints.to_objects(torch.zeros(2, 2), [2], Keypoints(visible=True)), "keypoints must be"),
        (lambda: keypoints.to_objects(torch.zeros(2, 3, 2), [2], Keypoints(swap=((0, 3),))), "swap"),
        (lambda: boxes.to_objects(torch.zeros(2, 5), [2], "xyxy", SIZE), "must be"),
        (lambda: boxes.to_objects(torch.zeros(2, 4), [1, 2], "xyxy", SIZE), "add up"),
        (lambda: move_map(planned(["Flip"], 2), torch.zeros(3, *SIZE), Mask()), "one row for each of the 2"),
        (lambda: move_map(planned(["Flip"], 2), torch.zeros(2, 3, *SIZE), Flow()), "x and y"),
        (lambda: move_map(planned(["Flip"], 2), torch.zeros(2, 2, *SIZE), Disparity()), "in pixels"),
        (lambda: move_map(planned(["Flip"], 2), torch.zeros(2, *SIZE, dtype=torch.int32), Disparity()), "be floats"),
        (lambda: Disparity("bicubic"), "nearest"),
        (lambda: move_map(planned(["Flip"], 2), torch.zeros(2, *SIZE, dtype=torch.int32), Heatmap()), "smartaug.Mask"),
        (lambda: move_map(planned(["Flip"], 2), torch.zeros(2, *SIZE, dtype=torch.uint8), Mask(-1)), "no value of a"),
    ],
)
def test_errors_say_what_to_write(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_words_and_settings():
    assert kind_of("cxcywh") == Boxes("cxcywh")
    assert kind_of("object") == Object()
    assert kind_of(kind := smartaug.Mask(fill=255)) is kind
    assert isinstance(smartaug.Boxes(), Boxes)
    assert {kind_of(word).format for word in FORMATS} == set(FORMATS)


@pytest.mark.parametrize("kind", get_args(Kind), ids=lambda kind: kind.__name__)
def test_every_kind_is_known_where_kinds_are_told_apart(kind):
    name = kind.__name__
    assert name in targets.__all__, f"name {name} in smartaug/augment/targets/__init__.py (import, __all__)"
    assert kind in map(type, WORDS.values()), f"give {name} a word in WORDS of smartaug/augment/targets/kinds.py"
    where = "smartaug/pipeline/following/followers.py"
    assert kind in followers._WANTED or kind is Object, f"say in _WANTED of {where} which shapes {name} has"
    if kind in get_args(MapKind):  # NotImplementedError says where it lacks
        maps = torch.zeros(2, 1 if kind is Disparity else 2, *SIZE)
        plan = A.Affine(0, scale=(0.8, 1.2)).plan((2, 3, *SIZE), index=torch.arange(2), epoch=0, seed=0)
        assert move_map(plan, maps, kind()).shape == maps.shape


def test_float_masks_of_whole_numbers_are_blended():
    """What MixUp blends is not carried by bytes."""
    plan = smartaug.MixUp(1.0).plan((4, 3, *SIZE), index=torch.arange(4), epoch=0, seed=0)
    mask = torch.arange(4.0)[:, None, None].expand(4, *SIZE).contiguous()
    moved = move_map(plan, mask, Mask())
    torch.testing.assert_close(moved, move_map(plan, mask + 0.25, Mask()) - 0.25)
    assert not torch.equal(moved, moved.round())
