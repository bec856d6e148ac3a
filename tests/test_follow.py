"""What follows the images: in every structure that batches have, sample by sample as in the slow way."""

import re
from dataclasses import dataclass
from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import strategies as st
from torch.utils.data import DataLoader as TorchDataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

import smartaug
from tests import reference_targets
from tests.data import add_constant

N, HEIGHT, WIDTH = 6, 18, 22
MOVES = smartaug.Compose(
    [smartaug.Flip(), smartaug.augment.Affine(25, scale=(0.8, 1.2)), smartaug.RandomResizedCrop(14)]
)
GENERATOR = torch.Generator().manual_seed(5)


@dataclass
class Sample:
    """One picture and all that lies in it."""

    image: torch.Tensor
    boxes: torch.Tensor  # xyxy
    labels: torch.Tensor
    masks: torch.Tensor  # one a box
    points: torch.Tensor  # (n, 2, 3), two of each box
    mask: torch.Tensor


def sample(number, height=HEIGHT, width=WIDTH, objects=None):
    objects = number % 4 if objects is None else objects
    start = torch.rand(objects, 2, generator=GENERATOR) * torch.tensor([width - 6.0, height - 6.0])
    ends = start + 2 + torch.rand(objects, 2, generator=GENERATOR) * 4
    masks = torch.zeros(objects, height, width, dtype=torch.uint8)
    for mask, (left, top), (right, bottom) in zip(masks, start.long(), ends.long(), strict=True):
        mask[top:bottom, left:right] = 1
    points = torch.stack([start, ends], 1)
    return Sample(
        torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=GENERATOR),
        torch.cat([start, ends], 1),
        torch.arange(objects) + 10 * number,
        masks,
        torch.cat([points, torch.full((objects, 2, 1), 2.0)], 2),
        torch.randint(0, 5, (height, width), generator=GENERATOR),
    )


SAMPLES = [sample(number) for number in range(N)]
UNEQUAL = [sample(number, *[(18, 22), (14, 30), (18, 22), (25, 25)][number % 4]) for number in range(N)]


def slow(given, index, stage=MOVES, kind=None):
    """What becomes of one sample: augmented alone, and everything moved one point, one pixel at a time."""
    kind = kind or smartaug.Boxes()
    plan = stage.plan((1, *given.image.shape), index=torch.tensor([index]), epoch=0, seed=0)
    boxes, kept = [], []
    for number, box in enumerate(given.boxes.tolist()):
        (left, top, right, bottom), share = reference_targets.box(plan, 0, *box)
        wide, tall = right - left, bottom - top
        enough = wide >= kind.min_size and tall >= kind.min_size and wide * tall >= kind.min_area
        if enough and share > 0 and share >= kind.min_visibility:
            boxes.append([left, top, right, bottom])
            kept.append(number)
    points = given.points[kept].clone()
    for point in points.view(-1, 3):
        x, y = (point[:2] + 0.5).tolist()
        point[2] *= reference_targets.seen(plan, 0, x, y)
        point[:2] = torch.tensor(reference_targets.point(plan, 0, x, y)) - 0.5
    moved = [torch.tensor(reference_targets.mask(plan, 0, mask.tolist(), 0)) for mask in given.masks[kept]]
    size = plan.output_shape[2:]
    return Sample(
        stage.apply(given.image[None], plan)[0],
        torch.tensor(boxes).reshape(-1, 4),
        given.labels[kept],
        torch.stack(moved).to(torch.uint8) if moved else torch.zeros(0, *size, dtype=torch.uint8),
        points,
        torch.tensor(reference_targets.mask(plan, 0, given.mask.tolist(), 0)),
    )


def check(found, expected):
    """Compare what a form holds of a sample."""
    for name, value in found.items():
        right = getattr(expected, name)
        value = value.as_subclass(torch.Tensor)
        assert value.shape == right.shape, name
        if name in ("boxes", "points"):
            torch.testing.assert_close(value.double(), right.double(), atol=2e-4, rtol=0)
        else:
            assert torch.equal(value, right), name


# --- forms: how a batch is collated, what is said of it, and how a sample is read from it again -----------------------


def stacked(part):
    return lambda samples: torch.stack([getattr(one, part) for one in samples])


def detection(samples):
    return [
        {name: getattr(one, name) for name in ("boxes", "labels", "masks")} | {"points": one.points} for one in samples
    ]


def as_tv(samples):
    made = []
    for one in samples:
        size = tuple(one.image.shape[-2:])
        boxes = tv_tensors.BoundingBoxes(one.boxes, format="XYXY", canvas_size=size)
        made.append({"boxes": boxes, "labels": one.labels, "masks": tv_tensors.Mask(one.masks)})
    return made


def padded(samples):
    most = max(len(one.boxes) for one in samples) + 1
    batch = {
        "image": stacked("image")(samples),
        "boxes": torch.full((len(samples), most, 4), -1.0),
        "labels": torch.full((len(samples), most), -100),
        "real": torch.zeros(len(samples), most, dtype=torch.bool),
        "points": torch.zeros(len(samples), most, 2, 3),
    }
    for row, one in enumerate(samples):
        count = len(one.boxes)
        batch["boxes"][row, :count], batch["labels"][row, :count] = one.boxes, one.labels
        batch["points"][row, :count], batch["real"][row, :count] = one.points, True
    return batch


def of_padded(batch, row):
    real = batch["real"][row]
    found = {name: batch[name][row][real] for name in ("boxes", "points")}
    return {
        "image": batch["image"][row],
        "labels": torch.Tensor.as_subclass(batch["labels"], torch.Tensor)[row][real],
    } | found


@dataclass(frozen=True)
class Record:
    """A batch as a dataclass object."""

    images: Any
    boxes: Any
    classes: Any


