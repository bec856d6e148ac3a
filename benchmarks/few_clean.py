"""Few clean samples beside many of which a part is wrong: what the clean ones are best used for.

Method: digits (scikit-learn, 8×8, pixels / 16), MLP 64-128-128-10, SGD 0.03 with momentum 0.9, batch 64, 30 epochs of
the row's own data, nothing tuned; 800 test images that choose nothing. "generated": 50 clean images (5 a class) and
600 made from them, shifted by up to one pixel with noise of standard deviation 0.25, of which 40 % carry the label of
the next class, as a generator that confuses classes would give. "spurious": 100 clean images (10 a class) and 600 in
which a bright pixel tells the class in 95 % of the cases; in clean and test images that pixel is drawn at random.

Rows: "plain" trains on the wrong data alone, "clean alone" on the clean images for as many steps, "+ clean × k" on both
with each clean image k times in an epoch. Learned weights judge by the clean images; "weighs all" also weighs the clean
images in training, the others leave them at weight 1 (`smartaug.Generated`); with ``train_on_val=5`` the loader puts
them there, one argument in place of a dataset. In brackets a control: SAFLEX's rule on random benefits. "epochs × 4" is
plain training at no less than SAFLEX's cost.

Accuracy: mean and standard deviation over seeds, which draw images, wrong labels, order and network. Paired: the
difference to "plain + clean × 5" on the same seed, and in how many seeds it is positive. Cost: processor time over
"plain + clean × 5", taken on a machine with other work, so that it is rough. Run: ``python -m benchmarks.few_clean``
(about 4 minutes on one core); ``--only generated`` runs one table, ``--ways train_on_val`` the rows so named, beside
which the others stay.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, Dataset, TensorDataset

import smartaug

try:
    from benchmarks import harness
except ImportError:  # run as a file
    import harness

BASE = "plain + clean × 5"
Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Data:
    """Images and labels, or two halves of pairs: clean ones, those of which a part is wrong, and the test set."""

    clean: Pair
    wrong: Pair
    test: Pair


@dataclass(frozen=True)
class Way:
    """A row: how often the clean images are in an epoch, None: they alone; what is learned; settings of the loss.

    adds: whether what is learned puts the clean images into training itself (``train_on_val=``).
    """

    clean: int | None = 5
    reweight: Callable[[nn.Module, Data], Any] | None = None
    weighs_all: bool = False
    adds: bool = False
    smoothing: float = 0.0
    longer: int = 1


def random_benefits(model: nn.Module, data: Data) -> Any:
    """SAFLEX's rule on benefits that know nothing."""
    draw = torch.Generator().manual_seed(0)

    def weigh(batch: Any, trace: Any) -> Any:
        given = nn.functional.one_hot(batch.target, 10).float()
        return smartaug.SAFLEX.rule(torch.randn(given.shape, generator=draw), given, given)

    return weigh


def saflex(**settings: Any) -> Callable[[nn.Module, Data], Any]:
    return lambda model, data: smartaug.SAFLEX(model, data.clean, **settings)


def to_reweight(model: nn.Module, data: Data) -> Any:
    return smartaug.LearningToReweight(model, data.clean)


def to_reweight_too(model: nn.Module, data: Data) -> Any:
    return smartaug.LearningToReweight(model, data.clean, train_on_val=5)


WAYS = {
    "plain": Way(0),
    "clean alone": Way(None),
    "plain + clean": Way(1),
    BASE: Way(5),
    BASE + ", epochs × 4": Way(5, longer=4),
    BASE + ", label smoothing 0.2": Way(5, smoothing=0.2),
    BASE + ", label smoothing 0.4": Way(5, smoothing=0.4),
    "(random benefits + clean × 5)": Way(5, random_benefits),
    "SAFLEX, clean images judge alone": Way(0, saflex()),
    "LearningToReweight, clean images judge alone": Way(0, to_reweight),
    "LearningToReweight + clean × 5": Way(5, to_reweight),
    "SAFLEX + clean × 5, weighs all": Way(5, saflex(), weighs_all=True),
    "SAFLEX + clean × 5": Way(5, saflex()),
    "SAFLEX, shrunk + clean × 5": Way(5, saflex(shrunk=True)),
    "SAFLEX, train_on_val=5": Way(5, saflex(train_on_val=5), adds=True),
    "LearningToReweight, train_on_val=5": Way(5, to_reweight_too, adds=True),
}


def digits() -> Pair:
    from sklearn.datasets import load_digits

    source = load_digits()
    return torch.tensor(source.images / 16.0, dtype=torch.float32)[:, None], torch.tensor(source.target)


def split(seed: int, each: int) -> tuple[Pair, Tensor, Tensor, torch.Generator]:
    """All digits, the rows of ``each`` clean images a class, all other rows, and the generator of the draws."""
    images, labels = digits()
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=draw)
    held = torch.cat([order[labels[order] == k][:each] for k in range(10)])
    return (images, labels), held, order[~torch.isin(order, held)], draw


