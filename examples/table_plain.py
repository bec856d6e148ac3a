"""A table with wrong labels: a small network on rows of numbers."""

import argparse
import tempfile

import numpy as np
import tiny
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

parser = argparse.ArgumentParser()
parser.add_argument("--data", default="table.csv", help="columns of numbers, the last one the class")
parser.add_argument("--epochs", type=int, default=50)
parser.add_argument("--tiny", action="store_true", help="a small generated table")
args = parser.parse_args()

rows = np.loadtxt(tiny.table(f"{tempfile.mkdtemp()}/table.csv") if args.tiny else args.data, delimiter=",")
features, label = torch.tensor(rows[:, :-1], dtype=torch.float32), torch.tensor(rows[:, -1], dtype=torch.int64)
features = (features - features.mean(0)) / features.std(0)
data = TensorDataset(features, label)
train_set, validation_set, test_set = random_split(data, [0.6, 0.2, 0.2], torch.Generator().manual_seed(0))

model = nn.Sequential(nn.Linear(features.shape[1], 64), nn.ReLU(), nn.Linear(64, int(label.max()) + 1))
loader = DataLoader(
    train_set,
    batch_size=32,
    shuffle=True,
)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

for epoch in range(2 if args.tiny else args.epochs):
    for inputs, target in loader:
        loss = criterion(model(inputs), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: loss {loss.item():.3f}")
with torch.no_grad():
    right = sum((model(inputs).argmax(1) == target).sum() for inputs, target in DataLoader(test_set, 256))
print(f"accuracy {right / len(test_set):.3f}")
