"""Augmented copies of a subset: the forms of data-efficient augmentation beside their rivals, at equal size and cost.

Method: {images} training and {tests} test images drawn from a CIFAR-10 folder, a ResNet of {width} channels in its
first layer, SGD with Nesterov momentum, a triangular learning rate over the run, batches of about 64 rows, {threads}
thread. All originals pass the dataset's crop and flip; the copies also pass AugMix, the expensive augmentation. S is
{share:.0%} of the images, chosen by the outputs of the training itself, anew every {every} epochs, after one epoch of
warm-up. Forms: "S + copies of S" trains on S and appends a copy of each, "γ" with facility location's weights on the
originals; "S′ + copies of S" trains on a fresh random subset S′ in place of S (the paper's form on ImageNet); "all +
copies of S" trains on all; "fresh random" is a new random subset in every epoch, where no selection is made.

Cost is counted in rows trained, and in rows augmented as torchvision's per-sample AugMix costs over training here
(committed with coreset_training: {ratio}). Every form has the cost of {epochs} epochs of "S + copies of S", so those of
one size have the same number of epochs, and larger ones fewer; selections cost nothing countable. Rows: images
augmented in an epoch, and epochs. Accuracy: on the test images, which choose nothing, at the end; mean and standard
deviation over seeds, which draw network, order and augmentation. Paired: the difference to "S′ + copies of S, fresh
random" on the same seed, and in how many seeds it is positive. Seconds: processor time of a run over that form's, with
the batched augmentation of this package. Run: ``python -m benchmarks.data_efficient --data FOLDER`` (about 8 minutes on
one core); --images, --epochs and --seeds for another size.
"""

from __future__ import annotations

import json
import statistics
import time
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import smartaug
from smartaug import coreset

try:
    from benchmarks import coreset_training, harness
except ImportError:  # run as a file
    import coreset_training
    import harness

BASE = "S′ + copies of S, fresh random"
RULES = {"facility location": smartaug.FacilityLocation, "max loss": smartaug.MaxLoss, "fresh random": None}


class Form(NamedTuple):
    """A row of the table; the share of rows trained and augmented in an epoch follows from it."""

    rule: str | None = None
    originals: str = "selected"
    copies: int = 1
    weights: bool = False
    augment: bool = True

    def rows(self, share: float) -> tuple[float, float]:
        """Rows trained and rows augmented in an epoch, over the number of images."""
        if self.rule is None:
            return (2.0, 1.0) if self.augment else (1.0, 0.0)
        plain = 1.0 if self.originals == "all" else share
        return plain + self.copies * share, self.copies * share


FORMS = {
    **{f"S + copies of S, {rule}": Form(rule) for rule in RULES},
    "S + copies of S, facility location, γ": Form("facility location", weights=True),
    **{f"S′ + copies of S, {rule}": Form(rule, "random") for rule in RULES},
    "S + 2 copies of S, facility location, γ": Form("facility location", copies=2, weights=True),
    "all + copies of S, facility location": Form("facility location", "all"),
    "all + copies of S, fresh random": Form("fresh random", "all"),
    "all + copies of all": Form(),
    "all, no copies": Form(augment=False),
}


