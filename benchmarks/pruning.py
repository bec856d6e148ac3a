"""Pruning near interpolation, and with wrong labels: what InfoBatch and its kin save, beside a shorter schedule.

Method: digits (scikit-learn, 8×8, pixels / 16), {train} training images, all others but {clean} for the test, which
chooses nothing; MLP 64-128-128-10, SGD 0.03 with momentum 0.9, cosine over the epochs, batch 32, {epochs} epochs,
nothing tuned. "all rows" trains on every image in every epoch. "InfoBatch" leaves out what its rule says; its own share
of the rows, seed by seed, is what the others get: "shorter schedule" as many epochs of all rows, "random subset" that
share of the rows, fresh in every epoch, "OrderDP" its samples of large loss. RePB and AlignPrune prune by their own
rules; the rows that RePB trains are those of "shorter schedule, RePB's rows", once more with the learning rate times
the mean of RePB's weights, which lies above 1. "wrong labels": 40 % of the training labels are drawn anew among the
other classes; AlignPrune's reference set and "clean added" have {clean} images with right labels, which the others do
not see.

Rows: rows trained over those of "all rows". Accuracy: mean and standard deviation over seeds, which draw images, wrong
labels, order and network. Paired: the difference to "shorter schedule" on the same seed, and in how many seeds it is
positive. Wrong: share of wrong labels among the rows trained, from the second epoch on, and their share of the weight.
Run: ``python -m benchmarks.pruning`` (about 8 minutes on one core for ten seeds); ``--only right`` or ``--only wrong``
runs one table.
"""

from __future__ import annotations

import json
import math
import statistics
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import smartaug
from smartaug import coreset

try:
    from benchmarks import harness
except ImportError:  # run as a file
    import harness

TRAIN, CLEAN, WRONG = 800, 50, 0.4
BASE = "shorter schedule"
Pair = tuple[Tensor, Tensor]


class Data(NamedTuple):
    """Training images with the labels that are given and the right ones, clean images, and the test set."""

    train: Pair
    right: Tensor
    clean: Pair
    test: Pair


class Made(NamedTuple):
    """A run: accuracy in percent, rows trained, the wrong labels' share of the rows and of the weight, mean weight."""

    accuracy: float
    rows: int
    wrong: float
    weight: float
    mean: float


def drawn(seed: int, wrong: float) -> Data:
    from sklearn.datasets import load_digits

    source = load_digits()
    images, labels = torch.tensor(source.images / 16.0, dtype=torch.float32)[:, None], torch.tensor(source.target)
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=draw)
    train, clean, test = order[:TRAIN], order[TRAIN : TRAIN + CLEAN], order[TRAIN + CLEAN :]
    right = labels[train]
    off = torch.randint(1, 10, right.shape, generator=draw)
    given = torch.where(torch.rand(right.shape, generator=draw) < wrong, (right + off) % 10, right)
    return Data((images[train], given), right, (images[clean], labels[clean]), (images[test], labels[test]))


