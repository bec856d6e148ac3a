"""What mixes samples, beside everything that lies in them: Mosaic, CopyPaste, CutMix and MixUp with their targets."""

import copy
import pickle

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

import smartaug
from smartaug import draws
from smartaug.augment import backends
from smartaug.augment.labels import composition
from smartaug.augment.mixing import Tiles
from smartaug.augment.plan import Mix, Plan
from smartaug.augment.targets import (
    Boxes,
    Flow,
    Heatmap,
    Image,
    Keypoints,
    Mask,
    boxes,
    keypoints,
    move_instances,
    settled,
)
from smartaug.augment.targets.maps import move_map
from smartaug.augment.targets.mixed import brought
from smartaug.augment.targets.objects import Objects
from smartaug.augment.targets.through import move_objects
from smartaug.loading.pictures.words import makers, received
from smartaug.moments import of
from tests import reference_mixing as slow

SHAPE = (5, 3, 12, 10)


def noise(shape=SHAPE, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def planned(step, shape=SHAPE, seed=3):
    return step.plan(shape, index=torch.arange(shape[0]) + 7, epoch=1, seed=seed)


def keyed(rows, seed=3):
    return draws.key(seed, 1, torch.arange(rows) + 7)


@st.composite
def scenes(draw):
    """Rectangles of whole pixels in the images of a batch, as boxes, masks and rows; none, too."""
    batch, height, width = draw(st.integers(1, 5)), draw(st.integers(4, 12)), draw(st.integers(4, 12))
    counts = [draw(st.integers(0, 3)) for _ in range(batch)]
    xyxy, masks = [], []
    for _ in range(sum(counts)):
        left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        right, bottom = draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))
        xyxy.append([left, top, right, bottom])
        mask = torch.zeros(height, width, dtype=torch.bool)
        mask[top:bottom, left:right] = True
        masks.append(mask)
    masks = torch.stack(masks) if masks else torch.zeros(0, height, width, dtype=torch.bool)
    found = torch.tensor(xyxy, dtype=torch.float64).reshape(-1, 4)
    objects = boxes.to_objects(found, counts, "xyxy", (height, width))
    return (batch, 3, height, width), objects, masks, draw(st.integers(0, 99))


def left_over(objects, size):
    """(sample, origin) and xyxy of the boxes that are left."""
    kept = boxes.kept(objects, Boxes(min_size=0.0)).nonzero()[:, 0]
    final = objects.take(kept)
    return kept, final, boxes.from_objects(final, "xyxy", size, torch.float64)


# --- Mosaic ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.5, 1.5), (0.5, 0.5), (0.3, 0.6)])
@pytest.mark.parametrize("shape", [SHAPE, (1, 1, 7, 6), (2, 3, 5, 9), (9, 1, 6, 6)])
def test_a_mosaic_is_its_canvas_looked_up_pixel_by_pixel(shape, scale):
    step, images = smartaug.Mosaic(scale=scale, centre=(0.2, 1.8), interpolation="nearest"), noise(shape)
    plan = planned(step, shape)
    expected, owners = slow.mosaic(step, images, keyed(shape[0]))
    assert torch.equal(step.apply(images, plan), expected)
    row, share = plan.mixes[0].parts()
    for number in range(shape[0]):
        known = owners[number][owners[number] >= 0]
        for source in range(shape[0]):
            area = (known == source).double().mean() if len(known) else 0.0
            assert abs(float(share[number][row[number] == source].sum()) - float(area)) < 1e-6


def test_large_samples_are_put_together_as_small_ones(monkeypatch):
    images = noise((4, 3, 15, 17))
    for step in (smartaug.Mosaic(), smartaug.Mosaic(9, scale=(0.4, 2.5), p=0.6), smartaug.Mosaic(scale=(1, 1), p=0.6)):
        plan = planned(step, images.shape)
        for given_form in (images, images.float() / 255, images.contiguous(memory_format=torch.channels_last)):
            expected = backends.torch_backend.run(plan.segments, given_form)
            for large in (0, 1 << 30):
                with monkeypatch.context() as patched:
                    patched.setattr(backends.torch_backend.torch_warp, "LARGE", large)
                    assert torch.equal(backends.execute(plan, given_form, "torch"), expected)
                    if given_form.dtype == torch.uint8:
                        assert torch.equal(backends.execute(plan, given_form, "numba"), expected)


