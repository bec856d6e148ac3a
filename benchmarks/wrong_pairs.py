"""Pairs of which a part is wrong: what a few clean pairs are best used for, under CLIP's contrastive loss.

Method: the left and the right half of a digit are a pair (scikit-learn, 8×8, pixels / 16), as a photograph and its
caption are. 1,000 pairs, of which 40 % have the right half of another wrong pair; 200 clean pairs; 500 test pairs that
choose nothing. Two MLPs 32-128-32 and a learned scale that begins at 10, Adam 0.001, batch 64, 30 epochs of the row's
own data, nothing tuned.

Rows: "plain" trains on the wrong pairs alone, "clean alone" on the clean pairs for as many steps as plain, "+ clean ×
k" on both with each clean pair k times in an epoch. Learned weights and labels judge by the clean pairs, which stay at
weight 1 where they train, too (`smartaug.Generated`). In brackets a control: SAFLEX's rule on random benefits.
Smoothing gives a share of each label to all pairs of the batch. "JEST" is the loader's ``coreset=JEST(model, reference,
0.2)``: it trains on the wrong pairs, on a fifth of batches of 320 that it chooses, for as many steps as plain; its
reference is the network of "clean alone, stopped early".

Found: the share of test halves, in percent, whose partner is among the ten nearest of all 500; mean and standard
deviation over seeds, which draw pairs, wrong partners, order and network. Paired: the difference to "plain +
clean × 5, smoothing 0.5" (chosen before looking) on the same seed, and in how many seeds it is positive. Cost:
processor time over "plain" on the same seed, with all that a row needs, which for JEST is its reference, too; taken on
a machine with other work, so that it is rough. Step: the same, for a step of training alone (its batch read, chosen
from, weighed, and trained on). Run: ``python -m benchmarks.wrong_pairs`` (about 8 minutes on one core); ``--only JEST``
runs the rows so named and the two that they are compared with.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, Dataset, TensorDataset

import smartaug

try:
    from benchmarks import harness
    from benchmarks.few_clean import Data
except ImportError:  # run as a file
    import harness  # type: ignore[no-redef]
    from few_clean import Data  # type: ignore[no-redef]

PLAIN, BASE = "plain", "plain + clean × 5, smoothing 0.5"
EARLY = "clean alone, stopped early"
WRONG, CLEAN, TEST, BATCH = 1000, 200, 500, 64


@dataclass(frozen=True)
class Way:
    """A row: how often clean pairs are in an epoch, None: they alone; what judges; smoothing; share of the epochs.

    chooses: whether the loader's JEST chooses a fifth of batches of five times the size.
    """

    clean: int | None = 0
    reweight: Callable[[nn.Module, Data], Any] | None = None
    smoothing: float = 0.0
    epochs: float = 1.0
    chooses: bool = False


class Run(NamedTuple):
    """Found partners in percent; seconds of processor time, of all that the row needs and of a step of training."""

    found: float
    seconds: float
    step: float


class Towers(nn.Module):
    """A network for each half, and a learned scale."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = (nn.Sequential(nn.Linear(32, 128), nn.ReLU(), nn.Linear(128, 32)) for _ in range(2))
        self.scale = nn.Parameter(torch.tensor(2.3))

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features of both halves (B, 32), and the scale."""
        return self.left(left), self.right(right), self.scale.exp()


def judge(name: str) -> Callable[[nn.Module, Data], Any]:
    """A reweighter that judges by the clean pairs."""
    return lambda model, data: getattr(smartaug, name)(
        model, (data.clean, data.clean[1]), criterion=smartaug.ContrastiveLoss()
    )


class Random:
    """SAFLEX's rule on benefits that know nothing."""

    def __init__(self, model: nn.Module, data: Data) -> None:
        self.criterion, self.draw = smartaug.ContrastiveLoss(), torch.Generator().manual_seed(0)

    def __call__(self, batch: Any, trace: Any) -> Any:
        """Weights (B,) and labels (B, B)."""
        own = torch.eye(len(batch.target))
        return smartaug.SAFLEX.rule(torch.randn(own.shape, generator=self.draw), own, own)


WAYS = {
    PLAIN: Way(),
    "plain, a third of the epochs": Way(epochs=1 / 3),
    "plain, smoothing 0.5": Way(smoothing=0.5),
    "clean alone": Way(None),
    EARLY: Way(None, epochs=1 / 3),
    "plain + clean": Way(1),
    "plain + clean × 5": Way(5),
    "plain + clean × 5, a third of the epochs": Way(5, epochs=1 / 3),
    "plain + clean × 5, smoothing 0.3": Way(5, smoothing=0.3),
    BASE: Way(5, smoothing=0.5),
    "plain + clean × 5, smoothing 0.7": Way(5, smoothing=0.7),
    "(random benefits + clean × 5)": Way(5, Random),
    "LearningToReweight, clean pairs judge alone": Way(0, judge("LearningToReweight")),
    "LearningToReweight + clean × 5": Way(5, judge("LearningToReweight")),
    "JEST, clean pairs teach the reference alone": Way(0, chooses=True),
    "SAFLEX, clean pairs judge alone": Way(0, judge("SAFLEX")),
    "SAFLEX + clean × 5": Way(5, judge("SAFLEX")),
}


