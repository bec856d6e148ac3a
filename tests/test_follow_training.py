"""Segmentation and detection trained from scratch, with one changed line each: what a model gets fits its images."""

import lightning
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import smartaug

SIDE = 32


class Shapes(Dataset):
    """Bright rectangles of two classes, in pictures of two sizes, with boxes, labels and a map of classes."""

    def __init__(self, detection, count=12):
        self.detection, self.count = detection, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        wide = SIDE + (8 if self.detection and index % 2 else 0)
        image = torch.randint(0, 60, (3, SIDE, wide), dtype=torch.uint8, generator=generator)
        mask = torch.zeros(SIDE, wide, dtype=torch.int64)
        boxes, labels = [], []
        for number in range(index % 3):
            left, top, *sides = torch.randint(6, 14, (4,), generator=generator).tolist()
            right, bottom = left + sides[0], top + sides[1]
            image[number, top:bottom, left:right] += 190
            mask[top:bottom, left:right] = number + 1
            boxes.append([left, top, right, bottom])
            labels.append(number + 1)
        if not self.detection:
            return image, mask
        return image, {"boxes": torch.tensor(boxes).reshape(-1, 4).float(), "labels": torch.tensor(labels).long()}


def lists(samples):
    return tuple(zip(*samples, strict=True))


STAGES = [smartaug.Flip(), smartaug.augment.Affine(15, translate=(0.1, 0.1)), smartaug.ColorJitter(0.2)]
SEGMENTATION = {"augment": [*STAGES, smartaug.Normalize(0.5, 0.25)], "follow": {1: "mask"}, "seed": 0}
DETECTION = {"augment": [*STAGES, smartaug.Normalize(0.0, 1.0)], "follow": {(1, "boxes"): "xyxy"}, "seed": 0}


def unet():
    def block(given, made):
        return nn.Sequential(nn.Conv2d(given, made, 3, padding=1), nn.BatchNorm2d(made), nn.ReLU())

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.down, self.deep, self.up = block(3, 8), block(8, 16), block(24, 8)
            self.last = nn.Conv2d(8, 3, 1)

        def forward(self, images):
            fine = self.down(images)
            coarse = nn.functional.interpolate(self.deep(nn.functional.max_pool2d(fine, 2)), scale_factor=2)
            return self.last(self.up(torch.cat([fine, coarse], 1)))

    return UNet()


def detector():
    """torchvision's FCOS on a backbone of three convolutions."""
    from torchvision.models.detection import FCOS
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    layers = [nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()]
    backbone = nn.Sequential(*layers)
    backbone.out_channels = 32
    sizes = AnchorGenerator(sizes=((8,),), aspect_ratios=((1.0,),))
    normal = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "min_size": SIDE, "max_size": SIDE + 8}
    return FCOS(backbone, 3, anchor_generator=sizes, **normal)


def test_a_segmentation_learns_where_masks_move_with_their_images():
    model, criterion = unet(), smartaug.Loss(nn.CrossEntropyLoss(torch.tensor([0.2, 1.0, 1.0])))
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    loader = smartaug.DataLoader(Shapes(False), 6, shuffle=True, **SEGMENTATION)
    for _ in range(15):
        for images, masks in loader:
            optimizer.zero_grad()
            criterion(model(images), masks).backward()
            optimizer.step()
    # the rectangles are bright, so where masks had stayed behind, no model could find them
    images, masks = next(iter(loader))
    model.eval()
    with torch.no_grad():
        found = model(images).argmax(1)
    there = masks.plain > 0
    assert int((found[there] == masks.plain[there]).sum()) > 0.8 * int(there.sum())


def test_a_detector_trains_on_lists_of_images_and_boxes():
    model = detector()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    loader = smartaug.DataLoader(Shapes(True), 4, shuffle=True, collate_fn=lists, **DETECTION)
    losses = []
    for _ in range(6):
        for images, targets in loader:
            assert all(bool((one["boxes"][:, 2:] > one["boxes"][:, :2]).all()) for one in targets)
            loss = sum(model(images, targets).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


def ssdlite():
    """torchvision's ssdlite320 from scratch, for pictures of 64 pixels."""
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3)
    model.transform.fixed_size, model.transform.max_size = (64, 64), 64
    return model


def lraspp():
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    return lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3)


@pytest.mark.parametrize("kind", ["ssdlite", "lraspp"])
def test_the_small_models_of_torchvision_train_to_the_end(kind):
    """Plain PyTorch, with another loader line and another criterion line."""
    detection = kind == "ssdlite"
    model, criterion = (ssdlite(), None) if detection else (lraspp(), smartaug.Loss(nn.CrossEntropyLoss()))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    before = [value.detach().clone() for value in model.parameters()]
    settings = DETECTION | {"collate_fn": lists} if detection else SEGMENTATION
    loader = smartaug.DataLoader(Shapes(detection, 5), 2, shuffle=True, drop_last=True, **settings)
    model.train()
    losses = []
    for _ in range(2):
        for images, targets in loader:
            if detection:
                loss = sum(model(list(images), list(targets)).values())
            else:
                loss = criterion(model(images)["out"], targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    assert len(losses) == 4
    assert all(0 < value < 1000 for value in losses), losses
    changed = [not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)]
    assert all(changed) if kind == "lraspp" else any(changed)  # ssdlite's first weights are too small for 4 steps
    assert all(bool(value.isfinite().all()) for value in model.parameters())


class Lit(lightning.LightningModule):
    def __init__(self, model, loss):
        super().__init__()
        self.model, self.loss, self.losses = model, loss, []

    def training_step(self, batch, batch_idx):
        loss = self.loss(self.model, *batch)
        self.losses.append(float(loss.detach()))
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


def segment(model, images, masks):
    return nn.functional.cross_entropy(model(images), masks)


def detect(model, images, targets):
    return sum(model(images, targets).values())


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize("task", ["segmentation", "detection"])
@pytest.mark.parametrize("handed", ["loader", "collate"])
def test_lightning_trains_both(task, handed):
    detection = task == "detection"
    settings, loss = (DETECTION, detect) if detection else (SEGMENTATION, segment)
    data, collate = Shapes(detection, 8), lists if detection else None
    if handed == "loader":
        loader = smartaug.DataLoader(data, 4, collate_fn=collate, **settings)
    else:
        loader = DataLoader(data, 4, collate_fn=smartaug.Collate(collate, **settings))
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    lit = Lit(detector() if detection else unet(), loss)
    trainer.fit(lit, loader)
    assert len(lit.losses) == 2
    assert all(value == value for value in lit.losses)