def test_partners_and_corners_are_drawn_evenly():
    plan = planned(smartaug.Mosaic(p=0.5), (4000, 1, 8, 8))
    (tiles,) = plan.segments
    drawn = plan.trace.ops[:, 0] == plan.trace.names.index("Mosaic")
    assert abs(float(drawn.float().mean()) - 0.5) < 0.04
    assert torch.equal(tiles.row[:, 0], torch.arange(4000))
    assert all(len(set(row)) == 4 for row in tiles.row[drawn].tolist())
    assert torch.equal(tiles.row[~drawn], torch.arange(4000)[~drawn][:, None].expand(-1, 4))
    own = tiles.boxes[drawn, 0]
    corners = torch.bincount((own[:, 0] > 0) * 2 + (own[:, 1] > 0), minlength=4) / drawn.sum()
    assert bool(((corners > 0.2) & (corners < 0.3)).all())
    assert abs(float(plan.mixes[0].parts()[1][drawn].mean()) - 0.25) < 1e-6  # the shares sum to 1


def test_a_mosaic_of_another_size_shows_the_same_window():
    image = torch.linspace(0, 255, 32)[None, None, None].expand(4, 1, 32, 32).to(torch.uint8).contiguous()
    small = smartaug.Mosaic(16)(image, index=torch.arange(4), seed=1)
    large = smartaug.Mosaic()(image, index=torch.arange(4), seed=1)
    assert small.shape == (4, 1, 16, 16)
    halved = large.float().unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))
    assert float((halved - small.float()).abs().median()) <= 6.0


def test_fill_is_grey_in_the_images_own_units():
    step = smartaug.Mosaic(scale=(0.3, 0.3))
    for images, grey in ((noise() * 0, 114), (noise().float() * 0, 114 / 255)):
        made = step(images, index=torch.arange(5), seed=0)
        assert {round(value, 4) for value in made.unique().tolist()} == {0, round(grey, 4)}
    with pytest.raises(ValueError, match=r"fill must lie in 0..255"):
        smartaug.Mosaic(fill=300)(noise())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"centre": (0.5, 2.5)}, "centre must be two places 0 ≤ low ≤ high ≤ 2"),
        ({"scale": (0, 1)}, "scale must be two factors 0 < low ≤ high"),
        ({"p": 2}, "p must be a probability"),
        ({"size": 0}, "size must be a number of pixels"),
        ({"interpolation": "bicubic"}, "interpolation must be"),
        ({"regression": True, "num_classes": 3}, "a regression has no classes"),
    ],
)
def test_what_a_mosaic_refuses(wrong, words):
    with pytest.raises(ValueError, match=words):
        smartaug.Mosaic(**wrong)


def test_labels_follow_by_area():
    images, label = noise(), torch.arange(5)
    plan = planned(smartaug.Mosaic(num_classes=5))
    step = smartaug.Mosaic(num_classes=5)
    _, target = step(images, label, index=torch.arange(5) + 7, epoch=1, seed=3)
    row, share = plan.mixes[0].parts()
    expected = torch.zeros(5, 5).scatter_add_(1, row, share)
    torch.testing.assert_close(target.soft, expected)
    chain = smartaug.Compose([smartaug.MixUp(), smartaug.Mosaic()]).plan(images.shape, seed=0)
    row, share = composition(chain.mixes, 5)
    assert row.shape == share.shape == (5, 8)
    torch.testing.assert_close(share.sum(1), torch.ones(5))
    soft = torch.eye(5)
    for mix in chain.mixes:
        taken, of_each = mix.parts()
        soft = (of_each[..., None] * soft[taken]).sum(1)
    torch.testing.assert_close(torch.zeros(5, 5).scatter_add_(1, row, share), soft)