def run(
    data: Data,
    make: Callable[[nn.Module], Any],
    seed: int,
    epochs: int,
    added: bool = False,
    rate: float = 1.0,
) -> Made:
    """One run; the loop is any user's. make: model -> coreset or None.

    added: train on the clean images, too. rate: a factor of the learning rate.
    """
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )
    given = [torch.cat(pair) for pair in zip(data.train, data.clean, strict=True)] if added else data.train
    is_wrong = torch.zeros(len(given[1]), dtype=torch.bool)
    is_wrong[:TRAIN] = data.train[1] != data.right
    loader = smartaug.DataLoader(
        TensorDataset(*given),
        batch_size=32,
        shuffle=True,
        generator=torch.Generator().manual_seed(seed),
        coreset=make(model),
        augment=smartaug.Normalize(0.0, 1.0),
        seed=seed,
        device="cpu",
    )
    criterion = smartaug.Loss(nn.CrossEntropyLoss())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
    rows, sums = 0, torch.zeros(4, dtype=torch.float64)  # rows and weights: of wrong labels, of all
    for epoch in range(epochs):
        batches = len(loader)
        for number, (inputs, target) in enumerate(loader):
            done = (epoch + number / batches) / epochs
            optimizer.param_groups[0]["lr"] = 0.015 * rate * (1 + math.cos(math.pi * done))
            loss = criterion(model(inputs), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rows += len(target)
            if epoch:
                weight, bad = target.weight.double(), is_wrong[target.index].double()
                sums += torch.stack([bad.sum(), bad.new_tensor(len(bad)), (bad * weight).sum(), weight.sum()])
    with torch.no_grad():
        right = model(data.test[0]).argmax(1) == data.test[1]
    shares = float(sums[0] / sums[1]), float(sums[2] / sums[3]), float(sums[3] / sums[1])
    return Made(100 * float(right.float().mean()), rows, *shares)


def runs(data: Data, seed: int, epochs: int, noisy: bool) -> dict[str, Made]:
    """Every row on one seed."""
    none = lambda model: None  # noqa: E731
    made = {"all rows": run(data, none, seed, epochs)}
    made["InfoBatch"] = run(data, lambda model: coreset.InfoBatch(epochs), seed, epochs)
    share = made["InfoBatch"].rows / made["all rows"].rows
    part = {"random subset": coreset.RandomSubset(), "OrderDP": coreset.OrderDP()}
    made[BASE] = run(data, none, seed, max(1, round(share * epochs)))
    for name, select in part.items():
        explore = 0.2 if name == "random subset" else 0.0
        settings = {"select": select, "explore": explore}
        made[name] = run(data, lambda model, s=settings: smartaug.Coreset(share, **s), seed, epochs)
    made["RePB"] = run(data, lambda model: coreset.RePB(), seed, epochs)
    made["RePB, windows of 5 batches"] = run(data, lambda model: coreset.RePB(window=5), seed, epochs)
    own = made["RePB"].rows / made["all rows"].rows
    made[BASE + ", RePB's rows"] = run(data, none, seed, max(1, round(own * epochs)))
    if not noisy:
        rate = made["RePB"].mean
        made[BASE + ", RePB's rows and mean weight"] = run(data, none, seed, max(1, round(own * epochs)), rate=rate)
    align = lambda model: coreset.AlignPrune(epochs, data.clean, model=model)  # noqa: E731
    made["AlignPrune"] = run(data, align, seed, epochs)
    if noisy:
        made["small losses"] = run(
            data, lambda model: smartaug.Coreset(share, select=smartaug.MaxLoss(smallest=True)), seed, epochs
        )
        made[BASE + ", clean added"] = run(data, none, seed, max(1, round(share * epochs)), added=True)
        made["InfoBatch, clean added"] = run(data, lambda model: coreset.InfoBatch(epochs), seed, epochs, added=True)
    return made


def table(seeds: int, epochs: int, noisy: bool) -> dict[str, Any]:
    found: dict[str, list[Made]] = {}
    for seed in range(seeds):
        data = drawn(seed, WRONG if noisy else 0.0)
        for name, made in runs(data, seed, epochs, noisy).items():
            found.setdefault(name, []).append(made)
        print(f"seed {seed} of {seeds}", flush=True)
    told: dict[str, Any] = {}
    for name, several in found.items():
        apart = [one.accuracy - base.accuracy for one, base in zip(several, found[BASE], strict=True)]
        rows = [one.rows / whole.rows for one, whole in zip(several, found["all rows"], strict=True)]
        told[name] = {
            "accuracy": harness.spread([one.accuracy for one in several]),
            "paired": {**harness.spread(apart), "better": sum(one > 0 for one in apart)},
            "rows": round(statistics.mean(rows), 3),
        }
        if noisy:
            told[name]["wrong"] = round(statistics.mean(one.wrong for one in several), 3)
            told[name]["wrong, by weight"] = round(statistics.mean(one.weight for one in several), 3)
        print(f"{name:34} {told[name]}")
    return told


def main() -> None:
    options = harness.arguments(__doc__, seeds=10, epochs=60, only="")
    warnings.filterwarnings("ignore", message=".*epochs of different lengths")
    method = (__doc__ or "").format(train=TRAIN, clean=CLEAN, epochs=options.epochs)
    path = harness.RESULTS / "pruning.json"
    told: dict[str, Any] = json.loads(path.read_text())["results"] if path.exists() else {}
    for name, noisy in (("right labels", False), ("40 % wrong labels", True)):
        if options.only and options.only not in name:
            continue
        print(name)
        told[name] = table(options.seeds, options.epochs, noisy)
        harness.write("pruning", method, told, packages=("scikit-learn",))


if __name__ == "__main__":
    main()
