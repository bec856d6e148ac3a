"""Photographs with several labels each, listed in a CSV file."""

import argparse
import tempfile
from pathlib import Path

import pandas as pd
import tiny
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import models
from torchvision.transforms import v2

parser = argparse.ArgumentParser()
parser.add_argument("--data", default="photos", help="a folder with labels.csv: a column file, and one for each label")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--tiny", action="store_true", help="a few generated photographs")
args = parser.parse_args()
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
side = 64 if args.tiny else 224


class Tagged(Dataset):
    def __init__(self, folder, transform):
        self.folder, self.transform = Path(folder), transform
        self.rows = pd.read_csv(self.folder / "labels.csv", index_col="file")

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        image = Image.open(self.folder / self.rows.index[index]).convert("RGB")
        labels = torch.tensor(self.rows.iloc[index].to_numpy(), dtype=torch.float32)
        return self.transform(image), labels


transform = v2.Compose(
    [
        v2.RandomResizedCrop(side),
        v2.RandomHorizontalFlip(),
        v2.ColorJitter(0.4, 0.4, 0.4),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
)
train_set = Tagged(tiny.tagged(tempfile.mkdtemp()) if args.tiny else args.data, transform)
loader = DataLoader(
    train_set,
    batch_size=8 if args.tiny else 64,
    shuffle=True,
    num_workers=0 if args.tiny else 8,
)
model = models.resnet18(num_classes=train_set.rows.shape[1]).to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
criterion = nn.BCEWithLogitsLoss()

for epoch in range(1 if args.tiny else args.epochs):
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        loss = criterion(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: loss {loss.item():.3f}")
