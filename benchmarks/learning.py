"""What learned weights and labels are worth: accuracy after training beside plain training and its honest rivals.

Method: digits (scikit-learn, 8×8, pixels / 16) with 40 % of the training labels replaced by another class drawn
uniformly: 300 class-balanced validation images, 400 test images, the rest for training; MLP 64-128-128-10, SGD 0.03
with momentum 0.9, batch 64, 60 epochs; rows differ in the loader and loss lines alone, but for "epochs × 2", plain
training at the cost of SAFLEX. auroc: of finding wrong labels by weight × soft mass on the given label, summed over
training; by minus the loss where a run makes neither. Accuracy, calibration error (ece, 15 bins) and NLL are the test
set's; cost is processor time over the plain run's; mean and standard deviation over seeds. Direction and weights of
SAFLEX can be had less often: "every=4" uses a direction for 4 batches and weighs each; "weigh_every=4" weighs one batch
of 4, in the others each sample keeps its last weight and label; "plain between" weighs one batch of 4 and no other.
Soft Augmentation needs something to go by: its rows erase up to a third of half the images.

Rows in brackets are no rivals but bounds: "(wrong labels known)" gives them weight 0, the best that weights can do;
"(SAFLEX of random benefits)" feeds its rule independent normal draws, so that all it has is what any softening and
thinning gives; "(SAFLEX along random directions)" makes the benefits along directions without information, so that
their noise is common to a batch, as that of a validation gradient is. diagnosis, in percent, where labels are wrong:
effective: (Σ w)² / (n Σ w²) of a batch; zero_right and zero_wrong: samples at weight 0 among right and wrong labels;
auroc_once: auroc of single verdicts instead of their sum over training; auroc_loss: of minus the loss in the same run,
summed; memorised: wrong labels that the trained model gives. Each row has the day it was run; up to 2026-11-25 the
validation batches of learned weights held every class equally often (``balanced=True``).

``--data FOLDER`` adds pneumoniamnist.npz (MedMNIST, 28×28, its own splits; small CNN, 5 epochs) and three UCI tables
(adult-train.csv, of it 4,000 rows, german.csv, pima-indians-diabetes.csv; 60/20/20 %, MLP, 10 epochs) where there.
``--cifar FOLDER`` (CIFAR-10 as JPEG files, train/CLASS/NAME and test/CLASS/NAME) with cifar10n.npz in the data folder
adds CIFAR-10N: people's labels "random1" (17 % wrong) for 5,000 training images, 500 correctly labelled for validation,
2,000 test images; small CNN, crop and flip, 12 epochs, learning rate falling linearly from 0.1; at most 3 seeds.
``--only PART;PART`` runs the parts of that name or, where none has it, whose names begin so, ``--ways ROW;ROW`` these
rows and the plain one, which costs are measured by; others stay as they are in results/learning.json, with their date.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
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
    """Figures of one run, shares in percent; auroc: of finding wrong labels, None without any, as is diagnosis."""

    accuracy: float
    nll: float
    ece: float
    auc: float | None
    auroc: float | None
    seconds: float
    diagnosis: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Way:
    """How a row differs from plain training."""

    reweight: Callable[[nn.Module, Data], Any] | None = None
    validation_added: bool = False
    class_weights: bool = False
    smoothing: float = 0.0
    longer: int = 1
    erase: bool = False


class Now:
    """A reweighter on every k-th batch; the others stay plain."""

    def __init__(self, stage: Any, k: int) -> None:
        self.stage, self.k, self.step = stage, k, 0

    def __call__(self, batch: Any, trace: Any) -> Any:
        """What the stage says, or nothing."""
        self.step += 1
        return self.stage(batch, trace) if self.step % self.k == 1 else (None, None)


def known(model: nn.Module, data: Data) -> Any:
    """Weight 0 for the labels that are wrong, and no other weights: what no method can know."""
    right = (~data.flipped).float()

    def weigh(batch: Any, trace: Any) -> Any:
        weight = right[batch.index]
        return weight / weight.mean().clamp_min(1e-6), None

    return weigh


def placebo(model: nn.Module, data: Data) -> Any:
    """SAFLEX's rule on benefits that know nothing."""
    draw = torch.Generator().manual_seed(0)

    def weigh(batch: Any, trace: Any) -> Any:
        given = nn.functional.one_hot(batch.target, data.classes).float()
        return smartaug.SAFLEX.rule(torch.randn(given.shape, generator=draw), given, given)

    return weigh


