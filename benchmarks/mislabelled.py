"""A few trusted labels beside many images of which half carry a wrong label: what trusted labels are best used for.

Method: digits (scikit-learn, 8×8, pixels / 16), 20 trusted images (2 a class) and 900 others, of which half carry the
label of the next class; 800 test images that choose nothing. MLP 64-128-128-10, SGD 0.03 with momentum 0.9, batch 64,
30 epochs of trusted × 5 and the others, nothing tuned for the methods. ``--only`` picks one of three settings: that
one ("half"), "any" (wrong labels drawn from all other classes) and "image" (whether a label is wrong depends on the
image: with probability sigmoid(5 z), z a random projection of the pixels, standardised in its class about its median).

Rivals train in a plain loop: "trusted alone" for as many steps; "plain + trusted × k"; with label smoothing; for seven
times the epochs, which costs what learned weights cost; with the generalised cross entropy (Zhang & Sabuncu, NeurIPS
2018, q = 0.7); "filtered": the others whose label the model of the trusted images gives, in one to three rounds, each
by the model of the round before; "corrected": Gold Loss Correction (Hendrycks et al., NeurIPS 2018): a first model of
the given labels tells how classes are confused by its mean prediction on the trusted images of a class, a second one is
trained through that matrix. Each rival was run at the settings shown: the best of them is the rival that counts, though
test images chose it.

Learned weights judge by the trusted images, which are in training too (`smartaug.Generated`, weight 1). In brackets: a
control, weights of the same form that know nothing (`LearningToReweight.rule` and `SAFLEX.rule` on random benefits),
and a bound, trusted × 5 with the others' right labels.

Accuracy: mean and standard deviation over seeds, which draw images, wrong labels, order and network. Paired: the
difference to the best rival on the same seed, and in how many seeds it is positive. Cost: processor time over "plain +
trusted × 5". Run: ``python -m benchmarks.mislabelled --only half`` (about 4 minutes on one core).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import smartaug

try:
    from benchmarks import few_clean, harness
except ImportError:  # run as a file
    import few_clean  # type: ignore[no-redef]
    import harness  # type: ignore[no-redef]

EPOCHS, BATCH, TRUSTED, OTHERS = 30, 64, 2, 900
BASE = "plain + trusted × 5"
SETTINGS = ("half", "any", "image")
Pair = tuple[Tensor, Tensor]
Criterion = Callable[[Tensor, Tensor], Tensor]


class Data:
    """Trusted images, others with given and right labels, and the test set, of one seed."""

    def __init__(self, seed: int, setting: str) -> None:
        (images, labels), held, rest, draw = few_clean.split(seed, TRUSTED)
        test, others = rest[:800], rest[800 : 800 + OTHERS]
        shift = torch.randint(1, 10, (len(others),), generator=draw) if setting == "any" else 1
        chance = torch.full((len(others),), 0.5)
        if setting == "image":
            chance = depending(images[others], labels[others], draw)
        wrong = torch.rand(len(others), generator=draw) < chance
        self.seed, self.trusted, self.test = seed, (images[held], labels[held]), (images[test], labels[test])
        self.images, self.right = images[others], labels[others]
        self.given = torch.where(wrong, (self.right + shift) % 10, self.right)
        self.steps = EPOCHS * -(-(len(others) + 5 * len(held)) // BATCH)

    def joined(self, times: int, labels: Tensor, kept: Tensor | None = None) -> Pair:
        """Trusted images ``times`` times and the others under ``labels``, of them those ``kept``."""
        rows = slice(None) if kept is None else kept
        return (
            torch.cat([self.trusted[0]] * times + [self.images[rows]]),
            torch.cat([self.trusted[1]] * times + [labels[rows]]),
        )


def depending(images: Tensor, labels: Tensor, draw: torch.Generator) -> Tensor:
    """How probable a wrong label is for each image: it rises with a random projection of the pixels, one a class."""
    score = (images.flatten(1) * torch.randn(10, images[0].numel(), generator=draw)[labels]).sum(1)
    for k in range(10):
        mine = labels == k
        score[mine] = (score[mine] - score[mine].median()) / score[mine].std()
    return torch.sigmoid(5 * score)


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )


def fit(samples: Pair, seed: int, steps: int, criterion: Criterion) -> nn.Module:
    """A network after ``steps`` steps on ``samples``, in a plain loop."""
    model, order = network(seed), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
    while True:
        for rows in torch.randperm(len(samples[1]), generator=order).split(BATCH):
            optimizer.zero_grad()
            criterion(model(samples[0][rows]), samples[1][rows]).backward()
            optimizer.step()
            steps -= 1
            if not steps:
                return model


def predicted(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model(images).softmax(1)


def generalised(output: Tensor, target: Tensor, q: float = 0.7) -> Tensor:
    """(1 − p_y^q) / q, mean over the batch: between cross entropy (q → 0) and absolute error (q = 1)."""
    return ((1 - output.softmax(1).gather(1, target[:, None]) ** q) / q).mean()


def smoothed(amount: float) -> Criterion:
    return nn.CrossEntropyLoss(label_smoothing=amount)


def plain(
    times: int, criterion: Criterion = nn.functional.cross_entropy, longer: int = 1
) -> Callable[[Data], nn.Module]:
    return lambda data: fit(data.joined(times, data.given), data.seed, data.steps * longer, criterion)


def alone(criterion: Criterion) -> Callable[[Data], nn.Module]:
    return lambda data: fit(data.trusted, data.seed, data.steps, criterion)


def filtered(rounds: int, smoothing: float) -> Callable[[Data], nn.Module]:
    """Trained on the others whose label the model before gives; that of the trusted images is the first."""

    def run(data: Data) -> nn.Module:
        model = alone(smoothed(smoothing))(data)
        for _ in range(rounds):
            kept = predicted(model, data.images).argmax(1) == data.given
            model = fit(data.joined(5, data.given, kept), data.seed, data.steps, smoothed(smoothing))
        return model

    return run


def corrected(data: Data) -> nn.Module:
    """Trained through the matrix P(given | right), which a first model tells on the trusted images."""
    first = fit((data.images, data.given), data.seed, data.steps, smoothed(0))
    told = predicted(first, data.trusted[0])
    confusion = torch.stack([told[data.trusted[1] == k].mean(0) for k in range(10)])
    images, labels = data.joined(5, data.given)
    is_trusted = torch.arange(len(labels)) < 5 * len(data.trusted[1])

    def loss(output: Tensor, marked: Tensor) -> Tensor:
        trusted, target = marked >= 10, marked % 10
        right = output.softmax(1)
        p = torch.where(trusted[:, None], right, right @ confusion)
        return -p.gather(1, target[:, None]).clamp_min(1e-9).log().mean()

    return fit((images, labels + 10 * is_trusted), data.seed, data.steps, loss)


def weighed(make: Callable[[nn.Module, Data], Any], times: int = 5) -> Callable[[Data], nn.Module]:
    """Trained with learned weights; the loop is any user's."""

    def run(data: Data) -> nn.Module:
        model = network(data.seed)
        loader = smartaug.DataLoader(
            smartaug.Generated(TensorDataset(*data.trusted), TensorDataset(data.images, data.given), repeat=times),
            batch_size=BATCH,
            shuffle=True,
            generator=torch.Generator().manual_seed(data.seed),
            reweight=make(model, data),
            seed=data.seed,
            device="cpu",
        )
        criterion = smartaug.Loss(nn.CrossEntropyLoss())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
        for _ in range(EPOCHS):
            for inputs, target in loader:
                optimizer.zero_grad()
                criterion(model(inputs), target).backward()
                optimizer.step()
        return model

    return run


