"""What trusted labels are best used for on real sets: wrong labels one way or either way, and the sets as they are.

Sets (``--data FOLDER``): "pneumonia": pneumoniamnist.npz (MedMNIST, halved to 14×14), {images} of its training split
beside its own validation and test splits, small CNN, SGD 0.05; "adult": adult-train.csv, {rows} rows beside {tested}
for the test; "german": german.csv and "pima": pima-indians-diabetes.csv, all rows but 250 and 200 for the test; tables
are standardised, words are one column each, MLP of two hidden layers of 64, SGD 0.02. Momentum 0.9, batch 64. A seed
draws the parts, the wrong labels, the order and the network.

Regimes: "one way": 50 trusted samples, and half of the others' positives (pneumonia, income over 50,000, bad credit,
diabetes) are labelled negative. "either way": 50 trusted, and 40 % of the others have the other label. "as it is": 150
trusted samples, no label made wrong. Trusted samples are the validation data of learned weights.

Tuning, the same for each row: 50 further samples with right labels (100 in "as it is") only choose; no row trains on
them or judges by them. Each row is run with its trusted samples once and 5 times in an epoch ("trusted × k"), each run
is stopped after 2, 5 and 12 epochs, and the one of these six whose accuracy and AUC on the choosing samples have the
highest mean is the row's result. "no trusted labels" has three to choose from, and "trusted alone", which takes as many
steps, has label smoothing 0 and 0.4 in place of the repeats. Test data choose nothing.

Rivals, in a plain loop: "plain + trusted × k"; with label smoothing; with class weights (of the labels that are given);
"many epochs": 10 times as many (pneumonia: 5 times), stopped at as many times 2, 5 and 12, which is about what SAFLEX
costs, see the column; "filtered": the others whose label the model before gives, that of the trusted samples being the
first, three rounds, label smoothing 0.4; "corrected": Gold Loss Correction (Hendrycks et al., NeurIPS 2018), through
the matrix that a first model tells on the trusted samples. "(picked rival)": on each seed the rival whose result is
best on the choosing samples.

Learned weights: `smartaug.SAFLEX` and `smartaug.LearningToReweight` at their defaults with ``train_on_val=k``. In
brackets controls, the same rules on random benefits, and a bound, the others' right labels.

Accuracy and AUC in percent: mean and standard deviation over seeds. Paired: the difference on the same seed to "plain +
trusted × k" and to the picked rival, and in how many seeds it is positive. Cost: processor time of all runs of a row
over that of "plain + trusted × k", taken on a machine with other work, so that it is rough. Run: ``python -m
benchmarks.real_sets --data FOLDER``; ``--only "german, one way"``, or a part of such a name, runs what is so named.
"""

from __future__ import annotations

import copy
import json
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, count, repeat
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import smartaug

try:
    from benchmarks import harness, learning
except ImportError:  # run as a file
    import harness  # type: ignore[no-redef]
    import learning  # type: ignore[no-redef]

BATCH, STOPS, REPEATS = 64, (2, 5, 12), (1, 5)
IMAGES, ROWS, TESTED = 400, 600, 4000
BASE, PICKED = "plain + trusted × k", "(picked rival)"
REGIMES = {"one way": (50, 50), "as it is": (150, 100), "either way": (50, 50)}  # trusted and choosing samples
Pair = tuple[Tensor, Tensor]
Criterion = Callable[[Tensor, Any], Tensor]
Split = Callable[[int, int], tuple[Pair, Pair, Pair]]  # seed, held samples -> others, held, test