FORMS = {
    "targets in a list of dicts": (
        lambda s: (stacked("image")(s), detection(s)),
        {"boxes": "xyxy", (1, "points"): "keypoints", "masks": "mask"},
        lambda b, i: {"image": b[0][i], **b[1][i]},
    ),
    "tuples of lists": (
        lambda s: (tuple(one.image for one in s), tuple(detection(s))),
        {(1, "boxes"): smartaug.Boxes("xyxy"), (1, "points"): smartaug.Keypoints(), (1, "masks"): "mask"},
        lambda b, i: {"image": b[0][i], **b[1][i]},
    ),
    "tv_tensors": (
        lambda s: (stacked("image")(s), as_tv(s)),
        None,
        lambda b, i: {"image": b[0][i], **b[1][i]},
    ),
    "lists beside each other": (
        lambda s: (stacked("image")(s), [one.boxes for one in s], [one.labels for one in s]),
        {1: "xyxy", 2: "object"},
        lambda b, i: {"image": b[0][i], "boxes": b[1][i], "labels": b[2][i]},
    ),
    "a dict of lists": (
        lambda s: {"image": stacked("image")(s), "boxes": [o.boxes for o in s], "labels": [o.labels for o in s]},
        {"boxes": "xyxy"},
        lambda b, i: {"image": b["image"][i], "boxes": b["boxes"][i], "labels": b["labels"][i]},
    ),
    "a dataclass": (
        lambda s: Record(stacked("image")(s), [o.boxes for o in s], [o.labels for o in s]),
        {"boxes": "xyxy"},
        lambda b, i: {"image": b.images[i], "boxes": b.boxes[i], "labels": b.classes[i]},
    ),
    "nested": (
        lambda s: (stacked("image")(s), {"objects": {"boxes": [o.boxes for o in s], "ids": [o.labels for o in s]}}),
        {(1, "objects", "boxes"): "xyxy"},
        lambda b, i: {"image": b[0][i], "boxes": b[1]["objects"]["boxes"][i], "labels": b[1]["objects"]["ids"][i]},
    ),
    "padded": (padded, {"boxes": smartaug.Boxes("xyxy", valid="real"), "points": "keypoints"}, of_padded),
    "a mask by name": (
        lambda s: {"image": stacked("image")(s), "mask": stacked("mask")(s)},
        None,
        lambda b, i: {"image": b["image"][i], "mask": b["mask"][i]},
    ),
    "a mask by position": (
        lambda s: (stacked("image")(s), stacked("mask")(s)),
        {1: "mask"},
        lambda b, i: {"image": b[0][i], "mask": b[1][i]},
    ),
    "a mask before its image": (
        lambda s: [stacked("mask")(s)[:, None], stacked("image")(s)],
        {0: "mask"},
        lambda b, i: {"image": b[1][i], "mask": b[0][i, 0]},
    ),
    "masks in a list": (
        lambda s: {"images": [one.image for one in s], "segmentation": [one.mask for one in s]},
        None,
        lambda b, i: {"image": b["images"][i], "mask": b["segmentation"][i]},
    ),
}
LISTED = ["tuples of lists", "masks in a list"]  # whose images are in a list, so that they may have several sizes


@pytest.mark.parametrize("form", FORMS)
def test_every_sample_is_what_the_slow_way_makes_of_it(form):
    collate, follow, read = FORMS[form]
    loader = smartaug.DataLoader(SAMPLES, N, collate_fn=collate, augment=MOVES, follow=follow, seed=0)
    batch = next(iter(loader))
    for row, given in enumerate(SAMPLES):
        check(read(batch, row), slow(given, row))
    assert type(batch) is type(collate(SAMPLES))


@pytest.mark.parametrize("form", LISTED)
@pytest.mark.parametrize("size", [1, 4, N])
def test_images_of_unequal_size_are_augmented_as_each_alone(form, size):
    collate, follow, read = FORMS[form]
    loader = smartaug.DataLoader(UNEQUAL, size, collate_fn=collate, augment=MOVES, follow=follow, seed=0)
    for start, batch in zip(range(0, N, size), loader, strict=True):
        for row, given in enumerate(UNEQUAL[start : start + size]):
            check(read(batch, row), slow(given, start + row))


@pytest.mark.parametrize("form", ["targets in a list of dicts", "padded", "a mask by name"])
def test_wrap_and_collate_follow_as_well(form):
    collate, follow, read = FORMS[form]
    given = {"augment": MOVES, "follow": follow, "seed": 0}
    wrapped = next(iter(smartaug.wrap([collate(SAMPLES)], **given)))
    stock = TorchDataLoader(SAMPLES, N, collate_fn=smartaug.Collate(collate, **given))
    pending = next(iter(stock)).to("cpu")
    for row, given in enumerate(SAMPLES):
        expected = slow(given, row)
        check(read(wrapped, row), expected)
        check(read(pending, row), expected)


# --- parts of a batch: coresets, plain passes, states -----------------------------------------------------------------


@pytest.mark.parametrize("apply", ["augment", "append"])
@pytest.mark.parametrize("form", ["targets in a list of dicts", "tuples of lists", "padded", "a mask by name"])
def test_samples_that_a_coreset_leaves_alone_keep_their_targets_at_the_size_of_the_others(apply, form):
    collate, follow, read = FORMS[form]
    coreset = smartaug.Coreset(0.5, select=smartaug.coreset.RandomSubset(), apply=apply, warmup=0)
    loader = smartaug.DataLoader(SAMPLES, N, collate_fn=collate, augment=MOVES, follow=follow, seed=0, coreset=coreset)
    batch = next(iter(loader))
    selected = loader._pipeline.selecting.selections.of(0).holds(torch.arange(N)).nonzero()[:, 0].tolist()
    assert len(selected) == N // 2
    resized = smartaug.Compose([smartaug.RandomResizedCrop(14, scale=(1.0, 1.0), ratio=(WIDTH / HEIGHT,) * 2)])
    for row, given in enumerate(SAMPLES):
        found = read(batch, row)
        whole = slow(given, row, resized)
        if row in selected and apply == "augment":
            check(found, slow(given, row))
        else:
            check(
                {name: value for name, value in found.items() if name in ("boxes", "labels", "points", "mask")}, whole
            )
    if apply == "append":
        for place, row in enumerate(selected):
            copy = read(batch, N + place)
            plan = MOVES.plan((1, *SAMPLES[row].image.shape), index=torch.tensor([row]), epoch=0, seed=0, view=1)
            assert torch.equal(copy["image"], MOVES.apply(SAMPLES[row].image[None], plan)[0])
            for number, box in enumerate(copy.get("boxes", torch.zeros(0, 4)).tolist()):
                origin = int(copy["labels"][number]) - 10 * row
                right, _ = reference_targets.box(plan, 0, *SAMPLES[row].boxes[origin].tolist())
                assert box == pytest.approx(right, abs=2e-4)