def by_chance(rule: Callable[..., Any]) -> Callable[[nn.Module, Data], Any]:
    """A method's rule on benefits that know nothing."""
    draw = torch.Generator().manual_seed(0)

    def weigh(batch: Any, trace: Any) -> Any:
        given = nn.functional.one_hot(batch.target, 10).float()
        return rule(torch.randn(given.shape, generator=draw), given, given)

    return lambda model, data: weigh


def to_reweight(model: nn.Module, data: Data) -> Any:
    return smartaug.LearningToReweight(model, data.trusted)


def saflex(model: nn.Module, data: Data) -> Any:
    return smartaug.SAFLEX(model, data.trusted)


RIVALS: dict[str, Callable[[Data], nn.Module]] = {
    "plain, no trusted labels": plain(0),
    BASE: plain(5),
    "plain + trusted × 20": plain(20),
    BASE + ", label smoothing 0.4": plain(5, smoothed(0.4)),
    BASE + ", generalised cross entropy": plain(5, generalised),
    BASE + ", epochs × 7": plain(5, longer=7),
    "trusted alone": alone(smoothed(0)),
    "trusted alone, label smoothing 0.4": alone(smoothed(0.4)),
    "filtered, 1 round": filtered(1, 0),
    "filtered, 3 rounds": filtered(3, 0),
    "filtered, 3 rounds, label smoothing 0.4": filtered(3, 0.4),
    "corrected": corrected,
}
METHODS: dict[str, Callable[[Data], nn.Module]] = {
    "(LearningToReweight's rule on random benefits)": weighed(by_chance(smartaug.LearningToReweight.rule)),
    "(SAFLEX's rule on random benefits)": weighed(by_chance(smartaug.SAFLEX.rule)),
    "SAFLEX + trusted × 5": weighed(saflex),
    "LearningToReweight + trusted × 5": weighed(to_reweight),
    "LearningToReweight + trusted × 1": weighed(to_reweight, 1),
    "(the right labels known)": lambda data: fit(data.joined(5, data.right), data.seed, data.steps, smoothed(0)),
}