class Images(Dataset):
    """uint8 images (3, 32, 32) after crop and flip, with labels."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        from torchvision.transforms import v2

        self.images, self.targets = images, labels
        self.transform = v2.Compose([v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), int(self.targets[index])


def run(data: Any, form: Form, seed: int, options: Any, ratio: float) -> dict[str, float]:
    """Accuracy in percent, epochs, and seconds of processor time of one run."""
    torch.manual_seed(seed)
    model = coreset_training.resnet8(options.width, 2)
    rows, augmented = form.rows(options.share)
    budget = options.epochs * options.share * (2 + ratio)
    epochs = max(1, round(budget / (rows + ratio * augmented)))
    chosen, drawn = None, 1.0
    if form.rule is None and form.augment:
        chosen = smartaug.Coreset(1.0, select=coreset.RandomSubset(), apply="append")
    elif form.rule is not None:
        select = coreset.RandomSubset() if RULES[form.rule] is None else RULES[form.rule]()
        every = 1 if RULES[form.rule] is None else options.every
        chosen = smartaug.Coreset(
            options.share,
            select=select,
            every=every,
            apply="append",
            originals=form.originals,
            copies=form.copies,
            weights=form.weights,
        )
        drawn = (chosen.drawn.budget(options.images) if chosen.drawn else options.images) / options.images
    loader = smartaug.DataLoader(
        Images(data.images, data.labels),
        max(1, round(64 * drawn / rows)),
        shuffle=True,
        drop_last=True,
        lift=True,
        augment=[smartaug.AugMix(), smartaug.Normalize(coreset_training.MEAN, coreset_training.STD)]
        if form.augment
        else smartaug.Normalize(coreset_training.MEAN, coreset_training.STD),
        coreset=chosen,
        device="cpu",
        seed=seed,
    )
    criterion = smartaug.Loss(nn.CrossEntropyLoss())
    optimizer = torch.optim.SGD(model.parameters(), options.lr, momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps = epochs * len(loader)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (0.2 * steps), max(0.0, (steps - step) / (0.8 * steps)))
    )
    started = time.process_time()
    for _ in range(epochs):
        for images, target in loader:
            loss = criterion(model(images.contiguous(memory_format=torch.channels_last)), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    seconds = time.process_time() - started
    return {
        "accuracy": coreset_training.accuracy(model, data, torch.device("cpu")),
        "epochs": epochs,
        "seconds": seconds,
    }


def told(found: dict[str, list[dict[str, float]]], options: Any) -> dict[str, Any]:
    """The table, the best first."""
    rows: dict[str, Any] = {}
    for name, runs in found.items():
        pairs = list(zip(runs, found[BASE], strict=False))
        apart = [one["accuracy"] - base["accuracy"] for one, base in pairs]
        right = [one["accuracy"] for one in runs]
        rows[name] = {
            "accuracy": _spread(right),
            "paired": {**_spread(apart), "better": sum(one > 0 for one in apart)},
            "augmented in an epoch": round(FORMS[name].rows(options.share)[1] * options.images),
            "epochs": runs[0]["epochs"],
            "seconds": round(statistics.median(one["seconds"] / base["seconds"] for one, base in pairs), 2),
        }
    return dict(sorted(rows.items(), key=lambda row: -row[1]["accuracy"]["mean"]))


def _spread(values: list[float]) -> dict[str, Any]:
    sd = round(statistics.stdev(values), 2) if len(values) > 1 else None
    return {"mean": round(statistics.mean(values), 2), "sd": sd, "n": len(values)}


def main() -> None:
    options = harness.arguments(
        __doc__, data="", images=2000, tests=2000, width=16, share=0.3, epochs=20, every=5, lr=0.1, seeds=5
    )
    if not options.data:
        raise SystemExit("--data FOLDER: CIFAR-10 as train/CLASS/FILE and test/CLASS/FILE")
    ratio = json.loads((harness.RESULTS / "coreset_training.json").read_text())[coreset_training.RATIO]
    data = coreset_training.load(options.data, options.images, options.tests, "")
    method = (__doc__ or "").format(ratio=ratio, **vars(options))
    run(data, FORMS[BASE], 0, _short(options), ratio)  # what is compiled is loaded before anything is timed
    found: dict[str, list[dict[str, float]]] = {name: [] for name in FORMS}
    for seed in range(options.seeds):
        for name in sorted(FORMS, key=lambda name: name != BASE):
            found[name].append(run(data, FORMS[name], seed, options, ratio))
            print(f"seed {seed} {name:42} {found[name][-1]}", flush=True)
        harness.write("data_efficient", method, told(found, options), packages=("torchvision", "numba"))
    for name, row in told(found, options).items():
        print(f"{name:42} {row}")


def _short(options: Any) -> Any:
    import argparse

    return argparse.Namespace(**{**vars(options), "epochs": 2})


if __name__ == "__main__":
    main()
