"""What lies in the images and the dataset's transform was not given: it moves, or is refused, in whatever batch."""

from dataclasses import dataclass
from typing import Any

import albumentations as A
import hypothesis
import numpy as np
import pytest
import torch
from albumentations.pytorch import ToTensorV2
from hypothesis import strategies as st
from torch.utils.data import Dataset, IterableDataset, Subset
from torchvision import tv_tensors
from torchvision.transforms import v2

import smartaug
from smartaug.lift.deferred.given import Given
from smartaug.lift.roles import rules_of

pytestmark = pytest.mark.filterwarnings("ignore:lift=True (had no effect|ran for only):smartaug.NoEffectWarning")

COUNT, SIZE = 8, (24, 32)
MIRRORS = v2.Compose([v2.RandomHorizontalFlip(0.8), v2.RandomVerticalFlip(0.8)])
ALONE, LIFTED, TOUCHED, NEVER = "alone", "lifted", "touched", "never"
LEFT = r"\['boxes'\]|\.boxes|batch\[1\].* follows the images, but .* it stayed behind: .* give the transform both"


@dataclass
class Record:
    """A batch as a dataclass object."""

    image: Any
    boxes: Any
    mask: Any


class Scene(Dataset):
    """A bright rectangle, its box and its mask. given: the parts that the transform gets beside the image.

    states: of each sample, whether the transform's image is returned as it is, touched, or it is not called.
    """

    def __init__(self, given=(), states=(LIFTED,) * COUNT, transform=MIRRORS, typed=False):
        self.given, self.states, self.transform, self.typed = given, states, transform, typed

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        image = torch.full((3, *SIZE), 20, dtype=torch.uint8)
        image[:, 3:8, 4:14] = 220
        parts = {"boxes": torch.tensor([[4.0, 3, 14, 8]]), "mask": (image[0] > 100).to(torch.uint8)}
        if not self.given:
            parts["mask"] = index  # a mask beside an image that is transformed alone is seen in the first sample
        if self.typed or "boxes" in self.given:
            parts["boxes"] = tv_tensors.BoundingBoxes(parts["boxes"], format="XYXY", canvas_size=SIZE)
        if "mask" in self.given:
            parts["mask"] = tv_tensors.Mask(parts["mask"])
        if self.states[index] != NEVER:
            if self.given:
                image, moved = self.transform(tv_tensors.Image(image), {name: parts[name] for name in self.given})
                parts |= moved
            else:
                image = self.transform(image)
        image = image.clone() if self.states[index] == TOUCHED else image
        return image, parts["boxes"], parts["mask"]


def columns(samples):
    return list(zip(*samples, strict=True))


def stacked(images):
    return torch.stack(
        [image.as_subclass(torch.Tensor) if type(image) is tv_tensors.Image else image for image in images]
    )


STRUCTURES = {  # the batch of samples, how its parts are read, and what names the boxes
    "dict": (lambda image, boxes, mask: {"image": image, "boxes": boxes, "mask": mask}, lambda b: b.values(), "boxes"),
    "tuple": (lambda image, boxes, mask: (image, boxes, mask), tuple, 1),
    "dataclass": (Record, lambda b: (b.image, b.boxes, b.mask), "boxes"),
    "nested": (
        lambda image, boxes, mask: (image, [{"boxes": b, "mask": m} for b, m in zip(boxes, mask, strict=True)]),
        lambda b: (b[0], [one["boxes"] for one in b[1]], [one["mask"] for one in b[1]]),
        "boxes",
    ),
}


def collate_of(structure, stacks):
    def collate(samples):
        images, boxes, masks = columns(samples)
        return STRUCTURES[structure][0](stacked(images) if stacks else list(images), list(boxes), list(masks))

    return collate


def found_box(image):
    rows, places = (image.as_subclass(torch.Tensor)[0] > 120).nonzero().unbind(1)
    return [int(places.min()), int(rows.min()), int(places.max()) + 1, int(rows.max()) + 1]


