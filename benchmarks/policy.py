"""What learned and sample-aware policies are worth: accuracy in few-shot training at equal cost, harmful operations.

Method: "digits": scikit-learn's digits at 16×16 pixels, 20 training images a class. "glyphs": a set like Omniglot, but
drawn: 20 characters of three to five strokes, each drawn anew with jittered strokes, slant and size, 20×20 pixels, 5
training images a character. The learned policies have 10 (digits) and 3 (glyphs) clean images a class as validation
data, which "+ validation data" trains on; 800 and 400 test images that choose nothing. CNN of two convolutions (16, 32)
and a hidden layer of 64; SGD 0.05 with momentum 0.9, the rate falling linearly to 0; batch 40 and 25. MetaAugment runs
{steps} steps, each other row as many more as bring it to about MetaAugment's cost, but for "as many steps", which costs
as much more. All rows are the same loop, with other words in the loader line; nothing was tuned.

"harmful digits": digits (8×8, MLP 64-128-128-10, SGD 0.03 with momentum 0.9, batch 64), 20 training and 10 validation
images a class, ten operations of which two are drawn for a sample: identity, shifts right and down, darker, noise and,
harmful, another image pasted in under the old label (twice), both flips and a half turn. "good operations only" draws
from the first five. MetaAugment 400 steps, the others as many more as cost about the same.

"cifar" (``--data FOLDER``, which holds CIFAR-10 as JPEG files, cifar/train/CLASS/NAME and cifar/test/CLASS/NAME): 2,000
training, 300 validation and 2,000 test images drawn anew for each seed, equally many a class, halved to 16×16 pixels;
network and loop of "digits", batch 50, {cifar} steps of MetaAugment.

Accuracy in percent: mean and standard deviation over seeds, which draw images, order and network. Paired: the
difference to the base row on the same seed, and in how many seeds it is positive. Cost: processor time over that row's.

"shares" is another run: digits (8×8), 300 class-balanced validation images, MLP, SGD 0.03, batch 64, 300 steps in
epochs of 20, ten operations of which "Swap" pastes another image in and keeps the label and "Twin" is a second
Identity, the null control; α 0.1, policy Adam 2e-3, ε 0.1, history 5 epochs, validation batch 64. Figures: each
operation's probability over its uniform share at the end.

Run: ``python -m benchmarks.policy``; ``--only glyphs`` runs one table, the others stay as they are; ``--ways Learning``
the rows so named of "digits", "glyphs" or "cifar", beside which the others stay. "cifar" ran on a machine with other
work: costs are ratios of processor time, and rough.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, Dataset, TensorDataset

import smartaug
from smartaug.augment.plan import Trace

if __package__:
    from benchmarks import harness, learning
else:
    import harness
    import learning

Pair = tuple[Tensor, Tensor]
Operation = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Data:
    """Images and labels of the three parts; batch: of a training step."""

    train: Pair
    validation: Pair
    test: Pair
    classes: int
    batch: int


@dataclass(frozen=True)
class Way:
    """A row: the stages of the loader line; longer: its steps over MetaAugment's, so that all cost about the same."""

    augment: Callable[[], Any] = lambda: None
    reweight: Callable[[nn.Module, Any, Data], Any] | None = None
    validation_added: bool = False
    longer: float = 4.5


def meta(**settings: Any) -> Callable[[nn.Module, Any, Data], Any]:
    return lambda model, policy, data: smartaug.MetaAugment(
        model, data.validation, policy=policy, lr=0.05, transform=FLOATS, **settings
    )


def to_reweight(model: nn.Module, policy: Any, data: Data) -> Any:
    return smartaug.LearningToReweight(model, data.validation, transform=FLOATS)