def test_partners_are_named():
    index = [70, 71, 72, 73, 74]
    for step, words in ((smartaug.Mosaic(), "Mosaic with samples"), (smartaug.CopyPaste(), "CopyPaste of sample")):
        plan = planned(step)
        (segment,) = plan.segments
        told = received(plan, 0, makers(step, SHAPE), index)[0]
        others = segment.row[0, 1:].tolist() if isinstance(segment, Tiles) else [int(segment.partner[0])]
        assert told.startswith(f"{words} {', '.join(str(index[other]) for other in others)}")


# --- boxes, points and masks, against pixels -------------------------------------------------------------------------

STEPS = {
    "CutMix": lambda: smartaug.CutMix(),
    "CutMix, some": lambda: smartaug.CutMix(p=0.5),
    "Mosaic": lambda: smartaug.Mosaic(scale=(1, 1)),
    "both": lambda: smartaug.Compose([smartaug.Flip(), smartaug.CutMix(), smartaug.Mosaic(scale=(1, 1), p=0.5)]),
    "inside": lambda: smartaug.augment.RandomApply([smartaug.Mosaic(scale=(1, 1)), smartaug.CutMix()], 0.5),
}


ONCE = ("CutMix", "CutMix, some", "Mosaic")


@pytest.mark.parametrize("name", STEPS)
@settings(max_examples=25, deadline=None)
@given(scenes())
def test_boxes_are_those_of_the_pixels_that_are_left(name, scene):
    """Every object painted alone: where its pixels are is where its mask and its box are, and how much is visible."""
    shape, objects, masks, seed = scene
    plan = planned(STEPS[name](), shape, seed)
    moved = move_objects(plan, objects)
    kept, final, xyxy = left_over(moved, shape[2:])
    own = move_instances(plan, masks, objects.row, kept)
    if not len(masks):
        assert not len(moved)
        return
    seen = slow.pictured(lambda batch: move_map(plan, batch, Mask(fill=0)), masks, objects.row, shape)
    found = torch.zeros_like(seen)
    for place in range(len(final)):
        origin, row = int(final.origin[place]), int(final.row[place])
        if own[place].any():
            around = torch.tensor(slow.box_around(own[place])).double()
            assert torch.equal(
                torch.cat([around[:2].maximum(xyxy[place, :2]), around[2:].minimum(xyxy[place, 2:])]), around
            )
        if name in ONCE:  # what is cut twice may not be a rectangle in between
            assert torch.equal(around, xyxy[place])
            share = own[place].sum().double() / masks[origin].sum()
            torch.testing.assert_close(final.visible[place, 0], share, rtol=0, atol=1e-9)
        assert not bool((found[origin, row] & own[place]).any())
        found[origin, row] |= own[place]
    assert torch.equal(found, seen)


@settings(max_examples=30, deadline=None)
@given(scenes())
def test_boxes_of_an_enlarged_mosaic_are_around_their_pixels(scene):
    shape, objects, masks, seed = scene
    plan = planned(smartaug.Mosaic(), shape, seed)
    kept, _, xyxy = left_over(move_objects(plan, objects), shape[2:])
    own = move_instances(plan, masks, objects.row, kept)
    for mask, box in zip(own, xyxy, strict=True):
        if mask.any():
            assert bool(((torch.tensor(slow.box_around(mask)) - box).abs() <= 0.75).all())
        else:  # thinner than a pixel
            assert float((box[2:] - box[:2]).min()) <= 1.0


