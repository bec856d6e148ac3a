"""What training on, or augmenting, a part of the data gives: CIFAR-10, a small ResNet, every rival that costs less.

Method: {images} training and {tests} test images drawn from a CIFAR-10 folder ({threads} thread, seeds {seeds}); a
ResNet of {width} channels in its first layer (stem of stride {stem}), batch {batch}, SGD with Nesterov momentum, a
triangular learning rate over the run's own number of steps, PadCrop and Flip. The full run is {epochs} epochs. A part
f of the data at the same number of epochs is f times the steps, so that many steps is what every contender gets:
"full, short schedule" spends them on all data. Cost is counted in training steps: rows trained, and the processor time
of selections, eval passes included, over the run's own median step. Where a contender costs more than 3 % over its
steps it is run again with so many fewer steps that it costs the same. Expensive augmentation: AugMix, PadCrop and
Flip, run by the batched backend, but charged per augmented row as torchvision's per-sample pipeline costs here (ratio
to a row trained: in the results); every contender has the steps, or the cost, of augmenting everything for {expensive}
steps. Wrong labels (--noisy): CIFAR-10N random1 in place of the training labels. Reported: test accuracy in percent
(mean, standard deviation, n); cost; every run, and "reached": the cost at which its accuracy was first that of the same
seed's full run minus 1 point (at one of {looks} looks), null where it never was. --resume 1 goes on from the committed
results. The paper's size, for a GPU: --images 50000 --tests 10000 --epochs 200 --stem 1 --batch 128 --expensive 7800.
"""

from __future__ import annotations

import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import smartaug
from smartaug import coreset

if __package__:
    from benchmarks import harness
else:
    import harness

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
CHEAP = [smartaug.PadCrop(4), smartaug.Flip(), smartaug.Normalize(MEAN, STD)]
STRONG = [smartaug.AugMix(), *CHEAP]
NEVER = 10**6
LOOKS = 5
RATIO = "augmentation over training, a row"


# --- data and network ------------------------------------------------------------------------------------------------


class Data(NamedTuple):
    """uint8 images (n, 3, 32, 32), labels, labels by humans or None; test images and labels."""

    images: Tensor
    labels: Tensor
    human: Tensor | None
    test_images: Tensor
    test_labels: Tensor


def read(folder: Path, rows: np.ndarray, files: list[Path]) -> Tensor:
    from PIL import Image

    arrays = [np.asarray(Image.open(files[row]).convert("RGB")) for row in rows]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


def load(folder: str, images: int, tests: int, noisy: str) -> Data:
    """The same random samples for every run; in the order of ImageFolder, as the human labels are."""
    made: list[Any] = []
    draw = np.random.default_rng(0)
    for part, count in (("train", images), ("test", tests)):
        classes = sorted(path.name for path in (Path(folder) / part).iterdir())
        files = [file for name in classes for file in sorted((Path(folder) / part / name).iterdir())]
        labels = np.array([classes.index(file.parent.name) for file in files])
        rows = np.sort(draw.permutation(len(files))[:count])
        made += [read(Path(folder), rows, files), torch.from_numpy(labels[rows])]
        if part == "train":
            human = torch.from_numpy(np.load(noisy)["random1"][rows].astype(np.int64)) if noisy else None
    return Data(made[0], made[1], human, made[2], made[3])


def convolution(before: int, after: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)]


class Block(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*convolution(before, after, stride), nn.ReLU(), *convolution(after, after))
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same, or half of it."""
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet8(width: int, stem: int) -> nn.Module:
    return nn.Sequential(
        *convolution(3, width, stem),
        nn.ReLU(),
        Block(width, width, 1),
        Block(width, 2 * width, 2),
        Block(2 * width, 4 * width, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, 10),
    ).to(memory_format=torch.channels_last)


# --- a run -----------------------------------------------------------------------------------------------------------


def clock() -> float:
    """Processor time, since machines are shared; with a GPU the time on the wall, once it has finished."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


Make = Callable[[nn.Module], Any]  # model -> coreset


class Contender(NamedTuple):
    """make: the coreset, None trains on all data; augment: its stages; rows: trained, and charged, per row drawn."""

    make: Make | None
    augment: list[Any] = CHEAP
    rows: float = 1.0
    charged: float = 0.0