class Astray(smartaug.SAFLEX):
    """SAFLEX along random directions of the gradient's size: its noise is the same for the whole batch."""

    def current_direction(self, device: torch.device, at: Any = None) -> dict[str, Tensor]:
        """The next direction, drawn anew."""
        draw, made = torch.Generator().manual_seed(self._drawn), super().current_direction(device, at)
        drawn = {name: torch.randn(part.shape, generator=draw) for name, part in made.items()}
        return {name: part.norm() / part.numel() ** 0.5 * drawn[name] for name, part in made.items()}


def saflex(**settings: Any) -> Callable[[nn.Module, Data], Any]:
    return lambda model, data: smartaug.SAFLEX(model, data.validation, **settings)


WAYS = {
    "plain": Way(),
    "plain, epochs × 2": Way(longer=2),
    "plain + validation data": Way(validation_added=True),
    "label smoothing 0.1": Way(smoothing=0.1),
    "label smoothing 0.4": Way(smoothing=0.4),
    "class weights": Way(class_weights=True),
    "erase": Way(erase=True),
    "SoftAugmentation, erase": Way(lambda model, data: smartaug.SoftAugmentation(data.classes), erase=True),
    "SAFLEX": Way(saflex()),
    "SAFLEX, difference": Way(saflex(method="difference")),
    "SAFLEX, difference, at loss": Way(saflex(method="difference", when="loss")),
    "SAFLEX, every=4": Way(saflex(every=4)),
    "SAFLEX, weigh_every=4": Way(saflex(weigh_every=4)),
    "SAFLEX, one batch of 4, plain between": Way(lambda model, data: Now(saflex()(model, data), 4)),
    "SAFLEX, balanced": Way(saflex(balanced=True)),
    "SAFLEX, centred": Way(saflex(centred=True)),
    "SAFLEX, shrunk": Way(saflex(shrunk=True)),
    "SAFLEX, centred, shrunk": Way(saflex(centred=True, shrunk=True)),
    "LearningToReweight, balanced": Way(
        lambda model, data: smartaug.LearningToReweight(model, data.validation, balanced=True)
    ),
    "MetaWeightNet, balanced": Way(
        lambda model, data: smartaug.MetaWeightNet(model, data.validation, lr=0.03, balanced=True)
    ),
    "SAFLEX, batch statistics": Way(saflex(statistics="batch")),
    "SAFLEX, head": Way(saflex(scope="head")),
    "SAFLEX, penalty 4, temperature 0.5": Way(saflex(penalty=4.0, temperature=0.5)),
    "MetaWeightNet": Way(lambda model, data: smartaug.MetaWeightNet(model, data.validation, lr=0.03)),
    "LiLAW": Way(lambda model, data: smartaug.LiLAW(model, data.validation)),
    "LearningToReweight": Way(lambda model, data: smartaug.LearningToReweight(model, data.validation)),
    "LearningToReweight, batch statistics": Way(
        lambda model, data: smartaug.LearningToReweight(model, data.validation, statistics="batch")
    ),
    "(wrong labels known)": Way(known),
    "(SAFLEX of random benefits)": Way(placebo),
    "(SAFLEX along random directions)": Way(lambda model, data: Astray(model, data.validation, statistics="batch")),
    "(SAFLEX, shrunk, along random directions)": Way(
        lambda model, data: Astray(model, data.validation, statistics="batch", shrunk=True)
    ),
}


# --- data and networks -----------------------------------------------------------------------------------------------


def digits(seed: int, noise: float = 0.4, held: int = 300) -> Data:
    from sklearn.datasets import load_digits

    source = load_digits()
    images = torch.tensor(source.images / 16.0, dtype=torch.float32)[:, None]
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
    columns = data.train[0][0].numel()
    body = [nn.Linear(columns, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, data.classes)]
    return nn.Sequential(nn.Flatten(), *body)


def small_cnn(data: Data, width: int = 16) -> nn.Module:
    def block(before: int, after: int) -> list[nn.Module]:
        return [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]

    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, data.classes)]
    first = data.train[0].shape[1]
    return nn.Sequential(*block(first, width), *block(width, 2 * width), *block(2 * width, 4 * width), *head)