def test_plain_passes_resize_what_follows():
    collate, follow, read = FORMS["tuples of lists"]
    loader = smartaug.DataLoader(UNEQUAL, 3, collate_fn=collate, augment=MOVES, follow=follow, seed=0)
    with loader.plain():
        rows = [read(batch, row) for batch in loader for row in range(3)]
    for found, given in zip(rows, UNEQUAL, strict=True):
        height, width = given.image.shape[-2:]
        scale = torch.tensor([14 / width, 14 / height]).repeat(2)
        kept = ((given.boxes * scale)[:, 2:] - (given.boxes * scale)[:, :2] >= 1).all(1)
        torch.testing.assert_close(found["boxes"], (given.boxes * scale)[kept])
        assert torch.equal(found["labels"], given.labels[kept])


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.integers(0, 99))
def test_padded_boxes_are_those_of_lists_whatever_their_number(counts, seed):
    samples = [sample(number, objects=objects) for number, objects in enumerate(counts)]
    made = []
    for form in ("lists beside each other", "padded"):
        collate, follow, read = FORMS[form]
        batch = next(iter(smartaug.wrap([collate(samples)], augment=MOVES, follow=follow, seed=seed)))
        made.append([read(batch, row) for row in range(len(samples))])
    for listed, of_padded_ones in zip(*made, strict=True):
        assert torch.equal(listed["boxes"], of_padded_ones["boxes"])
        assert torch.equal(listed["labels"], of_padded_ones["labels"])


def test_the_users_batch_is_left_alone_and_what_did_not_move_stays_bit_for_bit():
    collate, follow, _ = FORMS["targets in a list of dicts"]
    odd = sample(0, objects=3)
    odd.boxes[0] = torch.tensor([-3.5, 2.0, 4.0, 2.1])  # sticks out, and is thin: where nothing moves it is not judged
    given = collate([odd] * N)
    before = odd.boxes.clone()
    batch = next(iter(smartaug.wrap([given], augment=smartaug.Flip(), follow=follow, seed=3)))
    flipped = [not torch.equal(image, odd.image) for image in batch[0]]
    assert 0 < sum(flipped) < N
    for row, moved in enumerate(flipped):
        assert torch.equal(batch[1][row]["boxes"], odd.boxes) != moved
        assert len(batch[1][row]["labels"]) == (2 if moved else 3)
    assert torch.equal(given[1][0]["boxes"], before)
    assert given[1][0].keys() == batch[1][0].keys()


def test_follow_is_part_of_a_state_and_of_the_table():
    collate, follow, _ = FORMS["a mask by position"]
    loader = smartaug.DataLoader(SAMPLES, N, collate_fn=collate, augment=MOVES, follow=follow, seed=0)
    assert loader.follow is follow
    assert "follows: 1" in loader.explain()
    next(iter(loader))
    assert "follows: batch[1]" in loader.explain()
    other = smartaug.DataLoader(SAMPLES, N, collate_fn=collate, augment=MOVES, follow={1: "heatmap"}, seed=0)
    with pytest.raises(ValueError, match="follow="):
        other.load_state_dict(loader.state_dict())
    for given in (follow, {1: smartaug.Mask()}):
        same = smartaug.DataLoader(SAMPLES, N, collate_fn=collate, augment=MOVES, follow=given, seed=0)
        same.load_state_dict(loader.state_dict())


# --- kinds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["xyxy", "xywh", "cxcywh", "yolo"])
def test_every_format_of_boxes_comes_back_in_its_own(word):
    left, top, right, bottom = (column for one in SAMPLES[3:4] for column in one.boxes.unbind(1))
    sides = torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])

    def made(left, top, right, bottom):
        middle = torch.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], 1)
        return {
            "xyxy": torch.stack([left, top, right, bottom], 1),
            "xywh": torch.stack([left, top, right - left, bottom - top], 1),
            "cxcywh": middle,
            "yolo": middle / sides,
        }[word]

    image = SAMPLES[3].image[None]
    batch = [(image, [made(left, top, right, bottom)])]
    _, (boxes,) = next(iter(smartaug.wrap(batch, augment=smartaug.Flip(1.0), follow={1: word}, inputs=0)))
    torch.testing.assert_close(boxes, made(WIDTH - right, top, WIDTH - left, bottom))


def corners(box):
    """The corners of a tv_tensor of one box, wherever it begins, in one list."""
    if len(box[0]) == 4:
        box = v2.functional.convert_bounding_box_format(box, new_format="XYXY")
        left, top, right, bottom = box[0].tolist()
        box = torch.tensor([[left, top, right, top, right, bottom, left, bottom]])
        return torch.tensor(sorted(box.view(4, 2).tolist())).flatten().tolist()
    box = v2.functional.convert_bounding_box_format(box, new_format="XYXYXYXY")
    return torch.tensor(sorted(box.round(decimals=4).view(4, 2).tolist())).flatten().tolist()


