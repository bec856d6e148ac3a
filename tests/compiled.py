"""Each part of the package that numba compiles, called once on the smallest input."""

import torch

import smartaug
from smartaug import draws
from smartaug.augment import backends
from smartaug.augment.plan import Noise, Plan, Segment, Tone


def _run(segment: Segment) -> None:
    backends.execute(Plan((1, 1, 2, 2), (segment,)), torch.zeros(1, 1, 2, 2, dtype=torch.uint8), "numba")


def common() -> None:
    """The operations that most pipelines have."""
    _run(Tone(torch.ones(1, dtype=torch.int64), torch.ones(1)))


def rare() -> None:
    """All operations."""
    _run(Noise(draws.key(0, 0, torch.arange(1)), torch.ones(1), torch.ones(1)))


def greedy() -> None:
    """Facility location, exact and stochastic."""
    generator = torch.Generator().manual_seed(0)
    embedding = smartaug.Embedding(torch.randn(300, 3, generator=generator))
    for method in ("exact", "stochastic"):
        smartaug.FacilityLocation(method=method)(embedding, 30, torch.Generator())


def unequal() -> None:
    """Crops and resizes of images of unequal size."""
    backends.unequal.load()


PARTS = (common, greedy, rare, unequal)
