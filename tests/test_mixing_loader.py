"""Mosaic, CopyPaste, CutMix and MixUp in a loader, beside boxes, masks and keypoints."""

import pytest
import torch
from torch import nn

import smartaug
from smartaug import augment as a
from smartaug.augment.targets import boxes, keypoints, kinds, move_instances, settled
from smartaug.augment.targets.maps import move_map
from smartaug.augment.targets.through import move_objects

SIDE, BATCH = 24, 4
FOLLOW = {"boxes": "xyxy", "masks": "mask", "keypoints": "keypoints"}


def scene(number, generator, size=(SIDE, SIDE)):
    """An image with ``number`` % 4 objects, each a rectangle without its first pixel."""
    count = number % 4
    masks, found = torch.zeros(count, *size, dtype=torch.uint8), torch.zeros(count, 4)
    for mask, box in zip(masks, found, strict=True):
        top, left = torch.randint(0, 14, (2,), generator=generator).tolist()
        mask[top : top + 9, left : left + 7] = 1
        mask[top, left] = 0
        box[:] = torch.tensor([left, top, left + 7, top + 9])
    points = torch.cat([torch.rand(count, 2, 2, generator=generator) * 20, torch.full((count, 2, 1), 2.0)], 2)
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator)
    labels = 10 * number + torch.arange(count)
    return image, {"boxes": found, "labels": labels, "masks": masks, "keypoints": points}


@pytest.fixture(scope="module")
def scenes():
    generator = torch.Generator().manual_seed(0)
    return [scene(number, generator) for number in range(2 * BATCH)]


def stacked(batch):
    return torch.stack([image for image, _ in batch]), [target for _, target in batch]


def loaded(data, augment, collate=stacked, **settings):
    return smartaug.DataLoader(data, BATCH, augment=augment, collate_fn=collate, seed=5, device="cpu", **settings)


STAGES = {
    "Mosaic": lambda: a.Mosaic(),
    "Mosaic, some": lambda: a.Mosaic(p=0.5),
    "CutMix": lambda: a.CutMix(),
    "MixUp": lambda: a.MixUp(),
    "CopyPaste": lambda: a.CopyPaste(1.0),
    "all": lambda: a.Compose([a.Flip(), a.Mosaic(), a.CopyPaste(), a.RandomResizedCrop(20), a.CutMix()]),
}


@pytest.mark.parametrize("name", STAGES)
def test_a_loader_does_what_its_plan_says(scenes, name):
    """Boxes, labels, masks and keypoints of each sample are those that the plan makes by itself."""
    step = STAGES[name]()
    drawn = 0
    for number, (images, targets) in enumerate(loaded(scenes, step, follow=FOLLOW)):
        given, before = stacked(scenes[number * BATCH : (number + 1) * BATCH])
        index = torch.arange(number * BATCH, (number + 1) * BATCH)
        counts = [len(target["boxes"]) for target in before]
        flat = {key: torch.cat([target[key] for target in before]) for key in before[0]}
        row = torch.arange(BATCH).repeat_interleave(torch.tensor(counts))
        plan = settled(step.plan(given.shape, index=index, epoch=0, seed=5), flat["masks"], row)
        assert torch.equal(images, step.apply(given, plan))
        moved = move_objects(plan, boxes.to_objects(flat["boxes"], counts, "xyxy", (SIDE, SIDE)))
        points = move_objects(plan, keypoints.to_objects(flat["keypoints"], counts, kinds.Keypoints()))
        masks = move_instances(plan, flat["masks"], row, torch.arange(len(moved)))
        kept = boxes.kept(moved, kinds.Boxes()) & ((masks > 0).flatten(1).any(1) | (moved.visible >= 1).all(1))
        size = plan.output_shape[2:]
        for sample, target in enumerate(targets):
            own = (kept & (moved.row == sample)).nonzero()[:, 0]
            drawn += len(own)
            assert torch.equal(target["labels"], flat["labels"][moved.origin[own]])
            torch.testing.assert_close(
                target["boxes"], boxes.from_objects(moved.take(own), "xyxy", size, torch.float32)
            )
            assert torch.equal(target["masks"], masks[own])
            made = keypoints.from_objects(points.take(own), flat["keypoints"], kinds.Keypoints())
            torch.testing.assert_close(target["keypoints"], made)
            assert target["boxes"].dtype == torch.float32
            assert target["masks"].dtype == torch.uint8
    assert drawn > 4


