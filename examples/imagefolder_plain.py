"""A folder of photographs at 224 pixels: random resized crops, TrivialAugment, random erasing."""

import argparse
import tempfile

import tiny
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, models, transforms

parser = argparse.ArgumentParser()
parser.add_argument("--data", default="train", help="a folder with a folder of images for each class")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--tiny", action="store_true", help="a few generated photographs")
args = parser.parse_args()
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

folder = tiny.photographs(tempfile.mkdtemp()) if args.tiny else args.data
train_set = datasets.ImageFolder(
    folder,
    transforms.Compose(
        [
            transforms.RandomResizedCrop(64 if args.tiny else 224),
            transforms.RandomHorizontalFlip(),
            transforms.TrivialAugmentWide(),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            transforms.RandomErasing(p=0.1),
        ]
    ),
)
loader = DataLoader(
    train_set,
    batch_size=8 if args.tiny else 64,
    shuffle=True,
    num_workers=0 if args.tiny else 8,
)
model = models.resnet18(num_classes=len(train_set.classes)).to(device)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
criterion = nn.CrossEntropyLoss()

for epoch in range(1 if args.tiny else args.epochs):
    for images, target in loader:
        images, target = images.to(device), target.to(device)
        loss = criterion(model(images), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: loss {loss.item():.3f}")
