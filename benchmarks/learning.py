"""What learned weights and labels are worth: accuracy after training beside plain training and its honest rivals.

Method: digits (scikit-learn, 8×8, pixels / 16) with 40 % of the training labels replaced by another class drawn
uniformly: 300 class-balanced validation images, 400 test images, the rest for training; MLP 64-128-128-10, SGD 0.03
with momentum 0.9, batch 64, 60 epochs; every row differs in the loader line alone. auroc: of finding flipped labels by
weight × soft mass on the given label, summed over training; by minus the loss where a run makes neither. Accuracy,
calibration error (ece, 15 bins) and NLL are the test set's; mean and standard deviation over seeds. ``--data FOLDER``
adds pneumoniamnist.npz (MedMNIST, 28×28, its own splits; small CNN, 5 epochs) and three UCI tables
(adult-train.csv, of it 4,000 rows, german.csv, pima-indians-diabetes.csv; 60/20/20 %, MLP, 10 epochs) where there.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import smartaug

try:
    from benchmarks import harness
except ImportError:  # run as a file
    import harness


@dataclass(frozen=True)
class Data:
    """Inputs and labels of the three splits; flipped: which training labels are wrong."""

    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    flipped: Tensor
    classes: int


@dataclass(frozen=True)
class Outcome:
    """Figures of one run, shares in percent; auroc: of finding flipped labels, None without any."""

    accuracy: float
    nll: float
    ece: float
    auc: float | None
    auroc: float | None


def digits(seed: int, noise: float = 0.4, held: int = 300) -> Data:
    from sklearn.datasets import load_digits

    source = load_digits()
    images = torch.tensor(source.data / 16.0, dtype=torch.float32)
    labels = torch.tensor(source.target)
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=draw)
    test, rest = order[:400], order[400:]
    whole = TensorDataset(images[rest], labels[rest])
    training, validation = smartaug.split_validation(whole, held / len(rest), seed=seed)
    kept, out = rest[torch.tensor(training.indices)], rest[torch.tensor(validation.indices)]
    flipped = torch.rand(len(kept), generator=draw) < noise
    shift = torch.randint(1, 10, (len(kept),), generator=draw)
    given = torch.where(flipped, (labels[kept] + shift) % 10, labels[kept])
    return Data((images[kept], given), (images[out], labels[out]), (images[test], labels[test]), flipped, 10)


def mlp(data: Data, width: int = 128) -> nn.Module:
    columns = data.train[0].shape[1]
    return nn.Sequential(
        nn.Linear(columns, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, data.classes)
    )


def small_cnn(data: Data) -> nn.Module:
    def block(before: int, after: int) -> list[nn.Module]:
        return [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]

    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, data.classes)]
    return nn.Sequential(*block(1, 16), *block(16, 32), *block(32, 64), *head)


Method = Callable[[nn.Module, Data], Any]

METHODS: dict[str, Method | None] = {
    "plain": None,
    "plain + validation data": None,
    "label smoothing 0.1": None,
    "class weights": None,
    "SAFLEX": lambda model, data: smartaug.SAFLEX(model, data.validation),
    "SAFLEX, difference": lambda model, data: smartaug.SAFLEX(model, data.validation, method="difference"),
    "SAFLEX, every=4": lambda model, data: smartaug.SAFLEX(model, data.validation, every=4),
    "SAFLEX, weigh_every=4": lambda model, data: smartaug.SAFLEX(model, data.validation, weigh_every=4),
    "SAFLEX, head": lambda model, data: smartaug.SAFLEX(model, data.validation, scope="head"),
    "SAFLEX, penalty 4, temperature 0.5": lambda model, data: smartaug.SAFLEX(
        model, data.validation, penalty=4.0, temperature=0.5
    ),
    "MetaWeightNet": lambda model, data: smartaug.MetaWeightNet(model, data.validation, lr=0.03),
    "LearningToReweight": lambda model, data: smartaug.LearningToReweight(model, data.validation),
}


def run(
    name: str, data: Data, seed: int, epochs: int, net: Callable[[Data], nn.Module] = mlp, lr: float = 0.03
) -> Outcome:
    """Train once; the loop is any user's."""
    from sklearn.metrics import roc_auc_score

    torch.manual_seed(seed)
    model = net(data)
    make = METHODS[name]
    reweight = None if make is None else make(model, data)
    train = data.train
    if name == "plain + validation data":
        train = (torch.cat([train[0], data.validation[0]]), torch.cat([train[1], data.validation[1]]))
    loader = smartaug.DataLoader(
        TensorDataset(*train),
        batch_size=64,
        shuffle=True,
        drop_last=True,
        generator=torch.Generator().manual_seed(seed),
        reweight=reweight or smartaug.Uniform(),
        device="cpu",
        seed=seed,
    )
    counts = torch.bincount(train[1], minlength=data.classes).float()
    weight = counts.sum() / (data.classes * counts.clamp_min(1)) if name == "class weights" else None
    smoothing = 0.1 if name.startswith("label smoothing") else 0.0
    criterion = smartaug.Loss(nn.CrossEntropyLoss(weight=weight, label_smoothing=smoothing))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    trust = torch.zeros(len(train[0]))
    for _ in range(epochs):
        model.train()
        for inputs, target in loader:
            output = model(inputs)
            loss = criterion(output, target)
            trust[target.index] += _trust(output, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    auroc = None
    if bool(data.flipped.any()):
        auroc = 100 * float(roc_auc_score(~data.flipped, trust[: len(data.flipped)]))
    model.eval()
    with torch.no_grad():
        log_p = model(data.test[0]).log_softmax(1)
    return _outcome(log_p, data.test[1], auroc)


def _trust(output: Tensor, target: Any) -> Tensor:
    """(B,) trust in the given labels: weight × soft mass on them, or minus the loss where it made neither."""
    given = target.plain[:, None]
    if target.soft is None and bool((target.weight == 1).all()):
        return output.detach().log_softmax(1).gather(1, given)[:, 0]
    return target.weight if target.soft is None else target.weight * target.soft.gather(1, given)[:, 0]


def _outcome(log_p: Tensor, labels: Tensor, auroc: float | None) -> Outcome:
    from sklearn.metrics import roc_auc_score

    confidence, guess = log_p.exp().max(1)
    right = (guess == labels).float()
    bins = (confidence * 15).long().clamp_max(14)
    gaps = [abs(float((right - confidence)[bins == b].sum())) for b in bins.unique()]
    auc = 100 * float(roc_auc_score(labels, log_p[:, 1])) if log_p.shape[1] == 2 else None
    nll = float(-log_p.gather(1, labels[:, None]).mean())
    return Outcome(100 * float(right.mean()), nll, 100 * sum(gaps) / len(labels), auc, auroc)


def table(data: Callable[[int], Data], seeds: int, epochs: int, methods: list[str], **settings: Any) -> dict[str, Any]:
    """Mean and standard deviation over seeds, a row a method; printed as it comes."""
    rows = {}
    for name in methods:
        outcomes = [run(name, data(seed), seed, epochs, **settings) for seed in range(seeds)]
        row: dict[str, Any] = {}
        for figure in ("accuracy", "nll", "ece", "auc", "auroc"):
            values = [getattr(outcome, figure) for outcome in outcomes]
            if values[0] is not None:
                spread = statistics.stdev(values) if len(values) > 1 else 0.0
                row[figure] = {"mean": round(statistics.mean(values), 3), "sd": round(spread, 3), "n": len(values)}
        rows[name] = row
        print(
            f"{name:36}",
            "  ".join(f"{key} {value['mean']:.2f} ± {value['sd']:.2f}" for key, value in row.items()),
            flush=True,
        )
    return rows


def pneumonia(folder: Path) -> Callable[[int], Data] | None:
    path = folder / "pneumoniamnist.npz"
    if not path.is_file():
        return None
    arrays = np.load(path)

    def split(name: str) -> tuple[Tensor, Tensor]:
        images = torch.tensor(arrays[f"{name}_images"], dtype=torch.float32)[:, None] / 127.5 - 1
        return images, torch.tensor(arrays[f"{name}_labels"]).reshape(-1).long()

    train = split("train")
    return lambda seed: Data(train, split("val"), split("test"), torch.zeros(len(train[1]), dtype=torch.bool), 2)


def tabular(folder: Path, name: str, limit: int = 4000) -> Callable[[int], Data] | None:
    """One of the UCI tables: no header, the label last; columns of words become one column a word."""
    path = folder / name
    if not path.is_file():
        return None
    lines = [line.strip(". ").split(",") for line in path.read_text().splitlines() if line.strip()]
    cells = np.array([[cell.strip() for cell in line] for line in lines])
    columns = [_encoded(cells[:, number]) for number in range(cells.shape[1] - 1)]
    values = torch.tensor(np.concatenate(columns, 1), dtype=torch.float32)
    labels = torch.tensor(np.unique(cells[:, -1], return_inverse=True)[1]).reshape(-1)

    def make(seed: int) -> Data:
        order = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))[:limit]
        inputs, given = values[order], labels[order]
        a, b = int(0.2 * len(order)), int(0.4 * len(order))
        inputs = (inputs - inputs[b:].mean(0)) / inputs[b:].std(0).clamp_min(1e-3)
        none = torch.zeros(len(order) - b, dtype=torch.bool)
        parts = [(inputs[part], given[part]) for part in (slice(b, None), slice(a, b), slice(0, a))]
        return Data(parts[0], parts[1], parts[2], none, 2)

    return make


