"""The rows of `real_sets`: plain loops, what can be done with trusted samples, learned weights, and mixed rows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, count, repeat
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import smartaug

try:
    from benchmarks.real_data import BATCH, Data, Pair
except ImportError:  # run as a file
    from real_data import BATCH, Data, Pair  # type: ignore[no-redef]

REPEATS = (1, 5)
BASE = "plain + trusted × k"
Criterion = Callable[[Tensor, Any], Tensor]
Stages = Callable[[], list[Any]]


class Result(NamedTuple):
    """A network at a stop: mean of accuracy and AUC on the choosing samples, accuracy and AUC on the test set."""

    score: float
    accuracy: float
    auc: float
    model: nn.Module


# --- training --------------------------------------------------------------------------------------------------------


def follow(data: Data, batches: Iterator[Any], criterion: Criterion, epoch: int, model: nn.Module) -> list[Result]:
    """The network at each stop; the loop is any user's. epoch: the steps of one."""
    optimizer, results = torch.optim.SGD(model.parameters(), lr=data.lr, momentum=0.9), []
    for step in range(1, epoch * data.stops[-1] + 1):
        inputs, target = next(batches)
        optimizer.zero_grad()
        criterion(model(inputs), target).backward()
        optimizer.step()
        if step in (epoch * stop for stop in data.stops):
            results.append(judged(copy.deepcopy(model), data))
    return results


def judged(model: nn.Module, data: Data) -> Result:
    (accuracy, auc), on_test = (figures(predicted(model, part[0]), part[1]) for part in (data.choosing, data.test))
    return Result((accuracy + auc) / 2, *on_test, model)


def predicted(model: nn.Module, inputs: Tensor) -> Tensor:
    """(n, K) probabilities."""
    was, _ = model.training, model.eval()
    with torch.no_grad():
        found = model(inputs).softmax(1)
    model.train(was)
    return found


def figures(p: Tensor, labels: Tensor) -> tuple[float, float]:
    """Accuracy and AUC in percent; of more than two classes, the mean AUC of each against the rest."""
    from sklearn.metrics import roc_auc_score

    right = (p.argmax(1) == labels).float().mean()
    auc = roc_auc_score(labels, p[:, 1] if p.shape[1] == 2 else p, multi_class="ovr")
    return 100 * float(right), 100 * float(auc)


def fit(data: Data, samples: Pair, epoch: int, criterion: Criterion) -> list[Result]:
    """A network that trains on ``samples`` in a plain loop."""
    order = torch.Generator().manual_seed(data.seed)
    orders = (torch.randperm(len(samples[1]), generator=order).split(BATCH) for _ in count())
    batches = ((samples[0][rows], samples[1][rows]) for rows in chain.from_iterable(orders))
    return follow(data, batches, criterion, epoch, data.network())


def loaded(data: Data, times: int, dataset: Any, make: Callable[[nn.Module], Any], stages: Stages) -> list[Result]:
    """A network that trains on what smartaug's loader gives: weights that ``make`` makes, and augmented rows."""
    model = data.network()
    loader = smartaug.DataLoader(
        dataset,
        batch_size=BATCH,
        shuffle=True,
        generator=torch.Generator().manual_seed(data.seed),
        augment=stages() or None,
        reweight=make(model),
        seed=data.seed,
        device="cpu",
    )
    criterion = smartaug.Loss(nn.CrossEntropyLoss())
    return follow(data, chain.from_iterable(repeat(loader)), criterion, data.steps(times), model)