def splits(path: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Images (n, 1, H, W) in [-1, 1] and labels (n,) of "train", "val" and "test" of a MedMNIST file."""
    arrays = np.load(path)
    return {
        name: (
            torch.tensor(arrays[f"{name}_images"], dtype=torch.float32)[:, None] / 127.5 - 1,
            torch.tensor(arrays[f"{name}_labels"]).reshape(-1).long(),
        )
        for name in ("train", "val", "test")
    }


def pneumonia(folder: Path) -> Callable[[int], Data] | None:
    path = folder / "pneumoniamnist.npz"
    if not path.is_file():
        return None
    train, validation, test = splits(path).values()
    return lambda seed: Data(train, validation, test, torch.zeros(len(train[1]), dtype=torch.bool), 2)


def rows(path: Path) -> tuple[Tensor, Tensor]:
    """(n, F) float32 and labels (n,) of a UCI table: no header, the label last; words become one column a word."""
    lines = [line.strip(". ").split(",") for line in path.read_text().splitlines() if line.strip()]
    cells = np.array([[cell.strip() for cell in line] for line in lines])
    columns = [_encoded(cells[:, number]) for number in range(cells.shape[1] - 1)]
    values = torch.tensor(np.concatenate(columns, 1), dtype=torch.float32)
    return values, torch.tensor(np.unique(cells[:, -1], return_inverse=True)[1]).reshape(-1)


def tabular(folder: Path, name: str, limit: int = 4000) -> Callable[[int], Data] | None:
    """One of the UCI tables, 60/20/20 %."""
    path = folder / name
    if not path.is_file():
        return None
    values, labels = rows(path)

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


def cifar_noisy(folder: Path, labels: Path) -> Callable[[int], Data] | None:
    """CIFAR-10N: training labels are one person's ("random1"); labels are in the order of the files' names."""
    if not labels.is_file() or not (folder / "train").is_dir():
        return None
    given = torch.tensor(np.load(labels)["random1"]).long()
    train, right = files(folder / "train")
    tested, truth = files(folder / "test")

    def make(seed: int) -> Data:
        draw = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(train), generator=draw)
        held = torch.cat([order[right[order] == k][:50] for k in range(10)])
        rest = order[~torch.isin(order, held)][:5000]
        test = torch.randperm(len(tested), generator=draw)[:2000]
        return Data(
            (pictures(train, rest), given[rest]),
            (pictures(train, held), right[held]),
            (pictures(tested, test), truth[test]),
            given[rest] != right[rest],
            10,
        )

    return make


def files(folder: Path) -> tuple[list[Path], Tensor]:
    """The files of an image folder in its order, and the number of their class."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    found = [(path, number) for number, part in enumerate(classes) for path in sorted(part.iterdir())]
    return [path for path, _ in found], torch.tensor([number for _, number in found])


def pictures(paths: list[Path], rows: Tensor) -> Tensor:
    """(n, 3, H, W) float32, about zero mean and unit variance."""
    from PIL import Image

    arrays = np.stack([np.asarray(Image.open(paths[row])) for row in rows.tolist()])
    return (torch.tensor(arrays).permute(0, 3, 1, 2).float() / 255 - 0.47) / 0.25


# --- training --------------------------------------------------------------------------------------------------------


def run(
    name: str,
    data: Data,
    seed: int,
    epochs: int,
    net: Callable[[Data], nn.Module] = mlp,
    lr: float = 0.03,
    augment: tuple[Any, ...] = (),
    falling: bool = False,
) -> Outcome:
    """Train once; the loop is any user's. falling: the learning rate falls linearly to 0."""
    from sklearn.metrics import roc_auc_score

    started, way = time.process_time(), WAYS[name]
    torch.manual_seed(seed)
    model = net(data)
    train = data.train
    if way.validation_added:
        train = (torch.cat([train[0], data.validation[0]]), torch.cat([train[1], data.validation[1]]))
    loader = smartaug.DataLoader(
        TensorDataset(*train),
        batch_size=64,
        shuffle=True,
        drop_last=True,
        generator=torch.Generator().manual_seed(seed),
        augment=[*augment, *([smartaug.Erase()] if way.erase else [])] or None,
        reweight=smartaug.Uniform() if way.reweight is None else way.reweight(model, data),
        device="cpu",
        seed=seed,
    )
    counts = torch.bincount(train[1], minlength=data.classes).float()
    weight = counts.sum() / (data.classes * counts.clamp_min(1)) if way.class_weights else None
    criterion = smartaug.Loss(nn.CrossEntropyLoss(weight=weight, label_smoothing=way.smoothing))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    epochs *= way.longer
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0 if falling else 1.0, epochs * len(loader))
    trust = torch.zeros(len(train[0]))
    wrong = torch.cat([data.flipped, torch.zeros(len(train[0]) - len(data.flipped), dtype=torch.bool)])
    seen: list[tuple[Tensor, ...]] = []
    for _ in range(epochs):
        model.train()
        for inputs, target in loader:
            output = model(inputs)
            loss = criterion(output, target)
            verdict = _verdict(output, target, loader.reweight)
            trust[target.index] += verdict[1]
            seen.append((target.index, *verdict))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    seconds = time.process_time() - started
    auroc = None
    if bool(data.flipped.any()):
        auroc = 100 * float(roc_auc_score(~data.flipped, trust[: len(data.flipped)]))
    model.eval()
    with torch.no_grad():
        log_p = model(data.test[0]).log_softmax(1)
        guess = model(train[0]).argmax(1)
    diagnosis = {} if auroc is None else _diagnosis(seen, wrong, guess == train[1])
    return _outcome(log_p, data.test[1], auroc, seconds, diagnosis)