@pytest.mark.parametrize("make", [smartaug.CutMix, lambda: smartaug.Mosaic(scale=(1, 1))])
@settings(max_examples=25, deadline=None)
@given(scenes())
def test_a_point_is_visible_where_its_pixel_is(make, scene):
    shape, objects, masks, seed = scene
    plan = planned(make(), shape, seed)
    corners = torch.stack([objects.points[:, 0], objects.points[:, 2] - 1], 1)  # the first and the last pixel
    kind = Keypoints()
    given_points = torch.cat([corners, torch.full((len(corners), 2, 1), 2.0)], 2)
    counts = objects.counts(shape[0])
    moved = move_objects(plan, keypoints.to_objects(given_points, counts, kind))
    made = keypoints.from_objects(moved, given_points, kind)
    pixels = torch.zeros(2 * len(masks), *shape[2:], dtype=torch.bool)
    for number, (x, y) in enumerate(corners.flatten(0, 1).long().tolist()):
        pixels[number, y, x] = True
    everywhere = torch.arange(len(moved))
    for point in (0, 1):
        seen = move_instances(plan, pixels[point::2], objects.row, everywhere)
        for mask, (x, y, visible) in zip(seen, made[:, point].tolist(), strict=True):
            assert bool(mask.any()) == (visible == 2.0)
            if visible:
                assert mask.nonzero().tolist() == [[int(y), int(x)]]


def test_a_batch_of_one_keeps_its_objects():
    objects = boxes.to_objects(torch.tensor([[1, 2, 8, 9], [0, 0, 3, 3]]), [2], "xyxy", (12, 10))
    masks = torch.ones(2, 12, 10, dtype=torch.bool)
    for step in (smartaug.CutMix(), smartaug.MixUp(), smartaug.CopyPaste(1.0)):
        plan = settled(planned(step, (1, 3, 12, 10)), masks, objects.row)
        moved = move_objects(plan, objects)
        assert torch.equal(moved.points, objects.points)
        assert torch.equal(moved.visible, objects.visible)
        assert torch.equal(move_instances(plan, masks, objects.row, torch.arange(2)), masks)
        images = noise((1, 3, 12, 10))
        assert torch.equal(step.apply(images, plan), images)


def test_targets_are_moved_on_the_cpu_whatever_the_default_device():
    objects = boxes.to_objects(torch.tensor([[1, 2, 8, 9], [0, 0, 3, 3]]), [1, 1], "xyxy", (12, 10))
    masks = torch.ones(2, 12, 10, dtype=torch.bool)
    for step in (smartaug.CutMix(), smartaug.Mosaic(), smartaug.CopyPaste(1.0, most=1)):
        plan = step.plan((2, 3, 12, 10), index=torch.arange(2), seed=0)
        with torch.device("meta"):
            plan = settled(plan, masks, objects.row)
            moved = move_objects(plan, objects)
            own = (
                masks if isinstance(step, smartaug.Mosaic) else move_instances(plan, masks, objects.row, moved.row * 0)
            )
        assert {part.device.type for part in (moved.points, moved.visible, own)} == {"cpu"}


def test_rotated_boxes_keep_their_shape_and_lose_area():
    given_boxes = torch.tensor([[4.0, 4.0, 6.0, 2.0, 30.0], [4.0, 4.0, 1.0, 1.0, 10.0]], dtype=torch.float64)
    objects = boxes.to_objects(given_boxes, [2, 0], "cxcywhr", (8, 8))
    mix = Mix(torch.tensor([1, 0]), torch.tensor([0.5, 0.5]), torch.tensor([[0, 0, 8, 4], [0, 0, 8, 4]]))
    moved = move_objects(Plan((2, 3, 8, 8), (mix,)), objects)
    made = boxes.from_objects(moved, "cxcywhr", (8, 8), torch.float64)
    torch.testing.assert_close(made, given_boxes.repeat(2, 1))
    assert moved.row.tolist() == [0, 0, 1, 1]
    torch.testing.assert_close(moved.visible[:, 0], torch.full((4,), 0.5, dtype=torch.float64))  # both around x = 4
    assert int(boxes.kept(moved, Boxes("cxcywhr", min_size=0, min_visibility=0.6)).sum()) == 0