# --- rows ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """A row: run(data, setting) gives the results of one run, for each of its settings.

    beside: the row that its paired difference is to.
    """

    run: Callable[[Data, Any], list[Result]]
    settings: tuple[Any, ...] = REPEATS
    beside: str = BASE


def smoothed(amount: float, **settings: Any) -> nn.Module:
    return nn.CrossEntropyLoss(label_smoothing=amount, **settings)


def plain(data: Data, times: int, amount: float = 0.0, longer: int = 1) -> list[Result]:
    return fit(data, data.joined(times, data.others[1]), longer * data.steps(times), smoothed(amount))


def class_weights(data: Data, times: int) -> list[Result]:
    samples = data.joined(times, data.others[1])
    counts = torch.bincount(samples[1], minlength=data.classes).float().clamp_min(1)
    return fit(data, samples, data.steps(times), smoothed(0, weight=counts.sum() / (data.classes * counts)))


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
    confusion = torch.stack([told[data.trusted[1] == k].mean(0) for k in range(data.classes)])
    inputs, labels = data.joined(times, data.others[1])
    is_trusted = torch.arange(len(labels)) < times * len(data.trusted[1])

    def loss(output: Tensor, marked: Tensor) -> Tensor:
        right = output.softmax(1)
        p = torch.where((marked >= data.classes)[:, None], right, right @ confusion)
        return -p.gather(1, marked[:, None] % data.classes).clamp_min(1e-9).log().mean()

    return fit(data, (inputs, labels + data.classes * is_trusted), data.steps(times), loss)


def learned(method: Any, stages: Stages = list) -> Callable[[Data, int], list[Result]]:
    """A method that judges by the trusted samples, and trains on them ``times`` times in an epoch."""

    def run(data: Data, times: int) -> list[Result]:
        def make(model: nn.Module) -> Any:
            return method(model, data.trusted, **({"train_on_val": times} if times else {}))

        return loaded(data, times, TensorDataset(*data.others), make, stages)

    return run


def by_chance(rule: Callable[..., Any], stages: Stages = list) -> Callable[[Data, int], list[Result]]:
    """A method's rule on benefits that know nothing, with the trusted samples at weight 1."""

    def run(data: Data, times: int) -> list[Result]:
        draw = torch.Generator().manual_seed(data.seed)

        def weigh(batch: Any, trace: Any) -> Any:
            given = batch.soft
            if given is None:
                given = nn.functional.one_hot(batch.target, data.classes).float()
            return rule(torch.randn(given.shape, generator=draw), given, given)

        trusted, others = TensorDataset(*data.trusted), TensorDataset(*data.others)
        return loaded(data, times, smartaug.Generated(trusted, others, repeat=times), lambda model: weigh, stages)

    return run


def mixed(stages: Stages) -> Callable[[Data, int], list[Result]]:
    """Augmented rows without weights."""
    return lambda data, times: loaded(
        data, times, TensorDataset(*data.joined(times, data.others[1])), lambda model: None, stages
    )


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


def mixing(name: str, stages: Stages) -> tuple[dict[str, Way], dict[str, Way]]:
    """Rows of an augmentation without weights, and with them."""
    trusted = f"{name} + trusted × k"
    rivals = {f"{name}, no trusted labels": Way(mixed(stages), (0,)), trusted: Way(mixed(stages))}
    weighed = {
        f"({name}, SAFLEX's rule on random benefits)": Way(by_chance(smartaug.SAFLEX.rule, stages), beside=trusted),
        f"{name}, SAFLEX, trusted judge alone": Way(learned(smartaug.SAFLEX, stages), (0,), trusted),
        f"{name}, SAFLEX, train_on_val=k": Way(learned(smartaug.SAFLEX, stages), beside=trusted),
    }
    return rivals, weighed


MIXUP, CUTMIX = mixing("MixUp", lambda: [smartaug.MixUp()]), mixing("CutMix", lambda: [smartaug.CutMix()])
PLAIN = "plain, no trusted labels", BASE, "plain + trusted × k, label smoothing 0.2"
AUGMENTED_RIVALS = {**{name: RIVALS[name] for name in PLAIN}, **MIXUP[0], **CUTMIX[0]}
AUGMENTED_METHODS = {
    **{name: METHODS[name] for name in ("(SAFLEX's rule on random benefits)", "SAFLEX, train_on_val=k")},
    "SAFLEX, trusted judge alone": Way(learned(smartaug.SAFLEX), (0,)),
    **MIXUP[1],
    **CUTMIX[1],
}


def ways(regime: str) -> tuple[dict[str, Way], dict[str, Way]]:
    """Rivals and methods of a regime."""
    if regime == "augmented":
        return AUGMENTED_RIVALS, AUGMENTED_METHODS
    return RIVALS, METHODS if regime == "as it is" else {**METHODS, BOUND: Way(right_known)}