def _verdict(output: Tensor, target: Any, stage: Any) -> tuple[Tensor, Tensor, Tensor]:
    """(B,) each: the weight; trust in the given labels: weight × soft mass on them, or minus the loss where the stage
    made neither; minus the loss."""
    late = stage.settle(output, target) if hasattr(stage, "settle") else None  # what Loss was told
    target = target if late is None else smartaug.Target(target.plain, *late)
    given = target.plain[:, None]
    weight = target.weight.clone()
    minus_loss = output.detach().log_softmax(1).gather(1, given)[:, 0]
    if target.soft is None and bool((weight == 1).all()):
        return weight, minus_loss, minus_loss
    return weight, weight if target.soft is None else weight * target.soft.gather(1, given)[:, 0], minus_loss


def _diagnosis(seen: list[tuple[Tensor, ...]], wrong: Tensor, fitted: Tensor) -> dict[str, float]:
    """Why a way wins or loses, in percent; see the method. fitted: (n,) whether the model gives the given label."""
    from sklearn.metrics import roc_auc_score

    index, weight, trust, minus_loss = (torch.cat(parts) for parts in zip(*seen, strict=True))
    at_zero, flipped = (weight == 0).float(), wrong[index]
    losses = torch.zeros(len(wrong)).index_add_(0, index, minus_loss)
    share = [float(w.sum().square() / w.square().sum() / len(w)) for _, w, _, _ in seen]
    return {
        "effective": 100 * statistics.mean(share),
        "zero_right": 100 * float(at_zero[~flipped].mean()),
        "zero_wrong": 100 * float(at_zero[flipped].mean()),
        "auroc_once": 100 * float(roc_auc_score(~flipped, trust)),
        "auroc_loss": 100 * float(roc_auc_score(~wrong, losses)),
        "memorised": 100 * float(fitted[wrong].float().mean()),
    }


def _outcome(
    log_p: Tensor, labels: Tensor, auroc: float | None, seconds: float, diagnosis: dict[str, float]
) -> Outcome:
    from sklearn.metrics import roc_auc_score

    confidence, guess = log_p.exp().max(1)
    right = (guess == labels).float()
    bins = (confidence * 15).long().clamp_max(14)
    gaps = [abs(float((right - confidence)[bins == b].sum())) for b in bins.unique()]
    auc = 100 * float(roc_auc_score(labels, log_p[:, 1])) if log_p.shape[1] == 2 else None
    nll = float(-log_p.gather(1, labels[:, None]).mean())
    return Outcome(100 * float(right.mean()), nll, 100 * sum(gaps) / len(labels), auc, auroc, seconds, diagnosis)


def _spread(values: list[float]) -> dict[str, Any]:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": round(statistics.mean(values), 3), "sd": round(deviation, 3), "n": len(values)}