def test_objects_by_themselves_and_padded(scenes):
    """Keypoints alone, and boxes padded to one number a sample, get room for the objects of others."""

    def padded(batch):
        images, targets = stacked(batch)
        valid = torch.tensor([[n < len(target["boxes"]) for n in range(3)] for target in targets])
        whole = torch.zeros(len(batch), 3, 4)
        labels = torch.zeros(len(batch), 3, dtype=torch.int64)
        for place, target in enumerate(targets):
            whole[place, : len(target["boxes"])] = target["boxes"]
            labels[place, : len(target["boxes"])] = target["labels"]
        return {"image": images, "boxes": whole, "labels": labels, "valid": valid}

    step = a.MixUp()
    follow = {"boxes": smartaug.Boxes(valid="valid"), "labels": "object"}
    batch = next(iter(loaded(scenes, step, padded, follow=follow)))
    listed = next(iter(loaded(scenes, step, follow={"boxes": "xyxy"}, still=("masks", "keypoints"))))[1]
    for row, target in enumerate(listed):
        valid = batch["valid"][row].bool()
        assert sorted(batch["labels"][row][valid].tolist()) == sorted(target["labels"].tolist())
        assert int(valid.sum()) == len(target["boxes"])

    def only_points(batch):
        images, targets = stacked(batch)
        return images, [target["keypoints"] for target in targets]

    _, points = next(iter(loaded(scenes, step, only_points, follow={1: "keypoints"})))
    assert [len(one) for one in points] == [len(target["boxes"]) for target in listed]


def test_segmentation_is_pasted_and_trains():
    generator = torch.Generator().manual_seed(1)
    pairs = [
        (
            torch.randint(0, 256, (3, SIDE, SIDE), dtype=torch.uint8, generator=generator),
            torch.randint(0, 4, (SIDE, SIDE), generator=generator),
        )
        for _ in range(BATCH)
    ]
    given, masks = (torch.stack(part) for part in zip(*pairs, strict=True))
    for step in (a.CutMix(), a.Mosaic(mask_fill=3)):
        images, target = next(iter(loaded(pairs, step, None, follow={1: "mask"})))
        plan = step.plan(given.shape, index=torch.arange(BATCH), epoch=0, seed=5)
        assert torch.equal(images, step.apply(given, plan))
        assert torch.equal(torch.as_tensor(target).as_subclass(torch.Tensor), move_map(plan, masks, smartaug.Mask()))
        assert getattr(target, "soft", None) is None
        loss = smartaug.Loss(nn.CrossEntropyLoss())(nn.Conv2d(3, 4, 1)(images.float() / 255), target)
        loss.backward()
    with pytest.raises(ValueError, match="MixUp blends images, and the values of a mask of int64 have no blend"):
        next(iter(loaded(pairs, a.MixUp(), None, follow={1: "mask"})))
    soft = [(image, nn.functional.one_hot(mask, 4).movedim(-1, 0).float()) for image, mask in pairs]
    _, blended = next(iter(loaded(soft, a.MixUp(), None, follow={1: "mask"})))
    torch.testing.assert_close(blended.as_subclass(torch.Tensor).sum(1), torch.ones(BATCH, SIDE, SIDE))