def test_mixup_unites_the_objects_by_their_shares():
    objects = boxes.to_objects(torch.tensor([[0, 0, 4, 4], [1, 1, 3, 3], [2, 2, 5, 5]]), [2, 1, 0], "xyxy", (8, 8))
    share = torch.tensor([0.75, 1.0, 0.5])
    mix = Mix(torch.tensor([1, 2, 0]), share)
    moved = move_objects(Plan((3, 3, 8, 8), (mix,)), objects).by_row()
    assert list(zip(moved.row.tolist(), moved.origin.tolist(), strict=True)) == [
        (0, 0), (0, 1), (0, 2), (1, 2), (2, 0), (2, 1),
    ]  # fmt: skip
    assert moved.visible[:, 0].tolist() == [0.75, 0.75, 0.25, 1.0, 0.5, 0.5]
    assert torch.equal(moved.points, objects.points[moved.origin])
    assert torch.equal(boxes.kept(moved, Boxes(min_visibility=0.4)), torch.tensor([1, 1, 0, 1, 1, 1]).bool())


# --- maps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [smartaug.CutMix, smartaug.Mosaic])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool, torch.float32, torch.int16])
def test_masks_are_pasted_as_their_images(make, dtype):
    images = noise((5, 1, 12, 10)) % 2 if dtype == torch.bool else noise((5, 1, 12, 10))
    step = smartaug.Mosaic(interpolation="nearest", fill=9, mask_fill=1) if make is smartaug.Mosaic else make()
    plan = planned(step, images.shape)
    expected = step.apply(images, plan)
    expected = torch.where(expected == 9, 1, expected) if make is smartaug.Mosaic else expected
    images = torch.where(images == 9, 10, images) if make is smartaug.Mosaic else images
    expected = step.apply(images, plan)
    expected = torch.where(expected == 9, 1, expected) if make is smartaug.Mosaic else expected
    moved = move_map(plan, images[:, 0].to(dtype), Mask())
    assert moved.dtype == dtype
    assert torch.equal(moved, expected[:, 0].to(dtype))


def test_soft_maps_are_blended_and_whole_numbers_are_not():
    plan = planned(smartaug.MixUp())
    (mix,) = plan.segments
    soft = torch.rand(5, 4, 12, 10, generator=torch.Generator().manual_seed(0))
    share = mix.share[:, None, None, None]
    expected = share * soft + (1 - share) * soft[mix.partner]
    for kind in (Mask(), Heatmap(), Image()):
        torch.testing.assert_close(move_map(plan, soft, kind), expected)
    with pytest.raises(ValueError, match=r"a mask of int64 have no blend; write CutMix.*one_hot\(mask, K\)"):
        move_map(plan, (soft * 9).long(), Mask())
    with pytest.raises(ValueError, match="motion has no blend; write CutMix"):
        move_map(plan, soft[:, :2], Flow())
    with pytest.raises(ValueError, match="leave Mosaic out with flow"):
        move_map(planned(smartaug.Mosaic()), soft[:, :2], Flow())
    untouched = planned(smartaug.MixUp(p=0.0))
    assert torch.equal(move_map(untouched, (soft * 9).long(), Mask()), (soft * 9).long())
    cut = planned(smartaug.CutMix())
    assert torch.equal(move_map(cut, soft[:, :2], Flow()), backends.execute(cut, soft[:, :2]))


