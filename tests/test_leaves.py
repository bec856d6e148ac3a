"""Images and labels are found in whatever structure users' batches have, replaced in copies, and moved."""

import copy
import types
from collections import OrderedDict, UserDict, defaultdict, namedtuple
from typing import NamedTuple

import numpy as np
import pytest
import torch

from smartaug._base import input_leaves, leaves, target_leaves

B = 4
IMAGES, LABELS = torch.rand(B, 3, 8, 8), torch.arange(B)
VIEWS = [torch.rand(B, 3, 8, 8), torch.rand(B, 3, 8, 8)]
MASK = torch.zeros(B, 8, 8, dtype=torch.int64)
Pair = namedtuple("Pair", "picture answer")


class Named(NamedTuple):
    index: torch.Tensor
    image: torch.Tensor
    label: torch.Tensor


def nested():
    return torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)], layout=torch.jagged)


def encoding():
    transformers = pytest.importorskip("transformers")
    return transformers.BatchEncoding({"labels": LABELS, "pixel_values": IMAGES, "ids": torch.zeros(B, 5)})


# structure, path of the inputs, path of the target
FOUND = {
    "tuple": (lambda: (IMAGES, LABELS), (0,), (1,)),
    "list": (lambda: [IMAGES, LABELS], (0,), (1,)),
    "labels first": (lambda: (LABELS, IMAGES), (1,), (0,)),
    "single tensor": (lambda: IMAGES, (), None),
    "one image leaf": (lambda: [IMAGES], (0,), None),
    "uint8 images": (lambda: (IMAGES.byte(), LABELS), (0,), (1,)),
    "image and mask": (lambda: (IMAGES, MASK), (0,), (1,)),
    "two images": (lambda: (IMAGES, IMAGES + 1), (0,), (1,)),
    "two that can be it": (lambda: (IMAGES, LABELS, LABELS + 1), (0,), None),
    "texts of a tokenizer": (lambda: {"image": IMAGES, "input_ids": MASK, "attention_mask": LABELS}, ("image",), None),
    "a text and its label": (lambda: {"image": IMAGES, "input_ids": MASK, "kind": LABELS}, ("image",), ("kind",)),
    "other lengths are no target": (lambda: (IMAGES, LABELS, torch.zeros(B + 1)), (0,), (1,)),
    "a number is no target": (lambda: (IMAGES, LABELS, torch.tensor(0.3)), (0,), (1,)),
    "dict": (lambda: {"image": IMAGES, "label": LABELS}, ("image",), ("label",)),
    "dict of other names": (lambda: {"a": LABELS, "b": IMAGES}, ("b",), ("a",)),
    "names before order": (lambda: {"y": LABELS, "x": IMAGES, "weight": torch.ones(B)}, ("x",), ("y",)),
    "label before mask": (lambda: {"mask": MASK, "image": IMAGES, "label": LABELS}, ("image",), ("label",)),
    "outer before inner": (
        lambda: {"extra": {"label": LABELS}, "image": IMAGES, "targets": LABELS},
        ("image",),
        ("targets",),
    ),
    "namedtuple": (lambda: Named(LABELS, IMAGES, LABELS), (1,), (2,)),
    "namedtuple of other names": (lambda: Pair(IMAGES, LABELS), (0,), (1,)),
    "nested": (lambda: {"data": ({"image": IMAGES}, [LABELS])}, ("data", 0, "image"), ("data", 1, 0)),
    "views": (lambda: (VIEWS, LABELS), (0,), (1,)),
    "tuple of views": (lambda: (tuple(VIEWS), LABELS), (0,), (1,)),
    "named views": (lambda: {"images": VIEWS, "label": LABELS}, ("images",), ("label",)),
    "strings": (lambda: (["a", "b", "c", "d"], IMAGES, LABELS), (1,), (2,)),
    "other objects": (lambda: (IMAGES, LABELS, None, "name", 3.0, np.zeros(B)), (0,), (1,)),
    "nested tensors": (lambda: (nested(), IMAGES, LABELS, nested()), (1,), (2,)),
    "a name on a nested tensor": (lambda: {"image": IMAGES, "label": nested(), "y": LABELS}, ("image",), ("y",)),
    "UserDict": (lambda: UserDict(image=IMAGES, label=LABELS), ("image",), ("label",)),
    "OrderedDict": (lambda: OrderedDict(image=IMAGES, label=LABELS), ("image",), ("label",)),
    "BatchEncoding": (encoding, ("pixel_values",), ("labels",)),
    "detection": (
        lambda: (IMAGES, [{"boxes": torch.zeros(B, 4), "labels": torch.zeros(B)} for _ in range(B)]),
        (0,),
        None,
    ),
    "detection in a dict": (
        lambda: {"pixel_values": IMAGES, "labels": [{"labels": torch.zeros(B)} for _ in range(B)]},
        ("pixel_values",),
        None,
    ),
    "a name of other length": (
        lambda: {"image": IMAGES, "label": torch.tensor(3), "class": LABELS},
        ("image",),
        ("class",),
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_inputs_and_target_are_found(name):
    make, inputs, target = FOUND[name]
    batch = make()
    assert input_leaves.find_inputs(batch) == inputs
    assert target_leaves.find_target(batch, inputs, B) == target


def test_without_image_stages_any_numbers_are_inputs():
    table = torch.rand(B, 7)
    assert input_leaves.find_inputs((LABELS, table), images=False) == (1,)
    assert input_leaves.find_inputs((table, IMAGES), images=False) == (1,)
    assert input_leaves.find_inputs({"x": table}) == ("x",)


@pytest.mark.parametrize("name", FOUND)
def test_put_leaves_the_users_containers_alone(name):
    make, inputs, _ = FOUND[name]
    batch = make()
    before = dict(leaves.walk(batch))
    new = torch.zeros(1)
    changed = leaves.put(batch, inputs, new)
    assert leaves.get(changed, inputs) is new
    assert type(changed) is (type(batch) if inputs else torch.Tensor)
    after = dict(leaves.walk(batch))
    assert before.keys() == after.keys()
    assert all(after[path] is leaf for path, leaf in before.items())
    for path, leaf in leaves.walk(changed):
        if path[: len(inputs)] != inputs:
            assert leaf is before[path]


def test_put_copies_only_what_is_on_the_way():
    batch = {"a": [IMAGES, {"b": LABELS}], "c": [LABELS]}
    changed = leaves.put(batch, ("a", 1, "b"), None)
    assert changed["a"][1] == {"b": None}
    assert changed["c"] is batch["c"]
    assert changed["a"] is not batch["a"]
    assert batch["a"][1]["b"] is LABELS
    made = leaves.put(defaultdict(list, x=IMAGES), ("x",), 1)
    assert isinstance(made, defaultdict)
    assert made["new"] == []


def test_put_into_the_output_of_a_model():
    outputs = pytest.importorskip("transformers.modeling_outputs")
    batch = outputs.ImageClassifierOutput(logits=IMAGES)
    changed = leaves.put(batch, ("logits",), LABELS)
    assert type(changed) is type(batch)
    assert changed.logits is changed["logits"] is LABELS
    assert batch.logits is IMAGES


# --- what the user names ---------------------------------------------------------------------------------------------

BATCH = {"a": IMAGES, "b": VIEWS, "c": [LABELS, "name"]}


@pytest.mark.parametrize(
    ("batch", "spec", "path"),
    [
        (BATCH, "b", ("b",)),
        ({0: LABELS, 1: IMAGES}, 1, (1,)),
        ((LABELS, IMAGES), 1, (1,)),
        ([LABELS, IMAGES], -1, (1,)),
        (Pair(LABELS, IMAGES), "answer", (1,)),
        (Pair(LABELS, IMAGES), 1, (1,)),
        (UserDict(q=IMAGES), "q", ("q",)),
        (BATCH, lambda batch: batch["a"], ("a",)),
        (BATCH, lambda batch: batch["b"], ("b",)),
        (BATCH, lambda batch: batch["b"][1], ("b", 1)),
        (BATCH, lambda batch: batch["c"][0], ("c", 0)),
        (IMAGES, lambda batch: batch, ()),
    ],
)
def test_specs(batch, spec, path):
    assert input_leaves.find_inputs(batch, spec) == path
    assert target_leaves.find_target(batch, (99,), B, spec) == path


LISTED = r"\['a'\]: float32 \(4, 3, 8, 8\), \['b'\]\[0\]: float32 \(4, 3, 8, 8\), .*\['c'\]\[0\]: int64 \(4,\)"


@pytest.mark.parametrize("spec", ["z", 0, -1])
def test_a_spec_that_is_not_there_names_the_leaves(spec):
    with pytest.raises(ValueError, match=rf"inputs={spec!r} is not in the batch; its leaves are {LISTED}"):
        input_leaves.find_inputs(BATCH, spec)
    with pytest.raises(ValueError, match=rf"target={spec!r} is not in the batch; its leaves are {LISTED}"):
        target_leaves.find_target(BATCH, ("a",), B, spec)


@pytest.mark.parametrize("position", [2, -3])
def test_a_position_outside_the_batch(position):
    with pytest.raises(ValueError, match=rf"inputs={position} is not in the batch"):
        input_leaves.find_inputs((IMAGES, LABELS), position)


def test_a_callable_that_makes_something_new():
    with pytest.raises(ValueError, match=rf"target= returned Tensor, which is no part of the batch; .*{LISTED}"):
        target_leaves.find_target(BATCH, ("a",), B, lambda batch: batch["a"] + 1)
    with pytest.raises(KeyError, match="nothing"):
        input_leaves.find_inputs(BATCH, lambda batch: batch["nothing"])


def test_no_images_names_the_leaves_and_what_to_write():
    batch = (LABELS, torch.rand(B, 7), ["a", "b"], None, torch.rand(B, 2))
    match = (
        r"no images found .* Its leaves are \[0\]: int64 \(4,\), \[1\]: float32 \(4, 7\), \[2\]: list, "
        r"\[3\]: NoneType, .*. Name the one to augment: inputs=0, inputs='key' or inputs=lambda"
    )
    with pytest.raises(ValueError, match=match):
        input_leaves.find_inputs(batch)
    with pytest.raises(ValueError, match=r"Its leaves are none"):
        input_leaves.find_inputs(())
    with pytest.raises(ValueError, match=r"Its leaves are the batch itself: int64 \(4,\)"):
        input_leaves.find_inputs(LABELS, images=False)


def test_describe_is_short():
    assert leaves.describe([LABELS] * 50).count("int64") == 12
    assert leaves.describe({"names": ["a"] * 50, "image": IMAGES}).endswith("['image']: float32 (4, 3, 8, 8)")
    assert leaves.describe((nested(), LABELS)) == f"[0]: {type(nested()).__name__}, [1]: int64 (4,)"


# --- moving ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in FOUND if "nested tensor" not in name])
def test_move(name):
    batch = FOUND[name][0]()
    before = dict(leaves.walk(batch))
    moved = leaves.move(batch, "meta")
    assert type(moved) is type(batch)
    after = dict(leaves.walk(moved))
    assert after.keys() == before.keys()
    for path, leaf in after.items():
        if isinstance(leaf, torch.Tensor):
            assert leaf.device.type == "meta"
            assert leaf.shape == before[path].shape
        else:
            assert leaf is before[path] or leaf == before[path]
    assert all(leaf is before[path] for path, leaf in leaves.walk(batch))  # the user's batch is where it was


def test_move_to_the_same_place_keeps_the_tensors():
    batch = {"image": IMAGES, "label": [LABELS]}
    moved = leaves.move(batch, "cpu", non_blocking=True)
    assert moved["image"] is IMAGES
    assert moved["label"][0] is LABELS
    assert moved is not batch


def test_move_asks_objects_that_can():
    class Graph:
        device = "cpu"

        def to(self, device):  # many have no non_blocking
            moved = copy.copy(self)
            moved.device = device
            return moved

    batch = (Graph(), types.SimpleNamespace(to_nothing=1))
    moved = leaves.move(batch, "meta", non_blocking=True)
    assert moved[0].device == "meta"
    assert batch[0].device == "cpu"
    assert moved[1] is batch[1]


def test_move_keeps_what_a_packed_sequence_holds_on_the_cpu():
    packed = torch.nn.utils.rnn.pack_sequence([torch.zeros(2), torch.zeros(1)])
    moved = leaves.move({"sequence": packed}, "meta")["sequence"]
    assert moved.data.device.type == "meta"
    assert moved.batch_sizes.device.type == "cpu"


@pytest.mark.parametrize(
    ("dtype", "advice"),
    [
        (torch.uint16, r"uint16 images are not augmented: write image.float\(\) / 65535 in the dataset"),
        (torch.int16, r"int16 images .* by the range that your data have.*only values that all lie in 0..255"),
        (torch.int64, r"int64 images .* by the range that your data have"),
        (torch.bool, r"bool images are not augmented: write image.float\(\) in the dataset"),
    ],
)
def test_images_of_another_type_say_what_to_write(dtype, advice):
    with pytest.raises(ValueError, match=rf"no images found .*{advice}"):
        input_leaves.find_inputs((IMAGES.to(dtype), LABELS))


def test_the_advice_for_16_bits_keeps_the_order_of_values():
    values = torch.tensor([0, 255, 256, 300, 65535], dtype=torch.uint16)
    advice = input_leaves.scaling_of(torch.uint16).partition("write ")[2].partition(" in the")[0]
    scaled = eval(advice, {"image": values})
    assert scaled.diff().gt(0).all()
    assert float(scaled.max()) == 1.0


# --- rows and several inputs -----------------------------------------------------------------------------------------

ROWS = torch.rand(B, 7)


@pytest.mark.parametrize(
    ("batch", "path"),
    [
        ((ROWS, LABELS), (0,)),
        ((LABELS, ROWS), (1,)),
        ({"a": ROWS, "label": LABELS}, ("a",)),
        ({"x": ROWS, "other": ROWS, "y": LABELS}, ("x",)),
    ],
)
def test_rows_that_are_the_only_ones_are_found(batch, path):
    assert input_leaves.find_inputs(batch) == path


@pytest.mark.parametrize(
    "batch",
    [
        (ROWS, ROWS, LABELS),  # which of the two?
        (ROWS, torch.tensor(3)),  # one greyscale picture and its label, where nothing is batched
        (torch.rand(B, 8, 8), LABELS),  # pictures without channels, or sequences?
        (ROWS.long(), LABELS),
    ],
)
def test_rows_that_may_be_something_else_have_to_be_named(batch):
    with pytest.raises(ValueError, match="no images found"):
        input_leaves.find_inputs(batch)


@pytest.mark.parametrize(
    ("batch", "specs", "given"),
    [
        ({"a": ROWS, "b": LABELS, "y": LABELS}, ["a", "b"], {"a": ROWS, "b": LABELS}),
        ((ROWS, LABELS, IMAGES), [2, 0], (IMAGES, ROWS)),
        (Pair(ROWS, LABELS), ["answer"], {"answer": LABELS}),
        ({"a": ROWS, "b": LABELS}, ["a", lambda batch: batch["b"]], (ROWS, LABELS)),
        ((ROWS, LABELS), 0, ROWS),
    ],
)
def test_a_model_gets_what_a_list_of_specs_names(batch, specs, given):
    found = input_leaves.model_inputs(batch, specs, input_leaves.find_all_inputs(batch, specs))
    assert type(found) is type(given)
    pairs = zip(dict(leaves.walk(found)).items(), dict(leaves.walk(given)).items(), strict=True)
    assert all(path == other and leaf is wanted for (path, leaf), (other, wanted) in pairs)
    assert leaves.rows_of(found) == B


def test_a_list_of_specs_that_names_nothing():
    with pytest.raises(ValueError, match=r"inputs=\[\] names nothing"):
        input_leaves.find_all_inputs((ROWS, LABELS), [])
    with pytest.raises(ValueError, match=r"inputs='z' is not in the batch; its leaves are"):
        input_leaves.find_all_inputs({"a": ROWS}, ["a", "z"])


def test_the_target_is_none_of_several_inputs():
    batch = {"num": ROWS, "cat": LABELS, "answer": LABELS + 1, "more": LABELS}
    assert target_leaves.find_target_beside(batch, [("num",), ("cat",), ("more",)], B) == ("answer",)
    assert target_leaves.find_target_beside(batch, [("num",), ("answer",)], B, "cat") == ("cat",)
    assert batch["more"] is LABELS
