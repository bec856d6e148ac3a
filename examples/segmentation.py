"""Segmentation in Lightning: images and masks through one albumentations pipeline.

Masks move with the images, by the dataset's own pipeline: what of it is lifted moves both. It runs after the dataset,
so `long()`, which works on the moved mask, goes from there to the loss line. Masks take no learned weights; stages of
`augment=` that move pixels are refused, since the masks would stay; those of tone alone are taken.
"""

import argparse
import tempfile
from pathlib import Path

import albumentations as A
import lightning
import numpy as np
import tiny
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

import smartaug

parser = argparse.ArgumentParser()
parser.add_argument("--data", default="segmentation", help="folders images and masks, with files of the same names")
parser.add_argument("--classes", type=int, default=2)
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--tiny", action="store_true", help="a few generated images")
args = parser.parse_args()


class Segmented(Dataset):
    def __init__(self, folder, transform):
        self.files, self.transform = sorted(Path(folder).glob("images/*")), transform

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        file = self.files[index]
        image = np.array(Image.open(file).convert("RGB"))
        mask = np.array(Image.open(file.parents[1] / "masks" / file.name))
        moved = self.transform(image=image, mask=mask)
        return moved["image"], moved["mask"]


class Segmenter(lightning.LightningModule):
    def __init__(self, classes):
        super().__init__()
        self.model = lraspp_mobilenet_v3_large(num_classes=classes, weights=None, weights_backbone=None)
        self.criterion = nn.CrossEntropyLoss()

    def training_step(self, batch, batch_idx):
        images, masks = batch
        loss = self.criterion(self.model(images)["out"], masks.long())
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


side = 32 if args.tiny else 512
transform = A.Compose(
    [
        A.RandomCrop(side, side),
        A.HorizontalFlip(),
        A.Affine(rotate=(-15, 15), scale=(0.8, 1.2), interpolation=1, mask_interpolation=0),
        A.RandomBrightnessContrast(),
        A.Normalize(),
        A.ToTensorV2(),
    ]
)
train_set = Segmented(tiny.segmented(tempfile.mkdtemp()) if args.tiny else args.data, transform)
loader = smartaug.DataLoader(
    train_set,
    batch_size=4 if args.tiny else 16,
    shuffle=True,
    num_workers=0 if args.tiny else 8,
    lift=True,
)
print(loader.explain())
trainer = lightning.Trainer(
    max_epochs=1 if args.tiny else args.epochs,
    accelerator="cpu" if args.tiny else "auto",
    logger=not args.tiny,
    enable_checkpointing=not args.tiny,
    enable_progress_bar=not args.tiny,
    enable_model_summary=not args.tiny,
    log_every_n_steps=1,
)
trainer.fit(Segmenter(args.classes), loader)
print(f"loss {trainer.callback_metrics['loss']:.3f}")