def test_maps_of_half_the_size_follow():
    small = noise((4, 1, 6, 5))
    images = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    boxes_ = torch.tensor([[0, 2, 4, 6], [2, 2, 10, 8], [0, 0, 0, 0], [4, 0, 8, 10]])
    partner = torch.tensor([1, 2, 2, 0])
    cut = Plan(tuple(images.shape), (Mix(partner, torch.ones(4), boxes_),))
    mosaic = planned(smartaug.Mosaic(centre=(1, 1), scale=(0.5, 0.5), interpolation="nearest"), images.shape)
    window = planned(smartaug.Mosaic(centre=(1, 1), scale=(1, 1), interpolation="nearest"), (4, 1, 12, 8))
    for plan in (cut, mosaic):
        expected = backends.execute(plan, images)[:, :, ::2, ::2]
        if plan is mosaic:  # four whole images: the map has the same four at half the size
            expected = backends.execute(
                planned(smartaug.Mosaic(centre=(1, 1), scale=(0.5, 0.5), interpolation="nearest"), small.shape), small
            )
        assert torch.equal(move_map(plan, small, Mask()), expected)
    small = small[..., :4]
    expected = backends.execute(window, small.repeat_interleave(2, 2).repeat_interleave(2, 3))[:, :, ::2, ::2]
    assert torch.equal(move_map(window, small, Mask()), expected)


# --- CopyPaste -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "most"), [(0.5, None), (1.0, None), (0.8, 1), (0.0, None)])
@settings(max_examples=20, deadline=None)
@given(scenes())
def test_copy_paste_is_done_object_by_object(share, most, scene):
    shape, objects, masks, seed = scene
    images, step = noise(shape, seed), smartaug.CopyPaste(share, most=most, p=0.8)
    plan = planned(step, shape, seed)
    (open_segment,) = plan.segments
    whole = settled(plan, masks, objects.row)
    expected, objects_left = slow.copy_paste(
        images, masks, objects.row, open_segment.partner, open_segment.key, share, most
    )
    assert torch.equal(step.apply(images, whole), expected)
    moved = move_objects(whole, objects)
    everywhere = torch.arange(len(moved))
    own = move_instances(whole, masks, objects.row, everywhere)
    assert list(zip(moved.origin.tolist(), moved.row.tolist(), strict=True)) == [(o, r) for o, r, _ in objects_left]
    for place, (origin, _, mask) in enumerate(objects_left):
        assert torch.equal(own[place], mask)
        share_left = mask.sum().double() / masks[origin].sum()
        torch.testing.assert_close(moved.visible[place, 0], share_left, rtol=0, atol=1e-12)
    kept, _, xyxy = left_over(moved, shape[2:])
    assert kept.tolist() == [place for place, (_, _, mask) in enumerate(objects_left) if mask.any()]
    assert [slow.box_around(objects_left[place][2]) for place in kept.tolist()] == xyxy.tolist()


def test_copy_paste_between_other_steps():
    """What is pasted is pasted as it is then: flipped, cropped, in a mosaic; and moves on with all else."""
    shape = (4, 3, 12, 12)
    generator = torch.Generator().manual_seed(1)
    images, counts = noise(shape), [2, 1, 0, 3]
    masks = torch.zeros(6, 12, 12, dtype=torch.bool)
    for mask in masks:
        top, left = torch.randint(0, 8, (2,), generator=generator).tolist()
        mask[top : top + 5, left : left + 4] = True
        mask[top + 1, left] = False
    row = torch.arange(4).repeat_interleave(torch.tensor(counts))
    chain = smartaug.Compose(
        [smartaug.Flip(), smartaug.Mosaic(scale=(1, 1), p=0.5), smartaug.CopyPaste(1.0), smartaug.PadCrop(2)]
    )
    whole = settled(planned(chain, shape), masks, row)
    made = chain.apply(images, whole)
    points = Objects.of(torch.zeros(6, 1, 2), counts)
    moved = move_objects(whole, points)
    own = move_instances(whole, masks, row, torch.arange(len(moved)))
    seen = slow.pictured(lambda batch: move_map(whole, batch, Mask(fill=0)), masks, row, shape)
    united = torch.zeros_like(seen)
    for place in range(len(moved)):
        united[moved.origin[place], moved.row[place]] |= own[place]
    assert bool((united | ~seen).all())  # a pixel of an object is one of its mask ...
    assert made.shape == images.shape
    last = whole.segments[-2]
    assert int(last.pasted.sum()) > 0
    assert len(brought(last, torch.zeros(len(last.left) - len(last.source), dtype=torch.int64)).row) == len(last.left)


