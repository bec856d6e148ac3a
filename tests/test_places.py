"""What may lie in the picture is refused under stages that move pixels, under any name, in any position and shape."""

import ast
import re
from typing import Any, NamedTuple

import kornia.augmentation
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

import smartaug
from tests.data import add_constant

ROWS, SIDE = 4, 16
IMAGE = torch.arange(3 * SIDE * SIDE, dtype=torch.float32).reshape(3, SIDE, SIDE).div(3 * SIDE * SIDE)
MIRRORED = IMAGE.flip(2)
BOX = torch.tensor([0.0, 2.0, 8.0, 9.0])
GENERATOR = torch.Generator().manual_seed(0)


def batch_of(sample, *, collate_fn=None, **settings):
    settings = {"augment": smartaug.Flip(p=1.0), "seed": 0, **settings}
    return next(iter(smartaug.DataLoader([sample] * ROWS, ROWS, collate_fn=collate_fn, **settings)))


def canvas(boxes):
    return tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(SIDE, SIDE))


# what each sample has beside its image
PLACES = {
    "a box": BOX,
    "a box in whole pixels": BOX.long(),
    "a box in parts of the sides": BOX / SIDE,
    "a box around the origin": BOX - 8,
    "a box of Python numbers": BOX.tolist(),
    "a box of whole Python numbers": BOX.long().tolist(),
    "a box of NumPy": BOX.numpy(),
    "boxes": BOX.expand(3, 4).clone(),
    "boxes with class": torch.cat([torch.ones(3, 1), BOX.expand(3, 4)], 1),
    "a point": torch.tensor([3.0, 4.0]),
    "points": torch.rand(5, 2, generator=GENERATOR) * SIDE,
    "points with visibility": torch.rand(17, 3, generator=GENERATOR),
    "points in a row": torch.rand(10, generator=GENERATOR) * SIDE,
    "points in a row, one missing": torch.tensor([3.0, 4.0, -1.0, -1.0, 5.0, 6.0]),
    "points in a row of 16 bits": torch.tensor([3, 4, 5, 6, 1, 2], dtype=torch.uint16),
    "points as complex numbers": torch.tensor([1 + 2j, 3 + 4j, 5 + 6j]),
    "points in a row of whole numbers": torch.tensor([3, 4, 5, 6, 1, 2]),
    "a polygon of each of several objects": torch.rand(3, 8, 2, generator=GENERATOR),
    "tv boxes": canvas([[0, 0, 8, 8]]),
    "tv mask": tv_tensors.Mask(torch.ones(SIDE // 2, SIDE // 2, dtype=torch.uint8)),
    "tv video": tv_tensors.Video(torch.zeros(2, 3, SIDE, SIDE, dtype=torch.uint8)),
    "a mask": torch.zeros(SIDE, SIDE, dtype=torch.int64),
    "a mask of truths": torch.zeros(SIDE, SIDE, dtype=torch.bool),
    "a mask of half the size": torch.zeros(SIDE // 2, SIDE // 2, dtype=torch.int64),
    "a map with a channel": torch.zeros(1, SIDE // 2, SIDE // 2),
    "heat maps": torch.zeros(17, SIDE // 4, SIDE // 4),
    "a picture of twice the size": torch.zeros(3, 2 * SIDE, 2 * SIDE),
    "a picture of another type": torch.zeros(3, SIDE, SIDE, dtype=torch.uint8),
    "channels last": torch.zeros(SIDE, SIDE, 3),
    "a clip": torch.zeros(5, 3, SIDE, SIDE),
    "a matrix of a camera": torch.eye(3),
}


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize("form", ["tuple", "dict", "nested"])
def test_whatever_may_lie_in_the_picture_is_refused(kind, form):
    value = PLACES[kind]
    sample, step = {
        "tuple": ((IMAGE, value, 1), 1),
        "dict": ({"image": IMAGE, "extra": value, "label": 1}, "extra"),
        "nested": ((IMAGE, {"deep": [value, "name"], "label": 1}), 1),
    }[form]
    with pytest.raises(
        ValueError, match=rf"batch\[{step!r}\].* would not follow; write .*still={step!r} if it must stay"
    ):
        batch_of(sample)
    # written so, it stays, and the image moves
    batch = batch_of(sample, still=step)
    image, extra = (batch["image"], batch["extra"]) if form == "dict" else batch[:2]
    stays = torch.utils.data.default_collate([sample[step]] * ROWS)
    assert torch.equal(image[0], MIRRORED)
    if form == "nested":
        extra, stays = extra["deep"], stays["deep"]
    assert str(extra) == str(stays)


NAMES = ["bbox", "boxes", "gt_boxes", "landmarks", "pose", "keypoints", "points", "corners", "polygons", "box_xyxy"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [torch.rand(6, generator=GENERATOR) - 0.5, torch.zeros(51), [1.0, 2.0]], ids=len)
def test_names_of_places_are_refused_whatever_is_in_them(name, value):
    with pytest.raises(ValueError, match=rf"batch\['{name}'\] is boxes or keypoints that would not follow"):
        batch_of({"image": IMAGE, name: value, "label": 1})


@pytest.mark.parametrize("name", ["x1", "ymax", "box_cx"])
def test_one_coordinate_a_leaf_is_refused(name):
    with pytest.raises(ValueError, match=rf"batch\['{name}'\] is boxes or keypoints"):
        batch_of({"image": IMAGE, name: 3.0, "label": 1})


# what must go on working without a word, in a batch of four
PLAIN = {
    "class": 1,
    "class as a tensor (1,)": torch.tensor([2]),
    "a number": 3.7,
    "an angle named pose": {"pose": 30.0},
    "one-hot of four": torch.tensor([0.0, 1.0, 0.0, 0.0]),
    "several of four": torch.tensor([1, 0, 1, 1]),
    "several of forty": (torch.rand(40, generator=GENERATOR) < 0.5).float(),
    "flags": torch.tensor([True, False, True, True]),
    "probabilities of two": torch.tensor([0.25, 0.75]),
    "probabilities of ten": torch.rand(10, generator=GENERATOR).softmax(0),
    "probabilities in half precision": torch.rand(100, generator=GENERATOR).softmax(0).half(),
    "an embedding": torch.randn(64, generator=GENERATOR),
    "logits of a teacher": {"teacher_logits": torch.rand(4, generator=GENERATOR)},
    "token ids": {"input_ids": torch.tensor([5, 6, 7, 8])},
    "token ids in sight": torch.tensor([101, 2023, 2003, 2000, 102]),
    "labels named so": {"label": torch.tensor([0.5, 0.25, 3.0, 1.0])},
    "the size of the original": {"orig_size": torch.tensor([480, 640])},
    "text": "a cat",
    "texts": ["a", "b"],
    "metadata": {"patient": "x", "age": 53, "site": 2},
    "large numbers": torch.tensor([1000.0, 20000.0, 3.0]),
}


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("form", ["tuple", "dict"])
def test_plain_cases_need_no_word(kind, form):
    value = PLAIN[kind]
    sample: Any = (IMAGE, value, 1) if form == "tuple" else {"image": IMAGE, "extra": value, "label": 1}
    batch = batch_of(sample)
    assert torch.equal(batch[0 if form == "tuple" else "image"][0], MIRRORED)


@pytest.mark.parametrize("value", [BOX, torch.tensor([0.5, 2.5]), torch.rand(6, generator=GENERATOR)])
def test_what_target_names_is_a_label(value):
    image, target = batch_of((IMAGE, value), target=1)
    assert torch.equal(image[0], MIRRORED)
    assert torch.equal(target.plain[0], value)


def test_a_map_that_target_names_is_no_label():
    for mask in (PLACES["a mask"], PLACES["a mask of half the size"]):
        with pytest.raises(ValueError, match="would not follow"):
            batch_of((IMAGE, mask), target=1)


@pytest.mark.parametrize("target", ["bbox", 1, lambda batch: batch["bbox"] if isinstance(batch, dict) else batch[1]])
def test_boxes_that_target_names_are_no_label(target):
    if target == 1:
        sample = (IMAGE, {"boxes": BOX[None], "labels": torch.tensor([1])})
        with pytest.raises(ValueError, match=r"batch\[1\]\[i\]\['boxes'\] is boxes or keypoints"):
            batch_of(sample, collate_fn=listed, target=1)
        return
    with pytest.raises(
        ValueError, match=r"batch\[.bbox.\] is boxes or keypoints that would not follow; write .*still="
    ):
        batch_of({"image": IMAGE, "bbox": BOX, "label": 1}, target=target)


class Instances:
    """As some libraries hold the objects of a picture."""

    def __init__(self, held):
        self.held = held


def test_objects_that_hold_tensors_are_refused():
    with pytest.raises(ValueError, match=r"batch\[1\]\[0\] is an object Instances of tensors"):
        batch_of((IMAGE, Instances(BOX[None])), collate_fn=listed)
    batch_of((IMAGE, Instances("a name")), collate_fn=listed)


def test_naming_the_inputs_says_nothing_about_the_rest():
    for inputs in (0, [0]):
        with pytest.raises(ValueError, match=r"batch\[1\] .* would not follow"):
            batch_of((IMAGE, BOX, 1), inputs=inputs)


@pytest.mark.parametrize("still", [1, [1, 2], lambda batch: batch[1], [lambda batch: batch[1], 2]])
def test_still_takes_keys_positions_and_callables(still):
    image, box, *_ = batch_of((IMAGE, BOX, 1), still=still)
    assert torch.equal(image[0], MIRRORED)
    assert torch.equal(box[0], BOX)


def test_still_that_names_nothing_says_so():
    with pytest.raises(ValueError, match=r"still='mask' is not in the batch; its leaves are \['image'\]: float32"):
        batch_of({"image": IMAGE, "extra": BOX, "label": 1}, still="mask")


def test_a_second_picture_under_another_key_is_refused():
    sample = {"image": IMAGE, "rear": IMAGE, "label": 1}
    with pytest.raises(ValueError, match=r"batch\['rear'\] is a mask or a second image .*inputs=\[...\]"):
        batch_of(sample)


STAGES = {
    "crop": smartaug.PadCrop(2),
    "policy": smartaug.RandAugment(),
    "mixing": smartaug.CutMix(num_classes=3),
    "callable": add_constant,
    "kornia": kornia.augmentation.RandomHorizontalFlip(),
    "after tones": [smartaug.augment.Invert(1.0), smartaug.Flip()],
}


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_that_may_move_pixels_refuses(stage):
    with pytest.raises(ValueError, match="would not follow"):
        batch_of((IMAGE, BOX, 1), augment=STAGES[stage], target=2)


@pytest.mark.parametrize("stage", [smartaug.Erase(1.0), smartaug.Normalize(0.5, 0.5), smartaug.augment.Invert(1.0)])
def test_stages_that_leave_pixels_in_place_do_not_look(stage):
    _, box, _ = batch_of((IMAGE, BOX, 1), augment=stage)
    assert torch.equal(box[0], BOX)


# --- lists of one entry a sample, and containers of all kinds ---------------------------------------------------------


def listed(samples):
    """torchvision's detection references: images stacked, the rest in a list of one entry a sample."""
    images, rest = zip(*samples, strict=True)
    return torch.stack(images), list(rest)


class Item(NamedTuple):
    image: torch.Tensor
    bbox: torch.Tensor


@pytest.mark.parametrize(
    "rest",
    [
        {"boxes": BOX[None], "labels": torch.tensor([1])},
        {"regions": BOX[None], "labels": torch.tensor([1])},
        {"labels": torch.tensor([1]), "area": BOX},  # a box, for all that can be seen: of four objects the areas?
        {"annotations": [{"bbox": [1.0, 2.0, 3.0, 4.0]}]},
        {"annotations": [{"roi": [[1.0, 2.0, 3.0, 4.0]]}]},
        BOX[None],
        [[0.0, 0.0, 8.0, 8.0]],
        [0.0, 0.0, 8.0, 8.0],
        BOX,
        torch.tensor([1, 2, 3]),
        torch.zeros(SIDE, SIDE),
        torch.zeros(SIDE // 2, SIDE),
        Image.new("L", (SIDE, SIDE)),
        np.zeros((SIDE, SIDE), np.uint8),
    ],
    ids=lambda rest: type(rest).__name__,
)
def test_lists_of_one_entry_a_sample_are_looked_into(rest):
    if isinstance(rest, dict) and "area" in rest:  # named: not a box
        batch_of((IMAGE, rest), collate_fn=listed)
        return
    with pytest.raises(ValueError, match=r"batch\[1\].* would not follow; write .*still=") as error:
        batch_of((IMAGE, rest), collate_fn=listed)
    said = ast.literal_eval(re.search(r"still=(\S+) if", str(error.value))[1])
    assert said == 1 or said in rest
    images, kept = batch_of((IMAGE, rest), collate_fn=listed, still=said)
    assert torch.equal(images[0], MIRRORED)
    assert kept[0] is rest


@pytest.mark.parametrize(
    "rest",
    [
        {"labels": torch.tensor([1, 2]), "image_id": 7},
        {"labels": torch.tensor([1, 2, 3, 4]), "iscrowd": torch.zeros(4)},
        "a cat",
        3,
        torch.tensor(3),
        torch.tensor([7]),
        None,
    ],
    ids=lambda rest: type(rest).__name__,
)
def test_lists_of_labels_are_let_through(rest):
    images, kept = batch_of((IMAGE, rest), collate_fn=listed)
    assert torch.equal(images[0], MIRRORED)
    assert kept[0] is rest


def test_labels_of_uneven_number_are_let_through():
    def ragged(samples):
        return torch.stack([image for image, _ in samples]), [torch.arange(n + 1) for n in range(ROWS)]

    images, _ = batch_of((IMAGE, 0), collate_fn=ragged)
    assert torch.equal(images[0], MIRRORED)


def test_boxes_of_all_samples_in_one_tensor():
    """YOLO's way: rows (sample, class, x, y, w, h), as many as there are objects."""

    def flat(samples):
        return torch.stack([image for image, _ in samples]), torch.rand(7, 6)

    with pytest.raises(ValueError, match=r"batch\[1\] is .*boxes or keypoints"):
        batch_of((IMAGE, 0), collate_fn=flat)


def test_fields_of_a_namedtuple_are_names():
    with pytest.raises(ValueError, match=r"batch\[1\] is boxes or keypoints that"):
        batch_of(Item(IMAGE, torch.tensor([0.0])[0:1].repeat(5)))


def test_jagged_boxes_are_refused():
    def jagged(samples):
        boxes = [torch.rand(n + 1, 4) for n in range(ROWS)]
        return torch.stack([image for image, _ in samples]), torch.nested.nested_tensor(boxes, layout=torch.jagged)

    with pytest.raises(ValueError, match=r"batch\[1\] is boxes or keypoints \(a nested tensor\)"):
        batch_of((IMAGE, 0), collate_fn=jagged)


# --- a box that shows itself late, what is looked at ------------------------------------------------------------------


def test_rows_that_look_like_labels_at_first_are_looked_at_in_every_batch():
    boxes = [torch.tensor([0.0, 0.0, 1.0, 1.0])] * 4 + [torch.tensor([0.1, 0.2, 0.5, 0.6])] * 4
    batches = iter(smartaug.DataLoader([(IMAGE, box) for box in boxes], 4, augment=smartaug.Flip(p=1.0)))
    next(batches)  # ones and zeros: several labels, or the whole picture, which mirrored is itself
    with pytest.raises(ValueError, match=r"batch\[1\] is 4 numbers a sample"):
        next(batches)


def test_wrap_and_collate_know_the_keyword():
    batch = [(IMAGE.expand(ROWS, -1, -1, -1), BOX.expand(ROWS, -1), torch.zeros(ROWS))]
    with pytest.raises(ValueError, match="would not follow"):
        next(iter(smartaug.wrap(batch, augment=smartaug.Flip(p=1.0))))
    images, boxes, _ = next(iter(smartaug.wrap(batch, augment=smartaug.Flip(p=1.0), still=1)))
    assert torch.equal(images[0], MIRRORED)
    assert torch.equal(boxes[0], BOX)
    collate = smartaug.Collate(augment=smartaug.Flip(p=1.0), still=1)
    images, boxes, _ = next(iter(torch.utils.data.DataLoader([(IMAGE, BOX, 1)] * 4, 4, collate_fn=collate)))
    assert torch.equal(images[0], MIRRORED)


# --- lift -------------------------------------------------------------------------------------------------------------


class Joint(torch.utils.data.Dataset):
    """The image goes through the transform; ``extra`` lies beside it."""

    def __init__(self, extra):
        self.extra, self.transform = extra, v2.RandomHorizontalFlip(1.0)

    def __len__(self):
        return ROWS

    def __getitem__(self, index):
        return self.transform(IMAGE), self.extra


@pytest.mark.parametrize("kind", ["a box", "boxes", "points", "a mask of half the size", "heat maps"])
def test_what_lies_beside_a_lifted_image_is_refused_as_well(kind):
    loader = smartaug.DataLoader(Joint(PLACES[kind]), ROWS, lift=True)
    with pytest.raises(ValueError, match=r"batch\[1\] .* would not follow"):
        next(iter(loader))
    images, _ = next(iter(smartaug.DataLoader(Joint(PLACES[kind]), ROWS, lift=True, still=1)))
    assert torch.equal(images[0], MIRRORED)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("boxes", torch.tensor([[2.0, 3, 4, 9]]), 'follow={(1, \'boxes\'): "xyxy"} (or "xywh", "cxcywh", "yolo")'),
        ("boxes", torch.tensor([[9.0, 3, 4, 9]]), '"xywh"} (or "xyxy", "cxcywh", "yolo")'),
        ("boxes", torch.tensor([[0.5, 0.5, 0.25, 0.125]]), '"yolo"} (or "xyxy", "xywh", "cxcywh")'),
        ("bbox", torch.tensor([[2.0, 3, 4, 9]]), "follow={(1, 'bbox'): \"xyxy\"}"),
        ("keypoints", torch.rand(2, 5, 2) * SIDE, "{(1, 'keypoints'): smartaug.Keypoints(swap=...)} if mirroring"),
        ("landmarks", torch.rand(2, 5, 3) * SIDE, "follow={(1, 'landmarks'): \"keypoints\"}"),
        ("flow", torch.rand(2, SIDE, SIDE), "follow={(1, 'flow'): \"flow\"}"),
        ("disparity", torch.rand(SIDE, SIDE), "follow={(1, 'disparity'): \"disparity\"}"),
        ("depth", torch.rand(1, SIDE, SIDE), "follow={(1, 'depth'): \"heatmap\"}"),
        ("heatmaps", torch.rand(5, SIDE // 4, SIDE // 4), "follow={(1, 'heatmaps'): \"heatmap\"}"),
        ("homography", torch.rand(3, 3), "would not follow; write still='homography' if"),
        (
            "annotations",
            [{"bbox": [1.0, 2.0, 3.0, 4.0]}],
            'give a tensor and write follow={...: "xyxy"}',
        ),
    ],
)
def test_the_error_has_the_line_to_paste(name, value, said):
    """Names say what a leaf is, and not in which format, or whether left and right change places: they are refused."""
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        batch_of((IMAGE, {name: value, "labels": torch.arange(len(value))}), collate_fn=listed)
    line = re.search(r"(follow=\{\(1, .*?\})( \(or|$| if)", str(error.value))
    if line is not None:
        call = eval(f"dict({line[1]})")
        stage = smartaug.Flip(1.0, vertical=True) if name == "disparity" else smartaug.Flip(1.0)
        loader = smartaug.DataLoader([(IMAGE, {name: value})] * 4, 4, collate_fn=listed, augment=stage, **call)
        _, targets = next(iter(loader))
        assert targets[0][name].shape == value.shape
