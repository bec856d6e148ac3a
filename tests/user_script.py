"""A user's script: `.ci/types` checks that strict type checkers accept it, a test that it runs."""

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import smartaug


class Images(Dataset[tuple[Tensor, int]]):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.zeros(3, 8, 8, dtype=torch.uint8), index % 2


model = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
loader: smartaug.DataLoader[tuple[Tensor, int]] = smartaug.DataLoader(
    Images(),
    batch_size=4,
    shuffle=True,
    augment=[smartaug.Flip(), smartaug.RandAugment(2, 9), smartaug.Normalize(0.5, 0.25)],
    reweight=smartaug.Uniform(),
    coreset=smartaug.Coreset(0.5, select=smartaug.coreset.Uniform()),
    seed=0,
)
criterion = smartaug.Loss(nn.CrossEntropyLoss())
for images, target in loader:
    loss: Tensor = criterion(model(images), target)
    print(loss.item())
augmented: Tensor = smartaug.Compose([smartaug.Flip()])(torch.zeros(2, 3, 8, 8))
plain = smartaug.to_dict(smartaug.Flip())
back: smartaug.augment.Augmentation = smartaug.from_dict({"Flip": {}})
version: str = smartaug.__version__
epochs: int = loader.steps(3)
lifted: smartaug.Lifted = smartaug.lift(nn.Identity())
told: str = lifted.explain()
figures = smartaug.logs.figures(loader)
report = smartaug.bench(Images(), seconds=1.0)
print(
    report.text(),
    smartaug.plots.batch(loader),
    loader.show().name,
    figures["smartaug/batches"] + 1.0,
    epochs,
    version,
    told,
)