def test_copies_of_copy_paste_draw_the_same():
    step, index = smartaug.CopyPaste(0.7, most=2, p=0.6), torch.arange(5)
    masks, row, images = noise((9, 12, 10)) > 99, torch.arange(9) % 5, noise()
    expected = step.apply(images, settled(step.plan(SHAPE, index=index, seed=1), masks, row))
    before = torch.get_rng_state()
    for copied in (pickle.loads(pickle.dumps(step)), copy.deepcopy(step), smartaug.from_dict(smartaug.to_dict(step))):
        plan = settled(copied.plan(SHAPE, index=index, seed=1), masks, row)
        for form in (images, images.contiguous(memory_format=torch.channels_last), images.float()):
            given_form = form.clone()
            assert torch.equal(copied.apply(form, plan).to(torch.uint8), expected)
            assert torch.equal(form, given_form)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(expected, images)


def test_only_some_samples_get_copy_paste():
    step = smartaug.augment.RandomApply([smartaug.CopyPaste(1.0)], 0.5)
    shape, row = (16, 3, 6, 6), torch.arange(16)
    plan = planned(step, shape)
    masks = torch.ones(16, 6, 6, dtype=torch.bool)
    images = noise(shape)
    made = step.apply(images, settled(plan, masks, row))
    drawn = plan.trace.ops[:, 0] == plan.trace.names.index("CopyPaste")
    partner = plan.segments[0].partner
    assert 2 < int(drawn.sum()) < 14
    assert torch.equal(made[~drawn], images[~drawn])
    assert torch.equal(made[drawn], images[partner[drawn]])


def test_points_under_what_is_pasted_are_covered():
    masks = torch.zeros(2, 6, 6, dtype=torch.bool)
    masks[0, 0:4, 0:4], masks[1, 2:6, 2:6] = True, True
    plan = settled(planned(smartaug.CopyPaste(1.0), (2, 3, 6, 6)), masks, torch.tensor([0, 1]))
    points = torch.tensor([[[0.0, 0, 2], [3, 3, 2]], [[5, 5, 2], [2, 2, 1]]])
    kind = Keypoints()
    moved = move_objects(plan, keypoints.to_objects(points, [1, 1], kind))
    made = keypoints.from_objects(moved, points, kind)
    assert moved.row.tolist() == [0, 1, 0, 1]
    assert made[..., 2].tolist() == [[2, 0], [2, 0], [2, 1], [2, 2]]
    half = move_map(plan, torch.tensor([1, 2]).view(2, 1, 1).expand(2, 3, 3), Mask())
    assert half[0].tolist() == [[1, 1, 1], [1, 2, 2], [1, 2, 2]]


def test_copy_paste_without_masks_says_what_to_write():
    step, images = smartaug.CopyPaste(), noise()
    for use in (
        lambda: step(images),
        lambda: smartaug.Compose([smartaug.Flip(), step])(images),
        lambda: move_map(planned(step), images[:, 0], Mask()),
        lambda: move_objects(planned(step), boxes.to_objects(torch.zeros(1, 4), [1, 0, 0, 0, 0], "xyxy", SHAPE[2:])),
    ):
        with pytest.raises(ValueError, match=r'CopyPaste pastes objects by their instance masks.*"masks": "mask"'):
            use()
    with pytest.raises(ValueError, match=r"one mask an object of the images' size, \(1, 12, 10\), got \(1, 6, 5\)"):
        settled(planned(step), torch.ones(1, 6, 5), torch.tensor([0]))
    plan = settled(planned(step), torch.ones(2, 12, 10), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="masks that CopyPaste went by are of 2 objects, and there are 1 boxes"):
        move_objects(plan, boxes.to_objects(torch.zeros(1, 4), [1, 0, 0, 0, 0], "xyxy", SHAPE[2:]))
    for wrong, words in (({"share": 2}, "share must be a probability"), ({"most": 0}, "most must be an integer")):
        with pytest.raises(ValueError, match=words):
            smartaug.CopyPaste(**wrong)


