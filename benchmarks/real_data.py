"""The sets of `real_sets`, how a seed divides them, and which labels of the others are wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

try:
    from benchmarks import learning
except ImportError:  # run as a file
    import learning  # type: ignore[no-redef]

BATCH = 64
IMAGES, ROWS, TESTED = 400, 600, 4000
PICTURES, PICTURES_MADE, PICTURES_TESTED = 2000, 1200, 2000  # of CIFAR-10
Pair = tuple[Tensor, Tensor]
Split = Callable[[int, int], tuple[Pair, Pair, Pair]]  # seed, held samples -> others, held, test
Spoil = Callable[[Pair, Pair, torch.Generator], tuple[Pair, Tensor]]  # trusted, others -> others as given, right labels


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
    classes: int
    stops: tuple[int, ...]

    def steps(self, times: int) -> int:
        """Steps of an epoch with the trusted samples ``times`` times."""
        return -(-(len(self.right) + times * len(self.trusted[1])) // BATCH)

    def network(self) -> nn.Module:
        """The network before training."""
        torch.manual_seed(self.seed)
        return self.net(learning.Data(self.others, self.trusted, self.test, torch.empty(0), self.classes))

    def joined(self, times: int, labels: Tensor, kept: Tensor | slice = slice(None)) -> Pair:
        """Trusted samples ``times`` times and the others under ``labels``, of them those ``kept``."""
        return (
            torch.cat([self.trusted[0]] * times + [self.others[0][kept]]),
            torch.cat([self.trusted[1]] * times + [labels[kept]]),
        )


@dataclass(frozen=True)
class Set:
    """A data set: how a seed splits it, its number of rows, and the network for it."""

    split: Split
    rows: int
    net: Callable[[Any], nn.Module]
    lr: float
    longer: int
    classes: int = 2


# --- reading ---------------------------------------------------------------------------------------------------------


def pneumonia(path: Path) -> tuple[Split, int]:
    parts = {name: (F.avg_pool2d(images, 2), labels) for name, (images, labels) in learning.splits(path).items()}

    def split(seed: int, held: int) -> tuple[Pair, Pair, Pair]:
        draw = torch.Generator().manual_seed(seed)
        (a, b), (c, d) = (
            (part, torch.randperm(len(part[1]), generator=draw)[:limit])
            for part, limit in ((parts["train"], IMAGES), (parts["val"], held))
        )
        return (a[0][b], a[1][b]), (c[0][d], c[1][d]), parts["test"]

    return split, IMAGES


def tabular(path: Path, tested: int, limit: int | None = None) -> tuple[Split, int]:
    values, labels = learning.rows(path)

    def split(seed: int, held: int) -> tuple[Pair, Pair, Pair]:
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        test, judge, rest = order[:tested], order[tested : tested + held], order[tested + held :][:limit]
        scaled = (values - values[rest].mean(0)) / values[rest].std(0).clamp_min(1e-3)
        others, kept, out = ((scaled[part], labels[part]) for part in (rest, judge, test))
        return others, kept, out

    return split, len(labels)


def cifar(path: Path) -> tuple[Split, int]:
    (trained, classes), (tested, truth) = (learning.files(path / part) for part in ("train", "test"))

    def split(seed: int, held: int) -> tuple[Pair, Pair, Pair]:
        draw = torch.Generator().manual_seed(seed)
        rows, test = in_turn(classes, PICTURES + held, draw), in_turn(truth, PICTURES_TESTED, draw)
        others, kept = ((learning.pictures(trained, part), classes[part]) for part in (rows[held:], rows[:held]))
        return others, kept, (learning.pictures(tested, test), truth[test])

    return split, PICTURES


def in_turn(labels: Tensor, count: int, draw: torch.Generator) -> Tensor:
    """``count`` rows drawn at random, the ten classes taking turns."""
    order = torch.randperm(len(labels), generator=draw)
    return torch.stack([order[labels[order] == k][: count // 10] for k in range(10)], 1).flatten()


def sets(folder: Path) -> dict[str, Set]:
    """The sets that the folder has, by name."""
    table: dict[str, Any] = {"net": lambda data: learning.mlp(data, 64), "lr": 0.02, "longer": 10}
    images: dict[str, Any] = {"net": learning.small_cnn, "lr": 0.05, "longer": 5}
    found: dict[str, tuple[str, Callable[[Path], tuple[Split, int]], dict[str, Any]]] = {
        "german": ("german.csv", lambda path: tabular(path, 250), table),
        "pima": ("pima-indians-diabetes.csv", lambda path: tabular(path, 200), table),
        "breast-cancer": ("breast-cancer.csv", lambda path: tabular(path, 85), table),
        "adult": ("adult-train.csv", lambda path: tabular(path, TESTED, ROWS), table),
        "pneumonia": ("pneumoniamnist.npz", pneumonia, images),
        "cifar": ("cifar", cifar, {**images, "longer": 4, "classes": 10}),
    }
    return {
        name: Set(*read(folder / file), **settings)
        for name, (file, read, settings) in found.items()
        if (folder / file).exists()
    }


# --- regimes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Regime:
    """For which sets; trusted and choosing samples, a number or a share of the rows; what becomes of the others.

    stops: epochs after which a run may end. seeds: how many, where the command line does not say.
    """

    sets: tuple[str, ...]
    trusted: float
    choosing: float
    spoil: Spoil
    stops: tuple[int, ...] = (2, 5, 12)
    seeds: int = 5


def wrong(chance: Callable[[Tensor], Tensor], classes: int = 2) -> Spoil:
    """The next class as the label, with the chance that belongs to the right one."""

    def spoil(trusted: Pair, others: Pair, draw: torch.Generator) -> tuple[Pair, Tensor]:
        right = others[1]
        drawn = torch.rand(len(right), generator=draw) < chance(right)
        return (others[0], torch.where(drawn, (right + 1) % classes, right)), right

    return spoil


def generated(trusted: Pair, others: Pair, draw: torch.Generator) -> tuple[Pair, Tensor]:
    """Pictures made from the trusted ones in place of the others; 40 % under the label of the next class.

    Moved by up to 4 pixels each way, half of them mirrored, with noise of half a standard deviation.
    """
    count = PICTURES_MADE
    source = torch.randint(len(trusted[1]), (count,), generator=draw)
    shifts = torch.randint(-4, 5, (count, 2), generator=draw).tolist()
    mirrored = torch.rand(count, generator=draw) < 0.5
    moved = torch.stack([trusted[0][row].roll(shift, (1, 2)) for row, shift in zip(source, shifts, strict=True)])
    moved = torch.where(mirrored[:, None, None, None], moved.flip(3), moved)
    made = moved + 0.5 * torch.randn(moved.shape, generator=draw)
    return wrong(lambda right: torch.full(right.shape, 0.4), 10)(trusted, (made, trusted[1][source]), draw)


def spurious(trusted: Pair, others: Pair, draw: torch.Generator) -> tuple[Pair, Tensor]:
    """A bright patch of 3×3 pixels in the others, whose place tells the class in 95 % of them; no label wrong."""
    images, right = others[0].clone(), others[1]
    told = torch.where(
        torch.rand(len(right), generator=draw) < 0.95, right, torch.randint(10, right.shape, generator=draw)
    )
    for place in range(10):
        y, x = 2 + 25 * (place // 5), 2 + 6 * (place % 5)
        images[told == place, :, y : y + 3, x : x + 3] = 2.0
    return (images, right), right


def as_it_is(trusted: Pair, others: Pair, draw: torch.Generator) -> tuple[Pair, Tensor]:
    """No label made wrong."""
    return others, others[1]


TABLES, BINARY = ("german", "pima", "breast-cancer"), ("german", "pima", "adult", "pneumonia")
REGIMES = {
    "one way": Regime(BINARY, 50, 50, wrong(lambda right: torch.tensor([0.0, 0.5])[right])),
    "as it is": Regime(BINARY, 150, 100, as_it_is),
    "either way": Regime(BINARY, 50, 50, wrong(lambda right: torch.full(right.shape, 0.4)), seeds=10),
    "half wrong": Regime(("cifar",), 100, 200, wrong(lambda right: torch.full(right.shape, 0.5), 10)),
    "generated": Regime(("cifar",), 200, 200, generated),
    "spurious": Regime(("cifar",), 100, 200, spurious),
    "augmented": Regime(TABLES, 0.15, 0.1, as_it_is, stops=(4, 12, 36), seeds=10),
}


def drawn(source: Set, regime: Regime, seed: int) -> Data:
    """The data of a regime and seed."""
    trusted, choosing = (
        round(part * source.rows) if isinstance(part, float) else part for part in (regime.trusted, regime.choosing)
    )
    others, (held, labels), test = source.split(seed, trusted + choosing)
    first, last = slice(trusted), slice(trusted, None)
    kept = (held[first], labels[first])
    given, right = regime.spoil(kept, others, torch.Generator().manual_seed(1000 + seed))
    parts = (kept, (held[last], labels[last]), test, given)
    return Data(seed, *parts, right, source.net, source.lr, source.longer, source.classes, regime.stops)