def _encoded(column: Any) -> Any:
    try:
        return column.astype(float)[:, None]
    except ValueError:
        return (column[:, None] == np.unique(column)[None]).astype(float)


def main() -> None:
    options = harness.arguments(__doc__, seeds=5, epochs=60, data=None, methods="")
    methods = [name for name in METHODS if not options.methods or name in options.methods.split(";")]
    results: dict[str, Any] = {}
    print("digits, 40 % flipped")
    results["digits, 40 % flipped"] = table(digits, options.seeds, options.epochs, methods)
    print("digits, clean")
    clean = [name for name in ("plain", "plain + validation data", "label smoothing 0.1", "SAFLEX") if name in methods]
    results["digits, clean"] = table(lambda seed: digits(seed, 0.0), options.seeds, options.epochs, clean)
    for held in (50, 100):
        print(f"digits, 40 % flipped, {held} validation images")
        small = [name for name in ("SAFLEX",) if name in methods]
        results[f"digits, 40 % flipped, {held} validation images"] = table(
            lambda seed, held=held: digits(seed, 0.4, held), options.seeds, options.epochs, small
        )
    if options.data is not None:
        folder = Path(options.data)
        made = pneumonia(folder)
        if made is not None:
            print("PneumoniaMNIST")
            few = [name for name in methods if "every" not in name]
            results["PneumoniaMNIST"] = table(made, min(3, options.seeds), 5, few, net=small_cnn, lr=0.05)
        for name in ("adult-train.csv", "german.csv", "pima-indians-diabetes.csv"):
            made = tabular(folder, name)
            if made is not None:
                print(name)
                few = [name for name in methods if "every" not in name]
                results[name] = table(made, options.seeds, 10, few, lr=0.02)
    harness.write(
        "learning", __doc__ or "", results, packages=("scikit-learn",), seeds=options.seeds, epochs=options.epochs
    )


if __name__ == "__main__":
    main()
