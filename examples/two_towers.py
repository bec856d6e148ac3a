"""Photographs and captions in one space (CLIP's loss), with a tower for each.

The photographs are augmented in batches, and SAFLEX learns a weight and a soft label over the batch for each pair from
pairs that were held out. `nn.EmbeddingBag` has no forward-mode derivative, which the log says: a difference stands in.
"""

import argparse
import tempfile
from pathlib import Path

import pandas as pd
import tiny
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset, Subset
from torchvision import models
from torchvision.transforms import v2

import smartaug

parser = argparse.ArgumentParser()
parser.add_argument("--data", default="photos", help="a folder with captions.csv: the columns file and caption")
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--tiny", action="store_true", help="a few generated photographs")
args = parser.parse_args()
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
WORDS, LENGTH = 4096, 16


class Captioned(Dataset):
    def __init__(self, folder, transform):
        self.folder, self.transform = Path(folder), transform
        self.rows = pd.read_csv(self.folder / "captions.csv")

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        row = self.rows.iloc[index]
        numbers = [1 + sum(word.encode()) % (WORDS - 1) for word in row.caption.split()][:LENGTH]
        tokens = torch.tensor(numbers + [0] * (LENGTH - len(numbers)))
        return {"image": self.transform(Image.open(self.folder / row.file).convert("RGB")), "tokens": tokens}


class Towers(nn.Module):
    def __init__(self):
        super().__init__()
        self.photos = models.resnet18(num_classes=128)
        self.words = nn.EmbeddingBag(WORDS, 128, padding_idx=0)

    def forward(self, image, tokens):
        return self.photos(image), self.words(tokens)


transform = v2.Compose(
    [
        v2.RandomResizedCrop(48 if args.tiny else 224, scale=(0.5, 1.0)),
        v2.ColorJitter(0.3, 0.3, 0.3),
        v2.RandomGrayscale(0.1),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize((0.481, 0.458, 0.408), (0.269, 0.261, 0.276)),
    ]
)
folder = tiny.captioned(tempfile.mkdtemp()) if args.tiny else args.data
evaluation = v2.Compose([v2.Resize((48, 48) if args.tiny else (224, 224)), *transform.transforms[3:]])
train_set, held_out = Captioned(folder, transform), Captioned(folder, evaluation)
rows = torch.randperm(len(train_set), generator=torch.Generator().manual_seed(0)).tolist()
held = 4 if args.tiny else 1024
model = Towers().to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
criterion = smartaug.ContrastiveLoss(temperature=0.07)
loader = smartaug.DataLoader(
    Subset(train_set, rows[held:]),
    batch_size=8 if args.tiny else 256,
    shuffle=True,
    num_workers=0 if args.tiny else 8,
    lift=True,
    reweight=smartaug.SAFLEX(
        model, Subset(held_out, rows[:held]), validation_batch=4 if args.tiny else 256, criterion=criterion
    ),
    inputs=["image", "tokens"],
    target="tokens",  # carries the weights
)

weighted = smartaug.Loss(criterion)
for epoch in range(1 if args.tiny else args.epochs):
    for batch in loader:
        images, tokens = batch["image"].to(device), batch["tokens"].to(device)
        loss = weighted(model(images, tokens), tokens)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: loss {loss.item():.3f}")