def test_a_coreset_records_pasted_maps_by_their_shares():
    """A picture that holds another's part is not recorded as its own sample alone."""
    pairs = [(torch.rand(3, 8, 8), torch.full((8, 8), number % 2)) for number in range(8)]
    for p, alone in ((0.0, True), (1.0, False)):
        coreset = smartaug.Coreset(0.5, select=smartaug.MaxLoss(), apply="augment", warmup=0)
        seen = []
        coreset.observe = lambda index, output, target, unmixed=None, seen=seen: seen.append(target)
        loader = smartaug.DataLoader(
            pairs, 8, augment=a.CutMix(p=p), coreset=coreset, target=1, follow={1: "mask"}, seed=5, device="cpu"
        )
        coreset.selection = lambda epoch, size, seed: (torch.arange(4), None)
        criterion, model = smartaug.Loss(nn.CrossEntropyLoss()), nn.Conv2d(3, 2, 1)
        for images, masks in loader:
            criterion(model(images), masks)
        (target,) = seen
        shares = None if target._mixed is None else target._mixed.shares
        assert (shares is None or bool((shares[:, 0] == 1).all())) is alone
        if not alone:
            own = target.plain == torch.arange(8)[:, None, None] % 2
            assert bool((shares[4:, 0] == 1).all())  # not selected
            torch.testing.assert_close(shares[:4].sum(1), torch.ones(4))
            assert bool((own.float().mean((1, 2)) >= shares[:, 0] - 1e-6).all())


def test_a_class_of_the_image_is_mixed_beside_boxes(scenes):
    data = [{"image": image, "label": number % 3, **target} for number, (image, target) in enumerate(scenes)]

    def collate(batch):
        listed = [{key: one[key] for key in ("boxes", "labels")} for one in batch]
        return {
            "image": torch.stack([one["image"] for one in batch]),
            "label": torch.tensor([one["label"] for one in batch]),
            "objects": listed,
        }

    step = a.Mosaic(num_classes=3)
    batch = next(iter(loaded(data, step, collate, follow={"boxes": "xyxy"}, target="label")))
    row, share = step.plan((BATCH, 3, SIDE, SIDE), index=torch.arange(BATCH), epoch=0, seed=5).mixes[0].parts()
    expected = torch.zeros(BATCH, 3).scatter_add_(1, torch.tensor([0, 1, 2, 0])[row], share)
    torch.testing.assert_close(batch["label"].soft, expected)
    assert sum(len(one["boxes"]) for one in batch["objects"]) > 0


def test_what_cannot_be_pasted_is_refused(scenes):
    with pytest.raises(ValueError, match="CopyPaste pastes objects by their instance masks, and none were given"):
        next(iter(loaded(scenes, a.CopyPaste(), follow={"boxes": "xyxy"}, still=("masks", "keypoints"))))
    generator = torch.Generator().manual_seed(2)
    mixed = [scene(number, generator, (SIDE, SIDE + 4 * (number % 2))) for number in range(BATCH)]

    def in_lists(batch):
        return [image for image, _ in batch], [target for _, target in batch]

    for step in (a.Mosaic(), a.CopyPaste()):
        with pytest.raises(ValueError, match="mixing samples needs images of one size"):
            next(iter(loaded(mixed, step, in_lists, follow=FOLLOW)))
    halves = [(image, {**target, "masks": target["masks"][:, ::2, ::2]}) for image, target in scenes]
    with pytest.raises(ValueError, match="one mask an object of the images' size"):
        next(iter(loaded(halves, a.CopyPaste(), follow=FOLLOW)))
    _, targets = next(iter(loaded(halves, a.CutMix(), follow=FOLLOW)))
    assert {tuple(target["masks"].shape[1:]) for target in targets} == {(SIDE // 2, SIDE // 2)}


def test_a_selected_part_of_a_batch_is_mixed_among_itself(scenes):
    coreset = smartaug.Coreset(0.5, select=smartaug.coreset.RandomSubset(), apply="augment", warmup=0)
    loader = loaded(scenes, a.CutMix(), follow=FOLLOW, coreset=coreset)
    seen = 0
    for number, (images, targets) in enumerate(loader):
        given, before = stacked(scenes[number * BATCH : (number + 1) * BATCH])
        for place in range(BATCH):
            if torch.equal(images[place], given[place]):
                assert torch.equal(targets[place]["boxes"], before[place]["boxes"])
                assert torch.equal(targets[place]["masks"], before[place]["masks"])
            else:
                seen += 1
    assert seen