def wrong(loader, structure):
    """How many boxes and masks are not where the rectangles of their images are."""
    boxes_wrong = masks_wrong = 0
    for batch in loader:
        for image, boxes, mask in zip(*STRUCTURES[structure][1](batch), strict=True):
            boxes_wrong += boxes.tolist() != [found_box(image)]
            masks_wrong += isinstance(mask, torch.Tensor) and not torch.equal(
                mask.as_subclass(torch.Tensor).reshape(SIZE) > 0, image[0] > 120
            )
    return boxes_wrong, masks_wrong


def loader_of(dataset, structure, stacks, size=4, **keywords):
    follow = {STRUCTURES[structure][2]: "xyxy", **keywords.pop("follow", {})}
    return smartaug.DataLoader(
        dataset, size, lift=True, seed=0, collate_fn=collate_of(structure, stacks), follow=follow, **keywords
    )


WORKERS = {"num_workers": 2, "multiprocessing_context": "fork"}
FORMS = pytest.mark.parametrize(
    ("structure", "stacks", "workers"),
    [(structure, stacks, {}) for structure in STRUCTURES for stacks in (True, False)]
    + [("nested", True, WORKERS), ("tuple", False, WORKERS)],
)


@FORMS
@pytest.mark.parametrize("touched", [(4, 5, 6, 7), (2, 3, 5)])
def test_what_a_transform_for_several_was_not_given_does_not_stay_behind(structure, stacks, workers, touched):
    """It is given (image, mask), and follow= names boxes: in a batch that is lifted in part, or not at all."""
    states = [TOUCHED if number in touched else LIFTED for number in range(COUNT)]
    with pytest.raises(ValueError, match=LEFT):
        list(loader_of(Scene(("mask",), states), structure, stacks, **workers))
    if not workers:
        given = Scene(("mask", "boxes"), states)
        assert wrong(loader_of(given, structure, stacks), structure) == (0, 0)


@FORMS
def test_samples_that_never_called_the_transform_are_no_error(structure, stacks, workers):
    states = [LIFTED] * 4 + [NEVER] * 3 + [NEVER if stacks else LIFTED]
    for given in ((), ("mask",)) if not workers else ((),):
        loader = loader_of(Scene(given, states), structure, stacks, **workers)
        assert wrong(loader, structure)[0] == 0
        assert loader.stats()["lifted"] == states.count(LIFTED)


CASES = (
    st.lists(st.sampled_from([LIFTED, LIFTED, TOUCHED, NEVER]), min_size=COUNT - 2, max_size=COUNT - 2),
    st.sampled_from([(), ("mask",), ("boxes",), ("mask", "boxes")]),
    st.sampled_from([1, 2, 3, 4]),
    st.booleans(),
)


@hypothesis.settings(max_examples=12, deadline=None)
@hypothesis.given(*CASES)
def test_a_batch_is_right_or_refused(states, given, size, stacks):
    right_or_refused(states, given, size, stacks)


@pytest.mark.slow
@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(*CASES)
def test_a_batch_is_right_or_refused_in_many_cases(states, given, size, stacks):
    right_or_refused(states, given, size, stacks)


def right_or_refused(states, given, size, stacks):
    """Refused is exactly the batch with a sample whose whole pipeline ran without its boxes, and right any other."""
    states = [LIFTED, LIFTED, *states]  # by the first two samples it is decided that anything is lifted
    still = "mask" if given == ("boxes",) else None
    loader = loader_of(Scene(given, states), "dict", stacks, size, still=still)
    batches = iter(loader)
    for start in range(0, COUNT, size):
        own = states[start : start + size]
        whole = [state for state in own if state == TOUCHED or (stacks and state == LIFTED and set(own) != {LIFTED})]
        if whole and "boxes" not in given:
            with pytest.raises(ValueError, match=LEFT):
                next(batches)
            return
        batch = next(batches)
        assert [boxes.tolist() for boxes in batch["boxes"]] == [[found_box(image)] for image in batch["image"]]


