"""What errors tell the user to write is written here, and the program then runs."""

import ast
import re
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, default_collate

import smartaug

B = 4
IMAGE = torch.rand(B, 3, 16, 16)
CLASS = torch.arange(B)
BOXES = torch.tensor([2.0, 3.0, 7.0, 9.0]) + torch.rand(B, 4)


def samples(*columns, **named):
    parts = named or columns
    rows = list(parts.items() if named else enumerate(parts))
    made = [{name: column[row] for name, column in rows} for row in range(B)]
    return made if named else [tuple(one.values()) for one in made]


ROWS = torch.arange(B * 32.0).reshape(B, 32) * -7
TOKENS = torch.randint(0, 15, (B, 9), generator=torch.Generator().manual_seed(0))
CASES = {  # a batch, a stage that cannot know what it is, and which of the remedies is taken
    "boxes or numbers": (samples(IMAGE, torch.rand(B, 4), CLASS), smartaug.Flip(), "still"),
    "numbers that are the label": (samples(IMAGE, torch.rand(B, 4)), smartaug.Flip(), "target"),
    "columns of classes": (samples(IMAGE, CLASS[:, None] + torch.arange(3)), smartaug.Flip(), "target"),
    "boxes": (samples(IMAGE, BOXES), smartaug.Flip(), "follow"),
    "a box by name that moves": (samples(image=IMAGE, bbox=BOXES, label=CLASS), smartaug.Flip(), "follow"),
    "landmarks": (samples(image=IMAGE, landmarks=5 * torch.rand(B, 5, 2)), smartaug.Flip(), "follow"),
    "a mask that moves": (samples(IMAGE, torch.ones(B, 16, 16).long()), smartaug.Flip(), "follow"),
    "a mask of half the size that moves": (samples(IMAGE, torch.ones(B, 8, 8).long()), smartaug.Flip(), "follow"),
    "heatmaps": (samples(IMAGE, torch.ones(B, 5, 8, 8)), smartaug.Flip(), "follow"),
    "short captions": (samples(IMAGE, TOKENS), smartaug.Flip(), "still"),
    "a box by name": (samples(image=IMAGE, bbox=torch.rand(B, 4), label=CLASS), smartaug.Flip(), "still"),
    "a mask of half the size": (samples(IMAGE, torch.ones(B, 8, 8).long()), smartaug.Flip(), "still"),
    "a second camera": (samples(left=IMAGE, right=IMAGE, label=CLASS), smartaug.Flip(), "still"),
    "image, index, label": (samples(IMAGE, CLASS + 100, CLASS), smartaug.MixUp(), "target"),
    "two tasks": (samples(IMAGE, CLASS, CLASS % 2), smartaug.CutMix(), "targets"),
    "tasks in a dict": (samples(IMAGE, [{"a": i, "b": i % 2} for i in range(B)]), smartaug.MixUp(), "targets"),
    "a label below": (samples(image=IMAGE, ann=[{"kind": CLASS[i]} for i in range(B)]), smartaug.MixUp(), "misnamed"),
    "embeddings beside": (samples(image=IMAGE, embedding=ROWS, label=CLASS), smartaug.MixUp(), "still"),
    "token ids beside": (samples(pixel_values=IMAGE, input_ids=TOKENS * 99, labels=CLASS), smartaug.CutMix(), "still"),
    "rows beside rows": (samples(x=ROWS, other=ROWS + 1, label=CLASS), smartaug.MixUp(), "targets"),
    "frames by name": (samples(images=[{"a": one, "b": one} for one in IMAGE], label=CLASS), smartaug.Flip(), "views"),
    "16 bits before a mask": (
        samples(IMAGE.mul(999).to(torch.uint16), torch.ones(B, 1, 16, 16, dtype=torch.uint8), CLASS),
        smartaug.Normalize([0.5], [0.5]),
        "inputs",
    ),
    "a video before its masks": (
        samples(IMAGE[:, None].expand(-1, 3, -1, -1, -1), torch.ones(B, 3, 16, 16, dtype=torch.uint8), CLASS),
        smartaug.Normalize([0.5] * 3, [0.5] * 3),
        "inputs",
    ),
}  # fmt: skip
PATTERNS = {
    "still": r"(?:write|images,) (still=(?:'\w+'|\d))",
    "follow": r"write (follow=\{.*?\})",
    "target": r"(target=(?:'\w+'|\d))",
    "targets": r"(target=\[[^=]*\])(?= if|$|\.|;)",
    "misnamed": r"write (target=lambda batch: batch\S+)",
    "views": r"(views='same')",
    "inputs": r"(inputs=\d)",
}


def remedy(message, kind):
    """The keyword that an error tells to write, as Python has it."""
    found = re.search(PATTERNS[kind], message)
    assert found, f"{message!r} does not say what to write"
    name, _, value = found[1].partition("=")
    ast.parse(value, mode="eval")
    return {name: eval(value)}