FLOATS = smartaug.Normalize(0.5, 0.5)
DRAWN = "RandAugment, drawn magnitudes"
WAYS = {
    "no augmentation": Way(),
    "no augmentation + validation data": Way(validation_added=True),
    "RandAugment(2, 9)": Way(lambda: smartaug.RandAugment(2, 9)),
    DRAWN: Way(lambda: smartaug.RandAugment(2, (0, 30))),
    DRAWN + " + validation data": Way(lambda: smartaug.RandAugment(2, (0, 30)), validation_added=True),
    "TrivialAugment": Way(smartaug.TrivialAugment),
    "EntAugment": Way(lambda: smartaug.RandAugment(1, smartaug.EntAugment())),
    "SRA": Way(lambda: smartaug.RandAugment(2, smartaug.SRA())),
    "LearningToReweight, drawn magnitudes": Way(lambda: smartaug.RandAugment(2, (0, 30)), to_reweight, longer=1.4),
    "LearningToReweight, drawn magnitudes, as many steps": Way(lambda: smartaug.RandAugment(2, (0, 30)), to_reweight),
    "MetaAugment, drawn magnitudes": Way(lambda: smartaug.RandAugment(2, (0, 30)), meta(), longer=1.0),
    "MetaAugment, drawn magnitudes, as many steps": Way(lambda: smartaug.RandAugment(2, (0, 30)), meta()),
    "MetaAugment, drawn magnitudes, bands=3": Way(lambda: smartaug.RandAugment(2, (0, 30)), meta(bands=3), longer=1.0),
}
LEFT_OUT = ("EntAugment", "SRA", "bands")  # of "cifar"


# --- data ------------------------------------------------------------------------------------------------------------


def digits(seed: int, size: int = 16) -> Data:
    from sklearn.datasets import load_digits

    source = load_digits()
    images = torch.tensor(source.images / 16.0, dtype=torch.float32)[:, None]
    if size != 8:
        images = F.interpolate(images, (size, size), mode="bilinear", align_corners=False)
    images, labels = (images * 255).round().to(torch.uint8), torch.tensor(source.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    places = [order[labels[order] == k] for k in range(10)]
    parts = [torch.cat([place[start:end] for place in places]) for start, end in ((0, 20), (20, 30), (30, 110))]
    train, validation, test = ((images[rows], labels[rows]) for rows in parts)
    return Data(train, validation, test, 10, 40)


def glyphs(seed: int, classes: int = 20, size: int = 20) -> Data:
    """Characters of random strokes, see the method."""
    draw = torch.Generator().manual_seed(seed)
    each, pictures = (5, 3, 20), []
    for _ in range(classes):
        strokes = int(torch.randint(3, 6, (1,), generator=draw))
        points = torch.rand(strokes, 3, 2, generator=draw) * 1.6 - 0.8  # three points of a curve each
        pictures.append(torch.stack([_drawn(points, size, draw) for _ in range(sum(each))]))
    images, labels = torch.stack(pictures), torch.arange(classes)
    ends = [sum(each[: n + 1]) for n in range(3)]
    parts = [
        (images[:, end - count : end].flatten(0, 1), labels.repeat_interleave(count))
        for end, count in zip(ends, each, strict=True)
    ]
    return Data(*parts, classes, 25)


def cifar(folder: Path) -> Callable[[int], Data]:
    """A small CIFAR-10 at 16×16 pixels, see the method."""
    (trained, classes), (tested, truth) = (learning.files(folder / name) for name in ("train", "test"))

    def make(seed: int) -> Data:
        draw = torch.Generator().manual_seed(seed)
        order, last = (torch.randperm(len(labels), generator=draw) for labels in (classes, truth))
        of = [order[classes[order] == k] for k in range(10)]
        parts = [torch.cat([rows[start:end] for rows in of]) for start, end in ((0, 200), (200, 230))]
        test = torch.cat([last[truth[last] == k][:200] for k in range(10)])
        train, validation = ((_halved(trained, rows), classes[rows]) for rows in parts)
        return Data(train, validation, (_halved(tested, test), truth[test]), 10, 50)

    return make


def _halved(paths: list[Path], rows: Tensor) -> Tensor:
    """(n, 3, H/2, W/2) uint8: the means of 2×2 pixels."""
    from PIL import Image

    arrays = np.stack([np.asarray(Image.open(paths[row]).convert("RGB").reduce(2)) for row in rows.tolist()])
    return torch.tensor(arrays).permute(0, 3, 1, 2).contiguous()


def _drawn(points: Tensor, size: int, draw: torch.Generator) -> Tensor:
    """One picture (1, size, size) uint8 of a character with strokes ``points`` (S, 3, 2), as another hand draws it."""
    points = points + 0.09 * torch.randn(points.shape, generator=draw)
    turn, slant, width, height = (torch.randn(4, generator=draw) * torch.tensor([0.12, 0.15, 0.1, 0.1])).tolist()
    moved = torch.tensor([[1 + width, slant + turn], [-turn, 1 + height]])
    t = torch.linspace(0, 1, 24)[:, None, None]
    curve = (1 - t) ** 2 * points[:, 0] + 2 * t * (1 - t) * points[:, 1] + t**2 * points[:, 2]  # (24, S, 2)
    curve = curve.flatten(0, 1) @ moved.T + 0.08 * torch.randn(2, generator=draw)
    axis = torch.linspace(-1.2, 1.2, size)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).flatten(0, 1)
    far = torch.cdist(grid, curve).amin(1).view(size, size)
    return (255 * (1.6 - far * size / 2.4).clamp(0, 1)).round().to(torch.uint8)[None]