# --- without follow=: types and names ---------------------------------------------------------------------------------


@pytest.mark.parametrize("stacks", [True, False], ids=["stacked", "listed"])
@pytest.mark.parametrize("given", [(), ("mask",)])
def test_types_and_names_follow_lifted_stages_in_every_batch(stacks, given):
    def loader(states=(LIFTED,) * COUNT):
        return smartaug.DataLoader(
            Scene(given, states, typed=True), 4, lift=True, seed=0, collate_fn=collate_of("dict", stacks)
        )

    if given:
        assert wrong(loader(), "dict") == (0, 0)
        with pytest.raises(ValueError, match=LEFT):
            list(loader([LIFTED] * 3 + [TOUCHED] * 5))


@pytest.mark.parametrize("stacks", [True, False], ids=["stacked", "listed"])
def test_what_is_not_known_beside_an_image_that_is_lifted_alone_is_refused(stacks):
    class Boxed(Scene):
        def __getitem__(self, index):
            return *super().__getitem__(index)[:2], 0

    def collate(samples):
        images, boxes, _ = columns(samples)
        return {"image": stacked(images) if stacks else list(images), "boxes": list(boxes)}

    with pytest.raises(ValueError, match=r"batch\['boxes'\]\S* is boxes or keypoints that would not follow"):
        next(iter(smartaug.DataLoader(Boxed(), 4, lift=True, seed=0, collate_fn=collate)))
    loader = smartaug.DataLoader(Boxed(), 4, lift=True, seed=0, collate_fn=collate, still="boxes")
    assert all(boxes.tolist() == [[4, 3, 14, 8]] for batch in loader for boxes in batch["boxes"])


def test_in_a_list_of_samples_nothing_follows_and_all_is_refused():
    class Typed(Scene):
        def __getitem__(self, index):
            return super().__getitem__(index)[:2]

    for dataset in (Typed(typed=True), Typed()):
        with pytest.raises(ValueError, match=r"would not follow"):
            next(iter(smartaug.DataLoader(dataset, 4, lift=True, seed=0, collate_fn=list)))
    samples = next(iter(smartaug.DataLoader(Typed(("boxes",)), 4, lift=True, seed=0, collate_fn=list)))
    assert [boxes.tolist() for _, boxes in samples] == [[found_box(image)] for image, _ in samples]


# --- which leaf it was ------------------------------------------------------------------------------------------------


class Maps(Dataset):
    """(image, mask, depth), of which the transform is given the mask alone; from sample 2 on the image is touched."""

    def __init__(self, reads=None):
        self.transform, self.reads = MIRRORS, reads

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        image = torch.full((3, *SIZE), 20, dtype=torch.uint8)
        image[:, 3:8, 4:14] = 220
        mask = (image[0] > 100).to(torch.uint8)
        depth = mask.float() * 3 + 0.25
        image, mask = self.transform(tv_tensors.Image(image), tv_tensors.Mask(mask))
        image = image.clone() if index >= 2 else image
        if index >= 2 and self.reads is not None:
            return image, *self.reads(mask, depth)
        return image, mask, depth


@pytest.mark.parametrize(
    ("reads", "follow", "refused"),
    [
        (None, {2: "heatmap"}, True),  # the mask has arrived elsewhere
        (None, {1: "mask"}, False),
        (None, {1: "mask", 2: "heatmap"}, True),
        (lambda mask, depth: (mask.long(), depth), {1: "mask"}, False),
        (lambda mask, depth: (mask.long(), depth), {1: "mask", 2: "heatmap"}, True),  # two, of which one was given
        (lambda mask, depth: (0, mask * 3 + 0.25), {2: "heatmap"}, False),  # it is made of the one that was given
    ],
)
def test_two_maps_of_which_the_transform_was_given_one(reads, follow, refused):
    still = None if 2 in follow else 2
    loader = smartaug.DataLoader(Maps(reads), 2, lift=True, seed=0, follow=follow, still=still)
    batches = iter(loader)
    image, _, depth = next(batches)
    if 2 in follow:
        assert torch.equal(depth[0] > 1, image[0, 0] > 120)
    if refused:
        with pytest.raises(ValueError, match=r"batch\[2\] follow\S* the images, but in sample 0 of the batch"):
            list(batches)
    else:
        assert len(list(batches)) == COUNT // 2 - 1