@pytest.mark.parametrize("case", CASES)
def test_the_line_that_an_error_names_mends_it(case):
    data, stage, kind = CASES[case]
    given = {"target": "kind"} if kind == "misnamed" else {}
    with pytest.raises((TypeError, ValueError)) as error:
        next(iter(smartaug.DataLoader(data, B, augment=stage, seed=0, **given)))
    written = {**given, **remedy(str(error.value), kind)}
    assert next(iter(smartaug.DataLoader(data, B, augment=stage, seed=0, **written))) is not None


@pytest.mark.parametrize(
    "columns",
    [
        {"image": IMAGE, "label": CLASS, "index": CLASS, "path": ["a.png"] * B},
        {"image": IMAGE, "embedding": ROWS, "label": CLASS},
        {"pixel_values": IMAGE, "input_ids": TOKENS, "attention_mask": torch.ones(B, 9).long()},
        {"image": IMAGE, "meta": [{"id": i, "camera": "left"} for i in range(B)], "label": CLASS},
    ],
    ids=["index", "embedding", "captions", "meta"],
)
def test_ordinary_samples_need_no_keyword(columns):
    batch = next(iter(smartaug.DataLoader(samples(**columns), B, augment=smartaug.Flip(), seed=0)))
    for name in columns.keys() - {"image", "pixel_values"}:
        assert str(batch[name]).replace("Target", "tensor") == str(default_collate(list(columns[name])))


@dataclass(frozen=True)
class Record:
    image: torch.Tensor
    label: torch.Tensor
    path: list = field(default_factory=list)
    count: int = field(default=0, init=False)


def record(rows):
    return Record(
        torch.stack([image for image, _ in rows]), torch.stack([label for _, label in rows]), ["a"] * len(rows)
    )


@pytest.mark.parametrize("named", [{}, {"inputs": "image", "target": "label"}, {"target": lambda batch: batch.label}])
def test_a_dataclass_is_a_batch(named):
    data = samples(IMAGE, CLASS)
    plain = next(iter(smartaug.DataLoader(data, B, augment=smartaug.MixUp(), seed=0)))
    batch = next(iter(smartaug.DataLoader(data, B, augment=smartaug.MixUp(), seed=0, collate_fn=record, **named)))
    assert type(batch) is Record
    assert batch.path == ["a"] * B
    assert torch.equal(batch.image, plain[0])
    assert torch.equal(batch.label.soft, plain[1].soft)
    collate = smartaug.Collate(record, augment=smartaug.MixUp(), seed=0)
    assert torch.equal(next(iter(DataLoader(data, B, collate_fn=collate))).to("cpu").image, plain[0])


def test_an_object_of_an_unknown_class_is_refused():
    class Held:
        def __init__(self, rows):
            self.image, self.label = default_collate(rows)

    with pytest.raises(ValueError, match="an object Held, whose parts are not known: let collate_fn return a dict"):
        next(iter(smartaug.DataLoader(samples(IMAGE, CLASS), B, augment=smartaug.Flip(), collate_fn=Held)))


def test_a_regression_may_have_whole_numbers_in_one_batch():
    values = torch.tensor([0.5, 1.25, 7.5, 2.5, 3.0])
    data = [(IMAGE[0], value) for value in values]
    batches = list(smartaug.DataLoader(data, B, augment=smartaug.MixUp(), seed=0))
    assert batches[1][1].soft.tolist() == [[3.0]]


@pytest.mark.parametrize("ignored", [0, 2, 255])
def test_mixed_rows_count_as_far_as_their_labels_are_not_ignored(ignored):
    label = torch.tensor([ignored, 1, 3, 1, ignored])
    share, partner = torch.tensor([1.0, 0.25, 0.5, 0.75, 1.0]), torch.tensor([0, 0, 1, 2, 4])
    rows = nn.functional.one_hot(label, max(ignored + 1, 4)).double()
    soft = share[:, None] * rows + (1 - share[:, None]) * rows[partner]
    logits = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    got = smartaug.Loss(nn.CrossEntropyLoss(ignore_index=ignored))(logits, smartaug.Target(label, soft=soft))
    each = nn.CrossEntropyLoss(ignore_index=ignored, reduction="none")
    losses = share * each(logits, label) + (1 - share) * each(logits, label[partner])
    counts = share * (label != ignored) + (1 - share) * (label[partner] != ignored)
    torch.testing.assert_close(got, losses.sum() / counts.sum(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    "split",
    [
        lambda part: torch.tensor_split(part, 2),
        lambda part: part.tensor_split([1, 4]),
        lambda part: torch.tensor_split(part, indices=(2,)),
        lambda part: torch.tensor_split(part, sections=3, dim=0),
        lambda part: torch.split_with_sizes(part, [2, 3]),
        lambda part: torch.split(part, split_size_or_sections=2),
    ],
)
def test_targets_are_split_with_their_weights(split):
    weight = torch.arange(5.0)
    pieces = split(smartaug.Target(torch.arange(5), weight))
    assert [piece.weight.tolist() for piece in pieces] == [part.tolist() for part in split(weight)]