def test_tv_tensors_of_every_kind_are_known():
    size = (8, 10)
    boxes = {
        "XYXY": [[1.0, 2.0, 4.0, 6.0]], "XYWH": [[1.0, 2.0, 3.0, 4.0]], "CXCYWH": [[2.5, 4.0, 3.0, 4.0]],
        "XYWHR": [[1.0, 2.0, 3.0, 4.0, 0.0]], "CXCYWHR": [[2.5, 4.0, 3.0, 4.0, 0.0]],
        "XYXYXYXY": [[1.0, 2.0, 4.0, 2.0, 4.0, 6.0, 1.0, 6.0]],
    }  # fmt: skip
    target: dict[str, Any] = {
        name: tv_tensors.BoundingBoxes(torch.tensor(value), format=name, canvas_size=size)
        for name, value in boxes.items()
        if name in tv_tensors.BoundingBoxFormat.__members__  # rotated ones since torchvision 0.23
    }
    if hasattr(tv_tensors, "KeyPoints"):
        target["points"] = tv_tensors.KeyPoints(torch.tensor([[1.0, 2.0], [3.0, 3.0]]), canvas_size=size)
    target["segments"] = tv_tensors.Mask(torch.eye(8, 10).long())
    image = tv_tensors.Image(torch.rand(3, *size))
    images, (moved,) = next(iter(smartaug.wrap([([image], [target])], augment=smartaug.Flip(1.0), inputs=0)))
    assert isinstance(images[0], tv_tensors.Image)
    for name in boxes.keys() & target.keys():
        expected, made = v2.functional.horizontal_flip(target[name]), moved[name]
        assert made.format == target[name].format
        assert made.canvas_size == size
        assert corners(made) == pytest.approx(corners(expected))
    if "points" in target:
        assert moved["points"].tolist() == v2.functional.horizontal_flip(target["points"]).tolist()
    assert torch.equal(moved["segments"], v2.functional.horizontal_flip(target["segments"]))
    assert isinstance(moved["segments"], tv_tensors.Mask)


def test_samples_without_objects_may_say_so_in_any_shape():
    targets = [{"boxes": torch.zeros(0), "labels": torch.zeros(0), "points": torch.zeros(0)}] * 2
    follow = {"boxes": "xyxy", "points": "keypoints"}
    _, made = next(iter(smartaug.wrap([(IMAGES[:2], targets)], augment=smartaug.Flip(1.0), follow=follow)))
    assert [len(value) for one in made for value in one.values()] == [0] * 6
    targets = [{"boxes": BOXES[:1], "labels": torch.ones(1).long(), "points": torch.ones(1, 4, 2)}, targets[0]]
    _, made = next(iter(smartaug.wrap([(IMAGES[:2], targets)], augment=smartaug.Flip(1.0), follow=follow)))
    assert [tuple(value.shape) for value in made[1].values()] == [(0, 4), (0,), (0, 4, 2)]


def test_settings_of_boxes_decide_what_is_dropped():
    for kind in (smartaug.Boxes(min_visibility=0.6), smartaug.Boxes(min_area=8.0), smartaug.Boxes(min_size=2.5)):
        collate, _, read = FORMS["lists beside each other"]
        follow = {1: kind, 2: "object"}
        batch = next(iter(smartaug.DataLoader(SAMPLES, N, collate_fn=collate, augment=MOVES, follow=follow, seed=0)))
        for row, given in enumerate(SAMPLES):
            check(read(batch, row), slow(given, row, kind=kind))


def test_a_box_a_sample_is_never_dropped():
    image = torch.zeros(2, 3, 8, 8)
    boxes = torch.tensor([[1.0, 1.0, 3.0, 3.0], [6.0, 6.0, 8.0, 8.0]])
    crop = smartaug.RandomResizedCrop(4, scale=(0.05, 0.06))
    moved = torch.cat(
        [
            next(iter(smartaug.wrap([(image, boxes)], augment=crop, follow={1: "xyxy"}, seed=seed)))[1].plain
            for seed in range(9)
        ]
    )
    assert moved.shape == (18, 4)
    sides = moved[:, 2:] - moved[:, :2]
    assert bool((sides >= 0).all())
    assert bool(((moved >= 0) & (moved <= 4)).all())
    assert bool((sides.prod(1) == 0).any())  # cut off by the image's border; nothing of it is left