# --- training --------------------------------------------------------------------------------------------------------


def network(data: Data) -> nn.Module:
    side = data.train[0].shape[-1] // 4
    return nn.Sequential(
        nn.Conv2d(data.train[0].shape[1], 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(32 * side * side, 64), nn.ReLU(), nn.Linear(64, data.classes),
    )  # fmt: skip


def train(way: Way, data: Data, seed: int, steps: int) -> tuple[float, float]:
    """(accuracy in percent, seconds of processor time) of one run; the loop is any user's."""
    torch.manual_seed(seed)
    model, policy = network(data), way.augment()
    samples: Dataset = TensorDataset(*data.train)
    if way.validation_added:
        samples = ConcatDataset([samples, TensorDataset(*data.validation)])
    started = time.process_time()
    loader = smartaug.DataLoader(
        samples,
        batch_size=data.batch,
        shuffle=True,
        drop_last=True,
        generator=torch.Generator().manual_seed(seed),
        augment=[FLOATS] if policy is None else [policy, FLOATS],
        reweight=None if way.reweight is None else way.reweight(model, policy, data),
        seed=seed,
        device="cpu",
    )
    criterion = smartaug.Loss(nn.CrossEntropyLoss())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    epochs = max(1, round(steps * way.longer / len(loader)))
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, epochs * len(loader))
    for _ in range(epochs):
        for inputs, target in loader:
            loss = criterion(model(inputs), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            falling.step()
    seconds = time.process_time() - started
    with torch.no_grad():
        right = model(FLOATS(data.test[0])).argmax(1) == data.test[1]
    return 100 * float(right.float().mean()), seconds


# --- harmful operations ----------------------------------------------------------------------------------------------

GOOD: dict[str, Operation] = {
    "Identity": lambda x: x,
    "Right": lambda x: x.roll(1, 2),
    "Down": lambda x: x.roll(1, 1),
    "Darker": lambda x: 0.7 * x,
    "Noise": lambda x: x + 0.1 * torch.randn_like(x),
}
HARMFUL: dict[str, Operation] = GOOD | {
    "Swap": lambda x: x.roll(1, 0),
    "Swap again": lambda x: x.roll(2, 0),
    "Mirrored": lambda x: x.flip(2),
    "Upside down": lambda x: x.flip(1),
    "Half turn": lambda x: x.rot90(2, (1, 2)),
}


@dataclass(frozen=True)
class Choice:
    """A row of "harmful digits"."""

    operations: dict[str, Operation] | None
    learns: str = ""
    validation_added: bool = False
    longer: float = 10.0


CHOICES = {
    "no augmentation": Choice(None),
    "good operations only": Choice(GOOD),
    "uniform": Choice(HARMFUL),
    "uniform + validation data": Choice(HARMFUL, validation_added=True),
    "LearningToReweight": Choice(HARMFUL, "LearningToReweight", longer=1.4),
    "MetaAugment": Choice(HARMFUL, "MetaAugment", longer=1.0),
}


def augmented(images: Tensor, ops: Tensor, operations: dict[str, Operation]) -> Tensor:
    """Images (B, 64) after the operations ``ops`` (B, 2), in order."""
    images = images.view(-1, 8, 8)
    for column in ops.T:
        made = torch.stack([operation(images) for operation in operations.values()])
        images = made[column, torch.arange(len(images))]
    return images.flatten(1)


def learner(way: Choice, model: nn.Module, held: Pair, seed: int) -> Any:
    if way.learns == "MetaAugment":
        names = tuple(way.operations or ())
        return smartaug.MetaAugment(
            model, held, operations=names, lr=0.1, policy_lr=2e-3, history=5, validation_batch=64, seed=seed
        )
    return smartaug.LearningToReweight(model, held) if way.learns else None


def harmful(way: Choice, data: Data, seed: int, steps: int) -> tuple[float, float]:
    """(accuracy in percent, seconds of processor time) of one run, by the operations of a row."""
    torch.manual_seed(seed)
    (images, labels), held, test = (
        (pictures.flatten(1) / 255, classes) for pictures, classes in (data.train, data.validation, data.test)
    )
    model = learning.mlp(learning.Data(data.train, held, test, torch.empty(0), 10))
    if way.validation_added:
        images, labels = torch.cat([images, held[0]]), torch.cat([labels, held[1]])
    stage, operations = learner(way, model, held, seed), way.operations or {"Identity": GOOD["Identity"]}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
    criterion, names, started = smartaug.Loss(nn.CrossEntropyLoss()), tuple(operations), time.process_time()
    table = torch.full((len(names),) * 2, 1 / len(names) ** 2)
    for step in range(round(steps * way.longer)):
        if step % 20 == 0 and way.learns == "MetaAugment":
            stage.begin(step // 20)
            table = stage.probabilities
        rows = torch.randperm(len(labels))[:64]
        drawn = torch.multinomial(table.flatten(), 64, replacement=True)
        ops = torch.stack([drawn // len(names), drawn % len(names)], 1)
        shown = augmented(images[rows], ops, operations)
        weight = None
        if stage is not None:
            weight, _ = stage(smartaug.Batch(shown, labels[rows]), Trace(ops, torch.zeros(64, 2), names))
        optimizer.zero_grad()
        criterion(model(shown), smartaug.Target(labels[rows], weight)).backward()
        optimizer.step()
    seconds = time.process_time() - started
    with torch.no_grad():
        right = model(test[0]).argmax(1) == test[1]
    return 100 * float(right.float().mean()), seconds


# --- how often operations are drawn ----------------------------------------------------------------------------------

OPERATIONS: dict[str, Operation] = {
    "Identity": lambda x: x,
    "Twin": lambda x: x,
    "Swap": lambda x: x.roll(1, 0),
    "Flip": lambda x: x.flip(2),
    "Rotate": lambda x: x.rot90(1, (1, 2)),
    "Shift": lambda x: x.roll(1, 2),
    "Blank": lambda x: torch.zeros_like(x),
    "Darker": lambda x: 0.6 * x,
    "Noise": lambda x: x + 0.1 * torch.randn_like(x),
    "Erase": lambda x: x * (torch.arange(8) > 2)[None, :, None],
}


def shares(seed: int, steps: int, policy_lr: float = 2e-3) -> list[float]:
    """Every operation's probability over its uniform share at the end of a run."""
    data = learning.digits(seed, noise=0.0)
    torch.manual_seed(seed)
    model = learning.mlp(data)
    stage = smartaug.MetaAugment(
        model, data.validation, operations=tuple(OPERATIONS), lr=0.1, policy_lr=policy_lr, history=5, seed=seed
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
    criterion = smartaug.Loss(nn.CrossEntropyLoss())
    images, labels = data.train
    table = torch.empty(0)
    for step in range(steps):
        stage.begin(step // 20)
        table = stage.probabilities if stage.probabilities is not None else table
        rows = torch.randperm(len(labels))[:64]
        drawn = torch.multinomial(table.flatten(), 64, replacement=True)
        ops = torch.stack([drawn // len(OPERATIONS), drawn % len(OPERATIONS)], 1)
        shown = augmented(images[rows], ops, OPERATIONS)
        trace = Trace(ops, torch.zeros(64, 2), tuple(OPERATIONS))
        weight, _ = stage(smartaug.Batch(shown, labels[rows]), trace)
        optimizer.zero_grad()
        criterion(model(shown), smartaug.Target(labels[rows], weight)).backward()
        optimizer.step()
    stage.begin(steps)
    final = stage.probabilities
    if final is None:
        raise RuntimeError("a stage with operations has probabilities")
    return ((final.sum(0) + final.sum(1)) / 2 * len(OPERATIONS)).tolist()


def drawn_shares(seeds: int, steps: int) -> dict[str, Any]:
    """The shares over seeds, by operation."""
    runs, rows = [shares(seed, steps) for seed in range(seeds)], {}
    for name, values in zip(OPERATIONS, zip(*runs, strict=True), strict=True):
        rows[name] = {
            "mean": round(statistics.mean(values), 3),
            "sd": round(statistics.stdev(values), 3) if len(values) > 1 else 0.0,
            "min": round(min(values), 3),
            "max": round(max(values), 3),
        }
        print(f"{name:10}", rows[name])
    return rows


# --- tables ----------------------------------------------------------------------------------------------------------


def table(
    make: Callable[[int], Data], ways: dict[str, Any], run: Callable[..., tuple[float, float]], base: str, **sizes: int
) -> dict[str, Any]:
    """A row a way, seeds in turn; printed at the end."""
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for seed in range(sizes["seeds"]):
        data = make(seed)
        for name, way in ways.items():
            runs[name].append(run(way, data, seed, sizes["steps"]))
        print(f"seed {seed}", flush=True)
    rows: dict[str, Any] = {}
    for name, made in runs.items():
        apart = [one[0] - other[0] for one, other in zip(made, runs[base], strict=True)]
        cost = [one[1] / other[1] for one, other in zip(made, runs[base], strict=True)]
        rows[name] = {
            "accuracy": harness.spread([one[0] for one in made]),
            "paired": {**harness.spread(apart), "better": sum(one > 0 for one in apart)},
            "cost": harness.summary(cost, 3),
            "base": name == base,
        }
        accuracy, paired = rows[name]["accuracy"], rows[name]["paired"]
        print(
            f"{name:42} {accuracy['mean']:.1f} ± {accuracy['sd']:.1f}   {paired['mean']:+.1f} ± {paired['sd']:.1f} "
            f"({paired['better']}/{paired['n']})   cost {rows[name]['cost']['median']}"
        )
    return rows


def main() -> None:
    options = harness.arguments(__doc__, seeds=5, steps=150, cifar_steps=60, data=None, only="", ways="")
    path = harness.RESULTS / "policy.json"
    seeds, method = options.seeds, (__doc__ or "").format(steps=options.steps, cifar=options.cifar_steps)
    ways = {name: way for name, way in WAYS.items() if options.ways in name or name == DRAWN}
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "shares": lambda: drawn_shares(seeds, 300),
        "harmful digits": lambda: table(
            lambda seed: digits(seed, 8), CHOICES, harmful, "uniform", seeds=seeds, steps=400
        ),
        "digits": lambda: table(digits, ways, train, DRAWN, seeds=seeds, steps=options.steps),
        "glyphs": lambda: table(glyphs, ways, train, DRAWN, seeds=seeds, steps=options.steps),
    }
    if options.data is not None:
        make = cifar(Path(options.data) / "cifar")
        kinds = {name: way for name, way in ways.items() if not any(word in name for word in LEFT_OUT)}
        parts["cifar"] = lambda: table(make, kinds, train, DRAWN, seeds=seeds, steps=options.cifar_steps)
    elif options.only == "cifar":
        raise SystemExit("--data FOLDER names the folder that holds cifar/train and cifar/test")
    for name, run in parts.items():
        if options.only in ("", name):
            print(name)
            made = run()
            kept = json.loads(path.read_text())["results"] if path.exists() else {}
            if options.ways:
                made = {**kept.get(name, {}), **made}
                made = {way: made[way] for way in WAYS if way in made}
            harness.write("policy", method, {**kept, name: made}, packages=("scikit-learn",), seeds=seeds)


if __name__ == "__main__":
    main()