@pytest.mark.parametrize("make", [smartaug.Mosaic, smartaug.CopyPaste])
def test_there_are_no_moments_of_one_image(make):
    with pytest.raises(TypeError, match=f"{make.__name__} mixes each image with others"):
        of(make(), noise((2, 3, 8, 8)))


# --- samples that a stage leaves alone -------------------------------------------------------------------------------


def scene_of(number, height=20, width=24):
    """A picture whose boxes lie partly outside, are tiny or without an area, and whose masks may be empty."""
    generator = torch.Generator().manual_seed(number)
    boxes = torch.tensor([[-3.0, 4, 6, 9], [2, 2, 2.3, 2.4], [30, 30, 40, 40], [5, 6, 15, 16]])[: 1 + number % 4]
    masks = torch.zeros(len(boxes), height, width, dtype=torch.uint8)
    masks[-1:, 6:16, 5:15] = 1
    points = torch.rand(len(boxes), 2, 3, generator=generator) * 30 - 4
    heat = torch.rand(2, height, width, generator=generator)
    heat[0, number % height] = float("nan")
    return {
        "image": torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator),
        "heat": heat,
        "target": {"boxes": boxes, "labels": torch.arange(len(boxes)) + 10 * number, "masks": masks, "points": points},
    }


def gathered(samples):
    return {
        "image": torch.stack([one["image"] for one in samples]),
        "heat": torch.stack([one["heat"] for one in samples]),
        "target": [one["target"] for one in samples],
    }


@pytest.mark.parametrize("before", [[], [smartaug.Flip(0.0), smartaug.Affine(0)], [smartaug.Flip(0.5)]], ids=len)
@pytest.mark.parametrize("name", ["CutMix", "MixUp", "Mosaic", "CopyPaste", "RandomApply"])
def test_what_is_not_mixed_stays_bit_for_bit(name, before):
    step = {
        "CutMix": lambda: smartaug.CutMix(p=0.5),
        "MixUp": lambda: smartaug.MixUp(p=0.5),
        "Mosaic": lambda: smartaug.Mosaic(p=0.5),
        "CopyPaste": lambda: smartaug.CopyPaste(1.0, p=0.5),
        "RandomApply": lambda: smartaug.augment.RandomApply([smartaug.Mosaic(), smartaug.Flip(1.0)], 0.5),
    }[name]()
    scenes = [scene_of(number) for number in range(16)]
    if name in ("Mosaic", "RandomApply") or len(before) == 2:  # interpolation, where 0 · NaN is NaN
        for scene in scenes:
            scene["heat"].nan_to_num_(0.5)
    follow = {"boxes": smartaug.Boxes(min_size=1, min_visibility=0.2), "points": "keypoints", "masks": "mask"}
    follow["heat"] = "heatmap"
    loader = smartaug.DataLoader(
        scenes, 16, augment=[*before, step, smartaug.ColorJitter(0.0)], follow=follow, seed=1, collate_fn=gathered
    )
    batch = next(iter(loader))
    alone = [row for row, scene in enumerate(scenes) if torch.equal(batch["image"][row], scene["image"])]
    assert 2 <= len(alone) <= 13
    for row in alone:
        assert torch.equal(batch["heat"][row].view(torch.int32), scenes[row]["heat"].view(torch.int32))
        for key, value in scenes[row]["target"].items():
            assert torch.equal(batch["target"][row][key], value), (row, key)
    others = [row for row in range(16) if row not in alone]
    assert any(len(batch["target"][row]["boxes"]) != len(scenes[row]["target"]["boxes"]) for row in others)
    for row in others:
        assert bool((batch["target"][row]["boxes"] >= 0).all())
        assert len({len(value) for value in batch["target"][row].values()}) == 1
