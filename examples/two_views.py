"""Self-supervised learning from two views of every photograph (SimCLR).

`lift=True` does not look into a transform of one's own, such as one that gives two views. So the stages are written as
smartaug's, behind a resize to one size (which squeezes photographs that are no squares). The contrastive loss
compares samples with each other, so it takes no weights.
"""

import argparse
import tempfile

import tiny
import torch
import torch.nn.functional as F
from torchvision import datasets, models
from torchvision.transforms import v2

import smartaug

parser = argparse.ArgumentParser()
parser.add_argument("--data", default="train", help="a folder with a folder of images for each class")
parser.add_argument("--epochs", type=int, default=100)
parser.add_argument("--tiny", action="store_true", help="a few generated photographs")
args = parser.parse_args()
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
side = 48 if args.tiny else 224

# The dataset gives the photograph twice, as bytes of one size; both are augmented on the device, each by its own draws.
view = [
    smartaug.RandomResizedCrop(side, scale=(0.2, 1.0)),
    smartaug.Flip(),
    smartaug.RandomApply([smartaug.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
    smartaug.Grayscale(0.2),
    smartaug.Normalize(0.0, 1.0),
]
resize = v2.Compose([v2.Resize((side + side // 4, side + side // 4)), v2.ToImage()])


class TwoViews:
    def __call__(self, image):
        image = resize(image)
        return [image, image]


train_set = datasets.ImageFolder(tiny.photographs(tempfile.mkdtemp()) if args.tiny else args.data, TwoViews())
loader = smartaug.DataLoader(
    train_set,
    batch_size=8 if args.tiny else 256,
    shuffle=True,
    num_workers=0 if args.tiny else 8,
    augment=view,
    views="independent",
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