def generated(seed: int) -> Data:
    (images, labels), held, rest, draw = split(seed, 5)
    source = held[torch.randint(len(held), (600,), generator=draw)]
    shifts = torch.randint(-1, 2, (600, 2), generator=draw)
    moved = torch.stack(
        [torch.roll(images[s], (y, x), (1, 2)) for s, (y, x) in zip(source, shifts.tolist(), strict=True)]
    )
    made = (moved + 0.25 * torch.randn(moved.shape, generator=draw)).clamp(0, 1)
    wrong = torch.rand(600, generator=draw) < 0.4
    given = torch.where(wrong, (labels[source] + 1) % 10, labels[source])
    test = rest[:800]
    return Data((images[held], labels[held]), (made, given), (images[test], labels[test]))


def spurious(seed: int) -> Data:
    (images, labels), held, rest, draw = split(seed, 10)
    images = images.clone()
    told = torch.randint(10, (len(labels),), generator=draw)
    train, test = rest[:600], rest[600:1400]
    tells = torch.rand(len(train), generator=draw) < 0.95
    told[train] = torch.where(tells, labels[train], told[train])
    rows = torch.arange(len(labels))
    for corner in range(2):  # ten places: the first and the last column, five rows each
        mine = rows[told // 5 == corner]
        images[mine, 0, told[mine] % 5, 7 * corner] = 2.0
    return Data(*((images[part], labels[part]) for part in (held, train, test)))


def dataset(way: Way, data: Data) -> Dataset:
    clean, wrong = TensorDataset(*data.clean), TensorDataset(*data.wrong)
    if way.clean is None:
        return clean
    if way.clean == 0 or way.adds:
        return wrong
    if way.weighs_all or way.reweight is None:
        return ConcatDataset([*[clean] * way.clean, wrong])
    return smartaug.Generated(clean, wrong, repeat=way.clean)


def train(way: Way, data: Data, seed: int, epochs: int) -> tuple[float, float]:
    """(accuracy in percent, seconds of processor time) of one run; the loop is any user's."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )
    samples, started = dataset(way, data), time.process_time()
    loader = smartaug.DataLoader(
        samples,
        batch_size=min(64, len(samples)),  # type: ignore[arg-type]
        shuffle=True,
        generator=torch.Generator().manual_seed(seed),
        reweight=None if way.reweight is None else way.reweight(model, data),
        seed=seed,
        device="cpu",
    )
    criterion = smartaug.Loss(nn.CrossEntropyLoss(label_smoothing=way.smoothing))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
    steps = epochs * way.longer * -(-(len(data.wrong[1]) + 5 * len(data.clean[1])) // 64)
    longer = steps // (epochs * len(loader)) if way.clean is None else way.longer
    for _ in range(epochs * longer):
        for inputs, target in loader:
            loss = criterion(model(inputs), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    seconds = time.process_time() - started
    with torch.no_grad():
        right = model(data.test[0]).argmax(1) == data.test[1]
    return 100 * float(right.float().mean()), seconds


def table(make: Callable[[int], Data], ways: dict[str, Way], seeds: int, epochs: int) -> dict[str, Any]:
    """A row a way, seeds in turn; printed at the end."""
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for seed in range(seeds):
        data = make(seed)
        for name, way in ways.items():
            runs[name].append(train(way, data, seed, epochs))
        print(f"seed {seed} of {seeds}", flush=True)
    rows: dict[str, Any] = {}
    for name, made in runs.items():
        accuracy = [one[0] for one in made]
        apart = [one[0] - base[0] for one, base in zip(made, runs[BASE], strict=True)]
        cost = [one[1] / base[1] for one, base in zip(made, runs[BASE], strict=True)]
        rows[name] = {
            "accuracy": harness.spread(accuracy),
            "paired": {**harness.spread(apart), "better": sum(one > 0 for one in apart)},
            "cost": harness.summary(cost, 3),
        }
        print(f"{name:46} {shown(rows[name])}")
    return rows


def shown(row: dict[str, Any]) -> str:
    """A row in one line."""
    accuracy, paired = row["accuracy"], row["paired"]
    return (
        f"{accuracy['mean']:.1f} ± {accuracy['sd']:.1f}   paired {paired['mean']:+.1f} ± {paired['sd']:.1f}, "
        f"better in {paired['better']} of {paired['n']}   cost {row['cost']['median']:.1f}"
    )


def main() -> None:
    options = harness.arguments(__doc__, seeds=10, epochs=30, only="", ways="")
    ways = {name: way for name, way in WAYS.items() if options.ways in name or name == BASE}
    path = harness.RESULTS / "few_clean.json"
    kept = json.loads(path.read_text())["results"] if path.exists() else {}
    for name, make in (("generated", generated), ("spurious", spurious)):
        if options.only in ("", name):
            print(name)
            made = {**kept.get(name, {}), **table(make, ways, options.seeds, options.epochs)}
            kept[name] = {way: made[way] for way in WAYS if way in made}
            harness.write("few_clean", __doc__ or "", kept, packages=("scikit-learn",))


if __name__ == "__main__":
    main()
