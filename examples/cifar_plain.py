"""CIFAR-10: RandAugment, CutMix, mixed precision."""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, default_collate
from torchvision import datasets, models
from torchvision.transforms import v2

parser = argparse.ArgumentParser()
parser.add_argument("--data", default="data")
parser.add_argument("--epochs", type=int, default=20)
parser.add_argument("--tiny", action="store_true", help="a few generated images")
args = parser.parse_args()
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

normalize = [
    v2.ToImage(),
    v2.ToDtype(torch.float32, scale=True),
    v2.Normalize((0.491, 0.482, 0.447), (0.247, 0.243, 0.262)),
]
augment = v2.Compose([v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip(), v2.RandAugment(), *normalize])
if args.tiny:
    train_set = datasets.FakeData(32, (3, 32, 32), transform=augment)
    test_set = datasets.FakeData(16, (3, 32, 32), transform=v2.Compose(normalize))
else:
    train_set = datasets.CIFAR10(args.data, download=True, transform=augment)
    test_set = datasets.CIFAR10(args.data, train=False, transform=v2.Compose(normalize))

cutmix = v2.CutMix(num_classes=10)


def collate(samples):
    return cutmix(*default_collate(samples))


loader = DataLoader(
    train_set,
    batch_size=16 if args.tiny else 128,
    shuffle=True,
    drop_last=True,
    num_workers=0 if args.tiny else 4,
    collate_fn=collate,
)
test_loader = DataLoader(test_set, batch_size=256)

model = models.resnet18(num_classes=10).to(device)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
epochs = 1 if args.tiny else args.epochs
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=epochs * len(loader))
criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")

for epoch in range(epochs):
    model.train()
    for images, target in loader:
        images, target = images.to(device), target.to(device)
        with torch.autocast(device.type, torch.bfloat16 if device.type == "cpu" else torch.float16):
            loss = criterion(model(images), target)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
    model.eval()
    with torch.no_grad():
        right = sum((model(images.to(device)).argmax(1).cpu() == target).sum() for images, target in test_loader)
    print(f"epoch {epoch}: loss {loss.item():.3f}, accuracy {right / len(test_set):.3f}")