def test_a_stream_and_a_subset_are_looked_at_as_well():
    class Stream(IterableDataset):
        def __init__(self, states):
            self.scene, self.transform = Scene((), states), MIRRORS

        def __iter__(self):
            for index in range(COUNT):
                self.scene.transform = self.transform
                yield self.scene[index]

    states = [LIFTED] * 4 + [NEVER] * 4
    assert wrong(loader_of(Stream(states), "dict", True), "dict")[0] == 0
    with pytest.raises(ValueError, match=LEFT):
        list(loader_of(Stream([LIFTED] * 4 + [TOUCHED] * 4), "dict", True))
    part = Subset(Scene((), [LIFTED] * 4 + [TOUCHED] * 2 + [NEVER] * 2), [0, 1, 6, 7])
    assert wrong(loader_of(part, "dict", True, 2), "dict")[0] == 0


def test_what_a_call_is_given_is_known_by_types_and_names():
    image, mask = tv_tensors.Image(torch.zeros(3, 4, 4)), tv_tensors.Mask(torch.zeros(2, 2))
    boxes = tv_tensors.BoundingBoxes(torch.zeros(0, 4), format="XYXY", canvas_size=(4, 4))
    torchvisions = rules_of(MIRRORS)
    assert Given.of_arguments(torchvisions, (image, {"a": [boxes, mask], "b": torch.zeros(4)}), {}) == Given(1, 0, 1)
    assert Given.of_arguments(torchvisions, (image, image, mask), {}) == Given(0, 0, 2)
    assert Given.of_arguments(torchvisions, (image,), {}) == Given()
    named = rules_of(A.Compose([A.HorizontalFlip(), ToTensorV2()]))
    pixels = np.zeros((4, 4, 3), np.uint8)
    assert Given.of_arguments(named, (), {"image": pixels, "masks": [pixels], "bboxes": []}) == Given(1, 0, 1)
    assert Given.of_arguments(named, (), {"image": pixels, "depth": pixels}) == Given(unknown=True)


class Unknown(torch.nn.Module):
    """It stays in the worker, and so does what comes before it."""

    def forward(self, *inputs):
        return inputs if len(inputs) > 1 else inputs[0]


@pytest.mark.parametrize("stacks", [True, False], ids=["stacked", "listed"])
def test_what_was_not_given_to_a_transform_that_stays_and_moves_the_image_is_refused(stacks):
    """In the worker the image moves alone, also where all that comes behind is lifted."""
    for first in (v2.RandomVerticalFlip(1.0), v2.RandomApply([v2.RandomRotation(10)], 1.0)):
        transform = v2.Compose([first, Unknown(), v2.RandomHorizontalFlip(0.5)])
        with pytest.raises(ValueError, match=r"Random\S* stays in the worker, moves the image there and was not given"):
            next(iter(loader_of(Scene(transform=transform), "dict", stacks)))
    for first in (v2.RandomVerticalFlip(0.0), v2.RandomInvert(0.0)):
        transform = v2.Compose([first, Unknown(), v2.RandomHorizontalFlip(0.5)])
        assert wrong(loader_of(Scene(transform=transform), "dict", stacks), "dict")[0] == 0
    transform = v2.Compose([v2.RandomVerticalFlip(1.0), v2.JPEG((100, 100)), v2.RandomHorizontalFlip(0.5)])
    assert wrong(loader_of(Scene(("boxes", "mask"), transform=transform), "dict", stacks), "dict") == (0, 0)