def table(setting: str, seeds: int) -> dict[str, Any]:
    """A row a way, seeds in turn."""
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in (*RIVALS, *METHODS)}
    for seed in range(seeds):
        data = Data(seed, setting)
        for name, train in (RIVALS | METHODS).items():
            started = time.process_time()
            model = train(data)
            seconds = time.process_time() - started
            right = predicted(model, data.test[0]).argmax(1) == data.test[1]
            runs[name].append((100 * float(right.float().mean()), seconds))
        print(f"seed {seed} of {seeds}", flush=True)
    accuracy = {name: [one[0] for one in made] for name, made in runs.items()}
    best = max(RIVALS, key=lambda name: sum(accuracy[name]))
    rows: dict[str, Any] = {}
    for name in sorted(runs, key=lambda name: sum(accuracy[name])):
        apart = [one - rival for one, rival in zip(accuracy[name], accuracy[best], strict=True)]
        cost = [one[1] / base[1] for one, base in zip(runs[name], runs[BASE], strict=True)]
        rows[name] = {
            "accuracy": harness.spread(accuracy[name]),
            "paired": {**harness.spread(apart), "better": sum(one > 0 for one in apart)},
            "cost": harness.summary(cost, 3),
        }
        print(f"{name:48} {few_clean.shown(rows[name])}")
    return {"best_rival": best, "rows": rows}


def main() -> None:
    options = harness.arguments(__doc__, seeds=10, only="")
    path = harness.RESULTS / "mislabelled.json"
    kept = json.loads(path.read_text())["results"] if path.exists() else {}
    for name in SETTINGS:
        if options.only in ("", name):
            print(name)
            kept[name] = table(name, options.seeds)
            harness.write("mislabelled", __doc__ or "", kept, packages=("scikit-learn",))


if __name__ == "__main__":
    main()