def run(data: Data, contender: Contender, steps: int, seed: int, options: Any, noisy: bool = False) -> dict[str, Any]:
    """Train for ``steps``; accuracy, cost in steps, the (cost, accuracy) curve, share of wrong labels selected."""
    torch.manual_seed(seed)
    device = torch.device(options.device)
    model = resnet8(options.width, options.stem).to(device)
    labels = data.human if noisy and data.human is not None else data.labels
    chosen = None if contender.make is None else contender.make(model)
    loader = smartaug.DataLoader(
        TensorDataset(data.images, labels),
        options.batch,
        shuffle=True,
        drop_last=True,
        augment=contender.augment,
        coreset=chosen,
        device=device,
        seed=seed,
    )
    criterion = smartaug.Loss(nn.CrossEntropyLoss())
    optimizer = torch.optim.SGD(model.parameters(), options.lr, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (0.2 * steps), max(0.0, (steps - step) / (0.8 * steps)))
    )
    looks = {round(steps * (look + 1) / LOOKS) for look in range(LOOKS)}
    took: list[float] = []
    curve: list[tuple[int, float]] = []
    wrong: list[float] = []
    first, later = [], [0.0]  # seconds to get the first batch of an epoch, when selections are made, and the others
    step, epoch = 0, 0
    while step < steps:
        started = clock()
        batches = iter(loader)
        batch = next(batches, None)
        first.append(clock() - started)
        if noisy and epoch > 0:
            rows = torch.arange(len(labels)) if chosen is None else chosen.selection(epoch, len(labels), seed)[0]
            wrong.append(float((labels[rows] != data.labels[rows]).float().mean()))
        while batch is not None and step < steps:
            started = clock()
            images, target = batch
            loss = criterion(model(images.contiguous(memory_format=torch.channels_last)), target.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            took.append(clock() - started)
            step += 1
            if step in looks:
                curve.append((step, accuracy(model, data, device)))
            started = clock()
            batch = next(batches, None)
            later.append(clock() - started)
        epoch += 1
    selecting = 0.0 if chosen is None else sum(first) - len(first) * statistics.median(later)
    overhead = max(0.0, selecting) * contender.rows / statistics.median(took) / steps
    share = contender.rows + contender.charged + overhead
    return {
        "accuracy": curve[-1][1],
        "steps": steps,
        "cost": round(share * steps, 1),
        "selection": round(overhead, 4),
        "curve": [(share * at, right) for at, right in curve],
        "wrong": round(statistics.mean(wrong), 4) if wrong else None,
    }


@torch.no_grad()
def accuracy(model: nn.Module, data: Data, device: torch.device) -> float:
    model.eval()
    right = 0
    normalize = smartaug.Normalize(MEAN, STD)
    for images, labels in zip(data.test_images.split(500), data.test_labels.split(500), strict=True):
        given = normalize(images.to(device)).contiguous(memory_format=torch.channels_last)
        right += int((model(given).argmax(1) == labels.to(device)).sum())
    model.train()
    return 100 * right / len(data.test_labels)


# --- contenders ------------------------------------------------------------------------------------------------------


def subset(select: Any, fraction: float, **settings: Any) -> Make:
    """A coreset of ``fraction``, chosen anew every {every} epochs."""

    def make(model: nn.Module) -> Any:
        passed = {"model": model, "transform": smartaug.Normalize(MEAN, STD), "progress": False}
        return smartaug.Coreset(
            fraction, select=select, **settings, **(passed if settings.get("embed") == "pass" else {})
        )

    return make


def trained(fraction: float, steps: int, options: Any) -> dict[str, Contender]:
    """Those that train on a part, or give a part its augmentation, with cheap augmentation."""
    medoids, every = smartaug.FacilityLocation(), options.every
    passes = max(2, round(steps * options.batch / options.images / 0.75))
    made: dict[str, Make | None] = {
        "full, short schedule": None,
        "fresh random subset": subset(coreset.Uniform(), fraction),
        "static random subset": subset(coreset.Uniform(), fraction, every=NEVER),
        "MaxLoss, observed": subset(smartaug.MaxLoss(), fraction, every=every),
        "small loss, observed": subset(smartaug.MaxLoss(smallest=True), fraction, every=every),
        "InfoBatch": lambda model: coreset.InfoBatch(passes),
        "FacilityLocation, observed": subset(medoids, fraction, every=every),
        "FacilityLocation, pass": subset(medoids, fraction, every=every, embed="pass"),
        "FacilityLocation, observed, γ": subset(medoids, fraction, every=every, weights=True),
        "FacilityLocation, pass, γ": subset(medoids, fraction, every=every, embed="pass", weights=True),
        "FacilityLocation, augment": subset(medoids, fraction, apply="augment"),
        "FacilityLocation, append": subset(medoids, fraction, apply="append"),
        "random, augment": subset(coreset.Uniform(), fraction, apply="augment"),
        "random, append": subset(coreset.Uniform(), fraction, apply="append"),
    }
    plain = Contender(None, CHEAP[-1:])
    return {
        **{name: Contender(make, rows=1 + fraction * name.endswith("append")) for name, make in made.items()},
        "full, short schedule, nothing augmented": plain,
    }


def augmented(ratio: float) -> dict[str, Contender]:
    """Those that pay ``ratio`` rows trained for every row augmented."""
    made = {
        "full, all augmented": Contender(None, STRONG, 1.0, ratio),
        "full, cheap augmentation alone": Contender(None, CHEAP),
    }
    rules = {
        "random": coreset.Uniform(),
        "FacilityLocation": smartaug.FacilityLocation(),
        "MaxLoss": smartaug.MaxLoss(),
    }
    for fraction in (0.1, 0.3):
        for name, select in rules.items():
            part = f"{name}, {fraction:.0%}"
            made[f"augment {part}"] = Contender(
                subset(select, fraction, apply="augment"), STRONG, 1.0, fraction * ratio
            )
            if name != "MaxLoss":
                made[f"append {part}"] = Contender(
                    subset(select, fraction, apply="append"), STRONG, 1 + fraction, fraction * ratio
                )
                made[f"train on {part}"] = Contender(subset(select, fraction), STRONG, 1.0, ratio)
    return made


def noisy_contenders(fraction: float, options: Any) -> dict[str, Contender]:
    names = ("full, short schedule", "fresh random subset", "MaxLoss, observed", "small loss, observed")
    names += ("FacilityLocation, observed", "FacilityLocation, pass")
    return {name: one for name, one in trained(fraction, 1000, options).items() if name in names}


def augmentation_ratio(data: Data, options: Any) -> float:
    """Processor time of torchvision's per-sample pipeline over that of training, a row each."""
    from PIL import Image
    from torchvision import transforms

    pipeline = transforms.Compose(
        [transforms.AugMix(), transforms.RandomCrop(32, 4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    )
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in data.images[: options.batch]]
    model, images = resnet8(options.width, options.stem), smartaug.Normalize(MEAN, STD)(data.images[: options.batch])
    images, labels = images.contiguous(memory_format=torch.channels_last), data.labels[: options.batch]
    ratios = []
    for _ in range(6):
        started = clock()
        for picture in pictures:
            pipeline(picture)
        between = clock()
        F.cross_entropy(model(images), labels).backward()
        ratios.append((between - started) / (clock() - between))
    return statistics.median(ratios[1:])


# --- the table -------------------------------------------------------------------------------------------------------

Found = dict[str, dict[str, list[dict[str, Any]]]]  # setting -> contender -> runs: seed and what `run` tells


def reached(curve: list[tuple[float, float]], wanted: float) -> float | None:
    return next((round(cost, 1) for cost, right in curve if right >= wanted), None)


def told(found: Found) -> dict[str, Any]:
    """Tables with what wins first."""
    tables: dict[str, Any] = {}
    for setting, runs in found.items():
        rows = {}
        for name, ones in runs.items():
            right = [one["accuracy"] for one in ones]
            row: dict[str, Any] = {
                "accuracy": {
                    "mean": round(statistics.mean(right), 2),
                    "sd": round(statistics.stdev(right), 2) if len(right) > 1 else None,
                    "n": len(right),
                },
                "cost": round(statistics.mean(one["cost"] for one in ones)),
                "selection, share of training": round(statistics.median(one["selection"] for one in ones), 3),
            }
            if ones[0]["wrong"] is not None:
                row["wrong labels selected"] = round(statistics.mean(one["wrong"] for one in ones), 4)
            rows[name] = row | {"runs": ones}
        tables[setting] = dict(sorted(rows.items(), key=lambda row: -row[1]["accuracy"]["mean"]))
    return tables


def found_before() -> tuple[Found, float]:
    """The runs in the committed results, to go on from, and what augmenting cost there."""
    content = json.loads((harness.RESULTS / "coreset_training.json").read_text())
    tables = content["results"]
    found = {setting: {name: row["runs"] for name, row in rows.items()} for setting, rows in tables.items()}
    return found, content[RATIO]


def main() -> None:
    options = harness.arguments(
        __doc__,
        data="",
        noisy="",
        images=4000,
        tests=2000,
        epochs=12,
        width=16,
        stem=2,
        batch=64,
        lr=0.1,
        every=5,
        seeds=3,
        expensive=120,
        minutes=45.0,
        resume=0,
        device="cpu",
    )
    if not options.data:
        raise SystemExit("--data FOLDER: CIFAR-10 as train/CLASS/FILE and test/CLASS/FILE")
    warnings.filterwarnings("ignore", message=".*steps.*")
    began = time.perf_counter()
    data = load(options.data, options.images, options.tests, options.noisy)
    whole = options.epochs * (options.images // options.batch)
    found: Found = {}
    if options.resume:
        found, ratio = found_before()
    else:
        ratio = augmentation_ratio(data, options)
    settings = {key: getattr(options, key) for key in ("images", "tests", "epochs", "width", "stem", "batch")}
    settings |= {"threads": options.threads, "seeds": options.seeds, "expensive": options.expensive, "looks": LOOKS}
    method = (__doc__ or "").format(**settings)

    def done(setting: str, name: str, seed: int) -> dict[str, Any] | None:
        return next((one for one in found.get(setting, {}).get(name, []) if one["seed"] == seed), None)

    def keep(setting: str, name: str, made: dict[str, Any]) -> None:
        found.setdefault(setting, {}).setdefault(name, []).append(made)
        facts = {RATIO: round(ratio, 2), "lr": options.lr, "every": options.every}
        harness.write("coreset_training", method, told(found), packages=("torchvision", "numba"), **facts)

    def go(setting: str, name: str, contender: Contender, steps: int, seed: int, noisy: bool = False) -> dict[str, Any]:
        before = done(setting, name, seed)
        if before is not None:
            return before
        if time.perf_counter() - began > 60 * options.minutes:
            raise TimeoutError
        made = {"seed": seed, **run(data, contender, steps, seed, options, noisy)}
        curve, full = made.pop("curve"), done("full", "full", seed)
        made["reached"] = None if full is None or noisy else reached(curve, full["accuracy"] - 1)
        keep(setting, name, made)
        print(f"{setting:28} {name:34} seed {seed} {made['accuracy']:6.2f} % cost {made['cost']:7.0f}", flush=True)
        return made

    try:
        # what is compiled is loaded before anything is timed
        run(
            data,
            Contender(subset(smartaug.FacilityLocation(), 0.3, apply="append", warmup=0, embed="pass"), STRONG),
            3,
            0,
            options,
        )
        for seed in range(options.seeds):
            go("full", "full", Contender(None), whole, seed)
            for fraction in (0.1, 0.3):
                steps = round(fraction * whole)
                equal = f"{fraction:.0%}, equal "
                for name, contender in trained(fraction, steps, options).items():
                    made = go(equal + "steps", name, contender, steps, seed)
                    if made["cost"] > 1.03 * steps:
                        go(equal + "cost", name, contender, max(1, round(steps**2 / made["cost"])), seed)
                    elif done(equal + "cost", name, seed) is None:
                        keep(equal + "cost", name, made)
            if data.human is not None:
                for name, contender in noisy_contenders(0.3, options).items():
                    go("wrong labels, 30%", name, contender, round(0.3 * whole), seed, noisy=True)
        for seed in range(options.seeds):
            for name, contender in augmented(ratio).items():
                steps = round(options.expensive * (1 + ratio) / (contender.rows + contender.charged))
                go("expensive, equal cost", name, contender, steps, seed)
        for seed in range(options.seeds):
            for name, contender in augmented(ratio).items():
                go("expensive, equal steps", name, contender, options.expensive, seed)
    except TimeoutError:
        print(f"stopped after {options.minutes} minutes; the results say how many runs each row has")
    for setting, rows in told(found).items():
        print(f"\n{setting}")
        for name, row in rows.items():
            print(f"  {row['accuracy']['mean']:6.2f} ± {row['accuracy']['sd']} %  cost {row['cost']:6}  {name}")


if __name__ == "__main__":
    main()