def table(data: Callable[[int], Data], seeds: int, epochs: int, ways: list[str], **settings: Any) -> dict[str, Any]:
    """Mean and standard deviation over seeds, a row a way; printed as it comes. Plain comes first."""
    rows: dict[str, Any] = {}
    plain: list[float] = []
    for name in ways:
        outcomes = [run(name, data(seed), seed, epochs, **settings) for seed in range(seeds)]
        seconds = [outcome.seconds for outcome in outcomes]
        plain = seconds if name == "plain" else plain
        figures = {
            figure: [getattr(outcome, figure) for outcome in outcomes]
            for figure in ("accuracy", "nll", "ece", "auc", "auroc")
        }
        if plain:
            figures["cost"] = [mine / base for mine, base in zip(seconds, plain, strict=True)]
        rows[name] = {figure: _spread(values) for figure, values in figures.items() if values[0] is not None}
        shown = [f"{key} {value['mean']:.2f} ± {value['sd']:.2f}" for key, value in rows[name].items()]
        diagnosis = {key: _spread([one.diagnosis[key] for one in outcomes]) for key in outcomes[0].diagnosis}
        if diagnosis:
            rows[name]["diagnosis"] = diagnosis
        rows[name]["date"] = time.strftime("%Y-%m-%d")
        print(f"{name:38}", *shown, *(f"{key} {value['mean']:.1f}" for key, value in diagnosis.items()), flush=True)
    return rows


Part = tuple[Callable[[int], Data], int, int, list[str], dict[str, Any]]


def parts(options: Any) -> dict[str, Part]:
    """Name -> (data by seed, seeds, epochs, ways, further settings of `run`) of what there is data for."""
    seeds, epochs = options.seeds, options.epochs
    bounds = [name for name in WAYS if name.startswith("(")]
    without_norm = [name for name in WAYS if "statistics" not in name]
    clean = ["plain", "plain + validation data", "label smoothing 0.1", "erase", "SoftAugmentation, erase", "SAFLEX"]
    found: dict[str, Part] = {
        "digits, 40 % flipped": (digits, seeds, epochs, without_norm, {}),
        "digits, clean": (lambda seed: digits(seed, 0.0), seeds, epochs, clean, {}),
    }
    for held in (50, 100):
        found[f"digits, 40 % flipped, {held} validation images"] = (
            lambda seed, held=held: digits(seed, 0.4, held),
            seeds,
            epochs,
            ["plain", "SAFLEX"],
            {},
        )
    for short in (5, 10, 20):
        ways = ["plain", "label smoothing 0.4", "SAFLEX", "LearningToReweight", *bounds]
        found[f"digits, 40 % flipped, {short} epochs"] = (digits, seeds, short, ways, {})
    if options.data is None:
        return found
    folder = Path(options.data)
    few = [name for name in WAYS if not any(word in name for word in ("of 4", "=4", "at loss", "erase", "×", "("))]
    made = pneumonia(folder)
    if made is not None:
        found["PneumoniaMNIST"] = (made, min(3, seeds), 5, few, {"net": small_cnn, "lr": 0.05})
    for name in ("adult-train.csv", "german.csv", "pima-indians-diabetes.csv"):
        made = tabular(folder, name)
        if made is not None:
            found[name] = (made, seeds, 10, [way for way in few if way in without_norm], {"lr": 0.02})
    made = None if options.cifar is None else cifar_noisy(Path(options.cifar), folder / "cifar10n.npz")
    if made is not None:
        settings = {"net": lambda data: small_cnn(data, 32), "lr": 0.1, "falling": True}
        settings["augment"] = (smartaug.PadCrop(4), smartaug.Flip())
        left_out = ("class weights", "between", "weigh_every", "at loss")
        ways = [name for name in WAYS if not any(word in name for word in left_out)]
        found["CIFAR-10N random1"] = (made, min(3, seeds), 12, ways, settings)
    return found


def main() -> None:
    options = harness.arguments(__doc__, seeds=5, epochs=60, data=None, cifar=None, only="", ways="")
    path = harness.RESULTS / "learning.json"
    partly = (options.only or options.ways) and path.exists()
    before = json.loads(path.read_text()) if partly else {"results": {}}
    kept = before["results"]
    for row in (row for rows in kept.values() for row in rows.values()):
        row.setdefault("date", before["date"])
    found, asked_for = parts(options), options.only.split(";")
    prefixes = tuple(one for one in asked_for if one not in found)
    for name, (data, seeds, epochs, ways, settings) in found.items():
        if name in asked_for or name.startswith(prefixes):
            print(name)
            asked = [way for way in ways if not options.ways or way in ("plain", *options.ways.split(";"))]
            kept[name] = {**kept.get(name, {}), **table(data, seeds, epochs, asked, **settings)}
            harness.write("learning", __doc__ or "", kept, packages=("scikit-learn",))


if __name__ == "__main__":
    main()