@dataclass(frozen=True)
class Data:
    """One seed: trusted, choosing and test samples; the others with given and right labels; how networks are made."""

    seed: int
    trusted: Pair
    choosing: Pair
    test: Pair
    others: Pair
    right: Tensor
    net: Callable[[Any], nn.Module]
    lr: float
    longer: int

    def steps(self, times: int) -> int:
        """Steps of an epoch with the trusted samples ``times`` times."""
        return -(-(len(self.right) + times * len(self.trusted[1])) // BATCH)

    def network(self) -> nn.Module:
        """The network before training."""
        torch.manual_seed(self.seed)
        return self.net(learning.Data(self.others, self.trusted, self.test, torch.empty(0), 2))

    def joined(self, times: int, labels: Tensor, kept: Tensor | slice = slice(None)) -> Pair:
        """Trusted samples ``times`` times and the others under ``labels``, of them those ``kept``."""
        return (
            torch.cat([self.trusted[0]] * times + [self.others[0][kept]]),
            torch.cat([self.trusted[1]] * times + [labels[kept]]),
        )


class Result(NamedTuple):
    """A network at a stop: mean of accuracy and AUC on the choosing samples, accuracy and AUC on the test set."""

    score: float
    accuracy: float
    auc: float
    model: nn.Module


# --- data ------------------------------------------------------------------------------------------------------------


def pneumonia(path: Path) -> Split:
    parts = {name: (F.avg_pool2d(images, 2), labels) for name, (images, labels) in learning.splits(path).items()}

    def split(seed: int, held: int) -> tuple[Pair, Pair, Pair]:
        draw = torch.Generator().manual_seed(seed)
        (a, b), (c, d) = (
            (part, torch.randperm(len(part[1]), generator=draw)[:limit])
            for part, limit in ((parts["train"], IMAGES), (parts["val"], held))
        )
        return (a[0][b], a[1][b]), (c[0][d], c[1][d]), parts["test"]

    return split


def tabular(path: Path, tested: int, limit: int | None = None) -> Split:
    values, labels = learning.rows(path)

    def split(seed: int, held: int) -> tuple[Pair, Pair, Pair]:
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        test, judge, rest = order[:tested], order[tested : tested + held], order[tested + held :][:limit]
        scaled = (values - values[rest].mean(0)) / values[rest].std(0).clamp_min(1e-3)
        others, kept, out = ((scaled[part], labels[part]) for part in (rest, judge, test))
        return others, kept, out

    return split


def drawn(split: Split, regime: str, seed: int, **settings: Any) -> Data:
    """The data of a regime and seed; settings: of the network."""
    trusted, choosing = REGIMES[regime]
    (inputs, right), (held, labels), test = split(seed, trusted + choosing)
    draw = torch.Generator().manual_seed(1000 + seed)
    chance = {"either way": torch.full((2,), 0.4), "one way": torch.tensor([0.0, 0.5]), "as it is": torch.zeros(2)}
    wrong = torch.rand(len(right), generator=draw) < chance[regime][right]
    first, last = slice(trusted), slice(trusted, None)
    others = (inputs, torch.where(wrong, 1 - right, right))
    return Data(seed, (held[first], labels[first]), (held[last], labels[last]), test, others, right, **settings)


def sets(folder: Path) -> dict[str, tuple[Split, dict[str, Any]]]:
    """Name -> how to split it, and the settings of its network, of the sets that the folder has."""
    table = {"net": lambda data: learning.mlp(data, 64), "lr": 0.02, "longer": 10}
    images = {"net": learning.small_cnn, "lr": 0.05, "longer": 5}
    found: dict[str, tuple[str, Callable[[Path], Split], dict[str, Any]]] = {
        "german": ("german.csv", lambda path: tabular(path, 250), table),
        "pima": ("pima-indians-diabetes.csv", lambda path: tabular(path, 200), table),
        "adult": ("adult-train.csv", lambda path: tabular(path, TESTED, ROWS), table),
        "pneumonia": ("pneumoniamnist.npz", pneumonia, images),
    }
    return {
        name: (read(folder / file), settings)
        for name, (file, read, settings) in found.items()
        if (folder / file).is_file()
    }


# --- training --------------------------------------------------------------------------------------------------------


def follow(data: Data, batches: Iterator[Any], criterion: Criterion, epoch: int, model: nn.Module) -> list[Result]:
    """The network at each stop; the loop is any user's. epoch: the steps of one."""
    optimizer, results = torch.optim.SGD(model.parameters(), lr=data.lr, momentum=0.9), []
    for step in range(1, epoch * STOPS[-1] + 1):
        inputs, target = next(batches)
        optimizer.zero_grad()
        criterion(model(inputs), target).backward()
        optimizer.step()
        if step in (epoch * stop for stop in STOPS):
            results.append(judged(copy.deepcopy(model), data))
    return results


def judged(model: nn.Module, data: Data) -> Result:
    (accuracy, auc), on_test = (figures(predicted(model, part[0]), part[1]) for part in (data.choosing, data.test))
    return Result((accuracy + auc) / 2, *on_test, model)


def predicted(model: nn.Module, inputs: Tensor) -> Tensor:
    """(n, 2) probabilities."""
    was, _ = model.training, model.eval()
    with torch.no_grad():
        found = model(inputs).softmax(1)
    model.train(was)
    return found


def figures(p: Tensor, labels: Tensor) -> tuple[float, float]:
    """Accuracy and AUC in percent."""
    from sklearn.metrics import roc_auc_score

    right = (p.argmax(1) == labels).float().mean()
    return 100 * float(right), 100 * float(roc_auc_score(labels, p[:, 1]))


def fit(data: Data, samples: Pair, epoch: int, criterion: Criterion) -> list[Result]:
    """A network that trains on ``samples`` in a plain loop."""
    order = torch.Generator().manual_seed(data.seed)
    orders = (torch.randperm(len(samples[1]), generator=order).split(BATCH) for _ in count())
    batches = ((samples[0][rows], samples[1][rows]) for rows in chain.from_iterable(orders))
    return follow(data, batches, criterion, epoch, data.network())


def weighed(data: Data, times: int, dataset: Any, make: Callable[[nn.Module], Any]) -> list[Result]:
    """A network that trains with learned weights."""
    model = data.network()
    loader = smartaug.DataLoader(
        dataset,
        batch_size=BATCH,
        shuffle=True,
        generator=torch.Generator().manual_seed(data.seed),
        reweight=make(model),
        seed=data.seed,
        device="cpu",
    )
    criterion = smartaug.Loss(nn.CrossEntropyLoss())
    return follow(data, chain.from_iterable(repeat(loader)), criterion, data.steps(times), model)


# --- rows ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """A row: run(data, setting) gives the results of one run, for each of its settings."""

    run: Callable[[Data, Any], list[Result]]
    settings: tuple[Any, ...] = REPEATS


def smoothed(amount: float, **settings: Any) -> nn.Module:
    return nn.CrossEntropyLoss(label_smoothing=amount, **settings)


def plain(data: Data, times: int, amount: float = 0.0, longer: int = 1) -> list[Result]:
    return fit(data, data.joined(times, data.others[1]), longer * data.steps(times), smoothed(amount))


def class_weights(data: Data, times: int) -> list[Result]:
    samples = data.joined(times, data.others[1])
    counts = torch.bincount(samples[1], minlength=2).float().clamp_min(1)
    return fit(data, samples, data.steps(times), smoothed(0, weight=counts.sum() / (2 * counts)))


def alone(data: Data, amount: float) -> list[Result]:
    return fit(data, data.trusted, data.steps(1), smoothed(amount))


def best(results: list[Result]) -> Result:
    return max(results, key=lambda result: result.score)


def filtered(data: Data, times: int) -> list[Result]:
    """Three rounds on the others whose label the model before gives; that of the trusted samples is the first."""
    results = alone(data, 0.4)
    for _ in range(3):
        kept = predicted(best(results).model, data.others[0]).argmax(1) == data.others[1]
        results = fit(data, data.joined(times, data.others[1], kept), data.steps(times), smoothed(0.4))
    return results


def corrected(data: Data, times: int) -> list[Result]:
    """Trained through the matrix P(given | right), which a first model tells on the trusted samples."""
    first = best(plain(data, 0)).model
    told = predicted(first, data.trusted[0])
    confusion = torch.stack([told[data.trusted[1] == k].mean(0) for k in range(2)])
    inputs, labels = data.joined(times, data.others[1])
    is_trusted = torch.arange(len(labels)) < times * len(data.trusted[1])

    def loss(output: Tensor, marked: Tensor) -> Tensor:
        right = output.softmax(1)
        p = torch.where((marked >= 2)[:, None], right, right @ confusion)
        return -p.gather(1, marked[:, None] % 2).clamp_min(1e-9).log().mean()

    return fit(data, (inputs, labels + 2 * is_trusted), data.steps(times), loss)


def learned(method: Any) -> Callable[[Data, int], list[Result]]:
    """A method that judges by the trusted samples, and trains on them ``times`` times in an epoch."""
    return lambda data, times: weighed(
        data, times, TensorDataset(*data.others), lambda model: method(model, data.trusted, train_on_val=times)
    )


def by_chance(rule: Callable[..., Any]) -> Callable[[Data, int], list[Result]]:
    """A method's rule on benefits that know nothing, with the trusted samples at weight 1."""

    def run(data: Data, times: int) -> list[Result]:
        draw = torch.Generator().manual_seed(data.seed)

        def weigh(batch: Any, trace: Any) -> Any:
            given = nn.functional.one_hot(batch.target, 2).float()
            return rule(torch.randn(given.shape, generator=draw), given, given)

        trusted, others = TensorDataset(*data.trusted), TensorDataset(*data.others)
        return weighed(data, times, smartaug.Generated(trusted, others, repeat=times), lambda model: weigh)

    return run


RIVALS = {
    "plain, no trusted labels": Way(plain, (0,)),
    BASE: Way(plain),
    BASE + ", label smoothing 0.2": Way(lambda data, times: plain(data, times, 0.2)),
    BASE + ", label smoothing 0.4": Way(lambda data, times: plain(data, times, 0.4)),
    BASE + ", class weights": Way(class_weights),
    BASE + ", many epochs": Way(lambda data, times: plain(data, times, longer=data.longer)),
    "trusted alone": Way(alone, (0.0, 0.4)),
    "filtered": Way(filtered),
    "corrected": Way(corrected),
}
METHODS = {
    "(LearningToReweight's rule on random benefits)": Way(by_chance(smartaug.LearningToReweight.rule)),
    "(SAFLEX's rule on random benefits)": Way(by_chance(smartaug.SAFLEX.rule)),
    "LearningToReweight, train_on_val=k": Way(learned(smartaug.LearningToReweight)),
    "SAFLEX, train_on_val=k": Way(learned(smartaug.SAFLEX)),
}
BOUND = "(the right labels known)"


def right_known(data: Data, times: int) -> list[Result]:
    return fit(data, data.joined(times, data.right), data.steps(times), smoothed(0))


# --- tables ----------------------------------------------------------------------------------------------------------


def table(split: Split, regime: str, seeds: int, **settings: Any) -> dict[str, Any]:
    """A row a way, seeds in turn."""
    ways = {**RIVALS, **METHODS, **({} if regime == "as it is" else {BOUND: Way(right_known)})}
    chosen: dict[str, list[Result]] = {name: [] for name in ways}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for seed in range(seeds):
        data = drawn(split, regime, seed, **settings)
        for name, way in ways.items():
            started = time.process_time()
            chosen[name].append(best([one for setting in way.settings for one in way.run(data, setting)]))
            seconds[name].append(time.process_time() - started)
        print(f"seed {seed} of {seeds}", flush=True)
    picked = [max((chosen[name][seed] for name in RIVALS), key=lambda result: result.score) for seed in range(seeds)]
    chosen[PICKED] = picked
    seconds[PICKED] = [sum(seconds[name][seed] for name in RIVALS) for seed in range(seeds)]
    order = [*RIVALS, PICKED, *(name for name in ways if name not in RIVALS)]
    return {name: row(chosen[name], chosen[BASE], picked, seconds[name], seconds[BASE]) for name in order}


def row(
    mine: list[Result], base: list[Result], picked: list[Result], seconds: list[float], plain_seconds: list[float]
) -> dict[str, Any]:
    """Figures of a row."""
    figure: dict[str, Any] = {"cost": harness.summary([a / b for a, b in zip(seconds, plain_seconds, strict=True)], 3)}
    for name in ("accuracy", "auc"):
        values = [getattr(one, name) for one in mine]
        figure[name] = harness.spread(values)
        for rival, others in (("paired", base), ("paired, to the picked rival", picked)):
            apart = [value - getattr(one, name) for value, one in zip(values, others, strict=True)]
            figure[f"{name}, {rival}"] = {**harness.spread(apart), "better": sum(one > 0 for one in apart)}
    return figure


def shown(figure: dict[str, Any]) -> str:
    """A row in one line."""
    told = (
        f"{name} {figure[name]['mean']:.1f} ± {figure[name]['sd']:.1f}, to the picked rival "
        f"{figure[name + ', paired, to the picked rival']['mean']:+.1f} "
        f"± {figure[name + ', paired, to the picked rival']['sd']:.1f}"
        for name in ("accuracy", "auc")
    )
    return "   ".join((*told, f"cost {figure['cost']['median']:.1f}"))


def main() -> None:
    options = harness.arguments(__doc__, seeds=5, data=None, only="")
    if options.data is None:
        raise SystemExit("--data FOLDER names the folder of german.csv and the other sets")
    method = (__doc__ or "").format(images=IMAGES, rows=ROWS, tested=TESTED)
    path = harness.RESULTS / "real_sets.json"
    found = sets(Path(options.data))
    for regime in REGIMES:
        for name, (split, settings) in found.items():
            if options.only not in f"{name}, {regime}":
                continue
            print(f"{name}, {regime}", flush=True)
            with warnings.catch_warnings():
                warnings.simplefilter("default", smartaug.NoEffectWarning)
                made = table(split, regime, options.seeds, **settings)
            for way, figure in made.items():
                print(f"{way:48} {shown(figure)}", flush=True)
            kept = json.loads(path.read_text())["results"] if path.exists() else {}
            kept[f"{name}, {regime}"] = made
            harness.write("real_sets", method, kept, packages=("scikit-learn",))


if __name__ == "__main__":
    main()