@functools.cache
def digits() -> Tensor:
    """All digits (n, 8, 8)."""
    from sklearn.datasets import load_digits

    return torch.tensor(load_digits().images / 16.0, dtype=torch.float32)


def drawn(seed: int) -> Data:
    """The pairs of a seed."""
    draw = torch.Generator().manual_seed(seed)
    images = digits()[torch.randperm(len(digits()), generator=draw)]
    left, right = images[:, :, :4].flatten(1), images[:, :, 4:].flatten(1).clone()
    wrong = (torch.rand(WRONG, generator=draw) < 0.4).nonzero()[:, 0]
    right[wrong] = right[wrong[torch.randperm(len(wrong), generator=draw)]]
    parts = (slice(WRONG, WRONG + CLEAN), slice(WRONG), slice(WRONG + CLEAN, WRONG + CLEAN + TEST))
    return Data(*((left[part], right[part]) for part in parts))


def dataset(way: Way, data: Data) -> Dataset:
    clean, wrong = TensorDataset(*data.clean), TensorDataset(*data.wrong)
    if way.clean is None:
        return clean
    if way.clean == 0:
        return wrong
    if way.reweight is None:
        return ConcatDataset([*[clean] * way.clean, wrong])
    return smartaug.Generated(clean, wrong, repeat=way.clean)


def trained(way: Way, data: Data, seed: int, epochs: int) -> tuple[nn.Module, float]:
    """The network after one run, and the seconds of a step; the loop is any user's."""
    torch.manual_seed(seed)
    model = Towers()
    chooser = None
    if way.chooses:
        reference, _ = trained(WAYS[EARLY], data, seed + 1000, epochs)
        chooser = smartaug.coreset.JEST(model, reference, 0.2)
    loader = smartaug.DataLoader(
        dataset(way, data),
        batch_size=5 * BATCH if way.chooses else BATCH,
        shuffle=True,
        drop_last=True,
        generator=torch.Generator().manual_seed(seed),
        reweight=None if way.reweight is None else way.reweight(model, data),
        coreset=chooser,
        inputs=[0, 1],
        target=1,
        seed=seed,
        device="cpu",
    )
    criterion, optimizer = smartaug.Loss(smartaug.ContrastiveLoss()), torch.optim.Adam(model.parameters(), lr=1e-3)
    passes = round(epochs * way.epochs * (WRONG / CLEAN if way.clean is None or way.chooses else 1))
    smooth = {}
    if way.smoothing:
        smooth["soft"] = (1 - way.smoothing) * torch.eye(BATCH) + way.smoothing / BATCH
    started, steps = time.process_time(), 0
    for _ in range(passes):
        for left, right in loader:
            loss = criterion(model(left, right), right, **smooth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1
    return model, (time.process_time() - started) / steps


def found(model: nn.Module, data: Data) -> float:
    """How many test halves find their partner, in percent."""
    with torch.no_grad():
        left, right, _ = model(*data.test)
    nearest = (F.normalize(left) @ F.normalize(right).T).topk(10).indices
    return 100 * float((nearest == torch.arange(TEST)[:, None]).any(1).float().mean())


def run(way: Way, data: Data, seed: int, epochs: int) -> Run:
    started = time.process_time()
    model, step = trained(way, data, seed, epochs)
    return Run(found(model, data), time.process_time() - started, step)


def table(runs: dict[str, list[Run]]) -> dict[str, Any]:
    """A row a way: what it finds, beside the base row, and what it costs, beside plain training."""
    rows: dict[str, Any] = {}
    for name, made in runs.items():
        apart = [one.found - base.found for one, base in zip(made, runs[BASE], strict=True)]
        beside = list(zip(made, runs[PLAIN], strict=True))
        rows[name] = {
            "found": harness.spread([one.found for one in made]),
            "paired": {**harness.spread(apart), "better": sum(one > 0 for one in apart)},
            "cost": harness.summary([one.seconds / plain.seconds for one, plain in beside], 3),
            "step": harness.summary([one.step / plain.step for one, plain in beside], 3),
        }
    return rows


def main() -> None:
    options = harness.arguments(__doc__, seeds=10, epochs=30, only="")
    ways = {name: way for name, way in WAYS.items() if options.only in name or name in (PLAIN, BASE)}
    runs: dict[str, list[Run]] = {name: [] for name in ways}
    run(WAYS[PLAIN], drawn(0), 0, 1)  # what is imported and compiled at the first run is no cost of a row
    for seed in range(options.seeds):
        data = drawn(seed)
        for name, way in ways.items():
            runs[name].append(run(way, data, seed, options.epochs))
        print(f"seed {seed} of {options.seeds}", flush=True)
    path = harness.RESULTS / "wrong_pairs.json"
    kept = json.loads(path.read_text())["results"] if path.exists() and options.only else {}
    for name, row in table(runs).items():
        kept[name] = row
        print(f"{name:46} {row}")
    rows = {name: kept[name] for name in WAYS if name in kept}
    harness.write("wrong_pairs", __doc__ or "", rows, packages=("scikit-learn",))


if __name__ == "__main__":
    main()