def test_maps_of_every_kind_and_size_follow():
    images = torch.stack([one.image for one in SAMPLES]).float() / 255
    half = torch.randint(0, 9, (N, HEIGHT // 2, WIDTH // 2), generator=GENERATOR)
    flow = torch.randn(N, 2, HEIGHT, WIDTH, generator=GENERATOR)
    batch = {"image": images, "right": images.clone(), "half": half, "heat": images[:, :2].clone(), "flow": flow}
    follow = {"right": "image", "half": "mask", "heat": "heatmap", "flow": "flow"}
    tones = smartaug.augment.Invert(1.0)
    made = next(iter(smartaug.wrap([batch], augment=[smartaug.Flip(1.0), tones], follow=follow)))
    torch.testing.assert_close(made["right"], images.flip(3))  # moved, and not recoloured
    torch.testing.assert_close(made["image"], 1 - images.flip(3))
    assert torch.equal(made["half"], half.flip(2))
    torch.testing.assert_close(made["heat"], images[:, :2].flip(3))
    torch.testing.assert_close(made["flow"], flow.flip(3) * torch.tensor([-1.0, 1.0])[:, None, None])


@pytest.mark.parametrize("form", ["stack", "plane", "list"])
def test_disparity_goes_with_both_pictures_of_a_pair(form):
    """Constant motion along x: d pixels before, d times the stretch along x behind, each sample by its own draw."""
    pairs = [
        {"left": one.image, "right": one.image.roll(-2, 2), "disparity": torch.full((HEIGHT, WIDTH), 2.0)}
        for one in SAMPLES
    ]
    for number, pair in enumerate(pairs):
        pair["disparity"][0, 0] = 0.0  # no measurement
        if form == "plane" or (form == "list" and number):
            pair["disparity"] = pair["disparity"][None]

    def lists(samples):
        return {name: [one[name] for one in samples] for name in samples[0]}

    stage = smartaug.augment.Affine(0, (0.1, 0.1), (0.7, 1.4), (-9, 9), interpolation="bilinear")
    settings = {"inputs": "left", "follow": {"right": "image", "disparity": "disparity"}, "seed": 0}
    if form != "list":
        settings |= {"inputs": ["left", "right"], "views": "same", "follow": {"disparity": "disparity"}}
    collate = lists if form == "list" else None
    batch = next(iter(smartaug.DataLoader(pairs, N, augment=stage, collate_fn=collate, **settings)))
    plan = stage.plan((N, 3, HEIGHT, WIDTH), index=torch.arange(N), epoch=0, seed=0)
    assert torch.equal(torch.stack(list(batch["right"])), stage.apply(torch.stack([p["right"] for p in pairs]), plan))
    for row, pair in enumerate(pairs):
        made = batch["disparity"][row]
        assert made.shape == pair["disparity"].shape
        stretch = 1.0 / float(plan.segments[0].matrix[row, 0, 0])
        values = made[made > 0]
        torch.testing.assert_close(values, torch.full_like(values, 2.0 * stretch))
        kept = reference_targets.mask(plan, row, pair["disparity"].view(HEIGHT, WIDTH).tolist(), 0.0)
        assert torch.equal(made.view(HEIGHT, WIDTH) > 0, torch.tensor(kept) > 0)
    with pytest.raises(ValueError, match=r"mirrors left and right.*Flip\(vertical=True\)"):
        next(iter(smartaug.DataLoader(pairs, N, augment=smartaug.Flip(1.0), collate_fn=collate, **settings)))


def test_frames_of_a_clip_share_one_draw_and_what_lies_in_them_follows():
    clips = torch.randint(0, 256, (N, 4, 3, HEIGHT, WIDTH), dtype=torch.uint8, generator=GENERATOR)
    masks = torch.randint(0, 5, (N, 4, HEIGHT, WIDTH), generator=GENERATOR)
    stages = smartaug.Compose([MOVES, smartaug.RandAugment(magnitude=4)])
    frames = [{"clip": clip, "mask": mask} for clip, mask in zip(clips, masks, strict=True)]
    loader = smartaug.DataLoader(frames, N, augment=stages, views="same", inputs="clip", seed=0)
    batch = next(iter(loader))
    plan = stages.plan((N, 3, HEIGHT, WIDTH), index=torch.arange(N), epoch=0, seed=0)
    for frame in range(4):
        assert torch.equal(batch["clip"][:, frame], stages.apply(clips[:, frame], plan))
        expected = [reference_targets.mask(plan, row, masks[row, frame].tolist(), 0) for row in range(2)]
        assert batch["mask"][:2, frame].tolist() == expected
    listed = [{"clip": list(clip), "mask": mask} for clip, mask in zip(clips, masks, strict=True)]
    again = next(iter(smartaug.DataLoader(listed, N, augment=stages, views="same", inputs="clip", seed=0)))
    assert torch.equal(torch.stack(again["clip"], 1), batch["clip"])
    assert torch.equal(again["mask"], batch["mask"])


# --- what is refused, and what stays ----------------------------------------------------------------------------------

IMAGES = torch.zeros(4, 3, 8, 8)
BOXES = torch.tensor([[1.0, 1.0, 5.0, 5.0]]).expand(4, 4).clone()
LISTS = [BOXES[:n] for n in (1, 2, 3, 0)]
DICTS = [{"boxes": boxes, "labels": torch.arange(len(boxes))} for boxes in LISTS]


def refused(batch, **keywords):
    keywords = {"augment": smartaug.Flip(1.0), "seed": 0, **keywords}
    with pytest.raises((ValueError, TypeError)) as error:
        next(iter(smartaug.wrap([batch], **keywords)))
    return str(error.value)


REFUSED = {
    "a leaf that is not there": (
        (IMAGES, DICTS),
        {"bboxes": "xyxy"},
        r"names 'bboxes', which is not in the batch.*\(1, 'boxes'\)",
    ),
    "a path that is not there": ((IMAGES, DICTS), {(1, "bboxes"): "xyxy"}, r"there is no 'bboxes' in batch\[1\]\[0\]"),
    "a dict": ((IMAGES, DICTS), {1: "xyxy"}, r"which is a dict; name one of its leaves: \(1, 'boxes'\)"),
    "two leaves": (
        (IMAGES, {"a": {"boxes": LISTS}, "b": {"boxes": LISTS}}),
        {"boxes": "xyxy"},
        r"\(1, 'a', 'boxes'\) or \(1, 'b', 'boxes'\)",
    ),
    "the image": ((IMAGES, DICTS), {0: "image"}, r"names batch\[0\], which is the image that is augmented"),
    "wrong columns": ((IMAGES, [torch.zeros(2, 5)] * 4), {1: "xyxy"}, r"must be \(n, 4\), and it is float32 \(2, 5\)"),
    "wrong rows": (
        (IMAGES, torch.zeros(7, 4)),
        {1: "xyxy"},
        r"with B = 4 rows as the images have, and it is float32 \(7, 4\)",
    ),
    "columns of numbers": ((IMAGES, [torch.zeros(4)] * 4), {1: "xyxy"}, r"must be \(n, 4\), and it is float32 \(4,\)"),
    "lists of numbers": ((IMAGES, [[[1.0, 2.0, 3.0, 4.0]]] * 4), {1: "xyxy"}, "needs tensors, and it is list"),
    "a nested tensor": (
        (IMAGES, torch.nested.nested_tensor([*LISTS[:3], BOXES[:1]], layout=torch.jagged)),
        {1: "xyxy"},
        "needs tensors, and it is a nested tensor",
    ),
    "padding that is not said": ((IMAGES, torch.zeros(4, 3, 4)), {1: "xyxy"}, r"smartaug.Boxes\(..., valid='key'\)"),
    "valid of another shape": (
        {"image": IMAGES, "boxes": torch.zeros(4, 3, 4), "real": torch.ones(4, 2)},
        {"boxes": smartaug.Boxes(valid="real")},
        r"must be \(4, 3\), one bool for each of the boxes \(4, 3, 4\), and it is \(4, 2\)",
    ),
    "a row for each box, or not": (
        (IMAGES, [{"boxes": boxes, "extra": torch.zeros(len(boxes))} for boxes in LISTS]),
        {"boxes": "xyxy"},
        r"follow=\{..., \(1, 'extra'\): 'object'\} if they do, or still='extra'",
    ),
    "labels without names": (
        (IMAGES, LISTS, [torch.arange(len(b)) for b in LISTS]),
        {1: "xyxy"},
        r"follow=\{..., 2: 'object'\} if they do, or still=2",
    ),
    "some labels too many": (
        (IMAGES, [{"boxes": boxes, "labels": torch.zeros(max(len(boxes), 2))} for boxes in LISTS]),
        {"boxes": "xyxy"},
        "has 2 rows in row 0 of the batch, which has 1 boxes",
    ),
    "objects of nothing": ((IMAGES, DICTS), {"labels": "object"}, "no boxes or keypoints follow"),
    "objects in another number": (
        (IMAGES, LISTS, [torch.zeros(9)] * 4),
        {1: "xyxy", 2: "object"},
        r"has \[1, 2, 3, 0\] in",
    ),
    "a leaf that one sample lacks": ((IMAGES, [*DICTS[:3], {}]), {(1, "boxes"): "xyxy"}, "is missing in row 3"),
    "a mask that may be of objects": (
        (IMAGES, LISTS, [torch.zeros(len(b), 8, 8).long() for b in LISTS]),
        {1: "xyxy", 2: "mask"},
        "as many masks as batch.1..i. has boxes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_known_is_refused_with_what_to_write(case):
    batch, follow, message = REFUSED[case]
    error = refused(batch, follow=follow, inputs=0 if isinstance(batch, tuple) else None)
    assert re.search(message, error), error


def test_follow_is_checked_when_the_loader_is_made():
    with pytest.raises(ValueError, match=r"follow=\{'boxes': 'xyxx'\}: a kind of target is one of"):
        smartaug.DataLoader(SAMPLES, follow={"boxes": "xyxx"}, augment=MOVES)
    with pytest.raises(TypeError, match=r"write follow=\{'boxes': 'xyxy'\}"):
        smartaug.wrap([], follow=["boxes"], augment=MOVES)


def test_still_and_follow_do_not_name_one_leaf():
    for still in ("boxes", 1):
        error = refused((IMAGES, DICTS), follow={"boxes": "xyxy"}, still=still)
        assert "still= and follow= both name batch[1][i]['boxes']" in error


def test_still_wins_over_types_and_names():
    boxes = tv_tensors.BoundingBoxes(BOXES[:1], format="XYXY", canvas_size=(8, 8))
    batch = {"image": IMAGES, "mask": torch.eye(8).long().expand(4, 8, 8), "targets": [{"boxes": boxes}] * 4}
    made = next(iter(smartaug.wrap([batch], augment=smartaug.Flip(1.0), still=["mask", "boxes"])))
    assert torch.equal(made["mask"], batch["mask"])
    assert made["targets"][0]["boxes"] is boxes
    made = next(iter(smartaug.wrap([batch], augment=smartaug.Flip(1.0))))
    assert torch.equal(made["mask"], batch["mask"].flip(2))
    assert made["targets"][0]["boxes"].tolist() == [[3.0, 1.0, 7.0, 5.0]]
    assert made["targets"][0]["boxes"].canvas_size == (8, 8)


def test_a_row_for_each_box_is_told_by_its_name_or_by_the_user():
    extra = [{"boxes": boxes, "extra": torch.arange(len(boxes)), "words": ["a"] * len(boxes)} for boxes in LISTS]
    crop = smartaug.RandomResizedCrop(4, scale=(0.05, 0.1))
    follow = {"boxes": "xyxy", "extra": "object", "words": "object"}
    _, made = next(iter(smartaug.wrap([(IMAGES, extra)], augment=crop, follow=follow, seed=1)))
    assert any(len(one["boxes"]) < len(boxes) for one, boxes in zip(made, LISTS, strict=True))
    assert all(len(one["boxes"]) == len(one["extra"]) == len(one["words"]) for one in made)
    _, made = next(
        iter(smartaug.wrap([(IMAGES, extra)], augment=crop, follow={"boxes": "xyxy"}, still=["extra", "words"], seed=1))
    )
    assert [len(one["extra"]) for one in made] == [1, 2, 3, 0]


def test_what_once_had_another_number_of_rows_is_no_row_for_each_box():
    first = (IMAGES, [{"boxes": boxes, "extra": torch.zeros(3)} for boxes in LISTS])
    then = (IMAGES[:1], [{"boxes": BOXES[:3], "extra": torch.zeros(3)}])
    passed = list(smartaug.wrap([first, then], augment=smartaug.Flip(1.0), follow={"boxes": "xyxy"}))
    assert len(passed) == 2
    assert "follow={..., (1, 'extra'): 'object'}" in refused(then, follow={"boxes": "xyxy"})


def test_boxes_for_another_canvas_are_refused():
    boxes = tv_tensors.BoundingBoxes(BOXES[:1], format="XYXY", canvas_size=(9, 8))
    assert "says in row 0 that it is for an image of (9, 8), and the image has (8, 8)" in refused((IMAGES, [boxes] * 4))


def test_callables_are_refused_where_something_follows():
    assert "would not follow" in refused((IMAGES, DICTS), follow={"boxes": "xyxy"}, augment=add_constant)


def test_views_of_their_own_draws_are_refused_where_something_follows():
    batch = ([IMAGES, IMAGES], DICTS)
    error = refused(batch, follow={"boxes": "xyxy"}, views="independent")
    assert "a sample has 2 with draws of their own; write views='same'" in error
    made = next(iter(smartaug.wrap([batch], follow={"boxes": "xyxy"}, views="same", augment=smartaug.Flip(1.0))))
    assert made[1][0]["boxes"].tolist() == [[3.0, 1.0, 7.0, 5.0]]


def test_follow_has_no_effect_where_no_stage_moves_pixels():
    batch = (IMAGES, DICTS)
    made = next(iter(smartaug.wrap([batch], augment=smartaug.Normalize(0.5, 0.5), follow={"bboxes": "xyxy"})))
    assert made[1][0]["boxes"] is DICTS[0]["boxes"]


def test_mixing_needs_images_of_one_size():
    images = [torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(3, 8, 9, dtype=torch.uint8)] * 2
    error = refused((images, torch.arange(4)), augment=smartaug.MixUp(num_classes=4))
    assert "mixing samples needs images of one size in a batch" in error


def test_lists_of_sequences_are_no_lists_of_images():
    sequences = [torch.randn(8, 3, 5) for _ in range(2)]  # two inputs (B, T, F) of eight samples
    made = next(
        iter(smartaug.wrap([(sequences, torch.arange(8))], augment=lambda rows: rows + 1, inputs=0, views="same"))
    )
    torch.testing.assert_close(made[0][1], sequences[1] + 1)
    four = [torch.randn(4, 3, 5) for _ in range(4)]
    error = refused((four, torch.arange(4)), augment=lambda rows: rows + 1, inputs=0)
    assert "may be images (C, H, W), one a sample, or sequences (B, T, F)" in error


def test_returns_batch_holds_what_followed():
    collate, follow, _ = FORMS["a mask by position"]
    loader = smartaug.DataLoader(SAMPLES, N, collate_fn=collate, augment=MOVES, follow=follow, seed=0, returns="batch")
    batch = next(iter(loader))
    assert torch.equal(batch.target.plain[0], slow(SAMPLES[0], 0).mask)
    assert batch.index.tolist() == list(range(N))


def test_indices_are_those_of_the_samples_whatever_the_order_in_lists():
    collate, follow, read = FORMS["tuples of lists"]

    def backwards(samples):
        images, targets = collate(samples)
        return images[::-1], targets[::-1]

    loader = smartaug.DataLoader(UNEQUAL, N, collate_fn=backwards, augment=MOVES, follow=follow, seed=0)
    batch = next(iter(loader))
    for row, given in enumerate(UNEQUAL[::-1]):
        check(read(batch, row), slow(given, N - 1 - row))


CORNERS = torch.tensor([[0.0, 0.0, 4.0, 4.0], [14.0, 12.0, 22.0, 18.0], [6.0, 6.0, 14.0, 12.0]])


def told(first, second=None, follow=None, augment=MOVES):
    """The targets of a batch of two samples, of which ``first`` and ``second`` are dicts."""
    pairs = [(SAMPLES[row].image, one) for row, one in enumerate((first, first if second is None else second))]
    loader = smartaug.DataLoader(
        pairs, batch_size=2, collate_fn=detection_pairs, augment=augment, follow=follow or {"boxes": "xyxy"}, seed=0
    )
    return next(iter(loader))[1]


def detection_pairs(batch):
    return torch.stack([image for image, _ in batch]), [target for _, target in batch]


def of_boxes(boxes, **more):
    return {"boxes": boxes, "labels": torch.arange(len(boxes)), **more}


FRACTIONS = torch.tensor([[0.2, 0.3, 0.4, 0.5]])
NO_BOXES = [
    ("xyxy", torch.tensor([[0.0, float("nan"), 4.0, 4.0]]), "which is no place"),
    ("cxcywhr", torch.tensor([[0.0, 1.0, 4.0, 4.0, float("inf")]]), "which is no place"),
    ("xyxy", torch.tensor([[10.0, 9.0, 5.0, 5.0]]), "write 'xywh'"),
    ("xywh", torch.tensor([[10, 9, -5, 5]]), "write 'xyxy'"),
    ("cxcywh", FRACTIONS, 'write "yolo" for centre'),
    ("xyxy", FRACTIONS, "multiply them by the sides"),
    ("yolo", CORNERS, 'write "cxcywh" for pixels'),
]


@pytest.mark.parametrize(("word", "given", "words"), NO_BOXES)
def test_boxes_that_are_none_or_of_another_format_are_refused(word, given, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        told(of_boxes(given), of_boxes(given[:0]), {"boxes": word})


def test_fractions_are_told_from_pixels_until_a_batch_was_in_pixels():
    with pytest.raises(ValueError, match="fractions of the image's sides"):
        told({"keypoints": FRACTIONS.view(1, 2, 2)}, follow={"keypoints": "keypoints"})
    assert len(told(of_boxes(torch.zeros(1, 4)), augment=smartaug.Flip(p=1.0))) == 2  # what fills up
    small = [(SAMPLES[row].image, of_boxes(CORNERS if row < 2 else FRACTIONS)) for row in range(4)]
    stage = smartaug.Flip(p=1.0)
    loader = smartaug.DataLoader(
        small, batch_size=2, collate_fn=detection_pairs, augment=stage, follow={"boxes": smartaug.Boxes(min_size=0)}
    )
    *_, (_, last) = loader
    torch.testing.assert_close(last[0]["boxes"], torch.tensor([[WIDTH - 0.4, 0.3, WIDTH - 0.2, 0.5]]))


def test_what_has_a_row_for_each_box_is_in_every_sample():
    with pytest.raises(ValueError, match=r"\['labels'\] has a row for each of the boxes .* missing in row 1"):
        told(of_boxes(CORNERS), {"boxes": torch.zeros(0, 4)})
    made = told(of_boxes(CORNERS), of_boxes(torch.zeros(0, 4)))
    assert [len(one["boxes"]) for one in made] == [len(one["labels"]) for one in made]
    assert told(of_boxes(CORNERS, size=(1, 2)), of_boxes(CORNERS[:2]))  # of the sample


def test_one_point_a_box_is_told_from_points_by_themselves():
    follow = {"boxes": "xyxy", (1, "centres"): "keypoints"}
    centres = (CORNERS[:, :2] + CORNERS[:, 2:]) / 2
    with pytest.raises(ValueError, match=r"give them as \(n, 1, 2\) if so"):
        told(of_boxes(CORNERS, centres=centres), of_boxes(CORNERS[:2], centres=centres[:2]), follow)
    assert told(of_boxes(CORNERS, centres=centres), of_boxes(CORNERS, centres=centres[:2]), follow)
    made = told(of_boxes(CORNERS, centres=centres[:, None]), None, follow)  # as it says
    assert all(len(one["boxes"]) == len(one["centres"]) == len(one["labels"]) for one in made)
    own = told(of_boxes(CORNERS, points={"centres": centres}), None, follow={"boxes": "xyxy", "centres": "keypoints"})
    assert all(len(one["points"]["centres"]) == 3 for one in own)


def test_a_name_of_the_sample_is_no_excuse_where_numbers_of_rows_are_those_of_the_boxes():
    first, second = of_boxes(CORNERS, sizes=torch.ones(3)), of_boxes(CORNERS[:2], sizes=torch.ones(2))
    with pytest.raises(ValueError, match="go with the boxes"):
        told(first, second)
    for made in told(first, second, {"boxes": "xyxy", (1, "sizes"): "object"}):
        assert len(made["sizes"]) == len(made["boxes"])


@pytest.mark.parametrize(
    "stage", [smartaug.CutMix(), smartaug.MixUp(), smartaug.Mosaic()], ids=lambda s: type(s).__name__
)
def test_masks_with_a_label_each_are_mixed_with_their_boxes_only(stage):
    masks = torch.zeros(2, HEIGHT, WIDTH)
    masks[:, 2:9, 3:9] = 1
    given = {"masks": masks, "class_labels": torch.arange(2)}
    with pytest.raises(ValueError, match="masks_to_boxes"):
        told(given, follow={"masks": "mask"}, augment=stage)
    assert told(given, follow={"masks": "mask"})[0]["masks"].shape == (2, 14, 14)
    boxes = torch.tensor([[3.0, 2.0, 9.0, 9.0]]).expand(2, 4)
    for made in told(given | {"boxes": boxes}, follow={"boxes": "xyxy", "masks": "mask"}, augment=stage):
        assert len(made["masks"]) == len(made["class_labels"]) == len(made["boxes"])


@pytest.mark.parametrize(
    "stage", [smartaug.CutMix(), smartaug.MixUp(), smartaug.Mosaic()], ids=lambda s: type(s).__name__
)
@pytest.mark.parametrize("label", [torch.tensor(1), torch.tensor([0.0, 1.0, 1.0])], ids=["class", "several"])
def test_labels_of_images_in_a_list_are_not_left_behind_by_mixing(stage, label):
    given = of_boxes(CORNERS, image_class=label)
    with pytest.raises(ValueError, match=r"write still='image_class'"):
        told(given, augment=stage, follow={"boxes": "xyxy", (1, "labels"): "object"})
    pairs = [(SAMPLES[0].image, given)] * 2
    loader = smartaug.DataLoader(
        pairs, batch_size=2, collate_fn=detection_pairs, augment=stage, follow={"boxes": "xyxy"}, still="image_class"
    )
    assert len(next(iter(loader))[1]) == 2
    assert told(of_boxes(CORNERS[:0]), augment=stage)  # no objects, no labels


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64], ids=str)
def test_masks_of_unsigned_types(dtype):
    mask = torch.randint(0, 60000, (HEIGHT, WIDTH), generator=GENERATOR).to(dtype)
    masks = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8)
    masks[:, 3:9, 3:20] = 1
    given = of_boxes(CORNERS, masks=masks.to(dtype))
    for stage in (smartaug.Flip(p=1.0), smartaug.Mosaic(scale=(1, 1))):
        loader = smartaug.DataLoader(
            [(SAMPLES[0].image, mask, given)] * 2,
            batch_size=2,
            collate_fn=lambda batch: (
                *map(torch.stack, zip(*(one[:2] for one in batch), strict=True)),
                [one[2] for one in batch],
            ),
            augment=stage,
            follow={1: "mask", "boxes": "xyxy", "masks": "mask"},
        )
        _, moved, targets = next(iter(loader))
        assert moved.dtype == targets[0]["masks"].dtype == dtype
        if isinstance(stage, smartaug.Flip):
            assert torch.equal(moved.long(), mask.long().flip(1).expand(2, -1, -1))
            assert torch.equal(targets[1]["masks"].long(), masks.long().flip(2))


def test_batches_of_monai_follow_without_their_metadata():
    data = pytest.importorskip("monai.data")
    given = [{"image": one.image.float() / 255, "label": one.mask[None]} for one in SAMPLES[:4]]
    wrapped = [{key: data.MetaTensor(value) for key, value in one.items()} for one in given]
    loader = smartaug.DataLoader(
        wrapped,
        batch_size=2,
        collate_fn=data.list_data_collate,
        augment=smartaug.Flip(p=1.0),
        follow={"label": "mask"},
    )
    for batch, rows in zip(loader, (given[:2], given[2:]), strict=True):
        for key in ("image", "label"):
            assert not isinstance(batch[key], data.MetaTensor)
            assert torch.equal(batch[key], torch.stack([row[key].flip(-1) for row in rows]))
