"""Self-supervised learning from two views of every photograph (SimCLR)."""

import argparse
import tempfile

import tiny
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torchvision import datasets, models
from torchvision.transforms import v2

parser = argparse.ArgumentParser()
parser.add_argument("--data", default="train", help="a folder with a folder of images for each class")
parser.add_argument("--epochs", type=int, default=100)
parser.add_argument("--tiny", action="store_true", help="a few generated photographs")
args = parser.parse_args()
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
side = 48 if args.tiny else 224

view = v2.Compose(
    [
        v2.RandomResizedCrop(side, scale=(0.2, 1.0)),
        v2.RandomHorizontalFlip(),
        v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
        v2.RandomGrayscale(0.2),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
    ]
)


class TwoViews:
    def __call__(self, image):
        return [view(image), view(image)]


train_set = datasets.ImageFolder(tiny.photographs(tempfile.mkdtemp()) if args.tiny else args.data, TwoViews())
loader = DataLoader(
    train_set,
    batch_size=8 if args.tiny else 256,
    shuffle=True,
    num_workers=0 if args.tiny else 8,
)
model = models.resnet18(num_classes=64).to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)


def contrast(one, two, temperature=0.2):
    rows = F.normalize(torch.cat([one, two]), dim=1)
    similar = rows @ rows.T / temperature
    similar.fill_diagonal_(-torch.inf)
    partner = torch.arange(len(rows), device=rows.device).roll(len(one))
    return F.cross_entropy(similar, partner)


for epoch in range(1 if args.tiny else args.epochs):
    for (one, two), _ in loader:
        loss = contrast(model(one.to(device)), model(two.to(device)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: loss {loss.item():.3f}")
